"""Rows that cannot be read, files that end badly, and pipes."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tables import fails, read, write

from streamrnn.table import csv_file

SKIP = "leave such rows out with --on-error skip"
NOT = 'line 5, column "Pressure": '


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Writes text or bytes to a file and returns its path."""
    return partial(write, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "5,abc,1,p",
            f'{NOT}"abc" is not a number; if it means a missing value give --missing abc, or {SKIP}',
        ),
        ("5,?,1,p", f"{NOT}\"?\" is not a number; if it means a missing value give --missing '?', or {SKIP}"),
        (f"5,{'z' * 99},1,p", f'{NOT}"{"z" * 40}..." is not a number; {SKIP}'),
        ("5", f"line 5 has 1 field, expected 4; {SKIP}"),
        ("5,1,1", f"line 5 has 3 fields, expected 4; {SKIP}"),
        ("5,1,1,p,q", f"line 5 has 5 fields, expected 4; {SKIP}"),
        ("-5,1,1,p", f'line 5, column "n": "-5" is not a whole number, 0 or above; {SKIP}'),
        (",1,1,p", f'line 5, column "n": "" is not a whole number, 0 or above; {SKIP}'),
        ("5,1,noon,p", f'line 5, column "time": "noon" is not a time; {SKIP}'),
        ("5,1,1,", f'line 5, column "id": "" is not a stream id (1 to 127 bytes of UTF-8); {SKIP}'),
    ],
)
@pytest.mark.parametrize("chunk", [10, 1 << 20])
def test_bad_rows(csv, monkeypatch, line, message, chunk):
    monkeypatch.setattr(csv_file, "CHUNK", chunk)
    path = csv(f"n,Pressure,time,id\n1,1,1,p\n\n2,2,2,p\n{line}\n6,3,x,p\n7,4,7,q\n")
    columns = {"seq": "n", "stream": "id"}
    assert fails(path, ["Pressure"], **columns) == message
    result = read(path, ["Pressure"], **columns, on_error="skip")
    assert (result.rows.values[:, 0].tolist(), result.rows.seq.tolist()) == ([1, 2, 4], [1, 2, 7])
    assert (result.ids, result.rows.time.to_pylist()) == (["p", "p", "q"], ["1", "2", "7"])
    assert result.reader.skipped == 2
    assert len(read(path, ["Pressure"], **columns, limit=2).rows.seq) == 2


def test_ids_of_an_older_encoding_or_too_long(csv):
    path = csv(b"id,x\n" + b"S\xfcd,1\n" + b"y" * 128 + b",2\n" + b"y" * 127 + b",3\n")
    assert "is not a stream id" in fails(path, ["x"], stream="id")
    result = read(path, ["x"], stream="id", on_error="skip")
    assert (result.ids, result.reader.skipped) == (["Süd", "y" * 127], 1)


@pytest.mark.parametrize("chunk", [10, 1 << 20])
def test_a_skipped_row_leaves_a_gap(csv, monkeypatch, chunk):
    monkeypatch.setattr(csv_file, "CHUNK", chunk)
    path = csv("id,x\np,1\nq,1\np,oops\nq,2\np,3\nq,9,9\nq,3\n")
    one = read(path, ["x"], on_error="skip")
    assert (one.rows.seq.tolist(), one.reader.skipped) == ([0, 1, 3, 4, 6], 2)
    each = read(path, ["x"], stream="id", on_error="skip")
    assert list(zip(each.ids, each.rows.seq.tolist(), strict=True)) == [
        *(("p", 0), ("q", 0), ("q", 1), ("p", 2)),
        ("q", 2),  # whose the row of three fields was is not known
    ]


def test_many_bad_cells_among_good_ones(csv):
    path = csv("x\n" + "".join("ERR\n" if row % 3 == 0 else f"{row}\n" for row in range(3000)))
    result = read(path, ["x"], on_error="skip")
    assert result.reader.skipped == 1000
    assert result.rows.values[:, 0].tolist() == [row for row in range(3000) if row % 3]
    assert result.rows.seq.tolist() == [row for row in range(3000) if row % 3]


