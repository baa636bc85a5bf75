"""Values that may be codes for none: the lowest or highest of a column, again and again, far from others."""

from collections.abc import Sequence

import numpy as np

RECURS = 3  # times that it comes
FAR = 8.0  # ranges of the other values that it is away from them


def _is_code(value: float) -> bool:
    """Whether a logger would write it for none: a whole number but 0, or nines (-99.9)."""
    digits = f"{abs(value):.4g}".replace(".", "")
    return value != 0 and (value == int(value) or {*digits} == {"9"})


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
            if count < RECURS or len(others) < RECURS or count > len(others):
                continue
            low, high = others.min(), others.max()
            distance = float(low - extreme if extreme < low else extreme - high)
            if high > low and distance > FAR * float(high - low) and _is_code(float(extreme)):
                said.append(
                    f'"{name}": {extreme:g} comes {count:,} times, and all other values are {low:g} to '
                    f"{high:g}; "
                    f"if it stands for a missing value give --missing {extreme:g}"
                )
    return said
