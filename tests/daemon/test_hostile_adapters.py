"""Rubbish at each adapter: every message counted, nothing run, memory flat, the stream beside it the same."""

import json
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
import zmq
from daemons import DEADLINE_S, Daemon, serving, take, wait_for
from intakes import CHANNELS, OF_ADAPTERS, PERIOD_NS, START_NS, expected, values

MESSAGES, MANY_MESSAGES = 4000, 100_000  # without and with --long
EACH = 20  # rubbish between two good rows
LEAK_BYTES = 24 << 20


class Wire(NamedTuple):
    """What one format has of good and bad."""

    good: Callable[[str, list[float], int], list[bytes]]  # stream, row, ns -> parts
    bad: Callable[[Path], list[list[bytes]]]  # messages none of which is a row; the path is a trap's


class Trap:
    """What makes a file where it is unpickled."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def good_json(stream: str, row: list[float], ns: int) -> list[bytes]:
    return [stream.encode(), json.dumps({"time": ns, **dict(zip(CHANNELS, row, strict=True))}).encode()]


def bad_json(trap: Path) -> list[list[bytes]]:
    whole = b'{"c0": 1, "c1": 2, "c2": 3}'
    payloads = [
        *(
            b"",
            b" ",
            b"{",
            b"[",
            b'"',
            b"nul",
            b"[1, 2",
            b"1 2",
            b"{}",
            b"[]",
            b"[[]]",
            b"[{}]",
            b"null",
            b"7",
            b'"text"',
        ),
        *(
            whole[:-1],
            whole + b"x",
            b"\xff" + whole,
            whole.replace(b"3", b"'3'"),
            b"[1, 2, 3, 4]",
            b"[[1, 2]]",
        ),
        *(
            b'{"c0": "1", "c1": 2, "c2": 3}',
            b'{"c0": [1], "c1": 2, "c2": 3}',
            b'{"c0": {}, "c1": 2, "c2": 3}',
        ),
        *(
            b'{"c0": 1, "c0": 2, "c1": 3}',
            b'{"c0": 1e999, "c1": 2, "c2": 3}',
            b'{"c0": Infinity, "c1": 2, "c2": 3}',
        ),
        *(
            b'{"time": "soon", "c0": 1}',
            b'{"time": 1e300, "c0": 1}',
            b'{"time": [], "c0": 1}',
            b'{"other": 1}',
        ),
        *(
            b"[" * 100_000,
            b'{"a":' * 5000,
            b'{"c0": ' + b"9" * 5000 + b"}",
            b'{"c0": "' + b"x" * 100_000 + b'"}',
        ),
        pickle.dumps(Trap(trap)),
    ]
    return [[b"bad", payload] for payload in payloads] + [
        [b"", whole],
        [b"\xff", whole],
        [b"a" * 128, whole],
        [b"a", b"b", whole],
    ]


def good_msgpack(stream: str, row: list[float], ns: int) -> list[bytes]:
    return [stream.encode(), msgpack.packb({"time": ns, **dict(zip(CHANNELS, row, strict=True))})]


def bad_msgpack(trap: Path) -> list[list[bytes]]:
    def array(**more: Any) -> bytes:
        said = {b"nd": True, b"type": "<f8", b"kind": b"", b"shape": [3], b"data": bytes(24)}
        return msgpack.packb(said | {key.encode(): value for key, value in more.items()})

    whole = msgpack.packb([1, 2, 3])
    payloads = [
        *(
            b"",
            whole[:-1],
            whole + b"\x00",
            b"\xc1",
            b"\x91" * 5000,
            b"\xdf\xff\xff\xff\xff",
            b"\xdd\xff\xff\xff\xff",
        ),
        *(
            msgpack.packb(said)
            for said in ({}, [], 7, None, "text", [1, 2], ["1", 2, 3], {"c0": "1", "c1": 2, "c2": 3}, {1: 2})
        ),
        b"\x82\xa2c0\x01\xa2c0\x02",
        b"\x81\x91\x01\x02",
        msgpack.packb(msgpack.ExtType(5, b"x")),
        array(kind=b"O", type="O", data=pickle.dumps(Trap(trap))),
        array(kind=b"V", type=[["a", "<f8"]]),
        *(
            array(shape=[2]),
            array(shape=[-3]),
            array(shape=[10**9, 10**9]),
            array(type="O"),
            array(type="f8, f8"),
            array(data="x"),
        ),
        pickle.dumps(Trap(trap)),
    ]
    return [[b"bad", payload] for payload in payloads]


REASONS = {"json": OF_ADAPTERS - {"shape"}, "msgpack": {"syntax", "value", "shape", "dtype", "channels"}}
WIRES = {"json": Wire(good_json, bad_json), "msgpack": Wire(good_msgpack, bad_msgpack)}


def flood(wire: Wire, trap: Path, rng: random.Random) -> Iterator[list[bytes]]:
    """Messages of which none is a row."""
    bad = wire.bad(trap)
    while True:
        yield rng.choice(bad)


def anonymous_bytes(daemon: Daemon) -> int:
    text = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return 1024 * int(next(line for line in text.splitlines() if line.startswith("RssAnon")).split()[1])


@pytest.mark.parametrize("form", WIRES)
def test_rubbish(model_file: Path, tmp_path: Path, request: pytest.FixtureRequest, form: str):
    count = MANY_MESSAGES if request.config.getoption("--long") else MESSAGES
    wire, trap = WIRES[form], tmp_path / "trap"
    rubbish = flood(wire, trap, random.Random(5))
    rows = values(count // EACH, seed=4)
    ts_ns = [START_NS + place * PERIOD_NS for place in range(len(rows))]
    settings = {"input.format": form, "input.socket": "pull"}
    with serving(model_file, settings) as daemon, zmq.Context() as context:
        source, sink = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        for socket, address in ((source, daemon.receives), (sink, daemon.publishes)):
            socket.linger = 0
            socket.sndtimeo = socket.rcvtimeo = round(1000 * DEADLINE_S)
            socket.connect(address)
        sink.rcvhwm = 0
        sink.subscribe("good")
        while not sink.poll(10):
            source.send_multipart(wire.good("good probe", rows[0].tolist(), ts_ns[0]))
        sent, memory = 0, 0
        answers = []
        for place, (at, row) in enumerate(zip(ts_ns, rows.tolist(), strict=True)):
            for _ in range(EACH):
                source.send_multipart(next(rubbish))
            source.send_multipart(wire.good("good", row, at))
            sent += EACH
            while len(answers) <= place:
                prediction = take(sink)
                if prediction.stream == "good" and prediction.header["horizon"]:
                    answers.append(prediction.answer)
            if place == len(rows) // 4:
                memory = anonymous_bytes(daemon)
        assert answers == expected(daemon, "good", rows, ts_ns)
        wait_for(lambda: rejected(daemon) == sent, f"{sent} rejected messages")
        assert anonymous_bytes(daemon) - memory < LEAK_BYTES
        assert not trap.exists()
        assert REASONS[form] <= {one["reason"] for one in refusals(daemon)}
        for socket in (source, sink):
            socket.close()
    print(f"{form}: {sent} messages")


def refusals(daemon: Daemon) -> list[dict[str, Any]]:
    return json.loads(daemon.get("/api/refusals")[1])["refusals"]


def rejected(daemon: Daemon) -> int:
    return sum(one["count"] for one in refusals(daemon))
