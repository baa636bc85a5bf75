"""`streamrnn train`: from files of sensor data to a model file."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamrnn import __version__
from streamrnn.errors import UserError
from streamrnn.model.cells import GATES, NAMES, find_cell
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.table.progress import Line, Progress, counted
from streamrnn.train.asked_of_relations import NO_SPREAD, ROW_BY_ROW, problem
from streamrnn.train.data.dataset import Dataset
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.descent import Course, TrainSettings
from streamrnn.train.in_words import count_of, found_text
from streamrnn.train.judge.classes import shares_right
from streamrnn.train.judge.likelihood import Surprise, first_spread, surprises
from streamrnn.train.judge.linear import Linear, linear_autoregression
from streamrnn.train.judge.reach import gradient_reach
from streamrnn.train.judge.simple_methods import Simple
from streamrnn.train.judge.stated import stated_of
from streamrnn.train.judge.validation import Validated, validate, weights_of
from streamrnn.train.model_of import to_model
from streamrnn.train.net.network import NetworkShape, RowNetwork, Weights
from streamrnn.train.relations import RELATIONS, Trained, fit_network, load_dataset
from streamrnn.train.report import Errors, TrainReport

LEAST_EPOCHS = 8  # however much work they are


@dataclass(frozen=True)
class TrainOptions:
    """What to learn from, what network, how, and where it goes."""

    data: DataOptions
    output: Path | None  # None = nowhere
    cell: str = "lstm"
    activation: str = "tanh"
    hidden: int = 32
    layers: int = 1
    weights: str = "float32"  # recurrent ones, as a step holds them
    highway: int | None = None  # frames that the head sees; None = as many as help a linear forecast
    relation: str = "sequence-to-sequence"
    horizon: int | None = None  # rows of a prediction; None = 1, or of the longest curve
    spread: bool = False  # whether the network says the spread of its errors, too
    settings: TrainSettings = field(default_factory=TrainSettings)
    work: float | None = None  # multiply-adds of steps forward, past which there are fewer epochs
    explain: bool = False
    progress: bool = False


class Judged(NamedTuple):
    """What the validation part says of a network."""

    found: Validated
    right: dict[str, dict[str, float]]  # by column of text and by method: the share of sequences told right
    stated: dict[str, Any]  # of its errors, as the model file says it
    surprise: Surprise | None  # without a spread None, as the next
    spread_start: np.ndarray | None  # (O,)


def train(options: TrainOptions) -> TrainReport:
    """Trains a model and writes it. An interrupt keeps the best so far; without any, it ends the training.

    Raises UserError for files that cannot be used, or an output that cannot be written, and ModelError for
    what a model file cannot hold.
    """
    check_output(options)
    if said := problem(options.relation, _given(options)):
        raise UserError(said)
    with not_begun():
        dataset = _load(options)
    if options.spread and dataset.target != "next":
        raise UserError(NO_SPREAD)
    return learn(dataset, options)[1]


def _given(options: TrainOptions) -> list[str]:
    """The options that are not as they would be by themselves, as ``problem`` names them."""
    data, settings, usual = options.data, options.settings, TrainSettings()
    given = {
        "highway": bool(options.highway),
        "explain": options.explain,
        "dropout": settings.dropout > 0,
        "chunk": settings.chunk != usual.chunk,
        "max-step": data.max_step_s is not None,
        "target": data.targets is not None,
        "ahead": data.ahead not in (None, 1),
        "horizon": options.horizon is not None,
        "horizon 0": options.horizon == 0,
        "spread": options.spread,
    }
    return [option for option, is_given in given.items() if is_given]


def learn(dataset: Dataset, options: TrainOptions) -> tuple[Model, TrainReport]:
    """``train`` from a dataset that was loaded, with the model itself."""
    with not_begun():
        sys.stderr.write(found_text(dataset, options.relation, options.settings))
        linear, said, simple = _simple(dataset, options)
    shape, start = _plan(dataset, linear, options)
    weights = Weights(shape)
    told: dict[str, Any] = {"missing": list(options.data.reading.missing), "words": dict(dataset.words)}
    told |= {"weights": options.weights}
    to_model(weights, dataset, **told)  # what a file cannot hold is refused before the work
    options = replace(options, settings=_within(options, weights, dataset))
    began = time.monotonic()
    network, course = _fit(dataset, shape, start, options)
    seconds = time.monotonic() - began
    if course.ended == "diverged" and not course.best:
        raise UserError("the training diverged; use a smaller --rate")
    if course.ended == "interrupted" and not course.best and start is None:  # its weights are random
        sys.stderr.write("interrupted before the network got better: nothing is written\n")
        raise KeyboardInterrupt
    with _uninterrupted():  # what took hours is written, however impatient someone is
        in_float32 = None if options.weights == "float32" else validate(network, dataset).mse
        with weights_of(to_model(network, dataset, **told).as_run(), network):
            found, right, stated, surprise, told["spread_start"] = _judge(network, dataset, linear)
        shown = dataset.shown
        by_linear, by_simple = (found.over_rows(each.errors)[shown] for each in (linear, simple))
        compared = Errors(found.mse[shown], by_linear, by_simple, simple.name)
        made = _told(options, shape, course, compared) | ({"validation_right": right} if right else {})
        model = to_model(network, dataset, errors=found.stated, training=made, **stated, **told)
        if options.output is not None:
            write_model(model, options.output)
    unit = RELATIONS[options.relation].unit
    reaches, interrupted = None, course.ended == "interrupted"
    if options.explain and not interrupted and isinstance(network, RowNetwork):
        reaches = _explain(dataset, network, start, options)
        interrupted = len(reaches) < 2 * len(NAMES)
    return model, TrainReport(
        path=str(options.output or ""),
        network=_in_words(shape),
        outputs=[dataset.names[place] for place in shown],
        output_std=dataset.scaling.output_std[shown],
        errors=compared,
        frames=linear.frames,
        linear=said,
        facts=dataset.facts,
        learned=count_of(dataset.train, unit),
        validated=count_of(dataset.validation, unit),
        unit=unit,
        course=course,
        seconds=seconds,
        warnings=dataset.warnings,
        right=right,
        surprise=None if surprise is None else Surprise(*(each[shown] for each in surprise)),
        threshold=stated["score"]["threshold"] if stated else None,
        weights=options.weights,
        in_float32=None if in_float32 is None else in_float32[shown],
        reaches=reaches,
        interrupted=interrupted,
    )


def check_output(options: TrainOptions) -> None:
    """Raises UserError, before hours of work, if the output cannot be written or would replace an input."""
    if (output := options.output) is None:
        return
    folder = output.absolute().parent
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make it, or name another output")
    if not os.access(folder, os.W_OK) or (output.exists() and not output.is_file()):
        raise UserError(f"{output}: cannot be written; name another output")
    for source in map(Path, options.data.sources):
        if output.is_file() and source.is_file() and output.samefile(source):
            raise UserError(f"{output}: is read by this training; give the output another name")


@contextmanager
def not_begun() -> Iterator[None]:
    """Has an interrupt say that nothing came of it."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before the training began: nothing is written\n")
        raise


