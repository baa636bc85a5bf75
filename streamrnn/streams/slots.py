"""The slots: stream id to place, and the state kept there.

Each slot has two records, and a counter that says how many were ever committed. Record
``committed & 1`` is the stream's state; a step writes the other one whole and then raises the
counter by one, in one aligned store behind a release fence. So at any instant a slot stands at
exactly its last committed step.

A record is float32 words: ``HEADER`` words, the last input (in_width), the last prediction
(out_width), the hidden states of all layers, then an LSTM's cell states; all multiples of 16.
"""

import mmap
import secrets
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from streamrnn.jit import compiled, inlined
from streamrnn.kernels.network import LSTM, Network
from streamrnn.wire.frame import TOPIC_BYTES
from streamrnn.wire.memory import address_of, read_u64, store_release

HEADER = 16  # words
ID_WORDS = (TOPIC_BYTES + 1) // 8  # an id and, in its last byte, its length

# A record's header, as indices into its 64-bit words and its 32-bit words.
SEQ, TS, STEP = 0, 1, 2  # of the last row committed; steps since the last reset
EPOCH, ENDED = 6, 7  # resets so far; why the next row begins a new sequence, 1 + index into RESETS, or 0

_HASH_STEP = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


class Slots(NamedTuple):
    """Every array that a stream's progress changes. ``capacity`` slots and one record of zeros after them."""

    capacity: int
    words: int  # float32 words in a record
    input_at: int  # where a record's last input begins
    prediction_at: int
    hidden_at: int
    state_words: int  # hidden and cell states together
    # kept: these four are the live state
    ids: np.ndarray  # (capacity * ID_WORDS,) uint64: UTF-8, zeros, and the length in the last byte
    committed: np.ndarray  # (capacity,) uint64: records ever committed; 0 = none yet
    received: np.ndarray  # (capacity,) int64: CLOCK_MONOTONIC ns of the last frame
    state: np.ndarray  # ((2 * capacity + 1) * words,) float32
    # views of `state`
    state_64: np.ndarray  # uint64
    state_32: np.ndarray  # uint32
    # derived from the ids
    table: np.ndarray  # (power of two >= 2 * capacity,) uint64: hash << 32 | slot + 1; 0 = empty
    free: np.ndarray  # (capacity,) int64: a stack of free slots
    counts: np.ndarray  # (2,) int64: free slots, streams
    seed: np.ndarray  # (1,) uint64: so that ids that collide in one process do not in another
    # links between the rows of one batch
    batch: np.ndarray  # (capacity,) int64: the batch that last had a row of this slot
    tail: np.ndarray  # (capacity,) int64: its last row there


def make_slots(network: Network, capacity: int) -> Slots:
    """Empty slots. The live part is one block of memory, pages touched only when a slot is used."""
    input_at = HEADER
    prediction_at = input_at + network.in_width
    hidden_at = prediction_at + network.out_width
    state_words = network.layers * network.width * (2 if network.cell == LSTM else 1)
    words = hidden_at + state_words
    parts = {
        "ids": (np.uint64, capacity * ID_WORDS),
        "committed": (np.uint64, capacity),
        "received": (np.int64, capacity),
        "state": (np.float32, (2 * capacity + 1) * words),
    }
    sizes = {name: -(-np.dtype(dtype).itemsize * count // 64) * 64 for name, (dtype, count) in parts.items()}
    block = np.frombuffer(mmap.mmap(-1, sum(sizes.values())), np.uint8)
    views, at = {}, 0
    for name, (dtype, count) in parts.items():
        views[name] = block[at : at + np.dtype(dtype).itemsize * count].view(dtype)
        at += sizes[name]
    table_size = 1 << max(4, (2 * capacity - 1).bit_length())
    return Slots(
        capacity=capacity,
        words=words,
        input_at=input_at,
        prediction_at=prediction_at,
        hidden_at=hidden_at,
        state_words=state_words,
        **views,
        state_64=views["state"].view(np.uint64),
        state_32=views["state"].view(np.uint32),
        table=np.zeros(table_size, np.uint64),
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


def live_streams(slots: Slots) -> Iterator[tuple[str, int]]:
    """Stream ids and their slots, in the order of the slots."""
    for slot in range(slots.capacity):
        raw = slots.ids[slot * ID_WORDS : (slot + 1) * ID_WORDS].tobytes()
        if raw[-1]:
            yield raw[: raw[-1]].decode(), slot


@inlined
def record(slots, slot, committed):
    """Where, in ``slots.state``, the record stands that the counter ``committed`` names."""
    return (2 * slot + np.int64(committed & np.uint64(1))) * slots.words


@inlined
def zero_record(slots):
    """Where the record of zeros stands: the state of a stream that has not begun."""
    return 2 * slots.capacity * slots.words


@inlined
def id_length(slots, slot):
    """Bytes in the id of a slot; 0 for a free slot."""
    return np.int64(slots.ids[slot * ID_WORDS + ID_WORDS - 1] >> np.uint64(56))


@inlined
def _hash(slots, name):
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
    return np.int64(slots.table[_probe(slots, name, _hash(slots, name))] & _LOW) - 1


@inlined
def admit(slots, name):
    """A free slot for an id that has none, or -1 when all are taken. The id's last word, with its length,
    admits it and is stored after all else."""
    if slots.counts[0] == 0:
        return np.int64(-1)
    slots.counts[0] -= 1
    slot = slots.free[slots.counts[0]]
    slots.committed[slot] = np.uint64(0)
    for word in range(ID_WORDS - 1):
        slots.ids[slot * ID_WORDS + word] = read_u64(name + 8 * word)
    key = _hash(slots, name)
    slots.table[_probe(slots, name, key)] = key << _SHIFT | np.uint64(slot + 1)
    store_release(slots.ids, slot * ID_WORDS + ID_WORDS - 1, read_u64(name + 8 * (ID_WORDS - 1)))
    slots.counts[1] += 1
    return slot


@inlined
def release(slots, slot):
    """Lets the stream of a slot go: its id, counter and records become zeros and the slot free.

    The table stays without gaps: every entry after the hole that may stand in it moves up
    (Knuth, The Art of Computer Programming 3, 6.4, algorithm R).
    """
    name = address_of(slots.ids, slot * ID_WORDS)
    mask = slots.table.size - 1
    hole = _probe(slots, name, _hash(slots, name))
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
    for word in range(ID_WORDS - 1, -1, -1):
        slots.ids[slot * ID_WORDS + word] = np.uint64(0)
    slots.committed[slot] = np.uint64(0)
    for word in range(2 * slot * slots.words, (2 * slot + 2) * slots.words):
        slots.state[word] = np.float32(0)
    slots.free[slots.counts[0]] = slot
    slots.counts[0] += 1
    slots.counts[1] -= 1


@compiled
def find_slot(slots, words):
    """``find`` for Python: the slot of an id given as ``id_words``, or -1."""
    return find(slots, address_of(words, 0))


@compiled
def admit_stream(slots, words):
    """``admit`` for Python, of an id that ``find_slot`` does not know."""
    return admit(slots, address_of(words, 0))


@compiled
def release_slot(slots, slot):
    """``release`` for Python."""
    release(slots, slot)
