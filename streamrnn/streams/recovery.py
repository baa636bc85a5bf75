"""Streams that were remembered become streams again: from a live state, or from records kept elsewhere.

Nothing that is read is trusted: a record must have its check, and hold what a step can leave behind.
"""

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.kernels.finite import all_finite
from streamrnn.kernels.simd import total
from streamrnn.stats import RESETS
from streamrnn.streams.commit import commit, redo, seal
from streamrnn.streams.health import count_beyond
from streamrnn.streams.holding import UNTIL_OVER
from streamrnn.streams.record import (
    COUNT,
    ENDED,
    HEADER,
    HOLD,
    ID_WORDS,
    PLACE,
    RECEIVED,
    RESTORED,
    STEP,
    id_check,
    is_whole,
    rows_kept,
)
from streamrnn.streams.score_part import possible
from streamrnn.streams.slots import (
    admit,
    clear,
    enter,
    find,
    id_length,
    is_id,
    make_free,
    record,
    work_records,
)
from streamrnn.streams.spread import possible_spread, spread_at
from streamrnn.wire.memory import address_of, copy_bytes

PUT, DAMAGED, NO_ROOM = range(3)  # what became of a record that was put back

_NONE = np.uint64(0)


@inlined
def sane(net, slots, at):
    """Whether the record at word ``at`` holds what a step can have left there."""
    if slots.state_32[at + ENDED] > np.uint32(len(RESETS)) or slots.state_32[at + HOLD] > UNTIL_OVER:
        return False
    if not all_finite(slots.state, at + HEADER, slots.past_at - HEADER):
        return False
    for row in range(rows_kept(slots, slots.state_64[at // 2 + STEP])):
        where = (np.int64(slots.state_32[at + PLACE]) + row) % slots.past_rows
        for channel in range(slots.row):
            if not np.isfinite(slots.state[at + slots.past_at + where * slots.row + channel]):
                return False
    for part in range(net.bounds.size):
        first = at + slots.hidden_at + part // net.layers * net.apart + part % net.layers * net.width
        for place in range(first, first + net.apart, net.layers * net.width):
            if total(count_beyond(slots.state, place, net.width, net.bounds[part])) > np.float32(0):
                return False
    return True


@inlined
def _learned(net, slots, at):
    """Whether a sane record has statistics of its forecasts' errors, if any, that rows can lead to."""
    good = net.forecasts == 0 or possible(slots.state, at + slots.score_at, net.score_width)
    if net.spread > 0:
        good = good and possible_spread(net, slots.state, spread_at(net, slots, at))
    return good


@compiled
def finish(slots):
    """Brings the records of a block that others wrote up to their last commits."""
    redo(slots)


@compiled
def recover(net, slots, now, bad):
    """Finds the streams of a block that others wrote: called once, before anything else.

    Each slot's record must be whole and such as a step leaves behind; one that is not is marked in
    ``bad``, (capacity,) uint8, and left as it is for ``drop`` to clear, once its id has been told.
    """
    redo(slots)
    slots.counts[0] = slots.counts[1] = 0
    for word in range(work_records(slots), slots.state.size):
        slots.state[word] = np.float32(0)
    for slot in range(slots.capacity - 1, -1, -1):
        committed = slots.committed[slot]
        if committed == _NONE:
            if id_length(slots, slot) > 0:
                clear(slots, slot)
            make_free(slots, slot)
            continue
        name = address_of(slots.ids, slot * ID_WORDS)
        at = record(slots, slot)
        slots.notes[slot].id_check = id_check(slots.ids, slot)
        bad[slot] = (
            slots.state_64[at // 2 + COUNT] != committed
            or not is_whole(slots, slots.state_64, slots.state_32, at, slots.notes[slot].id_check)
            or not is_id(name)
            or find(slots, name) >= 0
            or not sane(net, slots, at)
            or not _learned(net, slots, at)
        )
        if bad[slot] == 0:
            slots.notes[slot].received = min(np.int64(slots.state_64[at // 2 + RECEIVED]), now)
            enter(slots, slot, name)


@compiled
def drop(slots, bad):
    """Clears the slots that ``recover`` marked, and makes them free."""
    for slot in range(slots.capacity):
        if bad[slot] != 0:
            clear(slots, slot)
            make_free(slots, slot)


@compiled
def restore(net, slots, ids, records, now, fate):
    """Puts records back, each as its stream's state, to take effect as a step would: whole or not at all.

    ``ids`` (n * ID_WORDS,) and ``records`` (n * words / 2,), uint64. A stream that has a slot gets its
    state replaced. ``now``, CLOCK_MONOTONIC ns, becomes the time each was last heard of, and its next
    prediction says RESTORED; 0 for records that lived on in this boot, which keep theirs and say nothing.
    ``fate`` (n,) uint8: PUT, DAMAGED or NO_ROOM.
    """
    at = work_records(slots)
    for which in range(fate.size):
        name = address_of(ids, which * ID_WORDS)
        fate[which] = DAMAGED
        first = which * (slots.words // 2)
        copy_bytes(address_of(slots.state, at), address_of(records, first), 4 * slots.words)
        if not (
            slots.state_64[at // 2 + COUNT] != _NONE
            and is_whole(slots, slots.state_64, slots.state_32, at, id_check(ids, which))
            and is_id(name)
            and sane(net, slots, at)
            and _learned(net, slots, at)
        ):
            continue
        slot = find(slots, name)
        if slot < 0:
            slot = admit(slots, name)
        if slot < 0:
            fate[which] = NO_ROOM
            continue
        received = np.int64(slots.state_64[at // 2 + RECEIVED])
        if now > 0:
            received = now
            slots.state_32[at + RESTORED] = np.uint32(1)
        slots.notes[slot].received, slots.notes[slot].again = received, _NONE
        seal(slots, slot, at, received, True)
        commit(slots, slot, at)
        fate[which] = PUT
