"""The files of deploy/ for containers, by the tools that read them and against each other."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from containers import ROOT, compose

from streamrnn.settings.config import load_config

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """What follows an instruction, wherever it stands in the Dockerfile."""
    return re.findall(rf"^{name} (.*)$", re.sub(r"\\\n\s*", "", DOCKERFILE), re.MULTILINE)


def composed(*others: str) -> dict[str, Any]:
    return compose("compose.yaml", *others, STATION=str(DEPLOY))


@pytest.fixture(scope="module", params=[(), ("compose.serve.yaml",)], ids=["demo", "serve"])
def composition(request: pytest.FixtureRequest) -> dict[str, Any]:
    return composed(*request.param)


def test_the_linter_finds_nothing_in_the_dockerfile():
    hadolint = [Path(sys.executable).with_name("hadolint"), "--no-color", DEPLOY / "Dockerfile"]
    done = subprocess.run(hadolint, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_made_of_what_it_needs():
    """The build sees what is copied and nothing else, and all of it exists."""
    seen = re.findall("^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    assert sorted(seen) == sorted({name for names in copied for name in names})
    assert all((ROOT / name).exists() for name in seen)


def test_the_image_runs_as_nobody_else_and_says_how_it_is():
    assert instructions("USER") == ["10001:10001"] and "--uid 10001 " in instructions("RUN")[-1]
    for name in ("ENTRYPOINT", "CMD"):
        assert all(type(words) is list for words in map(json.loads, instructions(name)))
    (check,) = instructions("HEALTHCHECK")
    assert re.findall(r"9464/(\w+)", check) == ["readyz", "healthz"]
    assert re.fullmatch(r"[\w./-]+:\d[\w.-]+", instructions("ARG")[0].removeprefix("BASE="))


def test_its_configuration_listens_at_the_ports_of_the_image():
    config = load_config(DEPLOY / "container.toml", {})
    config.require_endpoints()
    addresses = [*config.input.bind, *config.output.bind, config.http.listen]
    assert [address.rpartition(":")[2] for address in addresses] == instructions("EXPOSE")[0].split()
    assert all("0.0.0.0" in address for address in addresses)
    assert instructions("COPY")[-1].split() == ["deploy/container.toml", "/etc/streamrnn/streamrnn.toml"]
    assert json.loads(instructions("CMD")[0]) == ["serve", "-c", "/etc/streamrnn/streamrnn.toml"]


def test_folders_are_those_of_the_service():
    unit, container = (load_config(DEPLOY / f"{name}.toml", {}).state for name in ("streamrnn", "container"))
    assert (unit.live, unit.snapshots) == (container.live, container.snapshots)
    volumes = json.loads(instructions("VOLUME")[0])
    mounts = composed("compose.serve.yaml")["services"]["streamrnn"]["volumes"]
    assert {container.live, container.snapshots, "/var/cache/streamrnn"} <= {
        mount["target"] for mount in mounts
    }
    assert {container.snapshots, "/var/cache/streamrnn"} == set(volumes)


def test_every_service_may_do_little_and_is_seen_from_here_alone(composition):
    for name, service in composition["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ())), name
        assert re.search(r":(v?\d+\.\d+\.\d+|local)$", service["image"]), name


def test_what_is_mounted_is_there(composition):
    binds = [
        Path(mount["source"])
        for service in composition["services"].values()
        for mount in service["volumes"]
        if mount["type"] == "bind"
    ]
    assert binds and all(path.exists() for path in binds)


def test_the_memory_of_the_live_state_belongs_to_the_user_of_the_image():
    (options,) = (
        volume["driver_opts"]
        for volume in composed("compose.serve.yaml")["volumes"].values()
        if "driver_opts" in volume
    )
    assert options["type"] == "tmpfs" and "uid=10001,gid=10001" in options["o"]


def test_names_that_the_services_have_for_each_other():
    services = composed()["services"]
    scrape = (DEPLOY / "prometheus/prometheus-compose.yml").read_text()
    named = re.findall(r'"(\w+):(\d+)"', scrape)
    assert (
        named == [("alertmanager", "9093"), ("streamrnn", "9464")] and dict(named).keys() <= services.keys()
    )
    sources = "".join(file.read_text() for file in (DEPLOY / "grafana/provisioning/datasources").iterdir())
    assert re.findall(r"http://(\w+):(\d+)", sources) == [("prometheus", "9090")] and "prometheus" in services
    providers = "".join(file.read_text() for file in (DEPLOY / "grafana/provisioning/dashboards").iterdir())
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    mounts = {mount["target"]: Path(mount["source"]) for mount in services["grafana"]["volumes"]}
    assert re.findall(r"path: (\S+)", providers) == [str(home.parent)]
    assert (mounts[str(home.parent)] / home.name).is_file()
