"""streamrnn on files of the TSB-AD benchmark, beside a linear forecast and what others published.

    OPENBLAS_NUM_THREADS=1 python tools/tsbad.py ../shared/data/tsbad

FOLDER has parquet files with a column a channel and one of labels, and ``reference.csv``: for each the rows
to train on, the first ones, and what others come to (github.com/TheDatumOrg/TSB-AD; Liu & Paparrizos, NeurIPS
2024). A model is trained on these rows of each file alone, with the defaults of ``streamrnn train``; then the
file is replayed in one pass, and the score of each row is what a daemon would have told, 0 where it tells
none. Nothing is set by file, and no row is scored by one behind it.

Judged is each file by VUS-PR, the volume under the surface of precision and recall (Paparrizos et al., VLDB
2022, section 4): no threshold is chosen and no row of an anomaly counts because another was found. The widest
buffer around an anomaly is the period of the first channel. The figures are those of the package tsb-ad 1.5,
from whose numbers for the same scores they differ by rounding alone: see ``vus_pr``.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.streams.rarity import first_levels
from streamrnn.table import Reading
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.judge.calibration import score_residuals

LABEL = "label"
ORDER, RIDGE = 8, 1e-3  # of the linear autoregression: rows that it looks back, share of the rows
THRESHOLDS = 250  # by rank of the rows, as the benchmark has them
SHORTEST, LONGEST, USUAL = 6, 303, 125  # rows: of a period that counts, and taken where there is none
LAGS = 400  # looked at


class File(NamedTuple):
    path: Path
    learned: int  # rows to train on
    published: dict[str, float]  # VUS-PR of other methods
    values: np.ndarray  # (n, C) float64
    faulty: np.ndarray  # (n,) bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    files = list(load(parser.parse_args().folder))
    others = list(files[0].published)
    names = ["streamrnn", f"linear, {ORDER} rows", *others]
    print(f"{'VUS-PR':46}" + "".join(f"{name:>16}" for name in names))
    rows = []
    for file in files:
        period = find_period(file.values[:, 0])
        ours = [vus_pr(file.faulty, score, period) for score in (product_score(file), linear_score(file))]
        rows.append([*ours, *(file.published[name] for name in others)])
        print(f"{file.path.stem:46}" + "".join(f"{value:16.3f}" for value in rows[-1]), flush=True)
    print(f"{'mean':46}" + "".join(f"{value:16.3f}" for value in np.mean(rows, axis=0)))


def load(folder: Path) -> Iterator[File]:
    reference = pyarrow.csv.read_csv(folder / "reference.csv").to_pylist()
    for row in reference:
        path, table = folder / row["file"], pyarrow.parquet.read_table(folder / row["file"])
        published = {name: row[name] for name in list(row)[4:]}
        values = [table[name].to_numpy().astype(float) for name in table.column_names if name != LABEL]
        faulty = table[LABEL].to_numpy() > 0
        yield File(path, row["train_rows"], published, np.stack(values, axis=1), faulty)


def product_score(file: File) -> np.ndarray:
    """What the product says of each row, (n,), by a model of the file's first ones."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
        source, model, told = (
            Path(scratch) / name for name in ("all.parquet", "m.safetensors", "told.parquet")
        )
        table = pyarrow.parquet.read_table(file.path).drop_columns([LABEL])
        pyarrow.parquet.write_table(table, source)
        train(TrainOptions(DataOptions((str(source),), reading=Reading(limit=file.learned)), model))
        replay(ReplayOptions(str(source), model, Faults(), str(told)))
        return np.nan_to_num(pyarrow.parquet.read_table(told)["score"].to_numpy())


