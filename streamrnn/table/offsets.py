"""What is taken off the readings of a channel before float32 rounds them away: a counter near 123456789 that
changes by 3 would come out in steps of 8.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from streamrnn.table.cells import PLAIN, Marks, is_text, to_float64
from streamrnn.table.columns import of_name
from streamrnn.table.decimals import Decimals

FINE = 8  # steps of float32 that a usual change should have at least
WORTH = 4  # times as fine must the steps become
MOST = 0.9  # of the numbers, and of their changes


def find_offsets(
    names: Sequence[str],
    head: Sequence[pa.Array],
    channels: Collection[int],
    decimals: Decimals,
    marks: Marks = PLAIN,
    told: Mapping[str, float] | None = None,
) -> tuple[dict[int, float], list[str]]:
    """The offsets, float64, of those of the ``channels`` that have one, by place; and what cannot be mended.

    Those ``told``, by name, are taken; with None, the first cells say which are needed.
    """
    if told is not None:
        found = {place: of_name(told, names[place], 0.0) for place in channels}
        return {place: offset for place, offset in found.items() if offset}, []
    offsets, notes = dict[int, float](), list[str]()
    for place in channels:
        if not is_text(head[place]) and pa.types.is_float32(head[place].type):
            continue  # as fine as it is
        numbers, _ = to_float64(head[place], marks, *decimals.of(place))
        numbers = numbers[np.isfinite(numbers)]
        changes = np.abs(np.diff(numbers))
        changes = changes[changes > 0]
        if not len(changes):
            continue
        change, step = float(np.quantile(changes, MOST)), _step(numbers)
        if step <= change / FINE:
            continue
        offset = float(np.round(np.median(numbers)))
        if offset and _step(numbers - offset) * WORTH <= step:
            offsets[place] = offset
        elif step > change:
            notes.append(
                f'"{names[place]}": as float32 its values have steps of {step:g}, and it changes by '
                f"{change:.2g}; leave it out, or split what is large from what changes before it is recorded"
            )
    return offsets, notes


def _step(numbers: np.ndarray) -> float:
    """Of float32, at the largest of most numbers: a code for none may be far away."""
    return float(np.spacing(np.float32(min(np.quantile(np.abs(numbers), MOST), 1e38))))
