"""Bands over the wire: what a daemon publishes is what replay writes, killed in between or not."""

import csv
import json
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from daemons import Daemon, Prediction, serving
from models import untrained
from neighbours import command

from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import write_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults, Predict
from streamrnn.wire.frame import BANDS, ROLLOUT

ROWS, KILLED = 120, 70
LEVELS = 0.5, 0.9
ASKED = {"predict.bands": LEVELS}
VALUES = np.random.default_rng(3).normal(0, 5, (ROWS, 3)).astype(np.float32)
ENDS = "low50", "high50", "low90", "high90"
KEPT = "live", "snapshots", "snapshots and adapt"
long = pytest.mark.skipif("not config.getoption('--long')", reason="compiles one more: run with --long")


@pytest.fixture
def live() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield folder


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_model(untrained(highway=3), path)
    return path


def replayed(model: Path, folder: Path, predict: Predict, suffix: str = ".csv") -> Path:
    source, output = folder / "s.csv", folder / f"out{suffix}"
    np.savetxt(source, VALUES, "%.9g", ",", header="c0,c1,c2", comments="")
    replay(ReplayOptions(str(source), model, Faults(), str(output), predict=predict))
    return output


def bands_in(path: Path) -> np.ndarray:
    """(rows, 2 bands, outputs) float32 of a CSV of results."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [[[row[f"c{k}_{end}"] or "nan" for k in range(3)] for end in ENDS] for row in rows]
    return np.array(cells, np.float32)


def send_and_hear(daemon: Daemon, first: int, last: int) -> list[Prediction]:
    with daemon.line() as line:
        for seq in range(first, last):
            line.send("s", VALUES[seq], seq=seq)
        return line.receive(last - first)


def test_live_replayed_and_fed_are_the_same_bit_for_bit(model_file, tmp_path, live):
    """Killed in the middle and started again, the daemon goes on as replay does."""
    engine = Engine(untrained(highway=3), 1, Faults(), predict=Predict(bands=LEVELS))
    wanted = engine.feed(["s"], np.zeros(ROWS, np.int64), VALUES).bands
    np.testing.assert_array_equal(bands_in(replayed(model_file, tmp_path, Predict(bands=LEVELS))), wanted)
    found = list[Prediction]()
    for first, last in ((0, KILLED), (KILLED, ROWS)):
        with serving(model_file, ASKED | {"state.live": live}) as daemon:
            found += send_and_hear(daemon, first, last)
            assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert all(int(message.header["flags"]) & BANDS for message in found)
    assert np.isfinite(wanted[1:]).all()
    assert np.stack([message.bands[:, 0] for message in found]).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kept", ["live", *(pytest.param(kept, marks=long) for kept in KEPT[1:])])
def test_streams_stay_when_bands_are_switched_on_and_off(model_file, tmp_path, live, kept):
    """Killed in between or not: values, score and step go on bit for bit, and bands begin anew."""
    settings = {"state.live": live} if kept == "live" else {"state.snapshots": str(tmp_path / "kept")}
    settings |= {"adapt.enabled": True} if "adapt" in kept else {}
    memory = 500 if "adapt" in kept else 0
    wanted = Engine(untrained(highway=3), 1, Faults(), memory=memory).feed(
        ["s"], np.zeros(ROWS, np.int64), VALUES
    )
    found, parts = list[Prediction](), [(0, 40, {}), (40, 80, ASKED), (80, ROWS, {})]
    for first, last, asked in parts:
        with serving(model_file, settings | asked) as daemon:
            found += send_and_hear(daemon, first, last)
            assert first == 0 or "streams" in daemon.said
            daemon.stop(signal.SIGKILL if kept == "live" else signal.SIGTERM)
            assert first == 0 or kept != "live" or "bands; its streams moved" in daemon.said
    assert np.stack([message.values[0] for message in found]).tobytes() == wanted.values.tobytes()
    for name in ("step", "score", "residual", "epoch"):
        np.testing.assert_array_equal([message.header[name] for message in found], wanted.said[name])
    sides = np.stack([message.bands for message in found[41:80]])
    assert np.isfinite(sides).all()
    assert not any(int(message.header["flags"]) & BANDS for message in found[:40] + found[80:])


def test_a_meter_far_from_zero_has_bands_where_it_is(tmp_path):
    bare = untrained(mean=np.zeros(3), std=np.ones(3))
    channels = tuple(replace(channel, offset=1000.0) for channel in bare.channels)
    model = tmp_path / "model.safetensors"
    write_model(replace(bare, channels=channels, outputs=channels), model)
    wanted = Engine(bare, 1, Faults(), predict=Predict(bands=LEVELS)).feed(
        ["s"], np.zeros(ROWS, np.int64), VALUES
    )
    with serving(model, ASKED) as daemon, daemon.line() as line:
        for seq, row in enumerate(VALUES):
            line.publisher.send_multipart([b"s", line.pack(row.astype(float) + 1000.0, seq=seq)])
        found = np.stack([message.bands[:, 0] for message in line.receive(ROWS)])
    np.testing.assert_allclose(found, wanted.bands + 1000.0, atol=2e-3)


def test_without_bands_a_message_is_as_it_was(model_file):
    with serving(model_file) as daemon:
        found = send_and_hear(daemon, 0, 20)
    assert not any(int(message.header["flags"]) & BANDS or message.bands.size for message in found)


@pytest.mark.parametrize("output", ["prediction", "json"])
def test_tail_prints_them_under_their_names(model_file, output):
    with serving(model_file, ASKED | {"output.format": output}) as daemon:
        given = ["tail", daemon.publishes, "--bands", "0.5,0.9", "-m", model_file, "--topic", "s"]
        tails = [command(*given, "--limit", "5", *more) for more in ([], ["--json"])]
        with daemon.line() as line:
            while any(tail.poll() is None for tail in tails):
                line.send("s", VALUES[0])
                line.receive()
        text, objects = (tail.communicate()[0].splitlines() for tail in tails)
    said = json.loads(objects[-1])
    names = [f"c{k}_{end}" for k in range(3) for end in ENDS]
    assert sorted([*said["low"], *said["high"]]) == sorted(names)
    assert all(f" {name}=" in text[-1] for name in names)
    assert said["low"]["c0_low90"] <= said["low"]["c0_low50"] <= said["high"]["c0_high50"]


def test_tail_must_be_told_of_them(model_file):
    with serving(model_file, ASKED) as daemon:
        tail = command("tail", daemon.publishes, "--topic", "s")
        with daemon.line() as line:
            while tail.poll() is None:
                line.send("s", VALUES[0])
                line.receive()
        assert "its predictions have bands; name their levels, as --bands 0.5,0.9" in tail.communicate()[1]
    assert tail.returncode == 1


def test_parquet_and_ndjson_have_their_columns(model_file, tmp_path):
    wanted = bands_in(replayed(model_file, tmp_path, Predict(bands=LEVELS)))
    table = pyarrow.parquet.read_table(replayed(model_file, tmp_path, Predict(bands=LEVELS), ".parquet"))
    lines = replayed(model_file, tmp_path, Predict(bands=LEVELS), ".ndjson").read_text().splitlines()
    for k in range(3):
        for side, end in enumerate(ENDS):
            np.testing.assert_array_equal(table[f"c{k}_{end}"].to_numpy(), wanted[:, side, k])
            said = [json.loads(line)[f"c{k}_{end}"] for line in lines]
            np.testing.assert_array_equal(np.array(said, np.float32), wanted[:, side, k])


def test_rollouts_go_on_bit_for_bit_after_a_kill(model_file, live):
    predict = Predict(bands=LEVELS, horizon=6, every=4)
    engine = Engine(untrained(highway=3), 1, Faults(), predict=predict)
    wanted = engine.feed(["s"], np.zeros(ROWS, np.int64), VALUES)
    settings = ASKED | {"predict.horizon": 6, "predict.every": 4, "state.live": live}
    found = list[Prediction]()
    for first, last in ((0, KILLED), (KILLED, ROWS)):
        with serving(model_file, settings) as daemon, daemon.line() as line:
            for seq in range(first, last):
                line.send("s", VALUES[seq], seq=seq)
            found += line.receive(last - first + last // 4 - first // 4)
            assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    rollouts = [each for each in found if each.header["kind"] == ROLLOUT]
    assert np.stack([each.bands for each in rollouts]).tobytes() == wanted.bands_ahead.tobytes()
    assert not np.array_equal(wanted.bands_ahead[5], wanted.bands_ahead[20])


@pytest.mark.parametrize("output", ["prediction", "json"])
def test_rollouts_are_published_with_theirs(model_file, tmp_path, output):
    """As replay writes them, row by row ahead."""
    predict = Predict(bands=LEVELS, horizon=4, every=10)
    engine = Engine(untrained(highway=3), 1, Faults(), predict=predict)
    said = engine.feed(["s"], np.zeros(ROWS, np.int64), VALUES)
    settings = ASKED | {"predict.horizon": 4, "predict.every": 10, "output.format": output}
    with serving(model_file, settings) as daemon, daemon.line() as line:
        for seq, row in enumerate(VALUES):
            line.send("s", row, seq=seq)
        found = line.receive(ROWS + ROWS // 10)
    rollouts = [each for each in found if each.header["kind"] in (ROLLOUT, "rows")]
    assert len(rollouts) == ROWS // 10 == len(said.several)
    if output == "json":
        for message, sides in zip(rollouts, said.bands_ahead, strict=True):
            low, high = message.header["low"], message.header["high"]
            for k in range(3):
                for side, end in enumerate(ENDS):
                    told = (low if side % 2 == 0 else high)[f"c{k}_{end}"]
                    np.testing.assert_array_equal(np.array(told, np.float32), sides[side, :, k])
        return
    assert np.stack([each.values for each in rollouts]).tobytes() == said.several.tobytes()
    assert np.stack([each.bands for each in rollouts]).tobytes() == said.bands_ahead.tobytes()
    rows = bands_in(replayed(model_file, tmp_path, predict))
    ahead = rows[[*range(9, 13)]]  # those of the first rollout
    np.testing.assert_array_equal(ahead, said.bands_ahead[0].swapaxes(0, 1))
