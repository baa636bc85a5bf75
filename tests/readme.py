"""The README's blocks of code and its command lines, by section."""

import re
import shlex
import socket
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text under a heading, down to the next one of its level or above."""
    level = re.search(rf"^(#+) {re.escape(title)}$", README, re.MULTILINE)[1]
    text = README.partition(f"{level} {title}\n")[2]
    return re.split(rf"^#{{1,{len(level)}}} ", text, flags=re.MULTILINE)[0]


def sections() -> list[str]:
    """The titles of all sections of the second level."""
    return re.findall(r"^## (.*)$", README, re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def command_lines(title: str) -> list[list[str]]:
    """The words of each command line of a section, by the Python and the checkout of this test."""
    found = []
    for block in blocks(section(title), "sh"):
        for line in block.splitlines():
            program, name, *words = shlex.split(line, comments=True)
            if program == "python":
                found.append([sys.executable, str(ROOT / name), *words])
            else:
                assert program == "streamrnn"
                found.append([sys.executable, "-m", "streamrnn", name, *words])
    return found


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """Those of a group and of the groups in it, by their words."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = command
    return found
