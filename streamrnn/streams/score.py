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

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import packed_halves
from streamrnn.kernels.finite import any_nonzero, filled, given
from streamrnn.kernels.simd import (
    HALF_LANES,
    LANES,
    beyond,
    clamp,
    load,
    positive,
    splat,
    store,
    store_first,
    total,
)
from streamrnn.streams.rarity import (
    FIRST,
    GAPS,
    HIGHEST,
    INSTANT_SPARE,
    LEVELS,
    POWER,
    RARITY,
    RUN_HIGHEST,
    SEEN,
    SIDE,
    SLOWED,
    SPARE,
    SURPRISE,
    VALUES,
    place,
    rate,
    run_rarity,
)

# The score's part of a record, in float32 words: these, then VECTORS of ``Network.score_width`` values.
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
_BEGUN, _SETTLING, _SETTLED_BEFORE = np.float32(1.5), np.float32(60.5), np.float32(58.0)  # rows
# How fast statistics move, and while the smoothed way or the run says 4: from 3 on that would bias the very
# shares that it is to get right.
_GAIN, _SLOW_GAIN, _SLOW_FROM = np.float32(1 / MEMORY), np.float32(0.2 / MEMORY), np.float32(4)
_BOUND = np.float32(10.0)  # deviations that one row moves the statistics by, at most

_LEAST, LEAST_SPREAD = np.float32(2.0**-10), np.float32(2.0**-16)  # in the model's standard deviations
_MOST = np.float32(2.0**20)
_FAR = np.float32(64.0) * _MOST  # what one row can make of the most
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LEARNED, _LEARNING = np.float32(LEARNING + 1), np.float32(LEARNING)
_MEMORY, _WARMING = np.float32(MEMORY), np.float32(WARMING_ROWS)
_LONGEST = np.float32(2.0**24)  # rows that a float32 can count
_NAN = np.float32("nan")


def score_words(outputs: int) -> int:
    """float32 words that the score takes in a record; a multiple of 16."""
    return SCALARS + VECTORS * packed_halves(outputs)


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
def _learn(state, old, new, width, room, error, channel, there, usual_gain):
    """Moves the statistics of sixteen channels on, which begin at ``old`` and ``new`` in the first vector.

    ``error`` are their residuals in the model's standard deviations, 0 for one that is missing; ``there`` is
    1, or 0 for these; ``channel`` is 0 for what is no channel at all: padding, or of the next vector, from
    ``room`` on. Returns the fourth powers by either way, 0 for a
    channel that is missing.
    """
    one, half = splat(_ONE), splat(_HALF)
    count = clamp(load(state, old + COUNT * width) + there, _ZERO, _LEARNED)
    learned = beyond(count, _LEARNED - _HALF)
    gain = spread_gain = there * splat(usual_gain)
    error = there * (error - load(state, old + MEAN * width))
    deviation, spread = load(state, old + DEVIATION * width), load(state, old + SPREAD * width)
    young = any_nonzero(channel - learned)
    if young:
        begun, settled = beyond(count, _BEGUN), beyond(count, _SETTLING)
        gain = learned * gain + there * (one - learned) / clamp(count, _ONE, _LEARNED)
        since = clamp(count - splat(_SETTLED_BEFORE), _ONE, _LEARNED)
        spread_gain = learned * spread_gain + there * settled * (one - learned) / since
        size = positive(error) + positive(splat(_ZERO) - error)
        deviation = deviation + (one - begun) * there * (size - deviation)
        deviation = clamp(deviation, _LEAST, _MOST)
        spread = settled * spread + (one - settled) * splat(_USUAL) * deviation
    deviation, spread = clamp(deviation, _LEAST, _MOST), clamp(spread, LEAST_SPREAD, _MOST)
    ratio = error / deviation
    z, bounded = clamp(ratio, -_MOST, _MOST), clamp(ratio, -_BOUND, _BOUND)
    moved = bounded * deviation

    weighted = load(state, old + WEIGHTED * width)
    weighted = weighted + splat(_SMOOTHING) * there * (moved - weighted)
    t = there * clamp(weighted / spread, -_MOST, _MOST)
    within = clamp(t, -_BOUND, _BOUND)

    _put(state, new + MEAN * width, load(state, old + MEAN * width) + gain * moved, room)
    _put(
        state, new + DEVIATION * width, deviation + deviation * half * gain * (bounded * bounded - one), room
    )
    _put(state, new + WEIGHTED * width, weighted, room)
    _put(state, new + SPREAD * width, spread + spread * half * spread_gain * (within * within - one), room)
    _put(state, new + COUNT * width, count, room)
    _put(state, new + LATEST * width, z, room)
    return _fourth(z), _fourth(t)


