"""Keras files: what is imported gives what Keras gives, and what cannot be run is refused; no code is run."""

import io
import json
import os
import random
import sys
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.foreign import hdf5
from streamrnn.foreign.complete import to_model
from streamrnn.foreign.importing import import_model, measure
from streamrnn.foreign.keras import archive as keras_archive
from streamrnn.foreign.keras import file as keras_file
from streamrnn.foreign.network import Foreign, ImportOptions
from streamrnn.model.activations import find_activation
from streamrnn.model.model import Model
from streamrnn.model.settings import ModelError
from streamrnn.settings.sections import Faults

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras

STEPS = 10_000
TOLD = ImportOptions(("a", "b", "c"), ("p", "q"), "value", sample_period_s=0.0)
KINDS = {
    "lstm": ("LSTM", {}),
    "gru after": ("GRU", {"reset_after": True}),
    "gru before": ("GRU", {"reset_after": False}),
    "rnn tanh": ("SimpleRNN", {}),
    "rnn relu": ("SimpleRNN", {"activation": "relu"}),
}
ZEROS = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}  # the quickest; randomised after it
Weights = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    pytest.importorskip(os.environ["KERAS_BACKEND"])
    return pytest.importorskip("keras")


@pytest.fixture
def here(monkeypatch) -> None:
    """Files are read in this process, which is quicker; only for files that are sound HDF5."""
    monkeypatch.setattr(keras_archive, "read_hdf5", hdf5.load)


def noise(count: int = STEPS) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((count, 3), np.float32)


def read(file: Path) -> Foreign:
    return keras_file.read(file, TOLD)


def adopted(foreign: Foreign) -> Model:
    scaling = "none" if foreign.input_mean is None and foreign.output_mean is None else None
    return to_model(foreign, replace(TOLD, scaling=scaling), "file", measure)


def answers(model: Model, rows: np.ndarray) -> np.ndarray:
    return Engine(model, 1, Faults()).feed(["s"], np.zeros(len(rows), np.int64), rows).values


def randomise(part: Any) -> None:
    """Weights, biases among them, that no initialiser would give."""
    rng = np.random.default_rng(0)
    for weight in part.trainable_weights:
        weight.assign(rng.uniform(-0.8, 0.8, weight.shape))


# what is imported gives what Keras gives


@pytest.mark.parametrize("kind", KINDS)
def test_each_cell_and_depth_gives_what_keras_gives(keras, here, tmp_path, kind):
    name, settings = KINDS[kind]
    make = partial(getattr(keras.layers, name), return_sequences=True, **settings, **ZEROS)
    stack = [make(size) for size in (5, 5, 5)]
    heads = [keras.layers.Dense(2) for _ in stack]
    for layer in (*stack, *heads):
        layer.build((None, None, 3 if layer is stack[0] else 5))
        randomise(layer)
    value = noise()[np.newaxis]
    for depth, head in enumerate(heads, 1):
        model = keras.Sequential([keras.layers.Input((None, 3)), *stack[:depth], head])
        for file in (tmp_path / "net.keras", tmp_path / "net.h5"):
            model.save(file)
        value = stack[depth - 1](value)
        expected = np.asarray(head(value))[0]
        foreign = read(tmp_path / "net.keras")
        assert len(foreign.layers) == depth
        assert foreign.cells[0].reset == ("before" if kind == "gru before" else "after")
        assert foreign.cells[0].activation == ("relu" if kind == "rnn relu" else "tanh")
        model = adopted(foreign)
        np.testing.assert_allclose(answers(model, noise()), expected, rtol=0, atol=1e-5)
        assert adopted(read(tmp_path / "net.h5")).fingerprint == model.fingerprint


def surrounded(keras: Any, **settings: Any) -> Any:
    """All kinds of layers in front of and behind recurrent ones of several sizes, written in three ways."""
    layers = keras.layers
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(1).normal(3, [1, 2, 0], (1, 100, 3)).astype(np.float32))
    gru = partial(layers.GRUCell, reset_after=False, **ZEROS)
    dense = partial(layers.Dense, kernel_initializer="zeros")
    return [
        normalization,
        layers.GaussianNoise(0.1),
        dense(4, activation="tanh"),
        layers.SpatialDropout1D(0.1),
        dense(6),
        layers.Activation("sigmoid"),
        layers.GRU(5, reset_after=False, return_sequences=True, dropout=0.2, seed=1, **ZEROS),
        layers.Activation("linear"),
        layers.RNN([gru(3), gru(4, use_bias=False)], return_sequences=True),
        layers.Dropout(0.5),
        layers.RNN(gru(4), **settings),
        layers.Activation("relu"),
        *([layers.TimeDistributed(dense(3, activation="relu"))] if settings else [dense(3)]),
        dense(2, activation="sigmoid", use_bias=False),
        layers.Normalization(mean=[1.0, -2.0], variance=[4.0, 9.0], invert=True),
    ]


