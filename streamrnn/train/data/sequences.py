"""What is learned from where a target belongs to a whole sequence, or a sequence to a row."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamrnn.errors import UserError
from streamrnn.model.settings import SIZES
from streamrnn.table.moments import Moments
from streamrnn.table.progress import counted
from streamrnn.train.data.dataset import Dataset, Scaling, Sequence, hold
from streamrnn.train.data.recording import DataOptions, Part, Recording, read_recording
from streamrnn.train.data.steps import find_begins, find_period_s
from streamrnn.train.data.warnings import DataFacts, advise

FEW = 50  # sequences
CLASSES = 256  # of a column of text
REACHING, REACHING_SHARE = 10, 0.1  # sequences that should have each row of a curve


def load_sequences(
    options: DataOptions,
    relation: str,
    horizon: int | None,
    seed: int,
    progress: Callable[[int], object] = lambda rows: None,
) -> Dataset:
    """The streams of the files that ``options`` name, each of every file a sequence of its own.

    "sequence-to-vector": its rows, as if nothing were missing between them, and the targets that its last row
    has. A target of text becomes an output of 0 or 1 for each class, "<column>=<class>". In training the
    target stands at every row, for a network learns to know from all of them; rows weigh the more the later
    they are. "vector-to-sequence": the channels of its first row, and the targets of its first
    ``horizon`` rows, None those of the longest stream.

    Whole sequences, drawn with ``seed``, are kept for the validation: of each class a share of
    ``validation``, one at least. ``progress`` is told the rows of every block read. Raises UserError for
    files or columns that cannot be used, and for too few sequences.
    """
    if options.targets is None:
        raise UserError(f"{relation} needs targets; name their columns with --target")
    if options.without or options.only:
        raise UserError(
            f"{relation} learns from whole streams; leave out the files, rather than intervals of them"
        )
    if options.ahead:
        raise UserError(f"{options.ahead} rows ahead: the targets of {relation} are those of their own rows")
    whole = relation == "sequence-to-vector"
    recording = read_recording(replace(options, ahead=0, labels=whole), progress)
    parts, width = recording.parts, len(recording.channels)
    outputs, expand = _outputs(recording)
    rows = 1 if whole else _curve_rows(parts, horizon)
    found = [_whole(part, width, expand) if whole else _curve(part, width, expand, rows) for part in parts]
    usable = [isinstance(sequence, Sequence) for sequence in found]
    classes = [recording.names.index(name) for name in recording.classes]
    kinds = [tuple(np.nan_to_num(part.values[-1, classes], nan=-1)) for part in parts]
    kinds = [kind for kind, good in zip(kinds, usable, strict=True) if good]
    kept = _draw(kinds, options.validation, seed)
    sequences = [sequence for sequence in found if isinstance(sequence, Sequence)]
    train, validation = (
        [one for one, validated in zip(sequences, kept, strict=True) if validated == which]
        for which in (False, True)
    )
    period_s = options.period_s or find_period_s(parts)
    facts = _facts(parts, usable, width, period_s, options)._replace(skipped=recording.skipped)
    if len(train) < 2 or not validation:
        useless = Counter(reason for reason in found if isinstance(reason, str))
        raise UserError(_too_few_text(len(train), len(validation), facts, useless, kinds))
    _check_values(train, validation, outputs)
    scaling, constant = _scaling(train, len(outputs))
    inputs = [part._replace(values=part.values[: None if whole else 1, :width]) for part in parts]
    warnings = advise(recording._replace(outputs=[], parts=inputs), constant, facts, period_s)
    if len(sequences) < FEW:
        warnings.append(f"{counted(len(sequences), 'sequence')} are few: what comes of them may be chance")
    if not whole:
        warnings += _advise_reach(sequences, rows)
    return Dataset(
        recording.channels,
        outputs * rows,
        "value",
        0,
        period_s,
        train,
        [_last_only(sequence) for sequence in validation],
        tiled(scaling, rows),
        facts,
        warnings,
        rows,
        _places_of_classes(recording, outputs),
        recording.units,
        recording.words,
        recording.offsets,
        tuple(recording.said),
    )


def _places_of_classes(recording: Recording, outputs: list[str]) -> dict[str, slice]:
    """Where the outputs of each column of text stand, one for each of its classes."""
    return {
        name: slice(outputs.index(f"{name}={min(labels)}"), outputs.index(f"{name}={max(labels)}") + 1)
        for name, labels in recording.classes.items()
    }


def windows(dataset: Dataset, horizon: int) -> Dataset:
    """``dataset`` with the targets of ``horizon`` rows at each row, the first of them its own, as views.

    Rows that lack one of them are left out, and so are, as targets, those of rows that only bring a state up.
    Raises UserError if none is left, or none of an output.
    """
    parts = []
    for sequences, purpose in ((dataset.train, "learn from"), (dataset.validation, "validate on")):
        long = [one for one in sequences if len(one.values) - one.warm >= horizon]
        if not long:
            raise UserError(
                f"nowhere {counted(horizon, 'row')} on end to {purpose}; use a smaller --horizon, or give "
                "more rows"
            )
        known = np.any([np.isfinite(one.targets[one.warm :]).any(axis=0) for one in long], axis=0)
        if unseen := [name for name, any_ in zip(dataset.outputs, known, strict=True) if not any_]:
            raise UserError(
                f'"{unseen[0]}" has no value where there are {counted(horizon, "row")} on end to {purpose}; '
                "use a smaller --horizon, or leave the column out"
            )
        parts.append([_windowed(one, horizon) for one in long])
    scaling = tiled(dataset.scaling, horizon)
    train, validation = parts
    return dataset._replace(
        outputs=dataset.outputs * horizon,
        train=train,
        validation=validation,
        scaling=scaling,
        horizon=horizon,
    )


def tiled(scaling: Scaling, rows: int) -> Scaling:
    """The same for outputs of so many rows in turn."""
    return scaling._replace(
        output_mean=np.tile(scaling.output_mean, rows), output_std=np.tile(scaling.output_std, rows)
    )


def _windowed(sequence: Sequence, horizon: int) -> Sequence:
    count, outputs = len(sequence.values) - horizon + 1, sequence.targets.shape[1]
    flat = np.ascontiguousarray(sequence.targets).ravel()
    targets = np.lib.stride_tricks.sliding_window_view(flat, horizon * outputs)[::outputs]
    known = np.cumsum([0, *~np.isnan(sequence.targets).all(axis=1)])
    weighs = (np.arange(count) >= sequence.warm) & (known[horizon:] > known[:-horizon])
    return Sequence(
        sequence.stream, sequence.values[:count], targets, sequence.warm, weighs.astype(np.float32)
    )


def _outputs(recording: Recording) -> tuple[list[str], Callable[[np.ndarray], np.ndarray]]:
    """The outputs, those of a class apart, and what makes them of the rows of a part: (n, O) float32."""
    names, places = list[str](), list[tuple[int, int | None]]()
    for name in recording.outputs:
        classes, place = recording.classes.get(name), recording.names.index(name)
        if classes is None:
            names.append(name)
            places.append((place, None))
            continue
        if len(classes) < 2:
            raise UserError(f'"{name}" is of one class only, "{classes[0]}"; give recordings of others, too')
        if len(classes) > CLASSES or not all(label.isprintable() for label in classes):
            raise UserError(
                f'"{name}" holds {len(classes):,} different texts, or one that cannot be printed; a target '
                f"of text names one of at most {CLASSES} classes"
            )
        names += [f"{name}={label}" for label in sorted(classes)]
        places += [(place, classes.index(label)) for label in sorted(classes)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(
            f'two outputs have the name "{twice[0]}": one of a class has that of its column, "=" and the '
            "class; give a column another name"
        )

    def expand(rows: np.ndarray) -> np.ndarray:
        columns = []
        for place, code in places:
            column = rows[:, place]
            columns.append(column if code is None else np.where(np.isnan(column), np.nan, column == code))
        return np.stack(columns, axis=1).astype(np.float32)

    return names, expand


def _curve_rows(parts: list[Part], horizon: int | None) -> int:
    """The rows of a curve: ``horizon``, or by default those of the longest stream."""
    longest, most = max((len(part.seq) for part in parts), default=1), SIZES["horizon"][1]
    if horizon is not None and horizon > longest:
        raise UserError(
            f"the longest stream has {counted(longest, 'row')}: nothing to learn {horizon:,} from; use a "
            "smaller --horizon"
        )
    if horizon is None and longest > most:
        raise UserError(
            f"the longest stream has {longest:,} rows, and a curve at most {most:,}; say how many with "
            "--horizon"
        )
    return horizon or longest


def _whole(part: Part, width: int, expand: Callable[[np.ndarray], np.ndarray]) -> Sequence | str:
    """A stream and its last targets; or what it lacks."""
    target = expand(part.values[-1:])
    values, there = part.values[:, :width], ~np.isnan(part.values[:, :width])
    if np.isnan(target).all():
        return "no target in the last row"
    if not there.any(axis=0).all():
        return "a channel without a value"
    begin = int(there.argmax(axis=0).max())
    values = (values if there.all() else hold(values, there))[begin:]
    targets = np.broadcast_to(target, (len(values), target.shape[1]))
    return Sequence(part.stream, values, targets, 0, _rising(len(values)))


def _curve(
    part: Part, width: int, expand: Callable[[np.ndarray], np.ndarray], horizon: int
) -> Sequence | str:
    """The first row of a stream, and its targets as one; or what it lacks."""
    values, found = part.values[:1, :width], expand(part.values[:horizon])
    if np.isnan(found).all():
        return "no target"
    if np.isnan(values).any():
        return "a channel without a value in the first row"
    targets = np.full((horizon, found.shape[1]), np.nan, np.float32)
    targets[: len(found)] = found
    return Sequence(part.stream, values, targets.reshape(1, -1))


def _rising(rows: int) -> np.ndarray:
    """How much each row of a sequence counts, (rows,) float32: the more the later it is, the last one 1."""
    return (np.arange(1, rows + 1) / rows).astype(np.float32)


def _last_only(sequence: Sequence) -> Sequence:
    """What of a sequence a prediction at its end is judged by."""
    weights = np.zeros(len(sequence.values), np.float32)
    weights[-1] = 1
    return sequence._replace(weights=weights)


def _draw(kinds: list[tuple[float, ...]], share: float, seed: int) -> list[bool]:
    """Which sequences are kept for the validation: of each kind a share, one at least where there are two."""
    rng, kept = np.random.default_rng(seed), [False] * len(kinds)
    for kind in sorted(set(kinds)):
        places = [place for place, other in enumerate(kinds) if other == kind]
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        for place in rng.permutation(places)[:count]:
            kept[place] = True
    return kept


def _facts(
    parts: list[Part], usable: list[bool], width: int, period_s: float, options: DataOptions
) -> DataFacts:
    rows = [len(part.seq) for part in parts]
    gaps = sum(int(find_begins(part, period_s, options.max_step_s).sum()) - 1 for part in parts)
    missing = sum(int(np.isnan(part.values[:, :width]).sum()) for part in parts)
    dropped = sum(count for count, good in zip(rows, usable, strict=True) if not good)
    return DataFacts(len(options.sources), len(parts), sum(rows), gaps, missing, dropped, 0)


def _too_few_text(
    learned: int, validated: int, facts: DataFacts, useless: Counter[str], kinds: list[tuple[float, ...]]
) -> str:
    """How many sequences there are, of which ``kinds``, and why there are no more."""
    reasons = [f"{counted(count, 'stream')} with {what}" for what, count in useless.items()]
    if len(kinds) > 1 and len(set(kinds)) == len(kinds):
        reasons.append("no class has two sequences: give more of each")
    if facts.streams < 3 or not reasons:
        reasons.append(
            "each stream is one sequence: give a file for each, or name the column that tells them "
            "apart with --stream-column"
        )
    return (
        f"{counted(learned, 'sequence')} to learn from and {validated:,} to validate on, of "
        f"{counted(facts.streams, 'stream')} of {counted(facts.rows, 'row')}; {'; '.join(reasons)}"
    )


def _check_values(train: list[Sequence], validation: list[Sequence], outputs: list[str]) -> None:
    """Raises UserError for an output without any value in one of the parts."""
    learned, checked = (
        np.isfinite([one.targets[-1].reshape(-1, len(outputs)) for one in part]).any(axis=1).sum(axis=0)
        for part in (train, validation)
    )  # (O,): sequences that have a value
    for k, name in enumerate(outputs):
        if not learned[k] or not checked[k]:
            purpose = "validate on" if learned[k] else "learn from"
            raise UserError(
                f'"{name}" has a value in {counted(learned[k] + checked[k], "sequence")}, none to {purpose}; '
                "give more that have one, try another --seed, or leave it out"
            )


def _advise_reach(sequences: list[Sequence], rows: int) -> list[str]:
    """A warning where few sequences have the last rows of a curve."""
    known = np.stack([~np.isnan(one.targets.reshape(rows, -1)).all(axis=1) for one in sequences])
    ends = np.where(known, np.arange(1, rows + 1), 0).max(axis=1)
    reaching = (ends[:, None] > np.arange(rows)).sum(axis=0)  # (K,): sequences that are so long, or longer
    least = min(max(REACHING, math.ceil(REACHING_SHARE * len(sequences))), len(sequences))
    if reaching[-1] >= least:
        return []
    enough = int((reaching >= least).sum())
    return [
        f"of {counted(len(sequences), 'sequence')} only {reaching[-1]:,} reach row {rows:,}, and fewer than "
        f"{least:,} go past row {enough:,}: what comes there may be chance; --horizon {enough} ends before"
    ]


def _scaling(train: list[Sequence], outputs: int) -> tuple[Scaling, np.ndarray]:
    """That of the rows to learn from, and which channels do not vary there, (C,) bool."""
    inputs, aims = Moments(train[0].values.shape[1]), Moments(outputs)
    for sequence in train:
        inputs.add(sequence.values)
        aims.add(sequence.targets[-1].reshape(-1, outputs))
    mean, std, constant = inputs.scaling()
    output_mean, output_std, _ = aims.scaling()
    return Scaling(mean, std, output_mean, output_std), constant
