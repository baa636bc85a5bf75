"""What a user says of a file: one field for every guess that can be overruled."""

from collections.abc import Mapping
from dataclasses import dataclass, field

NO_TIME = "none"  # as the time column: there is none


@dataclass(frozen=True)
class Raster:
    """Even times that rows are made for, of values at any, as `[assemble]` of a configuration says."""

    period: str  # from row to row, as it is written
    period_ns: int
    hold_ns: int
    lateness_ns: int
    take: str = "last"
    hold_told: bool = True  # else channels that have a rate of their own are held for a period of it


@dataclass(frozen=True)
class Reading:
    """How the rows of a file are read; None is found out."""

    seq: str | None = None  # column of sequence numbers
    time: tuple[str, ...] | None = None  # column of times, or of their parts; (NO_TIME,) = none
    time_format: str | None = None  # as strptime, or one of times.FORMATS
    stream: str | None = None  # column of stream ids; None = the file is one stream
    channel: str | None = None  # of a table with one value a row: the column that names its channel
    value: str | None = None  # and the column that holds it
    encoding: str | None = None
    delimiter: str | None = None  # one character; a space stands for runs of them
    header_line: int | None = None  # the line that names the columns, from 1; 0 = none does
    data_line: int | None = None  # the line of the first row
    names: tuple[str, ...] | None = None  # of the columns
    decimal: str | None = None  # "point" or "comma"
    missing: tuple[str, ...] = ()  # numbers and words that stand for a missing value
    words: Mapping[str, float] = field(default_factory=dict)  # texts that stand for a number
    units: Mapping[str, str] = field(default_factory=dict)  # of columns, whatever a file says
    offsets: Mapping[str, float] | None = None  # taken off columns, by name, see ``table.offsets``
    on_error: str = "fail"  # or "skip": a row that cannot be used
    limit: int | None = None  # rows
    count_rows: bool = False  # number rows as they come, whatever their times say
    raster: Raster | None = None  # make rows at even times; None = they are as they stand in the file