def test_line_numbers_count_the_lines_inside_quotes(csv):
    path = csv('a,note\n1,"two\nlines"\n\n2,x\noops,y\n')
    remedy = f"if it means a missing value give --missing oops, or {SKIP}"
    assert fails(path, ["a"]) == f'line 6, column "a": "oops" is not a number; {remedy}'
    path = csv('a,note\n1,"' + "line\n" * 20_000 + '"\noops,y\n')  # longer than what is looked at first
    assert fails(path, ["a"]) == f'line 20003, column "a": "oops" is not a number; {remedy}'


def test_a_quote_that_is_not_closed(csv):
    rows = "".join(f"{row},x\n" for row in range(100))
    path = csv(f'a,note\n1,"open\n{rows}')
    for on_error in ("fail", "skip"):
        assert fails(path, ["a"], on_error=on_error).startswith("line 2: a quoted field is not closed")
    inch = csv(f'a,note\n1,5" pipe\n{rows}', "inch.csv")
    assert len(read(inch, ["a"]).rows.seq) == 101


def test_long_fields_and_lines(csv, monkeypatch):
    path = csv("a,note\n1," + "x" * 9_000_000 + "\n2,y\n")
    assert read(path, ["a"]).rows.values.tolist() == [[1], [2]]
    monkeypatch.setattr(csv_file, "LONGEST", 1 << 20)
    assert fails(path, ["a"]) == "has a line longer than 1 MB; is it a CSV file?"


def test_gzip_is_told_by_its_content(csv):
    packed = gzip.compress(b"a\n1\n2\n") + gzip.compress(b"3\n")
    path = csv(packed, "rows.dat")
    assert read(path).rows.values.tolist() == [[1], [2], [3]]
    assert fails(csv(packed[:-4])) == "its gzip data ends early; copy the file again"
    assert fails(csv(packed[:20] + b"\0\xff\0" + packed[23:])).startswith("its gzip data is damaged")


def test_the_limit(csv, monkeypatch):
    monkeypatch.setattr(csv_file, "CHUNK", 100)
    path = csv("a\n" + "".join(f"{row}\n" for row in range(1000)) + "oops\n")
    for limit in (0, 1, 17, 1000):
        assert read(path, ["a"], limit=limit).rows.values[:, 0].tolist() == list(range(limit))
    assert read(path, ["a"], limit=2000, on_error="skip").reader.skipped == 1


PIPE = """
import sys
from streamrnn.table import Reading, open_rows
with open_rows("-", None, Reading()) as reader:
    for rows in reader:
        print(reader.streams, reader.channels, rows.values.tolist(), flush=True)
"""


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input(packed):
    content = b"a,b\n1,2\n3,4\n"
    content = gzip.compress(content) if packed else content
    done = subprocess.run([sys.executable, "-c", PIPE], input=content, capture_output=True, check=True)
    assert done.stdout == b"['stdin'] ['a', 'b'] [[1.0, 2.0], [3.0, 4.0]]\n"


def test_a_slow_pipe_is_read_as_it_comes():
    with subprocess.Popen(
        [sys.executable, "-c", PIPE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin and child.stdout
        for piece, line in ((b"a\n1\n", b"[[1.0]]\n"), (b"2\n3", b"[[2.0]]\n"), (b"4\n", b"[[34.0]]\n")):
            child.stdin.write(piece)
            child.stdin.flush()
            assert child.stdout.readline().endswith(line)  # before the pipe has ended
        child.stdin.close()
        assert child.wait(30) == 0


def test_parquet_from_a_pipe_is_refused():
    done = subprocess.run([sys.executable, "-c", PIPE], input=b"PAR1\n" * 9, capture_output=True, check=False)
    assert b"give the file's name" in done.stderr
