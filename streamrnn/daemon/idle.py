"""Streams that were silent for too long, let go between two batches. Compiled."""

import numpy as np

from streamrnn import stats as counted
from streamrnn.compiling.jit import inlined
from streamrnn.daemon.publish import HEADER_BYTES, send_message
from streamrnn.streams.happenings import seal_happenings, tell_let_go
from streamrnn.streams.holding import is_held
from streamrnn.streams.record import SEQ, TS
from streamrnn.streams.score_part import EVENT
from streamrnn.streams.slots import id_length, record, release
from streamrnn.wire.clock import realtime_ns
from streamrnn.wire.memory import address_of

_SWEEP = 64  # slots looked at per turn
IDLE = counted.RESETS.index("idle")


@inlined
def _let_go(pump, core, slot):
    """Lets an idle stream go and says so downstream: an event without values."""
    slots, farewell = core.slots, pump.farewell[0]
    at, event = record(slots, slot), False
    if core.net.forecasts == 1:
        event = slots.state[at + slots.score_at + EVENT] != np.float32(0)
    seq, ts = slots.state_64[at // 2 + SEQ], np.int64(slots.state_64[at // 2 + TS])
    tell_let_go(core, slot, IDLE, at, seq, ts, slots.notes[slot].received, event)
    farewell.recv_ns = farewell.pub_ns = realtime_ns()
    send_message(pump, core, slot, address_of(pump.farewell, 0), HEADER_BYTES)
    release(slots, slot)
    seal_happenings(core.journal)
    core.stats.resets[IDLE] += 1
    core.stats.counters[counted.STREAMS] = slots.counts[1]


@inlined
def next_silent(slots, swept, now, idle_ns):
    """The next of a few slots, from ``swept[0]`` on, whose stream was silent for too long; -1 behind them."""
    while True:
        slot = swept[0]
        swept[0] = slot + 1 if slot + 1 < slots.capacity else 0
        silent = id_length(slots, slot) > 0 and now - slots.notes[slot].received > idle_ns
        if silent and not is_held(slots, record(slots, slot)):  # it is to be kept as it is
            return slot
        if swept[0] % _SWEEP == 0:
            return np.int64(-1)


@inlined
def sweep(pump, core, now):
    """Lets go of those of the next few streams that were silent for too long."""
    while True:
        slot = next_silent(core.slots, pump.swept, now, pump.idle_ns)
        if slot < 0:
            return
        _let_go(pump, core, slot)
