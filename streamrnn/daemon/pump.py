"""The pump: one compiled loop from socket to socket, without the GIL.

poll -> receive -> decode -> slot -> advance (rules, step, commit) -> encode -> send

Python starts it on a thread of its own and then only reads its counters and sets its stop flag.
"""

from typing import Any, NamedTuple

import numpy as np

from streamrnn import stats as counted
from streamrnn.compiling.hints import unlikely
from streamrnn.compiling.jit import compiled, inlined
from streamrnn.compiling.known import Known, KnownIfZero
from streamrnn.daemon.arrivals import (
    FAILED,
    HEARTBEAT,
    HERE,
    NEXT,
    OPEN,
    ROW,
    STOP,
    Arrivals,
    are_in_hand,
    close_parts,
    let_go_of,
    look_again,
    make_arrivals,
    open_parts,
    part_to_send,
    receive,
)
from streamrnn.daemon.idle import sweep
from streamrnn.daemon.latencies import count_batch
from streamrnn.daemon.publish import publish
from streamrnn.daemon.shadowing import FOLLOW, HAND_OVER, NO_SHADOW, SWEEP, with_shadow
from streamrnn.engine.advance import Core, advance, message_bytes, new_slot, stage
from streamrnn.engine.stopwatch import COUNT, DECODE, RECEIVE, SEND, WAIT, lap
from streamrnn.kernels.network import TO_VECTOR
from streamrnn.streams.batch import ROWS
from streamrnn.streams.plausible import Doubts, make_doubts, raw_refusal
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.refusal import refuse, refuse_row
from streamrnn.streams.slots import find_id, id_words, is_of
from streamrnn.wire import codec, frame, libzmq
from streamrnn.wire.clock import monotonic_ns, realtime_ns
from streamrnn.wire.memory import address_of, copy_bytes

PAUSE, END = 1, 2  # why to stop: to go on later from the same frame, or for good

_POLL_MS = 50  # how late a stop flag or a heartbeat can be when nothing arrives
_PARTS, _TOPIC = counted.REASONS.index("parts"), counted.REASONS.index("topic")
_NAN = np.float32("nan")
_HEAD = frame.FRAME.itemsize


class Pump(NamedTuple):
    """What the loop needs beside the engine's ``Core``."""

    source: int  # the input socket's address
    sink: int  # the output socket's
    kind: int  # of what is said at a row
    raw: Known  # 1 for input format "raw"
    alone_bytes: KnownIfZero  # in the id of the stream that messages of one part are of; 0 = they are refused
    row_ns: int  # time between rows where a frame does not say
    idle_ns: int  # streams silent for longer are let go; 0 = never
    control: np.ndarray  # (4,) int64: stop flag; heartbeat, CLOCK_MONOTONIC ns; errno of a socket; parts open
    poll_items: np.ndarray  # (4,) int64: zmq_pollitem_t of source and sink, two words each
    arrivals: Arrivals
    alone: np.ndarray  # (ID_WORDS,) uint64: that id, and zeros
    name: np.ndarray  # (ID_WORDS,) uint64: a topic as slots keep it
    message: np.ndarray  # uint8, as many as in the largest prediction: what is being sent
    published: np.ndarray  # (ROWS,) int64: when a row was answered, CLOCK_MONOTONIC ns; 0 = not
    farewell: np.ndarray  # (1,) of PREDICTION: what is said of a stream that is let go
    doubts: Doubts
    swept: np.ndarray  # (1,) int64: the next slot to sweep
    shadow: Any  # a second model to step behind this one, or NO_SHADOW


def make_pump(core: Core, source: int, sink: int, raw: bool, stream: str, idle_s: float) -> Pump:
    """The pump's own memory for sockets given by address; both sockets belong to it from here on.

    ``raw`` and ``stream`` are of the configuration's ``input``.
    """
    farewell = frame.blank_predictions(1)
    farewell["kind"], farewell["flags"] = frame.EVENT, frame.EVICTED
    return Pump(
        source=source,
        sink=sink,
        kind=frame.PER_SEQUENCE if core.net.relation == TO_VECTOR else frame.PER_FRAME,
        raw=int(raw),
        alone_bytes=len(stream.encode()),
        row_ns=core.rules.period_ns,
        idle_ns=round(idle_s * 1e9),
        control=np.zeros(4, np.int64),
        # nothing is waited for at the sink, but polling lets it forget subscribers that have left
        poll_items=np.array([source, libzmq.POLLIN_WORD, sink, 0], np.int64),
        arrivals=make_arrivals(),
        alone=id_words(stream).copy() if stream else np.zeros(ID_WORDS, np.uint64),
        name=np.zeros(ID_WORDS, np.uint64),
        message=np.zeros(message_bytes(core), np.uint8),
        published=np.zeros(ROWS, np.int64),
        farewell=farewell,
        doubts=make_doubts(core.net),
        swept=np.zeros(1, np.int64),
        shadow=NO_SHADOW,
    )


@inlined
def _take_name(pump, topic, size):
    """Copies a topic of 1 to 127 bytes to ``pump.name``, padded with zeros, its length last."""
    for word in range(ID_WORDS):
        pump.name[word] = np.uint64(0)
    copy_bytes(address_of(pump.name, 0), topic, size)
    pump.name[ID_WORDS - 1] |= np.uint64(size) << np.uint64(56)


@inlined
def _decode(pump, core, message):
    """Whether a message has rows to take, and its header."""
    channels, parts, length = core.net.inputs, message.parts, message.length
    if pump.raw == 1:
        reason, header = codec.decode_raw(message.payload, message.size, channels)
    else:
        reason, header = codec.decode(message.payload, message.size, channels)
    if length < 1 or length > frame.TOPIC_BYTES:
        reason = _TOPIC
    if parts != 2 and not (parts == 1 and pump.alone_bytes > 0):
        reason = _PARTS
    return reason, header


