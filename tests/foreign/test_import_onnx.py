"""ONNX files: what is imported gives what its own library gives, and what cannot be run is refused."""

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.foreign.complete import to_model
from streamrnn.foreign.importing import import_model, measure
from streamrnn.foreign.network import Foreign, ImportOptions
from streamrnn.foreign.onnx import file as onnx_file
from streamrnn.foreign.onnx import folding as onnx_folding
from streamrnn.foreign.onnx import walk as onnx_walk
from streamrnn.model.cells import GATES
from streamrnn.model.model import Model
from streamrnn.model.settings import ModelError
from streamrnn.settings.sections import Faults

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden" / "onnx"
EXPORTS = sorted(path.stem for path in GOLDEN.glob("*.onnx") if path.stem != "relu-dynamo")
STEPS, EVERY = 10_000, 50  # of tools/golden_exports.py
TOLD = ImportOptions(("a", "b", "c"), ("p", "q"), "value", sample_period_s=0.0)
H = 4
KINDS = [("LSTM", 0), ("GRU", 0), ("GRU", 1), ("RNN", 0), ("RNN-relu", 0)]
INT = np.int64


def noise(count: int = STEPS) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((count, 3), np.float32)


def adopted(foreign: Foreign) -> Model:
    scaling = "none" if foreign.input_mean is None and foreign.output_mean is None else None
    return to_model(foreign, replace(TOLD, scaling=scaling), "file", measure)


def answers(model: Model, rows: np.ndarray) -> np.ndarray:
    return Engine(model, 1, Faults()).feed(["s"], np.zeros(len(rows), INT), rows).values


