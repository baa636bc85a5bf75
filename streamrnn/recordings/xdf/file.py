"""XDF, as LabRecorder writes it: streams of the Lab Streaming Layer, each with a clock and a rate of its own.

A file is read three times: for its headers and clock offsets, for the stamps of the samples, in which holes
are found, and for the samples.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from struct import Struct

import numpy as np

from streamrnn.recordings.recording import (
    ChannelGroup,
    Contents,
    RecordedChannel,
    Samples,
    Told,
    rows_at_once,
)
from streamrnn.recordings.stored import Damaged, FileBytes
from streamrnn.recordings.xdf.chunks import (
    CLOCK_OFFSET,
    FILE_HEADER,
    SAMPLES,
    STREAM_FOOTER,
    STREAM_HEADER,
    XdfChunks,
    read_samples,
)
from streamrnn.recordings.xdf.clock import ClockOffsets, EvenRun, EvenRuns
from streamrnn.recordings.xdf.streams import XdfStream, parse_datetime, parse_stream

_OFFSET = Struct("<Idd")
_TOGETHER = 1 << 15  # values of chunks that are taken together
_MOST_STREAMS = 1 << 12


class _State:
    """A stream while its samples are read: its last stamp, and which stretch of its clock that is in."""

    def __init__(self) -> None:
        self.last: float | None = None
        self.stretch = 0
        self.dropped = 0  # samples before the first stamp
        self.waiting = list[tuple[np.ndarray, np.ndarray]]()  # chunks
        self.held = 0  # values in them


class XdfRecording:
    """See ``OpenRecording``."""

    def __init__(self, path: Path) -> None:
        self._file = FileBytes(path)
        self._streams, self._offsets = dict[int, XdfStream](), dict[int, ClockOffsets]()
        self._ended, self._date, self._end, self._damage = set[int](), "", self._file.size, ""
        self._read_headers()
        numeric = {k for k, stream in self._streams.items() if stream.dtype is not None and stream.labels}
        self._runs = {k: EvenRuns(1 / self._streams[k].rate) for k in numeric if self._streams[k].rate}
        self._counts, self._firsts = dict.fromkeys(numeric, 0), dict[int, float]()
        dropped = self._read_stamps(numeric)
        self._groups = [k for k in self._streams if k in numeric and self._counts[k]]
        self.contents = self._contents(dropped)

    def close(self) -> None:
        self._file.close()

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        """See ``OpenRecording``."""
        number, state = self._groups[group], _State()
        most, places = rows_at_once(len(channels)), [*channels]
        runs, begins = iter(self._runs[number].runs if number in self._runs else ()), False
        run, left, done = EvenRun(0, 0.0, 0.0), 0, 0  # samples of the run that are to come, and that came
        waiting = list[tuple[np.ndarray, np.ndarray]]()
        held = 0

        def piece() -> Samples:
            ticks, values = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
            return Samples(ticks, values, begins)

        for _, stamps, values in self._samples({number}, {number: state}):
            at = 0
            while at < len(stamps):
                if number in self._runs and left == 0:
                    if waiting:
                        yield piece()
                    begins, waiting, held = done > 0 or run.samples > 0, [], 0
                    run, done = next(runs), 0
                    left = run.samples
                count = min(len(stamps) - at, most - held, left if number in self._runs else len(stamps))
                if number in self._runs:
                    ticks = self._run_ticks(run, done, count)
                    left, done = left - count, done + count
                else:
                    ticks = np.rint((stamps[at : at + count] - self._origin) * 1e9).astype(np.int64)
                waiting.append((ticks, values[at : at + count, places].astype(np.float64)))
                at, held = at + count, held + count
                if held == most:
                    yield piece()
                    begins, waiting, held = False, [], 0
        if waiting:
            yield piece()

    def _run_ticks(self, run: EvenRun, begin: int, count: int) -> np.ndarray:
        number = np.arange(begin, begin + count, dtype=np.float64)
        return np.rint((run.at - self._origin) * 1e9 + number * (run.step * 1e9)).astype(np.int64)

    def _read_headers(self) -> None:
        chunks = XdfChunks(self._file)
        try:
            for chunk in chunks:
                if chunk.tag == FILE_HEADER:
                    self._date = parse_datetime(bytes(chunks.content(chunk)))
                elif chunk.tag == STREAM_HEADER:
                    number = chunks.stream(chunk)
                    if number not in self._streams and len(self._streams) >= _MOST_STREAMS:
                        raise Damaged(f"more than {_MOST_STREAMS:,} streams")
                    stream = parse_stream(bytes(chunks.content(chunk)[4:]))
                    if self._streams.setdefault(number, stream) != stream:
                        raise Damaged(f"a second header of stream {number}")
                    self._offsets.setdefault(number, ClockOffsets())
                elif chunk.tag == CLOCK_OFFSET and chunks.stream(chunk) in self._offsets:
                    if chunk.size != _OFFSET.size:
                        raise Damaged("a clock offset of another size")
                    number, at, offset = _OFFSET.unpack(chunks.content(chunk))
                    self._offsets[number].add(at, offset)
                elif chunk.tag == STREAM_FOOTER:
                    self._ended.add(chunks.stream(chunk))
        except Damaged as error:
            self._damage = error.what
        self._end = chunks.end
        if not self._streams:
            raise Damaged(self._damage or "it ends before the first of its streams")

    def _samples(
        self, numbers: set[int], states: dict[int, _State]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Samples in the order of the file: of which stream, stamps by the recorder's clock, values."""
        chunks = XdfChunks(self._file)
        for chunk in chunks:
            if chunks.end >= self._end:
                break
            if chunk.tag != SAMPLES or (number := chunks.stream(chunk)) not in numbers:
                continue
            stream, state = self._streams[number], states[number]
            assert stream.dtype is not None
            try:
                some = read_samples(chunks.content(chunk)[4:], stream.dtype, len(stream.labels))
            except Damaged as error:
                self._damage, self._end = error.what, chunks.end
                break
            state.waiting.append(some)
            state.held += some[1].size
            if state.held >= _TOGETHER:
                yield from self._together(number, state)
        for number in numbers:
            yield from self._together(number, states[number])

    def _together(self, number: int, state: _State) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """What waits of a stream: chunks are often of a few samples."""
        if not state.waiting:
            return
        stamps, values = (np.concatenate(parts) for parts in zip(*state.waiting, strict=True))
        state.waiting, state.held = [], 0
        rate = self._streams[number].rate
        stamps, first = _deduced(stamps, state, 1 / rate if rate else 0.0)
        while first < len(stamps):
            moved, state.stretch = self._offsets[number].apply(stamps[first:], state.stretch)
            yield number, moved, values[first : first + len(moved)]
            first += len(moved)

    def _read_stamps(self, numeric: set[int]) -> int:
        """Finds the runs of the streams; returns how many samples came before a first stamp."""
        states = {number: _State() for number in numeric}
        stretches = dict.fromkeys(numeric, 0)
        for number, stamps, _ in self._samples(numeric, states):
            self._firsts.setdefault(number, float(stamps[0]))
            self._counts[number] += len(stamps)
            if number not in self._runs:
                continue
            if states[number].stretch != stretches[number]:
                self._runs[number].cut()
                stretches[number] = states[number].stretch
            self._runs[number].feed(stamps)
        for number, runs in self._runs.items():
            runs.cut()
            if runs.runs:
                self._firsts[number] = runs.runs[0].at
        self._origin = min(self._firsts.values(), default=0.0)
        return sum(state.dropped for state in states.values())

    def _contents(self, dropped: int) -> Contents:
        names = _distinct({k: stream.name or f"stream {k}" for k, stream in self._streams.items()})
        left_out = [
            (names[k], "text: events" if stream.dtype is None else "it has no sample")
            for k, stream in self._streams.items()
            if k not in self._groups
        ]
        start, zoned = _start(self._date)
        return Contents(
            said="XDF",
            groups=tuple(self._group(number, names[number]) for number in self._groups),
            start_ns=start,
            zoned=zoned,
            left_out=tuple(left_out),
            notes=tuple(self._notes(names, dropped, start)),
            cut=self._cut(),
        )

    def _group(self, number: int, name: str) -> ChannelGroup:
        stream = self._streams[number]
        assert stream.dtype is not None
        channels = (
            RecordedChannel(label, unit, stream.dtype.name)
            for label, unit in zip(stream.labels, stream.units, strict=True)
        )
        period = 1e9 / stream.rate if stream.rate else None
        return ChannelGroup(name, tuple(channels), self._counts[number], period)

    def _notes(self, names: dict[int, str], dropped: int, start: int | None) -> list[str]:
        notes = []
        if start is not None:
            notes.append("its start is known to a second, as its header says it")
        alone = [names[k] for k in self._groups if not self._offsets[k].measured]
        if alone:
            notes.append(f"no clock offsets of {', '.join(alone[:10])}: left on the sender's clock")
        moved = [names[k] for k in self._groups if self._offsets[k].resets]
        if moved:
            notes.append(f"the clock of {', '.join(moved[:10])} was set while it was recorded")
        if dropped:
            notes.append(f"{dropped:,} samples before the first stamp of their stream are left out")
        return notes

    def _cut(self) -> str:
        if self._damage or self._end < self._file.size:
            why = f" ({self._damage})" if self._damage else ""
            return f"what follows byte {self._end:,} of {self._file.size:,} is no whole chunk{why}; left out"
        if {*self._groups} - self._ended:
            return "its streams were not ended, so the recorder was: its whole chunks are taken"
        return ""


