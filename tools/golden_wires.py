#!/usr/bin/env python3
"""Writes tests/golden/wires: messages of other senders, as they came over a socket.

    /usr/bin/python3 tools/golden_wires.py gnuradio FOLDER     where GNU Radio is installed
    python tools/golden_wires.py bsread FOLDER                 where psi-bsread is installed

Needed only to add a case, or to see that another version still sends the same: the tests read what it wrote.
A file has the name of its sender, and for each message its parts in hexadecimal.
"""

import json
import sys
import time
from pathlib import Path

CHANNELS, JOINED_S = 3, 1.0  # seconds until a subscriber is known to a publisher that does not say so


def rows(count: int, first: int = 0) -> list[list[float]]:
    """Row k is k, k + 0.25, k + 0.5: exact in every float."""
    return [[k + channel / 4 for channel in range(CHANNELS)] for k in range(first, first + count)]


class Recording:
    """What a socket receives until nothing comes any more."""

    def __init__(self, kind: int, endpoint: str) -> None:
        import zmq

        self._zmq, self._context = zmq, zmq.Context()
        self._socket = self._context.socket(kind)
        self._socket.rcvtimeo = 1500
        if kind == zmq.SUB:
            self._socket.subscribe(b"")
        self._socket.connect(endpoint)
        time.sleep(JOINED_S)

    def messages(self) -> list[list[str]]:
        received = []
        try:
            while True:
                received.append([part.hex() for part in self._socket.recv_multipart()])
        except self._zmq.Again:
            return received
        finally:
            self._context.destroy(linger=0)


