"""A publisher and a sink at native speed: anything slower would be what is measured.

Run as a process each: ``python -m streamrnn.bench.load publish|sink ENDPOINT ...``; the result is one
line of JSON on standard output.
"""

import json
import sys
import time

import numpy as np
import zmq

from streamrnn.compiling.jit import compiled
from streamrnn.daemon.sockets import HIGH_WATER
from streamrnn.streams.slots import id_words
from streamrnn.wire import codec, frame, libzmq
from streamrnn.wire.clock import monotonic_ns, realtime_ns
from streamrnn.wire.memory import address_of, copy_bytes, read_i64, write_i64, write_u64

_SEQ_AT, _TS_AT = codec.SEQ_AT, codec.TS_AT  # the time stands at the same place in frame and prediction
_HEAD = frame.FRAME.itemsize
_SAMPLES = 1 << 20
_WAIT_MS = 200


@compiled
def publish(socket, names, lengths, message, values, period_ns, stop_ns):
    """Sends frames round the streams, ``period_ns`` apart or (0) as fast as the socket takes them.

    Each has the next row of ``values``, (rows, channels) float32; of one row all are the ``message``.
    Returns how many were sent by CLOCK_MONOTONIC ``stop_ns``.
    """
    to = address_of(message, 0)
    sent, due = 0, monotonic_ns()
    words = names.size // lengths.size
    while True:
        now = monotonic_ns()
        if now >= stop_ns:
            return sent
        if now < due:
            libzmq.sleep_us(np.uint32(max((due - now) // 1000 - 60, 1)))
            continue
        due += period_ns
        stream = sent % lengths.size
        write_u64(to + _SEQ_AT, np.uint64(sent // lengths.size))
        write_i64(to + _TS_AT, realtime_ns())
        if len(values) > 1:
            row = (sent // lengths.size + 31 * stream) % len(values)
            row_bytes = 4 * values.shape[1]
            copy_bytes(to + _HEAD, address_of(values.reshape(-1), row * values.shape[1]), row_bytes)
        name = address_of(names, stream * words)
        if libzmq.send(socket, name, lengths[stream], libzmq.SNDMORE) < 0:
            continue
        libzmq.send(socket, to, np.uint64(message.size), 0)
        sent += 1


@compiled
def collect(socket, poll_item, parts, samples, warm_ns, measure_ns):
    """Receives until ``measure_ns`` after the warm-up, itself counted from the first message.

    Writes source-to-sink times, ns, into ``samples``. Returns messages, ns, samples written.
    """
    topic, payload = address_of(parts, 0), address_of(parts, libzmq.MESSAGE_BYTES // 8)
    libzmq.msg_init(topic)
    libzmq.msg_init(payload)
    began = start = messages = kept = 0
    while True:
        if libzmq.msg_recv(topic, socket, libzmq.DONTWAIT) < 0:
            ready = libzmq.poll(address_of(poll_item, 0), 1, _WAIT_MS)
            if ready == 0 and start != 0 and monotonic_ns() > start + measure_ns:
                return messages, monotonic_ns() - start, kept
            continue
        libzmq.msg_recv(payload, socket, 0)
        now = monotonic_ns()
        if began == 0:
            began = now
        if start == 0:
            if now < began + warm_ns:
                continue
            start = now
        messages += 1
        if kept < samples.size:
            samples[kept] = realtime_ns() - read_i64(libzmq.msg_data(payload) + _TS_AT)
            kept += 1
        if now > start + measure_ns:
            return messages, now - start, kept


def _publisher(
    endpoint: str, streams: int, channels: int, rate: float, seconds: float, rows: int = 1
) -> dict[str, float]:
    """Binds, waits for a subscriber, sends at ``rate`` frames a second (0 = all it can).

    One row again and again, or ``rows`` of noise of which three are far off.
    """
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
    socket.sndhwm = HIGH_WATER
    socket.setsockopt(zmq.XPUB_NODROP, 1)  # a full pipe holds the publisher back instead of losing frames
    socket.sndtimeo = _WAIT_MS
    socket.linger = 0
    socket.bind(endpoint)
    ids = [id_words(f"machine-{number}") for number in range(streams)]
    lengths = np.array([words.view(np.uint8)[-1] for words in ids], np.uint64)
    values = np.random.default_rng(0).normal(size=(rows, channels)).astype(np.float32)
    if rows > 1:
        values[:3] *= 30
    message = np.frombuffer(frame.pack_frame(values[:1], seq=0, ts_ns=1), np.uint8).copy()
    period = round(1e9 / rate) if rate else 0
    names = np.concatenate(ids)
    publish(socket.underlying, names, lengths, message, values, period, 0)  # compiles; sends nothing
    socket.recv()  # the first subscription
    began = time.monotonic()
    stop = round((began + seconds) * 1e9)
    sent = publish(socket.underlying, names, lengths, message, values, period, stop)
    elapsed = time.monotonic() - began
    socket.close()
    return {"sent": sent, "per_second": sent / elapsed}


def _sink(endpoint: str, warm_s: float, seconds: float) -> dict[str, float]:
    """Connects, receives everything, and tells rate and source-to-sink times."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.rcvhwm = HIGH_WATER
    socket.linger = 0
    socket.subscribe(b"")
    socket.connect(endpoint)
    samples = np.zeros(_SAMPLES, np.int64)
    item = np.array([socket.underlying, libzmq.POLLIN_WORD], np.int64)
    parts = np.zeros(2 * libzmq.MESSAGE_BYTES // 8, np.uint64)
    times = round(warm_s * 1e9), round(seconds * 1e9)
    messages, ns, kept = collect(socket.underlying, item, parts, samples, *times)
    socket.close()
    quantiles = np.percentile(samples[:kept], [50, 99, 99.9]) / 1e3
    return {"per_second": messages / (ns / 1e9)} | dict(
        zip(("p50_us", "p99_us", "p999_us"), quantiles, strict=True)
    )


if __name__ == "__main__":
    role, endpoint, *numbers = sys.argv[1:]
    if role == "publish":
        streams, channels, rate, seconds, *rows = map(float, numbers)
        result = _publisher(endpoint, int(streams), int(channels), rate, seconds, *map(int, rows))
    else:
        result = _sink(endpoint, *map(float, numbers))
    sys.stdout.write(json.dumps(result) + "\n")
