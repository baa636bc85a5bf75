"""Times in cells: calendar texts of many forms, numbers in a unit, numbers that spell a date, spreadsheet
days.

Text without a zone is UTC. Everything becomes ns since 1970, exact where the cells are.
"""

import datetime
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.recordings.time_names import NS
from streamrnn.table.cell_values import NUMBER, Numbers, blanked, cast_cells, is_text, to_float64
from streamrnn.table.time_numbers import (
    SERIAL,
    number_ns,
    plain_ns,
    serial_ns,
)
from streamrnn.table.time_text import ORDERS, parse_times

# a number of at most this magnitude counts this unit since 1970 (until the years 5138, 5138 and 5138)
EPOCH_UNITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
EVEN = 0.95  # the share of steps that are the usual one, where these tell the day from the month
LEAST, FINE = 5, 6  # numbers, and digits behind the point, that tell days from seconds
_WORDS = {"year-first": "ymd", "day-first": "dmy", "month-first": "mdy"}
FORMATS = (*_WORDS, *NS, SERIAL)  # that --time-format has a word for
_DIGITS = {8: "YYYYMMDD", 10: "YYYYMMDDHH", 12: "YYYYMMDDHHMM", 14: "YYYYMMDDHHMMSS"}
_SAID = {"ymd": "year first", "dmy": "day first", "mdy": "month first"}


class TimeForm(NamedTuple):
    """How the cells of a time column are read."""

    kind: str  # "text", "number", "digits" (that spell a date), "serial" or "strptime"
    detail: str = (
        "ymd"  # of text its order, "" = not known yet; of a number its unit; of strptime the pattern
    )

    @property
    def said(self) -> str:
        """In a few words."""
        match self.kind:
            case "text":
                return _SAID.get(self.detail, "")
            case "number":
                return f"numbers in {self.detail}"
            case "digits":
                return "digits of a date"
            case "serial":
                return "days of a spreadsheet"
        return self.detail


ISO = TimeForm("text", "ymd")


def told_form(text: str) -> TimeForm:
    """The form that --time-format tells."""
    if text in _WORDS:
        return TimeForm("text", _WORDS[text])
    if text == SERIAL:
        return TimeForm("serial", str(10**6))
    return TimeForm("number", text) if text in NS else TimeForm("strptime", text)


def form_of(cells: pa.Array, unit: str | None, dated: bool) -> TimeForm | None:
    """What most of the cells look like; None if they are no times.

    ``unit``, a key of NS, is what the column's name says of numbers; ``dated`` whether it speaks of a date.
    """
    if not is_text(cells):
        if pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type) or pa.types.is_time(cells.type):
            return ISO
        if not is_number(cells.type):
            return None
    known = _pointed(blanked(cells).drop_null())
    if not len(known):
        return ISO if is_text(cells) else None
    numbers, bad = to_float64(known)
    if bad is None or bad.mean() < 0.5:
        return _form_of_numbers(known, numbers[np.isfinite(numbers)], unit, dated)
    return _form_of_texts(known)


def to_ns(column: pa.Array, form: TimeForm) -> Numbers:
    """ns since 1970, (n,) int64, 0 for a missing cell; and which cells are no times."""
    match form.kind:
        case "text":
            return _text_ns(column, form.detail)
        case "digits":
            return _text_ns(_as_digits(column), "ymd")
        case "strptime":
            done, bad = cast_cells(_as_text(column), lambda cells: _strptime(cells, form.detail))
        case "serial":
            done, bad = _cast_numbers(column, lambda cells: serial_ns(cells, int(form.detail)))
        case _:
            unit = NS[form.detail]
            try:
                done, bad = plain_ns(column, unit), None
            except pa.ArrowInvalid:
                done, bad = _cast_numbers(column, lambda cells: number_ns(cells, unit))
    return done.fill_null(0).to_numpy(zero_copy_only=False), bad


def _cast_numbers(
    column: pa.Array, cast: Callable[[pa.Array], pa.Array]
) -> tuple[pa.Array, np.ndarray | None]:
    return cast_cells(_pointed(blanked(column)), cast, like=NUMBER)


