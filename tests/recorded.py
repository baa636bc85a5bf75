"""What is in a recording, read whole in this process, and the signals that the formats' tests write."""

import importlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamrnn.recordings.recording import Contents, Told

START_NS = 1_772_600_767_250_000_000  # 2026-03-04 05:06:07.25 UTC
SECOND = 10**9


class Whole(NamedTuple):
    """A group, read whole."""

    names: list[str]
    units: list[str]
    ticks: list[int]
    values: np.ndarray  # (n, W) float64
    begins: list[int]  # samples that begin a sequence by what the reader says
    pieces: int


def read_whole(form: str, path: Path, told: Told = Told()) -> tuple[Contents, list[Whole]]:  # noqa: B008
    """The contents of a file, and its groups, by a reader in this process."""
    recording = importlib.import_module(f"streamrnn.recordings.{form}").open_recording(path, told)
    try:
        found = []
        for number, group in enumerate(recording.contents.groups):
            pieces = [*recording.pieces(number, range(len(group.channels)))]
            begins, at = [], 0
            for piece in pieces:
                assert piece.ticks.dtype == np.int64 and piece.values.dtype == np.float64
                assert piece.values.shape == (len(piece.ticks), len(group.channels))
                begins += [at] * piece.begins
                at += len(piece.ticks)
            other = [*range(len(group.channels))][::-2]  # some of them in another order, or none
            for some in (other, []):
                again = [*recording.pieces(number, some)]
                assert [piece.ticks.tolist() for piece in again] == [piece.ticks.tolist() for piece in pieces]
                for piece, whole in zip(again, pieces, strict=True):
                    assert np.array_equal(piece.values, whole.values[:, some], equal_nan=True)
            ticks = [tick for piece in pieces for tick in piece.ticks.tolist()]
            values = [piece.values for piece in pieces] or [np.empty((0, len(group.channels)))]
            assert group.samples in (None, len(ticks))
            names, units = ([getattr(c, what) for c in group.channels] for what in ("name", "unit"))
            found.append(Whole(names, units, ticks, np.concatenate(values), begins, len(pieces)))
        return recording.contents, found
    finally:
        recording.close()


class Part(NamedTuple):
    """Signals of one rate, some seconds of them: raw numbers, and what they stand for."""

    rate: int
    raw: np.ndarray  # (n, channels): float64, or int16 of scaled ones
    values: np.ndarray  # (n, channels) float64
    seconds: np.ndarray  # (n,) since the recording's start


SCALE, OFFSET = 0.0625, -3.0  # of the integers


def parts(begin: int, end: int, seed: int = 5) -> list[Part]:
    """Signals at 100, 10 and 1 a second, from second ``begin`` to ``end``; those at 10 are scaled int16."""
    rng = np.random.default_rng([seed, begin])
    found = []
    for rate, channels in ((100, 2), (10, 1), (1, 1)):
        count = (end - begin) * rate
        raw = rng.normal(size=(count, channels)).astype(np.float32).astype(np.float64)
        if rate == 10:
            raw = rng.integers(-30000, 30000, (count, channels)).astype(np.int16)
        values = raw * SCALE + OFFSET if rate == 10 else raw
        found.append(Part(rate, raw, values, begin + np.arange(count) / rate))
    return found


def ticks_of(part: Part) -> list[int]:
    """ns since the recording's start, exact."""
    return [round(second * part.rate) * SECOND // part.rate for second in part.seconds.tolist()]
