"""Networks of other libraries: what is imported gives what they give, and what cannot be run is refused."""

import json
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import naive
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from models import load_header, save_header, untrained

from streamrnn.cli import main
from streamrnn.errors import UserError
from streamrnn.foreign import checking, importing, json_file, rtneural, torch_file
from streamrnn.foreign.checking import run_standardised
from streamrnn.foreign.complete import to_model
from streamrnn.foreign.importing import find_library, import_model, measure
from streamrnn.foreign.lowering import lower_stages
from streamrnn.foreign.network import Foreign, ImportOptions, OptionsError, Stage, Witness
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import ModelError

GOLDEN = Path(__file__).parents[1] / "golden" / "torch"
CASES = sorted(path.stem for path in GOLDEN.glob("*.safetensors") if path.stem != "outputs")
STEPS, EVERY = 10_000, 50  # of tools/golden.py
DATA = Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data"))
RTNEURAL = DATA / "rtneural"
with_rtneural = pytest.mark.skipif(not RTNEURAL.is_dir(), reason=f"{RTNEURAL} is missing")

ONE = ImportOptions(("x",), ("y",), "value", scaling="none", sample_period_s=0.0)
THREE = replace(ONE, channels=("a", "b", "c"), outputs=("p", "q"))
# what the state dicts of tools/golden.py do not say
UNSAID = {
    "relu": ImportOptions(activation="relu"),
    "surrounded": ImportOptions(dense=("relu", "sigmoid", "linear")),
}


def adopted(foreign: Foreign, options: ImportOptions):
    return to_model(foreign, options, "file", importing.measure)


def noise(count: int = STEPS) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((count, 3), np.float32)


def slow(model: Model, rows: np.ndarray) -> np.ndarray:
    """What ``model``, one without scaling, gives for each row: float64, by the formulas."""
    functions = {
        "linear": lambda a: a,
        "tanh": np.tanh,
        "relu": lambda a: np.maximum(a, 0),
        "sigmoid": naive.sigmoid,
    }

    def pass_through(layers: tuple[Dense, ...], values: np.ndarray) -> np.ndarray:
        for layer in layers:
            values = functions[layer.activation](values @ layer.weight.astype(float).T + layer.bias)
        return values

    recurrent = {name: tensor for name, tensor in model.tensors().items() if "_l" in name}
    recurrent |= {"head.weight": np.eye(model.hidden), "head.bias": np.zeros(model.hidden)}
    hidden = naive.run(model.cell, recurrent, pass_through(model.before, rows), model.activation)
    return pass_through((*model.after, Dense(model.head_weight, model.head_bias)), hidden)


