"""The model and its file: what goes in comes out, and what is wrong is refused by name."""

import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import ADDED, ARCHITECTURES, RELATIONS, load_header, save_header, save_parts, untrained

from streamrnn.errors import ConfigError, UserError
from streamrnn.model.inspect import describe_model, format_description
from streamrnn.model.model import Model, random_model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.model.parts import Channel, Dense
from streamrnn.model.settings import DEFAULTS, OPTIONAL, SETTINGS, ModelError, tensor_shapes, with_defaults


def assert_same(a: Model, b: Model) -> None:
    assert a.settings() == b.settings()
    assert a.tensors().keys() == b.tensors().keys()
    for name, array in a.tensors().items():
        np.testing.assert_array_equal(array, b.tensors()[name])


def full(**changes) -> Model:
    """A model with everything that a model can have, of 3 channels and outputs."""
    settings = {
        **ADDED,
        "reset": "before",
        "weights": "bfloat16",
        "target": "value",
        "ahead": 7,
        "errors": {"rows": 1234, "mean": [0.5, 0.0, -1.5], "std": [1, 2, 0]},
        "training": {"by": "a test", "loss": [0.5, 0.25], "seed": None, "data": {"rows": 9405}},
    }
    return untrained("gru", **settings | changes)


def refusal(path: Path) -> str:
    """The message that refuses the file at ``path``; it names the file and exits with 78."""
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert isinstance(caught.value, ConfigError)
    assert str(caught.value).startswith(f"{path}:")
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


# the model


@pytest.mark.parametrize(("cell", "activation", "layers"), ARCHITECTURES)
def test_arrays_have_pytorch_shapes_and_cannot_change(cell, activation, layers):
    model = untrained(cell, channels=3, hidden=5, layers=layers, activation=activation)
    gates = {"lstm": 4, "gru": 3, "rnn": 1, "slstm": 4}[cell]
    assert len(model.layers) == layers
    for k, layer in enumerate(model.layers):
        assert layer.weight_ih.shape == (gates * 5, 3 if k == 0 else 5)
        assert layer.weight_hh.shape == (gates * 5, 5)
        assert layer.bias_ih.shape == layer.bias_hh.shape == (gates * 5,)
    assert model.head_weight.shape == (3, 5)
    for array in model.tensors().values():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_model_does_not_share_the_arrays_it_is_made_of():
    mean = np.zeros(3, np.float32)
    model = untrained(mean=mean)
    mean[:] = 7
    assert not model.input_mean.any()


def test_dense_layers_and_a_highway_have_their_shapes():
    model = full()
    shapes = {
        "weight_ih_l0": (15, 5),  # the last of the layers before gives 5
        "weight_hh_l0": (15, 5),
        "bias_ih_l0": (15,),
        "bias_hh_l0": (15,),
        "before.0.weight": (20, 3),
        "before.0.bias": (20,),
        "before.1.weight": (5, 20),
        "before.1.bias": (5,),
        "after.0.weight": (18, 5),
        "after.0.bias": (18,),
        "after.1.weight": (3, 18),
        "after.1.bias": (3,),
        "head.weight": (3, 3),
        "head.bias": (3,),
        "highway.weight": (3, 12),
        **dict.fromkeys(("input.mean", "input.std", "output.mean", "output.std"), (3,)),
    }
    assert {name: array.shape for name, array in model.tensors().items()} == shapes
    assert tensor_shapes(model.settings()) == shapes
    assert model.highway_weight.shape == (3, 12)
    assert untrained().highway_weight.shape == (3, 0)
    assert [(dense.units, dense.activation) for dense in model.before] == [(20, "tanh"), (5, "sigmoid")]
    for array in (model.highway_weight, model.before[0].weight, model.after[1].bias):
        assert array.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize(("target", "ahead"), [("next", 1), ("value", 0)])
def test_how_far_ahead_follows_from_the_target(target, ahead):
    model = untrained(target=target)
    assert model.ahead == ahead
    assert "ahead" not in model.settings()
    assert replace(model, target="value", ahead=9).settings()["ahead"] == 9


def test_what_a_model_says_of_its_training_is_a_copy():
    training = {"loss": [1.0]}
    model = untrained(training=training)
    training["loss"].append(2.0)
    assert model.training == {"loss": [1.0]}


def test_random_weights_are_seeded_and_within_pytorchs_bounds():
    model = random_model("gru", 4, 16, seed=3)
    weights = np.concatenate([array.ravel() for array in model.tensors().values()])
    assert 0.24 < np.abs(weights).max() <= 0.25  # 1 / sqrt(16)
    assert model.fingerprint == random_model("gru", 4, 16, seed=3).fingerprint
    assert model.fingerprint != random_model("gru", 4, 16, seed=4).fingerprint


