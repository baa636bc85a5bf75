"""A real daemon in a process of its own, and the sockets of its neighbours: publishers and subscribers."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import zmq
from prometheus_client.parser import text_string_to_metric_families as parse

from streamrnn.engine.engine import Answers, Engine
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import Config, config_text, load_config
from streamrnn.stats import PREDICTED
from streamrnn.wire.frame import END, EVENT, PER_FRAME, TOPIC_BYTES, flag_names, pack_frame, unpack_prediction

DEADLINE_S = 30.0  # for anything that a test waits for
COMPILE_S = 180.0  # for a start, which compiles when the kernels are not in the cache
POLL_S = 0.005
ANY_PORT = ("tcp://127.0.0.1:*",)
NO_VALUES = np.zeros((0, 0), np.float32)
PROBE = "probe of line "  # begins the id of a stream that only finds out whether a line is open


def wait_for(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> Any:
    """The first true value of ``condition()``. Fails after ``seconds``, saying what was waited for."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}"
        time.sleep(POLL_S)
    return value


class Answer(NamedTuple):
    """What a prediction says, its clocks aside; two are equal when they are so bit for bit."""

    stream: str
    flags: str
    seq: int
    ts_ns: int
    step: int
    gap: int
    epoch: int
    bits: str  # score, residual and values, float32 in hex

    @classmethod
    def of(cls, stream: str, flags: int, counts: Sequence[Any], floats: Sequence[Any]) -> "Answer":
        bits = b"".join(np.asarray(number, "<f4").tobytes() for number in floats)
        return cls(stream, flag_names(int(flags)), *map(int, counts), bits.hex())


class Prediction(NamedTuple):
    """One message that a daemon published."""

    stream: str
    header: Any  # a PREDICTION record, or the object
    values: np.ndarray  # (horizon, outputs) float32
    bands: np.ndarray = NO_VALUES  # (2 bands, horizon, outputs) float32

    @property
    def answer(self) -> Answer:
        header = self.header
        assert (header["kind"], header["horizon"]) == (PER_FRAME, 1)
        counts = [header[name] for name in ("seq", "ts_ns", "step", "gap", "epoch")]
        floats = [header["score"], header["residual"], self.values]
        return Answer.of(self.stream, header["flags"], counts, floats)


def engine_answers(
    engine: Engine, ids: Sequence[str], stream: np.ndarray, *arrays: Any, **more: Any
) -> list[Answer]:
    """What ``Engine.feed`` answers, of the rows that it answers; arguments as its own."""
    said: Answers = engine.feed(ids, stream, *arrays, **more)
    return [
        Answer.of(
            ids[stream[row]],
            said.flags[row],
            [said.seq[row], said.ts_ns[row], said.step[row], said.gap[row], said.epoch[row]],
            [said.score[row], said.residual[row], said.values[row]],
        )
        for row in np.flatnonzero(said.outcome == PREDICTED)
    ]


def rows_answers(engine: Engine, stream: str, values: np.ndarray, *arrays: Any, **more: Any) -> list[Answer]:
    """``engine_answers`` for the rows of one stream."""
    return engine_answers(engine, [stream], np.zeros(len(values), np.int64), *[values, *arrays], **more)