def small(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """The state dict of an nn.LSTM of 2 units over 3 channels and an nn.Linear; None leaves one out."""
    rng = np.random.default_rng(0)
    shapes = {
        "lstm.weight_ih_l0": (8, 3),
        "lstm.weight_hh_l0": (8, 2),
        "lstm.bias_ih_l0": (8,),
        "lstm.bias_hh_l0": (8,),
        "fc.weight": (2, 2),
        "fc.bias": (2,),
    }
    tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()} | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def saved(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    file = path / "state.safetensors"
    safetensors.numpy.save_file(tensors, file)
    return file


def refused(file: Path, *words: str, options: ImportOptions = THREE) -> str:
    """The words of the refusal, of which ``words`` are some; nothing was written."""
    output = file.with_name("out.safetensors")
    with pytest.raises(ModelError) as caught:
        import_model(file, output, options)
    assert not output.exists()
    text = str(caught.value)
    assert text.startswith(str(file))
    for word in words:
        assert word in text
    return text


# PyTorch


@pytest.mark.parametrize("case", CASES)
def test_a_state_dict_gives_what_pytorch_gave(case):
    foreign = torch_file.read(GOLDEN / f"{case}.safetensors", UNSAID.get(case, THREE))
    expected = safetensors.numpy.load_file(GOLDEN / "outputs.safetensors")[case]
    ours = run_standardised(adopted(foreign, THREE), noise())[::EVERY]
    assert ours.shape == expected.shape == (STEPS // EVERY, 2)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_state_dict_gives_what_pytorch_gives(case):
    pytest.importorskip("torch")
    path = GOLDEN / f"{case}.safetensors"
    foreign = torch_file.read(path, UNSAID.get(case, THREE))
    witness = torch_file.witness(path, foreign)
    ours = run_standardised(adopted(foreign, THREE), noise())
    np.testing.assert_allclose(ours, witness.answers(noise()[np.newaxis])[0], rtol=0, atol=1e-5)


def test_without_a_head_the_hidden_units_are_the_outputs(tmp_path):
    file = saved(tmp_path, small(**{"fc.weight": None, "fc.bias": None}))
    model = adopted(torch_file.read(file, THREE), THREE)
    np.testing.assert_array_equal(model.head_weight, np.eye(2))
    np.testing.assert_array_equal(model.head_bias, np.zeros(2))


@pytest.mark.parametrize("dtype", ["F64", "F16", "BF16"])
def test_other_floats_become_float32(tmp_path, dtype):
    tensors = {name: np.round(tensor * 4) / 4 for name, tensor in small().items()}  # exact in each of them
    file = tmp_path / "state.safetensors"
    if dtype == "BF16":
        header, body, offset = {}, b"", 0
        for name, tensor in tensors.items():
            data = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
            header[name] = {
                "dtype": dtype,
                "shape": tensor.shape,
                "data_offsets": [offset, offset + len(data)],
            }
            body, offset = body + data, offset + len(data)
        save_header(file, header, body)
    else:
        kind = {"F64": np.float64, "F16": np.float16}[dtype]
        safetensors.numpy.save_file({name: tensor.astype(kind) for name, tensor in tensors.items()}, file)
    found = torch_file.read_tensors(file)
    for name, tensor in tensors.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lstm.weight_hr_l0": np.ones((1, 2), "f")}, ["lstm.weight_hr_l0", "proj_size"]),
        ({"lstm.weight_ih_l0_reverse": np.ones((8, 3), "f")}, ["weight_ih_l0_reverse", "bidirectional"]),
        (
            {"loss.pos_weight": np.ones(2, "f")},
            ["loss.pos_weight", "cannot be run", "`--ignore loss.pos_weight`"],
        ),
        ({"norm.weight": np.ones(2, "f"), "norm.bias": np.ones(3, "f")}, ["'norm'", "(3,)", "do not fit"]),
        ({"bn.running_mean": np.ones(2, "f"), "bn.running_var": -np.ones(2, "f")}, ["'bn'", "below 0"]),
        ({"conv.weight": np.ones((2, 2, 3), "f")}, ["conv.weight", "(2, 2, 3)"]),
        ({"embedding.weight": np.ones((9, 2), "f")}, ["embedding.weight", "embedding"]),
        ({"step": np.array(3)}, ["'step'", "I64", "`--ignore step`"]),
        (
            {"fc.weight_g": np.ones(2, "f"), "fc.weight_v": np.zeros((2, 2), "f")},
            ["fc.weight_g", "direction"],
        ),
        ({"mean": np.ones(3, "f"), "std": np.zeros(3, "f")}, ["'std'", "above 0"]),
        ({"fc.weight": np.ones((2, 5), "f")}, ["'lstm' 3 to 2", "'fc' 5 to 2", "no way"]),
        ({"lstm.weight_hh_l0": None}, ["lstm.weight_hh_l0", "missing"]),
        ({"lstm.bias_hh_l0": None}, ["lstm.bias_hh_l0", "missing"]),
        ({"lstm.weight_hh_l0": np.ones((8, 3), "f")}, ["lstm.weight_hh_l0", "(8, 3)"]),
        ({"lstm.weight_ih_l0": np.ones((6, 3), "f")}, ["lstm", "weight_ih", "(8, 3)", "(6, 3)"]),
        ({"lstm.weight_ih_l0": np.ones(8, "f")}, ["lstm", "weight_ih", "(8,)"]),
        ({"lstm.weight_hh_l0": np.ones((4, 0), "f")}, ["lstm", "(4, 0)"]),
        ({"lstm.weight_ih_l0": np.ones((8, 0), "f")}, ["lstm", "takes no values"]),
        ({"lstm.weight_ih_l2": np.ones((8, 2), "f")}, ["layers are missing", "lstm.weight_ih_l2"]),
        ({"fc.weight": None}, ["fc.weight", "missing"]),
        ({"fc.bias": np.full(2, np.nan, "f")}, ["fc.bias", "2 of 2", "NaN"]),
        ({"fc.bias": np.full(2, 1e300)}, ["fc.bias", "too large for float32"]),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(tmp_path, changes, words):
    refused(saved(tmp_path, small(**changes)), *words)


def test_modules_in_an_order_that_nothing_tells_are_refused(tmp_path):
    more = {
        f"{name}.weight_{part}_l0": np.ones((8, 2), "f")
        for name in ("left", "right")
        for part in ("ih", "hh")
    }
    refused(saved(tmp_path, small(**more)), "several ways", "'left' 2 to 2", "'right' 2 to 2")
    # the same modules with numbers
    renamed = {name.replace("left", "lstm2").replace("right", "lstm3"): array for name, array in more.items()}
    file = saved(tmp_path, small(**renamed))
    assert len(torch_file.read(file, THREE).layers) == 3


def test_a_lone_linear_layer_may_come_first(tmp_path):
    file = saved(tmp_path, small(**{"lstm.weight_ih_l0": np.ones((8, 2), "f")}))
    two = replace(THREE, channels=("a", "b"))
    refused(file, "'lstm' 2 to 2", "'fc' 2 to 2", "several ways", options=two)
    renamed = small(**{"lstm.weight_ih_l0": np.ones((8, 2), "f")})
    numbered = {
        name.replace("lstm", "net.0").replace("fc", "net.1"): array for name, array in renamed.items()
    }
    assert not torch_file.read(saved(tmp_path, numbered), two).before


def test_a_linear_layer_may_be_called_embedding(tmp_path):
    tensors = {name.replace("fc", "embedding"): array for name, array in small().items()}
    assert torch_file.read(saved(tmp_path, tensors), THREE).sizes == (3, 2)


def test_linear_layers_need_their_activations(tmp_path):
    file = saved(tmp_path, small(**{"out.weight": np.ones((1, 2), "f"), "fc.weight": np.ones((2, 2), "f")}))
    text = refused(file, "2 linear layers ('fc', 'out')", "--dense tanh,linear")
    assert "several ways" not in text
    refused(file, "--dense: 1 activations", options=replace(THREE, dense=("tanh",)))
    foreign = torch_file.read(file, replace(THREE, dense=("tanh", "linear")))
    assert [dense.activation for dense in foreign.after] == ["tanh"]
    others = torch_file.read(file, replace(THREE, dense=("leaky_relu", "silu")))
    assert [dense.activation for dense in others.after] == ["leaky_relu", "silu"]
    bounded = torch_file.read(file, replace(THREE, dense=("tanh", "sigmoid")))
    assert [dense.activation for dense in bounded.after] == ["tanh", "sigmoid"]
    np.testing.assert_array_equal(bounded.head_weight, [[1]])


def test_a_pickle_is_not_opened(tmp_path):
    touched = tmp_path / "touched"
    program = b"cos\nsystem\n(S'touch " + os.fsencode(touched) + b"'\ntR."
    file = tmp_path / "module.pt"
    file.write_bytes(b"\x80\x02" + program)
    refused(file, "safetensors.torch.save_file")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("module/data.pkl", program)
    refused(file, "safetensors.torch.save_file")
    assert not touched.exists()


# RTNeural


@with_rtneural
@pytest.mark.parametrize("name", ["lstm_torch", "gru_torch", "lstm", "lstm_1d", "gru", "gru_1d"])
def test_rtneural_networks_give_what_rtneural_gave(tmp_path, name):
    imported = import_model(RTNEURAL / f"{name}.json", tmp_path / "model.safetensors", ONE)
    rows, expected = (np.loadtxt(RTNEURAL / f"{name}_{side}.csv", ndmin=2).T.reshape(-1, 1) for side in "xy")
    model = read_model(tmp_path / "model.safetensors")
    assert model.fingerprint == imported.model.fingerprint
    np.testing.assert_allclose(slow(model, rows), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run_standardised(model, rows.astype("f")), expected, rtol=0, atol=1e-5)


@with_rtneural
def test_sizes_that_the_weights_do_not_have_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"layers\[0\] lstm.*16 units.*20"):
        import_model(RTNEURAL / "bad_lstm.json", tmp_path / "model.safetensors", ONE)


def layer_list(**changes: object) -> dict:
    """RTNeural's JSON of a GRU of 2 units over one channel with a dense layer, of Keras's layout."""
    gru = {
        "type": "gru",
        "activation": "tanh",
        "shape": [None, None, 2],
        "weights": [[[0.1] * 6], [[0.2] * 6, [0.3] * 6], [[0.4] * 6, [0.5] * 6]],
    }
    dense = {"type": "dense", "activation": "", "shape": [None, None, 1], "weights": [[[0.6], [0.7]], [0.8]]}
    return {"in_shape": [None, None, 1], "layers": [gru | changes, dense]}


def as_json(folder: Path, content: object) -> Path:
    file = folder / "network.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "conv1d"}, ["layers[0]", "'conv1d'"]),
        ({"type": None}, ["layers[0]", "None"]),
        ({"type": ["gru"]}, ["layers[0]", "['gru']"]),
        ({"activation": "relu"}, ["layers[0] gru", "'relu'"]),
        ({"shape": [None, None, 3]}, ["layers[0] gru", "3 units", "those of 2"]),
        ({"weights": []}, ["layers[0] gru", "3 arrays"]),
        (
            {"weights": [[[0.1] * 6], [[0.2] * 6, [0.3] * 5], [0.4]]},
            ["layers[0] gru weights[1]", "same length"],
        ),
        ({"weights": [[[0.1] * 6], [[0.2] * 6] * 3, [0.4] * 6]}, ["layers[0] gru", "(3, 6)", "found"]),
        ({"weights": [[[0.1] * 6], "[[1]]", {"a": 1}]}, ["weights[1]", "weights[2]"]),
        (
            {"weights": [[[1e999] * 6], [[0.2] * 6] * 2, [0.4] * 6]},
            ["weights[0]", "6 of 6", "NaN or infinite"],
        ),
        ({"weights": [[[1e99] * 6], [[0.2] * 6] * 2, [0.4] * 6]}, ["weights[0]", "too large"]),
        ({"weights": [[[10**400] * 6], [[0.2] * 6] * 2, [0.4] * 6]}, ["weights[0]"]),
    ],
)
def test_a_layer_that_cannot_be_run_is_refused_by_name(tmp_path, changes, words):
    refused(as_json(tmp_path, layer_list(**changes)), *words, options=ONE)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"layers": 3}, "layers"),
        ({"layers": []}, "no recurrent layer"),
        ({"layers": layer_list()["layers"][1:]}, "no recurrent layer"),
        (
            {"layers": layer_list()["layers"][:1] * 2},
            "'layers[1] gru' takes 1 values, 'layers[0] gru' gives 2",
        ),
        (layer_list() | {"in_shape": [None, None, 2]}, "in_shape"),
        (layer_list() | {"in_skip": 2}, "in_skip"),
        (layer_list() | {"in_gain": "loud"}, "decibels"),
        ({"class_name": "Sequential", "config": {"layers": []}}, "holds no weights"),
        ({"modelTopology": {}, "weightsManifest": []}, "TensorFlow.js"),
        ({"architecture": "WaveNet", "config": {}, "weights": []}, "'WaveNet' is no recurrent network"),
        ({"model_data": {"model": "GatedConvNet"}, "state_dict": {}}, "GatedConvNet"),
        ({"name": "x", "a": [1.0]}, "'name': no tensors of a state dict"),
        ({"a": []}, "'a'"),
        ({"lstm.weight_ih_l0": [[1, 2], [3]]}, "lstm.weight_ih_l0"),
        ("{", "JSON"),
        ("{}", "layers"),
        ('{"layers": [], "layers": []}', "more than once"),
        ('{"a":' * 100_000, "JSON"),
        ('{"layers":' + "[" * 100_000, "JSON"),
        ('{"a": ' + "9" * 5000 + "}", "JSON"),
    ],
)
def test_json_that_is_no_network_is_refused(tmp_path, content, word):
    refused(as_json(tmp_path, content), word, options=ONE)


