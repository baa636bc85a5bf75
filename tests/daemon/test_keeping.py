"""What a daemon keeps and takes over: starts, snapshots, disks that fail, reloads, connections that end."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from daemons import COMPILE_S, Answer, Daemon, curve_client, launch, rows_answers, serving, take, wait_for
from models import LAYERED, untrained

from streamrnn.daemon.sockets import largest_frame
from streamrnn.model.model_file import read_model, write_model
from streamrnn.settings.config import config_text
from streamrnn.streams.snapshot import read_snapshot, snapshots_in
from streamrnn.wire.frame import pack_frame

pytest_plugins = ["disk"]

ROWS = np.random.default_rng(5).normal(size=(30, 3)).astype(np.float32)


@pytest.fixture
def live() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield folder


def numbers(first: int, last: int) -> np.ndarray:
    return np.arange(first, last, dtype=np.uint64)


def send_and_hear(daemon: Daemon, first: int, last: int, stream: str = "a") -> list[Answer]:
    with daemon.line() as line:
        for seq in range(first, last):
            line.send(stream, ROWS[seq], seq=seq)
        return line.answers(last - first)


def expected(daemon: Daemon) -> list[Answer]:
    """What an engine that never ends says of all rows."""
    return rows_answers(daemon.engine(), "a", ROWS, numbers(0, len(ROWS)))


def said_restored(answers: list[Answer]) -> list[Answer]:
    """``answers``, the first of which says RESTORED, as if it did not."""
    first, *rest = answers
    assert first.flags.split("|")[-1] == "RESTORED"
    return [first._replace(flags=first.flags.removesuffix("RESTORED").removesuffix("|")), *rest]


def test_every_way_to_end_and_what_is_found_then(tmp_path, live):
    """SIGKILL, SIGTERM, another capacity, no live state but a snapshot. Of a network of all that can be."""
    model_file = tmp_path / "model.safetensors"
    write_model(untrained(hidden=7, **LAYERED), model_file)
    settings: dict[str, Any] = {"state.live": live, "state.snapshots": str(tmp_path / "kept")}
    with serving(model_file, settings) as daemon:
        answers, whole = send_and_hear(daemon, 0, 5), expected(daemon)
        assert Path(live).stat().st_mode & 0o77 == Path(live, "state").stat().st_mode & 0o77 == 0
        assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    with serving(model_file, settings) as daemon:
        assert "took over 2 streams" in daemon.said
        answers += send_and_hear(daemon, 5, 10)
        assert daemon.stop() == 0
    with serving(model_file, settings | {"streams.capacity": 9000}) as daemon:
        assert "the live state was of 4,096 slots; its streams moved" in daemon.said
        answers += send_and_hear(daemon, 10, 15)
        assert daemon.stop() == 0
    shutil.rmtree(live)
    newest, _ = snapshots_in(tmp_path / "kept")
    with serving(model_file, settings) as daemon:
        assert f"restored 4 streams from {newest}" in daemon.said
        assert daemon.count("streams") == 4
        answers += said_restored(send_and_hear(daemon, 15, 20))
    Path(live, "state").write_bytes(b"\xff" * 10_000)
    with serving(model_file, settings) as daemon:
        assert "the live state cannot be used: its header is damaged" in daemon.said
        assert "restored 4 streams" in daemon.said
    assert answers == whole[:20]


def test_a_damaged_snapshot_gives_way_to_the_one_before(model_file, tmp_path):
    settings = {"state.snapshots": str(tmp_path / "kept"), "state.interval": "50ms"}
    with serving(model_file, settings) as daemon:
        send_and_hear(daemon, 0, 5)
        wait_for(lambda: snapshots_in(tmp_path / "kept"), "a snapshot")
        send_and_hear(daemon, 5, 10)
        daemon.stop()
    newest, before = snapshots_in(tmp_path / "kept")
    with newest.open("r+b") as file:
        file.truncate(1000)
    with serving(model_file, settings) as daemon:
        assert f"a snapshot cannot be used: {newest}: cut short" in daemon.said
        assert f"streams from {before}" in daemon.said


def test_a_damaged_stream_is_left_out_and_named(model_file, tmp_path):
    settings = {"state.snapshots": str(tmp_path / "kept")}
    with serving(model_file, settings) as daemon:
        first = send_and_hear(daemon, 0, 5, "good") + send_and_hear(daemon, 0, 5, "bad")
        daemon.stop()
    (path,) = snapshots_in(tmp_path / "kept")
    body = bytearray(path.read_bytes())
    at = read_snapshot(path).ids.tobytes().index(b"bad\0") // 128
    count, words = read_snapshot(path).records.shape
    body[len(body) - 4 * words * (count - at) + 300] ^= 4
    path.write_bytes(body)
    with serving(model_file, settings) as daemon:
        assert "damaged, so these streams begin anew: 'bad'" in daemon.said
        again = send_and_hear(daemon, 0, 5, "bad")
        assert [answer.bits for answer in again] == [answer.bits for answer in first[5:]]
        assert said_restored(send_and_hear(daemon, 5, 6, "good"))[0].step == 6


def test_a_snapshot_that_is_newer_than_the_live_state_counts(model_file, tmp_path, live):
    """A daemon may have run without it, or streams were imported into the folder while none ran."""
    settings: dict[str, Any] = {"state.live": live, "state.snapshots": str(tmp_path / "kept")}
    with serving(model_file, settings) as daemon:
        answers, whole = send_and_hear(daemon, 0, 5), expected(daemon)
        daemon.stop()
    with serving(model_file, settings | {"state.live": ""}) as daemon:
        answers += said_restored(send_and_hear(daemon, 5, 10))
        daemon.stop()
    with serving(model_file, settings) as daemon:
        assert "is newer than the live state, which is given up for it" in daemon.said
        answers += said_restored(send_and_hear(daemon, 10, 15))
        daemon.stop(signal.SIGKILL)
    with serving(model_file, settings) as daemon:
        assert "took over" in daemon.said
        answers += send_and_hear(daemon, 15, 20)
    assert answers == whole[:20]


def test_snapshots_of_which_none_can_be_used_are_not_written_over(model_file, tmp_path):
    settings = {"state.snapshots": str(tmp_path / "kept")}
    with serving(model_file, settings) as daemon:
        send_and_hear(daemon, 0, 5)
        daemon.stop()
    (path,) = snapshots_in(tmp_path / "kept")
    path.write_bytes(path.read_bytes().replace(b"streamrnn-state/2", b"streamrnn-state/1"))
    refused(model_file, settings, "its format is 'streamrnn-state/1'", "none of its snapshots can be used")
    assert snapshots_in(tmp_path / "kept") == [path]


def test_the_age_on_disk_is_told_after_a_crash_too(model_file, tmp_path, live):
    kept = tmp_path / "kept"
    settings = {"state.live": live, "state.snapshots": str(kept), "state.interval": "1h"}
    with serving(model_file, settings) as daemon:
        send_and_hear(daemon, 0, 5)
        daemon.stop()
    (path,) = snapshots_in(kept)
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    with serving(model_file, settings) as daemon:
        # what changed since, if anything did, is saved at once
        wait_for(lambda: daemon.count("snapshot_age_seconds") < 100, "a snapshot")
        assert len(snapshots_in(kept)) == 2


def refused(model: Path, settings: dict[str, Any], *words: str) -> Daemon:
    with launch(model, settings) as daemon:
        code = daemon.process.wait(COMPILE_S)
        assert (code, daemon.said.count("error: ")) == (78, 1), daemon.said
        for word in words:
            assert word in daemon.said
        return daemon


@pytest.mark.parametrize("where", ["live", "snapshots"])
def test_the_state_of_another_model_is_refused_unless_told(model_file, tmp_path, live, where):
    other = tmp_path / "other.safetensors"
    write_model(untrained(sample_period_s=0.01, seed=9), other)
    settings = {f"state.{where}": live if where == "live" else str(tmp_path / "kept")}
    with serving(model_file, settings) as daemon:
        send_and_hear(daemon, 0, 3)
        daemon.stop()
    prints = [read_model(path).fingerprint for path in (model_file, other)]
    refused(other, settings, *prints, "--on-mismatch=reset")
    reset = """
