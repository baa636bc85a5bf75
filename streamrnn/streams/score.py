"""How unusual a row is: ``score`` = -log10 of the share of normal rows that are as unusual, or more.

The residuals of the next-frame forecast are looked at in two ways, each in units of what the stream itself
shows, channel by channel: *instant*, the residual in running standard deviations, for what lasts a row; and
*smoothed*, its exponentially weighted mean (Roberts 1959) in running standard deviations of that mean, for
what lasts. The fourth powers of the channels are added up, so the worst ones decide and their shares in the
sum say which they are. Means and deviations are updated by bounded amounts (Huber 1964; Gelper, Fried &
Croux 2010). A young stream knows the deviation of its weighted means from few independent values, so their
ratios have the tails of Student's t; they are made normal for its degrees of freedom (Wallace 1959).

Either way becomes a probability by its stream's own tail, see ``levels``. The instant way has a tenth of the
probability, the smoothed one the rest (a weighted Bonferroni bound), and while the smoothed one is high, all
is learned slower.
"""

import math

import numpy as np

from streamrnn.jit import inlined
from streamrnn.kernels.finite import all_finite
from streamrnn.kernels.simd import LANES, beyond, clamp, load, positive, splat, store, total
from streamrnn.streams.levels import GAPS, HIGHEST, LEVELS, log2, rarity, track

# The score's part of a record, in float32 words: these, then VECTORS of ``out_width`` values.
# Of either way, in log2: the level of one row in 10, and the gaps to those of 100 and 1000.
INSTANT, SMOOTHED = 0, 3
ROWS = 6  # scored so far, up to MEMORY
OF_INSTANT, OF_SMOOTHED = 7, 8  # the last row's -log10 probability, by each way
EVENT = 9  # see ``event_after``
UNUSUAL = np.float32(1)  # it, from the threshold on until a score below half of that
SCALARS = 16
# Of the residual: its running mean and standard deviation. Of its weighted mean: that, and its standard
# deviation. The rows counted, up to LEARNING + 1, and the last row's residual in standard deviations.
MEAN, DEVIATION, WEIGHTED, SPREAD, COUNT, LATEST = range(6)
VECTORS = 6

LEARNING = 500  # rows over which a stream's statistics are plain averages
MEMORY = 4000  # rows that they go back, after those
WARMING_ROWS = 100  # rows before which there is no score
LEAVE, QUIET = 0.5, 64  # an event ends after so many rows below so much of the threshold

_SMOOTHING = np.float32(0.03)
_USUAL = np.float32((0.03 / (2 - 0.03)) ** 0.5)  # deviation of the weighted mean of independent residuals
_FIRST, _SETTLING, _SETTLED_BEFORE = np.float32(1.5), np.float32(60.5), np.float32(58.0)  # rows
# Degrees of freedom of the weighted mean's deviation: with white noise, 33 rows make one; real residuals are
# more alike.
_FREEDOM, _FREEDOM_PER_ROW = 3.0, 1 / 50
# Times the speed of learning, while the smoothed way says 4. From 3 on it would bias the very shares that it
# is to get right.
_SLOWED, _SLOW_FROM = 0.2, 4.0
_BOUND = np.float32(10.0)  # deviations that one row moves the statistics by, at most
_INSTANT_RATE, _SMOOTHED_RATE = 0.05, 0.001  # of the levels; the weighted means of neighbours are much alike
_INSTANT_SHARE = 0.1  # of the probability
_SPARE, _INSTANT_SPARE = -np.log10(1 - _INSTANT_SHARE), -np.log10(_INSTANT_SHARE)

_LEAST, _LEAST_SPREAD = np.float32(2.0**-10), np.float32(2.0**-16)  # in the model's standard deviations
_MOST = np.float32(2.0**20)
_FAR = np.float32(64.0) * _MOST  # what one row can make of the most
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LEARNED, _NOTHING = np.float32(LEARNING + 1), np.float32(2.0**-40)
_NAN = np.float32("nan")


def score_words(out_width: int) -> int:
    """float32 words that the score takes in a record; a multiple of 16, as ``out_width`` is."""
    return SCALARS + VECTORS * out_width


def last_scores(parts: np.ndarray) -> np.ndarray:
    """The last score of n streams, NaN = none yet, (n,) float64.

    ``parts``, (n, OF_SMOOTHED + 1 or more) float32, begin as the score's part of a record does.
    """
    of_instant, of_smoothed = parts[:, OF_INSTANT].astype(float), parts[:, OF_SMOOTHED].astype(float)
    scores = np.maximum(np.maximum(of_instant - _INSTANT_SPARE, of_smoothed - _SPARE), 0.0)
    return np.where(parts[:, ROWS] > WARMING_ROWS, scores, math.nan)


