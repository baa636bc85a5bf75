"""Bands of rollouts: how they widen, against what is known of a linear network, and what they hold."""

import io

import numpy as np
import pytest
from models import untrained
from plain_rules import put_back, saved

from streamrnn.engine.engine import Engine
from streamrnn.engine.options import bands_for
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import SEVERAL
from streamrnn.streams.recovery import PUT
from streamrnn.streams.relaid import relaid
from streamrnn.streams.snapshot import read_from, write_to
from streamrnn.streams.spread import WAITS, spread_words
from streamrnn.wire.frame import END

LEVELS = 0.5, 0.9
ROWS, EVERY = 8, 3
# x' = A x: the first channel is a random walk that the second follows, the third forgets
A = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 0.3]])
STD = np.array([1.0, 2, 4])


def linear() -> Model:
    """A network that forecasts A x, in standard deviations; its recurrent part says nothing."""
    model = untrained("rnn", 3, 4, highway=1, mean=np.zeros(3), std=STD)
    tensors = {name: array.copy() for name, array in model.tensors().items()}
    tensors["head.weight"][:], tensors["head.bias"][:] = 0, 0
    tensors["highway.weight"][:] = A
    return Model.from_tensors(model.settings(), tensors)


def engine_of(model: Model, rows: int = ROWS, every: int = EVERY, **more) -> Engine:
    return Engine(model, 8, Faults(), predict=Predict(bands=LEVELS, horizon=rows, every=every), **more)


def walk(count: int, seed: int = 0) -> np.ndarray:
    """Rows of which A x is the best forecast."""
    noise = np.random.default_rng(seed).normal(size=(count, 3)) * [0.1, 0.3, 1]
    rows = np.zeros((count, 3))
    for at in range(1, count):
        rows[at] = A @ rows[at - 1] + noise[at]
    return (rows * STD).astype(np.float32)


def test_growth_is_the_sum_of_squares_of_the_impulse_response():
    growth = engine_of(linear()).core.bands.growth.reshape(ROWS, 3, 16)[:, :, :3]
    expected, power = np.zeros((ROWS, 3, 3)), np.eye(3)
    for step in range(ROWS):
        expected[step] = (expected[step - 1] if step else 0) + power.T**2
        power = A @ power
    np.testing.assert_allclose(growth, expected, atol=1e-3)


class PlainFactors:
    """ln f of each lead, band and output, and what is waited for."""

    def __init__(self, rows: int):
        self.leads = [lead for lead in sorted({round(rows ** (k / 4)) for k in (1, 2, 3, 4)}) if lead > 1]
        self.logs = np.zeros((len(self.leads), 2, 3))
        self.counts = np.zeros(len(self.leads))
        self.waits: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}  # by lead: due, forecast, how far

    def take(self, at: int, row: np.ndarray) -> None:
        for k, (due, forecast, reach) in list(self.waits.items()):
            if due == at:
                del self.waits[k]
                leap = max(0.1, 0.3 / (1 + self.counts[k] / 10))
                self.counts[k] += 1
                missed = abs(row - forecast) > reach
                moved = leap * (missed - (1 - np.array(LEVELS)[:, None]))
                self.logs[k] += np.where(np.isnan(reach), 0, moved)  # it had not been told

    def factors(self, rows: int) -> np.ndarray:
        """(bands, rows, outputs)."""
        known = np.concatenate([np.zeros((1, 2, 3)), self.logs])
        at = np.log([1, *self.leads])
        ahead = np.log(np.arange(1, rows + 1))
        found = [[np.interp(ahead, at, known[:, band, k]) for k in range(3)] for band in range(2)]
        return np.exp(np.array(found)).swapaxes(1, 2)

    def remember(self, at: int, forecasts: np.ndarray, reaches: np.ndarray) -> None:
        for k, lead in enumerate(self.leads):
            if k not in self.waits:
                self.waits[k] = at + lead, forecasts[lead - 1], reaches[:, lead - 1]


@pytest.mark.parametrize("model", [linear(), untrained("lstm", 3, 6, highway=2)], ids=["linear", "lstm"])
@pytest.mark.parametrize("every", [1, 3, 20])
def test_they_are_what_their_formula_says(model, every):
    engine = engine_of(model, every=every)
    rows = walk(300)
    said = engine.feed(["s"], np.zeros(300, np.int64), rows)
    growth = engine.core.bands.growth.reshape(ROWS, 3, 16)[:, :, :3]
    which = np.flatnonzero(said.answers & SEVERAL)
    assert said.bands_ahead.shape == (len(which), 4, ROWS, 3) and len(which) == 300 // every
    assert said.bands_ahead[:, :, 0].tobytes() == said.bands[which].tobytes()
    sizes = abs(rows[1:] - said.values[:-1]) / model.output_std
    spread, factors = np.zeros(3), PlainFactors(ROWS)
    for at in range(300):
        factors.take(at, rows[at])
        if at:
            size = np.minimum(sizes[at - 1], 10 * spread) if at > 30 else sizes[at - 1]
            spread = spread + max(0.03, 1 / at) * (size - spread)
        if at not in which:
            continue
        place = int(np.searchsorted(which, at))
        found = (said.bands_ahead[place, 1::2] - said.bands_ahead[place, ::2]) / 2  # (bands, rows, outputs)
        if at:
            scale = np.sqrt(np.einsum("hck,c->hk", growth, spread**2)) / spread
            expected = found[:, :1] * scale * factors.factors(ROWS)
            expected = np.maximum.accumulate(expected, axis=0)
            np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-3)
            middle = (said.bands_ahead[place, 1::2] + said.bands_ahead[place, ::2]) / 2
            several = np.repeat(said.several[place][None], 2, 0)
            np.testing.assert_allclose(middle, several, rtol=1e-4, atol=1e-3)
        factors.remember(at, said.several[place].astype(float), found)


