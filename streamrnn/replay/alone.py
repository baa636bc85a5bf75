"""A model for a recording that comes without one: one that lies near, or one learned from its first part."""

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.replay.learned import Learned, Learning
from streamrnn.replay.report import is_report
from streamrnn.table import open_rows
from streamrnn.table.first import count_rows
from streamrnn.table.progress import Progress, counted
from streamrnn.train.data.dataset import Dataset, arrange
from streamrnn.train.data.recording import DataOptions, Recording, read_recording
from streamrnn.train.descent import TrainSettings
from streamrnn.train.in_words import count_of
from streamrnn.train.job import TrainOptions, check_output, learn, not_begun
from streamrnn.train.report import TrainReport

NAME = "model.safetensors"  # of a model that is found
SHARE = 0.4  # of the rows that are learned from
LEAST, HALF = 300, 0.5  # rows that are, of a short recording, but no more than half of it
FEWEST = 100  # rows that something can be learned from
MOST_ROWS = 50_000
MOST_CELLS = 3_000_000  # of rows x channels
LATE = 0.5  # the share of the rows to learn from that a channel may have no value before
EPOCHS, PATIENCE = 100, 15
WORK = 2.5e10  # see TrainOptions: ten seconds or so


def near(source: str) -> Path | None:
    """The model that lies beside a recording, or in the working folder; None for none."""
    folders = Path() if source == "-" else Path(source).parent, Path()
    return next((folder / NAME for folder in folders if (folder / NAME).is_file()), None)


def find_or_learn(data: DataOptions, learning: Learning, progress: bool = False) -> Path | Learned:
    """The model that is ``near`` the one source of ``data``, unless ``learning`` asks for something; else one
    learned from its first part. Says on stderr what is taken. An interrupt while it learns keeps the best so
    far.

    Raises UserError where a recording cannot be read twice, or there is too little to learn from.
    """
    (source,) = data.sources
    if learning == Learning() and (found := near(source)) is not None:
        where = "in the working folder"
        if source != "-":
            beside = found.parent == Path(source).parent
            where = f"{'beside it' if beside else where}; --learn 0.4 would learn one instead"
        sys.stderr.write(f"{_name(source)}: taking {found}, found {where}\n")
        made_of = (read_model(found).training or {}).get("files")
        if isinstance(made_of, list) and Path(source).name in made_of:
            sys.stderr.write(
                "warning: that model was made of a file of this name, so the figures may be of rows that it "
                "has learned from\n"
            )
        return found
    path = Path(source)
    if source == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        raise UserError(
            f"{_name(source)}: cannot be read twice, to learn a model from its first rows and to replay it; "
            "name a model with -m, or give the name of a file"
        )
    return _learn(data, learning, progress)


def _name(source: str) -> str:
    return "standard input" if source == "-" else source


def _learn(data: DataOptions, learning: Learning, progress: bool) -> Learned:
    """What the first part of a recording gives."""
    (source,) = data.sources
    data = replace(data, channels=learning.channels, exclude=learning.exclude)
    check_output(TrainOptions(data, learning.save))
    with not_begun():
        lengths, channels = _measure(data, progress)
        first = first_part(source, lengths, channels, learning.first)
        streams = f" of each of {len(first):,} streams" if len(first) > 1 else ""
        sys.stderr.write(
            f"{source}: learning a model from the first rows{streams}, {sum(first.values()):,} of "
            f"{sum(lengths.values()):,}\n"
        )
        # what is infinite as a float32 is nothing to learn from, and a replay only rejects it
        reading = replace(data.reading, on_error="skip")
        data = replace(data, first=first, reading=reading)
        recording, left_out = _settled(source, read_recording(data, lambda rows: None))
        for why in dict.fromkeys(left_out.values()):
            names = ", ".join(f'"{name}"' for name, its in left_out.items() if its == why)
            sys.stderr.write(f"warning: {names}: left out; {why} in these rows\n")
        until_ns = max(int(part.ts_ns.max(initial=0)) for part in recording.parts)
        dataset = arrange(recording, data)
    began = time.monotonic()
    settings = TrainSettings(epochs=EPOCHS, patience=PATIENCE, chunk=_chunk(dataset))
    model, report = learn(
        dataset, TrainOptions(data, learning.save, settings=settings, work=WORK, progress=progress)
    )
    learned = Learned(
        model, first, until_ns, recording.left_out | left_out, learning.save, report.interrupted
    )
    sys.stderr.write(_text(learned, report, time.monotonic() - began))
    return learned


def _measure(data: DataOptions, progress: bool) -> tuple[dict[str, int], int]:
    """How many rows each stream has, and how many columns hold numbers."""
    line = Progress(progress)
    try:
        (source,) = data.sources
        with open_rows(source, data.channels, data.reading, exclude=data.exclude) as reader:
            return count_rows(reader, line.add), len(reader.channels)
    finally:
        line.clear()


