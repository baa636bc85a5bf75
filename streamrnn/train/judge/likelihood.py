"""How likely the errors of forecasts are, given what is said of their spread, in the order of the rows."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from streamrnn.train.data.dataset import Dataset, Scaling, Sequence
from streamrnn.train.fit import outcomes
from streamrnn.train.judge.calibration import in_order
from streamrnn.train.judge.linear import Linear
from streamrnn.train.net.network import NetworkShape, RowNetwork
from streamrnn.train.net.spread import ETA, FACTOR, freedom, likelihood, run_spread, within

SCORINGS = 50  # steps of a fit at most
SETTLED = 1e-4  # of a derivative per value: then a fit is done
LONGEST_STEP = 1.0  # of log sigma, and of log(nu - 2)


class SaidErrors(NamedTuple):
    """The errors of one stream, row after row, and what was said of their spread."""

    error: np.ndarray  # (n, O) float32: prediction - target, in standard deviations; 0 where there is none
    factor: np.ndarray  # (n, O) float32: g
    there: np.ndarray  # (n, O) float32: 1, or 0 where there is no target


class Student(NamedTuple):
    """Errors of Student's t distribution whose scale is the spread times a constant."""

    factor: np.ndarray  # (O,) float64: the logarithm of that constant
    shape: np.ndarray  # (O,) float64: log(nu - 2)


class Surprise(NamedTuple):
    """Negative log likelihoods per value, (O,) each, of values in standard deviations.

    The simple forecasts have the t distribution that suits their errors on the training part best.
    """

    network: np.ndarray
    weighted: np.ndarray  # the linear forecast, with its running spread
    constant: np.ndarray  # the linear forecast, with a spread that stays
    persistence: np.ndarray  # the row itself as the forecast of the next, with its running spread


def errors_of(
    network: RowNetwork, sequences: list[Sequence], scaling: Scaling, unit: np.ndarray | float = 1.0
) -> list[SaidErrors]:
    """Those of a network on each stream; its predictions are in a ``unit``, (O,), of standard deviations."""
    outputs = network.shape.outputs

    def blocks() -> Iterable[tuple[np.ndarray, np.ndarray]]:
        for said, target, there in outcomes(network, sequences, scaling):
            factor = said[:, outputs:] if network.shape.spread else np.zeros_like(target)
            yield np.hstack([(said[:, :outputs] - target) * unit, factor]), np.hstack([there, there])

    found = []
    for rows in in_order(blocks(), sequences):
        there = np.isfinite(rows[:, :outputs])
        known = np.where(np.hstack([there, there]), rows, 0).astype(np.float32)
        found.append(SaidErrors(known[:, :outputs], known[:, outputs:], there.astype(np.float32)))
    return found


def mean_size(streams: list[SaidErrors]) -> np.ndarray:
    """The mean of |error|, (O,) float32."""
    sums = sum(np.abs(one.error).sum(axis=0, dtype=np.float64) for one in streams)
    return within(sums / sum(one.there.sum(axis=0, dtype=np.float64) for one in streams))


def spreads_of(streams: list[SaidErrors], start: np.ndarray) -> list[np.ndarray]:
    """The running spread before each row, (n, O), of streams that begin with ``start``, (O,)."""
    found = []
    for one in streams:
        spread, begins = np.empty_like(one.error), np.zeros((len(one.error), 1), np.uint8)
        begins[:1] = 1  # none, of a stream without a target
        lane = one.error[:, None], one.there[:, None], begins
        run_spread(*lane, start, np.empty_like(one.error[:1]), spread[:, None])
        found.append(spread)
    return found


def surprise(streams: list[SaidErrors], spreads: list[np.ndarray], shape: np.ndarray) -> np.ndarray:
    """The negative log likelihood per value, (O,) float64."""
    sums = sum(
        likelihood(one.error, one.factor, spread, one.there, shape).sum
        for one, spread in zip(streams, spreads, strict=True)
    )
    return sums / sum(one.there.sum(axis=0, dtype=np.float64) for one in streams)


