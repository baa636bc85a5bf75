"""Rows out of CSV files of all shapes: which columns are meant, what the cells say."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import T0, fails, read, write

from streamrnn.errors import UserError
from streamrnn.table import Reading, csv_file, open_rows

DATA = Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Writes text or bytes to a file and returns its path."""
    return partial(write, tmp_path)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(csv, mark):
    path = csv(f'a{mark}"b,;|{mark}"{mark}c\n1{mark}2{mark}3\n4{mark}5{mark}6\n')
    assert read(path).rows.values.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read(path, delimiter=mark).reader.channels == ["a", f"b,;|{mark}", "c"]


@pytest.mark.parametrize("mark", ['"', "\n", "é", ",,"])
def test_what_is_no_delimiter(csv, mark):
    with pytest.raises(UserError, match="cannot be a delimiter; use one ASCII character"):
        read(csv("a,b\n1,2\n"), delimiter=mark)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "\ufeffa,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n",
        "a,b\r1,2\r3,4\r",
        "\n\na,b\n\n1,2\n\n\n3,4\n\n",
        '"a","b"\n"1","2"\n" 3 ",4\n',
        " a , b \n 1 ,\t2\n3, 4\n",
        "a,b,\n1,2,\n3,4,\n",
    ],
)
def test_shapes_of_csv(csv, content):
    result = read(csv(content), ["a", "b"])
    assert result.rows.values.tolist() == [[1, 2], [3, 4]]
    assert (result.ids, result.rows.seq.tolist()) == (["valve", "valve"], [0, 1])
    assert (result.rows.ts_ns.tolist(), result.rows.time) == ([0, 0], None)


def test_missing_cells_are_nan_and_large_ones_infinite(csv):
    cells = ["", "  ", "NaN", "nan", "NA", "N/A", "null", "None", "-nan", "1e300", "-inf", " +1.5e-3 "]
    values = read(csv("a,b\n" + "".join(f"{cell},0\n" for cell in cells)), ["a"]).rows.values[:, 0]
    assert np.isnan(values[:9]).all()
    assert values[9:].tolist() == [np.inf, -np.inf, np.float32(1.5e-3)]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1), st.integers(1, 60))
def test_numbers_are_the_nearest_float32(tmp_path_factory, numbers, chunk):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_text("a\n" + "".join(f"{number!r}\n" for number in numbers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "CHUNK", chunk)
        result = read(path, ["a"])
    expected = np.array(numbers, np.float32)
    assert result.rows.values[:, 0].tobytes() == expected.tobytes()


RECORD = st.tuples(
    st.sampled_from(["p1", "p2", "p,3", 'p"4', "p\n5", "ü6"]),
    st.sampled_from(["1", "", "2.5", "-3e-7"]),
    st.sampled_from(["plain", "with, comma", 'with ""quotes""', "two\nlines", ""]),
)


@settings(deadline=None)
@given(st.lists(RECORD, min_size=1, max_size=40), st.integers(1, 200), st.sampled_from(["\n", "\r\n"]))
def test_any_cut_of_the_bytes_gives_the_same_rows(tmp_path_factory, records, chunk, end):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    lines = ['"{}",{},"{}"'.format(stream.replace('"', '""'), value, note) for stream, value, note in records]
    path.write_text(end.join(["id,x,note", *lines]), newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "CHUNK", chunk)
        result = read(path, ["x"], stream="id")
    seen: dict[str, int] = {}
    for row, (stream, value, _) in enumerate(records):
        assert result.ids[row] == stream
        assert result.rows.seq[row] == seen.get(stream, 0)
        seen[stream] = seen.get(stream, 0) + 1
        np.testing.assert_equal(result.rows.values[row, 0], np.float32(value or "nan"))


def test_blocks_are_small_and_say_where_they_begin(csv, monkeypatch):
    monkeypatch.setattr(csv_file, "CHUNK", 1000)
    path = csv("a,b\n" + "".join(f"{row},{row}\n" for row in range(20000)))
    with open_rows(str(path), ["a"], Reading()) as reader:
        blocks = list(reader)
    assert len(blocks) > 2
    for block in blocks:
        assert block.line == block.values[0, 0] + 2
        assert len(block.seq) < 10000


def test_a_header_alone_has_no_rows(csv):
    for content in ("a,b", "a,b\n", "a,b\n\n\n"):
        assert len(read(csv(content), ["b"]).rows.seq) == 0
    assert fails(csv("a,b\n")) == "no row follows the names of the columns"


@pytest.mark.parametrize("content", [b"", b"\n\n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file(csv, content):
    assert fails(csv(content)) == "is empty; its first line must name the columns"


def test_what_is_no_csv(csv, tmp_path):
    assert "name its encoding with --encoding" in fails(csv(b"a,b\n1,\0\n"))
    assert fails(csv("x" * 200_000 + ",b\n1,2\n")).startswith("line 1 is no row, nor does it name columns: ")
    assert fails(tmp_path / "none.csv") == "cannot be read: No such file or directory"
    assert fails(tmp_path) == "cannot be read: Is a directory"


def test_a_header_of_an_older_encoding(csv):
    assert read(csv("Temp °C;b\n1;2\n".encode("cp1252"))).reader.channels == ["Temp °C", "b"]


def test_columns_are_matched_by_name(csv):
    path = csv(" Pressure ,flow,FLOW,Temp\n1,2,3,4\n")
    assert read(path, ["temp", "flow", "pressure"]).rows.values.tolist() == [[4, 2, 1]]
    assert read(path, ["FLOW"]).rows.values.tolist() == [[3]]
    assert "are all named" in fails(path, ["Flow"])
    assert fails(path, ["Presure", "Temp", "humidity"]) == (
        'has no column "Presure", "humidity"; did you mean "Pressure" for "Presure"? '
        'its columns are "Pressure", "flow", "FLOW", "Temp"'
    )
    twice = csv("a,b,b\n1,2,3\n", "twice.csv")
    assert read(twice, ["a"]).rows.values.tolist() == [[1]]
    for channels in (["b"], None):
        assert fails(twice, channels).startswith('columns 2 and 3 are all named "b"; ')
    assert fails(path, ["flow"], stream="pump").startswith('has no column "pump"; ')


def test_numeric_columns_are_the_channels(csv):
    path = csv(
        "time,id,n,a,name,b,,empty,c\n"
        "2020-02-08,7,3,1,x,,9,,oops\n"
        "2020-02-09,7,4,2,y,3.5,9,,5\n"
        "2020-02-10,7,5,2,y,3.5,9,,6\n"
    )
    assert read(path, on_error="skip").reader.channels == ["id", "n", "a", "b", "c"]
    assert read(path, stream="id", seq="n", on_error="skip").reader.channels == ["a", "b", "c"]
    assert 'line 2, column "c": "oops" is not a number' in fails(path)


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["2020-02-08 13:30:47", "2020-02-08 13:30:48.25"], [0, 1.25]),
        (["2020-02-08T13:30:47Z", "2020-02-08T15:30:48+02:00"], [0, 1]),
        (["2020-02-08T13:30:47", "2020-02-08T13:30:48Z", ""], [0, 1, None]),
        (["2020-02-08 13:30", "2020-02-08"], [-47, -48647]),
        (["1581168647", "1581168648", "NaN"], [0, 1, None]),
        (["1581168647.125", "1581168648.000001"], [0.125, 1.000001]),
        (["1581168647125", "1581168648000"], [0.125, 1]),
        (["1581168647000001", "1581168648000000"], [0.000001, 1]),
        (["1581168647000000001", "1581168648000000000"], [1e-9, 1]),
    ],
)
def test_times(csv, cells, seconds):
    path = csv("x,when\n" + "".join(f"1,{cell}\n" for cell in cells))
    result = read(path, ["x"], time="when")
    assert result.rows.ts_ns.tolist() == [
        0 if second is None else T0 + round(second * 1e9) for second in seconds
    ]
    assert result.rows.time.to_pylist() == cells


