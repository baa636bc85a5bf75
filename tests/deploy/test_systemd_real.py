"""The units under a real systemd, hardened as they are, installed as deploy/README.md says.

Each test finds the service running, whatever the test before it left behind.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from daemons import COMPILE_S, Answer, Line, line_to, rows_answers, wait_for
from machine import DEPLOY, Machine, machine, make_files, why_not
from neighbours import meanwhile

from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import Config, load_config
from streamrnn.streams.snapshot import read_snapshot, snapshots_in
from streamrnn.streams.summary import summarise

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

ROWS = np.random.default_rng(3).normal(size=(24, 3)).astype(np.float32)
HALF = len(ROWS) // 2
CHANGES = {  # sockets that can be reached from outside as well, and snapshots soon
    '"tcp://127.0.0.1:5555"': '"tcp://127.0.0.1:5555", "ipc:///run/streamrnn/input"',
    '"tcp://127.0.0.1:5556"': '"tcp://127.0.0.1:5556", "ipc:///run/streamrnn/output"',
    "[state] ": '[state]\ninterval = "200ms" ',
}
IMPATIENT = "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=500ms\n"  # with what hangs


def install_commands() -> list[str]:
    """What the README says to run; making the environment is the machine's own."""
    block = re.search(r"```sh\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    assert block
    return [line for line in block[1].splitlines() if not re.match(r"python3 -m venv|\S+/pip install", line)]


class Service:
    """streamrnn.service on a machine: what systemd says of it, and lines to and from it."""

    def __init__(self, machine: Machine, config: Config):
        self.machine, self.config = machine, config
        self.receives = f"ipc://{machine.path('/run/streamrnn/input')}"
        self.publishes = f"ipc://{machine.path('/run/streamrnn/output')}"

    def control(self, verb: str, *options: str, check: bool = True) -> str:
        return self.machine.run("systemctl", verb, *options, "streamrnn", check=check)

    def show(self, name: str) -> str:
        """A property of the unit, as ``systemctl show`` prints it."""
        return self.control("show", f"--property={name}", "--value").strip()

    @property
    def said(self) -> str:
        """What it, and systemd of it, has written to the journal."""
        return self.machine.run("journalctl", "--unit=streamrnn", "--output=cat")

    def wait_until(self, name: str, value: str) -> None:
        try:
            wait_for(lambda: self.show(name) == value, f"{name} {value}", COMPILE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.said}") from None

    @contextmanager
    def restarted(self) -> Iterator[None]:
        """Does something to the process, and goes on when another one is ready."""
        pid = self.show("MainPID")
        yield
        wait_for(lambda: self.show("MainPID") not in ("0", pid), "another process")
        self.wait_until("ActiveState", "active")

    def line(self) -> AbstractContextManager[Line]:
        return line_to(self)

    def answers(self, stream: str, rows: np.ndarray) -> list[Answer]:
        """What it answers to the next rows of a stream."""
        with self.line() as line:
            line.send_rows(stream, rows)
            return line.answers(len(rows))

    def answers_without_a_break(self, stream: str) -> list[Answer]:
        """What it would have answered to all of ROWS, one after the other."""
        engine = Engine(read_model(self.config.model), self.config.streams.capacity, self.config.faults)
        return rows_answers(engine, stream, ROWS)


class Place(NamedTuple):
    """What machines are made of: the files of the root, the disk, and the configuration of streamrnn."""

    files: Path
    disk: Path
    config: Config


@contextmanager
def booted(place: Place) -> Iterator[Service]:
    """A machine just switched on, where all but the last command was run; its power is cut in the end."""
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder), place.files, place.disk) as made:
        made.run("sh", "-euc", "\n".join(["cd /checkout", *install_commands()[:-1]]))
        yield Service(made, place.config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Place:
    files, disk = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("disk")
    make_files(files)
    shutil.copy(model_file, files / "checkout/model.safetensors")
    settings = files / "checkout/deploy/streamrnn.toml"
    text = settings.read_text()
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)
    impatient = files / "etc/systemd/system/streamrnn.service.d/impatient.conf"
    impatient.parent.mkdir()
    impatient.write_text(IMPATIENT)
    return Place(files, disk, load_config(settings, {"model": model_file}))


@pytest.fixture(scope="module")
def installed(place: Place) -> Iterator[Service]:
    with booted(place) as service:
        yield service


@pytest.fixture
def service(installed: Service) -> Service:
    """Ready, whatever the test before left behind."""
    installed.control("start")
    return installed


def test_it_is_active_when_it_is_ready(installed):
    with meanwhile(lambda: installed.machine.run("sh", "-euc", install_commands()[-1])):
        installed.wait_until("StatusText", "compiling kernels")
        assert installed.show("ActiveState") == "activating"
        installed.wait_until("ActiveState", "active")
    assert installed.show("UnitFileState") == "enabled"
    said = installed.said
    assert -1 < said.find("ready: ") < said.find("Started ")


def test_its_status_says_what_it_does(service):
    service.answers("status", ROWS)
    wait_for(lambda: int(service.show("StatusText").split()[-2]) >= len(ROWS), "a new status line")
    assert re.search(r'Status: "\d+ of 4,096 streams, \d+ predictions"', service.control("status"))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGSTOP"])
def test_a_process_that_dies_or_hangs_is_replaced_and_goes_on(service, name):
    before = service.answers(name, ROWS[:HALF])
    restarts = int(service.show("NRestarts"))
    with service.restarted():
        service.control("kill", f"--signal={name}")
    assert int(service.show("NRestarts")) == restarts + 1
    assert ("Watchdog timeout" in service.said) or name != "SIGSTOP"
    assert before + service.answers(name, ROWS[HALF:]) == service.answers_without_a_break(name)


