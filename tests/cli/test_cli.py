"""The command line as a user meets it: help, exit codes, and what each command calls with what."""

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from models import untrained

from streamrnn import __version__
from streamrnn.cli import main
from streamrnn.errors import ConfigError, UserError
from streamrnn.model.model_file import write_model
from streamrnn.replay.learned import Learning
from streamrnn.settings.config import config_text, describe_keys, load_config
from streamrnn.settings.http_section import Http
from streamrnn.settings.sections import Faults, Predict
from streamrnn.table import Reading

ROOT = Path(__file__).parents[2]
GOOD = '[input]\nconnect = ["tcp://localhost:5555"]\n[output]\nbind = ["tcp://127.0.0.1:5556"]\n'


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="streamrnn")


def process(*arguments: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "streamrnn"]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = [pytest.param(path, command, id=" ".join(path)) for path, command in [((), main), *commands()]]


@pytest.fixture
def stub(monkeypatch):
    """Put a module of recording functions in a real one's place; returns the calls it receives."""

    def put(module: str, *functions: str, result: object = None, **names: object) -> list[SimpleNamespace]:
        calls: list[SimpleNamespace] = []

        def recorder(name: str) -> Any:
            def record(*args: object, **kwargs: object) -> object:
                calls.append(SimpleNamespace(name=name, args=args, kwargs=kwargs))
                if isinstance(result, BaseException):
                    raise result
                return result

            return record

        stand_in = SimpleNamespace(**{name: recorder(name) for name in functions}, **names)
        monkeypatch.setitem(sys.modules, module, stand_in)
        return calls

    return put


# help


def test_the_commands_are_those_of_this_version():
    paths = {" ".join(path) for path, _ in commands()}
    assert paths == {
        *("bench", "size", "config", "config check", "demo", "inspect", "keygen", "record", "replay", "send"),
        *(
            "serve",
            "tail",
            "train",
            "import",
            "state",
            "state show",
            "state export",
            "state import",
            "state reset",
            "state hold",
            "state release",
            "events",
            "events list",
            "events follow",
            "events export",
            "events judge",
            "promote",
            "gateway",
            "worker",
            "cluster",
            "cluster init",
            "cluster status",
            "cluster check",
            "cluster reshard",
        ),
    }


@pytest.mark.parametrize(("path", "command"), ALL)
def test_help_has_a_summary_and_an_example(path, command):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert f"Usage: {' '.join(['streamrnn', *path])} " in result.stdout
    assert 10 < len(command.get_short_help_str(1000)) <= 60
    assert command.get_short_help_str(1000) in result.stdout
    assert f"Example:\n    {' '.join(['streamrnn', *path])} " in result.stdout


@pytest.mark.parametrize(("path", "command"), ALL)
def test_the_examples_are_correct_usage(path, command):
    epilog = command.epilog.replace("\\\n", "")  # a line goes on behind a backslash
    lines = [line.strip() for line in epilog.splitlines() if line.startswith("  streamrnn")]
    assert lines
    for line in lines:
        words = shlex.split(line)
        end = next((place for place, word in enumerate(words) if word in ("|", ">")), len(words))
        name, *rest = words[:end]
        leaf: Any = main
        while isinstance(leaf, click.Group):
            name, *rest = rest
            leaf = leaf.commands[name]
        leaf.make_context(name, rest)  # raises at wrong usage


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_option_is_explained(path, command):
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_help_of_config_check_names_every_key():
    text = run("config", "check", "--help").stdout
    for key, default, _ in describe_keys():
        assert f"  {key} = {default} " in text


def test_demo_listens_where_a_daemon_would():
    assert f"[default: {Http().listen}]" in " ".join(run("demo", "--help").stdout.split())


def test_help_imports_nothing_slow():
    code = (
        "import sys; from streamrnn.cli import main; main(sys.argv[1:], standalone_mode=False); "
        "print(sorted({'numba', 'numpy', 'pyarrow', 'zmq', 'pydantic'} & set(sys.modules)))"
    )
    for words in (["--help"], ["serve", "--help"], ["replay", "--help"], ["--version"]):
        result = process(*words, code=code)
        assert result.stdout.splitlines()[-1] == "[]", words


def test_version():
    result = process("--version")
    assert (result.returncode, result.stdout) == (0, f"streamrnn {__version__}\n")


# exit codes and streams


