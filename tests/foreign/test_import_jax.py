"""Flax's and Haiku's parameters: by their formulas, and with --long beside the libraries themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
import safetensors.numpy

from streamrnn.errors import UserError
from streamrnn.foreign import flax_file, torch_file
from streamrnn.foreign.checking import run_standardised
from streamrnn.foreign.importing import find_library, import_model
from streamrnn.foreign.network import Foreign, ImportOptions
from streamrnn.model.settings import ModelError

TOLD = ImportOptions(("a", "b", "c"), ("p", "q"), "value", scaling="none", sample_period_s=0.0)
H = 4


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).uniform(-0.8, 0.8, shape).astype(np.float32)


def noise(count: int = 300) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((count, 3), np.float32)


def read(folder: Path, tensors: dict[str, np.ndarray], **options: Any) -> Foreign:
    file = folder / "params.safetensors"
    safetensors.numpy.save_file(tensors, file)
    return torch_file.read(file, replace(TOLD, **options))


def test_gates_of_their_own_become_one_matrix(tmp_path):
    """Flax's LSTMCell: of each gate the input's kernel, and the state's kernel and bias."""
    kernels = {f"i{gate}": values(3, H, seed=k) for k, gate in enumerate("ifgo")}
    state = {f"h{gate}": values(H, H, seed=k) for k, gate in enumerate("ifgo")}
    tensors = {f"params/LSTMCell_0/{name}/kernel": array for name, array in (kernels | state).items()}
    tensors |= {f"params/LSTMCell_0/h{gate}/bias": values(H, seed=k) for k, gate in enumerate("ifgo")}
    tensors |= {"params/Dense_0/kernel": values(H, 2), "params/Dense_0/bias": values(2)}
    foreign = read(tmp_path, tensors)
    [layer] = foreign.layers
    np.testing.assert_array_equal(layer.weight_ih, np.concatenate([kernels[f"i{gate}"].T for gate in "ifgo"]))
    np.testing.assert_array_equal(layer.weight_hh, np.concatenate([state[f"h{gate}"].T for gate in "ifgo"]))
    np.testing.assert_array_equal(layer.bias_hh, np.concatenate([values(H, seed=k) for k in range(4)]))
    np.testing.assert_array_equal(foreign.head_weight, values(H, 2).T)
    assert foreign.library == "Flax"


def test_a_gru_of_haiku_keeps_what_pytorch_lets_go(tmp_path):
    """z, r, a = x w + h w + b, h' = (1 - z) h + z a, where r acts on h before its product."""
    w_i, w_h, b = values(3, 3 * H), values(H, 3 * H), values(3 * H)
    head = {"linear/w": values(H, 2), "linear/b": values(2)}
    file = tmp_path / "params.safetensors"
    safetensors.numpy.save_file({"gru/w_i": w_i, "gru/w_h": w_h, "gru/b": b, **head}, file)
    imported = import_model(file, tmp_path / "out.safetensors", TOLD)
    assert "Haiku" in imported.checked
    h, expected = np.zeros(H), []
    for x in noise():
        z, r, a = np.split(x @ w_i + b, 3)
        z, r = (
            naive.sigmoid(gate + h @ part)
            for gate, part in zip((z, r), np.split(w_h[:, : 2 * H], 2, 1), strict=True)
        )
        h = (1 - z) * h + z * np.tanh(a + (r * h) @ w_h[:, 2 * H :])
        expected.append(h @ head["linear/w"] + head["linear/b"])
    np.testing.assert_allclose(run_standardised(imported.model, noise()), expected, rtol=0, atol=1e-5)


def test_an_lstm_of_haiku_adds_one_to_its_forget_gate(tmp_path):
    foreign = read(tmp_path, {"lstm/linear/w": values(3 + H, 4 * H), "lstm/linear/b": values(4 * H)})
    forget = foreign.layers[0].bias_ih[H : 2 * H]
    np.testing.assert_allclose(forget, values(4 * H)[2 * H : 3 * H] + 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"conv/kernel": np.ones((3, 3, 4), "f")}, "'conv' of"),
        ({"c/dense_i/kernel": np.ones((3, 8), "f"), "c/dense_h/kernel": np.ones((4, 8), "f")}, "2 gates"),
        ({"lstm/linear/w": np.ones((3, 16), "f"), "lstm/linear/b": np.ones(16, "f")}, "not those of an LSTM"),
        (
            {"gru/w_i": np.ones((3, 9), "f"), "gru/w_h": np.ones((4, 12), "f"), "gru/b": np.ones(12, "f")},
            "a GRU",
        ),
        (
            {"bn/scale": np.ones(4, "f"), "bn/mean": np.ones(4, "f"), "d/kernel": np.ones((4, 4), "f")},
            "'bn' of",
        ),
    ],
)
def test_parameters_that_are_of_nothing_that_runs_are_refused(tmp_path, tensors, words):
    with pytest.raises(ModelError, match=words):
        read(tmp_path, tensors)


def packed(content: Any) -> bytes:
    """As flax.serialization writes it."""
    msgpack = pytest.importorskip("msgpack")

    def array(value: np.ndarray) -> Any:
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))

    return msgpack.packb(content, default=array)