def _deduced(stamps: np.ndarray, state: _State, period: float) -> tuple[np.ndarray, int]:
    """Stamps with those that were left out, and the number of the first sample that has one.

    A stamp that was left out is that of the sample before it and a period.
    """
    stamped = ~np.isnan(stamps)
    number = np.arange(len(stamps))
    known = np.maximum.accumulate(np.where(stamped, number, -1))
    first = int((known < 0).sum())
    whole = np.where(known >= 0, stamps[known] + (number - known) * period, 0.0)
    if state.last is not None:
        whole[:first] = state.last + (number[:first] + 1) * period
        first = 0
    state.dropped += first
    if first < len(stamps):
        state.last = float(whole[-1])
    return whole, first


def _start(text: str) -> tuple[int | None, bool]:
    """ns since 1970 of a date, and whether it has a zone."""
    if re.fullmatch(r".*[+-]\d{4}", text):
        text = f"{text[:-2]}:{text[-2:]}"
    try:
        date = datetime.fromisoformat(text)
        zoned = date.tzinfo is not None
        seconds = date.timestamp() if zoned else (date - datetime(1970, 1, 1)).total_seconds()
    except (ValueError, OverflowError):
        return None, False
    return round(seconds) * 10**9, zoned


def _distinct(names: dict[int, str]) -> dict[int, str]:
    """Names of streams, with their number where another has the same."""
    every = [*names.values()]
    return {k: name if every.count(name) == 1 else f"{name} ({k})" for k, name in names.items()}


def open_recording(path: Path, told: Told) -> XdfRecording:
    """Opens an XDF file. Raises UserError."""
    return XdfRecording(path)
