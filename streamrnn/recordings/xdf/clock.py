"""When samples of an XDF stream were taken: its clock brought to the recorder's, holes, and even times.

Stamps are the sender's. Every few seconds the recorder measured how far the two clocks are apart; a line
through these offsets is added. Stamps of one rate jitter by as long as a packet took, so holes are found in
them as they came, and what lies between two holes is then put on a line of its own.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

_RESET_S = 1.0  # clocks that are further apart from one measurement to the next: one of them was set
_LOOKED_S = 1.0  # in which some packet is not late


@dataclass
class _Sums:
    """A line through points, by least squares; sums from the first of them on."""

    count: int = 0
    x0: float = 0.0
    y0: float = 0.0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(4))  # of x, y, x * x, x * y

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        if len(x) == 0:
            return
        if self.count == 0:
            self.x0, self.y0 = float(x[0]), float(y[0])
        x, y = x - self.x0, y - self.y0
        self.count += len(x)
        self.sums += x.sum(), y.sum(), (x * x).sum(), (x * y).sum()

    def line(self) -> tuple[float, float, float]:
        """a, b, c of y = a + b * (x - c)."""
        x, y, xx, xy = self.sums / max(self.count, 1)
        spread = xx - x * x
        slope = (xy - x * y) / spread if self.count > 1 and spread > 1e-12 * max(xx, 1e-300) else 0.0
        return self.y0 + y, slope, self.x0 + x


class ClockOffsets:
    """How far a stream's clock is from the recorder's; a line for each stretch in which neither was set."""

    def __init__(self) -> None:
        self._lines = [_Sums()]
        self._ends = list[
            tuple[float, float]
        ]()  # of each stretch but the last: its last time, and the next one
        self._last: tuple[float, float] | None = None

    @property
    def measured(self) -> int:
        return sum(line.count for line in self._lines)

    @property
    def resets(self) -> int:
        return len(self._ends)

    def add(self, at: float, offset: float) -> None:
        """An offset measured at the sender's time ``at``, both in s."""
        if not (math.isfinite(at) and math.isfinite(offset)):
            return
        if self._last is not None and (at < self._last[0] or abs(offset - self._last[1]) > _RESET_S):
            self._ends.append((self._last[0], at))
            self._lines.append(_Sums())
        self._last = at, offset
        self._lines[-1].add(np.array([at]), np.array([offset]))

    def apply(self, stamps: np.ndarray, stretch: int) -> tuple[np.ndarray, int]:
        """The first of n stamps, (m,) float64, by the recorder's clock, and the stretch that they are in.

        ``stretch`` is that of the stamp before; those of a later one, nearer to its first measurement than to
        the last before it, are for another call.
        """
        while stretch < len(self._ends):
            end, begin = self._ends[stretch]
            beyond = np.abs(stamps - begin) <= np.abs(stamps - end)
            if not beyond.any():
                break
            if first := int(beyond.argmax()):
                return self._moved(stamps[:first], stretch), stretch
            stretch += 1
        return self._moved(stamps, stretch), stretch

    def _moved(self, stamps: np.ndarray, stretch: int) -> np.ndarray:
        line = self._lines[stretch]
        if line.count == 0:
            return stamps
        height, slope, centre = line.line()
        return stamps + (height + slope * (stamps - centre))


class EvenRun(NamedTuple):
    """Samples without a hole: sample k of it was taken at ``at + k * step`` s."""

    samples: int
    at: float
    step: float


class EvenRuns:
    """Finds the runs of a stream's samples, ``period`` s apart, as stamps are fed, and the line of each.

    A hole is where a sample comes more than 1.5 periods after the one before it, and where that is not a late
    packet: all that follows within a second is later than all that came within one before.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._looked = max(2, math.ceil(_LOOKED_S / period))
        self._looked = min(self._looked, 1 << 16)
        self.runs = list[EvenRun]()
        self._begin()
        self._waiting = np.zeros(0)  # stamps whose followers are not all known

    def _begin(self) -> None:
        self._number, self._origin, self._sums = 0, 0.0, _Sums()
        self._before = np.zeros(0)  # lateness of the last samples of the run, s

    def feed(self, stamps: np.ndarray) -> None:
        """The next stamps, (n,) float64."""
        stamps = np.concatenate([self._waiting, stamps])
        self._waiting = stamps[self._take(stamps, len(stamps) - self._looked) :]

    def cut(self) -> None:
        """The next stamp begins a run, whatever it says."""
        self._take(self._waiting, len(self._waiting))
        self._waiting = np.zeros(0)
        self._end()

    def _take(self, stamps: np.ndarray, count: int) -> int:
        """Decides on ``count`` stamps; returns how many that were."""
        done = 0
        while done < count:
            if self._number == 0:
                self._origin = float(stamps[done])
            late = stamps[done:] - self._origin
            late -= (np.arange(len(late)) + self._number) * self._period
            hole = self._first_hole(late, count - done)
            self._sums.add(np.arange(hole, dtype=np.float64) + self._number, late[:hole])
            self._number += hole
            self._before = np.concatenate([self._before, late[:hole]])[-self._looked :]
            done += hole
            if done < count:
                self._end()
        return max(done, 0)

    def _first_hole(self, late: np.ndarray, count: int) -> int:
        """The first of ``count`` samples that a hole is before, or ``count``."""
        known = np.concatenate([self._before, late])
        have = len(self._before)
        more = np.diff(known[: have + count]) > 0.5 * self._period
        back = np.diff(known[: have + count]) < -_RESET_S
        for at in (np.flatnonzero(more | back) + 1).tolist():
            if at < have or at == 0:
                continue
            before, after = known[max(0, at - self._looked) : at], known[at : at + self._looked]
            if after.min() - before.max() > 0.5 * self._period or after.max() - before.min() < -_RESET_S:
                return at - have
        return count

    def _end(self) -> None:
        if self._number:
            height, slope, centre = self._sums.line()
            step = self._period + slope
            self.runs.append(EvenRun(self._number, self._origin + height - slope * centre, step))
        self._begin()