def parameters() -> dict[str, Any]:
    cell = {
        "dense_i": {"kernel": values(3, 4 * H)},
        "dense_h": {"kernel": values(H, 4 * H), "bias": values(4 * H)},
    }
    return {"rnn": {"cell": cell}, "head": {"kernel": values(H, 2).astype(np.float16), "bias": values(2)}}


def test_msgpack_is_read(tmp_path):
    file = tmp_path / "params.msgpack"
    file.write_bytes(packed(parameters()))
    assert find_library(file) == "Flax"
    imported = import_model(file, tmp_path / "out.safetensors", TOLD)
    cell = parameters()["rnn"]["cell"]
    tensors = {"weight_ih_l0": cell["dense_i"]["kernel"].T, "weight_hh_l0": cell["dense_h"]["kernel"].T}
    tensors |= {"bias_ih_l0": np.zeros(4 * H), "bias_hh_l0": cell["dense_h"]["bias"]}
    head = parameters()["head"]
    tensors |= {"head.weight": head["kernel"].astype(float).T, "head.bias": head["bias"]}
    expected = naive.run("lstm", tensors, noise())
    np.testing.assert_allclose(run_standardised(imported.model, noise()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": 1}, "int in place of an array"),
        ({"a": values(2)}, "none of its arrays is a kernel"),
        ({"a": {"kernel": np.ones(3, np.int64)}}, "an array of int64"),
        ([1, 2], "not a whole file"),
        ({"a": {"__msgpack_chunked_array__": True}}, "in chunks"),
    ],
)
def test_msgpack_that_is_not_of_flax_is_refused(tmp_path, content, words):
    file = tmp_path / "params.msgpack"
    file.write_bytes(packed(content))
    with pytest.raises(ModelError, match=words):
        flax_file.read(file, TOLD)


def test_a_shape_in_msgpack_is_not_believed(tmp_path):
    msgpack = pytest.importorskip("msgpack")
    lie = msgpack.ExtType(1, msgpack.packb(((1 << 40, 1 << 20), "float32", b"\0" * 8)))
    file = tmp_path / "params.msgpack"
    file.write_bytes(msgpack.packb({"a": {"kernel": lie}}))
    with pytest.raises(ModelError, match="does not fit 8 bytes"):
        flax_file.read(file, TOLD)


def test_without_msgpack_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install msgpack"):
        flax_file.read(tmp_path / "params.msgpack", TOLD)


# beside the libraries


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"])
@pytest.mark.parametrize("api", ["nnx", "linen"])
def test_flax_gives_the_same(tmp_path, pytestconfig, api, cell):
    if not pytestconfig.getoption("long"):
        pytest.skip("with --long")
    flax, jax = pytest.importorskip("flax"), pytest.importorskip("jax")
    from flax import linen, nnx, serialization

    assert flax
    rng = np.random.default_rng(1)

    def drawn(tree: Any) -> Any:
        return jax.tree.map(lambda array: rng.uniform(-0.5, 0.5, array.shape).astype(np.float32), tree)

    if api == "linen":
        layers = [linen.RNN(getattr(linen, cell)(5)), linen.RNN(getattr(linen, cell)(4)), linen.LayerNorm()]
        module = linen.Sequential([*layers, linen.Dense(2)])
        given = drawn(module.init(jax.random.key(0), noise()[np.newaxis]))
        expected = module.apply(given, noise()[np.newaxis])[0]
    else:
        rngs = nnx.Rngs(0)
        module = nnx.Sequential(
            nnx.RNN(getattr(nnx, cell)(3, 4, rngs=rngs), rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
        )
        nnx.update(module, drawn(nnx.state(module, nnx.Param)))
        given = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
        expected = module(noise()[np.newaxis])[0]
    file = tmp_path / "params.msgpack"
    file.write_bytes(serialization.msgpack_serialize(jax.tree.map(np.asarray, given)))
    imported = import_model(file, tmp_path / "out.safetensors", TOLD)
    np.testing.assert_allclose(run_standardised(imported.model, noise()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "VanillaRNN"])
def test_haiku_gives_the_same(tmp_path, pytestconfig, cell):
    if not pytestconfig.getoption("long"):
        pytest.skip("with --long")
    haiku, jax = pytest.importorskip("haiku"), pytest.importorskip("jax")

    def network(x: Any) -> Any:
        stack = haiku.DeepRNN([getattr(haiku, cell)(4), getattr(haiku, cell)(6)])
        return haiku.Linear(2)(haiku.dynamic_unroll(stack, x, stack.initial_state(None))[0])

    made, rng = haiku.without_apply_rng(haiku.transform(network)), np.random.default_rng(1)
    given = made.init(jax.random.key(0), noise())
    given = jax.tree.map(lambda array: rng.uniform(-0.5, 0.5, array.shape).astype(np.float32), given)
    file = tmp_path / "params.safetensors"
    safetensors.numpy.save_file(
        {f"{m}/{k}": array for m, parts in given.items() for k, array in parts.items()}, file
    )
    imported = import_model(file, tmp_path / "out.safetensors", TOLD)
    np.testing.assert_allclose(
        run_standardised(imported.model, noise()), made.apply(given, noise()), rtol=0, atol=1e-5
    )