def is_undated(cells: pa.Array, form: TimeForm) -> bool:
    """Whether times are those of a day, without its date."""
    if form.kind == "strptime":
        return not _says_day(form.detail)
    return form.kind == "text" and is_text(cells) and not parse_times(_texts(cells), form.detail).dated.any()


def _says_day(pattern: str) -> bool:
    """Whether a pattern of strptime has a date in it."""
    return any(f"%{letter}" in pattern for letter in "djcxDuUWVG")


def orders_of(cells: pa.Array) -> list[str]:
    """The orders of day, month and year in which most cells are dates; more than one: they do not tell.

    Where several fit, they must differ in what they make of the steps from row to row: the order in which
    time runs on, in even steps, is the right one.
    """
    texts = _texts(cells)
    found = {ORDERS[0]: (first := parse_times(texts, ORDERS[0]))}
    undated = int(first.good.sum()) == len(texts) - texts.null_count and not first.dated.any()
    if not undated and not pc.all(pc.match_substring_regex(texts, r"^\s*\d{4}\D")).as_py():
        found |= {order: parse_times(texts, order) for order in ORDERS[1:]}
    most = max(int(parsed.good.sum()) for parsed in found.values())
    fitting = [order for order, parsed in found.items() if most and int(parsed.good.sum()) == most]
    if len(fitting) < 2:
        return fitting
    times = {order: found[order].ns[found[order].good] for order in fitting}
    if all((times[order] == times[fitting[0]]).all() for order in fitting):
        return fitting[:1]
    return _by_steps(times)


def _by_steps(times: dict[str, np.ndarray]) -> list[str]:
    """The one order in which time runs on evenly, with fewer jumps than in the others; else all."""
    jumps = {}
    for order, ns in times.items():
        steps = np.diff(ns)
        usual = float(np.median(steps)) if len(steps) else 0.0
        even = float((np.abs(steps - usual) <= 0.01 * usual).mean()) if usual > 0 else 0.0
        if len(steps) > LEAST and (steps >= 0).all():
            jumps[order] = (int((steps > 5 * usual).sum()), even)
    best = sorted(jumps, key=lambda order: jumps[order][0])
    if best and jumps[best[0]][1] >= EVEN and all(jumps[best[0]][0] < jumps[o][0] for o in best[1:]):
        return best[:1]
    return [*times]


