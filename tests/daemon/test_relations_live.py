"""The relations over the wire: what a daemon publishes is what replay writes, killed in between or not."""

import csv
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemons import Daemon, Prediction, serving, wait_for
from models import RELATIONS, untrained

from streamrnn.client.send import SendOptions, send
from streamrnn.model.model_file import write_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults, Predict
from streamrnn.table import Reading
from streamrnn.wire.frame import END, PER_FRAME, PER_SEQUENCE, ROLLOUT

ROWS, STREAMS, KILLED = 47, 3, 20
KINDS = {
    "rollout": ({"highway": 5}, {"every": 10, "horizon": 6}, {PER_FRAME, ROLLOUT}),
    "windows": ({"window": 4, "layers": 2}, {"every": 10, "horizon": 6}, {PER_FRAME, ROLLOUT}),
    "rows at once": ({"window": 4, "horizon": 3}, {}, {ROLLOUT}),
    "adapted": ({}, {"every": 10, "horizon": 6, "memory": 200}, {PER_FRAME, ROLLOUT}),
    "sequence-to-vector": (RELATIONS["sequence-to-vector"], {"every": 0}, {PER_SEQUENCE}),
    "vector-to-sequence": (RELATIONS["vector-to-sequence"], {}, {ROLLOUT}),
    "encoder-decoder": (RELATIONS["encoder-decoder"], {"every": 7}, {ROLLOUT}),
}


@pytest.fixture
def live() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield folder


def all_values() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 5, (ROWS, STREAMS, 3)).astype(np.float32)


def write_rows(path: Path) -> Path:
    """The rows of streams that take turns."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["machine", "c0", "c1", "c2"])
        for row in all_values():
            table.writerows([f"m{stream}", *values] for stream, values in enumerate(row))
    return path


def replayed(path: Path, model: Path, predict: Predict, memory: int = 0) -> list[tuple[Any, ...]]:
    """What replay writes of a file, by its columns but score, residual and flags."""
    output = path.with_suffix(".out.csv")
    reading = Reading(stream="machine")
    options = ReplayOptions(
        str(path), model, Faults(), str(output), reading=reading, predict=predict, memory=memory
    )
    replay(options)
    with output.open(newline="") as file:
        return [
            (row["stream"], int(row["seq"]), int(row["step"]), int(row.get("ahead") or 1), *predicted(row))
            for row in csv.DictReader(file)
        ]


def predicted(row: dict[str, str]) -> list[np.float32]:
    return [np.float32(cell) for name, cell in row.items() if name.endswith("_pred")]


def published(messages: list[Prediction]) -> Iterator[tuple[Any, ...]]:
    """The same of messages; the first row of a rollout is its row's own prediction, and there already."""
    own = set()
    for message in messages:
        header = message.header
        key = message.stream, int(header["seq"])
        own |= {key} if header["kind"] == PER_FRAME else set()
        for ahead, values in enumerate(message.values, 1):
            if header["kind"] == ROLLOUT and ahead == 1 and key in own:
                continue
            yield *key, int(header["step"]), ahead, *values


def messages_of(rows: list[tuple[Any, ...]], first: int, last: int, own: bool) -> int:
    """How many messages hold what was replayed of rows ``first`` to ``last``; ``own``: each row has one."""
    answered = {row[:2] for row in rows if first <= row[1] < last}
    several = {row[:2] for row in rows if first <= row[1] < last and row[3] > 1}
    return len(answered) + (len(several) if own else 0)


def send_and_hear(daemon: Daemon, first: int, last: int, messages: int) -> list[Prediction]:
    with daemon.line() as line:
        for seq, row in enumerate(all_values()[first:last], first):
            for stream, values in enumerate(row):
                line.send(f"m{stream}", values, seq=seq, flags=END if seq == ROWS - 1 else 0)
        heard = line.receive(messages)
        names = [f"m{stream}" for stream in range(STREAMS)]  # not every row is answered
        wait_for(lambda: {seq_of(daemon, name) for name in names} == {last - 1}, "the last rows")
        return heard


def seq_of(daemon: Daemon, stream: str) -> int | None:
    """The number of a stream's last row that was committed."""
    status, said = daemon.get(f"/api/streams/{stream}")
    return int(json.loads(said)["seq"]) if status == 200 else None


@pytest.mark.parametrize(("change", "predict", "kinds"), KINDS.values(), ids=KINDS)
def test_live_and_replayed_are_the_same_bit_for_bit(change, predict, kinds, tmp_path, live):
    """Killed in the middle of every sequence and started again, the daemon goes on as replay does."""
    predict = dict(predict)
    memory = predict.pop("memory", 0)
    model, asked, own = tmp_path / "model.safetensors", Predict(**predict), PER_FRAME in kinds
    write_model(untrained(**change), model)
    wanted = replayed(write_rows(tmp_path / "rows.csv"), model, asked, memory)
    settings = {"state.live": live} | {f"predict.{key}": value for key, value in predict.items()}
    settings |= {"adapt.enabled": True, "adapt.memory": memory} if memory else {}
    found = list[Prediction]()
    for first, last in ((0, KILLED), (KILLED, ROWS)):
        with serving(model, settings) as daemon:
            found += send_and_hear(daemon, first, last, messages_of(wanted, first, last, own))
            assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert {int(message.header["kind"]) for message in found} == kinds
    assert sorted(published(found)) == sorted(wanted)


def test_every_row_of_a_long_rollout_is_written(tmp_path):
    model = tmp_path / "model.safetensors"
    write_model(untrained(), model)
    rows = replayed(write_rows(tmp_path / "rows.csv"), model, Predict(every=40, horizon=300))
    long = [row[3] for row in rows if row[:2] == ("m1", 39)]
    assert long == list(range(1, 301))
    assert len(rows) == STREAMS * (ROWS + 2 * 299)  # at the END, too


def test_a_file_that_is_sent_ends_its_sequences(tmp_path):
    """Each stream at its last row, which replay finds, too."""
    model, file = tmp_path / "model.safetensors", write_rows(tmp_path / "rows.csv")
    write_model(untrained(**RELATIONS["sequence-to-vector"]), model)
    wanted = replayed(file, model, Predict())
    assert [row[:3] for row in wanted] == [(f"m{stream}", ROWS - 1, ROWS) for stream in range(STREAMS)]
    with serving(model) as daemon, daemon.line() as line:
        assert "sequence-to-vector, answers at END" in daemon.said
        send(SendOptions(str(file), daemon.receives, model=model, reading=Reading(stream="machine"), block=5))
        assert sorted(published(line.receive(STREAMS))) == sorted(wanted)