def tensors(kind: str = "LSTM", layers: int = 1, outputs: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of ``layers`` nodes over 3 channels, and of a head."""
    rng, gates = np.random.default_rng(seed), GATES[kind[:4].rstrip("-").lower()]
    made: dict[str, np.ndarray] = {}
    for k in range(layers):
        shapes = {"w": (1, gates * H, H if k else 3), "r": (1, gates * H, H), "b": (1, 2 * gates * H)}
        made |= {
            f"{name}{k}": rng.uniform(-0.6, 0.6, shape).astype(np.float32) for name, shape in shapes.items()
        }
    made["head_w"] = rng.uniform(-0.6, 0.6, (H, outputs)).astype(np.float32)
    made["head_b"] = rng.uniform(-0.6, 0.6, outputs).astype(np.float32)
    return made | {"one": np.array([1], INT)}


def recurrent(
    kind: str = "LSTM", layer: int = 0, x: str = "x", *more: str, **attributes: Any
) -> onnx.NodeProto:
    """The node of a layer; ``more`` are its inputs from sequence_lens on."""
    op, _, activation = kind.partition("-")
    if activation:
        attributes["activations"] = [activation.capitalize()]
    inputs = [x, f"w{layer}", f"r{layer}", f"b{layer}", *more]
    named = {"name": f"cell{layer}", "hidden_size": H} | attributes
    return helper.make_node(op, inputs, [f"y{layer}", f"h{layer}"], **named)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"{op} of {output}", **attributes)


def head(x: str = "s0") -> list[onnx.NodeProto]:
    return [node("MatMul", f"{x} head_w", "product"), node("Add", "product head_b", "out")]


def plain(kind: str = "LSTM", *more: str, **attributes: Any) -> list[onnx.NodeProto]:
    """One recurrent node and a head."""
    return [recurrent(kind, 0, "x", *more, **attributes), node("Squeeze", "y0 one", "s0"), *head()]


def saved(
    folder: Path,
    nodes: list[onnx.NodeProto],
    given: dict[str, np.ndarray],
    *,
    shape: tuple = ("time", "batch", 3),
    inputs: dict[str, tuple] | None = None,
    outputs: tuple[str, ...] = ("out",),
    opset: int = 20,
    **settings: Any,
) -> Path:
    """A file of these nodes and tensors, with the inputs x and ``inputs``."""
    shapes = {"x": shape} | (inputs or {})
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=9, **({"producer_name": "hand"} | settings)
    )
    file = folder / "net.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def read(file: Path, **options: Any) -> Foreign:
    return onnx_file.read(file, replace(TOLD, **options))


def refused(file: Path, *words: str, **options: Any) -> None:
    with pytest.raises(ModelError) as caught:
        read(file, **options)
    for word in words:
        assert word in str(caught.value)


def assert_same(a: Foreign, b: Foreign) -> None:
    assert a.cells == b.cells
    first, second = adopted(a), adopted(b)
    assert first.settings() == second.settings()
    for name, array in first.tensors().items():
        np.testing.assert_allclose(array, second.tensors()[name], rtol=1e-6, atol=1e-7, err_msg=name)


# what is imported gives what the file gives


@pytest.mark.parametrize("case", EXPORTS)
def test_an_export_gives_what_pytorch_gave(case):
    model = replace(adopted(read(GOLDEN / f"{case}.onnx")), window=0)  # as it ran: a whole sequence
    expected = safetensors.numpy.load_file(GOLDEN / "outputs.safetensors")[case.split("-")[0]]
    difference = (answers(model, noise())[::EVERY] - expected) / model.output_std
    assert np.abs(difference).max() < 1e-5
    assert (expected.std(0) > 1e-3).all()


@pytest.mark.parametrize("case", EXPORTS)
def test_an_export_gives_what_onnxruntime_gives(case):
    pytest.importorskip("onnxruntime")
    file = GOLDEN / f"{case}.onnx"
    foreign = read(file)
    witness = onnx_file.witness(file, foreign)
    model = adopted(foreign)
    sequences = noise(1001).reshape(-1, witness.steps or 1001, 3)
    theirs = witness.answers(sequences)
    for ours, expected in zip(sequences, theirs, strict=True):
        found = answers(model, ours)[-len(expected) :]
        assert np.abs((found - expected) / model.output_std).max() < 1e-5


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("kind", "linear_before_reset"), KINDS)
def test_a_node_gives_what_onnxruntime_gives(tmp_path, kind, linear_before_reset, layers):
    onnxruntime = pytest.importorskip("onnxruntime")
    extra = {"linear_before_reset": linear_before_reset} if kind == "GRU" else {}
    nodes = []
    for k in range(layers):
        nodes += [
            recurrent(kind, k, f"s{k - 1}" if k else "x", **extra),
            node("Squeeze", f"y{k} one", f"s{k}"),
        ]
    file = saved(tmp_path, [*nodes, *head(f"s{layers - 1}")], tensors(kind, layers))
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {"x": noise()[:, None]})
    foreign = read(file)
    assert foreign.cells[0].reset == ("after" if kind != "GRU" or linear_before_reset else "before")
    assert len(foreign.layers) == layers
    assert foreign.cells[0].activation == ("relu" if kind == "RNN-relu" else "tanh")
    np.testing.assert_allclose(answers(adopted(foreign), noise()), expected[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        onnx_file.witness(file, foreign).answers(noise(50)[np.newaxis])[0],
        expected[:50, 0],
        rtol=0,
        atol=1e-6,
    )


def test_scaling_and_dense_layers_around_the_recurrent_one(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    given = tensors() | {
        "mean": np.array([1, -2, 3], np.float32),
        "std": np.array([[[2, 0.5, 4]]], np.float32),
        "enter_w": np.random.default_rng(1).normal(0, 0.5, (3, 3)).astype(np.float32),
        "enter_b": np.array([0.1, 0.2, 0.3], np.float32),
        "by": np.array(5, np.float32),
        "plus": np.array([7, 8], np.float32),
    }
    nodes = [
        *(node("Sub", "x mean", "x1"), node("Div", "x1 std", "x2")),
        *(node("Gemm", "flat enter_w enter_b", "x3", alpha=0.5, beta=2.0), node("Tanh", "x3", "x4")),
        node("Flatten", "x2", "flat", axis=2),
        node("Constant", "", "back", value_ints=[-1, 1, 3]),
        node("Reshape", "x4 back", "x5"),
        recurrent("LSTM", 0, "x5"),
        *(node("Squeeze", "y0 one", "s0"), node("Relu", "s0", "s1"), *head("s1")),
        *(node("Sigmoid", "out", "o1"), node("Mul", "by o1", "o2"), node("Add", "o2 plus", "o3")),
    ]
    file = saved(tmp_path, nodes, given, outputs=("o3",))
    foreign = read(file)
    np.testing.assert_allclose(foreign.input_mean, [1, -2, 3])
    np.testing.assert_allclose(foreign.input_std, [2, 0.5, 4])
    np.testing.assert_allclose(foreign.output_mean, [7, 8])
    np.testing.assert_allclose(foreign.output_std, [5, 5])
    assert [layer.activation for layer in foreign.before + foreign.after] == ["tanh", "relu", "sigmoid"]
    rows = noise(500) * [2, 0.5, 4] + [1, -2, 3]
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    [expected] = session.run(None, {"x": rows.astype(np.float32)[:, None]})
    ours = answers(adopted(foreign), rows.astype(np.float32))
    assert np.abs((ours - expected.reshape(ours.shape)) / 5).max() < 1e-5


def test_what_stands_around_layers_is_folded_or_run(tmp_path):
    """Norms, a residual, activations of one operator and of several, two heads, a branch that is decided."""
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(1)
    given = tensors(layers=2) | {f"n{k}": rng.uniform(0.5, 1.5, H).astype(np.float32) for k in range(6)}
    given |= {"half": np.full(1, 0.5, "f"), "unit": np.ones(1, "f"), "root": np.full(1, np.sqrt(2), "f")}
    given |= {
        "zero": np.zeros(1, INT),
        "axis": np.array([2], INT),
        "two": np.array([2], INT),
        "one_": np.array([1], INT),
    }
    squeeze = helper.make_graph(
        [node("Squeeze", "y0 one", "inner")], "then", [], [helper.make_tensor_value_info("inner", 1, None)]
    )
    other = helper.make_graph(
        [node("Identity", "y0", "outer")], "else", [], [helper.make_tensor_value_info("outer", 1, None)]
    )
    nodes = [
        recurrent("LSTM", 0, "x", activations=["HardSigmoid", "Tanh", "Softsign"], activation_alpha=[0.25]),
        *(
            node("Shape", "y0", "size"),
            node("Gather", "size one", "many"),
            node("Equal", "many one_", "single"),
        ),
        node("If", "single", "s0", then_branch=squeeze, else_branch=other),
        *(node("Transpose", "s0", "t0", perm=[0, 2, 1]), node("BatchNormalization", "t0 n0 n1 n2 n3", "t1")),
        *(node("Transpose", "t1", "s1", perm=[0, 2, 1]), recurrent("LSTM", 1, "s1")),
        *(node("Squeeze", "y1 one", "s2"), node("Add", "s2 s1", "s3")),
        *(node("LayerNormalization", "s3 n4 n5", "s4", epsilon=1e-3), node("Div", "s4 root", "e0")),
        *(
            node("Erf", "e0", "e1"),
            node("Add", "e1 unit", "e2"),
            node("Mul", "s4 e2", "e3"),
            node("Mul", "e3 half", "e4"),
        ),
        *(node("MatMul", "e4 head_w", "product"), node("Add", "product head_b", "out")),
        *(node("Slice", "e4 zero two axis", "part"), node("Sub", "part half", "more")),
    ]
    nodes[0].output[:] = ["y0", "h0"]
    file = saved(tmp_path, nodes, given, shape=("time", 1, 3), outputs=("out", "more"))
    foreign = read(file)
    assert foreign.names == ("out_0", "out_1", "more_0", "more_1")
    assert [dense.activation for dense in foreign.after] == ["layer_norm(0.001)", "gelu"]
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    expected = np.concatenate(session.run(None, {"x": noise(300)[:, None]}), -1)[:, 0]
    options = replace(TOLD, outputs=foreign.names, scaling="none")
    imported = import_model(file, tmp_path / "out.safetensors", options)
    assert imported.largest_difference < 1e-5
    np.testing.assert_allclose(answers(imported.model, noise(300)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_other_floats_are_run_in_float32(tmp_path, kind):
    pytest.importorskip("onnxruntime")
    model = onnx.load(saved(tmp_path, plain(), tensors()))
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, kind, array.shape, array.ravel()))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = kind
    file = tmp_path / "other.onnx"
    file.write_bytes(model.SerializeToString())
    imported = import_model(file, tmp_path / "out.safetensors", replace(TOLD, scaling="none"))
    assert imported.largest_difference < 1e-5
    assert "here in float32" in imported.notes[0]


def test_states_of_the_file_are_where_streams_begin(tmp_path):
    pytest.importorskip("onnxruntime")
    given = tensors() | {
        "h": np.full((1, 1, H), 0.5, "f"),
        "c": np.linspace(-1, 1, H, dtype="f").reshape(1, 1, H),
    }
    file = saved(tmp_path, plain("LSTM", "", "h", "c"), given, shape=("time", 1, 3))
    imported = import_model(file, tmp_path / "out.safetensors", replace(TOLD, scaling="none"))
    assert imported.largest_difference < 1e-5
    np.testing.assert_allclose(imported.model.initial[0], [given["h"][0, 0], given["c"][0, 0]])


def test_states_may_come_as_one_tensor(tmp_path):
    """Split on the way in, joined on the way out."""
    nodes = [
        helper.make_node("Split", ["s"], ["h", "c"], axis=0, num_outputs=2),
        recurrent("LSTM", 0, "x", "", "h", "c"),
        *plain()[1:],
    ]
    nodes[1].output[:] = ["y0", "hn", "cn"]
    nodes.append(helper.make_node("Concat", ["hn", "cn"], ["sn"], axis=0))
    file = saved(tmp_path, nodes, tensors(), inputs={"s": (2, 1, H)}, outputs=("out", "sn"), shape=(1, 1, 3))
    foreign = read(file)
    assert_same(replace(foreign, notes=()), read(saved(tmp_path, plain(), tensors())))
    file = saved(tmp_path, nodes, tensors(), inputs={"s": (2, 1, H)}, outputs=("out", "sn"), shape=(1, 1, 3))
    imported = import_model(file, tmp_path / "out.safetensors", replace(TOLD, scaling="none"))
    assert imported.largest_difference < 1e-5


def test_the_hidden_states_of_all_layers_may_be_joined(tmp_path):
    """h_n of two layers, the last of which, or both, the head takes."""
    pytest.importorskip("onnxruntime")
    given = tensors(layers=2) | {"last": np.array(-1, INT), "wide": noise(2 * H)[:, :2].copy()}
    nodes = [recurrent(), node("Squeeze", "y0 one", "s0"), recurrent("LSTM", 1, "s0")]
    nodes.append(helper.make_node("Concat", ["h0", "h1"], ["hn"], axis=0))
    taken = [node("Gather", "hn last", "h"), *head("h")]
    foreign = read(saved(tmp_path, [*nodes, *taken], given, shape=(6, 1, 3)))
    assert foreign.window == 6 and not foreign.skips
    both = [node("Transpose", "hn", "turned", perm=[1, 0, 2]), node("Flatten", "turned", "flat")]
    file = saved(tmp_path, [*nodes, *both, node("MatMul", "flat wide", "out")], given, shape=("time", 1, 3))
    imported = import_model(file, tmp_path / "out.safetensors", replace(TOLD, scaling="none"))
    assert imported.model.skips == ((1, 3),) and imported.model.hidden == 2 * H
    assert imported.largest_difference < 1e-5


def test_what_onnxruntime_refuses_is_said(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")

    def refuse(*given: Any) -> None:
        raise RuntimeError("this graph is none of mine")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    file = saved(tmp_path, plain(), tensors())
    imported = import_model(file, tmp_path / "out.safetensors", replace(TOLD, scaling="none"))
    assert imported.largest_difference is None
    assert "itself refuses to run the file" in imported.checked and "none of mine" in imported.checked


def test_loops_are_refused_with_what_helps(tmp_path):
    loop = helper.make_node("Loop", ["", "", "x"], ["out"], body=helper.make_graph([], "body", [], []))
    refused(saved(tmp_path, [loop], {}), "written as Loop", "model.save('net.keras')")
    branch = helper.make_graph(
        [node("Identity", "x", "o")], "g", [], [helper.make_tensor_value_info("o", 1, None)]
    )
    undecided = [
        node("If", "x", "x1", then_branch=branch, else_branch=branch),
        recurrent("LSTM", 0, "x1"),
        *plain()[1:],
    ]
    refused(saved(tmp_path, undecided, tensors()), "which branch is taken hangs on rows")


# one network, written in other ways


def folded_weights() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """W by Transpose, Unsqueeze and Cast, R by Concat of Slices, B by a sum, a quotient and Reshape."""
    given = tensors()
    w, r, b = (given.pop(name) for name in ("w0", "r0", "b0"))
    given |= {
        "wt": w[0].T.astype(np.float64),
        "b1": (2 * b[0] - 1).astype(np.float32),
        "r1": np.repeat(r, 2, 2),
    }
    given |= {"zero": np.array([0], INT), "half": np.array([H], INT), "most": np.array([1 << 40], INT)}
    given |= {"shape": np.array([0, -1], INT), "axis": np.array([1], INT), "two": np.full(1, 2, np.float32)}
    given |= {"unit": np.ones(32, np.float32), "step": np.array([2], INT), "last": np.array([2], INT)}
    makers = [
        *(node("Transpose", "wt", "wt1", perm=[1, 0]), node("Unsqueeze", "wt1 zero", "w1")),
        node("Cast", "w1", "w0", to=TensorProto.FLOAT),
        *(node("Slice", "r1 zero half axis", "ra"), node("Slice", "r1 half most axis", "rb")),
        *(node("Concat", "ra rb", "rc", axis=1), node("Slice", "rc zero most last step", "r0")),
        *(node("Identity", "b1", "b2"), node("Add", "b2 unit", "b3"), node("Div", "b3 two", "b4")),
        *(node("Unsqueeze", "b4 zero", "b5"), node("Reshape", "b5 shape", "b0")),
    ]
    return makers + plain(), given


def computed_states() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Initial states of zeros and sequence lengths, computed from the shape of the input."""
    given = tensors() | {"k": np.array([1], INT), "h": np.array([H], INT), "zero": np.zeros(1, np.float32)}
    makers = [
        *(
            node("Shape", "x", "shape"),
            node("Gather", "shape k", "batch"),
            node("Constant", "", "d", value_ints=[1]),
        ),
        *(node("Concat", "d batch h", "size", axis=0), node("ConstantOfShape", "size", "h_0")),
        *(node("Expand", "zero size", "c_0"), node("Constant", "", "first", value_int=0)),
        *(node("Gather", "shape first", "steps"), node("Expand", "steps batch", "lengths")),
        node("Cast", "lengths", "lens", to=TensorProto.INT32),
    ]
    return makers + plain("LSTM", "lens", "h_0", "c_0"), given


@pytest.mark.parametrize("made", [folded_weights, computed_states])
def test_what_can_be_folded_is(tmp_path, made):
    expected = read(saved(tmp_path, plain(), tensors()))
    assert_same(read(saved(tmp_path, *made())), expected)


def test_inputs_that_say_nothing_may_be_there(tmp_path):
    given = tensors() | {"p": np.zeros((1, 3 * H), np.float32), "s": np.zeros((1, 1, H), np.float32)}
    expected = read(saved(tmp_path, plain(), given))
    defaults = {"direction": "forward", "layout": 0, "input_forget": 0}
    nodes = plain("LSTM", "", "s", "s", "p", activations=["Sigmoid", "TANH", "Tanh"], **defaults)
    assert_same(read(saved(tmp_path, nodes, given)), expected)


def test_a_node_without_biases_has_zeros(tmp_path):
    given = tensors()
    nodes = plain()
    nodes[0].input.pop()
    given["b0"][:] = 0
    assert_same(read(saved(tmp_path, nodes, given)), read(saved(tmp_path, plain(), given)))


@pytest.mark.parametrize("opset", [7, 12, 13])
def test_axes_are_attributes_in_older_opsets(tmp_path, opset):
    expected = read(saved(tmp_path, plain(), tensors()))
    squeeze = node("Squeeze", "y0", "s0", axes=[1]) if opset < 13 else node("Squeeze", "y0 one", "s0")
    file = saved(tmp_path, [recurrent(), squeeze, *head()], tensors(), opset=opset)
    assert_same(read(file), expected)


def test_batch_first_by_layout_or_transposition(tmp_path):
    expected = read(saved(tmp_path, plain(), tensors()))
    two = {"two": np.array([2], INT)}
    by_layout = [recurrent(layout=1), node("Squeeze", "y0 two", "s0"), *head()]
    assert_same(read(saved(tmp_path, by_layout, tensors() | two, shape=("b", "t", 3))), expected)
    turned = [node("Transpose", "x", "xt", perm=[1, 0, 2]), recurrent("LSTM", 0, "xt"), *plain()[1:]]
    assert_same(read(saved(tmp_path, turned, tensors(), shape=("b", "t", 3))), expected)


@pytest.mark.parametrize("shape", [("t", "b", 3), (6, 1, 3), (6, 4, 3), (1, 1, 3), ("t", 2, 3), (5, "b", 3)])
def test_dimensions_may_be_fixed(tmp_path, shape):
    pytest.importorskip("onnxruntime")
    file = saved(tmp_path, plain(), tensors(), shape=shape)
    foreign = read(file)
    assert_same(foreign, read(saved(tmp_path, plain(), tensors())))
    file = saved(tmp_path, plain(), tensors(), shape=shape)
    witness = onnx_file.witness(file, foreign)
    assert witness.steps == (shape[0] if shape[0] != "t" else None)
    rows = noise(20)[: witness.steps]
    theirs = witness.answers(rows[np.newaxis])[0]
    np.testing.assert_allclose(theirs, answers(adopted(foreign), rows), rtol=0, atol=1e-6)


def test_the_last_hidden_state_may_be_what_the_head_takes(tmp_path):
    pytest.importorskip("onnxruntime")
    nodes = [recurrent(), node("Squeeze", "h0 zero", "last"), *head("last")]
    file = saved(tmp_path, nodes, tensors() | {"zero": np.array([0], INT)})
    foreign = read(file)
    assert "once per sequence" in foreign.notes[0]
    assert "the state goes on" in foreign.notes[1]
    [theirs] = onnx_file.witness(file, foreign).answers(noise(200)[np.newaxis])
    np.testing.assert_allclose(theirs, answers(adopted(foreign), noise(200))[-1:], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "window"), [((6, 1, 3), 6), (("t", 1, 3), 0), ((1, 1, 3), 0)])
