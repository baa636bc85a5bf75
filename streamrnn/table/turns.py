"""Columns whose few texts or numbers take turns from row to row, as names of machines or of sensors do."""

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.table.cell_values import blanked, is_text
from streamrnn.table.roles import is_label, is_states

MOST = 1000  # different names
CHANGES = 0.5  # the share of rows with another text than the row before
AT_ONCE = 0.2  # the share of rows with the time of the row before
ROUND = 0.95  # the share of rows with the number of as many rows before as there are numbers
ALIKE = 1.5  # times as often as the rarest may the most frequent of some numbers come
AS_A_RULE = 0.8  # the share of rows at one time that differ: a row may come twice
SHOWN = 4
_MACHINES = ("machine", "station", "device", "sensor", "host", "pump", "unit", "asset", "node", "site", "tag")


def find_turns(
    names: Sequence[str],
    head: Sequence[pa.Array],
    free: Collection[int],
    numeric: Collection[int],
    ns: np.ndarray | None,
) -> tuple[int, bool] | None:
    """The place of the first such column among ``free``, those of text before those of numbers; None for
    none.

    ``numeric`` are columns of numbers; ``ns`` are the times of the rows, 0 for none. Beside the place
    stands whether it can be no measurement: its name says so, or rows of one time differ in it.
    """
    labels = [place for place in free if place not in numeric and is_label(head[place])]
    for place in (*labels, *(place for place in free if place not in labels)):
        cells = blanked(head[place]) if is_text(head[place]) else head[place]
        if not (is_text(cells) or pa.types.is_integer(cells.type)) or not names[place].strip():
            continue
        texts = cells.cast(pa.string())
        distinct = texts.drop_null().unique()
        if not 2 <= len(distinct) <= min(MOST, len(texts) // 3) or is_states(head[place]):
            continue
        is_whole = pc.all(pc.match_substring_regex(distinct, r"^\d{1,18}$")).as_py()
        if place not in labels and (not is_whole or {*distinct.to_pylist()} <= {"0", "1"}):
            continue
        codes = pc.index_in(texts, distinct).fill_null(-1).to_numpy(zero_copy_only=False)
        named = names[place].strip().casefold() in _MACHINES
        by_time = _by_time(codes, place in labels, ns)
        if by_time or _take_turns(codes, len(distinct), place in labels):
            return place, named or by_time
        if named and (codes[1:] != codes[:-1]).any():
            return place, True
    return None


def turns_text(name: str, cells: pa.Array, measurements: int) -> str:
    """What to say of such a column, beside which are so many columns of measurements."""
    texts = (blanked(cells) if is_text(cells) else cells).cast(pa.string()).drop_null()
    kind = "texts" if is_label(cells) else "numbers"
    shown = ", ".join(texts[:SHOWN].to_pylist())
    readings = (
        f'; if they name sensors, --channel-column "{name}" and --value-column' if measurements == 1 else ""
    )
    return (
        f'"{name}" holds {len(texts.unique())} {kind} that take turns ({shown}, ... in the first rows); if '
        f'they name machines, give --stream-column "{name}"{readings}'
    )


def _by_time(codes: np.ndarray, texts: bool, ns: np.ndarray | None) -> bool:
    """Whether rows of one time differ, or time begins anew where names change: one machine after another."""
    if ns is None or len(ns) != len(codes):
        return False
    changes = codes[1:] != codes[:-1]
    known = (ns[1:] != 0) & (ns[:-1] != 0)
    at_once, back = known & (ns[1:] == ns[:-1]), known & (ns[1:] < ns[:-1])
    _, counts = np.unique(codes, return_counts=True)
    if not texts and counts.max() > ALIKE * counts.min():
        return False  # a measurement in whole numbers has some more often than others
    often = at_once.mean() >= AT_ONCE or (texts and at_once.sum() > 1)
    if often and changes[at_once].mean() >= AS_A_RULE:
        return True
    return bool(back.any() and changes[back].all() and changes.sum() <= back.sum() + 1)


def _take_turns(codes: np.ndarray, distinct: int, texts: bool) -> bool:
    """Of texts: whether they change in most rows; of numbers: whether they come round in one order."""
    changes = float((codes[1:] != codes[:-1]).mean())
    if texts:
        return changes >= CHANGES
    return (
        len(codes) > 2 * distinct
        and changes > CHANGES
        and float((codes[distinct:] == codes[:-distinct]).mean()) > ROUND
    )
