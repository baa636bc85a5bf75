"""What files hold of each stream, and where rows are missing in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table import Reading, RowReader, Rows, open_rows
from streamrnn.table.cell_values import to_float32
from streamrnn.table.columns import find_any, find_columns, joined_names
from streamrnn.table.first import FirstRows

NO_VALUE = "without any value"
LABELS = {  # names of columns that say whether something was wrong
    *("label", "labels", "class", "anomaly", "anomalies", "is_anomaly", "fault", "faults", "is_fault"),
    *("failure", "attack", "outlier", "changepoint", "change_point", "target", "ground_truth"),
}


@dataclass(frozen=True)
class DataOptions:
    """What to learn from: the files, which of their columns, and how they are taken."""

    sources: tuple[str, ...]  # CSV or parquet files, or - for standard input
    channels: tuple[str, ...] | None = None  # None = every column of numbers; targets ahead of it, too
    exclude: tuple[str, ...] = ()  # columns that are no channels
    without: tuple[Path, ...] = ()  # files of intervals whose rows are left out, see ``intervals``
    only: tuple[Path, ...] = ()  # and of those that are all there is; none = every row
    targets: tuple[str, ...] | None = None  # columns to estimate; None = the channels
    ahead: int | None = None  # rows from an input row to its target; None = 0, without targets 1
    validation: float = 0.2  # the share of each stream's rows, its last ones, to validate on
    reading: Reading = field(default_factory=Reading)  # its limit is of rows of each file
    first: Mapping[str, int] | None = None  # of those, by stream, how many are read; None = all
    max_step_s: float | None = None  # the longest time step that is no gap; None = by the sample period
    labels: bool = False  # targets may be text: the class that a row belongs to
    watch: bool = False  # channels that always say the same are kept, to be watched for a change

    @property
    def period_s(self) -> float:
        """From row to row, where rows are made; 0 = as the files have it."""
        return 0.0 if self.reading.raster is None else self.reading.raster.period_ns / 1e9


class Part(NamedTuple):
    """What one file holds of one stream: n rows in the file's order, W columns."""

    source: str
    stream: str
    values: np.ndarray  # (n, W) float32: the channels, then the outputs that are none; NaN = missing
    seq: np.ndarray  # (n,) uint64
    ts_ns: np.ndarray  # (n,) int64: since the Unix epoch; 0 = none
    counted: bool = True  # whether seq only counts the rows


class Recording(NamedTuple):
    """All that the files hold."""

    channels: list[str]
    outputs: list[str]
    left_out: dict[str, str]  # columns that are no channels, where those were not named, and why
    parts: list[Part]
    skipped: int  # bad rows left out
    classes: dict[str, list[str]]  # of each output that is text: what its numbers stand for
    units: dict[str, str]  # of the columns whose unit a file says
    words: dict[str, float]  # texts that stand for numbers
    offsets: dict[str, float]  # of the columns that have one: what was taken off their values
    said: list[str]  # what each file was taken for
    notes: list[str]  # what of the files a user should look at

    @property
    def names(self) -> list[str]:
        """Of the columns of a part."""
        return column_names(self.channels, self.outputs)


def column_names(channels: list[str], outputs: list[str]) -> list[str]:
    """The channels, then the outputs that are none of them."""
    return channels + [name for name in outputs if name not in channels]


def read_recording(options: DataOptions, progress: Callable[[int], object]) -> Recording:
    """All rows of the files; ``progress`` is told the number of rows of every block.

    The first file says which columns there are. Raises UserError for a file that cannot be read or does
    not have the same ones, and for an infinite value unless bad rows are to be skipped.
    """
    recording: Recording | None = None
    parts, skipped = list[Part](), 0
    for source in options.sources:
        wanted = None if options.channels is None else column_names(*_named(options))
        reading = options.reading
        if recording is not None:
            reading = replace(reading, words=recording.words, offsets=recording.offsets)
        with open_rows(source, wanted, reading, options.targets or (), options.exclude) as reader:
            channels, outputs = _choose(reader, source, options)
            notes = [*reader.notes, *reader.extremes(of_offsets=True)]
            if recording is None:
                left_out = {} if options.channels is not None else dict(reader.left_out)
                words = {**options.reading.words, **reader.words}
                offsets = dict(zip(reader.channels, reader.offsets.tolist(), strict=True))
                recording = Recording(channels, outputs, left_out, parts, 0, {}, {}, words, offsets, [], [])
            elif options.channels is None:
                _check_same(recording, channels, outputs, options.sources[0], source)
                channels, outputs = recording.channels, recording.outputs
            places = [reader.channels.index(name) for name in column_names(channels, outputs)]
            found, infinite = _read_parts(reader, source, places, options, progress)
            names = [reader.channels[place] for place in places]
            _settle_labels(recording, names, reader, found, source, options)
            _take_units(recording, names, reader, source)
            _take_words(recording, reader, source)
            recording.said.append(reader.said)
            for line in reader.closing().splitlines():
                warns = line.startswith("warning: ")
                (recording.notes if warns else recording.said).append(line.removeprefix("warning: "))
            recording.notes.extend(note for note in notes if note not in recording.notes)
            parts += found
            skipped += reader.skipped + infinite
    if recording is None:
        raise UserError("no file to learn from; name one or more CSV or parquet files")
    recording = recording._replace(skipped=skipped)
    return recording if options.channels is not None else _without_still(recording, options.watch)