def test_config_check_prints_the_effective_file(tmp_path):
    file = tmp_path / "station.toml"
    file.write_text(GOOD)
    write_model(untrained(), tmp_path / "model.safetensors")
    result = process("config", "check", file)
    said = f"{file}: valid; at SIGHUP a daemon takes changes of model, shadow, streams.idle_timeout, "
    assert result.returncode == 0 and result.stderr.startswith(said)
    assert result.stdout == config_text(load_config(file, {}))
    copy = tmp_path / "copy.toml"
    copy.write_text(result.stdout)
    assert load_config(copy, {}) == load_config(file, {})


def test_config_check_warns_of_a_model_that_is_not_there(tmp_path):
    file = tmp_path / "station.toml"
    file.write_text(GOOD)
    result = run("config", "check", file)
    assert result.exit_code == 0
    assert f"{file}: warning: model: {tmp_path / 'model.safetensors'} does not exist yet\n" in result.stderr


def test_config_check_names_every_error(tmp_path):
    file = tmp_path / "station.toml"
    file.write_text('[input]\nsocket = "req"\n[streams]\ncapacity = 0\n')
    result = process("config", "check", file)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.splitlines() == [
        f'error: {file}: input.socket: "req" is not allowed; use "sub" or "pull"',
        f"error: {file}: streams.capacity: 0 is too small; use at least 1",
    ]


def test_config_check_wants_both_ends(tmp_path):
    file = tmp_path / "station.toml"
    file.write_text("")
    result = run("config", "check", file)
    assert (result.exit_code, result.stdout) == (78, "")
    assert [line.split(": ")[2] for line in result.stderr.splitlines()] == ["input", "output"]


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["serve", "--no-such-option"],
        ["config", "check"],
        ["replay"],
        ["replay", "data.csv", "-m", "m", "--exclude", "a"],
        ["replay", "data.csv", "--learn", "1.5"],
        ["replay", "data.csv", "-m", "m", "--speed", "0"],
        ["replay", "data.csv", "-m", "m", "--speed", "nan"],
        ["replay", "data.csv", "-m", "m", "--speed", "fast"],
        ["replay", "data.csv", "-m", "m", "--delimiter", ";;"],
        ["replay", "data.csv", "-m", "m", "--limit", "0"],
        ["send", "data.csv"],
        ["send", "data.csv", "--to", "localhost:5555"],
        ["send", "data.csv", "--to", "tcp://*:5555"],
        ["send", "data.csv", "--to", "tcp://a:1", "--rate", "1", "--speed", "1"],
        ["send", "data.csv", "--to", "tcp://a:1", "--block", "65536"],
        ["tail", "localhost:5556"],
        ["tail", "tcp://a:1", "--secret", "a.secret"],
        ["send", "data.csv", "--to", "tcp://a:1", "--server-key", "a.public"],
        ["bench", "--kernels-only", "--daemon-only"],
        ["demo", "--seconds", "0"],
        ["demo", "--faults"],
        ["state", "show", "folder", "--sort", "name"],
        ["state", "export", "folder"],
        ["state", "reset", "folder"],
        ["state", "reset", "folder", "pump-1", "--all"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(words):
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_wrong_usage_of_the_program_itself():
    result = process("serve", "a", "b")
    assert (result.returncode, result.stdout) == (2, "")
    assert "unexpected extra argument" in result.stderr


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (UserError("no rows\ngive a file with rows"), 1, "error: no rows\nerror: give a file with rows\n"),
        (ConfigError("bad model"), 78, "error: bad model\n"),
        (OSError(28, "No space left on device", "out.csv"), 1, "error: out.csv: No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stops_a_command_decides_its_exit_code(stub, failure, code, words):
    stub("streamrnn.client.tail", "tail", result=failure)
    result = run("tail", "tcp://localhost:5556")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", words)


def test_a_bug_is_not_hidden(stub):
    stub("streamrnn.client.tail", "tail", result=ZeroDivisionError())
    assert isinstance(run("tail", "tcp://localhost:5556").exception, ZeroDivisionError)


def tail_process(body: str) -> subprocess.Popen[str]:
    """A process that runs ``streamrnn tail``, whose work is ``body``."""
    code = f"""
import signal, sys, threading, types
def tail(*_):
    {body}
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.modules["streamrnn.client.tail"] = types.SimpleNamespace(tail=tail)
from streamrnn.cli import main
main(["tail", "tcp://localhost:5556"])
"""
    pipes: Any = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=buffered, **pipes)


def test_a_reader_that_leaves_ends_the_command_quietly():
    with tail_process("while True: print('x' * 80)") as child:
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(timeout=60) == 141


def test_output_that_nobody_reads_ends_the_command_quietly():
    with tail_process("sys.stdin.readline(); print('x')") as child:
        child.stdout.close()
        child.stdin.close()
        assert child.stderr.read() == ""
        assert child.wait(timeout=60) == 141


def test_an_interrupt_ends_the_command_quietly():
    with tail_process("print('ready', flush=True); threading.Event().wait()") as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60) == ("", "")
        assert child.returncode == 130


