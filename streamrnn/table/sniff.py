"""What a text file is: its delimiter, the line that names the columns, their units, where the rows begin.

Nothing is believed of the first line alone: the rows further down show how many fields there are and what is
in them, and the lines above the first row that is like those are names, units, titles.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from streamrnn.errors import UserError
from streamrnn.recordings.time_names import is_time_name
from streamrnn.table.lines import FRACTION, NUMBER, SAMPLE, SPACE, Record, find_delimiter, kind_of, records_of
from streamrnn.table.reading import Reading
from streamrnn.table.units import is_kind, is_unit

TOA5 = "TOA5"
MOST_COLUMNS = 4096
TYPED = ("number", "comma", "time", "word")  # kinds of cells that names are not


class Dialect(NamedTuple):
    """What a text file was taken for; n fields a row."""

    delimiter: str  # one character; SPACE = runs of them
    names: list[str]  # (n,)
    units: dict[str, str]  # of the columns that have one
    first: int  # the line of the first row, from 1
    named: int  # the line of the names; 0 = none
    comments: bool  # whether lines that begin with # are left out
    commas: frozenset[int]  # columns of decimal commas
    padded: bool  # whether spaces stand between a delimiter and a quote
    form: str  # the kind of file, where it is a known one


def sniff(head: str, whole: bool, reading: Reading, where: str) -> Dialect | None:
    """What ``head``, the first lines of a file, says; None if more lines are needed, unless it is ``whole``.

    What ``reading`` tells is not guessed. Raises UserError for a file whose columns cannot be told.
    """
    delimiter = reading.delimiter or find_delimiter(head, reading.decimal == "comma")
    records = records_of(head, delimiter, where, reading.missing)
    if not records:
        if whole:
            raise UserError(f"{where}: is empty; its first line must name the columns")
        return None
    plain = [record for record in records if not record.text.startswith("#")] or records
    width = _width(plain)
    if width > MOST_COLUMNS:
        raise UserError(
            f"{where}: a row has {width:,} fields; at most {MOST_COLUMNS:,} columns are read; see --delimiter"
        )
    kinds = _kinds(plain, width)
    begin = _first_row(records, width, kinds, reading)
    if begin == len(records) and not whole and reading.data_line is None:
        return None
    above = [record for record in records[:begin] if record.fields and any(record.fields)]
    named, comments = _names_record(above, width, kinds, reading, where if delimiter != SPACE else None)
    below = [r for r in above if named is not None and r.line > named.line]
    if reading.data_line is None:  # what stands between names and rows, and is no unit, is a row that is bad
        places = range(len(below))
        bad = next(
            (
                k
                for k in places
                if not (_is_below(below[k], width) or (k == 0 and _is_words(below[k], kinds)))
            ),
            len(below),
        )
        begin, below = begin - len(below) + bad, below[:bad]
    rows = records[begin:]
    names = _names(named, above, width, rows, reading, where)
    return Dialect(
        delimiter,
        names,
        _units(names, below),
        rows[0].line if rows else records[-1].end,
        0 if named is None else named.line,
        comments,
        frozenset(place for place, kind in enumerate(kinds) if kind == "comma"),
        delimiter != SPACE and re.search(re.escape(delimiter) + ' +"', head) is not None,
        TOA5 if records[0].fields[:1] == [TOA5] else "",
    )


def _width(records: list[Record]) -> int:
    """The number of fields that most of the last records have."""
    tail = records[len(records) // 3 :][-SAMPLE:] if len(records) > 2 else records[-1:]
    return Counter(len(record.fields) for record in tail).most_common(1)[0][0]


def _kinds(records: list[Record], width: int) -> list[str]:
    """What most cells of each column are, of those that say something."""
    tail = [record.fields for record in records[-SAMPLE:] if len(record.fields) == width]
    tail = tail[len(tail) // 3 :] if len(tail) > 2 else tail[-1:]
    kinds = []
    for place in range(width):
        counts = Counter(kind_of(fields[place]) for fields in tail)
        del counts["missing"]
        if counts["comma"]:
            points = sum("." in fields[place] and "," not in fields[place] for fields in tail)
            if counts["comma"] >= points:  # whole numbers among them have neither
                counts["comma"] += counts.pop("number", 0)
        kinds.append(counts.most_common(1)[0][0] if counts else "missing")
    return kinds


def _first_row(records: list[Record], width: int, kinds: list[str], reading: Reading) -> int:
    """The place of the first record that is a row; all of them if none is."""
    if reading.data_line is not None:
        line = reading.data_line
    elif reading.header_line:
        line = next((r.end for r in records if r.line >= reading.header_line), 1)
    else:
        line = 1
    places = range(len(records))
    begin = next((place for place in places if records[place].line >= line), len(records))
    if reading.data_line is not None:
        return begin
    if reading.header_line == 0:
        return next((place for place in places if not records[place].text.startswith("#")), len(records))
    if not any(kind in TYPED for kind in kinds):
        return begin + (0 if reading.header_line is not None or reading.names else 1)
    for place in range(begin, len(records)):
        seems = _seems_row(records[place], width, kinds)
        following = records[place + 1 : place + 2]
        if seems or (seems is None and not any(_seems_row(r, width, kinds) is False for r in following)):
            return place
    return len(records)


def _seems_row(record: Record, width: int, kinds: list[str]) -> bool | None:
    """Whether it is a row, as a time among its times or most of its cells say; None where nothing does."""
    if record.text.startswith("#") or len(record.fields) != width:
        return False
    cells = [(kind_of(cell), kind) for cell, kind in zip(record.fields, kinds, strict=False) if kind in TYPED]
    times = [found for found, kind in cells if kind == "time" and found != "missing"]
    if "time" in times:
        return True
    if times and {*times} == {"text"} and not any(map(FRACTION.fullmatch, record.fields)):
        return False  # "time" above times: names, though others be numbers
    if not record.fields[0].strip() and kinds[0] in TYPED and _rises(record.fields[1:]):
        return False  # 0, 1, 2 as pandas names columns that have no names
    said = [(found, kind) for found, kind in cells if found != "missing"]
    alike = sum(found == kind or {found, kind} <= {"number", "comma"} for found, kind in said)
    return 2 * alike > len(said) if said else None


def _rises(cells: list[str]) -> bool:
    """Whether cells are numbers of which each is above the one before."""
    if len(cells) < 2 or not all(NUMBER.fullmatch(cell.strip()) for cell in cells):
        return False
    return all(a < b for a, b in pairwise(map(float, cells)))


def _check_nearest(above: list[Record], width: int, where: str) -> None:
    """Raises UserError for a line of several fields above the rows that are not as many as the columns."""
    nearest = next((record for record in reversed(above) if not record.text.startswith("#")), None)
    if nearest is not None and len(nearest.fields) > 2:
        raise UserError(
            f"{where}: line {nearest.line} has {len(nearest.fields)} fields, and every row {width}; if it "
            "has the names, give all of them with --names; else say that none has them with --header-line 0"
        )


def _names_record(
    above: list[Record], width: int, kinds: list[str], reading: Reading, where: str | None
) -> tuple[Record | None, bool]:
    """The record of the names, None if there is none, and whether lines that begin with # are comments."""
    comments = any(record.text.lstrip().startswith("#") for record in above)
    if reading.header_line == 0:
        return None, comments
    if reading.header_line is not None:
        found = next((record for record in above if record.line <= reading.header_line < record.end), None)
        return found, comments
    above = [record for record in above if not _is_no_names(record)]
    if above and above[0].fields[:1] == [TOA5]:
        return (above[1] if len(above) > 1 else None), comments
    fitting = _run_before_rows(above, width) or [
        r for r in above if len(r.fields) == width and _names_time(r.fields, kinds)
    ]
    if not any(_filled(record.fields, width) for record in fitting):
        if where is not None and reading.names is None:
            _check_nearest(above, width, where)
        marked = [r for r in above if r.text.startswith("#") and _fits(r.fields, width) and width > 1]
        marked = [r for r in marked if _filled(r.fields, width) and not any(map(NUMBER.fullmatch, r.fields))]
        return _best(marked, kinds, nearest=True), comments
    return _best([r for r in fitting if _filled(r.fields, width)], kinds), comments


