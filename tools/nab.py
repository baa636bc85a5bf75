"""streamrnn on the Numenta Anomaly Benchmark, beside simple methods and what others published.

    OPENBLAS_NUM_THREADS=1 python tools/nab.py ../shared/data/nab

FOLDER has ``data`` and ``labels/combined_windows.json`` as the benchmark has them (github.com/numenta/NAB);
of its 58 files those are scored that are there. A model is trained on the first 15 % of each file, which the
benchmark leaves to learn from, with the defaults of ``streamrnn train``; then the file is replayed in one
pass, and the score of each row is what a daemon would have told. Nothing is set by file.

A detector gives every row a score, and one threshold is chosen for all files: the one that scores best,
which is the benchmark's own rule. "each row": every row at the threshold or above is a detection. "events":
only the row where an event begins, as the daemon publishes it. "given": events at the threshold that
training put into each model; at 3, one row in a thousand, where there is no model. "crosswise": events,
each half of the files by the threshold that is best for the other.
"""

import argparse
import contextlib
import io
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
from nab_scorer import Series, Tally, load, normalised, tally

from streamrnn.config import Faults
from streamrnn.model.native import read_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.streams.score import first_levels
from streamrnn.train.calibration import event_rows, score_residuals
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.recording import DataOptions

FIXED = 3.0  # one row in a thousand
ORDER = 32  # rows that the linear autoregression looks back
EVERY = 600  # rows: what does best of alarms that look at nothing
THRESHOLDS = 1000  # tried, spaced by the share of rows that reach them
LEAST_TAIL = 5e-13  # of the windowed Gaussian: Numenta's results have 1 - tail to twelve digits
PUBLISHED = (  # standard profile: all 58 files; those 38 that are in
    # ../shared/data, from the results that github.com/numenta/NAB keeps file by file
    ("ARTime", 74.9, 75.4),
    ("Numenta HTM", 70.1, None),
    ("CAD OSE", 69.9, 72.4),
    ("KNN-CAD", 58.0, 60.5),
    ("windowed Gaussian", 39.6, 38.4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    files = load(folder)
    print(f"{len(files)} of 58 files, {sum(series.windows for series in files)} windows; standard profile\n")
    print(f"{'':34}{'each row':>9}{'events':>8}{'given':>7}{'crosswise':>11}   found, false alarms (events)")
    with tempfile.TemporaryDirectory() as scratch:
        ours = [streamrnn_score(folder / "data" / series.name, series, Path(scratch)) for series in files]
    show("streamrnn", files, [score for score, _ in ours], [threshold for _, threshold in ours])
    show("linear autoregression, same score", files, [linear_score(series) for series in files])
    show("threshold on the raw value", files, [np.abs(standardised(series)) for series in files])
    show("windowed Gaussian", files, [windowed_gaussian(series.values) for series in files])
    show(f"an alarm every {EVERY} rows", files, [regular(len(series.values)) for series in files])
    show("flag everything", files, [np.ones(len(series.values)) for series in files])
    show("flag nothing", files, [np.full(len(series.values), np.nan) for series in files])
    print("\npublished                          all 58 files   38 files")
    for name, whole, part in PUBLISHED:
        print(f"  {name:32}{whole:12.1f}{'-' if part is None else part:>11}")


def show(
    name: str, files: Sequence[Series], scores: Sequence[np.ndarray], given: Sequence[float] | None = None
) -> None:
    """Prints the row of a method with its best thresholds; ``given`` are those that each file's model has."""
    tried = thresholds(scores)
    by_row = [[tally(s, each_row(score, t)) for s, score in zip(files, scores, strict=True)] for t in tried]
    by_event = [[tally(s, events(score, t)) for s, score in zip(files, scores, strict=True)] for t in tried]
    whole = range(len(files))
    k = best(by_event, whole)
    given = given or [FIXED] * len(files)
    fixed = [tally(s, events(score, t)) for s, score, t in zip(files, scores, given, strict=True)]
    halves = range(0, len(files), 2), range(1, len(files), 2)
    crossed: list[Tally] = []
    for mine, other in (halves, halves[::-1]):
        crossed += [by_event[best(by_event, other)][i] for i in mine]
    windows = sum(series.windows for series in files)
    each = normalised(total(by_row[best(by_row, whole)]).gain, windows)
    event, fix, cross = (normalised(total(t).gain, windows) for t in (by_event[k], fixed, crossed))
    found = total(by_event[k])
    print(
        f"{name:34}{each:9.1f}{event:8.1f}{fix:7.1f}{cross:11.1f}"
        f"   {found.found}, {found.false_alarms} at {tried[k]:.3g}",
        flush=True,
    )


def total(tallies: Sequence[Tally]) -> Tally:
    return Tally(*(sum(part) for part in zip(*tallies, strict=True)))


def best(tallies: list[list[Tally]], which: range) -> int:
    """The threshold's place that scores best on these files."""
    return int(np.argmax([sum(row[i].gain for i in which) for row in tallies]))


def thresholds(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Scores that a tenth of all rows reach, and ever fewer down to one row; (k,) ascending."""
    known = np.sort(np.concatenate([score[~np.isnan(score)] for score in scores]))
    if not len(known):
        return np.array([np.inf])
    shares = np.geomspace(0.1, 1 / len(known), THRESHOLDS)
    return np.unique(known[len(known) - np.ceil(shares * len(known)).astype(int)])


def each_row(score: np.ndarray, threshold: float) -> np.ndarray:
    """Rows whose score reaches the threshold."""
    return np.flatnonzero(score >= threshold)


def events(score: np.ndarray, threshold: float) -> np.ndarray:
    """Rows where an event begins, as the daemon has it: once, however often the threshold is crossed."""
    under_way = event_rows(score.astype(np.float32), threshold) > 0
    return np.flatnonzero(np.diff(under_way, prepend=False))[::2]


def streamrnn_score(source: Path, series: Series, scratch: Path) -> tuple[np.ndarray, float]:
    """The score of each row by a model of the file's first ones, (n,), and the threshold that is in it."""
    model, output = scratch / "model.safetensors", scratch / "output.parquet"
    with contextlib.redirect_stderr(io.StringIO()):
        train(TrainOptions(DataOptions((str(source),), limit=series.probation), model))
        replay(ReplayOptions(str(source), model, Faults(), str(output)))
    chosen = read_model(model).score
    if chosen is None:
        raise ValueError(f"{source}: its model has no threshold of the score")
    return pyarrow.parquet.read_table(output)["score"].to_numpy(), chosen["threshold"]


def linear_score(series: Series) -> np.ndarray:
    """The same score of a linear autoregression, fitted to the file's first rows by least squares."""
    values = standardised(series)
    past = np.lib.stride_tricks.sliding_window_view(values, ORDER)[:-1]  # [i] ends a row before i + ORDER
    inputs = np.column_stack([past, np.ones(len(past))])
    learned = slice(series.probation - ORDER)
    weights = np.linalg.lstsq(inputs[learned], values[ORDER : series.probation])[0]
    residuals = np.append(np.full(ORDER, np.nan), values[ORDER:] - inputs @ weights)
    return score_residuals(residuals[:, None], first_levels(1))[0]


def standardised(series: Series) -> np.ndarray:
    """The values, (n,), by the mean and standard deviation of the rows that are not judged."""
    learned = series.values[: series.probation]
    return (series.values - learned.mean()) / (learned.std() or 1.0)


def regular(rows: int) -> np.ndarray:
    """A score that looks at nothing, (rows,): what it gets is what the benchmark gives to luck."""
    return np.where(np.arange(rows) % EVERY == 0, 1.0, 0.0)


def windowed_gaussian(values: np.ndarray, window: int = 6400, step: int = 100) -> np.ndarray:
    """The benchmark's detector of that name: -log10 of the tail of a normal distribution, (n,).

    It is that of the rows before: a window that grows row by row to 6400 rows and then moves by 100.
    """
    score = np.zeros(len(values))
    mean, std, end = 0.0, 1.0, 0
    for row in range(1, len(values)):
        if row <= window or row - end == step:
            end = row
            rows = values[max(0, end - window) : end]
            mean, std = rows.mean(), rows.std() or 1e-6
        tail = 0.5 * math.erfc(abs(values[row] - mean) / std / 1.4142)
        score[row] = -math.log10(max(tail, LEAST_TAIL))
    return score


if __name__ == "__main__":
    main()