# what each command calls


def test_serve(stub, tmp_path, monkeypatch):
    calls = stub("streamrnn.daemon.serving", "serve", result=7)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "station.toml"
    file.write_text(GOOD + "[streams]\ncapacity = 9\n")
    result = run(
        *("serve", "-c", file, "m.safetensors", "--connect", "tcp://a:1", "--connect", "tcp://b:2"),
        *("--bind", "tcp://127.0.0.1:3", "--http", ""),
    )
    assert result.exit_code == 7
    config = calls[0].args[0]()
    assert calls[0].kwargs == {"reset": False, "reloads": True}
    assert config.model == tmp_path / "m.safetensors"
    assert config.input.connect == ("tcp://a:1", "tcp://b:2")
    assert config.output.bind == ("tcp://127.0.0.1:3",)
    assert (config.streams.capacity, config.http.listen) == (9, "")
    assert run("serve", "-c", file).exit_code == 7
    assert calls[1].args[0]() == load_config(file, {})
    assert (
        run(
            "serve", "m.safetensors", "--connect", "tcp://a:1", "-c", file, "--on-mismatch", "reset"
        ).exit_code
        == 7
    )
    assert calls[2].kwargs["reset"]


def test_serve_needs_both_ends(stub):
    calls = stub("streamrnn.daemon.serving", "serve")
    result = run("serve", "m.safetensors", "--connect", "tcp://localhost:5555")
    assert result.exit_code == 78
    assert result.stderr.startswith("error: output: nowhere to publish; ")
    assert "--bind" in result.stderr
    assert calls == []


def test_serve_names_a_wrong_flag(stub):
    stub("streamrnn.daemon.serving", "serve")
    result = run("serve", "--connect", "localhost:5555", "--bind", "tcp://*:1")
    assert result.exit_code == 78
    assert result.stderr.startswith('error: command line: input.connect[0]: "localhost:5555" is not an ')


@pytest.fixture
def replay_calls(stub):
    summary = SimpleNamespace(text=lambda: "3 rows", as_dict=lambda: {"rows": 3}, interrupted=False)
    stub("streamrnn.table", Reading=Reading)
    names = {"ReplayOptions": SimpleNamespace, "Learning": Learning}
    return stub("streamrnn.replay", "replay", result=summary, **names)


def test_a_configuration_is_checked_against_its_model(tmp_path):
    write_model(untrained(target="value"), tmp_path / "model.safetensors")
    file = tmp_path / "station.toml"
    file.write_text('[input]\nbind = ["tcp://127.0.0.1:1"]\n[output]\nbind = ["tcp://127.0.0.1:2"]\n')
    assert run("config", "check", file).exit_code == 0
    file.write_text(file.read_text() + "[adapt]\nenabled = true\n")
    result = run("config", "check", file)
    assert (result.exit_code, result.stdout) == (78, "")
    assert "adapt: only a model that forecasts each of its channels" in result.stderr
    file.write_text(file.read_text().partition("[adapt]")[0] + "[predict]\nbands = [0.9]\n")
    result = run("config", "check", file)
    assert (result.exit_code, result.stdout) == (78, "")
    assert "predict.bands: only forecasts of the next row turn out right or wrong" in result.stderr


def test_replay(replay_calls, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text('[faults]\ngap = "predict"\n')
    result = run(
        *("replay", "a.csv", "-m", "m.safetensors", "-o", "out", "--format", "ndjson", "--speed", "2"),
        *("--limit", "9", "--seq-column", "n", "--time-column", "t", "--stream-column", "s"),
        *("--delimiter", "tab", "--on-error", "skip", "--capacity", "7", "-c", file, "--every", "5"),
    )
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "3 rows\n")
    assert vars(replay_calls[0].args[0]) == {
        "source": "a.csv",
        "capacity": 7,
        "model": Path("m.safetensors"),
        "output": "out",
        "format": "ndjson",
        "speed": 2.0,
        "reading": Reading(seq="n", time=("t",), stream="s", delimiter="\t", on_error="skip", limit=9),
        "faults": Faults(gap="predict"),
        "predict": Predict(every=5),
        "memory": 0,
        "report": None,
        "progress": False,
        "learning": Learning(),
    }


