"""The training itself: epochs of updates, validation after each, the best weights kept."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from streamrnn.train.net.adam import Adam
from streamrnn.train.net.network import Weights

AVERAGE = 0.98  # how much of the average of the weights an update keeps
RISE = 50  # updates over which the learning rate rises
LEAST_UPDATES = 4 * RISE  # before which nothing is given up, however few of them an epoch has
# The decay with which a network begins that says its spread, so as not to learn single errors by heart: as
# much in an epoch, however many updates that has (Wang & Aitchison 2024).
EPOCH_DECAY, HIGHEST_DECAY = 15.0, 3.0

N = TypeVar("N", bound=Weights, contravariant=True)


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The learning rate rises over the first updates and then falls as a cosine to nothing."""

    epochs: int = 200
    patience: int = 20  # epochs without a better validation error before it ends
    lanes: int = 16  # pieces of the data side by side in an update
    chunk: int = 64  # steps that the gradient reaches back; the state is carried on
    rate: float = 1e-2
    decay: float = 1e-2  # of weights, per update, times the learning rate; with a spread it falls to this
    dropout: float = 0.0  # share of a layer's outputs left out
    clip: float = 1.0  # largest norm of a gradient
    seed: int = 0


@dataclass
class Course:
    """How far a training is, and what came of each epoch.

    Errors are mean squares of standardised outputs, or of a network that says its spread mean negative log
    likelihoods.
    """

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


class Task(Protocol[N]):
    """What a network is to learn."""

    rows: int  # of an epoch

    def updates(self, network: N, rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
        """Every row of the training part once: sets ``network.gradient`` before each update.

        Yields the sum of the weighed losses there, that of their weights, and the share of the epoch that
        is then done.
        """

    def error(self, network: N) -> float:
        """The mean loss on the validation part."""


def descend(
    network: N,
    average: N,
    task: Task[N],
    settings: TrainSettings,
    rng: np.random.Generator,
    report: Callable[[Course], object] = lambda course: None,
) -> Course:
    """Trains ``network``, which has its first weights; leaves the best on the validation part in ``average``.

    The weights looked at are an average over the last updates (Polyak & Juditsky 1992). ``report`` is told
    of every update and epoch. At KeyboardInterrupt the best so far is what there is. The same arguments give
    the same weights on the same machine.
    """
    average.weights[:] = network.weights
    best = network.weights.copy()
    course = Course(settings.epochs)
    optimiser = Adam(network, settings.clip)
    try:
        course.errors.append(task.error(average))
        for epoch in range(settings.epochs):
            with np.errstate(over="ignore", invalid="ignore"):  # what diverges is seen by its error
                _run_epoch(network, average, task, optimiser, settings, rng, course, report)
                error = task.error(average)
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
    return course


def _run_epoch(
    network: N,
    average: N,
    task: Task[N],
    optimiser: Adam,
    settings: TrainSettings,
    rng: np.random.Generator,
    course: Course,
    report: Callable[[Course], object],
) -> None:
    began, squares, weights = time.perf_counter(), 0.0, 0.0
    for square, weight, done in task.updates(network, rng):
        squares, weights = squares + square, weights + weight
        course.loss = squares / weights
        gone = (course.epoch + done) / settings.epochs
        decay = _falling_decay(settings, task.rows, gone) if network.shape.spread else settings.decay
        optimiser.update(_rate(settings, gone, optimiser.updates), decay)
        keep = min(AVERAGE, optimiser.updates / (optimiser.updates + 10))
        average.weights += np.float32(1 - keep) * (network.weights - average.weights)
        course.done = done
        course.rows_per_s = done * task.rows / (time.perf_counter() - began)
        report(course)


def _rate(settings: TrainSettings, done: float, updates: int) -> float:
    return settings.rate * (1 + math.cos(math.pi * done)) / 2 * min(1.0, (updates + 1) / RISE)


def _falling_decay(settings: TrainSettings, rows: int, done: float) -> float:
    updates = -(-rows // (settings.lanes * settings.chunk))
    first = max(min(EPOCH_DECAY / updates, HIGHEST_DECAY), settings.decay)
    return float(first ** (1 - done) * settings.decay**done)
