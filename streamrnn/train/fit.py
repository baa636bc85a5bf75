"""A network that predicts something with every row: what it learns from each update, and how it is judged."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from streamrnn.train.data.dataset import WARM, Dataset, Scaling, Sequence
from streamrnn.train.data.lanes import Chunk, Lanes, history
from streamrnn.train.descent import Course, TrainSettings, descend
from streamrnn.train.judge.linear import Linear
from streamrnn.train.net.network import NetworkShape, RowNetwork
from streamrnn.train.net.recurrence import ROWS

BLOCK = 1024  # steps that are put into lanes at once, if
NUMBERS = 1 << 24  # of inputs and targets, are not too many
LEAST_ERROR = 1e-12  # of a linear forecast: below it there is nothing left to learn


def fit(
    dataset: Dataset,
    shape: NetworkShape,
    settings: TrainSettings,
    linear: Linear | None,
    report: Callable[[Course], object] = lambda course: None,
) -> tuple[RowNetwork, Course]:
    """A network of ``shape`` trained on a dataset as ``descend`` does, with its best weights.

    Its highway starts as ``linear``, of as many frames, if it has one; the network then learns what that
    leaves, in units of that, so that a rate means the same however small it is.
    """
    rng = np.random.default_rng(settings.seed)
    network, left = begin(dataset, shape, linear, rng)
    average = RowNetwork(shape)
    course = descend(network, average, _RowTask(dataset, settings, left), settings, rng, report)
    to_deviations(average, left)
    return average, course


def begin(
    dataset: Dataset, shape: NetworkShape, linear: Linear | None, rng: np.random.Generator
) -> tuple[RowNetwork, np.ndarray]:
    """A network with its first weights, and the unit in which it speaks, (O,), in standard deviations."""
    network = RowNetwork(shape)
    network.start(rng)
    left = np.ones(shape.outputs, np.float32)
    if linear is not None and shape.highway:
        left = np.sqrt(np.maximum(linear.errors, LEAST_ERROR)).astype(np.float32)
        network.tensors["highway.weight"][:] = linear.weight / left[:, None]
        network.tensors["head.bias"][:] = linear.bias / left
    _silence(network, dataset)
    return network, left


def to_deviations(network: RowNetwork, left: np.ndarray) -> None:
    """Has a network that speaks in a unit, (O,), speak in standard deviations."""
    for name in ("head.weight", "head.bias", *(["highway.weight"] if network.shape.highway else [])):
        network.tensors[name].T[:] *= left


def in_unit(dataset: Dataset, left: np.ndarray) -> Dataset:
    """A dataset whose outputs are in a unit, (O,), of standard deviations."""
    scaling = dataset.scaling
    return dataset._replace(scaling=scaling._replace(output_std=scaling.output_std * left))


def _silence(network: RowNetwork, dataset: Dataset) -> None:
    """Has channels that never vary say nothing, and be forecast as what they always were.

    While they are, training moves none of these weights: inputs, errors and so gradients are 0.
    """
    still, tensors = list(dataset.still), network.tensors
    tensors["weight_ih_l0"][:, still] = 0
    if network.shape.highway:
        for frame in range(network.shape.highway):
            places = [frame * network.shape.inputs + channel for channel in still]
            tensors["highway.weight"][:, places] = 0
    if dataset.target == "next":
        for name in ("head.weight", "head.bias", *(["highway.weight"] if network.shape.highway else [])):
            tensors[name][still] = 0


class _RowTask:
    """A Task of predictions row by row; the lanes are cut elsewhere in each epoch.

    ``left``, (O,), is a unit of each output in standard deviations, in which the network speaks; errors weigh
    by its squares.
    """

    def __init__(self, dataset: Dataset, settings: TrainSettings, left: np.ndarray) -> None:
        self._dataset, self._settings, self._left = in_unit(dataset, left), settings, left
        self.rows = sum(len(sequence.values) for sequence in dataset.train)

    def updates(self, network: RowNetwork, rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
        shape, settings, left = network.shape, self._settings, self._left
        train, scaling = self._dataset.train, self._dataset.scaling
        if shape.relation == "sequence-to-vector":
            lanes = Lanes(train, scaling, settings.lanes, order=rng.permutation(len(train)))
        else:  # a lane that is cut into a sequence is led by the rows that the head looks back to
            lanes = Lanes(train, scaling, settings.lanes, int(rng.integers(self.rows)), shape.highway)
        count = -(-lanes.steps // settings.chunk)
        for number, (carried, chunk, past) in enumerate(chunks(lanes, shape.highway, settings.chunk), 1):
            masks = masks_of(shape, settings, rng)
            error = network.forward(chunk.x, past, chunk.begins, carried, masks) - chunk.y
            weighed = error * chunk.weight * np.square(left)
            total = max(float(chunk.weight.sum()), 1.0)
            network.backward(weighed * np.float32(2 / total / np.square(left).mean()))
            yield float(np.vdot(weighed, error)), total, number / count

    def error(self, network: RowNetwork) -> float:
        return mean_error(network, self._dataset, self._left)


def masks_of(
    shape: NetworkShape, settings: TrainSettings, rng: np.random.Generator
) -> list[np.ndarray] | None:
    """Which outputs of each layer are left out, the same over a chunk (Gal & Ghahramani 2016)."""
    if not settings.dropout:
        return None
    kept = 1 - settings.dropout
    size = (settings.lanes, shape.hidden)
    return [(rng.random(size, np.float32) < kept) / np.float32(kept) for _ in range(shape.layers)]


def chunks(lanes: Lanes, frames: int, length: int) -> Iterator[tuple[bool, Chunk, np.ndarray | None]]:
    """Chunks of ``length`` steps, and for each whether it goes on from one before and what its head sees."""
    fitting = NUMBERS // (lanes.count * lanes.width)
    carry, size = None, max(min(-(-BLOCK // length), fitting // length), 1) * length
    for first in range(0, lanes.steps, size):
        block = lanes.chunk(first, first + size)
        for begin in range(0, len(block.x), length):
            chunk = Chunk(*(array[begin : begin + length] for array in block))
            past = None
            if frames:
                past, carry = history(chunk.x, chunk.begins, frames, carry)
            yield first + begin > 0, chunk, past


def outcomes(
    network: RowNetwork, sequences: list[Sequence], scaling: Scaling
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Predictions and targets, (n, O) float32 standardised, and which targets there are, (n, O) bool.

    Of a network that says its spread, the logarithms of its factors stand behind the predictions, (n, 2 * O).
    For all rows of ``sequences``, some at a time; the state at each is that of a network that was running.
    """
    order = np.arange(len(sequences)) if network.shape.relation == "sequence-to-vector" else None
    lanes = Lanes(sequences, scaling, ROWS, overlap=WARM, order=order)
    for carried, chunk, past in chunks(lanes, network.shape.highway, 256):
        there = chunk.weight.reshape(-1, network.shape.outputs) > 0
        predicted = network.forward(chunk.x, past, chunk.begins, carried)
        yield predicted.reshape(len(there), -1), chunk.y.reshape(there.shape), there


def residuals(
    network: RowNetwork, sequences: list[Sequence], scaling: Scaling
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prediction minus target, and which targets there are, of ``outcomes``."""
    for predicted, target, there in outcomes(network, sequences, scaling):
        yield predicted[:, : target.shape[1]] - target, there


def mean_error(network: RowNetwork, dataset: Dataset, unit: np.ndarray | float = 1.0) -> float:
    """The mean square of all residuals on the validation part, each output's in a ``unit`` of its own."""
    return mean_square(residuals(network, dataset.validation, dataset.scaling), unit)


def mean_square(errors: Iterable[tuple[np.ndarray, np.ndarray]], unit: np.ndarray | float = 1.0) -> float:
    """That of ``residuals``."""
    squares, count = 0.0, 0
    for error, there in errors:
        squares += float(np.square((error * unit)[there], dtype=np.float64).sum())
        count += int(there.sum())
    return squares / count
