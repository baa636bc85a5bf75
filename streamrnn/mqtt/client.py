"""paho's client, which reads what the kernel has at once, and bounds what a packet takes."""

from paho.mqtt.client import Client

# Of a packet no more is kept: a message's largest payload, and before it a topic.
LARGEST_PAYLOAD = 1 << 22
_LARGEST_PACKET = LARGEST_PAYLOAD + (1 << 17)
_AT_ONCE = 1 << 16


class BufferedClient(Client):
    """Asks the kernel for many packets at once, where paho asks three times for each.

    A packet that is too large arrives shortened, and so still has more than ``LARGEST_PAYLOAD``: MQTT allows
    256 MB, and to hang up would bring the same packet again.
    """

    _waiting = memoryview(b"")  # what was read, and not asked for yet

    @property
    def has_more(self) -> bool:
        """Whether ``loop_read`` has something to read whatever ``poll`` says of the socket."""
        taken = self.socket()
        pending = getattr(taken, "pending", None)  # of TLS
        return taken is not None and bool(len(self._waiting) or (pending is not None and pending()))

    @property
    def holds_back(self) -> bool:
        """Whether messages of QoS 2 have come, which nobody asked for, and which would wait in memory."""
        return bool(self._in_messages)

    def _sock_recv(self, bufsize: int) -> bytes:
        waiting = self._waiting if len(self._waiting) else memoryview(super()._sock_recv(_AT_ONCE))
        taken, self._waiting = waiting[:bufsize].tobytes(), waiting[bufsize:]
        if len(self._in_packet["packet"]) > _LARGEST_PACKET:
            self._in_packet["to_process"] -= len(taken) - 1  # as if the rest of it had been kept
            return taken[-1:]
        return taken
