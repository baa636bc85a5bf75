"""What the pump sends: predictions, answers of several rows and events, and how long all took. Compiled."""

import numpy as np

from streamrnn import stats as counted
from streamrnn.compiling.jit import inlined
from streamrnn.stats import OWN, PREDICTED, SEVERAL
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.slots import id_length
from streamrnn.wire import codec, frame, libzmq
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.memory import address_of, copy_bytes

_QUEUE, _STEP, _TOTAL = range(len(counted.STAGES))
_LATENCY, _AGE, _BATCH = counted.LATENCY_BOUNDS_NS, counted.AGE_BOUNDS_NS, counted.BATCH_BOUNDS
_BEGINS = 4  # beside the answers OWN and SEVERAL: that an event begins
HEADER_BYTES = frame.PREDICTION.itemsize


@inlined
def _count(buckets, bounds, value):
    """Adds one to the histogram bucket that ``value`` falls in."""
    bucket = 0
    while bucket < bounds.size and value > bounds[bucket]:
        bucket += 1
    buckets[bucket] += 1


@inlined
def _latency(stats, stage_index, ns):
    ns = max(ns, 0)
    _count(stats.latency[stage_index], _LATENCY, ns)
    stats.latency_ns[stage_index] += ns


@inlined
def send_message(pump, core, slot, message, size):
    """Hands topic and message to the socket. A full subscriber loses it; the pump never waits."""
    flags = libzmq.DONTWAIT | libzmq.SNDMORE
    name = address_of(core.slots.ids, slot * ID_WORDS)
    length = np.uint64(id_length(core.slots, slot))
    if libzmq.send(pump.sink, name, length, flags) >= 0:
        libzmq.send(pump.sink, message, np.uint64(size), libzmq.DONTWAIT)


@inlined
def _publish_row(pump, core, row, kind, offset, published):
    """Sends one answer to a row: its own, the one of several rows, or that an event begins."""
    net, batch, decoder = core.net, core.batch, core.decoder
    said, head = batch.said[row], address_of(batch.said, row)
    message, size, values = address_of(pump.message, 0), HEADER_BYTES, address_of(batch.predicted, 0)
    if kind == OWN:
        said.kind, said.horizon = pump.kind, np.uint16(1)
        values += 4 * row * net.out_width
    elif kind == _BEGINS:
        said.kind, said.horizon = np.uint8(frame.EVENT), np.uint16(0)
    else:
        said.kind, said.horizon = np.uint8(frame.ROLLOUT), np.uint16(decoder.rows)
        values = address_of(decoder.values, row * decoder.rows * net.out_width)
    said.recv_ns, said.pub_ns = batch.received[row] + offset, published + offset
    copy_bytes(message, head, size)
    for _ in range(np.int64(said.horizon)):
        if net.out_offsets.size > 0:
            codec.encode_values(message + size, values, net.out_offsets)
        else:
            copy_bytes(message + size, values, 4 * net.outputs)
        size += 4 * net.outputs
        values += 4 * net.out_width
    send_message(pump, core, batch.slot[row], message, size)
    core.stats.counters[counted.ANOMALIES if kind == _BEGINS else counted.PREDICTIONS] += 1


@inlined
def publish(pump, core, count, started, stepped, offset):
    """Sends the predictions of a batch in the order of its rows, and records their times."""
    batch, stats = core.batch, core.stats
    per_row = (stepped - started) // count
    for row in range(count):
        answers = batch.answers[row] | batch.begins[row] * _BEGINS
        if batch.outcome[row] != PREDICTED or answers == 0:
            continue
        published = monotonic_ns()
        for kind in (OWN, SEVERAL, _BEGINS):
            if answers & kind != 0:
                _publish_row(pump, core, row, kind, offset, published)
        _latency(stats, _QUEUE, started - batch.received[row])
        _latency(stats, _STEP, per_row)
        _latency(stats, _TOTAL, published - batch.received[row])
        if batch.said[row].ts_ns != 0:
            age = max(published + offset - batch.said[row].ts_ns, 0)
            _count(stats.age, _AGE, age)
            stats.age_ns[0] += age
    _count(stats.batch, _BATCH, count)
    stats.batch_rows[0] += count