@pytest.mark.parametrize(
    ("form", "ending"),
    [("sequential", "keras"), ("functional", "keras"), ("functional", "h5"), ("once", "h5")],
)
def test_layers_around_the_recurrent_ones(keras, tmp_path, form, ending):
    layers = surrounded(keras, **({} if form == "once" else {"return_sequences": True}))
    if form == "functional":
        value = start = keras.layers.Input((None, 3))
        for layer in layers:
            value = layer(value)
        model = keras.Model(start, value)
    else:
        model = keras.Sequential([keras.layers.Input((None, 3)), *layers])
    randomise(model)
    model.compile("adam", "mse")  # whose state is in the file, but is not of use
    file = tmp_path / f"net.{ending}"
    model.save(file)
    foreign = read(file)
    np.testing.assert_allclose(foreign.output_mean, [1, -2])
    np.testing.assert_allclose(foreign.output_std, [2, 3])
    assert foreign.input_std[2] == pytest.approx(1e-7)  # a channel that never varied
    assert any("once per sequence" in note for note in foreign.notes) == (form == "once")
    rows = noise(300) * np.float32([1, 2, 0]) + 3
    [theirs] = keras_file.witness(file, foreign).answers(rows[np.newaxis])
    ours = answers(adopted(foreign), rows)
    assert np.abs((ours[-len(theirs) :] - theirs) / foreign.output_std).max() < 1e-5
    assert (ours.std(0) > 1e-3).all()
    if form == "once":
        np.testing.assert_allclose(np.asarray(model(rows[np.newaxis]))[0], theirs[-1], rtol=1e-5)


def test_an_import_is_checked_against_keras(keras, tmp_path):
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((20, 3), batch_size=4), layers.LSTM(4, stateful=True, unroll=True), layers.Dense(2)]
    )
    model.save(tmp_path / "net.keras")
    options = replace(TOLD, scaling="none")
    imported = import_model(tmp_path / "net.keras", tmp_path / "out.safetensors", options)
    assert imported.largest_difference < 1e-5
    assert "stateful" in imported.notes[0] and "once per sequence" in imported.notes[1]


@pytest.mark.parametrize("sequences", [False, True])
def test_a_file_that_answers_fixed_windows_is_a_model_of_windows(keras, tmp_path, sequences):
    """Which it may be, too, where it answers every row of them: that must be said."""
    layers = keras.layers
    recurrent = [layers.GRU(4, return_sequences=True), layers.GRU(3, return_sequences=sequences)]
    model = keras.Sequential([layers.Input((20, 3)), *recurrent, layers.Dense(2)])
    randomise(model)
    model.save(tmp_path / "net.keras")
    told = replace(TOLD, scaling="none", window=20 if sequences else None)
    imported = import_model(tmp_path / "net.keras", tmp_path / "out.safetensors", told)
    assert imported.model.window == 20 and imported.largest_difference < 1e-5
    assert any("windows of 20 rows" in note for note in imported.notes)
    rows = noise(60)
    theirs = np.asarray(model(np.stack([rows[k : k + 20] for k in range(41)])))
    theirs = theirs[:, -1] if sequences else theirs
    np.testing.assert_allclose(answers(imported.model, rows)[19:], theirs, atol=1e-5)


