"""The rules for what a row can be, against plain Python, and the step that goes wrong."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ADDED, untrained
from plain_rules import (
    DEGRADED_STEPS,
    LAST_NUMBER,
    SILENCE_NS,
    Row,
    Rules,
    Said,
    assert_counted,
    assert_finite,
    assert_said,
    feed,
    feed_by_hand,
    moved,
)
from slots_by_hand import find_slot

from streamrnn.engine.engine import Answers, Engine
from streamrnn.model import cells
from streamrnn.model.model import Model, random_model
from streamrnn.model.parts import Channel, Layer
from streamrnn.settings.sections import Faults
from streamrnn.stats import LATE_ROW, MISSING_ROWS, PREDICTED, REASONS, REJECTED, RESETS
from streamrnn.streams.rules import request_reset
from streamrnn.streams.slots import id_words
from streamrnn.wire.frame import DEGRADED, END, GAP, IMPUTED, RESET, RESTORED, WARMING, WAS_RESET

NAMES = ["a", "b", "c", "d"]
CAPACITY = 3
DIVERGED = REJECTED + REASONS.index("diverged")
INFINITE = REJECTED + REASONS.index("infinite")
FORECASTS = untrained("gru", channels=2, hidden=4)
SEEING = untrained("gru", channels=2, hidden=4, reset="before", **ADDED)
OTHER = replace(FORECASTS, target="value", outputs=(Channel("y0"), Channel("y1")))


def growing() -> Model:
    """One rectifier that grows a hundredfold a step: degraded in four, diverged in twenty."""
    model = untrained("rnn", 2, 1, activation="relu", seed=3)
    layer = replace(model.layers[0], weight_hh=np.array([[100]], np.float32))
    return replace(model, layers=(layer,))


GROWING = growing()
FINITE = [0.0, -30.0, -1.0, -0.25, 0.5, 1.0, 3.0, 20.0, 55.0, 1e4]
STREAMS = st.integers(0, len(NAMES) - 1)
JUMPS = st.sampled_from([1, 1, 1, 1, 2, 2, 3, 4, 5, 9, 0, -4])
VALUES = st.lists(st.sampled_from([*FINITE, *FINITE, np.nan, np.nan, -np.inf]), min_size=2, max_size=2)
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
SETTINGS = st.tuples(st.sampled_from([FORECASTS, SEEING, GROWING]), FILLED) | st.tuples(st.just(OTHER), HELD)


def numbered(rows: list[tuple[int, int, list[float]]]) -> list[Row]:
    """Rows of (stream, jump of its number, values)."""
    last = dict.fromkeys(NAMES, -1)
    out = []
    for stream, jump, values in rows:
        name = NAMES[stream]
        last[name] = max(last[name] + jump, 0)
        out.append(Row(name, np.array(values, np.float32), last[name]))
    return out


@settings(max_examples=100, deadline=None)
@given(SETTINGS, st.lists(st.tuples(STREAMS, JUMPS, VALUES), min_size=15, max_size=60), st.booleans())
def test_rows_of_any_kind(setting, rows, with_numbers):
    model, faults = setting
    engine, rules = Engine(model, CAPACITY, Faults(**faults)), Rules(model, CAPACITY, **faults)
    mixed = [row if with_numbers else row._replace(seq=None) for row in numbered(rows)]
    assert_said(feed(engine, mixed), [rules.take(row) for row in mixed])
    assert_counted(engine, rules)
    assert_finite(engine.core.slots)


def test_a_step_that_diverges_is_a_rejected_row_and_then_a_reset():
    faults = {"gap": "step", "max_gap": 0, "missing": "reject"}
    engine, rules = Engine(GROWING, CAPACITY, Faults(**faults)), Rules(GROWING, CAPACITY, **faults)
    rows = numbered([(0, 1, [0.0, -30.0])] + [(0, 1, [0.0, 0.0])] * 24)
    assert_said(feed(engine, rows), [rules.take(row) for row in rows])
    assert (rules.counts["diverged"], rules.resets["diverged"]) == (1, 1)
    assert_counted(engine, rules)


# a source that goes back: to 5, where it began; before that; near that; or it does not say where it is
BACK = st.sampled_from([None, 0, 4, 5, 6, 7, LAST_NUMBER])
FLAGS = st.sampled_from([0, 0, 0, 0, 0, END, RESET, END | RESET])
WAITS = st.sampled_from([0, 0, 0, 1, SILENCE_NS // 2, SILENCE_NS - 1, SILENCE_NS])
FLAGGED = st.tuples(STREAMS, JUMPS | BACK.map(str), VALUES, FLAGS, WAITS)


def in_time(rows: list[tuple[int, int | str, list[float], int, int]]) -> list[Row]:
    """Rows of (stream, jump of its number or that number as text, values, flags, wait before it)."""
    now, last = 1, dict.fromkeys(NAMES, 4)
    out = []
    for stream, jump, values, flags, wait in rows:
        name, now, seq = NAMES[stream], now + wait, None
        if jump != "None":
            seq = last[name] = int(jump) if isinstance(jump, str) else max(last[name] + jump, 0) % 2**64
        out.append(Row(name, np.array(values, np.float32), seq, flags, now))
    return out


@settings(max_examples=200, deadline=None)
@given(SETTINGS, st.lists(FLAGGED, min_size=15, max_size=60), st.integers(1, 60))
def test_sequences_that_end_begin_and_begin_again(setting, rows, batch):
    model, faults = setting
    engine, rules = Engine(model, CAPACITY, Faults(**faults)), Rules(model, CAPACITY, **faults)
    timed = in_time(rows)
    for at in range(0, len(timed), batch):
        part = timed[at : at + batch]
        assert_said(feed_by_hand(engine, part), [rules.take(row) for row in part])
    assert_counted(engine, rules)
    assert_finite(engine.core.slots)


# one rule at a time


def begun(*numbers: int, model: Model = FORECASTS, flags: int = 0, **faults) -> Engine:
    """An engine with a stream "a" that has had rows of these numbers, the last with ``flags``, at time 1."""
    engine = Engine(model, 1, Faults(**faults))
    rows = [Row("a", np.ones(2), seq, received=1) for seq in numbers]
    said = feed_by_hand(engine, [*rows[:-1], rows[-1]._replace(flags=flags)])
    assert [each.outcome for each in said] == [PREDICTED] * len(rows)
    return engine


def then(engine: Engine, *numbers: int | None, after: int = 0, flags: int = 0) -> list[Said]:
    """What is said of rows of these numbers, ``after`` ns later, the first with ``flags``."""
    rows = [Row("a", np.ones(2), seq, received=1 + after) for seq in numbers]
    return feed_by_hand(engine, [rows[0]._replace(flags=flags), *rows[1:]])


def resets(engine: Engine) -> dict[str, int]:
    """How often the streams were reset, by reason, where they were."""
    return {reason: int(count) for reason, count in zip(RESETS, engine.stats.resets, strict=True) if count}


@pytest.mark.parametrize("number", [8, 20, 5, 0])
def test_after_its_end_the_next_row_begins_a_sequence(number):
    """Its number is the next, or further on, or where the sequence before began, or before that."""
    engine = begun(5, 6, 7, flags=END, max_gap=2)
    (said,) = then(engine, number)
    assert (said.outcome, said.seq, said.step, said.gap, said.epoch) == (PREDICTED, number, 1, 0, 1)
    assert said.flags == WAS_RESET | WARMING
    assert resets(engine) == {"end": 1}
    assert engine.stats.counters[MISSING_ROWS] == 0


@pytest.mark.parametrize("number", [7, 6])
def test_after_its_end_a_row_of_it_is_still_late(number):
    assert then(begun(5, 6, 7, flags=END), number)[0].outcome == LATE_ROW


def test_a_sequence_of_one_row_sent_twice_is_not_a_new_one():
    assert then(begun(5, flags=END), 5)[0].outcome == LATE_ROW


@pytest.mark.parametrize("number", [5, 0])
def test_a_source_that_restarts_without_saying_so(number):
    """After a silence, by the clock of the daemon, it is believed; a moment earlier it is late."""
    engine = begun(5, 6, 7)
    assert then(engine, number, after=SILENCE_NS - 1)[0].outcome == LATE_ROW
    (said,) = then(engine, number, after=SILENCE_NS)
    assert (said.outcome, said.seq, said.step, said.epoch) == (PREDICTED, number, 1, 1)
    assert said.flags == WAS_RESET | WARMING
    assert resets(engine) == {"restart": 1}


def test_a_source_that_restarts_at_once_is_believed_a_second_later():
    engine = begun(5, 6, 7, 8, 9)
    assert [each.outcome for each in then(engine, 5, 6)] == [LATE_ROW] * 2
    said = then(engine, 7, 8, after=SILENCE_NS)
    assert [(each.outcome, each.step, each.epoch) for each in said] == [(PREDICTED, 1, 1), (PREDICTED, 2, 1)]


@pytest.mark.parametrize("numbers", [(7, 8, 9), (9,), (7, 9, 6, 6, 8)])
def test_rows_that_come_a_second_time_are_late_after_any_silence(numbers):
    """They do not begin where their sequence did."""
    said = then(begun(5, 6, 7, 8, 9), *numbers, after=10 * SILENCE_NS)
    assert {each.outcome for each in said} == {LATE_ROW}


def test_one_wrong_number_does_not_silence_a_stream_for_ever():
    engine = begun(5, 6, LAST_NUMBER)
    assert [each.outcome for each in then(engine, 7, 8)] == [LATE_ROW] * 2
    assert then(engine, 9, after=SILENCE_NS)[0].outcome == PREDICTED


def test_a_row_taken_between_two_late_ones_parts_them():
    engine = begun(5, 6, 7, 8, 9)
    assert [each.outcome for each in then(engine, 5, 10)] == [LATE_ROW, PREDICTED]
    assert then(engine, 6, after=SILENCE_NS)[0].outcome == LATE_ROW


def test_late_rows_do_not_end_the_silence():
    engine = begun(5, 6, 7)
    for after in range(0, SILENCE_NS, SILENCE_NS // 10):
        assert then(engine, 7, after=after)[0].outcome == LATE_ROW
    assert then(engine, 5, after=SILENCE_NS)[0].outcome == PREDICTED


def test_a_row_without_a_number_is_never_late():
    engine = begun(5, LAST_NUMBER, max_gap=0)
    said = then(engine, None, None, 3)
    assert [each.outcome for each in said] == [PREDICTED] * 3
    assert [int(each.seq) for each in said] == [0, 1, 3]
    assert [int(each.gap) for each in said] == [0, 0, 1]


@pytest.mark.parametrize("flags", [RESET, END])
def test_the_last_number_there_is(flags):
    engine = begun(LAST_NUMBER - 1, LAST_NUMBER, flags=flags & END)
    (said,) = then(engine, 0, flags=flags & RESET)
    assert (said.outcome, said.seq, said.gap, said.epoch) == (PREDICTED, 0, 0, 1)
    assert then(engine, LAST_NUMBER)[0].gap == 2**32 - 1


@pytest.mark.parametrize("flag", [RESET, END])
def test_a_rejected_row_still_ends_or_begins_its_sequence(flag):
    """Or a sender that starts again from 0 with a NaN in its first row stays late until it passes 1000."""
    engine = begun(1000)
    number = 0 if flag == RESET else 1001
    bad = Row("a", np.array([np.inf, 1]), number, flag)
    said = feed_by_hand(engine, [bad, Row("a", np.ones(2), number + 1)])
    assert [each.outcome for each in said] == [INFINITE, PREDICTED]
    assert (said[1].step, said[1].epoch) == (1, 1)


def test_a_rejected_end_lets_the_next_sequence_begin_where_this_one_did():
    engine = begun(5, 6)
    assert feed_by_hand(engine, [Row("a", np.full(2, np.inf), 7, END)])[0].outcome == INFINITE
    assert [(each.outcome, each.step) for each in then(engine, 5, 6)] == [(PREDICTED, 1), (PREDICTED, 2)]


@pytest.mark.parametrize("missing", ["hold", "predict"])
@pytest.mark.parametrize("why", ["wide gap", "end", "reset", "restart", "request"])
def test_a_channel_that_is_dead_lives_through_a_reset(why, missing):
    """Filled in with its last value known: a stream that has begun anew has no forecast of it yet."""
    engine = begun(5, 6, 7, missing=missing, max_gap=3, flags=END if why == "end" else 0)
    if why == "request":
        request_reset(engine.core.slots, int(find_slot(engine.core.slots, id_words("a"))))
    dead = Row("a", np.array([3, np.nan]), 8, received=1)
    dead = {
        "wide gap": dead._replace(seq=90),
        "reset": dead._replace(flags=RESET),
        "restart": dead._replace(seq=5, received=1 + SILENCE_NS),
    }.get(why, dead)
    (said,) = feed_by_hand(engine, [dead])
    assert said.flags == WAS_RESET | WARMING | IMPUTED | (GAP if why == "wide gap" else 0)
    whole = feed_by_hand(Engine(FORECASTS, 1, Faults()), [Row("a", np.array([3, 1]), 0)])
    np.testing.assert_array_equal(said.values, whole[0].values)


def test_the_first_row_of_a_stream_must_be_complete():
    engine = Engine(FORECASTS, 1, Faults(missing="hold"))
    said = then(engine, 0)[0], feed_by_hand(engine, [Row("b", np.array([np.nan, 1]), 0)])[0]
    assert [each.outcome for each in said] == [PREDICTED, REJECTED + REASONS.index("missing")]


def test_a_stream_that_is_reset_on_request_begins_anew_once():
    engine = begun(5, 6)
    request_reset(engine.core.slots, int(find_slot(engine.core.slots, id_words("a"))))
    said = then(engine, 9, 10)
    assert [(each.step, each.gap, each.epoch) for each in said] == [(1, 2, 1), (2, 0, 1)]
    assert [each.flags for each in said] == [WAS_RESET | WARMING | GAP, WARMING]
    assert resets(engine) == {"request": 1}


@pytest.mark.parametrize("gap", ["step", "hold", "predict"])
def test_the_widest_gap(gap):
    engine = Engine(FORECASTS, 1, Faults(gap=gap, max_gap=1024))
    said = feed(engine, [Row("a", np.ones(2), seq) for seq in (0, 1025, LAST_NUMBER)])
    assert [each.outcome for each in said] == [PREDICTED] * 3
    assert [each.gap for each in said] == [0, 1024, 2**32 - 1]
    assert [each.epoch for each in said] == [0, 0, 1]
    assert [each.step for each in said] == [1, 2 if gap == "step" else 1026, 1]
    assert engine.stats.counters[MISSING_ROWS] == 1024 + 2**32 - 1


def test_blocks_that_straddle_what_is_there():
    """Of each block the rows that are new are taken, those that are not are late, and nothing is missing."""
    rows = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    whole = feed(Engine(FORECASTS, 1, Faults()), [Row("a", values, seq) for seq, values in enumerate(rows)])
    engine = Engine(FORECASTS, 1, Faults())
    said: list[Said] = []
    for first, last in ((0, 10), (0, 3), (5, 15), (14, 16), (9, 20)):
        block = [Row("a", rows[seq], seq, END if seq == 19 else 0) for seq in range(first, last)]
        said += feed_by_hand(engine, block)
    assert_said([each for each in said if each.outcome == PREDICTED], whole)
    assert {each.outcome for each in said} == {PREDICTED, LATE_ROW}
    assert then(engine, 0)[0].epoch == 1  # the END was heard


@pytest.mark.parametrize("gap", ["step", "hold", "predict"])
def test_clocks_that_jump_leave_the_numbers_alone(gap):
    model = replace(FORECASTS, sample_period_s=0.01)
    rows = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    seq = np.arange(0, 80, 2, dtype=np.uint64)
    none = Engine(model, 1, Faults(gap=gap)).feed(["a"], np.zeros(40, np.int64), rows, seq)
    jumps = np.array([5, -7, 2**63 - 1, -(2**63), 0, 10**18, -(10**18), 1], np.int64)
    times = np.tile(jumps, 5)
    answers = Engine(model, 1, Faults(gap=gap)).feed(["a"], np.zeros(40, np.int64), rows, seq, times)
    np.testing.assert_array_equal(answers.ts_ns, times)
    for name in ("outcome", "flags", "seq", "step", "gap", "epoch", "residual", "values"):
        np.testing.assert_array_equal(getattr(answers, name), getattr(none, name))


# a stream that was put back


def test_a_stream_that_was_put_back_says_so_once():
    engine = moved(begun(5, 6), now=1)
    said = then(engine, 6, 7, 8)
    assert [each.outcome for each in said] == [LATE_ROW, PREDICTED, PREDICTED]
    assert [each.flags for each in said[1:]] == [RESTORED | WARMING, WARMING]
    assert [each.step for each in said[1:]] == [3, 4]


@pytest.mark.parametrize("gap", ["step", "hold", "predict"])
def test_a_stream_that_was_put_back_says_so_behind_a_gap(gap):
    said = then(moved(begun(5, 6), gap=gap), 10, 11)
    assert [each.flags for each in said] == [GAP | RESTORED | WARMING, WARMING]


def test_a_stream_that_was_put_back_says_so_after_rows_that_say_nothing():
    engine = moved(begun(5, 6))
    bad = Row("a", np.array([np.inf, 1]), 7, RESET)
    assert feed_by_hand(engine, [bad])[0].outcome == INFINITE
    assert [each.flags for each in then(engine, 8, 9)] == [WAS_RESET | WARMING | RESTORED, WARMING]


def test_a_stream_that_was_put_back_and_diverged_says_so_when_it_speaks():
    engine = moved(begun(5, 6))
    wild = Row("a", np.array([3e38, -3e38]), 7)
    small = replace(FORECASTS, input_std=np.full(2, 1e-30, np.float32))
    engine.replace(small, engine.replacement(small, Faults()))
    assert feed_by_hand(engine, [wild])[0].outcome == DIVERGED
    assert then(engine, 8)[0].flags & (WAS_RESET | RESTORED) == WAS_RESET | RESTORED


def test_silence_begins_anew_where_a_stream_is_put_back():
    """How long nothing came before that, on another machine's clock, says nothing."""
    later = 50 * SILENCE_NS
    engine = moved(begun(5, 6, 7), now=later)
    assert then(engine, 5, after=later + SILENCE_NS - 2)[0].outcome == LATE_ROW
    assert then(engine, 5, after=later + SILENCE_NS - 1)[0].outcome == PREDICTED


