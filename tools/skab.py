"""streamrnn on the Skoltech anomaly benchmark, beside simple methods and what others published.

    OPENBLAS_NUM_THREADS=1 python tools/skab.py ../shared/data/skab

FOLDER has ``anomaly-free`` and ``valve1`` as the benchmark has them (github.com/waico/SKAB). One model is
trained on the anomaly-free file and the first 400 rows of each of the others, with the defaults of
``streamrnn train``; levels and threshold come from its validation part, the last 20 % of those rows. Then
each file is replayed in one pass, as a daemon would score it. Nothing is set by file.

Judged are the rows after the first 400, of all files together: F1, and the false alarm rate FP / (FP + TN).
That the published figures are of these rows follows from themselves: F1 0.78 with 13.6 % false alarms and
28 % missed leave about 0.9 normal rows for each faulty one, as there are here; whole files have 1.9.
"in an event" counts the rows of a daemon's events: from the threshold on until below half of it.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.csv
import pyarrow.parquet

from streamrnn.model.model_file import read_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.streams.rarity import first_levels
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.judge.calibration import calibrate, event_rows, score_residuals

LEARNED, VALIDATION = 400, 0.2  # rows of each file to learn from; the share of them to validate on
ORDER, RIDGE = 5, 1e-3  # of the linear autoregression: rows that it looks back, share of the rows
BEYOND = 3.0  # standard deviations of a sensor, for the threshold on the raw value
_SEMICOLON = pyarrow.csv.ParseOptions(delimiter=";")
PUBLISHED = (  # F1 and false alarm rate, all 34 files
    ("Conv-AE", 0.78, 0.136),
    ("LSTM-AE", 0.74, None),
    ("vanilla LSTM", 0.54, None),
)


class File(NamedTuple):
    path: Path
    values: np.ndarray  # (n, 8) float64
    faulty: np.ndarray  # (n,) bool; none in the anomaly-free file


class Scores(NamedTuple):
    """Of every file of ``valve1``, (n,) float32, NaN for none, and the threshold that goes with them."""

    files: list[np.ndarray]
    threshold: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    free = read(folder / "anomaly-free" / "anomaly-free.csv")
    files = [read(path) for path in sorted((folder / "valve1").glob("*.csv"), key=lambda p: int(p.stem))]
    faulty = np.concatenate([file.faulty[LEARNED:] for file in files])
    print(f"{len(files)} files, {len(faulty):,} rows judged, {faulty.mean():.1%} of them faulty\n")
    print(f"{'':44}{'F1':>7}{'false alarms':>14}")
    for name, scores in (
        ("streamrnn", network(free, files)),
        (f"linear autoregression, {ORDER} rows", linear(free, files)),
    ):
        rows = [scored >= scores.threshold for scored in scores.files]
        tell(f"{name}, at {scores.threshold:g}", rows, faulty)
        events = [event_rows(scored, scores.threshold) == 1 for scored in scores.files]
        tell(f"{name}, in an event", events, faulty)
    tell(f"a sensor beyond {BEYOND:g} deviations", [beyond(file) for file in files], faulty)
    tell("everything flagged", [np.ones(len(file.values), bool) for file in files], faulty)
    tell("nothing flagged", [np.zeros(len(file.values), bool) for file in files], faulty)
    print("\npublished, all 34 files of the benchmark (its README)")
    for name, f1, alarms in PUBLISHED:
        print(f"{name:44}{f1:7.3f}{'' if alarms is None else f'{alarms:14.1%}'}")


def read(path: Path) -> File:
    table = pyarrow.csv.read_csv(path, parse_options=_SEMICOLON)
    values = np.stack([table[name].to_numpy().astype(float) for name in table.column_names[1:9]], axis=1)
    faulty = (
        table["anomaly"].to_numpy() > 0 if "anomaly" in table.column_names else np.zeros(len(values), bool)
    )
    return File(path, values, faulty)


def tell(name: str, flagged: Sequence[np.ndarray], faulty: np.ndarray) -> None:
    """Prints a line on the flagged rows of whole files; ``faulty`` are those of all that are judged."""
    f1, alarms = judge(np.concatenate([file[LEARNED:] for file in flagged]), faulty)
    print(f"{name:44}{f1:7.3f}{alarms:14.1%}")


def judge(flagged: np.ndarray, faulty: np.ndarray) -> tuple[float, float]:
    """F1, and the false alarm rate, of rows (n,) bool; some of both kinds must be there."""
    hits, alarms = (flagged & faulty).sum(), (flagged & ~faulty).sum()
    return 2 * hits / (flagged.sum() + faulty.sum()), alarms / (~faulty).sum()


def network(free: File, files: list[File]) -> Scores:
    """What the product says of each file."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
        model = Path(scratch) / "valve.safetensors"
        heads = [_head(file, Path(scratch)) for file in files]
        names = tuple(pyarrow.csv.read_csv(free.path, parse_options=_SEMICOLON).column_names[1:9])
        sources = (str(free.path), *map(str, heads))
        train(TrainOptions(DataOptions(sources, channels=names, validation=VALIDATION), model))
        errors = [_errors(path, model, Path(scratch)) for path in (free.path, *(file.path for file in files))]
    return score(errors[0], errors[1:])


