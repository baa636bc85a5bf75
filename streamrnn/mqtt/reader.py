"""A thread that reads one broker's messages, and hands them on in batches.

Messages are subscribed to with QoS 1 and acknowledged once they were handed on; what was read and not handed
on before a crash comes again. So a message may come twice: a value of the time that it names is the same
value again, while a row, which has no number, is one more.

A retained message is the last of its topic, sent to everybody who subscribes, however old it is, and again
after each loss of the connection: it would make a dead sensor look alive. It is left out unless
`mqtt.retained` says otherwise.

MQTT 3.1.1, which every broker speaks: what paho does for a message of MQTT 5 takes twice as long.
"""

import logging
import os
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from paho.mqtt.client import MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from streamrnn.adapters.adapter import Message, Refused
from streamrnn.mqtt.access import BrokerAccess
from streamrnn.mqtt.client import LARGEST_PAYLOAD, BufferedClient

BATCH = 1000  # messages, and
BATCH_BYTES = 1 << 22  # of payload, beyond which they are handed on
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 30.0  # before it connects anew: doubled while no connection lasts
CONNECT_S = 5.0
ANSWER_S = 10.0  # how long a broker may take to let us in and subscribe us
KEEPALIVE_S = 30
LEAVE_S = 0.5
QOS = 1
_POLL_MS = 20  # how late a stop can be seen, and that nothing waits to be read
_JOIN_S = 1.0  # a thread that still waits for a host to answer is left to the end of the process
_HINTS = {
    "Bad user name or password": "; look at the user in input.connect, and at mqtt.password_file",
    "Not authorized": "; look at the user in input.connect, and at mqtt.password_file",
    "Client identifier not valid": "; write another mqtt.client_id",
    "Unsupported protocol version": "; it has to speak MQTT 3.1.1",
}

log = logging.getLogger("streamrnn")


