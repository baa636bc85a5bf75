"""What a logger's file looks like, drawn at random: any mix of properties that can be told apart."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from logger_times import PERIODS_NS, Form, draw_form

CODES = (
    "",
    "",
    "",
    "",
    "NA",
    "NaN",
    "nan",
    "N/A",
    "null",
    "-9999",
    "-9999",
    "-200",
    "-9999.0",
    "?",
    "ERR",
    "---",
)
NUMERIC_CODES, WORD_CODES = ("-9999", "-200", "-9999.0"), ("?", "ERR", "---")
BAD_TIMES = ("ERR", "#VALUE!", "x", "--:--")
MARKS = (",", ",", ",", ";", ";", "\t", "|", " ")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "cp1252", "cp1252")
ISO = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")  # of Campbell's, and of Influx's times
MARK_NAMES = {"\t": "tab", " ": "space"}  # in options
TITLES = (
    "Plot Title: boiler 3",
    "Datalogger export",
    "Station Hof",
    "LogTool v2.1",
    "Serial number: 21004",
    "Messung 7",
)
COMMENTS = (
    "# logger 7",
    "#",
    "# station 7, Hof, Nord",
    "## firmware 1.2; mode = fast",
    "# 2024-03-13 01:02:03",
)


@dataclass
class Shape:
    """The properties of a file; ``properties`` names those that are not plain."""

    mark: str = ","  # between fields; a space stands for runs of them
    encoding: str = "utf-8"
    toa5: bool = False
    influx: str = ""  # annotated, pivoted
    has_names: bool = True
    form: Form | None = None  # of times
    timed: bool = True
    period_ns: int = 0
    long: bool = False  # a row for each reading
    quoting: str = "needed"  # needed, text, all
    comma: str = ""  # decimal commas: all, some (columns)
    code: str = ""  # of missing cells
    before: list[str] = field(default_factory=list)  # lines before the names
    unit_row: bool = False
    type_row: bool = False
    name_units: str = ""  # the brackets of units in names
    accents: bool = False  # in names
    crlf: bool = False
    ended: bool = True  # by a line break
    trailing: str = ""  # separators at the end of: rows, all (lines)
    pad: bool = False  # a space behind each separator
    streams: int = 1
    channels: int = 1
    duplicates: bool = False
    late_time: bool = False  # the time is the last column
    gzip: bool = False
    bad_time: str = ""  # the one cell that is no time
    words: str = ""  # a column of two words: asked, unasked (for)
    others: list[str] = field(default_factory=list)  # kinds of columns that are no measurement
    properties: list[str] = field(default_factory=list)

    @property
    def suffix(self) -> str:
        return ("dat" if self.toa5 else "txt" if self.mark == " " else "csv") + ".gz" * self.gzip


def draw_shape(rng: random.Random) -> Shape:
    """Any mix of properties that do not contradict one another; one file in three has few of them."""
    few = rng.random() < 0.35

    def odd(chance: float) -> bool:
        return rng.random() < (chance / 3 if few else chance)

    shape = Shape(period_ns=rng.choice(PERIODS_NS), channels=rng.randrange(2, 6))
    shape.influx = rng.choice(["annotated", "pivoted"]) if odd(0.04) else ""
    shape.toa5 = not shape.influx and odd(0.08)
    if shape.influx or shape.toa5:
        _draw_known(rng, shape)
    else:
        _draw_free(rng, shape, odd)
    shape.crlf, shape.ended, shape.gzip = odd(0.3), not odd(0.1), odd(0.04)
    shape.duplicates = not shape.long and odd(0.1)
    if shape.timed and not shape.long and not shape.form.relative and odd(0.06):
        shape.bad_time = rng.choice(BAD_TIMES)
    shape.properties = _name_properties(shape)
    return shape


def _draw_known(rng: random.Random, shape: Shape) -> None:
    """Campbell's and Influx's files, of which little is free."""
    while not shape.form or not shape.form.what.startswith(ISO[bool(shape.influx)]):
        shape.form = draw_form(rng, shape.period_ns, False)
    if shape.influx:
        shape.form = shape.form._replace(columns=["_time"])
        return
    shape.form = shape.form._replace(columns=["TIMESTAMP"])
    shape.quoting, shape.code = "text", "NAN"
    shape.encoding = rng.choice(ENCODINGS)
    shape.others = ["counter"]


def _draw_free(rng: random.Random, shape: Shape, odd: Callable[[float], bool]) -> None:
    shape.mark = rng.choice(MARKS) if odd(0.75) else ","
    shape.encoding = rng.choice(ENCODINGS) if odd(0.75) else "utf-8"
    shape.has_names = not odd(0.1)
    shape.timed = not odd(0.08)
    shape.form = _draw_form(rng, shape)
    shape.long = shape.timed and shape.has_names and not shape.form.unit_row and odd(0.08)
    if odd(0.2):
        shape.streams = rng.randrange(2, 5)
    spaces = shape.mark == " "
    if not spaces and odd(0.4):
        shape.quoting = rng.choice(["all", "text"])
    if (shape.mark != "," or shape.quoting == "all") and odd(0.5):
        shape.comma = rng.choice(["all", "all", "some"])
    shape.code = _draw_code(rng, shape) if odd(0.8) or spaces or not shape.timed else ""
    if odd(0.4):
        _draw_before(rng, shape)
    if shape.has_names:
        shape.unit_row = not shape.long and ((shape.form.unit_row and shape.timed) or odd(0.15))
        shape.type_row = odd(0.08)
        shape.accents = odd(0.25)
        if not shape.unit_row and not shape.long and odd(0.35):
            shape.name_units = rng.choice(["()", "_"] if spaces else [" ()", " []", "()", "_"])
    if not spaces:
        shape.trailing = rng.choice(["rows", "all"]) if odd(0.25) else ""
        shape.pad = shape.mark != "\t" and shape.quoting == "needed" and not shape.comma and odd(0.1)
    if not shape.long:
        shape.late_time = odd(0.1)
        shape.words = rng.choice(["asked", "unasked"]) if odd(0.35) else ""
        if not shape.has_names and shape.words:
            shape.words = "unasked"
        if odd(0.5):
            _draw_others(rng, shape)


def _draw_form(rng: random.Random, shape: Shape) -> Form:
    while True:
        form = draw_form(rng, shape.period_ns, shape.mark == " ")
        if shape.has_names or form.bare:
            return form


def _draw_code(rng: random.Random, shape: Shape) -> str:
    code = rng.choice(CODES)
    blank = shape.mark == " " or not shape.timed  # rows of empty fields would be blank lines
    if shape.comma and code == "-9999.0":
        return "-9999"
    return "NA" if blank and not code else code


def _draw_before(rng: random.Random, shape: Shape) -> None:
    """Lines before the names."""
    kind = rng.choice(["title", "title", "comment", "comment", "blank", "sep"])
    if kind == "title" and shape.mark != " ":  # where words of a title would be fields
        titles = [*TITLES, *([f"Serial{shape.mark}21004", f"Place{shape.mark}Hof"] if shape.timed else ())]
        shape.before = rng.sample(titles, rng.randrange(1, 4)) + [""] * rng.randrange(2)
    if kind == "comment":
        shape.before = rng.sample(COMMENTS, rng.randrange(1, 4))
    if kind == "blank":
        shape.before = [""] * rng.randrange(1, 3)
    if kind == "sep" and shape.mark != " ":
        shape.before = [f"sep={shape.mark}"]


def _draw_others(rng: random.Random, shape: Shape) -> None:
    kinds = ["counter", "counter", "still", "still text"]
    if shape.has_names:
        kinds += ["note"] * (shape.mark != " ")
        if shape.timed and not shape.form.relative:
            kinds.append("installed")
    shape.others = sorted({rng.choice(kinds) for _ in range(rng.randrange(1, 4))})


def _name_properties(shape: Shape) -> list[str]:
    named = {
        "TOA5": shape.toa5,
        f"Influx, {shape.influx}": bool(shape.influx),
        f"delimiter {MARK_NAMES.get(shape.mark, shape.mark)}": shape.mark != ",",
        shape.encoding: shape.encoding != "utf-8",
        "no names": not shape.has_names,
        f"time {shape.form.what}": shape.timed,
        "no times": not shape.timed,
        "long": shape.long,
        f"{shape.streams} streams": shape.streams > 1,
        f"quotes {shape.quoting}": shape.quoting != "needed",
        f"decimal comma, {shape.comma}": bool(shape.comma),
        f"missing {shape.code or 'empty'}": True,
        f"before the names {shape.before}": bool(shape.before),
        "unit row": shape.unit_row,
        "type row": shape.type_row,
        f"units in names{shape.name_units}": bool(shape.name_units),
        "CRLF": shape.crlf,
        "no last line end": not shape.ended,
        f"trailing separators, {shape.trailing}": bool(shape.trailing),
        "padded": shape.pad,
        "gzip": shape.gzip,
        "time last": shape.late_time,
        "duplicates": shape.duplicates,
        f"bad time {shape.bad_time}": bool(shape.bad_time),
        f"two words, {shape.words}": bool(shape.words),
        f"no measurement: {', '.join(shape.others)}": bool(shape.others),
    }
    return [name for name, there in named.items() if there]
