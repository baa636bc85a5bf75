"""Streams that were remembered become streams again: from a live state, or from records kept elsewhere.

Nothing that is read is trusted: a record must have its check, and hold what a step can leave behind.
"""

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.compiling.tuples_by_address import by_address
from streamrnn.kernels.finite import all_finite
from streamrnn.kernels.simd import total
from streamrnn.stats import RESETS
from streamrnn.streams.health import count_beyond
from streamrnn.streams.record import (
    CHECK,
    COUNT,
    ENDED,
    HEADER,
    ID_WORDS,
    RECEIVED,
    RESTORED,
    check_of,
    id_check,
)
from streamrnn.streams.score import possible
from streamrnn.streams.slots import (
    admit,
    clear,
    commit,
    enter,
    find,
    id_length,
    is_id,
    make_free,
    record,
    release,
    seal,
    zero_record,
)
from streamrnn.wire.memory import address_of, copy_bytes

PUT, DAMAGED, NO_ROOM = range(3)  # what became of a record that was put back

_NONE = np.uint64(0)


@inlined
def sane(net, slots, at):
    """Whether the record at word ``at`` holds what a step can have left there."""
    if slots.state_32[at + ENDED] > np.uint32(len(RESETS)):
        return False
    if not all_finite(slots.state, at + HEADER, slots.words - HEADER):
        return False
    for state in range(net.bounds.size):
        if total(count_beyond(net, slots.state, at + slots.hidden_at, state, net.bounds[state])) > np.float32(
            0
        ):
            return False
    return True


@inlined
def _learned(net, slots, at):
    """Whether a sane record has statistics behind its score, if any, that rows can lead to."""
    return net.forecasts == 0 or possible(slots.state, at + slots.score_at, net.out_width)


@compiled
def recover(net, slots, now, bad):
    """Finds the streams of a block that others wrote: called once, before anything else.

    Each slot's record must be whole and such as a step leaves behind; one that is not is marked in
    ``bad``, (capacity,) uint8, and left as it is for ``drop`` to clear, once its id has been told.
    """
    net, slots = by_address(net), by_address(slots)
    slots.counts[0] = slots.counts[1] = 0
    for word in range(zero_record(slots), slots.state.size):
        slots.state[word] = np.float32(0)
    for slot in range(slots.capacity - 1, -1, -1):
        committed = slots.committed[slot]
        if committed == _NONE:
            if id_length(slots, slot) > 0:
                clear(slots, slot)
            make_free(slots, slot)
            continue
        name = address_of(slots.ids, slot * ID_WORDS)
        at = record(slots, slot, committed)
        slots.id_checks[slot] = id_check(slots.ids, slot)
        bad[slot] = (
            slots.state_64[at // 2 + COUNT] != committed
            or slots.state_64[at // 2 + CHECK]
            != check_of(slots.state_64, at // 2, slots.words, slots.id_checks[slot])
            or not is_id(name)
            or find(slots, name) >= 0
            or not sane(net, slots, at)
            or not _learned(net, slots, at)
        )
        if bad[slot] == 0:
            slots.received[slot] = min(np.int64(slots.state_64[at // 2 + RECEIVED]), now)
            enter(slots, slot, name)


@compiled
def drop(slots, bad):
    """Clears the slots that ``recover`` marked, and makes them free."""
    slots = by_address(slots)
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
    net, slots = by_address(net), by_address(slots)
    words = slots.words // 2
    for which in range(fate.size):
        name, first = address_of(ids, which * ID_WORDS), which * words
        whole = (
            records[first + COUNT] != _NONE
            and records[first + CHECK] == check_of(records, first, slots.words, id_check(ids, which))
            and is_id(name)
        )
        if not whole:
            fate[which] = DAMAGED
            continue
        slot = find(slots, name)
        if slot < 0:
            slot = admit(slots, name)
        if slot < 0:
            fate[which] = NO_ROOM
            continue
        at = record(slots, slot, slots.committed[slot] + np.uint64(1))
        copy_bytes(address_of(slots.state_64, at // 2), address_of(records, first), 8 * words)
        if not (sane(net, slots, at) and _learned(net, slots, at)):
            fate[which] = DAMAGED
            if slots.committed[slot] == _NONE:
                release(slots, slot)
            continue
        received = np.int64(records[first + RECEIVED])
        if now > 0:
            received = now
            slots.state_32[at + RESTORED] = np.uint32(1)
        slots.received[slot], slots.again[slot] = received, _NONE
        seal(slots, slot, at, received)
        commit(slots, slot)
        fate[which] = PUT
