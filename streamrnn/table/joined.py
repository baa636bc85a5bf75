"""Channels of different rates as rows of the fastest: its samples are the rows, and the assembler, which a
daemon has as well, says what the others have there.

A row is where a channel of the fastest rate has a sample, at that very time. Others are held from their last
sample, for one period of theirs, and missing before the first and after that. No value is interpolated, none
of later times looked at. An invalid sample stands for itself: nothing is held over it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.rows.assembler import AssembledRows, Assembler
from streamrnn.table.chosen_groups import ALIKE, GroupRate
from streamrnn.table.in_time import FAR, GroupAhead, Span, moments

INVALID = float(np.finfo(np.float64).max)  # stands for an invalid sample on its way through the assembler
INFINITE = INVALID / 2  # what float32 makes infinite again
GAP, BEHIND = 1.5, 4  # periods: without a sample that is a gap; that are looked ahead


class JoinedRows(NamedTuple):
    """n rows, in order."""

    ticks: np.ndarray  # (n,) int64: ns from the recording's start
    values: np.ndarray  # (n, C) float64; NaN = missing
    begins: np.ndarray  # (n,) bool


class _Clock:
    """Numbers the times of the rows; where some are missing, so are numbers."""

    def __init__(self, period_ns: int, first: int) -> None:
        """``first``: the number of the first row; before it are numbers for what slower channels had."""
        self._period, self._first = period_ns, first
        self.ticks = np.zeros(0, np.int64)  # of rows that have not left, and one before them
        self.numbers = np.zeros(0, np.int64)

    def add(self, ticks: np.ndarray) -> None:
        """The times of the next rows, rising."""
        if len(ticks) and not len(self.ticks):
            self.ticks, self.numbers, ticks = ticks[:1], np.array([self._first]), ticks[1:]
        if len(ticks):
            steps = np.diff(ticks, prepend=self.ticks[-1])
            further = np.maximum((steps + self._period // 2) // self._period, 1)
            self.ticks = np.concatenate([self.ticks, ticks])
            self.numbers = np.concatenate([self.numbers, self.numbers[-1] + np.cumsum(further)])

    def assembled(self, ticks: np.ndarray, following: int | None) -> np.ndarray:
        """When samples are in the assembler's time, where row n is at n periods: (n,) int64.

        A sample belongs to the first row not before it, or in a gap to where one would be; and is as much
        earlier than that. ``following`` is the time of the row behind the last one, where that is known.
        """
        ahead = _Clock(self._period, self._first)
        ahead.ticks, ahead.numbers = self.ticks, self.numbers
        if following is not None:
            ahead.add(np.array([following]))
        after = np.searchsorted(ahead.ticks, ticks, "left")
        before = np.maximum(after - 1, 0)
        away = -((ahead.ticks[before] - ticks) // self._period)  # periods, rounded up
        numbers, times = ahead.numbers[before] + away, ahead.ticks[before] + away * self._period
        there = np.flatnonzero(after < len(ahead.ticks))
        nearer = there[ahead.numbers[after[there]] <= numbers[there]]
        numbers[nearer], times[nearer] = ahead.numbers[after[nearer]], ahead.ticks[after[nearer]]
        return numbers * self._period - np.clip(times - ticks, 0, self._period - 1)

    def leave(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of some numbers, (n,) rising, are those of rows, and the times of these, which it forgets."""
        place = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        rows = self.numbers[place] == numbers
        ticks = self.ticks[place[rows]]
        left = max(0, int(place[-1]) - 1) if len(place) else 0
        self.ticks, self.numbers = self.ticks[left:], self.numbers[left:]
        return rows, ticks


