"""The first lines of a text file as records: what is between the cells, and what the cells look like."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from streamrnn.errors import UserError
from streamrnn.table.words import is_missing, is_word

DELIMITERS = ",;\t|"
SPACE = " "  # stands for runs of spaces and tabs
CLEARLY, SURELY = 0.15, 0.95  # how much likelier than others runs of spaces must be, or how likely
SAMPLE = 100  # records looked at, the last ones
LINE_ENDS = re.compile("\r\n|\n|\r")
NUMBER = re.compile(r"[-+]?((\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[iI]nf(inity)?|INF)")
COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+,\d+|\d*,\d+)([eE][-+]?\d+)?")
FRACTION = re.compile(r"[-+]?\d*[.,]\d+([eE][-+]?\d+)?")
_TAIL = r"( ?[AaPp]\.?[Mm]\.?)? ?(Z|[-+]\d[\d:]*|[A-Z]{2,4})?( \[.*\])?((?: - |/)\d.*)?"
TIME = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T,_]+\d[\d:.,hm]*"
    + _TAIL
    + r")?|\d{1,2}[:.]\d{2}([:.]\d{2}([.,:]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?"
    r"|(\w{3,9},? +)?\d{1,2}[- ][A-Za-z]{3,9}\.?[- ]\d{2,4}( .*)?"
    r"|(\w{3,9},? +)?[A-Za-z]{3,9} +\d{1,2},? .*\d{4}.*"
    r"|\d{4}-\d{2}|\d{8}T\d{4,6}\S*"
)


class Record(NamedTuple):
    """One record of the head."""

    line: int  # on which it begins, from 1
    end: int  # the line after it
    fields: list[str]
    text: str


def find_delimiter(head: str, commas: bool = False) -> str:
    """The one of ``, ; tab |``, or runs of spaces, by which the lines fall into the likeliest cells.

    ``commas``: those in numbers are decimal ones.
    """
    lines = [line for line in LINE_ENDS.split(head) if line.strip()]
    lines = [line for line in lines if not line.startswith("#")] or lines
    sample = lines[-SAMPLE:] if len(lines) <= 2 * SAMPLE else lines[-SAMPLE - 1 : -1]
    if len(lines) > 1 and sample[0] is lines[0]:
        sample = sample[1:]  # as a rule the names
    marks = DELIMITERS
    if commas or (sample and "," not in lines[0] and all(COMMA.fullmatch(line.strip()) for line in sample)):
        sample, marks = [line.replace(",", ".") for line in sample], DELIMITERS.replace(",", "")
    found = {mark: _likeliness(sample, mark) for mark in (*DELIMITERS, SPACE)}
    best = max(DELIMITERS, key=lambda mark: found[mark][0])
    (likely, width), (spaces, words) = found[best], found[SPACE]
    if spaces > max(likely + CLEARLY, 0.5) and (words > width or spaces > SURELY):
        return SPACE
    unquoted = "".join(lines[0].split('"')[::2]) if lines else ""
    return best if likely > 0 else max(marks, key=unquoted.count)


def _likeliness(lines: list[str], mark: str) -> tuple[float, int]:
    """How well lines fall into cells at ``mark``, 0 if they do not, and how many a line has."""
    try:
        rows = [split(line, mark) for line in lines]
    except csv.Error:
        return 0.0, 1
    if not rows:
        return 0.0, 1
    (width, count), *_ = Counter(map(len, rows)).most_common(1)
    if width < 2:
        return 0.0, 1
    cells = [cell for row in rows if len(row) == width for cell in row]
    known = sum(kind_of(cell, mark) != "text" for cell in cells) / len(cells)
    return count / len(rows) * (0.1 + known), width


def split(line: str, mark: str) -> list[str]:
    """The fields of one line."""
    if mark == SPACE:
        line = re.sub(r"[ \t]+", " ", line.strip())
    return next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])


def kind_of(cell: str, mark: str = "") -> str:
    """What a cell looks like: "number", "comma" (a decimal one), "time", "word" (ON), "missing" or "text"."""
    cell = cell.strip()
    if is_missing(cell):
        return "missing"
    if NUMBER.fullmatch(cell):
        return "number"
    if COMMA.fullmatch(cell):
        return "comma"
    if TIME.fullmatch(cell):
        return "time"
    return "word" if is_word(cell) else "text"


def records_of(head: str, mark: str, where: str, missing: Sequence[str] = ()) -> list[Record]:
    """The records of the first lines, cells that say one of ``missing`` left empty; blank lines are none."""
    lines = LINE_ENDS.split(head)
    found: list[Record] = []
    end = 0
    try:
        if mark == SPACE:
            for end, line in enumerate(lines):
                if line.strip():
                    found.append(Record(end + 1, end + 2, _said(split(line, mark), missing), line))
            return found
        reader = csv.reader(lines, delimiter=mark, skipinitialspace=True)
        for fields in reader:
            if any(line.strip() for line in lines[end : reader.line_num]):
                found.append(Record(end + 1, reader.line_num + 1, _said(fields, missing), lines[end]))
            end = reader.line_num
    except csv.Error as error:
        raise UserError(f"{where}: line {end + 1} is no row, nor does it name columns: {error}") from error
    return found


def _said(fields: list[str], missing: Sequence[str]) -> list[str]:
    return ["" if cell.strip() in missing else cell for cell in fields] if missing else fields
