"""A sensor that says the same for longer than it ever did: what is usual, and what becomes of the score."""

from typing import Any

import numpy as np
import plain_score
import pytest
from models import untrained
from plain_rules import moved
from test_score import net_of, noise, step

from streamrnn.engine.engine import Answers, Engine
from streamrnn.model.inspect import describe_model, format_description
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.model.settings import ModelError
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.streams.rarity import first_levels
from streamrnn.streams.score_part import score_words
from streamrnn.train.data.dataset import Sequence
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.descent import TrainSettings
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.judge.runs import FLICKERING, KNOWN, LEAST, LONGEST, usual_runs
from streamrnn.wire.frame import ANOMALY

USUAL = 16
DIES, BACK, ROWS = 700, 900, 1000  # the rows of `dead` from which channel 1 stands still, and moves again


def score_that(**more: Any) -> dict[str, Any]:
    """A model's "score"; ``more`` of it."""
    levels = {"instant": [1.0, 1.0, 1.0], "smoothed": [1.5, 0.5, 0.3]}
    return {"rows": 1, "threshold": 3.0} | levels | more


def model_that(score: dict[str, Any] | None) -> Model:
    """One of three channels, which forecasts 0 whatever comes."""
    model = untrained(mean=np.zeros(3), std=np.ones(3), score=score)
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    nothing = {name: np.zeros_like(fields[name]) for name in ("head_weight", "head_bias")}
    return Model(**fields | nothing)


@pytest.fixture(scope="module")
def model() -> Model:
    return model_that(score_that(runs=[USUAL, USUAL, 0]))


@pytest.fixture(scope="module")
def dead() -> np.ndarray:
    """Noise; a channel that dies within its range and comes back, and one that never moves."""
    rows = np.random.default_rng(3).uniform(-1, 1, (ROWS, 3)).astype(np.float32)
    rows[DIES:BACK, 1] = 0.01
    rows[:, 2] = 0.5
    return rows


def feed(model: Model, rows: np.ndarray, engine: Engine | None = None, **more: Any) -> Answers:
    return (engine or Engine(model, 1, Faults())).feed(["s"], np.zeros(len(rows), np.int64), rows, **more)


def by_run(length: int) -> float:
    """The score of a run, where nothing else is higher."""
    return 2 * np.log2(length / USUAL)


@pytest.mark.parametrize("usual", [[16], [16, 0, 40, 3, 16]])
def test_it_is_what_its_plain_form_says(usual):
    channels = len(usual)
    rows = noise("normal", 1500, channels) * 20
    for channel in range(channels):
        begin = 600 + 30 * channel
        rows[begin : begin + 300, channel] = rows[begin, channel]
    rows[np.random.default_rng(1).random(rows.shape) < 0.05] = np.nan
    net, words, first = net_of(channels, usual), score_words(16), first_levels(channels)
    state, values = np.zeros(2 * words + 16, np.float32), np.zeros((1500, 16), np.float32)
    values[:, :channels] = rows
    found = []
    for row in range(1500):
        found.append(step(net, first, state, 0, words, values.ravel(), row * 16, 2 * words))
        state[:words] = state[words : 2 * words]
    stream = plain_score.Stream(channels, usual)
    expected = [stream.step(row) for row in rows.astype(float).tolist()]
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert max(expected[600:]) > 6


def test_a_dead_sensor_is_one_event_until_it_is_back(model, dead):
    answers = feed(model, dead)
    event = np.flatnonzero(answers.flags & ANOMALY)
    passes = next(length for length in range(1, 100) if by_run(length) >= 3)
    assert passes == 46
    assert event.tolist() == list(range(DIES + passes - 1, BACK))
    assert np.flatnonzero(answers.begins).tolist() == [event[0]]
    lengths = np.arange(DIES + 32, BACK) - DIES + 1
    np.testing.assert_allclose(answers.score[DIES + 32 : BACK], by_run(lengths), rtol=1e-5)
    np.testing.assert_array_equal(answers.shares[event], np.tile([0, 1, 0], (len(event), 1)))


def test_what_stands_still_by_nature_and_what_nothing_is_said_of_never_counts(dead):
    for score in (score_that(runs=[USUAL, 0, 0]), score_that(), None):
        assert not feed(model_that(score), dead).begins.any()


def test_a_missing_value_goes_on_with_a_run(model, dead):
    """It says nothing new, whatever it is filled in with."""
    gone, rows = np.arange(DIES + 20, DIES + 60), dead.copy()
    rows[gone, 1] = np.nan
    answers = {
        missing: feed(model, rows, Engine(model, 1, Faults(missing=missing)))
        for missing in ("hold", "predict")
    }
    for found in answers.values():
        lengths = np.arange(DIES + 32, BACK) - DIES + 1
        np.testing.assert_allclose(found.score[DIES + 32 : BACK], by_run(lengths), rtol=1e-5)