def _is_no_names(record: Record) -> bool:
    """Whether a line holds numbers alone, one of them twice: above the rows, it says something else."""
    fields = [field for field in record.fields if field]
    return all(map(NUMBER.fullmatch, fields)) and len({*fields}) < len(fields)


def _best(full: list[Record], kinds: list[str], nearest: bool = False) -> Record | None:
    """The likeliest of some lines to name the columns: it names the time, and says no units."""
    timed = [
        r for r in full if _names_time(_bare(r), kinds) and not all(map(is_kind, filter(None, _bare(r))))
    ]
    words = [record for record in full if not _is_units(_bare(record))]
    first = words[-1:] if nearest else words[:1]
    best = [record for record in timed if record in words][-1:] or timed[:1] or first or full[:1]
    return best[0] if best else None


def _bare(record: Record) -> list[str]:
    """The fields of a line without the mark of a comment."""
    return [record.fields[0].lstrip("# "), *record.fields[1:]] if record.fields else []


def _is_below(record: Record, width: int) -> bool:
    """Whether a line below the names says units and the like, and is no row."""
    return record.text.startswith("#") or (_fits(record.fields, width) and _is_units(record.fields))


def _is_words(record: Record, kinds: list[str]) -> bool:
    """Whether a line has words, not all the same, where every row has numbers or times: units that are not
    known."""
    if len(record.fields) != len(kinds) or not all(kind in ("number", "comma", "time") for kind in kinds):
        return False
    said = [cell.strip() for cell in record.fields if cell.strip()]
    return len({*said}) > 1 and all(kind_of(cell) == "text" for cell in said)