def test_random_model_without_scaling_leaves_values_as_they_are():
    model = random_model(channels=["flow", "pressure"])
    assert model.normalisation == "none"
    assert [channel.name for channel in model.channels] == ["flow", "pressure"]
    np.testing.assert_array_equal(model.input_mean, [0, 0])
    np.testing.assert_array_equal(model.output_std, [1, 1])


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        (
            {"cell": "elman"},
            '"cell": expected "lstm" or "gru" or "rnn" or "slstm" or "mixed", found \'elman\'',
        ),
        ({"activation": "mish"}, '"activation": expected activation "linear" or "tanh" or'),
        ({"layers": ()}, '"layers": expected a whole number, 1 to 256, found 0'),
        ({"hidden": 0}, '"hidden": expected a whole number, 1 to 65535, found 0'),
        ({"horizon": 65536}, '"horizon": expected a whole number, 1 to 65535, found 65536'),
        ({"sample_period_s": -1.0}, '"sample_period_s": expected seconds, or 0 for unknown, found -1.0'),
        ({"sample_period_s": float("nan")}, '"sample_period_s"'),
        ({"relation": "one-to-one"}, '"relation"'),
        ({"target": "past"}, '"target"'),
        ({"normalisation": "minmax"}, '"normalisation"'),
        ({"channels": ()}, '"channels": expected a list of one or more'),
        ({"channels": (Channel("a"), Channel(""), Channel("c"))}, '"channels"[1]: expected a printable name'),
        ({"channels": (Channel("a"), Channel("b"), Channel("a"))}, "\"channels\"[2]: 'a' is already a name"),
        ({"outputs": (Channel("c1"), Channel("c0"))}, "\"outputs\": ['c1', 'c0'] must be the first"),
        ({"hidden": 6}, "weight_ih_l0: expected shape (24, 3), found (20, 3)"),
        ({"head_bias": np.zeros(4)}, "head.bias: expected shape (3,), found (4,)"),
        ({"head_weight": np.full((3, 5), np.nan)}, "head.weight: 15 of 15 values are NaN or infinite"),
        ({"head_bias": np.array([0, 1e300, 0])}, "head.bias: 1 of 3 values"),  # too large for float32
        ({"input_std": np.array([1, 0, 1])}, "input.std: 0 for 'c1'; it must be above 0"),
        ({"output_std": np.array([1, 1, -2])}, "output.std: -2 for 'c2'"),
        ({"input_std": np.array([1, 1e-40, 1])}, "input.std: 9.99995e-41 for 'c1'"),  # 1 / std is infinite
        ({"normalisation": "none"}, 'input.mean: expected 3 times 0, as "normalisation" is "none"'),
        (
            {"before": (Dense(np.ones((4, 2)), np.zeros(4)),)},
            "before.0.weight: expected shape (4, 3), found (4, 2)",
        ),
        ({"after": (Dense(np.ones((4, 5)), np.zeros(3)),)}, "after.0.bias: expected shape (4,), found (3,)"),
        (
            {"after": (Dense(np.ones((4, 5)), np.zeros(4)),)},
            "head.weight: expected shape (3, 4), found (3, 5)",
        ),
        (
            {"after": (Dense(np.ones((4, 5)), np.zeros(4), "mish"),)},
            '"after"[0]: expected activation "linear"',
        ),
        ({"highway": 2}, "highway.weight: missing, of shape (3, 6)"),
        ({"highway_weight": np.ones((3, 3))}, 'highway.weight: not used as "highway" is 0; remove it'),
        ({"highway": False}, '"highway": expected a whole number, 0 to 1024, found False'),
        ({"spread": True}, "spread.start: missing, of shape (3,)"),
        ({"spread": 1}, '"spread": expected true or false, found 1'),
        ({"spread_bias": np.zeros(3)}, 'spread.bias: not used as "spread" is false; remove it'),
        ({"reset": "before"}, '"reset": "before" is for the cell "gru" only, not \'lstm\''),
        ({"ahead": 0}, '"ahead": expected 1 for the target "next", found 0'),
        ({"training": {"at": np.float32(1)}}, '"training": cannot be written as JSON'),
    ],
)
def test_a_wrong_model_is_refused_by_name(changes, fragment):
    with pytest.raises(ModelError) as caught:
        replace(untrained(), **changes)
    assert fragment in str(caught.value)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"spread": False}, 'spread.weight: not used as "spread" is false; remove it, or say "spread": true'),
        ({"target": "value", "ahead": 1}, '"spread": true is for forecasts of the next row'),
        ({"spread_weight": np.zeros((3, 4))}, "spread.weight: expected shape (3, 5), found (3, 4)"),
        ({"spread_shape": np.array([3, 2, 4])}, "spread.shape: 2 for 'c1'; it must be above 2"),
        ({"spread_shape": np.array([3, np.nan, 4])}, "spread.shape: 1 of 3 values are NaN or infinite"),
        ({"spread_start": np.array([1, 1, 0])}, "spread.start: 0 for 'c2'; it must be above 0"),
        ({"spread_start": np.ones(2)}, "spread.start: expected shape (3,), found (2,)"),
    ],
)
def test_a_wrong_spread_is_refused_by_name(changes, fragment):
    with pytest.raises(ModelError) as caught:
        replace(untrained(spread=True), **changes)
    assert fragment in str(caught.value)


def test_a_spread_has_its_shapes_and_is_kept(path):
    """The weights are of what the head sees, and each counts in the fingerprint."""
    model = untrained(spread=True, **ADDED)
    write_model(model, path)
    read = read_model(path)
    assert_same(read, model)
    shapes = {name: array.shape for name, array in read.tensors().items() if name.startswith("spread")}
    each = {f"spread.{part}": (3,) for part in ("bias", "shape", "start")}
    assert shapes == {"spread.weight": (3, 3)} | each
    prints = {model.fingerprint, untrained(**ADDED).fingerprint}
    for name in shapes:
        tensors = {key: array.copy() for key, array in model.tensors().items()}
        tensors[name].flat[-1] = np.nextafter(tensors[name].flat[-1], np.float32(np.inf))
        prints.add(Model.from_tensors(model.settings(), tensors).fingerprint)
    assert len(prints) == 2 + len(shapes)


def test_a_spread_is_described():
    model = untrained(spread=True)
    description = json.loads(json.dumps(describe_model(model, "m")))
    assert description["spread"] is True
    np.testing.assert_allclose(description["degrees_of_freedom"], model.spread_shape)
    np.testing.assert_allclose(description["spread_start"], model.spread_start * model.output_std, rtol=1e-6)
    plain = describe_model(untrained(), "m")
    assert description["multiply_adds"] == plain["multiply_adds"] + 3 * 5
    assert description["parameters"] == plain["parameters"] + 3 * 5 + 2 * 3
    lines = [" ".join(line.split()) for line in format_description(description).splitlines()]
    assert "spread the head says that of the next row's error, Student's t" in lines
    assert "spread of errors at first degrees of freedom" in lines
    nu, start = description["degrees_of_freedom"][0], description["spread_start"][0]
    assert f"c0 {start:.4g} {nu:.3g}" in lines
    assert "spread" not in format_description(plain)


