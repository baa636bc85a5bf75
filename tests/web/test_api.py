"""What the daemon tells a page: lists of streams, samples of one, and for how long, to how many."""

import asyncio
import gzip
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from daemons import Daemon, Line, serving, wait_for
from models import RELATIONS, untrained
from pages import Events, NoSnapshots, Site, crowd, paced, site
from slots_by_hand import find_slot, release_slot

from streamrnn.adapters.tally import IntakeTally
from streamrnn.daemon.page.history import ANOMALY, GAP, IMPUTED, KEPT, RESET, History
from streamrnn.daemon.page.overview import Overview
from streamrnn.daemon.page.read_records import read_heads
from streamrnn.daemon.page.views import PageViews
from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import write_model
from streamrnn.settings.sections import Faults
from streamrnn.streams.slots import id_words
from streamrnn.web import app
from streamrnn.web.api import PAGES
from streamrnn.wire.frame import END
from streamrnn.wire.frame import RESET as RESET_FLAG
from streamrnn.wire.shortest import number

CHANNELS = 3
STATIC = sorted(path.name for path in app.STATIC.iterdir())
PAGE_BYTES = 150_000


def engine_of(**settings: Any) -> Engine:
    return Engine(untrained(**settings), 256, Faults())


def feed(engine: Engine, name: str, rows: np.ndarray, **more: Any) -> Any:
    return engine.feed([name], np.zeros(len(rows), np.int64), rows, **more)


def noise(count: int, channels: int = CHANNELS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels)).astype(np.float32)


def counted(first: int, end: int) -> np.ndarray:
    """Rows all of whose values are the row's number."""
    return np.repeat(np.arange(first, end, dtype=np.float32)[:, np.newaxis], CHANNELS, axis=1)