@inlined
def _as_normal(powers, rows):
    """The fourth power of what a normal variable would be in place of Student's t, by that of t.

    z^2 = n ln(1 + t^2 / n) for n degrees of freedom (Wallace 1959), of which t^2 / sqrt(1 + t^2 / n) is a
    close upper bound; ``rows`` are those that the stream has seen.
    """
    freedom = _FREEDOM + _FREEDOM_PER_ROW * rows
    return powers * freedom / (freedom + np.sqrt(np.float64(powers)))


@inlined
def _fourth(vector):
    square = vector * vector
    return square * square


@inlined
def _learn(state, old, new, width, error, there, slowed):
    """Moves the statistics of sixteen channels on, which begin at ``old`` and ``new`` in the first vector.

    ``error`` are their residuals in the model's standard deviations, 0 for one that is missing; ``there`` is
    1, or 0 for these. Returns the fourth powers by either way, 0 for a channel that is missing.
    """
    one = splat(_ONE)
    count = clamp(load(state, old + COUNT * width) + there, _ZERO, _LEARNED)
    learned = beyond(count, _LEARNED - _HALF)
    begun, settled = beyond(count, _FIRST), beyond(count, _SETTLING)
    gain = spread_gain = there * splat(np.float32(slowed / MEMORY))
    if total(there * (one - learned)) > _ZERO:  # two divisions that a stream soon needs no more
        gain = learned * gain + there * (one - learned) / clamp(count, _ONE, _LEARNED)
        since = clamp(count - splat(_SETTLED_BEFORE), _ONE, _LEARNED)
        spread_gain = learned * spread_gain + there * settled * (one - learned) / since

    mean = load(state, old + MEAN * width)
    error = there * (error - mean)
    size = positive(error) + positive(splat(_ZERO) - error)
    deviation = load(state, old + DEVIATION * width)
    deviation = clamp(deviation + (one - begun) * there * (size - deviation), _LEAST, _MOST)
    z = clamp(error / deviation, -_MOST, _MOST)
    bounded = clamp(z, -_BOUND, _BOUND)
    moved = bounded * deviation

    weighted = load(state, old + WEIGHTED * width)
    weighted = weighted + splat(_SMOOTHING) * there * (moved - weighted)
    spread = settled * load(state, old + SPREAD * width) + (one - settled) * splat(_USUAL) * deviation
    spread = clamp(spread, _LEAST_SPREAD, _MOST)
    t = there * clamp(weighted / spread, -_MOST, _MOST)
    within = clamp(t, -_BOUND, _BOUND)

    half = splat(_HALF)
    store(state, new + MEAN * width, mean + gain * moved)
    store(state, new + DEVIATION * width, deviation + deviation * half * gain * (bounded * bounded - one))
    store(state, new + WEIGHTED * width, weighted)
    store(state, new + SPREAD * width, spread + spread * half * spread_gain * (within * within - one))
    store(state, new + COUNT * width, count)
    store(state, new + LATEST * width, z)
    return _fourth(z), _fourth(t)


@inlined
def _take_missing(net, state, new, values, row_at, forecast_at):
    """Puts the residuals of a row with channels missing at LATEST, whether each is there at COUNT.

    Returns how many are.
    """
    latest, count = new + SCALARS + LATEST * net.out_width, new + SCALARS + COUNT * net.out_width
    present = 0
    for output in range(net.out_width):
        error, there = _ZERO, _ZERO
        if output < net.outputs:
            value = values[row_at + output]
            if not np.isnan(value):
                error, there = (value - state[forecast_at + output]) * net.out_scale[output], _ONE
                present += 1
        state[latest + output] = error
        state[count + output] = there
    return present


@inlined
def event_after(before, score, threshold):
    """What EVENT is after a row: 0 while nothing is unusual, else 1 + the rows in a row that were calm again.

    An event begins where it was 0 and is no more: once, however often the score crosses the threshold.
    """
    if np.isnan(score):
        return before
    if score >= threshold:
        return _ONE
    if before == _ZERO or score >= LEAVE * threshold:
        return min(before, _ONE)
    return before + _ONE if before < np.float32(QUIET) else _ZERO


@inlined
def keep(net, state, old, new, continues):
    """The score's part of a record whose row has no residual: as it was, but for a sequence that begins.

    ``old`` and ``new`` are words of ``state`` at which the part begins, in the stream's record and in the one
    that follows it.
    """
    for word in range(0, SCALARS + VECTORS * net.out_width, LANES):
        store(state, new + word, load(state, old + word))
    if not continues:
        for unit in range(SCALARS + WEIGHTED * net.out_width, SCALARS + SPREAD * net.out_width, LANES):
            store(state, new + unit, splat(_ZERO))


