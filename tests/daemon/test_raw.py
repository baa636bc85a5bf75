"""Raw messages, which say nothing of themselves: what cannot be rows of the model's sensors is refused."""

import json
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from daemons import DEADLINE_S, Daemon, rows_answers, serving, wait_for
from models import untrained
from plain_raw import PROOF, RawRules

from streamrnn.engine.options import rules_for
from streamrnn.model.model import random_model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.settings.sections import Faults
from streamrnn.stats import REASONS
from streamrnn.wire.frame import pack_frame

CHANNELS = 8
RNG = np.random.default_rng(17)
RAW = {"input.format": "raw", "input.socket": "pull"}


@pytest.fixture(scope="module")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "model.safetensors"
    write_model(untrained(channels=CHANNELS), path)
    return path


@pytest.fixture(scope="module")
def daemon(raw_model: Path) -> Iterator[Daemon]:
    with serving(raw_model, RAW) as daemon:
        yield daemon


def rows(count: int, channels: int = CHANNELS) -> np.ndarray:
    return RNG.normal(0, 10, (count, channels)).astype(np.float32)


def told(daemon: Daemon, reason: str) -> dict[str, Any]:
    """What ``/api/refusals`` says of a reason."""
    return next(
        said for said in json.loads(daemon.get("/api/refusals")[1])["refusals"] if said["reason"] == reason
    )


def counted(daemon: Daemon) -> Counter[str]:
    """What was rejected, by reason."""
    metrics = daemon.metrics()
    return Counter({name: int(metrics[f"streamrnn_frames_rejected_total{{{name}}}"]) for name in REASONS})


