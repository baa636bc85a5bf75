"""Reads the rows of a file whose columns are known, block by block."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.errors import UserError
from streamrnn.table.bad_cells import NO_TIME, UNITS_MAY_BE, BadCells, remedy
from streamrnn.table.blocks import Block
from streamrnn.table.cell_values import (
    Marks,
    Numbers,
    blanked,
    is_text,
    quoted,
    to_codes,
    to_float32,
    to_float64,
    to_uint64,
)
from streamrnn.table.columns import listed, of_name, shortened
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.extremes import recurring_extremes, unlike_first
from streamrnn.table.ids import StreamIds
from streamrnn.table.layout import File, TableLayout
from streamrnn.table.raster import RasterFile
from streamrnn.table.reading import Reading
from streamrnn.table.recording_file import RecordingFile
from streamrnn.table.records import LoggerRecords
from streamrnn.table.rows import Rows
from streamrnn.table.time_parts import join_times
from streamrnn.table.times import to_ns
from streamrnn.table.words import MISSING
from streamrnn.wire.frame import TOPIC_BYTES

if TYPE_CHECKING:
    from streamrnn.table.numbering import TimeNumbers

_HALF_DAY, _DAY = 43200 * 10**9, 86400 * 10**9  # ns


class RowReader:
    """Iterates over ``Rows``, once. Made by ``open_rows``; may be iterated in another thread.

    ``streams`` grows while it is iterated, ``by_stream`` tells whether a column names them; ``skipped``
    counts the bad rows left out so far; ``whole`` tells that all of the file was read; ``left_out`` are the
    columns left out and why; ``units`` those of the channels that have one, ``offsets``, (channels,) float64,
    what was taken off their values, which are float64 themselves where they are to be ``exact``; ``said`` is
    what the file was taken for, in a line; ``notes`` is what a user should look at; ``time_type`` is the type
    of ``Rows.time``, None without a time column; ``labels`` has for each column of text the texts so far;
    ``words`` are texts that were found to stand for numbers; ``numbers`` are those by time, None where rows
    are counted.
    """

    def __init__(
        self,
        file: File,
        layout: TableLayout,
        stream: str | None,
        reading: Reading,
        marks: Marks,
        numbers: "TimeNumbers | None",
        everything: bool = False,
        exact: bool = False,
    ) -> None:
        self.where = file.where
        self.names = list(file.names)
        self.channels = [file.names[place] for place in layout.channels]
        units = {name: of_name(reading.units, name, file.units.get(name, "")) for name in self.channels}
        self.units = {name: unit for name, unit in units.items() if unit}
        self.left_out = getattr(file, "left_out", {}) | layout.left_out
        self.said = _said(file, layout)
        self.notes = [*layout.notes, *getattr(file, "notes", [])]
        self.time_type = layout.time_type
        self.counts = layout.seq is None  # whether seq only counts the rows
        self.by_stream = layout.stream is not None
        self.labels = {file.names[place]: StreamIds() for place in layout.labels}
        self.words = layout.words
        self.offsets = np.array([layout.offsets.get(place, 0.0) for place in layout.channels])
        self._everything = everything  # whether no channels were named
        self._skipped, self._begun, self._exact = 0, 0, exact
        self.whole = False
        self.numbers = numbers
        self._file = file
        self._layout = layout
        self._marks = marks._replace(states=marks.states | layout.words)
        self._ids = StreamIds()
        self._fails = reading.on_error == "fail"
        self._left = reading.limit
        self._midnight: dict[int, tuple[int, int]] = {}  # of a stream: days gone by, the last time of day
        self._records = LoggerRecords()
        if layout.stream is None:
            self._ids.find(pa.array([stream]))
        if isinstance(file, CsvFile) and not file.dialect.named and reading.names is None:
            self.notes += self._first_row(file)

    @property
    def streams(self) -> list[str]:
        return self._ids.names

    @property
    def skipped(self) -> int:
        return self._skipped + int(getattr(self._file, "skipped", 0))

    def __iter__(self) -> Iterator[Rows]:
        if self._left == 0:
            return
        for block in self._file.blocks(self._layout.places()):
            rows = self._rows(block)
            if self._left is not None:
                rows = rows.part(slice(self._left))
                self._left -= len(rows.seq)
            if len(rows.seq):
                yield self._numbered(rows)
            if self._left == 0:
                return
        self.whole = True

    def opening(self) -> str:
        """What to say before the rows: what the file was taken for, and what a user should look at."""
        warnings = [*self.notes, *self.extremes()]
        if self._everything and self.left_out:
            columns = [f'"{shortened(name)}" ({why})' for name, why in self.left_out.items()]
            warnings.append(f"left out: {listed(columns)}")
        if self.time_type is None:
            warnings.append(
                "no column of times was found, so rows are counted and missing ones cannot be seen; see "
                "--time-column and --time-format"
            )
        return "".join([f"{self.said}\n", *(f"warning: {warning}\n" for warning in warnings)])

    def closing(self) -> str:
        """What to say after the rows: of their times, where these number them."""
        said = [*(self.numbers.said() if self.numbers else ()), *self._records.said()]
        told = self._file.closing() if isinstance(self._file, RasterFile | RecordingFile) else ()
        return "".join([*(f"warning: {words}\n" for words in said), *(f"{words}\n" for words in told)])

    def extremes(self, of_offsets: bool = False) -> list[str]:
        """What to say of values that may be codes, of all channels or of those that have an offset."""
        head = dict(zip(*self._head(), strict=True))
        names = [self._file.names[place] for place in self._layout.offsets] if of_offsets else [*head]
        return recurring_extremes(names, [head[name] for name in names])

    def _first_row(self, file: CsvFile) -> list[str]:
        """What to say of a first row that may say something else than those below it."""
        if not (unlike := unlike_first(*self._head())):
            return []
        line = file.dialect.first
        return [
            f"line {line} is unlike all below it in {listed(unlike)}; if it is no row, begin below it with "
            f"--data-line {line + 1}"
        ]

    def _head(self) -> tuple[list[str], list[np.ndarray]]:
        """Names and first values, (n,) float32 each, of the channels that are numbers."""
        head, layout = self._file.head(), self._layout
        places = [place for place in layout.channels if place not in layout.labels]
        columns = [
            to_float32(
                head[place],
                self._marks,
                place in layout.commas,
                place in layout.groups,
                place in layout.states,
            )[0]
            for place in places
        ]
        return [self._file.names[place] for place in places], columns

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

    def _numbered(self, rows: Rows) -> Rows:
        if self.numbers is None:
            return rows
        try:
            return rows._replace(seq=self.numbers.number(rows.stream, rows.ts_ns))
        except UserError as error:
            raise UserError(f"{self._file.where}: {error}") from None

    def _rows(self, block: Block) -> Rows:
        layout, faults = self._layout, list[BadCells]()
        cells = dict(zip(layout.places(), block.columns, strict=True))
        count = len(block.columns[0])
        values = np.empty((count, len(layout.channels)), np.float64 if self._exact else np.float32)
        for channel, place in enumerate(layout.channels):
            if place in layout.labels:
                find = self.labels[self.channels[channel]].find
                values[:, channel] = to_codes(cells[place], find, self._marks)
            else:
                form = (place in layout.commas, place in layout.groups, place in layout.states)
                less = layout.offsets.get(place, 0.0)
                one = (cells[place], self._marks, *form)
                numbers = to_float64(*one) if self._exact else to_float32(*one, less)
                values[:, channel] = self._read(place, numbers, "is not a number", faults)
        ts_ns, time = np.zeros(count, np.int64), None
        if layout.time is not None:
            time = join_times([cells[place] for place in layout.time.places], layout.time)
            times = to_ns(time, layout.time.form)
            ts_ns = self._read(layout.time.places[0], times, NO_TIME, faults)
            if len(self._marks.missing) > len(MISSING):  # what means no value means no time
                ts_ns = self._without_codes(time, ts_ns, faults)
        stream = self._streams(cells, count, faults)
        if layout.time is not None and layout.time.undated:
            there = blanked(time).is_valid().to_numpy(zero_copy_only=False)
            ts_ns = np.where(there, ts_ns + _DAY, 0)  # midnight is a time, too
            for of in np.unique(stream):
                its = np.flatnonzero(stream == of)
                ts_ns[its] = self._over_midnight(int(of), ts_ns[its])
        places = np.arange(count + len(block.malformed))
        records = np.delete(places, [malformed.record for malformed in block.malformed])
        if layout.seq is not None:
            numbers = to_uint64(cells[layout.seq])
            seq = self._read(layout.seq, numbers, "is not a whole number, 0 or above", faults)
            if layout.restarts:
                seq = self._records.number(seq, ts_ns)
        elif self.numbers is not None:
            seq = np.zeros(count, np.uint64)  # until the rows that stay are known
        elif layout.stream is None:  # a bad row leaves a gap, even one that cannot be read at all
            seq = self._ids.number(np.zeros(len(places), np.int32))[records]
        else:
            seq = self._ids.number(stream)
        if block.begins is not None and layout.seq is None:  # what begins anew leaves a number out
            begun = self._begun + np.cumsum(block.begins).astype(np.uint64)
            seq, self._begun = seq + begun, int(begun[-1])
        rows = Rows(stream, values, seq, ts_ns, time, block.line, block.begins)
        return self._without_bad(rows, block, records, faults) if faults or block.malformed else rows

    def _read(self, place: int, numbers: Numbers, what: str, faults: list[BadCells]) -> np.ndarray:
        values, bad = numbers
        if bad is not None:
            faults.append(BadCells(place, bad, what))
        return values

    def _without_codes(self, time: pa.Array, ts_ns: np.ndarray, faults: list[BadCells]) -> np.ndarray:
        """Takes the codes for a missing value out of the bad times of a block."""
        if not is_text(time):
            return ts_ns
        codes = pc.is_in(pc.ascii_trim_whitespace(time), value_set=self._marks.missing)
        gone = codes.fill_null(False).to_numpy(zero_copy_only=False)
        for fault in [fault for fault in faults if fault.what == NO_TIME]:
            faults.remove(fault)
            if (fault.bad & ~gone).any():
                faults.append(fault._replace(bad=fault.bad & ~gone))
        return np.where(gone, 0, ts_ns)

    def _over_midnight(self, stream: int, ts_ns: np.ndarray) -> np.ndarray:
        """Times of day of a stream, a day later from each midnight on: where they fall by half a day."""
        days, last = self._midnight.get(stream, (0, 0))
        known = np.flatnonzero(ts_ns)
        falls = np.diff(ts_ns[known], prepend=last or ts_ns[known[:1]]) < -_HALF_DAY
        later = days + np.cumsum(falls)
        if len(known):
            self._midnight[stream] = int(later[-1]), int(ts_ns[known[-1]])
            ts_ns[known] += later * _DAY
        return ts_ns

    def _streams(self, cells: dict[int, pa.Array], count: int, faults: list[BadCells]) -> np.ndarray:
        place = self._layout.stream
        if place is None:
            return np.zeros(count, np.int32)
        texts = cells[place] if is_text(cells[place]) else cells[place].cast(pa.string())
        stream = self._ids.find(pc.ascii_trim_whitespace(texts))
        if (bad := stream < 0).any():
            faults.append(BadCells(place, bad, f"is not a stream id (1 to {TOPIC_BYTES} bytes of UTF-8)"))
        return stream

    def _without_bad(self, rows: Rows, block: Block, records: np.ndarray, faults: list[BadCells]) -> Rows:
        """The rows but the bad ones, which are counted; or the first of them as a UserError."""
        if self._fails:
            self._raise_first(block, records, faults)
            return rows  # the limit comes before the first bad one
        bad = np.any([np.zeros(len(records), bool), *(fault.bad for fault in faults)], axis=0)
        self._skipped += int(bad.sum()) + len(block.malformed)
        return rows.only(~bad)

    def _raise_first(self, block: Block, records: np.ndarray, faults: list[BadCells]) -> None:
        """Raises UserError for the first bad record, unless the limit comes before it."""
        places = self._layout.places()
        found = [
            (malformed.record, f"{malformed.what}; leave such rows out with --on-error skip")
            for malformed in block.malformed
        ]
        for fault in faults:
            row = int(fault.bad.argmax())
            cell = block.columns[places.index(fault.column)][row]
            what = f'column "{shortened(self._file.names[fault.column])}": {quoted(cell)} {fault.what}; '
            state = fault.column in self._layout.states
            do = remedy(fault.what, str(cell.as_py()).strip(), state)
            if fault.what == "is not a number" and block.locate(int(records[row])) <= UNITS_MAY_BE:
                do += "; if the rows begin further down give --data-line"
            found.append((int(records[row]), f"{what}{do}"))
        record, what = min(found)
        if self._left is None or record < self._left:
            where = f"{self._file.where}: {self._file.unit} {block.locate(record)}"
            raise UserError(f"{where}, {what}" if what.startswith("column") else f"{where} {what}")


def _said(file: File, layout: TableLayout) -> str:
    """What a file was taken for, in a line."""
    said = [file.said]
    if layout.time is None:
        said.append("no times")
    else:
        listed = " and ".join(f'"{file.names[place]}"' for place in layout.time.places)
        said.append(f"times of {listed} ({layout.time.said})")
    said += [f'"{file.names[place]}" less {offset:.15g}' for place, offset in layout.offsets.items()]
    if layout.seq is not None:
        said.append(f'numbers of "{file.names[layout.seq]}"')
    return f"{file.where}: {', '.join(said)}"
