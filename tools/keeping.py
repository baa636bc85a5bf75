"""What it costs to keep the streams: throughput and latency with live state and snapshots, and the way back.

    python tools/keeping.py [--seconds 3] [--pairs 5] [restart|throughput|latency|journal ...]

Everything is a ratio of two runs side by side, or a time from a kill to the first new prediction. Kernels are
in the cache before the clock starts. The live state goes to /dev/shm, snapshots to the current folder.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq

from streamrnn.bench.daemon import CHANNELS, HIDDEN, measure
from streamrnn.events.journal import Journal
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model

MANY = 100_000
ROWS = 4096  # of noise
RATE = 10_000  # frames a second, for latency
INTERVAL = "1s"  # ten times as often as by default
LOAD = (sys.executable, "-m", "streamrnn.bench.load")


class Bench:
    """Models, configurations and folders of one run."""

    def __init__(self, here: Path, live: Path):
        self.here, self.live = here, live
        write_model(random_model("lstm", CHANNELS, HIDDEN), here / "small.safetensors")
        write_model(random_model("lstm", CHANNELS, 64, layers=2), here / "large.safetensors")

    def serve(
        self, model: str, capacity: int, live: bool, snapshots: bool, journal: bool = False
    ) -> list[str]:
        """The words of a daemon, its endpoints left open."""
        state = [f'live = "{self.live / model}"'] if live else []
        state += [f'snapshots = "{self.here / model}"', f'interval = "{INTERVAL}"'] if snapshots else []
        events = ["[events]", f'path = "{self.here / "events.db"}"'] if journal else []
        file = self.here / f"{model}-{live}-{snapshots}-{journal}.toml"
        lines = ["[streams]", f"capacity = {capacity}", 'idle_timeout = "0"', "[state]", *state, *events]
        file.write_text("\n".join(lines))
        words = ["-m", "streamrnn", "serve", str(self.here / f"{model}.safetensors"), "-c", str(file)]
        return [*words, "--connect", "{source}", "--bind", "{sink}", "--http", ""]

    def throughput(self, pairs: int, seconds: float) -> None:
        ratios = []
        for _ in range(pairs):
            off, on = (
                measure(self.serve("small", 1000, kept, kept), str(self.here), 0, seconds).per_second
                for kept in (False, True)
            )
            ratios.append(on / off)
            say(f"frames/s: {off:,.0f} without, {on:,.0f} with live state and snapshots: {on / off:.2f}")
        say(f"throughput with / without: {summary(ratios)}")

    def latency(self, pairs: int, seconds: float) -> None:
        """100,000 streams of a network of two layers of 64; a tenth of them moves each second."""
        ratios = []
        for _ in range(pairs):
            off, on = (
                measure(
                    self.serve("large", MANY, True, kept), str(self.here), RATE, seconds, streams=MANY
                ).p99_us
                for kept in (False, True)
            )
            ratios.append(on / off)
            say(f"p99: {off:,.0f} us, {on:,.0f} us while snapshots are taken: {on / off:.2f}")
        say(f"p99 with / without snapshots of {MANY:,} streams: {summary(ratios)}")

    def journal(self, pairs: int, seconds: float) -> None:
        """Of 1,000 streams of noise, with an event in some thousand rows of each, and their recordings."""
        for rate in (0, RATE):
            ratios = []
            for _ in range(pairs):
                off, on = (
                    measure(
                        self.serve("small", 1000, True, False, kept), str(self.here), rate, seconds, rows=ROWS
                    )
                    for kept in (False, True)
                )
                one, other = (off.p99_us, on.p99_us) if rate else (off.per_second, on.per_second)
                ratios.append(other / one)
                say(f"{'p99, us' if rate else 'frames/s'}: {one:,.0f} without, {other:,.0f} with a journal")
            say(f"{'p99' if rate else 'throughput'} with / without a journal: {summary(ratios)}")
        with Journal(self.here / "events.db") as journal:
            counted = journal.connection.execute(
                "SELECT (SELECT count(*) FROM events WHERE kind = 'event'), (SELECT count(*) FROM recordings)"
            )
            events, kept = counted.fetchone()
            lost = sum(count for _, _, count in journal.lost())
        say(f"the journal has {events:,} events and {kept:,} recordings; {lost:,} entries were lost")

    def restart(self, model: str, streams: int, rounds: int) -> None:
        """From the start of the process that follows a kill to its first prediction."""
        source, sink = f"ipc://{self.here}/source", f"ipc://{self.here}/sink"
        words = [word.format(source=source, sink=sink) for word in self.serve(model, streams, True, False)]
        publisher = subprocess.Popen(
            [*LOAD, "publish", source, str(streams), str(CHANNELS), "0", "600"], stdout=subprocess.DEVNULL
        )
        times = []
        with zmq.Context() as context, context.socket(zmq.SUB) as predictions:
            predictions.subscribe(b"")
            predictions.linger, predictions.reconnect_ivl = 0, 5
            predictions.connect(sink)
            try:
                for turn in range(rounds + 1):
                    began = time.monotonic()
                    daemon = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
                    predictions.recv_multipart()
                    times.append(time.monotonic() - began)
                    if turn == 0:
                        time.sleep(3)  # every stream comes by
                    daemon.kill()
                    daemon.wait()
                    while predictions.poll(100):
                        predictions.recv_multipart()
            finally:
                publisher.kill()
                publisher.wait()
        say(f"restart with {streams:,} streams, seconds: {summary(times[1:])}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def summary(numbers: list[float]) -> str:
    each = ", ".join(f"{number:.2f}" for number in sorted(numbers))
    return f"median {statistics.median(numbers):.2f} of {each}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a run")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs, and restarts")
    parser.add_argument("what", nargs="*", default=["restart", "throughput", "latency", "journal"])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as here,
        tempfile.TemporaryDirectory(dir="/dev/shm") as live,
    ):
        bench = Bench(Path(here), Path(live))
        if "restart" in options.what:
            bench.restart("small", 1000, options.pairs)
            bench.restart("large", MANY, options.pairs)
        if "throughput" in options.what:
            bench.throughput(options.pairs, options.seconds)
        if "latency" in options.what:
            bench.latency(options.pairs, options.seconds)
        if "journal" in options.what:
            bench.journal(options.pairs, options.seconds)


if __name__ == "__main__":
    main()
