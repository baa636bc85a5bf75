"""What a cluster does on this machine: a worker beside the daemon, a takeover, and bytes per row.

    python tools/cluster.py [speed|takeover|gateway|log|bytes] [--replicas 1] [--store /dev/shm]

Servers, gateways and workers all run here, so a rate is that of what shares its cores. The daemon and a
worker take turns; the log of a worker is filled before its clock starts, in blocks of 250 rows and of 2,500.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.bench.daemon import CHANNELS, HIDDEN, measure
from streamrnn.cluster.blocks import ENTRY, FRAMES, seal
from streamrnn.cluster.connect import connect
from streamrnn.cluster.heads import head_in
from streamrnn.cluster.jetstream import JetStream
from streamrnn.cluster.subjects import Subjects
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model
from streamrnn.settings.cluster_section import Cluster
from streamrnn.wire.frame import pack_frame

NAME, PORT = "bench", 14322
STREAMS, MANY = 1000, 10_000
SUBJECTS = Subjects(NAME)


def urls(number: int) -> list[str]:
    return [f"nats://127.0.0.1:{PORT + server}" for server in range(number)]


@contextmanager
def servers(number: int, store: Path) -> Iterator[None]:
    """NATS servers; what they keep is gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=store))
    routes = ", ".join(f"nats://127.0.0.1:{PORT + 100 + server}" for server in range(number))
    started = []
    for server in range(number):
        lines = [f"server_name: s{server}", f"listen: 127.0.0.1:{PORT + server}"]
        lines += [f'jetstream {{ store_dir: "{folder}/{server}" }}']
        if number > 1:
            lines += [
                f"cluster {{ name: bench, listen: 127.0.0.1:{PORT + 100 + server}, routes: [{routes}] }}"
            ]
        file = folder / f"{server}.conf"
        file.write_text("\n".join(lines))
        started.append(subprocess.Popen(["nats-server", "-c", file], stderr=subprocess.DEVNULL))
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
        shutil.rmtree(folder)


def start(number: int) -> subprocess.Popen[bytes]:
    """A worker that is ready."""
    words = [word for url in urls(number) for word in ("--server", url)]
    command = [sys.executable, "-m", "streamrnn", "worker", *words, "--name", NAME, "--http", ""]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b"ready" not in (line := process.stderr.readline()):
        assert line, "the worker ended"
    return process


@contextmanager
def worker(number: int) -> Iterator[None]:
    process = start(number)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def init(model: Path, number: int, *options: str) -> None:
    words = [word for url in urls(number) for word in ("--server", url)]
    command = [sys.executable, "-m", "streamrnn", "cluster", "init", str(model), *words, "--name", NAME]
    command += ["--replicas", str(number), *options]
    for _ in range(30):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.5)
    raise SystemExit("the servers do not come up")


def ask(number: int, work: Callable[[JetStream], Any]) -> Any:
    async def run() -> Any:
        jetstream = await connect(Cluster(servers=tuple(urls(number)), name=NAME), "bench", 10)
        try:
            return await work(jetstream)
        finally:
            await jetstream.close()

    return asyncio.run(run())


