"""Which column of a file, or which of its columns together, hold the times of the rows."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.recordings.time_names import rank_of, says_date, unit_of_cell, unit_of_name
from streamrnn.table.blocks import Again
from streamrnn.table.cell_values import blanked, is_text, quoted
from streamrnn.table.columns import find_columns
from streamrnn.table.reading import NO_TIME, Reading
from streamrnn.table.time_parts import (
    TimeColumn,
    find_clock,
    find_date,
    in_order,
    is_digits_of_day,
    join_times,
    joined,
    unnamed,
)
from streamrnn.table.time_text import parse_times
from streamrnn.table.times import TimeForm, form_of, is_undated, orders_of, to_ns, told_form

UNRANKED = 99
# names of other things as well: only an even clock is believed
WEAK = ("t", "data", "start", "end", "measured", "recorded", "logged", "changed", "updated", "created")
EVEN = 0.8  # the share of steps that are the usual one, in an even clock
RISING = 0.9  # the share of steps that a clock goes forward in; between machines it may go back
LEAST = 5  # steps of numbers that no name says to be times
THIS_CENTURY = (946684800 * 10**9, 2524608000 * 10**9)  # ns
MOST_ROWS = 1 << 20  # rows looked at to tell the day from the month


class Candidate(NamedTuple):
    place: int
    form: TimeForm
    rank: int
    moves: bool
    dated: bool
    timed: bool


class Head(NamedTuple):
    """The columns of a file by their first cells."""

    names: Sequence[str]
    units: dict[str, str]  # of columns by name
    cells: Sequence[pa.Array]
    candidates: dict[int, Candidate]  # those that may be times, by place


def look_at(
    names: Sequence[str], units: dict[str, str], cells: Sequence[pa.Array], places: Collection[int]
) -> Head:
    """The columns of a file, and what those at ``places`` would be as times."""
    found = {
        place: candidate
        for place in places
        if (candidate := _candidate(place, names[place], units.get(names[place], ""), cells[place]))
    }
    return Head(names, units, cells, found)


def choose_time(
    head: Head, free: Collection[int], reading: Reading, where: str, again: Again | None
) -> TimeColumn | None:
    """The columns of the times of a file, as ``reading`` tells or they show; None for none.

    ``free`` are the places of columns that are nothing else; ``again`` reads the file from the beginning,
    where that can be done. Raises UserError for columns that hold no times, or whose day and month cannot be
    told apart.
    """
    if reading.time == (NO_TIME,):
        return None
    told = reading.time_format
    if reading.time is None:
        time = find_time(head, free)
        if time is None and told is not None:
            raise UserError(f"{where}: no column of times was found; name it with --time-column")
        if time is None:
            return None
    else:
        places = find_columns(reading.time, head.names, where)
        if told is not None and len(places) == 1:
            form = told_form(told)
            return TimeColumn((places[0],), form, undated=is_undated(head.cells[places[0]], form))
        time = told_time(places, head, where)
    return (
        settle_order(time, head.names, where, again) if told is None else time._replace(form=told_form(told))
    )


def find_time(head: Head, free: Collection[int]) -> TimeColumn | None:
    """The columns of the times of a file: they move from row to row, and their names or cells say so.

    A calendar without a time of day is taken together with a time of day beside it.
    """
    names, cells = head.names, head.cells
    free = sorted(free)
    candidates = [head.candidates[place] for place in free if place in head.candidates]
    whole = sorted((c for c in candidates if c.dated and c.timed), key=_order)
    parts = find_date(names, cells, free)
    if parts or any(not candidate.timed for candidate in candidates):  # 730 beside a date is half past seven
        whole = [
            c
            for c in whole
            if c.form.kind != "number" or not is_digits_of_day(names[c.place], cells[c.place])
        ]
    if whole and whole[0].moves:
        return TimeColumn((whole[0].place,), whole[0].form)
    days, clocks = (
        sorted(some, key=_order)
        for some in ((c for c in candidates if not c.timed), (c for c in candidates if not c.dated))
    )
    for date in (*((day.place,) for day in days), *([parts] if parts else [])):
        rest = [place for place in free if place not in date]
        clock = find_clock(names, cells, rest, [clock.place for clock in clocks], date)
        if clock or len(date) > 1:
            return joined((*date, *clock), names, cells)
    if not (others := [*whole, *days, *clocks]):
        return unnamed(names, cells)
    best = others[0]
    return TimeColumn((best.place,), best.form, undated=not best.dated)


def told_time(places: Sequence[int], head: Head, where: str) -> TimeColumn:
    """The form of the columns that were told. Raises UserError if they hold no times."""
    if len(places) > 1:
        return joined(in_order(places, head.names), head.names, head.cells)
    if not places:
        raise UserError(f"{where}: --time-column names no column; give one, or none for no times")
    (place,) = places
    name, cells = head.names[place], head.cells[place]
    unit = unit_of_name(name) or unit_of_cell(head.units.get(name, ""))
    form = form_of(cells, unit, says_date(name))
    if form is None:
        said = blanked(cells).drop_null()
        raise UserError(
            f'{where}: column "{name}" holds no times but {quoted(said[0]) if len(said) else "nothing"}; if '
            "they are, say how they are written with --time-format, such as %d.%m.%Y/%H:%M"
        )
    return TimeColumn((place,), form, undated=is_undated(cells, form))


def settle_order(time: TimeColumn, names: Sequence[str], where: str, again: Again | None) -> TimeColumn:
    """Tells the day from the month by the whole column, where its first cells do not.

    ``again`` gives all cells of columns, block by block, None where they cannot be read twice. Raises
    UserError if they do not tell either.
    """
    if time.form.kind != "text" or time.form.detail:
        return time
    cells: list[pa.Array] = []
    for block in again(list(time.places)) if again is not None else ():
        cells.append(join_times(block.columns, time))
        rows = pa.concat_arrays([part.cast(pa.string()) for part in cells])
        if len(orders := orders_of(rows)) == 1 or len(rows) >= MOST_ROWS:
            break
    else:
        orders = orders_of(pa.concat_arrays(cells)) if cells else []
    listed = " and ".join(f'"{names[place]}"' for place in time.places)
    first = quoted(cells[0][0]) if cells and len(cells[0]) else "its times"
    if not orders and cells:
        raise UserError(
            f"{where}: {first} in column {listed} is no date; say how it is written with --time-format, or "
            "name another with --time-column"
        )
    if len(orders) != 1:
        raise UserError(
            f"{where}: {first} in column {listed} may begin with the day or with the month; say which with "
            "--time-format day-first or --time-format month-first"
        )
    return time._replace(form=TimeForm("text", orders[0]))


def _order(candidate: Candidate) -> tuple[bool, int, int]:
    return not candidate.moves, candidate.rank, candidate.place


def _candidate(place: int, name: str, unit_cell: str, cells: pa.Array) -> Candidate | None:
    rank = rank_of(name)
    unit = unit_of_name(name) or (unit_of_cell(unit_cell) if rank is not None else None)
    form = form_of(cells, unit, rank is not None and says_date(name))
    if form is None or (form.kind != "text" and rank is None and not _is_epoch(cells, form)):
        return None
    if not is_text(cells) or form.kind != "text":
        ns, bad = to_ns(cells, form)
        known = ns[ns != 0] if bad is None else ns[(ns != 0) & ~bad]
        days = form.kind == "digits" and bool(len(known)) and not (known % (86400 * 10**9)).any()
        if form.kind != "text" and not days and not _runs(known, name):
            return None
        dates = pa.types.is_date(cells.type)
        return Candidate(place, form, _rank(rank), _moves(known), True, not dates and not days)
    parsed = parse_times(blanked(cells), form.detail or "dmy")
    known = parsed.ns[parsed.good]
    if not len(known):
        return None
    dated, timed = bool(parsed.dated.any()), bool(parsed.timed[parsed.good].any())
    return Candidate(place, form, _rank(rank), _moves(known), dated, timed)


def _is_epoch(cells: pa.Array, form: TimeForm) -> bool:
    """Whether numbers under any name are times since 1970: of this century, and always rising."""
    if to_ns(cells[:1], form)[0].max(initial=0) < THIS_CENTURY[0]:
        return False
    ns, bad = to_ns(cells, form)
    known = ns[ns != 0] if bad is None else ns[(ns != 0) & ~bad]
    steps = np.diff(known)
    return (
        len(steps) >= LEAST
        and bool((steps >= 0).all() and _moves(known))
        and THIS_CENTURY[0] < known[0] <= known[-1] < THIS_CENTURY[1]
    )


def _rank(rank: int | None) -> int:
    return UNRANKED if rank is None else rank


def _moves(ns: np.ndarray) -> bool:
    return len(ns) > 1 and bool((ns != ns[0]).any())


def _runs(ns: np.ndarray, name: str) -> bool:
    """Whether numbers run like a clock; a few do not tell."""
    steps = np.diff(ns)
    if len(steps) < 2:
        return True
    if name.strip().casefold() in WEAK:
        steps = steps[steps != 0]  # machines may write at once
        usual = np.median(steps) if len(steps) else 0
        return usual > 0 and float((np.abs(steps - usual) <= 0.01 * usual + 1).mean()) >= EVEN
    rising = RISING if len(steps) > 2 * LEAST else 0.5
    return _moves(ns) and (float((steps >= 0).mean()) >= rising or bool((steps <= 0).all()))
