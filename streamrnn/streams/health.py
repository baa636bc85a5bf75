"""How a stream's state is: saturated, it says the same whatever comes in."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.cells import ANY
from streamrnn.kernels.finite import probe
from streamrnn.kernels.simd import LANES, beyond, fma, load, splat, total
from streamrnn.stats import RESETS
from streamrnn.streams.record import DEGRADED, ENDED

DEGRADED_SHARE = 0.9  # of a network's units saturated: what comes in hardly moves it any more
DEGRADED_STEPS = 1000  # in a row, after which a stream is not expected to recover by itself

_BY_DEGRADATION = RESETS.index("degraded")


@inlined
def count_beyond(values, first, width, limit):
    """In sixteen lanes, how many of ``width`` values at ``values[first:]`` are beyond ``limit``."""
    count = splat(np.float32(0))
    for unit in range(first, first + width, LANES):
        count = count + beyond(load(values, unit), limit)
    return count


@inlined
def _saturated(net, values, at):
    """In sixteen lanes, how many units are saturated whose hidden states begin at ``values[at:]``."""
    if net.cell == ANY:  # layer by layer, the state of each by which it is
        count = splat(np.float32(0))
        for part in range(net.limits.size):
            first = at + part // net.layers * net.apart + part % net.layers * net.width
            units = count_beyond(values, first, net.width, net.limits[part])
            count = fma(units, splat(net.counts[part]), count)
        return count
    return count_beyond(values, at + net.saturates * net.apart, net.layers * net.width, net.saturates_at)


@inlined
def survey(net, slots, at):
    """How many units the record at word ``at`` has saturated; NaN when not all that a step wrote is finite.

    One sum of sixteen lanes for both: it costs as much as looking at a whole record does. Of several states
    in flight only the units count of the one that answers.
    """
    count = _saturated(net, slots.state, at + slots.hidden_at)
    return total(probe(slots.state, at + slots.prediction_at, slots.past_at - slots.prediction_at, count))


@inlined
def note_health(net, slots, old, new, continues, units):
    """Counts the steps in a row that left the state degraded; too many, and the next row begins anew.

    But for a network of windows, whose states begin anew with every row.
    """
    steps = np.uint32(0)
    if units >= DEGRADED_SHARE * net.layers * net.hidden:
        steps = (slots.state_32[old + DEGRADED] if continues else np.uint32(0)) + np.uint32(1)
        if net.window == 0 and steps >= DEGRADED_STEPS and slots.state_32[new + ENDED] == np.uint32(0):
            slots.state_32[new + ENDED] = np.uint32(1 + _BY_DEGRADATION)
    slots.state_32[new + DEGRADED] = steps