def test_a_sensor_that_drops_out_is_an_event_and_one_that_never_spoke_is_none(model, dead):
    rows = dead.copy()
    rows[DIES:BACK, 1] = np.nan
    answers = feed(model, rows)
    event = np.flatnonzero(answers.flags & ANOMALY)
    assert event.tolist() == list(range(DIES + 45 - 1, BACK))  # behind a reading that was there
    np.testing.assert_array_equal(answers.shares[event], np.tile([0, 1, 0], (len(event), 1)))
    assert not feed(model_that(score_that(runs=[USUAL, 0, 0])), rows).begins.any()


def test_rows_missing_do_not_end_a_run_and_a_new_sequence_does(model, dead):
    behind = DIES + 100
    seq = np.arange(ROWS) + 5 * (np.arange(ROWS) >= behind)
    score = feed(model, dead, seq=seq.astype(np.uint64)).score
    assert np.isnan(score[behind])  # its forecast was of another row
    assert score[behind + 1] == pytest.approx(by_run(101), rel=1e-5)
    score = feed(model, dead, seq=(seq + 1000 * (seq > behind)).astype(np.uint64)).score
    assert np.isnan(score[behind])
    assert score[behind + 1] < 3
    assert score[BACK - 1] == pytest.approx(by_run(BACK - behind - 1), rel=1e-5)


def test_a_restart_in_the_middle_of_a_run_goes_on_with_it(model, dead):
    whole, first = feed(model, dead), Engine(model, 1, Faults())
    parts = [feed(model, dead[: DIES + 30], first), feed(model, dead[DIES + 30 :], moved(first))]
    for field in ("score", "shares"):
        found = np.concatenate([getattr(answers, field) for answers in parts])
        assert found.tobytes() == getattr(whole, field).tobytes()


def of(*columns: list[float] | np.ndarray) -> Sequence:
    rows = np.array(columns, np.float32).T
    return Sequence("s", rows, rows)


def test_what_is_usual_is_learned_by_channel():
    rng, rows = np.random.default_rng(0), 5000
    flickers = rng.normal(size=rows)
    rests = flickers.copy()
    rests[100:130] = 1  # for a while
    holes = rests.copy()
    holes[110:120] = np.nan
    stops = flickers.copy()
    stops[200 : 200 + LONGEST + 1] = 0
    coarse, valve, constant = rng.integers(0, 2, rows), np.repeat([0, 1, 0], rows)[::3], np.ones(rows)
    few = np.where(np.arange(rows) < KNOWN, flickers, np.nan)
    found = usual_runs([of(flickers, rests, holes, stops, coarse, valve, constant, few)], 8)
    assert found == [LEAST, 30, 30, 0, 0, 0, 0, 0]
    assert (coarse[1:] == coarse[:-1]).mean() > FLICKERING


def test_a_run_whose_end_nobody_saw_may_have_been_any():
    rng = np.random.default_rng(0)
    ends = rng.normal(size=5000)
    ends[-LEAST - 1 :] = 1
    begins = ends[::-1]
    short = np.append(ends[: -LEAST - 1], ends[-LEAST:])
    assert usual_runs([of(rng.normal(size=5000)), of(ends)], 1) == [0]
    assert usual_runs([of(begins)], 1) == [0]
    assert usual_runs([of(short), of(short)], 1) == [LEAST]  # the same value, but in another sequence


def test_a_dead_sensor_in_a_file_is_told_with_its_cause(tmp_path):
    rng, rows = np.random.default_rng(1), np.arange(9000)
    a, b = 20 + (rng.random((9000, 3)) - 0.5).sum(axis=1) * 0.2, 5 + np.sin(rows / 40)
    b += (rng.random(9000) - 0.5) * 0.1
    a[6000:8000] = 20.01
    lines = [f"{1_700_000_000 + k},{a[k]:.3f},{b[k]:.3f}\n" for k in rows]
    live, dead = tmp_path / "live.csv", tmp_path / "dead.csv"
    live.write_text("time,a,b\n" + "".join(lines[:5000]))
    dead.write_text("time,a,b\n" + "".join(lines))
    file = tmp_path / "model.safetensors"
    train(TrainOptions(DataOptions((str(live),)), file, hidden=4, settings=TrainSettings(epochs=2)))
    description = describe_model(read_model(file), file)
    assert description["score"]["runs"] == [LEAST, LEAST]
    assert "equal readings that are usual  at most\na                              16 rows" in (
        format_description(description)
    )
    told = replay(ReplayOptions(str(dead), file, Faults())).as_dict()["anomalies"]
    (worst,) = [each for each in told["stretches"] if each["last_seq"] >= 6000 and each["first_seq"] < 8000]
    assert 6000 < worst["first_seq"] <= 6000 + 4 * LEAST
    assert (worst["last_seq"], worst["cause"]) == (7999, "a")
    assert worst["score"] > 13


@pytest.mark.parametrize("runs", [[1, 2], [1, 2, -1], [1, 2, 1.5], [1, 2, True], 3, [1, 2, 1 << 25]])
def test_runs_that_cannot_be_are_refused(runs):
    with pytest.raises(ModelError, match='"runs" of 3 whole numbers, one for each output, 0 to 16,777,216'):
        untrained(score=score_that(runs=runs))
