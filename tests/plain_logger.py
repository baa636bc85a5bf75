"""A plain reader of logger files that finds nothing out: every property of a file is told to it."""

import csv
import gzip
import io
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

EMPTY = {"", "NA", "NaN", "nan", "N/A", "null", "NAN"}
MARKS = {"tab": "\t", "space": " "}
NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
DAY_NS, SERIAL_DAYS = 86_400 * 10**9, 25_569  # from 1899-12-30 to 1970-01-01
FIRST = r"(?P<{}>\d+)[-/.](?P<{}>\d+)[-/.](?P<{}>\d+)"
REST = r"(?:[T ]+(?P<H>\d+):(?P<M>\d+)(?::(?P<S>\d+)(?:[.,](?P<f>\d+))?)?)?\s*"
REST += r"(?P<p>[AP]M)?(?P<zone>Z|UTC|[+]\d\d:\d\d)?"

Row = tuple[int | None, list[float]]


def read_told(content: bytes, truth: dict[str, str], channels: list[str]) -> dict[str, list[Row]]:
    """The rows of each stream, time in ns (None where it is bad) and values; of a long table a row a time."""
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    lines = content.decode(truth["encoding"]).replace("\r\n", "\n").split("\n")
    mark = MARKS.get(truth["delimiter"], truth["delimiter"])

    def fields(line: str) -> list[str]:
        cells = (
            line.split()
            if mark == " "
            else next(csv.reader(io.StringIO(line), delimiter=mark, skipinitialspace=True))
        )
        return [cell.strip() for cell in cells]

    header = int(truth["header_line"])
    names = fields(lines[header - 1]) if header else truth["names"].split(",")
    records = [
        dict(zip(names, fields(line), strict=False))
        for line in lines[int(truth["data_line"]) - 1 :]
        if line.strip()
    ]
    streams: dict[str, list[Row]] = {}
    at: dict[tuple[str, int | None], list[float]] = {}
    for record in records:
        stream = record[truth["stream"]] if "stream" in truth else ""
        cells = None if truth["time"] == "none" else [record[name] for name in truth["time"].split(",")]
        time = None if cells is None else to_ns(" ".join(cells), truth)
        rows = streams.setdefault(stream, [])
        if "channel" not in truth:
            rows.append((time, [to_value(record[name], truth) for name in channels]))
            continue
        if (stream, time) not in at:
            at[stream, time] = [math.nan] * len(channels)
            rows.append((time, at[stream, time]))
        at[stream, time][channels.index(record[truth["channel"]])] = to_value(record[truth["value"]], truth)
    return streams


def to_value(cell: str, truth: dict[str, str]) -> float:
    """A number; -1 for a word that is none."""
    if cell in EMPTY or cell == truth.get("missing"):
        return math.nan
    try:
        return float(cell.replace(",", ".") if "decimal" in truth else cell)
    except ValueError:
        return -1.0


def to_ns(cell: str, truth: dict[str, str]) -> int | None:
    """ns since the epoch, or since the start; None if it is no time."""
    form = truth.get("time_format", "")
    try:
        if form in NS:
            return int(Decimal(cell.replace(",", ".")) * NS[form])
        if form == "serial":
            return round((Decimal(cell.replace(",", ".")) - SERIAL_DAYS) * DAY_NS)
        if "%" in form:
            return _ns(datetime.strptime(cell, form).replace(tzinfo=UTC))
    except (InvalidOperation, ValueError):
        return None
    order = {"day-first": "dmY", "month-first": "mdY"}.get(form, "Ymd")
    if not (found := re.fullmatch(FIRST.format(*order) + REST, cell)):
        return None
    year, month, day, hour, minute, second = (int(found[key] or 0) for key in "YmdHMS")
    if found["p"]:
        hour = hour % 12 + 12 * (found["p"] == "PM")
    year += 2000 if year < 100 else 0
    zone = int(found["zone"][1:3]) if found["zone"] and found["zone"].startswith("+") else 0
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - timedelta(hours=zone)
    return _ns(moment) + int((found["f"] or "0").ljust(9, "0"))


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9
