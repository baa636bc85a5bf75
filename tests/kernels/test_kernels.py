"""The compiled step against a slow float64 one, against another implementation, and against itself."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import llvmlite.binding
import naive
import numpy as np
import pytest
from models import ADDED, CELLS, untrained

from streamrnn.compiling.jit import compiled
from streamrnn.engine.advance import advance, step_streams
from streamrnn.engine.engine import Answers, Engine
from streamrnn.kernels import activations
from streamrnn.kernels.affine import (
    GROUP,
    TILE_STREAMS,
    affine,
    group_of,
    pack,
    pack_bias,
    strand_by_strand,
    strands_of,
    strands_together,
)
from streamrnn.kernels.network import forward
from streamrnn.kernels.packing import make_scratch, pack_network
from streamrnn.kernels.simd import LANES, load, store
from streamrnn.kernels.tiles import tile_store
from streamrnn.kernels.windows import forward_windows
from streamrnn.model.model import Model, random_model
from streamrnn.settings.sections import Faults
from streamrnn.streams.batch import make_tile

ROOT = Path(__file__).parents[2]
RTNEURAL = Path(os.environ.get("STREAMRNN_DATA", ROOT.parent / "shared" / "data")) / "rtneural"
needs_rtneural = pytest.mark.skipif(
    not RTNEURAL.is_dir(), reason=f"RTNeural's test vectors are not in {RTNEURAL}"
)
RESET_BEFORE = ("gru", "tanh", "before")
# cell, activation, hidden, layers: weights in groups of blocks, in single blocks, and in both
MIXED = [
    ("lstm", "tanh", 7, 1),
    ("lstm", "tanh", 33, 2),
    ("gru", "tanh", 20, 1),
    ("gru", "tanh", 33, 3),
    ("rnn", "tanh", 72, 1),
    ("rnn", "relu", 20, 2),
    ("slstm", "tanh", 20, 2),
]
WINDOWS = [("lstm", "tanh", 20, 2, 5), ("lstm", "tanh", 33, 1, TILE_STREAMS + 1), ("gru", "tanh", 16, 1, 2)]
WITHOUT_HIGHWAY = {key: ADDED[key] for key in ("before", "after")}
OF_WINDOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {"layers": 2, **WITHOUT_HIGHWAY}),
    "slstm": ("slstm", {}),
    "gru": ("gru", {"layers": 2}),
    "gru, reset before": ("gru", {"reset": "before", **WITHOUT_HIGHWAY}),
    "rectifier": ("rnn", {"activation": "relu"}),
}


def network(cell: str, tensors: dict[str, Any], activation: str = "tanh") -> Model:
    """The Model of these tensors, its outputs quantities of their own."""
    hidden = np.shape(tensors["weight_hh_l0"])[1]
    settings = {
        "cell": cell,
        "activation": activation,
        "layers": sum(name.startswith("weight_hh_l") for name in tensors),
        "hidden": hidden,
        "channels": [{"name": f"x{k}"} for k in range(np.shape(tensors["weight_ih_l0"])[1])],
        "outputs": [{"name": f"y{k}"} for k in range(len(tensors["head.bias"]))],
        "sample_period_s": 0,
        "relation": "sequence-to-sequence",
        "target": "value",
        "normalisation": "standard" if "input.mean" in tensors else "none",
    }
    return Model.from_tensors(settings, tensors)


def random_tensors(cell: str, activation: str, channels: int, hidden: int, layers: int) -> dict[str, Any]:
    """PyTorch's first weights, with a head that shows every unit of the last hidden state as it is."""
    model = random_model(cell, channels, hidden, layers=layers, activation=activation, seed=hidden)
    return model.tensors() | {"head.weight": np.eye(hidden), "head.bias": np.zeros(hidden)}


def feed(model: Model, rows: np.ndarray) -> Answers:
    return Engine(model, 1, Faults()).feed(["stream"], np.zeros(len(rows), np.int64), rows)