def six_digits(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


@pytest.fixture
def here() -> Iterator[Site]:
    """Pages over an engine of this process that holds one stream, "a"."""
    engine = engine_of()
    feed(engine, "a", noise(200))
    with site(engine) as here:
        yield here


@pytest.fixture(scope="module")
def names(daemon: Daemon) -> list[str]:
    """Streams that the daemon holds, in the order of their names."""
    names = ["Halle 1/Pumpe", "Halle 2/Pumpe <b>", "halle 3/a b&c?d=e#f%20", "halle 3/温度", "Überdruck"]
    with daemon.line() as line:
        for name in names:
            line.send(name, noise(150))
        line.receive(150 * len(names))
    return names


def test_status_tells_what_the_metrics_count(daemon, names):
    def told() -> Any:
        said, metrics = json.loads(daemon.get("/api/status")[1]), daemon.metrics()
        names = {"frames": "streamrnn_frames_received_total", "streams": "streamrnn_streams"}
        names["predictions"] = "streamrnn_predictions_total"
        return said if all(said[name] == metrics[metric] > 0 for name, metric in names.items()) else None

    said = wait_for(told, "the counts of the last second")
    assert said["state"] == "ready"
    assert said["capacity"] == daemon.config.streams.capacity
    assert said["model"]["fingerprint"] == daemon.engine().model.fingerprint
    assert [channel["name"] for channel in said["model"]["channels"]] == ["c0", "c1", "c2"]
    assert (said["forecasts"], said["threshold"]) == (True, 3.0)
    assert (said["snapshot_age_s"], said["snapshot_failures"]) == (None, 0)
    assert abs(said["now"] - time.time()) < 60
    assert set(said["latency_s"]) == {"queue", "step", "total"}


def listed(daemon: Daemon, query: str) -> list[str]:
    status, text = daemon.get(f"/api/streams?{query}")
    assert status == 200, text
    return [stream["stream"] for stream in json.loads(text)["streams"]]


def test_the_list_is_sorted_searched_and_cut(daemon, names):
    def held() -> bool:
        return set(names) <= set(listed(daemon, "limit=1000"))

    wait_for(held, "a list that is not older than the streams")
    assert [name for name in listed(daemon, "sort=name&limit=1000") if name in names] == names
    assert listed(daemon, f"sort=name&search={quote('PUMPE')}") == names[:2]
    assert listed(daemon, f"sort=name&search={quote('halle 3')}") == names[2:4]
    assert listed(daemon, f"search={quote('温')}") == [names[3]]
    assert listed(daemon, f"search={quote('Ü')}") == [names[4]]
    assert listed(daemon, f"search={quote('%20')}") == [names[2]]
    assert listed(daemon, "search=no+such+stream") == []
    assert listed(daemon, "search=%ff%00") == []
    assert len(listed(daemon, "limit=2")) == 2
    assert set(listed(daemon, "sort=age&search=a")) <= set(listed(daemon, "sort=name&search=a"))
    said = json.loads(daemon.get("/api/streams?limit=1&search=pumpe")[1])
    assert (said["found"], len(said["streams"])) == (2, 1)
    assert said["held"] >= len(names)
    first = said["streams"][0]
    assert set(first) == {"stream", "score", "anomaly", "held", "health", "step", "seq", "age_s", "silent"}
    assert (first["step"], first["seq"], first["health"], first["silent"]) == (150, 149, "ok", None)


def test_each_stream_has_an_address(daemon, names):
    for name in names:
        status, text = daemon.get(f"/api/streams/{quote(name, safe='')}")
        assert (status, json.loads(text)["stream"]) == (200, name)
    for name in ("nobody", "", "x" * 128, "%ff", "halle%203"):
        status, text = daemon.get(f"/api/streams/{name}")
        assert (status, list(json.loads(text))) == (404, ["error"])


@pytest.mark.parametrize("path", ["streams", "events"])
@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("sort=size", "sort: 'size' is none of score, name, age"),
        ("limit=0", "limit: '0' is no whole number from 1 to 1000"),
        ("limit=1001", "limit: '1001' is no"),
        ("limit=-1", "limit: '-1' is no"),
        ("limit=1e2", "limit: '1e2' is no"),
        ("limit=%D9%A3", "limit: '٣' is no"),
        ("limit=" + "9" * 5000, "limit: '999"),
        ("limit=", "limit: '' is no"),
        ("search=" + "x" * 128, "search: longer than 127 bytes"),
        ("search=" + "%C3%A4" * 64, "search: longer than 127 bytes"),
    ],
)
def test_a_wrong_query_is_400_and_says_what_is_wrong(daemon, path, query, what):
    status, text = daemon.get(f"/api/{path}?{query}")
    assert status == 400
    assert json.loads(text)["error"].startswith(what)


def test_what_cannot_be_a_streams_id_is_400(daemon):
    status, text = daemon.get("/api/events?stream=" + "x" * 128)
    assert status == 400
    assert "a stream id has 1 to 127 bytes" in json.loads(text)["error"]
    assert "Traceback" not in daemon.said


def test_events_begin_with_what_is_known_and_go_on_with_what_is_new(daemon, line):
    rows = noise(44, seed=1)
    line.send_rows("news", rows[:20])
    predicted = [prediction.values[0] for prediction in line.receive(20)]
    with Events(daemon.http, stream="news", search="news", limit=3) as page:
        assert page.response.headers["content-type"].startswith("text/event-stream")
        assert page.response.headers["content-encoding"] is None
        assert page.response.headers["cache-control"] == "no-store"
        assert page.next("status")["state"] == "ready"
        streams = page.next("streams")
        assert {"found", "held", "streams"} <= set(streams)
        page.next_samples()  # at least one, of the rows so far
        for k in range(20, 44, 4):
            for row in rows[k : k + 4]:
                line.send("news", row)
            predicted += [prediction.values[0] for prediction in line.receive(4)]
            last = six_digits(rows[k + 3])
            while page.samples[-1][3] != last:
                page.next_samples()
        now = page.next("streams")["streams"]
        assert [(stream["stream"], len(stream["curve"])) for stream in now] == [("news", 60)]
    row_of = {tuple(six_digits(row)): k for k, row in enumerate(rows)}
    seen = [row_of[tuple(sample[3])] for sample in page.samples]
    assert seen == sorted(set(seen))
    for row, sample in zip(seen[1:], page.samples[1:], strict=True):
        assert sample[4] == six_digits(predicted[row - 1]), "the forecast is the one made a row before"
    assert np.diff([sample[0] for sample in page.samples]).min() > 0


