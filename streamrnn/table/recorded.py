"""How the files look that `record` writes: their columns, and of CSV the first lines."""

import csv
import io
import re
from dataclasses import replace

from streamrnn.table.reading import Reading

STREAM, TIME, SEQ = "stream", "time", "seq"
VALUES = ("channel", "value")  # columns of single values, beside time and stream
SAID = "as record wrote it"
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d{9}Z")  # as it writes them in text


def may_be_long(names: list[str]) -> bool:
    """Whether columns are those of its files of single values."""
    return names == [TIME, STREAM, *VALUES]


def may_be_wide(names: list[str]) -> bool:
    """Whether columns are those of its files of rows."""
    return names[:2] == [STREAM, TIME]


def as_written(head: str, reading: Reading) -> tuple[Reading, bool] | None:
    """How the text of a file is read, and whether it is its own; None if more lines are needed for that.

    Nothing of its own text is guessed: names may be numbers there, and begin with a #.
    """
    told = (reading.delimiter, reading.header_line, reading.data_line, reading.names)
    if any(each is not None for each in told) or not head.startswith(
        (f"{STREAM},{TIME}", f"{TIME},{STREAM},")
    ):
        return reading, False
    rows = csv.reader(io.StringIO(head, newline=""))
    try:
        names = next(rows)
        line = rows.line_num + 1
        if not (may_be_long(names) or may_be_wide(names)):
            return reading, False
        cells = next(rows, None)
    except csv.Error:
        return reading, False
    if cells is None:
        return None
    if len(cells) != len(names) or not _TIME.fullmatch(cells[names.index(TIME)]):
        return reading, False
    return replace(reading, delimiter=",", header_line=1, data_line=line), True
