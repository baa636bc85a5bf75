"""Writes the manual page, deploy/streamrnn.1, from the help of the commands: python tools/manual.py

A wheel installs it into share/man/man1, where `man streamrnn` finds it beside the program.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import click

from streamrnn import __version__
from streamrnn.cli import main
from streamrnn.settings.config import describe_keys

PAGE = Path(__file__).parents[1] / "deploy/streamrnn.1"
FILES = (
    ("~/.cache/streamrnn", "Compiled kernels; NUMBA_CACHE_DIR names another folder. It may be removed."),
    ("/etc/streamrnn", "Configuration, models and keys of the systemd service."),
    ("/run/streamrnn, /var/lib/streamrnn", "Its live state, and its snapshots."),
)


def plain(text: str) -> str:
    """``text`` in roff, as it is: nothing in it is a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


def paragraphs(text: str) -> str:
    return "\n.PP\n".join(plain(" ".join(paragraph.split())) for paragraph in text.split("\n\n"))


def entries(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f".TP\n\\fB{plain(name)}\\fR\n{plain(text)}" for name, text in pairs)


def sections(command: click.Command, context: click.Context) -> list[str]:
    """What is said of a command, or of each of a group and of itself before them."""
    usage = plain(command.get_usage(context).removeprefix("Usage: "))
    parts = [f'.SS "{usage}"', paragraphs(command.help or "")]
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            parts += sections(part, click.Context(part, context, name))
        return parts
    records = (
        option.get_help_record(context) for option in command.params if isinstance(option, click.Option)
    )
    parts.append(entries(record for record in records if record))
    lines = (command.epilog or "").removeprefix("\b\nExample:\n")
    return [*parts, f".PP\n.nf\n{plain(lines)}\n.fi"]


def page() -> str:
    """The page."""
    context = click.Context(main, info_name="streamrnn", **main.context_settings)
    first, *others = (main.help or "").split("\n\n")
    parts = [
        f'.TH STREAMRNN 1 "" "streamrnn {__version__}" "User Commands"',
        ".SH NAME",
        f"streamrnn \\- {plain(first[0].lower() + first[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        ".B streamrnn\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        paragraphs("\n\n".join(others)),
        ".SH COMMANDS",
    ]
    for name, command in main.commands.items():
        parts += sections(command, click.Context(command, context, name))
    parts += [".SH CONFIGURATION", "The keys of a TOML file, and their defaults."]
    parts.append(entries((f"{key} = {default}", text) for key, default, text in describe_keys()))
    parts += [".SH FILES", entries(FILES)]
    return "\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