def test_every_problem_is_named_at_once_and_a_long_list_is_cut():
    with pytest.raises(ModelError) as caught:
        replace(untrained(), horizon=0, target="x", sample_period_s=-1)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        '"target"',
        '"horizon"',
        '"sample_period_s"',
    ]
    with pytest.raises(ModelError) as caught:
        random_model(channels=["same"] * 40)
    assert str(caught.value).endswith("and 66 more")
    assert str(caught.value).count("\n") == 13


# the fingerprint


def test_fingerprint_is_the_hash_of_settings_and_tensors_in_order():
    model = Model.from_tensors(
        {
            "cell": "rnn",
            "layers": 1,
            "hidden": 1,
            "channels": [{"name": "a", "unit": "K"}],
            "outputs": [{"name": "a"}],
            "sample_period_s": 2,
            "relation": "sequence-to-sequence",
            "target": "next",
            "normalisation": "none",
        },
        {
            "weight_hh_l0": np.array([[1.0]]),
            "weight_ih_l0": np.array([[2.0]]),
            "bias_ih_l0": np.array([3.0]),
            "bias_hh_l0": np.array([4.0]),
            "head.weight": np.array([[5.0]]),
            "head.bias": np.array([6.0]),
        },
    )
    content = (
        b'{"activation": "tanh", "cell": "rnn", "channels": [{"name": "a", "unit": "K"}], "hidden": 1, '
        b'"horizon": 1, "layers": 1, "normalisation": "none", "outputs": [{"name": "a", "unit": ""}], '
        b'"relation": "sequence-to-sequence", "sample_period_s": 2.0, "target": "next"}'
        b'["bias_hh_l0", [1]]' + struct.pack("<f", 4) + b'["bias_ih_l0", [1]]' + struct.pack("<f", 3)
    )
    content += (
        b'["head.bias", [1]]' + struct.pack("<f", 6) + b'["head.weight", [1, 1]]' + struct.pack("<f", 5)
    )
    content += b'["weight_hh_l0", [1, 1]]' + struct.pack("<f", 1)
    content += b'["weight_ih_l0", [1, 1]]' + struct.pack("<f", 2)
    assert model.fingerprint == hashlib.sha256(content).hexdigest()


def test_fingerprint_does_not_depend_on_the_order_of_anything_in_the_file(path):
    model = untrained("gru", layers=2)
    write_model(model, path)
    header, body = load_header(path)
    stated = json.loads(header["__metadata__"]["model"])
    reordered: dict = {}
    moved = b""
    for name in reversed([name for name in header if name != "__metadata__"]):
        begin, end = header[name]["data_offsets"]
        reordered[name] = header[name] | {"data_offsets": [len(moved), len(moved) + end - begin]}
        moved += body[begin:end]
    reordered["__metadata__"] = {
        "model": json.dumps(dict(reversed(stated.items())), indent=2),
        "format": "streamrnn/1",
    }
    other = path.with_name("other.safetensors")
    save_header(other, reordered, moved)
    assert other.read_bytes() != path.read_bytes()
    assert read_model(other).fingerprint == read_model(path).fingerprint == model.fingerprint


@pytest.mark.parametrize("name", sorted(untrained(layers=2, **ADDED).tensors()))
def test_fingerprint_changes_with_the_last_bit_of_any_tensor(name):
    model = untrained(layers=2, **ADDED)
    tensors = {key: array.copy() for key, array in model.tensors().items()}
    tensors[name].flat[-1] = np.nextafter(tensors[name].flat[-1], np.float32(np.inf))
    assert Model.from_tensors(model.settings(), tensors).fingerprint != model.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "relu"},
        {"channels": (Channel("c0"), Channel("c1"), Channel("c2", "bar"))},
        {"outputs": (Channel("c0", "s"), Channel("c1"), Channel("c2"))},
        {"sample_period_s": 0.5},
        {"target": "value"},
        {"errors": {"rows": 9, "mean": [0, 0, 0], "std": [1, 1, 1]}},
    ],
)
def test_fingerprint_changes_with_any_setting(changes):
    model = untrained("rnn")
    assert replace(model, **changes).fingerprint != model.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"reset": "after"},
        {"weights": "float32"},
        {"before": [{"units": 20, "activation": "tanh"}, {"units": 5, "activation": "tanh"}]},
        {"highway": 0},
        {"ahead": 8},
        {"errors": None},
        {"errors": {"rows": 1234, "mean": [0.5, 0.0, -1.5], "std": [1, 2, 0.5]}},
    ],
)
def test_fingerprint_changes_with_any_optional_setting(changes):
    assert full(**changes).fingerprint != full().fingerprint


def test_fingerprint_does_not_depend_on_what_is_said_of_the_training():
    assert full(training=None).fingerprint == full(training={"by": "another"}).fingerprint


def test_what_is_the_default_is_left_out_of_a_file(path):
    """So a file from before there was a key has the fingerprint that it had."""
    model = untrained("gru")
    assert not model.settings().keys() & {*OPTIONAL, "ahead"}
    stated = save_parts(path, with_defaults(model.settings()), model.tensors())
    assert read_model(stated).fingerprint == model.fingerprint


def test_fingerprint_tells_no_scaling_from_a_scaling_that_does_nothing():
    one = random_model(channels=2, mean=np.zeros(2), std=np.ones(2))
    assert one.fingerprint != random_model(channels=2).fingerprint


# the file


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("cell", "activation", "layers"), ARCHITECTURES)
def test_round_trip(path, cell, activation, layers, scaled):
    scaling = {} if scaled else {"mean": None, "std": None}
    model = untrained(cell, layers=layers, activation=activation, sample_period_s=0.1, **scaling)
    model = replace(model, channels=(Channel("Druck \u00b5", "bar"), *model.channels[1:]), target="value")
    write_model(model, path)
    read = read_model(path)
    assert_same(read, model)
    assert read.fingerprint == model.fingerprint


def test_round_trip_of_everything(path):
    model = full()
    write_model(model, path)
    read = read_model(path)
    assert_same(read, model)
    assert read.fingerprint == model.fingerprint
    assert (read.reset, read.weights, read.highway, read.ahead) == ("before", "bfloat16", 4, 7)
    assert read.errors == {"rows": 1234, "mean": [0.5, 0, -1.5], "std": [1, 2, 0]}
    assert read.training == {"by": "a test", "loss": [0.5, 0.25], "seed": None, "data": {"rows": 9405}}