import sys; from streamrnn.cli import main
main(["serve", "-c", sys.argv[1], "--on-mismatch", "reset"])
"""
    with serving(other, settings, program=reset) as daemon:
        assert daemon.count("streams") == 0
        assert send_and_hear(daemon, 0, 5) == expected(daemon)[:5]


def test_a_second_daemon_is_refused(model_file, tmp_path, live):
    settings = {"state.live": live, "state.snapshots": str(tmp_path / "kept")}
    with serving(model_file, settings):
        for key in settings:
            with launch(model_file, {key: settings[key]}) as second:
                assert second.process.wait(COMPILE_S) == 1
                assert f"{settings[key]}: another daemon keeps its state here" in second.said


def test_folders_that_will_not_do(model_file, tmp_path, live):
    refused(model_file, {"state.live": str(tmp_path / "disk")}, "not on tmpfs", "/run")
    Path(live).chmod(0o777)
    refused(model_file, {"state.live": live}, f"{live}: others can write here")


def test_more_streams_than_slots_are_refused(model_file, tmp_path, live):
    settings = {"state.live": live}
    with serving(model_file, settings) as daemon:
        for name in "abcd":
            send_and_hear(daemon, 0, 1, name)
        daemon.stop()
    refused(
        model_file,
        settings | {"streams.capacity": 3},
        "has more streams than streams.capacity = 3 holds; set it to 8 or more",
    )
    with serving(model_file, settings) as daemon:
        assert "took over 8 streams" in daemon.said  # each line has had a stream of its own


def test_a_tmpfs_that_is_too_small_is_said_at_the_start(model_file, small_folder):
    with launch(model_file, {"state.live": str(small_folder / "live")}) as daemon:
        assert daemon.process.wait(COMPILE_S) == 1
        assert "no room for" in daemon.said
        assert "make the tmpfs larger" in daemon.said
    assert sorted(path.name for path in (small_folder / "live").iterdir()) == ["lock"]


def test_a_full_disk_costs_snapshots_and_nothing_else(model_file, small_folder):
    """And when there is room again, they go on."""
    kept = small_folder / "kept"
    settings = {"state.snapshots": str(kept), "state.interval": "50ms"}
    with serving(model_file, settings) as daemon, daemon.line() as line:
        answers: list[Answer] = []

        def go_on() -> None:
            seq = len(answers)
            line.send("a", ROWS[seq % len(ROWS)], seq=seq)
            answers.extend(line.answers(1))

        wait_for(lambda: go_on() or len(snapshots_in(kept)) == 2, "two snapshots")
        with (small_folder / "filler").open("wb", buffering=0) as filler:
            while True:
                try:
                    filler.write(bytes(4096))
                except OSError:
                    break
        before = snapshots_in(kept)

        wait_for(lambda: go_on() or daemon.count("snapshot_failures_total") >= 3, "three failures")
        assert daemon.said.count("No space left on device") == 1  # not once for each
        assert snapshots_in(kept) == before
        assert all(len(read_snapshot(path).ids) for path in before)
        (small_folder / "filler").unlink()
        daemon.wait_until_it_says("snapshots are written again")
        wait_for(lambda: daemon.count("snapshot_age_seconds") < 1, "a young snapshot")
        assert snapshots_in(kept)[0] > before[0]
        assert daemon.stop() == 0
    rows = ROWS[np.arange(len(answers)) % len(ROWS)]
    assert answers == rows_answers(daemon.engine(), "a", rows, numbers(0, len(answers)))


FAILING = """
import errno, os, sys
from pathlib import Path
from streamrnn.cli import main
real = {real}
def fail(*arguments, **options):
    if Path(sys.argv[1]).with_name("broken").exists():
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return real(*arguments, **options)
{real} = fail
sys.exit(main(["serve", "-c", sys.argv[1]]))
"""


@pytest.mark.parametrize("call", ["os.fsync", "Path.replace"])
def test_a_broken_disk_costs_snapshots_and_nothing_else(model_file, tmp_path, call):
    kept = tmp_path / "kept"
    settings = {"state.snapshots": str(kept), "state.interval": "50ms"}
    with serving(model_file, settings, program=FAILING.format(real=call)) as daemon, daemon.line() as line:
        line.send("a", ROWS[0], seq=0)
        line.answers(1)
        wait_for(lambda: snapshots_in(kept), "a snapshot")
        broken = Path(daemon.process.args[-1]).with_name("broken")
        broken.touch()
        line.send("a", ROWS[1], seq=1)
        wait_for(lambda: daemon.count("snapshot_failures_total") > 0, "a failure")
        assert [answer.step for answer in line.answers(1)] == [2]
        broken.unlink()
        daemon.wait_until_it_says("snapshots are written again")
        assert daemon.stop() == 0


def test_a_last_snapshot_that_cannot_be_written_is_said_and_tells_by_the_exit_code(model_file, tmp_path):
    settings = {"state.snapshots": str(tmp_path / "kept")}
    with serving(model_file, settings, program=FAILING.format(real="os.fsync")) as daemon:
        send_and_hear(daemon, 0, 5)
        config_file(daemon).with_name("broken").touch()
        assert daemon.stop() == 1
        assert "no last snapshot written" in daemon.said


def reloaded(daemon: Daemon, times: int = 1) -> None:
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.said.count("reloaded; the model is") == times, f"a reload in\n{daemon.said}")


def config_file(daemon: Daemon) -> Path:
    return Path(daemon.process.args[-1])


def test_a_new_model_goes_on_with_the_streams(tmp_path, live):
    """Between two frames: what the old one left is what the new one begins with."""
    old, new, path = untrained(seed=1), untrained(seed=2), tmp_path / "model.safetensors"
    write_model(old, path)
    kept = tmp_path / "kept"
    settings = {"state.live": live, "state.snapshots": str(kept), "faults.gap": "step"}
    with serving(path, settings) as daemon:
        engine = daemon.engine()
        with daemon.line() as line:
            line.send_rows("a", ROWS[:5])
            assert line.answers(5) == rows_answers(engine, "a", ROWS[:5])
            write_model(new, path)
            reloaded(daemon)
            engine.replace(new, engine.replacement(new, daemon.config.faults))
            line.send_rows("a", ROWS[5:10])
            assert line.answers(5) == rows_answers(engine, "a", ROWS[5:10])
        wait_for(
            lambda: any(
                read_snapshot(path).fingerprint == new.fingerprint for path in snapshots_in(kept)[:1]
            ),
            "its snapshot",
        )
        status, text = daemon.get("/metrics")
        assert (status, new.fingerprint in text, old.fingerprint in text) == (200, True, False)
        daemon.stop(signal.SIGKILL)
    with serving(path, settings) as daemon:
        assert "took over" in daemon.said
        with daemon.line() as line:
            for seq in range(10, 15):
                line.send("a", ROWS[seq], seq=seq)
            assert line.answers(5) == rows_answers(engine, "a", ROWS[10:15], numbers(10, 15))


def test_a_reload_takes_what_it_can_or_nothing(model_file, tmp_path):
    with serving(model_file) as daemon, daemon.line() as line:
        line.send("a", ROWS[0], seq=0)
        answers = line.answers(1)
        file, good = config_file(daemon), config_text(daemon.config)
        for wrong, word in (
            ("[faults]\ngap = 7", "faults.gap"),
            ("x = " + "[" * 5000, "not TOML"),
            ("x = " + "9" * 5000, "not TOML: Exceeds the limit"),
            (good.replace("capacity = 4096", "capacity = 7"), "streams.capacity: cannot change while"),
            (good.replace("model.safetensors", "nowhere.safetensors"), "no such file"),
        ):
            file.write_text(wrong)
            daemon.process.send_signal(signal.SIGHUP)
            line_said = daemon.wait_until_it_says(word)
            assert "not reloaded, all goes on as before: " in line_said
        shape = tmp_path / "wide.safetensors"
        write_model(untrained(hidden=64), shape)
        file.write_text(good.replace(str(model_file), str(shape)))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_it_says("cannot take over its streams")
        file.write_text(
            good.replace('gap = "hold"', 'gap = "step"').replace('level = "info"', 'level = "debug"')
        )
        reloaded(daemon)
        line.send("a", ROWS[3], seq=3)
        answers += line.answers(1)
        assert (answers[1].gap, answers[1].step) == (2, 2)  # stepped over, not filled in
        assert daemon.stop() == 0


def test_a_reload_amid_frames_loses_none(model_file):
    with serving(model_file) as daemon, daemon.line() as line:
        engine, answers = daemon.engine(), []
        for turn in range(10):
            for _ in range(100):
                line.send("a", ROWS[turn])
            daemon.process.send_signal(signal.SIGHUP)
            for _ in range(100):
                line.send("a", ROWS[turn])
            answers += line.answers(200)
            wait_for(lambda turn=turn: daemon.said.count("reloaded") > turn, "a reload")
        assert answers == rows_answers(engine, "a", np.repeat(ROWS[:10], 200, axis=0))


def test_a_publisher_that_breaks_the_rules_is_heard_again(model_file):
    """libzmq never connects again to one that did: the daemon does."""
    with zmq.Context() as context:
        publisher = context.socket(zmq.XPUB)
        publisher.linger, publisher.xpub_verbose = 0, True
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with serving(model_file, {"input.connect": [f"tcp://127.0.0.1:{port}"]}) as daemon:
            subscriber = context.socket(zmq.SUB)
            subscriber.linger, subscriber.rcvtimeo = 0, 30_000
            subscriber.subscribe(b"a")
            subscriber.connect(daemon.publishes)
            assert publisher.recv() == b"\x01"
            publisher.send_multipart([b"a", bytes(largest_frame(3) + 2)])
            daemon.wait_until_it_says("connecting anew")
            wait_for(
                lambda: publisher.recv() == b"\x01", "a subscription"
            )  # an end of the former may come first

            def heard() -> bool:
                publisher.send_multipart([b"a", pack_frame(ROWS[0])])
                return bool(subscriber.poll(10))

            wait_for(heard, "an answer")
            assert take(subscriber).stream == "a"
            subscriber.close()
        publisher.close()


def test_a_key_that_is_taken_from_the_list_is_cut_off(model_file, tmp_path):
    """At the next SIGHUP, in the middle of its sending; who is still listed comes back by himself."""
    secret = tmp_path / "station.secret"
    secret.touch(0o600)
    server, private = zmq.curve_keypair()
    secret.write_bytes(private)
    valves, pumps, desk = (zmq.curve_keypair() for _ in range(3))
    settings = {
        "security.server_secret": str(secret),
        "security.client_keys": [key.decode() for key, _ in (valves, pumps)],
        "security.output_clients": [desk[0].decode()],
        "input.socket": "pull",
    }
    options = {"rcvtimeo": 30_000, "sndhwm": 1}
    with zmq.Context() as context, serving(model_file, settings) as daemon:
        removed, stays = (
            curve_client(context, zmq.PUSH, keys, server, daemon.receives, **options)
            for keys in (valves, pumps)
        )
        reader = curve_client(context, zmq.SUB, desk, server, daemon.publishes, **options)

        def heard() -> str:
            """Both send; the stream of a prediction that arrives, if one does."""
            for name, sender in (("removed", removed), ("stays", stays)):
                with suppress(zmq.Again):
                    sender.send_multipart([name.encode(), pack_frame(ROWS[0])], zmq.DONTWAIT)
            return take(reader).stream if reader.poll(10) else ""

        for name in ("removed", "stays"):
            wait_for(lambda name=name: heard() == name, f"{name} to be answered")
        text = config_text(daemon.config)
        config_file(daemon).write_text(text.replace(f'"{valves[0].decode()}", ', ""))
        reloaded(daemon)
        while reader.poll(0):  # said before
            take(reader)
        wait_for(lambda: heard() == "stays", "the sender that is still listed")
        daemon.wait_until_it_says(f"input: refused the key {valves[0].decode()}")
        assert {heard() for _ in range(200)} <= {"stays", ""}
        wait_for(lambda: heard() == "stays", "the sender that is still listed")
        for socket in (removed, stays, reader):
            socket.close()


def test_adaptation_switched_on_finds_a_state_without(model_file, tmp_path, live):
    settings: dict[str, Any] = {"state.live": live, "state.snapshots": str(tmp_path / "kept")}
    with serving(model_file, settings) as daemon:
        send_and_hear(daemon, 0, 5)
        daemon.stop()
    for left in ("the live state", "the snapshot"):
        with launch(model_file, settings | {"adapt.enabled": True}) as daemon:
            assert daemon.process.wait(COMPILE_S) == 78
            assert "set adapt.enabled as it was" in daemon.said, left
        shutil.rmtree(live)
