"""How loggers write times: which forms there are, which times each can show, and what tells it."""

import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

SECOND, MINUTE, DAY = 10**9, 60 * 10**9, 86_400 * 10**9
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
PERIODS_NS = (800, 10_000, 125_000, 10**6, 2 * 10**6, 10**7, 4 * 10**7, 10**8, 5 * 10**8, SECOND, 2 * SECOND)
PERIODS_NS += (5 * SECOND, 10 * SECOND, MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 60 * MINUTE, DAY)
PLAIN_NAMES = (
    "time",
    "timestamp",
    "Timestamp",
    "DateTime",
    "Date/Time",
    "Zeitstempel",
    "taken",
    "TIME",
    "when",
)
NAMES_WITH_UNIT = {
    "s": ("time_s", "elapsed_s", "Time (s)", "time(sec)", "time [s]", "t_s", "Elapsed (sec)"),
    "ms": ("time_ms", "t_ms", "Time (ms)", "elapsed_ms", "time [ms]", "timestamp_ms"),
    "us": ("time_us", "ts_us", "Time (us)", "t [µs]"),
    "ns": ("ts_ns", "time_ns", "t_ns"),
}
SERIAL_EPOCH_S = -2_209_161_600  # 1899-12-30, day 0 of spreadsheets


class Form(NamedTuple):
    """A way to write times."""

    what: str
    columns: list[str]  # one name, or those of the date and the time of day
    write: Callable[[int], list[str]]  # ns since the epoch, or since the start -> a cell for each column
    step_ns: int  # every time is a multiple of it
    tells: str | None = None  # --time-format that is right of it
    relative: bool = False
    tolerance_ns: int = 0
    unit: str = ""  # of the cells, for a row of units; told by nothing else where ``unit_row``
    unit_row: bool = False
    bare: bool = True  # can be told without a name
    is_number: bool = False


def draw_form(rng: random.Random, period_ns: int, spaceless: bool) -> Form:
    """A form that can show times ``period_ns`` apart; in ``spaceless`` ones no cell has a space."""
    kinds = [_epoch, _epoch_by_name, _relative, _iso, _iso]
    if period_ns % SECOND == 0:
        kinds += [_iso, _years_first, _dotted, _american, _slashes, _compact, _two_columns, _with_month_name]
    if period_ns % MINUTE == 0:
        kinds += [_serial, _minutes]
    if period_ns % DAY == 0:
        kinds += [_days, _days]
    while True:
        form = rng.choice(kinds)(rng, period_ns)
        samples = [form.write(k * DAY + 46_800 * SECOND) for k in (19_000, 19_001)] + [form.columns]
        if not spaceless or not any(" " in cell for cells in samples for cell in cells):
            return form


def draw_start(rng: random.Random, form: Form) -> int:
    """When a recording begins: a multiple of what the form can show."""
    if form.relative:
        return rng.choice([0, 0, form.step_ns * rng.randrange(1, 1000)])
    first, last = 978_307_200, 1_767_225_600  # 2001 to 2025
    start = rng.randrange(first, last) * SECOND + rng.randrange(SECOND)
    return start - start % form.step_ns


