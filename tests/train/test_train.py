"""`streamrnn train` as a user meets it: what it prints, writes and refuses, and real data."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from streamrnn.cli import main
from streamrnn.model.cells import NAMES
from streamrnn.model.model_file import read_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.table import Reading

DATA = Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data"))
SKAB, ETT = DATA / "skab" / "anomaly-free" / "anomaly-free.csv", DATA / "ett" / "ETTh1.csv"


def train(*words: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, words)], prog_name="streamrnn")


@pytest.fixture(scope="module")
def crank(tmp_path_factory) -> Path:
    """A crank whose next row no linear forecast knows (Hénon 1976), and a push: 3,000 rows, 0.1 s apart."""
    rng, rows, x, y = np.random.default_rng(0), [], 0.1, 0.1
    for row in range(3000):
        x, y = 1 - 1.4 * x**2 + y, 0.3 * x
        noisy = np.add([x, y, np.sin(row / 40)], rng.normal(0, 0.003, 3))
        rows.append(f"{1_700_000_000_000 + 100 * row},{','.join(f'{value:.5f}' for value in noisy)}")
    path = tmp_path_factory.mktemp("data") / "crank.csv"
    path.write_text("time,angle,speed,push\n" + "\n".join(rows) + "\n")
    return path


def test_what_it_says_and_what_it_writes(crank, tmp_path):
    output = tmp_path / "model.safetensors"
    result = train(crank, "-o", output, "--epochs", 30, "--hidden", 20, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    taken, found = result.stderr.splitlines()
    assert taken.endswith(
        'crank.csv: text in UTF-8, comma between columns, names on line 1, times of "time" (numbers in ms)'
    )
    assert found == "found 3,000 rows, 1 stream, 0 gaps, 0.1 s apart; channels angle, speed, push"
    errors = told["validation_mse"]
    assert errors["network"] < 0.5 * errors["linear"] < 0.5 * errors["persistence"]
    assert told["rows"]["learned"] + told["rows"]["validated"] == 2999
    model = read_model(output)
    assert (model.cell, model.hidden, model.target, model.sample_period_s) == ("lstm", 20, "next", 0.1)
    assert [channel.name for channel in model.channels] == ["angle", "speed", "push"]
    assert model.training["validation_mse"]["network"] == errors["network"]
    assert model.training["files"] == ["crank.csv"] and model.training["settings"]["seed"] == 0
    # the errors in the file are those of the engine on the rows that were kept from training
    summary = replay(ReplayOptions(str(crank), output, Faults(), str(tmp_path / "out.parquet")))
    assert summary.predicted == 3000
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    rows = np.loadtxt(crank, delimiter=",", skiprows=1)
    for k, name in enumerate(("angle", "speed", "push")):
        error = table[f"{name}_pred"].to_numpy()[2399:-1] - rows[2400:, 1 + k]
        assert error.std() == pytest.approx(model.errors["std"][k], rel=1e-3)
        assert error.mean() == pytest.approx(model.errors["mean"][k], abs=1e-3 * error.std())
    assert model.errors["rows"] == 600


def test_rounded_weights_are_judged_as_they_run(crank, tmp_path):
    """The file keeps the weights as they were trained, and the errors of those that a step runs."""
    words = ("--epochs", 10, "--hidden", 20, "--weights", "bfloat16")
    told = json.loads(train(crank, "-o", tmp_path / "m", *words, "--json").stdout)
    plain = json.loads(train(crank, "-o", tmp_path / "n", *words[:-1], "float32", "--json").stdout)
    assert told["weights"] == "bfloat16" and "weights" not in plain
    assert told["validation_mse_in_float32"] == plain["validation_mse"]["network"]
    assert told["validation_mse"]["network"] == pytest.approx(plain["validation_mse"]["network"], rel=0.05)
    model, trained = read_model(tmp_path / "m"), read_model(tmp_path / "n")
    assert model.weights == "bfloat16"
    np.testing.assert_array_equal(model.layers[0].weight_hh, trained.layers[0].weight_hh)
    replay(ReplayOptions(str(crank), tmp_path / "m", Faults(), str(tmp_path / "out.csv")))
    rows = np.loadtxt(crank, delimiter=",", skiprows=1)
    names = (tmp_path / "out.csv").read_text().splitlines()[0].split(",")
    said = np.genfromtxt(
        tmp_path / "out.csv", delimiter=",", skip_header=1, usecols=names.index("angle_pred")
    )
    error = said[2399:-1] - rows[2400:, 1]
    assert error.std() == pytest.approx(model.errors["std"][0], rel=1e-3)
    assert model.errors != trained.errors


def test_the_table_that_a_person_reads(crank, tmp_path):
    words = ("--epochs", 5, "--cell", "gru", "--explain", "--weights", "bfloat16")
    result = train(crank, "-o", tmp_path / "m", *words)
    assert result.exit_code == 0, result.stderr
    assert re.search(
        r"^recurrent weights in bfloat16 change the network's error by [+-]\d", result.stdout, re.M
    )
    assert re.search(r"^validation error +network +linear +persistence$", result.stdout, re.MULTILINE)
    assert re.search(r"^all, in standard deviations( +[\d.]+){3}$", result.stdout, re.MULTILINE)
    for cell in NAMES:
        for when in ("untrained", "trained"):
            assert re.search(rf"^ *{cell}, {when}( +\d\.\de[+-]\d\d){{9}}", result.stdout, re.MULTILINE)


def test_a_network_that_does_not_pay_is_said_so(tmp_path):
    """Of what wanders at random nothing is better than persistence, and nothing pretends to be."""
    walk = np.cumsum(np.random.default_rng(0).normal(size=(2000, 2)), axis=0)
    lines = "\n".join(f"{a:.5f},{b:.5f}" for a, b in walk)
    (tmp_path / "walk.csv").write_text(f"a,b\n{lines}\n")
    result = train(tmp_path / "walk.csv", "-o", tmp_path / "m", "--epochs", 10)
    assert "the network does not pay here" in result.stdout


def test_columns_of_their_own_ahead(crank, tmp_path):
    words = ("--target", "angle", "--horizon", 5, "--channels", "speed,push", "--epochs", 10)
    result = train(crank, "-o", tmp_path / "m", *words)
    assert result.exit_code == 0, result.stderr
    assert "outputs angle, 5 rows ahead" in result.stderr
    assert re.search(r"^validation error +network +linear +mean$", result.stdout, re.MULTILINE)
    model = read_model(tmp_path / "m")
    assert (model.target, model.ahead, [output.name for output in model.outputs]) == ("value", 5, ["angle"])
    assert [channel.name for channel in model.channels] == ["speed", "push"]
    every = train(crank, "-o", tmp_path / "n", "--horizon", 3, "--epochs", 2)
    assert every.exit_code == 0, every.stderr
    model = read_model(tmp_path / "n")
    assert (model.target, model.ahead, len(model.outputs)) == ("value", 3, 3)


def test_the_same_seed_gives_the_same_file(crank, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        command = [sys.executable, "-m", "streamrnn", "train", crank, "-o", tmp_path / name]
        options = ["--epochs", "3", "--layers", "2", "--seed", str(seed)]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)
    same, again, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert same == again != other


def test_ctrl_c_keeps_the_best_so_far(crank, tmp_path):
    """A second terminal would show the line of progress; this one reads it, then interrupts."""
    import pty

    controller, terminal = pty.openpty()
    words = ["-o", str(tmp_path / "m"), "--epochs", "100000", "--patience", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamrnn", "train", str(crank), *words],
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    said, end = "", time.monotonic() + 120
    try:
        while not re.search(r"epoch (\d+) of 100000.*best [\d.e-]+ at [1-9]", said.rpartition("\r")[2]):
            assert time.monotonic() < end and process.poll() is None, said
            said += os.read(controller, 4096).decode()
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        os.close(controller)
    assert re.search(r"validation [\d.]+ \(best [\d.]+ at \d+\), [\d,]+ rows/s, at most [\d,]+ s left", said)
    assert process.returncode == 130
    assert "as it was interrupted" in output
    assert read_model(tmp_path / "m").training["best_epoch"] >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--channels", "angle,torque"), 'has no column "torque"; '),
        (("--limit", 2), "at least"),
        (("--target", "torque"), 'has no column "torque"'),
        (("--rate", 1e30), "the training diverged; use a smaller --rate"),
        (("-o", "nowhere/m"), "no such folder"),
        (("--on-error", "skip", "-o", "CRANK"), "is read by this training"),
    ],
)
def test_what_cannot_be_done_is_refused(crank, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    words = [str(crank) if word == "CRANK" else word for word in words]
    before = crank.read_bytes()
    result = train(crank, "-o", "m", "--epochs", 2, *words)
    assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
    assert not (tmp_path / "m").exists() and crank.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", 20), "20 is not a multiple of 16"),
        (("--dropout", 1), "--dropout"),
        (("--validation", 0), "--validation"),
        (("--cell", "lstm", "--activation", "relu"), "--activation relu is for --cell rnn"),
    ],
)
def test_wrong_usage(crank, tmp_path, words, message):
    result = train(crank, "-o", tmp_path / "m", *words)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


@pytest.mark.skipif(not SKAB.is_file(), reason=f"{SKAB} is missing")
def test_a_valve_bench_in_two_minutes(tmp_path):
    began = time.monotonic()
    result = train(SKAB, "-o", tmp_path / "m", "--json")
    assert result.exit_code == 0, result.stderr
    assert time.monotonic() - began < 120
    errors = json.loads(result.stdout)["validation_mse"]
    assert errors["network"] < 0.6 * errors["persistence"]


@pytest.mark.skipif(not ETT.is_file(), reason=f"{ETT} is missing")
def test_an_electricity_transformer_beside_the_linear_forecast_of_others(tmp_path):
    """One hour ahead on rows 11520 to 14399: persistence 0.17482, a linear forecast of 48 rows 0.10284."""
    result = train(ETT, "-o", tmp_path / "m", "--limit", 11520, "--validation", 0.25, "--cell", "gru")
    assert result.exit_code == 0, result.stderr
    out = tmp_path / "out.parquet"
    replay(ReplayOptions(str(ETT), tmp_path / "m", Faults(), str(out), reading=Reading(limit=14400)))
    import pyarrow.parquet

    table, model = pyarrow.parquet.read_table(out), read_model(tmp_path / "m")
    rows = np.loadtxt(ETT, delimiter=",", skiprows=1, usecols=range(1, 8), max_rows=14400)
    predicted = np.stack([table[f"{output.name}_pred"].to_numpy() for output in model.outputs], axis=1)
    error = (predicted[11519:-1] - rows[11520:]) / model.output_std
    assert (error**2).mean() < 0.1028
