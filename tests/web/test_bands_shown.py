"""Bands on the page and in the API: what was told of a row, and what is told of the next."""

import json

import numpy as np
import pytest
from browser import chromium
from models import untrained
from pages import site

from streamrnn.daemon.page.history import History
from streamrnn.engine.engine import Answers, Engine
from streamrnn.settings.sections import Faults, Predict

LEVELS = 0.5, 0.9
MODEL = untrained("lstm", 3, 6)


def engine_of(levels: tuple[float, ...] = LEVELS) -> Engine:
    return Engine(MODEL, 8, Faults(), predict=Predict(bands=levels))


def rows_of(count: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(count, 3))
    return (noise * MODEL.input_std + MODEL.input_mean).astype(np.float32)


def feed(engine: Engine, rows: np.ndarray) -> Answers:
    return engine.feed(["a"], np.zeros(len(rows), np.int64), rows)


def test_samples_have_the_widest_band_as_it_was_told_before_the_row():
    engine, rows = engine_of(), rows_of(60)
    rows[30] = np.nan
    history, told = History(engine), []
    for row in rows:
        told.append(feed(engine, row[np.newaxis]).bands[0])
        history.keep(["a"], at_any_rate=True)
        history.find_again()
        history.sample()
    said = history.since("a", 0)
    assert said is not None
    low, high = (np.array(said[side], float).T for side in ("low", "high"))
    assert len(low) == len(high) == 60
    assert np.isnan(low[:2]).all()
    np.testing.assert_allclose(low[2:], np.stack(told)[1:-1, 2], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(high[2:], np.stack(told)[1:-1, 3], rtol=1e-4, atol=1e-3)


def test_a_stream_is_told_with_the_bands_of_its_next_row():
    engine = engine_of()
    told = feed(engine, rows_of(200)).bands[-1]
    with site(engine) as here:
        channels = json.loads(here.get("/api/streams/a")[2])["channels"]
        assert json.loads(here.get("/api/status")[2])["bands"] == list(LEVELS)
    for k, channel in enumerate(channels):
        found = [channel[name] for name in ("low50", "high50", "low90", "high90")]
        np.testing.assert_allclose(found, told[:, k], rtol=1e-5, atol=1e-5)
        assert channel["low90"] < channel["low50"] < channel["forecast"] < channel["high50"]


def test_without_bands_none_are_told():
    engine = engine_of(())
    feed(engine, rows_of(30))
    with site(engine) as here:
        channels = json.loads(here.get("/api/streams/a")[2])["channels"]
    assert not any("low" in name for channel in channels for name in channel)
    history = History(engine)
    history.keep(["a"], at_any_rate=True)
    history.find_again()
    history.sample()
    assert "low" not in (history.since("a", 0) or {})


@pytest.mark.parametrize("levels", [LEVELS, ()])
def test_the_chart_of_a_stream_has_the_band(levels):
    engine = engine_of(levels)
    feed(engine, rows_of(200))
    with site(engine) as here, chromium() as browser:
        page = browser.new_page()
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(here.http)
        chart = page.locator("#charts figure").first
        chart.wait_for()
        feed(engine, rows_of(3))
        page.wait_for_function("store.samples.columns[0]?.length > 0")
        labels = chart.locator(".readout .key").all_inner_texts()
        assert [label.split(" ")[0] for label in labels] == [
            *(["90", "to"] if levels else []),
            "input",
            "forecast",
        ]
        columns = page.evaluate("store.samples.channel(0).map((column) => column.at(-1))")
        assert len(columns) == (5 if levels else 3)
        if levels:
            assert columns[1] < columns[4] < columns[2]
        assert not said