class BrokerReader:
    """Connects to a broker, for ever; ``take`` gets what comes, on this thread.

    ``take`` may wait: nothing is read meanwhile, and the broker waits, too.
    """

    def __init__(
        self,
        access: BrokerAccess,
        take: Callable[[Sequence[Message], Sequence[Refused]], bool],
        on_failure: Callable[[], object],
    ):
        """``take`` returns whether it took all, which is then acknowledged.

        ``on_failure`` is called, on this thread, when ``take`` breaks.
        """
        self.failed = False
        self._access, self._take, self._on_failure = access, take, on_failure
        self._stopped = threading.Event()
        self._said = ""
        self._messages: list[Message] = []
        self._refused: list[Refused] = []
        self._unacknowledged: list[tuple[int, int]] = []  # packet's number, QoS
        self._bytes = 0
        self._subscribed = False
        self._taken_until: int | None = None  # None while nothing can come
        self._why = ""  # the connection ended
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Has it end."""
        self._stopped.set()

    def join(self) -> None:
        """Waits for its end, but not for a host that does not answer."""
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def taken_until(self) -> int:
        """By when all that had come was taken, CLOCK_MONOTONIC ns; for any thread."""
        until = self._taken_until
        return time.monotonic_ns() if until is None else until

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pause = FIRST_PAUSE_S
        try:
            while not self._stopped.is_set():
                began = time.monotonic()
                self._connect()
                if time.monotonic() - began > LAST_PAUSE_S:
                    pause = FIRST_PAUSE_S
                self._stopped.wait(pause)
                pause = min(2 * pause, LAST_PAUSE_S)
        except Exception:
            log.critical("%s: the input broke; ending", self._access.endpoint, exc_info=True)
            self.failed = True
            self._on_failure()

    def _connect(self) -> None:
        """One connection, from its beginning to its end."""
        client, address = self._client(), self._access.address
        self._subscribed, self._why = False, ""
        try:
            client.connect(address.host, address.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:  # of an impossible name; of TLS they are OSErrors
            hint = "; look at mqtt.ca_file" if isinstance(error, ssl.SSLCertVerificationError) else ""
            self._say(logging.WARNING, f"cannot be reached: {error}{hint}; trying on")
            return
        taken: Any = client.socket()
        # an acknowledgement is 4 bytes, and the next one would wait for the kernel's of the one before
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read(client, taken)
        self._leave(client, taken)
        if self._why:
            self._say(logging.ERROR, f"{self._why}; trying on")
        elif not self._stopped.is_set():
            self._say(logging.WARNING, "the connection is lost; trying on")

    def _leave(self, client: BufferedClient, taken: socket.socket) -> None:
        """Says good-bye, and reads until the broker has heard it.

        paho closes the socket at once; where it has more to read, that throws away what was sent, too: the
        last acknowledgements.
        """
        with suppress(OSError), socket.socket(fileno=os.dup(taken.fileno())) as held:
            client.disconnect()
            client.loop_write()
            held.shutdown(socket.SHUT_WR)
            held.settimeout(LEAVE_S)
            end = time.monotonic() + LEAVE_S
            while held.recv(1 << 16) and time.monotonic() < end:
                pass
        taken.close()

    def _client(self) -> BufferedClient:
        access = self._access
        client = BufferedClient(
            CallbackAPIVersion.VERSION2,
            client_id=access.client_id,
            clean_session=not access.kept,
            protocol=MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_S
        if access.address.user:
            client.username_pw_set(access.address.user, access.password)
        if access.context is not None:
            client.tls_set_context(access.context)
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_register_write = lambda *told: None  # what is to be written, `_read` writes
        return client

    def _read(self, client: BufferedClient, taken: socket.socket) -> None:
        """Reads until the connection ends, or this shall."""
        poll, deadline = select.poll(), time.monotonic() + ANSWER_S
        while client.socket() is not None and not (self._stopped.is_set() or self._why):
            poll.register(taken, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
            looked = time.monotonic_ns()
            ready = poll.poll(0 if client.has_more else _POLL_MS)
            if client.has_more or any(event & ~select.POLLOUT for _, event in ready):
                self._receive(client)
            else:
                self._taken_until = looked
            if (
                self._messages or self._refused or self._unacknowledged
            ):  # of retained ones nothing else is left
                self._hand_on(client)
            if client.want_write():
                client.loop_write()
            client.loop_misc()
            if not self._subscribed and time.monotonic() > deadline:
                self._why = self._why or "no answer; is it a broker, and its port right?"

    def _receive(self, client: BufferedClient) -> None:
        """Reads what is there, up to a batch."""
        try:
            client.loop_read()
            while client.has_more and len(self._messages) < BATCH and self._bytes < BATCH_BYTES:
                client.loop_read()
        except Exception as error:  # paho's, of bytes that are no MQTT
            self._why = f"what came from there is no MQTT ({type(error).__name__}: {error})"
        if client.holds_back:
            self._why = "it sends messages of QoS 2, which were not asked for"

    def _hand_on(self, client: BufferedClient) -> None:
        taken = self._take(self._messages, self._refused)
        if taken and client.socket() is not None:
            for number, qos in self._unacknowledged:
                client.ack(number, qos)
        self._messages, self._refused, self._unacknowledged = [], [], []
        self._bytes = 0

    def _on_connect(self, client: Any, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._why = f"the broker refuses us: {str(reason).lower()}{_HINTS.get(str(reason), '')}"
        else:
            client.subscribe(self._access.address.filter, QOS)

    def _on_subscribe(self, client: Any, _: Any, number: int, reasons: list[ReasonCode], *more: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._why = f'the broker refuses the subscription to "{self._access.address.filter}"'
            return
        self._subscribed = True
        self._say(logging.INFO, "connected and subscribed")

    def _on_message(self, client: Any, _: Any, message: MQTTMessage) -> None:
        if message.qos:
            self._unacknowledged.append((message.mid, message.qos))
        if message.retain and not self._access.retained:
            return
        payload = bytes(message.payload)
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError:
            self._refused.append(Refused("topic", b"", "its topic is not UTF-8"))
            return
        if len(payload) > LARGEST_PAYLOAD:
            what = f"larger than {LARGEST_PAYLOAD >> 20} MB, which a message may be"
            self._refused.append(Refused("oversized", topic, what))
            return
        self._bytes += len(payload)
        self._messages.append(Message(topic, [payload], time.time_ns()))

    def _say(self, level: int, words: str) -> None:
        """Logs a state when it changes."""
        if words != self._said:
            self._said = words
            log.log(level, "%s: %s", self._access.endpoint, words)