@inlined
def _count_run(state, old, new, width, room, reading, there, scale):
    """Counts how often in a row each of sixteen channels said the same; ``old`` and ``new`` as in ``_learn``.

    ``reading`` are their values, and the last ones of those that are missing, whose runs stay as they are.
    ``scale`` is 1 / the longest usual run, 0 where any is usual. Returns the fourth powers of what the runs
    are longer than that, in units of it.
    """
    one = splat(_ONE)
    run = load(state, old + RUN * width)
    same = one - beyond(reading - load(state, old + READING * width), _ZERO)
    run = run + there * (same * run + one - run)  # from _LONGEST on it stays
    _put(state, new + READING * width, reading, room)
    _put(state, new + RUN * width, run, room)
    return there * _fourth(positive(run * scale - one))


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
    width = net.score_width
    for word in range(0, SCALARS + VECTORS * width, LANES):
        store(state, new + word, load(state, old + word))
    if not continues:
        for unit in range(new + SCALARS, new + SCALARS + width):
            state[unit + WEIGHTED * width] = state[unit + RUN * width] = _ZERO


@inlined
def measure(net, first, state, old, new, values, row_at, forecast_at, work, lane):
    """What a row and its forecast say of each channel, to the score's part of the record that follows.

    ``old`` and ``new`` are as in ``keep``; the row is ``values[row_at:]``, NaN where a channel is missing,
    and its forecast, made a row before, ``state[forecast_at:]``, both in physical units. ``first``, (6,), are
    the levels of a stream that begins. A part of zeros is that of a new stream. Channels that are missing
    change nothing and have no part in the score. What is to be rated goes to a lane of ``work``. Returns
    False for a row with nothing to rate.
    """
    rows, width = state[old + ROWS], net.score_width
    slowed = max(state[old + OF_SMOOTHED], state[old + OF_RUN]) >= _SLOW_FROM and rows >= _LEARNING
    gain = _SLOW_GAIN if slowed else _GAIN
    present, instant, smoothed, runs = splat(_ZERO), splat(_ZERO), splat(_ZERO), splat(_ZERO)
    for unit in range(0, width, LANES):
        before, begin, room = old + SCALARS + unit, new + SCALARS + unit, width - unit
        value, forecast = load(values, row_at + unit), load(state, forecast_at + unit)
        channel = beyond(load(net.out_scale, unit), _ZERO)  # padding is none
        there = channel * given(value)
        error = (filled(value, forecast) - forecast) * load(net.out_scale, unit)
        error = clamp(error, -_MOST, _MOST)
        z, t = _learn(state, before, begin, width, room, error, channel, there, gain)
        reading = channel * filled(value, load(state, before + READING * width))
        run = _count_run(state, before, begin, width, room, reading, there, load(net.run_scale, unit))
        present, instant, smoothed, runs = present + there, instant + z, smoothed + t, runs + run
    if not any_nonzero(present):
        keep(net, state, old, new, True)
        return False
    store(state, new, splat(_ZERO))
    if any_nonzero(runs):
        state[new + OF_RUN] = run_rarity(total(runs))
    at = place(lane)
    work[at + POWER], work[at + SIDE + POWER] = total(instant), total(smoothed)
    work[at + SIDE + SEEN] = rows
    work[at + SLOWED] = work[at + SIDE + SLOWED] = _ONE if slowed else _ZERO
    for level in range(3):
        level_1, level_2 = state[old + INSTANT + level], state[old + SMOOTHED + level]
        if rows == _ZERO:
            level_1, level_2 = first[INSTANT + level], first[SMOOTHED + level]
        to = at + FIRST + level * VALUES
        work[to], work[to + SIDE] = level_1, level_2
    return True


@inlined
def settle(state, old, new, work, lane):
    """Completes the score's part of a record with what ``rate`` made of a lane. Returns the score.

    NaN in the first WARMING_ROWS rows.
    """
    at, rows = place(lane), state[old + ROWS]
    for level in range(3):
        of = at + FIRST + level * VALUES
        state[new + INSTANT + level], state[new + SMOOTHED + level] = work[of], work[of + SIDE]
    state[new + ROWS] = min(rows + _ONE, _MEMORY)
    state[new + OF_INSTANT], state[new + OF_SMOOTHED] = work[at + RARITY], work[at + SIDE + RARITY]
    score = max(_ZERO, work[at + SURPRISE], work[at + SIDE + SURPRISE], state[new + OF_RUN])
    return score if rows >= _WARMING else _NAN


@inlined
def update(net, first, state, old, new, values, row_at, forecast_at, work):
    """All of these for one row. Returns its score, NaN for none."""
    if not measure(net, first, state, old, new, values, row_at, forecast_at, work, 0):
        return _NAN
    rate(work, 1)
    return settle(state, old, new, work, 0)


@inlined
def share_out(net, state, at, shares, to):
    """How much each output has to do with a score: (outputs,) of sum 1, to ``shares[to:]``.

    ``at`` is the word of ``state`` at which the score's part of the row's record begins.
    """
    width = net.score_width
    instant, smoothed = state[at + OF_INSTANT] - INSTANT_SPARE, state[at + OF_SMOOTHED] - SPARE
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
                state[begin + SPREAD * width], LEAST_SPREAD
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
    good = good and 0 <= state[at + OF_RUN] <= RUN_HIGHEST
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
