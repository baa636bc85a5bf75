"""The errors of a trained network on the validation part."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from streamrnn.model.model import Model
from streamrnn.train.data.dataset import Dataset
from streamrnn.train.relations import Trained, residuals_of


class Validated(NamedTuple):
    """Errors over all rows of the predictions, each output's."""

    mse: np.ndarray  # (O,) float64: mean squares, in standard deviations squared
    stated: dict[str, Any]  # what the model file says of them, in units
    counts: np.ndarray  # (K, O) float64: targets of each row

    def over_rows(self, errors: np.ndarray) -> np.ndarray:
        """Mean squares (O,) of another method, from those of each row in turn, (K * O,)."""
        return (errors.reshape(self.counts.shape) * self.counts).sum(axis=0) / self.counts.sum(axis=0)


@contextmanager
def weights_of(model: Model, network: Trained) -> Iterator[None]:
    """Has a network run with the weights of a model for as long."""
    kept = network.weights.copy()
    network.load(model.tensors())
    try:
        yield
    finally:
        network.weights[:] = kept


def validate(network: Trained, dataset: Dataset) -> Validated:
    """The errors of a network of ``dataset``."""
    counts, sums, squares = np.zeros((3, dataset.horizon, len(dataset.names)))
    for error, there in residuals_of(network, dataset):
        known = np.where(there, error, 0).astype(np.float64)
        counts += there.sum(axis=0).reshape(counts.shape)
        sums += known.sum(axis=0).reshape(counts.shape)
        squares += np.square(known).sum(axis=0).reshape(counts.shape)
    every = counts.sum(axis=0)
    mean, mse = sums.sum(axis=0) / every, squares.sum(axis=0) / every
    unit = dataset.scaling.output_std[: len(every)].astype(np.float64)
    std = np.sqrt(np.maximum(mse - mean**2, 0))
    stated = {"rows": int(every.max()), "mean": (mean * unit).tolist(), "std": (std * unit).tolist()}
    return Validated(mse, stated, counts)
