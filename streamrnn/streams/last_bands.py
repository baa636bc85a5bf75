"""What records say of bands, for Python to read."""

from typing import Any

import numpy as np

from streamrnn.streams.spread import QUANTILES, SCALARS, SIGMA, TOLD, VECTORS, spread_words


def _vectors(core: Any, records: np.ndarray) -> np.ndarray:
    """(n, VECTORS, outputs) float64, of the spread's parts of ``records``, (n, forecast_at or more)."""
    end, outputs = core.slots.forecast_at, core.net.outputs
    begin = end - spread_words(outputs, core.net.spread)
    part = records[:, begin + SCALARS : begin + spread_words(outputs)].astype(np.float64)
    return part.reshape(len(records), VECTORS, -1)[:, :, :outputs]


def widest_reach(core: Any, records: np.ndarray) -> np.ndarray:
    """How far the widest band went from what was forecast of the last input, in physical units.

    (n, outputs) float64, NaN where none was told.
    """
    told = _vectors(core, records)[:, TOLD + core.bands.number - 1]
    return np.where(told > 0, told, np.nan) * core.net.out_std[: core.net.outputs]


def next_reaches(core: Any, records: np.ndarray) -> np.ndarray:
    """The same of each band and of the forecast of the next row: (n, bands, outputs) float64."""
    vectors = _vectors(core, records)
    sigma = vectors[:, [SIGMA]]
    reaches = np.exp(vectors[:, QUANTILES : QUANTILES + core.bands.number]) * sigma
    reaches = np.maximum.accumulate(np.where(sigma > 0, reaches, np.nan), axis=1)
    return reaches * core.net.out_std[: core.net.outputs]
