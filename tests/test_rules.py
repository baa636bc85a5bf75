"""The rules for what a row can be, against plain Python, and the step that goes wrong."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import untrained

from streamrnn.config import Faults
from streamrnn.engine import Answers, Engine, advance
from streamrnn.model.model import Channel, Layer, Model, random_model
from streamrnn.stats import LATE, MISSING_ROWS, REASONS, RESETS
from streamrnn.streams.batch import LATE_ROW, PREDICTED, REJECTED
from streamrnn.streams.slots import find_slot, id_words
from streamrnn.wire.frame import END, GAP, IMPUTED, RESET, SEQ, WARMING, WAS_RESET

NAMES = ["a", "b", "c", "d"]
CAPACITY = 3
FORECASTS = untrained("gru", channels=2, hidden=4)
OTHER = replace(FORECASTS, target="value", outputs=(Channel("y0"), Channel("y1")))


class Row(NamedTuple):
    """One row of a stream: its number, or None; flags of the frame."""

    name: str
    values: np.ndarray
    seq: int | None = None
    flags: int = 0


@dataclass
class Said:
    """What is said of a row; of one that is not predicted, its outcome and number alone."""

    outcome: int
    seq: int
    flags: int = 0
    step: int = 0
    gap: int = 0
    epoch: int = 0
    residual: float = np.nan
    values: Any = np.nan


@dataclass
class Stream:
    seq: int
    input: np.ndarray
    forecast: np.ndarray
    step: int
    epoch: int
    ended: bool


class Rules:
    """The rules, a row at a time.

    The network is an engine's that is only ever fed rows in order with nothing missing: what is filled in is
    filled in here, and each epoch of a stream is a stream of its own there.
    """

    def __init__(self, model: Model, gap: str, max_gap: int, missing: str):
        self.gap, self.max_gap, self.missing = gap, max_gap, missing
        self.forecasts, self.std = model.target == "next", model.output_std.astype(np.float64)
        self.network = Engine(model, 256, Faults(gap="step", missing="reject"))
        self.streams: dict[str, Stream] = {}
        self.counts: Counter[str] = Counter()

    def forecast(self, name: str, epoch: int, values: np.ndarray) -> np.ndarray:
        return self.network.feed([f"{name}/{epoch}"], np.zeros(1, np.int64), values[None]).values[0]

    def reject(self, reason: str, seq: int) -> Said:
        self.counts[reason] += 1
        return Said(REJECTED + REASONS.index(reason), seq)

    def refusal(self, values: np.ndarray, continues: bool) -> str | None:
        if np.isinf(values).any():
            return "infinite"
        if np.isnan(values).any() and (self.missing == "reject" or not continues):
            return "missing"
        return None

    def take(self, row: Row) -> Said:
        before = self.streams.get(row.name)
        if before is None:
            return self.begin(row)
        seq = before.seq + 1 if row.seq is None else row.seq
        gap = seq - before.seq - 1
        if row.flags & RESET:
            gap, reset = 0, "frame"
        elif gap < 0:
            self.counts["late"] += 1
            return Said(LATE_ROW, seq)
        else:
            reset = "end" if before.ended else "max_gap" if gap > self.max_gap else ""
        if reason := self.refusal(row.values, not reset):
            return self.reject(reason, seq)
        self.counts["missing rows"] += min(gap, 2**32 - 1)
        said = GAP if gap else 0
        if reset:
            self.counts[reset] += 1
            return self.step(row, seq, None, before.epoch + 1, gap, said | WAS_RESET)
        return self.step(row, seq, before, before.epoch, gap, said)

    def begin(self, row: Row) -> Said:
        reason = self.refusal(row.values, False)
        if reason is None and len(self.streams) == CAPACITY:
            reason = "capacity"
        if reason:
            return self.reject(reason, row.seq or 0)
        return self.step(row, row.seq or 0, None, 0, 0, 0)

    def step(self, row: Row, seq: int, before: Stream | None, epoch: int, gap: int, said: int) -> Said:
        """The row's own step, from ``before`` or anew; before it, those of the rows that are missing."""
        steps, values, residual = 1, row.values.copy(), np.nan
        if before is not None:
            steps += before.step
            for _ in range(gap if self.gap != "step" else 0):
                before.input = before.forecast if self.gap == "predict" else before.input
                before.forecast = self.forecast(row.name, epoch, before.input)
                steps += 1
            gone = np.isnan(values)
            if self.forecasts and not gone.all():
                errors = (values - before.forecast.astype(np.float64)) / self.std
                residual = np.sqrt(np.mean(errors[~gone] ** 2))
            values[gone] = (before.forecast if self.missing == "predict" else before.input)[gone]
            said |= IMPUTED if gone.any() else 0
        said |= WARMING if before is None else 0
        forecast = self.forecast(row.name, epoch, values)
        self.streams[row.name] = Stream(seq, values, forecast, steps, epoch, bool(row.flags & END))
        return Said(PREDICTED, seq, said, steps, gap, epoch, residual, forecast)


