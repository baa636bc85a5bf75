"""float32 numbers as text and JSON have them: in the fewest digits that say which they are."""

from typing import Any

import numpy as np


def shortest(value: Any) -> float:
    """The float of fewest digits that rounds to a float32."""
    return float(str(np.float32(value)))


def number(value: Any, offset: float = 0.0) -> float | None:
    """``shortest``, with an offset added; None for NaN, which JSON has no word for."""
    return None if np.isnan(value) else shortest(value) + offset
