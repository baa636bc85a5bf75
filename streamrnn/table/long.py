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
from streamrnn.table.blocks import Again, Block
from streamrnn.table.cell_values import Marks, blanked, is_text, make_marks, quoted, to_float64
from streamrnn.table.columns import find_columns, listed, shortened
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.ids import StreamIds
from streamrnn.table.parquet_file import ParquetFile
from streamrnn.table.reading import Reading
from streamrnn.table.time_column import choose_time, look_at
from streamrnn.table.time_parts import join_times
from streamrnn.table.times import to_ns
from streamrnn.table.turns import find_turns, turns_text

ROWS = 1 << 16  # of a block
TIME = "time"
# columns of exports that are known: of the channel, of its value; words there that mean missing
KNOWN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("_field", "_value", ()),
    ("entity_id", "state", ("unavailable", "unknown")),
    ("Series", "Value", ()),
)


class Readings(NamedTuple):
    """n values in the order of the file."""

    stream: np.ndarray  # (n,) int32
    channel: np.ndarray  # (n,) int32
    value: np.ndarray  # (n,) float64
    ns: np.ndarray  # (n,) int64


NOTHING = Readings(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.float64, np.int64)))


class Columns(NamedTuple):
    """Which columns of a file have what."""

    channel: str
    value: str
    stream: str | None


def as_wide(file: CsvFile | ParquetFile, reading: Reading, again: Again | None) -> "LongFile | None":
    """The table behind ``file`` as one row a time, if it has a value a row; None if it has not.

    ``again`` reads the file from the beginning, where that can be done.
    """
    if reading.channel is None and reading.value is None:
        for channel, value, words in KNOWN:
            if {channel, value} <= {*file.names}:
                marks = _marks(reading, words)
                return LongFile(file, Columns(channel, value, reading.stream), reading, marks, again)
        return None
    if reading.channel is None or reading.value is None:
        raise UserError(
            f"{file.where}: --channel-column and --value-column go together: one names the channel of each "
            "row, the other its value"
        )
    marks = _marks(reading, ())
    return LongFile(file, Columns(reading.channel, reading.value, reading.stream), reading, marks, again)


def _marks(reading: Reading, words: tuple[str, ...]) -> Marks:
    """What cells may say beside numbers; only words that were told stand for some."""
    told = {word.casefold(): value for word, value in reading.words.items()}
    return make_marks((*reading.missing, *words))._replace(states=told)


class LongFile:
    """The wide table of a file of readings, held in memory: times, streams if there are any, channels."""

    unit = "row"

    def __init__(
        self,
        file: CsvFile | ParquetFile,
        columns: "Columns",
        reading: Reading,
        marks: Marks,
        again: Again | None,
    ) -> None:
        self.where, self.units = file.where, dict[str, str]()
        self.reading = replace(reading, time=(TIME,), time_format=None, seq=None, stream=columns.stream)
        self.said = (
            f'{file.said}; a value a row: channels of "{columns.channel}", values of "{columns.value}"'
        )
        self._file = file
        self._stopping = False
        self._skips, self.skipped = reading.on_error == "skip", 0
        self._bad: dict[int, str] = {}  # the first value of a channel that is no number
        wanted = [columns.channel, columns.value, *([] if columns.stream is None else [columns.stream])]
        places, head = find_columns(wanted, file.names, file.where), file.head()
        free = {*range(len(head))} - {*places}
        time = choose_time(look_at(file.names, file.units, head, free), free, reading, file.where, again)
        if not any(len(cells) for cells in head):
            raise UserError(f"{file.where}: no row follows the names of the columns")
        if time is None:
            raise UserError(f"{file.where}: no column of times was found; name it with --time-column")
        if time.undated:
            raise UserError(
                f"{file.where}: the times of its readings have no date; name the columns of both with "
                "--time-column DATE,TIME"
            )
        comma = reading.decimal == "comma" or (isinstance(file, CsvFile) and places[1] in file.dialect.commas)
        self.notes = _turns(file.names, head, places[0], {*places, *time.places}) if len(places) < 3 else []
        channels, streams, parts = StreamIds(), StreamIds(), [NOTHING]
        for block in file.blocks(list(dict.fromkeys([*places, *time.places]))):
            cells = dict(zip(dict.fromkeys([*places, *time.places]), block.columns, strict=True))
            texts = join_times([cells[place] for place in time.places], time)
            named = channels.find(_texts(cells[places[0]]))
            of = streams.find(_texts(cells[places[2]])) if len(places) > 2 else np.zeros(len(named), np.int32)
            ns, no_time = to_ns(texts, time.form)
            values, no_number = to_float64(cells[places[1]], marks, comma, state=bool(reading.words))
            keep = blanked(texts).is_valid().to_numpy(zero_copy_only=False) & (named >= 0) & (of >= 0)
            self._check(block, no_time, texts)
            self._texts(block, named, no_number, cells[places[1]])
            for bad in (no_time, no_number):
                keep &= True if bad is None else ~bad
            parts.append(Readings(of[keep], named[keep], values[keep], ns[keep]))
        every = Readings(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        self._widen(every, channels.names, streams.names, columns.stream)

    def _check(self, block: Block, no_time: np.ndarray | None, cells: pa.Array) -> None:
        """Counts the rows of a block that cannot be read, or raises UserError for the first."""
        found = [(malformed.record, malformed.what) for malformed in block.malformed]
        if no_time is not None:
            row = int(no_time.argmax())
            found.append((row, f"{quoted(cells[row])} is not a time"))
        if self._skips:
            self.skipped += len(block.malformed) + (0 if no_time is None else int(no_time.sum()))
        elif found:
            record, what = min(found)
            raise UserError(
                f"{self.where}: {self._file.unit} {block.locate(record)}: {what}; leave such rows out with "
                "--on-error skip"
            )

    def _texts(self, block: Block, channel: np.ndarray, bad: np.ndarray | None, cells: pa.Array) -> None:
        """Notes, of each channel, the first value that is no number."""
        for row in [] if bad is None else np.flatnonzero(bad).tolist():
            if int(channel[row]) not in self._bad:
                where = f"{self.where}: {self._file.unit} {block.locate(row)}"
                self._bad[int(channel[row])] = f"{where}: {quoted(cells[row])} is not a number"

    def _leave_out(self, channels: list[str], known: set[int]) -> None:
        """Says which channels have no number at all."""
        gone = [f'"{shortened(channels[index])}"' for index in sorted({*self._bad} - known)]
        if gone:
            self.notes.append(
                f"left out, as their values are words: {listed(gone)}; --words says what these stand for"
            )

    def _widen(self, every: Readings, channels: list[str], streams: list[str], stream: str | None) -> None:
        known = {*np.unique(every.channel[~np.isnan(every.value)]).tolist()}
        if not self._skips and (mixed := sorted(known & {*self._bad})):
            raise UserError(
                f"{self._bad[mixed[0]]}; if it means a missing value give --missing and that word, or leave "
                "such rows out with --on-error skip"
            )
        again = _occurrence(every)
        self._leave_out(channels, known)
        order = np.lexsort((again, every.ns, every.stream))
        of, ns, again = every.stream[order], every.ns[order], again[order]
        begins = np.ones(len(order), bool)
        begins[1:] = (of[1:] != of[:-1]) | (ns[1:] != ns[:-1]) | (again[1:] != again[:-1])
        row = np.cumsum(begins) - 1
        table = np.full((int(begins.sum()), len(channels)), np.nan)
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
