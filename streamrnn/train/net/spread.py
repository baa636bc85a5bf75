"""How wide a forecast's error is taken to be: a running spread, the network's factor on it, the likelihood.

The error of an output is e = prediction - target, in standard deviations, and its running spread r an
exponentially weighted mean of |e| (Roberts 1959) in which no row has much say. The network says g, and e is
taken to have Student's t distribution of nu degrees of freedom and of the scale sigma = r exp(g); r is taken
as given, so that nothing is learned through it.
"""

import math
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.streams.bands import LEAST_SPREAD, MOST_SPREAD
from streamrnn.streams.spread import BOUND, LEAST_GAIN
from streamrnn.streams.spread import FACTOR as HELD

GAIN = round(float(LEAST_GAIN), 6)  # share of a row in the running spread
OUTLIER = float(BOUND)  # running spreads: no error counts for more
LEAST, MOST = float(LEAST_SPREAD), float(MOST_SPREAD)  # what the running spread is held within
FACTOR = float(HELD)  # what g is held within, of either sign
ETA = (-5.0, 8.0)  # what log(nu - 2) is held within: nu from 2.007 to 2983
_SHIFTS = 8  # by which an argument of the digamma function is raised to where its series holds


class Likelihood(NamedTuple):
    """The negative logarithm of the likelihood of errors, and its derivatives."""

    sum: np.ndarray  # (O,) float64: over all rows
    d_error: np.ndarray  # (..., O) as the errors
    d_factor: np.ndarray  # (..., O): by g
    d_shape: np.ndarray  # (O,) float64: by log(nu - 2)


def freedom(shape: np.ndarray) -> np.ndarray:
    """Degrees of freedom nu, (O,) float64 above 2, of log(nu - 2), (O,)."""
    return 2 + np.exp(np.clip(np.asarray(shape, np.float64), *ETA))


def log_excess(nu: np.ndarray) -> np.ndarray:
    """log(nu - 2), (O,) float64, of degrees of freedom above 2."""
    return np.log(np.asarray(nu, np.float64) - 2)


def within(spread: np.ndarray) -> np.ndarray:
    """A running spread, as float32, within what it can be."""
    return np.clip(spread, LEAST, MOST).astype(np.float32)


def scale_of(factor: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """sigma, of g and r."""
    return np.exp(np.clip(factor, -FACTOR, FACTOR)) * spread


@compiled
def run_spread(
    error: np.ndarray,
    weight: np.ndarray,
    begins: np.ndarray,
    start: np.ndarray,
    carry: np.ndarray,
    spread: np.ndarray,
) -> None:
    """The running spread before each step, to ``spread`` (T, B, O), of errors (T, B, O).

    A step without a target, whose ``weight`` is 0, changes nothing. Where a sequence begins, ``begins``
    (T, B) uint8, the spread is ``start`` (O,), which counts for as many rows as GAIN remembers. ``carry``
    (B, O) is the spread before the first step, and then that after the last. All but ``begins`` are of one
    dtype.
    """
    steps, lanes, outputs = error.shape
    kind = carry.dtype.type
    for step in range(steps):
        for lane in range(lanes):
            for output in range(outputs):
                r = start[output] if begins[step, lane] == 1 else carry[lane, output]
                spread[step, lane, output] = r
                if weight[step, lane, output] > 0:
                    a = min(abs(error[step, lane, output]), kind(OUTLIER) * r)
                    r = min(max(r + kind(GAIN) * (a - r), kind(LEAST)), kind(MOST))
                carry[lane, output] = r


def likelihood(
    error: np.ndarray, factor: np.ndarray, spread: np.ndarray, weight: np.ndarray, shape: np.ndarray
) -> Likelihood:
    """That of ``error``, given g, ``factor``, and r, ``spread``, each weighed: (..., O), ``shape`` (O,).

    Per value it is log sigma + log(nu pi) / 2 + lgamma(nu / 2) - lgamma((nu + 1) / 2)
    + (nu + 1) / 2 log(1 + e^2 / (nu sigma^2)) (Lange, Little & Taylor 1989). Where g or log(nu - 2) is
    past what it is held within, it has no derivative.
    """
    nu, outputs = freedom(shape), error.shape[-1]
    d_error, d_factor = np.empty_like(error), np.empty_like(error)
    weights, logs, tails, pulls = sums = np.zeros((4, outputs))
    rows = (np.ascontiguousarray(part).reshape(-1, outputs) for part in (error, factor, spread, weight))
    _student(*rows, nu, d_error.reshape(-1, outputs), d_factor.reshape(-1, outputs), sums)
    constant = np.array(
        [(math.log(n * math.pi) + 2 * math.lgamma(n / 2) - 2 * math.lgamma((n + 1) / 2)) / 2 for n in nu]
    )
    d_nu = weights * (1 / nu + _digamma(nu / 2) - _digamma((nu + 1) / 2)) + tails - pulls / nu
    held = (shape < ETA[0]) | (shape > ETA[1])
    return Likelihood(
        weights * constant + logs + (nu + 1) / 2 * tails,
        d_error,
        d_factor,
        np.where(held, 0, d_nu * (nu - 2) / 2),
    )


@compiled
def _student(
    error: np.ndarray,
    factor: np.ndarray,
    spread: np.ndarray,
    weight: np.ndarray,
    nu: np.ndarray,
    d_error: np.ndarray,
    d_factor: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Derivatives of each value, (n, O), and ``sums`` (4, O) that the others are made of.

    In float64, as the square of a wild error is past float32.
    """
    for row in range(error.shape[0]):
        for output in range(error.shape[1]):
            weighs = np.float64(weight[row, output])
            if not weighs > 0:
                d_error[row, output] = d_factor[row, output] = 0
                continue
            said = np.float64(factor[row, output])
            g = min(max(said, -FACTOR), FACTOR)
            sigma = np.float64(spread[row, output]) * np.exp(g)
            z = error[row, output] / sigma
            pull = (nu[output] + 1) / (nu[output] + z * z) * z
            d_error[row, output] = weighs * pull / sigma
            d_factor[row, output] = weighs * (1 - pull * z) if g == said else 0
            sums[0, output] += weighs
            sums[1, output] += weighs * np.log(sigma)
            sums[2, output] += weighs * np.log1p(z * z / nu[output])
            sums[3, output] += weighs * pull * z


def _digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of lgamma, for x > 0 (Abramowitz & Stegun 1964, 6.3.5 and 6.3.18)."""
    raised, below = x + _SHIFTS, sum(1 / (x + shift) for shift in range(_SHIFTS))
    s = 1 / raised**2
    series = s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))
    return np.log(raised) - 0.5 / raised - series - below
