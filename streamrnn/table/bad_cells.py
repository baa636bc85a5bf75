"""Cells that cannot be read, and what to do about them."""

import re
from typing import NamedTuple

import numpy as np

DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
UNITS_MAY_BE = 3  # lines in which units, or more names, are more likely than bad values
NO_TIME = "is not a time"
WORD = 20  # characters of a word that may mean a missing value


class BadCells(NamedTuple):
    """Cells of one column that cannot be read."""

    column: int
    bad: np.ndarray  # (n,) bool
    what: str


def remedy(what: str, cell: str, state: bool) -> str:
    """What to do about a bad cell."""
    skip = "leave such rows out with --on-error skip"
    if what != "is not a number":
        return skip
    if DECIMAL_COMMA.fullmatch(cell):
        return f"if the comma is a decimal one give --decimal comma, or {skip}"
    if cell.isprintable() and 0 < len(cell) <= WORD and "," not in cell:
        word = cell if cell.isalnum() else f"'{cell}'"
        if state:
            return (
                f"say what the words stand for with --words {word}=0,... or give --missing {word}, or {skip}"
            )
        return f"if it means a missing value give --missing {word}, or {skip}"
    return skip