def linear_score(file: File) -> np.ndarray:
    """The same score of a linear autoregression of all channels that vary in the rows to train on."""
    learned = file.values[: file.learned]
    varies = learned.std(axis=0) > 0
    values = ((file.values - learned.mean(axis=0)) / np.where(varies, learned.std(axis=0), 1))[:, varies]
    past = np.lib.stride_tricks.sliding_window_view(values, ORDER, axis=0)[:-1]  # [i] ends before i + ORDER
    inputs = np.column_stack([past.reshape(len(past), -1), np.ones(len(past))])
    here = inputs[: file.learned - ORDER]
    gram = here.T @ here + RIDGE * len(here) * np.eye(here.shape[1])
    weight = np.linalg.solve(gram, here.T @ values[ORDER : file.learned])
    errors = np.vstack([np.full((ORDER, values.shape[1]), np.nan), values[ORDER:] - inputs @ weight])
    switches = [len(np.unique(column)) <= 2 for column in values[: file.learned].T]
    levels = first_levels(len(switches), switches=sum(switches))
    return np.nan_to_num(score_residuals(errors, levels, switches)[0])


def vus_pr(faulty: np.ndarray, score: np.ndarray, widest: int) -> float:
    """The volume under the surface of precision and recall, of buffers of 0 to ``widest`` rows.

    ``faulty`` (n,) bool has at least one row that is; ``score`` (n,) is higher for what is less usual. Around
    each anomaly a row at distance d within half of a buffer of l counts for sqrt(1 - d / l), where it is
    flagged; half of what so counts is added to what is to be found, and recall is multiplied by the share of
    anomalies, joined where their buffers meet, of which anything was found.
    """
    ranked = -np.sort(-score)
    thresholds = ranked[np.linspace(0, len(score) - 1, THRESHOLDS).astype(int)]
    order = np.argsort(-score, kind="stable")
    flagged = np.searchsorted(-ranked, -thresholds, side="right")  # rows at the threshold or above
    hits = np.cumsum(faulty[order])[flagged - 1].astype(float)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], faulty, [0]])))
    begins, ends = edges[::2], edges[1::2] - 1
    areas = []
    for buffer in range(widest + 1):
        near = np.cumsum(_buffers(faulty, begins, ends, buffer)[order])[flagged - 1]
        found = hits + near
        recall = np.minimum(found / (faulty.sum() + near / 2), 1)
        highest = np.array(
            [score[first : last + 1].max() for first, last in _joined(begins, ends, buffer, len(score))]
        )
        recall *= (highest[:, None] >= thresholds).mean(axis=0)
        areas.append(np.diff(recall, prepend=0) @ (found / flagged))
    return float(np.mean(areas))


def _buffers(faulty: np.ndarray, begins: np.ndarray, ends: np.ndarray, buffer: int) -> np.ndarray:
    """What each row counts for that is in no anomaly, (n,)."""
    weights = np.zeros(len(faulty))
    for distance in range(1, buffer // 2 + 1):
        for places in (begins - distance, ends + distance):
            inside = places[(places >= 0) & (places < len(faulty))]
            np.add.at(weights, inside, np.sqrt(1 - distance / buffer))
    return np.where(faulty, 0, np.minimum(weights, 1))


def _joined(begins: np.ndarray, ends: np.ndarray, buffer: int, rows: int) -> list[tuple[int, int]]:
    """First and last row of each anomaly with its buffer, those in one that meet."""
    reach, joined = buffer // 2, list[tuple[int, int]]()
    for begin, end in zip(begins - reach, ends + reach, strict=True):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], int(end)
        else:
            joined.append((max(int(begin), 0), int(end)))
    return [(begin, min(end, rows - 1)) for begin, end in joined]


def find_period(values: np.ndarray) -> int:
    """Rows to the highest peak of the autocorrelation of (n,) values, if SHORTEST to LONGEST; else USUAL."""
    centred = values[:20_000] - values[:20_000].mean()
    spectrum = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    alike = np.fft.irfft(spectrum)[3 : LAGS + 1]
    peaks = 1 + np.flatnonzero((alike[1:-1] > alike[:-2]) & (alike[1:-1] > alike[2:]))
    if not len(peaks):
        return USUAL
    period = int(peaks[alike[peaks].argmax()]) + 3
    return period if SHORTEST <= period <= LONGEST else USUAL


if __name__ == "__main__":
    main()
