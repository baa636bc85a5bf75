"""The score in a trained model's file: of residuals in their order, it is what the engine comes to."""

from dataclasses import replace

import numpy as np
import pytest
from test_training import make_dataset, random_network

from streamrnn.daemon.page.read_records import read_records
from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults
from streamrnn.streams.rarity import first_levels
from streamrnn.train.data.dataset import Dataset, Sequence, hold
from streamrnn.train.judge.calibration import TAUGHT, calibrate, in_order, score_residuals
from streamrnn.train.judge.stated import stated_of
from streamrnn.train.model_of import to_model
from streamrnn.train.net.network import NetworkShape, RowNetwork
from streamrnn.train.relations import residuals_of

ROWS = 900
WAYS = ("instant", "smoothed", "resized", "switched")


def two_streams() -> tuple[dict[str, np.ndarray], Dataset]:
    """Two unlike streams, with cells and a whole row missing, and a dataset that is validated on them."""
    rng, streams = np.random.default_rng(5), {}
    for name, noise in (("calm", rng.normal), ("wild", rng.standard_cauchy)):
        rows = noise(size=(ROWS, 3)).clip(-30, 30).astype(np.float32)
        rows[50:][rng.random((ROWS - 50, 3)) < 0.05] = np.nan
        rows[700, :] = np.nan
        streams[name] = rows
    learned = rng.normal(size=(100, 3)).astype(np.float32)
    dataset = make_dataset(learned[:-1], learned[1:], 80, "next")
    validation = [
        Sequence(name, hold(rows, ~np.isnan(rows))[:-1], rows[1:]) for name, rows in streams.items()
    ]
    return streams, dataset._replace(validation=validation)


def fed(model: Model, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An engine's scores of a new stream, and the levels that it has come to, (12,)."""
    engine = Engine(model, 1, Faults(missing="hold"))
    answers = engine.feed(["s"], np.zeros(len(rows), np.int64), rows)
    slots = engine.core.slots
    (record,) = read_records(slots, np.array([0]))
    return answers.score, record[slots.score_at :][:12]


def levels_after(model: Model, rows: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Those that an engine comes to that begins with ``levels``."""
    begun = {way: each.astype(float).tolist() for way, each in zip(WAYS, np.split(levels, 4), strict=True)}
    return fed(replace(model, score={"rows": 1, "threshold": 3} | begun), rows)[1]


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, np.ndarray], Dataset, RowNetwork]:
    streams, dataset = two_streams()
    network = random_network(NetworkShape("gru", 3, 3, 16, highway=2), np.float32)
    return streams, dataset, network


def test_residuals_are_put_in_order(trained):
    """Those of each stream give the scores that the engine gives, row by row."""
    streams, dataset, network = trained
    model = to_model(network, dataset)
    ordered = in_order(residuals_of(network, dataset), dataset.validation)
    for rows, residuals in zip(streams.values(), ordered, strict=True):
        there = ~np.isnan(rows[1:]).all(axis=1)
        assert len(residuals) == there.sum() < ROWS - 1
        np.testing.assert_array_equal(np.isnan(residuals), np.isnan(rows[1:][there]))
        found, _ = score_residuals(residuals, first_levels(3))
        np.testing.assert_allclose(fed(model, rows)[0][1:][there], found, atol=0.05)
        assert np.nanmax(found) > 2


def test_the_instant_levels_of_a_model_are_those_of_an_engine(trained):
    """One that begins each stream with the levels that it has come to in the one before."""
    streams, dataset, network = trained
    score, levels = stated_of(network, dataset)["score"], first_levels(3)
    for rows in streams.values():
        levels = levels_after(to_model(network, dataset), rows, levels)
    np.testing.assert_allclose(score["instant"], levels[:3], atol=0.01)
    turned = calibrate(in_order(residuals_of(network, dataset), dataset.validation)[::-1])
    assert np.abs(np.subtract(turned["instant"], score["instant"])).max() > 0.1


def test_the_levels_from_one_stream_are_those_of_an_engine(trained):
    """But for how few rows these are."""
    streams, dataset, network = trained
    calm = dataset._replace(validation=dataset.validation[:1])
    score, first = stated_of(network, calm)["score"], first_levels(3)
    levels = levels_after(to_model(network, dataset), streams["calm"], first)
    known = int((~np.isnan(streams["calm"][1:])).any(axis=1).sum())
    weight = known / (known + TAUGHT)
    others = np.concatenate([score[way] for way in WAYS[1:]])
    np.testing.assert_allclose(others, first[3:] + weight * (levels[3:] - first[3:]), atol=0.01)


@pytest.mark.parametrize("outputs", [1, 100, 1000])
def test_the_first_levels_of_many_channels_are_what_a_file_holds(outputs):
    rows = np.random.default_rng(0).normal(size=(200, outputs)).astype(np.float32)
    dataset = make_dataset(rows[:-1], rows[1:], 100, "next")
    network = RowNetwork(NetworkShape("rnn", outputs, outputs, 16))
    model = to_model(network, dataset, score=stated_of(network, dataset)["score"])
    assert model.score["instant"][0] == pytest.approx(float(first_levels(outputs)[0]))
    assert min(first_levels(outputs)[[1, 2, 4, 5]]) >= 0.1
