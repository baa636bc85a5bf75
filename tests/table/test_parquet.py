"""Rows out of parquet files."""

import contextlib
import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from tables import T0, fails, read

from streamrnn.table import open_rows, parquet_file

NAN = float("nan")


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_columns_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_file, "BATCH", 2)
    now = datetime.datetime(2020, 2, 8, 13, 30, 47, tzinfo=datetime.UTC)
    path = parquet(
        tmp_path / "rows.pq",
        f64=[1.5, None, NAN, 1e300],
        i64=pa.array([1, 2, 3, None]),
        dec=[decimal.Decimal("1.25")] * 4,
        text=["1", " 2", "", "4"],
        flag=[True, False, True, True],
        f16=pa.array(np.array([1, 2, 3, 4], np.float16)),
        when=pa.array([now, now, None, now], pa.timestamp("ms", "Europe/Berlin")),
        id=pa.array(["p", "q", "p", "p"]).dictionary_encode(),
    )
    channels = ["f64", "i64", "dec", "text", "flag", "f16"]
    result = read(path, channels, stream="id")
    expected = [
        [1.5, 1, 1.25, 1, 1, 1],
        [NAN, 2, 1.25, 2, 0, 2],
        [NAN, 3, 1.25, NAN, 1, 3],
        [np.inf, NAN, 1.25, 4, 1, 4],
    ]
    np.testing.assert_array_equal(result.rows.values, expected)
    assert (result.ids, result.rows.seq.tolist()) == (["p", "q", "p", "p"], [0, 0, 1, 2])
    assert (result.rows.ts_ns.tolist(), result.blocks) == ([T0, T0, 0, T0], 2)
    assert result.reader.time_type == pa.timestamp("ms", "Europe/Berlin")
    assert read(path, stream="id").reader.channels == ["f64", "i64", "dec", "text", "f16"]


def test_the_parts_of_a_date_may_be_decimals(tmp_path):
    days = [datetime.date(2026, 1, 30) + datetime.timedelta(k) for k in range(40)]
    parts = {
        name: pa.array([decimal.Decimal(getattr(day, name)) for day in days], pa.decimal128(6, 0))
        for name in ("year", "month", "day")
    }
    flow = np.random.default_rng(0).normal(size=len(days))
    result = read(parquet(tmp_path / "x.parquet", **parts, flow=flow), None)
    assert result.reader.channels == ["flow"]
    first = datetime.datetime(2026, 1, 30, tzinfo=datetime.UTC).timestamp() * 1e9
    np.testing.assert_array_equal(result.rows.ts_ns, first + 86400e9 * np.arange(len(days)))


def test_parquet_says_the_row(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_file, "BATCH", 2)
    path = parquet(
        tmp_path / "x.parquet", a=["1", "2", "3", "oops"], n=[0, 1, None, 3], id=["p", None, "p", "p"]
    )
    assert fails(path, ["a"]).startswith('row 4, column "a": "oops" is not a number; if it means a missing ')
    said = fails(path, ["a"], seq="n")
    assert said.startswith(
        'row 3, column "n": "None" is not a whole number, 0 or above; leave such rows out '
    )
    assert fails(path, ["a"], stream="id").startswith('row 2, column "id": "None" is not a stream id')
    skipped = read(path, ["a"], seq="n", stream="id", on_error="skip")
    assert (skipped.rows.seq.tolist(), skipped.reader.skipped) == ([0], 3)
    with_lists = parquet(tmp_path / "y.parquet", a=[[1], [2]])
    assert fails(with_lists, ["a"]) == 'column "a" holds list<element: int64>, not numbers'
    (tmp_path / "z.parquet").write_bytes(b"PAR1 and no more")
    assert fails(tmp_path / "z.parquet", ["a"]).startswith("cannot be read as parquet: ")
    assert len(read(parquet(tmp_path / "e.parquet", a=pa.array([], pa.int64())), ["a"]).rows.seq) == 0


def test_csv_and_parquet_give_the_same_rows(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 3)).astype(np.float32)
    ids = [f"p{index}" for index in rng.integers(0, 5, 500)]
    table = pa.table({"id": ids} | {name: values[:, k] for k, name in enumerate("abc")})
    pq.write_table(table, tmp_path / "x.parquet")
    pa.csv.write_csv(table, tmp_path / "x.csv")
    results = [read(tmp_path / name, stream="id") for name in ("x.parquet", "x.csv")]
    for result in results:
        assert result.rows.values.tobytes() == values.tobytes()
        assert result.ids == ids
    np.testing.assert_array_equal(results[0].rows.seq, results[1].rows.seq)


def test_what_was_read_is_not_held(tmp_path):
    path, rows = tmp_path / "long.parquet", 1 << 16
    numbers = np.random.default_rng(0).normal(size=rows)
    with pq.ParquetWriter(path, pa.schema([("a", pa.float64()), ("b", pa.float64())])) as writer:
        for _ in range(40):
            writer.write_table(pa.table({"a": numbers, "b": numbers}), row_group_size=rows)
    before, most = pa.total_allocated_bytes(), 0
    with contextlib.closing(open_rows(str(path), None)) as reader:
        for _ in reader:
            most = max(most, pa.total_allocated_bytes() - before)
    assert most < path.stat().st_size / 3
