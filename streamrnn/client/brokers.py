"""What MQTT brokers send, for a thread that asks for it."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from streamrnn.adapters.adapter import Message, Refused
from streamrnn.errors import UserError
from streamrnn.mqtt.setup import make_readers
from streamrnn.settings.broker_section import Mqtt
from streamrnn.settings.sections import Input

WAITING = 100_000  # messages, beyond which the brokers wait


class Brought(NamedTuple):
    """What came since it was last asked."""

    messages: list[Message]
    refused: list[Refused]


class Brokers:
    """Reads every broker that ``settings`` name, each on a thread of its own, until it is closed.

    Raises UserError for a login that cannot be used, or without the library.
    """

    def __init__(self, settings: Input, login: Mqtt) -> None:
        self._changed = threading.Condition()
        self._messages, self._refused = list[Message](), list[Refused]()
        self._closed = False
        self._readers = make_readers(settings, login, self._enter, self._tell)
        for reader in self._readers:
            reader.start()

    def __bool__(self) -> bool:
        return bool(self._readers)

    def take(self, wait_ms: int) -> Brought:
        """What has come, or comes within ``wait_ms``. Raises UserError where a thread broke."""
        with self._changed:
            if not (self._messages or self._refused):
                self._changed.wait(wait_ms / 1000)
            brought = Brought(self._messages, self._refused)
            self._messages, self._refused = [], []
            self._changed.notify_all()
        if any(reader.failed for reader in self._readers):
            raise UserError("reading from the broker broke; what is above says why")
        return brought

    def close(self) -> None:
        for reader in self._readers:
            reader.stop()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for reader in self._readers:
            reader.join()

    def _enter(self, messages: Sequence[Message], refused: Sequence[Refused]) -> bool:
        """Called by the readers' threads; whether all was taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._messages) < WAITING)
            if self._closed:
                return False
            self._messages += messages
            self._refused += refused
            self._changed.notify_all()
        return True

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
