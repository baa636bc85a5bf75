"""How far a stream's channels are from their forecasts: the running spread of each output's error.

    e = (x - forecast) / std   a = min(|e|, BOUND r)   r += gain (a - r)   gain = max(LEAST_GAIN, 1 / (n + 1))

with std the model's own of the output and n the rows counted so far: a plain mean of |e| at first, then an
exponentially weighted one (Roberts 1959). From the row SETTLED on a row moves it by a bounded amount only
(Huber 1964), however wild it is. A row, or a channel of it, that is missing or filled in changes nothing.

What comes next is taken to be sigma off, sigma = r exp(g), with g, within FACTOR, what the network says of
it; 0 where it says nothing. What ``bands`` remembers of a stream stands beside it.
"""

import math

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.activations import exp
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.finite import filled, given
from streamrnn.kernels.network import copy
from streamrnn.kernels.simd import LANES, beyond, clamp, larger, load, positive, splat, store
from streamrnn.streams.ahead import (
    ahead_size,
    ahead_words,
    any_lead_free,
    learn_ahead,
    look_ahead,
    possible_ahead,
    remember_ahead,
)
from streamrnn.streams.bands import (
    FARTHEST,
    LEADS,
    LEAST_SPREAD,
    MOST_BANDS,
    MOST_SPREAD,
    move_quantiles,
    write_bands,
)
from streamrnn.wire.frame import LARGEST

# The spread's part of a record, just before what was forecast of the last input: these float32, then VECTORS
# of ``Network.out_width``.
NOT_KEPT, KEPT, KEPT_AHEAD = range(3)  # what ``Network.spread`` says: whether it is, and that of rollouts too
LEVELS = 0  # MOST_BANDS of them: those that the quantiles are of, 0 = none
BEGUN = MOST_BANDS  # 1; 0 = all of the part is zeros, and nothing known
ROLLED = BEGUN + 1  # rows of the rollouts that are waited for
WAITS = ROLLED + 1  # LEADS of them: see ``ahead``
COUNTS = WAITS + LEADS  # likewise
SCALARS = 32  # more than they are, so that records of no two settings are of one length
assert COUNTS + LEADS <= SCALARS
# Of each output: r, in the model's standard deviations, 0 = nothing is known; n; the next row's sigma; and of
# each band ln q, and how far it was told to go from what was forecast of the last input, 0 = it was not.
SPREAD, COUNT, SIGMA, QUANTILES = range(4)
TOLD = QUANTILES + MOST_BANDS
VECTORS = TOLD + MOST_BANDS

LEAST_GAIN = np.float32(0.03)  # so it goes back some 33 rows
SETTLED = 30  # rows
BOUND = np.float32(10)  # spreads, that such a row's error counts as at most
MOST_ROWS = np.float32(2.0**20)  # counted
FACTOR = np.float32(4)  # that g is held within, of either sign
_MOST_SIGMA = np.float32(2.0**26)

_SETTLED_BEFORE = np.float32(SETTLED - 0.5)
_SCALE = np.float32(math.exp(4))
_ZERO, _ONE = np.float32(0), np.float32(1)


def spread_words(outputs: int, spread: int = KEPT) -> int:
    """float32 words that the spread takes in a record, a multiple of 16; ``spread`` as in ``Network``."""
    own = SCALARS + VECTORS * packed_rows(outputs)
    return {NOT_KEPT: 0, KEPT: own, KEPT_AHEAD: own + ahead_words(outputs)}[spread]


@inlined
def _own_size(net):
    return SCALARS + VECTORS * net.out_width


@inlined
def spread_at(net, slots, at):
    """Where the spread's part begins of the record at word ``at``."""
    size = _own_size(net)
    if net.spread == KEPT_AHEAD:
        size += ahead_size(net)
    return at + slots.forecast_at - size