@inlined
def update(net, first, state, old, new, values, row_at, forecast_at):
    """Writes the score's part of the record that follows, from a row and its forecast. Returns the score.

    ``old`` and ``new`` are as in ``keep``; the row is ``values[row_at:]``, NaN where a channel is missing,
    and its forecast, made a row before, ``state[forecast_at:]``, both in physical units. ``first``, (6,), are
    the levels of a stream that begins. A part of zeros is that of a new stream. Channels that are missing
    change nothing and have no part in the score. NaN in the first WARMING_ROWS rows.
    """
    whole = all_finite(values, row_at, net.out_width)
    if not whole and _take_missing(net, state, new, values, row_at, forecast_at) == 0:
        keep(net, state, old, new, True)
        return _NAN
    rows = np.float64(state[old + ROWS])
    learning = rows < LEARNING
    slowed = _SLOWED if not learning and state[old + OF_SMOOTHED] >= _SLOW_FROM else 1.0
    width = net.out_width
    instant, smoothed = splat(_ZERO), splat(_ZERO)
    for unit in range(0, width, LANES):
        begin = new + SCALARS + unit
        if whole:
            there = beyond(load(net.out_scale, unit), _ZERO)  # padding has none
            error = load(values, row_at + unit) - load(state, forecast_at + unit)
            error = error * load(net.out_scale, unit)
        else:
            there, error = load(state, begin + COUNT * width), load(state, begin + LATEST * width)
        error = clamp(error, -_MOST, _MOST)
        z, t = _learn(state, old + SCALARS + unit, begin, width, error, there, slowed)
        instant, smoothed = instant + z, smoothed + t
    x = 0.25 * log2(max(total(instant), _NOTHING))
    y = 0.25 * log2(max(_as_normal(total(smoothed), rows), _NOTHING))

    levels = old
    if rows == 0:
        levels = new
        for level in range(6):
            state[new + level] = first[level]
    of_instant, of_smoothed = rarity(x, state, levels + INSTANT), rarity(y, state, levels + SMOOTHED)
    track(x, state, levels + INSTANT, new + INSTANT, _INSTANT_RATE * slowed)
    track(y, state, levels + SMOOTHED, new + SMOOTHED, _SMOOTHED_RATE * slowed)
    state[new + ROWS] = min(rows + 1, MEMORY)
    state[new + OF_INSTANT], state[new + OF_SMOOTHED] = of_instant, of_smoothed
    for scalar in range(EVENT, SCALARS):
        state[new + scalar] = _ZERO
    if rows < WARMING_ROWS:
        return _NAN
    return np.float32(max(0.0, of_instant - _INSTANT_SPARE, of_smoothed - _SPARE))


@inlined
def share_out(net, state, at, shares, to):
    """How much each output has to do with a score: (outputs,) of sum 1, to ``shares[to:]``.

    ``at`` is the word of ``state`` at which the score's part of the row's record begins.
    """
    width = net.out_width
    instant = state[at + OF_INSTANT] - _INSTANT_SPARE >= state[at + OF_SMOOTHED] - _SPARE
    whole = np.float64(0)
    for output in range(net.outputs):
        begin = at + SCALARS + output
        way = np.float64(state[begin + LATEST * width])
        if not instant:
            way = np.float64(state[begin + WEIGHTED * width]) / max(
                state[begin + SPREAD * width], _LEAST_SPREAD
            )
        square = way * way
        shares[to + output] = min(square * square, 1e37)
        whole += np.float64(shares[to + output])
    for output in range(net.outputs):
        shares[to + output] = shares[to + output] / whole if whole > 0 else _ZERO


@inlined
def possible(state, at, width):
    """Whether rows can lead to the score's part of a record at ``state[at:]``, all of it finite."""
    good = 0 <= state[at + ROWS] <= MEMORY and 0 <= state[at + EVENT] <= QUIET
    good = good and 0 <= state[at + OF_INSTANT] <= HIGHEST and 0 <= state[at + OF_SMOOTHED] <= HIGHEST
    if state[at + ROWS] > 0:
        for way in (INSTANT, SMOOTHED):
            good = good and LEVELS[0] <= state[at + way] <= LEVELS[1]
            for gap in (state[at + way + 1], state[at + way + 2]):
                good = good and 0.9 * GAPS[0] <= gap <= 1.1 * GAPS[1]
    for unit in range(at + SCALARS, at + SCALARS + width):
        good = (
            good and abs(state[unit + MEAN * width]) <= _FAR and abs(state[unit + WEIGHTED * width]) <= _FAR
        )
        good = good and 0 <= state[unit + DEVIATION * width] <= _FAR
        good = good and 0 <= state[unit + SPREAD * width] <= _FAR
        good = good and 0 <= state[unit + COUNT * width] <= _LEARNED
        good = good and abs(state[unit + LATEST * width]) <= _MOST
    return good


def last_shares(part: np.ndarray, outputs: int) -> np.ndarray:
    """What ``share_out`` makes of the score's part of a record, as float32: (outputs,) float64."""
    ways = part[SCALARS:].reshape(VECTORS, -1)[:, :outputs].astype(float)
    if part[OF_INSTANT] - _INSTANT_SPARE >= part[OF_SMOOTHED] - _SPARE:
        powers = ways[LATEST] ** 4
    else:
        powers = (ways[WEIGHTED] / np.maximum(ways[SPREAD], _LEAST_SPREAD)) ** 4
    whole = powers.sum()
    return powers / whole if whole > 0 else np.zeros(outputs)
