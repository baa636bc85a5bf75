"""Whether the commas and points in numbers are decimal ones, or stand between thousands."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from streamrnn.errors import UserError
from streamrnn.table.cell_values import blanked, is_text

_THREES = r"^[-+]?[1-9]\d{0,2}(%s\d{3})+$"


class Decimals(NamedTuple):
    """How the numbers of a file are written."""

    commas: frozenset[int]  # columns of decimal commas
    groups: frozenset[int]  # columns with commas between thousands
    notes: list[str]

    def of(self, place: int) -> tuple[bool, bool]:
        """Of a column, whether it has decimal commas, and whether commas stand between thousands."""
        return place in self.commas, place in self.groups


def find_decimals(
    names: Sequence[str],
    head: Sequence[pa.Array],
    found: Collection[int],
    told: str | None,
    between: bool,
    where: str,
) -> Decimals:
    """What the first cells say of columns with commas, of which ``found`` were seen; ``told`` is --decimal.

    ``between``: commas stand between the columns, too. A column has decimal commas where some column
    surely has, unless points are all that it has. Raises UserError where three digits follow each comma,
    or each point beside decimal commas, and nothing tells what these are.
    """
    found = [place for place in found if place < len(head)]  # there may be names alone
    threes = [place for place in found if _all_threes(head[place], ",")]
    if told == "point":
        return Decimals(frozenset(), frozenset(threes), [])
    pointed = {place for place, cells in enumerate(head) if _has(cells, ".") and _are_numbers(cells)}
    sure = {*found} - {*threes}
    if told is None and threes and not sure and (between or pointed):
        raise UserError(_text(names[threes[0]], head[threes[0]], where))
    if not found and told is None:
        return Decimals(frozenset(), frozenset(), [])
    unsure = sorted(place for place in pointed if _all_threes(head[place], "."))
    if told is None and unsure:
        raise UserError(_text(names[unsure[0]], head[unsure[0]], where))
    notes = [
        f'"{names[place]}": its points are taken for decimal ones, as it has no commas' for place in unsure
    ]
    return Decimals(frozenset({*range(len(head))} - pointed | {*found}), frozenset(), notes)


def _text(name: str, cells: pa.Array, where: str) -> str:
    cell = next(cell for cell in blanked(cells).drop_null().to_pylist() if "," in cell or "." in cell)
    return (
        f'{where}: column "{name}": "{cell}" may have thousands or decimals; say which with --decimal comma '
        "or --decimal point"
    )


def _has(cells: pa.Array, mark: str) -> bool:
    return is_text(cells) and bool(pc.any(pc.match_substring(cells, mark)).as_py())


def _are_numbers(cells: pa.Array) -> bool:
    """Whether cells are numbers without commas, but for a word here and there."""
    said = blanked(cells).drop_null()
    plain = pc.match_substring_regex(said, r"^[-+]?\d*(\.\d*)*([eE][-+]?\d+)?$")
    dates = pc.match_substring_regex(said, r"^\d{1,4}\.\d{1,2}\.\d{1,4}$")
    return (
        len(said) > 0 and pc.mean(plain).as_py() > 0.5 and not pc.any(dates).as_py() and not _has(cells, ",")
    )


def _all_threes(cells: pa.Array, mark: str) -> bool:
    """Whether each cell that has the mark has it before three digits, as between thousands."""
    if not is_text(cells):
        return False
    said = blanked(cells).drop_null()
    marked = said.filter(pc.match_substring(said, mark))
    pattern = _THREES % ("\\." if mark == "." else mark)
    return len(marked) > 0 and bool(pc.all(pc.match_substring_regex(marked, pattern)).as_py())