@inlined
def _begin(net, bands, state, old, new):
    """The part of a stream that has none yet, or whose quantiles are of other levels, to ``state[new:]``."""
    width = net.out_width
    for word in range(0, SCALARS, LANES):
        store(state, new + word, splat(_ZERO))
    if state[old + BEGUN] == _ONE:
        copy(state, new + SCALARS, state, old + SCALARS, QUANTILES * width)
    else:
        copy(state, new + SCALARS, bands.spread, 0, width)
        copy(state, new + SCALARS + COUNT * width, bands.seen, 0, width)
    copy(state, new + SCALARS + QUANTILES * width, bands.first, 0, MOST_BANDS * width)
    for unit in range(SCALARS + TOLD * width, SCALARS + VECTORS * width, LANES):
        store(state, new + unit, splat(_ZERO))
    if net.spread == KEPT_AHEAD:
        for unit in range(_own_size(net), _own_size(net) + ahead_size(net), LANES):
            store(state, new + unit, splat(_ZERO))
        state[new + ROLLED] = np.float32(bands.rows)
    for band in range(MOST_BANDS):
        state[new + LEVELS + band] = bands.levels[band]
    state[new + BEGUN] = _ONE


@inlined
def _same(bands, state, old):
    """Whether the part at ``state[old:]`` has begun, and is of the levels and rollouts that are asked for."""
    same = state[old + BEGUN] == _ONE and state[old + ROLLED] == np.float32(bands.rows)
    for band in range(MOST_BANDS):
        same = same and state[old + LEVELS + band] == bands.levels[band]
    return same


@inlined
def keep_spread(net, bands, state, old, new):
    """The part of a record whose row says nothing of the forecast made before it: as it was.

    ``old`` and ``new`` are words of ``state`` at which the part begins, in the stream's record and in the one
    that follows it.
    """
    if not _same(bands, state, old):
        _begin(net, bands, state, old, new)
        return
    copy(state, new, state, old, SCALARS + TOLD * net.out_width)
    for unit in range(SCALARS + TOLD * net.out_width, _own_size(net), LANES):  # of the row, none was told
        store(state, new + unit, splat(_ZERO))
    if net.spread == KEPT_AHEAD:
        copy(state, new + _own_size(net), state, old + _own_size(net), ahead_size(net))
        for lead in range(LEADS):
            state[new + WAITS + lead] = _ZERO


@inlined
def update_spread(net, bands, state, old, new, values, row_at, forecast_at):
    """The same of a row that was forecast: ``values[row_at:]``, NaN where a channel is missing.

    Its forecast is ``state[forecast_at:]``, both in physical units.
    """
    if _same(bands, state, old):
        copy(state, new, state, old, SCALARS)
    else:
        _begin(net, bands, state, old, new)
        old = new
    one, width = splat(_ONE), net.out_width
    for unit in range(0, width, LANES):
        value, forecast = load(values, row_at + unit), load(state, forecast_at + unit)
        there = beyond(load(net.out_scale, unit), _ZERO) * given(value)  # padding never is
        error = clamp(
            (filled(value, forecast) - forecast) * load(net.out_scale, unit), -MOST_SPREAD, MOST_SPREAD
        )
        size = positive(error) + positive(splat(_ZERO) - error)
        before, after = old + SCALARS + unit, new + SCALARS + unit
        spread, count = load(state, before), load(state, before + COUNT * width)
        if bands.number > 0:
            sigma = load(state, before + SIGMA * width)
            known, first = there * beyond(sigma, _ZERO), QUANTILES * width
            move_quantiles(bands, state, before + first, after + first, width, size, sigma, count, known)
        most = splat(BOUND) * spread
        wild = beyond(count, _SETTLED_BEFORE) * beyond(positive(size - most), _ZERO)
        size = wild * most + (one - wild) * size
        gain = larger(splat(LEAST_GAIN), one / (count + one))
        moved = clamp(spread + gain * (size - spread), LEAST_SPREAD, MOST_SPREAD)
        store(state, after, there * moved + (one - there) * spread)
        store(state, after + COUNT * width, clamp(count + there, _ZERO, MOST_ROWS))
    if net.spread == KEPT_AHEAD:
        ahead = _own_size(net)
        waits, counts = new + WAITS, new + COUNTS
        learn_ahead(net, bands, state, waits, counts, old + ahead, new + ahead, values, row_at)
    for band in range(bands.number, MOST_BANDS):
        for first in (QUANTILES, TOLD):
            for unit in range(SCALARS + (first + band) * width, SCALARS + (first + band + 1) * width, LANES):
                store(state, new + unit, splat(_ZERO))