def write(folder: Path, name: str, sender: str, messages: list[list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"sender": sender, "messages": messages}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{name}: {len(messages)} messages of {[sum(map(len, m)) // 2 for m in messages][:8]} bytes")


def gnuradio(folder: Path) -> None:
    """40 rows by each kind of sink; two flow graphs one after another where there are tags."""
    import pmt
    import zmq
    from gnuradio import blocks, gr, zeromq

    sender = f"GNU Radio {gr.version()}"

    def tag(offset: int, key: str, value: object) -> gr.tag_t:
        made = gr.tag_t()
        made.offset, made.key, made.value, made.srcid = offset, pmt.intern(key), value, pmt.intern("source")
        return made

    # of every kind of value that a tag can have
    time_of_first = pmt.make_tuple(pmt.from_uint64(1_700_000_000), pmt.from_double(0.5))
    values = {
        "rx_time": time_of_first,
        "rx_rate": pmt.from_double(100.0),
        "freq": pmt.from_complex(1 + 2j),
        "count": pmt.from_long(-5),
        "long": pmt.from_long(2**40),
        "on": pmt.PMT_T,
        "off": pmt.PMT_F,
        "none": pmt.PMT_NIL,
        "dict": pmt.to_pmt({"a": 1, "b": {"c": 2.5}}),
        "list": pmt.list3(pmt.from_long(1), pmt.intern("two"), pmt.from_double(3)),
        "vector": pmt.make_vector(4, pmt.cons(pmt.intern("x"), pmt.from_long(1))),
        "uniform": pmt.init_f32vector(5, [1, 2, 3, 4, 5]),
        "bytes": pmt.init_u8vector(3, [1, 2, 3]),
        "complex": pmt.init_c32vector(2, [1j, 2]),
    }

    def run(name: str, make: object, kind: int, times: int = 1, most: int = 0, tags: list = ()) -> None:
        received = []
        for _ in range(times):
            flat = [value for row in rows(40) for value in row]
            graph = gr.top_block()
            source = blocks.vector_source_f(flat, False, CHANNELS, list(tags))
            sink = make()
            if most:
                sink.set_max_noutput_items(most)
            graph.connect(source, sink)
            recording = Recording(kind, sink.last_endpoint())
            graph.run()
            received += recording.messages()
            del graph, sink
        write(folder, f"gnuradio-{name}", sender, received)

    address, size = "tcp://127.0.0.1:*", 4
    tags = [tag(k // 4 * 4, key, value) for k, (key, value) in enumerate(values.items())]
    run("pub", lambda: zeromq.pub_sink(size, CHANNELS, address), zmq.SUB)
    run("push", lambda: zeromq.push_sink(size, CHANNELS, address), zmq.PULL, most=7)
    run("key", lambda: zeromq.pub_sink(size, CHANNELS, address, 100, False, -1, "motor 1"), zmq.SUB, most=1)
    run("tags", lambda: zeromq.pub_sink(size, CHANNELS, address, 100, True), zmq.SUB, 2, 9, tags)
    run(
        "key-tags",
        lambda: zeromq.pub_sink(size, CHANNELS, address, 100, True, -1, "motor 1"),
        zmq.SUB,
        tags=tags,
    )

    class Source(gr.basic_block):
        def __init__(self) -> None:
            gr.basic_block.__init__(self, "source", None, None)
            self.message_port_register_out(pmt.intern("out"))

    graph, source, sink = gr.top_block(), Source(), zeromq.pub_msg_sink(address, 100, True)
    graph.msg_connect(source, "out", sink, "in")
    recording = Recording(zmq.SUB, sink.last_endpoint())
    graph.start()
    for count in (1, 4):
        flat = [value for row in rows(count) for value in row]
        message = pmt.cons(pmt.PMT_NIL, pmt.init_f32vector(len(flat), flat))
        source.message_port_pub(pmt.intern("out"), message)
    received = recording.messages()
    graph.stop()
    graph.wait()
    write(folder, "gnuradio-message", sender, received)


def bsread(folder: Path) -> None:
    """12 pulses by each kind of stream."""
    import importlib.metadata
    import socket

    import numpy as np
    import zmq
    from bsread import PUB, PUSH
    from bsread.sender import Sender

    version = f"psi-bsread {importlib.metadata.version('psi-bsread')}"
    start = (1_700_000_000, 500_000_000)

    def run(
        name: str, pulses: list[dict], kind: int = zmq.PULL, mode: object = PUSH, **settings: object
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        sender = Sender(100, port, "tcp://127.0.0.1", mode=mode, **settings)
        sender.open()
        recording = Recording(zmq.SUB if mode == PUB else zmq.PULL, f"tcp://127.0.0.1:{port}")
        for pulse, data in enumerate(pulses):
            sender.send(data=data, pulse_id=1000 + pulse, timestamp=(start[0] + pulse, start[1]))
        messages = recording.messages()
        sender.close()
        write(folder, f"bsread-{name}", version, messages)

    scalars = [dict(zip("abc", row, strict=True)) for row in rows(12)]
    run("push", scalars)
    run("pub", scalars, PUB)
    # what Python's values become: None, whole numbers, booleans, text that nobody asks for
    run(
        "python",
        [
            {"a": 1, "text": "on", "b": np.float32(1.5), "c": True},
            {"a": 1.5, "text": "", "b": None, "c": False},
            {"a": None, "text": None, "b": None, "c": None},
            {"c": np.uint64(2**64 - 1), "b": -1, "z": 5.0, "a": np.int8(-128)},
        ],
    )
    types = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")

    def arrays(size: int) -> list[dict]:
        return [
            {f"{order}{kind}": np.arange(k, k + size).astype(order.replace("l", "<").replace("b", ">") + kind)
             for order in "lb" for kind in types}
            for k in range(3)
        ]  # fmt: skip

    run("arrays", arrays(5))
    run("image", [{"i": np.arange(12.0).reshape(3, 4)}, {"i": np.array(7.0)}, {"i": np.zeros(0)}])
    for compression in ("lz4", "bitshuffle_lz4"):
        for size in (1, 13):
            run(f"{compression}-{size}", arrays(size), data_compression=compression)
        long = [{"w": (np.arange(3003) % 100 * 1.5).astype(kind)} for kind in ("f4", "f8", "i2")]
        run(f"{compression}-long", long, data_compression=compression)
        run(f"{compression}-header", scalars, data_header_compression=compression)


SENDERS = {"gnuradio": gnuradio, "bsread": bsread}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SENDERS:
        raise SystemExit(__doc__)
    SENDERS[sys.argv[1]](Path(sys.argv[2]))
