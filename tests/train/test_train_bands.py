"""What a trained model says of bands: of errors in their order, and what an engine begins with by it."""

from dataclasses import replace

import numpy as np
import pytest
from models import untrained

from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.streams.bands import make_bands, usual_quantile
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.judge.first_bands import LEVELS, first_bands


def plain(errors: np.ndarray) -> tuple[list[float], list[float]]:
    """|e| / r and r of one output of a stream, row by row; r of 30 rows or more."""
    spread, ratios, spreads = 0.0, [], []
    for count, error in enumerate(abs(errors[~np.isnan(errors)]).tolist()):
        if count >= 30:
            ratios.append(error / spread)
            spreads.append(spread)
            error = min(error, 10 * spread)
        spread = max(spread + max(0.03, 1 / (count + 1)) * (error - spread), 2.0**-10)
    return ratios, spreads


def test_quantiles_are_those_of_a_plain_count():
    rng = np.random.default_rng(0)
    streams = [rng.normal(size=(900, 3)) * [0.1, 1, 5], rng.standard_t(3, (700, 3))]
    streams[0][rng.random((900, 3)) < 0.1] = np.nan
    found = first_bands(streams)
    assert found is not None and found["levels"] == list(LEVELS)
    for k in range(3):
        ratios, spreads = map(np.concatenate, zip(*(plain(errors[:, k]) for errors in streams), strict=True))
        np.testing.assert_allclose(found["quantiles"][k], np.quantile(ratios, LEVELS), rtol=2e-3)
        assert found["spread"][k] == pytest.approx(spreads.mean(), rel=2e-3)


def test_of_few_errors_nothing_is_said():
    assert first_bands([np.random.default_rng(0).normal(size=(220, 2))]) is None
    silent = np.random.default_rng(0).normal(size=(900, 2))
    silent[200:, 1] = np.nan
    assert first_bands([silent]) is None


def test_an_output_that_stands_still_has_a_narrow_band_and_no_zero():
    found = first_bands([np.zeros((900, 1))])
    assert (
        found is not None
        and min(found["quantiles"][0]) > 0
        and found["spread"] == [pytest.approx(2**-10, rel=1e-3)]
    )
    replace(untrained(channels=1), bands=found)  # a file can hold it


def stating(model: Model) -> Model:
    quantiles = [[usual_quantile(level) * (1 + k) for level in (0.2, 0.6, 0.9)] for k in range(3)]
    return replace(
        model, bands={"rows": 9, "levels": [0.2, 0.6, 0.9], "quantiles": quantiles, "spread": [0.5, 1, 2]}
    )


def test_a_new_stream_begins_with_what_the_model_says():
    model = stating(untrained("lstm", 3, 5))
    engine = Engine(model, 1, Faults(), predict=Predict(bands=(0.1, 0.5, 0.95)))
    said = engine.feed(["s"], np.zeros(1, np.int64), np.ones((1, 3), np.float32))
    reach = (said.bands[0, 1::2] - said.bands[0, ::2]) / 2 / model.output_std
    usual = [usual_quantile(level) for level in (0.1, 0.5, 0.95)]
    np.testing.assert_allclose(reach, np.outer(usual, [0.5 * 1, 1 * 2, 2 * 3]), rtol=1e-4)


def test_levels_between_the_stated_ones_lie_between_them():
    stated = {"levels": [0.4, 0.8], "quantiles": [[1.0, 3.0]]}
    between = np.exp(make_bands((0.4, 0.6, 0.8), 1, stated | {"spread": [1.0]}).first[::16])
    assert between[0] == pytest.approx(1) and between[2] == pytest.approx(3)
    assert 1.3 < between[1] < 2.5


def test_a_trained_model_says_it_and_new_streams_are_right_at_once(tmp_path):
    rng = np.random.default_rng(1)
    rows = np.zeros((3000, 2))
    for at in range(1, len(rows)):
        rows[at] = 0.9 * rows[at - 1] + rng.standard_t(4, 2) * [0.1, 2]
    np.savetxt(tmp_path / "rows.csv", rows, "%.6g", ",", header="a,b", comments="")
    file = tmp_path / "m.safetensors"
    train(TrainOptions(DataOptions((str(tmp_path / "rows.csv"),)), file, hidden=4, work=3e7))
    model = read_model(file)
    assert model.bands is not None and model.bands["rows"] > 300
    write_model(model, file)
    assert read_model(file).bands == model.bands
    engine = Engine(model, 300, Faults(), predict=Predict(bands=(0.5, 0.9)))
    inside, without = [], Engine(replace(model, bands=None), 300, Faults(), predict=Predict(bands=(0.5, 0.9)))
    for k in range(290):
        piece = rows[10 * k : 10 * k + 10].astype(np.float32)
        said = engine.feed([str(k)], np.zeros(10, np.int64), piece)
        inside.append((said.bands[:-1, ::2] <= piece[1:, None]) & (piece[1:, None] <= said.bands[:-1, 1::2]))
    assert np.isfinite(said.bands).all()
    shares = np.stack(inside).mean(axis=(0, 1, 3))
    assert (abs(shares - [0.5, 0.9]) < 0.03).all()
    assert np.isnan(without.feed(["s"], np.zeros(1, np.int64), piece[:1]).bands).all()
