"""README, --help, configuration keys and metric names agree with the code."""

import re
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from readme import commands

from streamrnn.cli import main
from streamrnn.recordings.formats import FORMATS
from streamrnn.settings.config import Config, config_text, describe_keys, live_names
from streamrnn.stats import WHY
from streamrnn.web.metrics import METRICS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_says_what_may_change_while_the_daemon_runs():
    (told,) = re.findall(r"begins anew\.\n((?:`[\w.]+`(?:,| and)?\s)+)can change;", README)
    assert re.findall(r"`([\w.]+)`", told) == live_names()


def test_configuration_in_readme_is_every_key_with_its_default():
    text = next(block for block in blocks("toml") if "[http]" in block)
    assert tomllib.loads(text) == tomllib.loads(config_text(Config()))
    told = dict(re.findall(r"^(\w+) = .*?#\s(.*)$", text, re.MULTILINE))
    for key, _, description in describe_keys():
        assert description in text, f"{key} is described otherwise in README"
    assert told


def test_metrics_in_readme_are_those_served():
    rows = re.findall(r"^\| `(streamrnn_\w+)` \| (\w+) \| (.*) \|$", README, re.MULTILINE)
    assert rows == [(name, kind, text) for name, (kind, text) in METRICS.items()]


def test_reasons_in_readme_are_those_counted():
    table = README.partition("| reason | what it is | what to do |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", table, re.MULTILINE)
    assert rows == [(reason, *said) for reason, said in WHY.items()]


def test_formats_in_readme_are_those_read_and_their_extras_bring_the_library():
    table = README.partition("| format | of it | files | `pip install` |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\S+) \| (.*) \| (.*) \| (?:`'streamrnn\[(\w+)\]'` )?\|$", table, re.MULTILINE)
    told = [(name, holds, tuple(re.findall(r"`(.*?)`", files)), extra) for name, holds, files, extra in rows]
    assert told == [(row.name, row.holds, row.suffixes, row.extra) for row in FORMATS]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for row in FORMATS:
        if row.library:
            assert any(need.casefold().startswith(row.library) for need in extras[row.extra]), row.extra


def test_commands_in_readme_are_those_there_are():
    rows = re.findall(r"^\| `streamrnn ([a-z ]*[a-z])", README, re.MULTILINE)
    assert sorted(row.strip() for row in rows) == sorted(commands(main))


@pytest.mark.parametrize("name", sorted(commands(main)))
def test_every_command_has_help_with_an_example(name):
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert f"streamrnn {name}" in result.output.split("Example:")[1]


def shell_lines() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("streamrnn ")]


@pytest.mark.parametrize("line", shell_lines())
def test_command_lines_in_readme_parse(line):
    words = line.split()[1:]
    command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words, resilient_parsing=False)


def test_scripts_in_readme_exist():
    for script in set(re.findall(r"\./(tools/\w+)", README)):
        assert (ROOT / script).stat().st_mode & 0o111, script
