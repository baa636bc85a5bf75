"""A socket of the daemon's, and its connections that libzmq gives up."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

GIVEN_UP_S = 1.0  # a connection lost for so long, and not tried again, is one that libzmq has given up
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_TRIED = zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CONNECTED

log = logging.getLogger("streamrnn")


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


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]
