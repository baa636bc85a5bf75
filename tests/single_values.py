"""A daemon that makes rows of single values as JSON, an hour apart: its clock lets none of them go."""

import json
from collections.abc import Sequence

import zmq
from daemons import DEADLINE_S, Daemon

HOUR_NS = 3600 * 10**9
START = 1_700_000_000 // 3600  # the hour at which the values begin
SETTINGS = {
    "input.format": "json",
    "input.topic": "plant/{stream}/{channel}",
    "assemble.period": "1h",
    "assemble.hold": "3h",
    "assemble.lateness": "1h",
}


class Sensors:
    """A publisher of values."""

    def __init__(self, context: zmq.Context, daemon: Daemon):
        self.socket = context.socket(zmq.XPUB)
        self.socket.linger, self.socket.sndhwm = 0, 0
        self.socket.rcvtimeo = round(1000 * DEADLINE_S)
        self.socket.connect(daemon.receives)
        assert self.socket.recv()[:1] == b"\x01"

    def send(self, topic: str, payload: str) -> None:
        self.socket.send_multipart([topic.encode(), payload.encode()])

    def value(self, stream: str, channel: str, hour: int, value: float = 0.0) -> None:
        """A value of a channel for the row of an hour since ``START``, half an hour before it."""
        said = {"value": value, "time": (START + hour) * HOUR_NS - HOUR_NS // 2}
        self.send(f"plant/{stream}/{channel}", json.dumps(said))

    def hours(self, stream: str, first: int, end: int, channels: Sequence[str]) -> None:
        """A value of each channel for each hour. Where a channel is missing, the last two rows wait."""
        for hour in range(first, end):
            for channel in channels:
                self.value(stream, channel, hour, hour / 10)

    def close(self) -> None:
        self.socket.close()
