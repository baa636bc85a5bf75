"""What adaptation is worth on sensors that drift, and what it costs on those that do not.

    OPENBLAS_NUM_THREADS=1 python tools/adaptation.py
    OPENBLAS_NUM_THREADS=1 python tools/adaptation.py ../shared/data    # on SKAB and ETTh1, too

Each network is trained on rows as they are, then forecasts later ones, or those of another day, whose
sensors drift, x' = gain x + offset: slowly over a third of the rows, and by a step soon after. The last 30 %
of the rows, and the first 1000 after the step, are compared with a network trained on the first one's rows
put through the last gain and offset. Errors are mean squares in standard deviations of the drifted sensors.
Then the same rows without this drift; what real sensors and seasons do is in them all the same.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamrnn.demo.pumps import Pumps
from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.settings.sections import Faults
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.descent import TrainSettings
from streamrnn.train.job import TrainOptions, train

MEMORY = 500
# cell, hidden units, frames that the head sees (None = as many as help a linear forecast)
NETWORKS = (("lstm", 32, None), ("lstm", 32, 0), ("gru", 8, None), ("gru", 64, 0), ("rnn", 16, 0))
EPOCHS = 40


class Recording(NamedTuple):
    """Rows of one stream, (n, C) float32."""

    name: str
    learned: np.ndarray
    tested: np.ndarray


def recordings(folder: Path | None) -> Iterator[Recording]:
    yield Recording("simulated pump", pump(14_400, seed=1), pump(30_000, seed=2))
    yield Recording("8 channels, simulated", mixed(12_000, seed=1), mixed(30_000, seed=2))
    if folder is None:
        return
    skab = read_columns(folder / "skab" / "anomaly-free" / "anomaly-free.csv", ";")
    yield Recording("SKAB, anomaly-free", skab[:5000], skab[5000:])
    ett = read_columns(folder / "ett" / "ETTh1.csv", ",")
    yield Recording("ETTh1, a year by halves", ett[:4320], ett[4320:8640])


def pump(count: int, seed: int) -> np.ndarray:
    pumps = Pumps(1, seed)
    return np.stack([pumps.step()[0] for _ in range(count)])


def mixed(count: int, seed: int) -> np.ndarray:
    """Eight quantities that drive each other, x' = 0.72 A x + sin(B x) / 2 + noise."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 8)), rng.normal(0, 0.5, (8, 8))
    a *= 0.72 / np.abs(np.linalg.eigvals(a)).max()
    noise = np.random.default_rng(seed).normal(0, 0.3, (count, 8))
    rows = np.zeros((count, 8))
    for t in range(1, count):
        rows[t] = a @ rows[t - 1] + 0.5 * np.sin(b @ rows[t - 1]) + noise[t]
    return rows.astype(np.float32)


def read_columns(path: Path, delimiter: str) -> np.ndarray:
    """All columns but the first, the time."""
    count = len(path.open().readline().split(delimiter))
    return np.loadtxt(path, np.float32, delimiter=delimiter, skiprows=1, usecols=range(1, min(count, 9)))


def trained(rows: np.ndarray, network: tuple[str, int, int | None], folder: Path) -> Model:
    cell, hidden, highway = network
    source, output = folder / "learned.csv", folder / "model.safetensors"
    names = ",".join(f"c{k}" for k in range(rows.shape[1]))
    np.savetxt(source, rows, "%.9g", ",", header=names, comments="")
    how = {"cell": cell, "hidden": hidden, "highway": highway, "settings": TrainSettings(epochs=EPOCHS)}
    train(TrainOptions(DataOptions((str(source),)), output, **how))
    return read_model(output)


def drifted(rows: np.ndarray, learned: np.ndarray) -> list[np.ndarray]:
    """``rows`` of sensors that drift, and ``learned`` as the sensors are in the end."""
    rng, count, channels = np.random.default_rng(5), len(rows), rows.shape[1]
    t = np.arange(count)[:, None]
    slow, step = np.clip((t - count / 6) / (count / 3), 0, 1), t >= step_at(rows)
    share = np.concatenate([slow, step / 2], axis=1)  # the step is half as large
    gain = np.exp(share @ rng.uniform(-0.4, 0.4, (2, channels)))
    mean, std = learned.mean(0), learned.std(0)
    offset = share @ rng.uniform(-1, 1, (2, channels)) * std
    return [
        np.float32(mean + a * (values - mean) + b)
        for values, a, b in ((rows, gain, offset), (learned, gain[-1], offset[-1]))
    ]


def step_at(rows: np.ndarray) -> int:
    return round(0.55 * len(rows))


def forecasts(model: Model, rows: np.ndarray, memory: int = 0) -> np.ndarray:
    """The forecast after each row, in physical units; ``memory`` is that of the adaptation, 0 = none."""
    return Engine(model, 1, Faults(), memory=memory).feed(["s"], np.zeros(len(rows), np.int64), rows).values


def errors(predicted: np.ndarray, rows: np.ndarray, std: np.ndarray, part: slice) -> np.ndarray:
    """Mean squares over the rows in ``part`` that were forecast, (C,)."""
    error = ((predicted[:-1].astype(np.float64) - rows[1:]) / std)[part]
    return np.square(error).mean(0)


def drift_row(recording: Recording, model: Model, retrain: Callable[[np.ndarray], Model]) -> str:
    rows, learned = drifted(recording.tested, recording.learned)
    again = retrain(learned)
    late, soon = slice(round(0.7 * len(rows)), None), slice(step_at(rows), step_at(rows) + 1000)
    every = forecasts(model, rows), forecasts(model, rows, MEMORY), forecasts(again, rows)
    without, adaptive, fresh = (errors(values, rows, again.output_std, late).mean() for values in every)
    _, first, best = (errors(values, rows, again.output_std, soon).mean() for values in every)
    return f"{without:11.5f}{adaptive:10.5f}{fresh:11.5f}{adaptive / fresh:8.3f}{first / best:12.3f}"


def still_row(recording: Recording, model: Model) -> str:
    rows = recording.tested
    without, adaptive = (
        errors(values, rows, model.output_std, slice(None))
        for values in (forecasts(model, rows), forecasts(model, rows, MEMORY))
    )
    ratio, worst = adaptive.mean() / without.mean(), (adaptive / without).max()
    return f"{without.mean():11.5f}{adaptive.mean():10.5f}{ratio:8.4f}{worst:8.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="of skab/ and ett/")
    options = parser.parse_args()
    drifting, still = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for recording in recordings(options.folder):
            for network in NETWORKS:
                model = trained(recording.learned, network, folder)
                name = f"{recording.name:24}{model.cell:>5}{model.hidden:4}{model.highway:4}"
                drifting.append(
                    name + drift_row(recording, model, lambda rows, net=network: trained(rows, net, folder))
                )
                still.append(name + still_row(recording, model))
    what = f"{'':24}{'cell':>5}{'hid':>4}{'hw':>4}"
    print(f"drift; memory {MEMORY} rows; the last column is of the first 1000 rows after the step")
    print(f"{what}{'as it was':>11}{'adapted':>10}{'retrained':>11}{'ratio':>8}{'after step':>12}")
    print("\n".join(drifting))
    print("no drift added; ratios of all channels and of the worst one")
    print(f"{what}{'without':>11}{'with':>10}{'ratio':>8}{'worst':>8}")
    print("\n".join(still))


if __name__ == "__main__":
    main()
