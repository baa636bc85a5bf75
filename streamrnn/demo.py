"""Simulated machines -> daemon -> predictions, in one process tree."""

import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

import click
import numpy as np
import zmq

from streamrnn.config import Faults
from streamrnn.engine import Engine
from streamrnn.errors import UserError
from streamrnn.model.model import Channel, Model, random_model
from streamrnn.model.native import write_model
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
_HIDDEN = 48
_PEER_MS = 10_000  # how long the daemon may take to connect
_TRAINING_ROWS = 4000
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


def _hidden_states(model: Model, rows: np.ndarray) -> np.ndarray:
    """The hidden state after each row, (rows, hidden): a head that hands them out unchanged."""
    units = tuple(Channel(f"h{unit}") for unit in range(model.hidden))
    ones, zeros = np.ones(model.hidden, np.float32), np.zeros(model.hidden, np.float32)
    open_model = replace(
        model,
        head_weight=np.eye(model.hidden, dtype=np.float32),
        head_bias=zeros,
        outputs=units,
        output_mean=zeros,
        output_std=ones,
        target="value",
    )
    stream = np.zeros(len(rows), np.int64)
    return Engine(open_model, 1, Faults()).feed(["training"], stream, rows).values


def make_model() -> Model:
    """A forecaster for the pumps, made in a moment: a random LSTM whose head alone is fitted, by ridge
    regression on its hidden states (an echo state network; Jaeger 2001)."""
    pumps = Pumps(1, seed=1)
    rows = np.concatenate([pumps.step() for _ in range(_TRAINING_ROWS)])
    mean, std = rows.mean(0), rows.std(0)
    names = [channel.name for channel in CHANNELS]
    model = random_model("lstm", names, _HIDDEN, mean=mean, std=std, sample_period_s=PERIOD_S, seed=1)
    states = _hidden_states(model, rows)[200:-1].astype(np.float64)
    inputs = np.hstack([states, np.ones((len(states), 1))])
    targets = ((rows - mean) / std)[201:]
    gram = inputs.T @ inputs + 1e-3 * np.eye(_HIDDEN + 1)
    weights = np.linalg.solve(gram, inputs.T @ targets).astype(np.float32)
    return replace(
        model,
        channels=CHANNELS,
        outputs=CHANNELS,
        head_weight=weights[:-1].T.copy(),
        head_bias=weights[-1].copy(),
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
        write_model(make_model(), model)
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
