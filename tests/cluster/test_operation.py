"""A cluster looked after: status, check, another model, another number of shards, metrics."""

import json
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from brokers import broker
from clusters import ClusterOfTests, Load, Member, answers_of, assert_as_replayed, rows_of, running
from daemons import rows_answers, wait_for
from models import untrained
from prometheus_client.parser import text_string_to_metric_families as parse
from readme import free_ports

from streamrnn.cluster.metrics import GATEWAY_METRICS, REJECTED, WORKER_METRICS
from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import read_model, write_model
from streamrnn.settings.sections import Faults
from streamrnn.web.metrics import METRICS

KEPT = ("--keep-input", "86400", "--keep", "86400", "--pin", "1", "--checkpoint-rows", "500")


OTHERS = ("json", "raw", "mqtt")
long = pytest.mark.skipif("not config.getoption('--long')", reason="starts one more: run with --long")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[ClusterOfTests]:
    """A server, a gateway and a worker, both with HTTP, and rows of 10 streams, some thousand of them."""
    folder = tmp_path_factory.mktemp("operation")
    with running(folder, model_file) as cluster:
        cluster.init("--shards", "3", *KEPT)
        for kind in ("gateway", "worker"):
            cluster.member(kind, "--http", "127.0.0.1:0")
        for member in cluster.members:
            member.wait_until_ready()
        send_some(cluster)
        yield cluster


def send_some(cluster: ClusterOfTests) -> None:
    load = Load(cluster.takes, streams=10, channels=3, pause_s=0.002, first=cluster.sent)
    wait_for(lambda: load.sent > cluster.sent + 100, "rows")
    load.stop()
    cluster.sent = load.sent

    def taken() -> int:
        rows = rows_of(cluster.log_of("in"))
        return sum(len(frames) for name, frames in rows.items() if name.startswith("stream-"))

    wait_for(lambda: taken() == 10 * cluster.sent, "the gateway")
    cluster.wait_until_done()


def get(member: Member, path: str) -> str:
    address = re.search(r"http://\S+", member.wait_until_ready())[0]
    with urllib.request.urlopen(address + path, timeout=10) as response:
        return response.read().decode()


def samples(member: Member) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in parse(get(member, "/metrics"))
        for sample in family.samples
    }


def names(member: Member) -> set[str]:
    """Of its own metrics."""
    return set(re.findall(r"^# HELP (streamrnn\S+)", get(member, "/metrics"), re.MULTILINE))


def test_there_is_one_cluster_of_a_name(cluster):
    assert "already" in (said := cluster.command("init")).stderr
    assert said.returncode == 1


def test_status(cluster):
    found = json.loads(cluster.command("status", "--json").stdout)
    assert sum(shard["rows"] for shard in found["shards"]) == 10 * cluster.sent
    assert [shard["waiting"] for shard in found["shards"]] == [0, 0, 0]
    assert sorted(member["kind"] for member in found["members"]) == ["gateway", "worker"]
    text = cluster.command("status").stdout
    assert found["members"][0]["name"] in text
    assert "led by" in text


def test_metrics_and_page(cluster):
    gateway, worker = cluster.members
    counted = samples(gateway)
    assert counted["streamrnn_gateway_rows_total"] == 10 * cluster.sent
    assert counted["streamrnn_gateway_held"] == counted["streamrnn_gateway_blocks_waiting"] == 0
    assert names(gateway) == GATEWAY_METRICS.keys() | {REJECTED}
    counted = samples(worker)
    assert counted["streamrnn_worker_rows_total"] == 10 * cluster.sent
    assert counted["streamrnn_predictions_total"] == 10 * cluster.sent
    assert counted["streamrnn_worker_shards"] == 3
    assert {name for name in counted if name.startswith("streamrnn_worker_lag_blocks")} == {
        f"streamrnn_worker_lag_blocks{shard}" for shard in range(3)
    }
    of_a_shadow = {name for name in METRICS if name.startswith("streamrnn_shadow")}
    assert names(worker) == WORKER_METRICS.keys() | METRICS.keys() - of_a_shadow
    for member in cluster.members:
        shown = json.loads(get(member, "/api/cluster"))
        assert sorted(each["kind"] for each in shown["members"]) == ["gateway", "worker"]
        assert "cluster.js" in get(member, "/")
        assert get(member, "/healthz")


@contextmanager
def sending(kind: str, takes: str, folder: Path, channels: list[str]) -> Iterator[tuple[str, str, Any]]:
    """The lines of [input] and [output], and what sends a row, or nonsense where its argument is False."""
    if kind == "mqtt":
        with broker(folder) as started:
            how = f'connect = ["{started.address}#"]\ntopic = "plant/{{stream}}"\nformat = "json"\n'

            def publish(good: bool = True) -> None:
                started.publish(
                    "plant/mqtt", json.dumps(dict.fromkeys(channels, 1.5)) if good else "nonsense"
                )

            yield how, 'format = "json"\n', publish
        return
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(takes)
        push.linger = 0

        def send(good: bool = True) -> None:
            if kind == "raw":
                row = np.full(len(channels), 1.5, np.float32).tobytes()
                push.send_multipart([b"raw", row if good else row[:-1]])
            elif good:
                push.send_json({"machine": "json", "time": time.time(), **dict.fromkeys(channels, 1.5)})
            else:
                push.send(b"nonsense")

        more = 'stream = "machine"\n' if kind == "json" else ""
        yield f'bind = ["{takes}"]\nsocket = "pull"\nformat = "{kind}"\n{more}', 'format = "json"\n', send


