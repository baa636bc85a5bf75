"""From the validation part: how far the bands of a new stream go."""

from typing import Any, NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.affine import packed_rows
from streamrnn.streams.bands import LEAST_SPREAD, Bands, make_bands
from streamrnn.streams.spread import FACTOR, KEPT, SCALARS, SETTLED, spread_words, update_spread

LEVELS = (*(k / 10 for k in range(1, 10)), 0.95, 0.99)
FEWEST = 200  # errors of an output, of which more than one or two are beyond the widest level
NARROWEST = 1e-2  # of the quantiles: an output that stands still is not always forecast to the last bit


class _ErrorRows(NamedTuple):
    """What ``update_spread`` reads of a network, for errors in place of rows, which 0 was forecast of."""

    outputs: int
    out_width: int
    out_scale: np.ndarray
    spread: int = KEPT


def first_bands(streams: list[np.ndarray], factors: list[np.ndarray] | None = None) -> dict[str, Any] | None:
    """A model's "bands", from the validation errors of each stream, as ``calibrate`` takes them.

    Of each output the quantiles of |e| / r at LEVELS, r the spread that ``update_spread`` had come to before
    the row, and the mean of r. Where the network said ``factors`` of it, g of each (n, O), those of
    |e| / (r exp(g)). None where an output has fewer than FEWEST errors.
    """
    found = [_ratios(errors) for errors in streams]
    ratios, spreads = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if factors is not None:
        ratios /= np.exp(np.concatenate(factors).clip(-FACTOR, FACTOR))
    if (np.isfinite(ratios).sum(axis=0) < FEWEST).any():
        return None
    quantiles = np.nanquantile(ratios, LEVELS, axis=0).clip(NARROWEST)
    return {
        "rows": len(ratios),
        "levels": list(LEVELS),
        "quantiles": [_in_short(of) for of in quantiles.T],
        "spread": _in_short(np.nanmean(spreads, axis=0).clip(float(LEAST_SPREAD))),
    }


def _in_short(numbers: np.ndarray) -> list[float]:
    """Four digits of each, so that those of a thousand outputs take no more room than need be."""
    return [float(f"{number:.4g}") for number in numbers]


def _ratios(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|e| / r and r of a stream's rows, (n, O) each; NaN where r was not settled, or e is missing."""
    count, outputs = errors.shape
    width, words = packed_rows(outputs), spread_words(outputs)
    values, scale = np.zeros((count, width), np.float32), np.zeros(width, np.float32)
    values[:, :outputs], scale[:outputs] = errors, 1
    state, before = np.zeros(2 * words + width, np.float32), np.zeros((count, 2, width), np.float32)
    net, none = _ErrorRows(outputs, width, scale), make_bands((), outputs)
    _follow(net, none, state, words, values.reshape(-1), before.reshape(-1))
    spread, seen = before[:, 0, :outputs].astype(float), before[:, 1, :outputs]
    spread[(seen < SETTLED) | np.isnan(errors)] = np.nan
    return abs(errors) / spread, spread


@compiled
def _follow(net: Any, bands: Bands, state: Any, words: Any, values: Any, before: Any) -> None:
    """Writes spreads and counts as they are before each row to ``before``, (n, 2, out_width)."""
    width, old, new = net.out_width, 0, words
    for row in range(values.size // width):
        for word in range(2 * width):
            before[2 * row * width + word] = state[old + SCALARS + word]
        update_spread(net, bands, state, old, new, values, row * width, 2 * words)
        old, new = new, old