@inlined
def _refuse(pump, core, message, reason, header):
    got, wanted = message.size, codec.size_wanted(header, core.net.inputs, pump.raw)
    if reason == _TOPIC:
        got, wanted = message.length, frame.TOPIC_BYTES
    elif reason == _PARTS:
        got, wanted = message.parts, 2
    topic, length = message.topic, message.length
    refuse(core.stats, reason, topic, length, got, wanted, counted.NO_CHANNEL, _NAN)


@inlined
def _slot_of(slots, message):
    """The slot of a message's stream, or -1."""
    slot = message.slot
    if unlikely(slot < 0 or not is_of(slots, slot, message.topic, message.length)):  # it may have begun
        slot = find_id(slots, message.topic, message.length, message.key)
    return slot


@inlined
def _stage_row(pump, core, count, message, header, row, slot):
    """Enters row ``row`` of a message as row ``count`` of the batch, if it may enter.

    ``slot`` is its stream's, or -1. Returns the rows that are in the batch then, and the slot.
    """
    net, batch = core.net, core.batch
    codec.decode_row(header, row, net.inputs, net.offsets, batch.values, count * net.in_width)
    if unlikely(slot < 0 or pump.raw == 1):
        reason, channel, name = -1, counted.NO_CHANNEL, address_of(pump.name, 0)
        _take_name(pump, message.topic, message.length)
        if pump.raw == 1:
            reason, channel = raw_refusal(core, pump.doubts, header, row, count, name, slot)
        if reason < 0 and slot < 0:
            slot, reason, channel = new_slot(core, name, count)
        if reason >= 0:
            refuse_row(core, count, name, reason, channel)
            return count, slot
    flags, ts = header.flags, header.ts
    if row > 0:
        flags &= ~frame.RESET
    if row < header.rows - 1:
        flags &= ~frame.END
    if ts != 0:
        ts += row * (header.row_ns if header.row_ns != 0 else pump.row_ns)
    stage(core, count, slot, flags, np.uint64(header.seq) + np.uint64(row), ts, message.came)
    return count + 1, slot


@inlined
def fill(pump, core):
    """Fills the batch with rows of the messages in hand. Returns how many there are.

    Those that it has no room for stay in hand for the next turn.
    """
    arrivals, count, taken = pump.arrivals, 0, 0
    index, row, here = arrivals.hand[NEXT], arrivals.hand[ROW], arrivals.hand[HERE]
    while index < here and count < core.batch.rows:
        message = arrivals.messages[index]
        taken += row == 0
        reason, header = _decode(pump, core, message)
        rows = header.rows
        if unlikely(reason >= 0):
            _refuse(pump, core, message, reason, header)
            rows = 0
        else:
            slot = _slot_of(core.slots, message)
            arrivals.named[count] = part_to_send(arrivals, index) if rows == 1 else 0
            count, slot = _stage_row(pump, core, count, message, header, row, slot)
            row += 1
            while unlikely(row < rows and count < core.batch.rows):
                arrivals.named[count] = 0
                count, slot = _stage_row(pump, core, count, message, header, row, slot)
                row += 1
        if row >= rows:
            let_go_of(arrivals, index)
            index, row = index + 1, 0
    arrivals.hand[NEXT], arrivals.hand[ROW] = index, row
    core.stats.counters[counted.RECEIVED] += taken
    return count


@inlined
def _room(core):
    """The bytes of messages that fill a batch, a row each, of the widest values."""
    return core.batch.rows * (_HEAD + 8 * core.net.inputs)


@inlined
def gather(pump, core):
    """Fills the batch from the messages in hand or, when there are none, from the socket.

    Returns its rows, or -1 when there was nothing to read at all.
    """
    if are_in_hand(pump.arrivals):
        look_again(core.slots, pump.arrivals)
    elif receive(pump, core.slots, core.batch.rows, _room(core)) == 0:
        return -1
    lap(core.watch, RECEIVE)
    count = fill(pump, core)
    lap(core.watch, DECODE)
    return count


@compiled(unknown="core")
def run(pump, core):
    """Runs until the stop flag is set or the input socket breaks (its errno is in ``control``).

    After a pause it is called again, and goes on with the messages in hand.
    """
    if pump.control[OPEN] == 0:
        open_parts(pump.arrivals)
        pump.control[OPEN] = 1
    while pump.control[STOP] == 0 and pump.control[FAILED] == 0:
        now = monotonic_ns()
        pump.control[HEARTBEAT] = now
        if pump.idle_ns > 0 and not are_in_hand(pump.arrivals):
            sweep(pump, core, now)
            with_shadow(pump.shadow, SWEEP, now)
        lap(core.watch, WAIT)
        count = gather(pump, core)
        if count > 0:
            with_shadow(pump.shadow, HAND_OVER, count)
            offset = realtime_ns() - monotonic_ns()
            started = monotonic_ns()
            advance(core, count)
            stepped = monotonic_ns()
            publish(pump, core, count, offset)
            lap(core.watch, SEND)
            count_batch(pump, core, count, started, stepped, offset)
            lap(core.watch, COUNT)
            with_shadow(pump.shadow, FOLLOW, count)
        if count < 0:
            libzmq.poll(address_of(pump.poll_items, 0), 2, _POLL_MS)
        elif are_in_hand(pump.arrivals):
            # or libzmq looks every 100 parts for peers that were silent: an age, where each takes long
            libzmq.poll(address_of(pump.poll_items, 0), 2, 0)
    if pump.control[STOP] != PAUSE:
        close_parts(pump.arrivals)
