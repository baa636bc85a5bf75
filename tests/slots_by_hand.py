"""Single operations of the slots, which streamrnn has only within compiled code, for Python to call."""

from collections.abc import Iterator

from streamrnn.compiling.jit import compiled
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.slots import Slots, admit, find, find_id, id_key, id_text, release
from streamrnn.wire.memory import address_of


@compiled
def find_slot(slots, words):
    """The slot of an id given as ``id_words``, or -1."""
    return find(slots, address_of(words, 0))


@compiled
def find_bytes(slots, name):
    """The slot of the id in the bytes ``name``, (n,) uint8, and no more than those; or -1."""
    at = address_of(name, 0)
    return find_id(slots, at, name.size, id_key(slots, at, name.size))


@compiled
def admit_stream(slots, words):
    """A slot for an id that ``find_slot`` does not know, or -1."""
    return admit(slots, address_of(words, 0))


@compiled
def release_slot(slots, slot):
    """Lets the stream of a slot go."""
    release(slots, slot)


def live_streams(slots: Slots) -> Iterator[tuple[str, int]]:
    """Stream ids and their slots, in the order of the slots."""
    for slot in range(slots.capacity):
        words = slots.ids[slot * ID_WORDS : (slot + 1) * ID_WORDS]
        if words[-1]:
            yield id_text(words), slot
