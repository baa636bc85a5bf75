"""The daemon's two sockets: made, bounded and bound here, then touched by the pump alone."""

import errno
import os
import socket as unix
from collections.abc import Sequence

import zmq

from streamrnn.config import Input, Output
from streamrnn.errors import UserError
from streamrnn.wire.frame import DTYPES, FRAME

# Messages held per peer. At a million frames a second this is 10 ms, about what a busy machine's
# scheduler keeps a thread waiting; libzmq's 1,000 would lose frames there.
HIGH_WATER = 10_000
LINGER_MS = 500


def _is_served(endpoint: str) -> bool:
    """Whether somebody listens on an ``ipc://`` path: libzmq would take it from them without a word."""
    path = endpoint.removeprefix("ipc://")
    address = "\0" + path[1:] if path.startswith("@") else path
    with unix.socket(unix.AF_UNIX) as probe:
        return probe.connect_ex(address) == 0


def _attach(socket: zmq.Socket, binds: Sequence[str], connects: Sequence[str], section: str) -> list[str]:
    """Binds and connects. Returns where: a port that was ``*`` is named."""
    attached = []
    socket.ipv6 = any("[" in endpoint for endpoint in (*binds, *connects))
    for attach, key, endpoints in ((socket.bind, "bind", binds), (socket.connect, "connect", connects)):
        for endpoint in endpoints:
            try:
                if key == "bind" and endpoint.startswith("ipc://") and _is_served(endpoint):
                    raise zmq.ZMQError(errno.EADDRINUSE)
                attach(endpoint)
            except zmq.ZMQError as error:
                raise UserError(
                    f'{section}.{key}: "{endpoint}": {os.strerror(error.errno or 0)}; name an address of '
                    "this machine that nothing else uses"
                ) from error
            bound = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0") if key == "bind" else endpoint
            attached.append(bound)
    return attached


def largest_frame(channels: int) -> int:
    """Bytes in the largest frame that a header can describe."""
    widest = max(dtype.itemsize for dtype in DTYPES.values())
    return FRAME.itemsize + 0xFFFF * channels * widest


def open_input(context: zmq.Context, settings: Input, channels: int) -> tuple[zmq.Socket, list[str]]:
    """The socket and its endpoints. Raises UserError, naming the key, for an endpoint that cannot be used."""
    socket = context.socket(zmq.SUB if settings.socket == "sub" else zmq.PULL)
    socket.linger = 0
    socket.rcvhwm = HIGH_WATER
    # one byte over, so that what is only a little too long is counted, and what is absurd never read
    socket.maxmsgsize = largest_frame(channels) + 1
    if settings.socket == "sub":
        for topic in settings.topics:
            socket.subscribe(topic)
    return socket, _attach(socket, settings.bind, settings.connect, "input")


def open_output(context: zmq.Context, settings: Output) -> tuple[zmq.Socket, list[str]]:
    """The socket and its endpoints. Raises UserError, naming the key, for an endpoint that cannot be used."""
    socket = context.socket(zmq.PUB)
    socket.linger = LINGER_MS
    socket.sndhwm = HIGH_WATER
    return socket, _attach(socket, settings.bind, settings.connect, "output")
