"""Verdicts on events: kept by whoever may say so, and by nobody else."""

import http.client
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np
import pytest
from daemons import serving, wait_for
from models import untrained
from nights import write_night
from pages import Site, site

from streamrnn.engine.engine import Engine
from streamrnn.events.journal import NOTE_BYTES, Journal
from streamrnn.settings.sections import Faults
from streamrnn.state.ask import ask as control_ask
from streamrnn.wire.frame import HELD

TOKEN = "0123456789abcdef0123456789abcdef"
RIGHT = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    write_night(tmp_path / "events.sqlite", 1_790_000_000, 5, 3, names=['<img src="x">'], recorded=0)
    with site(Engine(untrained(), 4, Faults()), tmp_path / "events.sqlite", TOKEN) as here:
        yield here


def post(here: Site, body: Any, method: str = "POST", **more: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(here.server.address, timeout=30)
    headers = RIGHT | {name.replace("_", "-"): text for name, text in more.items()}
    connection.request(method, "/api/control/judge", json.dumps(body).encode(), headers)
    response = connection.getresponse()
    said = response.status, json.loads(response.read())
    connection.close()
    return said


def kept(here: Site) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(here.journal)) as file:
        return file.execute("SELECT id, verdict, note FROM events ORDER BY id").fetchall()


def test_a_verdict_and_its_note_are_kept_and_taken_back(here):
    note = 'a bearing\n<b>"ä\u202e\0'
    status, said = post(here, {"event": 5, "verdict": "real", "note": note})
    with Journal(here.journal) as journal:
        entry = journal.entries(limit=1)[0][0]
    assert (status, said["event"]) == (200, entry)
    assert kept(here)[4] == (5, "real", note)
    assert entry["judged_ns"] is not None
    assert post(here, {"event": 5, "verdict": "normal"})[0] == 200
    assert kept(here)[4] == (5, "normal", note)
    assert post(here, {"event": 5, "verdict": "", "note": ""})[0] == 200
    assert kept(here)[4] == (5, "", "")


def test_a_verdict_has_its_effect_on_the_stream_of_an_event_that_goes_on(here):
    assert post(here, {"event": 5, "verdict": "normal"})[1]["effect"] == "", "no such stream is held"
    with Journal(here.journal) as journal:
        over, goes_on = journal.entries()[0][1], journal.entries()[0][0]
    for event in (over, goes_on):
        here.engine.feed([event["stream"]], np.zeros(5, np.int64), np.ones((5, 3), np.float32))
    assert goes_on["end_wall_ns"] is None and over["end_wall_ns"] is not None
    for verdict, effect in (
        ("normal", "what it shows now is taken as usual"),
        ("real", "learning held until it is over"),
        ("", "learning released"),
    ):
        assert post(here, {"event": goes_on["id"], "verdict": verdict})[1]["effect"] == effect
        held = json.loads(here.get(f"/api/streams/{quote(goes_on['stream'])}")[2])["held"]
        assert held is (verdict == "real")
    assert post(here, {"event": over["id"], "verdict": "normal"})[1]["effect"] == ""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"event": 6, "verdict": "real"}, "no event 6"),
        ({"event": 1 << 63, "verdict": "real"}, "not a verdict"),
        ({"event": -1, "verdict": "real"}, "not a verdict"),
        ({"event": True, "verdict": "real"}, "not a verdict"),
        ({"event": "5", "verdict": "real"}, "not a verdict"),
        ({"event": 5, "verdict": "false"}, "'false' is no verdict; say real, normal, work or none"),
        ({"event": 5, "verdict": "\ud800"}, "is no verdict"),
        ({"event": 5, "verdict": None}, "not a verdict"),
        ({"event": 5}, "not a verdict"),
        ({"event": 5, "verdict": "real", "note": 3}, "not a verdict"),
        ({"event": 5, "verdict": "real", "note": "\udfff"}, "not a verdict"),
        ({"event": 5, "verdict": "real", "note": "n" * (NOTE_BYTES + 1)}, "a note has at most"),
        ({"event": 5, "verdict": "real", "stream": "x"}, "not a verdict"),
    ],
)
def test_what_is_no_verdict_changes_nothing(here, body, why):
    before = kept(here)
    status, said = post(here, body)
    assert (status, why in said["error"]) == (400, True), said
    assert kept(here) == before


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (401, {"authorization": f"Bearer {TOKEN[::-1]}"}),
        (401, {"authorization": ""}),
        (403, {"origin": "http://elsewhere.example"}),
        (403, {"sec_fetch_site": "cross-site"}),
        (405, {"method": "GET"}),
        (415, {"content_type": "text/plain"}),
        (421, {"host": "elsewhere.example"}),
    ],
)
def test_whoever_may_not_changes_nothing(here, status, more):
    before = kept(here)
    connection = http.client.HTTPConnection(here.server.address, timeout=30)
    headers = RIGHT | {name.replace("_", "-"): text for name, text in more.items()}
    method = headers.pop("method", "POST")
    connection.request(method, "/api/control/judge", b'{"event": 5, "verdict": "real"}', headers)
    assert connection.getresponse().status == status
    connection.close()
    assert kept(here) == before


def test_without_a_journal_there_is_nothing_to_judge():
    with site(Engine(untrained(), 4, Faults()), token=TOKEN) as here:
        status, said = post(here, {"event": 5, "verdict": "real"})
        assert (status, "set events.path" in said["error"]) == (400, True)


def test_an_event_of_a_daemon_is_told_and_judged_while_it_goes_on(model_file, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    settings = {"http.control": True, "http.token_file": str(token), "state.snapshots": str(tmp_path)}
    settings |= {"events.path": str(tmp_path / "events.sqlite")}
    rows = np.random.default_rng(0).normal(size=(1600, 3)).astype(np.float32)
    rows[1500:, 1] += 1000
    with serving(model_file, settings) as daemon, daemon.line() as line:
        line.send("pump", rows, seq=0)
        line.receive(1601)  # with the one that says that an event began

        def told() -> Any:
            return json.loads(daemon.get("/api/journal?kind=event")[1])["events"]

        (event,) = wait_for(told, "the event in the journal")
        assert (event["stream"], event["channels"][0][0]) == ("pump", "c1")
        assert (event["end_wall_ns"], 1500 <= event["begin_seq"] <= 1510) == (None, True)
        body = {"event": event["id"], "verdict": "real", "note": "a test"}
        asked = Request(f"{daemon.http}/api/control/judge", json.dumps(body).encode(), RIGHT)
        with urlopen(asked, timeout=30) as answer:
            assert json.loads(answer.read())["effect"].startswith("learning held until it is over")
        line.send("pump", rows[-1:], seq=1600)
        assert line.receive(1)[0].header["flags"] & HELD
        (judged,) = told()
        assert (judged["verdict"], judged["note"]) == ("real", "a test")
        said = control_ask(
            tmp_path, tmp_path, {"do": "judge", "event": event["id"], "verdict": "", "note": None}
        )
        assert said["effect"] == "learning released"
        (judged,) = told()
        assert (judged["verdict"], judged["note"]) == ("", "a test")
