"""Output format "json": the same predictions in words, of a real daemon, and the thread that makes them."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from daemons import DEADLINE_S, Daemon, Line, Prediction, curve_client, serving, take, wait_for
from models import RELATIONS, untrained
from neighbours import bound
from plain_object import plain_object

from streamrnn import stats as counted
from streamrnn.daemon import json_output
from streamrnn.daemon.connections import Connections
from streamrnn.daemon.json_output import JsonOutput
from streamrnn.daemon.sockets import SUBSCRIPTION_BYTES
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.model.parts import Channel
from streamrnn.settings.config import config_text
from streamrnn.wire.frame import END, RESET, blank_predictions, pack_frame

AS_JSON = {"output.format": "json"}
T0 = 1_583_133_304_200_000_001
ODD = 'pump "1"\\\x00\n\u00e9%s{}'
METER = 123_456_789.0
NAMED = tuple(map(Channel, ('c "0"', "\u00fcber %s", "{2}\\")))
SERVED: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "next": ({}, {"every": 20, "horizon": 5}, {"row", "rows", "event"}),
    "bands": ({}, {"bands": (0.5, 0.975)}, {"row", "event"}),
    "sequence-to-vector": (RELATIONS["sequence-to-vector"], {"every": 30}, {"sequence", "event"}),
    "vector-to-sequence": (RELATIONS["vector-to-sequence"], {}, {"rows", "event"}),
    "encoder-decoder": (RELATIONS["encoder-decoder"], {"every": 30}, {"rows", "event"}),
}


def send_rows(line: Line, offset: float) -> None:
    """All that a stream can meet; of another, without a time, one row, and all is ended."""
    rows = np.round(64 * np.random.default_rng(2).normal(size=(160, 3))) / 64  # exact with the offset, too
    rows[50, 1], rows[150, 0] = np.nan, 1e6
    flags = {0: RESET, 70: RESET, len(rows) - 1: END}
    for seq, row in enumerate(rows + offset):
        if seq not in (30, 31):
            ts_ns = T0 + seq if seq % 3 else None
            frame = pack_frame(row, seq=seq, ts_ns=ts_ns, flags=flags.get(seq, 0))
            line.publisher.send_multipart([ODD.encode(), frame])
    line.publisher.send_multipart([b"last", pack_frame(rows[0] + offset, flags=END)])


def heard(model: Path, settings: dict[str, Any], offset: float = 0.0) -> list[Prediction]:
    """What a daemon publishes of them."""
    with serving(model, settings) as daemon, daemon.line() as line:
        send_rows(line, offset)
        found = line.receive()
        while found[-1].stream != "last":
            found += line.receive()
        return found


def objects_of(found: list[Prediction], model: Model, offsets: Any = None) -> list[dict[str, Any]]:
    """What predictions are as JSON, with bands of 50 and 97.5 % where they have any."""
    names = [output.name for output in model.outputs]
    payloads = [
        b"".join(part.tobytes() for part in (message.header, message.values, message.bands))
        for message in found
    ]
    return [
        plain_object(message.stream, payload, names, offsets, ["50", "97.5"])
        for message, payload in zip(found, payloads, strict=True)
    ]


@pytest.mark.parametrize("what", SERVED)
def test_each_prediction_is_the_same_in_json(what, tmp_path):
    change, predict, kinds = SERVED[what]
    model, path = untrained(**change), tmp_path / "model.safetensors"
    if what == "next":
        model = replace(model, channels=NAMED, outputs=NAMED)
    write_model(model, path)
    settings = {f"predict.{key}": value for key, value in predict.items()}
    wanted = objects_of(heard(path, settings), model)
    found = heard(path, settings | AS_JSON)
    assert [message.header for message in found] == wanted
    assert all(message.stream == message.header["stream"] for message in found)
    said = {said["kind"] for said in wanted}
    assert said | {"event"} == kinds
    if what == "bands":
        rows = [said for said in found if said.header["kind"] == "row"]
        assert all("BANDS" in said.header["flags"] for said in rows)
        assert len(rows[20].header["low"]) == len(rows[20].header["high"]) == 6
    if what == "next":
        assert said == kinds
        flags = {flag for said in wanted for flag in said["flags"]}
        assert flags >= {"WARMING", "GAP", "RESET", "IMPUTED", "ANOMALY"}
        assert {said["score"] is None for said in wanted} == {True, False}
        assert {said["time"] is None for said in wanted} == {True, False}


def test_outputs_with_an_offset_are_exact(tmp_path):
    """A meter far from 0 moves by less than float32 has steps there."""
    bare, path = untrained(mean=np.zeros(3), std=np.ones(3)), tmp_path / "model.safetensors"
    write_model(bare, path)
    wanted = objects_of(heard(path, {}), bare, [METER] * 3)
    channels = tuple(replace(channel, offset=METER) for channel in bare.channels)
    write_model(replace(bare, channels=channels, outputs=channels), path)
    found = heard(path, AS_JSON, METER)
    assert [message.header for message in found] == wanted
    assert len({said["prediction"].get("c0") for said in wanted}) > 100


def constant(name: str, value: float) -> Model:
    """A network whose one output says ``value``, whatever comes in."""
    model = untrained(mean=np.zeros(3), std=np.ones(3), target="value", outputs=[{"name": name}])
    tensors = {
        key: np.zeros_like(array) if "std" not in key else array for key, array in model.tensors().items()
    }
    tensors["head.bias"] = np.float32([value])
    return Model.from_tensors(model.settings(), tensors)


def test_a_reload_changes_the_names_with_the_model(tmp_path):
    """Under load: what the one said has its names, what the other said its own."""
    path = tmp_path / "model.safetensors"
    write_model(constant("old", 1), path)
    with serving(path, AS_JSON) as daemon, daemon.line() as line:
        write_model(constant("new", 2), path)
        block, blocks = np.zeros((100, 3), np.float32), 80
        for number in range(blocks):
            line.send("a", block, seq=100 * number)
            if number == blocks // 2:
                assert line.subscriber.poll(1000 * DEADLINE_S)
                daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_it_says("reloaded")
        line.send("a", block[0], seq=100 * blocks)
        found = [message.header for message in line.receive(100 * blocks + 1)]
        assert [said["seq"] for said in found] == [*range(len(found))]
        said = [said["prediction"] for said in found]
        before = said.count({"old": 1.0})
        assert said == [{"old": 1.0}] * before + [{"new": 2.0}] * (len(said) - before)
        assert 0 < before < len(said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_published_leaves_before_the_end(model_file, number):
    with serving(model_file, AS_JSON) as daemon, daemon.line() as line:
        line.send("a", np.zeros((8000, 3), np.float32), seq=0)
        received = line.receive()  # and the rest is on its way, or still to be made
        assert daemon.stop(number) == 0
        end = daemon.said.splitlines()[-1]
        frames, predictions = (int(word) for word in end.split() if word.isdigit())
        mine = predictions - (frames - 1)  # those that opened the line had one row each
        received += line.receive(mine - 1)
        assert [message.header["seq"] for message in received] == [*range(mine)]
        assert not line.subscriber.poll(0)


def test_a_subscriber_that_never_reads_delays_nobody(model_file):
    with serving(model_file, AS_JSON) as daemon, daemon.line() as line, zmq.Context() as context:
        stuck = context.socket(zmq.SUB)
        stuck.rcvhwm, stuck.rcvbuf, stuck.linger = 1, 4096, 0
        stuck.subscribe(b"")
        stuck.connect(daemon.publishes)

        def sends() -> int:
            line.send("stuck, here?", np.zeros(3))
            line.receive()
            return stuck.poll(1)

        wait_for(sends, "the second subscription")
        block, found = np.zeros((2000, 3), np.float32), list[int]()
        for number in range(20):  # twice as many as are held for one that does not read
            line.send("flood", block, seq=number * len(block))
            while len(found) < (number + 1) * len(block):
                found += [said["seq"] for _, said, *_ in line.receive() if said["kind"] == "row"]
        assert found == [*range(len(found))]
        stuck.close()


# its socket


@pytest.mark.parametrize(
    ("form", "row"), [("frame", pack_frame(np.zeros(3, np.float32))), ("json", b"[0, 0, 0]")]
)
def test_a_key_that_is_taken_from_the_list_hears_no_more(model_file, tmp_path, form, row):
    """And who is still listed, publishers whose messages an adapter reads among them, comes back to the port
    that was any.
    """
    server, private = zmq.curve_keypair()
    secret = tmp_path / "station.secret"
    secret.touch(0o600)
    secret.write_bytes(private)
    pumps, desk, lobby = (zmq.curve_keypair() for _ in range(3))
    settings = AS_JSON | {
        "input.format": form,
        "security.server_secret": str(secret),
        "security.client_keys": [pumps[0].decode()],
        "security.output_clients": [desk[0].decode(), lobby[0].decode()],
    }

    with zmq.Context() as context, serving(model_file, settings) as daemon:
        assert daemon.publishes.startswith("tcp://127.0.0.1:")
        publisher = curve_client(context, zmq.PUB, pumps, server, daemon.receives)
        reader, removed = (
            curve_client(context, zmq.SUB, keys, server, daemon.publishes) for keys in (desk, lobby)
        )

        def hears(socket: zmq.Socket) -> bool:
            publisher.send_multipart([b"a", row])
            return bool(socket.poll(10)) and take(socket).header["stream"] == "a"

        for socket in (reader, removed):
            wait_for(lambda socket=socket: hears(socket), "a prediction")
        text = config_text(daemon.config)
        config_file(daemon).write_text(text.replace(f', "{lobby[0].decode()}"', ""))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_it_says("reloaded")
        daemon.wait_until_it_says(f"output: refused the key {lobby[0].decode()}")
        while removed.poll(0):  # said before
            take(removed)
        while reader.poll(0):
            take(reader)
        for _ in range(50):
            wait_for(lambda: hears(reader), "a prediction for who is still listed")
        assert not removed.poll(0)
        for socket in (publisher, reader, removed):
            socket.close()


def config_file(daemon: Daemon) -> Path:
    return Path(daemon.process.args[-1])  # type: ignore[arg-type, index]


def test_a_subscriber_that_breaks_the_rules_is_connected_anew(model_file):
    """libzmq never tries again where it met one: the thread does."""
    with zmq.Context() as context:
        subscriber, endpoint = bound(context, zmq.XSUB)
        with serving(model_file, AS_JSON | {"output.connect": [endpoint]}) as daemon:
            publisher = context.socket(zmq.PUB)
            publisher.linger = 0
            publisher.connect(daemon.receives)
            subscriber.send(b"\x01")

            def hears() -> bool:
                publisher.send_multipart([b"a", pack_frame(np.zeros(3, np.float32))])
                return bool(subscriber.poll(10))

            wait_for(hears, "a prediction")
            subscriber.send(b"?" * (SUBSCRIPTION_BYTES + 1))
            daemon.wait_until_it_says("connecting anew")
            while subscriber.poll(0):  # said before
                take(subscriber)
            wait_for(hears, "a prediction")
            assert take(subscriber).header["stream"] == "a"
            publisher.close()
        subscriber.close()


# the thread


class Thread:
    """A JsonOutput without a daemon, what it publishes, and a pump played by the test."""

    def __init__(self, context: zmq.Context, model: Model):
        self.counters, self.broken = np.zeros(6, np.int64), 0
        self.context = context
        self.subscriber = context.socket(zmq.PULL)  # nothing is lost on the way
        self.subscriber.linger, self.subscriber.rcvhwm = 0, 0
        self.subscriber.rcvtimeo = round(1000 * DEADLINE_S)
        self.address = "inproc://subscriber"
        self.subscriber.bind(self.address)
        self.output = JsonOutput(context, model, (), 68, self.counters, self._breaks)
        self.socket = self.publisher()
        self.sink = self.output.start(Connections(self.socket, ()))

    def publisher(self) -> zmq.Socket:
        publisher = self.context.socket(zmq.PUSH)
        publisher.sndhwm = 0
        publisher.connect(self.address)
        return publisher

    def _breaks(self) -> None:
        self.broken += 1

    def send(self, first: int, last: int) -> None:
        """As the pump does: what does not fit is lost, and counted as sent."""
        said = blank_predictions(1)
        said["kind"] = said["horizon"] = 1
        for seq in range(first, last):
            said["seq"] = seq
            with contextlib.suppress(zmq.Again):
                self.sink.send(b"a", zmq.SNDMORE | zmq.NOBLOCK)
                self.sink.send(said.tobytes() + np.float32(seq).tobytes(), zmq.NOBLOCK)
            self.counters[counted.PREDICTIONS] += 1

    def heard(self, count: int) -> list[dict[str, Any]]:
        return [take(self.subscriber).header for _ in range(count)]


@pytest.fixture
def thread() -> Iterator[Thread]:
    with zmq.Context() as context:
        thread = Thread(context, constant("old", 1))
        yield thread
        thread.output.close(0)
        context.destroy(0)


def test_models_and_sockets_change_between_two_predictions(thread):
    thread.send(0, 3000)
    thread.output.adopt(constant("new", 2))
    thread.send(3000, 6000)
    thread.output.reopen(lambda: Connections(thread.publisher(), ()))
    thread.output.adopt(constant("newest", 3))
    thread.send(6000, 9000)
    names = ["old"] * 3000 + ["new"] * 3000 + ["newest"] * 3000
    found = sorted(thread.heard(9000), key=lambda said: said["seq"])  # of two sockets, by turns
    assert [said["prediction"] for said in found] == [{name: float(seq)} for seq, name in enumerate(names)]


def test_an_output_that_cannot_be_opened_again_is_said(thread):
    def fails() -> Connections:
        raise zmq.ZMQError(zmq.EADDRINUSE)

    with pytest.raises(zmq.ZMQError):
        thread.output.reopen(fails)


def test_what_comes_too_fast_is_lost_and_counted(monkeypatch, caplog):
    monkeypatch.setattr(json_output, "_WAITING", 50)
    with zmq.Context() as context, caplog.at_level(logging.WARNING, "streamrnn"):
        thread = Thread(context, constant("old", 1))
        sent = 0

        def lost() -> bool:
            nonlocal sent
            thread.send(sent, sent + 5000)
            sent += 5000
            return "came faster than they could be made JSON" in caplog.text

        wait_for(lost, "a word on it")
        thread.output.close(0)
        found = []
        while thread.subscriber.poll(0):
            found += [said["seq"] for said in thread.heard(1)]
        assert 0 < len(found) < sent
        assert found == sorted(found)
        context.destroy(0)


def test_a_thread_that_breaks_ends_the_daemon(thread, caplog):
    thread.socket.close(0)
    thread.send(0, 1)
    wait_for(lambda: thread.broken, "its failure")
    assert thread.output.failed
    assert "JSON output broke; ending" in caplog.text
    thread.output.adopt(constant("new", 2))  # which nobody does; nor waits for it