def test_a_gru_with_one_bias_has_its_reset_gate_before_the_product():
    biases = {"after": np.ones((2, 6), "f"), "before": np.ones(6, "f")}
    for reset, bias in biases.items():
        weights = [np.ones((1, 6)), np.ones((2, 6)), bias]
        content = layer_list(weights=[weight.tolist() for weight in weights])
        assert rtneural.read_layer_list(content).cells[0].reset == reset


def test_what_a_layer_list_says_beside_the_layers(tmp_path):
    file = as_json(tmp_path, layer_list() | {"samplerate": 48000, "author": "me"})
    imported = import_model(file, tmp_path / "model.safetensors", replace(ONE, sample_period_s=None))
    assert imported.model.sample_period_s == 1 / 48000
    assert imported.notes == ("not used: 'author'",)
    refused(as_json(tmp_path, layer_list()), "--dense", options=replace(ONE, dense=("tanh", "linear")))


# every format: sizes, options, scaling


def recurrent(inputs: int, hidden: int, cell: str, seed: int) -> Stage:
    gates, rng = {"lstm": 4, "gru": 3, "rnn": 1}[cell], np.random.default_rng(seed)
    rows = gates * hidden
    arrays = (rng.standard_normal(shape) for shape in ((rows, inputs), (rows, hidden), rows, rows))
    return Stage(f"{cell}{seed}", Layer(*arrays), cell)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_layers_of_several_sizes_run_as_if_each_had_its_own(cell):
    sizes = (3, 4, 7, 2)
    stages = [recurrent(*pair, cell, k) for k, pair in enumerate(pairwise(sizes))]
    foreign = lower_stages("Any", stages)
    assert "4" in foreign.notes[0] and "7 units" in foreign.notes[0]
    model = adopted(foreign, THREE)
    assert model.hidden == 7
    expected = rows = noise(50)
    for stage in stages:
        tensors = {f"{part}_l0": getattr(stage.part, part) for part in Layer.__slots__}
        tensors |= {"head.weight": np.eye(stage.sizes[1]), "head.bias": np.zeros(stage.sizes[1])}
        expected = naive.run(cell, tensors, expected)
    np.testing.assert_allclose(slow(model, rows), expected, rtol=0, atol=1e-7)