def assert_said(found: list[Said], expected: list[Said]) -> None:
    for at, (said, wanted) in enumerate(zip(found, expected, strict=True)):
        for name in ("outcome", "flags", "step", "gap", "epoch"):
            assert (at, name, getattr(said, name)) == (at, name, getattr(wanted, name))
        if wanted.outcome < REJECTED:
            assert (at, said.seq) == (at, wanted.seq)
        np.testing.assert_allclose(said.residual, wanted.residual, rtol=1e-5)
        np.testing.assert_array_equal(said.values, wanted.values)


def assert_counted(engine: Engine, counts: Counter[str]) -> None:
    stats = engine.stats
    for reason, count in zip(REASONS, stats.rejected, strict=True):
        assert (reason, count) == (reason, counts[reason])
    for reason, count in zip(RESETS, stats.resets, strict=True):
        assert (reason, count) == (reason, counts[reason])
    assert stats.counters[LATE] == counts["late"]
    assert stats.counters[MISSING_ROWS] == counts["missing rows"]


def numbered(rows: list[tuple[int, int, list[float], int]]) -> list[Row]:
    """Rows of (stream, jump of its number, values, flags)."""
    last = dict.fromkeys(NAMES, -1)
    out = []
    for stream, jump, values, flags in rows:
        name = NAMES[stream]
        last[name] = max(last[name] + jump, 0)
        out.append(Row(name, np.array(values, np.float32), last[name], flags))
    return out


def feed(engine: Engine, rows: list[Row]) -> list[Said]:
    """What the engine says of rows without flags, all of them with numbers or none."""
    seq = None if rows[0].seq is None else np.array([row.seq for row in rows], np.uint64)
    stream = np.array([NAMES.index(row.name) for row in rows])
    answers = engine.feed(NAMES, stream, np.array([row.values for row in rows]), seq)
    return [
        Said(**{field.name: getattr(answers, field.name)[at] for field in fields(Said)})
        for at in range(len(rows))
    ]


def advance_by_hand(engine: Engine, rows: list[Row]) -> list[Said]:
    """What the engine says of a batch of known streams with the flags of their frames."""
    core, batch = engine.core, engine.core.batch
    for at, row in enumerate(rows):
        batch.slot[at] = find_slot(core.slots, id_words(row.name))
        batch.flags[at], batch.seq[at], batch.ts[at] = row.flags | SEQ, row.seq, 0
        batch.values[at * core.net.in_width :][: len(row.values)] = row.values
    advance(core, len(rows))
    values = batch.predicted.reshape(-1, core.net.out_width)[:, : core.net.outputs].copy()
    numbers = (batch.said, batch.step, batch.gap, batch.epoch, batch.residual, values)
    said = [
        Said(batch.outcome[at], batch.seq[at], *(column[at] for column in numbers)) for at in range(len(rows))
    ]
    return [each if each.outcome == PREDICTED else Said(each.outcome, each.seq) for each in said]


FINITE = [0.0, -30.0, -1.0, -0.25, 0.5, 1.0, 3.0, 20.0, 55.0, 1e4]
JUMPS = st.sampled_from([1, 1, 1, 1, 2, 2, 3, 4, 5, 9, 0, -4])
STREAMS = st.integers(0, len(NAMES) - 1)
VALUES = st.lists(st.sampled_from([*FINITE, *FINITE, np.nan, np.nan, -np.inf]), min_size=2, max_size=2)
ROWS = st.lists(st.tuples(STREAMS, JUMPS, VALUES, st.just(0)), min_size=15, max_size=60)
FILLED = st.fixed_dictionaries(
    {
        "gap": st.sampled_from(["step", "hold", "predict"]),
        "max_gap": st.sampled_from([0, 1, 3, 64]),
        "missing": st.sampled_from(["reject", "hold", "predict"]),
    }
)
HELD = st.fixed_dictionaries(
    {
        "gap": st.sampled_from(["step", "hold"]),
        "max_gap": st.sampled_from([0, 1, 3, 64]),
        "missing": st.sampled_from(["reject", "hold"]),
    }
)


