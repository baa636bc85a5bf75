"""Plain tables of sensor values, and what is to be read of the files that are made from them."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Stream:
    """The rows of one stream; a cell of None is missing."""

    name: str
    times: list[int]  # ns
    channels: list[list[str | None]]  # the cells of each


class Rows:
    """To be read of a stream: ``times`` (n,) int64 ns, 0 = none; ``values`` (n, C) float32; ``gaps``."""

    def __init__(self, times: Sequence[int] | np.ndarray, values: np.ndarray, period_ns: int) -> None:
        self.times = np.array(times, np.int64)
        self.values = values
        self.gaps = find_gaps(self.times, period_ns)


def find_gaps(times: np.ndarray, period_ns: int) -> list[tuple[int, int]]:
    """The rows before which others are missing, and how many."""
    missing = np.rint(np.diff(times) / period_ns).astype(np.int64) - 1
    return [(int(row) + 1, int(missing[row])) for row in np.flatnonzero(missing > 0)]


def draw_streams(
    rng: random.Random, channels: int, names: Sequence[str], start_ns: int, period_ns: int, duplicates: bool
) -> list[Stream]:
    """Streams of 40 to 120 rows, some with gaps; ``duplicates`` have a few rows of the same time."""
    kinds = [
        (rng.choice(["d", "1f", "2f", "2f", "3f", "6e"]), rng.choice([0.0, 0.05]), rng.random() < 0.08)
        for _ in range(channels)
    ]
    levels = [rng.choice([0.0, 20.0, 50.0, 1013.0, -5.0, 101_325.0]) for _ in range(channels)]
    streams = []
    for place, name in enumerate(names):
        times = _draw_times(rng, start_ns, period_ns, duplicates)
        cells = [
            _draw_cells(rng, len(times), level + 10 * place, *kind)
            for level, kind in zip(levels, kinds, strict=True)
        ]
        streams.append(Stream(name, times, cells))
    return streams


def _draw_times(rng: random.Random, start_ns: int, period_ns: int, duplicates: bool) -> list[int]:
    holes = rng.choice([0, 0, 1, 2, 3])
    count = rng.randrange(40, 120)
    steps = [1] * count
    for _ in range(holes):
        steps[rng.randrange(1, count)] = rng.choice([2, 3, 5, 20, 200])
    if duplicates:
        steps[rng.randrange(2, count)] = 0
    tick, times = 0, []
    for row, step in enumerate(steps):
        tick += step if row else 0
        times.append(start_ns + tick * period_ns)
    return times


def _draw_cells(
    rng: random.Random, count: int, level: float, form: str, missing: float, late: bool
) -> list[str | None]:
    """A noisy wave: neither steady, nor of few values that take turns."""
    size = rng.choice([2.0, 5.0, 12.0]) * (3 if form == "d" else 1)
    pace = rng.uniform(3, 15)
    cells: list[str | None] = []
    for row in range(count):
        value = level + size * (math.sin(row / pace) + rng.uniform(-0.5, 0.5))
        cells.append(str(round(value)) if form == "d" else f"{value:.{form}}")
    for row in range(1, count):
        if rng.random() < missing:
            cells[row] = None
    if late:
        cells[: count // 3] = [None] * (count // 3)
    return cells


def to_float32(cells: Sequence[str | None]) -> np.ndarray:
    """Values of cells, (n,) float32; NaN where missing."""
    return np.array([math.nan if cell is None else float(cell) for cell in cells], np.float32)
