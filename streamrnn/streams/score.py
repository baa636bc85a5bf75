"""How unusual a row is: ``score`` = -log10 of the share of normal rows that are as unusual, or more.

The residuals of the next-frame forecast are looked at in three ways, each in units of what the stream itself
shows, channel by channel, see ``residuals``: *instant*, the residual in running standard deviations, for what
lasts a row; *smoothed*, its exponentially weighted mean (Roberts 1959) in running standard deviations of that
mean, for a shift that lasts; and *resized*, the weighted mean of its absolute value beside the usual one, for
a change of size that lasts, up or down. The fourth powers of the channels are added up, so the worst ones
decide and their shares in the sum say which they are; those of the resized way in units of their own mean,
since the residuals of some channels come in bursts. A young stream knows the deviation of its weighted means
from few independent values, so their ratios have the tails of Student's t; they are made normal for its
degrees of freedom (Wallace 1959).

A channel that had no more than two values in training, a switch, a command or one that stood still, has no
spread to be judged by: it is looked at by itself, *switched*, for more changes that were not forecast than
are usual.

Each way becomes a probability by its stream's own tail, see ``rarity``, and has its share of it there (a
weighted Bonferroni bound).

A sensor that died within its range leaves residuals that are smaller than usual. So there is one more way:
*run*, how often in a row a channel has said the same, or nothing at all, in units of the longest run that the
model knows of it.
While the smoothed way or this one is high, all is learned slower.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.finite import any_nonzero, filled, given
from streamrnn.kernels.simd import LANES, beyond, clamp, load, splat, store, total
from streamrnn.streams.rarity import (
    FIRST,
    POWER,
    RARITY,
    SEEN,
    SIDE,
    SLOWED,
    SPARES,
    SURPRISE,
    VALUES,
    place,
    rate,
    run_rarity,
)
from streamrnn.streams.residuals import APART_SLOW_FROM, GAIN, SLOW_FROM, SLOW_GAIN, count_run, learn
from streamrnn.streams.score_part import (
    APART,
    AT_ONCE,
    CHANGED,
    LATEST,
    LEARNING,
    LEAST_SPREAD,
    MEMORY,
    MOST,
    OF_INSTANT,
    OF_RESIZED,
    OF_RUN,
    OF_SMOOTHED,
    OF_SWITCHED,
    QUIET,
    READING,
    ROWS,
    RUN,
    SCALARS,
    SHIFTED,
    SIZE,
    SIZED,
    SPREAD,
    STILL,
    USUAL,
    VECTORS,
    WARMING_ROWS,
    WAYS,
    WEIGHTED,
)

LEAVE = 0.5  # an event ends after QUIET rows below so much of the threshold

_LEARNING, _MEMORY, _WARMING = np.float32(LEARNING), np.float32(MEMORY), np.float32(WARMING_ROWS)
_ZERO, _ONE = np.float32(0), np.float32(1)
_NAN = np.float32("nan")


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
            for begun in (WEIGHTED, RUN, LATEST):  # what is of several rows in a row
                state[unit + begun * width] = _ZERO


@inlined
def measure(net, first, state, old, new, values, row_at, forecast_at, work, lane):
    """What a row and its forecast say of each channel, to the score's part of the record that follows.

    ``old`` and ``new`` are as in ``keep``; the row is ``values[row_at:]``, NaN where a channel is missing,
    and its forecast, made a row before, ``state[forecast_at:]``, both in physical units. ``first``, (12,),
    are the levels of a stream that begins. A part of zeros is that of a new stream. Channels that are missing
    change nothing and have no part in the score. What is to be rated goes to a lane of ``work``. Returns
    False for a row with nothing to rate.
    """
    rows, width = state[old + ROWS], net.score_width
    slowed = max(state[old + OF_SMOOTHED], state[old + OF_RUN]) >= SLOW_FROM and rows >= _LEARNING
    gain = SLOW_GAIN if slowed else GAIN
    resizing = max(state[old + OF_RESIZED], state[old + OF_SWITCHED]) >= APART_SLOW_FROM
    slow_gain = SLOW_GAIN if slowed or resizing else GAIN
    present, instant, smoothed = splat(_ZERO), splat(_ZERO), splat(_ZERO)
    resized, switched, runs = splat(_ZERO), splat(_ZERO), splat(_ZERO)
    for unit in range(0, width, LANES):
        before, begin, room = old + SCALARS + unit, new + SCALARS + unit, width - unit
        value, forecast = load(values, row_at + unit), load(state, forecast_at + unit)
        channel = beyond(load(net.out_scale, unit), _ZERO)  # padding is none
        there, switch = channel * given(value), load(net.switches, unit)
        error = (filled(value, forecast) - forecast) * load(net.out_scale, unit)
        error = clamp(error, -MOST, MOST)
        z, t, u, v = learn(state, before, begin, width, room, error, channel, there, switch, gain, slow_gain)
        reading = channel * filled(value, load(state, before + READING * width))
        scale = load(net.run_scale, unit)
        run = count_run(state, before, begin, width, room, reading, channel, there, scale)
        present, instant, smoothed = present + there, instant + z, smoothed + t
        resized, switched, runs = resized + u, switched + v, runs + run
    if not any_nonzero(present):
        keep(net, state, old, new, True)
        return False
    for word in range(0, SCALARS, LANES):
        store(state, new + word, splat(_ZERO))
    if any_nonzero(runs):
        state[new + OF_RUN] = run_rarity(total(runs))
    at, slowly = place(lane), _ONE if slowed else _ZERO
    work[at + AT_ONCE * SIDE + POWER], work[at + SHIFTED * SIDE + POWER] = total(instant), total(smoothed)
    work[at + SIZED * SIDE + POWER], work[at + CHANGED * SIDE + POWER] = total(resized), total(switched)
    work[at + SHIFTED * SIDE + SEEN] = rows
    for way in range(len(WAYS)):
        of = at + way * SIDE
        work[of + SLOWED] = slowly
        for level in range(3):
            work[of + FIRST + level * VALUES] = (
                first[3 * way + level] if rows == _ZERO else state[old + 3 * way + level]
            )
    return True


@inlined
def settle(state, old, new, work, lane):
    """Completes the score's part of a record with what ``rate`` made of a lane. Returns the score.

    NaN in the first WARMING_ROWS rows.
    """
    at, rows = place(lane), state[old + ROWS]
    score = max(_ZERO, state[new + OF_RUN])
    for way in range(len(WAYS)):
        of = at + way * SIDE
        for level in range(3):
            state[new + 3 * way + level] = work[of + FIRST + level * VALUES]
        state[new + OF_INSTANT + way] = work[of + RARITY]
        score = max(score, work[of + SURPRISE])
    state[new + ROWS] = min(rows + _ONE, _MEMORY)
    return score if rows >= _WARMING else _NAN


@inlined
def update(net, first, state, old, new, values, row_at, forecast_at, work):
    """All of these for one row. Returns its score, NaN for none."""
    if not measure(net, first, state, old, new, values, row_at, forecast_at, work, 0):
        return _NAN
    rate(work, 1)
    return settle(state, old, new, work, 0)


@inlined
def _deciding(state, at):
    """The way that made the score of the row whose record has the score's part at ``at``."""
    deciding, highest = AT_ONCE, np.float64(state[at + OF_INSTANT]) - SPARES[AT_ONCE]
    for way in range(SHIFTED, len(WAYS)):
        surprise = np.float64(state[at + OF_INSTANT + way]) - SPARES[way]
        if surprise > highest:
            deciding, highest = way, surprise
    return STILL if state[at + OF_RUN] > highest else deciding