def test_ten_samples_a_second_at_most(daemon, line):
    with Events(daemon.http, stream="fast") as page:
        sender = threading.Thread(
            target=lambda: [
                line.send("fast", row) for row, _ in zip(noise(600), paced(600, 400), strict=True)
            ]
        )
        line.send("fast", noise(1)[0])
        page.next_samples()
        sender.start()
        while sender.is_alive():
            page.next("stream")
        times = [sample[0] for sample in page.samples]
        assert 3 <= len(times) <= 10 * (times[-1] - times[0] + 0.2) + 1


def live(page: Events, line: Line, row: np.ndarray, **header: Any) -> tuple[Any, ...]:
    """Sends one row of stream "marked" and returns the sample of it."""
    line.send("marked", row, **header)
    (sample,) = page.next_samples()
    return sample


def test_samples_are_marked(daemon, line):
    rows = noise(1700)
    line.send("marked", rows[:1500], seq=0)
    line.receive(1500)
    with Events(daemon.http, stream="marked") as page:
        wait_for(lambda: page.next("stream")["now"]["seq"] == 1499, "the last row")
        assert live(page, line, rows[0], seq=1500)[2] == 0
        later = live(page, line, rows[1], seq=1506)
        assert (later[2], later[4]) == (GAP, [None] * CHANNELS), "nothing was forecast of a row after a gap"
        assert live(page, line, rows[2], seq=1507)[2] == 0
        assert live(page, line, rows[3] * [1, np.nan, 1], seq=1508)[2] == IMPUTED
        assert live(page, line, rows[4], seq=1509, flags=RESET_FLAG)[2] == RESET
        assert live(page, line, rows[5], seq=1510)[2] == 0
        for k in range(100):
            sample = live(page, line, rows[6 + k] + [0, 1000, 0], seq=1511 + k)
            if sample[2] & ANOMALY:
                break
        now = json.loads(daemon.get("/api/streams/marked")[1])
    assert sample[2] == ANOMALY
    assert sample[1] >= 3.0
    assert now["anomaly"]
    assert max(now["channels"], key=lambda channel: channel["share"])["name"] == "c1"


def test_no_sample_is_of_two_rows(request):
    """While the stream goes on at full speed: all values are of one row, its forecast of the one before."""
    engine = engine_of()
    total = 5_000_000 if request.config.getoption("--long") else 300_000
    said: list[np.ndarray] = [feed(engine, "a", counted(0, 100)).values]
    history = History(engine)
    history.keep(["a"])

    def run() -> None:
        for first in range(100, total, 5000):
            said.append(feed(engine, "a", counted(first, first + 5000)).values)

    sender = threading.Thread(target=run)
    sender.start()
    found: list[tuple[list[float], list[float]]] = []
    while sender.is_alive():
        before = int(history._taken[0])
        history.sample()
        if history._taken[0] > before:
            at = before % history.samples
            found.append((history._values[0, at].tolist(), history._forecasts[0, at].tolist()))
    predicted = np.concatenate(said).tolist()
    assert len(found) > 20
    with_forecast = 0
    for values, forecasts in found:
        assert values == [values[0]] * CHANNELS
        if not np.isnan(forecasts[0]):
            with_forecast += 1
            assert forecasts == predicted[int(values[0]) - 1]
    assert with_forecast > 5


