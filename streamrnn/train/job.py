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
from typing import Any

import numpy as np

from streamrnn import __version__
from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.native import write_model
from streamrnn.table.progress import Line, Progress, counted
from streamrnn.train.baselines import Linear, linear_autoregression, persistence
from streamrnn.train.data import Dataset, load
from streamrnn.train.explain import gradient_reach
from streamrnn.train.fit import Course, Settings, fit, residuals
from streamrnn.train.network import Network, Shape
from streamrnn.train.recording import DataOptions
from streamrnn.train.report import Errors, Report

CELLS = ("rnn", "gru", "lstm")


@dataclass(frozen=True)
class TrainOptions:
    """What to learn from, what network, how, and where it goes."""

    data: DataOptions
    output: Path
    cell: str = "lstm"
    activation: str = "tanh"
    hidden: int = 32
    layers: int = 1
    highway: int | None = None  # frames that the head sees; None = as many as help a linear forecast
    settings: Settings = field(default_factory=Settings)
    explain: bool = False
    progress: bool = False


def train(options: TrainOptions) -> Report:
    """Trains a model and writes it. An interrupt keeps the best so far; one before the training ends it.

    Raises UserError for files that cannot be used, or an output that cannot be written.
    """
    _check_output(options)
    try:
        dataset = _load(options)
        _say_plan(dataset, options.settings)
        linear, simple = linear_autoregression(dataset), persistence(dataset)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before the training began: nothing is written\n")
        raise
    shape = Shape(
        cell=options.cell,
        inputs=len(dataset.channels),
        outputs=len(dataset.outputs),
        hidden=options.hidden,
        layers=options.layers,
        activation=options.activation,
        highway=linear.frames if options.highway is None else options.highway,
    )
    start: Linear | None = linear
    if options.highway is not None:
        start = linear_autoregression(dataset, (options.highway,)) if options.highway else None
    began = time.monotonic()
    network, course = _fit(dataset, shape, start, options)
    seconds = time.monotonic() - began
    if course.ended == "diverged" and not course.best:
        raise UserError("the training diverged; use a smaller --rate")
    with _uninterrupted():  # what took hours is written, however impatient someone is
        mse, errors = _validate(network, dataset)
        compared = Errors(mse, linear.errors, simple.errors, simple.name)
        told = _told(options, shape, course, compared)
        write_model(to_model(network, dataset, errors, told), options.output)
    reaches, interrupted = None, course.ended == "interrupted"
    if options.explain and not interrupted:
        reaches = _explain(dataset, network, start, options)
        interrupted = len(reaches) < 2 * len(CELLS)
    return Report(
        path=str(options.output),
        network=_in_words(shape),
        outputs=dataset.outputs,
        output_std=dataset.scaling.output_std,
        errors=compared,
        frames=linear.frames,
        facts=dataset.facts,
        learned=_count(dataset.train),
        validated=_count(dataset.validation),
        course=course,
        seconds=seconds,
        warnings=dataset.warnings,
        reaches=reaches,
        interrupted=interrupted,
    )


def _check_output(options: TrainOptions) -> None:
    """Raises UserError, before hours of work, if the output cannot be written or would replace an input."""
    output, folder = options.output, options.output.absolute().parent
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make it, or name another output")
    if not os.access(folder, os.W_OK) or (output.exists() and not output.is_file()):
        raise UserError(f"{output}: cannot be written; name another output")
    for source in map(Path, options.data.sources):
        if output.is_file() and source.is_file() and output.samefile(source):
            raise UserError(f"{output}: is read by this training; give the output another name")


def _load(options: TrainOptions) -> Dataset:
    progress = Progress(options.progress)
    try:
        return load(options.data, progress.add)
    finally:
        progress.clear()


def _say_plan(dataset: Dataset, settings: Settings) -> None:
    """What was found, so that a wrong guess is seen at once."""
    facts = dataset.facts
    said = [counted(facts.rows, "row"), counted(facts.streams, "stream")]
    if dataset.period_s or facts.gaps:
        said.append(counted(facts.gaps, "gap"))
    period = f", {dataset.period_s:g} s apart" if dataset.period_s else ""
    lines = [f"found {', '.join(said)}{period}; channels {', '.join(dataset.channels)}"]
    if dataset.target == "value":
        lines.append(f"outputs {', '.join(dataset.outputs)}, {counted(dataset.ahead, 'row')} ahead")
    for what, count in (("missing cells", facts.missing), ("rows of no use", facts.dropped)):
        if count:
            lines.append(f"{what}: {count:,}")
    if facts.skipped:
        lines.append(f"bad rows left out: {facts.skipped:,}")
    lines += [f"warning: {warning}" for warning in dataset.warnings]
    reach = _count(dataset.train) // settings.lanes
    if reach < settings.chunk:
        lines.append(
            f"warning: the gradient reaches back {counted(reach, 'row')}, not {settings.chunk}: there are no "
            f"more in each of the {settings.lanes} pieces side by side (--batch, at least 16)"
        )
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _validate(network: Network, dataset: Dataset) -> tuple[np.ndarray, dict[str, Any]]:
    """Mean squared errors, (O,), standardised; and what the model file says of its errors, in units."""
    outputs = len(dataset.outputs)
    count, sums, squares = (np.zeros(outputs) for _ in range(3))
    for error, there in residuals(network, dataset.validation, dataset.scaling):
        known = np.where(there, error, 0).astype(np.float64)
        count += there.sum(axis=0)
        sums += known.sum(axis=0)
        squares += np.square(known).sum(axis=0)
    mean, mse = sums / count, squares / count
    unit = dataset.scaling.output_std.astype(np.float64)
    std = np.sqrt(np.maximum(mse - mean**2, 0))
    errors = {"rows": int(count.max()), "mean": (mean * unit).tolist(), "std": (std * unit).tolist()}
    return mse, errors


