"""What an engine's streams go through, and the journal that comes of it."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemons import wait_for
from models import untrained

from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.events import writer as writer_module
from streamrnn.events.journal import Filter, Journal
from streamrnn.events.ring import NOTHING, RingFile
from streamrnn.events.upkeep import forget_old
from streamrnn.events.writer import Writer
from streamrnn.replay.anomalies import Anomalies
from streamrnn.settings.events_section import Events
from streamrnn.settings.sections import Faults
from streamrnn.streams.happenings import HEAD, LOST, SEALED, TAKEN
from streamrnn.table import Rows

pytest_plugins = ["disk"]

CHANNELS, STREAMS = 3, 4
NAMES = [f"pump-{number}" for number in range(STREAMS)]
MODEL = untrained("lstm", channels=CHANNELS, hidden=8)
NAMED = [(f"c{channel}", 0.0) for channel in range(CHANNELS)]


def rows_of(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Streams, values and numbers of rows with a few that are unusual, the streams by turns."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, STREAMS, CHANNELS))
    for stream in range(STREAMS):
        for at in rng.integers(150, count - 80, count // 300):
            values[at : at + 4, stream, rng.integers(CHANNELS)] *= 30
    stream, seq = np.tile(np.arange(STREAMS), count), np.repeat(np.arange(count), STREAMS)
    return stream, values.reshape(-1, CHANNELS).astype(np.float32), seq.astype(np.uint64)


class Bench:
    """An engine and the ring that it fills, which stay, and writers that come and go."""

    def __init__(self, folder: Path, live: Path | None = None):
        self.path = folder / "events.db"
        self.ring = RingFile(live, STREAMS)
        self.engine = Engine(MODEL, STREAMS, Faults(gap="step", max_gap=10))
        self.engine.core = self.engine.core._replace(journal=self.ring.ring)

    @contextmanager
    def writing(self, **settings: Any) -> Iterator[Writer]:
        writer = Writer(Events(path=str(self.path), **settings), self.ring, NAMED, NAMED)
        writer.start(self.engine.core.slots, True)
        try:
            yield writer
        finally:
            writer.stop()

    def entries(self, **chosen: Any) -> list[dict[str, Any]]:
        with Journal(self.path) as journal:
            return list(journal.in_order(Filter(**chosen)))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_events_are_those_of_a_replay(bench):
    stream, values, seq = rows_of(3000)
    times = 10**18 + seq.astype(np.int64) * 10**9
    answers = bench.engine.feed(NAMES, stream, values, seq, times)
    with bench.writing():
        pass
    anomalies = Anomalies(MODEL, float(bench.engine.core.rules.threshold))
    rows = Rows(stream.astype(np.int32), values, seq, times, None, 0)
    anomalies.add(rows, NAMES, answers, np.zeros(len(stream), bool))
    names = ("stream", "begin_seq", "begin_ns", "end_seq", "end_ns", "rows", "peak")
    told = {tuple(entry[name] for name in names) for entry in bench.entries(kind="event") if over(entry)}
    replayed = {
        (each.stream, each.first_seq, each.first_ns, each.last_seq, each.last_ns, each.rows, each.score)
        for each in anomalies.kept
    }
    assert told <= replayed and len(told) > 10
    go_on = {
        (entry["stream"], entry["begin_seq"]) for entry in bench.entries(kind="event") if not over(entry)
    }
    assert go_on == {each[:2] for each in replayed - told}


def over(entry: dict[str, Any]) -> bool:
    return entry["end_wall_ns"] is not None


def test_nothing_comes_twice_where_a_kill_follows_a_commit(bench):
    bench.engine.feed(NAMES, *rows_of(1500))
    with bench.writing():
        pass
    before = bench.entries()
    assert before and bench.ring.ring.marks[TAKEN] == bench.ring.ring.counts[HEAD]
    bench.ring.ring.marks[TAKEN] = 0  # as a process leaves it that is killed before it notes this
    with bench.writing():
        pass
    assert bench.entries() == before


def test_what_was_not_committed_never_happened(bench):
    bench.engine.feed(NAMES, *rows_of(1500))
    ring, bench.ring.taken_over = bench.ring.ring, True
    last = ring.entries[ring.counts[HEAD] - 1]
    last["step"] += 10_000  # of a row that its stream has not come to
    ring.marks[SEALED] = ring.counts[HEAD] - 3  # as in the middle of a batch
    assert bench.ring.recover(bench.engine.core.slots) == 1
    assert last["kind"] == NOTHING and ring.entries[ring.counts[HEAD] - 2]["kind"] != NOTHING
    assert ring.marks[SEALED] == ring.counts[HEAD]


def test_a_ring_on_tmpfs_is_taken_over(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        first = Bench(tmp_path, Path(live))
        first.engine.feed(NAMES, *rows_of(1500))
        again = RingFile(Path(live), STREAMS)
        assert again.taken_over and again.identity == first.ring.identity
        assert again.ring.counts[HEAD] == first.ring.ring.counts[HEAD] > 0
        (Path(live) / "events").write_bytes(b"rubbish")
        assert not RingFile(Path(live), STREAMS).taken_over


def test_a_full_ring_loses_resets_first_and_says_so(bench):
    rows = 800
    seq = np.repeat(np.arange(rows, dtype=np.uint64) * np.uint64(100), STREAMS)
    stream, values, _ = rows_of(rows)
    bench.engine.feed(NAMES, stream, values, seq)
    resets = int(bench.engine.stats.resets.sum())
    assert resets == (rows - 1) * STREAMS
    lost = int(bench.ring.ring.counts[LOST])
    with bench.writing() as writer:
        wait_for(lambda: not writer.waiting(), "the ring to be empty")
        assert writer.lost() == lost > 0
    assert sum(entry["rows"] for entry in bench.entries(kind="reset")) == resets - lost
    with Journal(bench.path) as journal:
        assert [(reason, count) for _, reason, count in journal.lost()] == [("no room in the ring", lost)]


def test_gaps_and_silences_are_seen_in_the_records(bench):
    values = np.zeros((1, CHANNELS), np.float32)

    def say(seq: int) -> None:
        bench.engine.feed(["pump-0"], np.zeros(1, np.int64), values, np.array([seq], np.uint64))

    with bench.writing(silence="200ms") as writer:
        for seq in (0, 1, 5, 6, 9):  # five are missing, in two places
            say(seq)
        wait_for(lambda: bench.entries(kind="gap"), "a gap")
        wait_for(lambda: bench.entries(kind="silence"), "a silence")
        (silence,) = bench.entries(kind="silence")
        assert silence["end_wall_ns"] is None and silence["begin_seq"] == 9
        say(10)
        wait_for(lambda: over(bench.entries(kind="silence")[0]), "its end")
        say(13)
        wait_for(lambda: bench.entries(kind="gap")[0]["rows"] == 7, "two more rows")
        assert (writer.counts["gap"], writer.failures) == (1, 0)
        assert writer.counts["silence"] >= 1
    with bench.writing():
        pass
    assert [entry["rows"] for entry in bench.entries(kind="gap")] == [7]  # a restart adds nothing


def test_an_event_has_the_rows_around_it(bench):
    rng, fed, said = np.random.default_rng(0), [], []

    def feed(count: int, size: float = 1.0) -> None:
        values = (size * rng.normal(size=(count, CHANNELS))).astype(np.float32)
        seq = np.arange(len(fed), len(fed) + count, dtype=np.uint64)
        answers = bench.engine.feed(["pump-0"], np.zeros(count, np.int64), values, seq)
        fed.extend(values)
        said.extend(answers.values)

    def recorded() -> dict[str, Any] | None:
        feed(1)
        with Journal(bench.path) as journal:
            return next(
                (journal.one(entry["id"]) for entry in journal.entries()[0] if entry["recording"]), None
            )

    feed(400)
    with bench.writing(before="60s", after="500ms") as writer:
        wait_for(lambda: feed(1) or writer._watch.seen["taken"][0] > 3, "rows before the event")
        feed(3, 40.0)
        feed(70)
        entry = wait_for(recorded, "a recording")
        kept = wait_for(
            lambda: (e := recorded()) and e["recording"]["seq"][-1] > e["end_seq"] + 64 and e, "rows"
        )
    kept = kept["recording"]
    assert kept["seq"][0] < entry["begin_seq"] < kept["seq"][-1] and kept["seq"] == sorted(set(kept["seq"]))
    for place, seq in enumerate(kept["seq"]):
        values = [column[place] for column in kept["values"]]
        np.testing.assert_allclose(values, fed[seq], rtol=1e-5)
        np.testing.assert_allclose([c[place] for c in kept["forecasts"]], said[seq - 1], rtol=1e-5)


def test_a_disk_that_fills_costs_nothing(small_folder):
    bench = Bench(small_folder)
    with bench.writing(size="1MB") as writer:
        wait_for(lambda: bench.path.exists(), "a journal")
        filler = small_folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        bench.engine.feed(NAMES, *rows_of(3000))
        happened = int(bench.ring.ring.counts[HEAD])
        wait_for(lambda: writer.failures, "a failure")
        assert writer.waiting() == happened > 20
        filler.unlink()
        wait_for(lambda: not writer.waiting(), "all to be written")
    entries = bench.entries(kind="event")
    assert len(entries) + sum(map(over, entries)) == happened


def test_a_journal_that_is_removed_is_made_again(bench, monkeypatch):
    monkeypatch.setattr(writer_module, "_COMPARE_S", 0.05)
    with bench.writing() as writer:
        bench.engine.feed(NAMES, *rows_of(600))
        wait_for(lambda: not writer.waiting() and bench.entries(), "events")
        for path in bench.path.parent.glob("events.db*"):
            if not path.name.endswith(".lock"):
                path.unlink()
        bench.engine.feed(NAMES, *rows_of(600, seed=1)[:2])

        def made_again() -> bool:
            with suppress(UserError):
                return bool(bench.entries())
            return False

        wait_for(made_again, "a new journal")


def test_what_is_at_odds_with_the_records_is_mended(bench, monkeypatch):
    """An event that the journal never heard of, and one that another model's start cut off."""
    monkeypatch.setattr(writer_module, "_COMPARE_S", 0.05)
    stream, values, seq = rows_of(400)
    values[-STREAMS:] *= 50
    bench.engine.feed(NAMES, stream, values, seq)
    bench.ring.ring.marks[TAKEN] = bench.ring.ring.counts[HEAD]  # as before there was a journal
    with bench.writing():
        told = wait_for(lambda: bench.entries(kind="event"), "events that go on")
        assert {entry["detail"] for entry in told} == {"went on"} and not any(map(over, told))
        assert all(entry["peak"] > 3 and entry["channels"] for entry in told)
        bench.engine.unlearn()
        wait_for(lambda: all(map(over, bench.entries(kind="event"))), "their end")
        assert {entry["detail"] for entry in bench.entries(kind="event")} == {"cut off"}


