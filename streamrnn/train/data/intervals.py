"""Stretches of time, or of rows, that are left out of what is learned, or are all of it.

Of a journal of events, by their verdicts, or of a CSV: start,end[,label[,stream]], one a line.
"""

import csv
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.table.columns import listed
from streamrnn.table.times import ISO, form_of, to_ns
from streamrnn.train.data.recording import Part

EXCLUDED, ONLY = ("real", "work"), ("normal",)  # the verdicts of a journal that are meant
_SQLITE = b"SQLite format 3\0"
_NAMES = {  # of columns, by what they are
    "start": ("start", "begin", "from", "start_time", "begin_time", "timestamp_start"),
    "end": ("end", "stop", "to", "until", "end_time", "stop_time", "timestamp_end"),
    "label": ("label", "kind", "reason", "type"),
    "verdict": ("verdict",),
    "stream": ("stream", "machine", "device"),
}
_MOST = 1_000_000  # intervals
_MOST_BYTES = 1 << 28
_ROWS_BELOW = 10**8  # a whole number below is that of a row, not a time: in seconds it would be of 1973
_NEVER = np.iinfo(np.int64).max


class Interval(NamedTuple):
    """From one time, or row, to another, both in it."""

    begin: int  # ns since the Unix epoch, or the number of a row
    end: int
    label: str
    stream: str | None  # None = every one
    rows: bool  # whether these are numbers of rows


def read_intervals(path: Path, verdicts: tuple[str, ...]) -> list[Interval]:
    """The intervals in a file. Raises UserError, which says where, for one that holds none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: more than {_MOST_BYTES >> 20} MB; give fewer intervals")
        with path.open("rb") as file:
            is_journal = file.read(len(_SQLITE)) == _SQLITE
        found = _of_journal(path, verdicts) if is_journal else _of_csv(path, verdicts)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if not found:
        what = f"no event with the verdict {' or '.join(verdicts)}" if is_journal else "no interval"
        raise UserError(f"{path}: {what}; leave the option out, or name another file")
    return found


def _of_journal(path: Path, verdicts: tuple[str, ...]) -> list[Interval]:
    asked = (
        "SELECT coalesce(begin_ns, begin_wall_ns), "
        "CASE WHEN begin_ns IS NULL THEN end_wall_ns ELSE end_ns END, verdict, stream "
        "FROM events WHERE verdict IN (?, ?) ORDER BY id LIMIT ?"
    )
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as journal:
            rows = journal.execute(asked, (verdicts[0], verdicts[-1], _MOST)).fetchall()
    except sqlite3.Error as error:
        raise UserError(f"{path}: not a journal of events that can be read ({error})") from error
    return [
        Interval(int(begin), _NEVER if end is None else int(end), str(verdict), str(stream), False)
        for begin, end, verdict, stream in rows
    ]


def _of_csv(path: Path, verdicts: tuple[str, ...]) -> list[Interval]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(number, cells) for number, cells in enumerate(csv.reader(file), 1) if any(cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not CSV ({error}); write lines of start,end,label") from error
    if len(lines) > _MOST:
        raise UserError(f"{path}: more than {_MOST:,} intervals; give fewer")
    if not lines:
        return []
    names = [cell.strip().casefold() for cell in lines[0][1]]
    places: dict[str, int | None] = {what: _place(names, known) for what, known in _NAMES.items()}
    if places["start"] is None or places["end"] is None:
        places = {"start": 0, "end": 1, "label": 2, "stream": 3, "verdict": None}
    else:
        lines = lines[1:]

    def column(what: str) -> list[str]:
        place = places[what]
        if place is None:
            return [""] * len(lines)
        return [cells[place].strip() if place < len(cells) else "" for _, cells in lines]

    where = [f"{path}: line {number}" for number, _ in lines]
    begins, rows = _moments(column("start"), where, 0)
    ends, _ = _moments(column("end"), where, _NEVER, rows)
    labels, said, streams = column("label"), column("verdict"), column("stream")
    found = []
    for k, place in enumerate(where):
        if places["verdict"] is not None and said[k] not in verdicts:
            continue
        if ends[k] < begins[k]:
            raise UserError(f"{place}: ends before it begins; write start,end")
        label = said[k] or labels[k] or "no label"
        found.append(Interval(int(begins[k]), int(ends[k]), label, streams[k] or None, bool(rows[k])))
    return found


def _is_row(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and int(cell[:20]) < _ROWS_BELOW


def _place(names: list[str], known: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _moments(
    cells: list[str], where: list[str], missing: int, expected: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Times, ns, or numbers of rows, (n,) int64, and which are those of rows, (n,) bool.

    ``missing`` stands for an empty cell. Raises UserError for what is neither, or not as ``expected``.
    """
    rows = np.array([_is_row(cell) for cell in cells], bool)
    empty = np.array([not cell for cell in cells], bool)
    moments = np.full(len(cells), missing, np.int64)
    moments[rows] = [int(cell) for cell, row in zip(cells, rows, strict=True) if row]
    times = np.flatnonzero(~rows & ~empty)
    if len(times):
        texts = pa.array([cells[place] for place in times], pa.string())
        moments[times], bad = to_ns(texts, form_of(texts, None, False) or ISO)
        if bad is not None and bad.any():
            place = times[int(bad.argmax())]
            raise UserError(f"{where[place]}: {cells[place]!r} is no time, and no number of a row")
    if missing == 0 and empty.any():
        raise UserError(f"{where[int(empty.argmax())]}: says no start; write start,end")
    if expected is not None and (wrong := (rows != expected) & ~empty).any():
        raise UserError(f"{where[int(wrong.argmax())]}: is of a time and of a row; write two of one kind")
    return moments, rows


