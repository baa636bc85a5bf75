"""What an earlier version kept goes on in this one, bit for bit.

``earlier/`` was written by the version before: stream "a" after 40 rows, "b" after 2, fewer than the highway
looks back to, and "c" after 12, of which the 11th began a new sequence.
"""

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from streamrnn.daemon.state_keeper import Keeper
from streamrnn.engine.engine import Engine
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model, random_model
from streamrnn.settings.sections import Faults, State
from streamrnn.streams.live import FILE, boot_id
from streamrnn.streams.live_header import COPY_AT, HEADER
from streamrnn.streams.snapshot import read_snapshot, write_snapshot
from streamrnn.wire.frame import RESET, RESTORED

KEPT = Path(__file__).parent / "earlier"
SNAPSHOT = read_snapshot(KEPT / "snapshot.safetensors")
SCALE = {"mean": np.array([1.0, 2, 3]), "std": np.array([1.0, 2, 4])}
MODEL = random_model("lstm", 3, 5, highway=4, layers=2, seed=1, **SCALE)
ROWS = np.random.default_rng(5).normal(2, 2, (40, 3)).astype(np.float32)
MORE = np.random.default_rng(6).normal(2, 2, (30, 3)).astype(np.float32)


def feed(engine: Engine, name: str, rows: np.ndarray, reset_at: int = -1) -> np.ndarray:
    """The answers' values and flags, as one array."""
    flags = np.where(np.arange(len(rows)) == reset_at, RESET, 0).astype(np.uint16)
    said = engine.feed([name], np.zeros(len(rows), np.int64), rows, flags=flags)
    return np.column_stack([said.values, said.score, said.flags & ~np.uint16(RESTORED)])


def never_updated() -> Engine:
    engine = Engine(MODEL, 4, Faults(), memory=50)
    feed(engine, "a", ROWS)
    feed(engine, "b", ROWS[:2])
    feed(engine, "c", ROWS[:12], reset_at=10)
    return engine


def started(model: Model = MODEL, **state: str) -> Engine:
    """A daemon's keeper has given the streams of folders back to an engine."""
    keeper = Keeper(State(**state))
    home = partial(keeper.home, fingerprint=model.fingerprint, capacity=4)
    engine = Engine(model, 4, Faults(), home, memory=50)
    keeper.compile(engine)
    keeper.recover()
    return engine


def assert_goes_on(engine: Engine, names: str = "abc") -> None:
    other = never_updated()
    for name in names:
        np.testing.assert_array_equal(feed(engine, name, MORE), feed(other, name, MORE), name)


def test_a_snapshot(tmp_path):
    shutil.copy(KEPT / "snapshot.safetensors", tmp_path / "snapshot-00000001.safetensors")
    assert_goes_on(started(snapshots=str(tmp_path)))


@pytest.mark.parametrize("word", [8, 40, SNAPSHOT.layout["score_at"] + 20, SNAPSHOT.layout["hidden_at"] + 1])
def test_a_damaged_stream_of_a_snapshot_begins_anew(tmp_path, word):
    """And no other: whatever is damaged of its header, input, frames or state."""
    records = SNAPSHOT.records.copy()
    records.view(np.uint32)[1, word] ^= 1 << 20
    write_snapshot(tmp_path, replace(SNAPSHOT, records=records))
    engine = started(snapshots=str(tmp_path))
    assert engine.core.slots.counts.tolist() == [2, 2]
    assert_goes_on(engine, "ac")


def test_a_snapshot_of_another_model_is_refused(tmp_path):
    shutil.copy(KEPT / "snapshot.safetensors", tmp_path / "snapshot-00000001.safetensors")
    with pytest.raises(ConfigError, match="holds the state of the model"):
        started(random_model("lstm", 3, 5, highway=4, layers=2, seed=2, **SCALE), snapshots=str(tmp_path))


@pytest.fixture
def live() -> Iterator[Path]:
    """A folder on tmpfs with the live state, as if it were of this boot."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        content = bytearray(gzip.decompress((KEPT / "state.gz").read_bytes()))
        for at in COPY_AT:
            header = np.frombuffer(content, HEADER, 1, at)
            if header["magic"][0]:
                header["boot"], header["crc"] = boot_id(), 0
                header["crc"] = zlib.crc32(header.tobytes())
        Path(folder, FILE).write_bytes(content)
        yield Path(folder)


def test_a_live_state(live):
    assert_goes_on(started(live=str(live)))


def test_a_live_state_of_another_model_is_refused_and_left(live):
    before = (live / FILE).read_bytes()
    with pytest.raises(ConfigError, match="holds the state of the model"):
        started(random_model("lstm", 3, 5, highway=4, layers=2, seed=2, **SCALE), live=str(live))
    assert (live / FILE).read_bytes() == before
