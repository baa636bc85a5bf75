"""The slots against a plain dict: streams come, are found and go, in any order."""

import itertools

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from slots_by_hand import admit_stream, find_bytes, find_slot, live_streams, release_slot
from walls import before_a_wall

from streamrnn.kernels.network import aligned
from streamrnn.kernels.packing import pack_network
from streamrnn.model.model import random_model
from streamrnn.streams.record import layout_of
from streamrnn.streams.slots import Slots, id_words, live_bytes, make_slots

LAYOUT = layout_of(pack_network(random_model("rnn", 1, 1)))
# alike but for a byte at either end; of 1 and of 127 bytes; of NULs; of several bytes a character
ALIKE = [
    *("a", "b", "aa", "aaaaaaaa", "aaaaaaaaa", "aaaaaaab", "baaaaaaa", "aaaaaaaaaaaaaaab"),
    *(
        "a" * 126,
        "a" * 127,
        "a" * 126 + "b",
        "b" + "a" * 126,
        "é" * 63,
        "é" * 63 + "a",
        "温度",
        "温",
        "🌡" * 31,
    ),
    *("\0", "\0\0", "a\0", "\0a", "\0" * 127),
]
IDS = st.sampled_from(ALIKE) | st.text(min_size=1).filter(lambda name: len(name.encode()) <= 127)


def find(slots: Slots, name: str) -> int:
    return int(find_slot(slots, id_words(name)))


def admit(slots: Slots, name: str) -> int:
    """The slot of a new stream, with something in it of all that a stream leaves behind."""
    slot = int(admit_stream(slots, id_words(name)))
    if slot >= 0:
        assert slots.notes["again"][slot] == 0
        slots.committed[slot] = 3
        slots.notes["again"][slot] = 8
        records(slots, slot)[:] = 1
    return slot


def records(slots: Slots, slot: int) -> np.ndarray:
    return slots.state[slot * slots.words : (slot + 1) * slots.words]


class SlotsAndDict(RuleBasedStateMachine):
    """What ``Slots`` does and what a dict does must not differ."""

    @initialize(capacity=st.integers(1, 9), seed=st.integers(0, 2**64 - 1))
    def empty(self, capacity: int, seed: int) -> None:
        self.slots = make_slots(LAYOUT, capacity)
        self.slots.seed[0] = seed
        self.known: dict[str, int] = {}

    @rule(name=IDS)
    def come(self, name: str) -> None:
        if name in self.known:
            return
        assert find(self.slots, name) == -1
        slot = admit(self.slots, name)
        if len(self.known) == self.slots.capacity:
            assert slot == -1
            assert find(self.slots, name) == -1
        else:
            assert 0 <= slot < self.slots.capacity
            assert slot not in self.known.values()
            self.known[name] = slot

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        slot = self.known.pop(name)
        release_slot(self.slots, slot)
        assert find(self.slots, name) == -1
        assert self.slots.committed[slot] == 0
        assert not records(self.slots, slot).any()

    @rule(name=IDS)
    def ask(self, name: str) -> None:
        assert find(self.slots, name) == self.known.get(name, -1)

    @invariant()
    def all_are_found(self) -> None:
        for name, slot in self.known.items():
            assert find(self.slots, name) == slot
            assert self.slots.committed[slot] == 3
            assert (records(self.slots, slot) == 1).all()
        assert dict(live_streams(self.slots)) == self.known
        assert self.slots.counts.tolist() == [self.slots.capacity - len(self.known), len(self.known)]


def test_an_id_is_found_by_its_own_bytes_alone():
    """Behind the last byte of each nothing can be read; ids alike but for their length are told apart."""
    wall = before_a_wall()
    slots = make_slots(LAYOUT, 127)
    name = "".join(chr(33 + k % 90) for k in range(127))
    known = {length: admit(slots, name[:length]) for length in range(1, 128, 2)}
    for length in range(1, 128):
        here = wall[len(wall) - length :]
        here[:] = np.frombuffer(name[:length].encode(), np.uint8)
        assert find_bytes(slots, here) == known.get(length, -1)
        for at in range(length):
            here[at] ^= 1
            assert find_bytes(slots, here) == -1
            here[at] ^= 1


TestSlotsAndDict = SlotsAndDict.TestCase
TestSlotsAndDict.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("capacity", [1, 2, 8, 100, 1024])
def test_a_full_table_through_many_comings_and_goings(capacity):
    """Neighbours collide in a full table of their own accord; each leaves while others stay."""
    slots, rng = make_slots(LAYOUT, capacity), np.random.default_rng(capacity)
    known = {f"valve/{k}": admit(slots, f"valve/{k}") for k in range(capacity)}
    assert sorted(known.values()) == list(range(capacity))
    for turn in range(3):
        assert admit(slots, "one too many") == -1
        leaving = rng.permutation(sorted(known))[: -(-capacity // 2)].tolist()
        for name in leaving:
            release_slot(slots, known.pop(name))
        assert [find(slots, name) for name in leaving] == [-1] * len(leaving)
        assert {name: find(slots, name) for name in known} == known
        known |= {name: admit(slots, name) for name in (f"{name}/{turn}" for name in leaving)}
        assert {name: find(slots, name) for name in known} == known
        assert dict(live_streams(slots)) == known


def test_ids_of_one_hash_are_told_apart():
    """Topmost bits of a word and of the next may cancel in a product of whole words, whatever the seed."""
    slots = make_slots(LAYOUT, 8)
    first = id_words("pump/0123456789abcdef")
    second = first.copy()
    second[0] ^= np.uint64(1 << 63)
    second[1] ^= np.uint64(1 << 63 | 1 << 31)
    a = admit_stream(slots, first)
    assert find_slot(slots, second) == -1
    b = admit_stream(slots, second)
    assert (find_slot(slots, first), find_slot(slots, second)) == (a, b)
    release_slot(slots, a)
    assert (find_slot(slots, first), find_slot(slots, second)) == (-1, b)


def test_a_released_slot_serves_another_stream():
    slots = make_slots(LAYOUT, 1)
    for name in ("first", "second", "first"):
        assert admit(slots, name) == 0
        assert admit(slots, "other") == -1
        release_slot(slots, 0)
        assert not slots.ids.any()
        assert not slots.table.any()


@pytest.mark.parametrize("capacity", [1, 3, 8])
def test_the_live_state_is_one_block(capacity):
    """Whoever has the block has the streams; its parts do not share a cache line."""
    block = aligned(live_bytes(LAYOUT, capacity), np.uint8)
    slots, empty = make_slots(LAYOUT, capacity, block), block.copy()
    assert admit(slots, "a") == 0
    again = make_slots(LAYOUT, capacity, block)
    assert dict(live_streams(again)) == {"a": 0}
    parts = [(part.ctypes.data, part.nbytes) for part in (again.ids, again.committed, again.state)]
    assert [at % 64 for at, _ in parts] == [0] * 3
    assert all(at + size <= after for (at, size), (after, _) in itertools.pairwise(parts))
    assert block.ctypes.data <= parts[0][0]
    assert sum(parts[-1]) <= block.ctypes.data + block.nbytes
    release_slot(slots, 0)
    np.testing.assert_array_equal(block, empty)


@pytest.mark.parametrize("name", ["", "a" * 128, "é" * 64])
def test_an_id_has_1_to_127_bytes(name):
    with pytest.raises(ValueError, match="1 to 127 bytes of UTF-8"):
        id_words(name)
