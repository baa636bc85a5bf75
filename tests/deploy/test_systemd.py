"""The protocol of sd_notify against real sockets, and the files of deploy/ against each other."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamrnn.daemon.systemd import notify, watchdog_s
from streamrnn.settings.config import load_config

DEPLOY = Path(__file__).parents[2] / "deploy"
README = (DEPLOY / "README.md").read_text()
UNITS = {name: (DEPLOY / name).read_text() for name in ("streamrnn.service", "streamrnn@.service")}
PROGRAM = "/opt/streamrnn/bin/streamrnn"
NO_ANALYZE = "systemd-analyze is missing (Debian: apt-get install systemd)"
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason=NO_ANALYZE)


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """Where a service manager would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = str(tmp_path / "notify")
        listening.bind(name if request.param == "path" else f"\0{name}")
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "path" else f"@{name}")
        yield listening


def test_fields_arrive_in_one_message(manager):
    assert notify(READY=1, STATUS="3 streams → ready")
    assert notify(WATCHDOG=1)
    assert manager.recv(4096).decode() == "READY=1\nSTATUS=3 streams → ready"
    assert manager.recv(4096) == b"WATCHDOG=1"


def test_a_value_cannot_bring_fields_of_its_own(manager):
    assert notify(STATUS="broken\nMAINPID=1\r\nSTOPPING=1")
    assert manager.recv(4096) == b"STATUS=broken MAINPID=1 STOPPING=1"


def test_a_manager_that_reads_nothing_does_not_hold_it_up(manager):
    while notify(STATUS="x" * 1000):
        pass
    assert manager.recv(4096) == b"STATUS=" + b"x" * 1000
    assert notify(WATCHDOG=1)


def test_a_manager_that_is_gone_is_no_error(manager):
    manager.close()
    assert not notify(READY=1)


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1234", "/" + "long" * 100])
def test_without_a_socket_nothing_happens(address, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify(READY=1)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),  # another process is meant
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_this_process(environment, seconds, monkeypatch):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_s() == seconds


def settings(unit: str) -> dict[str, str]:
    """Every key of a unit to its last value."""
    return dict(line.split("=", 1) for line in UNITS[unit].splitlines() if re.match("[A-Z]", line))


def test_the_template_is_the_unit_with_a_name():
    """Line by line: an instance differs in its configuration and its folders alone."""
    plain = UNITS["streamrnn@.service"].replace(" (%i)", "").replace("%i.toml", "streamrnn.toml")
    assert plain.replace("streamrnn-%i", "streamrnn") == UNITS["streamrnn.service"]
    assert UNITS["streamrnn@.service"].count("%i") == 6


@analyze
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_error_in_a_unit(unit, tmp_path):
    file = tmp_path / unit.replace("@", "@pumps")
    file.write_text(UNITS[unit].replace(PROGRAM, sys.executable))  # it wants to see the program
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@analyze
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_leaves_little_open(unit):
    rate = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15"]
    done = subprocess.run([*rate, DEPLOY / unit], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_uses_the_folders_of_the_unit():
    config, unit = load_config(DEPLOY / "streamrnn.toml", {}), settings("streamrnn.service")
    config.require_endpoints()
    assert config.state.live == f"/run/{unit['RuntimeDirectory']}"
    assert config.state.snapshots == f"/var/lib/{unit['StateDirectory']}"
    assert unit["ExecStart"] == f"{PROGRAM} serve -c /etc/streamrnn/streamrnn.toml"


def test_the_readme_names_every_file_and_every_path():
    files = {file.name for file in DEPLOY.iterdir()} - {"README.md"}
    assert set(re.findall(r"deploy/([\w@.]+\w)", README)) == files
    paths = re.findall(r"(/(?:etc|opt|run|var)/[\w/]+)", UNITS["streamrnn.service"])
    table = re.findall(r"^\| `(/\S+)` \|", README, re.MULTILINE)
    folders = {"/".join(path.split("/")[: 4 if path.startswith("/var") else 3]) for path in paths}
    assert folders - {"/run/lock", "/var/tmp"} == set(table)
