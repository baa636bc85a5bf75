"""A recording alone: the model found near it, or learned from its first part, and what is then counted."""

import csv
import io
import os
import pty
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from test_report import Reader, numbers

from streamrnn.cli import main
from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.replay import Learning, ReplayOptions, Summary, replay
from streamrnn.replay.alone import first_part, near, shown
from streamrnn.replay.anomalies import Anomalies
from streamrnn.settings.sections import Faults
from streamrnn.table import Reading, Rows, csv_file
from streamrnn.table.first import FirstRows
from streamrnn.train import job
from streamrnn.train.data.recording import DataOptions, read_recording
from streamrnn.wire.frame import ANOMALY

NAMES = ("flow", "temp")
STREAMS = {"a": 900, "b": 500, "c": 101}  # rows of each
LEARNED = {"a": 360, "b": 200, "c": 40}
PUSHED = {"a": (110, 600), "b": (450,), "c": ()}  # where a fault of ten rows begins
BEGAN = 1_700_000_000


MOVING = [k * 7 % 11 for k in range(300)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs where its files are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recording(name: str = "rows.csv") -> str:
    """Streams that take turns; a column that never varies, one that begins late, cells that are missing."""
    rng = np.random.default_rng(3)
    lines = ["time,unit,label,late,flow,temp"]
    for row in range(max(STREAMS.values())):
        for unit in (unit for unit, rows in STREAMS.items() if row < rows):
            flow, temp = (np.sin(row / 9 + np.arange(2)) + rng.normal(0, 0.05, 2)).tolist()
            if any(begin <= row < begin + 10 for begin in PUSHED[unit]):
                flow += 8
            if (unit, row) == ("c", 20):
                flow = 1e39
            late, there = str(row * 7 % 400) if row > 300 else "", f"{temp:.4f}" if row % 50 != 49 else ""
            lines.append(f"{BEGAN + row},{unit},0,{late},{flow:.4f},{there}")
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def run(source: str, model: Path | None = None, **options: Any) -> Summary:
    options = {"reading": Reading(stream="unit"), "output": "out.csv"} | options
    return replay(ReplayOptions(source, model, Faults(), **options))


def lines(path: str | Path = "out.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Alone(NamedTuple):
    """What came of a recording from whose first part was learned, and of the same model asked for it all."""

    summary: Summary
    said: str
    rows: list[dict[str, str]]
    page: Reader
    model: Path
    whole: Summary
    whole_rows: list[dict[str, str]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        patch.chdir(tmp_path_factory.mktemp("alone"))
        patch.setattr(csv_file, "CHUNK", 3000)  # many blocks
        model = Path("kept.safetensors").absolute()
        summary = run(recording(), report="out.html", learning=Learning(save=model))
        told = said.getvalue()
        whole = run("rows.csv", model, output="whole.csv")
        return Alone(summary, told, lines(), Reader(Path("out.html")), model, whole, lines("whole.csv"))


def is_learned(row: dict[str, str]) -> bool:
    return int(row["seq"]) < LEARNED[row["stream"]]


def test_the_first_rows_of_each_stream_are_flagged_and_else_all_is_as_ever(alone):
    assert len(alone.rows) == sum(STREAMS.values())
    for row, same in zip(alone.rows, alone.whole_rows, strict=True):
        flags = [*filter(None, same["flags"].split("|")), *(["LEARNED"] if is_learned(row) else [])]
        assert row == same | {"flags": "|".join(flags)}
    (infinite,) = (row for row in alone.rows if "REJECTED" in row["flags"])
    assert infinite["flags"] == "REJECTED:infinite|LEARNED"
    assert alone.summary.learned == sum(LEARNED.values()) and alone.whole.learned == 0


def test_the_error_is_that_of_the_other_rows(alone):
    std = dict(zip(NAMES, read_model(alone.model).output_std.astype(float).tolist(), strict=True))
    given = lines(alone.model.with_name("rows.csv"))
    before: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    squares, cells = np.zeros(2), 0
    for row, said in zip(given, alone.rows, strict=True):
        if row["unit"] in before and not is_learned(said):
            was, forecast = before[row["unit"]]
            for name in NAMES:
                if row[name] and was[name]:
                    value = float(np.float32(row[name]))
                    errors = value - float(forecast[f"{name}_pred"]), value - float(np.float32(was[name]))
                    squares += np.square(errors) / std[name] ** 2
                    cells += 1
        before[row["unit"]] = row, said
    found = alone.summary.one_step_error, alone.summary.persistence_error
    np.testing.assert_allclose(found, np.sqrt(squares / cells), rtol=1e-6)
    assert alone.whole.one_step_error != pytest.approx(found[0], rel=1e-3)


def test_the_stretches_are_those_behind_what_was_learned(alone):
    found, whole = (summary.anomalies.as_dict() for summary in (alone.summary, alone.whole))
    later = [each for each in whole["stretches"] if each["first_seq"] >= LEARNED[each["stream"]]]
    assert found["stretches"] == later and found["count"] == len(later) < whole["count"]
    assert {(each["stream"], each["first_seq"]) for each in later} >= {("a", 600), ("b", 450)}
    assert found["rows"] == sum(each["rows"] for each in later)
    others = [row for row in alone.rows if not is_learned(row)]
    assert found["rows_scored"] == sum(row["score"] != "" for row in others)


def test_of_an_event_that_began_before_only_what_is_unusual_counts():
    model = SimpleNamespace(outputs=[SimpleNamespace(name="flow")])
    found = Anomalies(model, 3.0)
    score = np.array([0, 5, 4, 2, 2, 4, 2, 0, 0], np.float32)
    none = np.zeros(len(score), np.int64)
    answers: Any = SimpleNamespace(
        outcome=none,
        flags=np.where(score > 1.5, ANOMALY, 0),
        score=score,
        begins=np.arange(len(score)) == 1,
        shares=np.ones((len(score), 1)),
    )
    rows = Rows(none.astype(np.int32), score[:, None], none + np.arange(len(score)), none, None, 1)
    found.add(rows, ["a"], answers, np.arange(len(score)) < 4)
    told = found.as_dict()
    assert (told["count"], told["rows"], told["rows_scored"]) == (1, 2, 5)
    assert (told["stretches"][0]["first_seq"], told["stretches"][0]["score"]) == (5, 4.0)


def test_a_stretch_that_many_outputs_cause_names_the_foremost():
    names = [f"c{k}" for k in range(8)]
    found = Anomalies(SimpleNamespace(outputs=[SimpleNamespace(name=name) for name in names]), 3.0)
    shares = np.array([[0.1, 0.2, 0.05, 0.15, 0.2, 0.1, 0.1, 0.1]] * 3)
    none = np.zeros(3, np.int64)
    answers: Any = SimpleNamespace(
        outcome=none,
        flags=np.full(3, ANOMALY),
        score=np.full(3, 5, np.float32),
        begins=np.arange(3) == 0,
        shares=shares,
    )
    rows = Rows(none.astype(np.int32), np.zeros((3, 8), np.float32), np.arange(3), none, None, 1)
    found.add(rows, ["a"], answers, np.zeros(3, bool))
    assert found.kept[0].cause == "c1|c4|c3"


def test_the_report_shows_what_was_learned_from_and_counts_the_rest(alone):
    page, count = alone.page, f"{sum(LEARNED.values())} of {len(alone.rows):,}"
    until = "2023-11-14 22:19:19"  # of the last row learned from, 359 s after the first
    assert f"the first rows of each stream, {count}, up to {until}" in page.text
    assert "Left out: label (always 0 there)." in page.text
    assert page.tables["Error by channel"][-1][1] == f"{alone.summary.one_step_error:.4g}"
    streams = {row[0]: row for row in page.tables["Streams"][1:]}
    for name, learned in LEARNED.items():
        others = [row for row in alone.rows if row["stream"] == name and not is_learned(row)]
        highest = max((float(row["score"]) for row in others if row["score"]), default=None)
        assert streams[name][2] == ("-" if highest is None else f"{highest:.1f}")
        assert streams[name][-1] == f"{learned - (name == 'c')}"  # but for the one that was rejected
    (drawn,) = (each for each in page.data["streams"] if each["name"] == "a")
    (mark,) = (mark for mark in drawn["marks"] if mark[0] == "learned")
    x = numbers(drawn["x"], "<f8")
    assert (x[mark[1]], x[mark[2]]) == (BEGAN, BEGAN + LEARNED["a"])


def test_what_it_says(alone):
    said = alone.said
    assert said.startswith(
        "rows.csv: learning a model from the first rows of each of 3 streams, 600 of 1,501\n"
    )
    assert 'warning: left out: "label" (always 0); ' in said
    assert 'warning: "late": left out; has no value for long in these rows\n' in said
    assert "1 s apart; channels flow, temp\n" in said and "up to 2023-11-14 22:19:19, in " in said
    assert f"{alone.model}: the model\n" in said
    assert "600 of the rows were learned from; what follows is of the others" in alone.summary.text()


def test_the_channels_of_what_is_learned_are_chosen():
    rows = [f"{BEGAN + t},{'ON' if t % 7 else 'OFF'},{t * 7 % 11},{t % 5}" for t in range(300)]
    Path("words.csv").write_text("\n".join(["time,pump,level,more", *rows]) + "\n")
    learning = Learning(channels=("level", "pump"), save=Path("two.safetensors"))
    run("words.csv", reading=Reading(words={"ON": 1.0, "OFF": 0.0}), learning=learning)
    assert [channel.name for channel in read_model("two.safetensors").channels] == ["level", "pump"]


@pytest.mark.parametrize("level_until", [256, 330, 700])
def test_a_model_that_is_worse_than_none_is_told(level_until):
    """What is validated on, or most of what follows, is unlike what is learned from; a fault is the less."""
    noise = np.random.default_rng(5).normal(0, 1, 800)
    level = noise + 3 * np.maximum(np.arange(800) - level_until, 0)
    rows = [f"{BEGAN + t},{value:.3f}" for t, value in enumerate(level)]
    Path("drift.csv").write_text("\n".join(["time,level", *rows]) + "\n")
    with redirect_stderr(io.StringIO()) as said:
        summary = run("drift.csv", reading=Reading())
    loses = "warning: that is worse than taking each row for the next, " in said.getvalue()
    lost = "warning: the model forecasts worse than persistence, and most rows " in summary.text()
    assert summary.one_step_error > summary.persistence_error
    assert (loses, lost) == (level_until == 256, level_until == 330)


def test_the_same_recording_gives_the_same(alone):
    run(recording())
    assert Path("out.csv").read_bytes() == alone.model.with_name("out.csv").read_bytes()


def test_a_model_is_taken_from_beside_the_recording_else_from_here(alone, folder, capsys):
    (folder / "data").mkdir()
    source = recording("data/rows.csv")
    for at, where in (
        ("model.safetensors", "in the working folder"),
        ("data/model.safetensors", "beside it"),
    ):
        Path(at).write_bytes(alone.model.read_bytes())
        summary = run(source)
        assert summary.learned == 0 and lines() == alone.whole_rows
        said = capsys.readouterr().err
        assert f"{source}: taking {at}, found {where}; --learn 0.4 would learn one instead\n" in said
        assert "that model was made of a file of this name" in said
        Path(at).write_bytes(b"")  # another one is nearer, or this is not looked at
    assert run(source, learning=Learning(first=0.2)).learned == sum(rows // 5 for rows in STREAMS.values())


def ask(*words: str, **options: Any) -> tuple[int, str]:
    """Exit code and words of a command."""
    result = CliRunner().invoke(main, ["replay", *words], prog_name="streamrnn", **options)
    return result.exit_code, result.stderr


def test_what_cannot_be_read_twice_needs_a_model():
    code, said = ask("-", input="flow,temp\n1,2\n")
    assert code == 1 and said == (
        "error: standard input: cannot be read twice, to learn a model from its first rows and to replay it; "
        "name a model with -m, or give the name of a file\n"
    )
    os.mkfifo("pipe")
    assert ask("pipe")[1].startswith("error: pipe: cannot be read twice")
    assert near("-") is None
    Path("model.safetensors").write_bytes(b"")
    assert near("-") == Path("model.safetensors")


@pytest.mark.parametrize(
    ("rows", "words", "problem"),
    [
        (
            MOVING[:150],
            [],
            "has 150 rows of 1 stream, too few to learn a model from the first of them; name one with -m, or "
            "have it learn from fewer than 100 rows, such as --learn 75",
        ),
        (
            MOVING[:150],
            ["--learn", "150"],
            "--learn 150 leaves none to show what was learned: learn from fewer",
        ),
        ([5] * 300, [], 'in the 150 rows to learn from no column is a channel: "a" never varies; say with'),
        ([""] * 200 + [1, 2] * 100, [], 'no column is a channel: "a" has no value; say with --learn how'),
        (MOVING[:300], ["--exclude", "b"], 'has no column "b"'),
        (MOVING[:300], ["--learn", "1.5"], "'1.5' is neither a share between 0 and 1 nor a whole number"),
        (
            MOVING[:300],
            ["--learn", "0.5", "-m", "m"],
            "--learn is for a model that is learned here; leave -m",
        ),
        (MOVING[:300], ["--save-model", "no/m"], "no such folder"),
        (MOVING[:300], ["--report", "no/out.html"], "no/out.html: cannot be written"),
    ],
)
def test_what_it_does_not_learn_from(rows, words, problem, folder):
    Path("rows.csv").write_text("time,a\n" + "".join(f"{BEGAN + k},{cell}\n" for k, cell in enumerate(rows)))
    code, said = ask("rows.csv", *words)
    assert code in (1, 2) and problem in " ".join(said.split())
    assert names_in(folder) == ["rows.csv"]


def test_ctrl_c_while_it_learns_goes_on_with_the_best_so_far(monkeypatch):
    told = iter(range(10**6))

    def show(line: object, text: object) -> None:
        if next(told) == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(job.Line, "show", show)
    code, said = ask(recording(), "--stream-column", "unit", "-o", "out.csv")
    assert code == 130 and len(lines()) == sum(STREAMS.values())
    assert "interrupted: the replay goes on with the best so far; Ctrl-C again ends it\n" in said


def test_a_terminal_gets_no_rows_but_a_page(folder):
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "streamrnn", "replay", recording(), "--stream-column", "unit"]
    ended = subprocess.run(words, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=180, check=False)
    os.close(theirs)
    assert ended.returncode == 0, ended.stderr
    with pytest.raises(OSError, match="Input/output error"):  # nothing was written, and nobody is there
        os.read(ours, 1)
    os.close(ours)
    assert names_in(folder) == ["rows.csv", "rows.csv.html"]
    assert ended.stderr.startswith("rows.csv: rows.csv.html will show what comes of it; -o names a file for")
    assert ended.stderr.endswith("rows.csv.html: the report; open it in a browser\n")


def test_a_page_by_itself_replaces_only_such_pages(monkeypatch, alone):
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    page = Path("rows.csv.html")
    assert shown("rows.csv", None) == (None, "rows.csv.html")
    page.write_bytes(alone.model.with_name("out.html").read_bytes())
    assert shown("rows.csv", None) == (None, "rows.csv.html")
    page.write_text("<h1>My own</h1>")
    with pytest.raises(
        UserError, match=r"^rows\.csv\.html: is there already, and no report of a replay; name"
    ):
        shown("rows.csv", None)
    assert shown("rows.csv", "other.html") == (None, "other.html")
    assert shown("-", None) == ("-", None)


def test_how_much_is_learned_from():
    def of(channels: int, asked: float | None, **lengths: int) -> dict[str, int]:
        return first_part("rows.csv", lengths, channels, asked)

    assert of(8, None, a=10_000) == {"a": 4000}
    assert of(8, None, a=700) == {"a": 300}
    assert of(8, None, a=400) == {"a": 200}
    assert of(8, None, a=200, b=100) == {"a": 100, "b": 50}
    assert of(8, None, a=10**6) == {"a": 50_000}
    assert of(300, None, a=10**6) == {"a": 10_000}
    assert of(8, None, a=10**6, b=1000, c=10**7) == {"a": 24_800, "b": 400, "c": 24_800}
    assert of(8, 0.25, a=10**6, b=100) == {"a": 250_000, "b": 25}
    assert of(8, 300.0, a=10**6, b=100) == {"a": 300, "b": 100}


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_first_rows_of_streams(block):
    rng = np.random.default_rng(0)
    stream = rng.integers(0, 6, 1000).astype(np.int32)
    lengths = {"s0": 0, "s1": 1, "s2": 50, "s3": 10**6, "other": 3}
    names, seen, expected = [f"s{k}" for k in range(6)], [0] * 6, []
    for index in stream.tolist():
        expected.append(seen[index] < lengths.get(names[index], 0))
        seen[index] += 1
    first, found = FirstRows(lengths), list[bool]()
    none = np.zeros(1000, np.int64)
    for begin in range(0, 1000, block):
        part = stream[begin : begin + block]
        rows = Rows(part, none[: len(part), None], none, none, None, 1)
        found += first.among(rows, names[: int(stream[: begin + block].max()) + 1]).tolist()
    assert found == expected


def test_what_is_read_of_a_recording_is_its_first_rows():
    whole = read_recording(DataOptions((recording(),), reading=Reading(stream="unit", on_error="skip")), id)
    asked = DataOptions(("rows.csv",), reading=Reading(stream="unit", on_error="skip"), first=LEARNED)
    part = read_recording(asked, id)
    assert [one.stream for one in part.parts] == [*LEARNED]
    for one, all_of_it in zip(part.parts, whole.parts, strict=True):
        rows = LEARNED[one.stream] - (one.stream == "c")  # infinite values are no rows
        np.testing.assert_array_equal(one.values, all_of_it.values[:rows])
        np.testing.assert_array_equal(one.ts_ns, all_of_it.ts_ns[:rows])
