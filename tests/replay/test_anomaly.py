"""What is said of unusual rows: score, event and cause, in the engine, on the wire, by HTTP and in replay."""

import csv
import json
import urllib.parse

import numpy as np
import pytest
from daemons import rows_answers, serving, wait_for
from models import untrained
from plain_rules import moved, put_back, record_of, saved, vouch_for

from streamrnn.engine.engine import Answers, Engine
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.replay.anomalies import Anomalies
from streamrnn.settings.sections import Faults
from streamrnn.streams import score_part
from streamrnn.streams.recovery import DAMAGED, drop, recover
from streamrnn.streams.score_part import QUIET, WARMING_ROWS
from streamrnn.streams.slots import id_words
from streamrnn.table import Rows
from streamrnn.wire.frame import ANOMALY, EVENT, GAP, PER_FRAME, WARMING, WAS_RESET, flag_names

CALM, FAULT, AFTER = 1500, 200, 900
ROWS = CALM + FAULT + AFTER
FAULTY = 1  # the channel


@pytest.fixture(scope="module")
def model() -> Model:
    """A network whose forecasts are of no use: the score learns what is usual all the same."""
    return untrained(mean=np.zeros(3), std=np.ones(3))


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Noise, in the middle of which one channel is off for a while."""
    values = np.random.default_rng(4).normal(0, [1, 3, 0.2], (ROWS, 3)).astype(np.float32)
    values[CALM : CALM + FAULT, FAULTY] += 6
    return values


def feed(model: Model, rows: np.ndarray, engine: Engine | None = None) -> Answers:
    return (engine or Engine(model, 4, Faults())).feed(["a"], np.zeros(len(rows), np.int64), rows)


def test_a_fault_is_seen_and_named(model, rows):
    answers = feed(model, rows)
    high = np.flatnonzero(answers.flags & ANOMALY)
    assert CALM <= high[0] < CALM + 20
    assert CALM + FAULT - 1 <= high[-1] < CALM + FAULT + 200  # smoothed, it takes a while to be calm again
    assert (answers.score[high[0]], answers.shares[high[50], FAULTY]) > (3, 0.9)
    np.testing.assert_allclose(answers.shares[high[:FAULT]].sum(axis=1), 1, rtol=1e-5)
    assert (answers.shares.any(axis=1) == (answers.score >= 2)).all()
    calm = answers.score[WARMING_ROWS + 1 : CALM]
    assert (calm > 2).mean() < 0.05


def test_it_warms_up_until_the_score_means_something(model, rows):
    answers = feed(model, rows[:300])
    assert np.isnan(answers.score).tolist() == [True] * (WARMING_ROWS + 1) + [False] * (299 - WARMING_ROWS)
    np.testing.assert_array_equal(answers.flags & WARMING != 0, np.isnan(answers.score))


def test_what_was_learned_goes_on_through_a_restart_and_a_reset(model, rows):
    whole = feed(model, rows)
    first = Engine(model, 4, Faults())
    before = feed(model, rows[: CALM + 50], first)
    after = feed(model, rows[CALM + 50 :], moved(first))
    for field in ("score", "shares"):
        parts = [getattr(answers, field) for answers in (before, after)]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(whole, field))

    number = np.concatenate([np.arange(CALM), CALM + 10_000 + np.arange(50)]).astype(np.uint64)
    engine = Engine(model, 4, Faults())
    answers = engine.feed(["a"], np.zeros(len(number), np.int64), rows[: len(number)], number)
    assert answers.flags[CALM] & WAS_RESET
    assert np.isnan(answers.score[CALM])
    assert np.isfinite(answers.score[CALM + 1 :]).all()


def test_a_row_behind_a_gap_has_no_score_and_teaches_nothing(model, rows):
    """Its forecast was of another row."""
    number = np.concatenate([np.arange(1000), 1030 + np.arange(400)]).astype(np.uint64)
    apart = rows[:1400].copy()
    apart[1000] = 50
    answers = [
        Engine(model, 4, Faults(gap="step")).feed(["a"], np.zeros(1400, np.int64), values, number)
        for values in (rows[:1400], apart)
    ]
    for each in answers:
        assert np.isnan(each.score[1000])
        assert each.flags[1000] & (GAP | ANOMALY) == GAP
        assert np.isfinite(each.score[1001:]).all()


def test_a_new_stream_has_nothing_of_one_that_left_its_slot(model, rows):
    expected = feed(model, rows[:300], Engine(model, 1, Faults(), memory=500))
    engine = Engine(model, 1, Faults(), memory=500)
    feed(model, rows, engine)
    slots = engine.core.slots
    left = slots.state.copy()
    drop(slots, np.ones(1, np.uint8))
    slots.state[: slots.words] = left[: slots.words]  # as a kill in the middle of letting go leaves it
    slots.table[:] = 0
    slots.counts[:] = 0, 0
    recover(engine.core.net, slots, 1, np.zeros(1, np.uint8))
    found = engine.feed(["b"], np.zeros(300, np.int64), rows[:300])
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.values, expected.values)


def test_what_was_learned_of_another_model_is_forgotten(model, rows):
    engine = Engine(model, 4, Faults(), memory=500)
    before = feed(model, rows[:600], engine)
    engine.unlearn()
    after = feed(model, rows[600:900], engine)
    assert np.isfinite(before.score[-1])
    assert np.isnan(after.score[:WARMING_ROWS]).all()
    assert np.isfinite(after.score[WARMING_ROWS + 1 :]).all()
    assert after.step[0] == 601


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("ROWS", -1.0), ("EVENT", 65.0), ("INSTANT", -9.0), ("SMOOTHED", 1e30), ("OF_SMOOTHED", -1.0)),
        *(("OF_RUN", 21.0), ("RUN", -1e30)),
    ],
)
def test_statistics_that_rows_cannot_lead_to_are_damage(model, rows, word, value):
    engine = Engine(model, 4, Faults())
    feed(model, rows[:300], engine)
    slots, name = engine.core.slots, id_words("a")
    record = record_of(slots, "a")
    at = getattr(score_part, word)
    record[
        slots.score_at + (score_part.SCALARS + engine.core.net.score_width * at if word == "RUN" else at)
    ] = value
    vouch_for(slots, record, name)
    found = saved(engine)
    assert put_back(Engine(model, 4, Faults()), found, 1).tolist() == [DAMAGED]


def test_a_network_that_forecasts_nothing_has_no_score(rows):
    model = untrained(target="value")
    answers = feed(model, rows[:300])
    assert np.isnan(answers.score).all()
    assert answers.flags.tolist() == [WARMING] + [0] * 299


def test_an_event_is_published_once_and_the_stream_can_be_looked_at(model, rows, tmp_path):
    file, name = tmp_path / "model.safetensors", "pump/1 é"
    write_model(model, file)
    expected = rows_answers(Engine(model, 4, Faults()), name, rows)
    said = feed(model, rows)
    began = int(np.flatnonzero(said.flags & ANOMALY)[0])
    with serving(file) as daemon, daemon.line() as line:
        line.send(name, rows[: began + 30])
        found = line.receive(began + 31)
        status, text = daemon.get("/api/streams/" + urllib.parse.quote(name))
        stream = json.loads(text)
        assert (status, stream["stream"], stream["step"]) == (200, name, began + 30)
        assert stream["score"] == pytest.approx(float(said.score[began + 29]), rel=1e-6)
        assert stream["anomaly"] is True
        worst = max(stream["channels"], key=lambda channel: channel["share"])
        assert (worst["name"], worst["value"]) == ("c1", pytest.approx(float(rows[began + 29, 1]), rel=1e-6))
        assert worst["forecast"] == pytest.approx(float(said.values[began + 29, 1]), rel=1e-6)
        assert daemon.get("/api/streams/nobody") == (404, '{"error":"no stream \'nobody\' is held"}')

        line.send(name, rows[began + 30 :])
        found += line.receive(ROWS - began - 30)
        assert [
            prediction.answer for prediction in found if prediction.header["kind"] == PER_FRAME
        ] == expected
        (event,) = (prediction for prediction in found if prediction.header["kind"] == EVENT)
        header = event.header
        assert (header["seq"], header["horizon"], event.values.size) == (began, 0, 0)
        assert header["score"] == said.score[began] >= 3
        assert flag_names(int(header["flags"])) == "ANOMALY"
        wait_for(lambda: daemon.count("predictions_total") >= ROWS, "all predictions")
        assert daemon.count("anomalies_total") == 1


def test_replay_tells_the_stretches(model, rows, tmp_path):
    file, source, output = (tmp_path / name for name in ("m.safetensors", "rows.csv", "out.csv"))
    write_model(model, file)
    with source.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["time", "c0", "c1", "c2"])
        table.writerows(
            [f"2026-01-01 {k // 3600:02}:{k // 60 % 60:02}:{k % 60:02}", *row] for k, row in enumerate(rows)
        )
    summary = replay(ReplayOptions(str(source), file, Faults(), str(output)))
    told = summary.as_dict()["anomalies"]
    said = feed(model, rows)
    assert told["threshold"] == 3
    assert told["rows"] == (said.flags & ANOMALY != 0).sum()
    (worst,) = [stretch for stretch in told["stretches"] if stretch["rows"] > 100]
    assert worst["first_seq"] == np.flatnonzero(said.flags & ANOMALY)[0]
    assert (worst["stream"], worst["cause"]) == ("rows", "c1")
    assert worst["first_time"].startswith("2026-01-01 00:25:")
    assert "c1" in summary.text().splitlines()[-1]
    with output.open(newline="") as out:
        lines = list(csv.DictReader(out))
    score = np.array([row["score"] or "nan" for row in lines], np.float32)
    np.testing.assert_array_equal(score, said.score)
    assert {row["cause"] for row in lines[CALM + 40 : CALM + FAULT]} == {"c1"}


@pytest.mark.parametrize("size", [1, 100, ROWS])
def test_the_cause_of_a_stretch_is_that_of_its_rows(model, rows, size):
    """And not that of its highest row alone, in however many blocks they come."""
    spiked, peak = rows.copy(), CALM + 150
    spiked[peak, 0] += 1e6
    said = feed(model, spiked)
    assert (np.nanargmax(said.score), said.shares[peak].argmax()) == (peak, 0)
    found = Anomalies(model, 3.0)
    none = np.zeros(ROWS, np.int64)
    read = Rows(none.astype(np.int32), spiked, np.arange(ROWS, dtype=np.uint64), none, None, 2)
    for begin in range(0, ROWS, size):
        block = slice(begin, begin + size)
        part = read.part(block)
        answers = Answers(*(field[block] for field in said))
        found.add(part, ["a"], answers, np.zeros(len(part.seq), bool))
    (worst,) = [stretch for stretch in found.kept if stretch.rows > 100]
    assert (worst.cause, worst.score) == ("c1", said.score[peak])
    assert [line.split()[-1] for line in found.text().splitlines() if f" {worst.score:.1f} " in line] == [
        "c1"
    ]


def test_the_threshold_is_the_model_files(model, rows):
    levels = {"rows": 9, "instant": [1.0, 1.0, 1.0], "smoothed": [0.5, 0.5, 0.3]}
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    strict = Model(**fields | {"score": levels | {"threshold": 29.0}})
    assert not (feed(strict, rows).flags & ANOMALY).any()
    assert strict.fingerprint != model.fingerprint
    assert QUIET == 64
