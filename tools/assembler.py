"""How fast updates of single sensors come to rows: updates a second through ``Assembler.take``.

    python tools/assembler.py [--rounds 9]

8 channels of 8 rates, a million updates in batches of 4,096. "in order": by time; "shuffled": within the
lateness of two periods; "sparse": a value of each channel in eight periods, so that there is almost a row a
value, of held ones mostly. One thread; the kernels are compiled before the clock starts.
"""

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamrnn.rows.assembler import Assembler
from streamrnn.rows.layout import LATE, ROWS_GIVEN

CHANNELS, UPDATES, BATCH = 8, 1_000_000, 4096
PERIOD = 100_000_000  # ns


class Load(NamedTuple):
    name: str
    streams: int
    every: float  # periods from one value of the fastest channel to its next
    shuffled: bool
    take: str


LOADS = (
    Load("one stream, in order", 1, 0.1, False, "last"),
    Load("1,000 streams, in order", 1000, 0.1, False, "last"),
    Load("1,000 streams, in order, mean", 1000, 0.1, False, "mean"),
    Load("1,000 streams, shuffled", 1000, 0.1, True, "last"),
    Load("1,000 streams, sparse", 1000, 8.0, False, "last"),
)


def updates_of(load: Load) -> tuple[np.ndarray, ...]:
    """Stream, channel, time and value of UPDATES updates, in the order in which they come."""
    rng = np.random.default_rng(0)
    rates = 1 / (load.every * (1 + np.arange(CHANNELS) / (1 if load.every < 1 else CHANNELS)))
    share = rates / rates.sum()
    stream, channel = rng.integers(0, load.streams, UPDATES), rng.choice(CHANNELS, UPDATES, p=share)
    ts = np.sort(rng.uniform(0, UPDATES / load.streams / rates.sum() * PERIOD, UPDATES))
    came = ts + rng.uniform(0, 2 * PERIOD, UPDATES) if load.shuffled else ts
    order = np.argsort(came, kind="stable")
    ts = (1_700_000_000_000_000_000 + ts[order]).astype(np.int64)
    return stream.astype(np.int32), channel.astype(np.int32), ts, rng.normal(size=UPDATES)


def run(load: Load, updates: tuple[np.ndarray, ...]) -> tuple[float, Assembler]:
    """Seconds for all of them."""
    rows = Assembler(
        CHANNELS, PERIOD, load.take, hold_ns=10 * PERIOD, lateness_ns=2 * PERIOD, capacity=load.streams
    )
    for stream in range(load.streams):
        rows.stream(str(stream))
    batches = [[array[at : at + BATCH] for array in updates] for at in range(0, UPDATES, BATCH)]
    began = time.perf_counter()
    for batch in batches:
        for _ in rows.take(*batch):
            pass
    return time.perf_counter() - began, rows


def processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].split(":")[1].strip() if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(processor())
    for load in LOADS:
        updates = updates_of(load)
        run(load, updates)
        times = []
        for _ in range(options.rounds):
            seconds, rows = run(load, updates)
            times.append(seconds)
        best, median = UPDATES / min(times) / 1e6, UPDATES / statistics.median(times) / 1e6
        given, late = rows.counts[ROWS_GIVEN] / UPDATES, rows.counts[LATE] / UPDATES
        print(
            f"{load.name:30} {best:5.1f} M updates/s at best, {median:5.1f} by the median; "
            f"{given:.2f} rows an update, {late:.3f} late"
        )


if __name__ == "__main__":
    main()
