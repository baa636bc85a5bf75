"""A second model beside the one that serves: it changes nothing, is compared, and takes over warm."""

import json
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from daemons import Answer, Daemon, Line, launch, rows_answers, serving, wait_for
from models import untrained

from streamrnn.cli import main
from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model, write_model
from streamrnn.settings.config import config_text
from streamrnn.state.ask import ask
from streamrnn.wire.frame import pack_frame

RNG = np.random.default_rng(8)
ROWS = np.cumsum(RNG.normal(0, 2, (600, 3)), axis=0).astype(np.float32)
ROWS[[30, 31, 150], [1, 1, 2]] = np.nan
ROWS[200:206] += 500  # what no model expects
ROWS[480:484] -= 5000
MISSING = {60, 61, 170}


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        yield {
            "state.live": live,
            "state.snapshots": str(tmp_path / "snapshots"),
            "state.interval": "1h",
            "events.path": str(tmp_path / "events.db"),
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models by name, of the same three channels."""
    folder = tmp_path_factory.mktemp("models")
    models = {
        "old": untrained(sample_period_s=0.01),
        "new": untrained("gru", hidden=7, seed=3, sample_period_s=0.01),
        "third": untrained(seed=5, hidden=9, sample_period_s=0.01),
    }
    for name, model in models.items():
        write_model(model, folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in models}


def engine_of(daemon: Daemon, file: Path) -> Engine:
    return Engine(read_model(file), daemon.config.streams.capacity, daemon.config.faults)


def sent() -> np.ndarray:
    return np.array([row for row in range(len(ROWS)) if row not in MISSING])


def expected(daemon: Daemon, file: Path) -> list[Answer]:
    return rows_answers(engine_of(daemon, file), "a", ROWS[sent()], sent().astype(np.uint64))


def send(line: Line, first: int, last: int) -> list[Answer]:
    """The rows ``first`` to ``last``, by turns one by one and in blocks."""
    rows = [row for row in range(first, last) if row not in MISSING]
    at = 0
    while at < len(rows):
        block = 1 if at % 3 else 5
        while at + block > len(rows) or rows[at + block - 1] != rows[at] + block - 1:
            block -= 1
        payload = pack_frame(ROWS[rows[at] : rows[at] + block], seq=rows[at])
        line.publisher.send_multipart([b"a", payload])
        at += block
    return line.answers(len(rows))


def beside(daemon: Daemon, rows: int) -> dict[str, Any]:
    """How the two compare once so many rows are through."""

    def found() -> Any:
        said = json.loads(daemon.get("/api/shadow")[1])["shadow"]
        return said if said is not None and said["rows"] >= rows else None

    return wait_for(found, f"{rows} rows of the shadow")


def forecast_errors(daemon: Daemon, file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By an engine that knows of no other: errors of the rows that count, scores, and which begin events."""
    rows = sent()
    zeros = np.zeros(len(rows), np.int64)
    said = engine_of(daemon, file).feed(["a"], zeros, ROWS[rows], rows.astype(np.uint64))
    counts = ~np.isnan(said.residual) & (said.gap == 0)
    errors = np.full((len(rows), 3), np.nan)
    errors[1:] = ROWS[rows][1:].astype(float) - said.values[:-1]
    return errors[counts], said.score, said.begins.astype(bool)


def root(errors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.nanmean(errors**2, axis=0))


def test_a_shadow_changes_nothing_is_compared_and_takes_over_warm(files, folders):
    with serving(files["old"], folders | {"shadow": str(files["new"])}) as daemon:
        want, heir = expected(daemon, files["old"]), expected(daemon, files["new"])
        done = 0
        with daemon.line() as line:
            assert json.loads(daemon.get("/api/status")[1])["shadow"] == read_model(files["new"]).fingerprint
            before = beside(daemon, 1)
            answers = send(line, 0, 300)
            done = len(answers)
            assert answers == want[:done]
            said = beside(daemon, before["rows"] + done)
            check_figures(daemon, files, said, done)

            promoted = CliRunner().invoke(main, ["promote", folders["state.live"]])
            assert promoted.stdout == f'model = "{files["new"]}"\nshadow = "{files["old"]}"\n'
            assert read_model(files["new"]).fingerprint in promoted.stderr
            answers = send(line, 300, 520)
            assert answers == heir[done : done + len(answers)]
            done += len(answers)
        begins = sent()[forecast_errors(daemon, files["new"])[2]]
        event = int(begins[begins >= 300][0])
        wait_for(lambda: event in events_of(folders["events.path"]), f"an event of the new model at {event}")
        model = json.loads(daemon.get("/api/status")[1])["model"]
        assert (model["cell"], model["fingerprint"]) == ("gru", read_model(files["new"]).fingerprint)
        daemon.process.send_signal(signal.SIGHUP)  # the file still names the model from before
        daemon.wait_until_it_says("served before `streamrnn promote`")
        daemon.process.kill()
        daemon.process.wait()
    with launch(files["old"], folders | {"shadow": str(files["new"])}) as daemon:
        assert daemon.process.wait(60) == 78
        assert read_model(files["new"]).fingerprint in daemon.said
    with serving(files["new"], folders | {"shadow": str(files["old"])}) as daemon, daemon.line() as line:
        assert send(line, 520, 560) == heir[done : done + 40]
        done += 40
        ask(Path(folders["state.live"]), "test", {"do": "promote"})  # and back, as if nothing had been
        assert send(line, 560, 600) == want[done:]


def events_of(journal: str) -> list[int]:
    """The first rows of the events that are kept."""
    with sqlite3.connect(journal) as connection:
        return [seq for (seq,) in connection.execute("SELECT begin_seq FROM events WHERE kind = 'event'")]


def check_figures(daemon: Daemon, files: dict[str, Path], said: dict[str, Any], done: int) -> None:
    """Beside what two engines say, each by itself; the few rows that opened the line are all alike."""
    for name, file in (("model", files["old"]), ("shadow", files["new"])):
        errors, scores, begins = forecast_errors(daemon, file)
        rows = sent()[:done]
        kept = len(errors) - (len(sent()) - done)
        np.testing.assert_allclose(
            [channel[name] for channel in said["channels"]], root(errors[:kept]), rtol=0.05
        )
        assert said["models"][name]["events"] == begins[: len(rows)].sum() > 0
        here = scores[: len(rows)][~np.isnan(scores[: len(rows)])]
        assert said["models"][name]["score"]["p90"] == pytest.approx(np.quantile(here, 0.9), abs=0.3)
    change = ROWS[sent()[1:done]].astype(float) - ROWS[sent()[: done - 1]]
    assert said["channels"][0]["persistence"] == pytest.approx(root(change)[0], rel=0.1)
    assert {event["stream"] for event in said["latest"]} == {"a"}
    assert said["models"]["model"]["met"] == said["models"]["shadow"]["met"] > 0
    metrics = daemon.metrics()
    assert metrics["streamrnn_shadow_rows_total"] == said["rows"]
    assert metrics["streamrnn_shadow_squared_error_total{shadow}"] == pytest.approx(
        said["squared_error"]["shadow"]
    )
    assert metrics["streamrnn_shadow_seconds_total"] > 0


def reload(daemon: Daemon, text: str, **changes: Any) -> None:
    """Writes the daemon's file anew, sends SIGHUP and waits until it says ``text``."""
    daemon.config = daemon.config.model_copy(update=changes)
    words = Path(f"/proc/{daemon.process.pid}/cmdline").read_text().split("\0")
    Path(words[words.index("-c") + 1]).write_text(config_text(daemon.config))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_until_it_says(text)


def test_a_reload_adds_swaps_changes_and_removes_a_shadow(files, folders):
    folder = Path(folders["state.live"])
    with serving(files["old"], folders) as daemon, daemon.line() as line:
        assert json.loads(daemon.get("/api/shadow")[1]) == {"shadow": None}
        assert not [name for name in daemon.metrics() if "shadow" in name]
        with pytest.raises(UserError, match="no shadow runs"):
            ask(folder, "test", {"do": "promote"})
        old = expected(daemon, files["old"])
        assert send(line, 0, 20) == old[:20]
        print_of = {name: read_model(file).fingerprint for name, file in files.items()}
        reload(daemon, f"the shadow is {print_of['new']}", shadow=str(files["new"]))
        answers = send(line, 20, 60)
        assert answers == old[20:60]
        engine = engine_of(daemon, files["new"])
        zeros = np.zeros(40, np.int64)
        engine.feed(["a"], zeros, ROWS[20:60], np.arange(20, 60, dtype=np.uint64))

        reload(daemon, "the shadow took over", model=files["new"], shadow=str(files["old"]))
        rows = np.array([row for row in range(62, 100) if row not in MISSING])
        assert send(line, 62, 100) == rows_answers(engine, "a", ROWS[rows], rows.astype(np.uint64))

        reload(daemon, f"the shadow is {print_of['third']}", shadow=str(files["third"]))
        said = beside(daemon, 0)
        assert said["models"]["shadow"]["fingerprint"] == print_of["third"]
        assert (folder / "shadow" / "state").exists()

        write_model(untrained(channels=4), folder / "four.safetensors")
        reload(daemon, "shadow: it has channels more (c3)", shadow=str(folder / "four.safetensors"))
        assert beside(daemon, 0)["models"]["shadow"]["fingerprint"] == print_of["third"]

        reload(daemon, "reloaded; the model is", shadow="")
        wait_for(lambda: not (folder / "shadow" / "state").exists(), "the end of the shadow")
        assert json.loads(daemon.get("/api/shadow")[1]) == {"shadow": None}


@pytest.mark.parametrize(
    "other, words",
    [
        ({}, "is the model"),
        ({"channels": 2}, "lacks channels (c2)"),
    ],
)
def test_a_shadow_that_cannot_be_one_is_refused(model_file, tmp_path, other, words):
    write_model(untrained(**({"sample_period_s": 0.01} | other)), tmp_path / "shadow.safetensors")
    with launch(model_file, {"shadow": str(tmp_path / "shadow.safetensors")}) as daemon:
        assert daemon.process.wait(60) == 78
        assert words in daemon.said
