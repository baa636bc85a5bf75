"""What a record remembers of the event that goes on in its stream. Compiled.

An event's rows are those that say ANOMALY: from the threshold on, but for those with a score below half of
it. It has ended when none came for so long that the next one begins another, see ``score.event_after``.
"""

import numpy as np

from streamrnn.compiling.hints import unlikely
from streamrnn.compiling.jit import inlined
from streamrnn.streams.batch import SHARED
from streamrnn.streams.happenings import BEGINS, ENDS, tell_event, tell_reset
from streamrnn.streams.record import LAST_RECEIVED, LAST_SEQ
from streamrnn.streams.score_part import (
    CAUSES,
    CAUSES_KEPT,
    EVENT,
    EVENT_ROWS,
    LAST_TS,
    LONGEST,
    PEAK,
    cause,
    split,
)
from streamrnn.wire import frame

_ZERO = np.float32(0)


@inlined
def _name_causes(core, row, to):
    """Keeps the outputs with the largest shares in a row's score, the largest first, at ``state[to:]``."""
    state, shares, first = core.slots.state, core.batch.shares, row * core.net.out_width
    last, least = -1, np.float32(np.inf)
    for place in range(CAUSES_KEPT):
        found, best = -1, _ZERO
        for output in range(core.net.outputs):
            share = shares[first + output]
            # of equal ones the first comes first
            is_left = share < least or (share == least and output > last)
            if is_left and share > best:
                found, best = output, share
        state[to + place] = cause(found, best)
        last, least = found, best


@inlined
def _take_unusual(core, row, new):
    """Takes an unusual row into the event of its record."""
    slots, said = core.slots, core.batch.said[row]
    part = new + slots.score_at
    slots.state[part + EVENT_ROWS] = min(slots.state[part + EVENT_ROWS] + np.float32(1), LONGEST)
    slots.state_64[new // 2 + LAST_SEQ] = said.seq
    slots.state_64[new // 2 + LAST_RECEIVED] = np.uint64(core.batch.received[row])
    split(slots.state, part + LAST_TS, said.ts_ns)
    if said.score > slots.state[part + PEAK]:
        slots.state[part + PEAK] = said.score
        if said.score >= SHARED:
            _name_causes(core, row, part + CAUSES)


@inlined
def _follow(core, lane, was, now):
    slots, state = core.slots, core.slots.state
    row, slot, old, new = core.tile.row[lane], core.tile.slot[lane], core.tile.old[lane], core.tile.new[lane]
    said, part = core.batch.said[row], new + slots.score_at
    for word in range(EVENT_ROWS, CAUSES + CAUSES_KEPT):
        state[part + word] = state[old + slots.score_at + word] if was != _ZERO else _ZERO
    if said.flags & np.uint16(frame.ANOMALY) != 0:
        _take_unusual(core, row, new)
    received = core.batch.received[row]
    if was == _ZERO:
        tell_event(core, slot, BEGINS, new, said.seq, said.ts_ns, received)
    if now == _ZERO:
        tell_event(core, slot, ENDS, new, said.seq, said.ts_ns, received)
        for word in range(EVENT_ROWS, CAUSES + CAUSES_KEPT):
            state[part + word] = _ZERO


@inlined
def follow(core, lane):
    """Keeps in the record that a lane writes, its header complete, what its row is to an event.

    And tells what begins and ends with it. A row that is filled in is none.
    """
    slots, tile = core.slots, core.tile
    if unlikely(tile.reset[lane] >= 0):
        said = core.batch.said[tile.row[lane]]
        at, slot, received = tile.new[lane], tile.slot[lane], core.batch.received[tile.row[lane]]
        tell_reset(core, slot, tile.reset[lane], at, said.seq, said.ts_ns, received)
    if core.net.forecasts == 1:
        was = slots.state[tile.old[lane] + slots.score_at + EVENT]
        now = slots.state[tile.new[lane] + slots.score_at + EVENT]
        if unlikely(was != _ZERO or now != _ZERO):
            _follow(core, lane, was, now)
