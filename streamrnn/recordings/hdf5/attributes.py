"""What attributes and scalars beside data say: units, rates, starts."""

import re
from fractions import Fraction
from typing import Any, NamedTuple

import h5py
import numpy as np

from streamrnn.recordings.time_names import NS, unit_of_cell

RATES = (
    *("rate", "sampling_rate", "samplingrate", "sample_rate", "samplerate", "sampling_frequency"),
    *("samplingfrequency", "sample_frequency", "fs", "sfreq", "srate", "frequency_hz", "rate_hz"),
)
PERIODS = ("dt", "period", "sample_period", "sampling_period", "sampling_interval", "wf_increment")
STARTS = (
    *("start", "start_time", "starttime", "t0", "time_origin", "wf_start_time", "start_timestamp"),
    *("recording_start", "start_datetime", "session_start_time", "timestamps_reference_time"),
)
UNITS = ("units", "unit")
LONGEST = 1 << 16  # bytes of an attribute that is read
_SINCE = re.compile(r"\s*(\w+) since (\d.*)", re.IGNORECASE)
_ZONE = re.compile(r"\s*(Z|UTC|GMT|[-+]\d\d(?::?\d\d)?)\s*$", re.IGNORECASE)
_DATE = re.compile(r"(\d{1,4})-(\d{1,2})-(\d{1,2})[T ]?\s*(?:(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d+)?))?)?$")


class Moment(NamedTuple):
    """A date and a time of day."""

    ns: int  # since the Unix epoch
    zoned: bool  # whether its zone was said


class Said:
    """The attributes of an object of the file, by their names in lower case; those that are too long not."""

    def __init__(self, item: "h5py.Group | h5py.Dataset") -> None:
        self._attrs = item.attrs
        self._names = {name.casefold(): name for name in item.attrs}

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._names

    def __getitem__(self, name: str) -> Any:
        """A number, a text, or an array of them; None for what is not there, empty or of another kind."""
        name = self._names.get(name.casefold(), "")
        if not name or self._attrs.get_id(name).get_storage_size() > LONGEST:
            return None
        value = self._attrs[name]
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        if isinstance(value, bytes):
            return value.decode(errors="replace").strip("\0 ")
        if isinstance(value, np.generic):
            value = value.item()
        return value if isinstance(value, (str, int, float, np.ndarray)) else None

    def text(self, *names: str) -> str:
        """The first of them that is a text that can be printed; "" if none is."""
        found = (self[name] for name in names)
        return next((text.strip() for text in found if isinstance(text, str) and text.isprintable()), "")

    def number(self, *names: str) -> float | None:
        """The first of them that is a finite number."""
        for name in names:
            value = self[name]
            if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
                return value
        return None


def moment(said: Any) -> Moment | None:
    """A text of ISO 8601 or seconds since the Unix epoch as a moment; None for anything else."""
    if isinstance(said, (int, float)) and not isinstance(said, bool):
        number = Fraction(str(said)) if np.isfinite(said) else Fraction(0)
        return Moment(round(number * 10**9), True) if 10**8 < number < 10**10 else None
    if not isinstance(said, str):
        return None
    text, offset, zone = said.strip(), 0, _ZONE.search(said)
    if zone is not None and ":" in said[: zone.start()]:
        text = said[: zone.start()].strip()
        digits = zone[1].replace(":", "")
        if digits[0] in "+-":
            minutes = int(digits[1:3]) * 60 + int(digits[3:5] or 0)
            offset = minutes * (-1 if digits[0] == "-" else 1)
    else:
        zone = None
    if (found := _DATE.match(text)) is None:
        return None
    year, month, day, hour, minute, second = found.groups()
    date = f"{int(year):04}-{int(month):02}-{int(day):02}"
    try:
        days = int(np.datetime64(date, "D").astype(np.int64))
    except ValueError:
        return None
    of_day = (int(hour or 0) * 60 + int(minute or 0) - offset) * 60 * 10**9
    ns = days * NS["d"] + of_day + round(Fraction(second or 0) * 10**9)
    return Moment(ns, zone is not None) if abs(ns) < 1 << 62 else None


def since(units: str) -> tuple[int, Moment] | None:
    """Of "seconds since 1970-01-01" the unit in ns, and the moment; None for another text."""
    found = _SINCE.match(units)
    if found is None:
        return None
    unit, at = unit_of_cell(found[1]), moment(found[2])
    return None if unit is None or at is None else (NS[unit], at)


def period(said: Said) -> Fraction | None:
    """The time from sample to sample, in ns, that attributes say."""
    if (rate := said.number(*RATES)) is not None and rate > 0:
        return 10**9 / Fraction(str(rate))
    if (step := said.number(*PERIODS)) is not None and step > 0:
        return 10**9 * Fraction(str(step))
    return None


def start(said: Said) -> Moment | None:
    """The moment of the first sample that attributes say."""
    return next((found for name in STARTS if (found := moment(said[name])) is not None), None)
