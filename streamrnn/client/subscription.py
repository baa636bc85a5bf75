"""A socket that takes what publishers send, of any format, many messages at a time."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamrnn.adapters.adapter import Message, Refused
from streamrnn.adapters.inbox import messages_in
from streamrnn.client.brokers import Brokers
from streamrnn.compiling.jit import compiling
from streamrnn.errors import UserError
from streamrnn.settings.broker_section import Mqtt
from streamrnn.settings.curve_keys import ClientKeys, KeyRefusals
from streamrnn.settings.sections import Input
from streamrnn.wire.alive import ALIVE
from streamrnn.wire.many import ERROR, LARGEST_PART, LOST, make_inbox, receive

QUEUE = 10_000  # messages held of each publisher while files are written
RECONNECT_MS, RECONNECT_MOST_MS = 100, 1000
CURVE_BYTES = 33  # what CURVE adds to a message
SILENT_S = 5.0  # before it is said that nothing comes


class Came(NamedTuple):
    """What came at once."""

    messages: Sequence[Message]
    refused: Sequence[Refused]  # of which nothing can be used


class Subscription:
    """Takes messages as ``input`` of a configuration says. Raises UserError for endpoints of no use."""

    def __init__(self, settings: Input, keys: ClientKeys | None, login: Mqtt) -> None:
        """``login`` is for MQTT brokers."""
        self._endpoints = (*settings.publishers, *settings.bind)
        self._settings, self._inbox = settings, make_inbox()
        with compiling(lambda words: sys.stderr.write(f"{words}\n")):
            receive.prepare(0, self._inbox)
        self._close = ExitStack()
        context = self._close.enter_context(zmq.Context())
        self._socket = context.socket(zmq.SUB if settings.socket == "sub" else zmq.PULL)
        self._close.callback(self._socket.close, 0)
        try:
            self._open(keys)
            self._brokers = Brokers(settings, login)
            self._close.callback(self._brokers.close)
        except BaseException:
            self._close.close()
            raise
        self._named = (*settings.connect, *settings.bind)
        self._began = time.monotonic()
        self._heard, self._there, self._told = False, 0, False

    def _open(self, keys: ClientKeys | None) -> None:
        socket, settings = self._socket, self._settings
        socket.rcvhwm = QUEUE
        socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT_MS, RECONNECT_MOST_MS
        for option, value in ALIVE.items():
            socket.setsockopt(option, value)
        socket.maxmsgsize = LARGEST_PART + CURVE_BYTES
        socket.ipv6 = any("[" in endpoint for endpoint in self._endpoints)
        if settings.socket == "sub":
            for topic in settings.topics:
                socket.subscribe(topic)
        if keys is not None:
            keys.put_on(socket)
        self._refusals = KeyRefusals(", ".join(self._endpoints), bool(settings.bind))
        made = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        self._monitor = socket.get_monitor_socket(made | self._refusals.EVENTS)
        self._close.callback(socket.disable_monitor)
        for attach, how, endpoints in (
            (socket.bind, "bound", settings.bind),
            (socket.connect, "connected to", settings.publishers),
        ):
            for endpoint in endpoints:
                try:
                    attach(endpoint)
                except zmq.ZMQError as error:
                    raise UserError(f"{endpoint}: cannot be {how}: {error.strerror}") from error

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    @property
    def bound(self) -> str:
        """The last endpoint that was bound, a port that was * named; "" for none."""
        return self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0") if self._settings.bind else ""

    def take(self, wait_ms: int) -> Came:
        """What has come, or comes within ``wait_ms``. Raises UserError where the other end refuses."""
        count = receive(self._socket.underlying, self._inbox)
        if count == 0:
            self._look_around()
            if self._socket.poll(0 if self._brokers else wait_ms):
                count = receive(self._socket.underlying, self._inbox)
        if count < 0:
            raise UserError(f"the socket broke: {os.strerror(int(self._inbox.tally[ERROR]))}")
        lost, self._inbox.tally[LOST] = int(self._inbox.tally[LOST]), 0
        messages = [*messages_in(self._inbox, time.time_ns())] if count else []
        refused = [Refused("oversized", b"", "larger than a message may be")] * lost
        if self._brokers:
            brought = self._brokers.take(0 if messages else wait_ms)
            messages, refused = messages + brought.messages, refused + brought.refused
        self._heard |= bool(messages)
        return Came(messages, refused)

    def _look_around(self) -> None:
        """Sees to what the monitor tells, and says once that nothing comes."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._there += 1
            elif event == zmq.EVENT_DISCONNECTED:
                self._there -= 1
            else:
                self._refusals.see(event)
        if not (self._heard or self._told) and time.monotonic() - self._began > SILENT_S:
            self._told = True
            sys.stderr.write(
                f"nothing has come of {', '.join(self._named)} in {SILENT_S:g} s: {self._why()}\n"
            )

    def _why(self) -> str:
        if self._brokers:
            return "see to the topics behind the broker's name; it goes on waiting"
        if self._there <= 0:
            return "nobody is there yet; it goes on waiting"
        if self._settings.socket == "sub" and self._settings.topics != ("",):
            return "somebody is there, who says nothing of these topics; see --topics"
        return f'somebody is there; is theirs the socket beside a "{self._settings.socket}"? see --socket'
