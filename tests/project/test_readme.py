"""Every command and every piece of code in the README is run; its first pages are test_walk's."""

import json
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import zmq
from daemons import DEADLINE_S, serving, wait_for
from readme import README, ROOT, blocks, command_lines, free_ports, section, sections

from streamrnn.demo.live import MODEL
from streamrnn.events.journal import Journal
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model
from streamrnn.settings.config import load_config

# Sections whose command lines are run, here or in test_walk. Those of the first screen are test_demo's.
RUN = {
    *("Got a CSV?", "Use it", "Relations", "Train", "Import", "MQTT", "Keep the streams", "On a network"),
    "What happened last night",
}


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, (words, ended.stderr)
    return ended


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A folder with what the commands take: recordings, and a model of them."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("monday", "tuesday"):
        words = ["demo", "--record", f"{name}.csv", "--seconds", "30"]
        run([sys.executable, "-m", "streamrnn", *words], folder)
    (folder / "model.safetensors").write_bytes(MODEL.read_bytes())
    return folder


@pytest.fixture
def on_tmpfs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_no_command_line_is_left_out():
    assert {title for title in sections() if blocks(section(title), "sh")} == RUN


def test_a_csv(here, tmp_path):
    (tmp_path / "valves.csv").write_bytes((here / "monday.csv").read_bytes())
    (words,) = command_lines("Got a CSV?")
    assert "LEARNED" in run(words, tmp_path).stdout
    assert "they are shaded in the charts" in (tmp_path / "valves.html").read_text()


def test_training(here):
    (words,) = command_lines("Train")
    run([*words, "--epochs", "1"], here)