def _moment(ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // SECOND)


def _stripped(text: str) -> str:
    """Without the zeros before days, months and hours."""
    return re.sub(r"(^|[/. ])0(?=\d)", r"\1", text)


def _calendar(
    rng: random.Random,
    pattern: str,
    step_ns: int,
    tells: str | None = None,
    zone_hours: int = 0,
    suffix: str = "",
    digits: int = 0,
    mark: str = ".",
    ragged: bool = False,
    change: Callable[[str], str] = str,
) -> Form:
    def write(ns: int) -> list[str]:
        text = change(_moment(ns + zone_hours * 3600 * SECOND).strftime(pattern))
        fraction = f"{ns % SECOND:09d}"[:digits]
        if digits and not (ragged and int(fraction) == 0):
            text += mark + fraction
        return [text + suffix]

    what = pattern + (f"{mark}{'f' * digits}" if digits else "") + suffix + (" ragged" if ragged else "")
    if change is not str:
        what += " without zeros"
    return Form(what, [rng.choice(PLAIN_NAMES)], write, step_ns, tells)


def _digits(period_ns: int) -> int:
    return next(k for k in (0, 3, 6, 9) if period_ns % 10 ** (9 - k) == 0)


def _iso(rng: random.Random, period_ns: int) -> Form:
    digits = max(_digits(period_ns), rng.choice([0, 0, 0, 3, 6]))
    pattern = rng.choice(["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"])
    suffix = rng.choice(["", "", "", "Z", " UTC", "+00:00", "+02:00"])
    mark = rng.choice([".", ".", ","])
    ragged = digits > 0 and rng.random() < 0.2
    zone = 2 if suffix == "+02:00" else 0
    return _calendar(rng, pattern, 10 ** (9 - digits), None, zone, suffix, digits, mark, ragged)


def _years_first(rng: random.Random, period_ns: int) -> Form:
    mark = rng.choice(["/", ".", "/"])
    pattern = f"%Y{mark}%m{mark}%d %H:%M:%S"
    change = rng.choice([str, _stripped])
    return _calendar(
        rng, pattern, SECOND, pattern, suffix=rng.choice(["", "", " UTC"]), change=change
    )._replace(tells=None)


def _dotted(rng: random.Random, period_ns: int) -> Form:
    pattern = rng.choice(["%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d.%m.%y %H:%M:%S"])
    digits = rng.choice([0, 0, 3])
    form = _calendar(rng, pattern, SECOND, digits=digits, mark=rng.choice(".,"))
    return form._replace(tells=rng.choice(["day-first", pattern]) if not digits else "day-first")


def _american(rng: random.Random, period_ns: int) -> Form:
    short = period_ns % MINUTE == 0 and rng.random() < 0.4
    pattern = rng.choice(["%m/%d/%Y ", "%m/%d/%y "]) + ("%I:%M %p" if short else "%I:%M:%S %p")
    change = rng.choice([str, _stripped])
    tells = rng.choice(["month-first", pattern])
    return _calendar(rng, pattern, MINUTE if short else SECOND, tells, change=change)


def _slashes(rng: random.Random, period_ns: int) -> Form:
    mark = rng.choice("//-")
    first, second, tells = rng.choice([("%d", "%m", "day-first"), ("%m", "%d", "month-first")])
    short = period_ns % MINUTE == 0 and rng.random() < 0.4
    pattern = f"{first}{mark}{second}{mark}%Y " + ("%H:%M" if short else "%H:%M:%S")
    return _calendar(rng, pattern, MINUTE if short else SECOND, rng.choice([tells, pattern]))


def _with_month_name(rng: random.Random, period_ns: int) -> Form:
    pattern = rng.choice(["%d-%b-%Y %H:%M:%S", "%d %b %Y %H:%M:%S"])
    return _calendar(rng, pattern, SECOND, pattern)


def _minutes(rng: random.Random, period_ns: int) -> Form:
    pattern = rng.choice(["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M", "%Y/%m/%d %H:%M"])
    return _calendar(rng, pattern, MINUTE, pattern)


def _days(rng: random.Random, period_ns: int) -> Form:
    pattern = rng.choice(["%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y"])
    form = _calendar(rng, pattern, DAY, pattern)
    return form._replace(
        columns=[rng.choice(["date", "Date", "day"][: 2 if pattern == "%Y%m%d" else 3])]
    )._replace(bare=pattern != "%Y%m%d")


def _compact(rng: random.Random, period_ns: int) -> Form:
    short = period_ns % MINUTE == 0 and rng.random() < 0.4
    pattern = "%Y%m%d%H%M" if short else "%Y%m%d%H%M%S"
    return _calendar(rng, pattern, MINUTE if short else SECOND, pattern)._replace(
        columns=[rng.choice(["timestamp", "time", "Date", "datetime"])], bare=False
    )


def _two_columns(rng: random.Random, period_ns: int) -> Form:
    date = rng.choice(["%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y"])
    short = period_ns % MINUTE == 0 and rng.random() < 0.4
    day = "%H:%M" if short else "%H:%M:%S"

    def write(ns: int) -> list[str]:
        return [_moment(ns).strftime(date), _moment(ns).strftime(day)]

    names = rng.choice([["Date", "Time"], ["date", "time"], ["Datum", "Uhrzeit"], ["DATE", "TIME"]])
    tells = {"%d/%m/%Y": "day-first", "%m/%d/%Y": "month-first"}.get(date, f"{date} {day}")
    return Form(f"{date}, {day} in two columns", names, write, MINUTE if short else SECOND, tells)


def _serial(rng: random.Random, period_ns: int) -> Form:
    """Days since 1899-12-30; ten digits show 9 us."""

    def write(ns: int) -> list[str]:
        return [f"{Decimal(ns - SERIAL_EPOCH_S * SECOND) / DAY:.10f}".rstrip("0").rstrip(".")]

    name = rng.choice(["Date", "date", "Datum", "DateTime", "Date Time", "time"])
    return Form("serial", [name], write, SECOND, "serial", tolerance_ns=10**6, bare=False, is_number=True)


def _number(ns: int, unit: str, scientific: bool = False) -> str:
    """ns as an exact decimal number of another unit."""
    exact = Decimal(ns) / UNITS[unit]
    if scientific and Decimal(repr(float(exact))) == exact:
        return repr(float(exact))
    return f"{exact:f}"


def _epoch(rng: random.Random, period_ns: int) -> Form:
    unit = rng.choice(list(UNITS))
    step = max(1, min(UNITS[unit], period_ns))
    names = [*PLAIN_NAMES[:3], "ts", "epoch", "Unix"]
    return Form(
        f"epoch {unit}", [rng.choice(names)], lambda ns: [_number(ns, unit)], step, unit, is_number=True
    )


def _epoch_by_name(rng: random.Random, period_ns: int) -> Form:
    form = _epoch(rng, period_ns)
    unit = form.what.split()[1]
    return form._replace(what=f"{form.what} by name", columns=[rng.choice(NAMES_WITH_UNIT[unit])])


def _relative(rng: random.Random, period_ns: int) -> Form:
    unit = rng.choice(list(UNITS))
    scientific = rng.random() < 0.3
    name, what = rng.choice(NAMES_WITH_UNIT[unit]), "by name"
    unit_row = rng.random() < 0.3
    if unit_row:
        name, what = rng.choice(["time", "t", "elapsed"]), "by unit row"
    elif unit == "s" and period_ns < SECOND and rng.random() < 0.5:
        name, what = rng.choice(["time", "t", "Time", "timestamps"]), "plain"
    what = f"relative {unit} {what}" + (" scientific" if scientific else "")
    return Form(
        what,
        [name],
        lambda ns: [_number(ns, unit, scientific)],
        max(1, min(UNITS[unit], period_ns)),
        unit,
        relative=True,
        unit=unit,
        unit_row=unit_row,
        bare=False,
        is_number=True,
    )
