"""The step and the daemon beside what people use today: PyTorch, ONNX Runtime, River, a pyzmq loop.

    pip install onnxruntime onnx torch river      # into the environment that has streamrnn
    python tools/peers.py [--seconds 3]

Each is left out where it is not installed. All run on one thread and are warm before the clock starts;
per size, everything is measured in one go, so the ratios share the machine's mood.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamrnn.bench import daemon as chain
from streamrnn.bench.kernels import SIZES, step_time
from streamrnn.model.model import Model, random_model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.wire.frame import FRAME, PREDICTION

try:
    import onnx
    import onnxruntime
except ImportError:
    onnxruntime = None
try:
    from river.anomaly import HalfSpaceTrees
except ImportError:
    HalfSpaceTrees = None
try:
    import torch
except ImportError:
    torch = None

BATCH = 256
ROUNDS = 7


def onnx_session(model: Model, batch: int):
    """One step of a one-layer LSTM with its head in ONNX Runtime on one thread."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, hidden, layer = len(model.channels), model.hidden, model.layers[0]
    order = [0, 3, 1, 2]  # PyTorch's i f g o to ONNX's i o f c

    def gates(values: np.ndarray) -> np.ndarray:
        return values.reshape(4, hidden, -1)[order].reshape(4 * hidden, -1)

    biases = np.concatenate([gates(layer.bias_ih).ravel(), gates(layer.bias_hh).ravel()])
    weights = {
        "W": gates(layer.weight_ih)[None],
        "R": gates(layer.weight_hh)[None],
        "B": biases[None],
        "head_w": model.head_weight.T,
        "head_b": model.head_bias,
        "shape": np.array([batch, hidden], np.int64),
    }
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node(
                "LSTM", ["x", "W", "R", "B", "", "h0", "c0"], ["", "h1", "c1"], hidden_size=hidden
            ),
            helper.make_node("Reshape", ["h1", "shape"], ["top"]),
            helper.make_node("Gemm", ["top", "head_w", "head_b"], ["y"]),
        ],
        "step",
        [tensor("x", TensorProto.FLOAT, [1, batch, inputs])]
        + [tensor(name, TensorProto.FLOAT, [1, batch, hidden]) for name in ("h0", "c0")],
        [tensor("y", TensorProto.FLOAT, [batch, len(model.outputs)])]
        + [tensor(name, TensorProto.FLOAT, [1, batch, hidden]) for name in ("h1", "c1")],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])


def median_us(step: Callable[[], object], seconds: float) -> float:
    """Median time of one call over several rounds that last about ``seconds`` together."""
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds / ROUNDS:
        step()
        count += 1
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(count):
            step()
        times.append((time.perf_counter() - began) / count * 1e6)
    return statistics.median(times)


def onnx_step(model: Model, batch: int) -> Callable[[], object]:
    session = onnx_session(model, batch)
    x = np.random.default_rng(0).normal(size=(1, batch, len(model.channels))).astype(np.float32)
    state = [np.zeros((1, batch, model.hidden), np.float32)] * 2

    def step() -> None:
        _, *state[:] = session.run(None, {"x": x, "h0": state[0], "c0": state[1]})

    return step


def torch_step(model: Model) -> Callable[[], object]:
    torch.set_num_threads(1)
    cell = torch.nn.LSTMCell(len(model.channels), model.hidden)
    x = torch.randn(1, len(model.channels))
    state = [torch.zeros(1, model.hidden)] * 2

    def step() -> None:
        with torch.inference_mode():
            state[:] = cell(x, state)

    return step


def steps(seconds: float) -> None:
    print("us per step of one stream, LSTM; x = how many times ours it takes")
    print(
        f"{'in':>4}{'hidden':>8}{'ours':>9}{'torch':>9}{'x':>7}{'onnx':>9}{'x':>7}"
        f"{'many':>10}{f'onnx/{BATCH}':>10}{'x':>7}"
    )
    for inputs, hidden in SIZES:
        model = random_model("lstm", inputs, hidden)
        ours = step_time("lstm", inputs, hidden, seconds)
        row = f"{inputs:4}{hidden:8}{ours.one_us:9.3f}"
        pair = median_us(torch_step(model), seconds) if torch else np.nan
        row += f"{pair:9.2f}{pair / ours.one_us:7.1f}"
        single = median_us(onnx_step(model, 1), seconds) if onnxruntime else np.nan
        row += f"{single:9.2f}{single / ours.one_us:7.1f}"
        batched = median_us(onnx_step(model, BATCH), seconds) / BATCH if onnxruntime else np.nan
        row += f"{ours.many_us:10.3f}{batched:10.3f}{batched / ours.many_us:7.2f}"
        print(row, flush=True)


