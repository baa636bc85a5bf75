"""EDF, EDF+ and BDF: records of a fixed size, signals of several rates in each."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from streamrnn.errors import UserError
from streamrnn.recordings.edf.header import EdfSignal, read_header
from streamrnn.recordings.edf.records import ANNOTATIONS, find_runs, read_run
from streamrnn.recordings.recording import ChannelGroup, Contents, RecordedChannel, Samples, Told
from streamrnn.recordings.stored import FileBytes

_TRIGGERS = "Status"  # of BDF: bits that say what happened, and when


class EdfRecording:
    """See ``OpenRecording``."""

    def __init__(self, path: Path) -> None:
        self._file = FileBytes(path)
        self._header = header = read_header(self._file)
        size = header.record_size
        there = (self._file.size - header.size) // size if size else 0
        records = there if header.records < 0 else min(there, header.records)
        if not records:
            raise UserError("has no whole record")
        self._runs, silent = find_runs(self._file, header, records)
        left_out, rates = list[tuple[str, str]](), dict[int, list[EdfSignal]]()
        for signal in header.signals:
            if why := self._unusable(signal):
                left_out.append((signal.label, why))
            else:
                rates.setdefault(signal.samples, []).append(signal)
        self._groups = [*rates.values()]
        notes = []
        if silent:
            notes.append(f"{silent:,} records do not say when they began: taken to follow the one before")
        if header.start_ns is None:
            notes.append("its date cannot be read")
        self._begin = self._runs[0].begin
        self.contents = Contents(
            said=header.name,
            groups=tuple(self._group(signals, records) for signals in self._groups),
            start_ns=None if header.start_ns is None else header.start_ns + int(self._begin),
            left_out=tuple(left_out),
            notes=tuple(notes),
            cut=self._cut(there),
        )

    def close(self) -> None:
        self._file.close()

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        """See ``OpenRecording``."""
        every = self._groups[group]
        signals = [every[channel] for channel in channels]
        for number, run in enumerate(self._runs):
            begins = number > 0
            shifted = run._replace(begin=run.begin - self._begin)
            for ticks, values in read_run(self._file, self._header, shifted, every[0].samples, signals):
                yield Samples(ticks, values, begins)
                begins = False

    def _unusable(self, signal: EdfSignal) -> str:
        """Why a signal is no channel; "" = it is one."""
        if signal.label in ANNOTATIONS:
            return "annotations"
        if self._header.name.startswith("BDF") and signal.label == _TRIGGERS:
            return "triggers, a bit each"
        if signal.samples == 0:
            return "it has no sample"
        if self._header.duration <= 0:
            return "its record lasts no time, so it has no rate"
        if signal.digital[0] == signal.digital[1] or signal.physical[0] == signal.physical[1]:
            return "its minimum is its maximum, so it has no scale"
        return ""

    def _group(self, signals: list[EdfSignal], records: int) -> ChannelGroup:
        names = _distinct([signal.label for signal in signals])
        kind = f"int{8 * self._header.width}, scaled"
        channels = (RecordedChannel(name, s.unit, kind) for name, s in zip(names, signals, strict=True))
        samples = signals[0].samples
        period = float(self._header.duration / samples)
        return ChannelGroup("", tuple(channels), records * samples, period)

    def _cut(self, there: int) -> str:
        said = self._header.records
        rest = self._file.size - self._header.size - said * self._header.record_size  # bytes
        if said > there:
            return f"{there:,} whole records of {said:,} are there"
        if said < 0:
            return f"its recorder did not say how many records there are; {there:,} are whole"
        if rest:
            return f"what follows its {said:,} records, {rest:,} bytes, is left out"
        return ""


def _distinct(labels: list[str]) -> list[str]:
    """Labels, with a number behind those that were there before."""
    seen, names = dict[str, int](), list[str]()
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        names.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return names


def open_recording(path: Path, told: Told) -> EdfRecording:
    """Opens an EDF or BDF file. Raises UserError."""
    return EdfRecording(path)
