"""The life of a daemon: how it starts, what refuses to start, how it ends. Real processes, real signals."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from daemons import COMPILE_S, DEADLINE_S, Line, launch, rows_answers, serving, wait_for
from models import save_parts, untrained

from streamrnn.wire.frame import pack_frame

STOP_S = 15.0  # for an end that was asked for: one second on a quiet machine, five on a crowded one
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (DEBUG|INFO|WARNING|ERROR) +\S.*")
ROWS = np.random.default_rng(11).normal(0, 10, (40, 3)).astype(np.float32)


def refused(*arguments: object) -> tuple[int, str]:
    """The exit code and the words of a `serve` that cannot start."""
    command = [sys.executable, "-m", "streamrnn", "serve", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


def reachable(endpoint: str) -> None:
    """Connects once, now, to a tcp:// or ipc:// endpoint."""
    transport, _, address = endpoint.partition("://")
    with socket.socket(socket.AF_UNIX if transport == "ipc" else socket.AF_INET) as connection:
        host, _, port = address.rpartition(":")
        connection.connect(address if transport == "ipc" else (host, int(port)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_0_and_a_last_word(model_file, number):
    with serving(model_file) as daemon, daemon.line() as line:
        line.send("counted", ROWS)
        line.receive(len(ROWS))
        received = daemon.count("frames_received_total")
        predicted = received - 1 + len(ROWS)  # those that opened the line had one row each
        begin = time.monotonic()
        assert daemon.stop(number) == 0
        assert time.monotonic() - begin < STOP_S
        lines = daemon.said.splitlines()
        assert all(LINE.fullmatch(line) for line in lines), daemon.said
        assert "ready: " in lines[-2]
        assert lines[-1].endswith(f"stopped after {received:.0f} frames, {predicted:.0f} predictions")
        assert daemon.process.stdout
        assert daemon.process.stdout.read() == b""


def test_a_second_sigint_ends_it_at_once(model_file):
    with serving(model_file) as daemon:
        host, port = daemon.http.removeprefix("http://").split(":")
        # a request that never ends keeps the end waiting for its grace
        with socket.create_connection((host, int(port)), DEADLINE_S) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")
            daemon.get("/healthz")
            daemon.process.send_signal(signal.SIGINT)
            daemon.wait_until_it_says("stopped after")
            assert daemon.stop(signal.SIGINT) == 128 + signal.SIGINT


def test_it_says_ready_when_everything_answers(model_file, tmp_path):
    settings = {"input.bind": [f"ipc://{tmp_path}/in", "tcp://127.0.0.1:*"]}
    with launch(model_file, settings) as daemon:
        daemon.find_addresses()
        for endpoint in (f"ipc://{tmp_path}/in", daemon.receives, daemon.publishes):
            reachable(endpoint)
        assert daemon.get("/readyz") == (200, "ready\n")
        assert "ready: lstm 3 -> 5 x 1, 4096 streams" in daemon.said
        status, health = daemon.get("/healthz")
        assert (status, health[:21]) == (200, "the pump's heartbeat ")
        assert daemon.get("/elsewhere")[0] == 404
        metrics = daemon.metrics()
        assert metrics["streamrnn_stream_capacity"] == 4096
        assert metrics["streamrnn_frames_received_total"] == metrics["streamrnn_streams"] == 0


def test_without_http_it_serves_frames_alone(model_file):
    with serving(model_file, {"http.listen": ""}) as daemon, daemon.line() as line:
        assert daemon.http == ""
        line.send("alone", ROWS)
        assert line.answers(40) == rows_answers(daemon.engine(), "alone", ROWS)
        assert daemon.stop() == 0


def test_a_bad_configuration_is_refused_with_every_error(model_file, tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text(
        'colour = "red"\n[input]\nbind = ["udp://here"]\n[streams]\ncapacity = 0\nidle_timeout = "soon"\n'
        '[faults]\ngap = "guess"\n'
    )
    code, words = refused("-c", file, model_file)
    assert code == 78
    for key in ("colour", "input.bind[0]", "streams.capacity", "streams.idle_timeout", "faults.gap"):
        assert f"error: {file}: {key}: " in words
    assert len(words.splitlines()) == 5


def test_endpoints_that_are_missing_are_refused(model_file):
    code, words = refused(model_file)
    assert code == 78
    assert [line.partition(":")[0] for line in words.splitlines()] == ["error", "error"]
    assert "input.connect" in words
    assert "output.bind" in words


def other_relation(path: Path) -> None:
    model = untrained()
    save_parts(path, model.settings() | {"relation": "sequence-to-vector"}, model.tensors())


BAD_MODELS: dict[str, Any] = {
    "another relation": (other_relation, "sequence-to-vector"),
    "corrupt": (lambda path: path.write_bytes(os.urandom(4096)), "safetensors"),
    "empty": (lambda path: path.write_bytes(b""), "safetensors"),
    "missing": (lambda path: None, "no such file"),
    "a folder": (Path.mkdir, "regular file"),
}


@pytest.mark.parametrize("bad", BAD_MODELS)
def test_a_model_that_cannot_run_is_refused(tmp_path, bad):
    make, why = BAD_MODELS[bad]
    path = tmp_path / "model.safetensors"
    make(path)
    code, words = refused(path, "--connect", "tcp://127.0.0.1:1", "--bind", "tcp://127.0.0.1:*", "--http", "")
    assert code == 78
    assert words.startswith("error: ")
    assert why in words


@pytest.mark.parametrize("key", ["input.bind", "output.bind", "http.listen"])
def test_an_address_in_use_is_refused_with_its_key(model_file, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        value = address if key == "http.listen" else [f"tcp://{address}"]
        with launch(model_file, {key: value}) as daemon:
            assert daemon.process.wait(COMPILE_S) == 1
            (error,) = [line for line in daemon.said.splitlines() if line.startswith("error: ")]
            assert key in error
            assert address in error
            assert "ddress already in use" in error
            assert "ready:" not in daemon.said


def test_an_ipc_path_in_use_is_refused(model_file, tmp_path):
    settings = {"input.bind": [f"ipc://{tmp_path}/in"]}
    with serving(model_file, settings) as first, launch(model_file, settings) as second:
        wait_for(lambda: second.process.poll() is not None or "ready: " in second.said, "an end", COMPILE_S)
        assert second.process.poll() == 1
        assert "input.bind" in second.said
        assert first.process.poll() is None


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_line_of_the_log_has_its_format(model_file, log_format):
    with serving(model_file, {"log.format": log_format, "log.level": "debug"}) as daemon:
        assert daemon.stop() == 0
        lines = daemon.said.splitlines()
        assert len(lines) >= 2
        if log_format == "text":
            assert all(LINE.fullmatch(line) for line in lines)
            return
        said = [json.loads(line) for line in lines]
        assert all(set(line) == {"time", "level", "message"} for line in said)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in said)
        assert {line["level"] for line in said} <= {"debug", "info"}
        assert said[-1]["message"].startswith("stopped after ")


def test_a_cache_that_cannot_be_written_costs_a_warning_and_nothing_else(model_file, tmp_path, request):
    if not request.config.getoption("--long"):
        pytest.skip("compiles everything once more: with --long")
    file = tmp_path / "a file"
    file.touch()
    with serving(model_file, NUMBA_CACHE_DIR=str(file / "cache")) as daemon, daemon.line() as line:
        line.send("uncached", ROWS)
        assert line.answers(40) == rows_answers(daemon.engine(), "uncached", ROWS)
        assert daemon.stop() == 0
        assert daemon.said.count("set NUMBA_CACHE_DIR to a folder that can be written") == 1
        assert daemon.said.count("compiling kernels for this machine") == 1


def test_the_warning_of_the_cache_has_the_log_s_format(model_file, tmp_path):
    (tmp_path / "a file").touch()
    cache = str(tmp_path / "a file" / "cache")
    with launch(model_file, {"log.format": "json"}, NUMBA_CACHE_DIR=cache) as daemon:
        daemon.wait_until_it_says("set NUMBA_CACHE_DIR to a folder that can be written")
        daemon.wait_until_it_says("compiling kernels")
        assert all(line.startswith("{") for line in daemon.said.splitlines())


@contextmanager
def flood(line: Line) -> Iterator[threading.Event]:
    """Sends frames as fast as it can from a thread of its own; the event is set at the first of them."""
    begun, over = threading.Event(), threading.Event()
    message = [b"flood", pack_frame(ROWS[0])]

    def pour() -> None:
        end = time.monotonic() + DEADLINE_S
        while not over.is_set() and time.monotonic() < end:
            line.publisher.send_multipart(message)
            begun.set()

    line.publisher.sndhwm = 1000  # what nobody takes is dropped, not kept
    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield begun
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_while_frames_pour_in(model_file, number):
    with serving(model_file) as daemon, daemon.line() as line, flood(line) as begun:
        assert begun.wait(DEADLINE_S)
        received = daemon.count("frames_received_total")
        wait_for(lambda: daemon.count("frames_received_total") > received + 10_000, "the flood to arrive")
        begin = time.monotonic()
        assert daemon.stop(number) == 0
        assert time.monotonic() - begin < STOP_S
        assert "stopped after" in daemon.said.splitlines()[-1]


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM,) * 2]
)
def test_two_signals_at_once_end_it_too(model_file, numbers):
    with serving(model_file) as daemon:
        for number in numbers:
            daemon.process.send_signal(number)
        assert daemon.process.wait(DEADLINE_S) == 0