def test_the_last_of_a_fixed_number_of_rows_is_an_answer_to_a_window(tmp_path, shape, window):
    nodes = [recurrent(), node("Squeeze", "h0 zero", "last"), *head("last")]
    file = saved(tmp_path, nodes, tensors() | {"zero": np.array([0], INT)}, shape=shape)
    foreign = read(file)
    assert foreign.window == adopted(foreign).window == window
    assert any("the state goes on" in note for note in foreign.notes) == (window == 0)


def test_states_of_the_file_start_at_zero_and_are_noted(tmp_path):
    nodes = plain("LSTM", "", "h", "c")
    state = (1, "batch", H)
    file = saved(tmp_path, nodes, tensors(), inputs={"h": state, "c": state}, outputs=("out", "h0"))
    foreign = read(file)
    assert "('h', 'c')" in foreign.notes[0]
    assert_same(replace(foreign, notes=()), read(saved(tmp_path, plain(), tensors())))


def test_a_network_without_a_head_gives_its_hidden_state(tmp_path):
    foreign = read(saved(tmp_path, [recurrent()], tensors(), outputs=("y0",)))
    np.testing.assert_array_equal(foreign.head_weight, np.eye(H))


# PyTorch's GRU


def test_a_gru_of_pytorch_with_the_wrong_reset_is_refused_unless_told(tmp_path):
    file = saved(tmp_path, plain("GRU", linear_before_reset=0), tensors("GRU"), producer_name="pytorch")
    refused(file, "'cell0' (GRU)", "linear_before_reset, 0", "--reset after", "--reset before")
    assert read(file, reset="before").cells[0].reset == "before"
    told = read(file, reset="after")
    assert told.cells[0].reset == "after"
    assert "not as the file says" in told.notes[0]
    trusted = saved(tmp_path, plain("GRU", linear_before_reset=1), tensors("GRU"), producer_name="pytorch")
    assert read(trusted).cells[0].reset == "after"


