"""The daemon's two sockets: made, bounded and bound here, then the pump's.

What is done to them later is done while the pump is paused.
"""

import errno
import logging
import os
import socket as unix
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamrnn.daemon.security import Guard
from streamrnn.errors import UserError
from streamrnn.settings.sections import Input, Output
from streamrnn.wire.frame import DTYPES, FRAME

# Messages held per peer. At a million frames a second this is 10 ms, about what a busy machine's
# scheduler keeps a thread waiting; libzmq's 1,000 would lose frames there.
WAITING_BYTES = 1 << 28  # of predictions that wait for one subscriber, beyond which it loses them
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

FREED_S = 5.0  # how long an address may stay taken by a socket of ours that was closed
GIVEN_UP_S = 1.0  # a connection lost for so long, and not tried again, is one that libzmq has given up
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_TRIED = zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CONNECTED

log = logging.getLogger("streamrnn")


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


def open_output(
    context: zmq.Context, guard: Guard, settings: Output, message_bytes: int
) -> tuple[zmq.Socket, list[str]]:
    """The socket and its endpoints; ``message_bytes`` are those of the largest message.

    Raises UserError, naming the key, for an endpoint that cannot be used.
    """
    socket = _guarded(context, zmq.PUB, guard, "output", SUBSCRIBER_BOUNDS)
    socket.linger = LINGER_MS
    socket.maxmsgsize = SUBSCRIPTION_BYTES
    socket.sndhwm = max(min(HIGH_WATER, WAITING_BYTES // message_bytes), 1)
    return socket, _attach(socket, settings.bind, settings.connect, "output")


class Connections:
    """Those that one socket makes: libzmq tries each for ever, but not once its peer broke the rules."""

    def __init__(self, socket: zmq.Socket, endpoints: Sequence[str]):
        self.socket, self._endpoints = socket, frozenset(endpoints)
        self._lost: dict[str, float] = {}  # endpoints, and when they were lost
        self._events = socket.get_monitor_socket(_LOST | _TRIED) if endpoints else None

    def given_up(self) -> list[str]:
        """The endpoints that nobody tries to reach any more."""
        now = time.monotonic()
        while self._events is not None and self._events.poll(0):
            told = recv_monitor_message(self._events)
            endpoint = told["endpoint"].decode()
            if told["event"] & _LOST:
                if endpoint in self._endpoints:  # who came to what is bound comes back by himself
                    self._lost.setdefault(endpoint, now)
            else:  # a host is named when it is lost, its address when it is tried again
                self._lost = {
                    lost: since for lost, since in self._lost.items() if _port(lost) != _port(endpoint)
                }
        return [endpoint for endpoint, since in self._lost.items() if now - since >= GIVEN_UP_S]

    def renew(self, endpoints: Sequence[str]) -> None:
        """Begins to try again."""
        for endpoint in endpoints:
            self._lost.pop(endpoint)
            log.warning("%s: what came from there was no message for this daemon; connecting anew", endpoint)
            with suppress(zmq.ZMQError):
                self.socket.disconnect(endpoint)
            self.socket.connect(endpoint)

    def close(self, linger: int) -> None:
        if self._events is not None:
            self.socket.disable_monitor()
            self._events.close()
        self.socket.close(linger)


class Sockets:
    """Input and output of one daemon. Raises UserError, with the key, for an endpoint that cannot be used."""

    def __init__(
        self,
        context: zmq.Context,
        guard: Guard,
        takes: Input,
        sends: Output,
        channels: int,
        message_bytes: int,
    ):
        self._context, self._guard = context, guard
        self._channels, self._message_bytes = channels, message_bytes
        self._takes, self._sends = takes, sends
        # the output first: who waits there should be back before frames come in
        self.sink, self.publishes = self._open_output()
        self.source, self.receives = self._open_input()

    def _open_output(self) -> tuple[Connections, list[str]]:
        how = self._context, self._guard, self._sends, self._message_bytes
        socket, endpoints = open_output(*how)
        return Connections(socket, self._sends.connect), endpoints

    def _open_input(self) -> tuple[Connections, list[str]]:
        socket, endpoints = open_input(self._context, self._guard, self._takes, self._channels)
        return Connections(socket, self._takes.connect), endpoints

    def reopen(self) -> None:
        """Cuts every peer off, by closing both sockets, and listens anew where it did.

        Who is still let in comes back by itself. Raises UserError where an address is gone.
        """
        self._sends = self._sends.model_copy(update={"bind": _as_bound(self._sends.bind, self.publishes)})
        self._takes = self._takes.model_copy(update={"bind": _as_bound(self._takes.bind, self.receives)})
        self.close(linger=0)
        self.sink, _ = _once_freed(self._open_output)
        self.source, _ = _once_freed(self._open_input)

    def given_up(self) -> Iterator[tuple[Connections, list[str]]]:
        """Connections to ``renew``, by the socket that makes them."""
        for connections in (self.sink, self.source):
            if endpoints := connections.given_up():
                yield connections, endpoints

    def close(self, linger: int = LINGER_MS) -> None:
        self.source.close(0)
        self.sink.close(linger)


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


def _as_bound(asked: Sequence[str], bound: Sequence[str]) -> tuple[str, ...]:
    """Endpoints to bind again: a port that was * is known now; libzmq has removed the folder of ``ipc://*``."""
    return tuple(first if first == "ipc://*" else then for first, then in zip(asked, bound, strict=False))


def _once_freed(open_socket: Callable[[], tuple[Connections, list[str]]]) -> tuple[Connections, list[str]]:
    """What ``open_socket`` returns once the address is free: libzmq closes sockets in its own time."""
    end = time.monotonic() + FREED_S
    while True:
        try:
            return open_socket()
        except UserError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
