"""A step made lasting: whole or not at all, at whatever instruction the process ends.

Each slot has a record, the stream's state, and a counter that moves at every commit. A step writes a record
to work in, one that is shared by all streams and stays in the processor's caches, and seals it with its
check, in one aligned store behind a release fence. That is its commit: then the counter moves and the record
is copied over the slot's own. Whoever finds the two at odds, as a process killed in between leaves them,
copies it again (a redo log: Gray & Reuter, Transaction Processing, 10.3). So at any instant a slot stands at
exactly its last committed step. Only the past is not written elsewhere first: a step writes one row of it,
where none is that the state before needs.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.simd import LANES, load, store
from streamrnn.streams.record import CHECK, COUNT, RECEIVED, SLOT, check_of, id_check
from streamrnn.streams.slots import COMMIT, record, work_records
from streamrnn.wire.memory import fence_release, store_release

_SHIFT = np.uint64(32)  # in SLOT, of whether the past goes with the record
_LOW = np.uint64(0xFFFFFFFF)
_NONE = np.uint64(0)


@inlined
def seal(slots, slot, at, received, with_past):
    """Completes the record to work in at word ``at``, from then on the state of the slot, whatever happens.

    ``with_past``: its past is to take the place of the slot's, too.
    """
    first = at // 2
    slots.state_64[first + COUNT] = slots.committed[slot] + COMMIT
    slots.state_64[first + RECEIVED] = np.uint64(received)
    slots.state_64[first + SLOT] = np.uint64(slot) | np.uint64(with_past) << _SHIFT
    check = check_of(slots.state, at, slots.past_at, slots.notes[slot].id_check)
    store_release(slots.state_64, first + CHECK, check)


@inlined
def commit(slots, slot, at):
    """Has the sealed record at word ``at`` take the place of the slot's own, for all who read there.

    Its words of the header that tell whether a copy is whole come last: the counter goes before all others,
    and COUNT after them.
    """
    to = record(slots, slot)
    store_release(slots.committed, slot, slots.committed[slot] + COMMIT)
    fence_release()
    with_past = slots.state_64[at // 2 + SLOT] >> _SHIFT != np.uint64(0)
    for word in range(LANES, slots.words if with_past else slots.past_at, LANES):
        store(slots.state, to + word, load(slots.state, at + word))
    for word in range(LANES // 2):
        if word != COUNT:
            slots.state_64[to // 2 + word] = slots.state_64[at // 2 + word]
    store_release(slots.state_64, to // 2 + COUNT, slots.committed[slot])


@inlined
def redo(slots):
    """Commits what was sealed, and perhaps not committed whole, by a process that has ended.

    A record to work in counts when it has its check, and its stream's counter is that of its commit or the
    one before.
    """
    for number in range(0, slots.work, 2):
        at = work_records(slots) + number * slots.words
        slot = np.int64(slots.state_64[at // 2 + SLOT] & _LOW)
        if slot >= slots.capacity or slots.committed[slot] == _NONE:
            continue
        here, count = slots.committed[slot], slots.state_64[at // 2 + COUNT]
        name = id_check(slots.ids, slot)
        sealed = slots.state_64[at // 2 + CHECK] == check_of(slots.state, at, slots.past_at, name)
        if sealed and (count == here or count == here + COMMIT):
            slots.committed[slot] = count - COMMIT
            commit(slots, slot, at)