@pytest.mark.parametrize("reset", ["after", "before"])
def test_a_told_reset_passes_the_self_check(tmp_path, reset):
    pytest.importorskip("onnxruntime")
    file = saved(tmp_path, plain("GRU"), tensors("GRU"), producer_name="pytorch")
    options = replace(TOLD, scaling="none", reset=reset)
    imported = import_model(file, tmp_path / "out.safetensors", options)
    assert imported.model.reset == reset
    assert imported.largest_difference < 1e-5


# what cannot be run


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"direction": "bidirectional"}, ["direction, 'bidirectional'", "only forward"]),
        ({"direction": "reverse"}, ["direction, 'reverse'"]),
        ({"clip": 3.0}, ["clip, 3.0", "only none"]),
        ({"input_forget": 1}, ["input_forget, 1"]),
        (
            {"activations": ["Sigmoid", "Mish", "Tanh"]},
            ["activations", "Mish", "only sigmoid, tanh"],
        ),
        ({"activation_alpha": [0.2]}, ["activation_alpha", "more numbers"]),
        ({"activation_beta": [0.5]}, ["activation_beta", "more numbers"]),
        ({"activations": ["Sigmoid", "Tanh"]}, ["activations", "expected 3"]),
        ({"layout": 2}, ["in layout 2"]),
        ({"hidden_size": 5}, ["hidden_size 5", "do not fit"]),
        ({"hidden_size": "four"}, ["hidden_size, 'four'", "expected a number"]),
        ({"tempo": 2}, ["attribute 'tempo'"]),
    ],
)
def test_an_attribute_that_cannot_be_run_is_refused(tmp_path, attributes, words):
    refused(saved(tmp_path, plain(**attributes), tensors()), "'cell0' (LSTM)", *words)