def test_layers_of_several_kinds_with_dense_ones_between():
    dense = Stage("middle", Dense(np.eye(4) * 2, np.ones(4), "relu"))
    foreign = lower_stages("Any", [recurrent(3, 4, "lstm", 0), dense, recurrent(4, 4, "gru", 1)])
    assert [cell.name for cell in foreign.cells] == ["lstm", "gru"]
    [[between]] = foreign.between
    assert between.activation == "relu"
    np.testing.assert_array_equal(between.weight, np.eye(4) * 2)
    linear = lower_stages(
        "Any", [recurrent(3, 4, "lstm", 0), dense._replace(part=Dense(np.eye(4), np.ones(4)))]
    )
    assert not linear.after and not linear.between
    np.testing.assert_array_equal(linear.head_bias, np.ones(4))


def test_every_missing_option_is_named_at_once(tmp_path):
    file = saved(tmp_path, small(**{"fc.weight": np.ones((3, 2), "f"), "fc.bias": None}))
    with pytest.raises(OptionsError) as caught:
        import_model(file, tmp_path / "out.safetensors", ImportOptions())
    text = str(caught.value)
    for option in ("--channels", "--target", "--sample-period", "--scaling", "--mean"):
        assert option in text
    assert caught.value.exit_code == 2
    assert "--outputs" not in text  # three values in, three out: with --target next they are the channels
    assert "--outputs" in refused(file, options=replace(THREE, target="value", outputs=None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": ("a",)}, ["--channels: 1 names", "takes 3"]),
        ({"outputs": ("a", "b", "c")}, ["--outputs: 3 names", "gives 2"]),
        ({"target": "next", "ahead": 2}, ["--ahead"]),
        ({"target": "next", "outputs": ("b", "c")}, ["must be the first of the channels"]),
        ({"scaling": None, "mean": (1.0,)}, ["--mean and --std go together"]),
        ({"scaling": None, "mean": (1.0,), "std": (1.0,)}, ["--mean: 1 numbers, but 3", "--std: 1 numbers"]),
        ({"scaling": None, "mean": (1.0, 1, 1), "std": (1.0, 0, 1)}, ["--std: 0 is not above 0"]),
        (
            {"scaling": None, "mean": (1.0, 1, 1), "std": (1.0, 1, 1)},
            ["scaling of the outputs", "--output-mean"],
        ),
        ({"target": "next", "mean": (1.0, 1, 1), "std": (1.0, 1, 1)}, ["--scaling: the file and"]),
        ({"reset": "before"}, ["--reset"]),
        ({"activation": "relu"}, ["--activation", "nn.RNN"]),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, changes, words):
    refused(saved(tmp_path, small()), *words, options=replace(THREE, **changes))


def test_scaling_is_that_of_the_columns_of_a_table(tmp_path):
    rng = np.random.default_rng(0)
    table = rng.normal((1e6, 0, 5, -3), (2, 1e-3, 1, 0), (5000, 4)).astype(np.float32)
    lines = [",".join("" if k == 7 else f"{value}" for value in row) for k, row in enumerate(table)]
    file = tmp_path / "recording.csv"
    file.write_text("\n".join(["c,a,q,p", *lines]))
    known = np.delete(table, 7, axis=0).astype(np.float64)
    expected = dict(zip("caqp", zip(known.mean(0), known.std(0), strict=True), strict=True))
    expected["p"] = (-3.0, 1.0)  # never varies
    found = measure(str(file), ["a", "c", "p"])
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)

    options = ImportOptions(("c", "a", "q"), ("p", "a"), "value", 3, scaling=str(file), sample_period_s=0.5)
    model = import_model(saved(tmp_path, small()), tmp_path / "out.safetensors", options).model
    mean, std = np.array([expected[name] for name in "caqpa"]).astype("f").T
    np.testing.assert_array_equal(np.concatenate([model.input_mean, model.output_mean]), mean)
    np.testing.assert_array_equal(np.concatenate([model.input_std, model.output_std]), std)
    assert (model.ahead, model.sample_period_s, model.target) == (3, 0.5, "value")

    file.write_text("a,b\n,1\n,2\n")
    with pytest.raises(UserError, match="no number in column 'a'"):
        measure(str(file), ["a", "b"])


