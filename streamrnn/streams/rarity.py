"""How rare values are: by the levels, in log2, that one row in 10, 100 and 1000 of their stream exceeds.

They are tracked by stochastic approximation (Robbins & Monro 1951), so the shares come out right in the long
run whatever the distribution is and however it drifts (Gibbs & Candes 2021). Beyond the third level the
spacing of the levels goes on (Pickands 1975).

The values of all streams of a tile are rated together, without a branch: their chains of divisions run side
by side.
"""

from collections.abc import Mapping
from statistics import NormalDist
from types import MappingProxyType

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import TILE_STREAMS

HIGHEST = 30.0  # -log10 of a share
LEVELS, GAPS = (-8.0, 21.0), (0.1, 4.0)  # that a first level, and the gaps to the next, are held within

_UNKNOWN_GAP = 1.4  # octaves: a power law that hardly has a variance, until a lighter tail is seen
_NORMAL_TAIL = 0.7  # of a decade's gap, the next one's, in the tail of a normal distribution
# Degrees of freedom of the weighted mean's deviation: with white noise, 33 rows make one; real residuals are
# more alike.
_FREEDOM, _FREEDOM_PER_ROW = 3.0, 1 / 50
_PER_OCTAVE, RUN_HIGHEST = 2.0, 20.0  # -log10 for each time that a run is twice as long; and at most
_NOTHING = 2.0**-40  # what is smaller is as rare
# Of a float64: its exponent, the bits of 1, what takes the least number above the root of 1/2 to 1, and a
# number in whose lowest bits an exponent stands.
_EXPONENT, _ONE_BITS, _UP = 0x7FF << 52, 1023 << 52, (1023 << 52) - 0x3FE6A09E667F3BCE
_WHOLE_BITS, _WHOLE = 0x433 << 52, 2.0**52 + 1023
_TWO_LOG2_E = 2.8853900817779268

# What ``rate`` works on: blocks for SIDE streams of a tile each, of rows of VALUES float32, which are the
# instant values of these streams, then those of the other ways.
SIDE = 4  # streams side by side: what the widest vectors hold
VALUES = 4 * SIDE
POWER = 0 * VALUES  # the value, to the fourth power
FIRST, GAP, GAP_2 = 1 * VALUES, 2 * VALUES, 3 * VALUES  # the levels, as they were; then as they are
SEEN = 4 * VALUES  # rows of the stream so far
SLOWED = 5 * VALUES  # not 0 where the levels are learned slower
RARITY = 6 * VALUES  # -log10 of the share of rows beyond the value
SURPRISE = 7 * VALUES  # that, less what its way's share of the probability leaves room for
_BLOCK = 8 * VALUES
WORK = -(-TILE_STREAMS // SIDE) * _BLOCK

# Of each way: its share of the probability, as -log10 of it, and how fast its levels move; weighted means of
# neighbours are much alike. And how much slower at times.
SPARES = -np.log10([0.1, 0.75, 0.05, 0.1])
_SPARES, _RATES, _SLOWLY = np.repeat(SPARES, SIDE), np.repeat([0.05, 0.001, 0.001, 0.001], SIDE), 0.2


def first_levels(
    outputs: int, stored: Mapping[str, list[float]] = MappingProxyType({}), switches: int = 0
) -> np.ndarray:
    """The levels that a new stream begins with, (12,) float32, from a model's "score" where it says them.

    Otherwise the smoothed ones are those of independent normal channels, and the others leave room for a
    heavier tail. ``switches`` of the outputs are looked at by themselves.
    """
    levels, wide = [], max(outputs - switches, 1)
    for share in (0.1, 0.01, 0.001):
        largest = NormalDist().inv_cdf(0.5 + 0.5 * (1 - share) ** (1 / wide))
        levels.append(np.log2(largest**4 + 3 * (wide - 1)) / 4)
    gaps = np.clip(np.diff(levels), *GAPS).tolist()  # those of a hundred channels would be less
    ways = {
        "instant": [levels[0], _UNKNOWN_GAP, _UNKNOWN_GAP],
        "smoothed": [levels[0], *gaps],
        # in units of the mean of fourth powers; and they come in bursts
        "resized": [levels[0] - np.log2(3) / 4, *(1.5 * gap for gap in gaps)],
        "switched": [-1.0, _UNKNOWN_GAP, _UNKNOWN_GAP],
    }
    return np.concatenate([stored.get(way, begin) for way, begin in ways.items()]).astype(np.float32)


@inlined
def log2(value):
    """log2 of a positive, normal number to 1e-7: log2 m = 2 artanh((m - 1) / (m + 1)) / ln 2 for m near 1.

    With no call of a library, whose last bits may differ from machine to machine.
    """
    bits = np.float64(value).view(np.int64)
    up = bits + _UP  # so that m is above the root of 1/2, and not above that of 2
    exponent = np.int64(up >> 52 | _WHOLE_BITS).view(np.float64) - _WHOLE
    m = np.int64(bits - (up & _EXPONENT) + _ONE_BITS).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    return exponent + _TWO_LOG2_E * s * (1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7))))


