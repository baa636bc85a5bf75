"""Streams whose learning is held: what a row says is said, and what it would teach is taken back.

The statistics and levels of the score, the spread that bands go by and the corrections of forecasts stand
still; the hidden state and what is of the last rows alone, as a run or a weighted mean, go on.
"""

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.kernels.network import copy
from streamrnn.streams.commit import commit, seal
from streamrnn.streams.record import HOLD
from streamrnn.streams.score_part import EVENT, LEARNED_VECTORS, ROWS, SCALARS
from streamrnn.streams.slots import record, work_records

# Of HOLD: by hand, until it is released by hand; and until a row has a score and no event goes on.
FREE, BY_HAND, UNTIL_OVER = np.uint32(0), np.uint32(1), np.uint32(2)

_ZERO = np.float32(0)


@inlined
def is_held(slots, at):
    """Whether learning is held in the record at word ``at``."""
    return slots.state_32[at + HOLD] != FREE


@inlined
def hold_after(core, lane):
    """HOLD of the record that a lane writes, after all else that is of its score."""
    slots, tile = core.slots, core.tile
    hold, new = slots.state_32[tile.old[lane] + HOLD], tile.new[lane]
    over = hold == UNTIL_OVER and tile.measured[lane] != 0
    if over and slots.state[new + slots.score_at + EVENT] == _ZERO:
        return FREE
    return hold


@inlined
def keep_learned(net, known, source, state, to):
    """Has the score's part of a record at ``state[to:]`` know what the one at ``known[source:]`` does."""
    width = net.score_width
    for word in range(ROWS + 1):
        state[to + word] = known[source + word]
    for vector in LEARNED_VECTORS:
        first = SCALARS + vector * width
        for unit in range(first, first + width):
            state[to + unit] = known[source + unit]


@compiled
def set_hold(slots, which, hold):
    """Commits a copy of each stream's record with another HOLD: ``which`` (n,) int64, slots of streams.

    Nothing may step them meanwhile. Returns how many it changed.
    """
    work, changed = work_records(slots), 0
    for slot in which:
        at = record(slots, slot)
        if slots.state_32[at + HOLD] == hold:
            continue
        copy(slots.state, work, slots.state, at, slots.past_at)
        slots.state_32[work + HOLD] = hold
        seal(slots, slot, work, slots.notes[slot].received, False)
        commit(slots, slot, work)
        changed += 1
    return changed
