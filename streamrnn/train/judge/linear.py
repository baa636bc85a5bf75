"""Simple forecasts, for a network to be measured beside: persistence and linear autoregression."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from streamrnn.errors import UserError
from streamrnn.train.data.dataset import WARM, Dataset, Sequence
from streamrnn.train.data.lanes import Chunk, Lanes, history

FRAMES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 168)
RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
WORTH = 0.01  # the share of its error by which a longer look back must be better
WORK = 1e11  # multiply-adds that the sums over rows may take: some seconds
NUMBERS = 1 << 24  # in the sums of products
BLOCK_NUMBERS = 1 << 19  # in the features of the rows looked at at once
TRIANGLE = 64  # rows solved at once


class Baseline(NamedTuple):
    """What a forecast without a network is worth."""

    name: str
    errors: np.ndarray  # (O,) float64: mean square on the validation part, in standard deviations squared


class Linear(NamedTuple):
    """y = weight @ [x_t, x_t-1, ...] + bias, in standard deviations."""

    weight: np.ndarray  # (O, frames * C) float64, the newest frame first
    bias: np.ndarray  # (O,) float64
    errors: np.ndarray  # (O,) float64: as a Baseline's
    frames: int
    ridge: np.ndarray  # (O,)


class Sums(NamedTuple):
    """Means over rows: of an output's, those that have its target; of features alone, all."""

    gram: np.ndarray  # (F, F) float64: of products of features
    cross: np.ndarray  # (F, O) float64: of products of features and targets
    square: np.ndarray  # (O,) float64: of squared targets


def persistence(dataset: Dataset) -> Baseline:
    """Taking the last row as the forecast; for an output that is no channel, the mean of the training rows.

    Both baselines need a dataset with a validation part.
    """
    known = np.array([name in dataset.channels for name in dataset.outputs])
    places = [dataset.channels.index(name) if name in dataset.channels else 0 for name in dataset.outputs]
    squares, count = np.zeros(len(dataset.outputs)), np.zeros(len(dataset.outputs))
    for chunk in _chunks(Lanes(dataset.validation, dataset.scaling, 1), len(dataset.channels)):
        error = (chunk.y - chunk.x[..., places] * known).astype(np.float64)
        squares += (error**2 * chunk.weight).sum(axis=(0, 1))
        count += chunk.weight.sum(axis=(0, 1))
    name = "persistence" if known.all() else "persistence or mean" if known.any() else "mean"
    return Baseline(name, squares / np.maximum(count, 1))


def linear_autoregression(
    dataset: Dataset,
    frames: tuple[int, ...] = FRAMES,
    ridges: tuple[float, ...] = RIDGES,
    progress: Callable[[float], object] = lambda done: None,
) -> Linear:
    """The linear function of the last frames with the least squared error on the training part.

    Each number of frames is tried with each ridge, which is a share of the rows: the least mean over
    rows of squared errors + ridge * (the sum of squared distances of the weights from a prior). The prior is
    zero, or, for an output that is a channel, persistence as well (Litterman 1986). Ridge and prior are those
    that do best on the validation part, output by output; of the numbers of frames, the least that is as
    good as the best but for a share of WORTH. Frames before the first of a sequence are taken equal to it,
    as the highway of a model takes them. Numbers of frames that would take long are left out, but for the
    least. Where some rows lack some targets, the products of features are those of all rows, as if targets
    were missing by chance. All in float64; ridges must be above 0. ``progress`` is told the share done.
    """
    channels, outputs = len(dataset.channels), len(dataset.outputs)
    rows = sum(len(sequence.values) for sequence in (*dataset.train, *dataset.validation))
    tries = 2 * len(ridges) * len(frames)
    size = min(WORK / rows, WORK / (tries * outputs), NUMBERS) ** 0.5  # features
    size = min(size, WORK / (rows * outputs))
    tried = [count for count in sorted(frames) if count * channels < size and count <= WARM] or [min(frames)]
    learned = _sums(dataset, dataset.train, max(tried))
    progress(0.3)
    checked = _sums(dataset, dataset.validation, max(tried))
    best = dict[int, Linear]()
    for which, ridge in enumerate(ridges):
        progress(0.4 + 0.6 * which / len(ridges))
        penalty = ridge * np.diag(np.arange(len(learned.gram)) > 0)  # the constant is free
        lower = np.linalg.cholesky(learned.gram + penalty)
        for prior in _priors(dataset, learned.cross.shape):
            half = _substitute(lower, learned.cross + ridge * prior)
            for count in tried:  # the factors of fewer frames are leading parts
                upper = lower[: 1 + count * channels, : 1 + count * channels].T
                weight = _substitute(upper[::-1, ::-1], half[: len(upper)][::-1])[::-1]
                errors = _errors(checked, weight)
                found = Linear(weight[1:].T, weight[0], errors, count, np.full(outputs, ridge))
                best[count] = _better(best[count], found) if count in best else found
    limit = min(linear.errors.mean() for linear in best.values()) * (1 + WORTH)
    if not np.isfinite(limit):
        raise UserError(
            "some values lie so far from those learned from that float32 cannot hold them in standard "
            "deviations; mend what stands for a missing value, or leave the column out"
        )
    chosen = next(best[count] for count in tried if best[count].errors.mean() <= limit)
    return chosen._replace(errors=_measured(dataset, chosen))


