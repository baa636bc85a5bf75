"""The daemon's two sockets: made, bounded and bound here, then the pump's.

What is done to them later is done while the pump is paused.
"""

import errno
import os
import socket as unix
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import zmq

from streamrnn.adapters.tally import IntakeTally
from streamrnn.daemon.connections import Connections
from streamrnn.daemon.intake import Intake
from streamrnn.daemon.security import Guard
from streamrnn.engine.advance import message_bytes
from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.mqtt.setup import make_readers
from streamrnn.settings.config import Config
from streamrnn.settings.sections import Input, Output
from streamrnn.wire.alive import ALIVE
from streamrnn.wire.frame import DTYPES, FRAME
from streamrnn.wire.many import LARGEST_PART

if TYPE_CHECKING:
    from streamrnn.daemon.json_output import JsonOutput
    from streamrnn.mqtt.reader import BrokerReader

# Messages held per peer. At a million frames a second this is 10 ms, about what a busy machine's
# scheduler keeps a thread waiting; libzmq's 1,000 would lose frames there.
WAITING_BYTES = 1 << 28  # of predictions that wait for one subscriber, beyond which it loses them
HIGH_WATER = 10_000
LINGER_MS = 500
SUBSCRIPTION_BYTES = 1024  # far above the longest topic; all that a subscriber has to say
CURVE_BYTES = 33  # what CURVE adds to a message
BOUNDS: dict[int, int] = {  # what anybody may ask of a socket's time, ms but where it says s
    zmq.HANDSHAKE_IVL: 5000,  # who has not said by then what he is, is cut off
    zmq.RECONNECT_IVL: 100,
    zmq.RECONNECT_IVL_MAX: 1000,
    zmq.CONNECT_TIMEOUT: 2000,
    **ALIVE,
    zmq.BACKLOG: 1024,  # connections: all neighbours of a daemon that starts again come at once
}

PUBLISHER_BOUNDS: dict[int, int] = {zmq.TCP_MAXRT: 5000}
# A subscriber that no longer answers, and whose predictions are dropped, is taken for gone. What it has to
# say is little, and no queue of it may be full: see ALIVE.
SUBSCRIBER_BOUNDS: dict[int, int] = {
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,
    zmq.HEARTBEAT_TTL: 10_000,  # a neighbour that hears nothing after one takes us for gone
    zmq.RCVHWM: 0,
    zmq.TCP_MAXRT: 10_000,
}

FREED_S = 5.0  # how long an address may stay taken by a socket of ours that was closed


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
    largest = LARGEST_PART if settings.adapted else largest_frame(channels)
    socket.maxmsgsize = largest + 1 + (CURVE_BYTES if socket.curve_server else 0)
    if settings.socket == "sub":
        for topic in settings.topics:
            socket.subscribe(topic)
    return socket, _attach(socket, settings.bind, settings.publishers, "input")


