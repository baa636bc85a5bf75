"""Where in a file the columns stand that a reader was asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.errors import UserError
from streamrnn.table.blocks import Block
from streamrnn.table.cells import Marks, Numbers, blanked, is_text, to_float32, to_uint64
from streamrnn.table.columns import find_columns, listed, shortened
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.long import LongFile
from streamrnn.table.parquet_file import ParquetFile
from streamrnn.table.reading import NO_TIME, Reading
from streamrnn.table.roles import (
    RECORD,
    coarse,
    counts,
    is_empty,
    is_label,
    is_numeric,
    is_states,
    no_measurements,
)
from streamrnn.table.time_column import TimeColumn, find_time, join_times, settle_order, told_time
from streamrnn.table.time_column import joined as joined_time
from streamrnn.table.times import to_ns, told_form
from streamrnn.table.turns import find_turns, turns_text

File = CsvFile | ParquetFile | LongFile
Again = Callable[[list[int]], Iterator[Block]]  # all blocks of a file, of some columns, from the beginning
TEXT, TIMES, STATES, EMPTY = "text", "times", "true and false, or words for them", "without any value"


class Layout(NamedTuple):
    """Places of columns in a file."""

    channels: list[int]
    seq: int | None
    time: TimeColumn | None
    stream: int | None
    time_type: pa.DataType | None  # of the times as they are handed on
    labels: frozenset[int]  # channels read as text
    states: frozenset[int]  # channels whose texts stand for numbers
    commas: frozenset[int]  # channels of decimal commas
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
) -> Layout:
    """The columns named, those to be found, and for ``channels`` None every other one that holds
    measurements.

    ``again`` reads the file from the beginning, where that can be done. ``labels`` names channels that may be
    text, or whose first cells are all empty: what those are is not known yet, so they are read as text, too.
    Raises UserError for a column that is not there, or does not hold what it should.
    """
    head, names = file.head(), file.names
    stream, seq = _place(file, reading.stream), _place(file, reading.seq)
    named = None if channels is None else find_columns(channels, names, file.where)
    time = _find_time(file, head, {*(named or ()), seq, stream}, reading, again)
    seq = _record(file, head, {*(named or ()), stream}) if seq is None and time is not None else seq
    asked = find_columns(labels, names, file.where)
    text = frozenset(place for place in asked if is_label(head[place]) or is_empty(head[place]))
    commas = _commas(file, head, reading)
    taken = {
        seq,
        stream,
        *(time.places if time else ()),
        *({*find_columns(exclude, names, file.where)} - {*asked}),
    }
    left_out = dict[int, str]()
    if named is None:
        free = [place for place in range(len(names)) if place not in taken and names[place].strip()]
        head = _with_first_values(head, [place for place in free if is_empty(head[place])], again)
        numeric = [place for place in free if is_numeric(head[place], marks, place in commas)]
        none = no_measurements(names, head, [place for place in numeric if place not in asked])
        named = find_columns([names[place] for place in numeric if place not in none], names, file.where)
        others = [place for place in free if place not in numeric]
        left_out = {place: _kind(names[place], head[place]) for place in others} | none
    named += sorted(text - {*named})
    _check_channels(file, named, left_out, head)
    for place in {*named} - text:
        _check_type(file, place, head[place], to_float32)
    if seq is not None:
        _check_type(file, seq, head[seq], to_uint64)
    states = [p for p in named if p not in text and _is_state(head[p], p in commas)]
    words = _two_words([head[place] for place in states], marks)
    turns, measured = None, [*named]
    if stream is None:
        ns = (
            None
            if time is None
            else to_ns(join_times([head[p] for p in time.places], time.digits), time.form)[0]
        )
        free = [place for place in range(len(names)) if place not in {*taken, *asked}]
        turns = find_turns(names, head, free, named, ns)
        measured = [place for place in named if turns is None or place != turns[0]]
        if turns is not None and turns[1] and channels is None and measured and turns[0] in named:
            named, left_out = measured, left_out | {turns[0]: "takes turns, as names do"}
    return Layout(
        named,
        seq,
        time,
        stream,
        None if time is None else (head[time.places[0]].type if len(time.places) == 1 else pa.string()),
        text,
        frozenset(states),
        commas,
        words,
        {names[place]: why for place, why in sorted(left_out.items()) if place not in text},
        coarse(names, head, named)
        + [f'"{word}" is taken for {value:g}; --words says otherwise' for word, value in words.items()]
        + ([] if turns is None else [turns_text(names[turns[0]], head[turns[0]], len(measured))]),
    )


def _find_time(
    file: File, head: list[pa.Array], taken: set[int | None], reading: Reading, again: Again | None
) -> TimeColumn | None:
    if reading.time == (NO_TIME,):
        return None
    if reading.time is not None:
        places = find_columns(reading.time, file.names, file.where)
        if reading.time_format is None:
            time = told_time(places, file.names, file.units, head, file.where)
        else:
            time = (
                joined_time(tuple(places), head)
                if len(places) > 1
                else TimeColumn((places[0],), told_form("s"))
            )
    else:
        found = find_time(file.names, file.units, head, taken)
        if found is None and reading.time_format is not None:
            raise UserError(f"{file.where}: no column of times was found; name it with --time-column")
        if found is None:
            return None
        time = found
    if reading.time_format is not None:
        return time._replace(form=told_form(reading.time_format))
    return settle_order(time, file.names, file.where, again)


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


def _kind(name: str, head: pa.Array) -> str:
    if is_empty(head):
        return EMPTY
    if is_states(head):
        return STATES
    return TEXT if find_time([name], {}, [head], ()) is None else TIMES


def _two_words(columns: list[pa.Array], marks: Marks) -> dict[str, float]:
    """What the words of columns that hold two of them stand for, 0 and 1 in the order of the alphabet.

    Words that already stand for something do not change; those of columns that contradict each other are
    left.
    """
    found: dict[str, float] = {}
    for cells in columns:
        said = blanked(cells, marks.missing).drop_null().unique().to_pylist()
        texts = sorted({text.casefold() for text in said})
        if len(texts) == 2 and not any(text in marks.states for text in texts):
            values = {text: float(value) for value, text in enumerate(texts)}
            if all(found.get(text, value) == value for text, value in values.items()):
                found |= values
    return found


def _is_state(head: pa.Array, comma: bool) -> bool:
    return is_text(head) and is_label(head) and not is_numeric(head, comma=comma)


def _commas(file: File, head: list[pa.Array], reading: Reading) -> frozenset[int]:
    """The columns whose numbers have decimal commas: all that are not shown to have points, where some do."""
    found = file.dialect.commas if isinstance(file, CsvFile) else frozenset()
    if reading.decimal == "point" or not (found or reading.decimal):
        return frozenset()
    return frozenset(place for place, cells in enumerate(head) if place in found or not _has_points(cells))


def _has_points(cells: pa.Array) -> bool:
    if not is_text(cells):
        return False
    pointed, commas = (pc.any(pc.match_substring(cells, mark)).as_py() for mark in ".,")
    return bool(pointed) and not commas


def _place(file: File, name: str | None) -> int | None:
    return None if name is None else find_columns([name], file.names, file.where)[0]


def _check_channels(file: File, named: list[int], left_out: dict[int, str], head: list[pa.Array]) -> None:
    if named:
        return
    if any(len(cells) for cells in head):
        columns = [f'"{shortened(file.names[place])}" ({why})' for place, why in left_out.items()]
        raise UserError(
            f"{file.where}: no column holds measurements; it was taken for {file.said}; its columns: "
            f"{listed(columns)}. If "
            "that is wrong, see --header-line, --delimiter and --decimal; name channels with --channels"
        )
    raise UserError(f"{file.where}: no row follows the names of the columns")


def _check_type(file: File, place: int, head: pa.Array, convert: Callable[[pa.Array], Numbers]) -> None:
    try:
        convert(head[:0])
    except pa.ArrowNotImplementedError:
        raise UserError(
            f'{file.where}: column "{file.names[place]}" holds {head.type}, not numbers'
        ) from None