def to_model(
    network: Network, dataset: Dataset, errors: dict[str, Any] | None, told: dict[str, Any] | None
) -> Model:
    """The model of a trained network; ``errors`` and ``told`` are its "errors" and "training"."""
    shape, scaling = network.shape, dataset.scaling
    settings = {
        "cell": shape.cell,
        "activation": shape.activation,
        "layers": shape.layers,
        "hidden": shape.hidden,
        "highway": shape.highway,
        "channels": [{"name": name} for name in dataset.channels],
        "outputs": [{"name": name} for name in dataset.outputs],
        "sample_period_s": dataset.period_s,
        "relation": "sequence-to-sequence",
        "target": dataset.target,
        "ahead": dataset.ahead,
        "errors": errors,
        "training": told,
    }
    tensors = network.tensors | {
        "input.mean": scaling.input_mean,
        "input.std": scaling.input_std,
        "output.mean": scaling.output_mean,
        "output.std": scaling.output_std,
    }
    return Model.from_tensors(settings, tensors)


def _told(options: TrainOptions, shape: Shape, course: Course, errors: Errors) -> dict[str, Any]:
    """What the model file says of how it was made."""
    data = options.data
    return {
        "streamrnn": __version__,
        "files": [Path(source).name for source in data.sources][:100],
        "validation": data.validation,
        "settings": vars(options.settings),
        "epochs": course.epoch,
        "best_epoch": course.best,
        "validation_mse": {
            "network": float(errors.network.mean()),
            "linear": float(errors.linear.mean()),
            errors.simple_name: float(errors.simple.mean()),
        },
    }


def _fit(
    dataset: Dataset, shape: Shape, start: Linear | None, options: TrainOptions
) -> tuple[Network, Course]:
    """``fit``, with a line of progress."""
    line, began = Line(options.progress), time.monotonic()
    try:
        return fit(
            dataset, shape, options.settings, start, lambda course: line.show(lambda: _how_far(course, began))
        )
    finally:
        line.clear()


def _explain(
    dataset: Dataset, trained: Network, start: Linear | None, options: TrainOptions
) -> dict[str, np.ndarray]:
    """How far the gradient reaches in each cell, before training and after it; an interrupt ends it."""
    reaches = {}
    with suppress(KeyboardInterrupt):
        for cell in CELLS:
            shape = replace(trained.shape, cell=cell, activation="tanh")
            network = Network(shape)
            network.start(np.random.default_rng(options.settings.seed))
            reaches[f"{cell}, untrained"] = gradient_reach(network, dataset)
            if shape == trained.shape:
                network = trained
            else:
                network, course = _fit(dataset, shape, start, options)
                if course.ended == "interrupted":
                    break
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


def _in_words(shape: Shape) -> str:
    cell = f"{shape.cell} ({shape.activation})" if shape.cell == "rnn" else shape.cell
    layers = f"{shape.layers} x " if shape.layers > 1 else ""
    highway = f", its head beside them sees {counted(shape.highway, 'row')}" if shape.highway else ""
    return f"{cell} of {layers}{shape.hidden} hidden units{highway}"


def _count(sequences: list[Any]) -> int:
    return sum(len(sequence.values) - sequence.warm for sequence in sequences)


def _how_far(course: Course, began: float) -> str:
    """What the line of progress says."""
    done = (course.epoch + course.done) / course.epochs
    left = (time.monotonic() - began) * (1 - done) / max(done, 1e-9)
    return (
        f"epoch {course.epoch + 1} of {course.epochs}, loss {course.loss:.4g}, "
        f"validation {course.errors[-1]:.4g} (best {course.errors[course.best]:.4g} at {course.best}), "
        f"{course.rows_per_s:,.0f} rows/s, at most {left:,.0f} s left"
    )
