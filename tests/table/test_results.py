"""Results into files: CSV, NDJSON, parquet; whole under their name or not there."""

import csv
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrnn.engine.engine import Answers
from streamrnn.errors import UserError
from streamrnn.stats import REASONS
from streamrnn.table import ResultWriter, Rows, open_writer
from streamrnn.wire.frame import blank_predictions

OUTPUTS = ["flow", 'pressure, "bar"']
STREAMS = ["p1", 'p,2"', "ü\n3"]
COLUMNS = [
    "stream",
    "seq",
    "time",
    "step",
    *(f"{name}_pred" for name in OUTPUTS),
    "score",
    "residual",
    "flags",
    "cause",
]
MISSING = REASONS.index("missing")
LEARNED = 5  # rows of each block that a model learned from


def results(count: int = 1000, seed: int = 0) -> tuple[Rows, Answers]:
    """Rows and answers of any bits; every tenth row late, every eleventh rejected."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        bits = rng.integers(0, 1 << 32, shape, np.uint32).view(np.float32)
        return np.where(np.isinf(bits), np.float32(1), bits)

    outcome = np.zeros(count, np.uint8)
    outcome[::10], outcome[::11] = 1, 2 + MISSING
    values = floats(count, len(OUTPUTS))
    values[outcome > 0] = np.nan
    said = blank_predictions(count)
    said["flags"] = np.where(outcome > 0, 0, rng.integers(0, 8, count))
    said["step"], said["residual"] = rng.integers(0, 1 << 63, count, np.uint64), floats(count)
    answers = Answers(
        answers=np.ones(count, np.uint8),
        bands=np.zeros((count, 0, 2), np.float32),
        several=np.zeros((0, 0, 2), np.float32),
        bands_ahead=np.zeros((0, 0, 0, 2), np.float32),
        begins=np.zeros(count, np.uint8),
        shares=np.zeros((count, 2), np.float32),
        outcome=outcome,
        said=said,
        values=values,
        step_ns=np.zeros(count, np.float32),
    )
    stream = rng.integers(0, len(STREAMS), count).astype(np.int32)
    time = pa.array([f'{row} "noon"' if row % 3 else "" for row in range(count)])
    seq = rng.integers(0, 1 << 63, count, np.uint64) * np.uint64(2)
    return Rows(stream, floats(count, 2), seq, np.zeros(count, np.int64), time, 1), answers


def write(path: Path | str, *blocks: tuple[Rows, Answers], **options: Any) -> ResultWriter:
    writer = open_writer(str(path), options.pop("kind", None), OUTPUTS, options.pop("time_type", None))
    try:
        for rows, answers in blocks:
            writer.write(rows, STREAMS, answers, np.arange(len(rows.seq)) < LEARNED)
    except BaseException:
        writer.discard()
        raise
    writer.finish()
    return writer


def read_back(path: Path) -> list[dict[str, Any]]:
    """Every row of a file as Python values; None for what is not there."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".ndjson":
        return [json.loads(line) for line in path.read_text().splitlines()]
    kinds = {"stream": str, "time": str, "flags": str, "cause": str, "seq": int, "step": int}
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    return [
        {
            name: kinds.get(name, float)(cell) if cell or name == "flags" else None
            for name, cell in row.items()
        }
        for row in table
    ]


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_every_bit_survives(tmp_path, suffix):
    blocks = [results(1000, 0), results(70_000 if suffix == "parquet" else 12, 1)]
    path = tmp_path / f"out.{suffix}"
    assert write(path, *blocks).rows == sum(len(rows.seq) for rows, _ in blocks)
    back = read_back(path)
    assert list(back[0]) == COLUMNS
    for rows, answers in blocks:
        part, back = back[: len(rows.seq)], back[len(rows.seq) :]
        predicted = answers.outcome == 0
        assert [row["stream"] for row in part] == [STREAMS[index] for index in rows.stream]
        assert [row["seq"] for row in part] == rows.seq.tolist()
        assert [row["time"] or "" for row in part] == rows.time.to_pylist()
        assert [row["step"] for row in part] == [
            step if made else None for step, made in zip(answers.step.tolist(), predicted, strict=True)
        ]
        floats = {f"{name}_pred": answers.values[:, k] for k, name in enumerate(OUTPUTS)}
        for name, expected in (floats | {"score": answers.score, "residual": answers.residual}).items():
            found = np.array([np.nan if row[name] is None else row[name] for row in part], np.float32)
            there = ~np.isnan(expected)
            assert found[there].tobytes() == expected[there].tobytes()
            assert all(row[name] is None for row in np.array(part)[~there])
        flags, texts = [row["flags"] for row in part], [*map(flag_text, answers.flags)]
        assert flags[:12] == [
            *("REJECTED:missing|LEARNED", *(f"{text}|LEARNED".strip("|") for text in texts[1:5])),
            *(*texts[5:10], "LATE", "REJECTED:missing"),
        ]
    assert back == []