def test_a_forecast_is_scaled_as_its_channels(tmp_path):
    options = replace(
        THREE, target="next", outputs=("a", "b"), scaling=None, mean=(1.0, 2, 3), std=(4.0, 5, 6)
    )
    model = import_model(saved(tmp_path, small()), tmp_path / "out.safetensors", options).model
    np.testing.assert_array_equal(model.output_mean, [1, 2])
    np.testing.assert_array_equal(model.output_std, [4, 5])
    assert model.normalisation == "standard"


def test_scaling_in_the_file_is_kept(tmp_path):
    carried = {"input_mean": np.arange(3.0), "input_std": np.ones(3) * 2}
    foreign = lower_stages("Any", [recurrent(3, 2, "lstm", 0)], **carried)
    model = adopted(foreign, THREE)
    np.testing.assert_array_equal(model.input_mean, [0, 1, 2])
    np.testing.assert_array_equal(model.output_std, [1, 1])
    with pytest.raises(OptionsError, match="the file has this scaling in it"):
        adopted(foreign, replace(THREE, mean=(1.0, 1, 1), std=(1.0, 1, 1)))
    with pytest.raises(OptionsError, match="the scaling of the outputs"):
        adopted(foreign, replace(THREE, scaling=None))


# the self-check


def told(monkeypatch, tmp_path, witness):
    monkeypatch.setattr(torch_file, "witness", lambda path, foreign: witness(path, foreign))
    return import_model(saved(tmp_path, small()), tmp_path / "out.safetensors", THREE)


