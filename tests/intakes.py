"""Senders of other formats than frames, and what a daemon should answer them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import zmq
from daemons import DEADLINE_S, Answer, Daemon, Prediction, rows_answers, take

from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import read_model

# Reasons that only messages are refused for that an adapter reads.
OF_ADAPTERS = {"syntax", "value", "shape", "time", "stream", "channel"}
CHANNELS = ("c0", "c1", "c2")
PERIOD_NS = 10_000_000
START_NS = 1_700_000_000 * 10**9


class Sender:
    """A publisher of anything, and a subscriber of the predictions."""

    def __init__(self, context: zmq.Context, daemon: Daemon):
        kind = zmq.XPUB if daemon.config.input.socket == "sub" else zmq.PUSH
        self.socket, self.subscriber = context.socket(kind), context.socket(zmq.SUB)
        self.subscriber.subscribe(b"")
        self.subscriber.rcvhwm = self.socket.sndhwm = 0
        for socket, address in ((self.socket, daemon.receives), (self.subscriber, daemon.publishes)):
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = round(1000 * DEADLINE_S)
            socket.connect(address)
        if kind == zmq.XPUB:
            assert self.socket.recv()[:1] == b"\x01"

    def open(self, *parts: bytes) -> None:
        """Sends a message until a prediction of the stream "probe" comes of it, and takes all of those."""
        end, sent = time.monotonic() + DEADLINE_S, 0
        while not self.subscriber.poll(10):
            assert time.monotonic() < end
            self.socket.send_multipart(parts)
            sent += 1
        while (last := take(self.subscriber)).stream != "probe" or last.header["seq"] < sent - 1:
            pass

    def open_values(self, topic: str) -> None:
        """The same by single values, of topics made from ``topic`` by stream and channel, as they come."""
        end = time.monotonic() + DEADLINE_S
        while not self.subscriber.poll(10):
            assert time.monotonic() < end
            for channel in CHANNELS:
                self.socket.send_multipart([topic.format("probe", channel).encode(), b"0"])

    def predictions(self, count: int) -> list[Prediction]:
        found: list[Prediction] = []
        while len(found) < count:
            prediction = take(self.subscriber)
            found += [prediction] if prediction.stream != "probe" else []
        return found

    def answers(self, count: int) -> list[Answer]:
        return [prediction.answer for prediction in self.predictions(count)]


@contextmanager
def sender_of(daemon: Daemon) -> Iterator[Sender]:
    with zmq.Context() as context:
        sender = Sender(context, daemon)
        yield sender
        sender.socket.close()
        sender.subscriber.close()


def values(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10, (rows, len(CHANNELS)))


def expected(daemon: Daemon, stream: str, rows: np.ndarray, ts_ns: Sequence[int]) -> list[Answer]:
    """What frames of these rows, which have no numbers of their own, are answered by."""
    return wanted_of(daemon, stream, rows, ts_ns, None)


def wanted_of(
    daemon: Daemon, stream: str, rows: np.ndarray, ts_ns: Sequence[int], seq: np.ndarray | None
) -> list[Answer]:
    """What frames of these rows are answered by."""
    engine = Engine(read_model(daemon.config.model), 8, daemon.config.faults)
    numbers = None if seq is None else seq.astype(np.uint64)
    times = np.array(ts_ns, np.int64)
    return rows_answers(engine, stream, rows.astype(np.float32), numbers, ts_ns=times)
