"""Channels that never vary in training: they say nothing of the others, and are watched for a change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrnn.engine.engine import Engine
from streamrnn.model.inspect import describe_model, format_description
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults
from streamrnn.train.data.dataset import Sequence
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.descent import TrainSettings
from streamrnn.train.job import TrainOptions, learn, train
from streamrnn.train.judge.switches import find_switches
from streamrnn.train.relations import load_dataset
from streamrnn.train.report import TrainReport

ROWS = 1500
COLUMNS = ("wave", "valve", "firmware", "label")


def columns() -> dict[str, np.ndarray]:
    rng, rows = np.random.default_rng(1), np.arange(ROWS)
    wave = np.sin(rows / 9) + 0.1 * rng.normal(size=ROWS)
    valve = (rng.random(ROWS) < 0.03).cumsum() % 2
    return dict(zip(COLUMNS, (wave, valve, np.full(ROWS, 7.0), np.zeros(ROWS)), strict=True))


def options(folder: Path, **more: object) -> TrainOptions:
    path = folder / "rows.parquet"
    pq.write_table(pa.table(columns()), path)
    usual = {"hidden": 4, "settings": TrainSettings(epochs=3), "output": folder / "model.safetensors"}
    return TrainOptions(DataOptions((str(path),)), **(usual | more))


def learned(folder: Path, **more: object) -> tuple[Model, TrainReport]:
    asked = options(folder, **more)
    dataset = load_dataset(asked.data, asked.relation, None, 0, lambda rows: None)
    return learn(dataset, asked)


@pytest.mark.parametrize(("spread", "highway"), [(False, None), (True, 3), (False, 0)])
def test_they_are_channels_that_say_nothing_of_others(tmp_path, spread, highway):
    model, report = learned(tmp_path, spread=spread, highway=highway)
    assert [channel.name for channel in model.channels] == ["wave", "valve", "firmware"]
    assert model.score["switches"] == [False, True, True]
    assert report.outputs == ["wave", "valve"]  # whose errors say anything
    said = report.text()
    assert "firmware" not in said.split("validation error")[1]
    rows = np.column_stack([columns()[channel.name] for channel in model.channels]).astype(np.float32)
    changed = rows.copy()
    changed[700:, 2] = 9
    told = [
        Engine(model, 1, Faults()).feed(["s"], np.zeros(ROWS, np.int64), each) for each in (rows, changed)
    ]
    np.testing.assert_array_equal(told[0].values[..., :2], told[1].values[..., :2])
    np.testing.assert_array_equal(told[0].values[..., 2], 7)
    assert told[0].score[200:].max() < 3 < told[1].score[700:703].max()
    np.testing.assert_array_equal(told[1].shares[703] > 0.5, [False, False, True])


def test_labels_are_none_and_what_is_watched_is_said(tmp_path):
    report = train(options(tmp_path))
    told = "\n".join(report.warnings)
    assert '"firmware": never varies in the rows to learn from, and is watched for a change; ' in told
    assert 'left out: "label" (always 0); ' in told
    description = describe_model(learned(tmp_path)[0], tmp_path / "model.safetensors")
    assert "as they have no more than two values: valve, firmware" in format_description(description)


def test_they_can_be_left_out(tmp_path):
    asked = options(tmp_path)
    without = replace(asked, data=replace(asked.data, exclude=("firmware",)))
    dataset = load_dataset(without.data, without.relation, None, 0, lambda rows: None)
    assert dataset.channels == ["wave", "valve"]


@pytest.mark.parametrize("ahead", [2, 10])
def test_further_ahead_there_is_no_score_to_watch_with(tmp_path, ahead):
    asked = options(tmp_path)
    further = replace(asked.data, ahead=ahead)
    dataset = load_dataset(further, asked.relation, None, 0, lambda rows: None)
    assert dataset.channels == ["wave", "valve"]


def test_switches_are_what_has_two_values_in_all_sequences():
    targets = np.array([[0, 1, 1, np.nan], [1, 1, 2, np.nan], [0, 1, 1, 5]], np.float32)
    more = np.array([[1, 1, 3, 5]], np.float32)
    sequences = [Sequence("s", each, each) for each in (targets, more)]
    assert find_switches(sequences, 4) == [True, True, False, True]
