"""The README's first pages, walked: its own commands, from a recording to a live forecast."""

import json
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from daemons import COMPILE_S, wait_for
from readme import command_lines, free_ports

from streamrnn.wire.frame import EVENT

# what the replays of "Relations" write, and the rows of an answer; 0 = answers are of one row
REPLAYED = {
    "conditions_predictions": (0, 0),
    "load_predictions": (1, 24),
    "curves_predictions": (1, 60),
    "rollout": (1, 40),
}


def commands() -> dict[str, list[list[str]]]:
    """The command lines of "Use it", by the command."""
    found: dict[str, list[list[str]]] = {}
    for words in command_lines("Use it"):
        found.setdefault(words[3], []).append(words)
    return found


def connected(port: int) -> bool:
    """Whether a connection to a local port stands."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in lines)


def test_a_recording_becomes_a_model_that_runs_live(tmp_path, request):
    """What is said of the training, the replayed predictions and the live ones go together, with no glue."""
    said = commands()
    quick = [] if request.config.getoption("--long") else ["--epochs", "30"]
    assert list(said) == ["demo", "train", "replay", "serve", "tail", "send"]

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended

    def start(words: list[str]) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        with (tmp_path / words[3]).open("w") as log:
            return subprocess.Popen(words, cwd=tmp_path, stdout=pipe, stderr=log, text=True)

    for words in said["demo"]:
        run(words)
    trained = run(said["train"][0] + quick)
    assert "the network pays" in trained.stdout
    table = re.search(
        r"^all, in standard deviations +([\d.]+) +([\d.]+) +([\d.]+)$", trained.stdout, re.MULTILINE
    )
    network, linear, persistence = map(float, table.groups())
    assert network < linear < persistence
    replayed = run(said["replay"][0])
    anomalies = int(re.search(r"anomalies: (\d+)", replayed.stderr)[1])
    assert anomalies >= 10

    ports = {f":{port}": f":{number}" for port, number in zip((5555, 5556), free_ports(2), strict=True)}

    def here(words: list[str]) -> list[str]:
        for port, other in ports.items():
            words = [word.replace(port, other) for word in words]
        return words

    predictions = pyarrow.csv.read_csv(tmp_path / "predictions.csv")
    daemon = start([*here(said["serve"][0]), "--http", ""])
    tail = None
    try:
        wait_for(lambda: "ready:" in (tmp_path / "serve").read_text(), "the daemon", COMPILE_S)
        tail = start([*here(said["tail"][0]), "--limit", str(predictions.num_rows + anomalies)])
        # it subscribes as it connects; the sender starts after that
        wait_for(lambda: connected(int(ports[":5556"][1:])), "the reader")
        sent = start([*here(said["send"][0]), "--speed", "max"])
        lines, _ = tail.communicate(timeout=60)
        assert sent.wait(60) == 0
    finally:
        for process in (daemon, *([tail] if tail else [])):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    heard = [json.loads(line) for line in lines.splitlines()]
    live = [row for row in heard if row["kind"] != EVENT]
    assert (len(live), len(heard) - len(live)) == (predictions.num_rows, anomalies)
    assert [row["stream"] for row in live] == predictions["stream"].to_pylist()
    names = [name for name in predictions.column_names if name.endswith("_pred")]
    told = np.stack([predictions[name].to_numpy() for name in names], axis=1)
    np.testing.assert_array_equal(np.array([row["values"] for row in live]), told)
    recorded = pyarrow.csv.read_csv(tmp_path / "tuesday.csv")
    measured = np.stack([recorded[name.removesuffix("_pred")].to_numpy() for name in names], axis=1)
    pump = recorded["machine"].to_numpy(zero_copy_only=False) == "pump-1"
    network, persistence = (measured[pump][1:] - forecast[pump][:-1] for forecast in (told, measured))
    # medians: during faults no forecast is right
    assert (np.nanmedian(np.abs(network), 0) < np.nanmedian(np.abs(persistence), 0)).all()


@pytest.mark.skipif("not config.getoption('--long')", reason="compiles each of them: run with --long")
def test_every_relation_is_trained_and_replayed(tmp_path):
    """With one epoch each; what they come to is ``tools/relations.py``'s to say."""
    said = commands()
    short = [[*words, "--seconds", "120"] for words in said["demo"]]
    lines = [*short, said["train"][0], *command_lines("Relations")]
    asked = [line for line in lines if "tools/relations.py" not in line[1] or line[2:]]
    for words in asked:
        quick = ["--epochs", "1"] if "train" in words else []
        ended = subprocess.run(
            [*words, *quick], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert ended.returncode == 0, (words, ended.stderr)
    rows = {name: pyarrow.csv.read_csv(tmp_path / f"{name}.csv") for name in REPLAYED}
    for name, (first, last) in REPLAYED.items():
        ahead = rows[name]["ahead"].to_numpy() if last else np.zeros(1)
        assert (ahead.min(), ahead.max()) == (first, last), name
    runs = pyarrow.csv.read_csv(tmp_path / "conditions_test.csv")["run"].unique()
    assert rows["conditions_predictions"]["stream"].to_pylist() == runs.to_pylist()
