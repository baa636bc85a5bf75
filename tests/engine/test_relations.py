"""The four relations of input to output, and rollouts: against float64, by their laws, and over the wire."""

from typing import Any

import naive
import numpy as np
import pytest
from models import ADDED, ARCHITECTURES, RELATIONS, untrained
from plain_rules import moved, record_of

from streamrnn.engine.engine import Answers, Engine
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import OWN, PREDICTED, PREDICTIONS, REASONS, REJECTED, RESETS, SEVERAL
from streamrnn.streams.batch import ROWS
from streamrnn.streams.record import HEADER
from streamrnn.wire.frame import END, RESET

CELLS = pytest.mark.parametrize(("cell", "activation", "layers"), ARCHITECTURES)
WRITING = {name: change for name, change in RELATIONS.items() if name != "sequence-to-vector"}
DIVERGED = REASONS.index("diverged")


def sensor_rows(count: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10, (count, channels)).astype(np.float32)


def new_engine(model: Model, capacity: int = 10, **predict: int) -> Engine:
    return Engine(model, capacity, Faults(), predict=Predict(**predict))


def feed(engine: Engine, rows: np.ndarray, flags: dict[int, int] | None = None, name: str = "a") -> Answers:
    said = np.zeros(len(rows), np.uint16)
    for row, flag in (flags or {}).items():
        said[row] = flag
    return engine.feed([name], np.zeros(len(rows), np.int64), rows, flags=said)


def reference(model: Model, rows: np.ndarray, **more: Any) -> np.ndarray:
    return naive.run(
        model.cell,
        model.tensors(),
        rows,
        model.activation,
        reset=model.reset,
        before=[dense.activation for dense in model.before],
        after=[dense.activation for dense in model.after],
        relation=model.relation,
        horizon=model.horizon,
        target=model.target,
        **more,
    )


def assert_close(found: np.ndarray, expected: np.ndarray, model: Model) -> None:
    np.testing.assert_allclose(
        (found - expected) / model.output_std, np.zeros(expected.shape), atol=2e-5, rtol=0
    )


# against float64


@CELLS
@pytest.mark.parametrize("change", WRITING.values(), ids=WRITING)
def test_what_is_written_is_what_the_formulas_say(cell, activation, layers, change):
    model = untrained(cell, hidden=20, activation=activation, layers=layers, **change)
    rows = sensor_rows(60)
    every = 0 if model.relation == "vector-to-sequence" else 1
    answers = feed(new_engine(model, every=every), rows)
    assert (answers.answers == SEVERAL).all()
    assert_close(answers.several, reference(model, rows), model)


@CELLS
@pytest.mark.parametrize("change", [{}, {"highway": 5}, ADDED], ids=["bare", "highway", "dense and highway"])
def test_a_rollout_is_what_the_formulas_say(cell, activation, layers, change):
    model = untrained(cell, hidden=20, activation=activation, layers=layers, **change)
    rows = sensor_rows(40)
    answers = feed(new_engine(model, every=1, horizon=9), rows)
    assert (answers.answers == OWN | SEVERAL).all()
    assert_close(answers.several, reference(model, rows, rollout=9), model)


def test_a_vector_is_the_head_at_the_end_of_a_sequence():
    model = untrained("gru", reset="before", **RELATIONS["sequence-to-vector"])
    rows = sensor_rows(50)
    answers = feed(new_engine(model, every=20), rows, {29: END})
    due = [19, 29, 49]  # the step is counted from the END on
    assert np.flatnonzero(answers.answers).tolist() == due
    expected = np.concatenate([reference(model, rows[:30]), reference(model, rows[30:])])
    assert_close(answers.values[due], expected[due], model)


# laws, bit for bit


@pytest.mark.parametrize("highway", [0, 6])
def test_a_rollout_is_the_forecasts_fed_as_frames(highway):
    model = untrained(hidden=33, layers=2, highway=highway)
    rows = sensor_rows(30)
    engine = new_engine(model, every=30, horizon=12)
    (rollout,) = feed(engine, rows).several
    assert (rollout[0] == feed(new_engine(model), rows).values[-1]).all()
    ahead = feed(engine, rollout[:-1])
    assert (ahead.values == rollout[1:]).all()


