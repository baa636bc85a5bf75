"""Where in a file the columns stand that a reader was asked for."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table.cells import CALENDAR, Numbers, find_time_unit, quoted, to_float32, to_uint64
from streamrnn.table.columns import Columns, find_columns, find_numeric, find_time, is_empty, is_label
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.parquet_file import ParquetFile

File = CsvFile | ParquetFile
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


class Layout(NamedTuple):
    """Places of columns in a file."""

    channels: list[int]
    seq: int | None
    time: int | None
    stream: int | None
    time_unit: int  # see cells.to_ns
    time_type: pa.DataType | None  # of the time column's cells
    labels: frozenset[int]  # channels read as text

    def places(self) -> list[int]:
        """Every column to read, once."""
        special = (self.seq, self.time, self.stream)
        return list(dict.fromkeys(place for place in (*self.channels, *special) if place is not None))


def find_layout(
    file: File, channels: Sequence[str] | None, columns: Columns, labels: Sequence[str] = ()
) -> Layout:
    """The columns named, those to be found, and for ``channels`` None every other one of numbers.

    ``labels`` names channels that may be text, or whose first cells are all empty: what those are is not
    known yet, so they are read as text, too.
    Raises UserError for a column that is not there, or does not hold what it should.
    """
    head = file.head()
    seq, stream = _place(file, columns.seq), _place(file, columns.stream)
    time = _place(file, columns.time)
    named = None if channels is None else find_columns(channels, file.names, file.where)
    if time is None:
        time = find_time(file.names, head, {*(named or ()), seq, stream})
    if named is None:
        numeric = find_numeric(file.names, head, {seq, stream, time})
        named = find_columns([file.names[place] for place in numeric], file.names, file.where)
    asked = find_columns(labels, file.names, file.where)
    text = frozenset(place for place in asked if is_label(head[place]) or is_empty(head[place]))
    named += sorted(text - {*named})
    if not named:
        comma = any(DECIMAL_COMMA.fullmatch(str(column[0])) for column in head if len(column))
        remedy = "write 1,5 as 1.5" if comma else "is the first line the names, and the delimiter right?"
        raise UserError(f"{file.where}: no column holds numbers; {remedy}")
    for place in {*named} - text:
        _check_type(file, place, head[place], to_float32)
    if seq is not None:
        _check_type(file, seq, head[seq], to_uint64)
    if time is None:
        return Layout(named, seq, None, stream, CALENDAR, None, text)
    return Layout(named, seq, time, stream, _time_unit(file, time, head[time]), head[time].type, text)


def _place(file: File, name: str | None) -> int | None:
    return None if name is None else find_columns([name], file.names, file.where)[0]


def _time_unit(file: File, place: int, head: pa.Array) -> int:
    unit = find_time_unit(head)
    if unit is None:
        raise UserError(
            f'{file.where}: column "{file.names[place]}" holds no times but {quoted(head.drop_null()[0])}; '
            "write them as 2020-02-08 13:30:47, or as numbers since 1970"
        )
    return unit


def _check_type(file: File, place: int, head: pa.Array, convert: Callable[[pa.Array], Numbers]) -> None:
    try:
        convert(head[:0])
    except pa.ArrowNotImplementedError:
        raise UserError(
            f'{file.where}: column "{file.names[place]}" holds {head.type}, not numbers'
        ) from None
