"""Columns of numbers that say nothing but when a row was, known by their values alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from streamrnn.recordings.time_names import DAY, DAY_OF_YEAR, HOUR, MINUTE, MONTH, SECOND, YEAR, part_of_date
from streamrnn.table.cell_values import is_text, to_float64

LEAST = 30  # rows before a column of the calendar is told from a measurement
SEVERAL = 4  # hours or weekdays that are not by chance
FEW = 5  # rows before columns without names are taken for a calendar
EVEN = 0.8  # the share of steps that are the usual one, in such a calendar
FIRST = 3  # the first columns that it may begin with
_RANGES = {
    YEAR: (1950, 2100), MONTH: (1, 12), DAY: (1, 31), HOUR: (0, 24), MINUTE: (0, 59), SECOND: (0, 61),
    DAY_OF_YEAR: (1, 366),
}  # fmt: skip
# what stands side by side in files without names, the longest first
_ORDERS = (
    (YEAR, DAY_OF_YEAR, MONTH, DAY, HOUR, MINUTE),
    (YEAR, MONTH, DAY, HOUR, MINUTE, SECOND),
    (DAY, MONTH, YEAR, HOUR, MINUTE, SECOND),
    (MONTH, DAY, YEAR, HOUR, MINUTE, SECOND),
    (YEAR, MONTH, DAY, HOUR, MINUTE),
    (DAY, MONTH, YEAR, HOUR, MINUTE),
    (MONTH, DAY, YEAR, HOUR, MINUTE),
)


def find_calendar(cells: Sequence[pa.Array]) -> dict[int, int]:
    """Which of the first columns, side by side, hold the parts of rising and even times: places by part.

    None, if there are none or they can be read in two ways.
    """
    numbers = [_whole(column) for column in cells[: FIRST + len(_ORDERS[0])]]
    for first in range(FIRST):
        found: list[dict[int, int]] = []
        for order in _ORDERS:
            if found and len(order) < len(found[0]):
                break
            places = {part: first + k for k, part in enumerate(order)}
            if first + len(order) <= len(numbers) and _runs({p: numbers[at] for p, at in places.items()}):
                found.append(places)
        if found:
            return found[0] if len(found) == 1 else {}
    return {}


def calendar_columns(ns: np.ndarray, columns: Mapping[int, np.ndarray], names: Sequence[str]) -> set[int]:
    """Which columns, float64 by place, only repeat a part of the times of their rows, 0 for none.

    Hours may be of another zone, and a week may begin on any day. What stands still is a part of the time if
    its name says so.
    """
    known = ns != 0
    parts = _parts_of(ns[known])
    found = set[int]()
    for place, column in columns.items():
        if len(column) != len(ns) or known.sum() < LEAST:
            continue
        values = column[known]
        if not np.isfinite(values).all() or (values != np.floor(values)).any():
            continue
        named = part_of_date(names[place]) is not None
        if not named and (values == values[0]).all():
            continue
        if any(_repeats(values, part, turn, named) for part, turn in parts):
            found.add(place)
    return found


def _repeats(values: np.ndarray, part: np.ndarray, turn: int, named: bool) -> bool:
    """Whether values are a part of the time; few values that may be shifted are one only if ``named`` so."""
    if not turn:
        return bool((values == part).all())
    shift = (values - part) % turn
    several = named or len(np.unique(values)) >= SEVERAL
    return bool(several and (shift == shift[0]).all() and np.ptp(values) < turn)


def _whole(column: pa.Array) -> np.ndarray | None:
    """Whole numbers from 0 on, (n,) int64; None where cells are none, or are missing."""
    if len(column) < FEW or not (is_text(column) or pa.types.is_integer(column.type)):
        return None
    numbers, bad = to_float64(column)
    if bad is not None or not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any():
        return None
    return numbers.astype(np.int64) if numbers.min() >= 0 and numbers.max() < 10_000 else None


def _runs(numbers: Mapping[int, np.ndarray | None]) -> bool:
    """Whether numbers, by part, are those of times that rise evenly."""
    parts = dict[int, np.ndarray]()
    for part, of in numbers.items():
        low, high = _RANGES[part]
        if of is None or of.min() < low or of.max() > high:
            return False
        parts[part] = of
    months = (parts[YEAR] - 1970) * 12 + parts.get(MONTH, 1) - 1
    first = months.astype("datetime64[M]")
    later = np.asarray(parts.get(DAY, parts.get(DAY_OF_YEAR, 1)) - 1, "timedelta64[D]")
    days = first.astype("datetime64[D]") + later
    if DAY in parts and (days.astype("datetime64[M]") != first).any():
        return False  # the 30th of February
    if DAY_OF_YEAR in parts and (_day_of_year(days) != parts[DAY_OF_YEAR]).any():
        return False
    last = parts[SECOND if SECOND in parts else MINUTE]
    if (last == last[0]).all() and last[0] > 0:  # a number that stands still fits always
        return False
    seconds = (parts[HOUR] * 60 + parts[MINUTE]) * 60 + parts.get(SECOND, 0)
    steps = np.diff(days.astype("datetime64[s]").astype(np.int64) + seconds)
    usual = int(np.median(steps))
    even = usual > 0 and (steps > 0).all() and (steps % usual == 0).all()  # where rows are missing, several
    return bool(even and (steps == usual).mean() >= EVEN)


def _parts_of(ns: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Year, month, day, day of the year, hour, minute, second and weekday of times; what the hours and the
    weekdays turn at.
    """
    time = ns.astype("datetime64[ns]")
    days, months, years = (time.astype(f"datetime64[{unit}]") for unit in "DMY")
    seconds = (ns // 10**9) % 86400
    of_month = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    return [
        (years.astype(np.int64) + 1970, 0),
        (months.astype(np.int64) % 12 + 1, 0),
        (of_month, 0),
        (_day_of_year(days), 0),
        (seconds // 3600, 24),
        (seconds // 60 % 60, 0),
        (seconds % 60, 0),
        (days.astype(np.int64), 7),
    ]


def _day_of_year(days: np.ndarray) -> np.ndarray:
    return (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1
