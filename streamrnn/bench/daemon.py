"""The daemon beside zmq_proxy: same publisher, same sink, same sockets, in turn."""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.system.threads import give_way

CHANNELS, HIDDEN, STREAMS = 8, 32, 1000
LATENCY_RATE = 10_000  # frames a second, for latency
SCRAPES_PER_S = 5
_WARM_S = 1.0
_START_S = 60.0  # the first start compiles
_LONGEST_S = 120.0  # for any run, whatever goes wrong
_LOAD = ("-m", "streamrnn.bench.load")

# Waits for its peers like any proxy; says "ready" as the daemon does.
_PROXY = """
import sys, zmq
context = zmq.Context()
source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
source.rcvhwm = sink.sndhwm = 10_000
source.subscribe(b"")
source.connect(sys.argv[1])
sink.bind(sys.argv[2])
print("ready:", file=sys.stderr, flush=True)
zmq.proxy(source, sink)
"""


# What watches a daemon while it is measured, from the address of its HTTP
Watched = Callable[[str], AbstractContextManager[None]]


class BenchRun(NamedTuple):
    """What the sink saw of one run."""

    per_second: float
    p50_us: float
    p99_us: float
    p999_us: float


class Comparison(NamedTuple):
    """Runs in turn, and the ratio daemon / proxy pair by pair."""

    proxy: list[BenchRun]
    daemon: list[BenchRun]

    def ratio(self, field: str) -> float:
        """The median of the pairs' ratios."""
        pairs = zip(self.daemon, self.proxy, strict=True)
        return statistics.median(getattr(ours, field) / getattr(theirs, field) for ours, theirs in pairs)

    def median(self, which: str, field: str) -> float:
        return statistics.median(getattr(run, field) for run in getattr(self, which))


@contextmanager
def _python(*arguments: str, listen: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process with a pipe at its ``listen`` ("stdout" or "stderr"), ended with the block."""
    pipe = {listen: subprocess.PIPE}
    process: subprocess.Popen[str] = subprocess.Popen([sys.executable, *arguments], text=True, **pipe)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _wait_ready(process: subprocess.Popen[str]) -> str:
    """The line in which the middle process says that it is ready."""
    assert process.stderr is not None
    watchdog = threading.Timer(_START_S, process.kill)
    watchdog.start()
    heard = ""
    for line in process.stderr:
        heard += line
        if "ready:" in line:
            watchdog.cancel()
            return line
    raise UserError(f"the process to be measured did not start; it said:\n{heard}")


@contextmanager
def scraped(address: str, per_s: float = SCRAPES_PER_S) -> Iterator[None]:
    """Asks for /metrics so many times a second, from a thread, for as long as the block runs."""
    done = threading.Event()

    def scrape() -> None:
        give_way()  # it stands for another machine, so it must not take these cores from publisher and sink
        while not done.wait(1 / per_s):
            urllib.request.urlopen(f"http://{address}/metrics").read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def source_in(folder: str) -> str:
    return f"ipc://{folder}/source"


def sink_in(folder: str) -> str:
    return f"ipc://{folder}/sink"


@contextmanager
def publishing(
    folder: str,
    rate: float,
    streams: int = STREAMS,
    lasting: float = _LONGEST_S,
    rows: int = 1,
    channels: int = CHANNELS,
) -> Iterator[None]:
    """A publisher of ``rate`` frames a second, 0 = all it can, for so many seconds or as the block lasts.

    ``rows``: one row again and again, or noise of so many of which three are far off.
    """
    words = ("publish", source_in(folder), *map(str, (streams, channels, rate, lasting, rows)))
    with _python(*_LOAD, *words, listen="stdout"):
        yield


@contextmanager
def running(
    middle: list[str],
    folder: str,
    rate: float,
    streams: int = STREAMS,
    lasting: float = _LONGEST_S,
    rows: int = 1,
) -> Iterator[str]:
    """``middle``, which gets the two endpoints, with a publisher of ``rate`` frames a second before it.

    The value is the line in which it said that it is ready. Frames end after ``lasting`` seconds.
    """
    command = [word.format(source=source_in(folder), sink=sink_in(folder)) for word in middle]
    with _python(*command, listen="stderr") as process:
        line = _wait_ready(process)
        with publishing(folder, rate, streams, lasting, rows):
            yield line


@contextmanager
def started(command: list[str]) -> Iterator[tuple[int, str]]:
    """A process of Python that says that it is ready: its id, and the line in which it does."""
    with _python(*command, listen="stderr") as process:
        yield process.pid, _wait_ready(process)


def received(folder: str, seconds: float) -> BenchRun:
    """What a sink sees for so long, after a second to warm up."""
    words = ("sink", sink_in(folder), str(_WARM_S), str(seconds))
    with _python(*_LOAD, *words, listen="stdout") as receiver:
        try:
            out = receiver.communicate(timeout=_LONGEST_S)[0]
        except subprocess.TimeoutExpired:
            raise UserError("no message came through the process to be measured") from None
    if receiver.returncode != 0:
        raise UserError("the sink failed; what it said is above")
    return BenchRun(**json.loads(out))


def http_address(line: str) -> str:
    """The address of the HTTP of a daemon that is ready."""
    return line.rsplit("http://", 1)[1].strip()


def measure(
    middle: list[str],
    folder: str,
    rate: float,
    seconds: float,
    watched: Watched | None = None,
    streams: int = STREAMS,
    rows: int = 1,
) -> BenchRun:
    """One run: sink and publisher at native speed around ``middle``, which gets the two endpoints.

    ``watched``, given the address of its HTTP, is entered for as long as the run takes.
    """
    with (
        running(middle, folder, rate, streams, rows=rows) as line,
        watched(http_address(line)) if watched else nullcontext(),
    ):
        return received(folder, seconds)


def compare(model: Model, rate: float, pairs: int, seconds: float, scrape: bool) -> Comparison:
    """Proxy and daemon in turn, ``pairs`` times, each for ``seconds`` after a warm-up.

    ``model`` has CHANNELS channels; ``rate`` is in frames a second, 0 for as many as the chain takes. The
    machine's speed drifts, so only the ratio within a pair means something.
    """
    result = Comparison([], [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_model(model, path)
        proxy = ["-c", _PROXY, "{source}", "{sink}"]
        daemon = ["-m", "streamrnn", "serve", str(path), "--connect", "{source}", "--bind", "{sink}"]
        daemon += ["--http", "127.0.0.1:0" if scrape else ""]
        for _ in range(pairs):
            result.proxy.append(measure(proxy, folder, rate, seconds))
            result.daemon.append(measure(daemon, folder, rate, seconds, scraped if scrape else None))
    return result
