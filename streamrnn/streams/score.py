"""How unusual a row is: ``score`` = -log10 of the share of normal rows that are as unusual, or more.

The residuals of the next-frame forecast are looked at in two ways, each in units of what the stream itself
shows, channel by channel: *instant*, the residual in running standard deviations, for what lasts a row; and
*smoothed*, its exponentially weighted mean (Roberts 1959) in running standard deviations of that mean, for
what lasts. The fourth powers of the channels are added up, so the worst ones decide and their shares in the
sum say which they are. Means and deviations are updated by bounded amounts (Huber 1964; Gelper, Fried &
Croux 2010). A young stream knows the deviation of its weighted means from few independent values, so their
ratios have the tails of Student's t; they are made normal for its degrees of freedom (Wallace 1959).

Either way becomes a probability by its stream's own tail, see ``levels``. The instant way has a tenth of the
probability, the smoothed one the rest (a weighted Bonferroni bound).

A sensor that died within its range leaves residuals that are smaller than usual. So there is a third way:
*run*, how often in a row a channel has said the same, in units of the longest run that the model knows of it.
While the smoothed way or this one is high, all is learned slower.
"""

import math
from typing import Any

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.finite import all_finite
from streamrnn.kernels.simd import LANES, beyond, clamp, load, positive, splat, store, total
from streamrnn.streams.rarity import GAPS, HIGHEST, LEVELS, log2, rarity, track

# The score's part of a record, in float32 words: these, then VECTORS of ``out_width`` values.
# Of either way, in log2: the level of one row in 10, and the gaps to those of 100 and 1000.
INSTANT, SMOOTHED = 0, 3
ROWS = 6  # scored so far, up to MEMORY
OF_INSTANT, OF_SMOOTHED, OF_RUN = 7, 8, 9  # the last row's -log10 probability, by each way
EVENT = 10  # see ``event_after``
UNUSUAL = np.float32(1)  # it, from the threshold on until a score below half of that
SCALARS = 16
# Of the residual: its running mean and standard deviation. Of its weighted mean: that, and its standard
# deviation. The rows counted, up to LEARNING + 1, and the last row's residual in standard deviations. Of the
# channel: its last reading, in physical units, and how many in a row were the same, this one among them.
MEAN, DEVIATION, WEIGHTED, SPREAD, COUNT, LATEST, READING, RUN = range(8)
VECTORS = 8

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
# Times the speed of learning, while the smoothed way or the run says 4. From 3 on it would bias the very
# shares that it is to get right.
_SLOWED, _SLOW_FROM = 0.2, 4.0
_BOUND = np.float32(10.0)  # deviations that one row moves the statistics by, at most
_INSTANT_RATE, _SMOOTHED_RATE = 0.05, 0.001  # of the levels; the weighted means of neighbours are much alike
_INSTANT_SHARE = 0.1  # of the probability
_SPARE, _INSTANT_SPARE = -np.log10(1 - _INSTANT_SHARE), -np.log10(_INSTANT_SHARE)
_PER_OCTAVE, _RUN_HIGHEST = 2.0, 20.0  # -log10 for each time that a run is twice as long; and at most

_LEAST, _LEAST_SPREAD = np.float32(2.0**-10), np.float32(2.0**-16)  # in the model's standard deviations
_MOST = np.float32(2.0**20)
_FAR = np.float32(64.0) * _MOST  # what one row can make of the most
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LEARNED, _NOTHING = np.float32(LEARNING + 1), np.float32(2.0**-40)
_LONGEST = np.float32(2.0**24)  # rows that a float32 can count
_NAN = np.float32("nan")


def score_words(out_width: int) -> int:
    """float32 words that the score takes in a record; a multiple of 16, as ``out_width`` is."""
    return SCALARS + VECTORS * out_width


def last_scores(parts: np.ndarray) -> np.ndarray:
    """The last score of n streams, NaN = none yet, (n,) float64.

    ``parts``, (n, OF_RUN + 1 or more) float32, begin as the score's part of a record does.
    """
    ways = parts[:, [OF_INSTANT, OF_SMOOTHED, OF_RUN]] - np.array([_INSTANT_SPARE, _SPARE, 0.0])
    return np.where(parts[:, ROWS] > WARMING_ROWS, np.maximum(ways.max(axis=1), 0.0), math.nan)


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
def _count_run(state, old, new, width, reading, there, scale):
    """Counts how often in a row each of sixteen channels said the same; ``old`` and ``new`` as in ``_learn``.

    ``reading`` are their values, and the last ones of those that are missing, whose runs stay as they are.
    ``scale`` is 1 / the longest usual run, 0 where any is usual. Returns the fourth powers of what the runs
    are longer than that, in units of it.
    """
    one = splat(_ONE)
    run = load(state, old + RUN * width)
    same = one - beyond(reading - load(state, old + READING * width), _ZERO)
    run = run + there * (same * run + one - run)  # from _LONGEST on it stays
    store(state, new + READING * width, reading)
    store(state, new + RUN * width, run)
    return there * _fourth(positive(run * scale - one))


@inlined
def _run_rarity(powers):
    """-log10 for runs of these fourth powers in all: 0 up to the longest usual one, 4 at four times that."""
    if powers == _ZERO:
        return 0.0
    return min(_PER_OCTAVE * log2(1.0 + np.sqrt(np.sqrt(np.float64(powers)))), _RUN_HIGHEST)