def model_itself(path: Path, foreign: Foreign):
    return Witness(lambda sequences: np.stack([slow(adopted(foreign, THREE), rows) for rows in sequences]))


def test_the_model_is_compared_with_its_library(monkeypatch, tmp_path):
    imported = told(monkeypatch, tmp_path, model_itself)
    assert 0 < imported.largest_difference < 1e-6
    assert f"{imported.largest_difference:.2g}" in imported.checked


@pytest.mark.parametrize("off", [1e-3, np.nan, np.inf])
def test_a_difference_is_an_error(monkeypatch, tmp_path, off):
    def other(path, foreign):
        def run(sequences):
            theirs = model_itself(path, foreign).answers(sequences)
            theirs[0, 99] += off
            return theirs

        return Witness(run)

    with pytest.raises(ModelError, match=r"self-check.*PyTorch"):
        told(monkeypatch, tmp_path, other)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_difference_is_relative_to_small_outputs(monkeypatch, tmp_path):
    tensors = small(**{"fc.weight": np.full((2, 2), 1e-4, "f"), "fc.bias": np.zeros(2, "f")})
    exact = model_itself
    monkeypatch.setattr(torch_file, "witness", exact)
    output = tmp_path / "out.safetensors"
    assert import_model(saved(tmp_path, tensors), output, THREE).largest_difference < 1e-5
    output.unlink()

    def off(*given):
        return Witness(lambda sequences: exact(*given).answers(sequences) + 1e-6)

    monkeypatch.setattr(torch_file, "witness", off)
    refused(saved(tmp_path, tensors), "self-check", "differs from PyTorch")


def test_too_little_memory_is_said(monkeypatch, tmp_path):
    def exhausted(*given):
        raise MemoryError

    monkeypatch.setattr(torch_file, "read", exhausted)
    refused(saved(tmp_path, small()), "more memory than there is")


def test_a_library_that_is_missing_or_fails_is_said(monkeypatch, tmp_path):
    imported = told(monkeypatch, tmp_path, lambda path, foreign: None)
    assert imported.largest_difference is None
    assert "cannot run files of PyTorch" in imported.checked

    def broken(path, foreign):
        def run(rows):
            raise RuntimeError("no kernel image")

        return Witness(run)

    assert "no kernel image" in told(monkeypatch, tmp_path, broken).checked
    assert (
        "no kernel image"
        in told(monkeypatch, tmp_path, lambda path, foreign: broken(path, foreign).answers(0)).checked
    )


