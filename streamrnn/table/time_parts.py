"""Times whose parts stand in columns of their own: a date and a time of day; year, month and day, and smaller
parts; a year and which of its days.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.recordings.time_names import (
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
from streamrnn.table.calendar import find_calendar
from streamrnn.table.cell_values import blanked, is_text
from streamrnn.table.columns import is_unnamed
from streamrnn.table.time_text import parse_times
from streamrnn.table.times import TimeForm, is_number, orders_of

_YEARS = (1678, 2261)  # that ns since 1970 count
_MOST = (_YEARS[1], 12, 366, 24, 59, 61, 366)  # that the parts of a date can be
EVEN = 0.8  # the share of steps that are the usual one, or forward, in a clock
NEARLY = 0.95  # the share of cells that are what their column holds
_CLOCK, _YEAR_OR_LESS, _SECONDS = r"^\d{1,6}$", r"^\d{1,4}$", r"^\d{1,2}(\.\d+)?$"
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
    elif len(places) > 2 and _numbers(_spelled(cells[places[0]]), _YEAR_OR_LESS) is not None:
        days = 3
    digits = _digits(places, names, cells) if len(places) == days + 1 else 0
    time = TimeColumn(places, TimeForm("text", "ymd"), days, digits)
    if days == ORDINAL:
        return time
    orders = orders_of(join_times([cells[place] for place in places], time))
    return time._replace(form=TimeForm("text", orders[0] if len(orders) == 1 else ""))


def join_times(columns: Sequence[pa.Array], time: TimeColumn) -> pa.Array:
    """The cells of the columns of times as one: that of a single one, else text."""
    if len(columns) == 1:
        return columns[0]
    texts, as_told = [_spelled(column) for column in columns], time.form.kind == "strptime"
    clock = texts[time.days :]
    if time.days == ORDINAL and not as_told:
        day = _day_of_year(*texts[:2])
    elif time.days == 1:
        compact, dashed = r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3"
        day = texts[0] if as_told else pc.replace_substring_regex(texts[0], compact, dashed)
    else:
        smaller = [pc.utf8_lpad(part, 2, "0") for part in texts[1 : time.days]]
        day = pc.binary_join_element_wise(texts[0], *smaller, "-")
    if not clock:
        return day
    if len(clock) > 1:
        padded = [pc.replace_substring_regex(part, r"^(\d)(\.|$)", r"0\1\2") for part in clock]
        clock = [pc.binary_join_element_wise(*padded, ":")]
    elif time.digits:
        clock = [pc.utf8_lpad(clock[0], time.digits, "0")]
        if not as_told:
            clock = [pc.replace_substring_regex(clock[0], *_WITH_COLONS[time.digits])]
    return pc.binary_join_element_wise(day, clock[0], " ")


def _digits(places: Sequence[int], names: Sequence[str], cells: Sequence[pa.Array]) -> int:
    """``TimeColumn.digits`` of columns of which the last has the times of day."""
    texts, name = _spelled(cells[places[-1]]), names[places[-1]]
    if (numbers := _numbers(texts, _CLOCK)) is None:
        return 0
    if numbers.max() <= 24:  # hours, or the first minutes of a day
        days = pc.binary_join_element_wise(*(_spelled(cells[place]) for place in places[:-1]), "-")
        if part_of_date(name) == HOUR or not is_clock_name(name) or pc.count_distinct(days).as_py() > 1:
            return 2
    return 4 if numbers.max() < 10_000 and pc.max(pc.utf8_length(texts)).as_py() <= 4 else 6


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
    names: Sequence[str],
    cells: Sequence[pa.Array],
    free: Sequence[int],
    clocks: Sequence[int],
    date: tuple[int, ...],
) -> tuple[int, ...]:
    """The columns that hold the time of day beside a date: the first of ``clocks``, whose cells say so; hours
    and what there is of smaller parts; or numbers such as 730.
    """
    if clocks:
        return (clocks[0],)
    found = _parts(names, cells, free)
    parts = tuple(found[part] for part in range(HOUR, SECOND + 1) if {*range(HOUR, part + 1)} <= {*found})
    if parts:
        hours = joined((*date, parts[0]), names, cells)
        return parts[:1] if _runs_evenly(hours, cells) else parts  # "min" may be the least of an hour
    return tuple(place for place in free if is_digits_of_day(names[place], cells[place]))[:1]


def _runs_evenly(time: TimeColumn, cells: Sequence[pa.Array]) -> bool:
    """Whether the times of columns go forward in even steps."""
    parsed = parse_times(join_times([cells[place] for place in time.places], time), time.form.detail or "dmy")
    steps = np.diff(parsed.ns[parsed.good])
    usual = np.median(steps) if len(steps) else 0
    return bool(usual > 0 and (steps == usual).mean() >= EVEN)


def _parts(names: Sequence[str], cells: Sequence[pa.Array], free: Sequence[int]) -> dict[int, int]:
    """The first column, of numbers, of each part of a date."""
    found: dict[int, int] = {}
    for place in free:
        part = part_of_date(names[place])
        if part is None or not (is_text(cells[place]) or is_number(cells[place].type)):
            continue
        numbers = _numbers(_spelled(cells[place]), _SECONDS if part == SECOND else _YEAR_OR_LESS)
        if numbers is not None and numbers.max() <= _MOST[part]:  # "hr" may be the rate of a heart
            found.setdefault(part, place)
    return found


def in_order(places: Sequence[int], names: Sequence[str]) -> tuple[int, ...]:
    """Columns that are all named for parts of a date, from the year on; others as they come."""
    parts = {part_of_date(names[place]): place for place in places}
    if None in parts or len(parts) < len(places) or not {YEAR, MONTH, DAY} <= parts.keys():
        return tuple(places)
    return tuple(place for _, place in sorted((part or 0, place) for part, place in parts.items()))


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
    named = is_clock_name(name) or part_of_date(name) == HOUR
    if not (named and (is_text(cells) or pa.types.is_integer(cells.type))):
        return False
    numbers = _numbers(_spelled(cells), _CLOCK)
    if numbers is None or numbers.max() >= 240000:
        return False
    minutes = numbers % 100 if numbers.max() < 2400 else numbers // 100 % 100
    steps = np.diff(numbers)
    steps = steps[steps != 0]  # several rows a minute
    return bool((minutes < 60).all()) and len(steps) > 0 and float((steps > 0).mean()) >= EVEN


def _is_ordinal(places: Sequence[int], names: Sequence[str], cells: Sequence[pa.Array]) -> bool:
    """Whether columns begin with a year and its day: days past 31, or a name, tell these from months."""
    if not 2 <= len(places) <= 5:
        return False
    years, days = (
        _numbers(_spelled(cells[places[0]]), r"^\d{4}$"),
        _numbers(_spelled(cells[places[1]]), r"^\d{1,3}$"),
    )
    if years is None or days is None:
        return False
    if years.min() < _YEARS[0] or years.max() > _YEARS[1] or days.min() < 1 or days.max() > 366:
        return False
    named, after = part_of_date(names[places[1]]), [part_of_date(names[place]) for place in places[2:3]]
    return bool(days.max() > 31) or named == DAY_OF_YEAR or (named == DAY and after != [MONTH])


def _day_of_year(years: pa.Array, days: pa.Array) -> pa.Array:
    """Dates, year first; text that is no date where cells are none."""
    good = pc.and_(
        pc.match_substring_regex(years, r"^\d{4}$"), pc.match_substring_regex(days, r"^0*[1-9]\d{0,2}$")
    )
    known = good.fill_null(False).to_numpy(zero_copy_only=False)
    texts = np.array(pc.binary_join_element_wise(years, days, " day ").to_pylist(), object)
    year, day = (
        pc.cast(pc.if_else(good, of, "1"), pa.int64()).fill_null(1).to_numpy(zero_copy_only=False)
        for of in (years, days)
    )
    first = (year - 1970).astype("datetime64[Y]")
    dates = first.astype("datetime64[D]") + (day - 1)
    known &= dates.astype("datetime64[Y]") == first  # day 366 is not of every year
    texts[known] = dates[known].astype(str)
    return pa.array(texts, pa.string())


def _numbers(texts: pa.Array, pattern: str) -> np.ndarray | None:
    """The numbers of the cells of this pattern, float64, if nearly all are: one may be bad."""
    known = texts.drop_null()
    fits = pc.match_substring_regex(known, pattern)
    if not len(known) or pc.mean(fits).as_py() < NEARLY:
        return None
    return pc.cast(known.filter(fits), pa.float64()).to_numpy(zero_copy_only=False)


def _spelled(column: pa.Array) -> pa.Array:
    """Parts of a time as text, whole numbers without the zeros behind their point."""
    cells = blanked(column)
    texts = cells if is_text(cells) else pc.cast(cells, pa.string())
    return pc.replace_substring_regex(texts, r"\.0*$", "") if not _has_colons(texts) else texts


def _has_colons(texts: pa.Array) -> bool:
    known = texts.drop_null()
    return len(known) > 0 and ":" in known[0].as_py()