def test_the_file_is_what_the_safetensors_library_reads(path):
    model = untrained()
    write_model(model, path)
    tensors = safetensors.numpy.load_file(path)
    assert tensors.keys() == model.tensors().keys()
    for name, array in model.tensors().items():
        np.testing.assert_array_equal(tensors[name], array)
    header, body = load_header(path)
    assert header["__metadata__"]["format"] == "streamrnn/1"
    assert (path.stat().st_size - len(body)) % 8 == 0


def test_a_file_by_the_safetensors_library_with_defaults_left_out(path):
    model = untrained()
    stated = {key: value for key, value in model.settings().items() if key not in DEFAULTS}
    stated["channels"] = [{"name": channel["name"]} for channel in stated["channels"]]
    assert_same(read_model(save_parts(path, stated, model.tensors())), model)


@pytest.mark.parametrize("name", RELATIONS)
@pytest.mark.parametrize(("cell", "layers"), [("lstm", 1), ("gru", 2)])
def test_round_trip_of_every_relation(path, name, cell, layers):
    model = untrained(cell, layers=layers, **RELATIONS[name])
    write_model(model, path)
    read = read_model(path)
    assert_same(read, model)
    assert read.fingerprint == model.fingerprint
    assert (read.relation, read.horizon) == (name.split()[0], RELATIONS[name].get("horizon", 1))
    assert len(read.decoder) == (layers if "decoder" in name else 0)


def test_the_tensors_of_networks_that_are_fed_their_own_rows():
    """A curve's layers take the channels and the row before; a decoder that row, and its head is its own."""
    curve = tensor_shapes(untrained("gru", layers=2, **RELATIONS["vector-to-sequence"]).settings())
    assert (curve["weight_ih_l0"], curve["weight_ih_l1"]) == ((15, 3 + 2), (15, 5))
    assert curve["head.weight"] == (2, 5)
    model = untrained("gru", layers=2, **RELATIONS["encoder-decoder of values"])
    recurrent = {"weight_ih_l0": (15, 3), "weight_ih_l1": (15, 5)}
    for k in range(2):
        recurrent |= {f"weight_hh_l{k}": (15, 5), f"bias_ih_l{k}": (15,), f"bias_hh_l{k}": (15,)}
    decoder = recurrent | {"weight_ih_l0": (15, 2), "head.weight": (2, 5), "head.bias": (2,)}
    scaling = {"input.mean": (3,), "input.std": (3,), "output.mean": (2,), "output.std": (2,)}
    shapes = recurrent | {f"decoder.{name}": shape for name, shape in decoder.items()} | scaling
    assert {name: array.shape for name, array in model.tensors().items()} == shapes
    assert tensor_shapes(model.settings()) == shapes
    np.testing.assert_array_equal(model.tensors()["decoder.head.weight"], model.head_weight)
    np.testing.assert_array_equal(model.tensors()["decoder.bias_hh_l1"], model.decoder[1].bias_hh)
    with pytest.raises(ValueError, match="read-only"):
        model.decoder[0].weight_ih[...] = 0


@pytest.mark.parametrize("name", RELATIONS)
def test_every_tensor_of_a_relation_counts(path, name):
    """A missing one is named, and the last bit of each changes the fingerprint."""
    model = untrained(layers=2, **RELATIONS[name])
    for changed, array in model.tensors().items():
        others = {key: value for key, value in model.tensors().items() if key != changed}
        message = refusal(save_parts(path, model.settings(), others))
        assert f"{changed}: missing" in message
        moved = array.copy()
        moved.flat[-1] = np.nextafter(moved.flat[-1], np.float32(np.inf))
        other = Model.from_tensors(model.settings(), others | {changed: moved})
        assert other.fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("name", "changes", "fragment"),
    [
        ("sequence-to-vector", {"horizon": 2}, '"horizon": expected 1 for the relation "sequence-to-vector"'),
        ("sequence-to-vector", {"ahead": 1}, '"ahead": expected 0 for the relation "sequence-to-vector"'),
        ("sequence-to-vector", {"target": "next"}, '"target": expected "value" for the relation'),
        ("vector-to-sequence", {"target": "next"}, '"target": expected "value" for the relation'),
        ("vector-to-sequence", {"highway": 2}, '"highway": expected 0 for the relation "vector-to-sequence"'),
        ("vector-to-sequence", {"after": ADDED["after"]}, '"after": expected [] for the relation "vector'),
        ("encoder-decoder", {"before": ADDED["before"]}, '"before": expected [] for the relation "encoder-'),
        ("encoder-decoder", {"highway": 1}, '"highway": expected 0 for the relation "encoder-decoder"'),
        ("encoder-decoder", {"ahead": 3}, '"ahead": expected 1 for the target "next"'),
        ("encoder-decoder", {"outputs": [{"name": "c1"}]}, "\"outputs\": ['c1'] must be the first"),
        ("encoder-decoder", {"horizon": 0}, '"horizon": expected a whole number, 1 to 65535, found 0'),
        (
            "encoder-decoder",
            {"relation": "sequence-to-sequence", "horizon": 1},
            "'decoder.weight_ih_l0': a second network is not used by sequence-to-sequence; remove it, or say",
        ),
    ],
)
def test_what_a_relation_cannot_have_is_named(path, name, changes, fragment):
    model = untrained(**RELATIONS[name])
    assert fragment in refusal(save_parts(path, model.settings() | changes, model.tensors()))


def test_a_second_network_needs_every_layer():
    model = untrained(layers=2, **RELATIONS["encoder-decoder"])
    with pytest.raises(ModelError, match=re.escape("decoder.weight_ih_l1: missing, of shape (20, 5)")):
        replace(model, decoder=model.decoder[:1])
    with pytest.raises(ModelError, match="a second network is not used by sequence-to-sequence"):
        replace(untrained(), decoder=model.decoder[:1])