# files that are not what they seem


def test_the_format_is_told_by_the_content(tmp_path):
    file = tmp_path / "file"
    for content, library in (
        (b"\x89HDF\r\n\x1a\n rest", "Keras"),
        (struct.pack("<Q", 2) + b"{}", "PyTorch"),
        (b'\xef\xbb\xbf {"layers": []}', "JSON"),
        (b"\x08\x09\x12\x07pytorch", "ONNX"),
    ):
        file.write_bytes(content)
        assert find_library(file) == library
    for content in (b"", b"x", b"a,b\n1,2\n", b"PK\x03\x04 and no more", b"\x93NUMPY"):
        file.write_bytes(content)
        refused(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
    assert find_library(file) == "Keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("array.npy", "")
    refused(file, "a zip file, but not one of Keras")
    refused(tmp_path / "absent", "no such file")
    refused(tmp_path, "not a regular file")


def test_a_file_too_large_is_refused(tmp_path):
    file = tmp_path / "large.safetensors"
    with file.open("wb") as large:
        large.write(struct.pack("<Q", 2) + b"{}")
        large.truncate(importing.FILE_LIMIT + 1)
    refused(file, "bytes, at most")
    with file.open("wb") as large:
        large.write(b"{")
        large.truncate(json_file.SIZE_LIMIT + 1)
    refused(file, "bytes of JSON, at most")


def test_a_model_of_ours_is_not_imported(tmp_path):
    file = tmp_path / "model.safetensors"
    write_model(untrained(), file)
    refused(file, "is a streamrnn model already")


def test_the_file_is_not_replaced_by_its_model(tmp_path):
    file = saved(tmp_path, small())
    before = file.read_bytes()
    with pytest.raises(OptionsError, match="another name"):
        import_model(file, file, THREE)
    assert file.read_bytes() == before


def test_a_name_that_a_header_has_twice_is_refused(tmp_path):
    file = saved(tmp_path, small())
    header, body = load_header(file)
    text = json.dumps(header)
    save_header(file, (text[:-1] + ', "fc.bias": ' + json.dumps(header["fc.bias"]) + "}").encode(), body)
    refused(file, "'fc.bias' appears more than once")
    save_header(file, header | {"__metadata__": None}, body)
    import_model(file, tmp_path / "out.safetensors", THREE)


def damage(content: bytes, whole: bool) -> Iterator[bytes]:
    """Truncations of ``content`` and copies with changed bytes: some, or of each byte and at 1,000 places."""
    rng, size = np.random.default_rng(len(content)), len(content)
    for length in np.linspace(0, size - 1, 1000 if whole else 120):
        yield content[: int(length)]
    for place in range(size) if whole else rng.integers(0, size, 120):
        changed = bytearray(content)
        changed[place] ^= 0xFF if rng.integers(2) else 1 << rng.integers(8)
        yield bytes(changed)


def of_amplifiers() -> dict[str, object]:
    """GuitarML's and NAM's JSON of an LSTM of 2 units."""
    state = {name.replace("lstm", "rec").replace("fc", "lin"): array for name, array in small().items()}
    said = {"model": "SimpleRNN", "unit_type": "LSTM", "skip": 1}
    weights = np.random.default_rng(0).uniform(-1, 1, 8 * 5 + 12 + 6).round(3).tolist()
    config = {"input_size": 3, "hidden_size": 2, "num_layers": 1}
    return {
        "guitarml": {
            "model_data": said,
            "state_dict": {name: array.tolist() for name, array in state.items()},
        },
        "nam": {"architecture": "LSTM", "config": config, "weights": weights},
    }


def contents(folder: Path) -> dict[str, bytes]:
    """A small file of each format that is read in this process."""
    msgpack = pytest.importorskip("msgpack")

    def array(value: np.ndarray) -> object:
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))

    tensors = small()
    cell = {
        "dense_i": {"kernel": tensors["lstm.weight_ih_l0"].T},
        "dense_h": {"kernel": tensors["lstm.weight_hh_l0"].T},
    }
    flax = {"cell": cell, "fc": {"kernel": tensors["fc.weight"].T, "bias": tensors["fc.bias"]}}
    lists = {name: tensor.tolist() for name, tensor in tensors.items()}
    return {
        "safetensors": saved(folder, tensors).read_bytes(),
        "layers": json.dumps(layer_list()).encode(),
        "tensors": json.dumps(lists).encode(),
        "msgpack": msgpack.packb(flax, default=array),
        "onnx": (GOLDEN.parent / "onnx" / "rnn-script.onnx").read_bytes(),
    } | {name: json.dumps(content).encode() for name, content in of_amplifiers().items()}


