"""/api/journal: what is asked of the journal, what is refused, and what is said where it cannot be read."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from models import untrained
from nights import write_night
from pages import Site, site

from streamrnn.engine.engine import Engine
from streamrnn.events.journal import FIELDS, Journal
from streamrnn.settings.sections import Faults
from streamrnn.web import journal as web_journal

END_S = 1_790_000_000
EVENTS = 60


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    write_night(tmp_path / "events.sqlite", END_S, events=EVENTS, streams=20, names=['<b>"&\u202e', "y"])
    with site(Engine(untrained(), 4, Faults()), tmp_path / "events.sqlite") as here:
        yield here


def ask(here: Site, path: str, **query: Any) -> tuple[int, Any]:
    status, headers, body = here.get(f"/api/journal{path}?{urlencode(query)}")
    assert headers["content-type"] == "application/json"
    return status, json.loads(body)


def test_entries_are_paged_and_chosen(here):
    with Journal(here.journal) as journal:
        every = journal.entries(limit=1000)[0]
    found: list[dict[str, Any]] = []
    before = EVENTS + 1
    while before is not None:
        status, said = ask(here, "", limit=25, before=before)
        assert status == 200
        found += said["events"]
        before = said["next"]
    assert found == every and len(found) == EVENTS and set(found[0]) == set(FIELDS)
    for query, condition in (
        ({"prefix": '<b>"&'}, lambda each: each["stream"].startswith("<b>")),
        ({"stream": "y"}, lambda each: each["stream"] == "y"),
        ({"kind": "gap"}, lambda each: each["kind"] == "gap"),
        ({"verdict": "real"}, lambda each: each["verdict"] == "real"),
        ({"verdict": "none", "kind": "event"}, lambda each: each["kind"] == "event" and not each["verdict"]),
        ({"until": END_S - 18_000.5}, lambda each: each["begin_wall_ns"] < (END_S - 18_000.5) * 1e9),
        ({"since": END_S}, lambda each: (each["end_wall_ns"] or 1 << 62) >= END_S * 10**9),
    ):
        expected = [each for each in every if condition(each)]
        assert 0 < len(expected) < EVENTS, query
        assert ask(here, "", **query) == (200, {"events": expected, "next": None})


def test_one_event_has_its_recording(here):
    status, event = ask(here, f"/{EVENTS}")
    assert (status, event["id"], event["end_wall_ns"], event["recording"]) == (200, EVENTS, None, None)
    _, said = ask(here, "", kind="event")
    recorded = next(each["id"] for each in said["events"] if each["recording"])
    _, event = ask(here, f"/{recorded}")
    kept = event["recording"]
    assert len(kept["values"]) == len(kept["channels"]) == len(event["channels"]) == 6
    assert {len(column) for column in kept["values"] + kept["forecasts"]} == {kept["rows"]}
    assert ask(here, f"/{EVENTS + 1}") == (404, {"error": "no such event is kept"})


def test_the_time_line_has_a_row_for_each_stream(here):
    _, said = ask(here, "/timeline", since=END_S - 36_000, until=END_S, bins=5000)
    with Journal(here.journal) as journal:
        every = journal.entries(limit=1000)[0]
    assert {stream: sum(bar[6] for bar in bars) for stream, bars in said["streams"].items()} == {
        stream: sum(each["stream"] == stream for each in every)
        for stream in {each["stream"] for each in every}
    }
    assert said["left_out"] == 0
    _, said = ask(here, "/timeline", since=END_S - 36_000, until=END_S, kind="event", verdict="normal")
    assert {(bar[4], bar[5]) for bars in said["streams"].values() for bar in bars} == {("normal", "event")}


def test_what_is_told_of_many_is_bounded(here, monkeypatch):
    monkeypatch.setattr(web_journal, "_STREAMS", 3)
    monkeypatch.setattr(web_journal, "_BARS", 30)
    _, said = ask(here, "/timeline", since=END_S - 36_000, until=END_S, bins=5000)
    peaks = [max(bar[2] or 0 for bar in bars) for bars in said["streams"].values()]
    with Journal(here.journal) as journal:
        every = journal.entries(limit=1000)[0]
    assert max(peaks) == max(each["peak"] or 0 for each in every)
    assert len(peaks) == 3 and said["left_out"] == len({each["stream"] for each in every}) - 3
    assert sum(len(bars) for bars in said["streams"].values()) < 30
    _, said = ask(here, "/counts", since=0)
    assert len({each["stream"] for each in said["counts"]}) == 3 and said["left_out"] > 0


def test_counts_are_of_all_weeks_asked_for(here):
    _, said = ask(here, "/counts", since=0)
    with Journal(here.journal) as journal:
        events = journal.entries(limit=1000)[0]
    assert sum(each["events"] for each in said["counts"]) == sum(each["kind"] == "event" for each in events)
    assert ask(here, "/counts", since=END_S + 1)[1] == {"counts": [], "left_out": 0}


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("", {"limit": "0"}, "limit: '0' is no whole number from 1 to 1000"),
        ("", {"limit": "²"}, "limit: '²' is no whole number"),
        ("", {"before": "-1"}, "before: '-1' is no whole number"),
        ("", {"kind": "fault"}, "kind: 'fault' is none of event, reset, gap, silence"),
        ("", {"verdict": "false"}, "verdict: 'false' is none of none, real, normal, work"),
        ("", {"prefix": "ä" * 64}, "is longer than 127 bytes"),
        ("", {"since": "nan"}, "since: 'nan' is no time, in seconds since the Unix epoch"),
        ("", {"bins": "3"}, "bins: unknown; there are stream, prefix"),
        ("/timeline", {"bins": "100000"}, "bins: '100000' is no whole number"),
        ("/timeline", {"since": "10", "until": "10"}, "since: not before until"),
        ("/one", {}, "no whole number"),
    ],
)
def test_a_wrong_question_is_refused(here, path, query, words):
    status, said = ask(here, path, **query)
    assert status == 400 and words in said["error"]


def test_without_a_journal_it_says_how_to_keep_one():
    with site(Engine(untrained(), 4, Faults())) as here:
        for path in ("", "/timeline", "/counts", "/3"):
            status, said = ask(here, path)
            assert status == 404 and "set events.path" in said["error"]
        assert here.get("/events")[0] == 200


def test_a_journal_that_cannot_be_read_is_told_and_found_again(here):
    elsewhere = here.journal.with_suffix(".away")
    here.journal.rename(elsewhere)
    status, said = ask(here, "")
    assert status == 503 and "no such journal" in said["error"]
    here.journal.write_bytes(b"no journal at all" * 100)
    status, said = ask(here, "/timeline")
    assert status == 503 and "not a journal" in said["error"]
    elsewhere.replace(here.journal)
    assert len(ask(here, "")[1]["events"]) == EVENTS


def test_a_question_that_takes_too_long_is_given_up(here, monkeypatch):
    monkeypatch.setattr(web_journal, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(web_journal, "_STEPS", 1)
    status, said = ask(here, "/counts", since=0)
    assert status == 503 and "ask for less" in said["error"]


def test_metrics_are_served_while_the_journal_is_slow(here, monkeypatch):
    asked, ended = threading.Event(), threading.Event()

    def slow(*_: object) -> list[dict[str, Any]]:
        asked.set()
        ended.wait(30)
        return []

    monkeypatch.setattr(Journal, "counts", slow)
    asker = threading.Thread(target=ask, args=[here, "/counts"])
    asker.start()
    assert asked.wait(30)
    began = time.monotonic()
    assert here.get("/healthz")[0] == 200
    assert time.monotonic() - began < 5
    ended.set()
    asker.join()
