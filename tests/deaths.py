"""Lives of a daemon under full load, each ended by SIGKILL, and a witness of them.

What a life committed is read from the live state that it left. Those very rows are fed to an engine that was
never killed.
"""

import itertools
import json
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import zmq
from daemons import DEADLINE_S, Daemon, wait_for

from streamrnn.engine.engine import Answers
from streamrnn.stats import PREDICTED
from streamrnn.streams.live import FILE, read_live
from streamrnn.streams.record import DEGRADED, ENDED, EPOCH, FIRST, HEADER, ID_WORDS, SEQ, STEP
from streamrnn.streams.slots import id_text, id_words
from streamrnn.wire import libzmq
from streamrnn.wire.codec import SEQ_AT
from streamrnn.wire.frame import FRAME, PER_FRAME, PREDICTION, pack_frame
from streamrnn.wire.memory import address_of, copy_bytes, write_u64

STREAMS, CHANNELS, ROWS = 50, 3, 4096
LONGEST_LIFE_S = 0.05  # at full load: some 30,000 steps
NAMES = [f"s{number:02d}" for number in range(STREAMS)]
MESSAGE = np.dtype([("header", PREDICTION), ("values", "<f4", CHANNELS)])

# One process that loads streamrnn and its kernels, and a child of it, forked, for each life of the daemon.
LIVES = """
import os, signal, sys, tempfile
from pathlib import Path
from streamrnn.engine import crew
from streamrnn.settings.config import load_config
from streamrnn.settings.events_section import Events
from streamrnn.settings.sections import State
from streamrnn.daemon.journal import compile_watching
from streamrnn.daemon.service import Service
from streamrnn.daemon.serving import serve

crew.WORTH = 0  # several workers share whatever there is
config = load_config(Path(sys.argv[1]), {})
with tempfile.TemporaryDirectory() as folder:
    loaded = {"state": State(snapshots=folder), "events": Events()}
    service = Service(lambda: config.model_copy(update=loaded))
    service._compile()
    compile_watching(service.engine)
print("loaded", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(serve(lambda: config))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@numba.njit(nogil=True)
def _publish(socket, names, message, head, values, stop):
    """Sends rows round the streams, numbered, as fast as they are taken, until told to stop."""
    to = address_of(message, 0)
    seq, stream, row_bytes = 0, 0, 4 * values.shape[1]
    while stop[0] == 0:
        write_u64(to + SEQ_AT, np.uint64(seq))
        row = address_of(values.reshape(-1), (31 * stream + seq) % values.shape[0] * values.shape[1])
        copy_bytes(to + head, row, row_bytes)
        if libzmq.send(socket, address_of(names, ID_WORDS * stream), np.uint64(3), libzmq.SNDMORE) < 0:
            continue
        while libzmq.send(socket, to, np.uint64(message.size), 0) < 0 and stop[0] == 0:
            pass
        stream += 1
        if stream == STREAMS:
            seq, stream = seq + 1, 0


def _publish_objects(source: zmq.Socket, values: np.ndarray, stop: np.ndarray) -> None:
    """The same rows as objects of JSON, an hour of their source's time apart."""
    names = [name.encode() for name in NAMES]
    keys = [f"c{channel}" for channel in range(CHANNELS)]
    texts = [json.dumps(dict(zip(keys, row, strict=True))).encode()[1:] for row in values.tolist()]
    for seq in itertools.count():
        for stream, name in enumerate(names):
            said = b'{"time": %d, %b' % (3600 * seq, texts[(31 * stream + seq) % len(texts)])
            while not stop[0]:
                with suppress(zmq.Again):
                    source.send_multipart([name, said])
                    break
            if stop[0]:
                return


class Left(NamedTuple):
    """What a life left behind of each stream, in the order of NAMES."""

    seq: np.ndarray  # (STREAMS,) int64
    step: np.ndarray
    state: list[bytes]  # all that a step leaves in its record, clocks aside


class Life(NamedTuple):
    """What an engine answers to the rows that a life committed."""

    first: np.ndarray  # (STREAMS,) number of the first row
    at: np.ndarray  # (STREAMS,) where its answer stands
    count: np.ndarray  # (STREAMS,)
    answers: Answers


def left_in(records: np.ndarray, names: list[str]) -> Left:
    """``records`` (n, words / 2) uint64, of the streams ``names``."""
    assert sorted(names) == NAMES
    rows = records[np.argsort(names)]
    halves = rows.view(np.uint32)
    tell = rows[:, [SEQ, STEP, FIRST]], halves[:, [EPOCH, ENDED, DEGRADED]], halves[:, HEADER:]
    state = [b"".join(part[which].tobytes() for part in tell) for which in range(STREAMS)]
    return Left(rows[:, SEQ].astype(np.int64), rows[:, STEP].astype(np.int64), state)