def test_horizons_and_relations_are_no_shape_that_another_fits():
    """A live state fits no model that writes other rows of it."""
    model = untrained(**RELATIONS["encoder-decoder"])
    assert model.shape() != replace(model, horizon=4).shape()
    assert model.shape() == untrained(seed=1, **RELATIONS["encoder-decoder"]).shape()


def test_the_same_model_gives_the_same_bytes_in_every_process(path):
    script = (
        "import sys\nfrom streamrnn.model.model import random_model\n"
        "from streamrnn.model.model_file import write_model\n"
        "write_model(random_model('gru', 3, 5, std=[1, 2, 3]), sys.argv[1])"
    )
    write_model(random_model("gru", 3, 5, std=np.array([1, 2, 3])), path)
    for seed in ("1", "2"):
        other = path.with_name(seed)
        subprocess.run(
            [sys.executable, "-c", script, str(other)], check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        assert other.read_bytes() == path.read_bytes()


def test_writing_replaces_the_file_whole_or_leaves_it(path, monkeypatch):
    write_model(untrained(seed=1), path)
    old = path.read_bytes()
    with path.open("rb") as reader:
        write_model(untrained(seed=2), path)
        assert reader.read() == old
    before = path.read_bytes()
    assert read_model(path).fingerprint == untrained(seed=2).fingerprint

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\)"):
        write_model(untrained(seed=3), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_written_file_has_the_mode_that_the_umask_leaves(path):
    before = os.umask(0o027)
    try:
        write_model(untrained(), path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_writing_to_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a regular file"):
        write_model(untrained(), tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        write_model(untrained(), tmp_path / "pipe")
    with pytest.raises(UserError, match="No such file or directory"):
        write_model(untrained(), tmp_path / "missing" / "model.safetensors")


def test_reading_what_is_no_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "missing.safetensors")
    assert "no such file" in refusal(tmp_path / "nul\0l")
    assert "not a regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


# refusals of settings and metadata


@pytest.mark.parametrize("key", sorted(untrained().settings().keys() - DEFAULTS.keys()))
def test_a_missing_setting_is_named(path, key):
    model = untrained()
    stated = {name: value for name, value in model.settings().items() if name != key}
    assert f'"{key}": missing' in refusal(save_parts(path, stated, model.tensors()))


ERRORS = {"rows": 9, "mean": [0, 0, 0], "std": [1, 1, 1]}
BANDS = {"rows": 9, "levels": [0.5, 0.9], "quantiles": [[1, 2.5]] * 3, "spread": [0.5, 1, 2]}


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"bidirectional": False}, "'bidirectional': unknown key"),
        ({"\x1b[31mred": 1}, "'\\x1b[31mred': unknown key"),
        ({"hidden": 5.0}, '"hidden": expected a whole number, 1 to 65535, found 5.0'),
        ({"hidden": True}, '"hidden": expected a whole number'),
        ({"hidden": "5"}, '"hidden": expected a whole number'),
        ({"hidden": 10**4000}, '"hidden": expected a whole number'),
        ({"layers": 10**12}, '"layers": expected a whole number, 1 to 256'),
        ({"layers": [1]}, '"layers"'),
        ({"cell": ["lstm"]}, '"cell"'),
        ({"cell": None}, '"cell"'),
        ({"sample_period_s": "1s"}, '"sample_period_s"'),
        ({"sample_period_s": True}, '"sample_period_s"'),
        ({"sample_period_s": float("inf")}, '"sample_period_s"'),
        ({"sample_period_s": 10**400}, '"sample_period_s"'),
        ({"channels": {"name": "a"}}, '"channels": expected a list'),
        ({"channels": ["a", "b", "c"]}, '"channels"[0]: expected {"name", "unit"}, found \'a\''),
        ({"channels": [{"unit": "bar"}]}, '"channels"[0]: expected {"name", "unit"}'),
        ({"channels": [{"name": "a", "scale": 2}]}, '"channels"[0]: expected {"name", "unit"}'),
        ({"channels": [{"name": 3}]}, '"channels"[0]: expected a printable name, found 3'),
        ({"channels": [{"name": "a\nb"}]}, '"channels"[0]: expected a printable name'),
        ({"channels": [{"name": "\ud800"}]}, '"channels"[0]: expected a printable name'),
        ({"outputs": [{"name": "c0", "unit": 1}]}, '"outputs"[0]: expected a printable unit, found 1'),
        ({"weights": "int8"}, '"weights": expected "float32" or "bfloat16", found \'int8\''),
        ({"reset": "never"}, '"reset": expected "after" or "before", found \'never\''),
        ({"highway": 1025}, '"highway": expected a whole number, 0 to 1024, found 1025'),
        ({"highway": None}, '"highway": expected a whole number, 0 to 1024, found None'),
        ({"ahead": 65536, "target": "value"}, '"ahead": expected a whole number, 0 to 65535, found 65536'),
        ({"ahead": -1, "target": "value"}, '"ahead": expected a whole number, 0 to 65535, found -1'),
        ({"ahead": 2}, '"ahead": expected 1 for the target "next", found 2'),
        ({"before": None}, '"before": expected a list of up to 256 {"units", "activation"}, found None'),
        ({"after": [{}] * 257}, '"after": expected a list of up to 256'),
        ({"before": [20]}, '"before"[0]: expected {"units", "activation"}, found 20'),
        ({"before": [{"units": 20}]}, '"before"[0]: expected {"units", "activation"}, found {\'units\': 20}'),
        ({"after": [{"units": 0, "activation": "tanh"}]}, '"after"[0]: expected 1 to 65535 units, found 0'),
        ({"after": [{"units": True, "activation": "tanh"}]}, '"after"[0]: expected 1 to 65535 units'),
        ({"after": [{"units": 2, "activation": ["tanh"]}]}, '"after"[0]: expected activation "linear" or'),
        ({"errors": []}, '"errors": expected {"rows", "mean", "std"} or null, found []'),
        ({"errors": {"rows": 1}}, '"errors": expected {"rows", "mean", "std"} or null'),
        ({"errors": ERRORS | {"rows": 0}}, '"errors": expected "rows" of 1 or more, found 0'),
        (
            {"errors": ERRORS | {"mean": [0, 0]}},
            '"errors": expected "mean" of 3 numbers, one for each output',
        ),
        ({"errors": ERRORS | {"mean": [0, 0, float("nan")]}}, '"errors": expected "mean" of 3 numbers'),
        ({"errors": ERRORS | {"mean": [0, 0, 10**400]}}, '"errors": expected "mean" of 3 numbers'),
        ({"errors": ERRORS | {"std": [0, 0, False]}}, '"errors": expected "std" of 3 numbers'),
        ({"errors": ERRORS | {"std": [0, 0, -1]}}, '"errors": expected "std" of 0 or more, found [0, 0, -1]'),
        ({"bands": []}, '"bands": expected {"rows", "levels", "quantiles", "spread"} or null, found []'),
        ({"bands": BANDS | {"rows": 0}}, '"bands": expected "rows" of 1 or more, found 0'),
        ({"bands": BANDS | {"levels": [0.5, 0.5]}}, '"bands": expected "levels" that rise between 0 and 1'),
        ({"bands": BANDS | {"levels": [0.5, 1]}}, '"bands": expected "levels" that rise between 0 and 1'),
        ({"bands": BANDS | {"levels": []}}, '"bands": expected "levels" that rise between 0 and 1'),
        ({"bands": BANDS | {"quantiles": [[1, 2]] * 2}}, '"bands": expected "quantiles" with rising numbers'),
        ({"bands": BANDS | {"quantiles": [[1, 2, 3]] * 3}}, '"bands": expected "quantiles" with rising'),
        ({"bands": BANDS | {"quantiles": [[2, 1]] * 3}}, '"bands": expected "quantiles" with rising'),
        ({"bands": BANDS | {"quantiles": [[0, 1]] * 3}}, '"bands": expected "quantiles" with rising'),
        ({"bands": BANDS | {"spread": [1, 1, 0]}}, '"bands": expected "spread" with a number above 0'),
        ({"bands": BANDS | {"spread": [1, 1, 10**400]}}, '"bands": expected "spread" with a number above 0'),
        ({"training": "by hand"}, "\"training\": expected a JSON object or null, found 'by hand'"),
        ({"training": {"loss": float("nan")}}, '"training": cannot be written as JSON'),
        ({"training": {"a": json.loads("[" * 32 + "]" * 32)}}, '"training": more than 32 lists and objects'),
        ({"training": {"log": "x" * 65536}}, '"training": 65,547 bytes as JSON, at most 65,536 are kept'),
    ],
)
def test_a_wrong_setting_is_named(path, changes, fragment):
    model = untrained()
    message = refusal(save_parts(path, model.settings() | changes, model.tensors()))
    assert fragment in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("metadata", "fragment"),
    [
        ({"format": "pt"}, "not a \"streamrnn/1\" model, its format is 'pt'; name a streamrnn"),
        ({"format": "streamrnn/2"}, "'streamrnn/2'"),
        ({"author": "me"}, "metadata 'author': unknown key"),
        ({"model": "{"}, 'metadata "model": not valid JSON'),
        ({"model": "[" * 100_000}, 'metadata "model": not valid JSON'),
        ({"model": "1" * 10_000}, 'metadata "model": not valid JSON'),
        ({"model": "[1]"}, 'metadata "model": expected a JSON object, found [1]'),
        ({"model": "null"}, 'metadata "model": expected a JSON object'),
        ({"model": '{"cell": "gru", "cell": "lstm"}'}, "metadata \"model\": 'cell' appears more than once"),
    ],
)
def test_wrong_metadata_is_named(path, metadata, fragment):
    model = untrained()
    assert fragment in refusal(save_parts(path, model.settings(), model.tensors(), **metadata))


