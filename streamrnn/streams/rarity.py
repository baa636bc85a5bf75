"""How rare a value is: by the levels, in log2, that one row in 10, 100 and 1000 of its stream exceeds.

They are tracked by stochastic approximation (Robbins & Monro 1951), so the shares come out right in the long
run whatever the distribution is and however it drifts (Gibbs & Candes 2021). Beyond the third level the
spacing of the levels goes on (Pickands 1975).
"""

from statistics import NormalDist

import numpy as np

from streamrnn.compiling.jit import inlined

HIGHEST = 30.0  # -log10 of a share
LEVELS, GAPS = (-8.0, 21.0), (0.1, 4.0)  # that a first level, and the gaps to the next, are held within

_UNKNOWN_GAP = 1.4  # octaves: a power law that hardly has a variance, until a lighter tail is seen
_NORMAL_TAIL = 0.7  # of a decade's gap, the next one's, in the tail of a normal distribution
_FRACTION, _ONE_BITS = (1 << 52) - 1, 1023 << 52  # of a float64
_TWO_LOG2_E = 2.8853900817779268


def first_levels(outputs: int, stored: dict[str, list[float]] | None = None) -> np.ndarray:
    """The levels that a new stream begins with, (6,) float32, from a model's "score" where it has one.

    Without, the smoothed ones are those of independent normal channels, and the instant ones leave room for
    a heavy tail.
    """
    if stored is not None:
        return np.array([*stored["instant"], *stored["smoothed"]], np.float32)
    levels = []
    for share in (0.1, 0.01, 0.001):
        largest = NormalDist().inv_cdf(0.5 + 0.5 * (1 - share) ** (1 / outputs))
        levels.append(np.log2(largest**4 + 3 * (outputs - 1)) / 4)
    gaps = np.clip(np.diff(levels), *GAPS)  # those of a hundred channels would be less
    return np.array([levels[0], _UNKNOWN_GAP, _UNKNOWN_GAP, levels[0], *gaps], np.float32)


@inlined
def log2(value):
    """log2 of a positive, normal number to 1e-7: log2 m = 2 artanh((m - 1) / (m + 1)) / ln 2 for m near 1.

    With no call of a library, whose last bits may differ from machine to machine.
    """
    bits = np.float64(value).view(np.int64)
    exponent = (bits >> 52) - 1023
    m = np.int64(bits & _FRACTION | _ONE_BITS).view(np.float64)
    if m > 1.4142135623730951:
        m, exponent = 0.5 * m, exponent + 1
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    return exponent + _TWO_LOG2_E * s * (1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7))))


@inlined
def rarity(x, state, at):
    """-log10 of the share of rows beyond ``x``, by the three levels at ``state[at:]``."""
    first, gap, gap_2 = np.float64(state[at]), np.float64(state[at + 1]), np.float64(state[at + 2])
    beyond_first = x - first
    if beyond_first < 0:
        return max(0.0, 1 + beyond_first / (2 * gap))
    if beyond_first < gap:
        return 1 + beyond_first / gap
    beyond_second = beyond_first - gap
    if beyond_second < gap_2:
        return 2 + beyond_second / gap_2
    further = gap_2 * min(max(gap_2 / gap, _NORMAL_TAIL), 1.0)
    return min(3 + (beyond_second - gap_2) / further, HIGHEST)


@inlined
def track(x, state, old, new, rate):
    """Moves the levels towards those that one row in 10, 100 and 1000 exceeds, by a share of their gap.

    The first one moves twice as fast.
    """
    first, gap, gap_2 = np.float64(state[old]), np.float64(state[old + 1]), np.float64(state[old + 2])
    step = rate * gap
    second = first + gap
    moved = first + 2 * step * (0.9 if x >= first else -0.1)
    gap_moved = gap + step * (0.99 if x >= second else -0.01)
    gap_2_moved = gap_2 + step * (0.999 if x >= second + gap_2 else -0.001)
    state[new] = min(max(moved, LEVELS[0]), LEVELS[1])
    state[new + 1] = min(max(gap_moved, GAPS[0]), GAPS[1])
    state[new + 2] = min(max(gap_2_moved, GAPS[0]), GAPS[1])