def _load(options: TrainOptions) -> Dataset:
    progress = Progress(options.progress)
    try:
        how = options.relation, options.horizon, options.settings.seed
        return load_dataset(options.data, *how, progress.add)
    finally:
        progress.clear()


def _simple(dataset: Dataset, options: TrainOptions) -> Simple:
    """The simple methods, with a line of progress: of many channels they take longer than the network."""
    line = Line(options.progress)
    try:
        return RELATIONS[options.relation].simple(
            dataset,
            lambda done: line.show(lambda: f"choosing the linear forecast to compare with, {done:.0%} done"),
        )
    finally:
        line.clear()


def _plan(dataset: Dataset, linear: Linear, options: TrainOptions) -> tuple[NetworkShape, Linear | None]:
    """What the network looks like, and what its highway begins with."""
    highway, start = options.highway, None
    if options.relation != ROW_BY_ROW:
        highway = 0
    elif highway is None:
        highway, start = linear.frames, linear
    elif highway:
        start = linear_autoregression(dataset, (highway,))
    shape = NetworkShape(
        cell=options.cell,
        inputs=len(dataset.channels),
        outputs=len(dataset.names),
        hidden=options.hidden,
        layers=options.layers,
        activation=options.activation,
        highway=highway,
        relation=options.relation,
        horizon=dataset.horizon,
        spread=options.spread,
    )
    return shape, start