def test_import(here):
    rng = np.random.default_rng(0)
    sizes = {"weight_ih_l0": (32, 2), "weight_hh_l0": (32, 8), "bias_ih_l0": (32,), "bias_hh_l0": (32,)}
    tensors = {f"lstm.{name}": rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    tensors |= {"fc.weight": np.ones((2, 8), np.float32), "fc.bias": np.zeros(2, np.float32)}
    safetensors.numpy.save_file(tensors, here / "lstm.safetensors")
    (here / "recording.csv").write_text("time,flow,pressure\n0,1,2\n1,2,3\n2,3,5\n")
    (words,) = command_lines("Import")
    run([word.replace("model.safetensors", "imported.safetensors") for word in words], here)


def test_looking_after_streams(tmp_path, on_tmpfs):
    station = tmp_path / "station.toml"
    folders = {"/run/streamrnn": str(on_tmpfs), "/var/lib/streamrnn": str(tmp_path / "snapshots")}
    settings = tomllib.loads(blocks(section("Keep the streams"), "toml")[0])["state"]
    settings = {f"state.{key}": folders[value] for key, value in settings.items()}
    station.write_text("[state]\n" + "".join(f'{key[6:]} = "{at}"\n' for key, at in settings.items()))
    with serving(MODEL, settings) as daemon, daemon.line() as line:
        for name in ("pump-1", "pump-2"):
            line.send_rows(name, np.ones((4, 8), np.float32))
        line.receive(8)
        said = [
            run([folders.get(word, word) for word in words], tmp_path)
            for words in command_lines("Keep the streams")
        ]
        assert "pump-1" in said[0].stdout
        line.send("pump-1", np.ones(8, np.float32))
        assert line.receive()[0].header["epoch"] == 1  # the last command's reset


def test_a_journal(tmp_path):
    (tmp_path / "station.toml").write_text('[events]\npath = "events.db"\n')
    with Journal(tmp_path / "events.db", write=True) as journal:
        journal.connection.execute(
            "INSERT INTO events (id, kind, stream, begin_wall_ns) VALUES (17, 'event', 'pump-2', ?)",
            [time.time_ns()],
        )
    listed, _, exported = (run(words, tmp_path) for words in command_lines("What happened last night"))
    assert "goes on" in listed.stdout and "exported 1 entry" in exported.stderr
    assert "bearing" in (tmp_path / "events.csv").read_text()


def test_keys(here, tmp_path):
    lines = command_lines("On a network")
    for words in lines[:3]:
        run(words, tmp_path)
    for name in ("tuesday.csv", "model.safetensors"):
        (tmp_path / name).write_bytes((here / name).read_bytes())
    text = blocks(section("On a network"), "toml")[0]
    for name in ("valves", "desk"):
        key = (tmp_path / f"{name}.public").read_text().split()[-1]
        text = text.replace(f"<the public key of {name}>", key)
    file = tmp_path / "station.toml"
    file.write_text(text.replace("tcp://*:555", "tcp://127.0.0.1:555"))
    security = load_config(file, {"model": MODEL}).security.model_dump()
    with serving(MODEL, {f"security.{key}": value for key, value in security.items()}) as daemon:

        def there(words: list[str]) -> list[str]:
            known = {"tcp://station:5555": daemon.receives, "tcp://station:5556": daemon.publishes}
            return [known.get(word, word) for word in words]

        tail = subprocess.Popen(
            [*there(lines[4]), "--limit", "5"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        try:
            # what is published before it has subscribed is lost to it
            wait_for(lambda: tail.poll() is not None or run(there(lines[3]), tmp_path), "the reader", 60)
            wait_for(lambda: run(there(lines[3]), tmp_path) and tail.poll() is not None, "five lines", 60)
            assert len(tail.communicate()[0].splitlines()) == 5
        finally:
            tail.kill()
        own(daemon.receives, daemon.publishes, tmp_path)


def own(receives: str, publishes: str, folder: Path) -> None:
    """A publisher of one's own, with the README's lines for its keys, is answered."""
    code = blocks(section("On a network"), "python")[0].replace("open(file", f'open("{folder}/" + file')
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.linger = 0
        exec(code, {"socket": socket})
        socket.connect(receives)
        with context.socket(zmq.SUB) as reader:
            reader.linger = 0
            keys = code.replace("valves", "desk")
            exec(keys, {"socket": reader})
            reader.subscribe(b"own")
            reader.connect(publishes)
            frame = np.zeros(8, np.float32)

            def answered() -> bool:
                socket.send_multipart([b"own", HEADER + frame.tobytes()])
                return bool(reader.poll(20))

            wait_for(answered, "an answer")


HEADER = b"SR\x01\x01" + bytes(2) + b"\x01\x00" + bytes(24)


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_publisher_of_ones_own(language, tmp_path):
    """It publishes on the port that the README's daemon connects to; here, on a free one."""
    text = section("Your own publisher")
    (code,) = blocks(text, language)
    assert "tcp://127.0.0.1:5555" in code
    (port,) = free_ports(1)
    (tmp_path / f"publisher.{language}").write_text(code.replace("5555", str(port)))
    words = [sys.executable, f"publisher.{language}"]
    if language == "c":
        run([*re.search(r"`(cc .*?)`", text)[1].split(), "-o", "publisher"], tmp_path)
        words = ["./publisher"]
    with serving(MODEL, {"input.connect": (f"tcp://127.0.0.1:{port}",)}) as daemon:
        process = subprocess.Popen(words, cwd=tmp_path)
        try:
            with zmq.Context() as context, context.socket(zmq.SUB) as reader:
                reader.linger, reader.rcvtimeo = 0, round(1000 * DEADLINE_S)
                reader.subscribe(b"")
                reader.connect(daemon.publishes)
                assert reader.recv_multipart()[0] == b"machine-1"
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("language", ["python", "js", "c"])
def test_a_sender_of_json(language, tmp_path, request):
    """As the README has it, for a model of its channels."""
    text = section("Other senders")
    (code,) = blocks(text, language)
    (port,) = free_ports(1)
    write_model(random_model("lstm", ["flow", "pressure"]), tmp_path / "model.safetensors")
    file = tmp_path / ("sensor.mjs" if language == "js" else f"sensor.{language}")
    file.write_text(code.replace("5555", str(port)))
    words = [sys.executable if language == "python" else "node", file.name]
    if language == "js":
        if not request.config.getoption("--long"):
            pytest.skip("installs zeromq of npm: run with --long")
        run(re.search(r"`(npm install .*?)`", text)[1].split(), tmp_path)
    elif language == "c":
        run([*re.search(r"`(cc .*?)`", text)[1].split(), "-o", "sensor"], tmp_path)
        words = ["./sensor"]
    settings = tomllib.loads(blocks(text, "toml")[0])["input"]
    assert settings.pop("connect") == ["tcp://127.0.0.1:5555"]
    settings = {f"input.{key}": value for key, value in settings.items()}
    settings["input.connect"] = (f"tcp://127.0.0.1:{port}",)
    with serving(tmp_path / "model.safetensors", settings) as daemon:
        process = subprocess.Popen(words, cwd=tmp_path)
        try:
            name = "m-1" if language == "c" else "machine-1"
            wait_for(lambda: f'"{name}"' in daemon.get("/api/streams")[1], "its stream")
            flow, pressure = json.loads(daemon.get(f"/api/streams/{name}")[1])["channels"]
            assert -1 <= flow["value"] <= 8 and -1 <= pressure["value"] <= 6
            assert daemon.count("frames_rejected_total{syntax}") == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"`(?:python )?(tools/\w+\.py)", README))))
def test_scripts_that_measure_say_how(script):
    said = run([sys.executable, str(ROOT / script), "--help"], ROOT)
    assert f"usage: {Path(script).name}" in said.stdout


def test_how_it_works_names_what_is_there():
    (table,) = re.findall(r"\| to read \| in \|\n\|---\|---\|\n((?:\|.*\n)+)", section("How it works"))
    files, names = 0, 0
    for line in table.splitlines():
        folder, name = ROOT, ""
        for word in re.findall(r"`([^`]+)`", line):
            if not word.endswith(".py"):
                name = word
                continue
            path = ROOT / word if word.startswith("streamrnn/") else folder / word
            assert path.is_file(), line
            folder, files = (path.parent if folder == ROOT else folder), files + 1
            if name:
                assert re.search(rf"^(def|class) {name}\b", path.read_text(), re.MULTILINE), line
                name, names = "", names + 1
        assert not name, line
    assert files > 10 and names > 0
