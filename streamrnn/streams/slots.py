"""The slots: stream id to place, and the state kept there.

Each slot has a record, the stream's state, and a counter that moves at every commit, see ``commit``.

A slot whose counter is zero is nobody's: the counter's first move admits a stream, and its return to zero,
again one store, lets it go.
"""

import mmap
import secrets
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import aligned
from streamrnn.streams.note import NOTE
from streamrnn.streams.record import COUNT, ID_WORDS, SLOT, RecordLayout, id_check
from streamrnn.wire.codec import is_utf8
from streamrnn.wire.frame import TOPIC_BYTES
from streamrnn.wire.memory import (
    address_of,
    end_word,
    folded_product,
    prefetch,
    read_u8,
    read_u64,
    store_release,
)

# Of a worker, two for each lane: the first is for steps, both by turns for what goes on.
WORK_RECORDS = 2 * TILE_STREAMS
_HASH_STEP = np.uint64(0x9E3779B97F4A7C15)
_HASH_BITS = np.uint64(25)  # of a key; the 7 above them are the id's length
_SHIFT = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_NONE = np.uint64(0)
# What a commit adds to a counter: odd, so that its lowest bit changes, and such that no flipped bit or byte
# makes a counter that is as good as the one before, or none.
COMMIT = np.uint64(0x9E3779B97F4A7C15)


class Slots(NamedTuple):
    """Every array that a stream's progress changes.

    ``capacity`` slots, and after their records ``work`` to work in and one of zeros.
    """

    capacity: int
    work: int  # WORK_RECORDS of each worker
    words: int  # float32 words in a record
    # where in a record its parts begin, and what its past is, as in RecordLayout
    input_at: int
    score_at: int
    adapt_at: int
    forecast_at: int
    prediction_at: int
    hidden_at: int
    past_at: int
    past_rows: int
    row: int
    # the live state: parts of one block of memory
    ids: np.ndarray  # (capacity * ID_WORDS,) uint64: UTF-8, zeros, and the length in the last byte
    committed: np.ndarray  # (capacity,) uint64: COMMIT times the records ever committed; 0 = none yet
    state: np.ndarray  # ((capacity + work + 1) * words,) float32
    # views of `state`
    state_64: np.ndarray  # uint64
    state_32: np.ndarray  # uint32
    # derived from it
    notes: np.ndarray  # (capacity,) of NOTE
    table: np.ndarray  # (power of two >= 2 * capacity,) uint64: key << 32 | slot + 1; 0 = empty
    free: np.ndarray  # (capacity,) int64: a stack of free slots
    before: (
        np.ndarray
    )  # (capacity * score_words,) float32: the score's part before the last event, see ``judging``
    counts: np.ndarray  # (2,) int64: free slots, streams
    seed: np.ndarray  # (1,) uint64: so that ids that collide in one process do not in another


def _live_parts(layout: RecordLayout, capacity: int, work: int) -> dict[str, tuple[type, int]]:
    return {
        "ids": (np.uint64, capacity * ID_WORDS),
        "committed": (np.uint64, capacity),
        "state": (np.float32, (capacity + work + 1) * layout.words),
    }


