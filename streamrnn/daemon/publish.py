"""What the pump sends: predictions, answers of several rows and events. Compiled."""

import numpy as np

from streamrnn import stats as counted
from streamrnn.compiling.hints import unlikely
from streamrnn.compiling.jit import inlined
from streamrnn.stats import OWN, PREDICTED, SEVERAL
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.slots import id_length
from streamrnn.wire import codec, frame, libzmq
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.memory import (
    address_of,
    copy_bytes,
    copy_words,
    prefetch,
    write_i64,
    write_u8,
    write_u16,
)

BEGINS = 4  # beside the answers OWN and SEVERAL: that an event begins
_TIMED = 16  # rows that are sent between two looks at the clock
UNANSWERED = 0
HEADER_BYTES = frame.PREDICTION.itemsize
_AHEAD = 4  # rows
_TOPIC = libzmq.DONTWAIT | libzmq.SNDMORE
_KIND_AT, _FLAGS_AT, _HORIZON_AT, _RECV_AT, PUB_AT = (
    codec.offset(frame.PREDICTION, name) for name in ("kind", "flags", "horizon", "recv_ns", "pub_ns")
)


@inlined
def send_message(pump, core, slot, message, size):
    """Hands topic and message to the socket. A full subscriber loses it; the pump never waits."""
    name = address_of(core.slots.ids, slot * ID_WORDS)
    length = np.uint64(id_length(core.slots, slot))
    if libzmq.send(pump.sink, name, length, _TOPIC) >= 0:
        libzmq.send(pump.sink, message, np.uint64(size), libzmq.DONTWAIT)


@inlined
def _send_answer(pump, core, row, message, size):
    """The same for a row, whose own topic is sent on with its first answer, where it can be."""
    named = pump.arrivals.named
    if unlikely(named[row] == 0):
        send_message(pump, core, core.batch.slot[row], message, size)
    elif libzmq.msg_send(named[row], pump.sink, _TOPIC) >= 0:
        libzmq.send(pump.sink, message, np.uint64(size), libzmq.DONTWAIT)
    named[row] = 0


@inlined
def _write_values(net, to, vectors, count):
    """Writes the outputs of ``count`` vectors, from address ``vectors`` on, to ``to``. How many bytes."""
    for vector in range(count):
        here, values = to + 4 * vector * net.outputs, vectors + 4 * vector * net.out_width
        if net.out_offsets.size > 0:
            codec.encode_values(here, values, net.out_offsets)
        else:
            copy_words(here, values, net.outputs)
    return 4 * count * net.outputs


@inlined
def write_answer(pump, core, row, kind, offset, published):
    """Writes one answer to a row to ``pump.message``: its own, of several rows, or that an event begins.

    ``offset``: by what CLOCK_REALTIME is ahead of the times of the row and ``published``. Returns its size.
    """
    net, batch, decoder = core.net, core.batch, core.decoder
    message, size = address_of(pump.message, 0), HEADER_BYTES
    said, rows, values = pump.kind, 1, address_of(batch.predicted, row * net.out_width)
    if kind == BEGINS:
        said, rows = frame.EVENT, 0
    elif kind == SEVERAL:
        said, rows = frame.ROLLOUT, decoder.rows
        values = address_of(decoder.values, row * decoder.rows * net.out_width)
    copy_bytes(message, address_of(batch.said, row), size)
    write_u8(message + _KIND_AT, np.uint8(said))
    write_u16(message + _HORIZON_AT, np.uint16(rows))
    write_i64(message + _RECV_AT, batch.received[row] + offset)
    write_i64(message + PUB_AT, published + offset)
    size += _write_values(net, message + size, values, rows)
    if kind != BEGINS and core.bands.number > 0:
        write_u16(message + _FLAGS_AT, batch.said[row].flags | np.uint16(frame.BANDS))
        vectors = 2 * core.bands.number * rows
        told = address_of(batch.bands, row * vectors * net.out_width)
        if kind == SEVERAL:
            told = address_of(decoder.bands, row * vectors * net.out_width)
        size += _write_values(net, message + size, told, vectors)
    core.stats.counters[counted.ANOMALIES if kind == BEGINS else counted.PREDICTIONS] += 1
    return size


@inlined
def publish(pump, core, count, offset):
    """Sends the predictions of a batch in the order of its rows. When is in ``pump.published``."""
    batch, width = core.batch, core.net.out_width
    answered, now = 0, 0
    for row in range(count):
        ahead = min(row + _AHEAD, count - 1)  # the step has put it out of the nearest memory
        prefetch(address_of(batch.said, ahead))
        prefetch(address_of(batch.predicted, ahead * width))
        prefetch(pump.arrivals.named[ahead])
        answers = batch.answers[row] | batch.begins[row] * BEGINS
        if batch.outcome[row] != PREDICTED or answers == 0:
            pump.published[row] = UNANSWERED
            continue
        if answered % _TIMED == 0:
            now = monotonic_ns()
        answered += 1
        pump.published[row] = now
        for kind in (OWN, SEVERAL, BEGINS):
            if answers & kind != 0:
                size = write_answer(pump, core, row, kind, offset, now)
                _send_answer(pump, core, row, address_of(pump.message, 0), size)