def test_a_gap_forgets_the_rollouts_before():
    """And so does a sequence that begins: what comes then was not forecast."""
    rows = walk(400)
    seq = np.arange(400, dtype=np.uint64)
    seq[200:] += np.uint64(2)
    one = engine_of(linear(), every=1)
    one.feed(["s"], np.zeros(400, np.int64), rows, seq)
    slots, net = one.core.slots, one.core.net
    waits = slots.forecast_at - spread_words(3, net.spread) + WAITS
    assert (slots.state[waits : waits + 4] > 0).all()
    other = engine_of(linear(), every=0)
    for begin, end in ((0, 200), (200, 201)):
        flags = np.zeros(end - begin, np.uint16)
        flags[-1] = END if begin == 0 else 0
        other.feed(["s"], np.zeros(end - begin, np.int64), rows[begin:end], seq[begin:end], flags=flags)
        after = other.core.slots.state[waits : waits + 4]
        assert (after > 0).all() if begin == 0 else (after == 0).all()


def test_a_stream_that_is_put_back_goes_on_bit_for_bit_and_switched_it_stays():
    rows, model = walk(400), linear()
    one, other, without = engine_of(model), engine_of(model), Engine(model, 8, Faults())
    zeros = np.zeros(200, np.int64)
    one.feed(["s"], zeros, rows[:200])
    assert put_back(other, saved(one), 1).tolist() == [PUT]
    ahead = one.feed(["s"], zeros, rows[200:]).bands_ahead
    assert other.feed(["s"], zeros, rows[200:]).bands_ahead.tobytes() == ahead.tobytes()
    there = relaid(read_from(io.BytesIO(saved(one)), "the test's own"), without.core.net)
    file = io.BytesIO()
    write_to(file, there)
    assert put_back(without, file.getvalue(), 1).tolist() == [PUT]


def test_they_hold_their_share_at_each_row_ahead():
    rows = walk(20_000)
    said = engine_of(linear(), every=5).feed(["s"], np.zeros(len(rows), np.int64), rows)
    which = np.flatnonzero(said.answers & SEVERAL)
    kept = (which > 500) & (which + ROWS < len(rows))
    truths = np.stack([rows[at + 1 : at + 1 + ROWS] for at in which[kept]])[:, None]
    sides = said.bands_ahead[kept]
    inside = (sides[:, ::2] <= truths) & (truths <= sides[:, 1::2])
    shares = inside.mean(axis=0)  # (bands, rows, outputs)
    for band, level in enumerate(LEVELS):
        assert (abs(shares[band] - level) < 0.04).all()


def test_streams_in_one_batch_are_as_alone_and_whoever_works():
    model = untrained("gru", 3, 20)
    rng, count = np.random.default_rng(4), 400
    stream, rows = rng.integers(0, 5, count), walk(count)
    ids = [str(k) for k in range(5)]
    together = engine_of(model).feed(ids, stream, rows)
    by_two = engine_of(model, workers=2).feed(ids, stream, rows)
    assert by_two.bands_ahead.tobytes() == together.bands_ahead.tobytes()
    of = stream[(together.answers & SEVERAL) != 0]
    for k in range(5):
        own = rows[stream == k]
        alone = engine_of(model).feed([str(k)], np.zeros(len(own), np.int64), own)
        assert together.bands_ahead[of == k].tobytes() == alone.bands_ahead.tobytes()
        assert together.several[of == k].tobytes() == alone.several.tobytes()


def test_rollouts_themselves_are_as_without():
    rows, model = walk(200), untrained("lstm", 3, 6)
    ours = engine_of(model).feed(["s"], np.zeros(200, np.int64), rows)
    plain = Engine(model, 8, Faults(), predict=Predict(horizon=ROWS, every=EVERY))
    theirs = plain.feed(["s"], np.zeros(200, np.int64), rows)
    assert ours.several.tobytes() == theirs.several.tobytes()
    assert theirs.bands_ahead.shape == (67 - 1, 0, ROWS, 3)


def test_a_new_model_brings_its_own_growth():
    engine = engine_of(untrained("rnn", 3, 4, highway=1, mean=np.zeros(3), std=STD))
    before = engine.core.bands.growth.copy()
    core = engine.replacement(linear(), Faults())
    wanted = engine_of(linear()).core.bands.growth
    assert core.bands.growth.tobytes() == wanted.tobytes() != before.tobytes()


def test_more_than_there_is_room_for_is_refused():
    with pytest.raises(ConfigError, match=r"predict\.bands: how errors add up over 60,000 rows"):
        bands_for(untrained(channels=20), Predict(bands=LEVELS, horizon=60_000))