def fit_student(streams: list[SaidErrors], spreads: list[np.ndarray]) -> Student:
    """The likeliest t distribution of errors whose scale is their spread times a constant, by Fisher scoring.

    The expected second derivatives are those of Lange, Little & Taylor 1989, that by nu to 4 %.
    """
    outputs = streams[0].error.shape[1]
    count = sum(one.there.sum(axis=0, dtype=np.float64) for one in streams)
    sizes = (np.abs(one.error) / spread for one, spread in zip(streams, spreads, strict=True))
    size = sum(one.sum(axis=0, dtype=np.float64) for one in sizes) / count
    g, eta = np.log(np.clip(size, math.exp(-FACTOR), math.exp(FACTOR))), np.zeros(outputs)
    for _ in range(SCORINGS):
        by_g, by_eta = np.zeros((2, outputs))
        for one, spread in zip(streams, spreads, strict=True):
            said = np.broadcast_to(g.astype(np.float32), one.error.shape)
            found = likelihood(one.error, said, spread, one.there, eta)
            by_g += found.d_factor.sum(axis=0, dtype=np.float64)
            by_eta += found.d_shape
        by_g, by_eta = by_g / count, by_eta / count
        by_g[(g <= -FACTOR) & (by_g > 0) | (g >= FACTOR) & (by_g < 0)] = 0  # as far as it can go
        if max(np.abs(by_g).max(), np.abs(by_eta).max()) < SETTLED:
            break
        nu = freedom(eta)
        of_g, both = 2 * nu / (nu + 3), -2 * (nu - 2) / ((nu + 1) * (nu + 3))
        of_eta = 3.6 * (nu - 2) ** 2 / (nu**2 * (nu + 1) * (nu + 3))
        scale = of_g * of_eta - both**2
        steps = (of_eta * by_g - both * by_eta) / scale, (of_g * by_eta - both * by_g) / scale
        dg, deta = (np.clip(step, -LONGEST_STEP, LONGEST_STEP) for step in steps)
        g, eta = np.clip(g - dg, -FACTOR, FACTOR), np.clip(eta - deta, *ETA)
    return Student(g, eta)


def surprises(network: RowNetwork, dataset: Dataset, linear: Linear, rows: list[Sequence]) -> Surprise:
    """What the spread of a network is worth on some rows.

    The running spread of each stream there begins with the mean |error| of the validation part.
    """
    said = errors_of(network, rows, dataset.scaling)
    start = first_spread(network, dataset)
    of_network = surprise(said, spreads_of(said, start), network.tensors["spread.shape"])
    plain = linear_network(linear, dataset)
    learned, checked = (errors_of(plain, part, dataset.scaling) for part in (dataset.train, rows))
    usual = mean_size(learned)
    constant = fit_student(learned, _constant(learned, usual))
    return Surprise(
        of_network,
        _weighted(plain, dataset, learned, checked),
        _surprise_of(constant, checked, _constant(checked, usual)),
        _of_persistence(dataset, rows),
    )


def _weighted(
    plain: RowNetwork, dataset: Dataset, learned: list[SaidErrors], checked: list[SaidErrors]
) -> np.ndarray:
    """What the running spread of a simple forecast comes to, (O,)."""
    student = fit_student(learned, spreads_of(learned, mean_size(learned)))
    return _surprise_of(student, checked, spreads_of(checked, first_spread(plain, dataset)))


def _of_persistence(dataset: Dataset, rows: list[Sequence]) -> np.ndarray:
    outputs = len(dataset.outputs)
    weight, nothing = np.eye(outputs, len(dataset.channels)), np.zeros(outputs)
    same = Linear(weight, bias=nothing, errors=nothing, frames=1, ridge=nothing)
    plain = linear_network(same, dataset)
    learned, checked = (errors_of(plain, part, dataset.scaling) for part in (dataset.train, rows))
    return _weighted(plain, dataset, learned, checked)


def first_spread(network: RowNetwork, dataset: Dataset) -> np.ndarray:
    """What the running spread of a new stream begins with: the mean |error| on the validation part, (O,)."""
    return mean_size(errors_of(network, dataset.validation, dataset.scaling))


def _surprise_of(student: Student, streams: list[SaidErrors], spreads: list[np.ndarray]) -> np.ndarray:
    told = [one._replace(factor=_rows(student.factor, one.error)) for one in streams]
    return surprise(told, spreads, student.shape)


def linear_network(linear: Linear, dataset: Dataset) -> RowNetwork:
    """A network that says what a linear forecast does: its recurrent part says nothing."""
    shape = NetworkShape("rnn", len(dataset.channels), len(dataset.outputs), hidden=1, highway=linear.frames)
    network = RowNetwork(shape)
    network.tensors["highway.weight"][:] = linear.weight
    network.tensors["head.bias"][:] = linear.bias
    return network


def _constant(streams: list[SaidErrors], size: np.ndarray) -> list[np.ndarray]:
    return [_rows(size, one.error) for one in streams]


def _rows(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """``values`` (O,) for each row of (n, O), in its dtype."""
    return np.broadcast_to(values.astype(like.dtype), like.shape)