def _priors(dataset: Dataset, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Weights (F, O) that a ridge pulls towards: zeros, and persistence where outputs are channels."""
    zeros = np.zeros(shape)
    yield zeros
    persistent = zeros.copy()
    for output, name in enumerate(dataset.outputs):
        if name in dataset.channels:
            persistent[1 + dataset.channels.index(name), output] = 1
    if persistent.any():
        yield persistent


def _better(one: Linear, other: Linear) -> Linear:
    """The better of two, output by output."""
    first = one.errors <= other.errors
    return Linear(
        np.where(first[:, None], one.weight, other.weight),
        np.where(first, one.bias, other.bias),
        np.minimum(one.errors, other.errors),
        one.frames,
        np.where(first, one.ridge, other.ridge),
    )


def _chunks(lanes: Lanes, features: int) -> Iterator[Chunk]:
    """The lanes in chunks that take little memory, when each row has so many features."""
    length = max(BLOCK_NUMBERS // max(features, lanes.width), 256)
    for begin in range(0, lanes.steps, length):
        yield lanes.chunk(begin, begin + length)


def _features(
    dataset: Dataset, sequences: list[Sequence], frames: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of rows: 1 and the frames, the newest first, (n, F); targets, (n, O), and which there are."""
    size, carry = 1 + frames * len(dataset.channels), None
    for chunk in _chunks(Lanes(sequences, dataset.scaling, 1), size):
        seen, carry = history(chunk.x, chunk.begins, frames, carry)
        features = np.ones((len(seen), size))
        features[:, 1:] = seen[:, 0]
        yield features, chunk.y[:, 0].astype(np.float64), chunk.weight[:, 0] != 0


def _sums(dataset: Dataset, sequences: list[Sequence], frames: int) -> Sums:
    outputs, size = len(dataset.outputs), 1 + frames * len(dataset.channels)
    gram, cross = np.zeros((size, size)), np.zeros((size, outputs))
    square, known, rows = np.zeros(outputs), np.zeros(outputs), 0
    for features, targets, there in _features(dataset, sequences, frames):
        used = there.any(axis=1)  # not the rows that only bring a state up
        rows += int(used.sum())
        gram += features[used].T @ features[used]
        cross += features.T @ targets  # a target that is none is 0
        square += np.square(targets).sum(axis=0)
        known += there.sum(axis=0)
    known = np.maximum(known, 1)  # of a row that only the longest curves have, there may be none
    return Sums(gram / rows, cross / known, square / known)


def _substitute(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """lower^-1 @ right, for a lower triangle (n, n) and (n, m), block by block."""
    found = right.copy()
    for begin in range(0, len(found), TRIANGLE):
        block = slice(begin, begin + TRIANGLE)
        found[block] -= lower[block, :begin] @ found[:begin]
        found[block] = np.linalg.solve(lower[block, block], found[block])
    return found


def _errors(sums: Sums, weight: np.ndarray) -> np.ndarray:
    """The mean squared errors of weights, (O,), from the sums alone."""
    size = len(weight)
    squares = (weight * (sums.gram[:size, :size] @ weight - 2 * sums.cross[:size])).sum(axis=0)
    return np.maximum(sums.square + squares, 0)


def _measured(dataset: Dataset, linear: Linear) -> np.ndarray:
    """The mean squared errors on the validation part, (O,), row by row."""
    squares, known = np.zeros(len(linear.bias)), np.zeros(len(linear.bias))
    for features, targets, there in _features(dataset, dataset.validation, linear.frames):
        error = features[:, 1:] @ linear.weight.T + linear.bias - targets
        squares += np.where(there, np.square(error), 0).sum(axis=0)
        known += there.sum(axis=0)
    return squares / np.maximum(known, 1)
