"""What happens to streams, events' begins and ends and resets, on its way to the journal. Compiled.

A ring of entries that outlives the process as the live state does. Each is written before its row is sealed,
and counts once the row is committed: so none is lost with the process, and none is told that never was. The
row's epoch and step say whether it was. Those below the mark SEALED all were. Where the ring is full, what
comes is lost, and counted.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.stats import RESETS
from streamrnn.streams.record import EPOCH, ID_WORDS, LAST_RECEIVED, LAST_SEQ, STEP
from streamrnn.streams.score_part import CAUSES, CAUSES_KEPT, EVENT_ROWS, LAST_TS, PEAK, joined
from streamrnn.wire.memory import address_of, copy_bytes, store_release, take_off

BEGINS, ENDS, RESET = 1, 2, 3  # kinds of entries
# What happened: four cache lines.
ENTRY = np.dtype(
    {
        "names": [
            *("number", "slot", "step", "seq", "ts_ns", "received"),
            *("last_seq", "last_ts_ns", "last_received"),
            *("epoch", "kind", "reason", "rows", "peak", "causes", "name"),
        ],
        "formats": [
            np.uint64,  # 1 + how many were before it, last written; another one: this one is not whole
            np.int64,
            np.uint64,  # of the row with which it happened: of its stream since its reset
            np.uint64,
            np.int64,
            np.int64,  # CLOCK_MONOTONIC ns
            np.uint64,  # of an event that ends: of its last unusual row, and when that was
            np.int64,
            np.int64,
            np.uint32,
            np.uint8,  # BEGINS, ENDS or RESET
            np.int8,  # index into RESETS: of a reset, and of an event whose stream was let go; else -1
            np.float32,  # unusual ones so far
            np.float32,  # the highest score so far
            (np.float32, CAUSES_KEPT),  # as in ``score_part``
            (np.uint64, ID_WORDS),  # of its stream
        ],
        "itemsize": 256,
    },
    align=True,
)
ENTRY_WORDS = ENTRY.itemsize // 8
HEAD, LOST = 0, 1  # indices into Ring.counts
SEALED, TAKEN = 0, 1  # and into Ring.marks
_SPARE = 64  # more than there are workers, who look for room at the same time
_NO_REASON = -1
TOLD = np.array([reason not in ("frame", "end") for reason in RESETS])  # not asked for by their source

assert ENTRY.fields is not None
_CAUSES_AT, _NAME_AT = ENTRY.fields["causes"][1], ENTRY.fields["name"][1]


class Ring(NamedTuple):
    """Entries on their way; of none where there is no journal."""

    entries: np.ndarray  # (n,) of ENTRY: n is 0 or a power of two
    words: np.ndarray  # (n * ENTRY_WORDS,) uint64: the same
    counts: np.ndarray  # (2,) int64: entries ever put in, and those that found no room
    marks: np.ndarray  # (2,) uint64: entries whose rows are committed, and those that were taken out


def make_ring(block: np.ndarray | None = None) -> Ring:
    """A ring over ``block``, ``ring_bytes`` of uint8 on a cache line; without one, a ring of no entries."""
    if block is None:
        block = np.zeros(ring_bytes(0), np.uint8)
    words = block.view(np.uint64)
    return Ring(words[8:].view(ENTRY), words[8:], words[:2].view(np.int64), words[4:6])


def ring_bytes(entries: int) -> int:
    return 64 + ENTRY.itemsize * entries


@inlined
def _room(ring, share):
    """Whether there is room for one more where ``1 / share`` of the ring may be full."""
    size = ring.entries.size
    if size == 0:
        return False
    waiting = ring.counts[HEAD] - np.int64(ring.marks[TAKEN])
    if waiting < size // share - _SPARE:
        return True
    take_off(ring.counts, LOST, -1)
    return False


@inlined
def _enter(ring, slots, slot, kind, reason, at, seq, ts, received):
    """Puts in what happened with the row whose record, or the one before, is at word ``at``."""
    state, header = slots.state, at // 2
    part = at + slots.score_at
    number = take_off(ring.counts, HEAD, -1)
    place = number & (ring.entries.size - 1)
    entry = ring.entries[place]
    entry.slot, entry.kind, entry.reason = slot, np.uint8(kind), np.int8(reason)
    entry.step, entry.epoch = slots.state_64[header + STEP], slots.state_32[at + EPOCH]
    entry.seq, entry.ts_ns, entry.received = seq, ts, received
    here = address_of(ring.words, place * ENTRY_WORDS)
    copy_bytes(here + _NAME_AT, address_of(slots.ids, slot * ID_WORDS), 8 * ID_WORDS)
    if kind != RESET:
        entry.last_seq = slots.state_64[header + LAST_SEQ]
        entry.last_received = np.int64(slots.state_64[header + LAST_RECEIVED])
        entry.last_ts_ns = joined(state, part + LAST_TS)
        entry.rows, entry.peak = state[part + EVENT_ROWS], state[part + PEAK]
        copy_bytes(here + _CAUSES_AT, address_of(state, part + CAUSES), 4 * CAUSES_KEPT)
    store_release(ring.words, place * ENTRY_WORDS, np.uint64(number + 1))


@inlined
def tell_event(core, slot, kind, at, seq, ts, received):
    """Puts in that an event begins or ends with a row; ``at`` is the word of its record, not yet sealed.

    Of one that ends its words are still those of the event.
    """
    if _room(core.journal, 1):
        _enter(core.journal, core.slots, slot, kind, _NO_REASON, at, seq, ts, received)


@inlined
def tell_reset(core, slot, reason, at, seq, ts, received):
    """Puts in that a stream begins anew with a row. Half of the ring is for events alone."""
    if TOLD[reason] and _room(core.journal, 2):
        _enter(core.journal, core.slots, slot, RESET, reason, at, seq, ts, received)


@inlined
def tell_let_go(core, slot, reason, at, seq, ts, received, event):
    """Puts in that a stream is about to be let go, and that with it its ``event`` ends, where one goes on."""
    if event and _room(core.journal, 1):
        _enter(core.journal, core.slots, slot, ENDS, reason, at, seq, ts, received)
    if _room(core.journal, 2):
        _enter(core.journal, core.slots, slot, RESET, reason, at, seq, ts, received)


@inlined
def seal_happenings(ring):
    """Says that the rows of all entries are committed; called by who leads, when all steps are done."""
    if ring.counts[HEAD] != np.int64(ring.marks[SEALED]):
        store_release(ring.marks, SEALED, np.uint64(ring.counts[HEAD]))