@pytest.mark.parametrize(
    ("place", "array", "words"),
    [
        (7, np.ones((1, 3 * H), np.float32), ["input P is not 0"]),
        (5, np.zeros((1, 1, 2), np.float32), ["input initial_h of shape (1, 1, 2), expected (1, 1, 4)"]),
        (6, np.zeros((1, 1, 2 * H), np.float32), ["input initial_c of shape (1, 1, 8)", "proj_size"]),
        (6, np.full((1, 1, H), np.nan, np.float32), ["input initial_c: 4 of 4 values are NaN"]),
        (4, np.array([2], np.int32), ["input sequence_lens is not the number of rows"]),
    ],
)
def test_an_input_that_cannot_be_run_is_refused(tmp_path, place, array, words):
    more = ["", "", "", ""]
    more[place - 4] = "extra"
    refused(saved(tmp_path, plain("LSTM", *more), tensors() | {"extra": array}), "'cell0' (LSTM)", *words)


def other_networks() -> dict[str, tuple[list[onnx.NodeProto], list[str]]]:
    one = [recurrent(), node("Squeeze", "y0 one", "s0")]
    return {
        "no recurrent node": ([*head("x")], ["no LSTM, GRU, RNN among its nodes", "dynamo=False"]),
        "softmax over time": (
            [*one, *head(), node("Softmax", "out", "o", axis=0)],
            ["'Softmax of o' (Softmax)", "not that of the channels"],
        ),
        "mish": ([*one, *head(), node("Mish", "out", "o")], ["'Mish of o' (Mish)", "on rows"]),
        "attention": ([*one, node("Mul", "s0 s0", "o")], ["'Mul of o' (Mul)", "product of rows and rows"]),
        "erf": ([*one, node("Erf", "s0", "o")], ["'Erf of o' (Erf)", "only as a part of gelu"]),
        "its own domain": ([*one, node("MatMul", "s0 head_w", "o", domain="my.ops")], ["my.ops.MatMul"]),
        "mean over time": ([*one, node("ReduceMean", "s0", "o")], ["'ReduceMean of o' (ReduceMean)"]),
        "a part of a row": (
            [*one, node("Reshape", "s0 flat", "g"), node("MatMul", "g wide", "o")],
            ["MatMul", "values of several at once"],
        ),
        "turned": (
            [*one, node("Transpose", "s0", "o", perm=[0, 2, 1])],
            ["'o'", "after node 'Transpose of o'"],
        ),
        "some rows": (
            [node("Slice", "x one two", "x1"), recurrent("LSTM", 0, "x1")],
            ["takes no rows"],
        ),
        "one step": ([*one, node("Gather", "s0 one", "o", axis=0)], ["neither all rows nor the last"]),
        "divided": ([*one, *head(), node("Div", "f out", "o")], ["'Div of o' (Div)", "constants and rows"]),
        "in whole numbers": (
            [*one, *head(), node("Cast", "out", "o", to=6)],
            ["'Cast of o' (Cast)", "attribute to, 6"],
        ),
        "no data": ([*one, node("MatMul", "s0 absent", "o")], ["'absent'", "not in the file"]),
        "a circle": (
            [*one, node("Add", "q q", "p"), node("Add", "p p", "q"), node("Add", "s0 q", "o")],
            ["needs its own output"],
        ),
        "not W": ([*one, node("Relu", "x", "b0"), *head()], ["made twice"]),
        "two outputs": ([*one, *head(), node("Relu", "out", "o2")], ["'the outputs'", "'o2'"]),
        "nothing": ([], ["no LSTM"]),
    }