def score(free: np.ndarray, files: list[np.ndarray]) -> Scores:
    """Scores by the forecast errors of each file, (n, 8); levels and threshold by the validation part."""
    learned = [free, *(errors[:LEARNED] for errors in files)]
    found = calibrate([errors[round((1 - VALIDATION) * len(errors)) :] for errors in learned])
    levels = first_levels(free.shape[1], found)
    return Scores([score_residuals(errors, levels)[0] for errors in files], found["threshold"])


def linear(free: File, files: list[File]) -> Scores:
    """The same score on the errors of a linear function of the last rows, of the same training rows."""
    parts = [free.values, *(file.values[:LEARNED] for file in files)]
    learned = [part[: round((1 - VALIDATION) * len(part))] for part in parts]
    mean, std = np.concatenate(learned).mean(axis=0), np.concatenate(learned).std(axis=0)
    pairs = [_past((part - mean) / std) for part in learned]
    features, targets = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    gram = features.T @ features + RIDGE * len(features) * np.eye(features.shape[1])
    weight = np.linalg.solve(gram, features.T @ targets)
    errors = []
    for file in (free, *files):
        x, y = _past((file.values - mean) / std)
        errors.append(np.vstack([np.full((ORDER, y.shape[1]), np.nan), y - x @ weight]))
    return score(errors[0], errors[1:])


def beyond(file: File) -> np.ndarray:
    """Rows with a sensor further than BEYOND standard deviations from its mean in the first rows."""
    head = file.values[:LEARNED]
    return (abs(file.values - head.mean(axis=0)) > BEYOND * head.std(axis=0)).any(axis=1)


def _head(file: File, scratch: Path) -> Path:
    head = scratch / file.path.name
    head.write_text("".join(file.path.read_text().splitlines(keepends=True)[: 1 + LEARNED]))
    return head


def _errors(path: Path, model: Path, scratch: Path) -> np.ndarray:
    """Forecast errors of a replayed file's rows in the model's standard deviations, NaN for the first."""
    told = scratch / "told.parquet"
    replay(ReplayOptions(str(path), model, Faults(), str(told)))
    table = pyarrow.parquet.read_table(told)
    forecasts = [table[name].to_numpy() for name in table.column_names if name.endswith("_pred")]
    values, std = read(path).values, read_model(model).output_std
    errors = np.full(values.shape, np.nan)
    errors[1:] = (values[1:] - np.stack(forecasts, axis=1)[:-1]) / std
    return errors


def _past(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets of an autoregression: the rows before each, and a constant."""
    count = len(values) - ORDER
    before = [values[ORDER - k : ORDER - k + count] for k in range(1, ORDER + 1)]
    return np.hstack([*before, np.ones((count, 1))]), values[ORDER:]


if __name__ == "__main__":
    main()
