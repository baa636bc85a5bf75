"""Blocks of frames stepped, and their predictions written as blocks. Compiled: the pump's way, but for where
messages come from and go to.
"""

from typing import NamedTuple

import numpy as np

from streamrnn import stats as counted
from streamrnn.cluster.blocks import ENTRY_BYTES, entry_at, write_entry
from streamrnn.compiling.jit import compiled, inlined
from streamrnn.daemon.arrivals import HERE, NEXT, OPEN, ROW, are_in_hand, find_likely, hash_id, open_parts
from streamrnn.daemon.publish import BEGINS, HEADER_BYTES, write_answer
from streamrnn.daemon.pump import fill
from streamrnn.engine.advance import advance
from streamrnn.stats import OWN, PREDICTED, SEVERAL
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.slots import id_length, release
from streamrnn.wire.frame import TOPIC_BYTES
from streamrnn.wire.memory import address_of, copy_bytes, read_u32

_IDLE = counted.RESETS.index("idle")

# indices into Written.tally
USED, MESSAGES, READ = range(3)


class Written(NamedTuple):
    """Messages as they stand in the body of a block."""

    content: np.ndarray  # uint8
    tally: np.ndarray  # (3,) int64: bytes used; messages; how far the block is read that they answer


def make_written(room: int) -> Written:
    return Written(np.zeros(room, np.uint8), np.zeros(3, np.int64))


@inlined
def _write(written, core, slot, message, size):
    """Adds a message of a slot's stream."""
    length, at = id_length(core.slots, slot), written.tally[USED]
    write_entry(written.content, at, 0, length, size)
    to = address_of(written.content, at + ENTRY_BYTES)
    copy_bytes(to, address_of(core.slots.ids, slot * ID_WORDS), length)
    copy_bytes(to + length, message, size)
    written.tally[USED] = at + ENTRY_BYTES + length + size
    written.tally[MESSAGES] += 1


@inlined
def _take(pump, core, body, at, base_ns):
    """Takes messages of a block in hand, as many as a batch has rows. Returns where the next one stands."""
    arrivals, here = pump.arrivals, 0
    while at < body.size and here < core.batch.rows:
        length, size = entry_at(body, at)
        message, topic = arrivals.messages[here], address_of(body, at + ENTRY_BYTES)
        message.topic, message.length, message.parts = topic, length, 2
        message.payload, message.size = topic + length, size
        message.came = base_ns + np.int64(read_u32(address_of(body, at)))
        hash_id(core.slots, message)
        at += ENTRY_BYTES + length + size
        here += 1
    for index in range(here):
        find_likely(core.slots, arrivals.messages[index])
    arrivals.hand[NEXT], arrivals.hand[HERE], arrivals.hand[ROW] = 0, here, 0
    return at


@compiled(unknown="core")
def step_block(pump, core, body, base_ns, sealed_ns, written, most_bytes):
    """Steps a block's messages from ``written.tally[READ]`` on, and writes their predictions.

    Until all are done or there may be no room for those of one more batch, of ``most_bytes`` a row. Times are
    the block's: who steps it again writes the same.
    """
    arrivals, batch, at = pump.arrivals, core.batch, written.tally[READ]
    if pump.control[OPEN] == 0:
        open_parts(arrivals)
        pump.control[OPEN] = 1
    while at < body.size or are_in_hand(arrivals):
        if written.tally[USED] + batch.rows * most_bytes > written.content.size:
            break
        if not are_in_hand(arrivals):
            at = _take(pump, core, body, at, base_ns)
        count = fill(pump, core)
        for row in range(count):
            arrivals.named[row] = 0
        advance(core, count)
        for row in range(count):
            answers = batch.answers[row] | batch.begins[row] * BEGINS
            if batch.outcome[row] != PREDICTED:
                continue
            for kind in (OWN, SEVERAL, BEGINS):
                if answers & kind != 0:
                    size = write_answer(pump, core, row, kind, 0, sealed_ns)
                    _write(written, core, batch.slot[row], address_of(pump.message, 0), size)
    written.tally[READ] = at
    return are_in_hand(arrivals) or at < body.size


def bytes_of_row(message_bytes: int) -> int:
    """The most that ``step_block`` writes at a row: its own answer, one of several rows, an event."""
    return 3 * (ENTRY_BYTES + TOPIC_BYTES) + 2 * message_bytes + HEADER_BYTES


@compiled(unknown="core")
def let_go(pump, core, now_ns, slot, written):
    """Lets streams go that were silent for too long at ``now_ns``, from ``slot`` on, and says so of each.

    Returns the slot at which there was no room to say it, or the capacity.
    """
    slots, farewell = core.slots, pump.farewell[0]
    while slot < slots.capacity:
        if id_length(slots, slot) > 0 and now_ns - slots.notes[slot].received > pump.idle_ns:
            if written.tally[USED] + ENTRY_BYTES + TOPIC_BYTES + HEADER_BYTES > written.content.size:
                break
            farewell.recv_ns = farewell.pub_ns = now_ns
            _write(written, core, slot, address_of(pump.farewell, 0), HEADER_BYTES)
            release(slots, slot)
            core.stats.resets[_IDLE] += 1
        slot += 1
    return slot