@pytest.mark.parametrize("name", other_networks())
def test_another_network_is_refused(tmp_path, name):
    nodes, words = other_networks()[name]
    outputs = (nodes[-1].output[0] if nodes else "x",) + (("out",) if name == "two outputs" else ())
    given = tensors() | {"f": np.full(1, 2, np.float32), "two": np.array([2], INT)}
    given |= {"flat": np.array([1, -1], INT), "wide": np.ones((3 * H, 1), np.float32)}
    refused(saved(tmp_path, nodes, given, outputs=outputs), *words)


def test_an_encoder_and_decoder_are_refused(tmp_path):
    nodes = [
        recurrent("GRU", 0),
        recurrent("GRU", 1, "x", "", "h0"),
        node("Squeeze", "y1 one", "s0"),
        *head(),
    ]
    given = tensors("GRU", 2)
    given["w1"] = given["w1"][:, :, :3].copy()
    refused(saved(tmp_path, nodes, given), "'cell1' (GRU)", "initial_h is computed")


def test_layers_over_other_axes_are_refused(tmp_path):
    """A second layer that takes the batch for time."""
    nodes = [
        recurrent("GRU", 0),
        node("Squeeze", "y0 one", "s0"),
        node("Transpose", "s0", "t", perm=[1, 0, 2]),
    ]
    nodes += [recurrent("GRU", 1, "t"), node("Squeeze", "y1 one", "s1"), *head("s1")]
    refused(saved(tmp_path, nodes, tensors("GRU", 2)), "'cell1' (GRU)", "not those of the layer before")


