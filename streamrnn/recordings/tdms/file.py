"""TDMS, as LabVIEW and DAQmx write it.

Its samples are read from where the segments have them, so that a segment of any size takes little memory.
Channels of one group are read together where they have the same times and length.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamrnn.recordings.recording import (
    ChannelGroup,
    Contents,
    RecordedChannel,
    Samples,
    Told,
    even_ticks,
    rows_at_once,
)
from streamrnn.recordings.seconds import nanoseconds, period_of
from streamrnn.recordings.stored import Damaged, FileBytes
from streamrnn.recordings.tdms.metadata import DAQMX_DATA, EPOCH, KINDS, TIMESTAMP
from streamrnn.recordings.tdms.samples import Cursor, RawSamples, timestamps
from streamrnn.recordings.tdms.scaling import Scale, Unscalable, scale_of
from streamrnn.recordings.tdms.segments import Segments, TdmsObject

_NEVER = EPOCH * 10**9  # 1904, the start that LabVIEW writes where there is none


class _Unusable(Exception):
    """A channel is left out; its text says why."""


class _Stretch(NamedTuple):
    """Samples from number ``sample`` on, of which the first was taken at ``start`` ns."""

    sample: int
    start: Fraction  # since 1970, or 0 where there is no date
    dated: bool


class _Times(NamedTuple):
    """When a channel's samples were taken; channels that have the same are read together."""

    group: str
    samples: int
    step: Fraction | None  # ns; None = no waveform
    stretches: tuple[_Stretch, ...]


class _Group(NamedTuple):
    """Channels that are read together, and the one that has their times, if no waveform has."""

    times: _Times
    channels: list[int]
    clock: int | None


