"""``import --window``, and a network as windows and as a stream beside what a recording turned out to be."""

import json
from pathlib import Path

import naive
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from models import untrained
from tables import write

from streamrnn.cli import main
from streamrnn.foreign import both_ways
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model

WINDOW, ROWS = 6, 300
NAMES = ["flow", "pressure"]


@pytest.fixture
def network(tmp_path) -> Path:
    tensors = untrained("lstm", 2, 20).tensors()
    file = tmp_path / "net.safetensors"
    kept = {f"lstm.{name}": tensor for name, tensor in tensors.items() if name.startswith(("weight", "bias"))}
    safetensors.numpy.save_file(
        kept | {f"fc.{part}": tensors[f"head.{part}"] for part in ("weight", "bias")}, file
    )
    return file


def values() -> np.ndarray:
    return np.random.default_rng(3).normal(5, 2, (ROWS, 2)).astype(np.float32)


def recording(folder: Path) -> Path:
    lines = [",".join(NAMES), *(",".join(map(str, row)) for row in values()), ""]
    return write(folder, "\n".join(lines), "rows.csv")


def run(network: Path, *words: object) -> tuple[dict, str, Model]:
    output = network.with_name("out.safetensors")
    said = ["import", network, "-o", output, "--channels", "flow,pressure", "--sample-period", "1s", "--json"]
    result = CliRunner().invoke(main, [*map(str, said), *map(str, words)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr, read_model(output)


def errors(model: Model, ahead: int, window: int) -> np.ndarray:
    """Of the rows from a whole window on, in standard deviations; slow."""
    rows, found = values(), []
    for at in range(window - 1, ROWS - ahead):
        seen = rows[at + 1 - window : at + 1] if model.window else rows[: at + 1]
        said = naive.run(model.cell, model.tensors(), seen)[-1]
        found.append((said - rows[at + ahead]) / model.output_std)
    return np.array(found)


def test_forecasts_are_compared_with_the_channels_one_row_later(network, tmp_path):
    table = recording(tmp_path)
    told = ("--target", "next", "--scaling", table)
    of_windows, said, model = run(network, *told, "--window", WINDOW)
    assert model.window == of_windows["window"] == WINDOW
    assert f"each row is answered from the last {WINDOW}, at a cost of {WINDOW} steps" in said
    _, _, stream = run(network, *told)
    both = of_windows["both_ways"]
    assert (both["rows"], both["outputs"]) == (ROWS - WINDOW, NAMES)
    for each, key in ((model, "of_windows"), (stream, "of_stream")):
        expected = np.sqrt(np.mean(errors(each, 1, WINDOW) ** 2))
        np.testing.assert_allclose(both[key], expected, rtol=1e-5)
    assert (
        f"error {both['of_windows']:.4g} from windows of 6 rows, {both['of_stream']:.4g} as a stream" in said
    )


def test_only_outputs_that_the_recording_has_are_compared(network, tmp_path):
    table = recording(tmp_path)
    told = ("--target", "value", "--scaling", table, "--window", WINDOW, "--ahead", 3)
    both = run(network, *told, "--outputs", "pressure,flow")[0]["both_ways"]
    assert (both["rows"], both["outputs"]) == (ROWS - WINDOW - 2, ["pressure", "flow"])
    known = ("--target", "value", "--window", WINDOW, "--outputs", "pressure,power")
    known += ("--output-mean", "0,0", "--output-std", "2,3", "--scaling", table)
    assert run(network, *known)[0]["both_ways"]["outputs"] == ["pressure"]
    none = ("--target", "value", "--window", WINDOW, "--outputs", "power,state")
    none += ("--output-mean", "0,0", "--output-std", "2,3", "--scaling", table)
    assert "both_ways" not in run(network, *none)[0]


def test_nothing_is_compared_where_there_is_no_window_or_no_recording(network, tmp_path):
    assert "both_ways" not in run(network, "--target", "next", "--scaling", recording(tmp_path))[0]
    told, _, model = run(network, "--target", "next", "--scaling", "none", "--window", WINDOW)
    assert "both_ways" not in told and model.window == WINDOW


def test_the_verdict_says_which_is_better_and_how_to_have_it():
    both = both_ways.BothWays("rows.csv", ("flow",), 1000, 24, 0.5, 0.8)
    assert "windows are better by 38%" in both.text(24) and "--window" not in both.text(24)
    assert both.text(0).endswith("windows are better by 38%: import with --window 24")
    other = both._replace(of_windows=1.0)
    assert other.text(24).endswith("the stream is better by 20%: import with --window 0")
    assert both._replace(of_stream=0.502).text(24).endswith("they are alike")


def test_what_would_take_long_is_not_compared(network, tmp_path, monkeypatch):
    monkeypatch.setattr(both_ways, "WORK", 10**6)
    told = ("--target", "next", "--scaling", recording(tmp_path), "--window", WINDOW)
    assert "both_ways" not in run(network, *told)[0]
