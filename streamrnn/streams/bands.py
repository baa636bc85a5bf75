"""Bands around a forecast that hold their share of what comes: forecast +- q r, r the spread of its error.

Of each stream, output and level p there is a q, kept right by conformal adjustment: after each row

    ln q += step ((|e| > q r) - (1 - p))

so that in the long run a share p of the errors e is within the band, whatever their distribution is and
however it drifts (Gibbs & Candes 2021), with a step that shrinks over the first rows to a floor
(Angelopoulos, Barber & Bates 2024, "Online conformal prediction with decaying step sizes"). The logarithm
makes it a matter of ratios: what moves q is the shape of the errors' distribution, their scale is r's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.compiling.known import KnownIfZero
from streamrnn.kernels.activations import exp
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.finite import any_nonzero
from streamrnn.kernels.network import aligned
from streamrnn.kernels.simd import LANES, beyond, clamp, fma, larger, load, positive, splat, store
from streamrnn.wire.frame import LARGEST

MOST_BANDS = 4
LEADS = 4  # rows ahead at which rollouts are held against what comes, see ``ahead``

# Chosen on ETTh1, SKAB's file without faults and the demo's pumps: steps from 0.01 to 0.05 hold every level
# of every channel within a point, smaller ones with narrower bands, larger ones sooner after a change.
FIRST_STEP, LEAST_STEP = np.float32(0.1), np.float32(0.02)
_PER_ROW = np.float32(1 / 100)  # after so many rows it is half of the first
FARTHEST = np.float32(6)  # |ln q|
LEAST_SPREAD, MOST_SPREAD = np.float32(2.0**-10), np.float32(2.0**20)  # that an r is held within
STARTED = 33  # rows that a model's start counts for in a new stream: as many as r remembers
BELIEVED = 5  # rows that a model's r counts for in a new stream
_SCALE = np.float32(math.exp(6))
_LARGEST = np.float32(LARGEST)
_NAN = np.float32("nan")
_ZERO, _ONE = np.float32(0), np.float32(1)


class Bands(NamedTuple):
    """Which bands a forecast has, and what a stream begins with."""

    number: KnownIfZero  # of bands; 0 = none
    levels: np.ndarray  # (MOST_BANDS,) float32: the share of errors in each, the narrowest first; then zeros
    first: np.ndarray  # (MOST_BANDS * out_width,) float32: ln q
    spread: np.ndarray  # (out_width,) float32: r, 0 = not known
    seen: np.ndarray  # (out_width,) float32: rows that r counts for
    growth: np.ndarray  # (rows, channels, out_width) float32: of the squares of errors in a rollout's rows
    rows: int  # of a rollout; 0 = there is none
    leads: np.ndarray  # (LEADS,) int64: rows ahead, 0 = none
    weights: np.ndarray  # (rows, LEADS) float32: of the leads' ln f in that of each row
    work: np.ndarray  # ((1 + MOST_BANDS) * out_width,) float32


def make_bands(
    levels: Sequence[float],
    outputs: int,
    stated: Mapping[str, Any] | None = None,
    start: np.ndarray | None = None,
) -> Bands:
    """Bands of these levels, in rising order, for so many outputs; ``stated`` is a model's "bands".

    ``start``, (outputs,), is what a model that says its spread has learned that r begins with.
    """
    width = packed_rows(outputs)
    found = np.zeros(MOST_BANDS, np.float32)
    found[: len(levels)] = levels
    first = aligned(MOST_BANDS * width)
    for band, level in enumerate(levels):
        quantiles = np.log(_quantiles(level, outputs, stated)).clip(-FARTHEST, FARTHEST)
        first[band * width : band * width + outputs] = quantiles
    spread, seen = aligned(width), aligned(width)
    if start is not None:
        spread[:outputs], seen[:outputs] = np.clip(start, LEAST_SPREAD, MOST_SPREAD), STARTED
    elif stated is not None:
        spread[:outputs], seen[:outputs] = np.clip(stated["spread"], LEAST_SPREAD, MOST_SPREAD), BELIEVED
    work = aligned((1 + MOST_BANDS) * width)
    none = np.zeros(LEADS, np.int64)
    return Bands(len(levels), found, first, spread, seen, aligned(0), 0, none, aligned(0), work)


def _quantiles(level: float, outputs: int, stated: Mapping[str, Any] | None) -> np.ndarray:
    """Those of |e| / r that streams begin with, (outputs,): between the stated levels, and beyond them, in
    proportion to the usual ones.
    """
    usual = usual_quantile(level)
    if stated is None:
        return np.full(outputs, usual)
    known = [usual_quantile(of) for of in stated["levels"]]
    return np.array(
        [usual * np.interp(level, stated["levels"], np.divide(of, known)) for of in stated["quantiles"]]
    )


def usual_quantile(level: float) -> float:
    """That of |e| / r where nothing is known: of Student's t with 4 degrees of freedom, whose mean |t| is 1.

    Its inverse by Shaw 2006, "Sampling Student's T distribution", section 2.3.
    """
    alpha = 1 - level * level  # 4 u (1 - u) of u = (1 + level) / 2
    return 2 * math.sqrt(max(math.cos(math.acos(math.sqrt(alpha)) / 3) / math.sqrt(alpha) - 1, 0.0))


@inlined
def reach_of(state, at, spread, inner):
    """How far a band goes, in the unit of ``spread``, for the ln q at ``state[at:]``; at least ``inner``."""
    quantile = exp(load(state, at) - splat(FARTHEST)) * splat(_SCALE)
    return larger(quantile * spread, inner)


@inlined
def move_quantiles(bands, state, old, new, apart, size, spread, count, there):
    """Moves the ln q of sixteen outputs, of which those of each band stand ``apart`` from the next's.

    Behind those of MOST_BANDS it writes how far the bands went. ``old`` and ``new`` are words of ``state``;
    ``size`` is |e|, ``spread`` r before the row, ``count`` the rows counted so far, ``there`` 1, or 0 for an
    output of which nothing was learned.
    """
    one, reach = splat(_ONE), splat(_ZERO)
    step = there * larger(splat(LEAST_STEP), splat(FIRST_STEP) / fma(count, splat(_PER_ROW), one))
    for band in range(bands.number):
        log = load(state, old + band * apart)
        reach = reach_of(state, old + band * apart, spread, reach)
        missed = beyond(positive(size - reach), _ZERO)
        moved = fma(step, missed - splat(_ONE - bands.levels[band]), log)
        store(state, new + band * apart, clamp(moved, -FARTHEST, FARTHEST))
        store(state, new + (MOST_BANDS + band) * apart, reach)


@inlined
def write_bands(net, bands, spreads, spread_at, state, quantiles_at, values, forecast_at, out, to, apart):
    """Low and high of each band around the forecast ``values[forecast_at:]``, in its units, to ``out[to:]``.

    ``spreads[spread_at:]`` are those of its errors; the ln q are at ``state[quantiles_at:]``. Vectors of
    ``out_width``, ``apart`` words apart, the narrowest band's low first. NaN where a spread is not known yet.
    """
    width = net.out_width
    for unit in range(0, width, LANES):
        spread, forecast = load(spreads, spread_at + unit), load(values, forecast_at + unit)
        std, reach = load(net.out_std, unit), splat(_ZERO)
        for band in range(bands.number):
            reach = reach_of(state, quantiles_at + band * width + unit, spread, reach)
            at = to + 2 * band * apart + unit
            store(out, at, clamp(fma(splat(_ZERO) - reach, std, forecast), -_LARGEST, _LARGEST))
            store(out, at + apart, clamp(fma(reach, std, forecast), -_LARGEST, _LARGEST))
        if any_nonzero(splat(_ONE) - beyond(spread, _ZERO)):
            for output in range(unit, min(unit + LANES, net.outputs)):
                if spreads[spread_at + output] == _ZERO:
                    for vector in range(2 * bands.number):
                        out[to + vector * apart + output] = _NAN


@inlined
def grow(net, bands, state, spread_at, step):
    """The spreads of errors in row ``step`` of a rollout, to ``bands.work``; 0 where one is not known yet.

    Those one row ahead are ``state[spread_at:]``.
    """
    width = net.out_width
    for unit in range(0, width, LANES):
        square = splat(_ZERO)
        for channel in range(net.inputs):
            spread = state[spread_at + channel]
            growth = load(bands.growth, (step * net.inputs + channel) * width + unit)
            square = fma(growth, splat(spread * spread), square)
        store(bands.work, unit, square)
    for output in range(width):
        known = state[spread_at + output] > _ZERO
        bands.work[output] = np.sqrt(bands.work[output]) if known else _ZERO
