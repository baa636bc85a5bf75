"""Where in a file the columns stand that a reader was asked for."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table.blocks import Again
from streamrnn.table.calendar import calendar_columns
from streamrnn.table.cell_values import Marks, Numbers, blanked, is_text, to_float32, to_float64, to_uint64
from streamrnn.table.columns import find_columns, listed, shortened
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.decimals import Decimals, find_decimals
from streamrnn.table.long import LongFile
from streamrnn.table.offsets import find_offsets
from streamrnn.table.parquet_file import ParquetFile
from streamrnn.table.raster import RasterFile
from streamrnn.table.reading import Reading
from streamrnn.table.recording_file import RecordingFile
from streamrnn.table.roles import (
    RECORD,
    counts,
    is_empty,
    is_label,
    is_numeric,
    is_states,
    no_measurements,
)
from streamrnn.table.time_column import choose_time, look_at
from streamrnn.table.time_parts import TimeColumn, join_times
from streamrnn.table.times import to_ns
from streamrnn.table.turns import find_turns, turns_text
from streamrnn.table.words import VALUE_OF_STATE

File = CsvFile | ParquetFile | LongFile | RasterFile | RecordingFile
TEXT, TIMES, STATES, EMPTY = "text", "times", "true and false, or words for them", "without any value"
CALENDAR = "a part of the time"


class TableLayout(NamedTuple):
    """Places of columns in a file."""

    channels: list[int]
    seq: int | None
    restarts: bool  # whether its numbers may begin again: a logger's record
    time: TimeColumn | None
    stream: int | None
    time_type: pa.DataType | None  # of the times as they are handed on
    labels: frozenset[int]  # channels read as text
    states: frozenset[int]  # channels whose texts stand for numbers
    commas: frozenset[int]  # channels of decimal commas
    groups: frozenset[int]  # channels with commas between thousands
    offsets: dict[int, float]  # of channels: what is taken off before float32 rounds it away
    words: dict[str, float]  # what texts stand for that are of two kinds in a channel
    left_out: dict[str, str]  # columns that could be channels, and why they are none
    notes: list[str]  # what a user should look at

    def places(self) -> list[int]:
        """Every column to read, once."""
        special = (self.seq, *(self.time.places if self.time else ()), self.stream)
        return list(dict.fromkeys(place for place in (*self.channels, *special) if place is not None))


def find_layout(
    file: File,
    channels: Sequence[str] | None,
    reading: Reading,
    marks: Marks,
    again: Again | None,
    labels: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> TableLayout:
    """The columns named, those to be found, and for ``channels`` None every other one that holds
    measurements.

    ``again`` reads the file from the beginning, where that can be done. ``labels`` names channels that may be
    text, or whose first cells are all empty: what those are is not known yet, so they are read as text, too.
    Raises UserError for a column that is not there, or does not hold what it should.
    """
    head, names, where = file.head(), file.names, file.where
    stream, seq = _place(file, reading.stream), _place(file, reading.seq)
    named = None if channels is None else find_columns(channels, names, where)
    free = {*range(len(names))} - {*(named or ()), seq, stream}
    looked = look_at(names, file.units, head, free)
    time = choose_time(looked, free, reading, where, again)
    ns = None if time is None else to_ns(join_times([head[p] for p in time.places], time), time.form)[0]
    asked = find_columns(labels, names, where)
    excluded = {*find_columns(exclude, names, where)}
    record = seq is None and time is not None and stream is None and not reading.count_rows
    if record:
        seq = _record(file, head, {*(named or ()), *excluded})
    free = {*range(len(names))} - {seq, stream, *(time.places if time else ())} - (excluded - {*asked})
    text = frozenset(place for place in asked if is_label(head[place]) or is_empty(head[place]))
    decimals, left_out = _decimals(file, head, reading.decimal), dict[int, str]()
    if named is None:
        late = sorted(place for place in free if is_empty(head[place]))
        head = _with_first_values(head, late, again)
        times = looked.candidates.keys() | look_at(names, file.units, head, late).candidates.keys()
        named, left_out = _measurements(names, head, sorted(free), {*asked}, times, ns, marks, decimals)
        find_columns([names[place] for place in named], names, where)  # whose names may be there twice
    named += sorted(text - {*named})
    _check_channels(file, named, left_out, head)
    numbers = [place for place in named if place not in text]
    _check_types(file, head, numbers, seq)
    states = [place for place in numbers if _is_state(head[place], *decimals.of(place))]
    words = _two_words(file, states, head, marks)
    ids = None if stream is None else head[stream].cast(pa.string())
    offsets, too_coarse = find_offsets(names, head, numbers, decimals, marks, ids, reading.offsets)
    notes = [*decimals.notes, *too_coarse]
    notes += [f'"{word}" is taken for {value:g}; --words says otherwise' for word, value in words.items()]
    turns = None if stream is not None else find_turns(names, head, sorted(free - {*asked}), named, ns)
    if turns is not None:
        place, surely = turns
        others = [channel for channel in named if channel != place]
        notes.append(turns_text(names[place], head[place], len(others)))
        if surely and channels is None and others and place in named:
            named, left_out = others, left_out | {place: "takes turns, as names do"}
    return TableLayout(
        named,
        seq,
        record and seq is not None,
        time,
        stream,
        _type_of(time, head),
        text,
        frozenset(states),
        decimals.commas,
        decimals.groups,
        {place: offset for place, offset in offsets.items() if place in named},
        words,
        {names[place]: why for place, why in sorted(left_out.items()) if place not in text},
        notes,
    )


def _check_types(file: File, head: list[pa.Array], numbers: Sequence[int], seq: int | None) -> None:
    """Raises UserError for a column that does not hold what it should."""
    for place in numbers:
        _check_type(file, place, head[place], to_float32)
    if seq is not None:
        _check_type(file, seq, head[seq], to_uint64)


def _type_of(time: TimeColumn | None, head: list[pa.Array]) -> pa.DataType | None:
    """Of the times as they are handed on: several columns become text."""
    if time is None:
        return None
    return head[time.places[0]].type if len(time.places) == 1 else pa.string()


def _decimals(file: File, head: list[pa.Array], told: str | None) -> Decimals:
    found = file.dialect.commas if isinstance(file, CsvFile) else frozenset()
    comma_between = isinstance(file, CsvFile) and file.dialect.delimiter == ","
    return find_decimals(file.names, head, found, told, comma_between, file.where)


def _measurements(
    names: list[str],
    head: list[pa.Array],
    free: list[int],
    asked: set[int],
    times: set[int],
    ns: np.ndarray | None,
    marks: Marks,
    decimals: Decimals,
) -> tuple[list[int], dict[int, str]]:
    """Which of the ``free`` columns that have a name hold measurements, and why the others hold none.

    ``asked``: those that may be anything; ``times``: those that could be times; ``ns``: the times of the
    rows, 0 for none.
    """
    free = [place for place in free if names[place].strip()]
    numeric = [place for place in free if is_numeric(head[place], marks, *decimals.of(place))]
    maybe = [place for place in numeric if place not in asked]
    none = no_measurements(names, head, maybe, times)
    if ns is not None:
        numbers = {place: to_float64(head[place], marks)[0] for place in maybe if place not in none}
        none |= dict.fromkeys(calendar_columns(ns, numbers, names), CALENDAR)
    others = {place: _kind(head[place], place in times) for place in free if place not in numeric}
    return [place for place in numeric if place not in none], others | none


def _record(file: File, head: list[pa.Array], taken: set[int | None]) -> int | None:
    """The place of the record numbers that loggers write, which say what is missing."""
    for place, name in enumerate(file.names):
        if place not in taken and name.strip().casefold() == RECORD and counts(head[place]):
            return place
    return None


def _with_first_values(head: list[pa.Array], empty: list[int], again: Again | None) -> list[pa.Array]:
    """The first cells, those of columns that are empty there replaced by the first that are not."""
    if not empty or again is None:
        return head
    head, left = [*head], {*empty}
    for block in again(empty):
        for place, cells in zip(empty, block.columns, strict=True):
            if place in left and not is_empty(cells):
                head[place] = blanked(cells).drop_null()
                left.discard(place)
        if not left:
            break
    return head


def _kind(head: pa.Array, times: bool) -> str:
    if is_empty(head):
        return EMPTY
    if is_states(head):
        return STATES
    return TIMES if times else TEXT


def _two_words(file: File, states: list[int], head: list[pa.Array], marks: Marks) -> dict[str, float]:
    """What the words of columns that hold two of them stand for, 0 and 1 in the order of the alphabet.

    Words that already stand for something do not change; those of columns that contradict each other are
    left. Raises UserError for words of which two stand for one number, unless the user said so.
    """
    found: dict[str, float] = {}
    for place in states:
        _check_states(file, place, head[place], marks)
        said = blanked(head[place], marks.missing).drop_null().unique().to_pylist()
        texts = sorted({text.casefold() for text in said})
        if len(texts) == 2 and not any(text in marks.states for text in texts):
            values = {text: float(value) for value, text in enumerate(texts)}
            if all(found.get(text, value) == value for text, value in values.items()):
                found |= values
    return found


def _check_states(file: File, place: int, cells: pa.Array, marks: Marks) -> None:
    """Raises UserError for words of which two stand for one number, unless the user said so."""
    texts = {text.casefold() for text in blanked(cells, marks.missing).drop_null().unique().to_pylist()}
    numbers = {text: marks.states[text] for text in texts if text in marks.states}
    told = [text for text in numbers if marks.states[text] != VALUE_OF_STATE.get(text)]
    if len({*numbers.values()}) < len(numbers) and not told:
        alike = ", ".join(f'"{text}"' for text in sorted(numbers))
        raise UserError(
            f'{file.where}: column "{file.names[place]}" holds {alike}, of which two would be one number; '
            f"say what they stand for with --words {min(numbers)}=0,..."
        )


def _is_state(head: pa.Array, comma: bool, grouped: bool) -> bool:
    return is_text(head) and is_label(head) and not is_numeric(head, comma=comma, grouped=grouped)


def _place(file: File, name: str | None) -> int | None:
    return None if name is None else find_columns([name], file.names, file.where)[0]


def _check_channels(file: File, named: list[int], left_out: dict[int, str], head: list[pa.Array]) -> None:
    if named:
        return
    if any(len(cells) for cells in head):
        columns = [f'"{shortened(file.names[place])}" ({why})' for place, why in left_out.items()]
        remedy = "If that is wrong, see --header-line, --delimiter and --decimal; name channels"
        remedy = remedy if isinstance(file, CsvFile) else "Name those that are channels"
        raise UserError(
            f"{file.where}: no column holds measurements; it was taken for {file.said}; its columns: "
            f"{listed(columns)}. {remedy} with --channels"
        )
    raise UserError(f"{file.where}: no row follows the names of the columns")


def _check_type(file: File, place: int, head: pa.Array, convert: Callable[[pa.Array], Numbers]) -> None:
    try:
        convert(head[:0])
    except pa.ArrowNotImplementedError:
        raise UserError(
            f'{file.where}: column "{file.names[place]}" holds {head.type}, not numbers'
        ) from None
