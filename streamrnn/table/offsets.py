"""What is taken off the readings of a channel before float32 rounds them away: a counter near 123456789 that
changes by 3 would come out in steps of 8.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from streamrnn.table.cell_values import PLAIN, Marks, is_text, to_float64
from streamrnn.table.columns import of_name
from streamrnn.table.decimals import Decimals

FINE = 8  # steps of float32 that a usual change should have at least
FINER = 1024  # steps that it has beside an offset, which is as round a number as that allows
WORTH = 4  # times as fine must the steps become
MOST = 0.9  # of the numbers, and of their changes
LARGEST = 1e37  # offset
_LEAVE = "leave it out, or split what is large from what changes before it is recorded"
_AGAIN = "train anew, with these rows first"


def find_offsets(
    names: Sequence[str],
    head: Sequence[pa.Array],
    channels: Collection[int],
    decimals: Decimals,
    marks: Marks = PLAIN,
    streams: pa.Array | None = None,
    told: Mapping[str, float] | None = None,
) -> tuple[dict[int, float], list[str]]:
    """The offsets, float64, of those of the ``channels`` that have one, by place; and what cannot be mended.

    Those ``told``, by name, are taken; with None, the first cells say which are needed. ``streams`` are the
    ids of the rows, where there are any.
    """
    order = None if streams is None else np.argsort(_codes(streams), kind="stable")
    offsets, notes = dict[int, float](), list[str]()
    for place in channels:
        offset = 0.0 if told is None else of_name(told, names[place], 0.0)
        if offset:
            offsets[place] = offset
        if not is_text(head[place]) and pa.types.is_float32(head[place].type):
            continue  # as fine as it is
        numbers, _ = to_float64(head[place], marks, *decimals.of(place))
        change = _change(numbers, order, streams)
        numbers = numbers[np.isfinite(numbers)] - offset
        if not change or (step := _step(numbers)) <= change / FINE:
            continue
        if told is None and (found := _rounded(numbers, change)) and _step(numbers - found) * WORTH <= step:
            offsets[place] = found
        elif step > change:
            less = f" less {offset:.15g}" if offset else ""
            notes.append(
                f'"{names[place]}": as float32 its values{less} have steps of {step:g}, and it changes by '
                f"{change:.2g}; {_LEAVE if told is None else _AGAIN}"
            )
    return offsets, notes


def _codes(streams: pa.Array) -> np.ndarray:
    return streams.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)


def _change(numbers: np.ndarray, order: np.ndarray | None, streams: pa.Array | None) -> float:
    """By how much numbers change from row to row of a stream as a rule, where they do; 0 if they never do."""
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if order is not None and streams is not None and len(order) == len(numbers):
        numbers = numbers[order]
        changes = np.abs(np.diff(numbers))[np.diff(_codes(streams)[order]) == 0]
    else:
        changes = np.abs(np.diff(numbers))
    changes = changes[changes > 0]
    return float(np.quantile(changes, MOST)) if len(changes) else 0.0


def _rounded(numbers: np.ndarray, change: float) -> float:
    """A number near the middle of all, of few digits, so that it is the same in other recordings."""
    room = change / FINER * 2.0**23  # as far from it, float32 is still so fine
    unit = 10.0 ** math.floor(math.log10(room))
    offset = round(float(np.median(numbers)) / unit) * unit
    return offset if abs(offset) <= LARGEST else 0.0


def _step(numbers: np.ndarray) -> float:
    """Of float32, at the largest of most numbers: a code for none may be far away."""
    return float(np.spacing(np.float32(min(np.quantile(np.abs(numbers), MOST), 1e38))))
