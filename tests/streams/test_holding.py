"""Learning held, and verdicts on events: what the score makes of a sensor that is stuck."""

import numpy as np
import pytest
from models import untrained

from streamrnn.demo.live import MODEL
from streamrnn.demo.pumps import CHANNELS, Pumps
from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import read_model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.streams.holding import BY_HAND, FREE, UNTIL_OVER, set_hold
from streamrnn.streams.judging import NORMAL, REAL, UNDO, judge
from streamrnn.streams.record import HOLD
from streamrnn.streams.score_part import LEARNED_VECTORS, ROWS, SCALARS
from streamrnn.streams.spread import SCALARS as SPREAD_SCALARS
from streamrnn.streams.spread import spread_words
from streamrnn.wire.frame import HELD, RESET

USUAL, FAULTY, AFTER = 3000, 6000, 1500  # rows
FALLS = 500  # rows after which what is taken as usual is so, as README says
FIRST = np.array([0])
FLOW, PRESSURE = ([channel.name for channel in CHANNELS].index(name) for name in ("flow", "pressure"))


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    pumps = Pumps(1, 3)
    return np.concatenate([pumps.step() for _ in range(USUAL + FAULTY + AFTER)])


def stuck(rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[USUAL : USUAL + FAULTY, FLOW] = rows[USUAL, FLOW]
    return rows


def off(rows: np.ndarray) -> np.ndarray:
    """A transmitter that says half a bar too much."""
    rows = rows.copy()
    rows[USUAL : USUAL + FAULTY, PRESSURE] += 0.5
    return rows


class Pump:
    """One stream of an engine of the demo's model, fed with rows by their numbers."""

    def __init__(self, rows: np.ndarray):
        self.model = read_model(MODEL)
        self.engine = Engine(self.model, 2, Faults())
        self.rows, self.done = rows, 0

    def feed(self, end: int, flags: int = 0) -> np.ndarray:
        """Feeds up to row ``end``; whether each was at the threshold or above."""
        count = end - self.done
        seq, first = np.arange(self.done, end, dtype=np.uint64), np.zeros(count, np.uint16)
        first[0] = flags
        stream = np.zeros(count, np.int64)
        answers = self.engine.feed(["pump"], stream, self.rows[self.done : end], seq, first)
        self.done, self.flags = end, answers.flags
        return np.nan_to_num(answers.score) >= self.model.score["threshold"]

    @property
    def learned(self) -> bytes:
        core = self.engine.core
        part = core.slots.state[core.slots.score_at :]
        vectors = part[SCALARS:].reshape(-1)[: 11 * core.net.score_width].reshape(11, -1)
        return part[: ROWS + 1].tobytes() + vectors[list(LEARNED_VECTORS)].tobytes()

    @property
    def rest(self) -> bytes:
        """Its last prediction, and the states of its network."""
        slots = self.engine.core.slots
        return slots.state[slots.prediction_at : slots.words].tobytes()

    @property
    def hold(self) -> int:
        return int(self.engine.core.slots.state_32[HOLD])

    def set_hold(self, hold: np.uint32) -> None:
        set_hold(self.engine.core.slots, FIRST, hold)

    def judge(self, verdict: int) -> tuple[int, bool]:
        slots = self.engine.core.slots
        return judge(self.engine.core.net, slots, 0, verdict, int(slots.notes[0]["began"]))


def test_what_is_held_learns_nothing_and_goes_on_as_before_once_released(rows):
    pump, other = Pump(rows), Pump(rows)
    for each in (pump, other):
        each.feed(USUAL)
    pump.set_hold(BY_HAND)
    before = pump.learned
    other.feed(USUAL + 500)
    pump.feed(USUAL + 500)
    assert pump.learned == before != other.learned
    assert (pump.flags & HELD != 0).all()
    assert not (other.flags & HELD).any()
    assert pump.rest == other.rest, "the network itself goes on"
    pump.feed(USUAL + 600, RESET)
    assert (pump.learned == before, pump.hold) == (True, BY_HAND)
    pump.set_hold(FREE)
    pump.feed(USUAL + 700)
    assert pump.learned != before


def waves(rows: int) -> np.ndarray:
    """Noise in which a row is half of the one before."""
    rng = np.random.default_rng(1)
    values = np.zeros((rows, 2), np.float32)
    for row in range(1, rows):
        values[row] = 0.5 * values[row - 1] + rng.normal(0, 0.3, 2)
    return values


@pytest.mark.parametrize(
    "how", [{"memory": 200}, {"predict": Predict(bands=(0.5, 0.9))}], ids=["adapt", "bands"]
)
def test_bands_and_corrections_stand_still(how):
    model = untrained()
    if "memory" in how:
        model = untrained("gru", 2, mean=np.zeros(2), std=np.ones(2), highway=1)
    values = waves(900)
    values = values if "memory" in how else np.column_stack([values, values[:, :1]])
    engine = Engine(model, 1, Faults(), **how)
    slots, net, adaptation = engine.core.slots, engine.core.net, engine.core.adaptation

    def feed(rows: np.ndarray) -> bytes:
        """Feeds rows; what is learned then of how far forecasts are off."""
        engine.feed(["a"], np.zeros(len(rows), np.int64), rows)
        if "memory" in how:
            return slots.state[slots.adapt_at :][adaptation.gain_at : adaptation.words].tobytes()
        first = slots.forecast_at - spread_words(net.outputs) + SPREAD_SCALARS
        return slots.state[first : first + net.out_width * 2].tobytes()

    before = feed(values[:600])
    set_hold(slots, FIRST, BY_HAND)
    assert feed(values[600:700]) == before
    set_hold(slots, FIRST, FREE)
    assert feed(values[700:]) != before


@pytest.mark.parametrize("fault", [stuck, off])
def test_what_is_held_or_judged_real_stays_unusual_and_what_is_judged_normal_falls(rows, fault):
    early, late = USUAL + 300, USUAL + 1200
    held = Pump(fault(rows))
    held.feed(USUAL)
    held.set_hold(BY_HAND)
    held.feed(early)
    assert held.feed(USUAL + FAULTY).all()

    for at in (early, late):
        real = Pump(fault(rows))
        real.feed(USUAL)
        before = real.learned
        real.feed(at)
        assert real.learned != before
        assert real.judge(REAL) == (UNTIL_OVER, True)
        assert real.feed(USUAL + FAULTY).all()
        assert (real.flags & HELD != 0).all()
        real.feed(USUAL + FAULTY + AFTER)
        assert real.hold == FREE, "it is released by itself once nothing is unusual"

        normal = Pump(fault(rows))
        normal.feed(at)
        assert normal.judge(NORMAL) == (FREE, True)
        normal.feed(at + FALLS)
        assert normal.feed(USUAL + FAULTY).mean() < 0.1


def test_what_is_taken_as_usual_does_not_hide_another_fault(rows):
    faulty = stuck(rows)
    faulty[USUAL + 2000 : USUAL + FAULTY, PRESSURE] += 0.5
    pump = Pump(faulty)
    pump.feed(USUAL + 300)
    pump.judge(NORMAL)
    assert not pump.feed(USUAL + 2000)[FALLS:].all()
    assert pump.feed(USUAL + 2100).any()


def test_a_verdict_is_taken_back_and_leaves_what_is_held_by_hand(rows):
    pump = Pump(stuck(rows))
    pump.feed(USUAL + 300)
    assert pump.judge(REAL) == (UNTIL_OVER, True)
    assert pump.judge(UNDO)[0] == FREE
    pump.set_hold(BY_HAND)
    for verdict in (REAL, NORMAL, UNDO):
        assert pump.judge(verdict)[0] == BY_HAND
