"""The slots: stream id to place, and the state kept there.

Each slot has two records, and a counter that moves at every commit. Record ``committed & 1`` is the
stream's state; a step writes the other one whole, seals it with its check and then moves the counter on,
in one aligned store behind a release fence. So at any instant a slot stands at exactly its last committed
step. A slot whose counter is zero is nobody's: the counter's first move admits a stream, and its return to
zero, again one store, lets it go.
"""

import mmap
import secrets
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import Network
from streamrnn.streams.record import CHECK, COUNT, ID_WORDS, RECEIVED, check_of, id_check, layout_of
from streamrnn.wire.codec import is_utf8
from streamrnn.wire.frame import TOPIC_BYTES
from streamrnn.wire.memory import address_of, read_u8, read_u64, store_release

WORK_RECORDS = 2 * TILE_STREAMS  # two for each lane, by turns
_HASH_STEP = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_NONE = np.uint64(0)
# What a commit adds to a counter: odd, so that its lowest bit changes, and such that no flipped bit or byte
# makes a counter that is as good as the one before, or none.
COMMIT = np.uint64(0x9E3779B97F4A7C15)


class Slots(NamedTuple):
    """Every array that a stream's progress changes.

    ``capacity`` slots, and after their records one of zeros and those to work in.
    """

    capacity: int
    words: int  # float32 words in a record
    input_at: int  # where a record's last input begins
    score_at: int
    adapt_at: int
    prediction_at: int
    hidden_at: int
    # the live state: parts of one block of memory
    ids: np.ndarray  # (capacity * ID_WORDS,) uint64: UTF-8, zeros, and the length in the last byte
    committed: np.ndarray  # (capacity,) uint64: COMMIT times the records ever committed; 0 = none yet
    state: np.ndarray  # (record_count(capacity) * words,) float32
    # views of `state`
    state_64: np.ndarray  # uint64
    state_32: np.ndarray  # uint32
    # derived from it
    id_checks: np.ndarray  # (capacity,) uint64: what each slot's id adds to the check of its records
    received: np.ndarray  # (capacity,) int64: CLOCK_MONOTONIC ns of the last row taken
    again: np.ndarray  # (capacity,) uint64: the next number of a source that may have started again; 0 = none
    table: np.ndarray  # (power of two >= 2 * capacity,) uint64: hash << 32 | slot + 1; 0 = empty
    free: np.ndarray  # (capacity,) int64: a stack of free slots
    counts: np.ndarray  # (2,) int64: free slots, streams
    seed: np.ndarray  # (1,) uint64: so that ids that collide in one process do not in another
    # links between the rows of one batch
    batch: np.ndarray  # (capacity,) int64: the batch that last had a row of this slot
    tail: np.ndarray  # (capacity,) int64: its last row there


def record_count(capacity: int) -> int:
    """The records of ``capacity`` slots, the one of zeros, and those to work in."""
    return 2 * capacity + 1 + WORK_RECORDS


def _live_parts(network: Network, capacity: int) -> dict[str, tuple[type, int]]:
    return {
        "ids": (np.uint64, capacity * ID_WORDS),
        "committed": (np.uint64, capacity),
        "state": (np.float32, record_count(capacity) * layout_of(network).words),
    }