# a state that nothing moves any more


def driven(cell: str, activation: str = "tanh", units: int = 10, layers: int = 1) -> Model:
    """A model of 10 units a layer, of which 1 in its one channel saturates ``units``, and 0 none."""
    model = random_model(cell, 1, 10, activation=activation, layers=layers)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    scale = 1e7 if activation == "relu" else 100
    made = []
    for number, layer in enumerate(model.layers):
        parts = {name: np.zeros_like(getattr(layer, name)) for name in Layer.__dataclass_fields__}
        drive = parts["weight_ih"].reshape(gates, 10, -1)[:, :units, 0]
        bias = parts["bias_ih"].reshape(gates, 10)[:, :units]
        if cell == "lstm":  # c grows by 1 a step where the input holds the forget gate open
            bias[0], bias[1], bias[2], drive[1] = 20, -20, 20, 100
            bias[3] = 20  # so that the layer above sees about 1, too
            if number:
                bias[1], drive[1] = -90, 100
        elif cell == "gru":  # h' = n
            bias[1], drive[2] = -20, scale
        else:
            drive[0] = scale if number == 0 else 1
        made.append(Layer(**parts))
    return replace(model, layers=tuple(made))


DRIVEN = pytest.mark.parametrize(
    ("cell", "activation", "onset"),
    [("lstm", "tanh", 8), ("gru", "tanh", 1), ("rnn", "tanh", 1), ("rnn", "relu", 1)],
)
HIGH = np.ones(1, np.float32)
LOW = np.zeros(1, np.float32)