def flag_text(flags: int) -> str:
    return "|".join(name for bit, name in enumerate(("WARMING", "GAP", "RESET")) if int(flags) >> bit & 1)


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_no_rows_and_no_time(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    write(path)
    assert read_back(path) == []
    rows, answers = results(3)
    write(path, (rows._replace(time=None), answers))
    assert [row["time"] for row in read_back(path)] == [None] * 3


def test_times_keep_their_type(tmp_path):
    rows, answers = results(1)
    zoned = pa.timestamp("ms", "UTC")
    block = rows._replace(time=pa.array([1581168647125], zoned)), answers
    for suffix in ("csv", "ndjson", "parquet"):
        write(tmp_path / f"o.{suffix}", block, time_type=zoned)
    assert read_back(tmp_path / "o.csv")[0]["time"] == "2020-02-08 13:30:47.125Z"
    assert read_back(tmp_path / "o.ndjson")[0]["time"] == "2020-02-08 13:30:47.125Z"
    assert pq.read_schema(tmp_path / "o.parquet").field("time").type == zoned
    block = rows._replace(time=pa.array([1581168647125])), answers
    write(tmp_path / "o.ndjson", block, time_type=pa.int64())
    assert read_back(tmp_path / "o.ndjson")[0]["time"] == 1581168647125


def test_small_blocks_make_large_row_groups(tmp_path):
    path = tmp_path / "out.parquet"
    write(path, *(results(1000, seed) for seed in range(140)))
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(k).num_rows for k in range(groups.num_row_groups)] == [66_000, 66_000, 8_000]


@pytest.mark.parametrize(
    ("name", "kind", "begin"),
    [
        ("a.csv", None, b"stream,"),
        ("a.NDJSON", None, b'{"stream"'),
        ("a.jsonl", None, b'{"stream"'),
        ("a.parquet", None, b"PAR1"),
        ("a.txt", None, b"stream,"),
        ("a.csv", "ndjson", b'{"stream"'),
    ],
)
def test_the_format_follows_the_name(tmp_path, name, kind, begin):
    write(tmp_path / name, results(1), kind=kind)
    assert (tmp_path / name).read_bytes().startswith(begin)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_slice_to_which_nothing_is_answered_has_no_rows(tmp_path, suffix):
    """As of a model that answers a sequence, before its END."""
    rows, answers = results(50)
    silent = answers._replace(answers=np.zeros(50, np.uint8), outcome=np.zeros(50, np.uint8))
    path = tmp_path / f"out.{suffix}"
    write(path, (rows, silent))
    assert len(read_back(path)) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_a_file_is_whole_or_not_there(tmp_path, suffix):
    path, link = tmp_path / f"out.{suffix}", tmp_path / f"link.{suffix}"
    path.write_text("old")
    link.symlink_to(path)
    writer = open_writer(str(link), None, OUTPUTS)
    rows, answers = results()
    writer.write(rows, STREAMS, answers, np.zeros(len(rows.seq), bool))
    assert path.read_text() == "old"
    writer.discard()
    del writer
    assert (path.read_text(), sorted(tmp_path.iterdir())) == ("old", [link, path])
    write(link, results())
    assert (len(read_back(path)), sorted(tmp_path.iterdir())) == (1000, [link, path])
    assert link.is_symlink()


def test_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe, results(5))
    reader.join(30)
    assert got[0].startswith(b"stream,seq,")
    assert pipe.is_fifo()
    ends = os.pipe()  # as of a shell's >(command)
    write(f"/dev/fd/{ends[1]}", results(5))
    assert os.read(ends[0], 11) == b"stream,seq,"
    for end in ends:
        os.close(end)


def test_standard_output(capfdbinary):
    write("-", results(2))
    assert capfdbinary.readouterr().out.startswith(b"stream,seq,time,step,flow_pred,")


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"out\.csv\.gz: packed output is not written"):
        write(tmp_path / "out.csv.gz")
    with pytest.raises(UserError, match=r"cannot be written: No such file or directory"):
        write(tmp_path / "none" / "out.csv")
    with pytest.raises(UserError, match=r"cannot be written: Is a directory"):
        write(tmp_path)
    for kind in ("csv", "ndjson", "parquet"):
        with pytest.raises(UserError, match=r"/dev/full: cannot be written: .*No space left on device"):
            write("/dev/full", results(), kind=kind)