def test_a_file_without_our_metadata_is_refused(path):
    safetensors.numpy.save_file(untrained().tensors(), path)
    assert "metadata has no format" in refusal(path)
    safetensors.numpy.save_file(untrained().tensors(), path, {"format": "streamrnn/1"})
    assert 'metadata "model": missing' in refusal(path)


# refusals of tensors


@pytest.mark.parametrize("name", sorted(untrained(layers=2, **ADDED).tensors()))
def test_a_tensor_missing_or_of_another_shape_is_named(path, name):
    model = untrained(layers=2, **ADDED)
    tensors = model.tensors()
    array = tensors.pop(name)
    message = refusal(save_parts(path, model.settings(), tensors))
    assert f"{name}: missing" in message
    if name.split(".")[0] in ("input", "output"):
        assert '"normalisation": "none"' in message
    wide = tuple(size + 1 for size in array.shape)
    message = refusal(save_parts(path, model.settings(), tensors | {name: np.zeros(wide, np.float32)}))
    assert f"{name}: expected shape {array.shape}, found {wide}" in message


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("weight_ih_l1", "'weight_ih_l1': a 1-layer lstm has no such tensor"),
        ("weight_ih_l0_reverse", "'weight_ih_l0_reverse': a 1-layer lstm has no such tensor"),
        ("\x1b[2J", "'\\x1b[2J': a 1-layer lstm has no such tensor"),
        ("before.0.weight", "'before.0.weight': a 1-layer lstm has no such tensor"),
        ("highway.weight", 'highway.weight: not used as "highway" is 0; remove it'),
        (
            "decoder.weight_ih_l0",
            "'decoder.weight_ih_l0': a second network is not used by sequence-to-sequence",
        ),
    ],
)
def test_a_tensor_of_no_use_is_named(path, name, fragment):
    model = untrained()
    tensors = model.tensors() | {name: np.zeros((20, 5), np.float32)}
    assert fragment in refusal(save_parts(path, model.settings(), tensors))
    assert_same(read_model(save_parts(path, model.settings(), model.tensors())), model)


