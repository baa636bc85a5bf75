"""What the name of a column says of times: that they are in it, and in which unit."""

import re

NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
# words for units of time; those that mean other things as well count only beside a word for time
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sekunden"), "s"),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "μs", "usec", "micros", "microsec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosec", "nanosecond", "nanoseconds"), "ns"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}
_ALONE = frozenset(word for word in _UNITS if len(word) > 3 or word in ("ms", "us", "ns", "sec")) - {
    "minute", "minutes", "hour", "hours", "days", "mins", "second",
}  # fmt: skip
# the names themselves, the surest first
_RANKED = (
    "timestamp", "timestamps", "datetime", "date time", "time", "time stamp", "tstamp", "tstp", "ts",
    "unixtime", "unix time", "epoch", "date", "zeitstempel", "zeit", "datum", "fecha", "data", "elapsed", "t",
)  # fmt: skip
_CORE = frozenset(
    (
        "timestamp", "timestamps", "datetime", "time", "stamp", "tstamp", "tstp", "ts", "unixtime", "epoch",
        "date", "zeitstempel", "zeit", "datum", "uhrzeit", "fecha", "hora", "heure", "horodatage",
        "elapsed", "clock", "uptime", "created", "recorded", "logged", "measured", "changed", "updated",
        "mtu",
    )
)  # fmt: skip
_BESIDE = frozenset(
    (
        "utc", "gmt", "local", "at", "on", "of", "unix", "gps", "device", "system", "sys", "log", "rel",
        "relative", "abs", "boot", "since", "start", "run", "sample", "last", "und", "and", "iso", "posix",
        "cet", "cest", "reading", "measurement", "observation", "event", "the", "in", "logger", "pc",
        "host", "valid",
    )
)  # fmt: skip


def _words(name: str) -> list[str]:
    name = re.sub(r"([a-z])([A-Z])", r"\1 \2", name.strip())
    return [word.casefold() for word in re.findall(r"[^\W\d_]+|\d+", name)]


def unit_of_name(name: str) -> str | None:
    """The unit, a key of NS, that the name of a time column has ("time_ms", "Time (s)"); None for none."""
    words = _words(name)
    if len(words) > 1 and words[0] in _ALONE and _is_time(words[1:]):  # seconds_elapsed
        return _UNITS[words[0]]
    if not words or words[-1] not in _UNITS:
        return None
    if len(words) == 1:
        return _UNITS[words[0]] if words[0] in _ALONE else None
    return _UNITS[words[-1]] if _is_time(words[:-1]) else None


def unit_of_cell(cell: str) -> str | None:
    """The unit that a row of units says; None for another word."""
    return _UNITS.get(cell.strip().casefold())


def is_time_name(name: str) -> bool:
    """Whether a column of this name holds times, if its cells can be times."""
    return rank_of(name) is not None


def rank_of(name: str) -> int | None:
    """How sure a name says that times are in its column, 0 the most; None if it does not."""
    if name.strip() == "T":  # a temperature
        return None
    words = _words(name)
    if unit_of_name(name) is not None:
        words = words[:-1] if words[-1] in _UNITS else words[1:]
    elif not words:
        return None
    base = " ".join(words)
    if base in _RANKED:
        return _RANKED.index(base)
    return len(_RANKED) if not words or _is_time(words) else None


def _is_time(words: list[str]) -> bool:
    if " ".join(words) in _RANKED:
        return True
    return all(word in _CORE or word in _BESIDE for word in words) and any(word in _CORE for word in words)


def says_date(name: str) -> bool:
    """Whether a name speaks of dates, so that numbers in its column may be those of a calendar."""
    return bool({"date", "datetime", "datum", "fecha", "day"} & {*_words(name)})


# the parts of a date that stand in columns of their own
_PARTS = (
    ("year", "yr", "yyyy", "jahr"), ("month", "mon", "mo", "mm", "monat"), ("day", "dd", "tag"),
    ("hour", "hr", "hh", "stunde"), ("minute", "min", "mi"), ("second", "sec", "ss"),
    ("doy", "day of year", "dayofyear", "day_of_year", "jday", "julian day", "julianday", "julian_day"),
)  # fmt: skip
YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, DAY_OF_YEAR = range(len(_PARTS))
NAME_OF_PART = [words[0] for words in _PARTS]
# names of times of day that are written as numbers, 730, and are not times by another form
_CLOCKS = frozenset(
    (
        "hhmm", "hhmmss", "hh:mm", "hour/minute", "hour minute", "hourminute", "hour_minute", "hrmn", "hrmin",
        "utc", "gmt", "lst", "mst", "pst", "est", "cst", "cet",
    )
)  # fmt: skip


def part_of_date(name: str) -> int | None:
    """Which part of a date a column holds, YEAR to SECOND, or DAY_OF_YEAR; None for none."""
    word = name.strip().casefold()
    return next((part for part, words in enumerate(_PARTS) if word in words), None)


def is_clock_name(name: str) -> bool:
    """Whether numbers in a column of this name, beside a date, may be times of day."""
    return (is_time_name(name) and unit_of_name(name) is None) or name.strip().casefold() in _CLOCKS
