"""What this machine could do at most: multiply-adds, memory, messages. A row's figures stand beside it."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zmq

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.affine import GROUP, TILES
from streamrnn.kernels.network import aligned
from streamrnn.kernels.simd import LANES, fma, load, splat, store
from streamrnn.wire import libzmq
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.memory import address_of

_BEST_OF = 9
_CHAINS = 10 if TILES[6] == GROUP else 5
_IN_L2, _IN_MEMORY = 1 << 17, 1 << 26  # float32: 512 KiB, 256 MiB
_MESSAGES, _BYTES = 2000, 64
_LOOKS = 20_000
_ENDPOINT = "inproc://bench-limits"


class Limits(NamedTuple):
    """Of one core, the best of several short runs."""

    processor: str
    multiply_adds: float  # a second, by a loop that does nothing else, of the vectors that the kernels use
    cache_bytes: float  # read a second from the second cache
    memory_bytes: float  # read a second from memory
    message_ns: (
        float  # sent and received by libzmq's own calls, two parts of one message, nothing done with it
    )


def processor() -> str:
    """The processor's name, as its kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Processor")):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


@compiled
def _multiply_add(factors, out, turns):
    """Chains of multiply-adds in ten registers or more, as any latency needs, and not in too many."""
    x, y = splat(factors[0]), splat(factors[1])
    a = b = c = d = e = f = g = h = i = j = x
    for _ in range(turns):
        a, b, c, d, e = fma(a, x, y), fma(b, x, y), fma(c, x, y), fma(d, x, y), fma(e, x, y)
        if _CHAINS == 10:
            f, g, h, i, j = fma(f, x, y), fma(g, x, y), fma(h, x, y), fma(i, x, y), fma(j, x, y)
    store(out, 0, (a + b) + (c + d) + (e + f) + (g + h) + (i + j))


@compiled
def _read(values, out, turns):
    """Adds up all of ``values``, ``turns`` times."""
    for _ in range(turns):
        a = b = c = d = load(values, 0)
        for at in range(0, values.size, 4 * LANES):
            a, b = a + load(values, at), b + load(values, at + LANES)
            c, d = c + load(values, at + 2 * LANES), d + load(values, at + 3 * LANES)
        store(out, 0, (a + b) + (c + d))


@compiled
def _pass_on(source, sink, parts, payload, count):
    """Sends ``count`` messages of two parts, then receives them."""
    first, second = address_of(parts, 0), address_of(parts, libzmq.MESSAGE_BYTES // 8)
    size = np.uint64(payload.size)
    for _ in range(count):
        libzmq.send(source, address_of(payload, 0), size // np.uint64(4), libzmq.SNDMORE)
        libzmq.send(source, address_of(payload, 0), size, 0)
    for _ in range(count):
        libzmq.msg_recv(first, sink, 0)
        libzmq.msg_recv(second, sink, 0)


@compiled
def _look(times, count):
    for _ in range(count):
        times[0] = monotonic_ns()


def _best_s(work, *arguments) -> float:
    """The shortest of several runs; the first one compiles."""
    work(*arguments)
    times = []
    for _ in range(_BEST_OF):
        began = time.perf_counter()
        work(*arguments)
        times.append(time.perf_counter() - began)
    return min(times)


def _message_ns() -> float:
    with zmq.Context() as context, context.socket(zmq.PAIR) as source, context.socket(zmq.PAIR) as sink:
        source.sndhwm = sink.rcvhwm = 0
        sink.bind(_ENDPOINT)
        source.connect(_ENDPOINT)
        parts = np.zeros(2 * libzmq.MESSAGE_BYTES // 8, np.uint64)
        payload = np.zeros(_BYTES, np.uint8)
        sockets = (source.underlying, sink.underlying)
        return _best_s(_pass_on, *sockets, parts, payload, _MESSAGES) / _MESSAGES * 1e9


def clock_ns() -> float:
    """What a look at the clock takes."""
    return _best_s(_look, np.zeros(1, np.int64), _LOOKS) / _LOOKS * 1e9


def measure_limits() -> Limits:
    """Takes about two seconds."""
    out, factors = aligned(LANES), np.array([0.5, 0.25], np.float32)  # all sums stay finite
    turns = 200_000
    near, far = aligned(_IN_L2), aligned(_IN_MEMORY)
    far[:] = 1  # its memory is there
    return Limits(
        processor=processor(),
        multiply_adds=_CHAINS * LANES * turns / _best_s(_multiply_add, factors, out, turns),
        cache_bytes=near.nbytes * 100 / _best_s(_read, near, out, 100),
        memory_bytes=far.nbytes / _best_s(_read, far, out, 1),
        message_ns=_message_ns(),
    )
