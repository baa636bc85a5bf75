"""Completion of the command line: in shells that somebody types into, and without loading what is slow."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEADLINE_S = 20.0
SLOW = {"numba", "numpy", "pyarrow", "pydantic", "safetensors", "starlette", "zmq"}
README = (Path(__file__).parents[2] / "deploy/README.md").read_text()
STARTS = {  # without anybody's settings
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
BEFORE = {"zsh": "autoload -U compinit && compinit -u; "}  # which the README takes for granted
FILES = ("monday.csv", "model.safetensors", "notes.md", "station.toml", "data/tuesday.csv", "data/a b.csv")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of several kinds."""
    folder = tmp_path_factory.mktemp("place")
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def offered(place: Path, line: str) -> list[str]:
    """What bash is told for the last word of ``line``: kind,word."""
    asked = {"_STREAMRNN_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    command = [sys.executable, "-m", "streamrnn"]
    done = subprocess.run(command, cwd=place, env=os.environ | asked, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("st", "plain,state"),
        ("state re", "plain,release plain,reset"),
        ("train --cell ", "plain,lstm plain,gru plain,rnn plain,slstm"),
        ("replay --on-e", "plain,--on-error"),
        ("replay ", "plain,data/ plain,monday.csv"),
        ("replay monday.csv -m mo", "plain,model.safetensors"),
        ("train monday.csv data/t", "plain,data/tuesday.csv"),
        ("serve -c ", "plain,data/ plain,station.toml"),
        ("config check s", "plain,station.toml"),
        ("replay d", "file,d"),  # the shell goes on into the folder
        ("replay data/", "file,data/"),  # and quotes what has a space
        ("replay n", "file,n"),  # no kind of file is out of reach
        ("replay nowhere/", "file,nowhere/"),
    ],
)
def test_what_is_offered(place, line, words):
    assert offered(place, f"streamrnn {line}") == words.split()


def test_every_file_of_a_command_is_completed_as_one():
    from readme import commands

    from streamrnn.cli import main

    for name, command in commands(main).items():
        for parameter in command.params:
            if parameter.metavar and re.search("FILE|MODEL|OUT|TABLE|HTML", parameter.metavar):
                offers = parameter.type.shell_complete(command.make_context, parameter, "no such ")
                assert [offer.type for offer in offers] == ["file"], f"{name} {parameter.name}"


def test_completion_loads_nothing_slow():
    program = "import sys, streamrnn.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not SLOW & set(loaded.stdout.split())


class Terminal:
    """A shell at a terminal."""

    def __init__(self, handle: int):
        self._handle, self.seen = handle, ""

    def type(self, keys: str, until: str) -> None:
        """Types, and reads until the terminal shows what matches ``until``, colours and movements aside."""
        os.write(self._handle, keys.encode())
        end, begun = time.monotonic() + DEADLINE_S, len(self.seen)
        while not re.search(until, re.sub(r"\x1b[\[(][^A-Za-z]*[A-Za-z]", "", self.seen[begun:])):
            left = end - time.monotonic()
            assert left > 0, f"waited in vain for {until!r} after {keys!r}: {self.seen[begun:]!r}"
            if select.select([self._handle], [], [], left)[0]:
                self.seen += os.read(self._handle, 4096).decode(errors="replace")


@contextmanager
def terminal(shell: str, place: Path) -> Iterator[Terminal]:
    """``shell`` with ``streamrnn`` on its path and the README's line said, in ``place``."""
    told = re.search(rf"`([^`]*_STREAMRNN_COMPLETE={shell}_source[^`]*)`", README)
    assert told
    line = BEFORE.get(shell, "") + told[1].replace("\\|", "|")  # which stands in a table
    pid, handle = pty.fork()
    if pid == 0:
        os.chdir(place)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        settings = {"PATH": path, "TERM": "xterm", "HOME": str(place), "PS1": "> ", "LANG": "C.UTF-8"}
        os.execvpe(shell, [shell, *STARTS[shell]], settings)
    try:
        opened = Terminal(handle)
        opened.type(f"{line}\r", until="\n")
        opened.type("echo rea''dy\r", until=r"[\r\n]ready")
        yield opened
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(handle)


@pytest.mark.parametrize("shell", STARTS)
def test_a_shell_completes_commands_files_and_choices(shell, place):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is missing (Debian: apt-get install {shell})")
    with terminal(shell, place) as opened:
        opened.type("streamrnn rep\t", until="replay ")
        opened.type("mon\t", until="monday.csv ")
        opened.type("-m mo\t", until="model.safetensors ")
        opened.type("--form\t", until="--format ")
        opened.type("par\t", until="parquet ")