def test_a_look_finds_the_stream_however_fast_it_goes_on():
    engine = engine_of()
    views = PageViews(engine, IntakeTally(), None, lambda: (True, "ready"))
    feed(engine, "a", counted(0, 100))
    sender = threading.Thread(target=lambda: feed(engine, "a", counted(100, 300_000)))
    sender.start()
    looks = []
    while sender.is_alive():
        looks.append(views.stream("a"))
    assert len(looks) > 20
    assert sum(said is None for said in looks) <= 0.01 * len(looks)
    for said in filter(None, looks):
        values = {channel["value"] for channel in said["channels"]}
        assert values == {said["seq"]}
    sender.join()


@pytest.mark.parametrize("relation", [*RELATIONS, "value"])
def test_models_without_score_show_what_they_have(relation):
    settings = RELATIONS.get(relation, {"target": "value", "outputs": [{"name": "y0"}, {"name": "y1"}]})
    engine = engine_of(**settings)
    rows = counted(0, 50)
    flags = np.zeros(50, np.uint16)
    flags[::10] = END
    answers = feed(engine, "a", rows, flags=flags)
    with site(engine) as here, Events(here.http, stream="a") as page:
        status, streams = page.next("status"), page.next("streams")
        said = page.next("stream")
        wait_for(lambda: page.samples or page.next("stream"), "a sample")
        feed(engine, "a", rows[10:20])
        page.next_samples()
        stands = here.views.stream("a")
    assert not status["forecasts"]
    assert (said["now"]["score"], streams["streams"][0]["score"]) == (None, None)
    assert page.samples[-1][1:4] == (None, 0, [19.0] * CHANNELS)
    outputs = page.samples[-1][4]
    if relation == "value":
        assert len(outputs) == 2
        assert page.samples[0][4] == six_digits(answers.values[49])
        assert [output["value"] for output in stands["outputs"]] == pytest.approx(outputs, rel=1e-5)
    else:
        assert outputs == []
        assert "outputs" not in stands
    curve = here.views.listed("score", 1, "")["streams"][0]["curve"]
    assert [value for value in curve if value is not None][-1] == 19.0


def test_a_stream_let_go_and_come_back_goes_on_marked():
    engine = engine_of()
    slots = engine.core.slots
    history = History(engine)
    feed(engine, "other", noise(1))
    for rows in (noise(30), noise(10, seed=1)):
        feed(engine, "a", rows)
        history.keep(["a"])
        history.sample()
        history.find_again()
        history.sample()
    before = history.since("a", 0)
    assert before["mark"] == [0, 0]
    release_slot(slots, find_slot(slots, id_words("a")))
    history.find_again()
    history.sample()
    assert history.since("a", 0) == before
    feed(engine, "another", noise(1))  # where it was
    feed(engine, "a", noise(3, seed=2))
    history.sample()
    history.find_again()
    history.sample()
    after = history.since("a", before["next"])
    assert (after["first"], after["mark"]) == (2, [RESET])
    assert [column[0] for column in after["values"]] == six_digits(noise(3, seed=2)[-1])


def test_a_stream_that_comes_back_to_its_slot_at_once_is_marked_too():
    engine = engine_of()
    slots, history = engine.core.slots, History(engine)
    feed(engine, "a", noise(40), seq=np.concatenate([np.arange(20), np.arange(25, 45)]).astype(np.uint64))
    history.keep(["a"])
    history.sample()
    release_slot(slots, find_slot(slots, id_words("a")))
    feed(engine, "a", noise(3))
    history.sample()
    assert history.since("a", 0)["mark"] == [0, RESET]


def test_streams_asked_for_longest_ago_make_room(monkeypatch):
    engine = engine_of()
    names = [f"s{k:02}" for k in range(KEPT + 16)]
    engine.feed(names, np.arange(len(names)), noise(len(names)))
    history = History(engine)
    history.keep(names)
    history.sample()
    sampled = [name for name in names if history.since(name, 0)]
    assert sampled == names[:KEPT], "those looked at lately stay"
    history.keep(["s70"], at_any_rate=True)
    history.sample()
    assert history.since("s00", 0) is None
    assert history.since("s70", 0)["next"] == 1
    monkeypatch.setattr("streamrnn.daemon.page.history._LATELY_S", -1.0)
    history.keep(names[1:3])
    history.keep(["s71", "nobody", "s72"])
    gone = [name for name in names[1:KEPT] if history.since(name, 0) is None]
    assert gone == ["s03", "s04"]
    history.sample()
    assert history.since("s72", 0)["first"] == 0
    with pytest.raises(ValueError, match="1 to 127 bytes"):
        history.keep(["x" * 128])


