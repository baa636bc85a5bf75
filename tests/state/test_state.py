"""`streamrnn state` and `streamrnn inspect`, against running daemons and the files that they leave."""

import dataclasses
import json
import os
import pty
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from click.testing import CliRunner, Result
from daemons import DEADLINE_S, PROBE, Daemon, Line, rows_answers, serving, wait_for

from streamrnn.cli import main
from streamrnn.compiling.jit import compiled
from streamrnn.daemon.control import CALLERS
from streamrnn.errors import UserError
from streamrnn.state.ask import LINE_BYTES, SOCKET, address_in, ask
from streamrnn.state.target import memory_file
from streamrnn.streams.live import hold_lock
from streamrnn.streams.record import CHECK, DEGRADED, check_of, id_check
from streamrnn.streams.slots import id_words
from streamrnn.streams.snapshot import Snapshot, read_from, read_snapshot, write_snapshot, write_to
from streamrnn.wire.frame import HELD

ROWS = np.random.default_rng(3).normal(0, 10, (60, 3)).astype(np.float32)
LONG = "a folder whose path is too long for a socket " * 4


def state(*words: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["state", *map(str, words)], stdin)


def done(*words: object, stdin: bytes | None = None) -> Result:
    """What a command said that must succeed."""
    result = state(*words, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def refused(*words: object) -> str:
    """The error of a command that must fail."""
    result = state(*words)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return next(line for line in result.stderr.splitlines() if line.startswith("error: "))


def shown(target: Path, *flags: str) -> dict[str, dict[str, Any]]:
    """What `show --json` says of each stream but those that open lines."""
    streams = [json.loads(line) for line in done("show", target, "--json", *flags).stdout.splitlines()]
    return {found["stream"]: found for found in streams if not found["stream"].startswith(PROBE)}


def send(line: Line, name: str, rows: range) -> list[Any]:
    """The answers to rows of ROWS, sent by their numbers."""
    for row in rows:
        line.send(name, ROWS[row], seq=row)
    return line.answers(len(rows))


def records(target: Path) -> dict[str, bytes]:
    """The bits of every stream of a daemon."""
    with memory_file() as file:
        assert ask(target, "", {"do": "export"}, file.fileno())
        file.seek(0)
        snapshot = read_from(file, "")
    return {
        bytes(name).decode(): record.tobytes()
        for name, record in zip(snapshot.ids, snapshot.records, strict=True)
    }


@compiled
def _check_of(words, count, name):
    return check_of(words, 0, count, id_check(name, 0))


def forged(snapshot: Snapshot, change: Callable[[np.ndarray], None]) -> Snapshot:
    """A snapshot whose first record was changed, and its check with it."""
    records = snapshot.records.copy()
    change(records[0])
    name = snapshot.ids[0].view(np.uint64).copy()
    records[0].view(np.uint64)[CHECK] = _check_of(records[0].copy(), snapshot.layout["past_at"], name)
    return dataclasses.replace(snapshot, records=records)


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """An empty folder on tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def here(model_file: Path, memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a live state and snapshots."""
    settings = {"state.live": str(memory / "here"), "state.snapshots": str(tmp_path_factory.mktemp("here"))}
    with serving(model_file, settings) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def there(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of few streams, with snapshots alone, in a folder whose path is long."""
    folder = tmp_path_factory.mktemp(LONG)
    with serving(model_file, {"state.snapshots": str(folder), "streams.capacity": 5}) as daemon:
        yield daemon


@pytest.fixture
def live(here: Daemon) -> Path:
    return Path(here.config.state.live)


@pytest.fixture
def exported(here: Daemon, live: Path, tmp_path: Path) -> Snapshot:
    """A stream of ``here``, which has its state from 10 rows."""
    with here.line() as line:
        send(line, "exported", range(10)) if "exported" not in shown(live) else None
    done("export", live, "-o", tmp_path / "exported.safetensors", "--stream", "exported")
    return read_snapshot(tmp_path / "exported.safetensors")


@contextmanager
def nobody_at(folder: Path, attempt: Callable[[Path], Any]) -> Iterator[str]:
    """What ``attempt`` raises or returns as a user who has no right to anything."""
    read, write = os.pipe()
    opened = os.open(folder, os.O_PATH)  # the way there may be closed to that user
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setuid(65534)
        try:
            said = repr(attempt(Path(f"/proc/self/fd/{opened}")))
        except BaseException as error:
            said = repr(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.close(opened)
    os.waitpid(child, 0)
    with os.fdopen(read) as said:
        yield said.read()


# what is shown


def test_every_look_is_consistent_while_frames_flow(here, live):
    names = [f"flow-{k}" for k in range(8)]
    ended = threading.Event()
    seen: list[int] = []
    with here.line() as line:

        def flow() -> None:
            seq = 0
            while not ended.is_set():
                for name in names:
                    line.send(name, ROWS[seq % 60], seq=seq)
                seq += 1

        sender = threading.Thread(target=flow)
        sender.start()
        try:
            wait_for(lambda: len(shown(live, "--prefix", "flow")) == 8, "all streams")
            for _ in range(10):
                streams = shown(live, "--prefix", "flow")
                assert [*streams] == names
                for found in streams.values():
                    assert found["step"] == found["seq"] + 1
                    assert (found["health"], found["epoch"], found["ended"]) == ("ok", 0, None)
                    assert 0 <= found["age_s"] < DEADLINE_S
                    assert 0 < found["largest_hidden"] < 1
                seen.append(sum(found["step"] for found in streams.values()))
        finally:
            ended.set()
            sender.join()
    assert seen == sorted(seen) and seen[0] < seen[-1]  # a starved sender may send nothing between two looks


def test_show_as_a_table(there):
    folder = Path(there.config.state.snapshots)
    with there.line() as line:
        send(line, "b", range(3))
        send(line, "a\n", range(2))
    result = done("show", folder)
    assert "3 streams of the model" in result.stderr
    assert f"in the daemon that runs over {folder}" in result.stderr
    header, first, second, probe = result.stdout.splitlines()
    assert header.split() == ["stream", "step", "seq", "age", "epoch", "health", "|h|", "|c|"]
    assert first.split()[:3] == ["'a\\n'", "2", "1"]
    assert second.split()[:3] == ["b", "3", "2"]
    assert first.split()[3][-1] in "smhd"
    assert probe.startswith(PROBE)
    assert list(shown(folder, "--sort", "step", "--limit", "1")) == ["b"]
    assert list(shown(folder, "--sort", "age", "--prefix", "")) == ["b", "a\n"]
    assert list(shown(folder, "--prefix", "b")) == ["b"]


def test_health_is_shown(exported, tmp_path):
    def degrade(record: np.ndarray) -> None:
        record.view(np.uint32)[DEGRADED] = 3
        record[exported.layout["cell_at"] :][:5] = 9

    file = tmp_path / "degraded.safetensors"
    with file.open("wb") as opened:
        write_to(opened, forged(exported, degrade))
    (found,) = shown(file).values()
    assert (found["health"], found["degraded_steps"], found["saturated"]) == ("degraded", 3, 1.0)
    assert (found["age_s"], found["largest_cell"]) == (None, 9.0)
    assert "degraded (100% saturated)" in done("show", file).stdout


def test_a_configuration_names_the_folders(here, there, live, tmp_path):
    file = tmp_path / "station.toml"
    file.write_text(f'[state]\nlive = "{live}"\nsnapshots = "{here.config.state.snapshots}"\n')
    assert shown(file).keys() == shown(live).keys() == shown(Path(here.config.state.snapshots)).keys()
    file.write_text(f'[state]\nsnapshots = "{there.config.state.snapshots}"\n')
    assert shown(file).keys() == shown(Path(there.config.state.snapshots)).keys()
    file.write_text("")
    assert "keeps no state; set state.live or state.snapshots" in refused("show", file)
    file.write_text("[state]\nsnapshot = 3\n")
    assert state("show", file).exit_code == 78


# moved and reset


def test_a_stream_that_moves_goes_on_bit_for_bit(here, there, live, tmp_path):
    folder = Path(there.config.state.snapshots)
    expected = rows_answers(here.engine(), "moves", ROWS, np.arange(60, dtype=np.uint64))
    with here.line() as line:
        assert send(line, "moves", range(20)) == expected[:20]
    with there.line() as line:
        parcel = done("export", live, "-o", "-", "--stream", "moves").stdout_bytes
        assert (
            "imported 1 stream, of which 0 were there already"
            in done("import", "-", folder, stdin=parcel).stderr
        )
        first, *rest = send(line, "moves", range(20, 40))
        assert first == expected[20]._replace(flags="WARMING|RESTORED")
        assert rest == expected[21:40]
        # and back again, over what stayed behind
        file = tmp_path / "moves.safetensors"
        done("export", folder, "-o", file, "--stream", "moves")
    before = records(live)
    assert "there already: 'moves'" in refused("import", file, live)
    assert records(live) == before
    done("import", file, live, "--replace")
    with here.line() as line:
        first, *rest = send(line, "moves", range(40, 60))
    assert first == expected[40]._replace(flags="WARMING|RESTORED")
    assert rest == expected[41:]
    done("reset", folder, "--all")
    assert {found["ended"] for found in shown(folder).values()} == {"request"}


def test_reset_begins_one_stream_anew(here, live):
    expected = rows_answers(here.engine(), "reset", ROWS, np.arange(60, dtype=np.uint64))
    with here.line() as line:
        send(line, "reset", range(10))
        send(line, "stays", range(10))
        before = records(live)
        assert "no such stream: 'nobody', '\\udcff'" in refused("reset", live, "reset", "nobody", "\udcff")
        assert records(live) == before
        done("reset", live, "reset", "reset")
        assert shown(live)["reset"]["ended"] == "request"
        assert {name for name, bits in records(live).items() if bits != before[name]} == {
            name for name in before if name.startswith("reset")
        }
        resets = here.count("state_resets_total{request}")
        (answer,) = send(line, "reset", range(10, 11))
        assert (answer.flags, answer.epoch, answer.step) == ("WARMING|RESET", 1, 1)
        assert answer.bits[16:] == rows_answers(here.engine(), "x", ROWS[10:11])[0].bits[16:]
        assert here.count("state_resets_total{request}") == resets + 1
        assert [answer.bits for answer in send(line, "stays", range(10, 20))] == [
            a.bits for a in expected[10:20]
        ]


# what is refused


def flip(snapshot: Snapshot) -> Snapshot:
    damaged = snapshot.records.copy()
    damaged.view(np.uint32)[0, -1] ^= 1
    return dataclasses.replace(snapshot, records=damaged)


BAD = {
    "damaged: 'exported'": flip,
    "damaged: ": lambda good: dataclasses.replace(good, ids=np.zeros_like(good.ids)),
    "damaged: 'exported';": lambda good: forged(
        good, lambda record: record.__setitem__(good.layout["hidden_at"], 1.5)
    ),
    "has 1 stream twice": lambda good: dataclasses.replace(
        good, ids=np.repeat(good.ids, 2, 0), records=np.repeat(good.records, 2, 0)
    ),
    "of the model c0ffee, and the streams there are of": lambda good: dataclasses.replace(
        good, fingerprint="c0ffee"
    ),
}


@pytest.mark.parametrize("words", BAD)
def test_a_bad_file_leaves_every_stream_untouched(here, live, exported, tmp_path, words):
    file = tmp_path / "bad.safetensors"
    with file.open("wb") as opened:
        write_to(opened, BAD[words](exported))
    before = records(live)
    assert refused("import", file, live, "--replace").startswith(f"error: {file}: {words}")
    # nor does the daemon believe what another program sends
    with file.open("rb") as content, memory_file() as sent:
        shutil.copyfileobj(content, sent)
        sent.flush()
        with pytest.raises(UserError, match=f"^me: {words}"):
            ask(live, "me", {"do": "import", "replace": True}, sent.fileno())
    assert records(live) == before


def test_what_is_no_snapshot_is_not_imported(here, live, model_file, tmp_path):
    for content in (b"", b"rubbish" * 100, model_file.read_bytes()):
        (tmp_path / "rubbish").write_bytes(content)
        assert "rubbish" in refused("import", tmp_path / "rubbish", live)
    with memory_file() as sent:
        sent.write(b"rubbish")
        sent.flush()
        with pytest.raises(UserError, match=r"^me: what was sent: "):
            ask(live, "me", {"do": "import", "replace": True}, sent.fileno())
        sent.truncate(1 << 40)
        with pytest.raises(UserError, match="more than the 4,096 streams"):
            ask(live, "me", {"do": "import", "replace": True}, sent.fileno())


def test_records_of_another_layout(exported, tmp_path):
    for change in ({"hidden_at": 48}, {"layers": 0}, {"hidden_at": 1 << 62}, {"more": 1}, {"width": 1 << 62}):
        file = tmp_path / "other.safetensors"
        with file.open("wb") as opened:
            write_to(opened, dataclasses.replace(exported, layout=exported.layout | change))
        assert "laid out as this version does not" in refused("show", file)


def test_more_streams_than_there_is_room_for(here, there, live, tmp_path):
    with here.line() as line:
        for k in range(6):
            send(line, f"many-{k}", range(1))
    file, folder = tmp_path / "many.safetensors", Path(there.config.state.snapshots)
    done("export", live, "-o", file, *(word for k in range(6) for word in ("--stream", f"many-{k}")))
    before = records(folder)
    assert "more than streams.capacity = 5 holds; nothing was imported" in refused("import", file, folder)
    assert records(folder) == before


def test_more_names_than_a_request_holds(here, live):
    assert "too many streams for one request" in refused("reset", live, *(f"{k:0>127}" for k in range(600)))


def test_only_its_own_user_and_root_may_ask(here, live):
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    assert stat.S_IMODE((live / SOCKET).stat().st_mode) == 0o600

    def attempt(folder: Path) -> Any:
        return ask(folder, "me", {"do": "reset", "streams": None})

    before = records(live)
    live.chmod(0o755)
    with nobody_at(live, attempt) as said:
        assert "cannot be asked (Permission denied); be its user, or root" in said
    (live / SOCKET).chmod(0o666)
    with nobody_at(live, attempt) as said:
        assert "only the daemon's own user and root may ask" in said
    assert records(live) == before


# rubbish on the socket


def connect(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    with address_in(folder) as address:
        connection.connect(address)
    connection.settimeout(DEADLINE_S)
    return connection


RUBBISH = {
    b"\n": "one line of JSON",
    b"rubbish\n": "one line of JSON",
    b"\xff\xfe\n": "one line of JSON",
    b"[" * 60_000 + b"\n": "one line of JSON",
    b"1\n2\n": "one line of JSON",
    b"x" * (LINE_BYTES + 1): "at most 65,536 bytes",
    b"[]\n": "not a request that this version knows",
    b'{"do": "stop"}\n': "not a request that this version knows",
    b'{"do": "reset"}\n': "not a request that this version knows",
    b'{"do": "reset", "streams": [1]}\n': "not a request that this version knows",
    b'{"do": "reset", "streams": "ab"}\n': "not a request that this version knows",
    b'{"do": "import", "replace": 1}\n': "not a request that this version knows",
    b'{"do": "reset", "streams": ["", "\\u0000"]}\n': "no such stream",
    b'{"do": "export"}\n': "a memory file",
    b'{"do": "import", "replace": true}\n': "a memory file",
}


@pytest.mark.parametrize("request_line", RUBBISH)
def test_rubbish_is_answered(here, live, request_line):
    with connect(live) as connection:
        connection.sendall(request_line)
        with connection.makefile() as answer:
            assert RUBBISH[request_line] in json.loads(answer.readline())["error"]


def test_files_that_could_make_the_daemon_wait(here, live, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    terminal, other = pty.openpty()
    opened = [
        os.open(tmp_path, os.O_RDONLY),
        os.open(tmp_path / "fifo", os.O_RDWR),
        os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT),
        *(terminal, other),
    ]
    for descriptor in opened:
        for request in ({"do": "export"}, {"do": "import", "replace": True}):
            with pytest.raises(UserError, match="a memory file"):
                ask(live, "me", request, descriptor)
    with connect(live) as connection:
        socket.send_fds(connection, [b"{"], opened)
        socket.send_fds(connection, [b"{"], opened)
        assert "one file at most" in connection.recv(1000).decode()
    for descriptor in opened:
        os.close(descriptor)
    assert shown(live)


def test_callers_that_say_nothing_keep_nobody_out(here, live):
    descriptors = Path(f"/proc/{here.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    silent = []
    for _ in range(1000):
        silent.append(connect(live))
        if len(silent) % 100 == 0:
            silent[-1].sendall(b'{"do": ')
            silent.pop(0).close()
    assert shown(live)
    assert len(list(descriptors.iterdir())) <= before + CALLERS + 1
    # those who are left are hung up on in the end
    assert silent[-1].recv(1) == b""
    for connection in silent:
        connection.close()
    wait_for(lambda: len(list(descriptors.iterdir())) <= before, "all descriptors to be closed")
    assert here.get("/healthz")[0] == 200
    assert "Traceback" not in here.said


# files


def test_what_a_dead_daemon_left(model_file, memory, tmp_path):
    live, moved, parcel = memory / "dead", tmp_path / "moved", tmp_path / "parcel.safetensors"
    with serving(model_file, {"state.live": str(live)}) as daemon, daemon.line() as line:
        expected = {
            name: rows_answers(daemon.engine(), name, ROWS, np.arange(60, dtype=np.uint64)) for name in "ab"
        }
        for name in "ab":
            assert send(line, name, range(10)) == expected[name][:10]
        daemon.stop(signal.SIGKILL)
    assert (live / SOCKET).is_socket()
    result = done("show", live)
    assert f"in the live state {live / 'state'}, over which no daemon runs" in result.stderr
    assert [(name, found["step"]) for name, found in shown(live).items()] == [("a", 10), ("b", 10)]
    assert 0 <= shown(live)["a"]["age_s"] < DEADLINE_S
    done("export", live, "-o", parcel, "--stream", "a", "--stream", "b")
    for words in (("import", parcel, live), ("reset", live, "a")):
        assert "a live state, which only a daemon changes; start the daemon first" in refused(*words)

    moved.mkdir(0o700)
    assert "for the next start" in done("import", parcel, moved).stderr
    assert "there already: 'a', 'b'" in refused("import", parcel, moved)
    done("import", parcel, moved, "--replace")
    assert "no such stream: 'c'" in refused("reset", moved, "b", "c")
    assert [*shown(moved)] == ["a", "b"]
    done("reset", moved, "b")
    assert "written 20" in done("show", moved).stderr
    assert [(name, found["step"], found["age_s"]) for name, found in shown(moved).items()] == [
        ("a", 10, None)
    ]
    socket.socket(socket.AF_UNIX).bind(str(moved / SOCKET))  # as one that was killed leaves it
    with serving(model_file, {"state.snapshots": str(moved)}) as daemon, daemon.line() as line:
        first, *rest = send(line, "a", range(10, 60))
        assert first == expected["a"][10]._replace(flags="WARMING|RESTORED")
        assert rest == expected["a"][11:]
        assert shown(moved)["a"]["step"] == 60
        assert send(line, "b", range(1)) == expected["b"][:1]
        assert daemon.stop() == 0
    assert not (moved / SOCKET).exists()
    done("reset", moved, "--all")
    assert shown(moved) == {}


@pytest.fixture
def folder(exported: Snapshot, tmp_path: Path) -> Path:
    """A folder with a snapshot of one stream."""
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    write_snapshot(folder, exported)
    return folder


@pytest.mark.parametrize("hidden", [0.5, 9.0, np.nan])
def test_damaged_streams_are_named_and_left_out(exported, folder, tmp_path, hidden):
    """The second is of another id, and says that it is degraded; whatever its state is, nothing trusts it."""
    both = dataclasses.replace(
        exported,
        ids=np.concatenate([exported.ids, id_words("worse").view(np.uint8)[None]]),
        records=np.concatenate([exported.records, exported.records]),
    )
    both.records[1].view(np.uint32)[DEGRADED] = 3
    both.records[1, exported.layout["hidden_at"] :] = hidden
    path = write_snapshot(folder, both)
    for target in (folder, path):
        assert (
            "warning: damaged, so that a daemon would begin them anew: 'worse'" in done("show", target).stderr
        )
        assert shown(target)["worse"] == {"stream": "worse", "health": "damaged"}
        assert [*shown(target, "--sort", "health")] == ["worse", "exported"]
        assert "no such stream: 'worse'" in refused(
            "export", target, "-o", tmp_path / "x", "--stream", "worse"
        )
    assert "worse" in done("show", path).stdout
    result = CliRunner().invoke(main, ["inspect", str(path), "--json"])
    assert (json.loads(result.stdout)["streams"], json.loads(result.stdout)["damaged"]) == (2, ["worse"])
    assert "damaged  'worse'\n" in CliRunner().invoke(main, ["inspect", str(path)]).stdout
    assert "damaged: 'worse'" in refused("import", path, folder, "--replace")
    assert "warning: damaged, and left out: 'worse'" in done("export", path, "-o", tmp_path / "good").stderr
    done("import", tmp_path / "good", folder, "--replace")
    assert [found["health"] for found in shown(folder).values()] == ["ok"]


def test_the_newest_whole_snapshot_counts(exported, folder):
    path = write_snapshot(
        folder, dataclasses.replace(exported, ids=exported.ids[:0], records=exported.records[:0])
    )
    assert shown(folder) == {}
    path.write_bytes(path.read_bytes()[:-1])
    assert f"warning: {path}: cut short" in done("show", folder).stderr
    assert [*shown(folder)] == ["exported"]


def test_a_live_state_that_cannot_be_used(folder, memory):
    (memory / "odd").mkdir(exist_ok=True)
    (memory / "odd" / "state").write_bytes(bytes(4096))
    assert "holds no state" in refused("show", memory / "odd")
    assert "its header is damaged" in state("show", memory / "odd").stderr


def test_a_daemon_that_does_not_answer(folder, tmp_path):
    lock = hold_lock(folder)
    for words in (
        ("show", folder),
        ("reset", folder, "--all"),
        ("import", *folder.glob("*.safetensors"), folder),
    ):
        assert "its daemon is starting or stopping; try again when it is ready" in refused(*words)
    os.close(lock)
    assert [*shown(folder)] == ["exported"]


def test_targets_that_hold_nothing(exported, folder, tmp_path):
    file, empty = tmp_path / "exported.safetensors", tmp_path / "empty"
    empty.mkdir(0o700)
    assert "no such file" in refused("show", tmp_path / "absent")
    assert "no such folder; name the state.live or state.snapshots" in refused(
        "reset", tmp_path / "absent", "a"
    )
    assert "no such folder" in refused("import", file, file)
    assert "no such file" in refused("import", tmp_path / "absent", folder)
    assert "holds no state" in refused("show", empty)
    assert "holds no snapshot; there is nothing to reset" in refused("reset", empty, "a")
    (tmp_path / "live.toml").write_text('[state]\nlive = "empty"\n')
    assert "no folder has snapshots; start the daemon" in refused("import", file, tmp_path / "live.toml")
    write_snapshot(empty, dataclasses.replace(exported, fingerprint="c0ffee"))
    assert "and the streams there are of c0ffee" in refused("import", file, empty, "--replace")
    empty.chmod(0o777)
    assert state("import", file, empty, "--replace").exit_code == 78
    if os.geteuid() == 0:
        os.chown(empty, 65534, 65534)
        assert "its owner alone can use what is written there; be that user" in refused(
            "reset", empty, "--all"
        )


def test_where_an_export_goes(exported, folder, tmp_path):
    file = tmp_path / "out.safetensors"
    done("export", folder, "-o", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "is there already" in refused("export", folder, "-o", file)
    file.write_bytes(b"")
    done("export", folder, "-o", file, "--force")
    assert done("export", folder, "-o", "-").stdout_bytes == file.read_bytes()
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refused("export", folder, "-o", tmp_path / "fifo", "--force")
    assert "No such file" in refused("export", folder, "-o", tmp_path / "no" / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "streamrnn", "state", "export", str(folder), "-o", "-"]
    result = subprocess.run(
        command, stdout=end, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False
    )
    assert (result.returncode, "standard output is a terminal" in result.stderr) == (1, True)
    os.close(terminal)
    os.close(end)


def test_inspect_tells_models_from_snapshots(exported, model_file, tmp_path):
    file = tmp_path / "exported.safetensors"
    said = CliRunner().invoke(main, ["inspect", str(file)]).stdout
    assert "streams  1\ndamaged  none\n" in said
    assert "state    h and c of 1 x 5 hidden units\n" in said
    found = json.loads(CliRunner().invoke(main, ["inspect", str(file), "--json"]).stdout)
    assert found["fingerprint"] == exported.fingerprint
    assert (found["written_ns"], found["bytes"], found["layout"]) == (
        exported.written_ns,
        file.stat().st_size,
        exported.layout,
    )
    assert "parameters" in CliRunner().invoke(main, ["inspect", str(model_file)]).stdout
    file.write_bytes(file.read_bytes()[:-1])
    result = CliRunner().invoke(main, ["inspect", str(file)])
    assert (result.exit_code, "cut short" in result.stderr) == (1, True)
    for content in (b"", b"rubbish", b"\x20" + bytes(7) + b'{"__metadata__":{"format":"pt"}}'):
        file.write_bytes(content)
        result = CliRunner().invoke(main, ["inspect", str(file)])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"error: {file}: neither a model nor a snapshot; ")


def held(target: Path) -> set[str]:
    return {name for name, said in shown(target).items() if said["held"]}


def by_http(daemon: Daemon, action: str, token: str, body: object) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    asked = Request(f"{daemon.http}/api/control/{action}", json.dumps(body).encode(), headers)
    with urlopen(asked, timeout=DEADLINE_S) as answer:
        return json.loads(answer.read())


def test_held_streams_say_so_and_stay_held_through_a_kill(model_file, memory, tmp_path):
    settings = {"state.live": str(memory / "holds"), "state.snapshots": str(tmp_path)}
    token, file = "0123456789abcdef0123456789abcdef", tmp_path / "token"
    file.write_text(token)
    file.chmod(0o600)
    settings |= {"http.control": True, "http.token_file": str(file)}
    with serving(model_file, settings) as daemon, daemon.line() as line:
        for name in ("hall-1/a", "hall-1/b", "hall-2/a"):
            send(line, name, range(2))
        said = done("hold", memory / "holds", "--prefix", "hall-1/").stderr
        assert "held what 2 streams learn" in said
        assert "1 of them were already" in done("hold", tmp_path, "hall-1/a", "hall-2/a").stderr
        assert json.loads(daemon.get("/api/status")[1])["control"] is True
        for action in ("release", "hold"):
            said = by_http(daemon, action, token, {"prefix": "hall-2/"})
            assert said == {"streams": 1, "changed": 1}
            assert (json.loads(daemon.get("/api/streams/hall-2/a")[1])["held"]) is (action == "hold")
        assert "released what 1 stream learns" in done("release", tmp_path, "hall-1/b").stderr
        assert held(tmp_path) == {"hall-1/a", "hall-2/a"}
        assert "no such stream: 'gone'" in refused("hold", tmp_path, "hall-1/b", "gone")
        assert held(tmp_path) == {"hall-1/a", "hall-2/a"}
        daemon.stop(signal.SIGKILL)
    with serving(model_file, settings) as daemon, daemon.line() as line:
        done("reset", tmp_path, "hall-1/a")  # a stream that begins anew is still held
        for name, flag in (("hall-1/a", HELD), ("hall-1/b", 0), ("hall-2/a", HELD)):
            line.send(name, ROWS[2], seq=2)
            assert line.receive(1)[0].header["flags"] & HELD == flag
        daemon.stop(signal.SIGTERM)
    shutil.rmtree(memory / "holds")
    said = done("release", tmp_path, "--all").stderr  # at rest, in a snapshot
    assert "for the next start" in said
    assert held(tmp_path) == set()


def test_what_is_to_be_held_must_be_said_once(tmp_path):
    for words in ([], ["a", "--all"], ["a", "--prefix", "p"]):
        result = state("hold", tmp_path, *words)
        assert (result.exit_code, "Give the IDs" in result.stderr) == (2, True)


def test_a_held_stream_is_not_let_go_for_silence(model_file, tmp_path):
    settings = {"state.snapshots": str(tmp_path), "streams.idle_timeout": "300ms"}
    with serving(model_file, settings) as daemon, daemon.line() as line:
        send(line, "a", range(1))
        done("hold", tmp_path, "a")
        send(line, "b", range(1))
        wait_for(lambda: "b" not in shown(tmp_path), "the other one is let go")
        assert held(tmp_path) == {"a"}
        done("release", tmp_path, "a")
        wait_for(lambda: not shown(tmp_path), "it is let go, too")
