"""What goes wrong with the pumps: one thing at a time, with one of them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamrnn.demo.pumps import CHANNELS, PERIOD_S, Pumps

FIRST_S = 20.0  # after the start, where nothing else is said
_PAUSE_S = (10.0, 20.0)
# A score learns what is usual, and for a pump that fails all the time that is. So pauses become twice as long
# after this time, three times after twice this time, and so on.
_LONGER_S = 600.0
_DRIFT = 0.15, 10.0  # bar/s, and for how many seconds
_FLOW, _PRESSURE, _MOTOR_TEMP = (
    [channel.name for channel in CHANNELS].index(name) for name in ("flow", "pressure", "motor_temp")
)

# changes what the sensors say, (C,), by what they said as it began, (C,), and the seconds since
Falsify = Callable[[np.ndarray, np.ndarray, float], None]


def _freeze(row: np.ndarray, first: np.ndarray, age_s: float) -> None:
    row[_FLOW] = first[_FLOW]


def _drift(row: np.ndarray, first: np.ndarray, age_s: float) -> None:
    row[_PRESSURE] += _DRIFT[0] * min(age_s, _DRIFT[1])


def _drop_out(row: np.ndarray, first: np.ndarray, age_s: float) -> None:
    row[_MOTOR_TEMP] = math.nan


class Kind(NamedTuple):
    """A kind of fault: of a part of the pump, of a sensor, or of the line that frames come by."""

    name: str
    seen: str  # what there is to be seen
    part: str = ""  # of ``Pumps``: what becomes 1, within ``ramp_s``
    ramp_s: float = 0.0
    falsify: Falsify | None = None
    lost: bool = False  # frames are
    seconds: tuple[float, float] = (10.0, 20.0)  # that it lasts


KINDS = (
    Kind("valve sticks", "it stays where it is, whatever the demand", "stuck"),
    Kind("bearing wears", "vibration and bearing_temp creep up", "worn", 8.0),
    Kind("flow meter freezes", "it says the same all the time", falsify=_freeze),
    Kind("thermometer drops out", "motor_temp is filled in, and jumps when it is back", falsify=_drop_out),
    Kind("pump cavitates", "its inlet starves: pressure falls, vibration rises", "starved", 3.0),
    Kind("frames are lost", "a gap, and a jump behind it", lost=True, seconds=(2.0, 4.0)),
    Kind("pressure transmitter drifts", "it says more and more", falsify=_drift),
)


class Fault(NamedTuple):
    """``kind`` on pump number ``unit``, from step ``begin`` to before step ``end``."""

    kind: Kind
    unit: int
    begin: int
    end: int


class Step(NamedTuple):
    """What comes of all pumps at one moment."""

    values: np.ndarray  # (count, channels) float32: NaN = the sensor says nothing
    sent: np.ndarray  # (count,) bool: whether a frame comes of the pump
    began: Fault | None
    ended: Fault | None


class PumpFaults:
    """Steps pumps, and has the kinds of fault befall them in turn.

    ``seed`` says when, from ``first_s`` on, to which pump, how long. ``current`` is that of the last step.
    """

    def __init__(self, pumps: Pumps, seed: int, first_s: float = FIRST_S) -> None:
        self._pumps, self._random = pumps, np.random.default_rng([seed, 1])
        self._steps = self._faults = 0
        self._next = round(first_s / PERIOD_S)
        self._first: np.ndarray | None = None  # what the sensors said as the fault began
        self.current: Fault | None = None

    def step(self) -> Step:
        """The pumps and their sensors after another PERIOD_S."""
        began = ended = None
        if self.current is None and self._steps >= self._next:
            began = self.current = self._begin()
        elif self.current is not None and self._steps >= self.current.end:
            ended = self.current
            self._mend(ended)
            self.current = None
        if self.current is not None:
            self._break(self.current)
        values = self._pumps.step()
        sent = np.ones(len(values), bool)
        if self.current is not None:
            self._falsify(self.current, values, sent)
        self._steps += 1
        return Step(values, sent, began, ended)

    def _begin(self) -> Fault:
        kind, unit = KINDS[self._faults % len(KINDS)], int(self._random.integers(len(self._pumps.stuck)))
        self._faults += 1
        steps = round(self._random.uniform(*kind.seconds) / PERIOD_S)
        return Fault(kind, unit, self._steps, self._steps + steps)

    def _break(self, fault: Fault) -> None:
        """Has the part, where it is one, get as bad as it is by now."""
        if fault.kind.part:
            steps = max(fault.kind.ramp_s / PERIOD_S, 1.0)
            how_bad = min((self._steps + 1 - fault.begin) / steps, 1.0)
            getattr(self._pumps, fault.kind.part)[fault.unit] = how_bad

    def _falsify(self, fault: Fault, values: np.ndarray, sent: np.ndarray) -> None:
        if self._first is None:
            self._first = values[fault.unit].copy()
        if fault.kind.falsify is not None:
            fault.kind.falsify(values[fault.unit], self._first, (self._steps - fault.begin) * PERIOD_S)
        sent[fault.unit] = not fault.kind.lost

    def _mend(self, fault: Fault) -> None:
        """As if it had not been; the next one begins after a pause."""
        if fault.kind.part:
            getattr(self._pumps, fault.kind.part)[fault.unit] = 0.0
        self._first = None
        pause_s = self._random.uniform(*_PAUSE_S) * (1 + self._steps * PERIOD_S / _LONGER_S)
        self._next = self._steps + round(pause_s / PERIOD_S)