class Daemon:
    """A started daemon: where it listens, what it says and what it counts."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes], config: Config):
        self.process, self.config = process, config
        self._log = log
        self.receives = self.publishes = self.http = ""

    @property
    def said(self) -> str:
        """Everything on its standard error so far."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode()

    def wait_until_it_says(self, text: str, seconds: float = DEADLINE_S) -> str:
        """The line that holds ``text``, once it is whole."""

        def line() -> str | None:
            ended = self.process.poll() is not None
            lines = [line for line in self.said.splitlines(keepends=True) if text in line]
            assert lines or not ended, f"ended without saying {text!r}:\n{self.said}"
            return lines[0] if lines and lines[0].endswith("\n") else None

        return wait_for(line, f"{text!r} in\n{self.said}", seconds)

    def find_addresses(self) -> None:
        """Waits for the ready line and reads from it where the daemon listens."""
        words = self.wait_until_it_says("ready: ", COMPILE_S).rstrip('"}\n').replace(",", "").split()
        self.receives = words[words.index("on", words.index("receives")) + 1]
        self.publishes = words[words.index("publishes") + 2]
        self.http = words[-1] if words[-1].startswith("http:") else ""

    def get(self, path: str) -> tuple[int, str]:
        """The status and the text of an HTTP answer."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=DEADLINE_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """Every sample of a scrape: ``streamrnn_frames_rejected_total{parts}`` and the like, to its value."""
        status, text = self.get("/metrics")
        assert status == 200, text
        samples = [sample for family in parse(text) for sample in family.samples]
        return {
            sample.name + (f"{{{','.join(sample.labels.values())}}}" if sample.labels else ""): sample.value
            for sample in samples
        }

    def count(self, name: str) -> float:
        """One sample, its name without the prefix: ``frames_rejected_total{parts}``."""
        return self.metrics()[f"streamrnn_{name}"]

    def engine(self) -> Engine:
        """A new engine of the same model, capacity and rules, for what this daemon should answer."""
        return Engine(read_model(self.config.model), self.config.streams.capacity, self.config.faults)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end. Returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def line(self) -> AbstractContextManager["Line"]:
        return line_to(self)


@contextmanager
def line_to(daemon: Any) -> Iterator["Line"]:
    """A publisher and a subscriber of ``daemon``, both of whose subscriptions have arrived."""
    with zmq.Context() as context:
        line = Line(context, daemon)
        try:
            line.open()
            yield line
        finally:
            line.close()


def make_config(model: Path, settings: dict[str, Any]) -> Config:
    """A Config with sockets on free ports, where ``settings``, by dotted keys, do not say otherwise."""
    keys: dict[str, Any] = {"model": model, "http.listen": "127.0.0.1:0"}
    for section in ("input", "output"):
        if f"{section}.connect" not in settings:
            keys[f"{section}.bind"] = ANY_PORT
    return load_config(None, keys | settings)


@contextmanager
def launch(
    model: Path, settings: dict[str, Any] | None = None, *, program: str = "", **environment: str
) -> Iterator[Daemon]:
    """A daemon that may not be ready yet; its process is gone afterwards.

    ``program`` is Python to run in place of ``streamrnn serve``, with the configuration file as its
    argument.
    """
    config = make_config(model, settings or {})
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        file = Path(folder, "daemon.toml")
        file.write_text(config_text(config))
        command = ["-c", program] if program else ["-m", "streamrnn", "serve", "-c"]
        process = subprocess.Popen(
            [sys.executable, *command, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | environment,
        )
        with process:
            try:
                yield Daemon(process, log, config)
            finally:
                process.kill()


def curve_client(
    context: zmq.Context, kind: int, keys: tuple[bytes, bytes], server: bytes, address: str, **options: int
) -> zmq.Socket:
    """A connected socket with keys of its own, which knows the server's public one."""
    socket = context.socket(kind)
    socket.linger = 0
    for name, value in options.items():
        setattr(socket, name, value)
    socket.curve_publickey, socket.curve_secretkey = keys
    socket.curve_serverkey = server
    if kind == zmq.SUB:
        socket.subscribe(b"")
    socket.connect(address)
    return socket


@contextmanager
def serving(model: Path, settings: dict[str, Any] | None = None, **options: str) -> Iterator[Daemon]:
    """A daemon that is ready; arguments as ``launch``'s."""
    with launch(model, settings, **options) as daemon:
        daemon.find_addresses()
        yield daemon


