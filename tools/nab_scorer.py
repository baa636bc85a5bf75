"""The score of the Numenta Anomaly Benchmark, standard profile.

After Lavin & Ahmad 2015, "Evaluating real-time anomaly detection algorithms: the Numenta Anomaly
Benchmark", section II (arXiv 1510.03336). Around each true anomaly lies a window. Of the detections in a
window only the first counts, and more the earlier it comes; each one outside costs, and less right after a
window. The first 15 % of a file, at most 750 rows, count for nothing: a detector may learn from them. 0 is
what detecting nothing gives, 100 what detecting every window at its first row and nothing else gives.

Checked by ``tests/tools/test_nab.py``: cases of a few rows against sums done by hand; 0 and 100 where they
must be; and the benchmark's own windowed Gaussian, written anew, against the scores that Numenta published
of it file by file: each of 38 comes to the same within 1e-6.
"""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

FALSE_ALARM = 0.11  # what one costs in the standard profile; a window found is worth 1, one missed costs 1


class Series(NamedTuple):
    """One file of the benchmark and what a detection at each of its n rows is worth."""

    name: str
    values: np.ndarray  # (n,) float64
    gain: np.ndarray  # (n,) float64: below 0 outside of the windows
    window: np.ndarray  # (n,) int64: number of the window that the row lies in, -1 = none
    windows: int
    probation: int  # rows at the beginning that are not judged


class Tally(NamedTuple):
    """What detections come to, in one file or summed over several."""

    gain: float  # above that of detecting nothing
    found: int  # windows
    false_alarms: int  # rows


def load(folder: Path) -> list[Series]:
    """The files below ``folder``/data that ``folder``/labels/combined_windows.json names, by name."""
    labels = json.loads((folder / "labels" / "combined_windows.json").read_text())
    return [_read(folder / "data" / name, name, limits) for name, limits in sorted(labels.items())]


def _read(path: Path, name: str, limits: list[list[str]]) -> Series:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    stamps = [row["timestamp"] for row in rows]
    # Limits are the times of rows, written with six more digits.
    windows = [(stamps.index(first[:19]), stamps.index(last[:19])) for first, last in limits]
    return make_series(name, np.array([float(row["value"]) for row in rows]), windows)


def make_series(name: str, values: np.ndarray, windows: list[tuple[int, int]]) -> Series:
    """``windows`` are their first and last rows, both inclusive, in order."""
    rows = np.arange(len(values))
    gain = np.full(len(rows), -FALSE_ALARM)
    window = np.full(len(rows), -1)
    for k, (first, last) in enumerate(windows):
        past = (rows[last + 1 :] - last) / max(last - first, 1)
        gain[last + 1 :] = FALSE_ALARM * np.where(past < 3, sigmoid(past), -1)
        inside = np.arange(first - last - 1, 0) / (last - first + 1)  # from -1 to just below 0
        gain[first : last + 1] = sigmoid(inside) / sigmoid(np.array(-1.0))
        window[first : last + 1] = k
    return Series(name, values, gain, window, len(windows), int(0.15 * min(len(values), 5000)))


def sigmoid(position: np.ndarray) -> np.ndarray:
    """The paper's scaled sigmoid, from 1 long before the end of a window, which is at 0, to -1 long after."""
    return 2 / (1 + np.exp(5 * position)) - 1


def tally(series: Series, detections: np.ndarray) -> Tally:
    """``detections`` are row numbers, (k,) int64, ascending."""
    rows = detections[detections >= series.probation]
    gain, window = series.gain[rows], series.window[rows]
    outside = window < 0
    _, first = np.unique(window[~outside], return_index=True)
    found = gain[~outside][first]
    return Tally(float(gain[outside].sum() + (found + 1).sum()), len(found), int(outside.sum()))


def normalised(gain: float, windows: int) -> float:
    """The benchmark's score of files with so many windows; ValueError if they have none."""
    if not windows:
        raise ValueError("these files have no window, so there is nothing to find: score more of them")
    return 100 * gain / (2 * windows)
