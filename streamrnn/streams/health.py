"""How a stream's state is: saturated, it says the same whatever comes in."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.finite import probe
from streamrnn.kernels.network import LSTM, RNN_RELU
from streamrnn.kernels.simd import LANES, beyond, load, splat, total
from streamrnn.stats import RESETS
from streamrnn.streams.record import DEGRADED, ENDED

DEGRADED_SHARE = 0.9  # of a network's units saturated: what comes in hardly moves it any more
DEGRADED_STEPS = 1000  # in a row, after which a stream is not expected to recover by itself

# The absolute value past which a unit is saturated: the cell state's tanh is flat, the hidden state at its
# bound. A rectifier has none; this is far outside of what a network of any use computes with.
FLAT_CELL, FLAT_HIDDEN, FLAT_RECTIFIER = np.float32(7.9), np.float32(0.9999), np.float32(1e6)

_BY_DEGRADATION = RESETS.index("degraded")


@inlined
def saturated(net, values, at, limit):
    """In sixteen lanes, how many of the layers * width units at ``values[at:]`` are beyond ``limit``."""
    count = splat(np.float32(0))
    for unit in range(at, at + net.layers * net.width, LANES):
        count = count + beyond(load(values, unit), limit)
    return count


@inlined
def survey(net, slots, at):
    """How many units the record at word ``at`` has saturated; NaN when not all that a step wrote is finite.

    One sum of sixteen lanes for both: it costs as much as looking at a whole record does.
    """
    if net.cell == LSTM:
        count = saturated(net, slots.state, at + slots.cell_at, FLAT_CELL)
    elif net.cell == RNN_RELU:
        count = saturated(net, slots.state, at + slots.hidden_at, FLAT_RECTIFIER)
    else:
        count = saturated(net, slots.state, at + slots.hidden_at, FLAT_HIDDEN)
    return total(probe(slots.state, at + slots.prediction_at, slots.words - slots.prediction_at, count))


@inlined
def note_health(net, slots, old, new, continues, units):
    """Counts the steps in a row that left the state degraded; too many, and the next row begins anew."""
    steps = np.uint32(0)
    if units >= DEGRADED_SHARE * net.layers * net.hidden:
        steps = (slots.state_32[old + DEGRADED] if continues else np.uint32(0)) + np.uint32(1)
        if steps >= DEGRADED_STEPS and slots.state_32[new + ENDED] == np.uint32(0):
            slots.state_32[new + ENDED] = np.uint32(1 + _BY_DEGRADATION)
    slots.state_32[new + DEGRADED] = steps
