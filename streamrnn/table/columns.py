"""Which columns of a file are meant: by name, or by what is in them."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table.cells import CALENDAR, blanked, find_time_unit, is_text, to_float32, to_ns

# names of time columns, the surest first
TIME_NAMES = ("timestamp", "datetime", "date_time", "time", "ts_ns", "time_ns", "ts", "date", "t")
NAMES_SHOWN = 40


@dataclass(frozen=True)
class Columns:
    """The names of the columns with a meaning of their own; None where not told."""

    seq: str | None = None
    time: str | None = None
    stream: str | None = None


def find_columns(wanted: Sequence[str], names: Sequence[str], where: str) -> list[int]:
    """The place of each wanted column: of its very name, else of its name but for case and outer space.

    Raises UserError naming every column that is not there, or there twice.
    """
    found = {name: _places(name, names) for name in wanted}
    if missing := [name for name in wanted if not found[name]]:
        raise UserError(f"{where}: {_missing_text(missing, names)}")
    for name, places in found.items():
        if len(places) > 1:
            alike = " and ".join(f'"{names[place]}"' for place in places)
            raise UserError(f'{where}: columns {alike} are both "{name}"; give each column a name of its own')
    return [found[name][0] for name in wanted]


def find_time(names: Sequence[str], head: Sequence[pa.Array], taken: Collection[int | None]) -> int | None:
    """The place of the time column: one with such a name and times in it, else one of calendar times."""
    free = [place for place in range(len(names)) if place not in taken]
    by_name = {_folded(names[place]): place for place in reversed(free)}
    for name in TIME_NAMES:
        if name in by_name and find_time_unit(head[by_name[name]]) is not None:
            return by_name[name]
    return next((place for place in free if _is_calendar(head[place])), None)


def find_numeric(names: Sequence[str], head: Sequence[pa.Array], taken: Collection[int | None]) -> list[int]:
    """The places of the columns that have a name and hold numbers, a bad cell here and there allowed."""
    free = [place for place in range(len(names)) if place not in taken and names[place].strip()]
    return [place for place in free if _is_numeric(head[place])]


def _places(name: str, names: Sequence[str]) -> list[int]:
    same = [place for place, other in enumerate(names) if other == name]
    return same or [place for place, other in enumerate(names) if _folded(other) == _folded(name)]


def _folded(name: str) -> str:
    return name.strip().casefold()


def _missing_text(missing: list[str], names: Sequence[str]) -> str:
    folded = {_folded(name): name for name in reversed(names)}
    near = {name: difflib.get_close_matches(_folded(name), folded, 1) for name in missing}
    hints = [f'"{folded[match[0]]}" for "{name}"' for name, match in near.items() if match]
    question = f"did you mean {', '.join(hints)}? " if hints else ""
    return f"has no column {_listed(missing)}; {question}its columns are {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def _is_calendar(head: pa.Array) -> bool:
    """Whether all cells are times and none is a mere number."""
    if not is_text(head):
        return pa.types.is_timestamp(head.type) or pa.types.is_date(head.type)
    times, bad = to_ns(head, CALENDAR)
    return bad is None and bool(times.any())


def is_label(head: pa.Array) -> bool:
    """Whether most of the different cells are text, and no numbers."""
    if not is_text(head):
        return False
    values, bad = to_float32(head.unique())
    return bad is not None and int(bad.sum()) >= int(np.isfinite(values).sum())


def is_empty(head: pa.Array) -> bool:
    """Whether no cell says anything, and text could follow."""
    return is_text(head) and blanked(head).null_count == len(head)


def _is_numeric(head: pa.Array) -> bool:
    kind = head.type
    if not is_text(head):
        return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    values, bad = to_float32(head)
    return int(np.isfinite(values).sum()) > (0 if bad is None else int(bad.sum()))
