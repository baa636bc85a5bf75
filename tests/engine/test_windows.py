"""Networks of windows: against float64, and by the laws that hold for any state."""

import io
from typing import Any

import naive
import numpy as np
import pytest
from models import ADDED, untrained
from plain_rules import moved, record_of, saved, vouch_for

from streamrnn.engine.crew import work_of
from streamrnn.engine.engine import Answers, Engine
from streamrnn.engine.options import WORK, batch_rows
from streamrnn.errors import ConfigError
from streamrnn.kernels.packing import pack_network
from streamrnn.model.inspect import describe_model, format_description
from streamrnn.model.model import Model
from streamrnn.model.settings import ModelError
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import PREDICTED
from streamrnn.streams.batch import ROWS
from streamrnn.streams.health import DEGRADED_STEPS
from streamrnn.streams.record import HEADER, layout_of
from streamrnn.streams.slots import id_words
from streamrnn.streams.snapshot import read_from
from streamrnn.streams.summary import summarise
from streamrnn.wire.frame import DEGRADED, END, WARMING

WINDOW = 6
DENSE = {key: ADDED[key] for key in ("before", "after")}
TOLD = ("values", "score", "residual", "bands")
LEARNED: dict[str, Any] = {"predict": Predict(bands=(0.5, 0.9)), "memory": 100}  # of its forecasts' errors


def sensor_rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10, (count, 3)).astype(np.float32)


def feed(engine: Engine, rows: np.ndarray, flags: dict[int, int] | None = None, **more: Any) -> Answers:
    said = np.zeros(len(rows), np.uint16)
    for row, flag in (flags or {}).items():
        said[row] = flag
    return engine.feed(["a"], np.zeros(len(rows), np.int64), rows, flags=said, **more)


def reference(model: Model, rows: np.ndarray, rollout: int = 0) -> np.ndarray:
    """What the network says of each window alone, shorter ones at the begin among them; slow.

    With a ``rollout`` of so many rows: of the last window, which slides on over what was said of it.
    """
    dense = {key: [layer.activation for layer in getattr(model, key)] for key in DENSE}

    def answer(seen: np.ndarray) -> np.ndarray:
        return naive.run(model.cell, model.tensors(), seen[-model.window :], reset=model.reset, **dense)[-1]

    if not rollout:
        return np.array([answer(rows[: at + 1]) for at in range(len(rows))])
    for _ in range(rollout):
        rows = np.concatenate([rows, answer(rows)[None]])
    return rows[-rollout:]