def open_output(
    context: zmq.Context, guard: Guard, settings: Output, largest: int
) -> tuple[zmq.Socket, list[str]]:
    """The socket and its endpoints; ``largest``: bytes of the largest message.

    Raises UserError, naming the key, for an endpoint that cannot be used.
    """
    socket = _guarded(context, zmq.PUB, guard, "output", SUBSCRIBER_BOUNDS)
    socket.linger = LINGER_MS
    socket.maxmsgsize = SUBSCRIPTION_BYTES
    socket.sndhwm = max(min(HIGH_WATER, WAITING_BYTES // largest), 1)
    return socket, _attach(socket, settings.bind, settings.connect, "output")


def _json_output(*how: Any) -> "JsonOutput":
    from streamrnn.daemon.json_output import JsonOutput  # and pyarrow, which is slow to import

    return JsonOutput(*how)


class Sockets:
    """Input and output of one daemon. Raises UserError, with the key, for an endpoint that cannot be used.

    ``source`` and ``sink`` are the pump's. With output format "json" the sink ends at a thread of its own,
    which has the socket that subscribers know; with an input format that an adapter reads the source begins
    at one.
    """

    def __init__(
        self,
        context: zmq.Context,
        guard: Guard,
        config: Config,
        engine: Engine,
        tally: IntakeTally,
        on_failure: Callable[[], object],
    ):
        """``on_failure`` is called when input or output that has a thread of its own breaks."""
        self._context, self._guard = context, guard
        self._takes, self._sends = config.input, config.output
        self._channels, self._message_bytes = len(engine.model.channels), message_bytes(engine.core)
        how = context, engine.model, engine.levels, self._message_bytes, engine.stats.counters, on_failure
        self._json = _json_output(*how) if self._sends.format == "json" else None
        if self._json is not None:
            self._message_bytes = self._json.message_bytes
        self.intake: Intake | None = None
        self._readers: "list[BrokerReader]" = []  # noqa: UP037
        if self._takes.adapted:
            self.intake = Intake(context, config, engine.model, tally, on_failure)
            self._readers = make_readers(config.input, config.mqtt, self.intake.enter, on_failure)
            self.intake.others = [reader.taken_until for reader in self._readers]
        # the output first: who waits there should be back before frames come in
        output, self.publishes = self._open_output()
        taken, self.receives = self._open_input()
        self.sink = output if self._json is None else Connections(self._json.start(output), ())
        self.source = taken if self.intake is None else Connections(self.intake.start(taken), ())
        self.receives = [*self.receives, *config.input.brokers]
        for reader in self._readers:
            reader.start()

    @property
    def failed(self) -> bool:
        """Whether a thread of the input's or the output's broke."""
        threads = self._json, self.intake, *self._readers
        return any(thread is not None and thread.failed for thread in threads)

    def _open_output(self) -> tuple[Connections, list[str]]:
        how = self._context, self._guard, self._sends, self._message_bytes
        socket, endpoints = open_output(*how)
        return Connections(socket, self._sends.connect), endpoints

    def _open_input(self) -> tuple[Connections, list[str]]:
        socket, endpoints = open_input(self._context, self._guard, self._takes, self._channels)
        return Connections(socket, self._takes.publishers), endpoints

    def adopt(self, config: Config, model: Model) -> None:
        """What the pump takes and sends from here on is another model's."""
        if self._json is not None:
            self._json.adopt(model)
        if self.intake is not None:
            self.intake.adopt(config, model)

    def reopen(self) -> None:
        """Cuts every peer off, by closing both sockets, and listens anew where it did.

        Who is still let in comes back by itself. Raises UserError where an address is gone.
        """
        self._sends = self._sends.model_copy(update={"bind": _as_bound(self._sends.bind, self.publishes)})
        self._takes = self._takes.model_copy(update={"bind": _as_bound(self._takes.bind, self.receives)})
        if self.intake is None:
            self.source.close(0)
        if self._json is not None:
            self._json.reopen(lambda: _once_freed(self._open_output))
        else:
            self.sink.close(0)
            self.sink = _once_freed(self._open_output)
        if self.intake is not None:
            self.intake.reopen(lambda: _once_freed(self._open_input))
        else:
            self.source = _once_freed(self._open_input)

    def given_up(self) -> Iterator[tuple[Connections, list[str]]]:
        """Connections to ``renew``, by the socket that makes them."""
        for connections in (self.sink, self.source):
            if endpoints := connections.given_up():
                yield connections, endpoints

    def leave_brokers(self, received: Callable[[], int]) -> None:
        """Takes no more from brokers, and waits a moment for the pump to take what they take for delivered.

        ``received`` says how many rows it has taken.
        """
        for reader in self._readers:
            reader.stop()
        for reader in self._readers:
            reader.join()
        end = time.monotonic() + LINGER_MS / 1000
        while self._readers and self.intake is not None and received() < self.intake.handed_on:
            if time.monotonic() > end:
                break
            time.sleep(0.005)

    def close(self) -> None:
        """Lets what was published leave, for ``LINGER_MS`` at most; the pump has ended."""
        if self.intake is not None:
            self.intake.close()
        self.source.close(0)
        if self._json is not None:
            self._json.close(LINGER_MS)
        else:
            self.sink.close(LINGER_MS)


def _as_bound(asked: Sequence[str], bound: Sequence[str]) -> tuple[str, ...]:
    """Endpoints to bind again: a port that was * is known now; libzmq has removed the folder of ``ipc://*``."""
    return tuple(first if first == "ipc://*" else then for first, then in zip(asked, bound, strict=False))


def _once_freed(open_socket: Callable[[], tuple[Connections, list[str]]]) -> Connections:
    """What ``open_socket`` returns once the address is free: libzmq closes sockets in its own time."""
    end = time.monotonic() + FREED_S
    while True:
        try:
            return open_socket()[0]
        except UserError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