ROW = rows(1)[0]
HEADER = json.dumps({"dtype": "float32", "shape": [CHANNELS]}).encode()
# what is wrong -> the message, "{}" in its topic a name; what is told of it beside the topic
WRONG: dict[str, tuple[list[bytes], str]] = {
    "float64: NumPy's default": ([b"{}", ROW.astype("<f8").tobytes()], "64 bytes, 32 wanted"),
    "float64: or two rows": ([b"{}", rows(2).tobytes()], "64 bytes, 32 wanted"),
    "implausible: big-endian": ([b"{}", ROW.astype(">f4").tobytes()], "c"),
    "implausible: big-endian, round": ([b"{}", np.arange(8, dtype=">f4").tobytes()], "c1 is 4.6006e-41"),
    "implausible: big-endian, in a block": ([b"{}", np.arange(24, dtype=">f4").tobytes()], "c"),
    "implausible: text": ([b"{}", b"temperature 21.5, humidity 40.2 "], "c"),
    "implausible: numbers as text": ([b"{}", b"8.58 7.56 5.67 7.88 5.55 9.65 8."], ""),
    "implausible: integers": ([b"{}", np.arange(8, dtype="<i4").tobytes()], "c1 is 1e-45"),
    "implausible: four float64": ([b"{}", np.array([0.1, 0.2, 0.3, 0.7]).tobytes()], "c"),
    "implausible: one wild value": ([b"{}", np.array([*ROW[:7], 1e30], "<f4").tobytes()], "c7 is 1e+30"),
    "topic: send_array's header": ([HEADER, ROW.tobytes()], ""),
    "topic: a list": ([b"[1, 2]", ROW.tobytes()], ""),
    "topic: a request": ([b"GET / HTTP/1.1\r\nHost: {}", ROW.tobytes()], ""),
    "topic: a letter that is none": ([b"{}\x7f", ROW.tobytes()], ""),
    "topic: not UTF-8": ([b"{}\xff", ROW.tobytes()], ""),
    "parts: send_array's, with a topic": ([b"{}", HEADER, ROW.tobytes()], "3 parts, 2 wanted"),
    "parts: values alone": ([ROW.tobytes()], "1 part, 2 wanted"),
    "infinite: a value": ([b"{}", np.array([*ROW[:7], np.inf], "<f4").tobytes()], "c7 is infinite"),
    "missing: a value": ([b"{}", np.array([*ROW[:7], np.nan], "<f4").tobytes()], "c7 is missing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_and_nothing_else_changes(daemon, wrong):
    reason, good, beside = wrong.partition(":")[0], rows(40), f"beside {wrong}"
    parts, what = WRONG[wrong]
    message = [part.replace(b"{}", wrong.encode()) if part is parts[0] else part for part in parts]
    values = len(message[-1]) // (4 * CHANNELS) if reason in ("implausible", "topic") else 1
    with daemon.line() as line:
        before, held = counted(daemon), daemon.count("streams")
        for row in good:
            line.publisher.send_multipart(message)
            line.send(beside, row)
        assert line.answers(len(good)) == rows_answers(daemon.engine(), beside, good)
        assert counted(daemon) - before == {reason: len(good) * values}
        assert daemon.count("streams") == held + 1
    said = told(daemon, reason)
    assert said["what"].startswith(what)
    if len(message) == 2 and b"\xff" not in message[0]:
        assert said["topic"] == message[0].decode().replace("\r\n", "\\r\\n").replace("\x7f", "\\x7f")


def test_every_reason_of_raw_messages_alone_is_provoked():
    assert {"float64", "implausible"} <= {wrong.partition(":")[0] for wrong in WRONG} <= set(REASONS)


def test_a_wild_value_of_a_stream_that_goes_on_is_taken(daemon):
    good = rows(30)
    good[10, 3], good[20:25, 5], good[29] = 1e30, -3e8, 1e-30
    with daemon.line() as line:
        line.send_rows("wild", good)
        assert line.answers(30) == rows_answers(daemon.engine(), "wild", good)


def test_what_is_no_row_of_a_stream_leaves_it_as_it_is(daemon):
    good, before = rows(30), daemon.count("frames_rejected_total{implausible}")
    with daemon.line() as line:
        for row in good:
            line.send("steady", row)
            for wrong in (b"temperature 21.5, humidity 40.2 ", row.astype(">f4").tobytes()):
                line.publisher.send_multipart([b"steady", wrong])
        assert line.answers(30) == rows_answers(daemon.engine(), "steady", good)
    assert daemon.count("frames_rejected_total{implausible}") == before + 60


def test_who_sent_what_is_implausible_begins_once_it_has_sent_better(daemon):
    good = rows(PROOF + 5)
    with daemon.line() as line:
        for _ in range(3):
            line.publisher.send_multipart([b"mended", np.arange(8, dtype=">f4").tobytes()])
        line.send_rows("mended", good)
        assert line.answers(5) == rows_answers(daemon.engine(), "mended", good[PROOF:])


def test_bounds_are_wide_where_little_moved_in_training():
    mean, std = np.array([0, 300, -2e9, 0, 0]), np.array([1e-9, 0.5, 1, 1e4, 1e35])
    model = untrained(channels=5, mean=mean, std=std)
    rules = rules_for(model, Faults(), 0)
    wide, most = np.array([1e6, 3e8, 2e15, 1e10]), np.finfo(np.float32).max
    np.testing.assert_allclose(rules.highest, [*(mean[:4] + wide), most], rtol=1e-6)
    np.testing.assert_allclose(rules.lowest, [*(mean[:4] - wide), -most], rtol=1e-6)
    np.testing.assert_allclose(rules.least, 1e-6 * std, rtol=1e-6)
    unknown = rules_for(random_model("lstm", 5, 4), Faults(), 0)
    np.testing.assert_allclose(unknown.highest, 1e12, rtol=1e-6)


LETTERS = b"abcdefghijklmnopqrstuvwxyz ABC 0123456789 .,;\r\n"
SIZES = [0, 3, 4, 11, 13, 20, 29, 30, 48]
# payloads for three channels
KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "good": lambda r: _normal(r, 1),
    "blocks": lambda r: _normal(r, r.choice([1, 2, 3, 40, 200])),
    "big-endian": lambda r: _normal(r, r.choice([1, 1, 3]), ">f4"),
    "big-endian, round": lambda r: np.array([r.randrange(-50, 50) / 2 for _ in range(3)], ">f4").tobytes(),
    "integers": lambda r: np.array([r.randrange(-5, 3000) for _ in range(3)], "<i4").tobytes(),
    "float64": lambda r: _normal(r, r.choice([1, 2, 3]), "<f8"),
    "text": lambda r: bytes(r.choice(LETTERS) for _ in range(12 * r.choice([1, 1, 3, 7]))),
    "figures": lambda r: b" ".join(b"%.4f" % r.uniform(0, 9) for _ in range(20))[: 12 * r.choice([1, 3])],
    "noise": lambda r: r.randbytes(12),
    "sizes": lambda r: r.randbytes(r.choice(SIZES)),
    "wild": lambda r: _with(r, [r.choice([1, -1]) * 10 ** r.uniform(0, 38) for _ in range(r.randint(1, 3))]),
    "small": lambda r: _with(r, [10 ** -r.uniform(0, 45) for _ in range(r.randint(1, 3))]),
    "zeros": lambda r: _with(r, [0.0] * r.randint(1, 3)),
    "infinite": lambda r: _with(r, [r.choice([np.inf, -np.inf, np.nan, 1e20, 3.4e38])]),
    "missing": lambda r: _with(r, [np.nan] * r.randint(1, 3)),
}


def _normal(r: random.Random, count: int, kind: str = "<f4") -> bytes:
    return np.array([r.gauss(0, 10) for _ in range(3 * count)]).astype(kind).tobytes()


def _with(r: random.Random, values: list[float]) -> bytes:
    row = np.frombuffer(_normal(r, 1), "<f4").copy()
    row[r.sample(range(3), len(values))] = values
    return row.tobytes()


def test_raw_messages_fare_as_in_plain_python(model_file):
    r, plain, beside = random.Random(3), RawRules(read_model(model_file)), rows(2000, 3)
    with serving(model_file, RAW) as daemon, daemon.line() as line:
        before = counted(daemon)
        line.subscriber.subscribe("beside")
        line.subscriber.unsubscribe("")
        sent = 0
        for kind, payload in KINDS.items():
            # on a topic that is a stream already, on one that is not, and by turns
            for topic in (f"{kind} after good", f"{kind} alone", f"{kind} by turns"):
                for turn in range(300):
                    good = turn < 5 if "after" in topic else "turns" in topic and turn % 20
                    message = _normal(r, 1) if good else payload(r)
                    line.publisher.send_multipart([topic.encode(), message])
                    plain.take(topic, message)
                    if turn % 10 == 0:
                        line.send("beside", beside[sent])
                        sent += 1
        line.send("beside", beside[sent])
        assert line.answers(sent + 1) == rows_answers(daemon.engine(), "beside", beside[: sent + 1])
        assert counted(daemon) - before == +plain.counts
        for topic, taken in plain.taken.items():
            status, text = daemon.get(f"/api/streams/{quote(topic)}")
            assert (status, status == 200 and json.loads(text)["seq"] + 1) == (200 if taken else 404, taken)
    assert {"float64", "implausible", "missing", "infinite", "channels", "truncated"} < set(plain.counts)


REQUEST = (
    "GET /{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 "
    "Firefox/128.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nPriority: u=0, i\r\n\r\n"
)


def browse(daemon: Daemon, pages: int) -> None:
    """Asks the input socket for pages of longer and longer names, as a browser does."""
    address = daemon.receives.removeprefix("tcp://")
    host, _, port = address.partition(":")
    for number in range(pages):
        with socket.create_connection((host, int(port)), DEADLINE_S) as browser:
            browser.sendall(REQUEST.format("a" * number, address).encode())


@pytest.mark.parametrize("channels", [1, CHANNELS])
def test_a_browser_begins_no_stream(tmp_path, channels):
    """To libzmq the first letter of a request is the length of a ZMTP 1.0 message."""
    write_model(untrained(channels=channels), tmp_path / "model.safetensors")
    settings = {"input.format": "raw", "input.stream": "alone"}
    with serving(tmp_path / "model.safetensors", settings) as daemon, daemon.line() as line:
        good, before = rows(40, channels), daemon.count("frames_received_total")
        held = daemon.count("streams")
        browse(daemon, 100)
        wait_for(lambda: daemon.count("frames_received_total") > before + 50, "messages made of requests")
        line.send_rows("beside", good)
        assert line.answers(len(good)) == rows_answers(daemon.engine(), "beside", good)
        assert daemon.count("streams") == held + 1
        refused = counted(daemon)
    assert {"parts", "topic", "implausible"} <= set(+refused) if channels == 1 else refused["parts"]


def test_messages_of_one_part_are_of_the_stream_that_is_named(raw_model):
    good, named = rows(45), rows(45)
    with (
        serving(raw_model, {"input.format": "raw", "input.stream": "alone"}) as daemon,
        daemon.line() as line,
    ):
        for one, other in zip(good, named, strict=True):
            line.publisher.send(one.tobytes())
            line.send("named", other)
        line.publisher.send(good.tobytes())
        answers, engine = line.answers(135), daemon.engine()
        for name, sent in (("named", named), ("alone", np.vstack([good, good]))):
            assert [answer for answer in answers if answer.stream == name] == rows_answers(engine, name, sent)
        for message in (b"", bytes(31), ROW.astype("<f8").tobytes(), ROW.astype(">f4").tobytes()):
            line.publisher.send(message)
        line.publisher.send_multipart([b"a", b"b", b"c"])
        line.send("named", good[0])
        line.answers(1)
        refused = {said["reason"]: said for said in json.loads(daemon.get("/api/refusals")[1])["refusals"]}
    assert {reason: said["topic"] for reason, said in refused.items()} == {
        "truncated": "alone",
        "float64": "alone",
        "implausible": "alone",
        "parts": "a",
    }
    assert (refused["truncated"]["count"], refused["truncated"]["what"]) == (2, "31 bytes, 32 wanted")
    assert refused["parts"]["what"] == "3 parts, 2 wanted"


def test_frames_of_one_part_pass_topics_that_they_begin_with(model_file):
    good = rows(10, 3)
    settings = {"input.stream": "Ü" * 63 + "x", "input.topics": ["SR"]}
    with serving(model_file, settings) as daemon, daemon.line() as line:
        for row in good:
            line.publisher.send(b"?" + pack_frame(row))  # passes nowhere
            line.publisher.send(pack_frame(row))
        assert line.answers(10) == rows_answers(daemon.engine(), "Ü" * 63 + "x", good)
        line.publisher.send(b"SRx")
        line.send("SR two", good[0])
        assert line.answers(1)[0].stream == "SR two"
        assert +counted(daemon) == {"truncated": 1}
