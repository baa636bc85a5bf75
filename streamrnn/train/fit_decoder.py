"""Training of networks that write several rows: curves from a frame, and what follows a sequence."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from streamrnn.train.data.dataset import WARM, Dataset, Sequence
from streamrnn.train.data.lanes import Chunk, Lanes
from streamrnn.train.descent import Course, TrainSettings, descend
from streamrnn.train.fit import chunks, mean_square
from streamrnn.train.net.decoder import CurveNetwork, EncoderDecoder
from streamrnn.train.net.network import NetworkShape
from streamrnn.train.net.recurrence import ROWS

Kind = TypeVar("Kind", CurveNetwork, EncoderDecoder)
Report = Callable[[Course], object]
PLACES = 16  # of a chunk from which an update decodes, if
UPDATED = 1 << 14  # rows that it writes, are not too many
CHECKED = 1 << 15  # rows written for the validation after an epoch, about, but after
LEAST_CHECKED = 64  # places at least, where there are so many
WRITTEN = 1 << 17  # rows that are written at once


def fit_curves(
    dataset: Dataset, shape: NetworkShape, settings: TrainSettings, report: Report = lambda course: None
) -> tuple[CurveNetwork, Course]:
    """A network from the first row of each sequence to its targets, trained as ``descend`` does."""
    return _fit(CurveNetwork, shape, _CurveTask(dataset, settings), settings, report)


def fit_decoder(
    dataset: Dataset, shape: NetworkShape, settings: TrainSettings, report: Report = lambda course: None
) -> tuple[EncoderDecoder, Course]:
    """An encoder and decoder of a dataset of ``windows``, trained as ``descend`` does."""
    return _fit(EncoderDecoder, shape, _DecodingTask(dataset, settings), settings, report)


def _fit(
    kind: type[Kind], shape: NetworkShape, task: Any, settings: TrainSettings, report: Report
) -> tuple[Kind, Course]:
    network, average = kind(shape), kind(shape)
    rng = np.random.default_rng(settings.seed)
    network.start(rng)
    return average, descend(network, average, task, settings, rng, report)


class _CurveTask:
    """A Task of curves from frames, ``settings.lanes`` of them in an update."""

    def __init__(self, dataset: Dataset, settings: TrainSettings) -> None:
        self._dataset, self._lanes = dataset, settings.lanes
        self._all = next(_curves(dataset, dataset.train, len(dataset.train)))
        self._count = len(dataset.train)
        self.rows = self._count * dataset.horizon

    def updates(
        self, network: CurveNetwork, rng: np.random.Generator
    ) -> Iterator[tuple[float, float, float]]:
        order = rng.permutation(self._count)
        for begin in range(0, self._count, self._lanes):
            some = np.resize(order[begin : begin + self._lanes], self._lanes)
            x, y, weight = (array[0, some] for array in self._all[:3])
            weight[self._count - begin :] = 0  # of curves that stand there again, for want of others
            error = _by_row(network.forward(x)) - y
            weighed = error * weight
            total = max(float(weight.sum()), 1.0)
            network.backward(_of_rows(weighed * np.float32(2 / total), network.shape.horizon))
            yield float(np.vdot(weighed, error)), total, min((begin + self._lanes) / self._count, 1.0)

    def error(self, network: CurveNetwork) -> float:
        return mean_square(curve_residuals(network, self._dataset))


class _DecodingTask:
    """A Task of decoding from some places in every chunk, which lie elsewhere in each epoch."""

    def __init__(self, dataset: Dataset, settings: TrainSettings) -> None:
        self._dataset, self._settings = dataset, settings
        self.rows = sum(len(sequence.values) for sequence in dataset.train)
        places = sum(len(_weighed(sequence)) for sequence in dataset.validation)
        stride = max(min(places * dataset.horizon // CHECKED, places // LEAST_CHECKED), 1)
        stride = stride - 1 | 1  # odd, to meet all hours of a day
        self._checked = dataset._replace(validation=[_thinned(one, stride) for one in dataset.validation])

    def updates(
        self, network: EncoderDecoder, rng: np.random.Generator
    ) -> Iterator[tuple[float, float, float]]:
        dataset, settings = self._dataset, self._settings
        lanes = Lanes(dataset.train, dataset.scaling, settings.lanes, int(rng.integers(self.rows)))
        count = -(-lanes.steps // settings.chunk)
        most = min(max(UPDATED // (settings.lanes * dataset.horizon), 1), PLACES)
        stride = max(settings.chunk // most, 1)
        for number, (carried, chunk, _) in enumerate(chunks(lanes, 0, settings.chunk), 1):
            network.encode(chunk.x, chunk.begins, carried)
            places = range(len(chunk.x) - 1, -1, -stride)[::-1]  # the last, and some before it
            error, weight = _decoded(network, dataset, chunk, [*places])
            weighed = error * weight
            total = max(float(weight.sum()), 1.0)
            network.backward(_of_rows(weighed * np.float32(2 / total), dataset.horizon))
            yield float(np.vdot(weighed, error)), total, number / count

    def error(self, network: EncoderDecoder) -> float:
        return mean_square(decoded_residuals(network, self._checked))


def _thinned(sequence: Sequence, stride: int) -> Sequence:
    """``sequence``, but of the rows that have a weight only the last and every ``stride``-th before it do."""
    weights = np.zeros(len(sequence.values), np.float32)
    weights[_weighed(sequence)[::-stride]] = 1
    return sequence._replace(weights=weights)


def _weighed(sequence: Sequence) -> np.ndarray:
    """The rows of a sequence of ``windows`` that have a weight."""
    assert sequence.weights is not None
    return np.flatnonzero(sequence.weights)


def curve_residuals(network: CurveNetwork, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prediction minus target, (n, K * O) float32 standardised, and which targets there are."""
    for chunk in _curves(dataset, dataset.validation, max(WRITTEN // dataset.horizon, 1)):
        yield _by_row(network.forward(chunk.x[0])) - chunk.y[0], chunk.weight[0] > 0


def decoded_residuals(network: EncoderDecoder, dataset: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same after every row of the validation part that has a weight, of an encoder that was running."""
    lanes = Lanes(dataset.validation, dataset.scaling, ROWS, overlap=WARM)
    most = max(WRITTEN // (dataset.horizon * ROWS), 1) * ROWS  # places at once
    for carried, chunk, _ in chunks(lanes, 0, 256):
        network.encode(chunk.x, chunk.begins, carried)
        places = np.argwhere(chunk.weight.any(axis=2))  # (n, 2): step and lane
        for begin in range(0, len(places), most):
            some = places[begin : begin + most]
            steps, of_lanes = np.resize(some, (-(-len(some) // ROWS) * ROWS, 2)).T  # some twice, to be whole
            u = _last_rows(dataset, chunk.x[steps, of_lanes])
            rows = _by_row(network.decode_at(steps, of_lanes, u))[: len(some)]
            there = chunk.weight[tuple(some.T)] > 0
            yield rows - chunk.y[tuple(some.T)], there


def _decoded(
    network: EncoderDecoder, dataset: Dataset, chunk: Chunk, places: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and weights, (P * B, K * O) each, of what is decoded after some steps of a chunk."""
    u = _last_rows(dataset, chunk.x[places].reshape(-1, chunk.x.shape[2]))
    rows = _by_row(network.decode(places, u))
    return rows - chunk.y[places].reshape(rows.shape), chunk.weight[places].reshape(rows.shape)


def _last_rows(dataset: Dataset, x: np.ndarray) -> np.ndarray:
    """What a decoder begins with after rows (n, C): the outputs of each, (n, O), or zeros."""
    outputs = len(dataset.names)
    if dataset.target == "next":  # the outputs are the first channels, and scaled as they are
        return np.ascontiguousarray(x[:, :outputs])
    return np.zeros((len(x), outputs), np.float32)


def _curves(dataset: Dataset, sequences: list, most: int) -> Iterator[Chunk]:
    """Frames and curves side by side, in one step of at most so many lanes."""
    size = -(-min(most, len(sequences)) // ROWS) * ROWS
    for begin in range(0, len(sequences), size):
        some = sequences[begin : begin + size]
        yield Lanes(some, dataset.scaling, size, order=np.arange(len(some))).chunk(0, 1)


def _by_row(rows: np.ndarray) -> np.ndarray:
    """From rows as a network writes them, (K, ..., O), to (n, K * O)."""
    return np.moveaxis(rows, 0, -2).reshape(-1, len(rows) * rows.shape[-1])


def _of_rows(flat: np.ndarray, horizon: int) -> np.ndarray:
    """The other way."""
    return np.ascontiguousarray(np.moveaxis(flat.reshape(len(flat), horizon, -1), 1, 0))