@pytest.mark.parametrize(
    ("header", "cells", "found"),
    [
        ("x,Time", "1,2020-02-08 13:30:47", True),
        ("x,timestamp,time", "1,1581168647,5", True),
        ("x,time,other", "1,13:30:47,2020-02-08 13:30:47", True),
        ("x,recorded at", "1,2020-02-08 13:30:47", True),
        ("x,recorded at", "1,1581168647", True),
        ("x,reading", "1,1581168647", False),
        ("x,time", "1,noon", False),
        ("x,y", "1,2", False),
        ("x,t", "1,1581168647", True),
    ],
)
def test_the_time_column_is_found(csv, header, cells, found):
    result = read(csv(f"{header}\n{cells}\n"), ["x"])
    assert result.rows.ts_ns.tolist() == [T0 if found else 0]
    assert (result.rows.time is not None) == found


def test_a_channel_is_not_the_time(csv):
    path = csv("t,x\n20.5,1\n")
    assert read(path, ["t", "x"]).reader.time_type is None
    assert read(path).reader.channels == ["x"]
    assert fails(csv("t,x\nnoon,1\n"), ["x"], time="t").startswith('column "t" holds no times but "noon"; ')


def test_streams_and_their_numbers(csv):
    path = csv("unit,x,n\n7,1,10\n8,2,20\n7,3,12\n")
    result = read(path, ["x"], stream="unit")
    assert (result.reader.streams, result.ids) == (["7", "8"], ["7", "8", "7"])
    assert result.rows.seq.tolist() == [0, 0, 1]
    assert read(path, ["x"], stream="unit", seq="n").rows.seq.tolist() == [10, 20, 12]
    assert read(path, ["x"]).rows.seq.tolist() == [0, 1, 2]
    assert read(csv("a\n1\n", "pump.1.csv.gz")).ids == ["pump.1"]


def test_text_is_read_as_numbers_where_it_may_be(csv):
    path = csv("state,flow,kind\n ok ,1,7\nworn,2,8\n,3,9\nok,4,x\n")
    with open_rows(str(path), None, labels=["State", "flow"]) as reader:
        assert (reader.channels, reader.left_out) == (["flow", "kind", "state"], {})
        with pytest.raises(UserError, match='column "kind": "x" is not a number'):
            list(reader)
        assert list(reader.labels) == ["state"]
    with open_rows(str(path), ["state"], Reading(limit=3), ["state"]) as reader:
        (rows,) = reader
        np.testing.assert_array_equal(rows.values[:, 0], [0, 1, np.nan])
        assert reader.labels["state"].names == ["ok", "worn"]
    assert read(path, ["state"]).rows.values[:, 0].tolist()[::3] == [0, 0]


def test_files_of_others():
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is missing")
    skab = read(DATA / "skab" / "valve1" / "0.csv")
    assert skab.reader.channels[-3:] == ["Volume Flow RateRMS", "anomaly", "changepoint"]
    assert np.unique(np.diff(skab.rows.ts_ns)).min() == 10**9
    ett = read(DATA / "ett" / "ETTh1.csv")
    assert ett.rows.values.shape == (17420, 7)
    assert set(np.diff(ett.rows.ts_ns).tolist()) == {3600 * 10**9}
    assert ett.rows.values[0, -1] == np.float32(30.5310001373291)
