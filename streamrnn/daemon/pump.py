"""The pump: one compiled loop from socket to socket, without the GIL.

poll -> receive -> decode -> slot -> advance (rules, step, commit) -> encode -> send

Python starts it on a thread of its own and then only reads its counters and sets its stop flag.
"""

from typing import NamedTuple

import numpy as np

from streamrnn import stats as counted
from streamrnn.compiling.jit import compiled, inlined
from streamrnn.compiling.tuples_by_address import by_address
from streamrnn.daemon.idle import sweep
from streamrnn.daemon.publish import publish
from streamrnn.engine.advance import Core, advance, message_bytes, new_slot, stage
from streamrnn.kernels.network import TO_VECTOR
from streamrnn.streams.batch import ROWS
from streamrnn.streams.plausible import Doubts, make_doubts, raw_refusal
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.refusal import refuse, refuse_row
from streamrnn.streams.slots import find, id_words
from streamrnn.wire import codec, frame, libzmq
from streamrnn.wire.clock import monotonic_ns, realtime_ns
from streamrnn.wire.memory import address_of, copy_bytes

# indices into Pump.control and Pump.cursor
STOP, HEARTBEAT, FAILED, OPEN = range(4)
PAUSE, END = 1, 2  # why to stop: to go on later from the same frame, or for good
_ROW, _CAME = range(2)  # and idle.SWEPT

_POLL_MS = 50  # how late a stop flag or a heartbeat can be when nothing arrives
_TURN = 4 * ROWS  # messages taken before the stop flag is looked at, however many are rubbish
_PARTS, _TOPIC = counted.REASONS.index("parts"), counted.REASONS.index("topic")
_NAN = np.float32("nan")

# what receiving one message came to
_DRY, _REFUSED, _TAKEN, _BROKEN = range(4)


class Pump(NamedTuple):
    """What the loop needs beside the engine's ``Core``."""

    source: int  # the input socket's address
    sink: int  # the output socket's
    kind: int  # of what is said at a row
    raw: int  # 1 for input format "raw"
    alone_bytes: int  # in the id of the stream that messages of one part are of; 0 = they are refused
    row_ns: int  # time between rows where a frame does not say
    idle_ns: int  # streams silent for longer are let go; 0 = never
    control: np.ndarray  # (4,) int64: stop flag; heartbeat, CLOCK_MONOTONIC ns; errno of a socket; parts open
    poll_items: np.ndarray  # (4,) int64: zmq_pollitem_t of source and sink, two words each
    parts: np.ndarray  # (16,) uint64: two zmq_msg_t, topic and payload
    alone: np.ndarray  # (ID_WORDS,) uint64: that id, and zeros
    name: np.ndarray  # (ID_WORDS,) uint64: the topic as slots keep it
    header: np.ndarray  # (HEADER_FIELDS,) int64: the decoded header
    message: np.ndarray  # uint8, as many as in the largest prediction: what is being sent
    farewell: np.ndarray  # (1,) of PREDICTION: what is said of a stream that is let go
    doubts: Doubts
    cursor: np.ndarray  # (3,) int64: next row of the message in hand; when it came; next slot to sweep


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
        parts=np.zeros(2 * libzmq.MESSAGE_BYTES // 8, np.uint64),
        alone=id_words(stream).copy() if stream else np.zeros(ID_WORDS, np.uint64),
        name=np.zeros(ID_WORDS, np.uint64),
        header=np.zeros(codec.HEADER_FIELDS, np.int64),
        message=np.zeros(message_bytes(core), np.uint8),
        farewell=farewell,
        doubts=make_doubts(core.net),
        cursor=np.zeros(3, np.int64),
    )


@inlined
def _take_name(pump, topic, size):
    """Copies a topic of 1 to 127 bytes to ``pump.name``, padded with zeros, its length last."""
    for word in range(ID_WORDS):
        pump.name[word] = np.uint64(0)
    copy_bytes(address_of(pump.name, 0), topic, size)
    pump.name[ID_WORDS - 1] |= np.uint64(size) << np.uint64(56)


@inlined
def _decode(pump, core, topic, payload, parts):
    """Decodes the header of a message that was received whole, or refuses it."""
    channels, header = core.net.inputs, pump.header
    name, length = libzmq.msg_data(topic), np.int64(libzmq.msg_size(topic))
    alone = parts == 1 and pump.alone_bytes > 0
    if alone:
        name, length, payload = address_of(pump.alone, 0), pump.alone_bytes, topic
    reason, got, wanted = -1, np.int64(libzmq.msg_size(payload)), 0
    if parts != 2 and not alone:
        reason, got, wanted = _PARTS, parts, 2
    elif length < 1 or length > frame.TOPIC_BYTES:
        reason, got, wanted = _TOPIC, length, frame.TOPIC_BYTES
    else:
        if pump.raw == 1:
            reason = codec.decode_raw(libzmq.msg_data(payload), got, channels, header)
        else:
            reason = codec.decode(libzmq.msg_data(payload), got, channels, header)
        wanted = codec.size_wanted(header, channels, pump.raw)
    if reason >= 0:
        refuse(core.stats, reason, name, length, got, wanted, counted.NO_CHANNEL, _NAN)
        return _REFUSED
    _take_name(pump, name, length)
    return _TAKEN


