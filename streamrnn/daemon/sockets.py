"""The daemon's two sockets: made, bounded and bound here, then touched by the pump alone."""

import errno
import os
import socket as unix
from collections.abc import Sequence

import zmq

from streamrnn.config import Input, Output
from streamrnn.daemon.security import Guard
from streamrnn.errors import UserError
from streamrnn.wire.frame import DTYPES, FRAME

# Messages held per peer. At a million frames a second this is 10 ms, about what a busy machine's
# scheduler keeps a thread waiting; libzmq's 1,000 would lose frames there.
HIGH_WATER = 10_000
LINGER_MS = 500
SUBSCRIPTION_BYTES = 1024  # far above the longest topic; all that a subscriber has to say
CURVE_BYTES = 33  # what CURVE adds to a message
BOUNDS: dict[int, int] = {  # what anybody may ask of a socket's time, ms but where it says s
    zmq.HANDSHAKE_IVL: 5000,  # who has not said by then what he is, is cut off
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TTL: 10_000,  # a neighbour that hears nothing after one takes us for gone
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 1000,
    zmq.CONNECT_TIMEOUT: 2000,
    zmq.TCP_KEEPALIVE: 1,  # on
    zmq.TCP_KEEPALIVE_IDLE: 10,  # s
    zmq.TCP_KEEPALIVE_INTVL: 2,  # s
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.BACKLOG: 1024,  # connections: all neighbours of a daemon that starts again come at once
}

# Nothing is read from a publisher whose queue is full, the answers to our heartbeats neither, and one that
# is cut off then loses frames. Large frames can take a slow model long: what tells that a publisher has gone
# is rather its machine, which no longer acknowledges our heartbeats.
PUBLISHER_BOUNDS: dict[int, int] = {zmq.TCP_MAXRT: 5000, zmq.HEARTBEAT_TIMEOUT: 60_000}
# A subscriber that reads no more, and whose predictions are dropped, is taken for gone.
SUBSCRIBER_BOUNDS: dict[int, int] = {zmq.HEARTBEAT_TIMEOUT: 10_000}


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


def _guarded(
    context: zmq.Context, kind: int, guard: Guard, section: str, bounds: dict[int, int]
) -> zmq.Socket:
    """A socket that bears with strangers, and lets in whom ``guard`` knows."""
    socket = context.socket(kind)
    for option, value in (BOUNDS | bounds).items():
        socket.setsockopt(option, value)
    guard.protect(socket, section)
    return socket


def open_input(
    context: zmq.Context, guard: Guard, settings: Input, channels: int
) -> tuple[zmq.Socket, list[str]]:
    """The socket and its endpoints. Raises UserError, naming the key, for an endpoint that cannot be used."""
    kind = zmq.SUB if settings.socket == "sub" else zmq.PULL
    socket = _guarded(context, kind, guard, "input", PUBLISHER_BOUNDS)
    socket.linger = 0
    socket.rcvhwm = HIGH_WATER
    # one byte over, so that what is only a little too long is counted, and what is absurd never read
    socket.maxmsgsize = largest_frame(channels) + 1 + (CURVE_BYTES if socket.curve_server else 0)
    if settings.socket == "sub":
        for topic in settings.topics:
            socket.subscribe(topic)
    return socket, _attach(socket, settings.bind, settings.connect, "input")


def open_output(context: zmq.Context, guard: Guard, settings: Output) -> tuple[zmq.Socket, list[str]]:
    """The socket and its endpoints. Raises UserError, naming the key, for an endpoint that cannot be used."""
    socket = _guarded(context, zmq.PUB, guard, "output", SUBSCRIBER_BOUNDS)
    socket.linger = LINGER_MS
    socket.maxmsgsize = SUBSCRIPTION_BYTES
    socket.sndhwm = HIGH_WATER
    return socket, _attach(socket, settings.bind, settings.connect, "output")
