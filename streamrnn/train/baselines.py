"""Simple forecasts, for a network to be measured beside: persistence and linear autoregression."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from streamrnn.train.data import WARM, Dataset, Sequence
from streamrnn.train.lanes import Chunk, Lanes, history

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
    """Sums over rows with a target, for G groups of outputs whose targets are there in the same rows."""

    gram: np.ndarray  # (G, F, F) float64: of products of features
    cross: np.ndarray  # (F, O) float64: of products of features and targets
    square: np.ndarray  # (O,) float64: of squared targets
    rows: np.ndarray  # (O,) float64: how many


class Factors(NamedTuple):
    """A group's normal equations, factored: those of fewer frames are their leading parts."""

    lower: np.ndarray  # (F, F) float64: Cholesky's factor
    half: np.ndarray  # (F, members) float64: lower^-1 @ cross


def persistence(dataset: Dataset) -> Baseline:
    """Taking the last row as the forecast; for outputs that are no channels, the mean of the training rows.

    Both baselines need a dataset with a validation part.
    """
    known = all(name in dataset.channels for name in dataset.outputs)
    places = [dataset.channels.index(name) for name in dataset.outputs] if known else []
    squares, count = np.zeros(len(dataset.outputs)), np.zeros(len(dataset.outputs))
    for chunk in _chunks(Lanes(dataset.validation, dataset.scaling, 1), len(dataset.channels)):
        error = (chunk.y - (chunk.x[..., places] if known else 0)).astype(np.float64)
        squares += (error**2 * chunk.weight).sum(axis=(0, 1))
        count += chunk.weight.sum(axis=(0, 1))
    return Baseline("persistence" if known else "mean", squares / count)


def linear_autoregression(
    dataset: Dataset, frames: tuple[int, ...] = FRAMES, ridges: tuple[float, ...] = RIDGES
) -> Linear:
    """The linear function of the last frames with the least squared error on the training part.

    Each number of frames is tried with each ridge, which is a share of the rows: the least mean over
    rows of squared errors + ridge * (the sum of squared distances of the weights from a prior). The prior is
    zero, or, for an output that is a channel, persistence as well (Litterman 1986). Ridge and prior are those
    that do best on the validation part, output by output; of the numbers of frames, the least that is as
    good as the best but for a share of WORTH. Frames before the first of a sequence are taken equal to it,
    as the highway of a model takes them. Numbers of frames that would take long are left out, but for the
    least. All in float64; ridges must be above 0.
    """
    channels, outputs = len(dataset.channels), len(dataset.outputs)
    groups = [list(range(outputs))]
    if not _alike(dataset.train) or not _alike(dataset.validation):
        groups = [[output] for output in range(outputs)]
    rows = sum(len(sequence.values) for sequence in (*dataset.train, *dataset.validation))
    size = min(WORK / (rows * len(groups)), NUMBERS / len(groups)) ** 0.5  # features
    tried = [count for count in sorted(frames) if count * channels < size and count <= WARM] or [min(frames)]
    learned = _sums(dataset, dataset.train, max(tried), groups)
    checked = _sums(dataset, dataset.validation, max(tried), groups)
    best = dict[int, Linear]()
    for prior in _priors(dataset, learned.cross.shape):
        for ridge in ridges:
            factors = _factor(learned, ridge, prior, groups)
            for count in tried:
                weight = _solve(factors, 1 + count * channels, groups)
                found = Linear(
                    weight[1:].T,
                    weight[0],
                    _errors(checked, weight, groups),
                    count,
                    np.full(outputs, ridge),
                )
                best[count] = _better(best[count], found) if count in best else found
    limit = min(linear.errors.mean() for linear in best.values()) * (1 + WORTH)
    return next(best[count] for count in tried if best[count].errors.mean() <= limit)


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


def _alike(sequences: list[Sequence]) -> bool:
    """Whether the outputs have targets in the same rows."""
    return all(
        bool((missing == missing[:, :1]).all())
        for missing in (np.isnan(sequence.targets) for sequence in sequences)
    )


def _chunks(lanes: Lanes, features: int) -> Iterator[Chunk]:
    """The lanes in chunks that take little memory, when each row has so many features."""
    length = max(BLOCK_NUMBERS // features, 256)
    for begin in range(0, lanes.steps, length):
        yield lanes.chunk(begin, begin + length)


def _sums(dataset: Dataset, sequences: list[Sequence], frames: int, groups: list[list[int]]) -> Sums:
    """The sums over all rows; the features are 1 and then the frames, the newest first."""
    outputs, size = len(dataset.outputs), 1 + frames * len(dataset.channels)
    sums = Sums(
        np.zeros((len(groups), size, size)),
        np.zeros((size, outputs)),
        np.zeros(outputs),
        np.zeros(outputs),
    )
    carry = None
    for chunk in _chunks(Lanes(sequences, dataset.scaling, 1), size):
        seen, carry = history(chunk.x, chunk.begins, frames, carry)
        features = np.ones((len(seen), size))
        features[:, 1:] = seen[:, 0]
        targets, there = chunk.y[:, 0].astype(np.float64), chunk.weight[:, 0] != 0
        for group, members in enumerate(groups):
            known = there[:, members[0]]
            rows, y = (features, targets) if known.all() else (features[known], targets[known])
            y = y[:, members]
            sums.gram[group] += rows.T @ rows
            sums.cross[:, members] += rows.T @ y
            sums.square[members] += (y**2).sum(axis=0)
            sums.rows[members] += len(y)
    return sums


def _factor(sums: Sums, ridge: float, prior: np.ndarray, groups: list[list[int]]) -> list[Factors]:
    """The normal equations of each group; the weight of the constant is free."""
    factors = list[Factors]()
    for gram, members in zip(sums.gram, groups, strict=True):
        rows = sums.rows[members[0]]
        normal = gram / rows
        normal[np.diag_indices(len(normal))] += np.where(np.arange(len(normal)) > 0, ridge, 0.0)
        lower = np.linalg.cholesky(normal)
        right = sums.cross[:, members] / rows + ridge * prior[:, members]
        factors.append(Factors(lower, _substitute(lower, right)))
    return factors


def _solve(factors: list[Factors], size: int, groups: list[list[int]]) -> np.ndarray:
    """The weights, (size, O), of the first ``size`` features."""
    weight = np.empty((size, sum(map(len, groups))))
    for (lower, half), members in zip(factors, groups, strict=True):
        upper = lower[:size, :size].T
        weight[:, members] = _substitute(upper[::-1, ::-1], half[:size][::-1])[::-1]
    return weight


def _substitute(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """lower^-1 @ right, for a lower triangle (n, n) and (n, m), block by block."""
    found = right.copy()
    for begin in range(0, len(found), TRIANGLE):
        block = slice(begin, begin + TRIANGLE)
        found[block] -= lower[block, :begin] @ found[:begin]
        found[block] = np.linalg.solve(lower[block, block], found[block])
    return found


def _errors(sums: Sums, weight: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """The mean squared errors of weights, (O,), from the sums alone."""
    size = len(weight)
    squares = sums.square - 2 * (weight * sums.cross[:size]).sum(axis=0)
    for gram, members in zip(sums.gram, groups, strict=True):
        own = weight[:, members]
        squares[members] += (own * (gram[:size, :size] @ own)).sum(axis=0)
    return np.maximum(squares, 0) / sums.rows
