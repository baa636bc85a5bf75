"""What a record says of its last row's score, for Python to read."""

import math
from typing import Any

import numpy as np

from streamrnn.streams.rarity import INSTANT_SPARE, SPARE
from streamrnn.streams.score import (
    LATEST,
    LEAST_SPREAD,
    OF_INSTANT,
    OF_RUN,
    OF_SMOOTHED,
    ROWS,
    RUN,
    SCALARS,
    SPREAD,
    VECTORS,
    WARMING_ROWS,
    WEIGHTED,
)


def last_scores(parts: np.ndarray) -> np.ndarray:
    """The last score of n streams, NaN = none yet, (n,) float64.

    ``parts``, (n, OF_RUN + 1 or more) float32, begin as the score's part of a record does.
    """
    ways = parts[:, [OF_INSTANT, OF_SMOOTHED, OF_RUN]] - np.array([INSTANT_SPARE, SPARE, 0.0])
    return np.where(parts[:, ROWS] > WARMING_ROWS, np.maximum(ways.max(axis=1), 0.0), math.nan)


def last_shares(net: Any, part: np.ndarray) -> np.ndarray:
    """What ``share_out`` makes of the score's part of a record, as float32: (outputs,) float64."""
    ways = part[SCALARS:].reshape(VECTORS, -1)[:, : net.outputs].astype(float)
    instant, smoothed = part[OF_INSTANT] - INSTANT_SPARE, part[OF_SMOOTHED] - SPARE
    if part[OF_RUN] > max(instant, smoothed):
        found = np.maximum(ways[RUN] * net.run_scale[: net.outputs] - 1, 0)
    elif instant >= smoothed:
        found = ways[LATEST]
    else:
        found = ways[WEIGHTED] / np.maximum(ways[SPREAD], LEAST_SPREAD)
    powers = found**4
    whole = powers.sum()
    return powers / whole if whole > 0 else np.zeros(net.outputs)