# against another implementation


def load_vectors(name: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    x, y = (np.loadtxt(RTNEURAL / f"{name}_{side}.csv") for side in "xy")
    return json.loads((RTNEURAL / f"{name}.json").read_text()), x[:, None], y


@needs_rtneural
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_rtneural_pytorch(cell):
    state, x, y = load_vectors(f"{cell}_torch")
    tensors = {"head.weight": state["dense.weight"], "head.bias": state["dense.bias"]}
    for name, values in state.items():
        part, _, number = name.partition(".")[2].rpartition("_l")
        if name.startswith(f"{cell}."):
            tensors[f"{part}_l0"] = values
        elif name.startswith(f"{cell}2."):
            tensors[f"{part}_l{int(number) + 1}"] = values
    values = feed(network(cell, tensors), x).values[:, 0]
    assert np.abs(values - y).max() <= 1e-5


def keras_tensors(cell: str, weights: list[Any]) -> dict[str, Any]:
    """A Keras layer's weights (kernels (inputs, gates * hidden), biases) in PyTorch's layout."""
    kernel, recurrent, bias = (np.array(values) for values in weights)
    if cell == "gru":  # gates z, r, h, and a bias for each product (reset_after)
        hidden = len(recurrent)
        order = np.r_[hidden : 2 * hidden, :hidden, 2 * hidden : 3 * hidden]
        bias_ih, bias_hh = bias
    else:  # gates i, f, c, o
        order = np.arange(len(bias))
        bias_ih, bias_hh = bias, np.zeros_like(bias)
    return {
        "weight_ih_l0": kernel.T[order],
        "weight_hh_l0": recurrent.T[order],
        "bias_ih_l0": bias_ih[order],
        "bias_hh_l0": bias_hh[order],
    }


ACTIVATIONS = {"": lambda a: a} | naive.ACTIVATIONS


@needs_rtneural
@pytest.mark.parametrize("name", ["lstm", "lstm_1d", "gru", "gru_1d"])
def test_rtneural_keras(name):
    description, x, y = load_vectors(name)
    layers = description["layers"]
    kinds = [layer["type"] for layer in layers]
    recurrent = kinds.index(name.removesuffix("_1d"))
    head = recurrent + 1  # the dense layer after it; others, and activations, are computed here
    for layer in layers[:recurrent]:
        x = ACTIVATIONS[layer["activation"]](x @ layer["weights"][0] + layer["weights"][1])
    tensors = keras_tensors(kinds[recurrent], layers[recurrent]["weights"])
    weight, bias = layers[head]["weights"]
    model = network(kinds[recurrent], tensors | {"head.weight": np.transpose(weight), "head.bias": bias})
    values = ACTIVATIONS[layers[head]["activation"]](feed(model, x).values.astype(np.float64))
    for layer in layers[head + 1 :]:
        values = ACTIVATIONS[layer["activation"]](values @ layer["weights"][0] + layer["weights"][1])
    assert values.shape == (len(y), 1)
    assert np.abs(values[:, 0] - y).max() <= 1e-5


# against formulas in float64


@pytest.mark.parametrize(("layers", "channels"), [(1, 8), (2, 17), (3, 1)])
@pytest.mark.parametrize("hidden", [1, 7, 16, 20, 33, 128])
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_hidden_state_after_1000_steps(cell, activation, hidden, layers, channels):
    tensors = random_tensors(cell, activation, channels, hidden, layers)
    rows = np.random.default_rng(layers).normal(size=(1000, channels)).astype(np.float32)
    values = feed(network(cell, tensors, activation), rows).values
    assert np.abs(values - naive.run(cell, tensors, rows, activation)).max() <= 1e-5


@pytest.mark.parametrize("channels", [1, 8, 17, 40])
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_physical_units_in_and_out(cell, activation, channels):
    rng = np.random.default_rng(channels)
    mean, std = rng.normal(0, 5, channels), rng.uniform(0.1, 50, channels)
    model = random_model(cell, channels, 20, activation=activation, mean=mean, std=std)
    rows = (mean + std * rng.normal(size=(300, channels))).astype(np.float32)
    expected = naive.run(cell, model.tensors(), rows, activation)
    assert (np.abs(feed(model, rows).values - expected) / std).max() <= 2e-5


def exact(model: Model, rows: np.ndarray) -> np.ndarray:
    """What the network says of the rows of one sequence, in float64."""
    activations = {key: [dense.activation for dense in getattr(model, key)] for key in ("before", "after")}
    return naive.run(model.cell, model.tensors(), rows, model.activation, reset=model.reset, **activations)


@pytest.mark.parametrize("highway", [0, 1, 4])
@pytest.mark.parametrize("after", [[], ADDED["after"]])
@pytest.mark.parametrize("before", [[], ADDED["before"]])
@pytest.mark.parametrize(
    ("cell", "activation", "reset"), [*((*cell, "after") for cell in CELLS), RESET_BEFORE]
)
def test_every_network_alone_and_among_others(cell, activation, reset, before, after, highway):
    """Each stream of a tile, and of part of one, to the last bit as it is alone."""
    channels, layers = 1 + 3 * highway, 1 + bool(after)
    more = {"activation": activation, "reset": reset, "before": before, "after": after, "highway": highway}
    model = untrained(cell, channels, 20, layers=layers, **more)
    rng = np.random.default_rng(highway)
    count = TILE_STREAMS + 1
    rows = model.input_mean + model.input_std * rng.normal(size=(count, 40, channels))
    ids = [f"s{k}" for k in range(count)]
    together = Engine(model, count, Faults()).feed(
        ids, np.repeat(np.arange(count)[None], 40, axis=0).ravel(), rows.swapaxes(0, 1).reshape(-1, channels)
    )
    for k, values in enumerate(together.values.reshape(40, count, -1).swapaxes(0, 1)):
        wanted = exact(model, rows[k].astype(np.float32))
        assert (np.abs(values - wanted) / model.output_std).max() <= 1e-5
        np.testing.assert_array_equal(values, feed(model, rows[k]).values)


@pytest.mark.parametrize("activation", ["linear", "tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("units", [1, 16, 130])
def test_dense_layers_of_any_width(units, activation):
    layer = {"units": units, "activation": activation}
    model = random_model("rnn", 5, 7, before=[layer], after=[layer, layer])
    rows = np.random.default_rng(units).normal(0, 9, size=(50, 5)).astype(np.float32)
    wanted = exact(model, rows)
    assert np.abs(feed(model, rows).values - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize(("channels", "highway"), [(1, 2), (1, 17), (1, 40), (16, 2), (17, 3), (40, 1)])
def test_the_highway_looks_back_over_blocks_and_parts_of_them(channels, highway):
    model = random_model("rnn", channels, 3, highway=highway)
    rows = np.random.default_rng(highway).normal(size=(100, channels)).astype(np.float32)
    assert np.abs(feed(model, rows).values - exact(model, rows)).max() <= 1e-5 * highway


@compiled
def run_affine(w, at, b, bias, rows, k_count, together, z, first, stride, out, to, out_stride, streams):
    none = w.view(np.uint32)
    affine(w, at, none, -1, b, bias, rows, k_count, together, z, first, stride, out, to, out_stride, streams)


def alone(w, at, b, bias, rows, z):
    """What ``run_affine`` gives for one stream, its whole blocks as they are."""
    out = np.zeros(rows, np.float32)
    run_affine(w, at, b, bias, rows, len(z), 1, z, 0, len(z), out, 0, rows, 1)
    return out


@pytest.mark.parametrize("columns", [1, 3, 4, 18, 33, 161])
@pytest.mark.parametrize("rows", [16, 48, 64, 80, 128, 208])
def test_affine(rows, columns):
    rng = np.random.default_rng(rows + columns)
    matrix, bias = rng.normal(size=(rows, columns)).astype("f"), rng.normal(size=rows).astype("f")
    junk = np.full(32, np.nan, np.float32)  # beside what may be read
    w, b = np.concatenate([junk, pack(matrix), junk]), np.concatenate([junk, bias, junk])
    inputs = rng.normal(size=(TILE_STREAMS, columns)).astype("f")
    wanted = inputs.astype(np.float64) @ matrix.T.astype(np.float64) + bias
    bound = 1e-6 * (np.abs(inputs) @ np.abs(matrix.T) + np.abs(bias))
    for streams in range(1, TILE_STREAMS + 1):
        z = np.full((TILE_STREAMS, columns + 5), np.nan, np.float32)
        z[:streams, 2:-3] = inputs[:streams]
        out = np.full((TILE_STREAMS, rows + 40), np.inf, np.float32)
        sizes = z.shape[1], out.reshape(-1), 7, out.shape[1]
        run_affine(w, 32, b, 32, rows, columns, 1, z.reshape(-1), 2, *sizes, streams)
        result = out[:streams, 7 : 7 + rows]
        assert (np.abs(result - wanted[:streams]) <= bound[:streams]).all()
        assert np.isposinf(out[:, :7]).all()
        assert np.isposinf(out[:, 7 + rows :]).all()
        for s in range(streams):
            np.testing.assert_array_equal(result[s], alone(w, 32, b, 32, rows, inputs[s]))


@pytest.mark.parametrize("columns", [1, 3, 4, 18, 33])
@pytest.mark.parametrize("used", [1, 4, 5, 8, 9])
@pytest.mark.parametrize("rows", [16, 48, 64, 80])
def test_strands_that_share_a_vector_change_no_bit(rows, used, columns):
    rng = np.random.default_rng(rows + used + columns)
    matrix, bias = rng.normal(size=(rows, columns)).astype("f"), rng.normal(size=rows).astype("f")
    matrix[rows - LANES + used :] = bias[rows - LANES + used :] = 0
    inputs = rng.normal(size=(TILE_STREAMS, columns)).astype("f")
    together = strands_together(rows, used)
    assert together == (1 if rows == 64 or used > 8 else 2 if used > 4 else 4)
    biases = pack_bias(bias, together)
    for streams in (1, 2, 3, 5, 11, TILE_STREAMS):
        out = np.full((TILE_STREAMS, rows), np.nan, np.float32)
        z, outs = inputs.reshape(-1), out.reshape(-1)
        w = pack(matrix, together)
        run_affine(w, 0, biases, 0, rows, columns, together, z, 0, columns, outs, 0, rows, streams)
        for s in range(streams):
            np.testing.assert_array_equal(out[s], alone(pack(matrix), 0, bias, 0, rows, inputs[s]))


# of AVX-512, and of AVX2 and 64-bit Arm
@pytest.mark.parametrize(("blocks", "streams"), [(4, 6), (4, 4), (4, 2), (1, 6), (1, 4), (2, 2), (GROUP, 1)])
def test_a_tile_of_any_shape_gives_the_same_bits(blocks, streams):
    group = group_of(blocks, streams)

    @compiled(cache=False)
    def run(w, b, k, end, z, stride, out, out_stride):
        group(w, 0, b, 0, k, end, z, 0, stride, out, 0, out_stride)

    rng = np.random.default_rng(blocks)
    for columns in (1, 7, 40):
        w, b, z = (rng.normal(size=size).astype("f") for size in (64 * columns, 64, (streams, columns)))
        out = np.zeros((streams, 64), np.float32)
        for k in range(0, columns, 13):  # in parts
            run(w, b, k, min(k + 13, columns), z.reshape(-1), columns, out.reshape(-1), 64)
        for s in range(streams):
            np.testing.assert_array_equal(out[s], alone(w, 0, b, 0, 64, z[s]))


@pytest.mark.parametrize("strands", [strands_of(1, 6), strand_by_strand])
def test_strands_of_several_streams_give_the_same_bits(strands):
    @compiled(cache=False)
    def run(w, b, k_count, z, stride, out):
        tile_store(strands(w, 0, b, 0, k_count, z, 0, stride), out, 0, LANES)

    rng = np.random.default_rng(0)
    for columns in (1, 4, 7, 41):
        w, b, z = (rng.normal(size=size).astype("f") for size in (16 * columns, 16, (6, columns)))
        out = np.zeros((6, LANES), np.float32)
        run(w, b, columns, z.reshape(-1), columns, out.reshape(-1))
        for s in range(6):
            np.testing.assert_array_equal(out[s], alone(w, 0, b, 0, LANES, z[s]))


@compiled
def run_tanh(x, y):
    for unit in range(0, x.size, LANES):
        store(y, unit, activations.tanh(load(x, unit)))


@compiled
def run_sigmoid(x, y):
    for unit in range(0, x.size, LANES):
        store(y, unit, activations.sigmoid(load(x, unit)))


@compiled
def run_exp(x, y):
    for unit in range(0, x.size, LANES):
        store(y, unit, activations.exp(load(x, unit)))


@compiled
def run_log_sigmoid(x, y):
    for unit in range(0, x.size, LANES):
        store(y, unit, activations.log_sigmoid(load(x, unit)))


def over(function: Any, x: np.ndarray) -> np.ndarray:
    padded = np.zeros(-(-x.size // LANES) * LANES, np.float32)
    padded[: x.size] = x
    y = np.empty_like(padded)
    function(padded, y)
    return y[: x.size]


EXTREMES = np.array([0.0, 1e-45, 1e-40, 1.2e-38, 7.9, 7.91, 9.0, 20.0, 88.0, 89.0, 1e30, 3.4e38, np.inf], "f")


def test_tanh_and_sigmoid():
    grid = np.linspace(-20, 20, 400_001).astype(np.float32)
    x = np.concatenate([grid, grid / 1000, EXTREMES, -EXTREMES])
    wide = x.astype(np.float64)
    tanh, sigmoid = over(run_tanh, x), over(run_sigmoid, x)
    assert np.abs(tanh - np.tanh(wide)).max() <= 3e-7
    with np.errstate(over="ignore"):
        assert np.abs(sigmoid - naive.sigmoid(wide)).max() <= 2e-7
    assert np.abs(tanh).max() <= 1
    assert 0 <= sigmoid.min() <= sigmoid.max() <= 1


def test_exp_and_log_sigmoid():
    grid = np.linspace(-100, 100, 400_001).astype(np.float32)
    x = np.concatenate([grid, grid / 1000, EXTREMES, -EXTREMES])
    below = np.minimum(x, 0)
    exp, log_sigmoid = over(run_exp, below), over(run_log_sigmoid, x)
    expected = np.exp(np.maximum(below, -87).astype(np.float64))
    assert np.abs(exp / expected - 1).max() <= 1e-7
    assert exp.max() == 1 and (exp[below == 0] == 1).all()  # or what should stay for ever would fade
    np.testing.assert_allclose(log_sigmoid, -np.logaddexp(0, -x.astype(float)), rtol=3e-7, atol=1e-37)
    assert log_sigmoid.max() <= 0


def test_tanh_is_odd_to_the_sign_of_zero():
    x = np.concatenate([np.linspace(0, 10, 10_001).astype(np.float32), EXTREMES])
    np.testing.assert_array_equal(over(run_tanh, -x).view(np.uint32), (-over(run_tanh, x)).view(np.uint32))
    assert not np.signbit(over(run_tanh, x)).any()


def test_nan_stays_nan():
    """Or a step gone wrong would look like one that went well."""
    x = np.array([np.nan, -np.nan], np.float32)
    assert np.isnan(over(run_tanh, x)).all()
    assert np.isnan(over(run_sigmoid, x)).all()
    assert np.isnan(over(run_exp, x)).all()
    assert np.isnan(over(run_log_sigmoid, x)).all()


# against itself


@compiled
def run_forward(net, scratch, tile, state, streams):
    if net.window > 0:
        nothing = state.size - net.states * net.apart
        forward_windows(net, scratch, tile, state, nothing, streams)
    else:
        forward(net, scratch, tile, state, streams, 0, net.row_products)


class Lanes:
    """Streams and their states, each a pair of which ``forward`` reads one and writes the other."""

    def __init__(self, model: Model, streams: int):
        self.net, self.scratch = pack_network(model), make_scratch(pack_network(model))
        self.tile = make_tile()
        words = self.net.states * self.net.apart
        self.state = np.zeros((streams + 1, 2, words), np.float32)  # the last is of nobody
        self.steps = np.zeros(streams, np.int64)  # the state of stream s is state[s, steps[s] & 1]

    def step(self, streams: list[int], rows: np.ndarray) -> np.ndarray:
        """One step of these streams, in these lanes; what stands in idle ones must not matter."""
        scratch, words = self.scratch, self.state.shape[2]
        scratch.z[:] = scratch.gates[:] = np.nan
        for lane, (stream, row) in enumerate(zip(streams, rows, strict=True)):
            old = self.steps[stream] & 1
            scratch.z[lane * self.net.z_stride :][: len(row)] = row
            self.tile.source[lane] = (2 * stream + old) * words
            self.tile.target[lane] = (2 * stream + 1 - old) * words
            self.steps[stream] += 1
        run_forward(self.net, scratch, self.tile, self.state.reshape(-1), len(streams))
        tile = scratch.gates.reshape(TILE_STREAMS, self.net.gate_stride)
        return tile[: len(streams), : self.net.outputs].copy()


@pytest.mark.parametrize(
    ("cell", "activation", "hidden", "layers", "window"), [*((*kind, 0) for kind in MIXED), *WINDOWS]
)
def test_any_batching_equals_none(cell, activation, hidden, layers, window):
    model = random_model(cell, 5, hidden, layers=layers, activation=activation, window=window)
    streams, steps = TILE_STREAMS + 3, 40
    rng = np.random.default_rng(hidden)
    rows = rng.normal(size=(streams, steps, 5)).astype(np.float32)
    alone, together = Lanes(model, streams), Lanes(model, streams)
    expected = [[alone.step([s], rows[s, t : t + 1])[0] for t in range(steps)] for s in range(streams)]
    while waiting := [s for s in range(streams) if together.steps[s] < steps]:
        chosen = rng.permutation(waiting)[: rng.integers(1, TILE_STREAMS + 1)].tolist()
        at = [int(together.steps[s]) for s in chosen]
        outputs = together.step(chosen, rows[chosen, at])
        for stream, t, output in zip(chosen, at, outputs, strict=True):
            np.testing.assert_array_equal(output, expected[stream][t])
    np.testing.assert_array_equal(together.state, alone.state)
    assert np.isfinite(alone.state).all()


@pytest.mark.parametrize("window", [2, 7, TILE_STREAMS, 2 * TILE_STREAMS + 1])
@pytest.mark.parametrize("kind", [*OF_WINDOWS.values()], ids=OF_WINDOWS)
def test_a_window_is_the_last_rows_and_zeros_before_them(kind, window):
    cell, more = kind
    model = random_model(cell, 3, 20, window=window, **more)
    rows = np.random.default_rng(window).normal(size=(window + 20, 3)).astype(np.float32)
    lanes = Lanes(model, 1)
    found = [lanes.step([0], row[None])[0] for row in rows]
    dense = {key: [layer.activation for layer in getattr(model, key)] for key in ("before", "after")}
    for at, row in enumerate(found):
        seen = rows[max(at + 1 - window, 0) : at + 1]
        expected = naive.run(cell, model.tensors(), seen, model.activation, reset=model.reset, **dense)[-1]
        np.testing.assert_allclose(row, expected, atol=1e-5)


def digest() -> str:
    """SHA-256 of what some networks say of seven interleaved streams."""
    digest = hashlib.sha256()
    stream = np.arange(7 * 160) * 5 % 7
    kinds = [
        (cell, hidden, {"layers": layers, "activation": activation})
        for cell, activation, hidden, layers in MIXED
    ]
    kinds += [("gru", 33, {"reset": "before", **ADDED}), ("lstm", 80, {"weights": "bfloat16"})]
    for cell, hidden, more in kinds:
        model = random_model(cell, 9, hidden, mean=np.ones(9), std=np.full(9, 3), **more)
        rows = np.random.default_rng(hidden).normal(1, 3, size=(len(stream), 9)).astype(np.float32)
        answers = Engine(model, 7, Faults()).feed([f"s{k}" for k in range(7)], stream, rows)
        assert np.isfinite(answers.values).all()
        for said in (answers.values, answers.residual, answers.score):
            digest.update(np.nan_to_num(said).tobytes())
    digest.update(feed(model, rows).values.tobytes())  # of one stream, whose weights come in words
    return digest.hexdigest()


@pytest.mark.parametrize("cpu", ["haswell", "generic"])
def test_the_same_bits_on_another_instruction_set(cpu, request):
    """AVX2 alone, and a processor without a fused multiply-add."""
    if cpu == "generic" and not request.config.getoption("--long"):
        pytest.skip("compiles everything once more: with --long")
    features = llvmlite.binding.get_host_cpu_features()
    if cpu == "haswell" and not features.get("avx512f"):
        pytest.skip("this processor has no more than AVX2, or not even that")
    path = os.pathsep.join([*map(str, Path(__file__).parents[:2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "PYTHONPATH": path}
    command = [sys.executable, "-c", "import test_kernels; print(test_kernels.digest())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()


# as compiled


@pytest.fixture(scope="module")
def native() -> Any:
    """What ``advance`` does, compiled here, without a wrapper for Python; what is kept tells nothing."""
    core = Engine(random_model(), 1, Faults()).core

    @compiled(cache=False, no_cpython_wrapper=True)
    def function(core, count):
        advance(core, count)
        step_streams(core, False, count)  # which it calls by address

    function.prepare(core, 0)
    return function


def test_a_row_allocates_nothing_and_never_calls_python(native):
    (code,) = native.inspect_llvm().values()
    called = set(re.findall(r"\b(?:call|invoke)\b[^@\n]*@\"?([\w.$]+)", code))
    assert "llvm.fma.v16f32" in called
    forbidden = re.compile(r"NRT_|_?Py|numba_|malloc|calloc|realloc|free")
    assert not [name for name in called if forbidden.match(name)]


def test_nothing_of_a_named_tuple_is_in_memory(native):
    """What it is handed on for is gone, and what is read of it in registers, once all is inlined."""
    (code,) = native.inspect_llvm().values()
    # two words are what clock_gettime fills in, where a row is turned away; one and an address what is said
    # and raised by what is called by its address
    found = Counter(re.findall(r"alloca ([^,\n]*)", code))
    assert found.pop("[2 x i64]", 0) >= 1
    assert found in ({"i64": 1, "ptr": 1}, {"i64": 1, "i8*": 1})


def test_multiply_adds_are_fused_on_vector_registers(native):
    (code,) = native.inspect_asm().values()
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64") and llvmlite.binding.get_host_cpu_features().get("fma"):
        fused = r"vfmadd\d+ps\s.*%[yz]mm"
    elif machine in ("aarch64", "arm64"):
        fused = r"fmla\s+v"
    else:
        pytest.skip(f"{machine} has no fused multiply-add that this test knows")
    assert len(re.findall(fused, code)) > 100
    assert "fmaf" not in code