def test_an_unrolled_export_is_refused():
    refused(GOLDEN / "relu-dynamo.onnx", "unrolled", "dynamo=False")


def test_other_inputs_are_refused(tmp_path):
    two = [node("Add", "x x2", "sum"), recurrent("LSTM", 0, "sum"), *plain()[1:]]
    refused(saved(tmp_path, two, tensors(), inputs={"x2": (1, 1, 3)}), "expected one input", "['x', 'x2']")
    refused(saved(tmp_path, plain(), tensors(), shape=("t", "b", "c")), "input 'x'", "C being fixed")
    refused(saved(tmp_path, plain(), tensors(), shape=(1 << 19, 1, 3)), "input 'x'", "too large")
    large = saved(tmp_path, plain("LSTM", "", "h"), tensors(), inputs={"h": (1 << 60, 1 << 60)})
    refused(large, "input 'h'", "too large for a state")
    refused(saved(tmp_path, plain(), tensors(), opset=6), "opset 6")


def test_tensors_that_do_not_fit_are_refused(tmp_path):
    for name, array in {
        "w0": np.zeros((1, 16, 2), np.float32),
        "r0": np.zeros((1, 16, 5), np.float32),
        "b0": np.zeros((2, 32), np.float32),
        "head_w": np.zeros((5, 2), np.float32),
        "head_b": np.zeros(3, np.float32),
    }.items():
        refused(
            saved(tmp_path, plain(), tensors() | {name: array}),
            "'cell0'" if name in "w0r0b0" else "(Add)" if name == "head_b" else "(MatMul)",
            "expected" if name != "w0" else "takes 2 values of 3",
        )
    refused(saved(tmp_path, plain(), tensors() | {"w0": np.full((1, 16, 3), np.nan, np.float32)}), "NaN")
    refused(saved(tmp_path, plain(), tensors() | {"r0": np.ones((1, 16, 4), INT)}), "floating-point")


