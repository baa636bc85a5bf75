"""The simple methods that a network of each relation is measured beside: a linear function, and a mean.

Linear in what sums a sequence up, in a frame, or in the last rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamrnn.table.moments import Moments
from streamrnn.table.progress import counted
from streamrnn.train.data.dataset import Dataset, Sequence
from streamrnn.train.judge.linear import Baseline, Linear, linear_autoregression, persistence

SUMS = ("mean", "deviation", "change")  # of a channel over a sequence


class Simple(NamedTuple):
    """Two simple methods of a dataset."""

    linear: Linear
    said: str  # what the linear one sees
    other: Baseline


Progress = Callable[[float], object]  # is told the share that is done


def row_methods(dataset: Dataset, progress: Progress) -> Simple:
    """Those of an output with each row."""
    linear = linear_autoregression(dataset, progress=progress)
    return Simple(linear, f"autoregression over {counted(linear.frames, 'row')}", persistence(dataset))


def decoder_methods(dataset: Dataset, progress: Progress) -> Simple:
    """Those of the rows that follow; ``dataset`` is one of ``windows``."""
    linear = linear_autoregression(dataset, progress=progress)
    said = f"each row ahead from the last {counted(linear.frames, 'row')}"
    return Simple(linear, said, persistence(dataset))


def vector_methods(dataset: Dataset, _: Progress) -> Simple:
    """Those of what is said at the end of a sequence."""
    said = "of each channel's mean, deviation and change from first to last"
    return Simple(linear_autoregression(summaries(dataset), (1,)), said, mean_target(dataset, "mean"))


def curve_methods(dataset: Dataset, _: Progress) -> Simple:
    """Those of a curve that follows a row."""
    linear = linear_autoregression(dataset, (1,))
    return Simple(linear, "from the frame to each row of the curve", mean_target(dataset, "mean curve"))


def mean_target(dataset: Dataset, name: str) -> Baseline:
    """The mean of each target over the sequences to learn from, whatever comes in."""
    learned, checked = (
        (np.stack([one.targets[-1] for one in sequences]) - dataset.scaling.output_mean)
        / dataset.scaling.output_std
        for sequences in (dataset.train, dataset.validation)
    )
    known = ~np.isnan(learned)
    mean = np.where(known, learned, 0).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)
    there = ~np.isnan(checked)
    squares = np.where(there, np.square(checked - mean), 0).sum(axis=0)
    return Baseline(name, squares / np.maximum(there.sum(axis=0), 1))


def summaries(dataset: Dataset) -> Dataset:
    """Each sequence as one row of what sums it up, 3 * C numbers, and its last targets."""
    train, validation = (
        [_summary(one) for one in sequences] for sequences in (dataset.train, dataset.validation)
    )
    moments = Moments(len(SUMS) * len(dataset.channels))
    moments.add(np.concatenate([one.values for one in train]))
    mean, std, _ = moments.scaling()
    return dataset._replace(
        channels=[f"{name} {what}" for what in SUMS for name in dataset.channels],
        train=train,
        validation=validation,
        scaling=dataset.scaling._replace(input_mean=mean, input_std=std),
    )


def _summary(sequence: Sequence) -> Sequence:
    values = sequence.values.astype(np.float64)
    sums = np.concatenate([values.mean(axis=0), values.std(axis=0), values[-1] - values[0]])
    return Sequence(sequence.stream, sums[None].astype(np.float32), sequence.targets[-1:])