def drive(engine: Engine, *inputs: np.ndarray, seq: int | None = None) -> Answers:
    numbers = None if seq is None else np.arange(seq, seq + len(inputs), dtype=np.uint64)
    return engine.feed(["a"], np.zeros(len(inputs), np.int64), np.array(inputs), numbers)


@DRIVEN
def test_a_stream_that_stays_degraded_is_reset(cell, activation, onset):
    """After 1000 steps in a row, with the next: said on each, counted once a reset."""
    engine, period = Engine(driven(cell, activation), 1, Faults()), DEGRADED_STEPS + onset - 1
    answers = drive(engine, *[HIGH] * (2 * period + 1))
    step = np.concatenate([np.tile(np.arange(1, period + 1), 2), [1]])
    np.testing.assert_array_equal(answers.step, step)
    np.testing.assert_array_equal(answers.flags & DEGRADED > 0, step >= onset)
    np.testing.assert_array_equal(answers.flags & WAS_RESET > 0, np.diff(answers.epoch, prepend=0) > 0)
    assert answers.epoch[[0, period - 1, period, -1]].tolist() == [0, 0, 1, 2]
    assert resets(engine) == {"degraded": 2}
    assert (answers.outcome == PREDICTED).all()


@DRIVEN
def test_a_stream_that_recovers_is_left_alone(cell, activation, onset):
    """The steps must be in a row; one that is not saturated, and the count begins again."""
    almost = [HIGH] * (DEGRADED_STEPS - 1)
    engine = Engine(driven(cell, activation), 1, Faults())
    answers = drive(engine, *almost, LOW, *almost, LOW)
    assert answers.step.tolist() == list(range(1, 2 * DEGRADED_STEPS + 1))
    degraded = answers.flags & DEGRADED > 0
    assert degraded[onset - 1 : DEGRADED_STEPS - 1].all()
    assert not degraded[[DEGRADED_STEPS - 1, -1]].any()
    assert degraded[-2]
    assert resets(engine) == {}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("cell", "activation"), [("lstm", "tanh"), ("gru", "tanh"), ("rnn", "relu")])
