"""Records of many streams at a time, read while the pump goes on, which neither waits nor knows."""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.streams.record import CHECK, COUNT, DEGRADED, ENDED, ID_WORDS, RECEIVED, SEQ, STEP, check_of
from streamrnn.streams.score import EVENT, UNUSUAL, last_scores
from streamrnn.streams.slots import COMMIT, Slots, newest

_TRIES = 8  # of what was written to while it was read


class Heads(NamedTuple):
    """What the list of streams tells of each: columns over n streams, in the order of their slots."""

    slot: np.ndarray  # (n,) int64
    name: np.ndarray  # (n, 128) uint8: the id, zeros, its length
    seq: np.ndarray  # (n,) uint64
    step: np.ndarray  # (n,) uint64
    received: np.ndarray  # (n,) int64, CLOCK_MONOTONIC ns of the last row
    score: np.ndarray  # (n,) float64, NaN = none
    anomaly: np.ndarray  # (n,) bool: an event goes on
    degraded: np.ndarray  # (n,) bool
    ended: np.ndarray  # (n,) bool: the next row begins a new sequence


def read_heads(slots: Slots, forecasts: bool) -> Heads:
    """The heads of all streams. ``forecasts``: whether there is a score.

    Every field is of a whole row, but for streams that are stepped faster than they can be read. A slot that
    changes hands meanwhile is left out.
    """
    counts = slots.committed.copy()
    held = np.flatnonzero(counts)
    counts = counts[held]
    read = _columns(slots, held, counts, forecasts)
    torn = np.flatnonzero(slots.committed[held] != counts)
    for _ in range(_TRIES):
        if not torn.size:
            break
        now = slots.committed[held[torn]]
        for column, again in zip(read, _columns(slots, held[torn], now, forecasts), strict=True):
            column[torn] = again
        counts[torn] = now
        torn = torn[slots.committed[held[torn]] != now]
    there = (counts != 0) & (slots.committed[held] != 0) & (read[0][:, -1] != 0)
    return Heads(held[there], *[column[there] for column in read])


def _columns(slots: Slots, which: np.ndarray, counts: np.ndarray, forecasts: bool) -> list[np.ndarray]:
    """The columns of ``Heads`` after its first."""
    at = _places(slots, which, counts)
    none = np.full(len(which), np.nan)
    score, event = none, none
    if forecasts:
        parts = slots.state[(at + slots.score_at)[:, np.newaxis] + np.arange(EVENT + 1)]
        score, event = last_scores(parts), parts[:, EVENT]
    return [
        slots.ids.view(np.uint8).reshape(slots.capacity, 8 * ID_WORDS)[which],
        slots.state_64[at // 2 + SEQ],
        slots.state_64[at // 2 + STEP],
        slots.state_64[at // 2 + RECEIVED].view(np.int64),
        score,
        event == UNUSUAL,
        slots.state_32[at + DEGRADED] > 0,
        slots.state_32[at + ENDED] > 0,
    ]


def _places(slots: Slots, which: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Where, in ``slots.state``, the records stand that the counters name, (n,) int64."""
    return newest(which, counts) * slots.words


class Pairs(NamedTuple):
    """The last two records of n streams."""

    counter: np.ndarray  # (n,) uint64: the slot's counter; 0 = no whole record was to be had
    now: np.ndarray  # (n, words) float32
    before: np.ndarray  # (n, words) float32
    follows: np.ndarray  # (n,) bool: whether ``before`` is whole, and what ``now`` came from


def read_pairs(slots: Slots, which: np.ndarray) -> Pairs:
    """The last two records of the slots ``which``, (n,) int64, each of them vouched for by its check."""
    by_record = slots.state.reshape(-1, slots.words)
    names = slots.id_checks[which]
    now, before = _pair(slots, by_record, which)
    whole = vouched(now, names)
    for _ in range(_TRIES):
        again = np.flatnonzero(~whole & (slots.committed[which] != 0))
        if not again.size:
            break
        now[again], before[again] = _pair(slots, by_record, which[again])
        whole[again] = vouched(now[again], names[again])
    counter, earlier = now.view(np.uint64)[:, COUNT], before.view(np.uint64)[:, COUNT]
    follows = whole & vouched(before, names) & (earlier == counter - COMMIT)
    return Pairs(np.where(whole, counter, 0), now, before, follows)


def _pair(slots: Slots, by_record: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = newest(which, slots.committed[which])
    return by_record[at], by_record[at ^ 1]


def vouched(records: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Whether records, (n, words) float32, have the check that ``record.check_of`` gives them, (n,) bool.

    ``names``, (n,), are the ``id_check`` of their streams.
    """
    whole = np.zeros(len(records), np.uint8)
    _vouch(records.view(np.uint64).reshape(-1), records.shape[1], names, whole)
    return whole.astype(bool)


@compiled
def _vouch(records: np.ndarray, words: int, names: np.ndarray, whole: np.ndarray) -> None:
    for which in range(whole.size):
        first = which * (words // 2)
        whole[which] = records[first + CHECK] == check_of(records, first, words, names[which])


def slot_of(slots: Slots, words: np.ndarray) -> int | None:
    """The slot of an id, ``words`` as ``slots.id_words`` gives it; None where there is none."""
    ids = slots.ids.reshape(slots.capacity, ID_WORDS)
    used = np.flatnonzero(words[:-1]).max(initial=0)
    found = np.flatnonzero(ids[:, used] == words[used])  # ids often begin alike, and differ where they end
    found = found[(ids[found] == words).all(1)]
    return int(found[0]) if found.size else None
