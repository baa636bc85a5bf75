"""Which channels are switches, commands or stand still: they have no spread that they could be judged by."""

from collections.abc import Iterable

import numpy as np

from streamrnn.train.data.dataset import Sequence


def find_switches(sequences: Iterable[Sequence], outputs: int) -> list[bool]:
    """A model's "switches": for each output whether it has no more than two values in all of ``sequences``.

    Of these the targets are looked at, (n, outputs), NaN for none.
    """
    few: list[set[float]] = [set() for _ in range(outputs)]
    for sequence in sequences:
        for values, column in zip(few, sequence.targets.T, strict=True):
            if len(values) <= 2:
                values.update(np.unique(column[~np.isnan(column)])[:3].tolist())
    return [len(values) <= 2 for values in few]
