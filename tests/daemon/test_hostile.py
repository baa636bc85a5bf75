"""Hostile publishers beside good ones: what they send is counted, and changes nothing for anybody else."""

import random
import socket
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from daemons import DEADLINE_S, Answer, Daemon, Line, rows_answers, serving, take, wait_for
from hostile import CHANNELS, Fates, frame, hostile_messages, judge
from intakes import OF_ADAPTERS

from streamrnn.daemon.backlog import HELD_BYTES
from streamrnn.stats import REASONS
from streamrnn.wire.frame import EVENT, EVICTED, pack_frame

MESSAGES, MANY_MESSAGES = 400_000, 10_000_000  # without and with --long
EACH = 120  # different messages of every kind
BLOCK = 100  # messages between two good rows on the same socket, and between two streams never seen before
CAPACITY = 200
APART, BESIDE = "good apart", "good beside"  # on a socket of its own, on the hostile one
PAUSE_S = 0.002
LEAK_BYTES = 8 << 20
OF_RAW = ("float64", "implausible")  # reasons that a frame's header leaves no room for


@contextmanager
def pusher(context: zmq.Context, daemon: Daemon) -> Iterator[zmq.Socket]:
    """A publisher that waits where the daemon is slower, so that nothing is lost."""
    with context.socket(zmq.PUSH) as socket:
        socket.sndtimeo, socket.linger = round(1000 * DEADLINE_S), round(1000 * DEADLINE_S)
        socket.connect(daemon.receives)
        yield socket


def anonymous_bytes(daemon: Daemon) -> int:
    """Memory of the daemon that no file backs: its heap and what libzmq holds."""
    text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return 1024 * int(next(line for line in text.splitlines() if line.startswith("RssAnon")).split()[1])


class Good:
    """The good streams: what was sent and what came back."""

    def __init__(self, line: Line):
        self._line = line
        line.subscriber.subscribe("good ")  # and to nothing else: hostile streams are answered, too
        line.subscriber.unsubscribe("")
        self.sent = {APART: 0, BESIDE: 0}
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.values = np.random.default_rng(3).normal(0, 10, (5000, CHANNELS)).astype(np.float32)

    def payload(self, name: str) -> bytes:
        """The next frame of a stream."""
        seq = self.sent[name]
        self.sent[name] += 1
        return pack_frame(self.values[seq % len(self.values)], seq=seq)

    def exchange(self, rows: int = 1) -> None:
        """Sends rows on the socket that is theirs alone and waits for their answers."""
        for _ in range(rows):
            self._line.publisher.send_multipart([APART.encode(), self.payload(APART)])
        while len(self.answers[APART]) < self.sent[APART]:
            self._take()

    def take_all(self) -> None:
        while len(self.answers[BESIDE]) < self.sent[BESIDE]:
            self._take()

    def _take(self) -> None:
        prediction = take(self._line.subscriber)
        if prediction.stream in self.sent:
            assert not prediction.header["flags"] & EVICTED, "a good stream was let go"
            if prediction.header["kind"] == EVENT:  # noise now and then looks unusual
                return
            self.answers[prediction.stream].append(prediction.answer)

    def check(self, daemon: Daemon) -> None:
        """Every row was answered, and with the bits of the engine."""
        for name, count in self.sent.items():
            numbers = np.arange(count, dtype=np.uint64)
            values = self.values[numbers % np.uint64(len(self.values))]
            assert self.answers[name] == rows_answers(daemon.engine(), name, values, numbers)