@inlined
def _way_of(net, state, begin, output, way):
    """What an output says by a way, which its fourth power is a part of."""
    width = net.score_width
    if way == STILL:
        return max(np.float64(state[begin + RUN * width]) * net.run_scale[output] - 1.0, 0.0)
    switch = net.switches[output] != _ZERO
    if switch != (way == CHANGED):
        return 0.0
    if way == AT_ONCE:
        return np.float64(state[begin + LATEST * width])
    if way == SHIFTED:
        return np.float64(state[begin + WEIGHTED * width]) / max(state[begin + SPREAD * width], LEAST_SPREAD)
    usual, apart = np.float64(state[begin + USUAL * width]), np.float64(state[begin + APART * width])
    if usual <= 0 or apart <= 0:
        return 0.0
    more = np.float64(state[begin + SIZE * width]) / usual - 1.0
    return (max(more, 0.0) if switch else more) / np.sqrt(np.sqrt(apart))


@inlined
def share_out(net, state, at, shares, to):
    """How much each output has to do with a score: (outputs,) of sum 1, to ``shares[to:]``.

    ``at`` is the word of ``state`` at which the score's part of the row's record begins.
    """
    way, whole = _deciding(state, at), np.float64(0)
    for output in range(net.outputs):
        said = _way_of(net, state, at + SCALARS + output, output, way)
        square = said * said
        shares[to + output] = min(square * square, 1e37)
        whole += np.float64(shares[to + output])
    for output in range(net.outputs):
        shares[to + output] = shares[to + output] / whole if whole > 0 else _ZERO