@pytest.mark.parametrize("kind", [OTHERS[0], *(pytest.param(kind, marks=long) for kind in OTHERS[1:])])
def test_other_formats(cluster, tmp_path, kind):
    takes, publishes = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    channels = [channel.name for channel in read_model(cluster.model).channels]
    with sending(kind, takes, tmp_path, channels) as (ins, outs, send):
        text = cluster.file.read_text()
        head, cluster_lines = text.partition("[input]")[0], text[text.index("[http]") :]
        cluster_lines = cluster_lines.replace('name = "t"', f'name = "t"\ngateway = "{kind}"')
        toml = cluster.folder / f"{kind}.toml"
        toml.write_text(f'{head}[input]\n{ins}[output]\nbind = ["{publishes}"]\n{outs}{cluster_lines}')
        member = Member("gateway", toml, cluster.folder / f"gateway-{kind}.log")
        with ExitStack() as ends:
            ends.callback(member.kill)
            sub = ends.enter_context(ends.enter_context(zmq.Context()).socket(zmq.SUB))
            member.wait_until_ready()
            sub.subscribe(b"")
            sub.connect(publishes)
            sub.linger = 0
            found: list[dict] = []

            def answered() -> bool:
                send()
                while sub.poll(20):
                    found.append(json.loads(sub.recv_multipart()[1]))
                return len(found) > 3

            wait_for(answered, "answers in JSON")
            send(False)
            if kind == "raw":  # only whoever steps it knows what a row is
                cluster.members[1].wait_until_it_says('rejected 1 (truncated), the last of "raw"')
            else:
                member.wait_until_it_says("1 syntax")
            assert member.stop() == 0
        assert {each["stream"] for each in found} == {kind}
        assert found[0]["prediction"].keys() == set(channels)
    cluster.wait_until_done()


@long
def test_too_few_shards_for_the_streams(tmp_path, model_file):
    with running(tmp_path, model_file, toml="[streams]\ncapacity = 6\n") as cluster:
        cluster.init("--shards", "3", *KEPT)
        for kind in ("gateway", "worker"):
            cluster.member(kind).wait_until_ready()
        send_some(cluster)
        for member in cluster.members:
            assert member.stop() == 0
        refused = cluster.command("reshard", "1")
        assert "one would have 10 streams, and holds 6" in refused.stderr
        assert refused.returncode == 1
        assert cluster.command("check").returncode == 0


def test_another_number_of_shards(cluster):
    assert "still running" in cluster.command("reshard", "5").stderr
    for member in cluster.members:
        assert member.stop() == 0
    assert (done := cluster.command("reshard", "5")).returncode == 0, done.stderr
    assert cluster.command("check").returncode == 0
    for member in cluster.members:
        member.start()
        member.wait_until_ready()
    before = cluster.sent
    send_some(cluster)
    assert sum(head.rows for head in cluster.heads().values()) == 10 * (cluster.sent - before)
    assert assert_as_replayed(cluster) > 10 * cluster.sent


def test_another_model(cluster, model_file, tmp_path):
    another, wrong = tmp_path / "another.safetensors", tmp_path / "wrong.safetensors"
    old = read_model(model_file)
    write_model(untrained(sample_period_s=0.01, seed=1), another)
    write_model(untrained(sample_period_s=0.01, hidden=6), wrong)
    assert "cannot take over" in cluster.command("init", str(wrong), "--update").stderr
    assert (done := cluster.command("init", str(another), "--update")).returncode == 0, done.stderr
    cluster.members[1].process.send_signal(signal.SIGHUP)
    cluster.members[1].wait_until_it_says("reloaded")
    send_some(cluster)
    rows, answers = rows_of(cluster.log_of("in")), answers_of(cluster.log_of("out"))
    for kind in OTHERS:
        rows.pop(kind, None)
    for name, frames in rows.items():
        values = np.stack([row for _, row in frames])
        seq, ts = (np.array([header[key] for header, _ in frames]) for key in ("seq", "ts_ns"))
        engine = Engine(old, 4, Faults())
        whole = rows_answers(engine, name, values, seq, ts)
        changed = next(n for n, each in enumerate(answers[name]) if each != whole[n])
        engine = Engine(old, 4, Faults())
        expected = rows_answers(engine, name, values[:changed], seq[:changed], ts[:changed])
        new = read_model(another)
        engine.unlearn()
        engine.replace(new, engine.replacement(new, Faults()))
        expected += rows_answers(engine, name, values[changed:], seq[changed:], ts[changed:])
        assert answers[name] == expected
    assert cluster.command("check").returncode == 0
