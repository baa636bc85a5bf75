"""The pumps live: a daemon with their model, a page to see them on, and a list of what goes wrong."""

import ctypes
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType

import click
import numpy as np
import zmq

from streamrnn.demo.faults import Fault, PumpFaults
from streamrnn.demo.pumps import CHANNELS, MACHINES, PERIOD_S, Pumps
from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model, write_model
from streamrnn.wire.frame import pack_frame

MODEL = Path(__file__).with_name("pumps.safetensors")
# Rows of each pump that the daemon takes before the page is shown: a score needs some thousands to be right.
PAST_ROWS = 6000
_BLOCK = 250  # rows in a frame of them
_PEER_MS = 10_000  # how long the daemon may take to connect
_PR_SET_PDEATHSIG = 1  # prctl(2)

Daemon = subprocess.Popen[bytes]


def demo(seconds: float | None, http: str, seed: int) -> int:
    """Runs pumps and daemon until Ctrl-C, or for ``seconds``; what goes wrong goes to standard output.

    Raises UserError if the daemon does not start, or ends by itself.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    click.echo(f"demo: {len(MACHINES)} simulated pumps; starting the daemon", err=True)
    with tempfile.TemporaryDirectory(prefix="streamrnn-demo-") as folder:
        model = Path(folder) / MODEL.name
        # `train` knows no units; the page shows them
        write_model(replace(read_model(MODEL), channels=CHANNELS, outputs=CHANNELS), model)
        source, sink = f"ipc://{folder}/in", f"ipc://{folder}/out"  # a socket of ZeroMQ has 107 bytes at most
        config = Path(folder) / "demo.toml"
        config.write_text('[events]\npath = "events.db"\nbefore = "20s"\nafter = "10s"\n')
        words = [str(model), "-c", str(config), "--connect", source, "--bind", sink, "--http", http]
        with _daemon(words) as daemon, zmq.Context() as context, context.socket(zmq.XPUB) as socket:
            socket.linger, socket.rcvtimeo, socket.sndhwm = 0, _PEER_MS, 0
            socket.bind(source)
            pumps = Pumps(len(MACHINES), seed)
            past = np.stack([pumps.step() for _ in range(PAST_ROWS)], axis=1)
            page = _wait_until_ready(daemon)
            socket.recv()  # the daemon's subscription
            began = time.monotonic(), time.time_ns()
            _send_past(socket, past, began[1])
            _say_what_to_see(page, sink)
            publish(socket, PumpFaults(pumps, seed), began, seconds, daemon)
    return 0


@contextmanager
def _daemon(words: list[str]) -> Iterator[Daemon]:
    """`streamrnn serve` with these words. It ends with the block, and with this process, killed or not."""
    prctl = ctypes.CDLL(None).prctl
    with subprocess.Popen(
        [sys.executable, "-m", "streamrnn", "serve", *words],
        stderr=subprocess.PIPE,
        bufsize=0,
        preexec_fn=functools.partial(prctl, _PR_SET_PDEATHSIG, signal.SIGTERM),
    ) as daemon:
        try:
            yield daemon
        finally:
            daemon.terminate()
            daemon.wait()
            _pass_on(daemon)


def _wait_until_ready(daemon: Daemon) -> str:
    """Passes on what the daemon says. Returns the address of its page, "" for none, once it is ready."""
    assert daemon.stderr is not None
    line = ""
    for said in daemon.stderr:
        line = said.decode()
        if "ready:" in line:
            os.set_blocking(daemon.stderr.fileno(), False)
            return "http://" + line.rpartition(", http://")[2].strip() if ", http://" in line else ""
        click.echo(line, err=True, nl=False)
    remedy = "; --http 127.0.0.1:0 takes any free port" if "http.listen" in line else ""
    raise UserError(f"the daemon did not start, and said why{remedy}")


def _pass_on(daemon: Daemon) -> None:
    """What the daemon has said by now."""
    assert daemon.stderr is not None
    if said := daemon.stderr.read():  # None where it would have to wait
        click.echo(said, err=True, nl=False)


def _send_past(socket: zmq.Socket, past: np.ndarray, now_ns: int) -> None:
    """Publishes rows (machines, PAST_ROWS, channels) of the time before; the socket holds what must wait."""
    period_ns = round(PERIOD_S * 1e9)
    for row in range(0, PAST_ROWS, _BLOCK):
        ts_ns = now_ns - (PAST_ROWS - row) * period_ns
        for name, rows in zip(MACHINES, past[:, row : row + _BLOCK], strict=True):
            socket.send_multipart([name.encode(), pack_frame(rows, row, ts_ns, period_ns)])


def _say_what_to_see(page: str, sink: str) -> None:
    shown = [
        f"open {page} and choose a pump: each curve has beside it what was forecast a moment before",
        "the last ten minutes were sent ahead, so the scores know what is usual",
        "every half minute at first something goes wrong with a pump, and is listed here: its score rises "
        "above the threshold a moment later, and it goes to the top; now and then one rises for nothing, too",
        f"{page}/events keeps what happened, for as long as this runs",
    ]
    for line in [
        *(shown if page else ["there is no page, as --http says"]),
        f"the forecasts as text, in another terminal: streamrnn tail {sink}",
        "Ctrl-C ends it",
    ]:
        click.echo(line, err=True)


def publish(
    socket: zmq.Socket,
    faults: PumpFaults,
    began: tuple[float, int],
    seconds: float | None,
    daemon: Daemon,
) -> None:
    """Sends a frame of each pump per period, in real time, and lists the faults, until the time is up.

    ``began`` is the moment of the first, by the monotonic clock and in ns since 1970.
    """
    step = 0
    while seconds is None or step * PERIOD_S < seconds:
        time.sleep(max(0.0, began[0] + step * PERIOD_S - time.monotonic()))
        _pass_on(daemon)
        if daemon.poll() is not None:
            code = daemon.returncode
            why = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            raise UserError(f"the daemon ended by itself, {why}")
        values, sent, begun, ended = faults.step()
        ts_ns = began[1] + round(step * PERIOD_S * 1e9)
        for name, row, goes in zip(MACHINES, values, sent, strict=True):
            if goes:
                socket.send_multipart([name.encode(), pack_frame(row, PAST_ROWS + step, ts_ns)])
        if begun is not None:
            _list(begun, begun.kind.seen)
        if ended is not None:
            _list(ended, f"over, after {(ended.end - ended.begin) * PERIOD_S:.0f} s")
        step += 1


def _list(fault: Fault, what: str) -> None:
    now = datetime.now().astimezone()
    click.echo(f"{now:%H:%M:%S} {MACHINES[fault.unit]} {fault.kind.name}: {what}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
