"""Where the values of a raster come from: tables of one value a row, and tables of rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from streamrnn.errors import UserError
from streamrnn.table.blocks import Again
from streamrnn.table.chosen_groups import GROUP
from streamrnn.table.columns import find_any, find_columns, find_or_miss, folded
from streamrnn.table.csv_file import CsvFile
from streamrnn.table.parquet_file import ParquetFile
from streamrnn.table.raster import SomeValues
from streamrnn.table.reader import RowReader
from streamrnn.table.reading import Reading
from streamrnn.table.readings import ReadingColumns, Readings, ReadingsOf, is_number
from streamrnn.table.recording_file import RecordingFile


class ValuesOfReadings:
    """Those of a table of one value a row."""

    def __init__(
        self,
        file: CsvFile | ParquetFile,
        columns: ReadingColumns,
        reading: Reading,
        wanted: Sequence[str] | None,
        exclude: Sequence[str],
        labels: Sequence[str],
        again: Again | None,
        reopen: Callable[[], CsvFile | ParquetFile] | None,
    ) -> None:
        """The channels are those ``wanted``, or all; none to ``exclude``, unless it is one of ``labels``.

        ``reopen`` opens the file anew, to find its channels; None where it cannot be read twice.

        Raises UserError for such a file if no channels are ``wanted``.
        """
        self._file, self.stream = file, columns.stream
        self._readings = ReadingsOf(file, columns, reading, again, codes=False)
        self.where, self.said, self.notes = file.where, self._readings.said, self._readings.notes
        self.units: dict[str, str] = {}
        self.streams = self._readings.streams.names if columns.stream is not None else [""]
        self._place = np.zeros(0, np.int32)  # of each channel of the file: among those here, or -1
        self._piped, self._spelled = reopen is None, dict[str, str]()  # channels, as a pipe has them
        if reopen is None:
            if wanted is None:
                raise UserError(
                    f"{file.where}: its channels cannot be found without reading it twice; name them with "
                    "--channels or -m, or give the file's name"
                )
            gone = {*find_any(exclude, wanted)} - {*find_any(labels, wanted)}
            self.channels = [name for place, name in enumerate(wanted) if place not in gone]
            return
        other = reopen()
        try:
            first = ReadingsOf(other, columns, reading, again, codes=False)
            known = _with_numbers(first)
            first.settle(known)
        finally:
            other.close()
        self.notes += [note for note in first.notes if note not in self.notes]
        found = [name for index, name in enumerate(first.channels.names) if index in known]
        if wanted is not None:
            found, silent = find_or_miss(wanted, found, file.where)
            self.notes += silent
        every = first.channels.names
        gone = {*find_columns(exclude, every, file.where)} - {*find_any(labels, every)}
        found = [name for name in found if name not in {every[place] for place in gone}]
        if not found:
            raise UserError(f"{file.where}: no channel of it has a number")
        self.channels = found

    @property
    def skipped(self) -> int:
        return self._readings.skipped

    def __iter__(self) -> Iterator[SomeValues]:
        for some in self._readings:
            yield SomeValues(some.stream, self._placed(some), some.ns, some.value)
        if self._piped:
            self._readings.settle({index for index, place in enumerate(self._place.tolist()) if place >= 0})

    def _placed(self, some: Readings) -> np.ndarray:
        """(n,) int32: their places among ``channels``, -1 for none."""
        new = self._readings.channels.names[len(self._place) :]
        if new:
            self._place = np.concatenate([self._place, np.array(self._places(new), np.int32)])
        return self._place[some.channel] if len(some.channel) else some.channel

    def _places(self, new: list[str]) -> list[int]:
        """Of names that come for the first time. Raises UserError where another has been taken for one."""
        index = {name: place for place, name in enumerate(self.channels)}
        if not self._piped:  # they are spelled as in the file
            return [index.get(name, -1) for name in new]
        alike = {folded(name): name for name in self.channels}
        for name in sorted(new, key=lambda name: name not in index):  # the very names first
            channel = name if name in index else alike.get(folded(name))
            if channel is None or (name not in index and self._spelled.get(channel) == channel):
                continue
            if self._spelled.setdefault(channel, name) != name:
                raise UserError(
                    f'{self.where}: has channels "{self._spelled[channel]}" and "{name}", and from a pipe it '
                    f'cannot be told in time which is "{channel}"; give the file\'s name'
                )
        taken = {name: index[channel] for channel, name in self._spelled.items()}
        return [taken.get(name, -1) for name in new]

    def stop(self) -> None:
        self._file.stop()

    def close(self) -> None:
        self._file.close()


class ValuesOfRows:
    """Those of a table of rows: each cell that has a value is one."""

    def __init__(self, reader: RowReader, stream: str | None) -> None:
        """``reader`` gives float64, ``stream`` is the name of its column of streams."""
        self._reader, self.stream = reader, stream
        self.where, self.channels, self.units = reader.where, reader.channels, reader.units
        self.said = reader.said.removeprefix(f"{reader.where}: ")
        self.notes, self.streams = reader.notes, reader.streams
        if reader.time_type is None:
            raise UserError(f"{reader.where}: rows every so often need times; see --time-column")

    @property
    def skipped(self) -> int:
        return self._reader.skipped

    def __iter__(self) -> Iterator[SomeValues]:
        for rows in self._reader:
            there = ~np.isnan(rows.values) & (rows.ts_ns != 0)[:, None]
            row, channel = np.nonzero(there)
            yield SomeValues(
                rows.stream[row], channel.astype(np.int32), rows.ts_ns[row], rows.values[row, channel]
            )

    def stop(self) -> None:
        self._reader.stop()

    def close(self) -> None:
        self._reader.close()


class ValuesOfRecording:
    """Those of a recording: each sample of each channel is one, in order of time."""

    def __init__(self, file: RecordingFile) -> None:
        self._file, self.where, self.said, self.notes = file, file.where, file.said, file.notes
        self.channels, self.units, self.holds = file.channels, file.units, file.holds()
        self.left_out = file.left_out
        self.stream = None if file.streams is None else GROUP
        self.streams = file.streams or [""]
        if not file.timed:
            raise UserError(f"{file.where}: rows every so often need times, and it says none")

    skipped = 0

    def __iter__(self) -> Iterator[SomeValues]:
        for stream, channel, ns, value in self._file.values():
            yield SomeValues(np.full(len(channel), stream, np.int32), channel, ns, value)

    def closing(self) -> list[str]:
        return self._file.closing()

    def stop(self) -> None:
        self._file.stop()

    def close(self) -> None:
        self._file.close()


def plain(reading: Reading) -> Reading:
    """How the rows are read that values are taken from: all of them, as they stand there."""
    missing = tuple(word for word in reading.missing if not is_number(word))
    return replace(reading, seq=None, count_rows=True, limit=None, offsets={}, missing=missing, raster=None)


def _with_numbers(readings: ReadingsOf) -> set[int]:
    """The channels that have one."""
    known: set[int] = set()
    for some in readings:
        known |= {*np.unique(some.channel[~np.isnan(some.value)]).tolist()}
    return known