def test_scaling_is_refused_where_none_is_stated(path):
    model = untrained()
    message = refusal(save_parts(path, model.settings() | {"normalisation": "none"}, model.tensors()))
    for name in ("input.mean", "input.std", "output.mean", "output.std"):
        assert f'{name}: not used as "normalisation" is "none"' in message


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_another_dtype_is_named(path, dtype):
    model = untrained()
    tensors = model.tensors()
    tensors["weight_hh_l0"] = tensors["weight_hh_l0"].astype(dtype)
    message = refusal(save_parts(path, model.settings(), tensors))
    found = {np.float64: "F64", np.float16: "F16", np.int32: "I32"}[dtype]
    assert f"weight_hh_l0: expected float32 (F32), found {found}; convert it" in message


def test_bfloat16_is_named(path):
    model = untrained("rnn", channels=1, hidden=1)
    header = {"__metadata__": {"format": "streamrnn/1", "model": json.dumps(model.settings())}}
    for k, (name, shape) in enumerate(tensor_shapes(model.settings()).items()):
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [2 * k, 2 * k + 2]}
    message = refusal(save_header(path, header, bytes(2 * (len(header) - 1))))
    assert "head.weight: expected float32 (F32), found BF16" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(path, value):
    model = untrained()
    tensors = {name: array.copy() for name, array in model.tensors().items()}
    tensors["bias_hh_l0"][3] = value
    message = refusal(save_parts(path, model.settings(), tensors))
    assert "bias_hh_l0: 1 of 20 values are NaN or infinite" in message


# files made to do harm

TENSOR = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SR",
        struct.pack("<Q", 0),
        struct.pack("<Q", 10),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 99_999_999) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 200_000) + b'{"a":' * 40_000,
        b"\x80\x04\x95pickle" * 20,
    ],
)
def test_a_file_with_no_header_to_speak_of_is_refused(path, content):
    path.write_bytes(content)
    assert "not a whole safetensors file" in refusal(path)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b'{"a":' + TENSOR + b"}", 3),  # cut short
        (b'{"a":' + TENSOR + b"}", 5),  # bytes of nobody
        (b'{"a":' + TENSOR + b',"b":' + TENSOR + b"}", 4),  # one on the other
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8),  # a hole
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', 4),
        (b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4),
        (b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', 4),
        (b'{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}', 4),
        (b'{"a":{"shape":[1],"data_offsets":[0,4]}}', 4),
        (b'{"__metadata__":{"format":1},"a":' + TENSOR + b"}", 4),
        (b'{"__metadata__":{"format":{"a":[]}},"a":' + TENSOR + b"}", 4),
        (b'{"__metadata__":["format"],"a":' + TENSOR + b"}", 4),
        (b'{"\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[9,4]}}', 4),
    ],
)
def test_a_header_that_lies_is_refused(path, header, size):
    message = refusal(save_header(path, header, bytes(size)))
    assert "not a whole safetensors file" in message
    assert "\x1b" not in message


def test_shapes_of_no_elements_are_refused_by_shape(path):
    model = untrained()
    write_model(model, path)
    header, body = load_header(path)
    end = header["weight_ih_l0"]["data_offsets"][0]
    header["weight_ih_l0"] |= {"shape": [0, 2**62, 2**62], "data_offsets": [end, end]}
    message = refusal(save_header(path, header, body[:end]))
    assert f"weight_ih_l0: expected shape (20, 3), found (0, {2**62}, {2**62})" in message


def test_repeated_names_are_refused(path):
    save_header(path, b'{"a":' + TENSOR + b',"a":' + TENSOR + b"}", bytes(4))
    assert "header: 'a' appears more than once" in refusal(path)
    save_header(path, b'{"__metadata__":{"model":"1","model":"2"},"a":' + TENSOR + b"}", bytes(4))
    assert "header: 'model' appears more than once" in refusal(path)


def test_a_field_nested_without_end_is_refused(path):
    nested = b"[" * 50_000 + b"]" * 50_000
    save_header(path, b'{"a":{"nested":' + nested + b"," + TENSOR[1:] + b"}", bytes(4))
    assert "not" in refusal(path)


def test_declared_sizes_take_no_memory(path):
    model = untrained("rnn", channels=1, hidden=1)
    save_parts(path, model.settings() | {"hidden": 65535, "layers": 256}, model.tensors())
    tracemalloc.start()
    message = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "weight_ih_l1: missing, of shape (65535, 65535)" in message
    assert peak < 4e6


# fuzz: a damaged file gives a ModelError, or a model of the same shapes; never another exception


def read_damaged(path: Path, content: bytes, shapes: dict) -> bool:
    """Whether ``content`` is a model; if it is, its tensors have ``shapes``."""
    path.write_bytes(content)
    try:
        model = read_model(path)
    except ModelError as error:
        assert str(error).startswith(f"{path}:")
        return False
    assert {name: array.shape for name, array in model.tensors().items()} == shapes
    assert all(np.isfinite(array).all() for array in model.tensors().values())
    return True


@pytest.fixture
def small(path):
    model = untrained("rnn", channels=2, hidden=1)
    write_model(model, path)
    return path.read_bytes(), tensor_shapes(model.settings())


def test_no_beginning_of_a_file_is_a_model(path, small):
    content, shapes = small
    assert not any(read_damaged(path, content[:length], shapes) for length in range(len(content)))


def test_every_byte_of_a_file_may_be_wrong(path, small):
    content, shapes = small
    rng = random.Random(7)
    accepted = 0
    for position in range(len(content)):
        for mask in (1, 0x80, rng.randrange(1, 256)):
            damaged = bytearray(content)
            damaged[position] ^= mask
            accepted += read_damaged(path, bytes(damaged), shapes)
    assert accepted > 0  # the last bits of a weight are any model's


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(key=st.sampled_from([*SETTINGS, "unknown"]), value=JSON)
def test_any_json_in_place_of_a_setting(path, key, value):
    model = untrained("rnn", channels=1, hidden=1)
    save_parts(path, model.settings() | {key: value}, model.tensors())
    read_damaged(path, path.read_bytes(), tensor_shapes(model.settings()))


@FUZZ
@given(header=JSON | st.dictionaries(st.sampled_from(["__metadata__", "weight_ih_l0"]), JSON))
def test_any_json_in_place_of_the_header(path, header):
    save_header(path, header)
    assert not read_damaged(path, path.read_bytes(), {})