def test_nine_units_in_ten_make_it_degraded(cell, activation, layers):
    for units, flag in ((10, DEGRADED), (9, DEGRADED), (8, 0)):
        answers = drive(Engine(driven(cell, activation, units, layers), 1, Faults()), *[HIGH] * 30)
        assert answers.flags[-1] == flag | WARMING


def test_a_stream_may_be_given_up_as_degraded_while_a_gap_is_filled_in():
    engine = Engine(driven("gru"), 1, Faults(gap="hold", max_gap=1024))
    drive(engine, HIGH, seq=0)
    answers = drive(engine, LOW, LOW, seq=1025)
    assert (answers.gap.tolist(), answers.step.tolist()) == ([1024, 0], [1, 2])
    assert answers.flags.tolist() == [GAP | WAS_RESET | WARMING, WARMING]
    assert resets(engine) == {"degraded": 1}


def test_how_long_a_stream_is_degraded_is_remembered():
    engine = Engine(driven("gru"), 1, Faults())
    drive(engine, *[HIGH] * 999)
    assert drive(moved(engine), HIGH, HIGH).step.tolist() == [1000, 1]


def test_a_sequence_may_end_as_it_is_given_up():
    """Then the next may begin where it did, as after any END."""
    engine = Engine(driven("gru"), 1, Faults())
    drive(engine, *[HIGH] * 999, seq=0)
    last, following = Row("a", HIGH, 999, END), Row("a", LOW, 0)
    said = feed_by_hand(engine, [last, following])
    assert [(each.outcome, each.step) for each in said] == [(PREDICTED, 1000), (PREDICTED, 1)]


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
    assert_finite(engine.core.slots)
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

    wild = answers._replace(
        **{name: array[stream == 1] for name, array in answers._asdict().items() if len(array)}
    )
    diverged = np.flatnonzero(wild.outcome == DIVERGED)
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


