"""A machine of its own, with a real systemd and streamrnn installed as a service, in a few namespaces."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemons import COMPILE_S, DEADLINE_S, wait_for

import streamrnn

DEPLOY = Path(__file__).parents[1] / "deploy"
SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "pivot_root", "setpriv", "systemctl", "systemd-sysusers", "ps")
NAMESPACES = ("--fork", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup")
# What pip would install, of the packages that the tests run with.
STREAMRNN = """\
#!/opt/streamrnn/bin/python
import sys
from streamrnn.cli import main
sys.exit(main())
"""


def why_not() -> str:
    """Why no such machine can run here; "" if one can."""
    if os.geteuid() != 0:
        return "a machine with a systemd of its own needs root"
    if not SYSTEMD.exists():
        return f"{SYSTEMD} is missing (Debian: apt-get install systemd)"
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"{', '.join(missing)} missing (Debian: apt-get install systemd procps util-linux-extra)"
    mount = ["unshare", *NAMESPACES, "mount", "-t", "cgroup2", "cgroup2", "/mnt"]
    if (tried := subprocess.run(mount, capture_output=True, text=True)).returncode:
        return f"namespaces and mounts are not allowed here: {tried.stderr.strip()}"
    return ""


def make_files(folder: Path) -> None:
    """What the root of a machine begins with: root's account, streamrnn in /opt, and a checkout's deploy/."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = f"opt/streamrnn/lib/{version}/site-packages"
    for name, text in {
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": "root:x:0:\n",
        "opt/streamrnn/pyvenv.cfg": "home = /opt/streamrnn/python/bin\n",
        f"{library}/packages.pth": "/opt/streamrnn/site\n",
        "opt/streamrnn/bin/streamrnn": STREAMRNN,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "opt/streamrnn/bin/streamrnn").chmod(0o755)
    (folder / "opt/streamrnn/bin/python").symlink_to(f"/opt/streamrnn/python/bin/{version}")
    (folder / "etc/systemd/system").mkdir(parents=True)
    (folder / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/basic.target")
    shutil.copytree(Path(streamrnn.__file__).parent, folder / library / "streamrnn")
    shutil.copytree(DEPLOY, folder / "checkout/deploy")


class Machine:
    """A running one. ``pid`` is its first process, as this machine numbers it."""

    def __init__(self, pid: int):
        self.pid = pid

    def path(self, inside: str) -> Path:
        """Where a path of the machine is seen from outside: a socket there can be connected to."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command run inside prints; unless ``check`` is False, it must succeed."""
        enter = ["nsenter", "--target", str(self.pid), "--all", "--", *command]
        done = subprocess.run(
            enter, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_S
        )
        assert not check or done.returncode == 0, (
            f"{command} exited with {done.returncode}: {done.stdout}{done.stderr}"
        )
        return done.stdout


@contextmanager
def machine(folder: Path, files: Path, disk: Path) -> Iterator[Machine]:
    """Boots one whose root is a copy of ``files`` and whose /var is ``disk``; power is cut in the end.

    ``folder`` is empty and for this one boot.
    """
    script = Path(__file__).with_name("machine.sh")
    places = (folder, files, disk, sys.base_prefix, sysconfig.get_path("purelib"))

    def said() -> str:
        return os.pread(log.fileno(), 1 << 16, 0).decode()

    with (
        Path(folder, "log").open("w+") as log,
        subprocess.Popen(
            ["unshare", "--mount", "bash", script, *map(str, places)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            pid = folder / "pid"
            wait_for(lambda: pid.exists() or process.poll() is not None, "the machine's first process")
            assert pid.exists(), said()
            made = Machine(int(pid.read_text()))
            wait_for(made.path("/run/systemd/private").exists, f"systemd: {said()}")
            made.run("systemctl", "is-system-running", "--wait")
            yield made
        finally:
            assert process.stdin
            process.stdin.close()
            assert process.wait(DEADLINE_S) == 0, said()
