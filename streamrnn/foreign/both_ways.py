"""A network as one of windows and as one of a stream without end, on a recording: which is nearer to it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from streamrnn.engine.engine import Engine
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults
from streamrnn.table import Reading, open_rows

ROWS = 20_000
WORK = 5 * 10**10  # multiply-adds: some seconds
LEAST = 100  # rows beyond a window
ALIKE = 0.01  # of an error


class BothWays(NamedTuple):
    """Root mean squares of prediction - truth, in standard deviations of the outputs."""

    table: str
    outputs: tuple[str, ...]  # those that the table has
    rows: int
    window: int
    of_windows: float
    of_stream: float

    def described(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**self._asdict(), "outputs": list(self.outputs)}

    def text(self, chosen: int) -> str:
        """In words, for whoever gets a model of the window ``chosen``."""
        least, most = sorted((self.of_windows, self.of_stream))
        verdict = "they are alike"
        if least < (1 - ALIKE) * most:
            better = self.window if self.of_windows == least else 0
            which = "windows are" if better else "the stream is"
            verdict = f"{which} better by {1 - least / most:.0%}"
            if better != chosen:
                verdict += f": import with --window {better}"
        return (
            f"on {self.rows:,} rows of {self.table}: error {self.of_windows:.4g} from windows of "
            f"{self.window} rows, {self.of_stream:.4g} as a stream without end (root mean square of "
            f"{', '.join(self.outputs)}, in standard deviations); {verdict}"
        )


def both_ways(model: Model, window: int, table: str) -> BothWays | None:
    """``model`` with that window and without one, on the first stream of ``table``; None where it cannot be.

    That is where the table has none of the outputs, or too few rows, or it would take long. Raises UserError
    for a table that cannot be read.
    """
    channels = [channel.name for channel in model.channels]
    with open_rows(table, channels, Reading(offsets={})) as reader:
        there = [k for k, output in enumerate(model.outputs) if output.name in reader.names]
    sizes = sum(array.size for name, array in model.tensors().items() if "weight" in name)
    most = min(ROWS, WORK // (sizes * window))
    if not there or most < window + LEAST:
        return None
    names = [model.outputs[k].name for k in there]
    columns = list(dict.fromkeys([*channels, *names]))
    rows = _read(table, columns, most)
    truth = rows[model.ahead :, [columns.index(name) for name in names]].astype(np.float64)
    errors = []
    for each in (window, 0):
        answers = Engine(replace(model, window=each), 1, Faults()).feed(
            ["recording"], np.zeros(len(rows), np.int64), np.ascontiguousarray(rows[:, : len(channels)])
        )
        said = answers.values[:, there]  # NaN where a row was not answered
        errors.append((said[: len(truth)] - truth) / model.output_std[there])
    both = np.square(np.array(errors))[:, window - 1 :]
    known = np.isfinite(both).all(axis=(0, 2))
    if not known.any():
        return None
    of_windows, of_stream = (float(np.sqrt(each[known].mean())) for each in both)
    return BothWays(table, tuple(names), int(known.sum()), window, of_windows, of_stream)


def _read(table: str, columns: Sequence[str], most: int) -> np.ndarray:
    """The first rows of the first stream, (n, columns) float32."""
    parts, left = [np.zeros((0, len(columns)), np.float32)], most
    with open_rows(table, columns, Reading(offsets={})) as reader:
        for rows in reader:
            parts.append(rows.values[rows.stream == 0][:left])
            left -= len(parts[-1])
            if left == 0:
                break
    return np.concatenate(parts)