@inlined
def _held(value, low, high):
    value = value if value > low else low
    return value if value < high else high


@inlined
def _rarity(x, first, gap, gap_2):
    """-log10 of the share of rows beyond ``x``, by three levels."""
    further = gap_2 * _held(gap_2 / gap, _NORMAL_TAIL, 1.0)
    above = x - first
    above_2 = above - gap
    above_3 = above_2 - gap_2
    past_2, past_3 = above >= gap, above_2 >= gap_2
    level, way, step = 1.0, above, gap * (2.0 if above < 0 else 1.0)
    level = (3.0 if past_3 else 2.0) if past_2 else level
    way = (above_3 if past_3 else above_2) if past_2 else way
    step = (further if past_3 else gap_2) if past_2 else step
    return _held(level + way / step, 0.0, HIGHEST)


@inlined
def _as_normal(powers, rows):
    """The fourth power of what a normal variable would be in place of Student's t, by that of t.

    z^2 = n ln(1 + t^2 / n) for n degrees of freedom (Wallace 1959), of which t^2 / sqrt(1 + t^2 / n) is a
    close upper bound; ``rows`` are those that the stream has seen.
    """
    freedom = _FREEDOM + _FREEDOM_PER_ROW * rows
    return powers * freedom / (freedom + np.sqrt(powers))


@inlined
def place(lane):
    """Where a lane's instant value stands in the work of its tile; that of each other way is SIDE on."""
    return lane // SIDE * _BLOCK + lane % SIDE


@inlined
def rate(work, lanes):
    """How rare the values of ``lanes`` lanes are, and their levels moved on.

    These go towards what one row in 10, 100 and 1000 exceeds, by a share of their gap; the first one moves
    twice as fast.
    """
    for block in range(0, -(-lanes // SIDE) * _BLOCK, _BLOCK):
        for k in range(block + SIDE, block + 2 * SIDE):  # the smoothed way's
            work[POWER + k] = _as_normal(np.float64(work[POWER + k]), np.float64(work[SEEN + k]))
        for value in range(VALUES):
            k = block + value
            power = np.float64(work[POWER + k])
            x = 0.25 * log2(power if power > _NOTHING else _NOTHING)
            first, gap = np.float64(work[FIRST + k]), np.float64(work[GAP + k])
            gap_2 = np.float64(work[GAP_2 + k])
            found = _rarity(x, first, gap, gap_2)
            work[RARITY + k], work[SURPRISE + k] = found, found - _SPARES[value]
            step = _RATES[value] * (_SLOWLY if work[SLOWED + k] != 0 else 1.0) * gap
            second = first + gap
            moved = first + 2 * step * (0.9 if x >= first else -0.1)
            gap_moved = gap + step * (0.99 if x >= second else -0.01)
            gap_2_moved = gap_2 + step * (0.999 if x >= second + gap_2 else -0.001)
            work[FIRST + k] = _held(moved, LEVELS[0], LEVELS[1])
            work[GAP + k] = _held(gap_moved, GAPS[0], GAPS[1])
            work[GAP_2 + k] = _held(gap_2_moved, GAPS[0], GAPS[1])


@inlined
def run_rarity(powers):
    """-log10 for runs of these fourth powers in all: 0 up to the longest usual one, 4 at four times that."""
    if powers == 0:
        return 0.0
    return min(_PER_OCTAVE * log2(1.0 + np.sqrt(np.sqrt(np.float64(powers)))), RUN_HIGHEST)