def _room(dtype: type, count: int) -> int:
    return -(-np.dtype(dtype).itemsize * count // 64) * 64


def live_bytes(network: Network, capacity: int) -> int:
    """The size of the live state of ``capacity`` slots."""
    return sum(_room(*part) for part in _live_parts(network, capacity).values())


def make_slots(network: Network, capacity: int, block: np.ndarray | None = None) -> Slots:
    """Slots over ``block``, ``live_bytes`` of uint8 on a cache line; what it holds must be recovered.

    Without a block, empty slots in memory of their own, whose pages are touched only when a slot is used.
    """
    if block is None:
        block = np.frombuffer(mmap.mmap(-1, live_bytes(network, capacity)), np.uint8)
    views: dict[str, np.ndarray] = {}
    at = 0
    for name, (dtype, count) in _live_parts(network, capacity).items():
        views[name] = block[at : at + np.dtype(dtype).itemsize * count].view(dtype)
        at += _room(dtype, count)
    layout = layout_of(network)
    return Slots(
        capacity=capacity,
        words=layout.words,
        input_at=layout.input_at,
        score_at=layout.score_at,
        adapt_at=layout.adapt_at,
        prediction_at=layout.prediction_at,
        hidden_at=layout.hidden_at,
        **views,
        state_64=views["state"].view(np.uint64),
        state_32=views["state"].view(np.uint32),
        id_checks=np.zeros(capacity, np.uint64),
        received=np.zeros(capacity, np.int64),
        again=np.zeros(capacity, np.uint64),
        table=np.zeros(1 << max(4, (2 * capacity - 1).bit_length()), np.uint64),
        free=np.arange(capacity - 1, -1, -1, dtype=np.int64),
        counts=np.array([capacity, 0], np.int64),
        seed=np.array([secrets.randbits(64)], np.uint64),
        batch=np.full(capacity, -1, np.int64),
        tail=np.zeros(capacity, np.int64),
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
def record(slots, slot, committed):
    """Where, in ``slots.state``, the record stands that the counter ``committed`` names."""
    return (2 * slot + np.int64(committed & np.uint64(1))) * slots.words


def newest(which: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which of all records those are, (n,) int64, that the counters of slots ``which``, (n,), name."""
    return 2 * which + (counts & np.uint64(1)).astype(np.int64)


@inlined
def zero_record(slots):
    """Where the record of zeros stands: the state of a stream that has not begun."""
    return 2 * slots.capacity * slots.words


@inlined
def work_records(slots):
    """Where the records begin that lanes work in, and that are nobody's."""
    return zero_record(slots) + slots.words


@inlined
def id_length(slots, slot):
    """Bytes in the id of a slot; 0 for a free slot."""
    return np.int64(slots.ids[slot * ID_WORDS + ID_WORDS - 1] >> np.uint64(56))


@inlined
def id_hash(slots, name):
    """32 bits from the id at address ``name`` and the seed."""
    mixed = slots.seed[0]
    length = np.int64(read_u64(name + 8 * (ID_WORDS - 1)) >> np.uint64(56))
    for word in range((length + 7) // 8):
        mixed = (mixed ^ read_u64(name + 8 * word)) * _HASH_STEP
        mixed = (mixed ^ mixed >> _SHIFT) * _HASH_STEP
        mixed ^= mixed >> _SHIFT
    mixed = (mixed ^ np.uint64(length)) * _HASH_STEP
    return mixed >> _SHIFT


@inlined
def _same_id(slots, slot, name):
    last = read_u64(name + 8 * (ID_WORDS - 1))
    if slots.ids[slot * ID_WORDS + ID_WORDS - 1] != last:
        return False
    for word in range((np.int64(last >> np.uint64(56)) + 7) // 8):
        if slots.ids[slot * ID_WORDS + word] != read_u64(name + 8 * word):
            return False
    return True


@inlined
def _probe(slots, name, key):
    """The table's position of the id, or of the empty cell where it would go."""
    mask = slots.table.size - 1
    position = np.int64(key) & mask
    while True:
        entry = slots.table[position]
        if entry == np.uint64(0):
            return position
        if entry >> _SHIFT == key and _same_id(slots, np.int64(entry & _LOW) - 1, name):
            return position
        position = (position + 1) & mask


@inlined
def find(slots, name):
    """The slot of the id at address ``name`` (ID_WORDS words), or -1."""
    return np.int64(slots.table[_probe(slots, name, id_hash(slots, name))] & _LOW) - 1


@inlined
def enter(slots, slot, name):
    """Puts the slot of an id that is not there into the table."""
    key = id_hash(slots, name)
    slots.table[_probe(slots, name, key)] = key << _SHIFT | np.uint64(slot + 1)
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
    slots.id_checks[slot] = id_check(slots.ids, slot)
    slots.again[slot] = _NONE
    enter(slots, slot, name)
    return slot


@inlined
def commit(slots, slot):
    """Makes the record that was written and sealed the slot's state: one store, after all of those."""
    store_release(slots.committed, slot, slots.committed[slot] + COMMIT)


@inlined
def seal(slots, slot, at, received):
    """Completes the record at word ``at``, which the slot's next commit makes its state."""
    slots.state_64[at // 2 + COUNT] = slots.committed[slot] + COMMIT
    slots.state_64[at // 2 + RECEIVED] = np.uint64(received)
    slots.state_64[at // 2 + CHECK] = check_of(slots.state_64, at // 2, slots.words, slots.id_checks[slot])


@inlined
def clear(slots, slot):
    """Makes a slot nobody's, then zeroes it. The counter goes first: from then on the rest means nothing."""
    slots.committed[slot] = _NONE
    store_release(slots.ids, slot * ID_WORDS + ID_WORDS - 1, _NONE)
    for word in range(ID_WORDS - 1):
        slots.ids[slot * ID_WORDS + word] = _NONE
    for word in range(2 * slot * slots.words, (2 * slot + 2) * slots.words):
        slots.state[word] = np.float32(0)


@inlined
def release(slots, slot):
    """Lets the stream of a slot go: its id, counter and records become zeros and the slot free.

    The table stays without gaps: every entry after the hole that may stand in it moves up
    (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
    """
    name = address_of(slots.ids, slot * ID_WORDS)
    mask = slots.table.size - 1
    hole = _probe(slots, name, id_hash(slots, name))
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
