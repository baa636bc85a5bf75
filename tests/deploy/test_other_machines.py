"""Other machines, with --long: a checkout on the newest Python of Debian, and 64-bit Arm, emulated."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import CERTIFICATES
from daemons import wait_for
from readme import ROOT

QEMU = "qemu-aarch64-static"
TOOLS = {
    "debootstrap": "debootstrap",
    "git": "git",
    "pivot_root": "util-linux-extra",
    "unshare": "util-linux",
    QEMU: "qemu-user-static",
}
MAKE_S, DEMO_S, TESTS_S, EMULATED_S = 900.0, 300.0, 7200.0, 1800.0
MACHINES = [f"--platform=manylinux_2_{glibc}_aarch64" for glibc in range(17, 42)]  # trixie has 2.41
INSIDE = {name: value for name, value in os.environ.items() if name.lower().endswith(("_proxy", "_url"))} | {
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PIP_CERT": f"/{CERTIFICATES}",
}


def why_not() -> str:
    """Why no such machine can be made here; "" if one can."""
    if os.geteuid() != 0:
        return "a root of its own needs root"
    if missing := [package for tool, package in TOOLS.items() if not shutil.which(tool)]:
        return f"missing (Debian: apt-get install {' '.join(missing)})"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return f"namespaces are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


REASON = why_not()
pytestmark = [
    pytest.mark.skipif("not config.getoption('--long')", reason="makes a Debian: run with --long"),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]


def run(*words: str | Path, seconds: float, environment: dict[str, str] | None = None) -> str:
    """What a command prints to standard output; it must succeed."""
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=seconds)
    said = f"{done.stdout[-10_000:]}\n{done.stderr[-10_000:]}"
    assert done.returncode == 0, f"{words}: {done.returncode}: {said}"
    return done.stdout


def inside(root: Path, *words: str) -> list[str | Path]:
    """The command that runs another in ``root``."""
    return ["bash", ROOT / "tests" / "another_root.sh", root, *words]


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="streamrnn-root-") as folder:
        yield Path(folder) / "root"


# the newest Python


def with_newest_python(root: Path) -> str:
    """Makes a Debian whose ``python3`` is the newest there is, and says which."""
    options = ["--variant=minbase", "--include=ca-certificates,git"]
    run("debootstrap", *options, "sid", root, seconds=MAKE_S)
    shutil.copy(os.environ.get("PIP_CERT", f"/{CERTIFICATES}"), root / CERTIFICATES)
    # sid's list is valid for a week, and a mirror may be older
    (root / "etc/apt/apt.conf.d/late").write_text('Acquire::Check-Valid-Until "false";\n')
    look = inside(root, "sh", "-ec", "apt-get update -qq; apt-cache pkgnames python3.")
    names = run(*look, seconds=MAKE_S, environment=INSIDE)
    newest = max(int(minor) for minor in re.findall(r"^python3\.(\d+)-venv$", names, re.MULTILINE))
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", f"python3.{newest}-venv"]
    run(*inside(root, *install), seconds=MAKE_S, environment=INSIDE)
    (root / "usr/local/bin/python3").symlink_to(f"/usr/bin/python3.{newest}")
    return f"3.{newest}"


def clone(root: Path) -> str:
    """Where in ``root`` what is committed here has been cloned to."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout of git")
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, root / "srv/streamrnn", seconds=MAKE_S)
    return "/srv/streamrnn"


def streams(http: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{http}/api/streams", timeout=10) as answer:
        listed: list[dict[str, Any]] = json.load(answer)["streams"]
        return listed


def show_the_demo(root: Path, checkout: str, log: Path) -> None:
    """./tools/demo, until its page has all pumps; then Ctrl-C."""
    command = inside(root, f"{checkout}/tools/demo", "--http", "127.0.0.1:0")
    with (
        log.open("wb") as out,
        subprocess.Popen(command, env=INSIDE, stdout=out, stderr=out, start_new_session=True) as process,
    ):
        try:

            def page() -> str | None:
                assert process.poll() is None, log.read_text()
                found = re.search(r"open (http://\S+) .*\n(.*\n)*Ctrl-C", log.read_text())
                return found[1] if found else None

            http = wait_for(page, "the page", DEMO_S)
            wait_for(lambda: len(streams(http)) == 6, "the pumps")
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(DEMO_S) == 130, log.read_text()
        finally:
            process.kill()  # its namespace of processes ends with it
    assert "Traceback" not in log.read_text()


def test_a_checkout_on_the_newest_python_of_debian(root, tmp_path):
    version = with_newest_python(root)
    checkout = clone(root)
    show_the_demo(root, checkout, tmp_path / "log")
    said = run(*inside(root, f"{checkout}/tools/test"), seconds=TESTS_S, environment=INSIDE)
    asked = inside(root, f"{checkout}/.venv/bin/python", "--version")
    found = run(*asked, seconds=MAKE_S, environment=INSIDE)
    assert found.startswith(f"Python {version}.")
    print(found, said[said.find("short test summary") :])


# 64-bit Arm


@pytest.fixture(scope="module")
def arm() -> Iterator[Path]:
    """The root of an arm64 Debian with what streamrnn needs; nothing of it has run yet."""
    with tempfile.TemporaryDirectory(prefix="streamrnn-arm-") as folder:
        root = Path(folder)
        packages = "--include=libpython3-stdlib,python3-minimal"
        options = ["--arch=arm64", "--variant=minbase", "--foreign", packages]
        run("debootstrap", *options, "trixie", root, seconds=MAKE_S)
        for package in root.glob("var/cache/apt/archives/*.deb"):
            unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -C "$2" --keep-directory-symlink -xpf -'
            run("sh", "-ec", unpack, "sh", package, root, seconds=MAKE_S)
        shutil.copy(shutil.which(QEMU), root / "usr/bin")
        for name in ("streamrnn", "tools"):
            shutil.copytree(ROOT / name, root / "opt" / name)
        version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", f"--target={root}/opt/site"]
        wheels = ["--only-binary=:all:", f"--python-version={version}", *MACHINES]
        locked = f"--constraint={ROOT}/requirements.lock"
        run(*pip, *wheels, locked, *needed, seconds=MAKE_S)
        yield root


@pytest.mark.parametrize("cpu", ["cortex-a72", "neoverse-v1"])
def test_the_same_bits_on_64_bit_arm(arm, cpu):
    """NEON, and SVE as well, which the second has; compiled for each by name: /proc/cpuinfo is not theirs."""
    here = run(sys.executable, ROOT / "tools" / "digest.py", seconds=EMULATED_S)
    command = ["chroot", arm, f"/usr/bin/{QEMU}", "/usr/bin/python3", "/opt/tools/digest.py"]
    compiled_for = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "PYTHONPATH": "/opt:/opt/site"}
    emulated = {"QEMU_CPU": "max,pauth-impdef=on"}  # all there is, but signs addresses in a way that is quick
    there = run(*command, seconds=EMULATED_S, environment=INSIDE | compiled_for | emulated)
    assert len(here.splitlines()) == 6
    assert there == here
