"""The header of EDF, EDF+ and BDF: what is fixed in size and in ASCII.

Sources: Kemp et al. 1992, doi:10.1016/0013-4694(92)90009-7 (EDF); Kemp and Olivan 2003,
doi:10.1016/S1388-2457(03)00123-8 (EDF+); BioSemi's BDF is the same with samples of 24 bits.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import NamedTuple

from streamrnn.recordings.seconds import nanoseconds
from streamrnn.recordings.stored import Damaged, FileBytes

EDF, BDF = b"0       ", b"\xffBIOSEMI"
FIXED = 256  # bytes of the header's first part, and of what it has of each signal
_MOST_SIGNALS = 9999  # its four digits
_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # of a signal's fields
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]


class EdfSignal(NamedTuple):
    """One signal; its samples stand side by side in each record, from ``at`` bytes on."""

    label: str
    unit: str
    physical: tuple[float, float]  # least, most; the other way round where it is inverted
    digital: tuple[int, int]
    samples: int  # of a record
    at: int


@dataclass
class EdfHeader:
    """What a header says."""

    name: str  # "EDF", "EDF+", "BDF", "BDF+"
    width: int  # bytes of a sample
    start_ns: int | None  # since 1970, of whole seconds; local time without a zone, as if it were UTC
    size: int  # bytes of the header
    records: int  # -1 = not said
    duration: Fraction  # ns of a record
    signals: list[EdfSignal]

    @property
    def record_size(self) -> int:
        return sum(signal.samples for signal in self.signals) * self.width


def read_header(file: FileBytes) -> EdfHeader:
    """The header of a file. Raises Damaged where it is not one."""
    first = file.read(0, FIXED)
    kind = "BDF" if first[:8] == BDF else "EDF"
    fields = _cut(first[8:].decode("latin-1"), (80, 80, 8, 8, 8, 44, 8, 8, 4))
    _, recording, date, time, size, reserved, records, duration, count = fields
    signals = _whole(count, "the number of signals", 1, _MOST_SIGNALS)
    if _whole(size, "the size of the header", 0, 1 << 31) != FIXED * (1 + signals):
        raise Damaged(f"its header of {signals} signals says that it is {size} bytes long")
    rows = file.read(FIXED, FIXED * signals).decode("latin-1")
    width = 3 if kind == "BDF" else 2
    plus = reserved.startswith((f"{kind}+C", f"{kind}+D"))
    return EdfHeader(
        kind + "+" * plus,
        width,
        _start(date, time, recording),
        FIXED * (1 + signals),
        _whole(records, "the number of records", -1, 1 << 40),
        nanoseconds(duration),
        _signals(rows, signals, width),
    )


def _signals(rows: str, count: int, width: int) -> list[EdfSignal]:
    """The signals. Raises Damaged for a field that cannot be read."""
    table = _cut(rows, [size for size in _WIDTHS for _ in range(count)])
    found, at = list[EdfSignal](), 0
    for k in range(count):
        label, _, unit, low, high, least, most, _, samples, _ = table[k::count]
        where = f"signal {k + 1}, {label!r}: "
        size = _whole(samples, where + "its samples in a record", 0, 1 << 31)
        digital = _whole(least, where + "its digital minimum"), _whole(most, where + "its digital maximum")
        physical = _number(low, where + "its physical minimum"), _number(high, where + "its physical maximum")
        found.append(EdfSignal(label, unit, physical, digital, size, at))
        at += size * width
    return found


def _cut(text: str, widths: tuple[int, ...] | list[int]) -> list[str]:
    fields, at = [], 0
    for width in widths:
        fields.append(text[at : at + width].strip(" \0"))
        at += width
    return fields


def _whole(text: str, what: str, least: int = -(1 << 31), most: int = 1 << 31) -> int:
    if not re.fullmatch(r"[+-]?\d{1,15}", text, re.ASCII) or not least <= int(text) <= most:
        raise Damaged(f"{what} is {text!r}")
    return int(text)


def _number(text: str, what: str) -> float:
    try:
        value = float(text.replace(",", "."))  # some programs write the comma of their country
    except ValueError:
        raise Damaged(f"{what} is {text!r}") from None
    if not abs(value) < float("inf"):
        raise Damaged(f"{what} is {text!r}")
    return value


def _start(date: str, time: str, recording: str) -> int | None:
    """The start; of two digits of a year, 85 to 99 are of the 20th century, where EDF+ says no more."""
    found = re.fullmatch(r"(\d\d)[.:/-](\d\d)[.:/-](\d\d)", date, re.ASCII)
    clock = re.fullmatch(r"(\d\d)[.:](\d\d)[.:](\d\d)", time, re.ASCII)
    if not found or not clock:
        return None
    day, month, year = map(int, found.groups())
    year += 1900 if year >= 85 else 2000
    said = re.match(rf"Startdate {found[1]}-{_MONTHS[(month - 1) % 12]}-(\d{{4}})\b", recording, re.ASCII)
    hour, minute, second = map(int, clock.groups())
    try:
        start = datetime(int(said[1]) if said else year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return int(start.timestamp()) * 10**9