def _without_still(recording: Recording, watch: bool) -> Recording:
    """Leaves out the channels that have one value or none in all of the files, unless they are targets.

    With ``watch`` those of one value stay, but for labels: what is said of a fault is no sign of it.
    """
    names, targets = recording.names, recording.outputs
    kinds = [_still(recording.parts, place) for place in range(len(names))]
    own = recording.outputs == recording.channels
    if watch and own:
        kinds = [
            kind if kind == NO_VALUE or name.strip().casefold().strip("_") in LABELS else ""
            for name, kind in zip(names, kinds, strict=True)
        ]
    still = {
        name: kind for name, kind in zip(names, kinds, strict=True) if kind and (own or name not in targets)
    }
    if not still or len(still) == len(recording.channels):
        return recording
    keep = [place for place, name in enumerate(names) if name not in still]
    channels = [name for name in recording.channels if name not in still]
    return recording._replace(
        channels=channels,
        outputs=channels if own else targets,
        left_out=recording.left_out | still,
        parts=[part._replace(values=np.ascontiguousarray(part.values[:, keep])) for part in recording.parts],
    )


def _still(parts: list[Part], place: int) -> str:
    """Why a column of the parts is no measurement: it says nothing, or always the same; "" if it is one."""
    columns = [part.values[:, place] for part in parts]
    known = [column[~np.isnan(column)] for column in columns]
    values = {float(end) for column in known if len(column) for end in (column.min(), column.max())}
    if not values:
        return NO_VALUE
    return f"always {values.pop():g}" if len(values) == 1 else ""


def _take_units(recording: Recording, names: list[str], reader: RowReader, source: str) -> None:
    """Keeps the units of a file. Raises UserError where another file has another one of the same column."""
    for name, spelled in zip(recording.names, names, strict=True):
        if not (unit := reader.units.get(spelled)):
            continue
        if recording.units.setdefault(name, unit) != unit:
            raise UserError(
                f'{source}: "{name}" is in {unit} here, and in {recording.units[name]} in a file before; '
                "bring them to one unit, or say it for all with --unit-of"
            )


def _take_words(recording: Recording, reader: RowReader, source: str) -> None:
    """Keeps what words of a file stand for. Raises UserError where they stood for something else before."""
    for word, value in reader.words.items():
        if recording.words.setdefault(word, value) != value:
            raise UserError(
                f'{source}: "{word}" would be {value:g} here, and was {recording.words[word]:g} in a file '
                f"before; say what words stand for with --words {word}=..."
            )


def _settle_labels(
    recording: Recording,
    names: list[str],
    reader: RowReader,
    found: list[Part],
    source: str,
    options: DataOptions,
) -> None:
    """Lets columns that were read as text be numbers where all of it is, else classes, the same in all files.

    ``names`` are the columns of ``found``, the parts of a file.
    """
    for place, (name, here) in enumerate(zip(recording.names, names, strict=True)):
        texts = reader.labels[here].names if here in reader.labels else []
        offset = recording.offsets.get(name, 0.0)
        numbers = to_float32(pa.array(texts, pa.string()), offset=offset)[0]
        is_text = not np.isfinite(numbers).all()
        if is_text:
            what = f'{source}: column "{here}" is text, such as "{texts[int(np.isfinite(numbers).argmin())]}"'
            _check_label(what, name in recording.channels, options)
        others = recording.parts if is_text else found  # what may be of another kind
        if is_text != (name in recording.classes) and _has_value(others, place):
            raise UserError(
                f'column "{name}" is text in some files, and numbers in others; make it one of them'
            )
        if is_text:
            classes = recording.classes.setdefault(name, [])
            classes += [label for label in texts if label not in classes]
            numbers = np.array([*map(classes.index, texts)], np.float32)
        if texts:
            meant = np.append(numbers, np.float32(np.nan))
            for part in found:
                part.values[:, place] = meant[
                    np.nan_to_num(part.values[:, place], nan=len(texts)).astype(int)
                ]


def _check_label(what: str, is_channel: bool, options: DataOptions) -> None:
    """Raises UserError, which begins with ``what``, for a column of text that is more than a target."""
    if not options.labels:
        raise UserError(f"{what}, and no finite number; only sequence-to-vector has targets of text")
    if is_channel:
        raise UserError(f"{what}, and cannot be a channel; leave it out of --channels")


