"""JSON of others: RTNeural's layers, GuitarML's and NAM's networks, beside a slow reference."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest

from streamrnn.engine.engine import Engine
from streamrnn.foreign import json_file
from streamrnn.foreign.checking import run_standardised
from streamrnn.foreign.complete import to_model
from streamrnn.foreign.importing import measure
from streamrnn.foreign.network import ImportOptions
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.model.settings import ModelError
from streamrnn.settings.sections import Faults
from streamrnn.wire.frame import RESET

TOLD = ImportOptions(("x",), ("y",), "value", scaling="none", sample_period_s=0.0)
H = 4


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).uniform(-0.8, 0.8, shape).astype(np.float32)


def noise(count: int = 300) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((count, 1), np.float32)


def model_of(folder: Path, content: Any) -> Model:
    file = folder / "net.json"
    file.write_text(json.dumps(content))
    foreign = json_file.read(file, TOLD)
    return to_model(
        foreign, replace(TOLD, scaling=None if foreign.input_mean is not None else "none"), "f", measure
    )


def lstm(start: int = 0, inputs: int = 1) -> dict[str, np.ndarray]:
    shapes = {
        "weight_ih_l0": (4 * H, inputs),
        "weight_hh_l0": (4 * H, H),
        "bias_ih_l0": (4 * H,),
        "bias_hh_l0": (4 * H,),
    }
    return {name: values(*shape, seed=start + k) for k, (name, shape) in enumerate(shapes.items())}


def lists(tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in tensors.items()}


@pytest.mark.parametrize("skip", [0, 1])
def test_guitarml_adds_its_input_to_what_comes_out(tmp_path, skip):
    head = {"weight": values(1, H), "bias": values(1)}
    state = {f"rec.{k}": v for k, v in lstm().items()} | {f"lin.{k}": v for k, v in head.items()}
    said = {"model": "SimpleRNN", "unit_type": "LSTM", "skip": skip, "hidden_size": H, "bias_fl": True}
    model = model_of(tmp_path, {"model_data": said, "state_dict": lists(state)})
    tensors = lstm() | {f"head.{name}": array for name, array in head.items()}
    expected = naive.run("lstm", tensors, noise()) + skip * noise()
    np.testing.assert_allclose(run_standardised(model, noise()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"unit_type": "GRU"}, "not those of 'GRU'"),
        ({"skip": 2}, "2 of 1 channels"),
        ({"skip": -1}, '"skip"'),
    ],
)
def test_guitarml_that_says_what_it_is_not_is_refused(tmp_path, said, words):
    state = {f"rec.{k}": v for k, v in lstm().items()} | {"lin.weight": values(1, H), "lin.bias": values(1)}
    content = {"model_data": {"model": "SimpleRNN", "unit_type": "LSTM"} | said, "state_dict": lists(state)}
    with pytest.raises(ModelError, match=words):
        model_of(tmp_path, content)


def nam(layers: int = 2, **changes: Any) -> dict[str, Any]:
    parts = []
    for k in range(layers):
        tensors = lstm(10 * k, H if k else 1)
        parts += [
            np.concatenate([tensors["weight_ih_l0"], tensors["weight_hh_l0"]], 1),
            tensors["bias_ih_l0"],
        ]
        parts += [values(H, seed=90 + k), values(H, seed=95 + k)]
    parts += [values(1, H), values(1)]
    weights = np.concatenate([part.ravel() for part in parts]).tolist()
    config = {"input_size": 1, "hidden_size": H, "num_layers": layers}
    return {"architecture": "LSTM", "config": config, "weights": weights, "sample_rate": 48000} | changes


def slow_nam(rows: np.ndarray, layers: int = 2) -> np.ndarray:
    """The answers to one sequence, by the formulas, from the file's states; float64."""
    for k in range(layers):
        tensors = {name: array.astype(float) for name, array in lstm(10 * k, H if k else 1).items()}
        h, c = values(H, seed=90 + k).astype(float), values(H, seed=95 + k).astype(float)
        out = []
        for x in rows:
            gates = tensors["weight_ih_l0"] @ x + tensors["weight_hh_l0"] @ h + tensors["bias_ih_l0"]
            i, f, g, o = np.split(gates, 4)
            c = naive.sigmoid(f) * c + naive.sigmoid(i) * np.tanh(g)
            h = naive.sigmoid(o) * np.tanh(c)
            out.append(h)
        rows = np.array(out)
    return rows @ values(1, H).T + values(1)