def test_a_reload_keeps_the_process_and_the_state(service):
    pid, before = service.show("MainPID"), service.answers("reload", ROWS[:HALF])
    service.control("reload")
    wait_for(lambda: "reloaded; " in service.said, "what it says of a reload")
    service.wait_until("ActiveState", "active")
    assert before + service.answers("reload", ROWS[HALF:]) == service.answers_without_a_break("reload")
    assert service.show("MainPID") == pid


def test_a_restart_goes_on_from_the_live_state(service):
    before = service.answers("restart", ROWS[:HALF])
    with service.restarted():
        service.control("restart")
    assert before + service.answers("restart", ROWS[HALF:]) == service.answers_without_a_break("restart")


def restored(answers: list[Answer]) -> list[Answer]:
    """The first of ``answers`` as it is after a snapshot was read."""
    first, *others = answers
    return [first._replace(flags="WARMING|RESTORED"), *others]


def test_a_stop_ends_well_and_a_start_goes_on_from_the_snapshot(service):
    before = service.answers("stop", ROWS[:HALF])
    service.control("stop")
    assert service.show("ActiveState") == "inactive"
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    assert not service.machine.path("/run/streamrnn").exists()
    service.control("start")
    after = service.answers("stop", ROWS[HALF:])
    expected = service.answers_without_a_break("stop")
    assert before + after == expected[:HALF] + restored(expected[HALF:])


def test_a_power_cut_goes_back_to_the_last_snapshot(service, place):
    service.control("stop")  # the disk is the next machine's
    with booted(place) as second:
        second.control("start")
        before = second.answers("power", ROWS[:HALF])
        snapshots = place.disk / "lib/streamrnn"

        def taken() -> bool:
            newest = next(iter(snapshots_in(snapshots)), None)
            held = summarise(read_snapshot(newest), newest.name) if newest else []
            return any((stream["stream"], stream["step"]) == ("power", HALF) for stream in held)

        wait_for(taken, "a snapshot")
    with booted(place) as third:
        third.control("start")
        after = third.answers("power", ROWS[HALF:])
        expected = third.answers_without_a_break("power")
        assert before + after == expected[:HALF] + restored(expected[HALF:])


def test_a_wrong_configuration_fails_once(service):
    settings = service.machine.path("/etc/streamrnn/streamrnn.toml")
    right = settings.read_text()
    restarts = service.show("NRestarts")
    settings.write_text(right.replace("[input]", "[inputs]"))
    try:
        service.control("restart", check=False)
        assert (service.show("ActiveState"), service.show("ExecMainStatus")) == ("failed", "78")
        assert 'inputs: unknown key; did you mean "input"?' in service.said
        assert service.show("NRestarts") == restarts
    finally:
        settings.write_text(right)


def test_it_writes_its_own_folders_and_runs_nothing_from_them(service):
    as_the_service = (
        f"nsenter --target={service.show('MainPID')} --mount -- "
        "setpriv --reuid=streamrnn --regid=streamrnn --clear-groups --no-new-privs sh -c"
    ).split()
    find = "find / -path /proc -prune -o -type d -writable -print 2>/dev/null; true"
    writable = set(service.machine.run(*as_the_service, find).split())
    own = {"/run/streamrnn", "/var/lib/streamrnn", "/var/cache/streamrnn"}
    everybodys = {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"}
    assert {name for name in writable if not name.startswith("/var/cache/streamrnn/")} == own | everybodys
    for folder in writable - {"/dev/mqueue"}:  # which holds messages, not programs
        tried = f"cp /bin/true {folder}/tried && {{ {folder}/tried; echo $?; rm {folder}/tried; }}"
        assert service.machine.run(*as_the_service, tried) == "126\n", folder


def test_its_figures_and_its_streams_can_be_seen(service):
    service.answers("seen", ROWS)
    scrape = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    scraped = service.machine.run("/opt/streamrnn/bin/python", "-c", scrape)
    assert re.search(r"^streamrnn_predictions_total [1-9]", scraped, re.MULTILINE)
    assert re.search(r"^process_start_time_seconds [1-9]", scraped, re.MULTILINE)  # from /proc/stat
    assert "seen" in service.machine.run("/opt/streamrnn/bin/streamrnn", "state", "show", "/run/streamrnn")


def test_its_filter_lets_threads_step_back(service):
    policies = service.machine.run("ps", "-L", "-o", "cls=", "-p", service.show("MainPID"))
    assert set(policies.split()) == {"TS", "IDL"}


def test_instances_have_folders_of_their_own(service):
    machine = service.machine
    settings = machine.path("/etc/streamrnn/streamrnn.toml").read_text()
    for name in ("pumps", "fans"):
        text = re.sub("(/run|/var/lib)/streamrnn", rf"\g<0>-{name}", settings)
        text = re.sub(":555[56]", ":*", text) + '[http]\nlisten = ""\n'
        machine.path(f"/etc/streamrnn/{name}.toml").write_text(text)
    instances = ["streamrnn@pumps", "streamrnn@fans"]
    machine.run("systemctl", "start", *instances)
    machine.run("systemctl", "stop", "streamrnn", "streamrnn@fans")
    assert machine.run("systemctl", "is-active", *instances, check=False).split() == ["active", "inactive"]
    assert not machine.path("/run/streamrnn-fans").exists()
    assert {"state", "lock"} <= {file.name for file in machine.path("/run/streamrnn-pumps").iterdir()}
    assert list(machine.path("/var/lib/streamrnn-pumps").iterdir())
    machine.run("systemctl", "stop", "streamrnn@pumps")