@FUZZ
@given(content=st.binary(max_size=64), length=st.integers(0, 80))
def test_any_bytes(path, content, length):
    assert not read_damaged(path, struct.pack("<Q", length) + content, {})


# the description


@pytest.mark.parametrize(
    ("cell", "layers", "parameters", "multiply_adds", "state_bytes"),
    [
        # lstm: 4 gates x 5 x (3 inputs + 5 hidden) + a head of 3 x 5; and 4 x 5 x 2 + 3 biases
        ("lstm", 1, 160 + 15 + 40 + 3, 160 + 15, 40),
        ("gru", 2, 120 + 150 + 15 + 60 + 3, 120 + 150 + 15, 40),
        ("rnn", 1, 40 + 15 + 10 + 3, 40 + 15, 20),
        ("slstm", 1, 160 + 15 + 40 + 3, 160 + 15, 80),
    ],
)
def test_describe_counts(cell, layers, parameters, multiply_adds, state_bytes):
    description = describe_model(untrained(cell, 3, 5, layers=layers), "m")
    assert description["parameters"] == parameters
    assert description["multiply_adds"] == multiply_adds
    assert description["state_bytes"] == state_bytes


@pytest.mark.parametrize(
    ("name", "step", "written", "state_bytes"),
    [
        # lstm: 4 gates x 5 x ([3 channels, 2 fed back] + 5 hidden) + a head of 2 x 5, for each of 4 rows
        ("vector-to-sequence", 0, 4 * (4 * 5 * (5 + 5) + 10), 0),
        # 4 gates x 5 x (3 + 5) a step; then 3 rows of 4 gates x 5 x (1 + 5) + a head of 1 x 5
        ("encoder-decoder", 160, 3 * (4 * 5 * (1 + 5) + 5), 40),
    ],
)
def test_describe_counts_what_is_written_row_by_row(name, step, written, state_bytes):
    description = describe_model(untrained(**RELATIONS[name]), "m")
    assert description["multiply_adds"] == step
    assert description["multiply_adds_written"] == written
    assert description["state_bytes"] == state_bytes
    assert f"multiply-adds  {step} per step, {written:,} per prediction" in format_description(description)


def test_description_is_json_and_has_every_setting():
    model = replace(untrained(channels=1), channels=(Channel("flow", "l/min"),), target="value")
    description = json.loads(json.dumps(describe_model(model, Path("a/model.safetensors"))))
    assert description["file"] == "a/model.safetensors"
    assert description["fingerprint"] == model.fingerprint
    assert description.keys() >= model.settings().keys()
    assert description["channels"] == [
        {
            "name": "flow",
            "unit": "l/min",
            "mean": float(model.input_mean[0]),
            "std": float(model.input_std[0]),
        }
    ]


def test_the_table_for_people():
    model = random_model(
        "lstm", ["flow", "p"], 5, mean=np.array([12.5, 0]), std=np.array([3, 1e-7]), sample_period_s=0.5
    )
    model = replace(model, channels=(Channel("flow", "l/min"), Channel("p", "bar")))
    lines = format_description(describe_model(model, "m.safetensors")).splitlines()
    assert lines[:11] == [
        "file           m.safetensors",
        f"fingerprint    {model.fingerprint}",
        "network        lstm, 1 x 5 hidden units",
        "relation       sequence-to-sequence",
        "horizon        1",
        "target         next",
        "sample period  0.5 s",
        "normalisation  standard",
        "parameters     192",
        "multiply-adds  150 per step",
        "state          40 bytes per stream",
    ]
    assert lines[11:15] == [
        "",
        "channel  unit   mean    std",
        "flow     l/min  12.5      3",
        "p        bar       0  1e-07",
    ]
    assert lines[16].split() == ["output", "unit", "mean", "std"]


def test_the_description_of_everything():
    description = json.loads(json.dumps(describe_model(full(), "m")))
    optional = ("reset", "weights", "highway", "ahead", "before", "after")
    assert {key: description[key] for key in optional} == {
        **ADDED,
        "reset": "before",
        "weights": "bfloat16",
        "ahead": 7,
    }
    dense, recurrent, head = 20 * 3 + 5 * 20 + 18 * 5 + 3 * 18, 15 * (5 + 5), 3 * 3 + 3 * 12
    assert description["multiply_adds"] == dense + recurrent + head
    assert description["parameters"] == description["multiply_adds"] + (20 + 5 + 18 + 3) + 2 * 15 + 3
    assert description["state_bytes"] == 4 * (
        5 + 3 * 3
    )  # the hidden state, and three frames of three channels
    assert 0.0005 < description["rounding"] < 0.003
    assert description["errors"]["rows"] == 1234
    assert description["training"]["data"] == {"rows": 9405}
    assert not describe_model(untrained(), "m").keys() & {*OPTIONAL, "ahead"}


def test_the_table_of_everything():
    table = format_description(describe_model(full(), "m"))
    lines = [" ".join(line.split()) for line in table.splitlines()]
    for line in (
        "network gru, 1 x 5 hidden units",
        "reset gate before the recurrent product",
        f"recurrent weights bfloat16, rounded by {describe_model(full(), 'm')['rounding']:.2g} of them",
        "dense before 20 tanh, 5 sigmoid",
        "dense after 18 relu, 3 linear",
        "highway 4 frames",
        "ahead 7 rows",
        "error on 1,234 rows mean std",
        "c0 0.5 1",
        "by a test",
        "loss [0.5, 0.25]",
    ):
        assert line in lines
    plain = format_description(describe_model(untrained(), "m"))
    for word in ("reset", "recurrent weights", "dense", "highway", "ahead", "error", "training"):
        assert word not in plain


def test_what_is_said_of_the_training_does_nothing_to_a_terminal():
    said = {"\x1b[2J": "\x1b]0;x\x07", "long": "y" * 10_000, "\x9b2J": ["\x9b", "\ud800"]}
    table = format_description(describe_model(untrained(training=said), "m"))
    assert all(line.isprintable() and len(line) < 200 for line in table.splitlines())
    assert table.encode()
