"""Simulated machines -> daemon -> predictions, in one process tree."""

import csv
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType

import click
import numpy as np
import zmq

from streamrnn.errors import UserError
from streamrnn.model.model import Channel, Model
from streamrnn.model.native import read_model, write_model
from streamrnn.table import Columns
from streamrnn.train.descent import Settings
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.recording import DataOptions
from streamrnn.wire.frame import pack_frame

CHANNELS = (
    Channel("valve", "%"),
    Channel("flow", "L/min"),
    Channel("pressure", "bar"),
    Channel("current", "A"),
    Channel("temperature", "degC"),
)
MACHINES = ("pump-1", "pump-2", "pump-3")
PERIOD_S = 0.5
BEGAN = datetime(2026, 1, 4)  # a recording of seed n is of n days later
TRAINING_S = 2000.0
EPOCHS = 20
_PEER_MS = 10_000  # how long the daemon may take to connect
_SETTLING_STEPS = 500  # until motors that start cold are warm


class Pumps:
    """Water loops: an operator moves the valve, flow and pressure follow, the motor warms up."""

    def __init__(self, count: int, seed: int):
        self._random = np.random.default_rng(seed)
        self._wanted = self._random.uniform(20, 90, count)  # valve position asked for, %
        self._valve = self._wanted.copy()
        self._flow = 0.3 * self._valve
        self._temperature = np.full(count, 35.0)
        self._phase = self._random.uniform(0, 2 * np.pi, count)
        for _ in range(_SETTLING_STEPS):
            self.step()

    def step(self) -> np.ndarray:
        """The next sample of each pump, (count, channels) float32."""
        random = self._random
        moved = random.random(self._wanted.size) < 0.02
        self._wanted = np.where(moved, random.uniform(20, 90, self._wanted.size), self._wanted)
        self._valve += np.clip(self._wanted - self._valve, -4, 4)
        self._phase += 0.15
        pulse = 0.6 * np.sin(self._phase)
        self._flow += 0.25 * (0.3 * self._valve + pulse - self._flow)
        pressure = 6 - 0.004 * self._flow**2 + 0.05 * pulse
        current = 4 + 0.11 * self._flow + 0.25 * pressure
        self._temperature += 0.02 * (30 + 1.6 * current - self._temperature)
        exact = np.stack([self._valve, self._flow, pressure, current, self._temperature], axis=1)
        noise = random.normal(size=exact.shape) * (0.1, 0.05, 0.01, 0.02, 0.02)
        return (exact + noise).astype(np.float32)


def record(path: Path, seconds: float, seed: int) -> int:
    """Writes a CSV of what the machines' sensors would say in ``seconds``. Returns its rows.

    Raises UserError if it cannot be written.
    """
    pumps, began = Pumps(len(MACHINES), seed), BEGAN + timedelta(days=seed)
    steps = round(seconds / PERIOD_S)
    try:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["time", "machine", *(channel.name for channel in CHANNELS)])
            for step in range(steps):
                time_of_step = (began + timedelta(seconds=step * PERIOD_S)).isoformat(timespec="milliseconds")
                for name, sample in zip(MACHINES, pumps.step().tolist(), strict=True):
                    writer.writerow([time_of_step, name, *(f"{value:.6g}" for value in sample)])
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    return steps * len(MACHINES)


def make_model(folder: Path) -> Model:
    """A forecaster for the pumps, trained in a moment on a recording of them, put into ``folder``."""
    recording, model = folder / "recording.csv", folder / "trained.safetensors"
    record(recording, TRAINING_S, seed=1)
    data = DataOptions((str(recording),), columns=Columns(stream="machine"))
    if train(TrainOptions(data, model, settings=Settings(epochs=EPOCHS))).interrupted:
        raise KeyboardInterrupt
    units = {channel.name: channel for channel in CHANNELS}
    trained = read_model(model)
    return replace(
        trained,
        channels=tuple(units[channel.name] for channel in trained.channels),
        outputs=tuple(units[output.name] for output in trained.outputs),
    )


def _start_daemon(model: Path, source: str, sink: str, http: str) -> subprocess.Popen[str]:
    words = ["serve", str(model), "--connect", source, "--bind", sink, "--http", http]
    daemon = subprocess.Popen([sys.executable, "-m", "streamrnn", *words], stderr=subprocess.PIPE, text=True)
    assert daemon.stderr is not None
    try:
        for line in daemon.stderr:
            click.echo(line, err=True, nl=False)
            if "ready:" in line:
                return daemon
    except KeyboardInterrupt:
        daemon.terminate()
        raise
    raise UserError("the daemon did not start; what it said is above")


def _publish(socket: zmq.Socket, seconds: float | None, children: list[subprocess.Popen[str]]) -> int:
    """Sends a frame of each pump per period, in real time, until the time is up or a child has ended.
    Returns how many."""
    pumps, began, sent = Pumps(len(MACHINES), seed=2), time.monotonic(), 0
    while seconds is None or time.monotonic() - began < seconds:
        if any(child.poll() is not None for child in children):
            break
        row = sent // len(MACHINES)
        for name, sample in zip(MACHINES, pumps.step(), strict=True):
            socket.send_multipart([name.encode(), pack_frame(sample, seq=row, ts_ns=time.time_ns())])
            sent += 1
        time.sleep(max(0.0, began + (row + 1) * PERIOD_S - time.monotonic()))
    return sent


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def demo(seconds: float | None, http: str) -> int:
    """Runs the whole chain until Ctrl-C, or for ``seconds``; predictions go to standard output."""
    signal.signal(signal.SIGTERM, _interrupt)
    click.echo(f"making a forecaster for {len(MACHINES)} simulated pumps", err=True)
    with tempfile.TemporaryDirectory(prefix="streamrnn-demo-") as folder, zmq.Context() as context:
        model = Path(folder) / "pumps.safetensors"
        write_model(make_model(Path(folder)), model)
        source, sink = f"ipc://{folder}/frames", f"ipc://{folder}/predictions"
        children: list[subprocess.Popen[str]] = []
        with context.socket(zmq.XPUB) as socket:
            socket.linger, socket.rcvtimeo = 0, _PEER_MS
            socket.bind(source)
            try:
                children.append(_start_daemon(model, source, sink, http))
                words = ["tail", sink, "--model", str(model)]
                children.append(subprocess.Popen([sys.executable, "-m", "streamrnn", *words], text=True))
                socket.recv()  # the daemon's subscription
                sent = _publish(socket, seconds, children)
                click.echo(f"sent {sent} frames", err=True)
            finally:
                for child in reversed(children):
                    child.terminate()
                    child.wait()
    return 0
