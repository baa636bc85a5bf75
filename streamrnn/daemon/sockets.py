"""The daemon's two sockets: made, bounded and bound here, then touched by the pump alone."""

from collections.abc import Iterable

import zmq

from streamrnn.config import Input, Output
from streamrnn.errors import UserError
from streamrnn.wire.frame import DTYPES, FRAME

# Messages held per peer. At a million frames a second this is 10 ms, about what a busy machine's
# scheduler keeps a thread waiting; libzmq's 1,000 would lose frames there.
HIGH_WATER = 10_000
LINGER_MS = 500


def _attach(socket: zmq.Socket, binds: Iterable[str], connects: Iterable[str], section: str) -> None:
    for attach, key, endpoints in ((socket.bind, "bind", binds), (socket.connect, "connect", connects)):
        for endpoint in endpoints:
            try:
                attach(endpoint)
            except zmq.ZMQError as error:
                raise UserError(
                    f'{section}.{key}: "{endpoint}": {error.strerror}; name an address of this machine '
                    "that nothing else uses"
                ) from error


def largest_frame(channels: int) -> int:
    """Bytes in the largest frame that a header can describe."""
    widest = max(dtype.itemsize for dtype in DTYPES.values())
    return FRAME.itemsize + 0xFFFF * channels * widest


def open_input(context: zmq.Context, settings: Input, channels: int) -> zmq.Socket:
    """Raises UserError, naming the key, for an endpoint that cannot be used."""
    socket = context.socket(zmq.SUB if settings.socket == "sub" else zmq.PULL)
    socket.linger = 0
    socket.rcvhwm = HIGH_WATER
    # one byte over, so that what is only a little too long is counted, and what is absurd never read
    socket.maxmsgsize = largest_frame(channels) + 1
    if settings.socket == "sub":
        for topic in settings.topics:
            socket.subscribe(topic)
    _attach(socket, settings.bind, settings.connect, "input")
    return socket


def open_output(context: zmq.Context, settings: Output) -> zmq.Socket:
    """Raises UserError, naming the key, for an endpoint that cannot be used."""
    socket = context.socket(zmq.PUB)
    socket.linger = LINGER_MS
    socket.sndhwm = HIGH_WATER
    _attach(socket, settings.bind, settings.connect, "output")
    return socket


def bound_endpoint(socket: zmq.Socket) -> str:
    """Where a socket really listens, for a port that was ``*``; "" for one that only connects."""
    return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