def _room(dtype: type, count: int) -> int:
    return -(-np.dtype(dtype).itemsize * count // 64) * 64


def live_bytes(layout: RecordLayout, capacity: int, work: int = WORK_RECORDS) -> int:
    """The size of the live state of ``capacity`` slots, with ``work`` records to work in."""
    return sum(_room(*part) for part in _live_parts(layout, capacity, work).values())


def _mapped(size: int, advice: int = mmap.MADV_NORMAL) -> np.ndarray:
    """Zeros, (size,) uint8, whose pages are touched only when they are used."""
    memory = mmap.mmap(-1, max(size, 1))
    with suppress(OSError):  # where the kernel has no such advice
        memory.madvise(advice)
    return np.frombuffer(memory, np.uint8, size)


def make_slots(
    layout: RecordLayout, capacity: int, block: np.ndarray | None = None, work: int = WORK_RECORDS
) -> Slots:
    """Slots over ``block``, ``live_bytes`` of uint8 on a cache line; what it holds must be recovered.

    Without a block, empty slots in memory of their own, whose pages are touched only when a slot is used.
    """
    if block is None:
        block = _mapped(live_bytes(layout, capacity, work), mmap.MADV_HUGEPAGE)
    views: dict[str, np.ndarray] = {}
    at = 0
    for name, (dtype, count) in _live_parts(layout, capacity, work).items():
        views[name] = block[at : at + np.dtype(dtype).itemsize * count].view(dtype)
        at += _room(dtype, count)
    return Slots(
        capacity=capacity,
        work=work,
        words=layout.words,
        input_at=layout.input_at,
        score_at=layout.score_at,
        adapt_at=layout.adapt_at,
        forecast_at=layout.forecast_at,
        prediction_at=layout.prediction_at,
        hidden_at=layout.hidden_at,
        past_at=layout.past_at,
        past_rows=layout.past_rows,
        row=layout.row,
        **views,
        state_64=views["state"].view(np.uint64),
        state_32=views["state"].view(np.uint32),
        notes=aligned(capacity * NOTE.itemsize, np.uint8).view(NOTE),
        table=np.zeros(1 << max(4, (2 * capacity - 1).bit_length()), np.uint64),
        free=np.arange(capacity - 1, -1, -1, dtype=np.int64),
        before=_mapped(4 * capacity * (layout.adapt_at - layout.score_at)).view(np.float32),
        counts=np.array([capacity, 0], np.int64),
        seed=np.array([secrets.randbits(64)], np.uint64),
    )


def id_words(stream: str) -> np.ndarray:
    """A stream id as it is stored, (ID_WORDS,) uint64. Raises ValueError for 0 or over 127 bytes."""
    raw = stream.encode()
    if not 1 <= len(raw) <= TOPIC_BYTES:
        raise ValueError(f"a stream id has 1 to {TOPIC_BYTES} bytes of UTF-8, {stream!r} has {len(raw)}")
    return np.frombuffer(raw.ljust(TOPIC_BYTES, b"\0") + bytes([len(raw)]), np.uint64)


def id_text(words: np.ndarray) -> str:
    """The id in ID_WORDS stored words; what is not UTF-8 in it shows as U+FFFD."""
    raw = words.tobytes()
    return raw[: raw[-1]].decode(errors="replace")


@inlined
def record(slots, slot):
    """Where, in ``slots.state``, the record of a slot stands."""
    return slot * slots.words


@inlined
def work_records(slots):
    """Where the records begin that lanes work in, and that are nobody's."""
    return slots.capacity * slots.words


@inlined
def zero_record(slots):
    """Where the record of zeros stands: the state of a stream that has not begun."""
    return work_records(slots) + slots.work * slots.words


@inlined
def id_length(slots, slot):
    """Bytes in the id of a slot; 0 for a free slot."""
    return np.int64(slots.ids[slot * ID_WORDS + ID_WORDS - 1] >> np.uint64(56))


@inlined
def id_key(slots, at, length):
    """32 bits that tell ids apart, almost: their length, and below it a hash of them and the seed.

    The id is the ``length`` bytes at address ``at``; none beyond them is read.
    """
    mixed = slots.seed[0]
    for word in range(length >> 3):
        mixed = folded_product(mixed ^ read_u64(at + 8 * word), _HASH_STEP)
    if length & 7 != 0:
        mixed = folded_product(mixed ^ end_word(at, length), _HASH_STEP)
    mixed = folded_product(mixed, _HASH_STEP)
    return np.uint64(length) << _HASH_BITS | mixed >> np.uint64(64) - _HASH_BITS


@inlined
def is_of(slots, slot, at, length):
    """Whether a slot, whose id has the same length, is that of the id at address ``at``."""
    own = address_of(slots.ids, slot * ID_WORDS)
    for word in range(length >> 3):
        if read_u64(own + 8 * word) != read_u64(at + 8 * word):
            return False
    return length & 7 == 0 or end_word(own, length) == end_word(at, length)


@inlined
def prefetch_cell(slots, key):
    """Has the place of the table fetched where the search for an id of that key begins."""
    prefetch(address_of(slots.table, np.int64(key) & (slots.table.size - 1)))


@inlined
def likely_slot(slots, key):
    """The first slot whose id has that key, or -1. Has its id fetched."""
    mask = slots.table.size - 1
    position = np.int64(key) & mask
    while True:
        entry = slots.table[position]
        if entry == _NONE:
            return np.int64(-1)
        if entry >> _SHIFT == key:
            break
        position = (position + 1) & mask
    slot = np.int64(entry & _LOW) - 1
    prefetch(address_of(slots.ids, slot * ID_WORDS))
    prefetch(address_of(slots.committed, slot))
    return slot


@inlined
def _probe(slots, at, length, key):
    """The table's position of the id, or of the empty cell where it would go."""
    mask = slots.table.size - 1
    position = np.int64(key) & mask
    while True:
        entry = slots.table[position]
        if entry == _NONE:
            return position
        if entry >> _SHIFT == key and is_of(slots, np.int64(entry & _LOW) - 1, at, length):
            return position
        position = (position + 1) & mask


@inlined
def find_id(slots, at, length, key):
    """The slot of the id of ``length`` bytes at address ``at``, which has that key, or -1."""
    return np.int64(slots.table[_probe(slots, at, length, key)] & _LOW) - 1


@inlined
def find(slots, name):
    """The slot of the id at address ``name`` (ID_WORDS words), or -1."""
    length = np.int64(read_u8(name + TOPIC_BYTES))
    return find_id(slots, name, length, id_key(slots, name, length))


@inlined
def enter(slots, slot, name):
    """Puts the slot of an id that is not there into the table."""
    length = np.int64(read_u8(name + TOPIC_BYTES))
    key = id_key(slots, name, length)
    slots.table[_probe(slots, name, length, key)] = key << _SHIFT | np.uint64(slot + 1)
    slots.counts[1] += 1


@inlined
def make_free(slots, slot):
    slots.free[slots.counts[0]] = slot
    slots.counts[0] += 1


@inlined
def admit(slots, name):
    """A free slot for an id that has none, or -1 when all are taken. Its first commit makes it lasting."""
    if slots.counts[0] == 0:
        return np.int64(-1)
    slots.counts[0] -= 1
    slot = slots.free[slots.counts[0]]
    for word in range(ID_WORDS):
        slots.ids[slot * ID_WORDS + word] = read_u64(name + 8 * word)
    slots.notes[slot].id_check = id_check(slots.ids, slot)
    slots.notes[slot].again = _NONE
    enter(slots, slot, name)
    return slot


@inlined
def clear(slots, slot):
    """Makes a slot nobody's, then zeroes it. The counter goes first: from then on the rest means nothing.

    But for a record to work in of its last step, which another stream of that id would be taken for.
    """
    for number in range(0, slots.work, 2):
        at = (work_records(slots) + number * slots.words) // 2
        if slots.state_64[at + SLOT] & _LOW == np.uint64(slot):
            slots.state_64[at + COUNT] = _NONE
    store_release(slots.committed, slot, _NONE)
    store_release(slots.ids, slot * ID_WORDS + ID_WORDS - 1, _NONE)
    for word in range(ID_WORDS - 1):
        slots.ids[slot * ID_WORDS + word] = _NONE
    for word in range(slot * slots.words, (slot + 1) * slots.words):
        slots.state[word] = np.float32(0)


@inlined
def release(slots, slot):
    """Lets the stream of a slot go: its id, counter and records become zeros and the slot free.

    The table stays without gaps: every entry after the hole that may stand in it moves up
    (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
    """
    name, length = address_of(slots.ids, slot * ID_WORDS), id_length(slots, slot)
    mask = slots.table.size - 1
    hole = _probe(slots, name, length, id_key(slots, name, length))
    position = hole
    while True:
        position = (position + 1) & mask
        entry = slots.table[position]
        if entry == np.uint64(0):
            break
        home = np.int64(entry >> _SHIFT) & mask
        if (position - home) & mask >= (position - hole) & mask:
            slots.table[hole] = entry
            hole = position
    slots.table[hole] = np.uint64(0)
    clear(slots, slot)
    make_free(slots, slot)
    slots.counts[1] -= 1


@inlined
def is_id(name):
    """Whether the words at address ``name`` are an id that a frame can have had, and zeros after it."""
    length = np.int64(read_u8(name + TOPIC_BYTES))
    if length < 1 or length > TOPIC_BYTES or not is_utf8(name):
        return False
    rest = 0
    for at in range(length, TOPIC_BYTES):
        rest |= read_u8(name + at)
    return rest == 0
