"""The training itself: epochs over lanes of sequences, validation after each, the best weights kept."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from streamrnn.train.adam import Adam
from streamrnn.train.baselines import Linear
from streamrnn.train.data import WARM, Dataset, Scaling, Sequence
from streamrnn.train.lanes import Chunk, Lanes, history
from streamrnn.train.network import Network, Shape
from streamrnn.train.recurrence import ROWS

BLOCK = 1024  # steps that are put into lanes at once
AVERAGE = 0.98  # how much of the average of the weights an update keeps
RISE = 50  # updates over which the learning rate rises
LEAST_UPDATES = 4 * RISE  # before which nothing is given up, however few of them an epoch has
LEAST_ERROR = 1e-12  # of a linear forecast: below it there is nothing left to learn


@dataclass(frozen=True)
class Settings:
    """How to train. The learning rate rises over the first updates and then falls as a cosine to nothing."""

    epochs: int = 200
    patience: int = 20  # epochs without a better validation error before it ends
    lanes: int = 16  # pieces of the data side by side in an update
    chunk: int = 64  # steps that the gradient reaches back; the state is carried on
    rate: float = 1e-2
    decay: float = 1e-2  # of weights, per update, times the learning rate
    dropout: float = 0.0  # share of a layer's outputs left out
    clip: float = 1.0  # largest norm of a gradient
    seed: int = 0


@dataclass
class Course:
    """How far a training is, and what came of each epoch. Errors are mean squares of standardised outputs."""

    epochs: int
    epoch: int = 0  # of whose end the errors are
    done: float = 0.0  # share of the rows of the epoch after it
    loss: float = math.nan  # the mean over the targets of the epoch, so far
    errors: list[float] = field(default_factory=list)  # on the validation part, before and after each epoch
    rows_per_s: float = 0.0
    ended: str = "epochs"  # "epochs", "patience", "diverged" or "interrupted"

    @property
    def best(self) -> int:
        """The epoch with the least error; 0 = before the first."""
        return int(np.argmin(self.errors)) if self.errors else 0


def fit(
    dataset: Dataset,
    shape: Shape,
    settings: Settings,
    linear: Linear | None,
    report: Callable[[Course], object] = lambda course: None,
) -> tuple[Network, Course]:
    """A network of ``shape`` trained on a dataset, with its best weights on the validation part.

    Its highway starts as ``linear``, of as many frames, if it has one; the network then learns what that
    leaves, in units of that, so that a rate means the same however small it is. The weights looked at
    are an average over the last updates (Polyak & Juditsky 1992). ``report`` is told of every update and
    epoch. At KeyboardInterrupt the best so far is what there is. The same arguments give the same network on
    the same machine.
    """
    rng = np.random.default_rng(settings.seed)
    network, average = Network(shape), Network(shape)
    network.start(rng)
    left = np.ones(shape.outputs, np.float32)
    if linear is not None and shape.highway:
        left = np.sqrt(np.maximum(linear.errors, LEAST_ERROR)).astype(np.float32)
        network.tensors["highway.weight"][:] = linear.weight / left[:, None]
        network.tensors["head.bias"][:] = linear.bias / left
    scaling = dataset.scaling
    dataset = dataset._replace(scaling=scaling._replace(output_std=scaling.output_std * left))
    average.weights[:] = network.weights
    best = network.weights.copy()
    course = Course(settings.epochs)
    optimiser = Adam(network, settings.decay, settings.clip)
    try:
        course.errors.append(mean_error(average, dataset, left))
        for epoch in range(settings.epochs):
            with np.errstate(over="ignore", invalid="ignore"):  # what diverges is seen by its error
                _run_epoch(network, average, optimiser, dataset, left, settings, rng, course, report)
                error = mean_error(average, dataset, left)
            if error < min(course.errors):
                best[:] = average.weights
            course.errors.append(error if math.isfinite(error) else math.inf)
            course.epoch, course.done = epoch + 1, 0.0
            if not math.isfinite(error):
                course.ended = "diverged"
                break
            report(course)
            waited = course.epoch - course.best >= settings.patience
            if waited and optimiser.updates >= LEAST_UPDATES:
                course.ended = "patience"
                break
    except KeyboardInterrupt:
        course.ended = "interrupted"
    average.weights[:] = best
    for name in ("head.weight", "head.bias", *(["highway.weight"] if shape.highway else [])):
        average.tensors[name].T[:] *= left
    return average, course


def _run_epoch(
    network: Network,
    average: Network,
    optimiser: Adam,
    dataset: Dataset,
    left: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
    course: Course,
    report: Callable[[Course], object],
) -> None:
    """Every row of the training part once; the lanes are cut elsewhere each time.

    ``left``, (O,), is a unit of each output in standard deviations, by the squares of which errors weigh.
    """
    count = sum(len(sequence.values) for sequence in dataset.train)
    # a lane that begins inside a sequence is led by the rows that the head looks back to
    overlap = network.shape.highway
    lanes = Lanes(dataset.train, dataset.scaling, settings.lanes, int(rng.integers(count)), overlap)
    updates = -(-lanes.steps // settings.chunk)
    began, squares, weights = time.perf_counter(), 0.0, 0.0
    parts = chunks(lanes, network.shape.highway, settings.chunk)
    for number, (carried, chunk, past) in enumerate(parts, 1):
        masks = _masks(network.shape, settings, rng)
        error = network.forward(chunk.x, past, chunk.begins, carried, masks) - chunk.y
        weighed = error * chunk.weight * np.square(left)
        total = max(float(chunk.weight.sum()), 1.0)
        squares, weights = squares + float(np.vdot(weighed, error)), weights + total
        course.loss = squares / weights
        network.backward(weighed * np.float32(2 / total / np.square(left).mean()))
        done = course.epoch + number / updates
        optimiser.update(_rate(settings, done / settings.epochs, optimiser.updates))
        keep = min(AVERAGE, optimiser.updates / (optimiser.updates + 10))
        average.weights += np.float32(1 - keep) * (network.weights - average.weights)
        course.done = number / updates
        course.rows_per_s = course.done * count / (time.perf_counter() - began)
        report(course)


def _rate(settings: Settings, done: float, updates: int) -> float:
    return settings.rate * (1 + math.cos(math.pi * done)) / 2 * min(1.0, (updates + 1) / RISE)


def _masks(shape: Shape, settings: Settings, rng: np.random.Generator) -> list[np.ndarray] | None:
    """Which outputs of each layer are left out, the same over a chunk (Gal & Ghahramani 2016)."""
    if not settings.dropout:
        return None
    kept = 1 - settings.dropout
    size = (settings.lanes, shape.hidden)
    return [(rng.random(size, np.float32) < kept) / np.float32(kept) for _ in range(shape.layers)]


def chunks(lanes: Lanes, frames: int, length: int) -> Iterator[tuple[bool, Chunk, np.ndarray | None]]:
    """Chunks of ``length`` steps, and for each whether it goes on from one before and what its head sees."""
    carry, size = None, -(-BLOCK // length) * length
    for first in range(0, lanes.steps, size):
        block = lanes.chunk(first, first + size)
        for begin in range(0, len(block.x), length):
            chunk = Chunk(*(array[begin : begin + length] for array in block))
            past = None
            if frames:
                past, carry = history(chunk.x, chunk.begins, frames, carry)
            yield first + begin > 0, chunk, past


def residuals(
    network: Network, sequences: list[Sequence], scaling: Scaling
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Prediction minus target, (n, O) float32 standardised, and which targets there are, (n, O) bool.

    For all rows of ``sequences``, some at a time; the state at each is that of a network that was running.
    """
    lanes = Lanes(sequences, scaling, ROWS, overlap=WARM)
    for carried, chunk, past in chunks(lanes, network.shape.highway, 256):
        predicted = network.forward(chunk.x, past, chunk.begins, carried)
        there = chunk.weight.reshape(-1, network.shape.outputs) > 0
        yield (predicted - chunk.y).reshape(there.shape), there


def mean_error(network: Network, dataset: Dataset, unit: np.ndarray | float = 1.0) -> float:
    """The mean square of all residuals on the validation part, each output's in a ``unit`` of its own."""
    squares, count = 0.0, 0
    for error, there in residuals(network, dataset.validation, dataset.scaling):
        squares += float(np.square((error * unit)[there], dtype=np.float64).sum())
        count += int(there.sum())
    return squares / count
