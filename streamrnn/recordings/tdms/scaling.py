"""Scales of TDMS channels: raw numbers to measurements, as the properties of a channel say.

Each scale has a number; the last one is the channel's, and says which other is its input. Scales that
stand for a sensor (thermocouple, RTD, strain gauge, thermistor) are not computed here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_RAW = 0xFFFFFFFF  # as an input: the numbers as they are stored
_MOST = 64  # scales of a channel, and points of a table times 16


class Unscalable(Exception):
    """A channel has a scale that is not known; its text says which."""


class Scale:
    """A channel's scales."""

    def __init__(self, told: Mapping[str, Any], count: int) -> None:
        self._told, self._count = told, count
        self.inputs = set[int]()  # DAQmx's, by number, that are needed
        self.raw = False  # whether the numbers as they are stored are
        self._check(count - 1, count, set())

    def apply(self, raw: np.ndarray | None, scalers: Mapping[int, np.ndarray]) -> np.ndarray:
        """(n,) float64 of the numbers as stored, or DAQmx's by their scale."""
        return self._value(self._count - 1, {_RAW: raw} if raw is not None else {}, scalers)

    def _get(self, number: int, name: str, default: Any = None) -> Any:
        return self._told.get(f"NI_Scale[{number}]_{name}", default)

    def _kind(self, number: int) -> str | None:
        kind = self._get(number, "Scale_Type")
        return None if kind is None else str(kind)

    def _sources(self, number: int) -> list[int]:
        kind = self._kind(number)
        if kind in ("Add", "Subtract"):
            return [
                int(self._get(number, f"{kind}_{side}_Operand_Input_Source", _RAW))
                for side in ("Left", "Right")
            ]
        return [int(self._get(number, f"{kind}_Input_Source", _RAW))]

    def _check(self, number: int, above: int, seen: set[int]) -> None:
        """Raises Unscalable for what cannot be computed."""
        if number == _RAW:
            self.raw = True
            return
        if not 0 <= number < above:
            raise Unscalable("its scales refer to one that is not there before them")
        if number in seen:
            return
        seen.add(number)
        kind = self._kind(number)
        if kind is None:
            self.inputs.add(number)
            return
        if kind not in _COMPUTED:
            raise Unscalable(
                f"its scale is of the kind {kind[:40]!r}, which is not computed; write scaled samples"
            )
        try:
            _COMPUTED[kind](self, number, [np.zeros(1)] * 2)
            sources = self._sources(number)
        except (TypeError, ValueError, OverflowError):
            raise Unscalable(f"its scale of the kind {kind} is not whole") from None
        for source in sources:
            self._check(source, number, seen)

    def _value(
        self, number: int, known: dict[int, np.ndarray], scalers: Mapping[int, np.ndarray]
    ) -> np.ndarray:
        if number not in known:
            kind = self._kind(number)
            if kind is None:
                known[number] = scalers[number]
            else:
                inputs = [self._value(source, known, scalers) for source in self._sources(number)]
                known[number] = _COMPUTED[kind](self, number, inputs)
        return known[number]

    def _numbers(self, number: int, name: str, default: int | None = None) -> np.ndarray:
        count = int(self._get(number, f"{name}_Size", default))
        if not 0 <= count <= 16 * _MOST:
            raise ValueError(f"{count} numbers")
        return np.array([float(self._get(number, f"{name}[{k}]")) for k in range(count)])

    def _linear(self, number: int, inputs: list[np.ndarray]) -> np.ndarray:
        slope, intercept = (float(self._get(number, f"Linear_{name}")) for name in ("Slope", "Y_Intercept"))
        return inputs[0] * slope + intercept

    def _polynomial(self, number: int, inputs: list[np.ndarray]) -> np.ndarray:
        factors = self._numbers(number, "Polynomial_Coefficients", 4)
        value = np.zeros(len(inputs[0]))
        for factor in factors[::-1]:
            value = value * inputs[0] + factor
        return value

    def _table(self, number: int, inputs: list[np.ndarray]) -> np.ndarray:
        x, y = (self._numbers(number, f"Table_{name}") for name in ("Pre_Scaled_Values", "Scaled_Values"))
        if len(x) != len(y) or len(x) == 0:
            raise ValueError("a table of two lengths")
        if len(x) > 1 and x[0] > x[-1]:
            x, y = x[::-1], y[::-1]
        if not (np.diff(x) > 0).all():
            raise ValueError("a table that does not rise")
        return np.interp(inputs[0], x, y)

    def _add(self, number: int, inputs: list[np.ndarray]) -> np.ndarray:
        return inputs[0] + inputs[1]

    def _subtract(self, number: int, inputs: list[np.ndarray]) -> np.ndarray:
        return inputs[1] - inputs[0]  # the other way round than it says, as National Instruments reads it

    def _as_it_is(self, number: int, inputs: list[np.ndarray]) -> np.ndarray:
        return inputs[0]


_COMPUTED = {
    "Linear": Scale._linear,
    "Polynomial": Scale._polynomial,
    "Table": Scale._table,
    "Add": Scale._add,
    "Subtract": Scale._subtract,
    "AdvancedAPI": Scale._as_it_is,
}


def scale_of(*levels: Mapping[str, Any]) -> Scale | None:
    """The scale that the first of a channel, its group and its file has; None where no one has one.

    Raises Unscalable for one that is not computed.
    """
    for told in levels:
        if (count := _count(told)) and told.get("NI_Scaling_Status", "unscaled") != "scaled":
            return Scale(told, count)
    return None


def _count(told: Mapping[str, Any]) -> int:
    count = told.get("NI_Number_Of_Scales")
    if count is None:
        found = [
            name[9:].split("]")[0]
            for name in told
            if name.startswith("NI_Scale[") and name.endswith("_Scale_Type")
        ]
        count = max((int(name) for name in found if name.isdecimal()), default=-1) + 1
    try:
        count = int(count)
    except (TypeError, ValueError):
        raise Unscalable("the number of its scales is none") from None
    if not 0 <= count <= _MOST:
        raise Unscalable(f"it has {count:,} scales")
    return count
