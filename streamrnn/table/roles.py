"""What the columns of a file are: measurements, or counters, clocks, labels, states in words."""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from streamrnn.table.cell_values import PLAIN, Marks, blanked, is_text, to_float32, to_float64
from streamrnn.table.words import is_word

LEAST = 30  # rows before anything is said of how a column runs
EVEN = 0.9  # the share of steps that are alike in a counter that misses some
LEAST_RISING = 100  # rows in which a measurement would fall now and then
RISING = 0.5  # the share of steps that go up in a counter of events, which never falls
ONLY_RISES = "only rises, as a counter or a clock does"
FEW = 1000  # different words of states
RECORD = "record"
_INDICES = (
    "__index_level_0__",
    "unnamed: 0",
    "index",
    "record",
    "recnum",
    "entry_id",
    "row",
    "line",
    "no",
    "no.",
    "nr",
)


def is_label(head: pa.Array) -> bool:
    """Whether most of the different cells are text, and no numbers."""
    if not is_text(head):
        return False
    values, bad = to_float32(head.unique())
    return bad is not None and int(bad.sum()) >= int(np.isfinite(values).sum())


def is_empty(head: pa.Array) -> bool:
    """Whether no cell says anything, and text could follow."""
    return is_text(head) and blanked(head).null_count == len(head)


def is_states(head: pa.Array) -> bool:
    """Whether cells are true and false, or words of one pair that stand for them."""
    if pa.types.is_boolean(head.type):
        return True
    said = blanked(head).drop_null().unique() if is_text(head) else pa.array([], pa.string())
    return 0 < len(said) <= FEW and all(map(is_word, said.to_pylist()))


def is_numeric(head: pa.Array, marks: Marks = PLAIN, comma: bool = False, grouped: bool = False) -> bool:
    """Whether most cells are numbers, a bad one here and there allowed."""
    kind = head.type
    if not is_text(head):
        return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    values, bad = to_float32(head, marks, comma, grouped)
    return int(np.isfinite(values).sum()) > (0 if bad is None else int(bad.sum()))


def no_measurements(
    names: Sequence[str], head: Sequence[pa.Array], numeric: Collection[int], clocks: Collection[int]
) -> dict[int, str]:
    """Why columns of numbers are no measurements: what only counts, or runs on like one of the ``clocks``."""
    found = {}
    annotated = {"result", "table"} <= {*names} and bool({"_time", "_start", "_value"} & {*names})
    for place in numeric:
        if annotated and names[place] == "table":
            found[place] = "a count of Influx's"
            continue
        numbers, bad = to_float64(head[place])
        numbers = numbers[np.isfinite(numbers)]
        if bad is not None or len(numbers) < LEAST:
            continue
        if place in clocks:
            found[place] = "another clock"
        elif why := _why_none(names[place], numbers):
            found[place] = why
    return found


def _why_none(name: str, numbers: np.ndarray) -> str:
    steps, long = np.diff(numbers), len(numbers) >= LEAST_RISING
    if (numbers == np.floor(numbers)).all() and (steps == 1).mean() >= EVEN:
        return "counts the rows"  # anew now and then
    if (steps <= 0).any():
        turns = name.strip().casefold() in _INDICES and (steps > 0).mean() > EVEN
        never_falls = bool((steps >= 0).all()) and (steps > 0).mean() >= RISING
        return "counts the rows" if turns else ONLY_RISES if never_falls and long else ""
    whole = bool((numbers == np.floor(numbers)).all())
    usual = float(np.median(steps))
    if whole and (steps == usual).mean() >= EVEN:
        return "counts the rows"
    from_zero = abs(numbers[0]) <= usual and np.ptp(steps) <= 1e-6 * max(usual, abs(numbers[-1]))
    if from_zero and not whole:
        return "rises evenly from 0, as a clock does"
    return ONLY_RISES if long else ""


def counts(cells: pa.Array) -> bool:
    """Whether cells are whole numbers from 0 on that rise, but for where they begin again."""
    numbers, bad = to_float64(cells)
    if bad is not None or not len(numbers) or not np.isfinite(numbers).all():
        return False
    rising = (np.diff(numbers) > 0).mean() if len(numbers) > 1 else 1.0
    return bool((numbers == np.floor(numbers)).all() and numbers.min() >= 0 and rising >= EVEN)