def around(keras: Any) -> Any:
    """A network of windows with much between, around and in its layers."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 3)),
            layers.Masking(99.0),
            layers.Rescaling([0.5, 2.0, 1.0], offset=[0.0, 1.0, -1.0]),
            layers.LSTM(5, activation="elu", recurrent_activation="hard_sigmoid", return_sequences=True),
            layers.BatchNormalization(),
            layers.TimeDistributed(layers.Dense(4, activation=layers.LeakyReLU(negative_slope=0.3))),
            keras.Sequential([layers.Input((8, 4)), layers.GRU(3)]),
            layers.LayerNormalization(),
            layers.ReLU(max_value=1.5),
            layers.Dense(2),
            layers.Reshape((1, 2)),
        ]
    )


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_what_stands_around_layers_is_folded_or_run(keras, here, tmp_path, ending):
    model = around(keras)
    randomise(model)
    for weight in model.non_trainable_weights:
        weight.assign(np.random.default_rng(2).uniform(0.5, 1.5, weight.shape))
    model.save(tmp_path / f"net.{ending}")
    options = replace(TOLD, scaling="none")
    imported = import_model(tmp_path / f"net.{ending}", tmp_path / "out.safetensors", options)
    assert imported.largest_difference < 1e-5
    assert (imported.model.window, imported.model.hidden) == (8, 5)
    assert any("passed over" in note for note in imported.notes)
    rows = noise(57)
    theirs = np.asarray(model(np.stack([rows[k : k + 8] for k in range(50)])))
    np.testing.assert_allclose(answers(imported.model, rows)[7:], theirs[:, 0], rtol=0, atol=1e-5)


def test_a_last_reshape_gives_rows_ahead(here, tmp_path):
    layers, weights = lstm()
    layers[1]["config"]["return_sequences"] = False
    layers[2]["config"]["units"] = 6
    weights |= {"dense/vars/0": values(2, 6), "dense/vars/1": values(6)}
    foreign = read(saved(tmp_path, ([*layers, layer("Reshape", "ahead", target_shape=[-1, 2])], weights)))
    assert foreign.horizon == 3 and foreign.sizes == (3, 2)
    np.testing.assert_array_equal(foreign.head_weight, values(2, 6).T)
    refused(
        saved(tmp_path, ([*layers, layer("Reshape", "odd", target_shape=[4, 2])], weights)), "[4, 2] mixes"
    )


def test_a_graph_of_layers_is_read(keras, here, tmp_path):
    """A residual, a slice, states that come in and go out, and heads of their own."""
    layers = keras.layers
    x, h, c = layers.Input((None, 3)), layers.Input((4,)), layers.Input((4,))
    first = layers.LSTM(4, return_sequences=True, return_state=True)
    value, *states = first(x, initial_state=[h, c])
    second = layers.SimpleRNN(4, return_sequences=True)(value)
    both = layers.Average()([layers.Add()([value, second]), value * 2.0])
    heads = [
        layers.Dense(2, name="level")(both),
        layers.Concatenate(name="more")([both[:, :, 1:2], x[..., :1]]),
    ]
    model = keras.Model([x, h, c], [*heads, *states])
    randomise(model)
    model.save(tmp_path / "net.keras")
    foreign = read(tmp_path / "net.keras")
    assert foreign.names == ("level_0", "level_1", "more_0", "more_1")
    assert foreign.skips == ((1, 3),) and foreign.highway_weight is not None
    assert any("states that the file takes as inputs" in note for note in foreign.notes)
    options = replace(TOLD, outputs=None, scaling="none")
    imported = import_model(tmp_path / "net.keras", tmp_path / "out.safetensors", options)
    assert imported.largest_difference < 1e-5
    assert [output.name for output in imported.model.outputs] == ["level_0", "level_1", "more_0", "more_1"]
    rows, zeros = noise(40), np.zeros((1, 4), np.float32)
    theirs = model([rows[np.newaxis], zeros, zeros])
    expected = np.concatenate([np.asarray(head)[0] for head in theirs[:2]], 1)
    np.testing.assert_allclose(answers(imported.model, rows), expected, rtol=0, atol=1e-5)


def test_a_network_of_mixed_precision_is_run_in_float32(keras, tmp_path):
    layers = keras.layers
    mixed = partial(layers.SimpleRNN, 4, return_sequences=True, dtype="mixed_float16", **ZEROS)
    model = keras.Sequential([layers.Input((None, 3)), mixed(), layers.Dense(2, dtype="mixed_float16")])
    randomise(model)
    model.save(tmp_path / "net.keras")
    options = replace(TOLD, scaling="none")
    imported = import_model(tmp_path / "net.keras", tmp_path / "out.safetensors", options)
    assert imported.largest_difference < 1e-5
    assert "computes in 'mixed_float16', here in float32" in imported.notes[0]


@pytest.mark.parametrize(("ending", "cell"), [("keras", "GRU"), ("h5", "LSTM")])
def test_the_witness_makes_nothing_that_a_file_names(keras, tmp_path, monkeypatch, ending, cell):
    layers = keras.layers
    make = getattr(layers, cell)
    model = keras.Sequential([layers.Input((None, 3)), make(4, return_sequences=True), layers.Dense(2)])
    randomise(model)
    file = tmp_path / f"net.{ending}"
    model.save(file)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    trap = {"module": "this", "class_name": "function", "config": "s", "registered_name": "s"}
    if ending == "keras":
        with zipfile.ZipFile(file) as archive:
            config, weights = (archive.read(name) for name in ("config.json", "model.weights.h5"))
        packed(file, ("config.json", trapped(config, trap)), ("model.weights.h5", weights))
    else:
        with h5py.File(file, "r+") as h5:
            h5.attrs["model_config"] = trapped(h5.attrs["model_config"], trap).decode()
    imported = import_model(file, tmp_path / "out.safetensors", replace(TOLD, scaling="none"))
    assert imported.largest_difference < 1e-5
    assert "Keras's layers" in imported.checked
    assert "this" not in sys.modules


def trapped(config: bytes | str, trap: dict[str, Any]) -> bytes:
    """The settings of a model with ``trap`` for every object of which the answers do not depend."""
    model = json.loads(config)
    for part in model["config"]["layers"][1:]:
        part["config"] |= {"kernel_initializer": trap, "bias_regularizer": trap, "bias_constraint": trap}
        part["config"] |= {"seed": trap, "dtype": trap | {"config": {"name": "float32", "x": trap}}}
        part["build_config"] = trap
    return json.dumps(model).encode()


def test_without_keras_there_is_no_witness(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert keras_file.witness(tmp_path / "net.keras", None) is None
    with pytest.raises(UserError, match="pip install h5py"):
        read(saved(tmp_path, lstm()))


# files made by hand, in the form that Keras gives them


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name} | config}


def start(**config: Any) -> dict[str, Any]:
    return layer("InputLayer", "start", batch_shape=[None, None, 3], dtype="float32", **config)


def cell(kind: str = "LSTM", **config: Any) -> dict[str, Any]:
    own = {"LSTM": {"recurrent_activation": "sigmoid"}, "GRU": {"recurrent_activation": "sigmoid"}}
    settings = {
        "units": 2,
        "activation": "tanh",
        "use_bias": True,
        "return_sequences": True,
        "dtype": "float32",
    }
    return layer(kind, kind.lower(), **(settings | own.get(kind, {}) | config))


def dense(name: str = "dense", **config: Any) -> dict[str, Any]:
    return layer("Dense", name, **({"units": 2, "activation": "linear", "use_bias": True} | config))


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


CELL = {"cell/vars/0": values(3, 8), "cell/vars/1": values(2, 8), "cell/vars/2": values(8)}
HEAD = {"vars/0": values(2, 2), "vars/1": values(2)}


def lstm(**weights: Weights) -> tuple[list[dict[str, Any]], Weights]:
    """An LSTM and a head; ``weights`` by the place of a layer."""
    given = {f"lstm/{path}": array for path, array in CELL.items()}
    given |= {f"dense/{path}": array for path, array in HEAD.items()}
    return [start(), cell(), dense()], given


def stored(weights: Weights) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for path, array in weights.items():
            file[f"layers/{path}"] = array
    return buffer.getvalue()


def packed(file: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def saved(folder: Path, net: tuple[list[dict[str, Any]], Weights], model: Any = None, **config: Any) -> Path:
    """A .keras file of ``net``, in a Sequential model or in what ``model`` and ``config`` say."""
    layers, weights = net
    sequential = {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": layers}}
    text = json.dumps(model if model is not None else sequential).encode()
    return packed(folder / "net.keras", ("config.json", text), ("model.weights.h5", stored(weights)))


def refused(file: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        adopted(read(file))
    for word in words:
        assert word in str(caught.value)


def test_a_file_made_by_hand_is_read(here, tmp_path):
    foreign = read(saved(tmp_path, lstm()))
    np.testing.assert_array_equal(foreign.layers[0].weight_hh, CELL["cell/vars/1"].T)
    np.testing.assert_array_equal(foreign.head_weight, HEAD["vars/0"].T)


def keras_2(folder: Path, edit: Callable[[dict], None] = lambda config: None) -> Path:
    """The same network as Keras 2 wrote it."""
    file = folder / "net.h5"
    layers, weights = deepcopy(lstm())
    for part in layers:
        del part["module"]
    layers[0]["config"]["batch_input_shape"] = layers[0]["config"].pop("batch_shape")
    layers[1]["config"] |= {"time_major": False, "implementation": 2, "unit_forget_bias": True}
    config = {"class_name": "Sequential", "config": {"layers": layers}}
    edit(config)
    with h5py.File(file, "w") as h5:
        h5.attrs["model_config"] = json.dumps(config).encode()
        names = {"cell/vars/0": "kernel", "cell/vars/1": "recurrent_kernel", "cell/vars/2": "bias"}
        for path, name in names.items():
            h5[f"model_weights/lstm/lstm/lstm_cell/{name}:0"] = weights[f"lstm/{path}"]
        for path, name in {"vars/0": "kernel", "vars/1": "bias"}.items():
            h5[f"model_weights/dense/dense/{name}:0"] = weights[f"dense/{path}"]
        h5["optimizer_weights/iteration"] = 7
    return file


def functional(config: dict[str, Any]) -> None:
    config["class_name"] = "Functional"
    for before, after in zip(["", "start", "lstm"], config["config"]["layers"], strict=True):
        after["name"] = after["config"]["name"]
        after["inbound_nodes"] = [[[before, 0, 0, {}]]] if before else []
    config["config"] |= {"input_layers": [["start", 0, 0]], "output_layers": [["dense", 0, 0]]}


@pytest.mark.parametrize(
    "edit", [lambda config: None, functional, lambda c: c.update(config=c["config"]["layers"])]
)
def test_a_file_of_keras_2_is_read(here, tmp_path, edit):
    expected = adopted(read(saved(tmp_path, lstm())))
    assert adopted(read(keras_2(tmp_path, edit))).fingerprint == expected.fingerprint


@pytest.mark.parametrize(("version", "alpha"), [("2.15.0", 0.2), ("3.4.1", 1 / 6), ("", None)])
def test_a_hard_sigmoid_is_that_of_the_version(here, tmp_path, version, alpha):
    def edit(config: dict) -> None:
        config["config"]["layers"][1]["config"]["recurrent_activation"] = "hard_sigmoid"

    file = keras_2(tmp_path, edit)
    with h5py.File(file, "r+") as h5:
        h5.attrs["keras_version"] = version
    if alpha is None:
        refused(file, "hard_sigmoid", "of which version")
    else:
        said = find_activation(read(file).cells[0].recurrent_activation)
        assert (said.kind.name, said.beta) == ("hard_sigmoid", 0.5)
        assert said.alpha == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"class_name": "LeakyReLU", "config": {"alpha": 0.1}}, "leaky_relu(0.1)"),
        ({"class_name": "ReLU", "config": {"max_value": 6.0}}, "clip(0, 6)"),
        ({"class_name": "ReLU", "config": {"threshold": 0.5}}, "thresholded_relu(0.5)"),
        ({"class_name": "ELU", "config": {"alpha": 0.7}}, "elu(0.7)"),
        ({"class_name": "function", "config": "swish"}, "silu"),
        ("leaky_relu", "leaky_relu(0.2)"),
        ("log_softmax", "log_softmax"),
    ],
)
def test_an_activation_is_what_keras_calls_so(here, tmp_path, config, said):
    layers, weights = lstm()
    layers[2]["config"]["activation"] = config
    [after] = read(saved(tmp_path, (layers, weights))).after
    assert after.activation == said


def test_several_inputs_of_rows_stand_side_by_side(here, tmp_path):
    layers, weights = lstm()
    other = layer("InputLayer", "other", batch_shape=[None, None, 1], dtype="float32")
    layers[0]["config"]["batch_shape"] = [None, None, 2]
    both = layer("Concatenate", "both", axis=-1)
    model = functional_3([layers[0], both, *layers[1:]])
    model["config"]["layers"].insert(0, other | {"name": "other", "inbound_nodes": []})
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}
        for name in ("other", "start")
    ]
    model["config"]["layers"][2]["inbound_nodes"] = [{"args": [tensors], "kwargs": {}}]
    model["config"]["input_layers"] = [["start", 0, 0], ["other", 0, 0]]
    foreign = read(saved(tmp_path, (layers, weights), model))
    kernel = weights["lstm/cell/vars/0"]  # of [other, start]; the model's channels are [start, other]
    gates = foreign.layers[0].weight_ih.reshape(4, 2, 3)
    np.testing.assert_array_equal(gates.reshape(8, 3), kernel[[1, 2, 0]].T)


def test_names_that_repeat_are_numbered_by_class(here, tmp_path):
    layers, weights = lstm()
    layers[1:] = [dense("x", units=3), cell(), dense("b"), dense("a")]
    weights |= {"dense/vars/0": values(3, 3), "dense/vars/1": values(3)}
    weights |= {f"dense_1/{path}": array for path, array in HEAD.items()}
    weights |= {f"dense_2/{path}": array + 1 for path, array in HEAD.items()}
    foreign = read(saved(tmp_path, (layers, weights)))
    product = (HEAD["vars/0"].T + 1) @ HEAD["vars/0"].T  # of two linear layers
    np.testing.assert_allclose(foreign.head_weight, product, rtol=1e-6)
    np.testing.assert_array_equal(foreign.before[0].weight, values(3, 3).T)


# what cannot be run


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"go_backwards": True}, ["go_backwards True"]),
        ({"recurrent_activation": "hard_sigmoid"}, ["hard_sigmoid", "does not say of which version"]),
        ({"activation": "mish"}, ["activation 'mish'", "only linear, tanh"]),
        ({"activation": "softmax"}, ["activation 'softmax'"]),
        ({"activation": {"class_name": "function", "config": "f"}}, ["activation 'f'"]),
        ({"activation": {"class_name": "PReLU", "config": {}}}, ["activation {"]),
        ({"time_major": True}, ["time_major True"]),
        ({"units": 3}, ["units 3", "(2, 8)"]),
        ({"units": "2"}, ["units '2'"]),
        ({"tempo": 2}, ["tempo 2"]),
        ({"dtype": "float8"}, ["dtype 'float8'"]),
        (
            {"dtype": {"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}}},
            ["int8"],
        ),
    ],
)
def test_a_setting_that_cannot_be_run_is_refused(here, tmp_path, config, words):
    layers, weights = lstm()
    layers[1]["config"] |= config
    refused(saved(tmp_path, (layers, weights)), "layer 'lstm' (LSTM)", *words)


OTHER_LAYERS = {
    "bidirectional": (
        layer("Bidirectional", "both", layer=cell()),
        ["'both' (Bidirectional)", "the end of a window"],
    ),
    "convolution": (layer("Conv1D", "conv", padding="causal"), ["'conv' (Conv1D)", "several rows at once"]),
    "repeated": (layer("RepeatVector", "again", n=3), ["'again' (RepeatVector)", "encoder-decoder"]),
    "flattened": (layer("Flatten", "flat"), ["'flat' (Flatten)", "all rows of a window"]),
    "merged": (layer("Multiply", "by"), ["'by' (Multiply)", "attention"]),
    "embedding": (layer("Embedding", "words"), ["'words' (Embedding)"]),
    "lambda": (layer("Lambda", "code", function={"class_name": "__lambda__"}), ["'code' (Lambda)"]),
    "batch normalisation": (layer("BatchNormalization", "bn"), ["missing, the gamma of layer 'bn'"]),
    "cudnn": (layer("CuDNNLSTM", "fast"), ["'fast' (CuDNNLSTM)"]),
    "nested": (layer("Sequential", "inner", layers=[]), ["'inner'", '"layers": expected a list']),
    "own class": (layer("LSTM", "mine") | {"module": "my.layers"}, ["'mine' (LSTM)", "of somebody's own"]),
    "own name": (layer("LSTM", "mine") | {"registered_name": "my>LSTM"}, ["of somebody's own"]),
    "activation": (layer("Activation", "act", activation="mish"), ["'act' (Activation)", "'mish'"]),
    "dense": (
        dense("dd", activation="exponential"),
        ["layer 'dd'", "missing, the kernel"],
    ),
    "quantised": (dense("d", quantization_mode="int8"), ["'d' (Dense)", "quantization_mode 'int8'"]),
    "unwrapped cell": (layer("LSTMCell", "c"), ["'c' (LSTMCell)", "outside of RNN"]),
    "own cell": (layer("RNN", "r", cell=layer("Dense", "d")), ["'r' (Dense)", "not a cell"]),
    "wrapped": (layer("TimeDistributed", "t", layer=cell()), ["'t' (TimeDistributed)", "around LSTM"]),
    "axis": (
        layer("Normalization", "n", axis=[1], mean=[0.0], variance=[1.0]),
        ["'n' (Normalization)", "axis [1]"],
    ),
    "no numbers": (layer("Normalization", "n", axis=[-1], mean=["x"], variance=[1.0]), ["expected numbers"]),
    "negative": (layer("Normalization", "n", axis=[-1], mean=[0.0], variance=[-1.0]), ["expected finite"]),
    "too many": (layer("Normalization", "n", mean=[0.0] * 3, variance=[1.0] * 3), ["'n' (Normalization)"]),
    "no config": ({"class_name": "LSTM"}, ["expected a layer"]),
    "no layer": (7, ["expected a layer"]),
    "same name": (dense("dense"), ["called ['dense']"]),
}


@pytest.mark.parametrize("case", OTHER_LAYERS)
def test_another_layer_is_refused(here, tmp_path, case):
    other, words = OTHER_LAYERS[case]
    layers, weights = lstm()
    refused(saved(tmp_path, ([*layers, other], weights)), *words)


def test_a_layer_after_the_end_of_the_sequence_is_refused(here, tmp_path):
    layers, weights = lstm()
    layers.insert(1, cell("LSTM", return_sequences=False))
    layers[1]["config"]["name"] = "first"
    refused(
        saved(tmp_path, (layers, weights)), "layer 'first'", "return_sequences false", "'lstm' (LSTM) follows"
    )


def functional_3(layers: list[Any], **config: Any) -> dict[str, Any]:
    """A Functional model of Keras 3, each layer called on the one before it."""
    layers = deepcopy(layers)
    for before, after in zip([None, *layers], layers, strict=False):
        after["name"] = after["config"]["name"]
        history = [before["config"]["name"], 0, 0] if before else None
        tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": history}}
        after["inbound_nodes"] = [{"args": [tensor], "kwargs": {"mask": None}}] if before else []
    ends = {"input_layers": ["start", 0, 0], "output_layers": [layers[-1]["config"]["name"], 0, 0]}
    return {"class_name": "Functional", "config": {"layers": layers} | ends | config}


def test_a_functional_model_is_read_along_its_links(here, tmp_path):
    layers, weights = lstm()
    model = functional_3(layers)
    model["config"]["layers"].reverse()
    expected = adopted(read(saved(tmp_path, (layers, weights))))
    assert adopted(read(saved(tmp_path, (layers, weights), model))).fingerprint == expected.fingerprint


def functional_edits() -> dict[str, tuple[Callable[[Any], None], list[str]]]:
    def node(config: Any, k: int = 1) -> Any:
        return config["layers"][k]["inbound_nodes"][0]

    return {
        "a call": (lambda c: c.update(output_layers=["dense", 1, 0]), ["'dense' (Dense)", "call 1"]),
        "no inputs": (
            lambda c: c.update(input_layers=[["a", 0, 0]]),
            ["'start' (InputLayer)", "none of the"],
        ),
        "two outputs": (lambda c: c.update(output_layers=[["a", 0, 0], ["b", 0, 0]]), ["'a'", "no layer"]),
        "no outputs": (lambda c: c.update(output_layers=[]), ["output_layers"]),
        "an output": (
            lambda c: node(c)["args"][0]["config"].update(keras_history=["start", 0, 1]),
            ["'start': has no output 1"],
        ),
        "two tensors": (lambda c: node(c)["args"].append(node(c)["args"][0]), ["'lstm' (LSTM)", "a decoder"]),
        "training": (
            lambda c: node(c)["kwargs"].update(training=True),
            ["called with {'training': True"],
        ),
        "a circle": (
            lambda c: node(c)["args"][0]["config"].update(keras_history=["dense", 0, 0]),
            ["needs its own output"],
        ),
        "aside": (lambda c: c.update(output_layers=["lstm", 0, 0]), ["'dense' (Dense)", "beside the way"]),
        "an object": (
            lambda c: node(c)["args"][0].update(module="keras.layers", class_name="TorchModuleWrapper"),
            ["'lstm' (LSTM)", "takes"],
        ),
        "a module": (lambda c: node(c)["args"][0].update(module="this"), ["'lstm' (LSTM)", "takes"]),
        "nowhere": (lambda c: c.update(output_layers=["x", 0, 0]), ["'x': is called"]),
    }


@pytest.mark.parametrize("case", functional_edits())
def test_a_model_of_several_ways_is_refused(here, tmp_path, case):
    edit, words = functional_edits()[case]
    layers, weights = lstm()
    model = functional_3(layers)
    edit(model["config"])
    refused(saved(tmp_path, (layers, weights), model), *words)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            {"class_name": "MyModel", "config": {}},
            ["Sequential or Functional", "'MyModel'", "only in its code"],
        ),
        ({"class_name": "Sequential", "config": {}}, ['"layers"']),
        ({"class_name": "Sequential", "config": {"layers": []}}, ['"layers"']),
        ({"class_name": "Sequential", "config": {"layers": [{}] * 2000}}, ['"layers"', "1 to 1000"]),
        ([], ["Sequential or Functional"]),
        ({"class_name": "Sequential", "config": {"layers": [start()]}}, ["no recurrent layer"]),
    ],
)
def test_another_model_is_refused(here, tmp_path, model, words):
    refused(saved(tmp_path, ([], {}), model), *words)


# weights


@pytest.mark.parametrize(
    ("path", "array", "words"),
    [
        (
            "lstm/cell/vars/1",
            None,
            ["layers/lstm/cell/vars/1: missing, the recurrent_kernel of layer 'lstm'"],
        ),
        ("dense/vars/1", None, ["layers/dense/vars/1: missing, the bias of layer 'dense'"]),
        ("lstm/cell/vars/3", values(2), ["layers/lstm/cell/vars/3: no layer of the model uses it"]),
        ("lstm_1/cell/vars/0", values(2, 8), ["layers/lstm_1/cell/vars/0: no layer"]),
        ("lstm/cell/vars/0", values(3, 9), ["'lstm'", "(3, 9)"]),
        ("lstm/cell/vars/0", values(4, 8), ["'lstm' takes 4 values, 'the input' gives 3"]),
        ("lstm/cell/vars/0", values(8), ["'lstm'", "(8,)"]),
        ("lstm/cell/vars/2", values(2, 8), ["'lstm'", "(2, 8)"]),
        ("lstm/cell/vars/1", np.full((2, 8), np.nan, np.float32), ["lstm/cell/vars/1", "NaN"]),
        ("lstm/cell/vars/1", np.ones((2, 8), int), ["lstm/cell/vars/1", "floating-point"]),
        ("lstm/cell/vars/1", np.array(b"x"), ["lstm/cell/vars/1", "expected numbers"]),
        ("dense/vars/0", values(3, 2), ["'dense' takes 3 values, 'lstm' gives 2"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(here, tmp_path, path, array, words):
    layers, weights = lstm()
    weights[path] = array
    file = saved(tmp_path, (layers, {name: array for name, array in weights.items() if array is not None}))
    refused(file, *words)


def test_the_state_of_random_generators_is_passed_over(here, tmp_path):
    layers, weights = lstm()
    weights["dropout/seed_generator/vars/0"] = np.array([1, 2], np.uint32)
    read(saved(tmp_path, (layers, weights)))


def test_a_bias_that_says_another_reset_is_refused(here, tmp_path):
    weights = {
        "gru/cell/vars/0": values(3, 6),
        "gru/cell/vars/1": values(2, 6),
        "gru/cell/vars/2": values(2, 6),
    }
    refused(
        saved(tmp_path, ([start(), cell("GRU", reset_after=False)], weights)), "reset_after False", "(2, 6)"
    )
    assert (
        read(saved(tmp_path, ([start(), cell("GRU", reset_after=True)], weights))).cells[0].reset == "after"
    )
    del weights["gru/cell/vars/2"]
    for reset in (True, False):
        net = ([start(), cell("GRU", reset_after=reset, use_bias=False)], weights)
        assert read(saved(tmp_path, net)).cells[0].reset == ("after" if reset else "before")


# hostile files


def hdf5_traps(folder: Path) -> dict[str, tuple[Callable[[Any], None], list[str]]]:
    """Each with what it puts in the place of the recurrent weights of an LSTM."""
    secret = folder / "secret"
    secret.write_bytes(np.ones(16, np.float32).tobytes())
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = values(2, 8)
    place = "layers/lstm/cell/vars/1"
    layout = h5py.VirtualLayout((2, 8), np.float32)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (2, 8))

    def deep(h5: Any) -> None:
        h5["layers/" + "/".join("a" * 40)] = values(2)

    def circle(h5: Any) -> None:
        h5["layers/lstm/again"] = h5["layers"]

    return {
        "external link": (
            lambda h5: h5.update({place: h5py.ExternalLink("other.h5", "x")}),
            [place, "a link"],
        ),
        "soft link": (
            lambda h5: h5.update({place: h5py.SoftLink("/layers/lstm/cell/vars/2")}),
            [place, "a link"],
        ),
        "external storage": (
            lambda h5: h5.create_dataset(place, (2, 8), "f4", external=[(str(secret), 0, 64)]),
            [place, "in another file"],
        ),
        "virtual": (lambda h5: h5.create_virtual_dataset(place, layout), [place, "in another file"]),
        "compressed": (
            lambda h5: h5.create_dataset(place, data=values(2, 8), chunks=(2, 8), compression="gzip"),
            [place, "compressed"],
        ),
        "bomb": (lambda h5: h5.create_dataset(place, (1 << 30, 1 << 10), "f4", chunks=(1024, 1024)), [place]),
        "nothing stored": (
            lambda h5: h5.create_dataset(place, (1 << 30, 1 << 10), "f4"),
            [place, "not what is"],
        ),
        "deep": (deep, ["neither numbers nor a group"]),
        "circle": (circle, ["neither numbers nor a group"]),
        "named type": (lambda h5: h5.update({place: np.dtype("f4")}), [place, "neither numbers"]),
    }


TRAPS = ["external link", "soft link", "external storage", "virtual", "compressed", "bomb", "nothing stored"]
TRAPS += ["deep", "circle", "named type"]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_hdf5_is_refused(here, tmp_path, monkeypatch, trap):
    monkeypatch.chdir(tmp_path)
    put, words = hdf5_traps(tmp_path)[trap]
    layers, weights = lstm()
    buffer = io.BytesIO(stored(weights))
    with h5py.File(buffer, "r+") as h5:
        if trap not in ("deep", "circle"):
            del h5["layers/lstm/cell/vars/1"]
        put(h5)
    config = json.dumps({"class_name": "Sequential", "config": {"layers": layers}}).encode()
    file = packed(tmp_path / "net.keras", ("config.json", config), ("model.weights.h5", buffer.getvalue()))
    refused(file, *words)


def test_a_zip_bomb_is_refused(tmp_path):
    for name, size in (("config.json", 1 << 25), ("model.weights.h5", 1 << 23)):
        members = {"config.json": b"{}", "model.weights.h5": b""} | {name: bytes(size)}
        refused(
            packed(tmp_path / "net.keras", *members.items(), method=zipfile.ZIP_DEFLATED), name, "says that"
        )


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("config.json", b"{}")], ["model.weights.h5: not in the file"]),
        ([("model.weights.h5", b"")], ["config.json: not in the file"]),
        ([("config.json", b"{}")] * 2 + [("model.weights.h5", b"")], ["config.json: more than once"]),
        ([("config.json", b"{"), ("model.weights.h5", stored({}))], ["config.json: not valid JSON"]),
        (
            [("config.json", b"[" * 100_000), ("model.weights.h5", stored({}))],
            ["config.json: not valid JSON"],
        ),
        ([("config.json", b"\xff"), ("model.weights.h5", stored({}))], ["config.json: not valid JSON"]),
        ([("config.json", b"1" * 5000), ("model.weights.h5", stored({}))], ["config.json: not valid JSON"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_is_not_whole_is_refused(here, tmp_path, members, words):
    refused(packed(tmp_path / "net.keras", *members), *words)


def test_a_long_directory_is_not_read(tmp_path):
    names = [(f"{k:01000}", b"") for k in range(4500)]
    file = packed(tmp_path / "net.keras", ("config.json", b"{}"), ("model.weights.h5", b""), *names)
    with pytest.raises(ModelError, match="directory is longer"):
        read(file)
    with pytest.raises(ModelError, match="directory is longer"):
        import_model(file, tmp_path / "out.safetensors", TOLD)


def test_weights_alone_are_refused(here, tmp_path):
    file = tmp_path / "net.weights.h5"
    file.write_bytes(stored(lstm()[1]))
    refused(file, "model_config: missing", "weights without their layers", "model.save()")


def test_what_crashes_or_hangs_the_reader_is_refused(tmp_path, monkeypatch):
    file = keras_2(tmp_path)
    monkeypatch.setattr(hdf5, "TIME_LIMIT_S", 0.001)
    refused(file, "not readable as HDF5 within 0.001 s")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    refused(file, "not readable as HDF5 ('crashed')")


def test_damaged_zips_are_refused_or_read(here, tmp_path, monkeypatch):
    """Damage outside of the HDF5 within, which is read as if it were whole."""
    layers, weights = lstm()
    whole = stored(weights)
    monkeypatch.setattr(keras_archive, "read_hdf5", lambda content: hdf5.load(whole))
    content = saved(tmp_path, (layers, weights)).read_bytes()
    ends = [k for k in range(len(content)) if not 1200 < k < len(content) - 400]
    rng, file, refusals = random.Random(4), tmp_path / "net.keras", 0
    for k in range(300):
        damaged = bytearray(content)
        if k % 4 == 0:
            del damaged[rng.choice(ends) :]
        elif damaged:
            damaged[rng.choice(ends)] = rng.randrange(256)
        file.write_bytes(damaged or b"PK\x03\x04")
        try:
            adopted(read(file))
        except ModelError:
            refusals += 1
    assert 100 < refusals < 300


def test_damaged_hdf5_is_refused_or_read(tmp_path):
    """In the process of its own: the HDF5 library crashes and hangs over some."""
    content, file = keras_2(tmp_path).read_bytes(), tmp_path / "net.h5"
    rng, refusals = random.Random(4), 0
    for k in range(8):
        damaged = bytearray(content)
        for _ in range(1 + k):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file.write_bytes(damaged[: rng.randrange(len(damaged))] if k % 4 == 0 else damaged)
        try:
            adopted(read(file))
        except ModelError:
            refusals += 1
    assert refusals > 2
