"""What a record says of its last row's score, for Python to read."""

import math
from typing import Any

import numpy as np

from streamrnn.streams.rarity import SPARES
from streamrnn.streams.score_part import (
    APART,
    AT_ONCE,
    CHANGED,
    LATEST,
    LEAST_SPREAD,
    OF_INSTANT,
    OF_RUN,
    ROWS,
    RUN,
    SCALARS,
    SHIFTED,
    SIZE,
    SIZED,
    SPREAD,
    STILL,
    USUAL,
    VECTORS,
    WARMING_ROWS,
    WEIGHTED,
)

_SPARES = np.append(SPARES, 0.0)  # and the run's


def _surprises(parts: np.ndarray) -> np.ndarray:
    """-log10 of the probability by each way and by the run, less its share's, (n, 5) float64."""
    return parts[:, OF_INSTANT : OF_RUN + 1] - _SPARES


def last_scores(parts: np.ndarray) -> np.ndarray:
    """The last score of n streams, NaN = none yet, (n,) float64.

    ``parts``, (n, OF_RUN + 1 or more) float32, begin as the score's part of a record does.
    """
    highest = np.maximum(_surprises(parts).max(axis=1), 0.0)
    return np.where(parts[:, ROWS] > WARMING_ROWS, highest, math.nan)


def last_shares(net: Any, part: np.ndarray) -> np.ndarray:
    """What ``share_out`` makes of the score's part of a record, as float32: (outputs,) float64."""
    of, every = (
        part[SCALARS : SCALARS + VECTORS * net.score_width]
        .reshape(VECTORS, -1)[:, : net.outputs]
        .astype(float),
        slice(net.outputs),
    )
    deciding = int(_surprises(part[np.newaxis])[0].argmax())
    switch = net.switches[every] != 0
    known = (of[USUAL] > 0) & (of[APART] > 0)
    more = np.divide(of[SIZE], of[USUAL], out=np.ones(net.outputs), where=known) - 1
    more = np.where(switch, np.maximum(more, 0), more)
    resized = more / np.where(known, of[APART], 1) ** 0.25
    said = {
        AT_ONCE: of[LATEST],
        SHIFTED: of[WEIGHTED] / np.maximum(of[SPREAD], LEAST_SPREAD),
        SIZED: resized,
        CHANGED: resized,
        STILL: np.maximum(of[RUN] * net.run_scale[every] - 1, 0),
    }[deciding]
    seen = switch if deciding == CHANGED else ~switch | (deciding == STILL)
    powers = np.where(seen, said, 0) ** 4
    whole = powers.sum()
    return powers / whole if whole > 0 else np.zeros(net.outputs)