class Witness:
    """An engine that is never killed, fed what the lives committed, one after another."""

    def __init__(self, daemon: Daemon, values: np.ndarray, period_ns: int = 0):
        """``period_ns``: between the times of rows whose number tells their time; 0 = they have none."""
        self.engine, self.values, self.period_ns = daemon.engine(), values, period_ns
        self.before = Left(np.full(STREAMS, -1), np.zeros(STREAMS, np.int64), [])
        self.lives: deque[Life] = deque(maxlen=2)
        self.rows = self.predictions = 0

    def take(self, left: Left) -> None:
        """Feeds the rows of one life, and compares what came of the streams."""
        count = left.step - self.before.step
        first = left.seq - count + 1
        assert (count >= 0).all()
        assert (first > self.before.seq).all(), "a row was stepped twice"
        stream = np.repeat(np.arange(STREAMS), count)
        at = np.cumsum(count) - count
        seq = np.arange(len(stream)) - np.repeat(at - first, count)
        rows = self.values[(31 * stream + seq) % ROWS]
        times = seq * self.period_ns if self.period_ns else None
        answers = self.engine.feed(NAMES, stream, rows, seq.astype(np.uint64), times)
        assert (answers.outcome == PREDICTED).all()
        self.lives.append(Life(first, at, count, answers))
        self.heed(stream, answers)
        self.before, self.rows = left, self.rows + len(stream)
        slots = self.engine.core.slots
        known = [id_text(words) for words in slots.ids.reshape(-1, ID_WORDS)[:STREAMS]]
        ours = left_in(slots.state_64.reshape(-1, slots.words // 2)[:STREAMS], known)
        assert ours.state == left.state

    def heed(self, stream: np.ndarray, answers: Answers) -> None:
        """For a test to look at what was answered to the rows of ``stream``."""

    def hear(self, messages: list[list[bytes]]) -> None:
        """Compares what arrived, of the last life or, still on its way then, of the one before."""
        messages = [parts for parts in messages if len(parts[1]) == MESSAGE.itemsize]  # events have no values
        stream = np.array([NAMES.index(parts[0].decode()) for parts in messages], np.int64)
        said = np.frombuffer(b"".join(parts[1] for parts in messages), MESSAGE)
        header, seq = said["header"], said["header"]["seq"].astype(np.int64)
        assert (header["kind"] == PER_FRAME).all()
        assert len(np.unique(stream * (1 << 40) + seq)) == len(seq), "a row was answered twice"
        known = np.zeros(len(seq), bool)
        for life in self.lives:
            inside = (seq >= life.first[stream]) & (seq < (life.first + life.count)[stream])
            at = (life.at[stream] + seq - life.first[stream])[inside]
            for name in ("flags", "step", "score", "gap", "epoch", "residual"):
                theirs, ours = header[name][inside], getattr(life.answers, name)[at]
                assert theirs.tobytes() == ours.astype(theirs.dtype).tobytes(), name
            assert said["values"][inside].tobytes() == life.answers.values[at].tobytes()
            known |= inside
        assert known.all(), "a prediction of a row that was not committed"
        self.predictions += len(seq)


@contextmanager
def at_full_load(daemon: Daemon, values: np.ndarray) -> Iterator[deque[list[bytes]]]:
    """A publisher that never rests, and what a subscriber hears."""
    heard: deque[list[bytes]] = deque()
    stop = np.zeros(1, np.int64)
    message = np.frombuffer(pack_frame(values[:1], seq=0), np.uint8).copy()
    names = np.concatenate([id_words(name) for name in NAMES])
    with zmq.Context() as context:
        source, sink = context.socket(zmq.PUSH), context.socket(zmq.SUB)
        for socket, address in ((source, daemon.config.input.bind[0]), (sink, daemon.config.output.bind[0])):
            socket.linger, socket.reconnect_ivl = 0, 5
            socket.sndtimeo = socket.rcvtimeo = 20
            if socket is sink:
                socket.subscribe(b"")
            socket.connect(address)

        def listen() -> None:
            while stop[0] == 0:
                with suppress(zmq.Again):
                    heard.append(sink.recv_multipart())

        if daemon.config.input.adapted:
            publish = threading.Thread(target=_publish_objects, args=(source, values, stop))
        else:
            arguments = (source.underlying, names, message, FRAME.itemsize, values, stop)
            publish = threading.Thread(target=_publish, args=arguments)
        threads = [threading.Thread(target=listen), publish]
        for thread in threads:
            thread.start()
        try:
            yield heard
        finally:
            stop[0] = 1
            for thread in threads:
                thread.join(DEADLINE_S)
            source.close()
            sink.close()


def settings_in(folder: Path, live: str) -> dict[str, Any]:
    """Of a daemon with sockets in ``folder`` and its live state in ``live``."""
    return {
        "input.bind": (f"ipc://{folder}/in",),
        "input.socket": "pull",
        "output.bind": (f"ipc://{folder}/out",),
        "http.listen": "",
        "log.level": "warning",
        "faults.gap": "step",
        "faults.max_gap": 1024,
        "streams.capacity": STREAMS,
        "state.live": live,
    }


class Deaths:
    """Lives of one daemon, each ended by SIGKILL."""

    def __init__(self, daemon: Daemon, heard: deque[list[bytes]], witness: Witness, seed: int):
        self.daemon, self.heard, self.witness = daemon, heard, witness
        self.random = random.Random(seed)
        assert self._line() == b"loaded\n"

    def _line(self) -> bytes:
        assert self.daemon.process.stdout is not None
        return self.daemon.process.stdout.readline()

    def begin(self) -> int:
        """Begins a life; its process."""
        go = self.daemon.process.stdin
        assert go is not None
        go.write(b"go\n")
        go.flush()
        return int(self._line())

    def end(self, child: int, number: int = signal.SIGKILL) -> None:
        os.kill(child, number)
        assert self._line() == b"gone\n"

    def die_once(self) -> None:
        """A life from its start to a random instant, and what it left."""
        before = len(self.heard)
        child = self.begin()
        wait_for(lambda: len(self.heard) > before, f"a first prediction after\n{self.daemon.said}")
        time.sleep(self.random.uniform(0, LONGEST_LIFE_S))  # the instant is what is random here
        self.end(child)
        remains = read_live(Path(self.daemon.config.state.live) / FILE)
        names = [id_text(words) for words in remains.ids.reshape(-1, ID_WORDS)]
        self.witness.take(left_in(remains.records.reshape(len(names), -1), names))
        self.witness.hear([self.heard.popleft() for _ in range(len(self.heard))])