def test_what_diverges_keeps_the_input_of_before():
    """What made it diverge is not what a channel is likely to be."""
    engine = Engine(runaway(), 1, Faults(missing="hold"))
    feed(engine, [Row("a", np.array([1, 2, 3]), 0)])
    while feed(engine, [Row("a", np.array([1, 2, 3]), None)])[0].outcome == PREDICTED:
        feed(engine, [Row("a", np.array([1, 5, 6]), None)])
    (said,) = feed(engine, [Row("a", np.array([0, np.nan, np.nan]), None)])
    assert said.flags == WAS_RESET | WARMING | IMPUTED
    whole = feed(Engine(runaway(), 1, Faults()), [Row("a", np.array([0, 5, 6]), 0)])
    np.testing.assert_array_equal(said.values, whole[0].values)


def test_a_row_that_diverges_still_ends_its_sequence():
    """Or a source that numbers each sequence from 0 would be late until it passes the number of this one."""
    engine = Engine(runaway(), 1, Faults())
    rows = [Row("a", np.array([1, 0, 0]), seq) for seq in range(40)]
    ends = [each.outcome for each in feed(engine, rows)].index(DIVERGED)
    engine = Engine(runaway(), 1, Faults())
    feed(engine, rows[:ends])
    last, following = rows[ends]._replace(flags=END), rows[0]
    said = feed_by_hand(engine, [last, following])
    assert [each.outcome for each in said] == [DIVERGED, PREDICTED]
    assert (said[1].step, said[1].epoch) == (1, 1)


