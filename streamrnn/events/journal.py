"""The journal as a file: its schema, and what is asked of it.

An SQLite file in WAL mode (https://sqlite.org/wal.html), so whoever reads hinders nobody who writes, and a
process that is killed leaves it whole.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from streamrnn.errors import ConfigError, UserError
from streamrnn.events.recording import unpack

KINDS = ("event", "reset", "gap", "silence")
VERDICTS = ("", "real", "normal", "work")
VERSION = 1
NOTE_BYTES = 4096
MOST = 1000  # entries of one answer
# a wait for another who writes; transactions where we say so
_HOW: dict[str, Any] = {"timeout": 5.0, "isolation_level": None, "check_same_thread": False}
_WEEK_S = 7 * 86400
_MONDAY_S = 4 * 86400  # the first one since the Unix epoch
_NS = 10**9
_HOUR_NS = 3600 * _NS

_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  stream TEXT NOT NULL,
  begin_ns INTEGER, end_ns INTEGER,
  begin_wall_ns INTEGER NOT NULL, end_wall_ns INTEGER,
  begin_seq INTEGER, end_seq INTEGER, epoch INTEGER,
  rows INTEGER, peak REAL,
  detail TEXT NOT NULL DEFAULT '',
  channels TEXT NOT NULL DEFAULT '[]',
  verdict TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT '', judged_ns INTEGER);
CREATE INDEX events_of_stream ON events (stream, kind, begin_wall_ns);
CREATE INDEX events_in_time ON events (begin_wall_ns);
CREATE INDEX events_open ON events (kind, stream) WHERE end_wall_ns IS NULL;
CREATE TABLE recordings (
  event INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
  rows INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE lost (at_ns INTEGER NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL);
CREATE TABLE positions (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE missing (stream TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, event INTEGER NOT NULL, what TEXT NOT NULL);
PRAGMA user_version = {VERSION};
COMMIT;
"""
_FIELDS = (
    *("id", "kind", "stream", "begin_ns", "end_ns", "begin_wall_ns", "end_wall_ns", "begin_seq", "end_seq"),
    *("epoch", "rows", "peak", "detail", "channels", "verdict", "note", "judged_ns"),
)
FIELDS = (*_FIELDS, "recording")  # of an entry as it is told
_COLUMNS = ", ".join(f"events.{field}" for field in _FIELDS)
_TOLD = f"SELECT {_COLUMNS}, EXISTS (SELECT 1 FROM recordings WHERE event = events.id) FROM events"


class Filter(NamedTuple):
    """Which entries are asked for; empty and None: all."""

    stream: str = ""
    prefix: str = ""
    kind: str = ""
    verdict: str | None = None  # "" = those without one
    since_ns: int | None = None  # by the daemon's clock: what had not ended by then
    until_ns: int | None = None  # what had begun before
    before: int | None = None  # of a smaller id
    after: int | None = None  # of a larger one

    def where(self) -> tuple[str, list[object]]:
        """The condition in SQL, and its values."""
        found: list[tuple[str, object]] = []
        for name in ("stream", "kind"):
            if value := getattr(self, name):
                found.append((f"{name} = ?", value))
        if self.prefix:
            found.append((f"substr(stream, 1, {len(self.prefix)}) = ?", self.prefix))
        for name, text in (
            ("verdict", "verdict = ?"),
            ("since_ns", "(end_wall_ns IS NULL OR end_wall_ns >= ?)"),
            ("until_ns", "begin_wall_ns < ?"),
            ("before", "id < ?"),
            ("after", "id > ?"),
        ):
            if (value := getattr(self, name)) is not None:
                found.append((text, value))
        text = " AND ".join(condition for condition, _ in found)
        return f" WHERE {text}" if text else "", [value for _, value in found]


ALL = Filter()