def test_an_lstm_of_nam_begins_with_its_own_states(tmp_path):
    model = model_of(tmp_path, nam())
    np.testing.assert_allclose(run_standardised(model, noise()), slow_nam(noise()), rtol=0, atol=1e-5)
    write_model(model, tmp_path / "model.safetensors")
    again = read_model(tmp_path / "model.safetensors")
    assert again.fingerprint == model.fingerprint
    np.testing.assert_array_equal(again.initial[1][0], values(H, seed=91))


def test_every_sequence_begins_with_those_states(tmp_path):
    """At a reset, of a slot that another stream had, and after a model with others took over."""
    model, rows = model_of(tmp_path, nam()), noise(40)
    engine = Engine(model, 2, Faults())
    expected = slow_nam(rows)

    def feed(stream: str) -> np.ndarray:
        flags = np.where(np.arange(len(rows)) == 0, RESET, 0)
        return engine.feed([stream], np.zeros(len(rows), np.int64), rows, flags=flags).values

    np.testing.assert_allclose(feed("a"), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(feed("b"), expected, rtol=0, atol=1e-5)
    bare = replace(model, initial=())
    engine.replace(bare, engine.replacement(bare, Faults()))
    other = feed("a")
    assert np.abs(other - expected).max() > 1e-3
    engine.replace(model, engine.replacement(model, Faults()))
    np.testing.assert_allclose(feed("b"), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": [0.5] * 7}, "are not those of 2 layers of 4 units"),
        ({"config": {"input_size": 1, "hidden_size": 1 << 40, "num_layers": 1}}, '"hidden_size"'),
        ({"config": []}, '"config"'),
        ({"weights": [[1.0], [1.0, 2.0]]}, "same length"),
        ({"architecture": "ConvNet"}, "'ConvNet' is no recurrent network"),
    ],
)
def test_nam_that_does_not_fit_is_refused(tmp_path, changes, words):
    with pytest.raises(ModelError, match=words):
        model_of(tmp_path, nam(**changes))


def layer(kind: str, *weights: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"type": kind, "weights": [array.tolist() for array in weights]} | more


def test_layers_that_are_activations_or_norms(tmp_path):
    """An LSTM in Keras's layout, norms, activations, gains in decibels, and the input added."""
    tensors = lstm()
    kernels = [tensors["weight_ih_l0"].T, tensors["weight_hh_l0"].T, tensors["bias_ih_l0"]]
    norm = [values(H, seed=k) for k in range(3)] + [values(H, seed=3) ** 2 + 0.1]
    content = {
        "in_shape": [None, None, 1],
        "in_gain": 6.0,
        "out_gain": -3.0,
        "in_skip": 1,
        "layers": [
            layer("lstm", *kernels, activation=""),
            layer("batchnorm", *norm, epsilon=1e-3, activation=""),
            layer("dense", values(H, 3), values(3), activation="elu"),
            layer("prelu", np.full(3, 0.25, "f")),
            layer("dense", values(3, 1), values(1), activation=""),
            layer("activation", activation="tanh"),
        ],
    }
    x = noise() * 10 ** (6 / 20)
    tensors["bias_hh_l0"] = np.zeros(4 * H)
    y = naive.run("lstm", tensors | {"head.weight": np.eye(H), "head.bias": np.zeros(H)}, x)
    y = (y - norm[2]) / np.sqrt(norm[3] + 1e-3) * norm[0] + norm[1]
    y = y @ values(H, 3) + values(3)
    y = np.where(y > 0, y, np.expm1(y))
    y = np.where(y > 0, y, 0.25 * y)
    y = (np.tanh(y @ values(3, 1) + values(1)) + x) * 10 ** (-3 / 20)
    model = model_of(tmp_path, content)
    ours = Engine(model, 1, Faults()).feed(["s"], np.zeros(300, np.int64), noise()).values
    np.testing.assert_allclose(ours, y, rtol=0, atol=1e-5)
    content["layers"][3]["weights"] = [[0.1, 0.2, 0.3]]
    with pytest.raises(ModelError, match="a slope for each unit"):
        model_of(tmp_path, content)
