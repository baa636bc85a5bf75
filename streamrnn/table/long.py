"""Tables of one value a row, as databases of readings export them, turned into rows of all channels.

Readings of one stream and one time are a row; a channel without a reading then has no value there, and one
that has several there has them in rows of their own.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.errors import UserError
from streamrnn.table.blocks import Block
from streamrnn.table.cells import Marks, blanked, is_text, make_marks, quoted, to_float32
from streamrnn.table.columns import find_columns
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.ids import StreamIds
from streamrnn.table.parquet_file import ParquetFile
from streamrnn.table.reading import Reading
from streamrnn.table.time_column import find_time, join_times, settle_order, told_time
from streamrnn.table.times import to_ns, told_form
from streamrnn.table.turns import find_turns, turns_text

ROWS = 1 << 16  # of a block
TIME = "time"
# columns of exports that are known: of the channel, of its value, of a stream; words there that mean missing
KNOWN = (
    ("_field", "_value", None, ()),
    ("entity_id", "state", None, ("unavailable", "unknown")),
    ("Series", "Value", None, ()),
)


class Readings(NamedTuple):
    """n values in the order of the file."""

    stream: np.ndarray  # (n,) int32
    channel: np.ndarray  # (n,) int32
    value: np.ndarray  # (n,) float32
    ns: np.ndarray  # (n,) int64


def as_wide(file: CsvFile | ParquetFile, reading: Reading) -> "LongFile | None":
    """The table behind ``file`` as one row a time, if it has a value a row; None if it has not."""
    for channel, value, stream, words in KNOWN:
        if reading.channel is None and {channel, value} <= {*file.names}:
            marks = make_marks((*reading.missing, *words), reading.words)
            return LongFile(file, channel, value, reading.stream or stream, reading, marks)
    if reading.channel is None and reading.value is None:
        return None
    if reading.channel is None or reading.value is None:
        raise UserError(
            f"{file.where}: --channel-column and --value-column go together: one names the channel of each "
            "row, "
            "the other its value"
        )
    marks = make_marks(reading.missing, reading.words)
    return LongFile(file, reading.channel, reading.value, reading.stream, reading, marks)


class LongFile:
    """The wide table of a file of readings, held in memory: times, streams if there are any, channels."""

    unit = "row"

    def __init__(
        self,
        file: CsvFile | ParquetFile,
        channel: str,
        value: str,
        stream: str | None,
        reading: Reading,
        marks: Marks,
    ) -> None:
        self.where = file.where
        self.reading = replace(
            reading, time=(TIME,), time_format=None, seq=None, stream=stream
        )  # of this table
        self._file = file
        self._stopping = False
        wanted = [channel, value, *([stream] if stream is not None else [])]
        places = find_columns(wanted, file.names, file.where)
        head = file.head()
        if reading.time is not None:
            told = find_columns(reading.time, file.names, file.where)
            time = told_time(told, file.names, file.units, head, file.where)
        else:
            found = find_time(file.names, file.units, head, {*places})
            if found is None:
                raise UserError(f"{file.where}: no column of times was found; name it with --time-column")
            time = found
        if reading.time_format is not None:
            time = time._replace(form=told_form(reading.time_format))
        time = settle_order(time, file.names, file.where, None)
        self.notes = _turns(file.names, head, places[0], {*places, *time.places}) if stream is None else []
        comma = reading.decimal == "comma" or (isinstance(file, CsvFile) and places[1] in file.dialect.commas)
        self._skips, self.skipped = reading.on_error == "skip", 0
        self.said = f'{file.said}; a value a row: channels of "{channel}", values of "{value}"'
        columns = list(dict.fromkeys([*places, *time.places]))
        channels, streams = StreamIds(), StreamIds()

        def read(block: Block) -> Readings:
            cells = dict(zip(columns, block.columns, strict=True))
            ns, bad_times = to_ns(join_times([cells[place] for place in time.places], time.digits), time.form)
            of = streams.find(_texts(cells[places[2]])) if stream is not None else np.zeros(len(ns), np.int32)
            named = channels.find(_texts(cells[places[0]]))
            values, bad_values = to_float32(cells[places[1]], marks, comma)
            timed = blanked(cells[time.places[0]]).is_valid().to_numpy(zero_copy_only=False)
            keep = timed & (named >= 0) & (of >= 0)
            if bad_times is not None:
                self._check(block, bad_times, cells[time.places[0]], "is not a time")
                keep &= ~bad_times
            if bad_values is not None:
                self._texts(block, named, bad_values, cells[places[1]])
                keep &= ~bad_values
            return Readings(of[keep], named[keep], values[keep], ns[keep])

        self._bad: dict[int, str] = {}  # the first value of a channel that is no number
        parts = [read(block) for block in file.blocks(columns)]
        every = Readings(
            *(np.concatenate([np.zeros(0, np.int64), *arrays]) for arrays in zip(*parts, strict=True))
        )
        self._widen(every, channels.names, streams.names, stream)

    def _check(self, block: Block, bad: np.ndarray, cells: pa.Array, what: str) -> None:
        if self._skips:
            self.skipped += int(bad.sum())
            return
        row = int(bad.argmax())
        raise UserError(
            f"{self.where}: {self._file.unit} {block.locate(row)}: {quoted(cells[row])} {what}; leave such "
            "rows out "
            "with --on-error skip"
        )

    def _texts(self, block: Block, channel: np.ndarray, bad: np.ndarray, cells: pa.Array) -> None:
        """Notes, of each channel, the first value that is no number."""
        for row in np.flatnonzero(bad).tolist():
            if int(channel[row]) not in self._bad:
                where = f"{self.where}: {self._file.unit} {block.locate(row)}"
                self._bad[int(channel[row])] = f"{where}: {quoted(cells[row])} is not a number"

    def _widen(self, every: Readings, channels: list[str], streams: list[str], stream: str | None) -> None:
        known = {*np.unique(every.channel[~np.isnan(every.value)]).tolist()}
        if not self._skips and (mixed := sorted(known & {*self._bad})):
            raise UserError(
                f"{self._bad[mixed[0]]}; if it means a missing value give --missing and that word, or "
                "leave such "
                "rows out with --on-error skip"
            )
        again = _occurrence(every)
        order = np.lexsort((again, every.ns, every.stream))
        of, ns, again = every.stream[order], every.ns[order], again[order]
        begins = np.ones(len(order), bool)
        begins[1:] = (of[1:] != of[:-1]) | (ns[1:] != ns[:-1]) | (again[1:] != again[:-1])
        row = np.cumsum(begins) - 1
        table = np.full((int(begins.sum()), len(channels)), np.nan, np.float32)
        table[row, every.channel[order].astype(np.int64)] = every.value[order]
        of, ns, again = of[begins].astype(np.int64), ns[begins], again[begins]
        by_time = np.lexsort((of, again, ns))
        times = pa.array(ns[by_time], pa.timestamp("ns", "UTC"))
        for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
            if not (ns % size).any():
                times = times.cast(pa.timestamp(unit, "UTC"))
                break
        self.names, self._columns = [TIME], [times]
        if stream is not None:
            self.names.append(stream)
            self._columns.append(pa.array(streams, pa.string()).take(pa.array(of[by_time])))
        for index, name in enumerate(channels):
            if index in known:
                self.names.append(name)
                self._columns.append(pa.array(table[by_time, index], from_pandas=True))
        self.units: dict[str, str] = {}

    def head(self) -> list[pa.Array]:
        """Every column, whole."""
        return self._columns

    def blocks(self, columns: list[int]) -> Iterator[Block]:
        """The rows in order."""
        for begin in range(0, len(self._columns[0]), ROWS):
            if self._stopping:
                return
            first = begin + 1
            yield Block(
                [self._columns[place][begin : begin + ROWS] for place in columns], [], first, first.__add__
            )

    def stop(self) -> None:
        """Lets ``blocks`` end within a moment; for any thread."""
        self._stopping = True

    def close(self) -> None:
        self._file.close()


def _occurrence(every: Readings) -> np.ndarray:
    """Which reading of its stream, channel and time each is, in the order of the file, from 0: (n,) int64."""
    order = np.lexsort((every.channel, every.ns, every.stream))
    same = np.zeros(len(order), bool)
    for key in (every.channel, every.ns, every.stream):
        sorted_key = key[order]
        same[1:] = (same[1:] if key is not every.channel else True) & (sorted_key[1:] == sorted_key[:-1])
    places = np.arange(len(order))
    first = np.maximum.accumulate(np.where(same, 0, places))
    found = np.empty(len(order), np.int64)
    found[order] = places - first
    return found


def _turns(names: list[str], head: list[pa.Array], channel: int, taken: set[int]) -> list[str]:
    """What to say where another column names machines: it takes turns in the readings of one channel, too."""
    texts = _texts(head[channel])
    if not len(texts):
        return []
    one = [column.filter(pc.equal(texts, texts[0]).fill_null(False)) for column in head]
    found = find_turns(names, one, [place for place in range(len(names)) if place not in taken], (), None)
    return [] if found is None else [turns_text(names[found[0]], head[found[0]], 0)]


def _texts(column: pa.Array) -> pa.Array:
    return blanked(column if is_text(column) else column.cast(pa.string()))