@pytest.mark.parametrize("hidden", [5, 16])
@pytest.mark.parametrize("cell", cells.NAMES)
def test_values_too_large_to_scale(cell, hidden):
    """Finite as they come, infinite once divided by their deviation."""
    model = random_model(cell, 2, hidden, mean=np.zeros(2), std=np.full(2, 1e-30))
    engine = Engine(model, 1, Faults())
    rows = np.array(
        [[0, 1e-30], [3e38, -3e38], [3e38, 0], [-3e38, 1e-30], [0, 1e-30], [1e-30, 0]], np.float32
    )
    answers = engine.feed(["a"], np.zeros(len(rows), np.int64), rows)
    assert_nothing_but_finite(engine, answers)
    assert set(answers.outcome[1:4]) <= {PREDICTED, DIVERGED}
    assert answers.outcome[[0, 4, 5]].tolist() == [PREDICTED] * 3


def test_a_rectifier_does_not_hide_what_is_not_a_number():
    """inf - inf before it; zero after it would look like a quiet unit."""
    model = random_model("rnn", 2, 1, activation="relu", mean=np.zeros(2), std=np.full(2, 1e-3), seed=1)
    (layer,) = model.layers
    opposed = replace(model, layers=(replace(layer, weight_ih=np.array([[1, -1]], np.float32)),))
    engine = Engine(opposed, 1, Faults())
    said = feed(engine, [Row("a", np.full(2, 1e38), 0), Row("a", np.ones(2), 1)])
    assert [each.outcome for each in said] == [DIVERGED, PREDICTED]
