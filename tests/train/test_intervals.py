"""Intervals that are left out of what is learned, or are all of it: of a journal of events and of CSV."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from test_train_data import fails, firsts, loaded, seconds, table

from streamrnn.errors import UserError
from streamrnn.train.data.dataset import Dataset
from streamrnn.train.data.intervals import EXCLUDED, ONLY, Interval, read_intervals
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.data.sequences import load_sequences

SECOND, BEGIN = 10**9, 1_581_166_800 * 10**9  # ns; 2020-02-08 13:00 UTC
COLUMNS = (
    "id INTEGER PRIMARY KEY, kind TEXT, stream TEXT, begin_ns INTEGER, end_ns INTEGER, "
    "begin_wall_ns INTEGER, end_wall_ns INTEGER, verdict TEXT"
)


def written(folder: Path, text: str, name: str = "intervals.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def journal(folder: Path, *events: tuple[object, ...]) -> Path:
    """Of stream, begin and end (s after BEGIN), when these were taken, and verdict."""
    path = folder / "events.db"
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute(f"CREATE TABLE events ({COLUMNS})")
        for stream, *times, verdict in events:
            ns = [None if time is None else BEGIN + time * SECOND for time in times]
            row = ("event", stream, *ns, verdict)
            file.execute(
                "INSERT INTO events (kind, stream, begin_ns, end_ns, begin_wall_ns, end_wall_ns, verdict) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
    return path


def ramp(folder: Path, rows: int = 20) -> Path:
    return table(folder, time=seconds(*range(rows)), a=range(rows), b=np.cos(range(rows)))


def without(folder: Path, text: str, **more: object) -> Dataset:
    return loaded(ramp(folder), without=(written(folder, text),), validation=0.2, **more)


@pytest.mark.parametrize(
    "text",
    [
        "start,end,label\n2020-02-08T13:00:05Z,2020-02-08 13:00:07,stuck\n",
        "2020-02-08 13:00:05,2020-02-08 13:00:07,stuck\n",
        "Begin,Kind,END\n1581166805,stuck,1581166807\n",
        "from;x\n".replace(";x", ",label,to") + "08.02.2020 13:00:05,stuck,08.02.2020 13:00:07\n",
        "5,7,stuck\n",
        "\ufeffstream,start,end,label\nvalve,5,7,stuck\nother,0,19,worn\n",
        "id,kind,stream,begin,end,verdict\n1,stuck,valve,5,7,real\n2,x,valve,0,19,\n3,x,valve,0,19,normal\n",
    ],
)
def test_rows_within_are_a_gap_and_no_target(tmp_path, text):
    found = without(tmp_path, text)
    assert firsts(found.train) == [[0, 1, 2, 3], [8, 9, 10, 11, 12, 13, 14, 15]]
    assert firsts(found.validation) == [[8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]]
    assert (found.facts.rows, found.facts.gaps) == (17, 1)
    assert found.facts.left_out == {"real" if "verdict" in text else "stuck": 3}
    assert any("no stream here is called other" in note for note in found.warnings) is ("other" in text)


def test_it_learns_what_it_would_of_the_other_rows_alone(tmp_path):
    excluded = without(tmp_path, "5,7\n11,13\n17,\n")
    rows = [row for row in range(17) if row not in (5, 6, 7, 11, 12, 13)]
    alone = loaded(table(tmp_path, "alone.csv", time=seconds(*rows), a=rows, b=np.cos(rows)), validation=0.2)
    for ours, theirs in ((excluded.train, alone.train), (excluded.validation, alone.validation)):
        assert firsts(ours) == firsts(theirs)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.targets, other.targets)
    for mean, other in zip(excluded.scaling, alone.scaling, strict=True):
        assert (mean == other).all()
    assert excluded.facts.left_out == {"no label": 9}


def test_only_intervals_are_learned(tmp_path):
    found = loaded(
        ramp(tmp_path),
        only=(written(tmp_path, "2,9\n12,18\n", "only.csv"),),
        without=(written(tmp_path, "4,4,worn\n"),),
        validation=0.2,
    )
    assert firsts(found.train) == [[2], [5, 6, 7, 8], [12, 13, 14]]
    assert found.facts.left_out == {"worn": 1, "outside of --only": 5}


def test_of_a_journal_what_was_judged_real_or_work(tmp_path):
    path = journal(
        tmp_path,
        ("valve", 5, 7, 100, 102, "real"),
        ("valve", None, None, 10, 11, "work"),  # a source without times: when the daemon took its rows
        ("valve", 0, 3, 0, 3, ""),
        ("valve", 13, 14, 13, 14, "normal"),
        ("valve", 18, None, 18, None, "real"),  # goes on
        ("pump", 0, 19, 0, 19, "real"),
    )
    found = loaded(ramp(tmp_path), without=(path,), validation=0.1)
    assert found.facts.left_out == {"real": 5, "work": 2}
    assert firsts(found.train) == [[0, 1, 2, 3], [8], [12, 13, 14, 15]]
    assert any("no stream here is called pump" in note for note in found.warnings)
    assert read_intervals(path, ONLY) == [
        Interval(BEGIN + 13 * SECOND, BEGIN + 14 * SECOND, "normal", "valve", False)
    ]
    assert read_intervals(path, EXCLUDED)[-1] == Interval(BEGIN, BEGIN + 19 * SECOND, "real", "pump", False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no interval; leave the option out"),
        ("start,end\n", "no interval"),
        ("start,end\nsoon,later\n", "line 2: 'soon' is no time"),
        ("5,7\n9,8\n", "line 2: ends before it begins"),
        ("5,2020-02-08 13:00:07\n", "line 1: is of a time and of a row"),
        (",7\n", "line 1: says no start"),
        ("0,19\n", "leave no row to learn from"),
        ("-5,7\n", "line 1"),
    ],
)
def test_what_says_no_interval_is_refused(tmp_path, text, why):
    path = written(tmp_path, text)
    assert why in fails(ramp(tmp_path), without=(path,))


def test_files_that_are_none_and_rows_that_have_no_times(tmp_path):
    broken = tmp_path / "events.db"
    broken.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert "not a journal of events" in fails(ramp(tmp_path), without=(broken,))
    broken.write_bytes(b"\xff\xfe5,7\n")
    assert "not CSV" in fails(ramp(tmp_path), without=(broken,))
    assert "cannot be read" in fails(ramp(tmp_path), without=(tmp_path / "gone.csv",))
    timed = written(tmp_path, "2020-02-08,2020-02-09\n")
    assert "its rows have no times" in fails(table(tmp_path, "plain.csv", a=range(9)), without=(timed,))
    with pytest.raises(UserError, match="learns from whole streams"):
        options = DataOptions(("x.csv",), targets=("a",), only=(timed,))
        load_sequences(options, "sequence-to-vector", None, 0)
