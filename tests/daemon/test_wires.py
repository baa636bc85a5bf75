"""What other programs send, through real sockets, to predictions: values, streams, times, numbers."""

import json
from pathlib import Path

import numpy as np
import zmq
from daemons import serving
from intakes import expected, sender_of, wanted_of
from wires import RATE, STREAM, block, golden, samples
from wires import expected as sent

FIELDS = {"input.fields": {"c0": "a", "c1": "b", "c2": "c"}}
PULSE_NS, PULSE = 1_700_000_000_500_000_000, 1000  # time and number of the first pulse of a recording


def test_arrays_of_pyzmq_and_numpy(model_file: Path):
    """As the guide of pyzmq sends them, one row or several, of types and orders of their own."""
    rows = np.round(np.random.default_rng(1).normal(0, 100, (8, 3)))

    def send_array(socket: zmq.Socket, array: np.ndarray) -> None:
        socket.send_string("m1", zmq.SNDMORE)
        socket.send_json({"dtype": str(array.dtype), "shape": array.shape}, zmq.SNDMORE)
        socket.send(array, copy=False)

    with serving(model_file, {"input.format": "array"}) as daemon, sender_of(daemon) as sender:
        sender.open(b"probe", b'{"dtype": "float32", "shape": [3]}', bytes(12))
        send_array(sender.socket, rows[0])
        send_array(sender.socket, rows[1:4].astype(np.float32))
        send_array(sender.socket, rows[4].astype(np.int16))
        send_array(sender.socket, rows[5:].astype(">f8"))
        answers = sender.answers(8)
        assert answers == expected(daemon, "m1", rows, [answer.ts_ns for answer in answers])
        times = [answer.ts_ns for answer in answers]
        assert (
            np.diff(times[1:4]).tolist() == np.diff(times[5:]).tolist() == [10_000_000] * 2
        )  # the model's period


def test_sinks_of_gnu_radio(model_file: Path):
    settings = {"input.format": "gnuradio", "input.stream": "radio", "input.socket": "pull"}
    for name, stream, numbered in (("push", "radio", False), ("key-tags", "motor 1", True)):
        with serving(model_file, settings) as daemon, sender_of(daemon) as sender:
            sender.open(b"probe", bytes(12))
            for parts in golden(f"gnuradio-{name}"):
                sender.socket.send_multipart(parts)
            answers = sender.answers(40)
            times = [answer.ts_ns for answer in answers]
            seq = np.arange(40) if numbered else None
            assert answers == wanted_of(daemon, stream, sent(40), times, seq)
            assert {answer.flags for answer in answers[1:] if "RESET" in answer.flags} == set()


def test_pulses_of_bsread(model_file: Path):
    settings = {"input.format": "bsread", "input.stream": "beam", "input.socket": "pull"} | FIELDS
    with serving(model_file, settings) as daemon, sender_of(daemon) as sender:
        main, *rest = golden("bsread-push")[0]
        sender.open(json.dumps(json.loads(main) | {"beam": "probe"}).encode(), *rest)  # a key, if it is there
        for parts in golden("bsread-push"):
            sender.socket.send_multipart(parts)
        times = [PULSE_NS + place * 10**9 for place in range(12)]
        assert sender.answers(12) == wanted_of(daemon, "beam", sent(12), times, PULSE + np.arange(12))


def test_blocks_of_open_ephys(model_file: Path):
    settings = {"input.format": "open-ephys", "input.socket": "pull"} | FIELDS
    with serving(model_file, settings) as daemon, sender_of(daemon) as sender:
        first, second, third = block(1, 0, 1, stream="probe")
        sender.socket.send_multipart(first)
        sender.socket.send_multipart(second)
        sender.open(*third)
        for parts in (*block(1, 0), *block(4, 4), *block(7, 8, 3)):
            sender.socket.send_multipart(parts)
        answers = sender.answers(11)
        rows = np.stack([samples(0, 11, channel) for channel in range(3)], axis=1)
        times = [answer.ts_ns for answer in answers]
        assert answers == wanted_of(daemon, STREAM, rows, times, np.arange(11))
        assert np.diff(times).tolist() == [round(1e9 / RATE)] * 10