def block(streams: int, number: int, rows: int, now_ns: int) -> bytes:
    """A block of rows round the streams, of shard 0 of 1."""
    parts, values = [], np.random.default_rng(number).normal(size=(rows, CHANNELS)).astype(np.float32)
    for row in range(rows):
        at = number * rows + row
        frame = pack_frame(values[row], seq=at // streams, ts_ns=now_ns + at)
        topic, entry = f"machine-{at % streams}".encode(), np.zeros((), ENTRY)
        entry["topic"], entry["size"] = len(topic), len(frame)
        parts.append(entry.tobytes() + topic + frame)
    body = np.frombuffer(b"".join(parts), np.uint8)
    head = {"kind": FRAMES, "shards": 1, "messages": rows, "rows": rows, "gateway": 1, "number": number}
    return seal(body, base_ns=now_ns, sealed_ns=now_ns, **head)


async def fill(jetstream: JetStream, streams: int, first: int, blocks: int, rows: int) -> None:
    for number in range(first, first + blocks):
        data = block(streams, number, rows, time.time_ns())
        await jetstream.append(SUBJECTS.input(0), data, f"block-{number}")


async def answered(jetstream: JetStream) -> int:
    """Rows that are."""
    message = await jetstream.last(SUBJECTS.results, SUBJECTS.state(0))
    return head_in(message, 0, "").rows


async def until(jetstream: JetStream, rows: int) -> tuple[int, float]:
    """Waits until so many are. Returns how many, and when."""
    while (count := await answered(jetstream)) < rows:
        await asyncio.sleep(0.01)
    return count, time.monotonic()


def speed_of_worker(model: Path, number: int, store: Path, rows: int, total: int) -> float:
    """Rows a second on a log of ``total`` rows in blocks of ``rows``."""
    blocks = total // rows
    with servers(number, store):
        init(model, number, "--shards", "1", "--checkpoint-rows", str(10 * total))
        ask(number, lambda jetstream: fill(jetstream, STREAMS, 0, blocks, rows))

        async def measured(jetstream: JetStream) -> float:
            with worker(number):
                had, began = await until(jetstream, total // 10)
                done, ended = await until(jetstream, blocks * rows)
            return (done - had) / (ended - began)

        return float(ask(number, measured))


def speed(here: Path, store: Path, number: int, pairs: int, seconds: float) -> None:
    model = here / "model.safetensors"
    write_model(random_model("lstm", CHANNELS, HIDDEN), model)
    serve = [
        "-m",
        "streamrnn",
        "serve",
        str(model),
        "--connect",
        "{source}",
        "--bind",
        "{sink}",
        "--http",
        "",
    ]
    for rows in (250, 2500):
        ratios = []
        for _ in range(pairs):
            alone = measure(serve, str(here), 0, seconds).per_second
            ours = speed_of_worker(model, number, store, rows, 1_500_000)
            ratios.append(ours / alone)
            print(
                f"rows/s: {alone:,.0f} of the daemon, {ours:,.0f} of a worker: {ratios[-1]:.2f}", flush=True
            )
        low, high = min(ratios), max(ratios)
        print(f"blocks of {rows}: worker / daemon {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")


def takeover(here: Path, store: Path, number: int, pairs: int) -> None:
    """A shard of MANY streams, whose worker is killed while another waits."""
    model, pin_s = here / "model.safetensors", 2.0
    write_model(random_model("lstm", CHANNELS, HIDDEN), model)
    config = here / "config.toml"
    config.write_text(f"[streams]\ncapacity = {2 * MANY}\n")
    times, rows = [], 1000
    with servers(number, store):
        init(model, number, "-c", str(config), "--shards", "1", "--pin", str(pin_s))

        async def measured(jetstream: JetStream) -> None:
            first, stop = 0, asyncio.Event()

            async def feed() -> None:
                nonlocal first
                while not stop.is_set():
                    await fill(jetstream, MANY, first, 1, rows)
                    first += 1
                    await asyncio.sleep(0.05)

            feeding = asyncio.create_task(feed())
            running = [await asyncio.to_thread(start, number)]
            await until(jetstream, 3 * MANY)
            for _ in range(pairs):
                running.append(await asyncio.to_thread(start, number))
                await asyncio.sleep(3)
                running[0].kill()
                killed = time.monotonic()
                await asyncio.sleep(0.1)
                had = await answered(jetstream)
                times.append((await until(jetstream, had + 1))[1] - killed)
                print(f"from SIGKILL to the first new prediction: {times[-1]:.2f} s", flush=True)
                running.pop(0)
            stop.set()
            await feeding
            for process in running:
                process.kill()

        ask(number, measured)
    middle, low, high = statistics.median(times), min(times), max(times)
    print(f"takeover of {MANY:,} streams, pin {pin_s:g} s: {middle:.2f} s ({low:.2f} to {high:.2f})")


def gateway(here: Path, store: Path, number: int, seconds: float) -> None:
    """Rows a second that a gateway appends, of a publisher that sends all it takes, with 16 shards."""
    model, endpoint, http = here / "model.safetensors", f"tcp://127.0.0.1:{PORT + 50}", PORT + 51
    write_model(random_model("lstm", CHANNELS, HIDDEN), model)
    words = [word for url in urls(number) for word in ("--server", url)]
    words += ["--name", NAME, "--connect", endpoint, "--http", f"127.0.0.1:{http}"]
    load = [sys.executable, "-m", "streamrnn.bench.load", "publish", endpoint]
    load += [str(STREAMS), str(CHANNELS), "0", str(seconds + 10)]

    def rows() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics") as response:
            text = response.read().decode()
        return float(re.search(r"^streamrnn_gateway_rows_total (\S+)", text, re.MULTILINE)[1])

    with servers(number, store):
        init(model, number)
        process = subprocess.Popen(
            [sys.executable, "-m", "streamrnn", "gateway", *words], stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        while b"ready" not in process.stderr.readline():
            pass
        publisher = subprocess.Popen(load, stdout=subprocess.DEVNULL)
        while rows() == 0:
            time.sleep(0.1)
        time.sleep(1)
        before, began = rows(), time.monotonic()
        time.sleep(seconds)
        rate = (rows() - before) / (time.monotonic() - began)
        for each in (publisher, process):
            each.kill()
            each.wait()
    print(f"gateway: {rate:,.0f} rows/s, a message each")


def log(here: Path, store: Path, number: int, seconds: float) -> None:
    """Bytes a second that the leader of a stream takes, in commits of two messages."""
    model = here / "model.safetensors"
    write_model(random_model("lstm", CHANNELS, HIDDEN), model)
    data = os.urandom(900_000)

    async def measured(jetstream: JetStream) -> float:
        last, sent, end = 0, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            output = SUBJECTS.output(0), data, {"Nats-TTL": "1s"}
            last = await jetstream.commit([output, output, (SUBJECTS.state(0), b"-", {})], last)
            sent += 2 * len(data)
        return sent / seconds / 1e6

    with servers(number, store):
        init(model, number, "--shards", "1")
        rate = ask(number, measured)
    print(f"log: {rate:.0f} MB/s with {number} replicas")


def sizes(here: Path, store: Path, number: int) -> None:
    """Bytes per row of input, output and checkpoints."""
    model = here / "model.safetensors"
    write_model(random_model("lstm", CHANNELS, HIDDEN), model)
    rows, blocks = 1000, 100
    with servers(number, store):
        init(
            model,
            number,
            "--shards",
            "1",
            "--checkpoint-rows",
            str(rows * blocks // 2),
            "--keep-input",
            "3600",
        )
        ask(number, lambda jetstream: fill(jetstream, STREAMS, 0, blocks, rows))

        async def measured(jetstream: JetStream) -> None:
            before = (await jetstream.state(SUBJECTS.inputs))["state"]["bytes"]
            empty = (await jetstream.state(SUBJECTS.results))["state"]["bytes"]
            with worker(number):
                await until(jetstream, blocks * rows)
                await asyncio.sleep(2)
                after = (await jetstream.state(SUBJECTS.results))["state"]["bytes"]
                head = await jetstream.last(SUBJECTS.results, SUBJECTS.state(0))
            assert head is not None
            checkpoint = json.loads(head.data)["checkpoint"]["pieces"]["size"]
            print(
                f"input {before / rows / blocks:.0f} bytes a row, a frame of {CHANNELS} float32 and its topic"
            )
            print(f"output {(after - empty - checkpoint) / rows / blocks:.0f} bytes a row, with the heads")
            print(f"checkpoint {checkpoint / STREAMS:,.0f} bytes a stream")

        ask(number, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", choices=["speed", "takeover", "gateway", "log", "bytes", "all"], nargs="?", default="all"
    )
    parser.add_argument("--replicas", type=int, default=1, help="servers, each with a copy")
    parser.add_argument("--store", type=Path, default=Path("/dev/shm"), help="folder of what servers keep")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        if given.what in ("speed", "all"):
            speed(here, given.store, given.replicas, given.pairs, given.seconds)
        if given.what in ("takeover", "all"):
            takeover(here, given.store, given.replicas, given.pairs)
        if given.what in ("gateway", "all"):
            gateway(here, given.store, given.replicas, given.seconds)
        if given.what in ("log", "all"):
            log(here, given.store, given.replicas, given.seconds)
        if given.what in ("bytes", "all"):
            sizes(here, given.store, given.replicas)


if __name__ == "__main__":
    main()
