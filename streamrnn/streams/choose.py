"""The first of many streams by some order, and those whose ids have a text in them."""

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.streams.record import ID_WORDS
from streamrnn.wire.frame import TOPIC_BYTES

_BYTE = np.uint64(8)
_LOW = np.uint64(255)
_UPPER_A, _UPPER_Z, _TO_LOWER = ord("A"), ord("Z"), 32


def first(keys: np.ndarray, ids: np.ndarray, which: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` of the streams ``which`` with the least keys, in order; those that tie, by id.

    ``keys`` (n,) float64, none of them NaN; ``ids`` (n, ID_WORDS) uint64; ``which`` and the result int64,
    places in these.
    """
    chosen = np.empty(min(count, len(which)), np.int64)
    _choose(keys, ids.reshape(-1), which, chosen)
    return chosen


def holding(ids: np.ndarray, text: bytes, anywhere: bool) -> np.ndarray:
    """The places of the ids, (n, ID_WORDS) uint64, that begin with ``text``, (m,) int64.

    ``anywhere``: that have it in them, whatever the case of ASCII letters.
    """
    if not text:
        return np.arange(len(ids))
    marks = np.zeros(len(ids), np.uint8)
    wanted = np.frombuffer(text, np.uint8).copy()  # one that can be written to, or it compiles anew for this
    _mark(ids.reshape(-1).view(np.uint8), _lowered(wanted) if anywhere else wanted, anywhere, marks)
    return np.flatnonzero(marks)


def _lowered(text: np.ndarray) -> np.ndarray:
    upper = (text >= _UPPER_A) & (text <= _UPPER_Z)
    return text + upper * np.uint8(_TO_LOWER)


@inlined
def _before(keys, ids, one, other):
    """Whether one stream comes before another."""
    if keys[one] != keys[other]:
        return keys[one] < keys[other]
    for word in range(ID_WORDS):
        here, there = ids[one * ID_WORDS + word], ids[other * ID_WORDS + word]
        if here != there:
            while here & _LOW == there & _LOW:  # an id's first byte is the lowest of a word
                here, there = here >> _BYTE, there >> _BYTE
            return here & _LOW < there & _LOW
    return False


@inlined
def _sink(keys, ids, heap, size):
    """Makes a heap of one whose top may be out of place: the last in the order comes to its top."""
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and _before(keys, ids, heap[below], heap[below + 1]):
            below += 1
        if not _before(keys, ids, heap[place], heap[below]):
            return
        heap[place], heap[below] = heap[below], heap[place]
        place = below


@inlined
def _rise(keys, ids, heap, place):
    while place > 0 and _before(keys, ids, heap[(place - 1) // 2], heap[place]):
        above = (place - 1) // 2
        heap[place], heap[above] = heap[above], heap[place]
        place = above


@compiled
def _choose(keys, ids, which, chosen):
    """Keeps the first so far in a heap, then sorts it (Knuth, The Art of Computer Programming 3, 5.2.3)."""
    for at in range(which.size):
        if at < chosen.size:
            chosen[at] = which[at]
            _rise(keys, ids, chosen, at)
        elif chosen.size > 0 and _before(keys, ids, which[at], chosen[0]):
            chosen[0] = which[at]
            _sink(keys, ids, chosen, chosen.size)
    for size in range(chosen.size - 1, 0, -1):
        chosen[0], chosen[size] = chosen[size], chosen[0]
        _sink(keys, ids, chosen, size)


@compiled
def _mark(ids, wanted, anywhere, marks):
    for which in range(marks.size):
        at = which * (TOPIC_BYTES + 1)
        last = min(np.int64(ids[at + TOPIC_BYTES]), TOPIC_BYTES) - wanted.size  # it may be a damaged id
        if not anywhere:
            last = min(last, 0)
        for start in range(last + 1):
            same = 0
            while same < wanted.size:
                byte = np.int64(ids[at + start + same])
                if anywhere and byte >= _UPPER_A and byte <= _UPPER_Z:
                    byte += _TO_LOWER
                if byte != np.int64(wanted[same]):
                    break
                same += 1
            if same == wanted.size:
                marks[which] = 1
                break