FLAGS = st.sampled_from([0, 0, 0, 0, END, RESET, END | RESET])
USEFUL = st.lists(st.sampled_from(FINITE), min_size=2, max_size=2)
FLAGGED = st.tuples(st.integers(0, CAPACITY - 1), JUMPS, USEFUL, FLAGS)


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.just(FORECASTS), FILLED) | st.tuples(st.just(OTHER), HELD), ROWS, st.booleans())
def test_rows_of_any_kind(setting, rows, with_numbers):
    model, faults = setting
    engine, rules = Engine(model, CAPACITY, Faults(**faults)), Rules(model, **faults)
    mixed = [row if with_numbers else row._replace(seq=None) for row in numbered(rows)]
    assert_said(feed(engine, mixed), [rules.take(row) for row in mixed])
    assert_counted(engine, rules.counts)
    assert np.isfinite(engine.core.slots.state).all()


@settings(max_examples=100, deadline=None)
@given(FILLED, st.lists(FLAGGED, min_size=15, max_size=60))
def test_sequences_that_end_and_begin(faults, rows):
    engine, rules = Engine(FORECASTS, CAPACITY, Faults(**faults)), Rules(FORECASTS, **faults)
    mixed = numbered([(stream, 1, [1.0, 2.0], 0) for stream in range(CAPACITY)] + rows)
    first, rest = mixed[:CAPACITY], mixed[CAPACITY:]
    assert_said(feed(engine, first), [rules.take(row) for row in first])
    assert_said(advance_by_hand(engine, rest), [rules.take(row) for row in rest])
    assert_counted(engine, rules.counts)


@pytest.mark.parametrize("flag", [RESET, END])
def test_a_rejected_row_still_ends_or_begins_its_sequence(flag):
    """Or a sender that starts again from 0 with a NaN in its first row stays late until it passes 1000."""
    engine = Engine(FORECASTS, 1, Faults())
    feed(engine, [Row("a", np.ones(2), 1000)])
    bad = np.array([np.inf, 1])
    number = 0 if flag == RESET else 1001
    following = Row("a", np.ones(2), number + 1, 0)
    said = advance_by_hand(engine, [Row("a", bad, number, flag), following])
    assert [each.outcome for each in said] == [REJECTED + REASONS.index("infinite"), PREDICTED]
    assert (said[1].step, said[1].epoch) == (1, 1)


@pytest.mark.parametrize("gap", ["step", "hold", "predict"])
def test_the_widest_gap(gap):
    engine = Engine(FORECASTS, 1, Faults(gap=gap, max_gap=1024))
    said = feed(engine, [Row("a", np.ones(2), seq) for seq in (0, 1025, 2**64 - 1)])
    assert [each.outcome for each in said] == [PREDICTED] * 3
    assert [each.gap for each in said] == [0, 1024, 2**32 - 1]
    assert [each.epoch for each in said] == [0, 0, 1]
    assert [each.step for each in said] == [1, 2 if gap == "step" else 1026, 1]
    assert engine.stats.counters[MISSING_ROWS] == 1024 + 2**32 - 1


# the step that goes wrong


def runaway() -> Model:
    """A relu network whose first unit grows a thousandfold a step once channel 0 is above zero."""
    model = random_model("rnn", 3, 5, activation="relu", seed=1)
    parts = {name: getattr(model.layers[0], name).copy() for name in Layer.__dataclass_fields__}
    for part in parts.values():
        part[0] = 0
    parts["weight_ih"][:, 0] = parts["weight_hh"][:, 0] = 0
    parts["weight_ih"][0, 0], parts["weight_hh"][0, 0] = 1, 1000
    return replace(model, layers=(Layer(**parts),))


def assert_nothing_but_finite(engine: Engine, answers: Answers) -> None:
    assert np.isfinite(engine.core.slots.state).all()
    assert np.isfinite(answers.values[answers.outcome == PREDICTED]).all()