def test_what_is_old_or_too_much_goes(bench):
    day, now = 86400 * 10**9, time.time_ns()
    with bench.writing():
        pass
    with Journal(bench.path, write=True) as journal:
        run = journal.connection.execute
        for number in range(300):
            begin = now - (300 - number) * day
            run(
                "INSERT INTO events (kind, stream, begin_wall_ns, end_wall_ns, note)"
                " VALUES ('gap', 'a', ?, ?, ?)",
                [begin, begin + 1, "x" * 4000],
            )
        run("UPDATE events SET note = '' WHERE id > 1")
        assert forget_old(run, 290 * day, 10**9, now, 1000) == 9  # not the one with a note
        run("UPDATE events SET note = ?, verdict = 'real' WHERE id % 10 = 0", ["y" * 4000])
        while forget_old(run, 10**18, 120_000, now, 4):
            pass
        left = [entry["id"] for entry in journal.in_order()]
        kept = {1, *range(10, 301, 10)}
        assert left == sorted(kept)[-len(left) :] and 0 < len(left) < len(kept)  # all others went first
    before = bench.path.stat().st_size
    with bench.writing(size="1MB"):
        pass
    assert bench.path.stat().st_size < before / 2


def test_a_journal_is_one_daemons(bench, tmp_path):
    with bench.writing(), pytest.raises(UserError, match="another daemon"), bench.writing():
        pass
    with pytest.raises(UserError, match=r"events\.path"):
        Writer(Events(path=str(tmp_path / "no" / "events.db")), bench.ring, NAMED, NAMED)
