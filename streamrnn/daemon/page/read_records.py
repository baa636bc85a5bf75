"""Records of many streams at a time, read while the pump goes on, which neither waits nor knows."""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.streams.choose import first, holding
from streamrnn.streams.holding import is_held
from streamrnn.streams.last_score import last_scores
from streamrnn.streams.record import (
    CHECK,
    COUNT,
    DEGRADED,
    ENDED,
    ID_WORDS,
    RECEIVED,
    RESTORED,
    SEQ,
    STEP,
    check_of,
)
from streamrnn.streams.score_part import EVENT, UNUSUAL
from streamrnn.streams.slots import Slots, record
from streamrnn.wire.memory import address_of, copy_bytes, load_ordered, prefetch

_TRIES = 100  # of what was written to while it was read
_AHEAD = 8  # slots whose memory is asked for before they are read
_NONE = np.uint64(0)


class Heads(NamedTuple):
    """What the list of streams tells of each: columns over n streams, in the order of their slots."""

    slot: np.ndarray  # (n,) int64
    ids: np.ndarray  # (n, ID_WORDS) uint64
    seq: np.ndarray  # (n,) uint64
    step: np.ndarray  # (n,) uint64
    received: np.ndarray  # (n,) int64, CLOCK_MONOTONIC ns of the last row
    score: np.ndarray  # (n,) float64, NaN = none
    anomaly: np.ndarray  # (n,) bool: an event goes on
    degraded: np.ndarray  # (n,) bool
    held: np.ndarray  # (n,) bool: learning is held
    ended: np.ndarray  # (n,) bool: the next row begins a new sequence
    restored: np.ndarray  # (n,) bool: it was put back, and has had no row since


def read_heads(slots: Slots, forecasts: bool) -> Heads:
    """The heads of all streams. ``forecasts``: whether there is a score.

    Every field is of a whole row, but for streams that are stepped faster than they can be read. A slot that
    changes hands meanwhile is left out.
    """
    room = slots.capacity  # memory is taken as it is written to
    heads = Heads(
        np.empty(room, np.int64),
        np.empty((room, ID_WORDS), np.uint64),
        np.empty(room, np.uint64),
        np.empty(room, np.uint64),
        np.empty(room, np.int64),
        np.empty(room),
        *np.empty((5, room), np.bool_),
    )
    parts = np.empty((room if forecasts else 0, EVENT + 1), np.float32)
    count = _read_heads(slots, heads, heads.ids.reshape(-1), parts.reshape(-1))
    heads = Heads(*[column[:count] for column in heads])
    heads.score[:] = last_scores(parts[:count]) if forecasts else np.nan
    heads.anomaly[:] = parts[:count, EVENT] == UNUSUAL if forecasts else False
    return heads


@compiled
def _read_heads(slots: Slots, heads: Heads, ids: np.ndarray, parts: np.ndarray) -> int:
    """Fills in all but the scores and, if wanted, the ``parts`` behind them. Returns how many."""
    width = EVENT + 1 if parts.size > 0 else 0
    count = 0
    for slot in range(slots.capacity):
        ahead = min(slot + _AHEAD, slots.capacity - 1)
        if slots.committed[ahead] != _NONE:
            for byte in range(0, 4 * (slots.score_at + width), 64):
                prefetch(address_of(slots.state, record(slots, ahead)) + byte)
        at = record(slots, slot)
        seen = load_ordered(slots.committed, slot)
        for _ in range(_TRIES):
            if seen == _NONE:
                break
            written = load_ordered(slots.state_64, at // 2 + COUNT)
            to, source = address_of(ids, count * ID_WORDS), address_of(slots.ids, slot * ID_WORDS)
            copy_bytes(to, source, 8 * ID_WORDS)
            heads.seq[count] = slots.state_64[at // 2 + SEQ]
            heads.step[count] = slots.state_64[at // 2 + STEP]
            heads.received[count] = np.int64(slots.state_64[at // 2 + RECEIVED])
            heads.degraded[count] = slots.state_32[at + DEGRADED] > 0
            heads.held[count] = is_held(slots, at)
            heads.ended[count] = slots.state_32[at + ENDED] > 0
            heads.restored[count] = slots.state_32[at + RESTORED] > 0
            for word in range(width):
                parts[count * width + word] = slots.state[at + slots.score_at + word]
            before, seen = seen, load_ordered(slots.committed, slot)
            if written == before and seen == before:
                break
        if seen != _NONE and ids[count * ID_WORDS + ID_WORDS - 1] != _NONE:
            heads.slot[count] = slot
            count += 1
    return count


def compile_reading(slots: Slots) -> None:
    """Compiles what the list of streams runs, or loads it from the cache. ``slots``: a few that are free."""
    heads = read_heads(slots, forecasts=True)
    first(heads.score, heads.ids, holding(heads.ids, b"?", anywhere=True), 1)
    read_records(slots, np.zeros(1, np.int64))


def read_records(slots: Slots, which: np.ndarray) -> np.ndarray:
    """The records of the slots ``which``, (n,) int64, less their pasts: (n, past_at) float32.

    Each is vouched for by its check; of one that is not to be had whole, COUNT is 0.
    """
    by_record = slots.state.reshape(-1, slots.words)[:, : slots.past_at]
    names = slots.notes["id_check"][which]
    read = by_record[which]
    whole = vouched(read, names)
    for _ in range(_TRIES):
        again = np.flatnonzero(~whole & (slots.committed[which] != 0))
        if not again.size:
            break
        read[again] = by_record[which[again]]
        whole[again] = vouched(read[again], names[again])
    read.view(np.uint64)[~whole, COUNT] = 0
    return read


def vouched(records: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Whether records, (n, past_at) float32, have the check that ``record.check_of`` gives them, (n,) bool.

    ``names``, (n,), are the ``id_check`` of their streams.
    """
    whole = np.zeros(len(records), np.uint8)
    _vouch(records.reshape(-1), records.view(np.uint64).reshape(-1), records.shape[1], names, whole)
    return whole.astype(bool)


@compiled
def _vouch(
    records: np.ndarray, records_64: np.ndarray, words: int, names: np.ndarray, whole: np.ndarray
) -> None:
    for which in range(whole.size):
        at = which * words
        whole[which] = records_64[at // 2 + CHECK] == check_of(records, at, words, names[which])


def slot_of(slots: Slots, words: np.ndarray) -> int | None:
    """The slot of an id, ``words`` as ``slots.id_words`` gives it; None where there is none."""
    ids = slots.ids.reshape(slots.capacity, ID_WORDS)
    used = np.flatnonzero(words[:-1]).max(initial=0)
    found = np.flatnonzero(ids[:, used] == words[used])  # ids often begin alike, and differ where they end
    found = found[(ids[found] == words).all(1)]
    return int(found[0]) if found.size else None
