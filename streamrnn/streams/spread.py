"""How far a stream's channels are from their forecasts: the running spread of each output's error.

    e = (x - forecast) / std   a = min(|e|, BOUND r)   r += gain (a - r)   gain = max(LEAST_GAIN, 1 / (n + 1))

with std the model's own of the output and n the rows counted so far: a plain mean of |e| at first, then an
exponentially weighted one (Roberts 1959). From the row SETTLED on a row moves it by a bounded amount only
(Huber 1964), however wild it is. A row, or a channel of it, that is missing or filled in changes nothing.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.finite import filled, given
from streamrnn.kernels.network import copy
from streamrnn.kernels.simd import LANES, beyond, clamp, larger, load, positive, splat, store

# The spread's part of a record: VECTORS of ``Network.out_width`` float32, just before what was forecast of
# the last input. Of each output: r, in the model's standard deviations, 0 = nothing is known; and n.
SPREAD, COUNT = range(2)
VECTORS = 2

LEAST_GAIN = np.float32(0.03)  # so it goes back some 33 rows
SETTLED = 30  # rows
BOUND = np.float32(10)  # spreads, that such a row's error counts as at most
LEAST, MOST = np.float32(2.0**-10), np.float32(2.0**20)
MOST_ROWS = np.float32(2.0**20)  # counted

_SETTLED_BEFORE = np.float32(SETTLED - 0.5)
_ZERO, _ONE = np.float32(0), np.float32(1)


def spread_words(outputs: int) -> int:
    """float32 words that the spread takes in a record; a multiple of 16."""
    return VECTORS * packed_rows(outputs)


@inlined
def spread_at(net, slots, at):
    """Where the spread's part begins of the record at word ``at``."""
    return at + slots.forecast_at - VECTORS * net.out_width


@inlined
def keep_spread(net, state, old, new):
    """The part of a record whose row says nothing of the forecast made before it: as it was.

    ``old`` and ``new`` are words of ``state`` at which the part begins, in the stream's record and in the one
    that follows it.
    """
    copy(state, new, state, old, VECTORS * net.out_width)


@inlined
def update_spread(net, state, old, new, values, row_at, forecast_at):
    """The same of a row that was forecast: ``values[row_at:]``, NaN where a channel is missing.

    Its forecast is ``state[forecast_at:]``, both in physical units.
    """
    one, width = splat(_ONE), net.out_width
    for unit in range(0, width, LANES):
        value, forecast = load(values, row_at + unit), load(state, forecast_at + unit)
        there = beyond(load(net.out_scale, unit), _ZERO) * given(value)  # padding never is
        error = clamp((filled(value, forecast) - forecast) * load(net.out_scale, unit), -MOST, MOST)
        size = positive(error) + positive(splat(_ZERO) - error)
        spread, count = load(state, old + unit), load(state, old + COUNT * width + unit)
        most = splat(BOUND) * spread
        wild = beyond(count, _SETTLED_BEFORE) * beyond(positive(size - most), _ZERO)
        size = wild * most + (one - wild) * size
        gain = larger(splat(LEAST_GAIN), one / (count + one))
        moved = clamp(spread + gain * (size - spread), LEAST, MOST)
        store(state, new + unit, there * moved + (one - there) * spread)
        store(state, new + COUNT * width + unit, clamp(count + there, _ZERO, MOST_ROWS))


@inlined
def possible_spread(net, state, at):
    """Whether rows can lead to the spread's part of a record at ``state[at:]``, all of it finite."""
    good = True
    for output in range(at, at + net.out_width):
        spread, count = state[output], state[output + COUNT * net.out_width]
        good = good and (spread == _ZERO if count == _ZERO else LEAST <= spread <= MOST)
        good = good and 0 <= count <= MOST_ROWS
    return good
