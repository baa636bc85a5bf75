"""What a row of a network of windows costs, beside as many rows of the same network as a stream without end.

    python tools/windows.py

Both through the engine, with all that it does for a row, in turns.
"""

import argparse
import statistics
import time

import numpy as np

from streamrnn.engine.engine import Engine
from streamrnn.model.model import random_model
from streamrnn.settings.sections import Faults

CHANNELS, ROWS, TURNS = 8, 12_000, 7


def us_per_row(cell: str, hidden: int, window: int, streams: int) -> tuple[float, float]:
    """Of the window and of the stream without end: medians of the turns."""
    engines = [
        Engine(random_model(cell, CHANNELS, hidden, window=each), streams, Faults()) for each in (window, 0)
    ]
    ids, stream = [f"s{k}" for k in range(streams)], np.tile(np.arange(streams), ROWS // streams)
    rows = np.random.default_rng(0).normal(size=(len(stream), CHANNELS)).astype(np.float32)
    times: list[list[float]] = [[], []]
    for turn in range(1 + TURNS):  # the first compiles
        for of_engine, engine in zip(times, engines, strict=True):
            began = time.perf_counter()
            engine.feed(ids, stream, rows)
            if turn:
                of_engine.append((time.perf_counter() - began) / len(stream) * 1e6)
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"{'cell':6}{'hidden':>8}{'window':>8}{'streams':>9}{'us a row':>10}{'a stream':>10}{'ratio':>8}")
    for cell in ("lstm", "gru"):
        for hidden, window in ((32, 24), (32, 60), (64, 24)):
            for streams in (1, 1000):
                ours, plain = us_per_row(cell, hidden, window, streams)
                ratio = ours / window / plain
                print(
                    f"{cell:6}{hidden:8}{window:8}{streams:9}{ours:10.2f}{plain:10.3f}{ratio:8.2f}",
                    flush=True,
                )