class Line:
    """One publisher and one subscriber of a daemon.

    A socket whose endpoint the daemon binds connects, and the other way round.
    """

    _opened = 0

    def __init__(self, context: zmq.Context, daemon: Daemon):
        self._daemon, self._context = daemon, context
        settings = daemon.config.input
        self._raw, self._prefix = settings.format == "raw", settings.topics[0]
        self._bands = len(daemon.config.predict.bands)
        kind = zmq.XPUB if settings.socket == "sub" else zmq.PUSH
        self.publisher = context.socket(kind)
        self.publisher.sndhwm = 0
        if kind == zmq.XPUB:
            self.publisher.xpub_verbose = True  # says so, too, when a subscriber comes back
        self.subscriber = context.socket(zmq.SUB)
        self.subscriber.rcvhwm = 0
        self.subscriber.subscribe(b"")
        for socket in (self.publisher, self.subscriber):
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = round(1000 * DEADLINE_S)

    def open(self) -> None:
        """Attaches both sockets and waits until a frame sent is a prediction received."""
        config = self._daemon.config
        for socket, theirs, address in (
            (self.publisher, config.input, self._daemon.receives),
            (self.subscriber, config.output, self._daemon.publishes),
        ):
            if theirs.connect:
                socket.bind(address)
            else:
                socket.connect(address)
        if config.input.socket == "sub":
            self.wait_for_subscription()
        self._probe()

    def wait_for_subscription(self) -> bytes:
        """The prefix that the daemon subscribes to, once it has told the publisher."""
        subscription = self.publisher.recv()
        assert subscription[:1] == b"\x01", subscription
        return subscription[1:]

    def _probe(self) -> None:
        """Sends rows of a stream of its own until one is answered, and takes all their answers."""
        Line._opened += 1
        name = f"{self._prefix}{PROBE}{Line._opened}"
        model = read_model(self._daemon.config.model)
        row, more = np.full(len(model.channels), -1, np.float32), {"flags": END}
        end = time.monotonic() + DEADLINE_S
        sent = 0
        while not self.subscriber.poll(10):
            assert time.monotonic() < end, f"the daemon answers nothing:\n{self._daemon.said}"
            self.send(name, row, **(more if model.answers_sequences else {}))
            sent += 1
        while (last := take(self.subscriber, self._bands)).stream != name or last.header["seq"] < sent - 1:
            pass

    def close(self) -> None:
        self.publisher.close()
        self.subscriber.close()

    def pack(self, values: np.ndarray, **header: Any) -> bytes:
        """A payload in the daemon's input format."""
        return np.asarray(values, "<f4").tobytes() if self._raw else pack_frame(values, **header)

    def send(self, stream: str, values: np.ndarray, **header: Any) -> None:
        """Publishes one frame; ``header`` as ``pack_frame``'s."""
        self.publisher.send_multipart([stream.encode(), self.pack(values, **header)])

    def send_rows(self, stream: str, values: np.ndarray, **header: Any) -> None:
        """Publishes each of ``values`` (rows, channels) as a frame of its own."""
        for row in values:
            self.send(stream, row, **header)

    def receive(self, count: int = 1) -> list[Prediction]:
        """The next ``count`` predictions of any stream but those that open lines."""
        found: list[Prediction] = []
        while len(found) < count:
            prediction = take(self.subscriber, self._bands)
            if not prediction.stream.startswith(self._prefix + PROBE):
                found.append(prediction)
        return found

    def answers(self, count: int) -> list[Answer]:
        """The next ``count`` predictions, as what they say; events do not count."""
        found: list[Answer] = []
        while len(found) < count:
            found += [
                each.answer for each in self.receive(count - len(found)) if each.header["kind"] != EVENT
            ]
        return found


def take(subscriber: zmq.Socket, bands: int = 0) -> Prediction:
    """The next message of a subscriber, which must be a whole prediction; as JSON, it is its own header.

    ``bands``: how many one has that says so.
    """
    parts = subscriber.recv_multipart()
    assert len(parts) == 2, parts
    assert 1 <= len(parts[0]) <= TOPIC_BYTES
    if parts[1].startswith(b"{"):
        return Prediction(parts[0].decode(), json.loads(parts[1]), NO_VALUES)
    return Prediction(parts[0].decode(), *unpack_prediction(parts[1], bands))
