"""Rows of sensor values from a CSV or parquet file, block by block."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table.blocks import Block
from streamrnn.table.cells import Numbers, is_text, quoted, to_codes, to_float32, to_ns, to_uint64
from streamrnn.table.columns import Columns
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.ids import StreamIds
from streamrnn.table.layout import File, Layout, find_layout
from streamrnn.table.parquet_file import ParquetFile, is_parquet
from streamrnn.wire.frame import TOPIC_BYTES


class Rows(NamedTuple):
    """n rows in the order of the file, C channels."""

    stream: np.ndarray  # (n,) int32: indices into RowReader.streams
    values: np.ndarray  # (n, C) float32, C-contiguous; NaN = missing
    seq: np.ndarray  # (n,) uint64
    ts_ns: np.ndarray  # (n,) int64: since the Unix epoch; 0 = none
    time: pa.Array | None  # (n,) the time column as it stands in the file
    line: int  # where the block begins in the file

    def part(self, which: slice) -> "Rows":
        """Consecutive rows, without a copy."""
        return self._replace(
            stream=self.stream[which],
            values=self.values[which],
            seq=self.seq[which],
            ts_ns=self.ts_ns[which],
            time=None if self.time is None else self.time[which],
        )

    def only(self, keep: np.ndarray) -> "Rows":
        """The rows that ``keep``, (n,) bool, names."""
        return self._replace(
            stream=self.stream[keep],
            values=self.values[keep],
            seq=self.seq[keep],
            ts_ns=self.ts_ns[keep],
            time=None if self.time is None else self.time.filter(pa.array(keep)),
        )


class Fault(NamedTuple):
    """Cells of one column that cannot be read."""

    column: int
    bad: np.ndarray  # (n,) bool
    what: str


class RowReader:
    """Iterates over ``Rows``, once. Made by ``open_rows``; may be iterated in another thread.

    ``streams`` grows while it is iterated; ``skipped`` counts the bad rows left out so far; ``whole`` tells
    that all of the file was read; ``unread`` are the columns left out; ``time_type`` is the type of
    ``Rows.time``, None without a time column; ``labels`` has for each column of text the texts so far.
    """

    def __init__(
        self,
        file: CsvFile | ParquetFile,
        layout: Layout,
        stream: str | None,
        on_error: str,
        limit: int | None,
    ) -> None:
        self.channels = [file.names[place] for place in layout.channels]
        self.unread = [name for place, name in enumerate(file.names) if place not in layout.places()]
        self.time_type = layout.time_type
        self.labels = {file.names[place]: StreamIds() for place in layout.labels}
        self.skipped = 0
        self.whole = False
        self._file = file
        self._layout = layout
        self._ids = StreamIds()
        self._fails = on_error == "fail"
        self._left = limit
        if layout.stream is None:
            self._ids.find(pa.array([stream]))

    @property
    def streams(self) -> list[str]:
        return self._ids.names

    def __iter__(self) -> Iterator[Rows]:
        if self._left == 0:
            return
        for block in self._file.blocks(self._layout.places()):
            rows = self._rows(block)
            if self._left is not None:
                rows = rows.part(slice(self._left))
                self._left -= len(rows.seq)
            if len(rows.seq):
                yield rows
            if self._left == 0:
                return
        self.whole = True

    def stop(self) -> None:
        """Lets the iteration end within a moment; for any thread."""
        self._file.stop()

    def close(self) -> None:
        """Gives the file back, once nothing iterates any more."""
        self._file.close()

    def __enter__(self) -> "RowReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, block: Block) -> Rows:
        layout, faults = self._layout, list[Fault]()
        cells = dict(zip(layout.places(), block.columns, strict=True))
        count = len(block.columns[0])
        values = np.empty((count, len(layout.channels)), np.float32)
        for channel, place in enumerate(layout.channels):
            if place in layout.labels:
                values[:, channel] = to_codes(cells[place], self.labels[self.channels[channel]].find)
            else:
                values[:, channel] = self._read(place, to_float32(cells[place]), "is not a number", faults)
        ts_ns = np.zeros(count, np.int64)
        if layout.time is not None:
            times = to_ns(cells[layout.time], layout.time_unit)
            ts_ns = self._read(layout.time, times, "is not a time", faults)
        stream = self._streams(cells, count, faults)
        places = np.arange(count + len(block.malformed))
        records = np.delete(places, [malformed.record for malformed in block.malformed])
        if layout.seq is not None:
            numbers = to_uint64(cells[layout.seq])
            seq = self._read(layout.seq, numbers, "is not a whole number, 0 or above", faults)
        elif layout.stream is None:  # a bad row leaves a gap, even one that cannot be read at all
            seq = self._ids.number(np.zeros(len(places), np.int32))[records]
        else:
            seq = self._ids.number(stream)
        time = None if layout.time is None else cells[layout.time]
        rows = Rows(stream, values, seq, ts_ns, time, block.line)
        return self._without_bad(rows, block, records, faults) if faults or block.malformed else rows

    def _read(self, place: int, numbers: Numbers, what: str, faults: list[Fault]) -> np.ndarray:
        values, bad = numbers
        if bad is not None:
            faults.append(Fault(place, bad, what))
        return values

    def _streams(self, cells: dict[int, pa.Array], count: int, faults: list[Fault]) -> np.ndarray:
        place = self._layout.stream
        if place is None:
            return np.zeros(count, np.int32)
        stream = self._ids.find(cells[place] if is_text(cells[place]) else cells[place].cast(pa.string()))
        if (bad := stream < 0).any():
            faults.append(Fault(place, bad, f"is not a stream id (1 to {TOPIC_BYTES} bytes of UTF-8)"))
        return stream

    def _without_bad(self, rows: Rows, block: Block, records: np.ndarray, faults: list[Fault]) -> Rows:
        """The rows but the bad ones, which are counted; or the first of them as a UserError."""
        if self._fails:
            self._raise_first(block, records, faults)
            return rows  # the limit comes before the first bad one
        bad = np.any([np.zeros(len(records), bool), *(fault.bad for fault in faults)], axis=0)
        self.skipped += int(bad.sum()) + len(block.malformed)
        return rows.only(~bad)

    def _raise_first(self, block: Block, records: np.ndarray, faults: list[Fault]) -> None:
        """Raises UserError for the first bad record, unless the limit comes before it."""
        places = self._layout.places()
        found = [(malformed.record, malformed.what) for malformed in block.malformed]
        for fault in faults:
            row = int(fault.bad.argmax())
            cell = block.columns[places.index(fault.column)][row]
            what = f'column "{self._file.names[fault.column]}": {quoted(cell)} {fault.what}'
            found.append((int(records[row]), what))
        record, what = min(found)
        if self._left is None or record < self._left:
            where = f"{self._file.where}: {self._file.unit} {block.locate(record)}"
            raise UserError(f"{where}, {what}" if what.startswith("column") else f"{where} {what}")


def open_rows(
    source: str,
    channels: Sequence[str] | None,
    columns: Columns,
    delimiter: str | None = None,
    on_error: str = "fail",
    limit: int | None = None,
    labels: Sequence[str] = (),
) -> RowReader:
    """The rows of a CSV or parquet file; ``-`` is CSV on standard input. Gzip is told by its content.

    ``channels`` are the columns to read, in this order; None reads every numeric column that is not
    seq, time or stream. Rows are numbered from 0 per stream without a seq column; the file's stem is
    the one stream without a stream column. A time column is found by its name or its content: ISO 8601
    text ("2020-02-08 13:30:47.5", with a zone or in UTC), timestamps, or numbers since 1970 whose size
    tells s, ms, us or ns. ``delimiter`` None takes the one of ``, ; tab |`` that the header has most of.

    A cell that is empty or says NaN is missing, not bad. At a row with another bad cell, or of another
    number of fields, ``on_error`` "fail" raises UserError with its line; "skip" leaves it out and counts
    it, but its number is used up (unless its stream is not known), so that the gap can be seen.
    ``limit`` ends after so many rows. ``labels`` are columns that may hold text, which is then read as
    numbers, those of the texts in ``RowReader.labels``.

    Raises UserError for a file that cannot be read, or lacks a column.
    """
    path = Path(source)
    parquet = source != "-" and is_parquet(path)
    file: File = ParquetFile(path) if parquet else CsvFile(source, delimiter)
    try:
        layout = find_layout(file, channels, columns, labels)
        stream = None if columns.stream else _stem(source)
        return RowReader(file, layout, stream, on_error, limit)
    except BaseException:
        file.close()
        raise


def _stem(source: str) -> str:
    """The name of a file without its suffixes, as a stream id."""
    if source == "-":
        return "stdin"
    path = Path(source)
    stem = path.with_suffix("").stem if path.suffix == ".gz" else path.stem
    return stem.encode(errors="replace")[:TOPIC_BYTES].decode(errors="ignore")
