"""What a network learns from: unbroken sequences of rows, each with its target, split in time order."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from streamrnn.errors import UserError
from streamrnn.table.moments import Moments
from streamrnn.table.progress import counted
from streamrnn.train.data.intervals import EXCLUDED, ONLY, choose_rows, read_intervals
from streamrnn.train.data.recording import DataOptions, Part, Recording, read_recording
from streamrnn.train.data.steps import (
    find_begins,
    find_period_s,
    runs_back,
    without_ticks_again,
    without_twice,
)
from streamrnn.train.data.useless import useless_rows
from streamrnn.train.data.warnings import DataFacts, advise

WARM = 1024  # rows; as many as the highway of a model can see
FILES_NAMED = 3  # in a message


class Sequence(NamedTuple):
    """n consecutive rows of one stream, nothing missing between them; views, not to be written to."""

    stream: str
    values: np.ndarray  # (n, C) float32, less the offsets; a missing cell has the value of the row before
    targets: np.ndarray  # (n, O) float32, less the offsets: what each row's output is to be; NaN = none
    warm: int = 0  # leading rows that only bring the state up; their targets are NaN
    weights: np.ndarray | None = None  # (n,) float32: how much the error of each row counts; None = 1


class Scaling(NamedTuple):
    """Means and standard deviations of the training rows; a column that never varies has a deviation of 1."""

    input_mean: np.ndarray  # (C,) float32
    input_std: np.ndarray  # (C,) float32
    output_mean: np.ndarray  # (O,) float32
    output_std: np.ndarray  # (O,) float32


class Dataset(NamedTuple):
    """Rows to learn from, and later ones of the same streams to validate on."""

    channels: list[str]
    outputs: list[str]
    target: str  # "next" = the outputs are the channels one row ahead; "value" = columns of their own
    ahead: int  # rows from an input row to its target
    period_s: float  # 0 = unknown
    train: list[Sequence]
    validation: list[Sequence]
    scaling: Scaling
    facts: DataFacts
    warnings: list[str]
    horizon: int = 1  # rows of a target; what is said of outputs is then said for each of them in turn
    classes: Mapping[str, slice] = MappingProxyType({})  # of each target that is text: its outputs, 0 or 1
    units: Mapping[str, str] = MappingProxyType({})  # of the columns whose unit the files say
    words: Mapping[str, float] = MappingProxyType({})  # texts that stand for numbers
    offsets: Mapping[str, float] = MappingProxyType({})  # of columns: what was taken off their values
    said: tuple[str, ...] = ()  # what each file was taken for
    still: tuple[int, ...] = ()  # the channels that never vary in the rows to learn from, by their places

    @property
    def names(self) -> list[str]:
        """Of the outputs of one row."""
        return self.outputs[: len(self.outputs) // self.horizon]

    @property
    def shown(self) -> list[int]:
        """Outputs of one row whose errors say anything: not those that never varied, unless none did."""
        every = range(len(self.names))
        still = set(self.still) if self.target == "next" and self.horizon == 1 else set()
        return [place for place in every if place not in still] or list(every)


class Parts(NamedTuple):
    """The sequences of both parts, as they are found."""

    train: list[Sequence]
    validation: list[Sequence]


class Run(NamedTuple):
    """n rows of a part with nothing missing between them."""

    begin: int  # its first row in the part
    values: np.ndarray  # (n, C) float32: missing cells held from the row before
    targets: np.ndarray  # (n, O) float32: the outputs of each row itself; NaN = missing


def load(options: DataOptions, progress: Callable[[int], object] = lambda rows: None) -> Dataset:
    """The sequences of the files that ``options`` name.

    The target of a row is the columns named in ``targets``, ``ahead`` rows later; with None, all channels,
    by default of the next row. A target that is missing, behind a gap or behind the end is none. A sequence
    ends at every gap, see ``find_begins``, and at the end of a file. A missing cell of a channel is held
    from the row before, as the daemon does; rows before every channel has had a value are dropped.

    Each file is a stream of its own (or its stream column's streams). The same stream in several files is
    one stream when its times go on from file to file, in whatever order they are named. The last
    ``validation`` of the rows of each stream is kept from training: no training row has its input or
    its target there, and every row there with a row ``ahead`` before it is a target of the validation
    part. Up to ``WARM`` training rows lead a validation sequence, to bring the state up.

    ``progress`` is told the rows of every block read. Memory holds one copy of the rows, a second one of
    sequences with missing cells, and for a moment of files in which streams take turns. Raises UserError
    for files or columns that cannot be used, and for too few rows.
    """
    _check(options)
    return arrange(read_recording(options, progress), options)


def arrange(recording: Recording, options: DataOptions) -> Dataset:
    """The sequences of a recording that was read with ``options``, as ``load`` says."""
    ahead = _check(options)
    names, width = recording.names, len(recording.channels)
    outputs = [names.index(name) for name in recording.outputs]
    period_s = options.period_s or find_period_s(recording.parts)
    read = sum(len(part.seq) for part in recording.parts)
    parts_once = [without_twice(part, period_s) for part in recording.parts]
    if options.period_s and len(options.sources) > 1:
        parts_once = without_ticks_again(parts_once)
    once = sum(len(part.seq) for part in parts_once)
    excluded = [interval for path in options.without for interval in read_intervals(path, EXCLUDED)]
    only = [interval for path in options.only for interval in read_intervals(path, ONLY)]
    chosen, left_out, notes = choose_rows(parts_once, excluded, only if options.only else None)
    recording = recording._replace(parts=chosen, notes=[*recording.notes, *notes])
    parts = Parts([], [])
    moments = Moments(len(names))
    rows = gaps = kept = missing = 0
    useless: Counter[str] = Counter()
    for stream in _join_streams(recording.parts):
        runs = list[list[Run]]()
        for part in stream:
            begins = find_begins(part, period_s, options.max_step_s)
            rows += len(begins)
            gaps += int(begins.sum()) - 1
            missing += int(np.isnan(part.values[:, :width]).sum())
            useless += useless_rows(part.values[:, :width], begins, recording.channels, ahead)
            runs.append([run for run in _find_runs(part, begins, width, outputs) if len(run.values) > ahead])
        kept += sum(len(run.values) for of_part in runs for run in of_part)
        _split_stream(stream, runs, options.validation, ahead, parts, moments)
    ids = {part.stream for part in recording.parts}
    facts = DataFacts(
        len(options.sources),
        len(ids),
        rows,
        gaps,
        missing,
        rows - kept,
        recording.skipped,
        useless,
        read - once,
        sum(map(runs_back, recording.parts)),
        left_out,
    )
    _check_enough(parts, recording, facts, options)
    mean, std, constant = moments.scaling()
    return Dataset(
        recording.channels,
        recording.outputs,
        "next" if options.targets is None and ahead == 1 else "value",
        ahead,
        period_s,
        parts.train,
        parts.validation,
        Scaling(mean[:width], std[:width], mean[outputs], std[outputs]),
        facts,
        advise(recording, constant, facts, period_s, options.watch),
        units=recording.units,
        words=recording.words,
        offsets=recording.offsets,
        said=tuple(recording.said),
        still=tuple(np.flatnonzero(constant[:width]).tolist()),
    )


def _check(options: DataOptions) -> int:
    """``ahead``, or its default. Raises UserError for options that cannot be."""
    least = 1 if options.targets is None else 0
    ahead = least if options.ahead is None else options.ahead
    if ahead < least:
        raise UserError(f"{ahead} rows ahead: a target must lie {least} or more rows after its row")
    if not 0 <= options.validation < 1:
        raise UserError(
            f"a validation part of {options.validation:g} of the rows; use 0 or more, less than 1"
        )
    return ahead


def _join_streams(parts: list[Part]) -> list[list[Part]]:
    """The parts of each stream in time order; those without times stand alone.

    Raises UserError for parts whose times overlap: a row that is there twice could be learned from and
    validated on.
    """
    by_name = dict[str, list[Part]]()
    for part in parts:
        by_name.setdefault(part.stream, []).append(part)
    streams = list[list[Part]]()
    for same in by_name.values():
        timed = sorted(((*_span(part), place) for place, part in enumerate(same) if part.ts_ns.any()))
        for (_, end, one), (begin, _, other) in pairwise(timed):
            if begin < end:
                raise UserError(
                    f'{same[other].source}: its times of stream "{same[other].stream}" and those of '
                    f"{same[one].source} overlap; give each row once, or the machines different names"
                )
        joined = len(timed) == len(same)
        streams += [[same[place] for *_, place in timed]] if joined else [[part] for part in same]
    return streams


def _span(part: Part) -> tuple[int, int]:
    """The first and the last time of a part that has times."""
    known = np.flatnonzero(part.ts_ns)
    return int(part.ts_ns[known[0]]), int(part.ts_ns[known[-1]])


def _find_runs(part: Part, begins: np.ndarray, width: int, outputs: list[int]) -> Iterator[Run]:
    """The runs of a part, each from the first row by which all ``width`` channels have had a value."""
    values, targets = part.values[:, :width], _columns(part.values, outputs)
    places = [*map(int, np.flatnonzero(begins)), len(begins)]
    for begin, end in pairwise(places):
        there = ~np.isnan(values[begin:end])
        if there.all():
            yield Run(begin, values[begin:end], targets[begin:end])
        elif there.any(axis=0).all():
            late = int(there.argmax(axis=0).max())
            yield Run(begin + late, hold(values[begin:end], there)[late:], targets[begin + late : end])


def _columns(values: np.ndarray, places: list[int]) -> np.ndarray:
    """Some columns: a view if they stand side by side, else a copy."""
    first = places[0]
    if places == list(range(first, first + len(places))):
        return values[:, first : first + len(places)]
    return values[:, places]


def hold(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """A copy with each cell that is not ``there`` filled from the last row where its channel is."""
    held, places = values.copy(), np.arange(len(values))
    for channel in np.flatnonzero(~there.all(axis=0)):
        last = np.maximum.accumulate(np.where(there[:, channel], places, 0))
        held[:, channel] = values[last, channel]
    return held


def _split_stream(
    stream: list[Part], runs: list[list[Run]], validation: float, ahead: int, parts: Parts, moments: "Moments"
) -> None:
    """Adds the sequences of a stream, given the runs of each of its parts, and the moments before the cut."""
    total = sum(len(run.values) for of_part in runs for run in of_part)
    left = total - round(total * validation)  # rows to learn from that are yet to come
    for part, of_part in zip(stream, runs, strict=True):
        learned = 0
        for run in of_part:
            cut = min(left, len(run.values))
            left -= cut
            learned = run.begin + cut if cut else learned
            _split(part.stream, run, cut, ahead, parts)
        moments.add(part.values[:learned])


def _split(stream: str, run: Run, cut: int, ahead: int, parts: Parts) -> None:
    """Adds the rows whose targets lie before ``cut`` to the training part, the others to validation."""
    first = max(cut - ahead, 0)
    if first:
        parts.train.append(Sequence(stream, run.values[:first], run.targets[ahead:cut]))
    if cut < len(run.values):
        begin = max(first - WARM, 0)
        targets = run.targets[begin + ahead :].copy()
        targets[: first - begin] = np.nan
        parts.validation.append(
            Sequence(stream, run.values[begin : len(run.values) - ahead], targets, first - begin)
        )


def _check_enough(parts: Parts, recording: Recording, facts: DataFacts, options: DataOptions) -> None:
    """Raises UserError if there are too few rows with a target, or an output without any."""
    where = ", ".join(options.sources[:FILES_NAMED]) + (" ..." if len(options.sources) > FILES_NAMED else "")
    wanted = {"learn from": (parts.train, 2), "validate on": (parts.validation, 1)}
    if options.validation == 0:
        del wanted["validate on"]
    for purpose, (sequences, least) in wanted.items():
        count = sum(len(sequence.values) - sequence.warm for sequence in sequences)
        if count < least:
            raise UserError(
                f"{where}: {counted(count, 'row')} to {purpose}, at least {least} needed: "
                f"{counted(facts.rows, 'row')} read, {counted(facts.gaps, 'gap')} found, "
                f"{facts.dropped:,} dropped{_empty_text(recording)}; give more rows{_instead(options)}"
            )
        seen = [np.isfinite(sequence.targets).any(axis=0) for sequence in sequences]
        if unseen := [
            name for name, any_ in zip(recording.outputs, np.any(seen, axis=0), strict=True) if not any_
        ]:
            raise UserError(
                f'{where}: "{unseen[0]}" has no value in any row to {purpose}; leave the column out, or '
                "give more rows"
            )


def _instead(options: DataOptions) -> str:
    """What else may be too much for few rows."""
    less = ["a smaller --horizon"] if (options.ahead or 0) > 1 else []
    less += ["a longer --max-step"] if options.max_step_s is not None else []
    return f", or {' and '.join(less)}" if less else ""


def _empty_text(recording: Recording) -> str:
    """Which channels have kept every row from being used."""
    empty = [
        f'"{name}"'
        for place, name in enumerate(recording.channels)
        if all(np.isnan(part.values[:, place]).all() for part in recording.parts)
    ]
    return f" (channel {', '.join(empty)} has no value at all: leave it out)" if empty else ""
