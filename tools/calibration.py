"""How often rows without faults get a high score, over how often they should.

    OPENBLAS_NUM_THREADS=1 python tools/calibration.py
    OPENBLAS_NUM_THREADS=1 python tools/calibration.py ../shared/data    # on SKAB and ETTh1, too

A score of 2 is to be reached by one row in 100, 3 by one in 1,000, 4 by one in 10,000: what is printed is
the share of rows that reach it, over that, by how many rows a stream has seen.

Noise stands for the residuals of a perfect forecast, 8 channels of it, scored with the levels that
``streamrnn train`` finds in the validation rows of six streams; and as those of a model that says none. For
data a model is trained with the defaults of ``streamrnn train``, and the scores are the
engine's of rows that it was not trained on: pumps of other days; of SKAB's file without faults and of ETTh1
the last rows, which the stream comes to after the others.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet

from streamrnn.demo.pumps import Pumps
from streamrnn.demo.recording import record
from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.streams.rarity import first_levels
from streamrnn.table import Reading
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.job import TrainOptions, train
from streamrnn.train.judge.calibration import calibrate, score_residuals

SCORES = (2, 3, 4)
CHANNELS, VALIDATED = 8, (6, 7200)  # of noise; streams and rows for its levels, as many as pumps have
AGES = ((2000, 500, 1000), (60, 2000, 20_000), (15, 20_000, 100_000))  # streams, and the rows of each, a to b
LEARNED_S = 3600  # of pumps
LATER = (  # files, and the rows that the model is trained on: 60 % of SKAB's, sixteen months of ETTh1
    ("SKAB without faults", "skab/anomaly-free/anomaly-free.csv", 5643),
    ("ETTh1", "ett/ETTh1.csv", 11_520),
)

Noise = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
NOISES: dict[str, Noise] = {
    "normal noise": lambda rng, shape: rng.normal(size=shape),
    "Laplace noise": lambda rng, shape: rng.laplace(size=shape),
    "Student's t, 3 degrees": lambda rng, shape: rng.standard_t(3, size=shape),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of skab/ and ett/")
    folder = parser.parse_args().folder
    head = "".join(f"{f'>= {k}':>8}" for k in SCORES)
    print(f"{'times as often as it should be':32}{'rows of a stream':>20}{'in all':>11}{head}")
    with tempfile.TemporaryDirectory() as temporary:
        sources = {"simulated pumps": partial(of_pumps, pump_model(Path(temporary)))}
        for name, noise in NOISES.items():
            sources[name] = partial(of_noise, noise, learned_levels(noise))
            sources[f"{name}, no levels"] = partial(of_noise, noise, first_levels(CHANNELS))
        for name, scores in sources.items():
            for streams, begin, end in AGES:
                show(name, begin, scores(streams, end)[:, begin:])
        if folder is not None:
            for name, file, learned in LATER:
                show(name, learned, of_replay(folder / file, learned, Path(temporary))[:, learned:])


def show(name: str, begin: int, scores: np.ndarray) -> None:
    """Prints a line on the scores (streams, n) of the n rows from ``begin`` on."""
    ratios = "".join(f"{(scores >= k).mean() * 10.0**k:8.2f}" for k in SCORES)
    rows = f"{begin:,} to {begin + scores.shape[1]:,}"
    print(f"{name:32}{rows:>20}{scores.size:11,}{ratios}", flush=True)


def learned_levels(noise: Noise) -> np.ndarray:
    """Those of a model of six streams, (12,)."""
    rng, (streams, rows) = np.random.default_rng(1), VALIDATED
    return first_levels(CHANNELS, calibrate([noise(rng, (rows, CHANNELS)) for _ in range(streams)]))


def of_noise(noise: Noise, levels: np.ndarray, streams: int, rows: int) -> np.ndarray:
    """Scores of new streams, (streams, rows)."""
    rng = np.random.default_rng(0)
    return np.stack([score_residuals(noise(rng, (rows, CHANNELS)), levels)[0] for _ in range(streams)])


def pump_model(folder: Path) -> Model:
    """Of a recording of six pumps."""
    recording, model = folder / "pumps.csv", folder / "pumps.safetensors"
    record(recording, LEARNED_S, seed=1)
    with contextlib.redirect_stderr(io.StringIO()):
        train(TrainOptions(DataOptions((str(recording),), reading=Reading(stream="machine")), model))
    return read_model(model)


def of_pumps(model: Model, streams: int, rows: int) -> np.ndarray:
    """Scores of other pumps, (streams, rows)."""
    pumps, engine = Pumps(streams, seed=2), Engine(model, streams, Faults())
    values = np.concatenate([pumps.step() for _ in range(rows)])
    stream = np.tile(np.arange(streams), rows)
    return engine.feed([f"pump-{k}" for k in range(streams)], stream, values).score.reshape(rows, -1).T


def of_replay(source: Path, learned: int, folder: Path) -> np.ndarray:
    """Scores of a file, (1, n), by a model of its first rows."""
    model, output = folder / "model.safetensors", folder / "output.parquet"
    with contextlib.redirect_stderr(io.StringIO()):
        train(TrainOptions(DataOptions((str(source),), reading=Reading(limit=learned)), model))
        replay(ReplayOptions(str(source), model, Faults(), str(output)))
    return pyarrow.parquet.read_table(output)["score"].to_numpy()[None]


if __name__ == "__main__":
    main()
