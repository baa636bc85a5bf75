"""streamrnn on the Numenta Anomaly Benchmark, beside simple methods and what others published.

    OPENBLAS_NUM_THREADS=1 python tools/nab.py ../shared/data/nab
    OPENBLAS_NUM_THREADS=1 python tools/nab.py ../shared/data/nab --seed 1    # of the training

FOLDER has ``data`` and ``labels/combined_windows.json`` as the benchmark has them (github.com/numenta/NAB);
of its 58 files those are scored that are there. A model is trained on the first 15 % of each file, which the
benchmark leaves to learn from, with the defaults of ``streamrnn train``; then the file is replayed in one
pass, and the score of each row is what a daemon would have told. Nothing is set by file.

A detector gives every row a score, and one threshold is chosen for all files: the one that scores best,
which is the benchmark's own rule. Each method is judged by each of these:

each row    every row at the threshold or above is a detection: the benchmark's rule for any score
suppressed  the same, of scores that are 0 within an event but for its first row. An event is as the daemon
            has it, from the method's own threshold on: what training put into each model, 3 where there is
            none (for a score in -log10 of a share, one row in a thousand). CAD OSE and KNN-CAD do likewise,
            for a fifth of the probation after an alarm of theirs; ARTime for twelve of its steps, but
            for a far worse one; Numenta HTM lowers an alarm that follows another at once
events      the rows where an event begins, by the chosen threshold
given       the same by the method's own, so with nothing chosen by these labels
crosswise   events, each half of the files by the threshold that is best for the other
"""

import argparse
import contextlib
import io
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
from nab_scorer import Series, Tally, load, normalised, tally

from streamrnn.model.model_file import read_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.streams.rarity import first_levels
from streamrnn.table import Reading
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.descent import TrainSettings
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.judge.calibration import event_rows, score_residuals

RULES = ("each row", "suppressed", "events", "given", "crosswise")
FIXED = 3.0  # one row in a thousand
ORDER = 32  # rows that the linear autoregression looks back
EVERY = 600  # rows between alarms that look at nothing, where these do best
THRESHOLDS = 1000  # tried, spaced by the share of rows that reach them
LEAST_TAIL = 5e-13  # of the windowed Gaussian: Numenta's results have 1 - tail to twelve digits
PUBLISHED = (  # standard profile, each row: all 58 files; the 38 of artificialNoAnomaly,
    # artificialWithAnomaly, realAWSCloudwatch and realTweets, from the results that github.com/numenta/NAB
    # keeps file by file; whether the detector suppresses repeated alarms itself, from its code there
    ("ARTime", 74.9, 75.4, True),
    ("Numenta HTM", 70.1, None, True),
    ("CAD OSE", 69.9, 72.4, True),
    ("KNN-CAD", 58.0, 60.5, True),
    ("windowed Gaussian", 39.6, 38.4, False),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    options = parser.parse_args()
    folder, settings = options.folder, TrainSettings(seed=options.seed)
    files = load(folder)
    print(f"{len(files)} of 58 files, {sum(series.windows for series in files)} windows; standard profile\n")
    print(f"{'':34}" + "".join(f"{rule:>12}" for rule in RULES) + "   found, false alarms (events)")
    with tempfile.TemporaryDirectory() as scratch:
        ours = [
            streamrnn_score(folder / "data" / series.name, series, settings, Path(scratch))
            for series in files
        ]
    show("streamrnn", files, [score for score, _ in ours], [threshold for _, threshold in ours])
    show("linear autoregression, same score", files, [linear_score(series) for series in files])
    show("threshold on the raw value", files, [np.abs(standardised(series)) for series in files])
    show("windowed Gaussian", files, [windowed_gaussian(series.values) for series in files])
    show(f"an alarm every {EVERY} rows", files, [regular(len(series.values)) for series in files])
    show("flag everything", files, [np.ones(len(series.values)) for series in files])
    show("flag nothing", files, [np.full(len(series.values), np.nan) for series in files])
    print(f"\n{'published, each row':34}{'58 files':>12}{'38 files':>12}   suppresses repeats itself")
    for name, whole, part, suppresses in PUBLISHED:
        print(f"{name:34}{whole:12.1f}{'-' if part is None else part:>12}   {'yes' if suppresses else 'no'}")


def show(
    name: str, files: Sequence[Series], scores: Sequence[np.ndarray], own: Sequence[float] | None = None
) -> None:
    """Prints what a method comes to by each of the RULES; ``own`` are its thresholds, of each file."""
    own = own or [FIXED] * len(files)
    quiet = [suppressed(score, t) for score, t in zip(scores, own, strict=True)]
    whole, windows = range(len(files)), sum(series.windows for series in files)
    tried = thresholds(scores)
    by_event = tallies(files, scores, tried, events)
    k = best(by_event, whole)
    halves = whole[::2], whole[1::2]
    crossed: list[Tally] = []
    for mine, other in (halves, halves[::-1]):
        crossed += [by_event[best(by_event, other)][i] for i in mine]
    judged = (
        best_of(tallies(files, scores, tried, each_row)),
        best_of(tallies(files, quiet, thresholds(quiet), each_row)),
        by_event[k],
        [tally(series, events(score, t)) for series, score, t in zip(files, scores, own, strict=True)],
        crossed,
    )
    found = total(by_event[k])
    print(
        f"{name:34}"
        + "".join(f"{normalised(total(each).gain, windows):12.1f}" for each in judged)
        + f"   {found.found}, {found.false_alarms} at {tried[k]:.3g}",
        flush=True,
    )


def tallies(
    files: Sequence[Series],
    scores: Sequence[np.ndarray],
    tried: np.ndarray,
    detect: Callable[[np.ndarray, float], np.ndarray],
) -> list[list[Tally]]:
    """Of each threshold, what the detections come to in each file."""
    return [[tally(s, detect(score, t)) for s, score in zip(files, scores, strict=True)] for t in tried]


def total(tallies: Sequence[Tally]) -> Tally:
    return Tally(*(sum(part) for part in zip(*tallies, strict=True)))


def best(found: list[list[Tally]], which: range) -> int:
    """The threshold's place that scores best on these files."""
    return int(np.argmax([sum(row[i].gain for i in which) for row in found]))


def best_of(found: list[list[Tally]]) -> list[Tally]:
    """What the threshold that scores best on all files comes to in each."""
    return found[best(found, range(len(found[0])))]


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
    return np.flatnonzero(np.diff(under_way(score, threshold), prepend=False))[::2]


def suppressed(score: np.ndarray, threshold: float) -> np.ndarray:
    """The score where no event is under way or one begins, else 0."""
    repeats = under_way(score, threshold)
    repeats[events(score, threshold)] = False
    return np.where(repeats, 0.0, score)


def under_way(score: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each row is in an event, or in the quiet rows that end it."""
    return event_rows(score.astype(np.float32), threshold) > 0


def streamrnn_score(
    source: Path, series: Series, settings: TrainSettings, scratch: Path
) -> tuple[np.ndarray, float]:
    """The score of each row by a model of the file's first ones, (n,), and the threshold that is in it."""
    model, output = scratch / "model.safetensors", scratch / "output.parquet"
    with contextlib.redirect_stderr(io.StringIO()):
        data = DataOptions((str(source),), reading=Reading(limit=series.probation))
        train(TrainOptions(data, model, settings=settings))
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