def test_samples_that_are_no_longer_kept_are_left_out():
    engine = engine_of()
    history = History(engine)
    feed(engine, "a", counted(0, 1))
    history.keep(["a"])
    for k in range(1, history.samples + 10):
        history.sample()
        feed(engine, "a", counted(k, k + 1))
    history.sample()
    said = history.since("a", 5)
    assert (said["first"], said["next"]) == (10, history.samples + 10)
    assert said["values"][0] == list(range(10, history.samples + 10))
    assert history.since("a", said["next"] + 5)["first"] == 10, "what was never given begins anew"


@pytest.mark.parametrize("channels", [3, 64, 256])
def test_the_history_of_all_streams_is_bounded(channels):
    history = History(engine_of(channels=channels))
    held = [part for part in vars(history).values() if isinstance(part, np.ndarray)]
    assert sum(part.nbytes for part in held) <= (32 << 20) * 1.05
    assert history.samples >= 100


class Clock:
    """The ``time`` of the modules that look at it, told by the test."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.perf_counter, self.thread_time = time.perf_counter, time.thread_time
        self._behind = time.time() - self.now

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def time(self) -> float:
        return self.now + self._behind


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_page_that_stays_open_takes_no_more_memory(monkeypatch, request, capsys):
    """From the time on when the history is full, what the daemon does for a page adds nothing."""
    clock = Clock()
    for module in ("views", "history", "overview", "rates", "one_stream"):
        monkeypatch.setattr(f"streamrnn.daemon.page.{module}.time", clock)
    engine = engine_of()
    views = PageViews(engine, IntakeTally(), NoSnapshots(), lambda: (True, "ready"))
    names, which, rows = list("abcd"), np.arange(4), noise(4)
    minutes, told = (60 if request.config.getoption("--long") else 8), [0, 0]
    used = {}
    for tick in range(600 * minutes):
        clock.now += 0.1
        engine.feed(names, which, rows)
        views.tick()
        if tick % 10 == 0:
            json.dumps([views.status(), views.listed("score", 40, "")])
            views.watch("a")
        said = views.since("a", told[0])
        told = [said["next"], told[1] + len(said["time"])]
        json.dumps([said, views.stream("a")])
        if tick % 600 == 599:
            used[tick // 600 + 1] = resident_bytes()
    with capsys.disabled():
        print(f"\nresident: {used[4] / 1e6:.1f} MB at minute 4, {used[minutes] / 1e6:.1f} at {minutes}")
    assert told[1] == 600 * minutes
    assert used[minutes] < used[4] + (2 << 20)


def first_by(heads: Any, sort: str, names: list[str]) -> list[str]:
    """The ids by ``sort``, in plain Python."""
    key = {
        "score": lambda k: (-1.0 if np.isnan(heads.score[k]) else heads.score[k]) * -1,
        "age": lambda k: heads.received[k],
        "name": lambda k: 0,
    }[sort]
    return [names[k] for k in sorted(range(len(names)), key=lambda k: (key(k), names[k].encode()))]


def test_the_right_ones_of_100_000_streams_are_listed_fast(capsys):
    engine, names = crowd(100_000)
    heads = read_heads(engine.core.slots, forecasts=True)
    slowest = 0.0
    for sort in ("score", "name", "age"):
        expected = first_by(heads, sort, names)
        for search in ("", "PUMPE-0123", "halle 3/", "ä", "nothing"):
            matching = [name for name in expected if search.lower() in name.lower()]
            overview = Overview(engine)
            began = time.thread_time()  # others have the processors, too
            said = overview.streams(sort, 40, search)
            slowest = max(slowest, time.thread_time() - began)
            assert [stream["stream"] for stream in said["streams"]] == matching[:40]
            assert (said["held"], said["found"]) == (100_000, len(matching))
    began = time.thread_time()
    unusual = Overview(engine).most_unusual(40)
    slowest = max(slowest, time.thread_time() - began)
    assert unusual == first_by(heads, "score", names)[:40]
    with capsys.disabled():
        print(f"\n100,000 streams: the slowest list took {1e3 * slowest:.0f} ms of a processor")
    assert slowest < 2


def test_an_empty_daemon_says_so():
    views = PageViews(engine_of(), IntakeTally(), None, lambda: (False, "compiling kernels"))
    for search in ("", "x", "\0"):
        assert views.listed("score", 10, search) == {"held": 0, "found": 0, "streams": []}
    views.tick()
    assert views.stream("a") is None
    assert views.since("a", 0) is None


def test_numbers_are_told_in_the_digits_they_have():
    assert number(np.float32(0.1)) == 0.1
    assert number(np.float32("nan")) is None


def test_a_new_model_is_told_and_the_page_stays(tmp_path):
    path = tmp_path / "model.safetensors"
    write_model(untrained(seed=1), path)
    with serving(path) as daemon, daemon.line() as line, Events(daemon.http, stream="a") as page:
        line.send_rows("a", noise(5))
        page.next_samples()
        old = page.next("status")["model"]["fingerprint"]
        write_model(untrained(seed=2), path)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_it_says("reloaded; the model is")
        new = wait_for(lambda: (of := page.next("status")["model"]["fingerprint"]) != old and of, "the model")
        assert new in daemon.said
        line.send_rows("a", noise(5, seed=1))
        page.next_samples()

        with Events(daemon.http, stream="b"), Events(daemon.http), Events(daemon.http) as another:
            another.next("streams")
            before, began = daemon.said, time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < app.STOP_S + 2
            with pytest.raises(ConnectionError):
                another.next("never")
        (rest,) = daemon.said.removeprefix(before).splitlines()
        assert "stopped after" in rest


def test_too_many_pages_are_turned_away_and_metrics_still_answer(here):
    pages = [Events(here.http) for _ in range(PAGES)]
    for page in pages:
        page.next("streams")
    with Events(here.http) as refused:
        assert (refused.response.status, refused.response.headers["retry-after"]) == (503, "5")
        assert json.loads(refused.response.read()) == {"error": f"{PAGES} pages are open already"}
    assert here.get("/metrics")[0] == here.get("/healthz")[0] == here.get("/api/status")[0] == 200
    with pages.pop():
        pass
    wait_for(lambda: here.get("/api/events?sort=x")[0] == 400, "any answer")
    page = wait_for(lambda: opened(here), "a place that is free")
    for other in [page, *pages]:
        with other:
            pass


def opened(here: Site) -> Events | None:
    page = Events(here.http)
    if page.response.status == 200:
        return page
    with page:
        return None


def test_no_more_pages_are_open_however_many_ask_at_once(here):
    asking = f"GET /api/events HTTP/1.1\r\nhost: {here.server.address}\r\n\r\n".encode()
    peers = [connect(here) for _ in range(2 * PAGES)]
    for peer in peers:
        peer.sendall(asking)
    heads = [peer.recv(12) for peer in peers]
    assert sorted(heads) == [b"HTTP/1.1 200"] * PAGES + [b"HTTP/1.1 503"] * PAGES
    for peer in peers:
        peer.close()


SMALLEST = socket.SOL_SOCKET, socket.SO_SNDBUF, 4096


def connect(here: Site, received: int = 0) -> socket.socket:
    host, _, port = here.server.address.rpartition(":")
    peer = socket.socket()
    if received:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    peer.settimeout(30)
    peer.connect((host, int(port)))
    return peer


def test_a_page_that_never_reads_is_cut_off_and_holds_little(monkeypatch, caplog):
    monkeypatch.setattr(app, "RESPONSE_S", 0.5)
    engine = engine_of(channels=64)
    with site(engine) as here:
        feed(engine, "a", noise(50, 64))
        with connect(here, received=4096) as peer, Events(here.http, stream="a") as other:
            mine = peer.getsockname()
            peer.sendall(f"GET /api/events?stream=a HTTP/1.1\r\nhost: {here.server.address}\r\n\r\n".encode())
            connections = here.server._server.server_state.connections

            def transport() -> asyncio.Transport | None:
                return next((one.transport for one in list(connections) if one.client == mine), None)

            wait_for(transport, "the connection").get_extra_info("socket").setsockopt(*SMALLEST)
            most = event = 0
            while (held := transport()) is not None:
                feed(engine, "a", noise(20, 64))
                event = max(event, len(json.dumps(other.next("stream"))))
                most = max(most, held.get_write_buffer_size())
        assert (32 << 10) < most <= (64 << 10) + 2 * event
    assert caplog.records == []


def test_a_page_that_reads_stays_longer_than_an_answer_may_take(monkeypatch, here):
    monkeypatch.setattr(app, "RESPONSE_S", 0.2)
    with Events(here.http) as page:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            page.next("status")


def parts_of(page: str) -> list[str]:
    """The files that a page asks for."""
    return re.findall(r'(?:src|href)="([\w.]+\.\w+)"', page)


PAGES_OF_IT = {"": "index.html", "events": "events.html"}


@pytest.mark.parametrize("address", PAGES_OF_IT)
def test_a_page_is_small(here, address, capsys):
    whole = gzipped = 0
    for name in [address, *parts_of(here.get(f"/{address}")[2].decode())]:
        status, _, body = here.get(f"/{name}")
        assert status == 200, name
        whole += len(body)
        gzipped += len(here.get(f"/{name}", accept_encoding="gzip")[2])
    with capsys.disabled():
        print(f"\nthe page /{address}: {whole:,} bytes, {gzipped:,} as browsers get it")
    assert gzipped < whole <= PAGE_BYTES


def test_all_files_of_pages_are_used():
    pages = {*PAGES_OF_IT.values(), "cluster.html"}
    used = {part for page in pages for part in parts_of((app.STATIC / page).read_text())}
    assert used | pages | {"uPlot.LICENSE"} == set(STATIC)


@pytest.mark.parametrize(("address", "file"), PAGES_OF_IT.items())
def test_a_page_is_of_itself_alone(here, address, file):
    page = here.get(f"/{address}")[2].decode()
    assert page == (app.STATIC / file).read_text()
    assert "://" not in page
    for tag in re.findall(r"<[a-z][^>]*>", page):
        assert not re.search(r"\s(?:style|on[a-z]+)\s*=", tag), tag
    assert not re.search(r"<style|<script(?![^>]* src=)", page)
    for name in STATIC:
        text = (app.STATIC / name).read_text()
        hosts = set(re.findall(r"https?://([^/\s\"']+)", text))
        assert hosts <= {"www.w3.org", "github.com"}, name  # the name of SVG, and where uPlot comes from
        assert not re.search(r"\beval\(|new Function|innerHTML|document\.write|@import", text), name


def test_every_answer_is_guarded(here):
    for path in [
        *STATIC,
        "",
        "api/status",
        "api/refusals",
        "api/streams?sort=x",
        "api/streams/no",
        "metrics",
        "healthz",
        "no",
    ]:
        status, headers, _ = here.get(f"/{path}")
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache", (path, status)
        assert "server" not in headers


@pytest.mark.parametrize("name", STATIC)
def test_a_file_that_is_the_same_is_not_sent_again(here, name):
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    status, headers, body = here.get(f"/{name}", accept_encoding="gzip")
    assert status == 200
    if len(body) > 500:
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == (app.STATIC / name).read_bytes()
    assert headers["content-type"].startswith(kinds.get(Path(name).suffix, "application/octet-stream"))
    status, _, body = here.get(f"/{name}", if_none_match=headers["etag"])
    assert (status, body) == (304, b"")