def test_replay_without_a_model(replay_calls):
    words = ("--learn", "0.3", "--exclude", 'a,"b, c"', "--save-model", "m", "-o", "-")
    assert run("replay", "a.csv", *words).exit_code == 0
    options = vars(replay_calls[0].args[0])
    assert options["model"] is None
    assert options["learning"] == Learning(0.3, None, ("a", "b, c"), Path("m"))


def test_replay_by_default(replay_calls):
    assert run("replay", "-", "-m", "m.safetensors").exit_code == 0
    options = vars(replay_calls[0].args[0])
    assert options == options | {"source": "-", "output": "-", "format": None, "speed": None}
    assert options == options | {"reading": Reading(), "faults": Faults()}


def test_the_summary_as_json_stays_out_of_the_data(replay_calls):
    to_file = run("replay", "a.csv", "-m", "m", "--json", "-o", "out.csv")
    assert (json.loads(to_file.stdout), to_file.stderr) == ({"rows": 3}, "")
    to_stdout = run("replay", "a.csv", "-m", "m", "--json")
    assert (to_stdout.stdout, json.loads(to_stdout.stderr)) == ("", {"rows": 3})


def test_send(stub):
    stub("streamrnn.table", Reading=Reading)
    calls = stub("streamrnn.client.send", "send", result=0, SendOptions=SimpleNamespace)
    result = run(
        *("send", "a.csv", "--to", "tcp://*:1", "--bind", "--socket", "push", "-m", "m", "--rate", "50"),
        *("--block", "8", "--limit", "9", "--wait", "2", "--timeout", "3", "--delimiter", ";"),
        *("--seq-column", "n", "--time-column", "t", "--stream-column", "s"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert vars(calls[0].args[0]) == {
        "source": "a.csv",
        "to": "tcp://*:1",
        "bind": True,
        "socket": "push",
        "model": Path("m"),
        "reading": Reading(seq="n", time=("t",), stream="s", delimiter=";", limit=9),
        "rate": 50.0,
        "speed": None,
        "block": 8,
        "wait": 2,
        "timeout": 3.0,
        "progress": False,
        "keys": None,
    }


def test_tail(stub):
    calls = stub("streamrnn.client.tail", "tail", result=0)
    assert run("tail", "tcp://a:1").exit_code == 0
    flags = ["--json", "--topic", "p", "--topic", "q", "--limit", 2, "-m", "m", "--bind", "--bands", "0.5,.9"]
    assert run("tail", "tcp://*:1", *flags).exit_code == 0
    assert [call.args for call in calls] == [
        ("tcp://a:1", (), False, None, None, False, None, ()),
        ("tcp://*:1", ("p", "q"), True, 2, Path("m"), True, None, (0.5, 0.9)),
    ]


@pytest.mark.parametrize(
    ("words", "module", "name"),
    [
        (["send", "a.csv", "--to", "tcp://a:1"], "streamrnn.client.send", "SendOptions"),
        (["replay", "a.csv", "-m", "m"], "streamrnn.replay", "ReplayOptions"),
    ],
)
def test_the_flags_and_their_defaults_are_those_of_the_library(stub, words, module, name):
    """What no flag was given for is what the library would take by itself."""
    options = getattr(importlib.import_module(module), name)
    summary = SimpleNamespace(text=str, interrupted=False)
    names = {name: options, "Learning": Learning}
    calls = stub(module, words[0], result=summary if words[0] == "replay" else 0, **names)
    result = run(*words)
    assert result.exit_code == 0, result.output
    (given,) = calls[0].args
    required = {field.name for field in fields(options) if field.default is field.default_factory}
    expected = options(**{key: getattr(given, key) for key in required})
    if words[0] == "replay":  # of the configuration, whose defaults are those of the library
        assert given.predict.model_dump() == {
            "every": expected.predict.every,
            "horizon": expected.predict.horizon,
            "bands": expected.predict.bands,
        }
        given = replace(given, predict=expected.predict)
    assert given == expected


def test_a_socket_open_to_the_network_is_refused(stub):
    calls = stub("streamrnn.daemon.serving", "serve")
    result = run("serve", "--connect", "tcp://a:1", "--bind", "tcp://*:2")
    assert result.exit_code == 78
    assert result.stderr.startswith('error: output.bind: "tcp://*:2" would be open to the network; ')
    assert calls == []


def test_client_keys(stub, tmp_path):
    run("keygen", tmp_path / "daemon")
    run("keygen", tmp_path / "me")
    calls = stub("streamrnn.client.tail", "tail", result=0)
    flags = ["--server-key", tmp_path / "daemon.public", "--secret", tmp_path / "me.secret"]
    assert run("tail", "tcp://a:1", *flags).exit_code == 0
    (*_, keys, _) = calls[0].args
    assert keys.server == (tmp_path / "daemon.public").read_text().split()[-1]
    assert keys.secret == (tmp_path / "me.secret").read_text().split()[-1]


def test_bench(stub):
    calls = stub("streamrnn.bench", "bench", result=1)
    assert run("bench", "--seconds", "2", "--json").exit_code == 1
    run("bench", "--kernels-only")
    run("bench", "--daemon-only")
    assert [call.args[1:] for call in calls] == [
        (True, True, True),
        (False, True, False),
        (False, False, True),
    ]
    assert calls[0].args[0] == 2.0


def test_demo(stub):
    calls = stub("streamrnn.demo.live", "demo", result=0)
    assert run("demo").exit_code == 0
    assert run("demo", "--seconds", "3", "--http", "localhost:0", "--seed", "2").exit_code == 0
    assert [call.args for call in calls] == [(None, Http().listen, 1), (3.0, "localhost:0", 2)]
    assert run("demo", "--http", "9464").exit_code == 78


def test_demo_records(stub):
    calls = stub("streamrnn.demo.recording", "record", result=12)
    assert run("demo", "--record", "a.csv").stderr == "a.csv: 12 rows\n"
    assert run("demo", "--record", "a.csv", "--seconds", "9", "--seed", "3", "--faults").exit_code == 0
    assert [call.args for call in calls] == [(Path("a.csv"), 600.0, 1, False), (Path("a.csv"), 9.0, 3, True)]


def test_inspect(stub):
    stub(
        "streamrnn.state.commands", "is_snapshot", result=False, describe_snapshot=None, format_snapshot=None
    )
    stub("streamrnn.model.model_file", "read_model", result="the model")
    calls = stub("streamrnn.model.inspect", "describe_model", result={"cell": "lstm"}, format_description=str)
    table = run("inspect", "m.safetensors")
    assert (table.exit_code, table.stdout) == (0, "{'cell': 'lstm'}\n")
    assert json.loads(run("inspect", "m.safetensors", "--json").stdout) == {"cell": "lstm"}
    assert calls[0].args == ("the model", Path("m.safetensors"))


def test_inspect_a_snapshot(stub):
    calls = stub(
        "streamrnn.state.commands",
        "describe_snapshot",
        result={"streams": 3},
        is_snapshot=bool,
        format_snapshot=str,
    )
    assert run("inspect", "s.safetensors").stdout == "{'streams': 3}\n"
    assert json.loads(run("inspect", "s.safetensors", "--json").stdout) == {"streams": 3}
    assert calls[0].args == (Path("s.safetensors"),)


def test_state(stub):
    names = "show", "export", "import_", "take_back", "hold", "reset"
    calls = stub("streamrnn.state.commands", *names, result=1)
    target = Path("folder")
    for words, name, arguments in (
        (["show", target], "show", (target, False, None, "id", "", None)),
        (
            ["show", target, "--json", "--limit", 3, "--sort", "age", "--prefix", "p"],
            "show",
            (target, True, 3, "age", "p", None),
        ),
        (["export", target, "-o", "-"], "export", (target, "-", (), False, None)),
        (
            ["export", target, "-o", "out", "--stream", "a", "--stream", "b", "--force"],
            "export",
            (target, "out", ("a", "b"), True, None),
        ),
        (["import", "-", target], "import_", ("-", target, False)),
        (["import", "in", target, "--replace"], "import_", ("in", target, True)),
        (["import", "--as-of", "09:00", "--stream", "a", target], "take_back", (target, "09:00", ("a",))),
        (["show", target, "--as-of", "2h ago"], "show", (target, False, None, "id", "", "2h ago")),
        (["hold", target, "a", "b"], "hold", (target, ("a", "b"), None, False)),
        (["hold", target, "--all"], "hold", (target, (), "", False)),
        (["release", target, "--prefix", "p"], "hold", (target, (), "p", True)),
        (["reset", target, "a", "b"], "reset", (target, ("a", "b"), False)),
        (["reset", target, "--all"], "reset", (target, (), True)),
    ):
        assert run("state", *words).exit_code == 1
        assert (calls[-1].name, calls[-1].args) == (name, arguments)
