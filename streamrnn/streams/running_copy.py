"""A copy of the streams, made while the pump goes on."""

import mmap
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.compiling.tuples_by_address import by_address
from streamrnn.streams.record import CHECK, ID_WORDS, check_of, id_check
from streamrnn.streams.slots import Slots, record
from streamrnn.wire.memory import address_of, copy_bytes, load_ordered

# A copy takes about a microsecond; a stream stepped more often rests while its batch is published
_TRIES = 100_000
_ID_BYTES = 8 * ID_WORDS

_NONE = np.uint64(0)


class Copy(NamedTuple):
    """A copy of every slot's committed record, kept from one ``refresh`` to the next."""

    ids: np.ndarray  # (capacity * ID_WORDS,) uint64
    records: np.ndarray  # (capacity * words / 2,) uint64
    counts: np.ndarray  # (capacity,) uint64: the counter of the record that was copied; 0 = no stream


def make_copy(slots: Slots) -> Copy:
    def array(count: int) -> np.ndarray:
        # not zeroed by hand: memory is taken as streams come
        return np.frombuffer(mmap.mmap(-1, 8 * count), np.uint64)

    return Copy(
        ids=array(slots.capacity * ID_WORDS),
        records=array(slots.capacity * slots.words // 2),
        counts=array(slots.capacity),
    )


@inlined
def _copy_slot(slots, copy, slot, count):
    """Copies the record of a slot whose counter was seen at ``count``. Whether it got a whole one."""
    words = slots.words // 2
    mine = slot * words
    for _ in range(_TRIES):
        at = record(slots, slot, count) // 2
        to, source = address_of(copy.ids, slot * ID_WORDS), address_of(slots.ids, slot * ID_WORDS)
        copy_bytes(to, source, _ID_BYTES)
        copy_bytes(address_of(copy.records, mine), address_of(slots.state_64, at), 8 * words)
        now = load_ordered(slots.committed, slot)
        check = check_of(copy.records, mine, slots.words, id_check(copy.ids, slot))
        if now == count and check == copy.records[mine + CHECK]:
            copy.counts[slot] = count
            return True
        count = now
        if count == _NONE:
            return True
    return False


@compiled
def refresh(slots, copy):
    """Copies what was committed since the last call; the pump neither waits nor knows.

    A record is not written to before the commit after the one that made it the slot's state, so a copy
    is whole when the counter did not move meanwhile. Its check, with the id's, then also tells that the
    slot did not change hands in between. Returns how many slots are not as they were, and of how many no
    whole copy was to be had.
    """
    slots, copy = by_address(slots), by_address(copy)
    changed = failed = 0
    for slot in range(slots.capacity):
        count = load_ordered(slots.committed, slot)
        if count == copy.counts[slot]:
            if count == _NONE:  # not even looked at: its memory may not be there yet
                continue
            check = slots.state_64[record(slots, slot, count) // 2 + CHECK]
            if check == copy.records[slot * (slots.words // 2) + CHECK]:
                continue
        changed += 1
        copy.counts[slot] = _NONE
        if count != _NONE:
            failed += not _copy_slot(slots, copy, slot, count)
    return changed, failed


def copied(slots: Slots, copy: Copy) -> tuple[np.ndarray, np.ndarray]:
    """The ids, (n, 128) uint8, and the records, (n, words) float32, of the streams in a copy.

    Views of it where the streams fill the first slots, as they do unless some have left.
    """
    taken = np.flatnonzero(copy.counts)
    which = slice(len(taken)) if len(taken) and taken[-1] == len(taken) - 1 else taken
    ids = copy.ids.view(np.uint8).reshape(slots.capacity, _ID_BYTES)
    return ids[which], copy.records.view(np.float32).reshape(slots.capacity, slots.words)[which]
