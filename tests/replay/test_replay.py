"""Replay: the engine over files. What it writes is what the engine says, and its summary is right."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemons import COMPILE_S, wait_for
from models import untrained
from neighbours import command
from tables import reading_of

from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.replay import ReplayOptions, Summary, replay
from streamrnn.settings.sections import Faults
from streamrnn.table import csv_file

DATA = Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data"))
RULES = Faults(gap="hold", max_gap=5, missing="reject")
NAN = float("nan")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs where its files are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(text: str, name: str = "rows.csv") -> str:
    Path(name).write_text(text)
    return name


def table(values: np.ndarray, *columns: tuple[str, Any]) -> str:
    """CSV of values (n, channels) named as untrained models' channels, after other columns."""
    names = [name for name, _ in columns] + [f"c{k}" for k in range(values.shape[1])]
    cells = [cells for _, cells in columns] + list(values.T)
    rows = zip(*cells, strict=True)
    return "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n"


def run(model: Path, source: str, output: str = "out.csv", **options: Any) -> Summary:
    reading = reading_of(options)
    return replay(
        ReplayOptions(source, model, options.pop("faults", RULES), output, reading=reading, **options)
    )


def lines(path: str = "out.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def predictions(rows: list[dict[str, str]]) -> np.ndarray:
    names = [name for name in rows[0] if name.endswith("_pred")]
    return np.array([[float(row[name] or "nan") for name in names] for row in rows], np.float32)


@pytest.mark.parametrize("chunk", [50, 700, csv_file.CHUNK])
@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_what_is_written_is_what_the_engine_says(model_file, monkeypatch, chunk, suffix):
    monkeypatch.setattr(csv_file, "CHUNK", chunk)
    rng = np.random.default_rng(1)
    values = rng.normal(0, 10, (300, 3)).astype(np.float32)
    stream = rng.integers(0, 4, 300)
    times = 1_581_168_647_000_000_000 + 10_000_000 * np.arange(300)
    source = made(table(values, ("when", times), ("id", [f"p{index}" for index in stream])))
    summary = run(model_file, source, f"out.{suffix}", stream="id", time="when", count_rows=True)

    ids = [f"p{index}" for index in range(4)]
    said = Engine(read_model(model_file), 8, RULES).feed(ids, stream, values, ts_ns=times)
    if suffix == "ndjson":
        rows = [json.loads(line) for line in Path("out.ndjson").read_text().splitlines()]
        rows = [{key: "" if cell is None else str(cell) for key, cell in row.items()} for row in rows]
    else:
        rows = lines()
    assert list(rows[0]) == [
        *(
            "stream",
            "seq",
            "time",
            "step",
            "c0_pred",
            "c1_pred",
            "c2_pred",
            "score",
            "residual",
            "flags",
            "cause",
        )
    ]
    assert [row["stream"] for row in rows] == [ids[index] for index in stream]
    assert [int(row["seq"]) for row in rows] == said.seq.tolist()
    assert [int(row["step"]) for row in rows] == said.step.tolist()
    assert [row["time"] for row in rows] == list(map(str, times))
    assert predictions(rows).tobytes() == said.values.tobytes()
    residual = np.array([row["residual"] or "nan" for row in rows], np.float32)
    np.testing.assert_array_equal(residual, said.residual)
    assert [row["flags"] for row in rows] == ["WARMING" if flags else "" for flags in said.flags]
    assert (summary.rows, summary.predicted, summary.streams) == (300, 300, 4)
    assert (summary.rejected, summary.late, summary.missing, summary.skipped) == ({}, 0, 0, 0)


def test_rows_that_are_not_predicted_have_a_row(model_file):
    seq = [0, 1, 1, 5, 6, 7, 20, 3]
    values = np.ones((8, 3))
    values[4, 1], values[5, 2] = NAN, np.inf
    summary = run(model_file, made(table(values, ("n", seq))), seq="n")
    assert [(int(row["seq"]), row["step"], row["flags"]) for row in lines()] == [
        *((0, "1", "WARMING"), (1, "2", "WARMING"), (1, "", "LATE"), (5, "6", "WARMING|GAP")),
        *((6, "", "REJECTED:missing"), (7, "", "REJECTED:infinite")),
        *((20, "1", "WARMING|GAP|RESET"), (3, "", "LATE")),
    ]
    assert np.isnan(predictions(lines())[[2, 4, 5, 7]]).all()
    assert summary.predicted == 4
    assert (summary.rejected, summary.late, summary.missing) == ({"infinite": 1, "missing": 1}, 2, 3 + 14)
    assert "4 predicted, 2 rejected (infinite 1, missing 1), 2 late, 17 missing, 0 skipped" in summary.text()


def naive_errors(model: Model, values: np.ndarray, forecasts: np.ndarray, stream: np.ndarray) -> list[float]:
    """Root mean squares of forecast and persistence, row by row in float64."""
    sums, cells = np.zeros(2), 0
    for row in range(len(values)):
        before = [earlier for earlier in range(row) if stream[earlier] == stream[row]]
        for output in range(len(model.outputs) if before else 0):
            was, value = float(values[before[-1], output]), float(values[row, output])
            if not (np.isnan(was) or np.isnan(value)):
                error = value - float(forecasts[before[-1], output])
                sums += np.array([error, value - was]) ** 2 / float(model.output_std[output]) ** 2
                cells += 1
    return np.sqrt(sums / cells).tolist()


def test_the_one_step_error_is_beside_persistence(model_file, monkeypatch):
    monkeypatch.setattr(csv_file, "CHUNK", 300)
    rng = np.random.default_rng(2)
    values = rng.normal(0, 10, (200, 3)).astype(np.float32).cumsum(axis=0)
    values[rng.random(values.shape) < 0.1] = NAN
    values[:3] = 0
    stream = np.concatenate([[0, 1, 2], rng.integers(0, 3, 197)])
    faults = Faults(missing="hold")
    source = made(table(values, ("id", stream)))
    summary = run(model_file, source, stream="id", faults=faults)
    model = read_model(model_file)
    expected = naive_errors(model, values, predictions(lines()), stream)
    np.testing.assert_allclose([summary.one_step_error, summary.persistence_error], expected, rtol=1e-6)
    assert f"one-step error {expected[0]:.4g}, persistence {expected[1]:.4g} (root mean" in summary.text()


def test_rows_after_a_gap_count_for_neither(model_file):
    values = np.array([[0, 0, 0], [1, 1, 1], [90, 90, 90], [91, 91, 91]])
    summary = run(model_file, made(table(values, ("n", [0, 1, 3, 4]))), seq="n")
    model = read_model(model_file)
    ones = np.sqrt(np.mean((1 / model.output_std.astype(float)) ** 2))
    assert summary.persistence_error == pytest.approx(ones)
    alone = run(model_file, made("c0,c1,c2\n1,2,3\n"))
    assert (alone.one_step_error, alone.persistence_error) == (None, None)
    assert "persistence" not in alone.text()


def test_the_summary_as_words_and_as_json(model_file):
    summary = run(model_file, made(table(np.ones((1000, 3)))))
    fields = json.loads(json.dumps(summary.as_dict()))
    assert fields["rows"] == 1000
    assert 0 < fields["step_p50_us"] <= fields["step_p99_us"]
    assert fields["rows_per_s"] == pytest.approx(1000 / fields["seconds"])
    first = r"1,000 rows of 1 stream in \d+\.\d\d s, [\d,]+ rows/s, step p50 [\d.]+ us, p99 [\d.]+ us\n"
    assert re.match(first, summary.text())
    nothing = run(model_file, made("c0,c1,c2\n"))
    assert (nothing.rows, nothing.streams, nothing.step_p50_us, lines()) == (0, 0, None, [])


def test_a_bad_row_ends_it_or_is_skipped(model_file, folder):
    values = np.arange(30).reshape(10, 3).astype(object)
    values[4, 1] = "oops"
    source = made(table(values))
    with pytest.raises(UserError, match=r'^rows\.csv: line 6, column "c1": "oops" is not a number; '):
        run(model_file, source)
    assert sorted(path.name for path in folder.iterdir()) == ["rows.csv"]
    summary = run(model_file, source, on_error="skip")
    assert [int(row["seq"]) for row in lines()] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [row["flags"] for row in lines()].index("WARMING|GAP") == 4
    assert (summary.skipped, summary.missing, summary.predicted) == (1, 1, 9)
    assert run(model_file, source, limit=4).rows == 4


def test_what_cannot_be_replayed(model_file):
    source = made(table(np.ones((5, 3)), ("id", list("abcde"))))
    with pytest.raises(UserError, match="more than 3 streams; raise --capacity"):
        run(model_file, source, stream="id", capacity=3)
    assert not Path("out.csv").exists()
    with pytest.raises(UserError, match=r'^rows\.csv: has no column "c2"; '):
        run(model_file, made("c0,c1\n1,2\n"))
    for taken in ("rows.csv", str(model_file)):
        before = Path(taken).read_bytes()
        with pytest.raises(UserError, match="is read by this replay"):
            run(model_file, "rows.csv", taken)
        assert Path(taken).read_bytes() == before
    write_model(untrained(), "nameless.safetensors")
    with pytest.raises(UserError, match="they have no speed; name the column with --time-column"):
        run(Path("nameless.safetensors"), made("c0,c1,c2\n1,2,3\n"), speed=1.0)


@pytest.mark.parametrize("timed", [True, False])
def test_the_speed_is_that_of_the_time_column_or_the_model(model_file, timed):
    rows = 31
    seconds = 0.02 * (rows - 1) if timed else 0.01 * (rows - 1)  # the model's sample period is 10 ms
    columns = [("time", [1e9 + 0.02 * row for row in range(rows)])] if timed else []
    source = made(table(np.ones((rows, 3)), *columns))
    run(model_file, source)
    at_once = Path("out.csv").read_bytes()
    summary = run(model_file, source, speed=2.0)
    assert summary.seconds >= seconds / 2
    assert Path("out.csv").read_bytes() == at_once
    assert run(model_file, source, speed=1e6).seconds < seconds


def test_a_pipe_is_answered_as_it_comes_and_an_interrupt_keeps_what_was_done(model_file):
    with command("replay", "-", "-m", model_file) as child:
        child.stdin.write("c0,c1,c2\n1,2,3\n")
        child.stdin.flush()
        assert child.stdout.readline().startswith("stream,seq,time,step,")
        assert child.stdout.readline().startswith("stdin,0,,1,")
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        said = child.stderr.read()
        assert said.endswith("\ninterrupted: standard output holds the results of the first 1 row\n")


def test_an_interrupt_finishes_the_file(model_file, folder):
    rows = 5000  # more than the file's buffer holds, which Python 3.14 made larger
    source = made(table(np.ones((rows, 3)), ("time", [1e9 + 0.01 * row for row in range(rows)])))
    with command("replay", source, "-m", model_file, "-o", "out.csv", "--speed", "5") as child:
        wait_for(lambda: any(path.stat().st_size for path in folder.glob(".out.csv.*")), "results", COMPILE_S)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        said = child.stderr.read()
    written = lines()
    assert said.endswith(f"\ninterrupted: out.csv holds the results of the first {len(written):,} rows\n")
    assert 0 < len(written) < rows
    assert [int(row["seq"]) for row in written] == list(range(len(written)))
    assert sorted(path.name for path in folder.iterdir()) == ["out.csv", "rows.csv"]


def test_a_reader_that_leaves_ends_it(model_file):
    source = made(table(np.ones((20000, 3))))
    with command("replay", source, "-m", model_file, stdin=subprocess.DEVNULL) as child:
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(180) == 141
        assert "Error" not in child.stderr.read()


MEMORY = """
import resource, sys
from pathlib import Path
from streamrnn.settings.sections import Faults
from streamrnn.replay import ReplayOptions, replay
from streamrnn.table import Reading
reading = Reading(limit=int(sys.argv[3]))
replay(ReplayOptions(sys.argv[1], Path(sys.argv[2]), Faults(), "out.csv", reading=reading))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(model_file):
    header, _, body = table(np.random.default_rng(0).normal(size=(20_000, 3))).partition("\n")
    source = made("\n".join([header, body * 50]))
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", MEMORY, source, model_file, str(limit)]))
        for limit in (200_000, 1_000_000)
    )
    grown, file_size = (many - few) * 1024, Path(source).stat().st_size
    assert file_size > 50e6
    assert grown < file_size / 2


def test_files_of_others(model_file):
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is missing")
    source = DATA / "skab" / "valve1" / "0.csv"
    names = source.read_text().splitlines()[0].split(";")[1:9]
    model = untrained(channels=8)
    write_model(
        Model.from_tensors(
            model.settings() | {key: [{"name": name} for name in names] for key in ("channels", "outputs")},
            model.tensors(),
        ),
        "skab.safetensors",
    )
    summary = run(Path("skab.safetensors"), str(source))
    rows = lines()
    assert summary.predicted == len(rows) == len(source.read_text().splitlines()) - 1
    assert (rows[0]["stream"], rows[0]["time"]) == ("0", "2020-03-09 10:14:33")
    assert "Volume Flow RateRMS_pred" in rows[0]