def test_a_diverged_stream_begins_anew_and_its_neighbours_do_not_notice():
    names, streams, steps = ["calm", "wild", "still"], 3, 60
    rows = np.random.default_rng(0).normal(size=(steps, streams, 3)).astype(np.float32)
    rows[:, :, 0] = 0
    rows[:, 1, 0] = 1
    stream = np.tile(np.arange(streams), steps)
    engine = Engine(runaway(), streams, Faults())
    answers = engine.feed(names, stream, rows.reshape(-1, 3))
    assert_nothing_but_finite(engine, answers)

    wild = Answers(*(array[stream == 1] for array in answers))
    diverged = np.flatnonzero(wild.outcome == REJECTED + REASONS.index("diverged"))
    assert len(diverged) > 2
    assert len(set(np.diff(diverged))) == 1  # the same way each time
    assert set(np.flatnonzero(wild.outcome)) == set(diverged)
    assert engine.stats.rejected[REASONS.index("diverged")] == len(diverged)
    after = diverged[diverged + 1 < steps] + 1
    assert wild.step[after].tolist() == [1] * len(after)
    assert wild.epoch[after].tolist() == list(range(1, len(after) + 1))
    assert (wild.flags[after] == WAS_RESET | WARMING).all()
    assert engine.stats.resets[RESETS.index("diverged")] == len(after)
    fresh = Engine(runaway(), 1, Faults()).feed(
        ["wild"], np.zeros(steps - after[0], np.int64), rows[after[0] :, 1]
    )
    np.testing.assert_array_equal(wild.values[after[0] :], fresh.values)

    for k in (0, 2):
        alone = Engine(runaway(), 1, Faults()).feed(["alone"], np.zeros(steps, np.int64), rows[:, k])
        np.testing.assert_array_equal(answers.values[stream == k], alone.values)
        np.testing.assert_array_equal(answers.residual[stream == k], alone.residual)


def test_a_stream_may_diverge_while_a_gap_is_filled_in():
    engine = Engine(runaway(), 1, Faults(gap="hold", max_gap=64))
    row = np.ones((1, 3), np.float32)
    engine.feed(["wild"], np.zeros(1, np.int64), row, np.array([0], np.uint64))
    answers = engine.feed(["wild"], np.zeros(1, np.int64), row, np.array([60], np.uint64))
    assert_nothing_but_finite(engine, answers)
    assert (answers.outcome[0], answers.gap[0], answers.step[0]) == (PREDICTED, 59, 1)
    assert answers.flags[0] == WAS_RESET | GAP | WARMING
    assert engine.stats.counters[MISSING_ROWS] == 59
    assert engine.stats.rejected.sum() == 0


@pytest.mark.parametrize("hidden", [5, 16])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_values_too_large_to_scale(cell, hidden):
    """Finite as they come, infinite once divided by their deviation."""
    model = random_model(cell, 2, hidden, mean=np.zeros(2), std=np.full(2, 1e-30))
    engine = Engine(model, 1, Faults())
    rows = np.array(
        [[0, 1e-30], [3e38, -3e38], [3e38, 0], [-3e38, 1e-30], [0, 1e-30], [1e-30, 0]], np.float32
    )
    answers = engine.feed(["a"], np.zeros(len(rows), np.int64), rows)
    assert_nothing_but_finite(engine, answers)
    assert set(answers.outcome[1:4]) <= {PREDICTED, REJECTED + REASONS.index("diverged")}
    assert answers.outcome[[0, 4, 5]].tolist() == [PREDICTED] * 3


def test_a_rectifier_does_not_hide_what_is_not_a_number():
    """inf - inf before it; zero after it would look like a quiet unit."""
    model = random_model("rnn", 2, 1, activation="relu", mean=np.zeros(2), std=np.full(2, 1e-3), seed=1)
    (layer,) = model.layers
    opposed = replace(model, layers=(replace(layer, weight_ih=np.array([[1, -1]], np.float32)),))
    engine = Engine(opposed, 1, Faults())
    said = feed(engine, [Row("a", np.full(2, 1e38), 0), Row("a", np.ones(2), 1)])
    assert [each.outcome for each in said] == [REJECTED + REASONS.index("diverged"), PREDICTED]