def trees(seconds: float) -> None:
    """River's half-space trees with its defaults: each row is scored, then learned from."""
    inputs, hidden = SIZES[1]
    names = [f"c{channel}" for channel in range(inputs)]
    rows = iter(np.random.default_rng(0).random((1_000_000, inputs)).tolist())
    detector = HalfSpaceTrees(seed=0)

    def row() -> None:
        values = dict(zip(names, next(rows), strict=True))
        detector.score_one(values)
        detector.learn_one(values)

    row()  # builds the trees
    theirs, ours = median_us(row, seconds), step_time("lstm", inputs, hidden, seconds).one_us
    ratio = f"{theirs / ours:.0f} times our step"
    print(f"a row of {inputs} through River's half-space trees: {theirs:.0f} us, {ratio}")


def loop(model_path: str, source: str, sink: str) -> None:
    """What people write today: pyzmq, ONNX Runtime, and a dict of states."""
    import zmq

    model = read_model(model_path)
    session = onnx_session(model, 1)
    zero = np.zeros((1, 1, model.hidden), np.float32)
    states: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    context = zmq.Context()
    frames, predictions = context.socket(zmq.SUB), context.socket(zmq.PUB)
    frames.rcvhwm = predictions.sndhwm = 10_000
    frames.subscribe(b"")
    frames.connect(source)
    predictions.bind(sink)
    print("ready:", file=sys.stderr, flush=True)
    answer = np.zeros((), PREDICTION)
    while True:
        topic, payload = frames.recv_multipart()
        header = np.frombuffer(payload, FRAME, 1)[0]
        x = np.frombuffer(payload, np.float32, offset=FRAME.itemsize).reshape(1, 1, -1)
        h, c = states.get(topic, (zero, zero))
        y, h, c = session.run(None, {"x": x, "h0": h, "c0": c})
        states[topic] = h, c
        answer["seq"], answer["ts_ns"] = header["seq"], header["ts_ns"]
        predictions.send_multipart([topic, answer.tobytes() + y.tobytes()])


def daemons(seconds: float, pairs: int = 3) -> None:
    what = f"lstm {chain.CHANNELS} -> {chain.HIDDEN}, {chain.STREAMS} streams"
    print(f"frames/s at full load, {what}, {pairs} pairs of {seconds:g} s")
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model.safetensors")
        write_model(random_model("lstm", chain.CHANNELS, chain.HIDDEN), model)
        ours = ["-m", "streamrnn", "serve", model, "--connect", "{source}", "--bind", "{sink}", "--http", ""]
        theirs = [__file__, "--loop", model, "{source}", "{sink}"]
        ratios = []
        for _ in range(pairs):
            loop_rate = chain.measure(theirs, folder, 0, seconds).per_second
            rate = chain.measure(ours, folder, 0, seconds).per_second
            ratios.append(rate / loop_rate)
            print(f"pyzmq + onnxruntime {loop_rate:10,.0f}   streamrnn {rate:12,.0f}   x {ratios[-1]:.1f}")
    print(f"median x {statistics.median(ratios):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--loop", nargs=3, metavar=("MODEL", "SOURCE", "SINK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(*options.loop)
        return
    for name, found in (("onnxruntime", onnxruntime), ("torch", torch), ("river", HalfSpaceTrees)):
        if found is None:
            print(f"{name} is not installed and left out", file=sys.stderr)
    steps(options.seconds)
    if HalfSpaceTrees:
        trees(options.seconds)
    if onnxruntime:
        daemons(options.seconds)


if __name__ == "__main__":
    main()
