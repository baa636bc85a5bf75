"""Source times as messages say them: numbers in a unit, or ISO 8601."""

import datetime
import re
from typing import Any

import numpy as np

from streamrnn.adapters.adapter import Plan, Rejected
from streamrnn.adapters.headers import shown

NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_LIMIT = 2**62
_GOOD_TO = 1000  # ns that float64 holds of a time of today in s or ms
_NAME = re.compile(
    r"(?:^|[^A-Za-z])(s|sec|secs|seconds?|ms|millis|milliseconds?|us|micros|microseconds?|ns|nanos|nanoseconds?)$"
)
_SAID = {"s": "s", "m": "ms", "u": "us", "n": "ns"}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# of a second: of minutes or hours, which Python reads as one of a second, there is none here
_FRACTION = re.compile(r"(?:(?<=:\d\d:\d\d)|(?<=\d{6}))[.,](\d+)")


class Stamps:
    """Reads the value of the key that `input.time` names."""

    def __init__(self, plan: Plan):
        self.path = tuple(plan.time.split(".")) if plan.time else ()
        unit = plan.time_unit or unit_of_name(self.path[-1] if self.path else "")
        self._factor = NS[unit] if unit else 0  # 0 = told by the number's size

    def ns(self, value: Any) -> int:
        """ns since the epoch. Raises Rejected for what is no time, or lies 146 years from 1970."""
        kind = type(value)
        if kind is float and -_LIMIT < value < _LIMIT:  # no NaN
            # float64 holds seconds and milliseconds of today no finer than to a microsecond
            factor = self._factor or _factor_of(value)
            step = 1 if factor <= _GOOD_TO else _GOOD_TO
            whole = int(value)
            ns = whole * factor + round((value - whole) * (factor // step)) * step
        elif kind is int:
            ns = value * (self._factor or _factor_of(value))
        elif kind is str:
            ns = _from_text(value)
        elif hasattr(value, "to_unix_nano"):  # msgpack's own
            ns = value.to_unix_nano()
        else:
            ns = _LIMIT
        if -_LIMIT < ns < _LIMIT:
            return ns
        unit = next((f" in {name}" for name, factor in NS.items() if factor == self._factor), "")
        raise Rejected("time", f"its time is {shown(value)}, which is none{unit}")


def row_times(last_ns: int, rows: int, period_ns: int) -> np.ndarray:
    """(rows,) int64: of rows ``period_ns`` apart up to the last one's. Raises Rejected beyond 146 years."""
    if not abs(last_ns) + rows * period_ns < _LIMIT:
        raise Rejected("time", f"its {rows} rows of {period_ns} ns begin before any time")
    return last_ns - period_ns * np.arange(rows - 1, -1, -1, dtype=np.int64)


def unit_of_name(name: str) -> str:
    """The unit that a name ends in (`ts_ns`, `time_ms`), "" for none."""
    match = _NAME.search(name)
    if match is None or match[1] == name:
        return ""
    return (
        "ms"
        if match[1].startswith(("ms", "milli"))
        else "us"
        if match[1].startswith(("us", "micro"))
        else _SAID[match[1][0]]
    )


def _factor_of(number: float) -> int:
    """ns in the unit that a number since 1970 counts, until the year 5138."""
    if -(10**11) < number < 10**11:
        return 10**9
    size = abs(number)
    return 10**6 if size < 10**14 else 10**3 if size < 10**17 else 1


def _from_text(text: str) -> int:
    """Of ISO 8601, UTC where it says no zone; exact to the ns. A number in quotes is refused, and so are
    fractions of a minute or an hour.
    """
    whole, fraction = text, 0
    try:
        match = _FRACTION.search(text)
        if match is not None:
            fraction = int(match[1].ljust(9, "0")[:9])
            whole = text[: match.start()] + text[match.end() :]
        if whole.isdigit() or "." in whole or "," in whole:  # Python takes 1712010112345 for a day of 1712
            raise ValueError
        at = datetime.datetime.fromisoformat(whole)
        since = (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise Rejected("time", f"{text[:40]!r} is no time of ISO 8601") from None
    return (since.days * 86400 + since.seconds) * 10**9 + fraction
