"""The journal as a file: what it answers, and what it refuses."""

import sqlite3

import numpy as np
import pytest

from streamrnn.errors import ConfigError, UserError
from streamrnn.events import recording
from streamrnn.events.journal import Filter, Journal

SECOND, WEEK = 10**9, 7 * 86400 * 10**9
MONDAY = 1_796_601_600 * SECOND  # 2026-12-07
COLUMNS = "(kind, stream, begin_wall_ns, end_wall_ns, begin_seq, peak, channels, verdict)"


def fill(journal: Journal, *rows: tuple) -> None:
    places = ", ".join("?" * 8)
    journal.connection.executemany(f"INSERT INTO events {COLUMNS} VALUES ({places})", rows)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "events.db", write=True) as journal:
        at = MONDAY
        fill(
            journal,
            ("event", "pump-1", at, at + SECOND, 5, 4.0, '[["flow", 0.75]]', "real"),
            ("event", "pump-1", at + 2 * SECOND, at + 3 * SECOND, -1, 6.5, "[]", ""),
            ("gap", "pump-1", at + 4 * SECOND, at + 4 * SECOND, 9, None, "[]", ""),
            ("event", "fan-1", at + WEEK, None, 7, 5.0, "[]", "normal"),
        )
        yield journal


def ids(journal: Journal, **chosen: object) -> list[int]:
    return [entry["id"] for entry in journal.entries(Filter(**chosen))[0]]


def test_entries_are_chosen_and_paged(journal):
    assert ids(journal) == [4, 3, 2, 1]
    assert ids(journal, stream="pump-1", kind="event") == [2, 1]
    assert ids(journal, prefix="fan") == [4]
    assert ids(journal, verdict="") == [3, 2] and ids(journal, verdict="real") == [1]
    assert ids(journal, since_ns=MONDAY + 3 * SECOND) == [4, 3, 2]  # what had not ended by then
    assert ids(journal, until_ns=MONDAY + 2 * SECOND) == [1]
    page, before = journal.entries(limit=3)
    assert [entry["id"] for entry in page] == [4, 3, 2] and before == 2
    assert journal.entries(Filter(before=before), limit=3)[1] is None
    assert [entry["id"] for entry in journal.in_order(Filter(after=1))] == [2, 3, 4]


def test_an_entry_is_told_whole(journal):
    first, second = journal.one(1), journal.one(2)
    assert first is not None and second is not None and journal.one(5) is None
    assert first["channels"] == [["flow", 0.75]] and first["recording"] is None
    assert second["begin_seq"] == 2**64 - 1


def test_a_recording_comes_back_as_columns(journal):
    heads = np.zeros(2, recording.ROW)
    heads["seq"], heads["score"] = [7, 8], [np.nan, 2.5]
    values, forecasts = np.float32([[1, 2], [3, np.nan]]), np.float32([[10], [20]])
    blob = recording.pack(heads, values, forecasts, [("flow", 100.0), ("p", 0.0)], [("flow", 0.0)])
    journal.connection.execute("INSERT INTO recordings VALUES (1, 2, ?)", [blob])
    entry = journal.one(1)
    assert entry is not None
    kept = entry["recording"]
    assert kept["values"] == [[101.0, 103.0], [2.0, None]] and kept["forecasts"] == [[10.0, 20.0]]
    assert kept["seq"] == [7, 8] and kept["score"] == [None, 2.5] and kept["channels"] == ["flow", "p"]
    for damaged in (blob[:-5], blob[:20] + b"?" + blob[21:], b""):
        with pytest.raises(UserError, match="damaged"):
            recording.unpack(damaged)


def test_a_time_line_has_a_bar_for_what_lies_close(journal):
    line = journal.timeline(MONDAY, MONDAY + 2 * WEEK, bins=14)
    begin = MONDAY // 10**6
    assert line["streams"]["pump-1"] == [
        [begin, begin + 3000, 6.5, 2, "", "event", 2],
        [begin + 4000, begin + 4000, None, 3, "", "gap", 1],
    ]
    assert line["streams"]["fan-1"] == [[begin + WEEK // 10**6, None, 5.0, 4, "normal", "event", 1]]
    apart = journal.timeline(MONDAY, MONDAY + 10 * SECOND, bins=10, chosen=Filter(prefix="pump"))["streams"]
    assert [bar[3] for bar in apart["pump-1"]] == [1, 2, 3] and len(apart) == 1


def test_events_are_counted_by_stream_and_week(journal):
    assert journal.counts() == [
        {"stream": "fan-1", "week": "2026-12-14", "events": 1, "real": 0, "normal": 1, "work": 0},
        {"stream": "pump-1", "week": "2026-12-07", "events": 2, "real": 1, "normal": 0, "work": 0},
    ]
    assert [each["stream"] for each in journal.counts(MONDAY + WEEK)] == ["fan-1"]


def test_a_verdict_and_a_note_are_kept(journal):
    judged = journal.judge(2, "work", "new bearing")
    assert (judged["verdict"], judged["note"]) == ("work", "new bearing") and judged["judged_ns"]
    assert journal.judge(2, "")["note"] == "new bearing"
    with pytest.raises(UserError, match="no event 9"):
        journal.judge(9, "real")
    with pytest.raises(UserError, match="no verdict"):
        journal.judge(2, "perhaps")


def test_what_is_no_journal_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such journal"):
        Journal(tmp_path / "none.db")
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match="nothing yet"):
        Journal(tmp_path / "empty")
    (tmp_path / "text").write_text("not a database at all, " * 50)
    with pytest.raises(ConfigError, match="not a journal"):
        Journal(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (a)")
    for write in (False, True):
        with pytest.raises(ConfigError, match="not a journal"):
            Journal(tmp_path / "other.db", write)