@pytest.mark.parametrize(
    ("change", "predict"),
    [
        ({"highway": 3}, {"every": 4, "horizon": 7}),
        ({"horizon": 4, "highway": 2}, {}),
        *((change, {} if "vector-to" in name else {"every": 3}) for name, change in RELATIONS.items()),
    ],
    ids=["rollout", "rows at once", *RELATIONS],
)
class TestLaws:
    def test_the_stream_is_not_disturbed(self, change, predict):
        model, rows = untrained(**change), sensor_rows(40)
        asked, quiet = new_engine(model, **predict), new_engine(model)
        answers, others = feed(asked, rows), feed(quiet, rows)
        assert (answers.step == others.step).all()
        records = [record_of(engine.core.slots, "a")[HEADER:] for engine in (asked, quiet)]
        assert (records[0] == records[1]).all()

    def test_interleaved_streams_equal_separate_ones(self, change, predict):
        model, rng = untrained(**change), np.random.default_rng(1)
        stream, rows = rng.integers(0, 7, 4 * ROWS), sensor_rows(4 * ROWS)
        names = [f"s{k}" for k in range(7)]
        flags = np.where(rng.random(len(rows)) < 0.05, END, 0).astype(np.uint16)
        together = new_engine(model, **predict).feed(names, stream, rows, flags=flags)
        place = np.cumsum(together.answers & SEVERAL != 0) - 1
        for k, name in enumerate(names):
            mine = np.flatnonzero(stream == k)
            engine = new_engine(model, **predict)
            alone = engine.feed([name], np.zeros(len(mine), np.int64), rows[mine], flags=flags[mine])
            assert (alone.answers == together.answers[mine]).all()
            assert (alone.values == together.values[mine]).all()
            several = mine[together.answers[mine] & SEVERAL != 0]
            assert (alone.several == together.several[place[several]]).all()

    def test_stopped_in_the_middle_and_put_back_equals_never_stopped(self, change, predict):
        model, rows = untrained(**change), sensor_rows(41)
        whole = feed(new_engine(model, **predict), rows, {40: END})
        first = new_engine(model, **predict)
        before = feed(first, rows[:17])
        after = feed(moved(first, predict=Predict(**predict)), rows[17:], {23: END})
        assert (np.concatenate([before.values, after.values]) == whole.values).all()
        assert (np.concatenate([before.several, after.several]) == whole.several).all()


def test_many_rows_to_a_row_are_given_in_pieces(monkeypatch):
    model = untrained()
    whole = feed(new_engine(model, every=1, horizon=50), sensor_rows(500))
    for module in ("options", "engine"):
        monkeypatch.setattr(f"streamrnn.engine.{module}.ROOM_BYTES", 4 * 50 * 16 * 7)
    engine = new_engine(model, every=1, horizon=50)
    assert engine.core.batch.rows == 7
    assert (feed(engine, sensor_rows(500)).several == whole.several).all()
    assert engine.stats.counters[PREDICTIONS] == 1000


# rules


def test_a_frame_of_a_vector_to_sequence_stands_alone():
    model = untrained(**RELATIONS["vector-to-sequence"])
    engine, rows = new_engine(model), sensor_rows(6)
    answers = engine.feed(["a"], np.zeros(6, np.int64), rows, np.array([0, 1, 9, 500, 501, 502], np.uint64))
    each = [feed(new_engine(model), rows[k : k + 1]).several[0] for k in range(6)]
    assert (answers.several == each).all()


def test_an_answer_that_is_not_finite_is_none():
    model = untrained("rnn", activation="relu", hidden=20, std=np.ones(3), mean=np.zeros(3))
    tensors = model.tensors()
    tensors["head.weight"] = tensors["head.weight"] * np.float32(
        1e5
    )  # a rollout runs away, a forecast does not
    model = Model.from_tensors(model.settings(), tensors)
    engine = new_engine(model, every=2, horizon=200)
    answers = feed(engine, sensor_rows(4))
    assert (answers.outcome == PREDICTED).all()
    assert (answers.answers == OWN).all()
    assert len(answers.several) == 0
    assert engine.stats.rejected[DIVERGED] == 0  # each row was answered
    assert np.isfinite(record_of(engine.core.slots, "a")[HEADER:]).all()

    writing = untrained(**RELATIONS["encoder-decoder"])
    tensors = writing.tensors()
    tensors["decoder.head.weight"] = np.full_like(tensors["decoder.head.weight"], 3e38)
    engine = new_engine(Model.from_tensors(writing.settings(), tensors), every=2)
    answers = feed(engine, sensor_rows(4))
    assert answers.outcome.tolist() == [PREDICTED, REJECTED + DIVERGED] * 2
    assert engine.stats.resets[RESETS.index("diverged")] == 0
    assert engine.stats.counters[PREDICTIONS] == 0


def test_a_new_sequence_begins_from_nothing():
    model = untrained(**RELATIONS["encoder-decoder"])
    rows = sensor_rows(9)
    answers = feed(new_engine(model, every=1), np.concatenate([rows, rows]), {9: RESET})
    assert (answers.several[:9] == answers.several[9:]).all()


@pytest.mark.parametrize(
    ("change", "predict", "message"),
    [
        ({}, {"every": 3}, "predict.every: every 3 rows of what"),
        ({"target": "value"}, {"horizon": 3}, "predict.horizon: a rollout needs a model that forecasts each"),
        (RELATIONS["encoder-decoder"], {"horizon": 4}, "the model writes 3 rows, and no other number"),
        ({"channels": 1000, "mean": None, "std": None}, {"horizon": 65535}, "at most 64 are sent"),
        ({"horizon": 4}, {"horizon": 3}, "the model writes 4 rows, and no other number"),
        ({"horizon": 4}, {"every": 2}, "predict.every: 2, but a model whose head gives several rows"),
        ({"horizon": 4}, {"bands": (0.5,)}, "predict.bands: there are none for the 4 rows"),
        ({"hidden": 512}, {"horizon": 65535}, "would hold up every other stream for seconds"),
        (RELATIONS["vector-to-sequence"], {"every": 4}, "answers each frame; leave it out"),
    ],
)
def test_what_cannot_be_asked(change, predict, message):
    with pytest.raises(ConfigError, match=message):
        new_engine(untrained(**change), **predict)
