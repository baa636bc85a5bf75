"""A copy of the streams, made while the pump goes on."""

import mmap
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.streams.record import CHECK, COUNT, ID_WORDS, id_check, is_whole
from streamrnn.streams.slots import Slots, record
from streamrnn.wire.memory import address_of, copy_bytes, load_ordered

# A copy takes about a microsecond; a stream stepped more often rests while its batch is published
_TRIES = 100_000
_ID_BYTES = 8 * ID_WORDS

_NONE = np.uint64(0)


class Copy(NamedTuple):
    """A copy of the committed records of n slots, kept from one ``refresh`` to the next."""

    slots: np.ndarray  # (n,) int64: of which
    ids: np.ndarray  # (n * ID_WORDS,) uint64
    records: np.ndarray  # (n * words / 2,) uint64
    records_32: np.ndarray  # a view of it, uint32
    counts: np.ndarray  # (n,) uint64: the counter of the record that was copied; 0 = no stream


def make_copy(slots: Slots, which: np.ndarray) -> Copy:
    """An empty copy, which is to be of the slots ``which``, (n,) int64."""

    def array(count: int) -> np.ndarray:
        # not zeroed by hand: memory is taken as streams come
        return np.frombuffer(mmap.mmap(-1, 8 * max(count, 1)), np.uint64)[:count]

    records = array(len(which) * slots.words // 2)
    return Copy(
        slots=which,
        ids=array(len(which) * ID_WORDS),
        records=records,
        records_32=records.view(np.uint32),
        counts=array(len(which)),
    )


@inlined
def _copy_slot(slots, copy, place, count):
    """Copies the record of a slot whose counter was seen at ``count``. Whether it got a whole one."""
    slot = copy.slots[place]
    words, at = slots.words // 2, record(slots, slot) // 2
    mine = place * words
    for _ in range(_TRIES):
        written = load_ordered(slots.state_64, at + COUNT)
        to, source = address_of(copy.ids, place * ID_WORDS), address_of(slots.ids, slot * ID_WORDS)
        copy_bytes(to, source, _ID_BYTES)
        copy_bytes(address_of(copy.records, mine), address_of(slots.state_64, at), 8 * words)
        now = load_ordered(slots.committed, slot)
        whole = written == count and now == count
        if whole and is_whole(slots, copy.records, copy.records_32, 2 * mine, id_check(copy.ids, place)):
            copy.counts[place] = count
            return True
        count = now
        if count == _NONE:
            return True
    return False


@compiled
def refresh(slots, copy):
    """Copies what was committed since the last call; the pump neither waits nor knows.

    A commit moves the counter before it writes to the record, and COUNT after it. So a copy is whole when
    both were the same at its begin, and the counter still is at its end. Its check, with the id's, then also
    tells that the slot did not change hands in between. Returns how many slots are not as they were, and of
    how many no whole copy was to be had.
    """
    changed = failed = 0
    for place in range(copy.slots.size):
        slot = copy.slots[place]
        count = load_ordered(slots.committed, slot)
        if count == copy.counts[place]:
            if count == _NONE:  # not even looked at: its memory may not be there yet
                continue
            check = slots.state_64[record(slots, slot) // 2 + CHECK]
            if check == copy.records[place * (slots.words // 2) + CHECK]:
                continue
        changed += 1
        copy.counts[place] = _NONE
        if count != _NONE:
            failed += not _copy_slot(slots, copy, place, count)
    return changed, failed


def copied(slots: Slots, copy: Copy) -> tuple[np.ndarray, np.ndarray]:
    """The ids, (n, 128) uint8, and the records, (n, words) float32, of the streams in a copy.

    Views of it where the streams fill its first places, as they do unless some have left.
    """
    taken = np.flatnonzero(copy.counts)
    which = slice(len(taken)) if len(taken) and taken[-1] == len(taken) - 1 else taken
    ids = copy.ids.view(np.uint8).reshape(-1, _ID_BYTES)
    return ids[which], copy.records.view(np.float32).reshape(-1, slots.words)[which]
