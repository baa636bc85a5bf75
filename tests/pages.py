"""What a page is told: a connection to /api/events, and a server of pages over an engine of this process."""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from daemons import DEADLINE_S
from models import untrained
from prometheus_client import CollectorRegistry
from slots_by_hand import find_slot

from streamrnn.adapters.tally import IntakeTally
from streamrnn.daemon.operator import Operator
from streamrnn.daemon.page.views import PageViews
from streamrnn.engine.engine import Engine
from streamrnn.settings.sections import Faults
from streamrnn.streams.record import RECEIVED
from streamrnn.streams.score_part import OF_SMOOTHED, ROWS, WARMING_ROWS
from streamrnn.streams.slots import id_words
from streamrnn.web.app import WebServer
from streamrnn.web.control import Door
from streamrnn.web.journal import JournalReader

SHORT = {"time", "score", "mark"}  # of a ``stream`` event: a list over samples


class Events:
    """One open page, as far as the daemon knows. ``samples`` are those of its stream so far, joined.

    Each is (time, score, mark, values, forecasts).
    """

    def __init__(self, http: str, **query: Any):
        self._connection = HTTPConnection(urlsplit(http).netloc, timeout=DEADLINE_S)
        self._connection.request(
            "GET", f"/api/events?{urlencode(query)}", headers={"accept-encoding": "gzip"}
        )
        self.response = self._connection.getresponse()
        self.samples: list[tuple[float, float | None, int, list[Any], list[Any]]] = []

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def next(self, kind: str) -> dict[str, Any]:
        """The next event of a kind; samples on the way to it are taken."""
        while True:
            found, said = self._event()
            if found == "stream":
                self._take(said)
            if found == kind:
                return said

    def next_samples(self) -> list[tuple[Any, ...]]:
        """The samples of the next event that has any."""
        before = len(self.samples)
        while len(self.samples) == before:
            self.next("stream")
        return self.samples[before:]

    def _event(self) -> tuple[str, dict[str, Any]]:
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                return fields["event"], json.loads(fields["data"])
            else:
                fields.clear()
        raise ConnectionError("the daemon ended the connection")

    def _take(self, said: dict[str, Any]) -> None:
        count = len(said["time"])
        assert said["next"] == said["first"] + count
        assert said["first"] == len(self.samples) or not self.samples, "samples were left out, or told twice"
        assert all(len(said[name]) == count for name in SHORT)
        values, forecasts = said["values"], said["forecasts"]
        assert all(len(column) == count for column in values + forecasts)
        for k in range(count):
            row = [column[k] for column in values], [column[k] for column in forecasts]
            self.samples.append((said["time"][k], said["score"][k], said["mark"][k], *row))


class NoSnapshots:
    """What there is to see of snapshots where none are made."""

    failures = 0

    def age_s(self) -> float:
        return float("nan")


class StandingPump:
    """The driver of an engine that no pump steps."""

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()


class NoShadow:
    """The succession of an engine that has no shadow."""

    def hold(self, words: np.ndarray, hold: np.uint32) -> None:
        pass


class Site:
    """Pages over an engine of this process: ``views`` and, while it is open, ``http`` and ``server``.

    ``journal``: the file of the events that they show; ``token`` lets whoever has it judge them.
    """

    def __init__(self, engine: Engine, journal: Path | None = None, token: str = ""):
        self.engine, self.tally, self.state = engine, IntakeTally(), "ready"
        self.views = PageViews(
            engine, self.tally, NoSnapshots(), lambda: (self.state == "ready", self.state), bool(token)
        )
        good = (lambda: (True, "ok")), (lambda: (True, "ok"))
        self.journal = Path() if journal is None else journal
        reader = None if journal is None else JournalReader(journal)
        self.operator = Operator(engine, NoShadow(), journal)
        self.operator.start(StandingPump(), dict)
        door = Door(self.operator.act, token)
        self.server = WebServer("127.0.0.1", 0, CollectorRegistry(), *good, self.views, door, reader)

    @property
    def http(self) -> str:
        return f"http://{self.server.address}"

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """The status, the headers (names in lower case) and the body of an answer."""
        connection = HTTPConnection(urlsplit(self.http).netloc, timeout=DEADLINE_S)
        connection.request("GET", path, headers={name.replace("_", "-"): of for name, of in headers.items()})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        body = response.read()
        connection.close()
        return response.status, found, body


@contextmanager
def site(engine: Engine, journal: Path | None = None, token: str = "") -> Iterator[Site]:
    """A ``Site`` that listens."""
    here = Site(engine, journal, token)
    here.server.start()
    try:
        yield here
    finally:
        here.server.stop()
        here.operator.stop()


def crowd(count: int) -> tuple[Engine, list[str]]:
    """An engine that holds ``count`` streams, each with its own score and age, and their ids by slot."""
    names = [f"Halle {k % 7}/Pumpe-{k * 7919 % count:06}/ä" for k in range(count)]
    engine = Engine(untrained(), count, Faults())
    engine.feed(names, np.arange(count), np.zeros((count, 3), np.float32))
    slots, random = engine.core.slots, np.random.default_rng(1)
    held = np.arange(count)
    assert find_slot(slots, id_words(names[5])) == 5
    at = held
    records = slots.state.reshape(-1, slots.words)
    records[at, slots.score_at + OF_SMOOTHED] = random.permutation(count) / count * 6 + 0.1
    records[at, slots.score_at + ROWS] = np.where(random.random(count) < 0.9, WARMING_ROWS + 1, 5)
    records.view(np.uint64)[at, RECEIVED] -= (random.permutation(count) * 1000).astype(np.uint64)
    return engine, names


def paced(count: int, rate: float) -> Iterator[int]:
    """0 .. count - 1, ``rate`` of them per second."""
    began = time.monotonic()
    for k in range(count):
        yield k
        time.sleep(max(0.0, began + (k + 1) / rate - time.monotonic()))
