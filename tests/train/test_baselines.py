"""The simple methods a network is measured beside."""

import os
from pathlib import Path

import numpy as np
import pytest

from streamrnn.table import Reading
from streamrnn.train.data.dataset import Dataset, Scaling, Sequence, load
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.data.warnings import DataFacts
from streamrnn.train.judge import linear as baselines
from streamrnn.train.judge.linear import linear_autoregression, persistence

ETT = (
    Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "ett"
    / "ETTh1.csv"
)
NAN = float("nan")


def dataset(train: list[Sequence], validation: list[Sequence], outputs: int, names: str = "abc") -> Dataset:
    """Of 2 channels, a and b."""
    scaling = Scaling(
        *(np.full(size, value, np.float32) for size, value in ((2, 1), (2, 2), (outputs, 1), (outputs, 4)))
    )
    facts = DataFacts(1, 1, 0, 0, 0, 0, 0)
    return Dataset(["a", "b"], list(names[:outputs]), "value", 0, 0, train, validation, scaling, facts, [])


def sequences(lengths: list[int], outputs: int, seed: int, missing: float = 0) -> list[Sequence]:
    """Targets that follow from the last 2 rows, the row before the first being as the first."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        x = rng.normal(size=(length, 2))
        before = np.vstack([x[:1], x[:-1]])
        y = np.column_stack([x @ [3, 1] + 5, x @ [0, 1] - 2 * before @ [1, 0], before @ [1, 1]])[:, :outputs]
        y[rng.random(y.shape) < missing] = NAN
        made.append(Sequence("s", x.astype(np.float32), y.astype(np.float32)))
    return made


@pytest.mark.parametrize(("missing", "rows", "limit"), [(0, 200, 1e-4), (0.3, 20000, 0.02)])
def test_linear_autoregression_finds_what_is_linear(missing, rows, limit, monkeypatch):
    monkeypatch.setattr(baselines, "TRIANGLE", 2)  # several blocks
    data = dataset(sequences([rows, 1, 100], 3, 0, missing), sequences([90, 5], 3, 1, missing), 3)
    found = linear_autoregression(data, (1, 2, 4), (1e-9, 1.0))
    assert found.ridge.tolist() == [1e-9] * 3
    assert (found.weight.shape, found.bias.shape) == ((3, 2 * found.frames), (3,))
    assert found.frames >= 2 and (found.errors < limit**2).all()
    expected = np.zeros((3, found.frames, 2))
    # in standard deviations: 2 of a channel, 4 of an output
    expected[0, 0], expected[1, 0], expected[1, 1, 0], expected[2, 1] = [1.5, 0.5], [0, 0.5], -1, 0.5
    np.testing.assert_allclose(found.weight.reshape(expected.shape), expected, atol=limit)


@pytest.mark.parametrize("missing", [0, 0.3])
def test_errors_are_those_of_the_weights_on_the_validation_rows(missing, monkeypatch):
    monkeypatch.setattr(baselines, "BLOCK_NUMBERS", 1)  # blocks of 256 rows
    rng = np.random.default_rng(2)
    train, validation = sequences([700, 40], 2, 3, missing), sequences([300, 33], 2, 4, missing)
    noisy = [part._replace(targets=part.targets + rng.normal(size=part.targets.shape)) for part in validation]
    data = dataset(train, noisy, 2)
    found = linear_autoregression(data, (3,), (0.1,))
    squares = [[], []]
    for part in noisy:
        x = (part.values.astype(np.float64) - 1) / 2
        for row, target in enumerate((part.targets - 1) / 4):
            seen = np.concatenate([x[max(row - lag, 0)] for lag in range(3)])
            for output in range(2):
                error = found.weight[output] @ seen + found.bias[output] - target[output]
                squares[output].append(error**2)
    np.testing.assert_allclose(found.errors, [np.nanmean(row) for row in squares], rtol=1e-5)


def test_the_ridge_is_the_textbooks():
    train = sequences([50], 1, 5)
    found = linear_autoregression(dataset(train, train, 1)._replace(outputs=["other"]), (1,), (0.5,))
    x, y = (train[0].values.astype(np.float64) - 1) / 2, (train[0].targets[:, 0].astype(np.float64) - 1) / 4
    centred, aim = x - x.mean(axis=0), y - y.mean()  # the constant is free
    weight = np.linalg.solve(centred.T @ centred / 50 + 0.5 * np.eye(2), centred.T @ aim / 50)
    np.testing.assert_allclose(found.weight[0], weight, rtol=1e-5)
    np.testing.assert_allclose(found.bias[0], y.mean() - x.mean(axis=0) @ weight, rtol=1e-5)


def test_a_strong_ridge_pulls_a_forecast_towards_persistence():
    train = sequences([50], 2, 5)
    found = linear_autoregression(dataset(train, train, 2, "ab"), (2,), (1e9,))
    forecasts = np.abs(found.weight.reshape(2, 2, 2) - [[[1, 0], [0, 0]], [[0, 1], [0, 0]]]).max(axis=(1, 2))
    nothing = np.abs(found.weight).max(axis=1)
    assert (np.minimum(forecasts, nothing) < 1e-6).all()


def test_ridge_and_prior_are_chosen_by_output_and_frames_by_what_they_are_worth():
    rng = np.random.default_rng(6)
    x = np.cumsum(rng.normal(size=(600, 2)), axis=0)
    x[:, 1] = rng.normal(size=600)  # one that wanders, one that has no memory
    rows = x.astype(np.float32)
    parts = [
        Sequence("s", rows[begin : begin + 300][:-1], rows[begin : begin + 300][1:]) for begin in (0, 300)
    ]
    same = np.ones(2, np.float32)
    data = dataset(parts[:1], parts[1:], 2, "ab")._replace(scaling=Scaling(same, same, same, same))
    found = linear_autoregression(data, (1, 2, 4, 8), (1e-6, 1e9))
    assert found.frames == 1
    np.testing.assert_allclose(np.diag(found.weight.reshape(2, 2)), [1, 0], atol=0.05)


def test_frames_that_would_take_long_are_left_out(monkeypatch):
    data = dataset(sequences([100], 3, 0), sequences([50], 3, 1), 3)
    monkeypatch.setattr(baselines, "WORK", 150 * 3.5**2)
    assert linear_autoregression(data).frames == 1
    assert linear_autoregression(data, (2, 4)).frames == 2  # the least is always tried


def test_persistence():
    values = np.array([[1, 1], [3, 5], [7, 9]], np.float32)
    targets = np.array([[NAN, NAN], [5, NAN], [7, 1]], np.float32)
    data = dataset([], [Sequence("s", values, targets, 1)], 2, "ba")
    scaling = data.scaling._replace(output_std=np.float32([2, 2]))
    named = persistence(data._replace(scaling=scaling))
    # b after a row of 5 is 5, after 9 it is 7; a after 7 is 1: in standard deviations of 2
    assert (named.name, named.errors.tolist()) == ("persistence", [(0 + 1) / 2, 9])
    own = persistence(data._replace(outputs=["c", "d"]))
    assert (own.name, own.errors.tolist()) == ("mean", [(1 + 1.5**2) / 2, 0])


@pytest.mark.skipif(not ETT.is_file(), reason=f"{ETT} is missing")
def test_the_electricity_transformer():
    """The figures of others: persistence 0.17482 and a linear autoregression of 48 frames 0.10284."""
    # rows 0-8639, validated on 8640-11519; and rows 11520-14399 to test on
    learned = load(DataOptions((str(ETT),), reading=Reading(limit=11520), validation=0.25))
    tested = load(DataOptions((str(ETT),), reading=Reading(limit=14400), validation=0.2))
    data = learned._replace(validation=tested.validation)
    assert persistence(data).errors.mean() == pytest.approx(0.17482, abs=1e-5)
    assert linear_autoregression(data, (48,), (1e-9,)).errors.mean() == pytest.approx(0.1028, abs=5e-5)
    chosen = linear_autoregression(learned, (1, 48, 96))
    assert chosen.errors.mean() < persistence(learned).errors.mean()
    for ridge in set(chosen.ridge):
        assert linear_autoregression(data, (chosen.frames,), (ridge,)).errors.mean() < 0.1028
