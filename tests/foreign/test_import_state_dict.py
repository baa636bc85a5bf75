"""What a state dict holds beside plain modules: wrappers' prefixes, norms, scaling, what is of no use."""

from dataclasses import replace
from pathlib import Path

import naive
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner

from streamrnn.cli import main
from streamrnn.foreign import torch_file
from streamrnn.foreign.checking import run_standardised
from streamrnn.foreign.importing import import_model
from streamrnn.foreign.network import Foreign, ImportOptions, OptionsError
from streamrnn.model.model_file import read_model
from streamrnn.model.settings import ModelError

TOLD = ImportOptions(("a", "b", "c"), ("p", "q"), "value", scaling="none", sample_period_s=0.0)
H = 4


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).uniform(-0.8, 0.8, shape).astype(np.float32)


def plain() -> dict[str, np.ndarray]:
    shapes = {
        "weight_ih_l0": (4 * H, 3),
        "weight_hh_l0": (4 * H, H),
        "bias_ih_l0": (4 * H,),
        "bias_hh_l0": (4 * H,),
    }
    tensors = {f"lstm.{name}": values(*shape, seed=k) for k, (name, shape) in enumerate(shapes.items())}
    return tensors | {"fc.weight": values(2, H), "fc.bias": values(2)}


def saved(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    file = folder / "state.safetensors"
    safetensors.numpy.save_file(tensors, file)
    return file


def read(folder: Path, tensors: dict[str, np.ndarray], **options: object) -> Foreign:
    return torch_file.read(saved(folder, tensors), replace(TOLD, **options))


def hidden_of(rows: np.ndarray) -> np.ndarray:
    """What the LSTM of ``plain`` gives, (n, H) float64."""
    tensors = {name.removeprefix("lstm."): array for name, array in plain().items() if "lstm" in name}
    return naive.run("lstm", tensors | {"head.weight": np.eye(H), "head.bias": np.zeros(H)}, rows)


def imported(folder: Path, tensors: dict[str, np.ndarray], **options: object) -> np.ndarray:
    """What the import gives for the rows of ``noise``."""
    model = import_model(saved(folder, tensors), folder / "out.safetensors", replace(TOLD, **options)).model
    return run_standardised(model, noise())


def noise() -> np.ndarray:
    return np.random.default_rng(4).standard_normal((300, 3), np.float32)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefix):
    foreign = read(tmp_path, {prefix + name: array for name, array in plain().items()})
    assert "'lstm' (3 to 4)" in foreign.notes[0]


def test_what_answers_do_not_need_is_left_out_by_name(tmp_path):
    more = {
        "model.loss.pos_weight": np.ones(1, "f"),
        "model.loss.scale.x": np.ones(3, "f"),
        "model.step": np.array(3),
    }
    tensors = {f"model.{name}": array for name, array in plain().items()} | more
    with pytest.raises(ModelError, match="--ignore"):
        read(tmp_path, tensors)
    expected = read(tmp_path, plain())
    for ignore in (("loss", "step"), ("loss.*", "st?p"), ("model.loss.*", "model.step")):
        found = read(tmp_path, tensors, ignore=ignore)
        np.testing.assert_array_equal(found.head_weight, expected.head_weight)
    with pytest.raises(OptionsError, match="no tensor is called 'lost'"):
        read(tmp_path, tensors, ignore=("lost",))
    words = [
        "import",
        str(saved(tmp_path, tensors)),
        "-o",
        str(tmp_path / "out.safetensors"),
        "--channels",
        "a,b,c",
    ]
    words += ["--outputs", "p,q", "--target", "value", "--scaling", "none", "--sample-period", "0"]
    result = CliRunner().invoke(main, [*words, "--ignore", "loss.*", "--ignore", "step"])
    assert result.exit_code == 0, result.output
    assert read_model(tmp_path / "out.safetensors").hidden == H


@pytest.mark.parametrize("names", [("_g", "_v"), (".original0", ".original1")])
def test_weight_norm_is_folded(tmp_path, names):
    tensors, at = plain(), "lstm.weight_hh_l0"
    weight = tensors.pop(at)
    start = at if names[0] == "_g" else "lstm.parametrizations.weight_hh_l0"
    lengths = np.linalg.norm(weight.astype(float), axis=1)
    tensors[start + names[0]], tensors[start + names[1]] = lengths[:, None].astype("f"), 3 * weight
    found = read(tmp_path, tensors)
    np.testing.assert_allclose(found.layers[0].weight_hh, weight, rtol=1e-6)


def test_a_batch_norm_is_folded_into_what_follows(tmp_path):
    more = {"bn.weight": values(H), "bn.bias": values(H, seed=1), "bn.running_mean": values(H, seed=2)}
    more |= {"bn.running_var": values(H, seed=3) ** 2 + 0.1, "bn.num_batches_tracked": np.array(7)}
    x = hidden_of(noise())
    x = (x - more["bn.running_mean"]) / np.sqrt(more["bn.running_var"] + 1e-5) * more["bn.weight"] + more[
        "bn.bias"
    ]
    expected = x @ plain()["fc.weight"].T + plain()["fc.bias"]
    np.testing.assert_allclose(imported(tmp_path, plain() | more), expected, rtol=0, atol=1e-5)
    assert not read(tmp_path, plain() | more).after
    assert "'bn': taken as a normalisation" in read(tmp_path, plain() | more).notes[1]


def test_a_layer_norm_is_run(tmp_path):
    more = {"norm.weight": values(H), "norm.bias": values(H, seed=1)}
    x = hidden_of(noise())
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    expected = (x * more["norm.weight"] + more["norm.bias"]) @ plain()["fc.weight"].T + plain()["fc.bias"]
    np.testing.assert_allclose(imported(tmp_path, plain() | more), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["", "scaler.", "x_"])
def test_the_buffers_of_a_scaler_scale_the_inputs(tmp_path, name):
    more = {f"{name}mean": np.array([1, 2, 3], "f"), f"{name}std": np.array([1, 0.5, 4], "f")}
    foreign = read(tmp_path, plain() | more)
    np.testing.assert_allclose(foreign.input_mean, more[f"{name}mean"])
    np.testing.assert_allclose(foreign.input_std, more[f"{name}std"])
    square = plain() | {"fc.weight": values(3, H), "fc.bias": values(3)}
    with pytest.raises(ModelError, match=r"inputs or outputs; leave them out by `--ignore`"):
        read(tmp_path, square | more)
    assert read(tmp_path, square | more, ignore=(f"{name}mean", f"{name}std")).input_mean is None


def test_an_encoder_and_its_decoder_are_not_taken_for_a_stack(tmp_path):
    decoder = {f"decoder.{name}": values(*array.shape) for name, array in plain().items()}
    decoder["decoder.lstm.weight_ih_l0"] = values(4 * H, 2)
    encoder = {f"encoder.{name}": array for name, array in plain().items() if "lstm" in name}
    with pytest.raises(ModelError, match="no way"):
        read(tmp_path, encoder | decoder)