def _has_value(parts: list[Part], place: int) -> bool:
    return any(not np.isnan(part.values[:, place]).all() for part in parts)


def _named(options: DataOptions) -> tuple[list[str], list[str]]:
    """The channels and outputs that the options name."""
    channels = list(options.channels or ())
    return channels, channels if options.targets is None else list(options.targets)


def _choose(reader: RowReader, source: str, options: DataOptions) -> tuple[list[str], list[str]]:
    """Channels and outputs as a file spells them."""
    found, names = reader.channels, reader.names
    channels, outputs = _named(options)
    gone = {found[place] for place in find_any(options.exclude, found)}  # of the targets; others are not read
    if options.channels is not None:
        channels, outputs = joined_names(channels, names), joined_names(outputs, names)
        spelled = dict(zip(column_names(channels, outputs), found, strict=True))
        channels, outputs = [spelled[name] for name in channels], [spelled[name] for name in outputs]
    elif options.targets is None:
        channels = outputs = [name for name in found if name not in gone]
    else:
        try:
            outputs = [found[place] for place in find_columns(outputs, found, source)]
        except UserError as error:
            raise UserError(f"{error} (those that hold numbers)") from None
        channels = [name for name in found if name not in gone]
        if not options.ahead:  # an estimate of now must not be given what it estimates
            channels = [name for name in channels if name not in outputs]
    for names, what in ((channels, "channels"), (outputs, "targets")):
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f'"{twice[0]}" is named twice among the {what}; name it once')
    if not channels:
        raise UserError(f"{source}: no column of numbers is left beside the targets; name the channels")
    return channels, outputs


def _check_same(first: Recording, channels: list[str], outputs: list[str], where: str, source: str) -> None:
    """Raises UserError saying which columns only one of two files has."""
    here, there = set(column_names(channels, outputs)), set(first.names)
    differences = [
        f"{verb} " + ", ".join(f'"{name}"' for name in sorted(names))
        for verb, names in (("lacks", there - here), ("has besides", here - there))
        if names
    ]
    if differences:
        raise UserError(
            f"{source}: its columns of numbers are not those of {where}: it {' and '.join(differences)}; "
            "name the channels that all files have with --channels"
        )


def _read_parts(
    reader: RowReader, source: str, places: list[int], options: DataOptions, progress: Callable[[int], object]
) -> tuple[list[Part], int]:
    """The rows of a file by stream, and how many infinite ones were left out."""
    arrays: tuple[np.ndarray, ...] = (  # stream, values, seq and ts_ns of Rows
        np.zeros(0, np.int32),
        np.zeros((0, len(places)), np.float32),
        np.zeros(0, np.uint64),
        np.zeros(0, np.int64),
    )
    rows = infinite = 0
    for block in reader if options.first is None else FirstRows(options.first).only(reader):
        progress(len(block.seq))
        bad = np.isinf(block.values).any(axis=1)
        if bad.any():
            if options.reading.on_error == "fail":
                raise UserError(_infinite_text(block, int(bad.argmax()), reader, source))
            infinite += int(bad.sum())
            block = block.only(~bad)
        end = rows + len(block.seq)
        if end > len(arrays[0]):
            _resize(arrays, end + end // 4)
        read = (block.stream, block.values[:, places], block.seq, block.ts_ns)
        for array, of_block in zip(arrays, read, strict=True):
            array[rows:end] = of_block
        rows = end
    _resize(arrays, rows)
    stream, values, seq, ts_ns = arrays
    if (np.diff(stream) < 0).any():  # streams take turns
        order = np.argsort(stream, kind="stable")
        stream, values, seq, ts_ns = stream[order], values[order], seq[order], ts_ns[order]
    begins = np.flatnonzero(np.diff(stream, prepend=-1))
    parts = [
        Part(
            source,
            reader.streams[stream[begin]],
            values[begin:end],
            seq[begin:end],
            ts_ns[begin:end],
            reader.counts,
        )
        for begin, end in pairwise([*begins, rows])
    ]
    return parts, infinite


def _resize(arrays: tuple[np.ndarray, ...], rows: int) -> None:
    """Gives arrays that no one else looks at more or fewer rows, in place: memory holds one copy."""
    for array in arrays:
        array.resize((rows, *array.shape[1:]), refcheck=False)


def _infinite_text(block: Rows, row: int, reader: RowReader, source: str) -> str:
    column = int(np.isinf(block.values[row]).argmax())
    return (
        f'{source}: column "{reader.channels[column]}": the value of row {block.seq[row]} of stream '
        f'"{reader.streams[block.stream[row]]}" is infinite as a float32; mend it, or leave such rows out '
        "with --on-error skip"
    )
