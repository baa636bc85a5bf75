"""The laws of ``Engine.feed``, bit for bit, and what it answers."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ADDED, ARCHITECTURES, untrained
from plain_rules import Row, feed_by_hand, moved, record_of
from slots_by_hand import live_streams

from streamrnn.engine.engine import Answers, Engine
from streamrnn.errors import ConfigError
from streamrnn.model.cells import NAMES
from streamrnn.model.model import Model
from streamrnn.model.parts import Channel
from streamrnn.settings.sections import Faults
from streamrnn.stats import (
    LATE,
    LATE_ROW,
    MISSING_ROWS,
    PREDICTED,
    PREDICTIONS,
    REASONS,
    REJECTED,
    RESETS,
    STREAMS,
)
from streamrnn.streams.batch import ROWS
from streamrnn.wire.frame import END, GAP, IMPUTED, PREDICTION, RESET, RESTORED, WARMING, WAS_RESET

ARCHITECTURE = pytest.mark.parametrize(
    "architecture",
    [
        *(dict(zip(("cell", "activation", "layers"), each, strict=True)) for each in ARCHITECTURES),
        {"cell": "gru", "reset": "before", "layers": 2, **ADDED},
        {"cell": "lstm", "highway": 7},
    ],
    ids=str,
)
IDS = [f"machine/{k}" for k in range(10)]
CAPACITY, MISSING, INFINITE = (REJECTED + REASONS.index(name) for name in ("capacity", "missing", "infinite"))


def sensor_rows(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A few NaN among them: what is filled in comes from the stream's own past, or it is rejected."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 10, (count, channels)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.03] = np.nan
    return rows


def new_engine(model: Model, capacity: int = len(IDS), **faults: Any) -> Engine:
    return Engine(model, capacity, Faults(**faults))


def feed_one(engine: Engine, rows: Any, name: str = "stream", **more: Any) -> Answers:
    """Rows of one stream."""
    rows = np.atleast_2d(np.asarray(rows, np.float32))
    return engine.feed([name], np.zeros(len(rows), np.int64), rows, **more)


def first_outputs(model: Model, count: int) -> Model:
    """The same network, of which only the first outputs are kept."""
    fields = ("outputs", "head_weight", "head_bias", "output_mean", "output_std")
    return replace(model, **{field: getattr(model, field)[:count] for field in fields})


def other_quantities(model: Model) -> Model:
    """The same network, its outputs no forecast of its channels."""
    return replace(model, target="value", outputs=tuple(Channel(f"y{k}") for k in range(len(model.outputs))))


def assert_same(answers: Answers, expected: Answers) -> None:
    for field in {*Answers._fields, *PREDICTION.names} - {"step_ns", "said"}:
        found, wanted = getattr(answers, field), getattr(expected, field)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted, err_msg=field)


def select(answers: Answers, rows: np.ndarray) -> Answers:
    return answers._replace(**{name: array[rows] for name, array in answers._asdict().items() if len(array)})


def join(parts: list[Answers]) -> Answers:
    return Answers(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


# the laws


@ARCHITECTURE
def test_frame_by_frame_equals_the_whole_sequence(architecture):
    model = untrained(hidden=20, **architecture)
    rows = sensor_rows(ROWS * 2 + 5)
    whole, single = new_engine(model), new_engine(model)
    assert_same(join([feed_one(single, row) for row in rows]), feed_one(whole, rows))


@ARCHITECTURE
def test_interleaved_streams_equal_separate_streams(architecture):
    model = untrained(hidden=20, **architecture)
    rows = sensor_rows(400)
    stream = np.random.default_rng(len(architecture)).integers(0, len(IDS), len(rows))
    together = new_engine(model).feed(IDS, stream, rows)
    assert (together.outcome == PREDICTED).mean() > 0.9
    for k, name in enumerate(IDS):
        mine = np.flatnonzero(stream == k)
        assert_same(select(together, mine), feed_one(new_engine(model, 1), rows[mine], name))


@pytest.mark.parametrize("others", range(1, 10))
@pytest.mark.parametrize("cell", NAMES)
def test_a_stream_among_others_equals_the_stream_alone(cell, others):
    """Each round has one row of every stream, in another order."""
    model, rng = untrained(cell, hidden=33), np.random.default_rng(others)
    rows = np.stack([sensor_rows(20, seed=k) for k in range(others + 1)])
    engine, place = new_engine(model), np.arange(others + 1)
    rounds = []
    for t in range(rows.shape[1]):
        order = rng.permutation(others + 1)
        answers = engine.feed(IDS, order, rows[order, t])
        rounds.append(select(answers, np.argsort(order)))
    for k in place:
        mine = join([select(answers, place[k : k + 1]) for answers in rounds])
        assert_same(mine, feed_one(new_engine(model), rows[k], IDS[k]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=8), st.integers(1, 4), st.booleans())
def test_any_split_of_a_feed_equals_one_feed(cuts, streams, numbered):
    rng = np.random.default_rng(streams)
    rows, stream = sensor_rows(300), rng.integers(0, streams, 300)
    ts_ns = rng.integers(0, 10**18, 300)
    seq = np.cumsum(rng.choice([0, 1, 1, 1, 2, 6], 300)).astype(np.uint64) if numbered else None
    one, many = (new_engine(untrained(), gap="predict", max_gap=40) for _ in range(2))
    whole = one.feed(IDS, stream, rows, seq, ts_ns)
    edges = [0, *sorted(cuts), 300]
    parts = []
    for start, end in itertools.pairwise(edges):
        part = slice(start, end)
        part_seq = None if seq is None else seq[part]
        parts.append(many.feed(IDS, stream[part], rows[part], part_seq, ts_ns[part]))
    assert_same(join(parts), whole)
    for counted, expected in zip(many.stats, one.stats, strict=True):
        np.testing.assert_array_equal(counted, expected)


@ARCHITECTURE
def test_stop_restore_and_continue_equals_never_stopping(architecture):
    """After any number of rows, so that a highway has seen none, some and all of its frames."""
    model, rows = untrained(hidden=20, **architecture), sensor_rows(30)
    rows[0] = 1
    whole = new_engine(model, 1)
    answers = feed_one(whole, rows)
    for stop in range(1, 12):
        first = new_engine(model, 1)
        feed_one(first, rows[:stop])
        second = moved(first)
        after = feed_one(second, rows[stop:])
        np.testing.assert_array_equal(after.values, answers.values[stop:])
        assert after.flags[0] & RESTORED
        parts = record_of(second.core.slots, "stream"), record_of(whole.core.slots, "stream")
        inputs = second.core.slots.input_at
        np.testing.assert_array_equal(*(part[inputs:] for part in parts))


def test_bits_do_not_depend_on_the_engine():
    """Two engines of one model, fed alike, answer alike; feeding one does not touch the other."""
    rows = sensor_rows(100)
    first, second = new_engine(untrained()), new_engine(untrained())
    expected = feed_one(first, rows)
    feed_one(first, rows[::-1], "another")
    assert_same(feed_one(second, rows), expected)


# what is answered


def test_rows_are_numbered_and_counted():
    engine = new_engine(untrained())
    stream = np.array([0, 1, 0, 0, 1])
    first = engine.feed(IDS, stream, np.ones((5, 3)))
    assert first.outcome.tolist() == [PREDICTED] * 5
    assert first.seq.tolist() == [0, 0, 1, 2, 1]
    assert first.step.tolist() == [1, 1, 2, 3, 2]
    assert first.epoch.tolist() == first.gap.tolist() == [0] * 5
    assert first.flags.tolist() == [WARMING] * 5  # too few rows for a score
    assert np.isnan(first.residual).tolist() == [True, True, False, False, False]
    assert np.isfinite(first.values).all()
    second = engine.feed(IDS, stream, np.ones((5, 3)))
    assert second.seq.tolist() == [3, 2, 4, 5, 3]
    assert second.step.tolist() == [4, 3, 5, 6, 4]
    assert engine.stats.counters[PREDICTIONS] == 10
    assert engine.stats.counters[STREAMS] == 2


def test_given_numbers_and_times_are_answered():
    engine = new_engine(untrained(), max_gap=2)
    seq, ts_ns = np.array([7, 8, 8, 10, 20], np.uint64), np.array([5, 0, 6, -7, 2**62])
    answers = feed_one(engine, np.ones((5, 3)), seq=seq, ts_ns=ts_ns)
    np.testing.assert_array_equal(answers.seq, seq)
    np.testing.assert_array_equal(answers.ts_ns, ts_ns)
    assert answers.outcome.tolist() == [PREDICTED, PREDICTED, LATE_ROW, PREDICTED, PREDICTED]
    assert answers.gap.tolist() == [0, 0, 0, 1, 9]
    assert answers.step.tolist() == [1, 2, 0, 4, 1]
    assert answers.epoch.tolist() == [0, 0, 0, 0, 1]
    assert answers.flags.tolist() == [WARMING, WARMING, 0, GAP | WARMING, GAP | WAS_RESET | WARMING]
    assert np.isnan(answers.values).all(axis=1).tolist() == [False, False, True, False, False]
    assert engine.stats.counters[LATE] == 1
    assert engine.stats.counters[MISSING_ROWS] == 10
    assert engine.stats.resets[RESETS.index("max_gap")] == 1


def test_the_residual_is_of_the_forecast_before():
    model = untrained()
    rows = sensor_rows(30)
    rows[np.isnan(rows)] = 0
    answers = feed_one(new_engine(model), rows)
    errors = (rows[1:] - answers.values[:-1]).astype(np.float64) / model.output_std
    np.testing.assert_allclose(answers.residual[1:], np.sqrt((errors**2).mean(axis=1)), rtol=1e-5)


LOOKS_BACK = untrained("rnn", channels=2, hidden=3, highway=3)


def by_hand(
    *rows: tuple[int, float], engine: Engine | None = None, flags: int = 0, **faults: Any
) -> np.ndarray:
    """What LOOKS_BACK says after rows of (number, value of both channels), the last with ``flags``."""
    engine = engine or Engine(LOOKS_BACK, 1, Faults(**faults))
    made = [Row("a", np.full(2, value), number) for number, value in rows]
    said = feed_by_hand(engine, [*made[:-1], made[-1]._replace(flags=flags)])
    assert said[-1].outcome == PREDICTED
    return said[-1].values


def test_a_highway_begins_with_the_first_frame_of_each_sequence():
    """None of its frames is of the sequence before."""
    alone = by_hand((0, 5.0))
    assert (alone != by_hand((0, 7.0), (1, 5.0))).all()
    np.testing.assert_array_equal(by_hand((0, 7.0), (1, 5.0), flags=RESET), alone)
    np.testing.assert_array_equal(by_hand((0, 7.0), (9, 5.0), max_gap=3), alone)
    engine = Engine(LOOKS_BACK, 1, Faults())
    by_hand((0, 7.0), (1, 8.0), engine=engine, flags=END)
    np.testing.assert_array_equal(by_hand((0, 5.0), engine=engine), alone)
    np.testing.assert_array_equal(by_hand((1, 6.0), engine=engine), by_hand((0, 5.0), (1, 6.0)))


def test_a_highway_sees_what_was_filled_in():
    held = by_hand((0, 1.0), (1, 5.0), (4, 3.0), gap="hold")
    np.testing.assert_array_equal(held, by_hand((0, 1.0), (1, 5.0), (2, 5.0), (3, 5.0), (4, 3.0)))
    stepped = by_hand((0, 1.0), (1, 5.0), (4, 3.0), gap="step")
    np.testing.assert_array_equal(stepped, by_hand((0, 1.0), (1, 5.0), (2, 3.0)))
    assert (stepped != held).all()


def test_frames_that_a_highway_remembers_are_no_saturated_units():
    """Past the bound of a unit, and finite: neither degraded nor damaged."""
    engine = Engine(LOOKS_BACK, 1, Faults())
    answers = feed_one(engine, np.full((5, 2), 1e6), "a")
    assert (answers.outcome == PREDICTED).all()
    assert np.abs(record_of(engine.core.slots, "a")[engine.core.slots.past_at :][:4]).min() > 1e3
    assert feed_one(moved(engine), np.ones((1, 2)), "a").outcome.tolist() == [PREDICTED]


def test_a_highway_takes_nothing_on_that_is_not_finite():
    """Standardised, the largest numbers are none: the row is refused, and the stream begins anew."""
    model = replace(LOOKS_BACK, input_std=np.full(2, 1e-30))
    engine = Engine(model, 1, Faults())
    rows = np.array([[1e-30, 0], [3e38, 0], [2e-30, 0]])
    answers = feed_one(engine, rows)
    assert answers.outcome.tolist() == [PREDICTED, REJECTED + REASONS.index("diverged"), PREDICTED]
    np.testing.assert_array_equal(answers.values[2], feed_one(Engine(model, 1, Faults()), rows[2]).values[0])


def test_a_model_of_other_quantities_has_no_residual():
    answers = feed_one(new_engine(other_quantities(untrained())), np.ones((4, 3)))
    assert (answers.outcome == PREDICTED).all()
    assert np.isnan(answers.residual).all()


def test_codes_of_model_and_configuration_are_missing_values():
    """As the value of one channel, or as a whole row, and no number beside them is."""
    model = replace(untrained(), missing=("-9999", "ERR"))
    rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    told, empty = rows.copy(), rows.copy()
    told[3, 1], told[5], told[6, 2], told[7, 0] = -9999, -99.9, -9998, -99.8
    empty[3, 1], empty[5], empty[6, 2], empty[7, 0] = np.nan, np.nan, -9998, -99.8
    answers = feed_one(new_engine(model, missing_values=(-99.9,)), told)
    plain = feed_one(new_engine(untrained()), empty)
    assert np.flatnonzero(answers.flags & IMPUTED).tolist() == [3, 5]
    assert_same(answers, plain)


def test_fewer_outputs_than_channels():
    """The residual is over the channels that are forecast."""
    model = first_outputs(untrained(channels=20), 2)
    rows = np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32)
    answers = feed_one(new_engine(model), rows)
    assert answers.values.shape == (9, 2)
    errors = (rows[1:, :2] - answers.values[:-1]).astype(np.float64) / model.output_std
    np.testing.assert_allclose(answers.residual[1:], np.sqrt((errors**2).mean(axis=1)), rtol=1e-5)


def test_past_capacity_new_streams_are_rejected_and_others_untouched():
    model, rows = untrained(), sensor_rows(60)
    rows[np.isnan(rows)] = 0
    stream = np.arange(60) % 5
    engine = new_engine(model, 3)
    answers = engine.feed(IDS, stream, rows)
    refused = stream >= 3
    assert (answers.outcome[refused] == CAPACITY).all()
    assert (answers.outcome[~refused] == PREDICTED).all()
    assert np.isnan(answers.values[refused]).all()
    assert dict(live_streams(engine.core.slots)).keys() == set(IDS[:3])
    assert engine.stats.rejected[REASONS.index("capacity")] == refused.sum()
    assert engine.stats.counters[STREAMS] == 3
    roomy = new_engine(model).feed(IDS, stream[~refused], rows[~refused])
    assert_same(select(answers, np.flatnonzero(~refused)), roomy)


def test_a_stream_that_begins_with_a_useless_row_takes_no_slot():
    engine = new_engine(untrained(), 1)
    answers = engine.feed(
        IDS, np.array([0, 1, 2]), np.array([[np.nan, 1, 1], [np.inf, 1, 1], [1, 1, 1]], np.float32)
    )
    assert answers.outcome.tolist() == [MISSING, INFINITE, PREDICTED]
    assert dict(live_streams(engine.core.slots)) == {IDS[2]: 0}


def test_a_refused_row_keeps_its_number_and_time():
    engine = new_engine(untrained(), 1, missing="reject")
    rows = np.ones((4, 3), np.float32)
    rows[0] = rows[2] = np.nan
    seq, ts_ns = np.arange(7, 11, dtype=np.uint64), np.arange(70, 110, 10)
    answers = engine.feed(IDS, np.array([0, 0, 0, 1]), rows, seq, ts_ns)
    assert answers.outcome.tolist() == [MISSING, PREDICTED, MISSING, CAPACITY]
    np.testing.assert_array_equal(answers.seq, seq)
    np.testing.assert_array_equal(answers.ts_ns, ts_ns)


def test_no_rows_no_answers():
    engine = new_engine(untrained())
    for ids in ([], IDS):
        answers = engine.feed(ids, np.zeros(0, np.int64), np.zeros((0, 3)))
        assert {len(array) for array in answers} == {0}
        assert answers.values.shape == (0, 3)
    assert engine.stats.counters[STREAMS] == 0


def test_other_dtypes_and_layouts_are_converted():
    rows = np.round(sensor_rows(40, 6))
    rows[np.isnan(rows)] = 0
    expected = feed_one(new_engine(untrained()), rows[:, ::2].copy())
    for given_rows in (rows.astype(np.float64), rows.astype(np.int32), np.asfortranarray(rows)):
        answers = new_engine(untrained()).feed(["stream"], np.zeros(40, np.uint8), given_rows[:, ::2])
        assert_same(answers, expected)


# what is refused


def test_another_model_of_the_same_shape_takes_over():
    old, new = (untrained("gru", seed=seed, reset="before", **ADDED) for seed in (1, 2))
    engine, rows = new_engine(old, 1), sensor_rows(20)
    feed_one(engine, rows[:5])
    engine.replace(new, engine.replacement(new, Faults()))
    answers = feed_one(engine, np.concatenate([np.ones((9, 3)), rows[10:]]))
    alone = feed_one(new_engine(new), np.ones((9, 3)))
    assert (answers.outcome == PREDICTED).all()
    assert (answers.values[0] != alone.values[0]).any()


def test_a_model_of_other_channels_cannot_take_over():
    """Frames do not name their values: in another order, they would be taken for each other."""
    model = untrained()
    other = replace(model, channels=model.channels[::-1], outputs=model.outputs[::-1])
    with pytest.raises(ConfigError, match="channels c2, c1, c0, the running one has c0, c1, c2"):
        new_engine(model).replacement(other, Faults())


@pytest.mark.parametrize("target", ["next", "value"])
def test_a_model_of_the_other_target_cannot_take_over(target):
    other = {"next": "value", "value": "next"}[target]
    engine = new_engine(untrained(target=target))
    with pytest.raises(ConfigError, match=f'target "{other}", the running one has "{target}"'):
        engine.replacement(untrained(target=other), Faults())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "lstm", "reset": "after"}, "model: cell lstm, the running one has gru; a model of another"),
        ({"reset": "after"}, "model: reset after, the running one has before"),
        ({"hidden": 6}, "model: hidden 6, the running one has 5"),
        ({"channels": 4}, "model: channels 4, the running one has 3"),
        ({"highway": 0}, "model: highway 0, the running one has 4"),
        ({"highway": 5}, "model: highway 5, the running one has 4"),
        ({"before": []}, r"model: before \[\], the running one has \[{'units': 20"),
        ({"after": ADDED["before"]}, r"model: after \[.*'sigmoid'}\], the running one has .*'linear'}\]"),
    ],
)
def test_a_model_of_another_shape_does_not_take_over(change, message):
    settings = {"cell": "gru", "reset": "before", **ADDED}
    engine = new_engine(untrained(**settings))
    with pytest.raises(ConfigError, match=message):
        engine.replacement(untrained(**settings | change), Faults())


@pytest.mark.parametrize("key", ["gap", "missing"])
def test_predict_needs_a_forecast_of_every_channel(key):
    model = untrained()
    for unsuited in (first_outputs(model, 2), other_quantities(model)):
        with pytest.raises(ConfigError, match=f'faults.{key}: "predict" needs .* use "hold"'):
            new_engine(unsuited, **{key: "predict"})
    new_engine(model, **{key: "predict"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.ones((4, 2))}, r"values must be \(4, 3\), not \(4, 2\)"),
        ({"values": np.ones((3, 3))}, r"values must be \(4, 3\), not \(3, 3\)"),
        ({"values": np.ones(12)}, r"values must be \(4, 3\), not \(12,\)"),
        ({"stream": np.zeros((4, 1), np.int64)}, r"stream must be \(4,\)"),
        ({"stream": np.array([0, 1, 2, 3])}, "indices into the 3 ids"),
        ({"stream": np.array([0, 1, 2, -1])}, "indices into the 3 ids"),
        ({"seq": np.zeros(3, np.uint64)}, r"seq must be \(4,\), not \(3,\)"),
        ({"ts_ns": np.zeros((4, 1), np.int64)}, r"ts_ns must be \(4,\), not \(4, 1\)"),
        ({"ids": ["a", "", "c"]}, "1 to 127 bytes"),
        ({"ids": ["a", "b" * 128, "c"]}, "1 to 127 bytes"),
        ({"ids": ["a", "\ud800", "c"]}, "surrogates not allowed"),
    ],
)
def test_what_does_not_fit_together(change, message):
    engine = new_engine(untrained())
    good = {"ids": ["a", "b", "c"], "stream": np.array([0, 1, 2, 0]), "values": np.ones((4, 3))}
    with pytest.raises(ValueError, match=message):
        engine.feed(**good | change)
    assert engine.stats.counters[STREAMS] == 0
    assert (engine.feed(**good).outcome == PREDICTED).all()


def test_a_model_of_another_scaling_goes_on_from_the_rows_before():
    """The head gives out the row two back; what is remembered of it does not depend on a model's scaling."""
    rows = np.arange(1, 11, dtype=np.float32).repeat(3).reshape(10, 3)
    there = untrained("lstm", 3, 4, mean=np.zeros(3), std=np.ones(3), highway=3)
    weight = np.hstack([np.zeros((3, 6)), np.eye(3)])
    nothing = {"head_weight": np.zeros((3, 4)), "head_bias": np.zeros(3), "highway_weight": weight}
    old = replace(there, **nothing)
    side = {"mean": np.full(3, 100), "std": np.full(3, 10)}
    scaling = {f"{end}_{name}": value for end in ("input", "output") for name, value in side.items()}
    new = replace(old, **scaling)
    engine = Engine(old, 1, Faults())
    stream = np.zeros(5, np.int64)
    assert engine.feed(["a"], stream, rows[:5]).values[:, 0].tolist() == [1, 1, 1, 2, 3]
    engine.replace(new, engine.replacement(new, Faults()))
    np.testing.assert_allclose(engine.feed(["a"], stream, rows[5:]).values[:, 0], [4, 5, 6, 7, 8], rtol=1e-5)
