"""Who may talk to the daemon: CURVE on both sockets, and a list of public keys for each."""

import logging
import threading
from pathlib import Path

import zmq
from zmq.utils import z85

from streamrnn.errors import ConfigError, UserError
from streamrnn.settings.curve_keys import read_secret
from streamrnn.settings.sections import Security

log = logging.getLogger("streamrnn")

ZAP = "inproc://zeromq.zap.01"  # where libzmq asks whether a client may come in (rfc.zeromq.org/spec/27)
STOP = [b"stop"]
LISTS = {b"input": "client_keys", b"output": "output_clients"}  # a socket's ZAP domain, its keys
TOLD = 100  # most refused keys that the log names: a stranger can make as many as he likes


class Guard:
    """Lets the listed keys in, each to its own socket, and nobody else.

    Without ``server_secret`` it does nothing. With it everything fails closed: where nobody answers
    libzmq's question (the guard was not started, was stopped, or broke), no new client comes in.
    """

    def __init__(self, context: zmq.Context, settings: Security):
        """``context`` is that of the sockets. Raises ConfigError for a secret key that cannot be used."""
        self._context = context
        self._secret = b""
        if settings.server_secret:
            try:
                self._secret = read_secret(Path(settings.server_secret)).encode()
            except UserError as error:
                raise ConfigError(f"security.server_secret: {error}") from error
        self._thread: threading.Thread | None = None
        self.update(settings)

    def update(self, settings: Security) -> None:
        """Decides by these lists from now on; a client that is in stays in (see ``removed``)."""
        self._settings = settings
        self._allowed = {
            domain: {*map(z85.decode, getattr(settings, name))} for domain, name in LISTS.items()
        }
        self._told: set[tuple[bytes, bytes]] = set()

    def removed(self, settings: Security) -> bool:
        """Whether ``settings`` lack a key that is allowed now; it stays in until the socket is closed."""
        return any({*getattr(self._settings, name)} - {*getattr(settings, name)} for name in LISTS.values())

    def start(self) -> None:
        """Begins to answer; before any socket is bound or connected."""
        if self._secret:
            asked = self._context.socket(zmq.REP)
            asked.linger = 0
            asked.bind(ZAP)
            self._thread = threading.Thread(target=self._answer, args=(asked,), name="guard", daemon=True)
            self._thread.start()

    def protect(self, socket: zmq.Socket, domain: str) -> None:
        """Makes ``socket`` a CURVE server, of ``domain`` "input" or "output"; before bind and connect."""
        if self._secret:
            socket.curve_server = True
            socket.curve_secretkey = self._secret
            socket.zap_domain = domain.encode()
            # or libzmq lets everybody in who speaks CURVE when nobody answers it
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def stop(self) -> None:
        """Answers no more; nobody new comes in."""
        if self._thread is not None and self._thread.is_alive():
            with self._context.socket(zmq.REQ) as ask:
                ask.linger = 0
                ask.connect(ZAP)
                ask.send_multipart(STOP)
                self._thread.join()
        self._thread = None

    def _answer(self, asked: zmq.Socket) -> None:
        with asked:
            while (question := asked.recv_multipart()) != STOP:
                version, number, domain, address, _, mechanism, key, *_ = question
                allowed = mechanism == b"CURVE" and key in self._allowed[domain]
                verdict = (b"200", b"OK") if allowed else (b"400", b"unknown key")
                asked.send_multipart([version, number, *verdict, b"", b""])
                if not allowed:
                    self._tell(domain, key, address)

    def _tell(self, domain: bytes, key: bytes, address: bytes) -> None:
        """Logs a refused key once: it may be that of a sensor whose entry was forgotten."""
        if (domain, key) not in self._told and len(self._told) < TOLD:
            self._told.add((domain, key))
            log.warning(
                "%s: refused the key %s from %s; it is not in security.%s",
                domain.decode(),
                z85.encode(key).decode(),
                address.decode(errors="replace"),
                LISTS[domain],
            )
