"""Adaptation in the engine: forecasts that follow a drift, and every promise kept with it on."""

from typing import Any

import numpy as np
import pytest
from models import untrained
from plain_rules import moved

from streamrnn.engine.engine import Answers, Engine
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import PREDICTED, SEVERAL
from streamrnn.wire.frame import ANOMALY

MEMORY = 1000


def persistent(channels: int = 2, **more: Any) -> Model:
    """A model that forecasts each channel to be what it is now; its recurrent part says nothing."""
    model = untrained("gru", channels, mean=np.zeros(channels), std=np.ones(channels), highway=1, **more)
    tensors = model.tensors()
    tensors |= {"head.weight": 0 * tensors["head.weight"], "head.bias": 0 * tensors["head.bias"]}
    tensors["highway.weight"] = np.eye(channels, dtype=np.float32)
    return Model.from_tensors(model.settings(), tensors)


def waves(rows: int, seed: int = 0) -> np.ndarray:
    """Noise around zero in which a row is half of the one before: persistence can be bettered by a factor."""
    rng = np.random.default_rng(seed)
    values = np.zeros((rows, 2), np.float32)
    for row in range(1, rows):
        values[row] = 0.5 * values[row - 1] + rng.normal(0, 0.3, 2)
    return values


def feed(engine: Engine, rows: np.ndarray, **more: Any) -> Answers:
    return engine.feed(["a"], np.zeros(len(rows), np.int64), rows, **more)


def mean_square(answers: Answers, rows: np.ndarray) -> float:
    return float(np.square(answers.values[:-1] - rows[1:])[1000:].mean())


def test_it_learns_what_the_model_does_not_know():
    rows = waves(6000)
    plain = mean_square(feed(Engine(persistent(), 1, Faults()), rows), rows)
    adapted = mean_square(feed(Engine(persistent(), 1, Faults(), memory=MEMORY), rows), rows)
    assert plain == pytest.approx(0.12, rel=0.1)
    assert 0.0895 <= adapted < 0.0935  # 0.09 is what cannot be forecast


def test_without_it_nothing_is_other_than_it_was():
    rows = waves(500)
    off, on = (feed(Engine(persistent(), 1, Faults(), memory=memory), rows) for memory in (0, MEMORY))
    assert (off.values[0] == on.values[0]).all()
    assert (off.values != on.values).any()


@pytest.mark.parametrize("change", [{}, {"hidden": 33, "layers": 2, "highway": 5}], ids=["small", "large"])
def test_any_batching_equals_none_and_a_restart_equals_never_stopping(change):
    model, rng = untrained(**change), np.random.default_rng(2)
    rows, stream = rng.normal(0, 5, (900, 3)).astype(np.float32), rng.integers(0, 5, 900)
    rows[rng.random(rows.shape) < 0.01] = np.nan
    rows[:5] = 1
    stream[:5] = range(5)
    names = [f"s{k}" for k in range(5)]
    together = Engine(model, 5, Faults(), memory=MEMORY).feed(names, stream, rows)
    assert (together.outcome == PREDICTED).all()
    for k, name in enumerate(names):
        mine = np.flatnonzero(stream == k)
        first = Engine(model, 5, Faults(), memory=MEMORY)
        parts = []
        for begin, end in ((0, 70), (70, len(mine))):
            part = first.feed([name], np.zeros(end - begin, np.int64), rows[mine[begin:end]])
            parts.append(part.values)
            first = moved(first, memory=MEMORY)
        assert (np.concatenate(parts) == together.values[mine]).all()


def test_a_rollout_is_corrected_as_a_forecast_is():
    rows = waves(3000)
    engine = Engine(persistent(), 1, Faults(), predict=Predict(every=3000, horizon=6), memory=MEMORY)
    answers = feed(engine, rows)
    (rollout,) = answers.several
    assert answers.answers[-1] & SEVERAL
    assert (rollout[0] == answers.values[-1]).all()
    assert (np.abs(rollout[-1]) < 0.3 * np.abs(rows[-1])).all()  # by itself the model stays where it is


def test_it_is_frozen_while_something_is_unusual():
    rows = waves(4000)
    rows[3000:3300, 0] += 4
    engine = Engine(persistent(), 1, Faults(), memory=MEMORY)
    before = feed(engine, rows[:3020])
    frozen = learned(engine)
    during = feed(engine, rows[3020:3290])
    assert before.flags[-1] & ANOMALY
    assert (during.flags & ANOMALY != 0).all()
    assert (learned(engine) == frozen).all()
    feed(engine, rows[3290:])
    assert (learned(engine) != frozen).any()


def learned(engine: Engine) -> np.ndarray:
    """What the one stream has learned to correct its forecasts."""
    slots, adaptation = engine.core.slots, engine.core.adaptation
    return slots.state[slots.adapt_at + adaptation.turn_at : slots.forecast_at].copy()


def test_rows_that_were_filled_in_teach_nothing():
    rows = waves(1500)
    engine = Engine(persistent(), 1, Faults(), memory=MEMORY)
    feed(engine, rows[:1000])
    before = learned(engine)
    number = np.array(
        [1003, 1004, 1005], np.uint64
    )  # behind a gap; then one that lacks a value, and the next
    rows[1004, 0] = np.nan
    for at, changes in ((0, False), (1, False), (2, False)):
        engine.feed(["a"], np.zeros(1, np.int64), rows[1003 + at : 1004 + at], number[at : at + 1])
        assert (learned(engine) != before).any() == changes, at
    engine.feed(["a"], np.zeros(1, np.int64), rows[1006:1007], np.array([1006], np.uint64))
    assert (learned(engine) != before).any()


def test_a_first_row_that_diverges_leaves_nothing_that_is_not_finite():
    model = untrained("rnn", 2, activation="relu", mean=np.zeros(2), std=np.ones(2))
    tensors = model.tensors()
    tensors["head.weight"] = np.full_like(tensors["head.weight"], 3e38)
    engine = Engine(Model.from_tensors(model.settings(), tensors), 1, Faults(), memory=MEMORY)
    assert (feed(engine, np.full((1, 2), 9.0, np.float32)).outcome != PREDICTED).all()
    slots = engine.core.slots
    assert np.isfinite(slots.state.reshape(-1, slots.words)[:2, slots.input_at :]).all()


def test_a_model_that_forecasts_nothing_cannot_be_corrected():
    with pytest.raises(ConfigError, match="adapt: only a model that forecasts each of its channels"):
        Engine(untrained(target="value"), 1, Faults(), memory=MEMORY)
