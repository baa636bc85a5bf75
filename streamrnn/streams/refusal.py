"""Messages and rows that are refused: counted, and remembered by who sent them and what was wrong."""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.stats import LATE, LATE_ROW, MISSING_ROWS, NO_SIZE, REFUSAL, REJECTED, TOPIC_KEPT
from streamrnn.streams.happenings import seal_happenings
from streamrnn.streams.record import ID_WORDS
from streamrnn.wire.clock import realtime_ns
from streamrnn.wire.frame import TOPIC_BYTES
from streamrnn.wire.memory import address_of, copy_bytes, read_u8, store_release

assert REFUSAL.fields is not None
_TOPIC_AT = REFUSAL.fields["topic"][1]


@inlined
def refuse(stats, reason, topic, topic_bytes, got, wanted, channel, value):
    """Counts one more for ``reason``, an index into REASONS, and keeps what it was like, see ``REFUSAL``.

    ``topic`` is an address. Of a reason's two records the one that the count names is left alone until the
    other one is whole.
    """
    count = stats.rejected[reason] + 1
    at = 2 * reason + (count & 1)
    before, refusal, now = stats.refused[at ^ 1], stats.refused[at], realtime_ns()
    refusal.first_ns = before.first_ns if count > 1 else now
    refusal.latest_ns = now
    refusal.got, refusal.wanted = got, wanted
    refusal.channel, refusal.value = channel, value
    refusal.topic_bytes = topic_bytes
    copy_bytes(address_of(stats.refused, at) + _TOPIC_AT, topic, min(topic_bytes, TOPIC_KEPT))
    store_release(stats.rejected, reason, np.uint64(count))


@inlined
def refuse_row(core, row, name, reason, channel):
    """``refuse`` for a row of the batch that came with the id at address ``name``."""
    value = core.batch.values[row * core.net.in_width + max(channel, 0)]
    length = np.int64(read_u8(name + TOPIC_BYTES))
    refuse(core.stats, reason, name, length, NO_SIZE, NO_SIZE, channel, value)


@inlined
def turn_away(core, row, reason, channel):
    """Says of a row of the batch that it is rejected; ``tally`` counts it."""
    core.batch.outcome[row] = np.uint8(REJECTED + reason)
    core.batch.channel[row] = channel


@inlined
def tally(core, count):
    """Counts what became of the rows of a batch, in their order.

    Behind all of their steps, as whoever takes these is not alone, and each count has one writer.
    """
    seal_happenings(core.journal)
    batch, stats = core.batch, core.stats
    for row in range(count):
        outcome = batch.outcome[row]
        stats.counters[MISSING_ROWS] += np.int64(batch.said[row].gap)
        if batch.reset[row] >= 0:
            stats.resets[batch.reset[row]] += 1
        if outcome == LATE_ROW:
            stats.counters[LATE] += 1
        elif outcome >= REJECTED:
            name = address_of(core.slots.ids, batch.slot[row] * ID_WORDS)
            refuse_row(core, row, name, np.int64(outcome) - REJECTED, np.int64(batch.channel[row]))