FORMATS = ["safetensors", "layers", "tensors", "msgpack", "onnx", "guitarml", "nam"]


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_refused_or_imported(tmp_path, monkeypatch, pytestconfig, kind):
    """Nothing else comes of them, and what is imported gives what its library gives, if that runs them."""
    monkeypatch.setattr(torch_file, "witness", lambda path, foreign: None)
    monkeypatch.setattr(checking, "CHECK_ROWS", 20)
    whole = pytestconfig.getoption("long")
    outcomes = {"refused": 0, "imported": 0}
    for damaged in damage(contents(tmp_path)[kind], whole):
        file = tmp_path / "damaged"
        file.write_bytes(damaged)
        try:
            imported = import_model(
                file, tmp_path / "out.safetensors", ONE if kind in ("layers", "nam") else THREE
            )
            assert imported.largest_difference is None or imported.largest_difference < 1e-4
            outcomes["imported"] += 1
        except (ModelError, UserError) as error:
            assert str(file) in str(error)
            outcomes["refused"] += 1
    assert (
        outcomes["refused"] >= (1000 if whole else 120) and outcomes["imported"] + outcomes["refused"] > 200
    )


# the command


def run(*words: object):
    return CliRunner().invoke(main, ["import", *map(str, words)])


def test_the_command_prints_the_model(tmp_path):
    file, output = saved(tmp_path, small()), tmp_path / "model.safetensors"
    words = (
        file,
        "-o",
        output,
        "--target",
        "value",
        "--ahead",
        2,
        "--outputs",
        "p,q",
        "--sample-period",
        "500ms",
    )
    words += ("--channels", 'a,"b, c",d', "--mean", "1,2,3", "--std", "1,1,1", "--scaling", "none")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "self-check: " in result.stderr and "note: a state dict does not say" in result.stderr
    assert "lstm, 1 x 2 hidden units" in result.stdout and "0.5 s" in result.stdout
    model = read_model(output)
    assert [channel.name for channel in model.channels] == ["a", "b, c", "d"]
    assert model.ahead == 2

    description = json.loads(run(*words, "--json").stdout)
    assert description["fingerprint"] == model.fingerprint
    assert description["self_check"]["library"] == "PyTorch"
    assert "largest_difference" in description["self_check"]


def test_rounded_weights_are_compared_with_those_of_the_file(tmp_path):
    file, output = saved(tmp_path, small()), tmp_path / "model.safetensors"
    words = (file, "-o", output, "--target", "value", "--outputs", "p,q", "--channels", "a,b,c")
    words += ("--sample-period", "0", "--scaling", "none", "--weights", "bfloat16")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "\nweights in bfloat16: largest difference to float32 over 1,000 rows: 0.0" in result.stderr
    assert "recurrent weights  bfloat16, rounded by 0.0" in result.stdout
    assert read_model(output).weights == "bfloat16"
    check = json.loads(run(*words, "--json").stdout)["self_check"]
    assert 0 < check["rounding"] < 0.02
    assert check["largest_difference"] is None or check["largest_difference"] <= 1e-4


def test_the_command_says_what_is_missing(tmp_path):
    result = run(saved(tmp_path, small()), "-o", tmp_path / "model.safetensors")
    assert result.exit_code == 2 and not result.stdout
    for option in ("--channels", "--target", "--sample-period", "--scaling"):
        assert option in result.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--channels", "a,,b"),
        ("--mean", "1,x"),
        ("--std", "1,nan"),
        ("--dense", "softmax"),
        ("--dense", "gelu"),
        ("--sample-period", "1 fortnight"),
    ],
)
def test_the_command_refuses_values_that_are_none(tmp_path, option, value):
    result = run(saved(tmp_path, small()), "-o", tmp_path / "model.safetensors", option, value)
    assert result.exit_code == 2 and option in result.stderr


def test_a_file_that_cannot_be_imported_exits_with_78(tmp_path):
    result = run(as_json(tmp_path, "{"), "-o", tmp_path / "model.safetensors")
    assert result.exit_code == 78 and "not valid JSON" in result.stderr
