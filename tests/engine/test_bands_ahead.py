"""Bands of rollouts: how they widen, against what is known of a linear network, and what they hold."""

import numpy as np
import pytest
from models import untrained

from streamrnn.engine.engine import Engine
from streamrnn.engine.options import bands_for
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import SEVERAL

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


@pytest.mark.parametrize("model", [linear(), untrained("lstm", 3, 6, highway=2)], ids=["linear", "lstm"])
def test_bands_are_the_first_rows_by_as_much_wider(model):
    engine = engine_of(model)
    rows = walk(300)
    said = engine.feed(["s"], np.zeros(300, np.int64), rows)
    growth = engine.core.bands.growth.reshape(ROWS, 3, 16)[:, :, :3]
    which = np.flatnonzero(said.answers & SEVERAL)
    assert said.bands_ahead.shape == (len(which), 4, ROWS, 3) and len(which) == 100
    assert said.bands_ahead[:, :, 0].tobytes() == said.bands[which].tobytes()
    sizes = abs(rows[1:] - said.values[:-1]) / model.output_std
    spread, place = np.zeros(3), 0
    for at in range(300):
        if at:
            size = np.minimum(sizes[at - 1], 10 * spread) if at > 30 else sizes[at - 1]
            spread = spread + max(0.03, 1 / at) * (size - spread)
        if at not in which or at < 2:
            continue
        place = int(np.searchsorted(which, at))
        first = (said.bands[at, 1::2] - said.bands[at, ::2]) / 2  # (bands, outputs)
        scale = np.sqrt(np.einsum("hck,c->hk", growth, spread**2)) / spread
        found = (said.bands_ahead[place, 1::2] - said.bands_ahead[place, ::2]) / 2
        np.testing.assert_allclose(found, first[:, None] * scale, rtol=2e-3, atol=2e-4)
        middle = (said.bands_ahead[place, 1::2] + said.bands_ahead[place, ::2]) / 2
        np.testing.assert_allclose(middle, np.repeat(said.several[place][None], 2, 0), rtol=1e-4, atol=1e-4)


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
