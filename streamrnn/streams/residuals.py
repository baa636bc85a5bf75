"""How each channel's residuals stand out among those that its stream usually has: running statistics.

Means and deviations are updated by bounded amounts (Huber 1964; Gelper, Fried & Croux 2010), so that a fault
does not pass for usual at once.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.finite import any_nonzero
from streamrnn.kernels.simd import (
    HALF_LANES,
    LANES,
    beyond,
    clamp,
    load,
    positive,
    smaller,
    splat,
    store,
    store_first,
)
from streamrnn.streams.score_part import (
    APART,
    COUNT,
    DEVIATION,
    LATEST,
    LEARNED,
    LEARNING,
    LEAST_SPREAD,
    MEAN,
    MEMORY,
    MOST,
    READING,
    RUN,
    SIZE,
    SPREAD,
    USUAL,
    WEIGHTED,
)

_SMOOTHING = np.float32(0.03)
_USUAL = np.float32((0.03 / (2 - 0.03)) ** 0.5)  # deviation of the weighted mean of independent residuals
_BEGUN, _SETTLING, _SETTLED_BEFORE = np.float32(1.5), np.float32(60.5), np.float32(58.0)  # rows
# How fast statistics move, and while the smoothed way or the run says 4: from 3 on that would bias the very
# shares that it is to get right.
GAIN, SLOW_GAIN, SLOW_FROM = np.float32(1 / MEMORY), np.float32(0.2 / MEMORY), np.float32(4)
APART_SLOW_FROM = np.float32(2.5)  # of the resized ways, for what a size is apart, which is no such share
_BOUND = np.float32(10.0)  # deviations that one row moves the statistics by, at most
# Deviations from which on a residual belongs to no tail. Where the one before was as far on the same side, it
# is no wild value either, and counts in full.
_FAR = np.float32(100.0)

_LEAST, _LEAST_USUAL = np.float32(2.0**-10), np.float32(2.0**-13)  # in the model's standard deviations
# Of the fourth power that a size is apart from its mean: what stands for it in the first rows, as if seen for
# 33 of them, what it is at least, and how far one row moves it: what switches seldom does so by all it has.
FIRST_APART, _APART_ROWS, _LEAST_APART = np.float32(0.1), np.float32(33.0), np.float32(1e-3)
_WIDE, _SWITCHED = np.float32(1e4), np.float32(100.0)
_MOST_APART = np.float32(2.0**90)
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LEARNING = np.float32(LEARNING)


@inlined
def _put(state, at, vector, room):
    """Writes a vector, or what of it there is room for: behind that stands the next."""
    if room >= LANES:
        store(state, at, vector)
    else:
        store_first(state, at, vector, HALF_LANES)


@inlined
def _fourth(vector):
    square = vector * vector
    return square * square


@inlined
def learn(state, old, new, width, room, error, channel, there, switch, usual_gain, slow_gain):
    """Moves the statistics of sixteen channels on, which begin at ``old`` and ``new`` in the first vector.

    ``error`` are their residuals in the model's standard deviations, 0 for one that is missing; ``there`` is
    1, or 0 for these; ``channel`` is 0 for what is no channel at all: padding, or of the next vector, from
    ``room`` on; ``switch`` is 1 for a channel that has but two values. Returns the fourth powers by each way:
    instant, smoothed, of the size, and of the size of switches; 0 for a channel that is missing.
    """
    one, half = splat(_ONE), splat(_HALF)
    count = clamp(load(state, old + COUNT * width) + there, _ZERO, LEARNED)
    learned = beyond(count, LEARNED - _HALF)
    gain = spread_gain = there * splat(usual_gain)
    apart_gain = there * splat(slow_gain)
    error = there * (error - load(state, old + MEAN * width))
    deviation, spread = load(state, old + DEVIATION * width), load(state, old + SPREAD * width)
    size, usual = load(state, old + SIZE * width), load(state, old + USUAL * width)
    apart = load(state, old + APART * width)
    young = any_nonzero(channel - learned)
    if young:
        begun, settled = beyond(count, _BEGUN), beyond(count, _SETTLING)
        unlearned = there * (one - learned)
        gain = learned * gain + unlearned / clamp(count, _ONE, LEARNED)
        apart_gain = learned * apart_gain + unlearned / (count + splat(_APART_ROWS))
        since = clamp(count - splat(_SETTLED_BEFORE), _ONE, LEARNED)
        spread_gain = learned * spread_gain + settled * unlearned / since
        begins = (one - begun) * there
        first = positive(error) + positive(splat(_ZERO) - error)
        deviation = deviation + begins * (first - deviation)
        deviation = clamp(deviation, _LEAST, MOST)
        spread = settled * spread + (one - settled) * splat(_USUAL) * deviation
        size, usual = size + begins * (first - size), usual + begins * (first - usual)
        apart = begun * apart + (one - begun) * splat(FIRST_APART)
    deviation, spread = clamp(deviation, _LEAST, MOST), clamp(spread, LEAST_SPREAD, MOST)
    ratio = error / deviation
    z, bounded = clamp(ratio, -MOST, MOST), clamp(ratio, -_BOUND, _BOUND)
    moved = bounded * deviation
    before, far = load(state, old + LATEST * width), splat(_FAR)
    beside = smaller(positive(z - far), positive(before - far))
    beside = beside - smaller(positive(splat(_ZERO) - z - far), positive(splat(_ZERO) - before - far))

    weighted = load(state, old + WEIGHTED * width)
    weighted = weighted + splat(_SMOOTHING) * there * (moved + beside * deviation - weighted)
    t = there * clamp(weighted / spread, -MOST, MOST)
    within = clamp(t, -_BOUND, _BOUND)

    now = positive(moved) + positive(splat(_ZERO) - moved)
    size = size + splat(_SMOOTHING) * there * (now - size)
    usual = clamp(usual, _LEAST_USUAL, MOST)
    usual = clamp(usual + gain * (smaller(now, splat(_BOUND) * usual) - usual), _LEAST_USUAL, MOST)
    more = size / usual - one
    more = clamp(positive(more) + (one - switch) * positive(splat(_ZERO) - more), _ZERO, MOST)
    fourth, apart = _fourth(more), clamp(apart, _LEAST_APART, _MOST_APART)
    resized = there * fourth / apart
    most = (splat(_WIDE) + switch * splat(_SWITCHED - _WIDE)) * apart
    apart = apart + apart_gain * (smaller(fourth, most) - apart)

    _put(state, new + MEAN * width, load(state, old + MEAN * width) + gain * moved, room)
    _put(
        state, new + DEVIATION * width, deviation + deviation * half * gain * (bounded * bounded - one), room
    )
    _put(state, new + WEIGHTED * width, weighted, room)
    _put(state, new + SPREAD * width, spread + spread * half * spread_gain * (within * within - one), room)
    _put(state, new + COUNT * width, count, room)
    _put(state, new + LATEST * width, z, room)
    _put(state, new + SIZE * width, size, room)
    _put(state, new + USUAL * width, usual, room)
    _put(state, new + APART * width, apart, room)
    wide = one - switch
    return wide * _fourth(z), wide * _fourth(t), wide * resized, switch * resized


@inlined
def count_run(state, old, new, width, room, reading, channel, there, scale):
    """Counts how often in a row each of sixteen channels said nothing new; the others are as in ``learn``.

    ``reading`` are their values, and the last ones of those that are missing, which go on with a run, too,
    once it has begun. ``scale`` is 1 / the longest usual run, 0 where any is usual. Returns the fourth powers
    of what the runs are longer than that, in units of it.
    """
    one = splat(_ONE)
    run = load(state, old + RUN * width)
    same = one - beyond(reading - load(state, old + READING * width), _ZERO)
    silent = channel * (one - there) * beyond(run, _ZERO)
    run = run + there * (same * run + one - run) + silent  # from LONGEST on it stays
    _put(state, new + READING * width, reading, room)
    _put(state, new + RUN * width, run, room)
    return channel * _fourth(positive(run * scale - one))