@inlined
def _take_missing(net, state, old, new, values, row_at, forecast_at):
    """Of a row with channels missing: puts the residuals at LATEST, whether each is there at COUNT, and the
    last readings at READING. Returns how many are there.
    """
    latest, count = new + SCALARS + LATEST * net.out_width, new + SCALARS + COUNT * net.out_width
    before, reading = old + SCALARS + READING * net.out_width, new + SCALARS + READING * net.out_width
    present = 0
    for output in range(net.out_width):
        error, there, last = _ZERO, _ZERO, state[before + output]
        if output < net.outputs:
            value = values[row_at + output]
            if not np.isnan(value):
                error, there = (value - state[forecast_at + output]) * net.out_scale[output], _ONE
                last = value
                present += 1
        state[latest + output] = error
        state[count + output] = there
        state[reading + output] = last
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
        for unit in range(0, net.out_width, LANES):
            store(state, new + SCALARS + WEIGHTED * net.out_width + unit, splat(_ZERO))
            store(state, new + SCALARS + RUN * net.out_width + unit, splat(_ZERO))


@inlined
def update(net, first, state, old, new, values, row_at, forecast_at):
    """Writes the score's part of the record that follows, from a row and its forecast. Returns the score.

    ``old`` and ``new`` are as in ``keep``; the row is ``values[row_at:]``, NaN where a channel is missing,
    and its forecast, made a row before, ``state[forecast_at:]``, both in physical units. ``first``, (6,), are
    the levels of a stream that begins. A part of zeros is that of a new stream. Channels that are missing
    change nothing and have no part in the score. NaN in the first WARMING_ROWS rows.
    """
    whole = all_finite(values, row_at, net.out_width)
    if not whole and _take_missing(net, state, old, new, values, row_at, forecast_at) == 0:
        keep(net, state, old, new, True)
        return _NAN
    rows = np.float64(state[old + ROWS])
    learning = rows < LEARNING
    high = max(state[old + OF_SMOOTHED], state[old + OF_RUN]) >= _SLOW_FROM
    slowed = _SLOWED if high and not learning else 1.0
    width = net.out_width
    instant, smoothed, runs = splat(_ZERO), splat(_ZERO), splat(_ZERO)
    for unit in range(0, width, LANES):
        begin = new + SCALARS + unit
        if whole:
            there = beyond(load(net.out_scale, unit), _ZERO)  # padding has none
            reading = there * load(values, row_at + unit)
            error = load(values, row_at + unit) - load(state, forecast_at + unit)
            error = error * load(net.out_scale, unit)
        else:
            there, error = load(state, begin + COUNT * width), load(state, begin + LATEST * width)
            reading = load(state, begin + READING * width)
        error = clamp(error, -_MOST, _MOST)
        before, scale = old + SCALARS + unit, load(net.run_scale, unit)
        z, t = _learn(state, before, begin, width, error, there, slowed)
        instant, smoothed = instant + z, smoothed + t
        runs = runs + _count_run(state, before, begin, width, reading, there, scale)
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
    of_run = _run_rarity(total(runs))
    state[new + OF_INSTANT], state[new + OF_SMOOTHED], state[new + OF_RUN] = of_instant, of_smoothed, of_run
    for scalar in range(EVENT, SCALARS):
        state[new + scalar] = _ZERO
    if rows < WARMING_ROWS:
        return _NAN
    return np.float32(max(0.0, of_instant - _INSTANT_SPARE, of_smoothed - _SPARE, of_run))


@inlined
def share_out(net, state, at, shares, to):
    """How much each output has to do with a score: (outputs,) of sum 1, to ``shares[to:]``.

    ``at`` is the word of ``state`` at which the score's part of the row's record begins.
    """
    width = net.out_width
    instant, smoothed = state[at + OF_INSTANT] - _INSTANT_SPARE, state[at + OF_SMOOTHED] - _SPARE
    run = state[at + OF_RUN] > max(instant, smoothed)
    whole = np.float64(0)
    for output in range(net.outputs):
        begin = at + SCALARS + output
        if run:
            length = np.float64(state[begin + RUN * width]) * net.run_scale[output]
            way = max(length - 1.0, 0.0)
        elif instant >= smoothed:
            way = np.float64(state[begin + LATEST * width])
        else:
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
    good = good and 0 <= state[at + OF_RUN] <= _RUN_HIGHEST
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
        good = good and 0 <= state[unit + RUN * width] <= _LONGEST
    return good


def last_shares(net: Any, part: np.ndarray) -> np.ndarray:
    """What ``share_out`` makes of the score's part of a record, as float32: (outputs,) float64."""
    ways = part[SCALARS:].reshape(VECTORS, -1)[:, : net.outputs].astype(float)
    instant, smoothed = part[OF_INSTANT] - _INSTANT_SPARE, part[OF_SMOOTHED] - _SPARE
    if part[OF_RUN] > max(instant, smoothed):
        found = np.maximum(ways[RUN] * net.run_scale[: net.outputs] - 1, 0)
    elif instant >= smoothed:
        found = ways[LATEST]
    else:
        found = ways[WEIGHTED] / np.maximum(ways[SPREAD], _LEAST_SPREAD)
    powers = found**4
    whole = powers.sum()
    return powers / whole if whole > 0 else np.zeros(net.outputs)
