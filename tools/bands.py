"""How many truths bands hold, over how many they should: by channel, and after the errors have changed.

    OPENBLAS_NUM_THREADS=1 python tools/bands.py ../shared/data

FOLDER has ``ett`` and ``skab`` as ``../shared/data`` does. A model is trained with the defaults of
``streamrnn train``: on sixteen months of ETTh1, on 60 % of SKAB's file without faults, on an hour of the
demo's pumps. What is judged are the rows that follow, and other pumps: of each level the share of truths
within its band, that of the channel that is furthest off, and half the width over the errors' mean size.

Then the same of rollouts, by how many rows ahead, and of the errors one row ahead, three times as large from
the middle on, as those of a network that forecasts 0.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.csv

from streamrnn.demo.pumps import Pumps
from streamrnn.demo.recording import record
from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model, random_model
from streamrnn.model.model_file import read_model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import SEVERAL
from streamrnn.table import Reading
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.job import TrainOptions, train

LEVELS = 0.5, 0.8, 0.9, 0.95
LEARNED_S, PUMPS, PUMP_ROWS = 3600, 6, 20_000
FILES = (  # name, file, delimiter, and the rows that the model is trained on
    ("ETTh1", "ett/ETTh1.csv", ",", 11_520),
    ("SKAB without faults", "skab/anomaly-free/anomaly-free.csv", ";", 5643),
)
TIMES = 3.0  # that errors become as large
AHEAD, EVERY = (1, 4, 16, 40), 20  # rows of a rollout that are judged, and from one to the next
SETTLED = 100  # rows of a stream, before it is judged
AFTER = ((0, 500), (500, 1800))  # rows after that


class Data(NamedTuple):
    """A model, and rows of streams that it is to forecast."""

    name: str
    model: Model
    rows: np.ndarray  # (streams, n, C) float32
    first: int  # of the rows, what is judged begins there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of skab/ and ett/; without it only the pumps")
    folder = parser.parse_args().folder
    print(
        f"{'shares of truths, in each 100':34}" + "".join(f"{f'{100 * level:g} %':>18}" for level in LEVELS)
    )
    print(f"{'':34}" + f"{'all  worst  width':>18}" * len(LEVELS))
    with tempfile.TemporaryDirectory() as temporary:
        for data in all_data(folder, Path(temporary)):
            said = Engine(data.model, len(data.rows), Faults(), predict=Predict(bands=LEVELS))
            values, bands = fed(said, data.rows)
            errors = (data.rows[:, 1:] - values[:, :-1]) / data.model.output_std
            judged = slice(max(data.first, SETTLED), None)
            tell(data.name, data.rows[:, 1:][:, judged], bands[:, :-1][:, judged])
            ahead(data)
            after_a_change(errors[:, data.first :])


def all_data(folder: Path | None, temporary: Path) -> Iterator[Data]:
    recording, model = temporary / "pumps.csv", temporary / "model.safetensors"
    record(recording, LEARNED_S, seed=1)
    pumps = Pumps(PUMPS, seed=2)
    rows = np.stack([pumps.step() for _ in range(PUMP_ROWS)], axis=1)
    yield Data("pumps of another day", trained(recording, model, stream="machine"), rows, 0)
    for name, file, delimiter, learned in FILES if folder is not None else ():
        found = trained(folder / file, model, limit=learned)
        options = pyarrow.csv.ParseOptions(delimiter=delimiter)
        table = pyarrow.csv.read_csv(folder / file, parse_options=options)
        columns = [table[channel.name].to_numpy() for channel in found.channels]
        yield Data(name, found, np.stack(columns, axis=1).astype(np.float32)[np.newaxis], learned)


def trained(source: Path, model: Path, **reading: object) -> Model:
    with contextlib.redirect_stderr(io.StringIO()):
        train(TrainOptions(DataOptions((str(source),), reading=Reading(**reading)), model))
    return read_model(model)


def fed(engine: Engine, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts, (streams, n, C), and bands, (streams, n, 2 bands, C), of rows (streams, n, C)."""
    streams, count, channels = rows.shape
    stream = np.tile(np.arange(streams), count)
    said = engine.feed([f"{k}" for k in range(streams)], stream, rows.swapaxes(0, 1).reshape(-1, channels))
    values = said.values.reshape(count, streams, channels).swapaxes(0, 1)
    return values, said.bands.reshape(count, streams, -1, channels).swapaxes(0, 1)


def tell(name: str, truths: np.ndarray, bands: np.ndarray) -> None:
    """Prints a line on ``truths``, (streams, n, C), and the bands that were told of them."""
    low, high = bands[:, :, ::2], bands[:, :, 1::2]
    inside = (low <= truths[:, :, np.newaxis]) & (truths[:, :, np.newaxis] <= high)
    line = ""
    for band, level in enumerate(LEVELS):
        each = 100 * inside[:, :, band].mean(axis=(0, 1))
        worst = each[np.abs(each - 100 * level).argmax()]
        width = (high[:, :, band] - low[:, :, band]).mean(axis=(0, 1)) / 2
        size = np.abs(truths - (low + high)[:, :, band] / 2).mean(axis=(0, 1))
        line += f"{each.mean():8.1f}{worst:5.1f}{(width / size).mean():5.2f}"
    print(f"{name:34}{line}", flush=True)


def ahead(data: Data) -> None:
    """Prints a line for some of the rows of rollouts."""
    streams, count, channels = data.rows.shape
    predict = Predict(bands=LEVELS, horizon=AHEAD[-1], every=EVERY)
    engine = Engine(data.model, streams, Faults(), predict=predict)
    stream = np.tile(np.arange(streams), count)
    rows = data.rows.swapaxes(0, 1).reshape(-1, channels)
    said = engine.feed([f"{k}" for k in range(streams)], stream, rows)
    at, of = np.divmod(np.flatnonzero(said.answers & SEVERAL), streams)
    for step in AHEAD:
        judged = (at >= max(data.first, SETTLED)) & (at + step < count)
        truths = data.rows[of[judged], at[judged] + step]
        bands = said.bands_ahead[judged, :, step - 1]
        tell(f"  {step} rows ahead" if step > 1 else "  1 row ahead", truths[np.newaxis], bands[np.newaxis])


def after_a_change(errors: np.ndarray) -> None:
    """The same of errors, (streams, n, C), that become TIMES as large in the middle."""
    rows = errors.astype(np.float32)
    middle = rows.shape[1] // 2
    rows[:, middle:] *= TIMES
    engine = Engine(forecasting_zero(rows.shape[2]), len(rows), Faults(), predict=Predict(bands=LEVELS))
    _, bands = fed(engine, rows)
    for first, last in AFTER:
        which = slice(middle - 1 + first, middle - 1 + last)
        name = f"  errors x {TIMES:g}, rows {first:,} to {last:,}"
        tell(name, rows[:, 1:][:, which], bands[:, :-1][:, which])


def forecasting_zero(channels: int) -> Model:
    """A network whose head says nothing."""
    model = random_model("rnn", channels, 1)
    tensors = {
        name: np.zeros_like(tensor) if name.startswith("head") else tensor
        for name, tensor in model.tensors().items()
    }
    return Model.from_tensors(model.settings(), tensors)


if __name__ == "__main__":
    main()
