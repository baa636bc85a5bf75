"""A daemon with a journal, and what `streamrnn events` shows of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from daemons import DEADLINE_S, launch, serving, wait_for
from models import untrained

from streamrnn.model.model_file import write_model

CHANNELS = 3


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    write_model(untrained("lstm", channels=CHANNELS, hidden=8), path)
    return path


def events(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamrnn", "events", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def listed(path: Path, *words: object) -> list[dict]:
    return [json.loads(line) for line in events("list", path, "--json", *words).stdout.splitlines()]


def test_what_happens_is_listed_followed_and_judged(model_file, tmp_path):
    path = tmp_path / "events.db"
    settings = {"events.path": str(path), "streams.idle_timeout": "2s"}
    values = np.random.default_rng(0).normal(size=(400, CHANNELS)).astype(np.float32)
    values[300:303] *= 40
    with serving(model_file, settings) as daemon, daemon.line() as line:
        command = [sys.executable, "-m", "streamrnn", "events", "follow", str(path), "--json"]
        resets = "--kind", "reset", "--prefix", "pump"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as following:
            try:
                assert following.stdout is not None and following.stderr is not None
                assert "following" in following.stderr.readline()
                line.send_rows("pump-1", values)
                line.send_rows("pump-2", values[:302])  # its event goes on
                first = json.loads(following.stdout.readline())
                assert (first["kind"], first["begin_seq"]) == ("event", 300)
                wait_for(lambda: len(listed(path, *resets)) == 2, "both streams to be let go")
            finally:
                following.kill()
        assert daemon.count("events_total{event}") == 2 and daemon.count("journal_bytes") > 4096
        assert daemon.count("journal_lost_total") == daemon.count("journal_failures_total") == 0
        told = {entry["stream"]: entry for entry in listed(path, "--kind", "event")}
        assert told["pump-1"]["end_seq"] >= 302 and told["pump-1"]["peak"] > 3
        assert told["pump-2"]["end_seq"] == 301  # the last row there was
        assert {entry["detail"] for entry in listed(path, *resets)} == {"idle"}
        judged = events("judge", path, told["pump-2"]["id"], "real", "--note", "bearing")
        assert judged.returncode == 0
        (real,) = listed(path, "--verdict", "real")
        assert (real["stream"], real["note"]) == ("pump-2", "bearing")
        assert events("judge", path, 99, "real").returncode == 1
        assert daemon.stop() == 0


def test_a_journal_that_cannot_be_had_ends_the_start(model_file, tmp_path):
    (tmp_path / "text").write_text("not a journal, " * 500)
    for path, code, words in (
        (tmp_path / "text", 78, "not a journal of events"),
        (tmp_path / "none" / "events.db", 1, "set events.path to a file in a folder that is there"),
    ):
        with launch(model_file, {"events.path": str(path)}) as daemon:
            assert daemon.process.wait(DEADLINE_S) == code
            assert words in daemon.said
