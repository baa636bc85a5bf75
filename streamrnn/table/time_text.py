"""Calendar times as people and loggers write them, parsed a column at a time."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ORDERS = ("ymd", "dmy", "mdy")
# pyarrow looks for dateutil at each call with a scalar of Python's, where there is none: 0.1 ms
_EMPTY, _ZERO, _FALSE = pa.scalar(""), pa.scalar("0"), pa.scalar(False)
_LONGEST = pa.scalar(200)  # bytes of a time, with the name of its zone
_DAY_NS, _PIVOT = 86400 * 10**9, 69  # two digits of a year from here on are of the last century
_ZONES = {
    "CET": 60, "MEZ": 60, "CEST": 120, "MESZ": 120, "EET": 120, "EEST": 180, "WEST": 60, "JST": 540,
    "EST": -300, "EDT": -240, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420,
}  # fmt: skip
_ZONE = (
    r"(?P<z>Z|(?:UTC|GMT)?[-+]\d{2}:?\d{2}(?: UTC)?|(?:UTC|GMT)?[-+]\d{1,2}|UTC|GMT|"
    + "|".join(_ZONES)
    + r")?(?: ?\[[^\]]*\])?"
)
_CLOCK = (
    r"(?P<h>\d{1,2})(?:[:.hH](?P<m>\d{2})(?:[:.mM](?P<s>\d{2})(?:[.,](?P<f>\d{1,12})|:(?P<g>\d{3}))?)?)?"
    r"\s*(?P<p>[AaPp]\.?[Mm]\.?)?\s*"
)
_TIME = _CLOCK + _ZONE
_WEEKDAY = r"(?:[^\W\d]{2,10}\.?,? +)?"
_END = r"(?:(?: - |/).*)?$"  # of an interval its beginning counts
_DATE = r"(?P<a>\d{1,4})[-/. ](?P<b>\d{1,2}|[^\W\d]{3,10})\.?[-/. ](?P<c>\d{1,4})"
_HALF = r"\s*(?P<p>[AaPp]\.?[Mm]\.?)?\s*"
_PATTERNS = (
    # 13.03.2024 01:02:03, 2024-03-13T01:02Z, 13-Mar-24 1:02 PM
    "^" + _WEEKDAY + _DATE + "(?:[T ,_]+" + _TIME + ")?" + _END,
    # March 13, 2024, 1:02 PM
    "^" + _WEEKDAY + r"(?P<b>[^\W\d]{3,10})\.? +(?P<a>\d{1,2}),? +(?P<c>\d{4})(?:,? +" + _TIME + ")?" + _END,
    # Wed Mar 13 01:02:03 GMT+01:00 2024
    "^" + _WEEKDAY + r"(?P<b>[^\W\d]{3,10}) +(?P<a>\d{1,2}) +" + _TIME + r" +(?P<c>\d{4})$",
    # 20240313, 20240313T010203.5Z
    r"^(?P<a>\d{4})(?P<b>\d{2})(?P<c>\d{2})(?:[T _:-]?(?P<h>\d{2})(?:(?P<m>\d{2})(?:(?P<s>\d{2})"
    r"(?:\.(?P<f>\d{1,9}))?(?P<p>)?)?)?" + _ZONE + ")?$",
    # 1:02:03, 25:00:00, 2 days 01:02:03
    r"^(?:(?P<d>\d+) days?,? +)?(?P<h>\d{1,4}):(?P<m>\d{2})"
    r"(?::(?P<s>\d{2})(?:[.,](?P<f>\d{1,12})|:(?P<g>\d{3}))?)?" + _HALF + _ZONE + _END,
    # 18.00.00
    r"^(?P<h>\d{1,2})\.(?P<m>\d{2})\.(?P<s>\d{2})(?P<f>)?(?P<p>)?(?P<z>)?$",
)
_MONTHS = {
    name: month
    for month, names in enumerate(
        (
            "jan ene gen", "feb fev", "mar mär mrz", "apr abr avr", "may mai mag", "jun giu", "jul lug",
            "aug ago aou", "sep set", "oct okt ott out", "nov", "dec dez dic",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


class Parsed(NamedTuple):
    """What n texts are as times."""

    ns: np.ndarray  # (n,) int64: since 1970
    good: np.ndarray  # (n,) bool: which are times
    dated: np.ndarray  # (n,) bool: which have a date
    timed: np.ndarray  # (n,) bool: which have a time of day


def parse_times(texts: pa.Array, order: str) -> Parsed:
    """Texts as times, day, month and year in ``order`` where the first of them has not four digits."""
    count = len(texts)
    done = Parsed(np.zeros(count, np.int64), *(np.zeros(count, bool) for _ in range(3)))
    maybe = pc.and_(pc.less_equal(pc.binary_length(texts), _LONGEST), pc.match_substring_regex(texts, r"\d"))
    left = maybe.fill_null(_FALSE).to_numpy(zero_copy_only=False)
    for pattern in _PATTERNS:
        places = np.flatnonzero(left)
        if not len(places):
            break
        some = texts if len(places) == count else texts.take(pa.array(places))
        found = pc.extract_regex(some, pattern)
        there = found.is_valid().to_numpy(zero_copy_only=False)
        if not there.any():
            continue
        places = places[there]
        parsed = _of_fields(found.filter(pa.array(there)), order)
        places = places[parsed.good]
        for whole, part in zip(done, parsed, strict=True):
            whole[places] = part[parsed.good]
        left[places] = False
    return done


def _of_fields(found: pa.StructArray, order: str) -> Parsed:
    names = [field.name for field in found.type]
    fields = {name: found.field(name) for name in names}
    count = len(found)
    good = np.ones(count, bool)
    timed = np.zeros(count, bool)
    ns = np.zeros(count, np.int64)
    if "h" in fields:
        timed = _filled(fields["h"])
        clock, fits = _clock_ns(fields)
        ns, good = np.where(timed, clock, 0), fits | ~timed
    if "a" not in fields:  # a time of day, or since the start
        ns += _ints(fields["d"]) * _DAY_NS if "d" in fields else 0
        return Parsed(ns, good, np.zeros(count, bool), timed)
    days, fits = _days(fields, order)
    return Parsed(ns + days * _DAY_NS, good & fits, np.ones(count, bool), timed)


def _clock_ns(fields: dict[str, pa.Array]) -> tuple[np.ndarray, np.ndarray]:
    """ns since midnight, in UTC, and which are possible."""
    hour, minute, second = (_ints(fields[name]) for name in "hms")
    fits = (minute < 60) & (second <= 60)
    if "a" in fields:
        fits &= (hour < 24) | ((hour == 24) & (minute == 0) & (second == 0))
    half = pc.utf8_lower(fields["p"])
    if _filled(half).any():
        afternoon, morning = (
            pc.starts_with(half, letter).to_numpy(zero_copy_only=False) for letter in ("p", "a")
        )
        hour = np.where(afternoon & (hour < 12), hour + 12, np.where(morning & (hour == 12), 0, hour))
    fraction = fields["f"]
    if "g" in fields:  # ms behind a colon
        fraction = pc.if_else(pc.equal(fields["g"], ""), fraction, fields["g"])
    fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 9, "0"), 0, 9)
    ns = ((hour * 60 + minute) * 60 + second) * 10**9 + _ints(fraction)
    return ns - _zone_minutes(fields["z"]) * (60 * 10**9), fits


def _zone_minutes(zones: pa.Array) -> np.ndarray:
    coded = zones.dictionary_encode()
    minutes = np.array([_minutes(zone or "") for zone in coded.dictionary.to_pylist()] + [0], np.int64)
    return minutes[coded.indices.fill_null(len(minutes) - 1).to_numpy()]


def _minutes(zone: str) -> int:
    if zone in _ZONES:
        return _ZONES[zone]
    digits = "".join(letter for letter in zone if letter.isdigit())
    if not digits:
        return 0
    hours, minutes = (int(digits), 0) if len(digits) <= 2 else (int(digits[:2]), int(digits[2:4]))
    return (-1 if "-" in zone else 1) * (60 * hours + minutes)


def _days(fields: dict[str, pa.Array], order: str) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970, and which are possible dates of this order."""
    lengths = [pc.utf8_length(fields[name]).to_numpy(zero_copy_only=False) for name in "ac"]
    first, last = _ints(fields["a"]), _ints(fields["c"])
    middle, named = _months(fields["b"])
    year_first = lengths[0] == 4
    if order == "ymd":
        year_first |= (lengths[0] == 2) & (lengths[1] <= 2) & ~named
    digits = np.where(year_first, lengths[0], lengths[1])
    year = np.where(year_first, first, last)
    month = np.where(year_first | named | (order != "mdy"), middle, first)
    day = np.where(year_first, last, np.where(named | (order != "mdy"), first, middle))
    fits = ((digits == 4) | (digits <= 2)) & (year_first | named | (order != "ymd"))
    year = np.where(digits <= 2, np.where(year < _PIVOT, 2000, 1900) + year, year)
    fits &= (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1678) & (year < 2262)
    month, year = np.where(fits, month, 1), np.where(fits, year, 1970)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    fits &= day <= _MONTH_DAYS[month] + (leap & (month == 2))
    months = (year - 1970) * 12 + month - 1
    firsts = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return firsts + np.where(fits, day, 1) - 1, fits


def _months(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Months as numbers, 0 for none, and which are names."""
    coded = texts.dictionary_encode()
    numbers, named = [], []
    for text in coded.dictionary.to_pylist():
        named.append(not text.isdecimal())
        numbers.append(_MONTHS.get(text[:3].casefold(), 0) if named[-1] else int(text))
    places = coded.indices.to_numpy()
    return np.array(numbers, np.int64)[places], np.array(named, bool)[places]


def _filled(texts: pa.Array) -> np.ndarray:
    return pc.not_equal(texts, _EMPTY).fill_null(_FALSE).to_numpy(zero_copy_only=False)


def _ints(texts: pa.Array) -> np.ndarray:
    """Digits as numbers, 0 where there are none."""
    filled = pc.if_else(pc.equal(texts, _EMPTY), _ZERO, texts).fill_null(_ZERO)
    return pc.cast(filled, pa.int64()).to_numpy(zero_copy_only=False)