@contextmanager
def transaction(run: Callable[..., Any]) -> Iterator[None]:
    """All of the block is in the file, or none of it; ``run`` is the ``execute`` of a connection."""
    run("BEGIN IMMEDIATE")
    try:
        yield
        run("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # it may have ended by itself
            run("ROLLBACK")
        raise


def note_lost(run: Callable[..., Any], now_ns: int, reason: str, count: int) -> None:
    """Notes within a transaction that so many entries were lost; those of an hour together."""
    recent = "UPDATE lost SET count = count + ? WHERE reason = ? AND at_ns > ?"
    if not run(recent, [count, reason, now_ns - _HOUR_NS]).rowcount:
        run("INSERT INTO lost VALUES (?, ?, ?)", [now_ns, reason, count])


class Journal:
    """An open journal, for one thread at a time."""

    def __init__(self, path: Path, write: bool = False):
        """Opens a journal to read or, making one where none is, to write.

        Raises UserError where that cannot be done, ConfigError for what is no journal of this version.
        """
        self.path = path
        with self._told():
            if write:
                self.connection = sqlite3.connect(path, **_HOW)
            else:
                if not path.is_file():
                    raise UserError(f"{path}: no such journal; name the file that events.path sets")
                address = f"{path.absolute().as_uri()}?mode=ro"
                self.connection = sqlite3.connect(address, uri=True, **_HOW)
        try:
            self._inode = path.stat().st_ino
            with self._told():
                self._begin(write)
        except (UserError, OSError):
            self.close()
            raise

    def _begin(self, write: bool) -> None:
        run = self.connection.execute
        version = run("PRAGMA user_version").fetchone()[0]
        empty = run("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if version == 0 and empty and write:
            try:
                self.connection.executescript(_SCHEMA)
            except sqlite3.OperationalError:
                if self.connection.in_transaction:
                    run("ROLLBACK")
                if run("PRAGMA user_version").fetchone()[0] != VERSION:  # not that another was faster
                    raise
        elif version == 0 and empty:
            raise UserError(f"{self.path}: has nothing yet; the daemon that keeps it makes it at its start")
        elif version != VERSION or empty:
            raise ConfigError(
                f"{self.path}: not a journal of events that this version knows; name another file"
            )
        run("PRAGMA foreign_keys = ON")
        if write:
            run("PRAGMA synchronous = FULL")
            run(f"PRAGMA journal_size_limit = {1 << 22}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Has what SQLite says told as an error of the file."""
        try:
            yield
        except sqlite3.NotSupportedError as error:
            raise UserError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise ConfigError(f"{self.path}: not a journal of events; name another file") from error
            raise UserError(f"{self.path}: the journal cannot be used ({error})") from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def is_there(self) -> bool:
        """Whether the file is the one that was opened: somebody may have removed it."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def entries(self, chosen: Filter = ALL, limit: int = 100) -> tuple[list[dict[str, Any]], int | None]:
        """The latest ``limit`` entries of those chosen, the latest first, as dicts of FIELDS.

        And the id to ask for those ``before`` it, None where there are no more.
        """
        where, values = chosen.where()
        with self._told():
            rows = self.connection.execute(
                f"{_TOLD}{where} ORDER BY id DESC LIMIT ?", [*values, limit + 1]
            ).fetchall()
        found = [_entry(row) for row in rows[:limit]]
        return found, found[-1]["id"] if len(rows) > limit else None

    def in_order(self, chosen: Filter = ALL) -> Iterator[dict[str, Any]]:
        """All entries that are chosen, the first one first."""
        after = chosen.after or 0
        while True:
            where, values = chosen._replace(after=after).where()
            with self._told():
                rows = self.connection.execute(
                    f"{_TOLD}{where} ORDER BY id LIMIT ?", [*values, MOST]
                ).fetchall()
            yield from map(_entry, rows)
            if len(rows) < MOST:
                return
            after = rows[-1][0]

    def one(self, event: int, recorded: bool = True) -> dict[str, Any] | None:
        """An entry, and its ``recording`` as ``recording.unpack`` gives it, or None; None for no such id.

        Without ``recorded`` it is as among ``entries``.
        """
        with self._told():
            row = self.connection.execute(f"{_TOLD} WHERE id = ?", [event]).fetchone()
            if row is None or not recorded:
                return None if row is None else _entry(row)
            kept = self.connection.execute("SELECT data FROM recordings WHERE event = ?", [event]).fetchone()
        return {**_entry(row), "recording": unpack(kept[0]) if kept else None}

    def timeline(self, since_ns: int, until_ns: int, bins: int, chosen: Filter = ALL) -> dict[str, Any]:
        """What a time line shows of each stream with entries between two times of the daemon's clock.

        ``streams``: by id a list of bars [begin, end, peak, id, verdict, kind, entries], times in ms, an end
        of None for what goes on. Of entries that begin within the same of ``bins`` parts there is one bar,
        with what is said of the highest.
        """
        width = max((until_ns - since_ns) // max(bins, 1), 1)
        where, values = chosen._replace(since_ns=since_ns, until_ns=until_ns).where()
        text = f"""
            SELECT stream, begin, end, peak, id, verdict, kind, entries FROM (
              SELECT stream, peak, id, verdict, kind, row_number() OVER (bar ORDER BY peak DESC, id) AS place,
                min(begin_wall_ns) OVER bar AS begin, count(*) OVER bar AS entries,
                CASE WHEN count(*) OVER bar = count(end_wall_ns) OVER bar
                  THEN max(end_wall_ns) OVER bar END AS end
              FROM (SELECT *, (begin_wall_ns - ?) / ? AS bin FROM events{where})
              WINDOW bar AS (PARTITION BY stream, kind, bin))
            WHERE place = 1 ORDER BY stream, begin"""
        streams: dict[str, list[list[object]]] = {}
        with self._told():
            for stream, begin, end, *said in self.connection.execute(text, [since_ns, width, *values]):
                ends = None if end is None else end // 10**6
                streams.setdefault(stream, []).append([begin // 10**6, ends, *said])
        return {"since": since_ns // 10**6, "until": until_ns // 10**6, "streams": streams}

    def counts(self, since_ns: int = 0, until_ns: int | None = None) -> list[dict[str, Any]]:
        """How many events each stream had in each week, from Monday on, UTC, and how they were judged.

        Dicts of ``stream``, ``week`` (its first day), ``events``, and one count for each verdict but "".
        """
        chosen = Filter(kind="event", until_ns=until_ns)
        where, values = chosen.where()
        judged = ", ".join(f"sum(verdict = '{verdict}')" for verdict in VERDICTS[1:])
        with self._told():
            rows = self.connection.execute(
                f"SELECT stream, (begin_wall_ns / {_NS} - {_MONDAY_S}) / {_WEEK_S} AS week, count(*),"
                f" {judged} FROM events{where} AND begin_wall_ns >= ?"
                " GROUP BY stream, week ORDER BY stream, week",
                [*values, since_ns],
            ).fetchall()
        return [
            {
                "stream": stream,
                "week": time.strftime("%Y-%m-%d", time.gmtime(_MONDAY_S + week * _WEEK_S)),
                "events": events,
                **dict(zip(VERDICTS[1:], by_verdict, strict=True)),
            }
            for stream, week, events, *by_verdict in rows
        ]

    def judge(self, event: int, verdict: str, note: str | None = None) -> dict[str, Any]:
        """Keeps a verdict on an entry and, unless None, a note. Returns the entry as it is then.

        Raises UserError for another verdict, a note that is too long, and where there is no such entry.
        """
        if verdict not in VERDICTS:
            raise UserError(f"{verdict!r} is no verdict; say {', '.join(VERDICTS[1:])} or none")
        if note is not None and len(note.encode()) > NOTE_BYTES:
            raise UserError(f"a note has at most {NOTE_BYTES:,} bytes; write a shorter one")
        with self._told():
            self.connection.execute(
                "UPDATE events SET verdict = ?, note = coalesce(?, note), judged_ns = ? WHERE id = ?",
                [verdict, note, time.time_ns(), event],
            )
        if (judged := self.one(event)) is None:
            raise UserError(f"{self.path}: no event {event}; `streamrnn events list` shows those there are")
        return judged

    def lost(self) -> list[tuple[int, str, int]]:
        """What was lost: when that was told, CLOCK_REALTIME ns, why, and how many entries."""
        with self._told(), closing(self.connection.execute("SELECT * FROM lost ORDER BY at_ns")) as rows:
            return rows.fetchall()


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    entry = dict(zip(FIELDS, row, strict=True))
    for name in ("begin_seq", "end_seq"):
        if (seq := entry[name]) is not None and seq < 0:  # SQLite's integers have a sign
            entry[name] = seq + (1 << 64)
    entry["channels"] = json.loads(entry["channels"])
    entry["recording"] = bool(entry["recording"])
    return entry