def first_part(source: str, lengths: Mapping[str, int], channels: int, asked: float | None) -> dict[str, int]:
    """How many rows of each stream are learned from, of so many that it has.

    By default SHARE of them, of a short recording LEAST or HALF; of a long one as many as do not exceed the
    limits together, the longest streams giving way first. Raises UserError where too few are.
    """
    rows = np.array([*lengths.values()], np.int64)
    total = int(rows.sum())
    if asked is None:
        share = max(SHARE, min(LEAST / max(total, 1), HALF))
        wanted = (share * rows).astype(np.int64)
        wanted = np.minimum(wanted, _level(wanted, min(MOST_ROWS, MOST_CELLS // max(channels, 1))))
    else:
        wanted = np.minimum(rows, int(asked)) if asked >= 1 else (asked * rows).astype(np.int64)
        if total and wanted.sum() == total:
            raise UserError(
                f"{source}: has {counted(total, 'row')}; --learn {asked:g} leaves none to show what was "
                "learned: learn from fewer"
            )
    if wanted.sum() < (FEWEST if asked is None else 1):
        raise UserError(
            f"{source}: has {counted(total, 'row')} of {counted(len(rows), 'stream')}, too few to learn a "
            f"model from the first of them; name one with -m, or have it learn from fewer than "
            f"{FEWEST} rows, such as --learn {max(int(rows.max(initial=0)) // 2, 1)}"
        )
    return dict(zip(lengths, wanted.tolist(), strict=True))


def _level(wanted: np.ndarray, most: int) -> int:
    """The highest bound on each of some numbers with which their sum does not exceed ``most``."""
    ascending = np.sort(wanted)
    others = np.arange(len(ascending), 0, -1)  # it and those above it
    bounds = (most - (np.cumsum(ascending) - ascending)) // others
    above = np.flatnonzero(bounds < ascending)
    return int(bounds[above[0]]) if len(above) else int(ascending.max(initial=0))


def _settled(source: str, recording: Recording) -> tuple[Recording, dict[str, str]]:
    """The recording without the channels that nothing can be learned from, and why of each of those."""
    parts, why = recording.parts, dict[str, str]()
    rows = sum(len(part.values) for part in parts)
    for place, name in enumerate(recording.channels):
        columns = [part.values[:, place] for part in parts]
        known = [~np.isnan(column) for column in columns]
        values = np.concatenate([column[there] for column, there in zip(columns, known, strict=True)])
        before = sum(int(there.argmax()) if there.any() else len(there) for there in known)
        if not len(values):
            why[name] = "has no value"
        elif before > LATE * rows:
            why[name] = "has no value for long"
        elif values.min() == values.max():
            why[name] = "never varies"
    if len(why) == len(recording.channels):
        told = ", ".join(f'"{name}" {reason}' for name, reason in why.items())
        raise UserError(
            f"{source}: in the {counted(rows, 'row')} to learn from no column is a channel: {told}; say with "
            "--learn how many rows are to do, or name a model with -m"
        )
    places = [place for place, name in enumerate(recording.channels) if name not in why]
    names = [recording.channels[place] for place in places]
    if why:
        parts = [part._replace(values=np.ascontiguousarray(part.values[:, places])) for part in parts]
    return recording._replace(channels=names, outputs=names, parts=parts), why


def _chunk(dataset: Dataset) -> int:
    """Rows that the gradient reaches back: as usual, unless there are fewer in each lane."""
    usual = TrainSettings()
    return max(min(usual.chunk, count_of(dataset.train, "row") // usual.lanes), 1)


def _text(learned: Learned, report: TrainReport, seconds: float) -> str:
    """What was learned, in short."""
    until = f", up to {learned.until}" if learned.until else ""
    table = ", ".join(f"{name} {error:.4g}" for name, error in report.roots().items())
    said = [
        f"learned from {counted(sum(learned.rows.values()), 'row')}{until}, in {seconds:.1f} s; validation "
        f"error {table} (root mean squares, in standard deviations)"
    ]
    if report.loses:
        said.append(
            "warning: that is worse than taking each row for the next, so what it says of this recording "
            "means little; learn from more rows (--learn), or leave columns out with --exclude"
        )
    if learned.interrupted:
        said.append("interrupted: the replay goes on with the best so far; Ctrl-C again ends it")
    if learned.kept is not None:
        said.append(f"{learned.kept}: the model")
    return "".join(f"{line}\n" for line in said)


def shown(source: str, report: str | None) -> tuple[str | None, str | None]:
    """Where results and report go of a recording that comes without model and without a name for either.

    Rows are no picture: where standard output is a terminal, it gets none, and the report is a page beside
    the recording. Raises UserError where that name belongs to something else.
    """
    if source == "-" or not sys.stdout.isatty():
        return "-", report
    if report is None:
        page = Path(f"{source}.html")
        if page.exists() and not is_report(page):
            raise UserError(
                f"{page}: is there already, and no report of a replay; name another with --report"
            )
        report = str(page)
    sys.stderr.write(f"{source}: {report} will show what comes of it; -o names a file for all rows\n")
    return None, report