def assert_close(found: np.ndarray, expected: np.ndarray, model: Model) -> None:
    np.testing.assert_allclose(
        (found - expected) / model.output_std, np.zeros(expected.shape), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("window", [1, 2, WINDOW, 30])
@pytest.mark.parametrize(
    "more",
    [{}, {"layers": 2, **DENSE}, {"highway": 1}, {"highway": 5, **DENSE}],
    ids=["bare", "dense and two layers", "the last row besides", "the last rows besides"],
)
def test_each_row_is_answered_from_the_last_rows_alone(window, more):
    window = max(window, more.get("highway", 0))
    model, rows = untrained(hidden=20, window=window, **more), sensor_rows(70)
    answers = feed(Engine(model, 1, Faults()), rows, {44: END})
    expected = [reference(model, part) for part in (rows[:45], rows[45:])]
    assert_close(answers.values, np.concatenate(expected), model)


@pytest.mark.parametrize("highway", [0, 5])
def test_a_rollout_slides_its_window_over_what_it_forecasts(highway):
    model, rows = untrained(hidden=20, window=WINDOW, highway=highway), sensor_rows(20)
    engine = Engine(model, 1, Faults(), predict=Predict(every=20, horizon=12))
    (rollout,) = feed(engine, rows).several
    assert_close(rollout, reference(model, rows, rollout=12), model)
    assert (feed(engine, rollout[:-1]).values == rollout[1:]).all()  # as rows, to the bit


# laws, bit for bit


def test_interleaved_streams_equal_separate_ones():
    model, rng = untrained(hidden=20, window=WINDOW), np.random.default_rng(1)
    stream, rows = rng.integers(0, 7, 900), sensor_rows(900)
    names, flags = [f"s{k}" for k in range(7)], np.where(rng.random(900) < 0.01, END, 0).astype(np.uint16)
    together = Engine(model, 7, Faults(), **LEARNED).feed(names, stream, rows, flags=flags)
    assert not np.isnan(together.score).all()
    for k, name in enumerate(names):
        mine = np.flatnonzero(stream == k)
        alone = Engine(model, 7, Faults(), **LEARNED).feed(
            [name], np.zeros(len(mine), np.int64), rows[mine], flags=flags[mine]
        )
        for part in TOLD:
            np.testing.assert_array_equal(getattr(alone, part), getattr(together, part)[mine])


def test_stopped_in_the_middle_and_put_back_equals_never_stopped():
    model, rows = untrained(hidden=20, window=WINDOW), sensor_rows(300)
    whole = feed(Engine(model, 1, Faults(), **LEARNED), rows)
    first = Engine(model, 1, Faults(), **LEARNED)
    before = feed(first, rows[:151])
    after = feed(moved(first, **LEARNED), rows[151:])
    for part in TOLD:
        both = np.concatenate([getattr(before, part), getattr(after, part)])
        np.testing.assert_array_equal(both, getattr(whole, part))


def test_what_goes_on_from_a_stream_leaves_it_as_it_is():
    model, rows = untrained(hidden=20, window=WINDOW), sensor_rows(40)
    asked, quiet = Engine(model, 1, Faults(), predict=Predict(every=3, horizon=8)), Engine(model, 1, Faults())
    for engine in (asked, quiet):
        feed(engine, rows)
    records = [record_of(engine.core.slots, "a")[HEADER:] for engine in (asked, quiet)]
    assert (records[0] == records[1]).all()


# rules


def test_it_warms_until_its_window_is_full():
    value = untrained("gru", window=WINDOW, target="value", outputs=[{"name": "y"}])
    answers = feed(Engine(value, 1, Faults()), sensor_rows(30), {19: END})
    warming = np.flatnonzero(answers.flags & WARMING)
    assert warming.tolist() == [*range(WINDOW - 1), *range(20, 20 + WINDOW - 1)]


def test_what_a_short_window_says_is_no_measure_of_its_errors():
    """Neither for the score nor for what corrects its forecasts: else each begin would be an anomaly."""
    model, rows = untrained(hidden=20, window=50), sensor_rows(400)
    engine = Engine(model, 1, Faults())
    answers = feed(engine, rows, {299: END})
    told = ~np.isnan(answers.score)
    assert told[200:300].all() and not told[300:350].any() and told[350:].all()
    assert (np.isnan(answers.score) == (answers.flags & WARMING != 0)).all()
    residuals = ~np.isnan(answers.residual)
    assert residuals[50:300].all() and not residuals[300:350].any() and residuals[350:].all()


@pytest.mark.parametrize(("gap", "missing"), [("step", 0), ("hold", 2), ("predict", 2)])
def test_what_is_missing_is_filled_into_the_window(gap, missing):
    model, rows = untrained(hidden=20, window=WINDOW), sensor_rows(30)
    seq = np.arange(30, dtype=np.uint64)
    seq[20:] += np.uint64(2)
    engine = Engine(model, 1, Faults(gap=gap))
    answers = feed(engine, rows, seq=seq)
    filled = [rows[19]] * 2 if gap == "hold" else list(reference(model, rows[:20], rollout=2))
    seen = np.concatenate([rows[:20], np.array(filled)[:missing].reshape(-1, 3), rows[20:]])
    assert_close(answers.values[20:], reference(model, seen)[20 + missing :], model)


def test_a_saturated_window_is_told_and_goes_on():
    """Its states begin anew by themselves."""
    model = untrained(hidden=20, window=WINDOW)
    tensors = model.tensors() | {"weight_hh_l0": np.zeros((80, 20), np.float32)}
    tensors["bias_ih_l0"] = np.full(80, 60, np.float32)  # all gates are open: c grows by one a row
    engine = Engine(Model.from_tensors(model.settings() | {"window": 12}, tensors), 1, Faults())
    answers = feed(engine, sensor_rows(DEGRADED_STEPS + 100))
    assert (answers.outcome == PREDICTED).all()
    assert answers.flags[-1] & DEGRADED and answers.epoch[-1] == 0


def test_the_states_that_are_shown_are_those_that_answer():
    model, rows = untrained(hidden=20, layers=2, window=WINDOW), sensor_rows(40)
    engine, alone = (
        Engine(model, 1, Faults()),
        Engine(Model.from_tensors({**model.settings(), "window": 0}, model.tensors()), 1, Faults()),
    )
    feed(engine, rows)
    feed(alone, rows[-WINDOW:])
    (ours,), (theirs,) = (
        summarise(read_from(io.BytesIO(saved(each)), "it"), "it") for each in (engine, alone)
    )
    for key in ("largest_hidden", "largest_cell"):
        assert ours[key] == theirs[key] > 0


def test_a_record_beyond_its_bounds_is_not_taken_whichever_window_it_is_in():
    engine = Engine(untrained(hidden=20, window=WINDOW), 1, Faults())
    feed(engine, sensor_rows(9))
    layout = layout_of(engine.core.net)
    assert layout.places == WINDOW and layout.states == 2
    record = record_of(engine.core.slots, "a")
    record[layout.cell_at - 32 + 3] = 1.01  # of the window that began last
    vouch_for(engine.core.slots, record, id_words("a"))
    with pytest.raises(AssertionError):
        moved(engine)


def test_what_a_window_costs_is_told():
    model = untrained(hidden=20, layers=2, window=WINDOW, **DENSE)
    told = describe_model(model, "m")
    weights = {name: array.size for name, array in model.tensors().items() if "weight" in name}
    recurrent = sum(size for name, size in weights.items() if name.startswith("weight_"))
    assert told["steps_per_row"] == WINDOW
    assert told["multiply_adds"] == WINDOW * recurrent + sum(weights.values()) - recurrent
    assert told["state_bytes"] == WINDOW * 2 * 2 * 20 * 4
    assert "the last 6 rows, 6 steps a row" in format_description(told)


def test_another_window_cannot_take_over():
    model = untrained(hidden=20, window=WINDOW)
    engine = Engine(model, 1, Faults())
    other = Model.from_tensors({**model.settings(), "window": 7}, model.tensors())
    with pytest.raises(ConfigError, match="window 7, the running one has 6"):
        engine.replacement(other, Faults())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"window": 1025}, '"window": expected a whole number, 0 to 1024, found 1025'),
        ({"window": 6, "highway": 7}, '"highway": 7 rows are more than a window has, 6'),
        (
            {"window": 6, "relation": "sequence-to-vector"},
            '"window": expected 0 for the relation "sequence-to-vector", found 6',
        ),
    ],
)
def test_what_windows_cannot_be(settings, said):
    with pytest.raises(ModelError, match=said):
        untrained(**settings)


def test_what_a_row_costs_counts_where_rows_are_taken_at_once(monkeypatch):
    """Or a batch of a large window would hold up the daemon's watchdog."""
    small, large = (
        pack_network(untrained(hidden=hidden, window=window)) for hidden, window in ((20, 0), (512, 256))
    )
    assert batch_rows(small, 0) == ROWS
    assert 1 <= batch_rows(large, 0) <= WORK / work_of(large) < ROWS
    monkeypatch.setattr("streamrnn.engine.options.MOST_WORK", 10**6)
    with pytest.raises(ConfigError, match="multiply-adds would hold up every other stream"):
        Engine(untrained(hidden=20, window=1024), 1, Faults())


def test_a_long_rollout_of_a_long_window_is_refused():
    with pytest.raises(ConfigError, match="would hold up every other stream for seconds"):
        Engine(untrained(hidden=64, window=1024), 1, Faults(), predict=Predict(every=1, horizon=5000))
