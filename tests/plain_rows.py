"""Rows from updates of single sensors, from the rules: slow, plain Python, and nothing of streamrnn in it.

``PlainRows`` takes updates in any order; ``rows_in_order`` knows of none, and takes what nobody is late with.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

FURTHEST = 2**62
TAKES = ("last", "mean", "min", "max")
COUNTED = ("rows", "held", "missing", "updates", "late", "wild", "ignored", "time", "unplaced")


class Row(NamedTuple):
    stream: int
    tick: int
    values: tuple[float, ...]
    begins: bool


class Stream:
    """What is remembered of one stream. Times are its source's, but ``spoke`` and ``aside_came`` are ours."""

    def __init__(self) -> None:
        self.newest: int | None = None
        self.newest_of: dict[int, int] = {}  # by channel
        self.left: int = -1
        self.waits: dict[int, dict[int, list[tuple[int, float]]]] = {}  # tick, channel: times and values
        self.gave: dict[int, tuple[int, float]] = {}  # channel: newest time, value
        self.aside: list[tuple[int, int, float]] = []
        self.begins = False
        self.spoke = self.aside_came = 0


def tick_of(ts: int, period: int) -> int:
    return -(-ts // period)


def come_to(updates: list[tuple[int, float]], take: str) -> float:
    """What the updates of one channel and interval come to."""
    newest = max(ts for ts, _ in updates)
    values = [value for _, value in updates]
    if take == "last":
        return [value for ts, value in updates if ts == newest][-1]
    if take == "mean":
        total = values[0]
        for value in values[1:]:
            total += value
        return total / len(values)
    return (min if take == "min" else max)(values)


class PlainRows:
    def __init__(self, channels: int, period: int, take: str, hold: int | list[int], lateness: int) -> None:
        self.channels, self.period, self.take_what = channels, period, take
        self.holds = [hold] * channels if isinstance(hold, int) else hold
        self.lateness = lateness
        self.leap = max(1000, tick_of(max(self.holds), period) + tick_of(lateness, period))
        self.agreeing = max(2, channels)
        self.streams: dict[int, Stream] = {}
        self.rows: list[Row] = []
        self.how: dict[int, list[str]] = {}  # by stream, of its last row
        self.counts = dict.fromkeys(COUNTED, 0)

    def take(self, stream: int, channel: int, ts: int, value: float, now: int = 0) -> None:
        self.counts["updates"] += 1
        if stream < 0 or not 0 <= channel < self.channels:
            self.counts["unplaced"] += 1
        elif not math.isfinite(value):
            self.counts["ignored"] += 1
        elif tick_of(ts, self.period) < 0 or ts > FURTHEST:
            self.counts["time"] += 1
        else:
            self._take(stream, channel, ts, value, now)

    def _take(self, number: int, channel: int, ts: int, value: float, now: int) -> None:
        stream, tick = self.streams.setdefault(number, Stream()), tick_of(ts, self.period)
        if stream.newest is not None:
            if abs(tick - tick_of(stream.newest, self.period)) > self.leap:
                self._put_aside(number, channel, ts, value, now)
                return
            if tick <= stream.left:
                self.counts["late"] += 1
                return
        self.counts["wild"] += len(stream.aside)
        stream.aside = []
        stream.spoke = now
        self._enter(number, channel, ts, value)

    def _put_aside(self, number: int, channel: int, ts: int, value: float, now: int) -> None:
        stream, tick = self.streams[number], tick_of(ts, self.period)
        if stream.aside:
            newest = tick_of(stream.newest, self.period)
            first, last = (tick_of(stream.aside[place][1], self.period) for place in (0, -1))
            if (tick > newest) != (first > newest) or tick < last - self.leap:
                self.counts["wild"] += len(stream.aside)
                stream.aside = []
        stream.aside.append((channel, ts, value))
        stream.aside_came = now
        if len(stream.aside) == self.agreeing:
            self._believe(number)

    def _believe(self, number: int) -> None:
        stream = self.streams[number]
        aside, came = stream.aside, stream.aside_came
        if aside[0][1] < stream.newest:
            self._leave(number, tick_of(stream.newest, self.period))
            stream = self.streams[number] = Stream()
            stream.begins = True
        stream.aside, stream.spoke = [], came
        for channel, ts, value in aside:
            if stream.newest is not None and tick_of(ts, self.period) <= stream.left:
                self.counts["late"] += 1
            else:
                self._enter(number, channel, ts, value)

    def _enter(self, number: int, channel: int, ts: int, value: float) -> None:
        stream = self.streams[number]
        if stream.newest is None:
            stream.left = tick_of(ts - self.lateness, self.period) - 1
        stream.newest = ts if stream.newest is None else max(stream.newest, ts)
        stream.newest_of[channel] = max(stream.newest_of.get(channel, ts), ts)
        waiting = stream.waits.setdefault(tick_of(ts, self.period), {})
        waiting.setdefault(channel, []).append((ts, value))
        self._leave(number, self._due(stream, stream.newest))

    def _due(self, stream: Stream, newest: int) -> int:
        """The last tick before ``newest`` - lateness, or before what each channel said last."""
        before = newest - self.lateness
        if len(stream.newest_of) == self.channels:
            before = max(before, min(stream.newest_of.values()))
        return tick_of(before, self.period) - 1

    def _leave(self, number: int, until: int, by_clock: bool = False) -> None:
        stream = self.streams[number]
        while stream.left < until:
            tick = stream.left + 1
            waiting = stream.waits.pop(tick, {})
            values, how = [], []
            for channel in range(self.channels):
                if channel in waiting:
                    newest = max(ts for ts, _ in waiting[channel])
                    stream.gave[channel] = newest, come_to(waiting[channel], self.take_what)
                    how.append("fresh")
                elif (
                    channel in stream.gave
                    and tick * self.period - stream.gave[channel][0] <= self.holds[channel]
                ):
                    how.append("held")
                else:
                    how.append("silent")
                values.append(math.nan if how[-1] == "silent" else stream.gave[channel][1])
            if set(how) != {"silent"}:
                self.rows.append(Row(number, tick, tuple(values), stream.begins))
                self.how[number], stream.begins, stream.left = how, False, tick
                self.counts["rows"] += 1
                self.counts["held"] += how.count("held")
                self.counts["missing"] += how.count("silent")
            elif stream.waits:  # nothing until the next that waits
                stream.left = min(until, min(stream.waits) - 1)
            elif by_clock:
                return
            else:
                stream.left = until

    def release(self, now: int) -> None:
        for number in sorted(self.streams):
            if self.streams[number].aside and now - self.streams[number].aside_came > self.lateness:
                self._believe(number)
            stream = self.streams[number]
            newest = stream.newest + max(0, now - stream.spoke)
            self._leave(number, tick_of(newest - self.lateness, self.period) - 1, by_clock=True)

    def flush(self) -> None:
        for number in sorted(self.streams):
            if self.streams[number].aside:
                self._believe(number)
            self._leave(number, tick_of(self.streams[number].newest, self.period))


def rows_in_order(updates: Iterable[tuple[int, int, float]], period: int, take: str, hold: int) -> list[Any]:
    """The rows of one stream, (tick, values), from updates of channel, time and value, each channel in order.

    Every tick from the first to the last is looked at, and for each channel all that it ever said.
    """
    updates = list(updates)
    channels = sorted({channel for channel, _, _ in updates})
    said = {one: [(ts, value) for channel, ts, value in updates if channel == one] for one in channels}
    ticks = [tick_of(ts, period) for _, ts, _ in updates]
    rows = []
    for tick in range(min(ticks), max(ticks) + 1):
        values = []
        for channel in channels:
            until = [tick_of(ts, period) for ts, _ in said[channel] if ts <= tick * period]
            of_last = [(ts, v) for ts, v in said[channel] if until and tick_of(ts, period) == until[-1]]
            stands = of_last and (until[-1] == tick or tick * period - of_last[-1][0] <= hold)
            values.append(come_to(of_last, take) if stands else math.nan)
        if not all(map(math.isnan, values)):
            rows.append((tick, tuple(values)))
    return rows