@inlined
def _receive(pump, core):
    """Takes one message from the socket, whole, and decodes its header."""
    topic = address_of(pump.parts, 0)
    payload = address_of(pump.parts, libzmq.MESSAGE_BYTES // 8)
    stats = core.stats
    if libzmq.msg_recv(topic, pump.source, libzmq.DONTWAIT) < 0:
        error = libzmq.errno()
        if error == libzmq.EAGAIN or error == libzmq.EINTR:
            return _DRY
        pump.control[FAILED] = error
        return _BROKEN
    stats.counters[counted.RECEIVED] += 1
    parts, more = 1, libzmq.msg_more(topic) != 0
    while more:  # the rest of a message is there as soon as its first part is
        if libzmq.msg_recv(payload, pump.source, libzmq.DONTWAIT) < 0:
            pump.control[FAILED] = libzmq.errno()
            return _BROKEN
        parts += 1
        more = libzmq.msg_more(payload) != 0
    return _decode(pump, core, topic, payload, parts)


@inlined
def _stage_row(pump, core, count, row, received):
    """Enters row ``row`` of the decoded message as row ``count`` of the batch, if it may enter."""
    header, rows = pump.header, pump.header[codec.ROW_COUNT]
    net, batch, name = core.net, core.batch, address_of(pump.name, 0)
    codec.decode_row(header, row, net.inputs, net.offsets, batch.values, count * net.in_width)
    slot, reason, channel = find(core.slots, name), -1, counted.NO_CHANNEL
    if pump.raw == 1:
        reason, channel = raw_refusal(core, pump.doubts, header, row, count, name, slot)
    if reason < 0 and slot < 0:
        slot, reason, channel = new_slot(core, name, count)
    if reason >= 0:
        refuse_row(core, count, name, reason, channel)
        return count
    flags = header[codec.FLAGS]
    if row > 0:
        flags &= ~frame.RESET
    if row < rows - 1:
        flags &= ~frame.END
    ts = header[codec.FIRST_TS]
    if ts != 0:
        row_ns = header[codec.ROW_NS]
        ts += row * (row_ns if row_ns != 0 else pump.row_ns)
    seq = np.uint64(header[codec.FIRST_SEQ]) + np.uint64(row)
    stage(core, count, slot, flags, seq, ts, received)
    return count + 1


@inlined
def _fill(pump, core):
    """Fills the batch from the socket until it is full or nothing is ready.

    Returns its rows, or -1 when there was nothing to read at all. A message of more rows than fit
    stays in hand for the next turn.
    """
    count = messages = 0
    while count < core.batch.rows and messages < _TURN:
        if pump.cursor[_ROW] == pump.header[codec.ROW_COUNT]:
            what = _receive(pump, core)
            if what in (_DRY, _BROKEN):
                return count if messages > 0 or count > 0 else -1
            messages += 1
            pump.cursor[_ROW] = 0
            pump.cursor[_CAME] = monotonic_ns()
            if what == _REFUSED:
                pump.header[codec.ROW_COUNT] = 0
                continue
        count = _stage_row(pump, core, count, pump.cursor[_ROW], pump.cursor[_CAME])
        pump.cursor[_ROW] += 1
    return count


@compiled
def run(pump, core):
    """Runs until the stop flag is set or the input socket breaks (its errno is in ``control``).

    After a pause it is called again, and goes on with the message in hand.
    """
    pump, core = by_address(pump), by_address(core)
    if pump.control[OPEN] == 0:
        for part in range(2):
            libzmq.msg_init(address_of(pump.parts, part * libzmq.MESSAGE_BYTES // 8))
        pump.control[OPEN] = 1
    while pump.control[STOP] == 0 and pump.control[FAILED] == 0:
        now = monotonic_ns()
        pump.control[HEARTBEAT] = now
        if pump.idle_ns > 0 and pump.cursor[_ROW] == pump.header[codec.ROW_COUNT]:
            sweep(pump, core, now)
        count = _fill(pump, core)
        if count > 0:
            offset = realtime_ns() - monotonic_ns()
            started = monotonic_ns()
            advance(core, count)
            publish(pump, core, count, started, monotonic_ns(), offset)
            if pump.cursor[_ROW] < pump.header[codec.ROW_COUNT]:
                # or libzmq looks every 100 parts for peers that were silent: an age, where each takes long
                libzmq.poll(address_of(pump.poll_items, 0), 2, 0)
        elif count < 0:
            libzmq.poll(address_of(pump.poll_items, 0), 2, _POLL_MS)
    if pump.control[STOP] != PAUSE:
        for part in range(2):
            libzmq.msg_close(address_of(pump.parts, part * libzmq.MESSAGE_BYTES // 8))
