"""Values that are far from all others of a column: codes for none, which come again, and a line of names."""

from collections.abc import Sequence

import numpy as np

RECURS = 3  # times that it comes
FAR = 8.0  # ranges of the other values that it is away from them


def _is_code(value: float, usual: bool) -> bool:
    """Whether a logger would write it for none: nines (-99.9), or a whole number but 0, that is below 0 where
    most values are the same, as those of a machine that stands still are.
    """
    digits = f"{abs(value):.4g}".replace(".", "")
    return {*digits} == {"9"} or (value == int(value) and (value < 0 if usual else value != 0))


def recurring_extremes(names: Sequence[str], columns: Sequence[np.ndarray]) -> list[str]:
    """What to say of columns, (n,) float32 each, that have such a value."""
    said = []
    for name, column in zip(names, columns, strict=True):
        cells = column[np.isfinite(column)]
        for pick in (np.min, np.max):
            if not len(cells):
                continue
            extreme = pick(cells)
            others = cells[cells != extreme]
            count = len(cells) - len(others)
            if count < RECURS or len(others) < RECURS:
                continue
            low, high = others.min(), others.max()
            distance = float(low - extreme if extreme < low else extreme - high)
            if (
                high > low
                and distance > FAR * float(high - low)
                and _is_code(float(extreme), count > len(others))
            ):
                said.append(
                    f'"{name}": {extreme:g} comes {count:,} times, and all other values are {low:g} to '
                    f"{high:g}; if it stands for a missing value give --missing {extreme:g}"
                )
    return said


def unlike_first(names: Sequence[str], columns: Sequence[np.ndarray]) -> list[str]:
    """Of columns, (n,) float32 each, those whose first cell is far from all others: it may be no row's."""
    said = []
    for name, column in zip(names, columns, strict=True):
        others = column[1:][np.isfinite(column[1:])]
        if len(others) < RECURS or not np.isfinite(column[0]):
            continue
        low, high = float(others.min()), float(others.max())
        distance = max(low - float(column[0]), float(column[0]) - high)
        if distance > FAR * max(high - low, abs(low), abs(high)) > 0:
            said.append(f'"{name}" ({column[0]:g}, and below {low:g} to {high:g})')
    return said
