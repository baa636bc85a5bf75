"""Rows as frames, as JSON, as msgpack, and single values in JSON, into a daemon: messages a second, in turns.

    python tools/senders.py [--seconds 3] [--pairs 3] [--peer]

The publisher is compiled and holds back where the daemon is behind, so what it sends in a second is what the
daemon takes. Forms take turns in one run, warm, since machines drift: only their ratio means something.
``--peer`` adds the loop that people write: pyzmq, json.loads, ONNX Runtime with a dict of states.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zmq

from streamrnn.compiling.jit import compiled
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model
from streamrnn.wire import libzmq
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.frame import pack_frame
from streamrnn.wire.memory import address_of

CHANNELS, HIDDEN, STREAMS = 8, 32, 100
PERIOD_NS = 10_000_000
START_NS = 1_700_000_000 * 10**9
READY_S = 120.0

SETTINGS = {
    "frame": "",
    "json": '[input]\nformat = "json"\n',
    "msgpack": '[input]\nformat = "msgpack"\n',
    "values": '[input]\nformat = "json"\ntopic = "plant/{stream}/{channel}"\n[assemble]\nperiod = "10ms"\n',
}
PEER = """
import json, sys, zmq
import numpy as np
sys.path.insert(0, sys.argv[3])
from peers import onnx_session
from streamrnn.model.model_file import read_model
model = read_model(sys.argv[4])
session, states = onnx_session(model, 1), {}
names = [channel.name for channel in model.channels]
context = zmq.Context()
source, sink = context.socket(zmq.SUB), context.socket(zmq.PUB)
source.rcvhwm = sink.sndhwm = 10_000
source.subscribe(b"")
sink.bind(sys.argv[2])
source.connect(sys.argv[1])
print("ready:", file=sys.stderr, flush=True)
mean, std = model.input_mean, model.input_std
while True:
    topic, payload = source.recv_multipart()
    said = json.loads(payload)
    x = (np.array([said[name] for name in names], np.float32) - mean) / std
    state = states.get(topic) or [np.zeros((1, 1, model.hidden), np.float32)] * 2
    given = {"x": x.reshape(1, 1, -1).astype(np.float32), "h0": state[0], "c0": state[1]}
    y, *states[topic] = session.run(None, given)
    sink.send_multipart([topic, y.tobytes()])
"""


@compiled
def publish(socket, content, part_end, stop_ns):
    """Sends messages of two parts, whose bytes stand one behind another, once or until ``stop_ns``."""
    at, base = 0, address_of(content, 0)
    sent = 0
    for message in range(part_end.size // 2):
        if message & 63 == 0 and monotonic_ns() > stop_ns:
            break
        middle, end = part_end[2 * message], part_end[2 * message + 1]
        while libzmq.send(socket, base + at, np.uint64(middle - at), libzmq.SNDMORE) < 0:
            if monotonic_ns() > stop_ns:
                return sent
        libzmq.send(socket, base + middle, np.uint64(end - middle), 0)
        at = end
        sent += 1
    return sent


def messages(form: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` messages of one form: their bytes, and where each part ends."""
    import msgpack

    rng = np.random.default_rng(0)
    parts: list[bytes] = []
    names = [f"c{channel}" for channel in range(CHANNELS)]
    rows = rng.normal(size=(1000, CHANNELS)).astype(np.float32).astype(np.float64)
    step = CHANNELS if form == "values" else 1
    for place in range(count // step):
        stream, row = place % STREAMS, rows[place % len(rows)]
        at = START_NS + place // STREAMS * PERIOD_NS
        if form == "frame":
            parts += [b"m%d" % stream, pack_frame(row, ts_ns=at)]
        elif form in ("json", "msgpack"):
            said = {"time": at / 1e9, **dict(zip(names, row.tolist(), strict=True))}
            parts += [b"m%d" % stream, json.dumps(said).encode() if form == "json" else msgpack.packb(said)]
        else:
            for name, value in zip(names, row.tolist(), strict=True):
                said = {"time": at / 1e9, "value": value}
                parts += [b"plant/m%d/%b" % (stream, name.encode()), json.dumps(said).encode()]
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([len(part) for part in parts]).astype(np.int64)


def run(
    form: str, model: Path, made: tuple[np.ndarray, np.ndarray], seconds: float, peer: bool = False
) -> float:
    """Messages a second that a daemon, or the peer's loop, takes."""
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context:
        source, sink = f"ipc://{folder}/source", f"ipc://{folder}/sink"
        if peer:
            command = ["-c", PEER, source, sink, str(Path(__file__).parent), str(model)]
        else:
            file = Path(folder, "daemon.toml")
            file.write_text(f'model = "{model}"\n{SETTINGS[form]}')
            command = ["-m", "streamrnn", "serve", "-c", str(file), "--connect", source, "--bind", sink]
            command += ["--http", ""]
        process = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "ready:" in line:
                    break
            taken = subprocess.Popen(
                [sys.executable, "-m", "streamrnn.bench.load", "sink", sink, "0.5", str(seconds)],
                stdout=subprocess.PIPE,
            )
            socket = context.socket(zmq.XPUB)
            socket.setsockopt(zmq.XPUB_NODROP, 1)
            socket.sndhwm, socket.linger, socket.sndtimeo = 10_000, 0, 200
            socket.bind(source)
            publish(socket.underlying, *made, 0)
            socket.recv()
            time.sleep(1.0)  # the sink's subscription
            began = time.monotonic()
            sent = publish(socket.underlying, *made, round((began + seconds) * 1e9))
            rate = sent / (time.monotonic() - began)
            socket.close()
            taken.kill()
            taken.wait()
            return rate
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.safetensors")
        write_model(random_model("lstm", CHANNELS, HIDDEN), model)
        counts = {"frame": 4_000_000, "json": 2_000_000, "msgpack": 2_000_000, "values": 2_000_000}
        made = {form: messages(form, round(count * options.seconds / 3)) for form, count in counts.items()}
        for form in made:
            run(form, model, made[form], 0.2)  # compiles
        found: dict[str, list[float]] = {}
        for _ in range(options.pairs):
            for form in made:
                found.setdefault(form, []).append(run(form, model, made[form], options.seconds))
            if options.peer:
                found.setdefault("peer", []).append(
                    run("json", model, made["json"], options.seconds, peer=True)
                )
    processor = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    turns = f"{options.pairs} turns of {options.seconds:g} s"
    print(f"{processor}; LSTM {CHANNELS} -> {HIDDEN}, {STREAMS} streams, {turns}")
    for form, rates in found.items():
        ratio = statistics.median(a / b for a, b in zip(rates, found["frame"], strict=True))
        each = " ".join(f"{rate:,.0f}" for rate in rates)
        print(f"{form:8} {statistics.median(rates):12,.0f} messages/s {ratio:8.3f} of frames   ({each})")


if __name__ == "__main__":
    main()
