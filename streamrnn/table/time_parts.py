"""Times whose parts stand in columns of their own: a date and a time of day; year, month and day, and smaller
parts; a year and which of its days.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.table.calendar import find_calendar
from streamrnn.table.cells import blanked, is_text
from streamrnn.table.columns import is_unnamed
from streamrnn.table.time_names import (
    DAY,
    DAY_OF_YEAR,
    HOUR,
    MONTH,
    NAME_OF_PART,
    SECOND,
    YEAR,
    is_clock_name,
    part_of_date,
)
from streamrnn.table.times import TimeForm, orders_of

_YEARS = (1678, 2261)  # that ns since 1970 count
_MOST = (_YEARS[1], 12, 366, 24, 59, 61, 366)  # that the parts of a date can be
ORDINAL = 2  # columns: a year and which of its days
_WITH_COLONS = {  # of so many digits
    2: (r"^(\d+)$", r"\1:00"),
    4: (r"^(\d{2})(\d{2})$", r"\1:\2"),
    6: (r"^(\d{2})(\d{2})(\d{2})$", r"\1:\2:\3"),
}


class TimeColumn(NamedTuple):
    """Where times stand, and how."""

    places: tuple[int, ...]  # one column, or date and time, or the parts of both
    form: TimeForm
    days: int = 1  # of these columns, those of the date: 1, 2 (a year and which of its days) or 3
    digits: int = 0  # that a time of day in a column of its own has at least: 0730; of hours alone, 2
    undated: bool = False  # times of a day, whose date nobody says

    @property
    def said(self) -> str:
        """In a few words."""
        return "day of the year" if self.days == ORDINAL else self.form.said


def joined(places: tuple[int, ...], names: Sequence[str], cells: Sequence[pa.Array]) -> TimeColumn:
    """Columns of a date and a time of day, or of the parts of both from the year on, as one."""
    days = 1
    if _is_ordinal(places, names, cells):
        days = ORDINAL
    elif len(places) > 2 and _matches(_texts(cells[places[0]]), r"^\d{1,4}$"):
        days = 3
    digits = _digits(names[places[-1]], cells[places[-1]]) if len(places) == days + 1 else 0
    time = TimeColumn(places, TimeForm("text", "ymd"), days, digits)
    if days == ORDINAL:
        return time
    orders = orders_of(join_times([cells[place] for place in places], time))
    return time._replace(form=TimeForm("text", orders[0] if len(orders) == 1 else ""))


def join_times(columns: Sequence[pa.Array], time: TimeColumn) -> pa.Array:
    """The cells of the columns of times as one: that of a single one, else text."""
    if len(columns) == 1:
        return columns[0]
    texts = [_texts(column) for column in columns]
    clock = texts[time.days :]
    if time.days == ORDINAL:
        day = _day_of_year(*texts[:2])
    elif time.days == 1:
        day = pc.replace_substring_regex(texts[0], r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    else:
        day = pc.binary_join_element_wise(texts[0], *(pc.utf8_lpad(part, 2, "0") for part in texts[1:3]), "-")
    if not clock:
        return day
    if len(clock) > 1:
        padded = [pc.replace_substring_regex(part, r"^(\d)(\.|$)", r"0\1\2") for part in clock]
        clock = [pc.binary_join_element_wise(*padded, ":")]
    elif time.digits:
        padded = [pc.utf8_lpad(clock[0], time.digits, "0")]
        pattern, with_colons = _WITH_COLONS[time.digits]
        clock = [pc.replace_substring_regex(padded[0], pattern, with_colons)]
    return pc.binary_join_element_wise(day, clock[0], " ")


def _digits(name: str, cells: pa.Array) -> int:
    """``TimeColumn.digits`` of a column of times of day."""
    texts = _texts(cells)
    if not _are_digits(texts):
        return 0
    largest = pc.max(pc.cast(texts, pa.int64())).as_py()
    if part_of_date(name) == HOUR or (largest <= 24 and not is_clock_name(name)):
        return 2
    return 4 if pc.max(pc.utf8_length(texts)).as_py() <= 4 else 6


def find_date(names: Sequence[str], cells: Sequence[pa.Array], free: Sequence[int]) -> tuple[int, ...]:
    """The columns that hold year, month and day, or year and day of the year, as numbers; () for none."""
    found = _parts(names, cells, free)
    if {YEAR, MONTH, DAY} <= {*found}:
        return found[YEAR], found[MONTH], found[DAY]
    day = found.get(DAY_OF_YEAR, found.get(DAY))
    if YEAR in found and MONTH not in found and day is not None:
        return (found[YEAR], day) if _is_ordinal((found[YEAR], day), names, cells) else ()
    return ()


def find_clock(
    names: Sequence[str], cells: Sequence[pa.Array], free: Sequence[int], clocks: Sequence[int]
) -> tuple[int, ...]:
    """The columns that hold the time of day beside a date: the first of ``clocks``, whose cells say so;
    numbers such as 730; or hours and what there is of smaller parts.
    """
    whole = [place for place in free if is_digits_of_day(names[place], cells[place])]
    if clocks or whole:
        return ([*clocks, *whole][0],)
    found = _parts(names, cells, free)
    return tuple(found[part] for part in range(HOUR, SECOND + 1) if {*range(HOUR, part + 1)} <= {*found})


def _parts(names: Sequence[str], cells: Sequence[pa.Array], free: Sequence[int]) -> dict[int, int]:
    """The first column, of numbers, of each part of a date."""
    found: dict[int, int] = {}
    for place in free:
        part = part_of_date(names[place])
        if part is None or not (is_text(cells[place]) or _is_number(cells[place].type)):
            continue
        texts = _texts(cells[place])
        if _matches(texts, r"^\d{1,2}(\.\d+)?$" if part == SECOND else r"^\d{1,4}$"):
            numbers = pc.cast(texts, pa.float64())
            if pc.max(numbers).as_py() <= _MOST[part]:  # "hr" may be the rate of a heart
                found.setdefault(part, place)
    return found


def unnamed(names: Sequence[str], cells: Sequence[pa.Array]) -> TimeColumn | None:
    """The parts of times in columns that have no names, known by their values."""
    if not is_unnamed(names) or not (found := find_calendar(cells)):
        return None
    names, parts = [*names], [part for part in (YEAR, MONTH, DAY) if part in found]
    if len(parts) < 3:
        parts = [YEAR, DAY_OF_YEAR]
    parts += [part for part in range(HOUR, SECOND + 1) if part in found]
    for part in parts:
        names[found[part]] = NAME_OF_PART[part]
    return joined(tuple(found[part] for part in parts), names, cells)


def is_digits_of_day(name: str, cells: pa.Array) -> bool:
    """Whether a column holds times of day as numbers: 730 for half past seven, or 73000."""
    if not (is_clock_name(name) and (is_text(cells) or pa.types.is_integer(cells.type))):
        return False
    texts = _texts(cells)
    if not _are_digits(texts):
        return False
    numbers = pc.cast(texts, pa.int64()).drop_null().to_numpy(zero_copy_only=False)
    if numbers.max() >= 240000:
        return False
    minutes = numbers % 100 if numbers.max() < 2400 else numbers // 100 % 100
    return bool((minutes < 60).all())


def _is_ordinal(places: Sequence[int], names: Sequence[str], cells: Sequence[pa.Array]) -> bool:
    """Whether columns begin with a year and its day: days past 31, or a name, tell these from months."""
    if not 2 <= len(places) <= 5:
        return False
    year, day = (_texts(cells[place]) for place in places[:2])
    if not (_matches(year, r"^\d{4}$") and _matches(day, r"^\d{1,3}$")):
        return False
    years, days = (pc.cast(of, pa.int64()).drop_null().to_numpy(zero_copy_only=False) for of in (year, day))
    if years.min() < _YEARS[0] or years.max() > _YEARS[1] or days.min() < 1 or days.max() > 366:
        return False
    named = part_of_date(names[places[1]])
    by_day = named == DAY and len(places) > 2 and part_of_date(names[places[2]]) != MONTH
    return bool(days.max() > 31) or named == DAY_OF_YEAR or by_day


def _day_of_year(years: pa.Array, days: pa.Array) -> pa.Array:
    """Dates, year first; text that is no date where cells are none."""
    good = pc.and_(
        pc.match_substring_regex(years, r"^\d{4}$"), pc.match_substring_regex(days, r"^0*[1-9]\d{0,2}$")
    )
    known = good.fill_null(False).to_numpy(zero_copy_only=False)
    texts = np.array(pc.binary_join_element_wise(years, days, "-").to_pylist(), object)
    year, day = (
        pc.cast(pc.if_else(good, of, "1"), pa.int64()).fill_null(1).to_numpy(zero_copy_only=False)
        for of in (years, days)
    )
    first = (year - 1970).astype("datetime64[Y]")
    dates = first.astype("datetime64[D]") + (day - 1)
    known &= dates.astype("datetime64[Y]") == first  # day 366 is not of every year
    texts[known] = dates[known].astype(str)
    return pa.array(texts, pa.string())


def _are_digits(texts: pa.Array) -> bool:
    return _matches(texts, r"^\d{1,6}$")


def _matches(texts: pa.Array, pattern: str) -> bool:
    known = texts.drop_null()
    return len(known) > 0 and bool(pc.all(pc.match_substring_regex(known, pattern)).as_py())


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _texts(column: pa.Array) -> pa.Array:
    cells = blanked(column)
    texts = cells if is_text(cells) else pc.cast(cells, pa.string())
    return pc.replace_substring_regex(texts, r"\.0*$", "") if not _has_colons(texts) else texts


def _has_colons(texts: pa.Array) -> bool:
    known = texts.drop_null()
    return len(known) > 0 and ":" in known[0].as_py()