class TdmsRecording:
    """See ``OpenRecording``."""

    def __init__(self, path: Path) -> None:
        self._file = FileBytes(path)
        self._segments = Segments(self._file)
        self._raw = RawSamples(self._file, self._segments)
        self._scales = dict[int, Scale | None]()
        self._start = 0  # ns since 1970
        self._groups, left_out = self._find_groups()
        self.contents = self._contents(left_out)

    def close(self) -> None:
        self._file.close()

    def pieces(self, group: int, channels: Sequence[int]) -> Iterator[Samples]:
        """See ``OpenRecording``."""
        times, every, clock = self._groups[group]
        own = [every[channel] for channel in channels]
        begins = [stretch.sample for stretch in times.stretches[1:]]
        cursors = [Cursor(self._raw, channel) for channel in own]
        of_time = None if clock is None else Cursor(self._raw, clock)
        most, done = rows_at_once(len(own)), 0
        while done < times.samples:
            end = min([times.samples, done + most, *(begin for begin in begins if begin > done)])
            values, at = np.empty((end - done, len(own))), 0
            while at < end - done:
                count = min([end - done - at, *(cursor.ready() for cursor in cursors)])
                for column, (channel, cursor) in enumerate(zip(own, cursors, strict=True)):
                    values[at : at + count, column] = self._scaled(channel, cursor.read(count))
                at += count
            if of_time is not None:
                ticks = self._clock_ticks(of_time, end - done)
            else:
                ticks = self._even_ticks(times, done, end)
            yield Samples(ticks, values, begins=done in begins)
            done = end

    def _scaled(self, channel: int, parts: list[np.ndarray]) -> np.ndarray:
        scale, numbers = self._scales[channel], [part.astype(np.float64) for part in parts]
        if scale is None:
            return numbers[0]
        with np.errstate(all="ignore"):  # what a damaged file says may be infinite
            return scale.apply(numbers[0], dict(zip(self._scale_ids(channel), numbers, strict=True)))

    def _clock_ticks(self, cursor: Cursor, count: int) -> np.ndarray:
        found = list[np.ndarray]()
        while count:
            some = timestamps(cursor.read(min(count, cursor.ready()))[0])
            found.append(some)
            count -= len(some)
        return np.concatenate(found) - self._start

    def _even_ticks(self, times: _Times, begin: int, end: int) -> np.ndarray:
        """Of samples that lie in one stretch."""
        if times.step is None:
            return np.arange(begin, end, dtype=np.int64)
        stretch = [each for each in times.stretches if each.sample <= begin][-1]
        first = int(stretch.start) - (self._start if stretch.dated else 0)
        return even_ticks(begin - stretch.sample, end - begin, times.step) + first

    def _find_groups(self) -> tuple[list[_Group], list[tuple[str, str]]]:
        """The groups, and what is no channel of them."""
        together, left_out = dict[_Times, list[int]](), list[tuple[str, str]]()
        clocks = dict[tuple[str, int], int]()  # of a group and a number of samples
        levels = {each.path: each.properties for each in self._segments.objects}
        for number, each in enumerate(self._segments.objects):
            if len(each.path) < 2:
                continue
            name = "/".join(each.path)
            try:
                self._check(each, number)
                if each.index is not None and each.index.kind == TIMESTAMP:
                    clocks.setdefault((each.path[0], each.samples), number)
                    raise _Unusable("times")
                self._scales[number] = self._scale(number, each, levels)
                together.setdefault(_times(each), []).append(number)
            except (_Unusable, Unscalable) as error:
                left_out.append((name, str(error)))
        return [
            _Group(times, channels, None if times.step else clocks.get((times.group, times.samples)))
            for times, channels in together.items()
        ], left_out

    def _check(self, each: TdmsObject, number: int) -> None:
        """Raises _Unusable for a channel without samples that can be read."""
        if each.index is not None and each.index.kind in KINDS and each.index.kind != TIMESTAMP:
            raise _Unusable(KINDS[each.index.kind])
        if each.samples == 0:
            raise _Unusable("it has no sample")
        if len(self._raw.stored_as[number]) > 1:
            raise _Unusable("it is stored in one way first, and in another later")

    def _scale(self, number: int, each: TdmsObject, levels: Mapping[tuple[str, ...], Any]) -> Scale | None:
        """The scale of a channel. Raises _Unusable, Unscalable for one that cannot be read."""
        assert each.index is not None
        scale = scale_of(each.properties, levels.get(each.path[:1], {}), levels.get((), {}))
        raw = each.index.kind != DAQMX_DATA
        if scale is None and not raw:
            raise _Unusable("raw numbers of DAQmx, and the file does not say how to scale them")
        if scale is not None and not (scale.inputs <= {*self._scale_ids(number)} and (raw or not scale.raw)):
            raise _Unusable("its scale takes numbers of DAQmx that are not there")
        return scale

    def _scale_ids(self, number: int) -> tuple[int, ...]:
        """The scales that the parts of a channel are the inputs of."""
        (stored,) = self._raw.stored_as[number]
        return tuple(part.scale for part in stored)

    def _contents(self, left_out: list[tuple[str, str]]) -> Contents:
        dates = [int(s.start) for group in self._groups for s in group.times.stretches if s.dated]
        for number in {group.clock for group in self._groups if group.clock is not None}:
            dates += self._clock_ticks(Cursor(self._raw, number), 1).tolist()
        self._start = min(dates, default=0)
        notes = []
        dated = {s.dated for group in self._groups if group.times.step for s in group.times.stretches}
        if len(dated) > 1:
            notes.append("channels that say no start are taken to begin with the first of the others")
        return Contents(
            said="TDMS",
            groups=tuple(self._group(group) for group in self._groups),
            start_ns=self._start if dates else None,
            zoned=bool(dates),
            left_out=tuple(left_out),
            notes=tuple(notes),
            cut=self._segments.cut,
        )

    def _group(self, group: _Group) -> ChannelGroup:
        channels = []
        for number in group.channels:
            each, stored = self._segments.objects[number], next(iter(self._raw.stored_as[number]))
            kind = " and ".join(dict.fromkeys(part.kind for part in stored))
            unit = str(each.properties.get("unit_string") or "")
            scaled = "" if self._scales[number] is None else ", scaled"
            channels.append(RecordedChannel(each.path[1], unit, kind + scaled))
        step = group.times.step
        return ChannelGroup(
            group.times.group,
            tuple(channels),
            group.times.samples,
            None if step is None else float(step),
            step is not None or group.clock is not None,
        )


def _times(each: TdmsObject) -> _Times:
    """When a channel's samples were taken. Raises _Unusable."""
    steps, stretches = set[Fraction | None](), list[_Stretch]()
    starts = [start for start in each.starts if start.sample < each.samples] or each.starts[-1:]
    for place, start in enumerate(starts):
        told = start.properties
        try:
            step = period_of(float(told["wf_increment"])) if told.get("wf_increment") else None
            offset = nanoseconds(repr(float(told.get("wf_start_offset") or 0.0)))
        except (TypeError, ValueError, Damaged):
            raise _Unusable("its times cannot be read") from None
        date = told.get("wf_start_time")
        if not isinstance(date, int) or date == _NEVER or abs(date) >= 1 << 62:
            date = None
        steps.add(step)
        # what was first told behind the samples holds for them
        stretches.append(_Stretch(start.sample if place else 0, (date or 0) + offset, date is not None))
    if len(steps) > 1:
        raise _Unusable("its wf_increment changes within the file")
    step = next(iter(steps), None)
    return _Times(each.path[0], each.samples, step, tuple(stretches) if step else ())


def open_recording(path: Path, told: Told) -> TdmsRecording:
    """Opens a TDMS file. Raises UserError."""
    return TdmsRecording(path)
