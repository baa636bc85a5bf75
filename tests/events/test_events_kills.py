"""SIGKILL at random instants under full load: the journal has every event once, as a witness comes to it."""

import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from daemons import launch, wait_for
from deaths import CHANNELS, LIVES, NAMES, ROWS, STREAMS, Deaths, Witness, at_full_load, settings_in
from models import untrained

from streamrnn.engine.engine import Answers
from streamrnn.events.journal import Filter, Journal
from streamrnn.model.model_file import write_model
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.score_part import EVENT
from streamrnn.streams.slots import id_text
from streamrnn.wire.frame import ANOMALY, WAS_RESET


class Happened(NamedTuple):
    """An event, as answers or a journal tell it."""

    stream: str
    begin: int
    last: int | None = None  # None and what follows: it goes on
    rows: int = 0
    peak: float = 0.0
    channels: tuple[tuple[str, float], ...] = ()


class Listener(Witness):
    """A witness that notes events."""

    resets = 0

    def heed(self, stream: np.ndarray, answers: Answers) -> None:
        events = self.__dict__.setdefault("events", {})
        self.resets += int((answers.flags & WAS_RESET != 0).sum())
        for row in np.flatnonzero(answers.flags & ANOMALY):
            name, seq = NAMES[stream[row]], int(answers.seq[row])
            if answers.begins[row]:
                events.setdefault(name, []).append(Happened(name, seq))
            event = events[name][-1]
            event = event._replace(last=seq, rows=event.rows + 1)
            if answers.score[row] > event.peak:
                shares = answers.shares[row]
                order = sorted(range(CHANNELS), key=lambda output, shares=shares: -shares[output])
                percent = [(f"c{output}", round(float(np.float32(100) * shares[output]))) for output in order]
                event = event._replace(
                    peak=float(answers.score[row]),
                    channels=tuple((name, share / 100) for name, share in percent if share),
                )
            events[name][-1] = event

    def expected(self) -> list[Happened]:
        slots = self.engine.core.slots
        goes_on = {
            id_text(slots.ids.reshape(-1, ID_WORDS)[slot])
            for slot in range(STREAMS)
            if slots.state[slot * slots.words + slots.score_at + EVENT] != 0
        }
        for name in goes_on:
            self.events[name][-1] = Happened(name, self.events[name][-1].begin)
        return sorted(event for events in self.events.values() for event in events)


def told(journal: Journal) -> list[Happened]:
    found = []
    for entry in journal.in_order(Filter(kind="event")):
        event = Happened(entry["stream"], entry["begin_seq"])
        if entry["end_wall_ns"] is not None:
            last, rows, peak = (entry[name] for name in ("end_seq", "rows", "peak"))
            channels = tuple(map(tuple, entry["channels"]))
            event = event._replace(last=last, rows=rows, peak=peak, channels=channels)
        found.append(event)
    return sorted(found)


def test_every_event_is_told_once(tmp_path: Path, request):
    rounds = 200 if request.config.getoption("--long") else 12
    model = tmp_path / "model.safetensors"
    write_model(untrained("lstm", channels=CHANNELS, hidden=8), model)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(ROWS, CHANNELS)).astype(np.float32)
    for row in range(200, ROWS, 230):
        values[row : row + 3] *= rng.uniform(20, 60)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        more = {"streams.workers": 2, "events.path": str(tmp_path / "events.db")}
        with launch(model, settings_in(tmp_path, live) | more, program=LIVES) as daemon:
            witness = Listener(daemon, values)
            with at_full_load(daemon, values) as heard:
                deaths = Deaths(daemon, heard, witness, seed=5)
                for _ in range(rounds):
                    deaths.die_once()
            expected = witness.expected()
            child = deaths.begin()  # nothing is sent to this one
            with Journal(tmp_path / "events.db") as journal:
                with suppress(AssertionError):  # what is missing then is told below
                    wait_for(lambda: len(told(journal)) >= len(expected), "the journal to have all")
                deaths.end(child, signal.SIGTERM)
                assert told(journal) == expected
                resets = sum(entry["rows"] for entry in journal.in_order(Filter(kind="reset")))
                assert resets == witness.resets and not journal.lost()
            assert not daemon.said
    assert len(expected) > 3 * rounds
    print(f"{rounds} deaths, {witness.rows} rows, {len(expected)} events, {resets} resets")
