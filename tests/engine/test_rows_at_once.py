"""Heads that give several rows at once: against float64, and what else holds for their first row."""

import csv

import naive
import numpy as np
import pytest
from models import ADDED, untrained
from plain_rules import record_of

from streamrnn.engine.engine import Answers, Engine
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model, random_model
from streamrnn.model.model_file import write_model
from streamrnn.model.settings import ModelError
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.stats import PREDICTED, PREDICTIONS, REASONS, REJECTED, RESETS, SEVERAL

HORIZON, WINDOW = 24, 7
DIVERGED = REASONS.index("diverged")
DENSE = {key: ADDED[key] for key in ("before", "after")}


def sensor_rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10, (count, 3)).astype(np.float32)


def feed(engine: Engine, rows: np.ndarray, **more: np.ndarray) -> Answers:
    return engine.feed(["a"], np.zeros(len(rows), np.int64), rows, **more)


def reference(model: Model, rows: np.ndarray) -> np.ndarray:
    """(n, horizon, outputs), the head's outputs row by row; slow."""
    given = {name: tensor for name, tensor in model.tensors().items() if not name.startswith("output")}
    dense = {key: [layer.activation for layer in getattr(model, key)] for key in DENSE}
    if model.window:
        parts = [rows[max(at + 1 - model.window, 0) : at + 1] for at in range(len(rows))]
        said = np.array([naive.run(model.cell, given, part, **dense)[-1] for part in parts])
    else:
        said = naive.run(model.cell, given, rows, **dense)
    said = said.reshape(len(rows), model.horizon, len(model.outputs))
    return said * model.output_std + model.output_mean


@pytest.mark.parametrize("horizon", [1, 5])
def test_what_layers_leave_behind_the_head_is_no_part_of_its_rows(horizon):
    """Preactivations without end have an end as gates."""
    model = random_model("lstm", 3, 20, horizon=horizon)
    tensors = model.tensors() | {"weight_ih_l0": np.full((80, 3), 0.9)}
    answers = feed(
        Engine(Model.from_tensors(model.settings(), tensors), 1, Faults()), np.full((3, 3), 3e38, np.float32)
    )
    assert np.isfinite(answers.values).all() and (answers.outcome == PREDICTED).all()


@pytest.mark.parametrize("horizon", [2, HORIZON])
@pytest.mark.parametrize("window", [0, WINDOW])
@pytest.mark.parametrize("more", [{}, {"layers": 2, "highway": 3, **DENSE}], ids=["bare", "all around"])
def test_every_row_is_answered_by_the_rows_of_the_head(horizon, window, more):
    model, rows = untrained(hidden=20, horizon=horizon, window=window, **more), sensor_rows(40)
    engine = Engine(model, 1, Faults())
    answers = feed(engine, rows)
    assert (answers.answers == SEVERAL).all() and engine.stats.counters[PREDICTIONS] == 40
    expected = reference(model, rows)
    off = (answers.several - expected) / model.output_std
    np.testing.assert_allclose(off, np.zeros(expected.shape), atol=1e-5)
    assert (answers.several[:, 0] == answers.values).all()
    record = record_of(engine.core.slots, "a")[engine.core.slots.prediction_at :][: engine.core.net.out_width]
    assert (record[:3] == answers.values[-1]).all() and not record[3:].any()


def test_score_and_residual_judge_the_first_row():
    """As those of the same network with a head of that row alone."""
    model, rows = untrained(hidden=20, horizon=4), sensor_rows(300)
    first = model.tensors() | {"head.weight": model.head_weight[:3], "head.bias": model.head_bias[:3]}
    alone = Model.from_tensors(model.settings() | {"horizon": 1}, first)
    theirs, ours = (feed(Engine(each, 1, Faults()), rows) for each in (alone, model))
    assert not np.isnan(ours.score).all()
    for name in ("score", "residual", "flags", "shares", "values"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_missing_row_is_filled_in_by_the_first_of_them():
    model, rows = untrained(hidden=20, horizon=4), sensor_rows(30)
    seq = np.arange(30, dtype=np.uint64)
    seq[20:] += np.uint64(1)
    answers = feed(Engine(model, 1, Faults(gap="predict")), rows, seq=seq)
    seen = np.concatenate([rows[:20], reference(model, rows[:20])[-1, :1], rows[20:]])
    off = (answers.several[20:] - reference(model, seen)[21:]) / model.output_std
    assert np.abs(off).max() < 1e-5


def test_an_answer_of_which_a_row_is_not_finite_is_none():
    model = untrained(hidden=20, horizon=4)
    tensors = {name: array.copy() for name, array in model.tensors().items()}
    tensors["head.bias"][-1] = 3e38
    engine = Engine(Model.from_tensors(model.settings(), tensors), 1, Faults())
    answers = feed(engine, sensor_rows(3))
    assert answers.outcome.tolist() == [REJECTED + DIVERGED] * 3
    assert engine.stats.resets[RESETS.index("diverged")] == 0  # its state is as good as it was
    assert len(answers.several) == 0


def test_replay_writes_each_row_and_draws_the_first(tmp_path):
    model, rows = untrained(hidden=20, horizon=3), sensor_rows(60)
    write_model(model, tmp_path / "model.safetensors")
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(["c0,c1,c2", *(",".join(map(str, row)) for row in rows), ""]))
    told, report = tmp_path / "out.csv", tmp_path / "out.html"
    summary = replay(
        ReplayOptions(
            str(table), tmp_path / "model.safetensors", Faults(), output=str(told), report=str(report)
        )
    )
    with told.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [int(row["ahead"]) for row in found] == [1, 2, 3] * 60
    values = np.array([[float(row[f"c{k}_pred"]) for k in range(3)] for row in found], np.float32)
    answers = feed(Engine(model, 1, Faults()), rows)
    np.testing.assert_array_equal(values.reshape(60, 3, 3), answers.several)
    assert all((row["residual"] == "") == (row["ahead"] != "1" or row["seq"] == "0") for row in found)
    off = (answers.values[:-1] - rows[1:]) / model.output_std
    assert summary.one_step_error == pytest.approx(float(np.sqrt(np.mean(off**2))), rel=1e-5)
    assert "The last of 60 answers, to row 59, by rows ahead:" in report.read_text()


def test_what_it_cannot_have():
    model = untrained(hidden=20, horizon=4)
    with pytest.raises(ConfigError, match="adapt: corrections are learned of forecasts of one row"):
        Engine(model, 1, Faults(), memory=100)
    with pytest.raises(ModelError, match='the target "next" and a horizon of 1'):
        untrained(horizon=4, spread=True)
    with pytest.raises(ModelError, match=r"head.weight: expected shape \(12, 5\)"):
        Model.from_tensors(untrained().settings() | {"horizon": 4}, untrained().tensors())
