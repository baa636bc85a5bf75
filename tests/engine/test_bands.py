"""Bands around forecasts: against their formula in plain Python, and what they promise of what comes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import untrained
from plain_rules import put_back, saved

from streamrnn.engine.engine import Answers, Engine
from streamrnn.engine.options import bands_for
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.settings.values import MOST_BANDS as MOST_IN_SETTINGS
from streamrnn.streams.bands import MOST_BANDS, usual_quantile
from streamrnn.streams.recovery import PUT
from streamrnn.wire.frame import END, RESET

LEVELS = 0.5, 0.9


class PlainBand:
    """One level of one output, in float64."""

    def __init__(self, level: float, first: float):
        self.level, self.log = level, math.log(first)

    def reach(self, spread: float) -> float:
        return math.exp(self.log) * spread

    def take(self, missed: bool, count: int) -> None:
        step = max(0.02, 0.1 / (1 + count / 100))
        self.log = min(max(self.log + step * (missed - (1 - self.level)), -6), 6)


class PlainOutput:
    def __init__(self, levels: tuple[float, ...]):
        self.bands = [PlainBand(level, usual_quantile(level)) for level in levels]
        self.spread, self.count, self.factor = 0.0, 0, 1.0

    def reaches(self) -> list[float]:
        """In standard deviations; NaN while nothing is known."""
        found: list[float] = []
        for band in self.bands:
            found.append(max(band.reach(self.spread * self.factor), *found, 0.0) if self.spread else math.nan)
        return found

    def take(self, size: float) -> None:
        if math.isnan(size):
            return
        for band, reach in zip(self.bands, self.reaches(), strict=True):
            if not math.isnan(reach):
                band.take(size > reach, self.count)
        size = min(size, 10 * self.spread) if self.count >= 30 else size
        self.spread += max(0.03, 1 / (self.count + 1)) * (size - self.spread)
        self.spread = max(self.spread, 2.0**-10)
        self.count += 1


def engine_of(model: Model, levels: tuple[float, ...] = LEVELS, capacity: int = 8) -> Engine:
    return Engine(model, capacity, Faults(), predict=Predict(bands=levels))


def feed(engine: Engine, rows: np.ndarray, name: str = "s") -> Answers:
    return engine.feed([name], np.zeros(len(rows), np.int64), rows)


def rows_of(model: Model, count: int, seed: int = 0, kind: str = "normal") -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.standard_t(3, (count, len(model.channels))) if kind == "student" else None
    noise = rng.normal(size=(count, len(model.channels))) if noise is None else noise
    return (noise * model.input_std + model.input_mean).astype(np.float32)


def inside(said: Answers, rows: np.ndarray, band: int) -> np.ndarray:
    """Whether each row but the first was within the band told before it, (n - 1, outputs) bool."""
    low, high = said.bands[:-1, 2 * band], said.bands[:-1, 2 * band + 1]
    return (low <= rows[1:]) & (rows[1:] <= high)


@pytest.mark.parametrize("channels", [1, 3, 17])
@pytest.mark.parametrize("levels", [(0.5, 0.9), (0.9,), (0.1, 0.5, 0.8, 0.99)])
def test_they_are_what_their_formula_says(channels, levels):
    model = untrained("gru", channels, 7)
    rows = rows_of(model, 300)
    rows[np.random.default_rng(1).random(rows.shape) < 0.05] = np.nan
    rows[0], rows[200] = model.input_mean, 1e20
    said = feed(engine_of(model, levels), rows)
    assert said.bands.shape == (300, 2 * len(levels), channels)
    assert np.isnan(said.bands[0]).all()
    outputs = [PlainOutput(levels) for _ in range(channels)]
    errors = abs(rows[1:].astype(float) - said.values[:-1]) / model.output_std
    for at, sizes in enumerate(errors.tolist(), start=1):
        for output, size in zip(outputs, sizes, strict=True):
            output.take(size)
        reaches = np.array([output.reaches() for output in outputs]).T * model.output_std
        expected = np.stack([said.values[at] - reaches, said.values[at] + reaches], axis=1)
        near = 1e-4 * model.output_std + 1e-5 * abs(said.values[at])
        found = said.bands[at].reshape(expected.shape)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        assert (abs(found - expected) <= near + 1e-4 * abs(expected))[np.isfinite(expected)].all(), at


def telling(channels: int) -> Model:
    """A model that says its spread, far apart from row to row."""
    model, rng = untrained("lstm", channels, 7), np.random.default_rng(4)
    parts = {
        "spread_weight": rng.normal(size=(channels, model.hidden)) * 4,
        "spread_bias": rng.normal(size=channels),
        "spread_shape": np.full(channels, 5.0),
        "spread_start": np.full(channels, 0.7),
    }
    return replace(model, spread=True, **{name: part.astype(np.float32) for name, part in parts.items()})


@pytest.mark.parametrize("channels", [2, 17])
def test_a_network_that_says_its_spread_makes_them_as_wide(channels):
    model = telling(channels)
    rows = rows_of(model, 200, kind="student")
    engine, outputs = engine_of(model), [PlainOutput(LEVELS) for _ in range(channels)]
    net, forecast, said = engine.core.net, None, []
    for output in outputs:
        output.spread, output.count = float(np.float32(0.7)), 33
    for row in rows:
        answer = feed(engine, row[None])
        if forecast is not None:
            for output, size in zip(outputs, abs(row - forecast) / model.output_std, strict=True):
                output.take(float(size))
        forecast = answer.values[0].astype(float)
        said.append(engine.core.scratch.gates[net.factors_at :][:channels].clip(-4, 4))
        for output, g in zip(outputs, said[-1].tolist(), strict=True):
            output.factor = math.exp(g)
        reaches = np.array([output.reaches() for output in outputs]).T * model.output_std
        expected = np.stack([forecast - reaches, forecast + reaches], axis=1)
        np.testing.assert_allclose(answer.bands[0].reshape(expected.shape), expected, rtol=1e-3, atol=1e-3)
    assert np.std(said, axis=0).min() > 0.2  # or nothing was shown


@pytest.mark.parametrize("kind", ["normal", "student"])
def test_they_hold_their_share_and_again_after_a_change_of_spread(kind):
    model = untrained("lstm", 4, 8)
    rows = rows_of(model, 30_000, kind=kind)
    rows[20_000:] = (rows[20_000:] - model.input_mean) * 3 + model.input_mean
    said = feed(engine_of(model), rows)
    for begin, end in ((1000, 20_000), (22_000, 30_000)):
        for band, level in enumerate(LEVELS):
            share = inside(said, rows, band)[begin : end - 1]
            assert abs(share.mean() - level) < 0.005
            assert (abs(share.mean(axis=0) - level) < 0.01).all()


def test_a_wider_band_is_never_the_narrower():
    model = untrained("lstm", 3, 8)
    rows = rows_of(model, 3000, kind="student")
    said = feed(engine_of(model, (0.49, 0.5, 0.51)), rows)
    reach = said.bands[1:, 1::2] - said.values[1:, None]
    assert (reach[:, 1:] >= reach[:, :-1]).all()
    assert (said.bands[1:, ::2] <= said.values[1:, None]).all()


def test_a_new_stream_begins_near_the_right_widths():
    model = untrained("lstm", 16, 8)
    shares = np.stack(
        [
            inside(feed(engine_of(model), rows), rows, 1)
            for rows in (rows_of(model, 100, seed) for seed in range(20))
        ]
    )
    assert 0.85 < shares[:, 10:].mean() < 0.95


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.99])
def test_first_quantiles_are_those_of_students_t(level):
    """Of a normal variable over the root of a chi-square one with four degrees of freedom."""
    rng = np.random.default_rng(0)
    drawn = abs(rng.normal(size=400_000)) / np.sqrt(rng.chisquare(4, 400_000) / 4)
    assert (drawn <= usual_quantile(level)).mean() == pytest.approx(level, abs=3e-3)


def test_streams_in_one_batch_are_as_alone():
    model = untrained("gru", 5, 20)
    streams, count = 7, 600
    rng = np.random.default_rng(4)
    stream, rows = rng.integers(0, streams, count), rows_of(model, count)
    together = engine_of(model).feed([str(k) for k in range(streams)], stream, rows)
    for k in range(streams):
        alone = feed(engine_of(model), rows[stream == k], str(k))
        assert together.bands[stream == k].tobytes() == alone.bands.tobytes()


def test_all_but_the_bands_is_as_without():
    model = untrained("lstm", 3, 5, highway=3)
    rows = rows_of(model, 500)
    with_bands, without = feed(engine_of(model), rows), feed(Engine(model, 8, Faults()), rows)
    for field in ("said", "values", "shares", "begins", "outcome"):
        assert getattr(with_bands, field).tobytes() == getattr(without, field).tobytes(), field
    assert without.bands.shape == (500, 0, 3)


def test_a_stream_that_is_put_back_goes_on_bit_for_bit():
    model = untrained("lstm", 3, 5)
    rows = rows_of(model, 400)
    one, other = engine_of(model), engine_of(model)
    feed(one, rows[:200])
    put_back(other, saved(one), 1)
    assert feed(other, rows[200:]).bands.tobytes() == feed(one, rows[200:]).bands.tobytes()


def test_other_levels_begin_anew_and_the_spread_stays():
    model = untrained("lstm", 3, 5)
    rows = rows_of(model, 400)
    one, other = engine_of(model, (0.5, 0.9)), engine_of(model, (0.5, 0.8))
    feed(one, rows[:200])
    before = feed(one, rows[200:201])
    put_back(other, saved(one), 1)
    (said,) = feed(other, rows[201:202]).bands - feed(other, rows[201:202]).values[:, None]
    widths = said[1::2] / model.output_std
    np.testing.assert_allclose(widths[1] / widths[0], usual_quantile(0.8) / usual_quantile(0.5), rtol=0.15)
    assert np.isfinite(before.bands).all()


def test_wide_ones_stay_finite():
    model = untrained("lstm", 2, 5)
    rows = rows_of(model, 60)
    rows[40:50] = np.float32(3e38) * np.sign(rows[40:50])
    said = feed(engine_of(model), rows)
    assert np.isfinite(said.bands[1:]).all()


@pytest.mark.parametrize(
    "of_model", [{"target": "value"}, {"relation": "sequence-to-vector", "target": "value"}]
)
def test_what_forecasts_nothing_has_none(of_model):
    with pytest.raises(ConfigError, match=r"predict\.bands: only forecasts of the next row"):
        bands_for(untrained(**of_model), Predict(bands=LEVELS))


ROW = st.tuples(
    st.integers(0, 2),
    st.sampled_from([1, 1, 1, 1, 0, 3, 90]),
    st.sampled_from([0, 0, 0, END, RESET]),
    st.lists(st.sampled_from([0.0, 1.5, -2.0, 1e30, -3e38, np.nan, np.inf]), min_size=3, max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=60), st.sampled_from(["step", "hold", "predict"]), st.integers(0, 5))
def test_whatever_comes_bands_are_around_the_forecast_or_not_there(rows, gap, horizon):
    """And what is remembered of a stream can be put back."""
    model = untrained("lstm", 3, 4, highway=2)
    engine = Engine(model, 3, Faults(gap=gap), predict=Predict(bands=LEVELS, horizon=horizon))
    seq, numbers = np.zeros(3, np.int64), []
    for of, jump, _, _ in rows:
        seq[of] += jump
        numbers.append(seq[of])
    values = np.array([row[3] for row in rows], np.float32).reshape(-1, 3)
    stream, flags = (np.array([row[k] for row in rows], np.int64) for k in (0, 2))
    said = engine.feed(
        ["a", "b", "c"], stream, values, np.array(numbers, np.uint64), flags=flags.astype(np.uint16)
    )
    sides = [(said.bands, said.values[:, None]), (said.bands_ahead, said.several[:, None])]
    for bands, forecast in sides if horizon else sides[:1]:
        low, high = bands[:, ::2], bands[:, 1::2]
        assert not np.isinf(bands).any()
        assert ((low <= forecast) & (forecast <= high) | np.isnan(low) & np.isnan(high)).all()
    other = Engine(model, 3, Faults(gap=gap), predict=Predict(bands=LEVELS, horizon=horizon))
    assert (put_back(other, saved(engine), 1) == PUT).all()


def test_settings_take_as_many_as_records_hold():
    assert MOST_IN_SETTINGS == MOST_BANDS