# hostile files


def test_rows_times_units_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_walk, "FOLDED_LIMIT", 3000)
    file = saved(tmp_path, plain(), tensors(), shape=(1000, 1, 3))
    refused(file, "'cell0' (LSTM)", "more than 3,000 elements")


@pytest.mark.parametrize("shape", [(4, 0), (1, 0, 4, 2)])
def test_weights_of_no_units_are_refused(tmp_path, shape):
    refused(saved(tmp_path, plain(), tensors() | {"head_w": np.zeros(shape, np.float32)}), "weights of shape")


def test_a_product_with_the_last_state_says_what_to_export(tmp_path):
    nodes = [recurrent(), node("MatMul", "h0 head_w", "o")]
    nodes[0].output[:] = ["y0", "ignored", "h0"]  # the cell's state
    file = saved(tmp_path, nodes, tensors(), outputs=("o",))
    refused(file, "takes the cell state of an LSTM", "out[:, -1]")


def test_data_outside_of_the_file_is_not_read(tmp_path):
    (tmp_path / "weights").write_bytes(b"\1" * 10_000)
    file = saved(tmp_path, plain(), tensors())
    model = onnx.load(file)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="weights"))
    file.write_bytes(model.SerializeToString())
    refused(file, "kept in another file", "one file")


def test_a_size_is_not_believed(tmp_path):
    file = saved(tmp_path, plain(), tensors())
    model = onnx.load(file)
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 1 << 10]
    file.write_bytes(model.SerializeToString())
    refused(file, "tensor 'w0'", "does not fit what is stored")


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Concat", "Add", "Gather"])
def test_folding_makes_no_more_than_it_may(tmp_path, monkeypatch, op):
    monkeypatch.setattr(onnx_folding, "LARGEST", 1 << 20)
    given = tensors() | {"size": np.array([1 << 15, 1 << 14], INT), "v": np.zeros((1 << 14, 1), np.float32)}
    given |= {
        "zero": np.zeros(1, np.float32),
        "many": np.zeros(1 << 14, INT),
        "row": np.zeros((1, 1 << 14), np.float32),
    }
    made = {
        "ConstantOfShape": [node("ConstantOfShape", "size", "h")],
        "Expand": [node("Expand", "zero size", "h")],
        "Concat": [node("Concat", "zero " * 2, "d0", axis=0)]
        + [node("Concat", f"d{k} d{k}", f"d{k + 1}", axis=0) for k in range(40)]
        + [node("Identity", "d40", "h")],
        "Add": [node("Add", "v row", "h")],
        "Gather": [node("Gather", "row many", "g1", axis=0), node("Gather", "g1 many", "h", axis=0)],
    }
    refused(saved(tmp_path, [*made[op], *plain("LSTM", "", "h")], given), f"({op})", "elements")


def test_a_deep_chain_of_nodes_is_followed(tmp_path):
    deep = [node("Identity", f"a{k}", f"a{k + 1}") for k in range(3000)]
    nodes = [*deep, recurrent("LSTM", 0, "a3000"), *plain()[1:]]
    deep[0].input[0] = "x"
    assert_same(read(saved(tmp_path, nodes[::-1], tensors())), read(saved(tmp_path, plain(), tensors())))


@pytest.mark.parametrize("case", ["lstm-script", "gru-dynamo", "scaled-script"])
def test_damaged_files_are_refused_or_read(tmp_path, case):
    content = (GOLDEN / f"{case}.onnx").read_bytes()
    rng, file = random.Random(case), tmp_path / "net.onnx"
    refusals = 0
    for k in range(200):
        damaged = bytearray(content)
        if k % 4 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.choice([1, 1, 8]) if damaged else 0):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            adopted(read(file))
        except ModelError:
            refusals += 1
    assert 50 < refusals < 200


@pytest.mark.parametrize("content", [b"", b"\0", b"not a file of onnx", b"\x08\x09", b"{}"])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    file = tmp_path / "net.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelError):
        read(file)


def test_without_onnx_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="pip install onnx"):
        read(GOLDEN / "lstm-script.onnx")
