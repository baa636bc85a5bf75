"""Why rows are of no use to learn from: a channel that has had no value yet, too few between two gaps."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

SHORT = "too few between two gaps"


def useless_rows(values: np.ndarray, begins: np.ndarray, names: Sequence[str], ahead: int) -> Counter[str]:
    """How many rows of a part are of no use, by why; of several channels without a value the last to come.

    ``values`` (n, C) float32, ``begins`` (n,) bool where sequences begin, ``ahead`` the rows to a target.
    """
    found: Counter[str] = Counter()
    for begin, end in pairwise([*map(int, np.flatnonzero(begins)), len(begins)]):
        there = ~np.isnan(values[begin:end])
        first = np.where(there.any(axis=0), there.argmax(axis=0), end - begin)
        late = int(first.max(initial=0))
        if late:
            found[f'"{names[int(first.argmax())]}" had no value yet'] += late
        if 0 < end - begin - late <= ahead:
            found[SHORT] += end - begin - late
    return found


def useless_text(useless: Counter[str]) -> str:
    """In words, the most frequent first."""
    return ", ".join(f"{count:,} {why}" for why, count in useless.most_common())