def _within(options: TrainOptions, weights: Weights, dataset: Dataset) -> TrainSettings:
    """The settings, with no more epochs than the work allows, but LEAST_EPOCHS."""
    settings = options.settings
    if options.work is None:
        return settings
    epoch = weights.weights.size * sum(len(sequence.values) for sequence in dataset.train)
    return replace(settings, epochs=min(settings.epochs, max(int(options.work / epoch), LEAST_EPOCHS)))


def _judge(network: Trained, dataset: Dataset, linear: Linear) -> Judged:
    right, surprise, start = {}, None, None
    if isinstance(network, RowNetwork):
        right = shares_right(network, linear, dataset)
        if network.shape.spread:
            surprise = surprises(network, dataset, linear, dataset.validation)
            start = first_spread(network, dataset)
    return Judged(validate(network, dataset), right, stated_of(network, dataset), surprise, start)


def _told(options: TrainOptions, shape: NetworkShape, course: Course, errors: Errors) -> dict[str, Any]:
    """What the model file says of how it was made."""
    data = options.data
    return {
        "streamrnn": __version__,
        "files": [Path(source).name for source in data.sources][:100],
        "validation": data.validation,
        "settings": vars(options.settings) | {"relation": options.relation},
        "epochs": course.epoch,
        "best_epoch": course.best,
        "validation_mse": {
            "network": float(errors.network.mean()),
            "linear": float(errors.linear.mean()),
            errors.simple_name: float(errors.simple.mean()),
        },
    }


def _fit(
    dataset: Dataset, shape: NetworkShape, start: Linear | None, options: TrainOptions
) -> tuple[Trained, Course]:
    """``fit_network``, with a line of progress."""
    line, began = Line(options.progress), time.monotonic()
    try:
        return fit_network(
            dataset, shape, options.settings, start, lambda course: line.show(lambda: _how_far(course, began))
        )
    finally:
        line.clear()


def _explain(
    dataset: Dataset, trained: RowNetwork, start: Linear | None, options: TrainOptions
) -> dict[str, np.ndarray]:
    """How far the gradient reaches in each cell, before training and after it; an interrupt ends it."""
    reaches = {}
    with suppress(KeyboardInterrupt):
        for cell in sorted(NAMES, key=lambda name: GATES[name]):
            shape = replace(trained.shape, cell=cell, activation="tanh")
            network = RowNetwork(shape)
            network.start(np.random.default_rng(options.settings.seed))
            reaches[f"{cell}, untrained"] = gradient_reach(network, dataset)
            if shape == trained.shape:
                network = trained
            else:
                fitted, course = _fit(dataset, shape, start, options)
                if course.ended == "interrupted":
                    break
                assert isinstance(fitted, RowNetwork)
                network = fitted
            reaches[f"{cell}, trained"] = gradient_reach(network, dataset)
    return reaches


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Leaves Ctrl-C unheard, where it can be: handlers belong to the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _in_words(shape: NetworkShape) -> str:
    cell = find_cell(shape.cell, shape.activation).title
    layers = f"{shape.layers} x " if shape.layers > 1 else ""
    highway = f", its head beside them sees {counted(shape.highway, 'row')}" if shape.highway else ""
    return f"{cell} of {layers}{shape.hidden} hidden units{highway}"


def _how_far(course: Course, began: float) -> str:
    """What the line of progress says."""
    done = (course.epoch + course.done) / course.epochs
    left = (time.monotonic() - began) * (1 - done) / max(done, 1e-9)
    return (
        f"epoch {course.epoch + 1} of {course.epochs}, loss {course.loss:.4g}, "
        f"validation {course.errors[-1]:.4g} (best {course.errors[course.best]:.4g} at {course.best}), "
        f"{course.rows_per_s:,.0f} rows/s, at most {left:,.0f} s left"
    )
