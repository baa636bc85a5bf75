"""Which snapshots stay, and which make room."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from streamrnn.settings.retention import parse_keep
from streamrnn.streams import snapshot as of
from streamrnn.streams.snapshot import ID_BYTES, Snapshot, snapshots_in, write_snapshot
from streamrnn.streams.thinning import TWO, Retention, kept

HOUR = 3600 * 10**9


def test_snapshots_are_thinned_out():
    retention = Retention(*parse_keep("2, 24h hourly, 30d daily"))
    now = 20_000 * 24 * HOUR + 12 * HOUR  # noon of some day
    every_ten_minutes = {Path(f"{n}"): now - n * HOUR // 6 for n in range(6 * 24 * 60)}
    stay = sorted(kept(every_ten_minutes, retention, now), key=lambda path: int(path.name))
    ages = [int(path.name) / 6 for path in stay]
    assert ages[:2] == [0, 1 / 6]
    assert sum(age <= 24 for age in ages) in (25, 26, 27)
    assert sum(age > 24 for age in ages) in (28, 29, 30)
    assert max(ages) <= 30 * 24
    hours = [every_ten_minutes[path] // HOUR for path in stay if int(path.name) <= 24 * 6]
    assert set(hours) >= set(range(now // HOUR - 23, now // HOUR + 1))
    assert kept(every_ten_minutes, Retention(2), now) == {Path("0"), Path("1")}
    # from one snapshot to the next the same stay, whenever they are thinned
    held: dict[Path, int] = {}
    for path in reversed(every_ten_minutes):
        held[path] = every_ten_minutes[path]
        stays = kept(held, retention, held[path])
        held = {path: when for path, when in held.items() if path in stays}
    assert set(held) == set(stay)


def written(folder: Path, when: int, retention: Retention | None) -> Path:
    nothing = np.zeros((1, ID_BYTES), np.uint8), np.zeros((1, 16), np.float32)
    return write_snapshot(folder, Snapshot("ab", {"words": 16}, when, *nothing), retention)


def test_a_full_disk_costs_the_oldest_but_never_the_newest(tmp_path, monkeypatch, caplog):
    for hour in range(5):
        written(tmp_path, hour * HOUR, None)
    room = 3

    def write_back(descriptor: int) -> None:
        if len(snapshots_in(tmp_path)) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(of, "_write_back", write_back)
    monkeypatch.setattr(of.time, "time_ns", lambda: 6 * HOUR)
    retention = Retention(2, ((24 * 3600.0, 3600.0),))
    path = tmp_path / "snapshot-00000006.safetensors"
    assert written(tmp_path, 6 * HOUR, retention) == path
    assert [int(path.stem[-1]) for path in snapshots_in(tmp_path)] == [6, 5, 4, 3]
    assert [record.message.count("snapshot-0000000") for record in caplog.records] == [1, 1]
    room = 1
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path, 7 * HOUR, retention)
    assert [int(path.stem[-1]) for path in snapshots_in(tmp_path)] == [6, 5]
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path, 7 * HOUR, TWO)
    assert [int(path.stem[-1]) for path in snapshots_in(tmp_path)] == [6, 5]
