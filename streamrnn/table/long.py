"""Tables of one value a row, as databases of readings export them, turned into rows of all channels.

Readings of one stream and one time are a row; a channel without a reading then has no value there, and one
that has several there has them in rows of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table.blocks import Again, Block
from streamrnn.table.columns import find_or_miss
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.parquet_file import ParquetFile
from streamrnn.table.reading import Reading
from streamrnn.table.readings import ReadingColumns, Readings, ReadingsOf

ROWS = 1 << 16  # of a block
TIME = "time"
AT_ONCE = 0.01  # the share of rows with values of several channels below which times do not coincide
NOTHING = Readings(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.float64, np.int64)))


class LongFile:
    """The wide table of a file of readings, held in memory: times, streams if there are any, channels."""

    unit = "row"

    def __init__(
        self,
        file: CsvFile | ParquetFile,
        columns: ReadingColumns,
        reading: Reading,
        again: Again | None,
        period: str,
        wanted: Sequence[str] | None = None,
    ) -> None:
        """Channels ``wanted`` that no value is there of are columns without any, which is noted.

        ``period``: what could be told of the time from row to row, where readings come at odd times."""
        self.where, self.units = file.where, dict[str, str]()
        self.reading = replace(reading, time=(TIME,), time_format=None, seq=None, stream=columns.stream)
        self._file, self._stopping = file, False
        readings = ReadingsOf(file, columns, reading, again)
        self.said, self.notes = readings.said, readings.notes
        parts = [NOTHING, *readings]
        self.skipped = readings.skipped
        every = Readings(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        known = {*np.unique(every.channel[~np.isnan(every.value)]).tolist()}
        readings.settle(known)
        self._widen(every, known, readings, columns, period)
        channels = [name for index, name in enumerate(readings.channels.names) if index in known]
        if wanted is not None and channels:
            spelled, silent = find_or_miss(wanted, channels, self.where)
            self.notes += silent
            for name in dict.fromkeys(spelled):
                if name not in channels:
                    self.names.append(name)
                    self._columns.append(pa.nulls(len(self._columns[0]), pa.float64()))

    def _widen(
        self,
        every: Readings,
        known: set[int],
        readings: ReadingsOf,
        columns: ReadingColumns,
        period: str,
    ) -> None:
        channels, streams, stream = readings.channels.names, readings.streams.names, columns.stream
        again = _occurrence(every)
        order = np.lexsort((again, every.ns, every.stream))
        of, ns, again = every.stream[order], every.ns[order], again[order]
        begins = np.ones(len(order), bool)
        begins[1:] = (of[1:] != of[:-1]) | (ns[1:] != ns[:-1]) | (again[1:] != again[:-1])
        row = np.cumsum(begins) - 1
        self._check_times(row, len(known), columns, period)
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

    def _check_times(self, row: np.ndarray, channels: int, columns: ReadingColumns, period: str) -> None:
        """Says, and of what was recorded raises UserError, that readings of one time make no rows."""
        together = (np.bincount(row) > 1).mean() if len(row) else 1.0
        if channels < 2 or together >= AT_ONCE:
            return
        what = "its channels have hardly ever values of one time, so that these make no rows"
        if columns.recorded:
            raise UserError(f"{self.where}: {what}; say how far apart rows are to be, as --period {period}")
        self.notes.append(f"{what}; --period {period} makes rows that far apart")

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