class Flood:
    """Hostile messages in a seeded order, a row of a good stream among them now and then."""

    def __init__(self, good: Good, fates: Fates):
        self._pool = hostile_messages(seed=1, each=EACH)
        self._judged = [judge(parts) for parts in self._pool]
        self._good, self._fates = good, fates
        self._random = random.Random(2)
        self.sent = self.new = 0

    def _heavy(self, socket: zmq.Socket) -> None:
        """The largest messages that are read at all."""
        most = np.zeros((65535, CHANNELS), "<f8")
        values = most.tobytes()
        for payload in (
            frame(most),
            frame(most) + b"x",
            frame(most[1:], rows=65535),
            values[: len(values) // 2],
        ):
            self._send(socket, [b"heavy", payload])
            self._fates.take(b"heavy", judge([b"heavy", payload]))

    def run(self, socket: zmq.Socket, count: int) -> None:
        """Sends at least ``count`` messages, a good one last."""
        self._heavy(socket)
        order = list(range(len(self._pool)))
        end = self.sent + count
        while self.sent < end:
            self._random.shuffle(order)
            for place, index in enumerate(order):
                parts = self._pool[index]
                self._send(socket, parts)
                self._fates.take(parts[0], self._judged[index])
                if place % BLOCK == 0:
                    self._stranger(socket)
                    self._send(socket, [BESIDE.encode(), self._good.payload(BESIDE)])
        self._send(socket, [BESIDE.encode(), self._good.payload(BESIDE)])

    def _stranger(self, socket: zmq.Socket) -> None:
        """A good frame of a stream that nobody has heard of."""
        self.new += 1
        parts = [f"new {self.new}".encode(), pack_frame(self._good.values[0])]
        self._send(socket, parts)
        self._fates.take(parts[0], judge(parts))

    def _send(self, socket: zmq.Socket, parts: list[bytes]) -> None:
        for part in parts[:-1]:
            socket.send(part, zmq.SNDMORE)
        socket.send(parts[-1])
        self.sent += 1


def grown(daemon: Daemon, before: dict[str, float]) -> Counter[str]:
    """What a daemon has counted since ``before``, as ``Fates`` counts it."""
    after = daemon.metrics()
    names = {reason: f"frames_rejected_total{{{reason}}}" for reason in REASONS}
    names |= {"late": "frames_late_total", "answered": "predictions_total"}
    found = Counter[str]()
    for fate, name in names.items():
        taken = fate in ("answered", "late", "diverged")
        found["taken" if taken else fate] += int(after[f"streamrnn_{name}"] - before[f"streamrnn_{name}"])
    return found


@contextmanager
def attacked(model_file: Path, settings: dict[str, Any]) -> Iterator[tuple[Daemon, Good, zmq.Socket]]:
    """A daemon with two good streams, both admitted, and the socket of one that is hostile."""
    with (
        serving(model_file, settings | {"input.socket": "pull"}) as daemon,
        daemon.line() as line,
        zmq.Context() as context,
        pusher(context, daemon) as socket,
    ):
        good = Good(line)
        socket.send_multipart([BESIDE.encode(), good.payload(BESIDE)])
        good.take_all()
        good.exchange()
        yield daemon, good, socket


def test_hostile_messages_are_counted_and_harm_nobody(model_file, request):
    total = MANY_MESSAGES if request.config.getoption("--long") else MESSAGES
    with attacked(model_file, {"streams.capacity": CAPACITY}) as (daemon, good, socket):
        before, memory = daemon.metrics(), []
        fates = Fates(CAPACITY - int(before["streamrnn_streams"]))
        flood = Flood(good, fates)
        with ThreadPoolExecutor(1) as executor:
            for count in (total // 10, total - total // 10):
                sending = executor.submit(flood.run, socket, count)
                while not sending.done():
                    good.exchange()
                    wait([sending], PAUSE_S)
                sending.result()
                good.take_all()  # and so the daemon has taken all that came before
                memory.append(anonymous_bytes(daemon))
        expected = fates.counts + Counter(taken=sum(good.sent.values()) - 2)  # but for the first two
        wait_for(lambda: grown(daemon, before)["taken"] >= expected["taken"], "the last row to be counted")
        assert grown(daemon, before) == expected
        received = daemon.count("frames_received_total") - before["streamrnn_frames_received_total"]
        assert received == flood.sent + good.sent[APART] - 1 >= total
        assert daemon.count("streams") == CAPACITY
        good.check(daemon)
    assert memory[1] - memory[0] < LEAK_BYTES, memory


def test_every_reason_is_among_the_hostile_messages():
    fates = Fates(CAPACITY)
    for parts in hostile_messages(seed=1, each=EACH):
        fates.take(parts[0], judge(parts))
    assert set(fates.counts) == set(REASONS) - {"capacity", "diverged", *OF_RAW, *OF_ADAPTERS} | {"taken"}


def test_streams_without_end_take_only_slots_that_fell_idle(model_file):
    settings = {"streams.capacity": 40, "streams.idle_timeout": "6s"}
    with attacked(model_file, settings) as (daemon, good, socket):
        before, sent = daemon.metrics(), 0
        while daemon.count("state_resets_total{idle}") < 40:
            for _ in range(1000):
                sent += 1
                socket.send_multipart([f"new {sent}".encode(), pack_frame(good.values[0])])
            socket.send_multipart([BESIDE.encode(), good.payload(BESIDE)])
            good.exchange()
            good.take_all()
        rows = sent + sum(good.sent.values()) - 2
        wait_for(lambda: grown(daemon, before).total() == rows, "every row to be counted")
        fates = grown(daemon, before)
        good.check(daemon)
    assert +fates == Counter(taken=fates["taken"], capacity=fates["capacity"])
    assert fates["taken"] > 40
    assert fates["capacity"] > 40


def test_a_good_stream_waits_for_few_of_the_largest_frames(model_file):
    largest = frame(np.zeros((65535, CHANNELS), "<f4"))
    with attacked(model_file, {}) as (daemon, good, hostile):
        before = daemon.count("frames_received_total")
        for _ in range(120):
            hostile.send_multipart([b"hostile", largest])
        good.exchange(3)  # at once, so that nothing is counted while this process waits for its turn
        # of those 120: each row may find some at work and before it, more where the machine is crowded
        assert daemon.count("frames_received_total") - before < 90


# ZMTP 3.0, RFC 23
GREETING = b"\xff" + bytes(8) + b"\x7f\3\0" + b"NULL".ljust(52, b"\0")
READY = b"\4\x1a\5READY\x0bSocket-Type\0\0\0\4PUSH"
PART = b"\3" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)  # and one more follows


def test_a_message_without_end_is_cut_off(model_file):
    with serving(model_file, {"input.socket": "pull"}) as daemon:
        host, _, port = daemon.receives.removeprefix("tcp://").partition(":")
        before = peak = anonymous_bytes(daemon)
        with socket.create_connection((host, int(port)), DEADLINE_S) as publisher:
            publisher.sendall(GREETING + READY)
            with pytest.raises(OSError, match=r"reset|Broken"):
                while peak - before < 3 * HELD_BYTES:
                    publisher.sendall(PART)
                    peak = max(peak, anonymous_bytes(daemon))
        daemon.wait_until_it_says("every connection is cut off")
        with daemon.line():  # whoever comes is served
            pass
        wait_for(lambda: anonymous_bytes(daemon) - before < HELD_BYTES // 4, "the memory to be given back")
    assert peak - before < 2 * HELD_BYTES
