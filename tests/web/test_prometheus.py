"""deploy/prometheus and the dashboard's queries, in promtool and a real Prometheus that scrapes a daemon."""

import http.server
import json
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from daemons import DEADLINE_S, Daemon, Line, serving, wait_for
from needs import needs_programs
from prometheus_client.parser import text_string_to_metric_families as parse
from promql import DEPLOY, VARIABLES, dashboard_queries, names, with_values
from readme import free_ports
from single_values import SETTINGS

from streamrnn.wire.frame import RESET

FILES = DEPLOY / "prometheus"
TARGETS = {"prometheus.yml": "127.0.0.1:9464", "prometheus-compose.yml": "streamrnn:9464"}
MANAGERS = {"prometheus.yml": "127.0.0.1:9093", "prometheus-compose.yml": "alertmanager:9093"}
OWN = {"up", "ALERTS"}  # what Prometheus adds to that which it scrapes
SOON = {"15s": "200ms"}  # between scrapes, and between evaluations of the rules
RATE_INTERVAL = "10s"


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    needs_programs("prometheus", "promtool", "prometheus-alertmanager", "amtool")


def promtool(*words: str | Path, stdin: str = "") -> str:
    """What promtool prints; it must find nothing wrong."""
    done = subprocess.run(["promtool", *words], input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """A running one."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path):
        self._process, self._log = process, log
        self.address = wait_for(self._listens, "Prometheus to listen")
        wait_for(self._is_ready, "Prometheus to be ready")

    def _listens(self) -> str | None:
        said = self._log.read_text()
        assert self._process.poll() is None, said
        found = re.search(r'msg="Listening on" .*\baddress=(\S+)', said)
        return f"http://{found[1]}" if found else None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=DEADLINE_S):
                return True
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of its answer, which must not be an error."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def values(self, query: str) -> list[float]:
        """The values that a query has now, NaN left out."""
        found = [float(each["value"][1]) for each in self.ask("query", query=query)["result"]]
        return [value for value in found if not np.isnan(value)]

    def rules(self, kind: str) -> list[dict[str, Any]]:
        """Its rules that "record" or "alert"."""
        return [rule for group in self.ask("rules", type=kind)["groups"] for rule in group["rules"]]


@contextmanager
def prometheus(*targets: str, manager: str = "127.0.0.1:1") -> Iterator[Prometheus]:
    """One with the configuration and the rules of deploy/, but for their targets and times."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config = (FILES / "prometheus.yml").read_text()
        found = {TARGETS["prometheus.yml"]: '", "'.join(targets), MANAGERS["prometheus.yml"]: manager}
        for old, new in (found | SOON).items():
            assert old in config
            config = config.replace(old, new)
        (place / "prometheus.yml").write_text(config)
        rules, changed = re.subn(r"for: \w+", "for: 1s", (FILES / "rules.yml").read_text())
        assert changed
        (place / "rules.yml").write_text(rules)
        options = {
            "config.file": "prometheus.yml",
            "storage.tsdb.path": "data",
            "web.listen-address": "127.0.0.1:0",
        }
        command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
        with (
            (place / "log").open("wb") as log,
            subprocess.Popen(command, cwd=place, stdout=log, stderr=log) as process,
        ):
            try:
                yield Prometheus(process, place / "log")
            finally:
                process.kill()


class Traffic:
    """Rows of a stream, and whatever can be wrong with them."""

    def __init__(self, line: Line, channels: int):
        self._line, self._row, self._step = line, np.zeros(channels, np.float32), count(1)

    def __call__(self) -> None:
        seq = 4 * next(self._step)
        self._send(self._row, seq=seq, ts_ns=time.time_ns())
        self._send(self._row, seq=seq)  # late
        self._send(self._row, seq=seq + 2)  # one is missing before it
        self._send(self._row[:-1], seq=seq + 3)  # a channel is missing
        self._send(self._row, seq=0, flags=RESET)

    def _send(self, row: np.ndarray, **header: Any) -> None:
        self._line.send("pump", row, **header)


class Watched(NamedTuple):
    """A daemon, what it is sent, and who watches it."""

    daemon: Daemon
    assembling: Daemon  # another, of single values
    send: Traffic
    prometheus: Prometheus

    @property
    def instance(self) -> str:
        return self.daemon.http.removeprefix("http://")

    def wait_for_values(self, query: str) -> None:
        """Sends on until ``query`` has a value."""

        def values() -> list[float]:
            self.send()
            return self.prometheus.values(query)

        wait_for(values, f"a value of {query}")


@pytest.fixture(scope="module")
def watched(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    snapshots = {"state.snapshots": str(tmp_path_factory.mktemp("snapshots"))}
    with (
        serving(model_file, snapshots) as daemon,
        serving(model_file, SETTINGS) as assembling,
        daemon.line() as line,
        prometheus(*(each.http.removeprefix("http://") for each in (daemon, assembling))) as watcher,
    ):
        yield Watched(daemon, assembling, Traffic(line, 3), watcher)


@pytest.fixture(scope="module")
def scraped(watched: Watched) -> list[str]:
    """A scrape of each daemon."""
    return [each.get("/metrics")[1] for each in (watched.daemon, watched.assembling)]


@pytest.fixture(scope="module")
def of_events(watched: Watched) -> str:
    """A scrape of the streams that have an event."""
    return watched.daemon.get("/metrics/events")[1]


@pytest.fixture(scope="module")
def there(scraped: list[str], of_events: str) -> set[str]:
    """What a daemon's scrape has samples of, and what that of events has, if any goes on."""
    samples = {sample.name for text in scraped for family in parse(text) for sample in family.samples}
    return samples | {family.name for family in parse(of_events)}


@pytest.mark.parametrize("name", TARGETS)
def test_configurations_are_right(name):
    promtool("check", "config", "--lint-fatal", FILES / name)


def test_configurations_differ_in_their_target_alone():
    texts = [
        re.sub("^#.*\n", "", (FILES / name).read_text(), flags=re.M)
        .replace(target, "TARGET")
        .replace(MANAGERS[name], "MANAGER")
        for name, target in TARGETS.items()
    ]
    assert texts[0] == texts[1]
    assert (texts[0].count("TARGET"), texts[0].count("MANAGER")) == (1, 1)


def test_the_datasource_knows_how_often_is_scraped():
    source = (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    interval = re.search(r"scrape_interval: (\w+)", (FILES / "prometheus.yml").read_text())
    assert f"timeInterval: {interval[1]} " in source


def test_alerts_fire_when_they_should():
    promtool("test", "rules", FILES / "rules_test.yml")


def test_each_alert_is_seen_to_fire():
    alerts = re.findall(r"alert: (\w+)", (FILES / "rules.yml").read_text())
    fire = re.findall(r'alertname="(\w+)".*value: 1}', (FILES / "rules_test.yml").read_text())
    assert sorted(alerts) == sorted(set(fire))


def test_metrics_are_named_as_prometheus_wants_them(scraped, of_events):
    for text in (*scraped, of_events):
        promtool("check", "metrics", stdin=text)


def test_dashboard_queries_name_what_is_scraped(there):
    for place, query in dashboard_queries():
        assert names(query) <= there | OWN, place
    for variable in VARIABLES.values():
        assert set(re.findall(r"streamrnn_\w+", variable["query"])) <= there


def test_rules_name_what_is_scraped_or_recorded(watched, there):
    records = watched.prometheus.rules("record")
    for rule in records + watched.prometheus.rules("alert"):
        assert names(rule["query"]) <= there | OWN | {each["name"] for each in records}, rule["name"]


def test_each_dashboard_query_has_data(watched):
    queries = {query: place for place, query in dashboard_queries()}
    (restarts,) = (query for query, place in queries.items() if place == "Restarts")
    assert watched.prometheus.values(with_values(restarts, RATE_INTERVAL)) == []
    del queries[restarts]  # of which there were none
    for query in queries:
        watched.wait_for_values(with_values(query, RATE_INTERVAL))


def test_dashboard_variables_have_values(watched):
    instances = [each.http.removeprefix("http://") for each in (watched.daemon, watched.assembling)]
    for name, values in {"job": ["streamrnn"], "instance": sorted(instances)}.items():
        metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["query"]).groups()
        match = {"match[]": with_values(metric, RATE_INTERVAL)}
        assert watched.prometheus.ask(f"label/{label}/values", **match) == values


def test_each_rule_is_evaluated(watched):
    def all_rules() -> list[dict[str, Any]]:
        rules = watched.prometheus.rules("record") + watched.prometheus.rules("alert")
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = wait_for(all_rules, "rules to be evaluated")
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []


def test_each_recorded_figure_has_values(watched):
    for rule in watched.prometheus.rules("record"):
        watched.wait_for_values(rule["name"])


def test_each_alert_says_what_to_do(watched):
    for alert in watched.prometheus.rules("alert"):
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert alert["duration"] > 0 or alert["name"] == "StreamrnnEvent"  # which may be short
        assert set(alert["annotations"]) == {"summary", "description"}


class Told(http.server.ThreadingHTTPServer):
    """Whoever is told: the streams of which alerts came, by the path that they came to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Listening)
        self.streams: dict[str, set[str]] = {}


class _Listening(http.server.BaseHTTPRequestHandler):
    server: Told

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert len({alert["labels"]["stream"] for alert in said["alerts"]}) == 1  # each by itself
        firing = {each["labels"]["stream"] for each in said["alerts"] if each["status"] == "firing"}
        self.server.streams.setdefault(self.path, set()).update(firing)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def alertmanager(url: str) -> Iterator[str]:
    """The address of one with the configuration of deploy/, whose receivers tell a path of ``url`` each."""
    config, count = re.subn(
        r"^  - name: ([\w-]+).*$",
        rf"  - name: \1\n    webhook_configs: [{{url: '{url}/\1'}}]",
        (FILES / "alertmanager.yml").read_text(),
        flags=re.MULTILINE,
    )
    assert count == 4
    with tempfile.TemporaryDirectory() as folder:
        place, (port,) = Path(folder), free_ports(1)
        (place / "alertmanager.yml").write_text(config)
        done = subprocess.run(["amtool", "check-config", place / "alertmanager.yml"], capture_output=True)
        assert done.returncode == 0, done.stderr
        words = ["prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=data"]
        words += ["--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"]
        with (
            (place / "log").open("wb") as log,
            subprocess.Popen(words, cwd=place, stdout=log, stderr=log) as process,
        ):
            try:
                yield f"127.0.0.1:{port}"
            finally:
                process.kill()


def test_an_event_is_sent_by_its_stream(model_file):
    """From rows to whoever is told: daemon, Prometheus and Alertmanager, as deploy/ has them."""
    rows = np.cumsum(np.random.default_rng(8).normal(0, 2, (210, 3)), axis=0).astype(np.float32)
    rows[200:] += 500
    with Told() as told, serving(model_file) as daemon, daemon.line() as line:
        threading.Thread(target=told.serve_forever, daemon=True).start()
        try:
            with (
                alertmanager(f"http://127.0.0.1:{told.server_address[1]}") as manager,
                prometheus(daemon.http.removeprefix("http://"), manager=manager),
            ):
                for stream in ("pump-2", "pump-5", "fan-1", "quiet"):
                    some = rows if stream != "quiet" else rows[:200]
                    line.send_rows(stream, some)
                    line.answers(len(some))
                open_now = "streamrnn_events_open 3.0"
                wait_for(lambda: open_now in daemon.get("/metrics/events")[1], open_now)
                assert 'stream="quiet"' not in daemon.get("/metrics/events")[1]
                expected = {"/hall-1": {"pump-2"}, "/hall-2": {"pump-5"}, "/control-room": {"fan-1"}}
                wait_for(lambda: told.streams == expected, f"{expected}, not {told.streams}", 60)
        finally:
            told.shutdown()


def test_the_death_of_a_daemon_is_told(watched):
    watched.daemon.stop(signal.SIGKILL)

    def down() -> list[dict[str, Any]]:
        alerts = watched.prometheus.ask("alerts")["alerts"]
        return [
            each
            for each in alerts
            if each["labels"]["alertname"] == "StreamrnnDown" and each["state"] == "firing"
        ]

    (alert,) = wait_for(down, "the alert to fire")
    assert alert["annotations"]["summary"] == f"streamrnn at {watched.instance} is down"
    assert (alert["labels"]["severity"], alert["labels"]["job"]) == ("critical", "streamrnn")