def is_number(kind: pa.DataType) -> bool:
    """Whether a column is of numbers, decimal ones too."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _form_of_numbers(known: pa.Array, numbers: np.ndarray, unit: str | None, dated: bool) -> TimeForm | None:
    if not len(numbers):
        return None
    if unit is not None:
        return TimeForm("number", unit)
    whole = bool((numbers == np.floor(numbers)).all())
    if whole and _spells_dates(known, numbers, dated):
        return TimeForm("digits", "")
    if _is_serial(known, numbers, dated):
        return TimeForm("serial", str(_serial_tick(known)))
    size = float(np.abs(numbers).max())
    return TimeForm("number", next((unit for limit, unit in EPOCH_UNITS if size < limit), "ns"))


def _spells_dates(known: pa.Array, numbers: np.ndarray, dated: bool) -> bool:
    """Whether whole numbers read as YYYYMMDD, with hours and so on behind, and are no count of seconds."""
    digits = len(str(int(numbers[0])))
    if digits not in _DIGITS or (digits == 8 and not dated) or (digits == 10 and numbers.max() < 1.9e9):
        return False
    parsed = parse_times(_as_digits(known), "ymd")
    years = parsed.ns[parsed.good] / (365.2425 * 86400e9) + 1970
    return bool(parsed.good.mean() > 0.9) and 1900 < years.min() <= years.max() < 2100


def _is_serial(known: pa.Array, numbers: np.ndarray, dated: bool) -> bool:
    """Whether numbers are a spreadsheet's days, of the years 1954 to 2119.

    A name that speaks of dates says so; else their digits do, if they come to whole seconds.
    """
    if numbers.min() < 20000 or numbers.max() > 80000:
        return False
    decimals = _decimals(known)
    if dated or len(numbers) < LEAST or decimals < FINE:
        return dated
    seconds = numbers * 86400
    return bool((np.abs(seconds - np.round(seconds)) <= max(0.6 * 86400 * 10.0**-decimals, 1e-4)).all())


def _decimals(known: pa.Array) -> int:
    """The most digits behind the point."""
    if not is_text(known):
        return 11
    lengths = pc.utf8_length(pc.replace_substring_regex(known, r"^[^.]*\.?", ""))
    return int(pc.max(lengths).as_py() or 0)


def _form_of_texts(known: pa.Array) -> TimeForm | None:
    if not is_text(known):
        return None
    some = known[:2000]
    orders = orders_of(some)
    if not orders:
        return None
    good = parse_times(some, orders[0]).good
    if good.mean() <= 0.5:
        return None
    return TimeForm("text", orders[0] if len(orders) == 1 else "")


def _pointed(column: pa.Array) -> pa.Array:
    """Numbers with decimal commas in the usual way; a time has none between thousands."""
    if not is_text(column) or not pc.any(pc.match_substring(column, ",")).as_py():
        return column
    number = pc.match_substring_regex(column, r"^\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*$")
    return pc.if_else(number, pc.replace_substring(column, ",", "."), column)


def _texts(column: pa.Array) -> pa.Array:
    return blanked(_as_text(column))


def _as_text(column: pa.Array) -> pa.Array:
    return column if is_text(column) else pc.cast(column, pa.string())


def _as_digits(column: pa.Array) -> pa.Array:
    """Whole numbers as they are spelled."""
    if not is_text(column):
        return pc.cast(pc.cast(column, pa.int64(), safe=False), pa.string())
    return pc.replace_substring_regex(blanked(column), r"\.0*$", "")


def _text_ns(column: pa.Array, order: str) -> Numbers:
    if pa.types.is_time(column.type):
        column = pc.cast(column, pa.string())
    if not is_text(column):
        done, bad = cast_cells(column, _typed_ns)
        return done.fill_null(0).to_numpy(zero_copy_only=False), bad
    if order == "ymd":
        for kind in (
            pa.timestamp("ns"),
            pa.timestamp("ns", "UTC"),
        ):  # one wants a zone in every cell, one in none
            try:
                times = pc.cast(pc.cast(column, kind), pa.int64())
                return times.fill_null(0).to_numpy(zero_copy_only=False), None
            except pa.ArrowInvalid:
                continue
    texts = _texts(column)
    parsed = parse_times(texts, order)
    bad = texts.is_valid().to_numpy(zero_copy_only=False) & ~parsed.good
    return np.where(parsed.good, parsed.ns, 0), bad if bad.any() else None


def _typed_ns(cells: pa.Array) -> pa.Array:
    zone = getattr(cells.type, "tz", None)
    return pc.cast(pc.cast(cells, pa.timestamp("ns", zone)), pa.int64())


def _serial_tick(known: pa.Array) -> int:
    """What spreadsheet days are good to, by their digits: a power of ten of ns, a millisecond at least."""
    resolution = 86400e9 * 10.0 ** -_decimals(known)
    return 10 ** max(int(np.ceil(np.log10(max(resolution, 1.0)))), 6)


def _strptime(cells: pa.Array, pattern: str) -> pa.Array:
    coded = cells.dictionary_encode()
    times = []
    for text in coded.dictionary.to_pylist():
        try:
            at = datetime.datetime.strptime(text.strip(), pattern)
        except ValueError as error:
            raise pa.ArrowInvalid(str(error)) from None
        at = at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
        since = at - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        times.append((since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000)
        if not -(1 << 63) <= times[-1] < 1 << 63:
            raise pa.ArrowInvalid("beyond the years that ns count")
    return pa.array(times, pa.int64()).take(coded.indices)
