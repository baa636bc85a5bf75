"""The image, built from deploy/Dockerfile, and its containers, run as the compositions say; with --long."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import BASE, IMAGE, Containers, compose, containers, why_not
from daemons import wait_for
from test_container import DEPLOY

REASON = why_not()
pytestmark = [
    pytest.mark.skipif("not config.getoption('--long')", reason="builds an image: run with --long"),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]
ROWS = "c0,c1,c2\n" + "".join(f"{row},{2 * row},{row % 7}\n" for row in range(100))
LARGEST_BYTES = 500e6  # that the image adds to Debian and Python
FOLDERS = {"/run/streamrnn", "/var/lib/streamrnn", "/var/cache/streamrnn"}
EVERYBODYS = {"/tmp", "/dev/shm", "/dev/mqueue"}  # all of them in memory


class Station:
    """A model served by the second composition."""

    def __init__(self, podman: Containers, folder: Path):
        self.podman, self.config = podman, compose("compose.yaml", "compose.serve.yaml", STATION=str(folder))

    def start(self) -> None:
        """As `docker compose up` does, after whatever was before."""
        for name in ("keeper", "streamrnn"):
            if not self.podman.run("ps", "--quiet", f"--filter=name={name}"):
                self.podman.run("rm", "--ignore", name)
                self.podman.start(name, self.config)
        self.podman.wait_until_healthy("streamrnn")

    def inside(self, *command: str, **how: Any) -> str:
        return self.podman.run("exec", "--interactive", "streamrnn", *command, **how)

    def send(self) -> None:
        self.inside("streamrnn", "send", "-", "--to", "tcp://127.0.0.1:5555", "--rate", "50", input=ROWS)

    def steps(self) -> int:
        """Of the one stream."""
        shown = self.inside("streamrnn", "state", "show", "/run/streamrnn", "--json")
        return json.loads(shown)["step"] if shown else 0


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """With the image, on a base of Debian."""
    with containers(tmp_path_factory.mktemp("containers")) as made:
        made.make_base()
        made.build()
        yield made


@pytest.fixture(scope="module")
def place(podman: Containers, model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Station:
    """The folder that the README has one make."""
    folder = tmp_path_factory.mktemp("station")
    folder.chmod(0o755)
    (folder / "streamrnn.toml").write_bytes((DEPLOY / "container.toml").read_bytes())
    (folder / "model.safetensors").write_bytes(model_file.read_bytes())
    return Station(podman, folder)


@pytest.fixture
def station(place: Station) -> Station:
    """Healthy, whatever the test before left behind."""
    place.start()
    return place


def test_the_image_is_small(podman):
    sizes = [int(podman.run("image", "inspect", "--format={{.Size}}", name)) for name in (IMAGE, BASE)]
    assert sizes[0] - sizes[1] < LARGEST_BYTES


def test_the_demo_runs_as_composed(podman):
    podman.start("streamrnn", compose("compose.yaml"))
    podman.wait_until_healthy("streamrnn")
    scrape = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics').read().decode())"

    def predicting() -> bool:
        text = podman.run("exec", "streamrnn", "python3", "-c", scrape)
        return re.search(r"^streamrnn_predictions_total [1-9]", text, re.MULTILINE) is not None

    wait_for(predicting, "predictions")
    assert podman.stop("streamrnn") in (0, 130)


def test_it_answers_what_is_sent(station):
    steps = station.steps()
    tail = ["exec", "streamrnn", "timeout", "60", "streamrnn", "tail", "tcp://127.0.0.1:5556", "--json"]
    with station.podman.popen(*tail, "--limit", "3") as reader:
        station.send()
        answers = [json.loads(line) for line in reader.communicate()[0].splitlines()]
    assert len(answers) == 3 and all(len(answer["values"]) == 3 for answer in answers)
    assert station.steps() > steps


def test_it_is_nobody_and_writes_its_own_folders(station):
    status = dict(re.findall(r"^(\w+):\s+(.*)$", station.inside("cat", "/proc/1/status"), re.MULTILINE))
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    find = "find / -path /proc -prune -o -type d -writable -print 2>/dev/null; true"
    writable = {"/".join(path.split("/")[:4]) for path in station.inside("sh", "-c", find).split()}
    assert writable == FOLDERS | EVERYBODYS


def test_killed_it_goes_on_at_its_last_step_and_compiles_nothing_again(station):
    station.send()
    steps = station.steps()
    station.podman.run("kill", "--signal=KILL", "streamrnn")
    station.start()
    assert station.steps() == steps > 0
    said = station.podman.said("streamrnn")
    assert "took over 1 streams from the live state" in said
    assert "compiling" not in said


def test_stopped_it_ends_well_and_leaves_a_snapshot(station):
    station.send()
    steps = station.steps()
    assert station.podman.stop("streamrnn") == 0
    assert "INFO    stopped after " in station.podman.said("streamrnn")
    station.podman.run("rm", "--force", "--time=0", "keeper")  # and with it the live state
    station.start()
    assert station.steps() == steps > 0
    assert "snapshot" in station.podman.said("streamrnn")