def test_it_does_not_compile_to_the_end_when_told_to_stop(model_file, tmp_path):
    with launch(model_file, NUMBA_CACHE_DIR=str(tmp_path)) as daemon:
        daemon.wait_until_it_says("compiling kernels")
        assert daemon.stop() == 0
        assert "ready" not in daemon.said


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_after_kill_9_it_starts_again_where_it_was(model_file, tmp_path, transport):
    settings: dict[str, Any] = {}
    if transport == "ipc":
        settings = {f"{end}.bind": [f"ipc://{tmp_path}/{end}"] for end in ("input", "output")}
    with serving(model_file, settings) as first, first.line() as line:
        line.send("before", ROWS)
        line.receive(40)
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        if transport == "ipc":
            assert stat.S_ISSOCK((tmp_path / "input").stat().st_mode)  # what a killed one leaves behind
        again = {"input.bind": [first.receives], "output.bind": [first.publishes]}
        again["http.listen"] = first.http.removeprefix("http://")
        with serving(model_file, again) as second:
            assert (second.receives, second.publishes, second.http) == (
                first.receives,
                first.publishes,
                first.http,
            )
            line.wait_for_subscription()

            def heard() -> int:
                line.send("heard?", ROWS[0])
                return line.subscriber.poll(10)

            # both old neighbours come back by themselves
            wait_for(heard, "the old subscriber to come back")
            line.send("after", ROWS)
            found = (line.answers(1)[0] for _ in count())
            answers = list(islice((answer for answer in found if answer.stream == "after"), 40))
            assert answers == rows_answers(second.engine(), "after", ROWS)
            assert second.stop() == 0


def test_the_log_tells_of_what_is_turned_away(model_file):
    with serving(model_file) as daemon, daemon.line() as line:
        line.send("a", np.ones(7, np.float32))
        said = daemon.wait_until_it_says("rejected")
        assert ' rejected 1 (channels), the last of "a": 60 bytes, 44 wanted. Whole rows, but' in said
        for seq in (5, 5):
            line.send("a", ROWS[0], seq=seq)
        daemon.wait_until_it_says("rows dropped in the last 5 s, by reason: late 1")
        line.send("a", np.ones(7, np.float32))  # is not told of for a minute
        line.send("a\n2", np.full(3, np.inf, np.float32))
        said = daemon.wait_until_it_says("(infinite)")
        assert ' rejected 1 (infinite), the last of "a\\n2": c0 is infinite. A row with' in said
        assert daemon.said.count("(channels)") == 1
        assert daemon.stop() == 0