@inlined
def foresee_spread(net, scratch, lane, state, at):
    """The sigma of the next row's error, to the part of a record at ``state[at:]``, by what the network says.

    That stands behind the forecast in a lane of ``scratch``, until the next product.
    """
    width, said = net.out_width, lane * net.gate_stride + net.factors_at
    for unit in range(at + SCALARS, at + SCALARS + width, LANES):
        sigma = load(state, unit)
        if net.factors_at > 0:
            g = load(scratch.gates, said + unit - at - SCALARS)
            g = clamp(filled(g, splat(_ZERO)), -FACTOR, FACTOR)
            sigma = sigma * (exp(g - splat(FACTOR)) * splat(_SCALE))
        store(state, unit + SIGMA * width, sigma)


@inlined
def tell_bands(net, bands, state, at, forecast_at, out, to):
    """``write_bands`` of the forecast ``state[forecast_at:]``, by the part of a record at ``state[at:]``."""
    width = net.out_width
    sigma, quantiles = at + SCALARS + SIGMA * width, at + SCALARS + QUANTILES * width
    write_bands(net, bands, state, sigma, state, quantiles, state, forecast_at, out, to, width)


@inlined
def tell_bands_ahead(net, bands, state, at, values, first, rows, out, to):
    """The same of so many ``rows`` of a rollout, ``values[first:]``: all rows of a side together."""
    width, ahead = net.out_width, at + _own_size(net)
    sigma, quantiles = at + SCALARS + SIGMA * width, at + SCALARS + QUANTILES * width
    for step in range(rows):
        look_ahead(net, bands, state, sigma, quantiles, ahead, step)
        forecast, here, work = first + step * width, to + step * width, bands.work
        write_bands(net, bands, work, 0, work, width, values, forecast, out, here, rows * width)


@inlined
def awaits_rollout(bands, state, at):
    """Whether a stream would remember a rollout, by the part of its record at ``state[at:]``."""
    return any_lead_free(bands, state, at + WAITS)


@inlined
def remember_rollout(net, bands, state, at, values, first):
    """Has the part of a record at ``state[at:]`` remember the rollout ``values[first:]``, to learn from."""
    width, ahead = net.out_width, at + _own_size(net)
    sigma, quantiles = at + SCALARS + SIGMA * width, at + SCALARS + QUANTILES * width
    remember_ahead(net, bands, state, sigma, quantiles, at + WAITS, ahead, values, first)


@inlined
def possible_spread(net, state, at):
    """Whether rows can lead to the spread's part of a record at ``state[at:]``, all of it finite."""
    good = state[at + BEGUN] == _ZERO or state[at + BEGUN] == _ONE
    for band in range(MOST_BANDS):
        good = good and 0 <= state[at + LEVELS + band] < 1
    if net.spread == KEPT_AHEAD:
        good = good and 0 <= state[at + ROLLED] < 65536
        good = good and possible_ahead(net, state, at + WAITS, at + COUNTS, at + _own_size(net))
    for output in range(at + SCALARS, at + SCALARS + net.out_width):
        spread, count = state[output], state[output + COUNT * net.out_width]
        good = good and (spread == _ZERO if count == _ZERO else LEAST_SPREAD <= spread <= MOST_SPREAD)
        good = good and 0 <= count <= MOST_ROWS
        good = good and 0 <= state[output + SIGMA * net.out_width] <= _MOST_SIGMA
        for band in range(MOST_BANDS):
            good = good and abs(state[output + (QUANTILES + band) * net.out_width]) <= FARTHEST
            good = good and 0 <= state[output + (TOLD + band) * net.out_width] <= LARGEST
    return good
