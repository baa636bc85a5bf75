"""Containers by Debian's podman, with a base image of Debian's own: no engine and no registry is needed."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daemons import COMPILE_S, wait_for

ROOT = Path(__file__).parents[1]
TOOLS = ("buildah", "podman", "crun", "debootstrap")  # and Debian's packages
BASE, IMAGE = "localhost/python:base", "localhost/streamrnn:local"
BUILD_S = 600.0  # for a base image and the image, whose wheels come from the package index
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# Some kernels or sandboxes mount the control groups of both versions, and allow no limit to be raised.
NAMESPACE = "mount --make-rprivate / && umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"
MODEST = ["--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--network=none"]


def why_not() -> str:
    """Why no container can be made here; "" if one can."""
    if os.geteuid() != 0:
        return "containers from scratch need root"
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"missing (Debian: apt-get install --no-install-recommends {' '.join(missing)})"
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", NAMESPACE], capture_output=True, text=True)
    return f"mounts are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


def compose(*files: str, **environment: str) -> dict[str, Any]:
    """What `docker compose` makes of files in deploy/."""
    named = [word for file in files for word in ("--file", str(ROOT / "deploy" / file))]
    program = Path(sys.executable).with_name("docker-compose")
    done = subprocess.run(
        [program, *named, "config", "--format=json"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    config: dict[str, Any] = json.loads(done.stdout)
    return config


class Containers:
    """podman and buildah with images and containers of their own, in ``folder``."""

    def __init__(self, folder: Path, pid: int):
        self._folder = folder
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--"]

    def _command(self, tool: str, *words: str) -> list[str]:
        return [*self._enter, tool, f"--root={self._folder}/images", f"--runroot={self._folder}/run", *words]

    def run(self, *words: str, tool: str = "podman", check: bool = True, input: str = "") -> str:  # noqa: A002
        """What a command prints to standard output; unless ``check`` is False, it must succeed."""
        command = self._command(tool, *words)
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=BUILD_S)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command("podman", *words), stdout=subprocess.PIPE, text=True)

    def make_base(self) -> None:
        """Debian with Python, as small as it gets, and this machine's certificates."""
        root = self._folder / "debian"
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(
            ["debootstrap", "--variant=minbase", packages, suite, root], check=True, capture_output=True
        )
        shutil.copy(os.environ.get("PIP_CERT", f"/{CERTIFICATES}"), root / CERTIFICATES)
        made = self.run("from", "scratch", tool="buildah").strip()
        self.run("add", "--quiet", made, str(root), "/", tool="buildah")
        self.run(
            "config", f"--env=PIP_CERT=/{CERTIFICATES}", "--env=PATH=/usr/sbin:/usr/bin", made, tool="buildah"
        )
        self.run("commit", "--quiet", "--rm", made, BASE, tool="buildah")
        shutil.rmtree(root)

    def build(self) -> None:
        """deploy/Dockerfile on that base, from the checkout."""
        how = ["--isolation=chroot", "--format=docker", f"--build-arg=BASE={BASE}"]
        file = f"--file={ROOT}/deploy/Dockerfile"
        self.run("build", *how, file, f"--tag={IMAGE}", str(ROOT), tool="buildah")

    def start(self, name: str, config: dict[str, Any]) -> None:
        """A service of a composition as a container."""
        service = config["services"][name]
        words = [f"--name={name}", *MODEST]
        words += ["--read-only", "--read-only-tmpfs=false"] if service["read_only"] else []
        words += [f"--cap-drop={capability}" for capability in service["cap_drop"]]
        words += [f"--security-opt={option.removesuffix(':true')}" for option in service["security_opt"]]
        words += [f"--tmpfs={mount}" for mount in service.get("tmpfs", ())]
        for mount in service["volumes"]:
            ending = ":ro" if mount.get("read_only") else ""
            words.append(f"--volume={mount['source']}:{mount['target']}{ending}")
            if driver := (config["volumes"].get(mount["source"]) or {}).get("driver_opts"):
                options = [f"--opt={key}={value}" for key, value in driver.items()]
                self.run("volume", "create", mount["source"], *options, check=False)  # one there stays
        program, *arguments = service.get("entrypoint") or [""]
        words += [f"--entrypoint={program}"] if program else []
        self.run("run", "--detach", *words, IMAGE, *arguments, *(service.get("command") or ()))

    def wait_until_healthy(self, name: str) -> None:
        """By the check of the image."""

        def healthy() -> bool:
            state = self.run("inspect", "--format={{.State.Status}}", name).strip()
            assert state == "running", self.said(name)
            return "unhealthy" not in self.run("healthcheck", "run", name, check=False)

        wait_for(healthy, f"{name} to be healthy", COMPILE_S)

    def said(self, name: str) -> str:
        """Both outputs of a container."""
        return subprocess.run(
            self._command("podman", "logs", name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout

    def stop(self, name: str) -> int:
        """Sends SIGTERM; its exit code."""
        self.run("stop", "--time=30", name)
        return int(self.run("inspect", "--format={{.State.ExitCode}}", name))


@contextmanager
def containers(folder: Path) -> Iterator[Containers]:
    """An empty engine; all of its containers end with it."""
    hold = ["unshare", "--mount", "sh", "-c", f"{NAMESPACE} && echo held && cat"]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "held\n"
        made = Containers(folder, holder.pid)
        try:
            yield made
        finally:
            made.run("rm", "--all", "--force", "--time=0", check=False)
            holder.stdin.close()
