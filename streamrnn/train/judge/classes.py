"""How often the right class has the greatest output, where a target is text."""

import numpy as np

from streamrnn.train.data.dataset import Dataset, Scaling
from streamrnn.train.fit import outcomes
from streamrnn.train.judge.linear import Linear
from streamrnn.train.judge.simple_methods import summaries
from streamrnn.train.net.network import RowNetwork


def shares_right(network: RowNetwork, linear: Linear, dataset: Dataset) -> dict[str, dict[str, float]]:
    """By column of text and by method, the share of the validation sequences that are told right; {} of none.

    A sequence that lacks a column's label, and is there for another target, does not count in that column.
    ``linear`` is of ``summaries``; "most frequent" always says the class that most training sequences have.
    """
    if not dataset.classes:
        return {}
    scaling, found = dataset.scaling, list[tuple[np.ndarray, np.ndarray]]()
    for predicted, target, there in outcomes(network, dataset.validation, scaling):
        ends = there.any(axis=1)
        found.append((predicted[ends], np.where(there, target, np.nan)[ends]))
    by_network, truth = (np.concatenate(parts) for parts in zip(*found, strict=True))
    summed = summaries(dataset)
    x = np.concatenate([sequence.values for sequence in summed.validation])
    x = (x - summed.scaling.input_mean) / summed.scaling.input_std
    targets = np.concatenate([sequence.targets for sequence in summed.validation])
    targets = (targets - scaling.output_mean) / scaling.output_std
    methods = {
        "network": (by_network, truth),
        "linear": (x @ linear.weight.T + linear.bias, targets),
        "most frequent": (np.zeros_like(targets), targets),
    }
    return {
        column: {
            name: _share_right(said[:, which], true[:, which], scaling, which)
            for name, (said, true) in methods.items()
        }
        for column, which in dataset.classes.items()
    }


def _share_right(said: np.ndarray, true: np.ndarray, scaling: Scaling, which: slice) -> float:
    """Of standardised outputs of a column's classes, (n, K) each, ``true`` NaN where there is no label."""
    labelled = ~np.isnan(true).any(axis=1)
    mean, std = scaling.output_mean[which], scaling.output_std[which]
    told, right = ((y[labelled] * std + mean).argmax(axis=1) for y in (said, true))
    return float((told == right).mean())