def within(part: Part, intervals: Sequence[Interval]) -> np.ndarray:
    """Which interval, by its place, has a row of a part, the first that does; -1 = none, (n,) int64."""
    found = np.full(len(part.seq), -1, np.int64)
    for rows, numbers in ((True, part.seq.astype(np.int64)), (False, part.ts_ns)):
        order = np.argsort(numbers, kind="stable")
        order = order if rows else order[numbers[order] != 0]  # 0 = no time
        numbers = numbers[order]
        for place in reversed(range(len(intervals))):
            begin, end, _, stream, of_rows = intervals[place]
            if of_rows == rows and stream in (None, part.stream):
                first, behind = np.searchsorted(numbers, begin), np.searchsorted(numbers, end, "right")
                found[order[first:behind]] = place
    return found


def choose_rows(
    parts: list[Part], excluded: list[Interval], only: list[Interval] | None
) -> tuple[list[Part], Counter[str], list[str]]:
    """The parts without the rows of ``excluded`` intervals, and of ``only`` those, where it is not None.

    What is left out is a gap. Also the rows left out, by label, and what a user should know. Raises UserError
    where nothing stays, or the intervals are of times and the rows have none.
    """
    if not excluded and only is None:
        return parts, Counter(), []
    kept, gone = list[Part](), Counter[str]()
    used = np.zeros(len(excluded), bool)
    timeless = any(not interval.rows for interval in (*excluded, *(only or ())))
    for part in parts:
        if timeless and not part.ts_ns.any():
            raise UserError(
                f"{part.source}: its rows have no times, and the intervals do; give numbers of rows, from 0"
            )
        hit = within(part, excluded)
        used[np.unique(hit[hit >= 0])] = True
        out = hit >= 0
        for place, count in zip(*np.unique(hit[out], return_counts=True), strict=True):
            gone[excluded[place].label] += int(count)
        if only is not None:
            other = ~out & (within(part, only) < 0)
            gone["outside of --only"] += int(other.sum())
            out |= other
        if not out.any():
            kept.append(part)
        elif not out.all():
            stay = ~out
            kept.append(part._replace(values=part.values[stay], seq=part.seq[stay], ts_ns=part.ts_ns[stay]))
    if not kept:
        raise UserError("--exclude and --only leave no row to learn from; give other intervals")
    notes = []
    streams = {part.stream for part in parts}
    others = sorted({interval.stream for interval in excluded if interval.stream} - streams)
    if others:
        notes.append(f"--exclude: no stream here is called {listed(others)}: that leaves nothing out")
    here = np.array([interval.stream is None or interval.stream in streams for interval in excluded], bool)
    if idle := int((here & ~used).sum()):
        notes.append(f"--exclude: {idle:,} of {len(excluded):,} intervals have no row here")
    return kept, +gone, notes