class Joined:
    """The rows of groups, iterated once.

    ``columns`` are the places of each group's channels in a row; ``period_ns`` is the rate of rows: groups of
    about that rate make them.
    """

    def __init__(
        self,
        groups: Sequence[GroupAhead],
        rates: Sequence[GroupRate],
        columns: Sequence[Sequence[int]],
        period_ns: int,
    ) -> None:
        self._groups, self._columns, self._period = groups, columns, period_ns
        clocks = [k for k, rate in enumerate(rates) if rate.period_ns <= (1 + ALIKE) * period_ns]
        clocks = [k for k in clocks if rates[k].regular] or clocks
        self._clocks = [groups[k] for k in clocks]
        holds = np.zeros(sum(map(len, columns)), np.int64)
        for k, places in enumerate(columns):
            hold = rates[k].hold_ns
            exact = rates[k].exact and rates[clocks[0]].exact
            slack = 0 if exact else min(hold // period_ns, period_ns // 1000)  # as periods are rounded to ns
            holds[[*places]] = 0 if k == clocks[0] else hold + slack
        self._assembler = Assembler(len(holds), period_ns, "last", hold_ns=holds, lateness_ns=0, capacity=1)
        self._assembler.stream("")
        self._clock = _Clock(period_ns, 2 + int(holds.max()) // period_ns)
        self._begin_at = np.zeros(0, np.int64)  # ticks at which new sequences begin

    def __iter__(self) -> Iterator[JoinedRows]:
        for moment in moments(self._groups, BEHIND * self._period):
            ticks = self._rows_until(moment)
            self._clock.add(ticks)
            spans = [group.take(moment) for group in self._groups]
            begin_at = [span.ticks[span.begins] for span in spans]
            self._begin_at = np.sort(np.concatenate([self._begin_at, *begin_at]))
            yield from _as_one(self._rows(self._assembler.take(*self._updates(spans))))
        yield from _as_one(self._rows(self._assembler.flush()))

    def _rows_until(self, moment: int) -> np.ndarray:
        """The times of the rows up to a moment: those of the first group of their rate, and of the others
        of it where that has none."""
        ticks = _different(self._clocks[0].ticks)
        last = self._clock.ticks[-1] if len(self._clock.ticks) else -FAR
        for other in self._clocks[1:]:
            own = _different(other.ticks)
            place = np.searchsorted(ticks, own, "left")
            before = np.minimum(own - np.append(last, ticks)[place], FAR // 4)
            after = np.minimum(np.append(ticks, FAR)[place] - own, FAR // 4)
            room = (before + after > GAP * self._period) & (2 * np.minimum(before, after) >= self._period)
            ticks = np.sort(np.concatenate([ticks, own[room]]), kind="stable")
        return ticks[: np.searchsorted(ticks, moment, "right")]

    def _updates(self, spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Samples as updates: streams, channels, times, values; in the order of these."""
        ahead = [int(clock.ticks[0]) for clock in self._clocks if len(clock.ticks)]
        following = min(ahead, default=None)
        channels, times, values = ([np.zeros(0, kind)] for kind in (np.int32, np.int64, np.float64))
        for span, places in zip(spans, self._columns, strict=True):
            if not len(span.ticks) or (following is None and not len(self._clock.ticks)):
                continue
            count = len(places)
            times.append(np.repeat(self._clock.assembled(span.ticks, following), count))
            channels.append(np.tile(np.array(places, np.int32), len(span.ticks)))
            values.append(_finite(span.values.reshape(-1)))
        every = np.concatenate(times)
        order = np.argsort(every, kind="stable")
        stream = np.zeros(len(order), np.int32)
        return stream, np.concatenate(channels)[order], every[order], np.concatenate(values)[order]

    def _rows(self, blocks: Iterator[AssembledRows]) -> Iterator[JoinedRows]:
        for block in blocks:
            if not len(self._clock.ticks):
                continue  # held before the first row
            rows, ticks = self._clock.leave(block.tick)
            if not len(ticks):
                continue
            values = block.values[rows]
            values[values == INVALID] = np.nan
            begins = np.zeros(len(ticks), bool)
            due = int(np.searchsorted(self._begin_at, ticks[-1], "right"))
            begins[np.searchsorted(ticks, self._begin_at[:due], "left")] = True
            self._begin_at = self._begin_at[due:]
            yield JoinedRows(ticks, values, begins)


def _different(rising: np.ndarray) -> np.ndarray:
    """Each of some numbers once; much faster than np.unique, as they rise."""
    keep = np.ones(len(rising), bool)
    keep[1:] = rising[1:] != rising[:-1]
    return rising[keep]


def _as_one(blocks: Iterator[JoinedRows]) -> Iterator[JoinedRows]:
    """All rows of some blocks in one, if there are any."""
    if found := [*blocks]:
        yield JoinedRows(*map(np.concatenate, zip(*found, strict=True)))


def _finite(values: np.ndarray) -> np.ndarray:
    """The same with numbers for what is none, and for what is infinite, as the assembler takes no others."""
    return np.nan_to_num(values, nan=INVALID, posinf=INFINITE, neginf=-INFINITE)
