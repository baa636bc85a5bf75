import gzip
import http.client
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from streamrnn import stats as of
from streamrnn.adapters.adapter import Refused
from streamrnn.adapters.tally import IntakeTally
from streamrnn.errors import UserError
from streamrnn.stats import Stats
from streamrnn.web import app
from streamrnn.web.app import CONNECTIONS, WebServer
from streamrnn.web.metrics import METRICS, make_registry

MODEL = {
    "fingerprint": "0123abcd",
    "cell": "lstm",
    "hidden": "32",
    "layers": "1",
    "channels": "8",
    "outputs": "8",
}
DEADLINE_S = 30  # for anything that a test waits for


class Snapshots:
    """What a scrape asks of the snapshots."""

    failures = 3

    def age_s(self) -> float:
        return 12.5


class Streams:
    """Views of a daemon that holds one stream."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1

    def status(self) -> dict[str, Any]:
        return {"state": "ready"}

    def refusals(self) -> dict[str, Any]:
        return {"refusals": []}

    def streams(self, sort: str, limit: int, search: str) -> dict[str, Any]:
        return {"held": 1, "found": 1, "streams": [{"stream": "a/b c"}], "asked": [sort, limit, search]}

    listed = streams

    def open_events(self, limit: int) -> tuple[int, list[tuple[str, float]]]:
        return 1, [('a"b', 3.5)][:limit]

    def shadow(self) -> None:
        return None

    def stream(self, name: str) -> dict[str, Any] | None:
        return {"stream": name, "score": None} if name == "a/b c" else None

    def watch(self, name: str) -> None:
        pass

    def since(self, name: str, first: int) -> dict[str, Any] | None:
        return {"first": first, "next": self.ticks} if name == "a/b c" else None


class Daemon:
    """What the server shows, and the server."""

    def __init__(self) -> None:
        self.stats, self.tally = Stats.zeros(), IntakeTally()
        self.health, self.ready = (True, "ok"), (True, "ok")
        registry = make_registry(self.stats, 4096, MODEL, Snapshots(), self.tally)
        self.views = Streams()
        checks = (lambda: self.health), (lambda: self.ready)
        self.server = WebServer("127.0.0.1", 0, registry, *checks, self.views)

    @property
    def at(self) -> tuple[str, int]:
        host, _, port = self.server.address.rpartition(":")
        return host, int(port)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.at, timeout=DEADLINE_S)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(*self.at, timeout=DEADLINE_S)
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    def scrape(self) -> dict[str, Metric]:
        response, body = self.ask("/metrics")
        assert response.status == 200
        return {family.name: family for family in parse(body.decode())}


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    daemon.server.start()
    yield daemon
    daemon.server.stop()


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    found = [s.value for f in families.values() for s in f.samples if s.name == sample and s.labels == labels]
    assert len(found) == 1, (sample, labels)
    return found[0]


def wait_for(condition) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_counters_and_gauges_have_the_values_of_the_arrays(daemon):
    stats = daemon.stats
    stats.counters[[of.RECEIVED, of.LATE, of.MISSING_ROWS, of.PREDICTIONS, of.STREAMS]] = 100, 3, 7, 90, 5
    stats.rejected[:] = np.arange(len(of.REASONS)) + 10
    stats.resets[:] = np.arange(len(of.RESETS)) + 20
    families = daemon.scrape()
    assert value(families, "streamrnn_frames_received_total") == 100
    assert value(families, "streamrnn_frames_late_total") == 3
    assert value(families, "streamrnn_rows_missing_total") == 7
    assert value(families, "streamrnn_predictions_total") == 90
    assert value(families, "streamrnn_streams") == 5
    assert value(families, "streamrnn_stream_capacity") == 4096
    for index, reason in enumerate(of.REASONS):
        assert value(families, "streamrnn_frames_rejected_total", reason=reason) == index + 10
    for index, reason in enumerate(of.RESETS):
        assert value(families, "streamrnn_state_resets_total", reason=reason) == index + 20


def samples_of(families: dict[str, Metric], name: str) -> dict[tuple[str, ...], float]:
    """The samples of a counter or gauge, by the values of their labels."""
    return {tuple(sample.labels.values()): sample.value for sample in families[name].samples}


ASSEMBLED = ("rows_assembled", "values_held", "values_missing", "values_late", "streams_incomplete")
NOTHING_DROPPED = {("wild",): 0, ("time",): 0, ("nan",): 0}


def test_where_frames_come_what_can_be_known_beforehand_is_zero_and_no_adapter_has_a_sample(daemon):
    families = daemon.scrape()
    assert samples_of(families, "streamrnn_adapter_messages") == {}
    for name in ASSEMBLED:
        assert samples_of(families, f"streamrnn_{name}") == {(): 0}
    assert samples_of(families, "streamrnn_values_dropped") == NOTHING_DROPPED


def test_what_an_adapter_refused_is_counted_with_what_the_pump_did(daemon):
    tally = daemon.tally
    tally.adapter, tally.messages = "json", 70
    daemon.stats.rejected[of.REASONS.index("infinite")] = 5
    tally.refuse([Refused("infinite", b"a", ""), Refused("value", b"a", ""), Refused("value", b"b", "")])
    families = daemon.scrape()
    assert samples_of(families, "streamrnn_adapter_messages") == {("json",): 70}
    refused = samples_of(families, "streamrnn_frames_rejected")
    assert set(refused) == {(reason,) for reason in of.REASONS}
    assert {reason: count for (reason,), count in refused.items() if count} == {"infinite": 6, "value": 2}


def test_every_scrape_reads_the_arrays_anew(daemon):
    assert value(daemon.scrape(), "streamrnn_predictions_total") == 0
    daemon.stats.counters[of.PREDICTIONS] = 2**40
    assert value(daemon.scrape(), "streamrnn_predictions_total") == 2**40


def test_histograms_are_in_seconds_and_cumulative(daemon):
    stats = daemon.stats
    step = of.STAGES.index("step")
    stats.latency[step, 0], stats.latency[step, 1], stats.latency[step, -1] = 5, 2, 1  # 1 us, 2 us, above 1 s
    stats.latency_ns[step] = 1_500_009_000
    stats.age[0], stats.age_ns[0] = 4, 200_000
    stats.batch[3], stats.batch_rows[0] = 6, 48
    families = daemon.scrape()

    def bucket(name: str, le: str, **labels: str) -> float:
        return value(families, f"streamrnn_{name}_bucket", le=le, **labels)

    latency = [bucket("stage_latency_seconds", le, stage="step") for le in ("1e-06", "2e-06", "1.0", "+Inf")]
    assert latency == [5, 7, 7, 8]
    assert value(families, "streamrnn_stage_latency_seconds_count", stage="step") == 8
    assert value(families, "streamrnn_stage_latency_seconds_sum", stage="step") == pytest.approx(1.500009)
    assert value(families, "streamrnn_stage_latency_seconds_count", stage="queue") == 0
    assert [bucket("frame_age_seconds", le) for le in ("0.0001", "1000.0", "+Inf")] == [4, 4, 4]
    assert value(families, "streamrnn_frame_age_seconds_sum") == pytest.approx(200e-6)
    assert [bucket("batch_size", le) for le in ("4.0", "8.0", "512.0", "+Inf")] == [0, 6, 6, 6]
    assert value(families, "streamrnn_batch_size_sum") == 48


@given(st.lists(st.integers(0, 2**40), min_size=len(of.BATCH_BOUNDS) + 1, max_size=len(of.BATCH_BOUNDS) + 1))
def test_a_histogram_never_falls_and_counts_all_it_holds(plain):
    stats = Stats.zeros()
    stats.batch[:] = plain
    text = generate_latest(make_registry(stats, 1, MODEL, Snapshots(), IntakeTally())).decode()
    (family,) = [family for family in parse(text) if family.name == "streamrnn_batch_size"]
    buckets = [s.value for s in family.samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert np.diff(buckets, prepend=0).tolist() == plain
    assert [s.value for s in family.samples if s.name.endswith("_count")] == [sum(plain)]


def test_the_scrape_has_every_metric_that_is_described_and_no_other(daemon):
    families = daemon.scrape()
    own = {}
    for family in families.values():
        if not family.name.startswith("process_"):
            # the parser takes _total from the name of a counter
            name = family.name + ("_total" if family.type == "counter" else "")
            own[name] = (family.type, family.documentation)
    assert own == METRICS
    assert "process_cpu_seconds" in families


def test_info_metrics_name_the_versions_and_the_model(daemon):
    families = daemon.scrape()
    (build,) = families["streamrnn_build_info"].samples
    assert set(build.labels) == {"version", "python", "numba", "libzmq"}
    assert all(build.labels.values())
    assert build.value == value(families, "streamrnn_model_info", **MODEL) == 1


def test_openmetrics_for_who_asks(daemon):
    response, body = daemon.ask("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(body.decode())}
    assert value(families, "streamrnn_stage_latency_seconds_count", stage="total") == 0
    response, _ = daemon.ask("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_an_accept_header_that_makes_no_sense_is_answered_all_the_same(daemon):
    response, body = daemon.ask("/metrics", accept="application/openmetrics-text; version=latest")
    assert response.status == 200
    assert b"streamrnn_streams 0.0\n" in body


def test_gzip_for_who_asks(daemon):
    response, body = daemon.ask("/metrics", accept_encoding="gzip")
    assert response.headers["content-encoding"] == "gzip"
    assert b"streamrnn_streams 0.0\n" in gzip.decompress(body)
    assert daemon.ask("/metrics")[0].headers["content-encoding"] is None


@pytest.mark.parametrize(("path", "check"), [("/healthz", "health"), ("/readyz", "ready")])
def test_checks_answer_200_or_503_and_say_why(daemon, path, check):
    response, body = daemon.ask(path)
    assert (response.status, body) == (200, b"ok\n")
    setattr(daemon, check, (False, "the pump has not moved for 12 s"))
    response, body = daemon.ask(path)
    assert (response.status, body) == (503, b"the pump has not moved for 12 s\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_anything_else_is_404(daemon):
    for path in ("/metrics/", "/metric", "/healthz/x", "/docs", "/../etc/passwd", "//metrics"):
        assert daemon.ask(path)[0].status == 404, path


def test_only_get_and_head(daemon):
    for path in ("/metrics", "/healthz", "/readyz"):
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert daemon.ask(path, method)[0].status == 405, (method, path)
        response, body = daemon.ask(path, "HEAD")
        assert (response.status, body) == (200, b""), path


@pytest.mark.parametrize("host", ["localhost", "localhost:9464", "127.0.0.1", "[::1]:80", ""])
def test_who_asks_by_an_address_is_answered(daemon, host):
    assert daemon.ask("/healthz", host=host)[0].status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9464", "localhost.evil.example", "[", "a b"])
def test_a_name_that_was_made_to_lead_here_is_refused(daemon, host):
    for path in ("/", "/api/streams", "/metrics"):
        response, body = daemon.ask(path, host=host)
        assert response.status in (400, 421), path
        assert b"localhost" in body or response.status == 400


def test_the_server_does_not_name_itself(daemon):
    response, _ = daemon.ask("/healthz")
    assert "server" not in response.headers


def test_a_malformed_request_is_400_and_no_line_in_the_log(daemon, caplog):
    with daemon.connect() as peer:
        peer.sendall(b"\x00\xff not http\r\n\r\n")
        assert peer.recv(64).startswith(b"HTTP/1.1 400")
    assert daemon.ask("/healthz")[0].status == 200
    assert caplog.records == []


def test_an_endless_head_is_refused(daemon):
    with daemon.connect() as peer:
        peer.sendall(b"GET /metrics HTTP/1.1\r\nx: " + b"x" * 65536)
        assert peer.recv(64).startswith(b"HTTP/1.1 400")


def test_over_the_limit_is_503_and_afterwards_all_is_well(daemon):
    peers = [daemon.connect() for _ in range(CONNECTIONS)]
    assert daemon.ask("/healthz")[0].status == 503
    for peer in peers:
        peer.close()
    wait_for(lambda: daemon.ask("/healthz")[0].status == 200)


def test_far_over_the_limit_new_connections_are_dropped(daemon):
    peers = [daemon.connect() for _ in range(2 * CONNECTIONS)]
    with daemon.connect() as late:
        assert closed(late)
    for peer in peers:
        peer.close()
    wait_for(lambda: answers(daemon))


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HT", b"GET / HTTP/1.1\r\nhost: localhost\r\nx: y\r\n"])
def test_a_request_that_never_ends_is_dropped(monkeypatch, daemon, sent):
    monkeypatch.setattr(app, "RESPONSE_S", 0.1)
    with daemon.connect() as peer:
        peer.sendall(sent)
        assert closed(peer)


def test_so_is_one_that_never_ends_after_a_whole_one(monkeypatch, daemon):
    monkeypatch.setattr(app, "RESPONSE_S", 0.1)
    with daemon.connect() as peer:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /heal")
        assert peer.recv(4096).startswith(b"HTTP/1.1 200")
        assert closed(peer)


def test_a_connection_that_asks_and_is_answered_stays(monkeypatch, daemon):
    monkeypatch.setattr(app, "RESPONSE_S", 0.5)
    connection = http.client.HTTPConnection(*daemon.at, timeout=DEADLINE_S)
    connection.connect()
    connection.auto_open = 0  # a closed connection is an error, not a new one
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
    connection.close()


def test_a_failing_check_is_500_and_the_next_is_answered(caplog):
    daemon = Daemon()
    daemon.health = None  # not a pair
    daemon.server.start()
    assert daemon.ask("/healthz")[0].status == 500
    assert daemon.ask("/readyz")[0].status == 200
    assert "TypeError" in caplog.text
    daemon.server.stop()


def test_an_address_in_use_says_what_to_do(daemon):
    port = daemon.at[1]
    second = WebServer("127.0.0.1", port, None, None, None, None)
    with pytest.raises(UserError, match=rf'http.listen = "127.0.0.1:{port}": Address already in use; give'):
        second.start()
    second.stop()


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
def test_an_address_of_another_machine_says_what_to_do(host):
    with pytest.raises(
        UserError, match=f'http.listen = "{host}:9464": .*; give http.listen an address of this'
    ):
        WebServer(host, 9464, None, None, None, None).start()


def test_ipv6_addresses_have_brackets():
    daemon = Daemon()
    registry = make_registry(daemon.stats, 1, MODEL, Snapshots(), IntakeTally())
    server = WebServer("::1", 0, registry, lambda: (True, "ok"), lambda: (True, "ok"), {}.get)
    try:
        server.start()
    except UserError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    assert server.address.startswith("[::1]:")
    assert not server.address.endswith(":0")
    server.stop()


def test_stop_frees_the_port_in_time_whoever_is_connected():
    daemon = Daemon()
    daemon.server.start()
    with daemon.connect() as silent, daemon.connect() as slow, daemon.connect() as kept:
        slow.sendall(b"GET /metrics HT")
        kept.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        daemon.server.stop()
        assert time.monotonic() - began < app.STOP_S
        assert all(thread.name != "streamrnn-http" for thread in threading.enumerate())
        assert closed(silent)
    with socket.create_server(daemon.at):
        pass
    daemon.server.stop()


def test_stop_does_not_wait_for_a_peer_that_never_reads(caplog):
    daemon = Daemon()
    daemon.server.start()
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or they fit the system's buffers
        peer.settimeout(DEADLINE_S)
        peer.connect(daemon.at)
        peer.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2000)
        connections = daemon.server._server.server_state.connections
        wait_for(lambda: any(connection.flow.write_paused for connection in list(connections)))
        began = time.monotonic()
        daemon.server.stop()
        assert time.monotonic() - began < app.STOP_S
        assert closed(peer)
    assert all(thread.name != "streamrnn-http" for thread in threading.enumerate())
    assert caplog.records == []


def test_signals_stay_with_the_program():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    daemon = Daemon()
    daemon.server.start()
    assert daemon.ask("/healthz")[0].status == 200
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    daemon.server.stop()


def closed(peer: socket.socket) -> bool:
    """Whether the other end closes the connection before the time-out (which raises)."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def answers(daemon: Daemon) -> bool:
    try:
        return daemon.ask("/healthz")[0].status == 200
    except ConnectionError:
        return False
