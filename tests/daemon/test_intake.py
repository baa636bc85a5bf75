"""Messages of other formats, from real sockets to predictions: right values, streams, times and numbers."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from daemons import Daemon, serving, wait_for
from intakes import CHANNELS, PERIOD_NS, START_NS, expected, sender_of, values, wanted_of
from models import untrained

from streamrnn.model.model_file import write_model


def test_json_rows_are_answered_as_frames_are(model_file: Path):
    with serving(model_file, {"input.format": "json"}) as daemon, sender_of(daemon) as sender:
        sender.open(b"probe", b"[0, 0, 0]")
        rows = values(50)
        ts_ns = [START_NS + row * PERIOD_NS for row in range(len(rows))]
        for at, row in zip(ts_ns, rows, strict=True):
            said = dict(zip(CHANNELS, row.tolist(), strict=True)) | {"time": at, "unknown": "text"}
            sender.socket.send_multipart([b"m1", json.dumps(said).encode()])
        assert sender.answers(50) == expected(daemon, "m1", rows, ts_ns)


def test_every_form_of_a_row_is_the_same_row(model_file: Path):
    """By name, by place, nested, in lists, with the numbers that other languages write."""
    rows = np.round(values(9, 1)).astype(np.float64)
    fields = {"c1": "deep.er.value"}
    settings = {
        "input.format": "json",
        "input.fields": fields,
        "input.stream": "device.id",
        "input.time": "t.ns",
    }
    said: list[Any] = []
    for place, (a, b, c) in enumerate(rows.tolist()):
        named = {"c2": c, "deep": {"er": {"value": b}}, "device": {"id": "m1"}, "c0": int(a)}
        said.append(named | {"t": {"ns": START_NS + place * PERIOD_NS}})
    with serving(model_file, settings) as daemon, sender_of(daemon) as sender:
        sender.open(b'{"device": {"id": "probe"}, "c0": 0, "deep": {"er": {"value": 0}}, "c2": 0}')
        sender.socket.send(json.dumps(said[:3]).encode())
        for one in said[3:]:
            sender.socket.send(json.dumps(one, indent=2).encode())
        ts_ns = [START_NS + row * PERIOD_NS for row in range(len(rows))]
        assert sender.answers(9) == expected(daemon, "m1", rows, ts_ns)

        before = time.time_ns()
        bare = [
            b"[1, 2, 3]",
            b"[[1, 2.0, 3e0], [4, 5, 6]]",
            b'{"values": [7, 8, 9]}',
            b'{"0": 1, "1": 2, "2": 3}',
        ]
        for message in bare:
            sender.socket.send_multipart([b"m2", message])
        plain = np.array([[1, 2, 3], [1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]])
        answers = sender.answers(5)
        came = [answer.ts_ns for answer in answers]
        assert before <= came[0] <= came[-1] <= time.time_ns()
        assert answers == expected(daemon, "m2", plain, came)


def test_msgpack_rows_are_the_same(model_file: Path):
    rows = values(20, 2)
    with (
        serving(model_file, {"input.format": "msgpack", "input.socket": "pull"}) as daemon,
        sender_of(daemon) as sender,
    ):
        sender.open(b"probe", msgpack.packb([0, 0, 0]))
        ts_ns = [START_NS + row * PERIOD_NS for row in range(len(rows))]
        for at, row in zip(ts_ns, rows.tolist(), strict=True):
            said = {"time": msgpack.Timestamp(*divmod(at, 10**9)), **dict(zip(CHANNELS, row, strict=True))}
            sender.socket.send_multipart([b"m1", msgpack.packb(said)])
        array = {b"nd": True, b"type": "<f8", b"kind": b"", b"shape": [3], b"data": rows[0].tobytes()}
        sender.socket.send_multipart([b"m2", msgpack.packb(array)])
        answers = sender.answers(21)
        assert answers[:20] == expected(daemon, "m1", rows, ts_ns)
        assert answers[20:] == expected(daemon, "m2", rows[:1], [answers[20].ts_ns])


def test_single_values_are_assembled_and_the_daemons_clock_lets_the_last_row_go(model_file: Path):
    settings = {
        "input.format": "json",
        "input.topic": "plant/{stream}/{channel}",
        "assemble.period": "10ms",
        "assemble.lateness": "50ms",
    }
    rows = values(30, 3)
    first = START_NS // PERIOD_NS
    with serving(model_file, settings) as daemon, sender_of(daemon) as sender:
        sender.open_values("plant/{}/{}")
        for place, row in enumerate(rows.tolist()):
            at = (first + place) * PERIOD_NS
            for channel, value in zip(CHANNELS, row, strict=True):
                said = json.dumps({"value": value, "time": at})
                sender.socket.send_multipart([f"plant/m1/{channel}".encode(), said.encode()])
        predictions = sender.predictions(30)
        assert [int(each.header["seq"]) for each in predictions] == [first + place for place in range(30)]
        ts_ns = [(first + place) * PERIOD_NS for place in range(30)]
        wanted = expected(daemon, "m1", rows, ts_ns)
        assert [each.answer._replace(seq=0) for each in predictions] == [
            each._replace(seq=0) for each in wanted
        ]
        sender.socket.send_multipart([b"plant/m1/c9", b"1"])
        sender.socket.send_multipart([b"other/m1/c0", b"1"])
        sender.socket.send_multipart([b"plant/m1/c0", b'"1"'])
        sender.socket.send_multipart([b"plant/m1/c0", b"Infinity"])
        for reason in ("channel", "topic", "value", "infinite"):
            wait_for(lambda: daemon_refused(daemon).get(reason), reason)  # noqa: B023
        daemon.wait_until_it_says('"c9" is no channel of the model')


def daemon_refused(daemon: Daemon) -> dict[str, int]:
    return {one["reason"]: one["count"] for one in json.loads(daemon.get("/api/refusals")[1])["refusals"]}


def test_a_stall_holds_no_value_in_place_of_one_that_waits(model_file: Path):
    """While the daemon stands still its clock does not: what came meanwhile is read before rows go by it."""
    settings = {
        "input.format": "json",
        "input.topic": "{stream}/{channel}",
        "assemble.period": "10ms",
        "assemble.lateness": "200ms",
    }
    rows, first = values(60, 5), START_NS // PERIOD_NS

    def send(places: range) -> None:
        for place in places:
            for channel, value in zip(CHANNELS, rows[place].tolist(), strict=True):
                said = json.dumps({"value": value, "time": (first + place) * PERIOD_NS})
                sender.socket.send_multipart([f"m1/{channel}".encode(), said.encode()])

    with serving(model_file, settings) as daemon, sender_of(daemon) as sender:
        sender.open_values("{}/{}")
        send(range(30))
        got = sender.predictions(29)
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            send(range(30, 60))
            time.sleep(0.5)  # it is the stall's length that matters
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        got += sender.predictions(31)
        assert [int(each.header["seq"]) for each in got] == [first + place for place in range(60)]
        assert daemon.count("values_late_total") == 0
        ts_ns = [(first + place) * PERIOD_NS for place in range(60)]
        wanted = wanted_of(daemon, "m1", rows, ts_ns, first + np.arange(60))
        assert [each.answer for each in got] == wanted


def test_a_model_of_another_pace_is_adopted(tmp_path: Path):
    """Rows of a message that does not say their times are as far apart as the model's."""
    model = tmp_path / "model.safetensors"
    write_model(untrained(sample_period_s=0.01), model)
    program = "import sys; from streamrnn.cli import main; main(['serve', '-c', sys.argv[1]])"
    with serving(model, {"input.format": "array"}, program=program) as daemon, sender_of(daemon) as sender:
        sender.open(b"probe", b'{"dtype": "float32", "shape": [3]}', bytes(12))
        for period_s in (0.01, 1.0):
            write_model(untrained(sample_period_s=period_s, seed=round(period_s)), model)
            daemon.process.send_signal(signal.SIGHUP)
            wait_for(lambda: daemon.said.count("reloaded; ") == 1 + (period_s == 1.0), "the reload")  # noqa: B023
            sender.socket.send_multipart([b"m1", b'{"dtype": "float64", "shape": [2, 3]}', bytes(48)])
            before, after = sender.answers(2)
            assert after.ts_ns - before.ts_ns == round(period_s * 1e9)