def _run_before_rows(above: list[Record], width: int) -> list[Record]:
    """The lines above the rows of as many fields, with nothing but comments between them and the rows."""
    run: list[Record] = []
    for record in reversed(above):
        if record.text.lstrip().startswith("#"):
            continue
        if not _fits(record.fields, width):
            break
        run.append(record)
    return run[::-1]


def _fits(fields: list[str], width: int) -> bool:
    return len(fields) == width or (width > 2 and abs(len(fields) - width) == 1)


def _filled(fields: list[str], width: int) -> bool:
    return sum(bool(cell.strip()) for cell in fields) * 2 >= width


def _is_units(fields: Sequence[str]) -> bool:
    """Whether a row says units, types or how values were made (TOA5's Avg and Smp)."""
    said = [cell.strip() for cell in fields if cell.strip()]
    return not said or 2 * sum(is_unit(cell) or is_kind(cell) for cell in said) >= len(said)


def _names_time(fields: Sequence[str], kinds: list[str]) -> bool:
    return any(kind == "time" and is_time_name(cell) for cell, kind in zip(fields, kinds, strict=False))


def _names(
    named: Record | None,
    above: list[Record],
    width: int,
    rows: list[Record],
    reading: Reading,
    where: str,
) -> list[str]:
    """The names of the columns, as many as a row has fields."""
    if reading.names is not None:
        names, line = list(reading.names), "--names"
    elif named is None:
        if reading.header_line:
            raise UserError(f"{where}: line {reading.header_line} names no columns; see --header-line")
        return [f"c{place + 1}" for place in range(width)]
    else:
        names, line = [name.strip(" ") for name in _of_one_line(named, above)], f"line {named.line}"
    lengths = Counter(len(record.fields) for record in rows)
    if not rows or lengths[len(names)]:
        return names
    if len(names) == width - 1:
        if all(not record.fields[-1].strip() for record in rows if len(record.fields) == width):
            return [*names, ""]  # every row ends in a delimiter
        if _counts([record.fields[0] for record in rows if len(record.fields) == width]):
            return ["", *names]  # numbered rows, as R writes them
    if len(names) == width + 1 and not names[-1].strip():
        return names[:-1]
    raise UserError(
        f"{where}: {line} names {len(names)} columns, and every row has {width} fields; say which line has "
        "the names with --header-line, or name all of them with --names"
    )


def _of_one_line(named: Record, above: list[Record]) -> list[str]:
    """The names of a line; where they repeat, with those of the line above them before each."""
    names = list(named.fields)
    if named.text.startswith("#"):
        names[0] = names[0].lstrip("#").strip()
    place = above.index(named)
    said = [name.strip() for name in names if name.strip()]
    if len(set(said)) == len(said) or place == 0 or len(above[place - 1].fields) != len(names):
        return names
    group = above[place - 1].fields
    return [" ".join(filter(None, map(str.strip, pair))) for pair in zip(group, names, strict=True)]


def _counts(cells: list[str]) -> bool:
    numbers = [int(cell) for cell in cells if cell.strip().isdecimal() and cell.isascii()]
    return len(numbers) == len(cells) > 1 and all(b == a + 1 for a, b in pairwise(numbers))


def _units(names: list[str], below: list[Record]) -> dict[str, str]:
    """The units that a line below the names gives; types and the like are none."""
    for record in below:
        if record.text.startswith("#"):
            continue
        cells = [cell.strip().strip("[]()").strip() for cell in record.fields]
        said = [cell for cell in cells if cell]
        if said and not all(map(is_kind, said)):
            return {
                name: cell
                for name, cell in zip(names, cells, strict=False)
                if name.strip() and cell and cell != "-" and cell.isprintable()
            }
    return {}
