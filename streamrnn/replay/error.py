"""The one-step error of the forecasts in a replay, beside persistence."""

from typing import Any, NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.engine.engine import Answers
from streamrnn.model.model import Model
from streamrnn.stats import PREDICTED
from streamrnn.table import Rows

FORECAST, PERSISTENCE, CELLS = range(3)  # sums of squares, and how many


class Past(NamedTuple):
    """What is kept of each stream's last row, and the sums so far: FORECAST, PERSISTENCE, CELLS."""

    forecast: np.ndarray  # (streams, outputs) float32
    values: np.ndarray  # (streams, outputs) float32
    epoch: np.ndarray  # (streams,) int64; -1 = no row yet
    scale: np.ndarray  # (outputs,) float64: 1 / standard deviation
    sums: np.ndarray  # (3, outputs) float64
    of_stream: np.ndarray  # (streams, 3) float64


@inlined
def follows(answers: Any, row: Any, at: Any, epoch: Any) -> Any:
    """Whether a row comes right behind the last one of its stream ``at``, whose ``epoch`` it takes over."""
    said = answers.said[row]
    next_one = said.gap == 0 and epoch[at] == np.int64(said.epoch)
    epoch[at] = said.epoch
    return next_one


@compiled
def _compare(
    stream: np.ndarray, values: np.ndarray, answers: Answers, learned: np.ndarray, past: Past
) -> None:
    """Holds each row against what was kept of the one before it in its stream, then keeps it."""
    for row in range(stream.size):
        if answers.outcome[row] != PREDICTED:
            continue
        at = stream[row]
        counts = follows(answers, row, at, past.epoch) and not learned[row]
        for output in range(past.scale.size):
            value = values[row, output]
            error = (value - past.forecast[at, output]) * past.scale[output]
            change = (value - past.values[at, output]) * past.scale[output]
            if counts and not np.isnan(change):
                past.sums[FORECAST, output] += error * error
                past.sums[PERSISTENCE, output] += change * change
                past.sums[CELLS, output] += 1
                past.of_stream[at, FORECAST] += error * error
                past.of_stream[at, PERSISTENCE] += change * change
                past.of_stream[at, CELLS] += 1
            past.forecast[at, output] = answers.values[row, output]
            past.values[at, output] = value


class OneStepError:
    """The forecast made at each row against the next row of its stream, beside persistence.

    Rows after a gap or a reset, missing values and rows that were learned from count for neither.
    """

    def __init__(self, model: Model) -> None:
        outputs = len(model.outputs)
        self._past = Past(
            forecast=np.zeros((0, outputs), np.float32),
            values=np.zeros((0, outputs), np.float32),
            epoch=np.zeros(0, np.int64),
            scale=1 / model.output_std.astype(np.float64),
            sums=np.zeros((3, outputs)),
            of_stream=np.zeros((0, 3)),
        )

    def add(self, rows: Rows, answers: Answers, learned: np.ndarray) -> None:
        """Takes n rows; ``learned`` (n,) bool."""
        self._make_room(int(rows.stream.max(initial=-1)) + 1)
        _compare(rows.stream, rows.values, answers, learned, self._past)

    def _make_room(self, streams: int) -> None:
        past, have = self._past, len(self._past.epoch)
        if streams > have:
            new = max(streams, 2 * have) - have
            none = np.zeros((new, len(past.scale)), np.float32)
            self._past = past._replace(
                forecast=np.concatenate([past.forecast, none]),
                values=np.concatenate([past.values, none]),
                epoch=np.concatenate([past.epoch, np.full(new, -1)]),
                of_stream=np.concatenate([past.of_stream, np.zeros((new, 3))]),
            )

    def roots(self) -> tuple[float | None, float | None]:
        """Root mean squares of forecast and persistence; None when no row follows another."""
        forecast, persistence = roots_of(self._past.sums.sum(axis=1))
        return (None, None) if np.isnan(forecast) else (float(forecast), float(persistence))

    def roots_by_output(self) -> np.ndarray:
        """The same of each output, (2, outputs) float64; NaN for none."""
        return roots_of(self._past.sums)

    def roots_by_stream(self, streams: int) -> np.ndarray:
        """The same of each of the first streams, (2, streams) float64."""
        return roots_of(self._past.of_stream[:streams].T)


def roots_of(sums: np.ndarray) -> np.ndarray:
    """Of sums (3, ...), the root mean squares of forecast and persistence, (2, ...)."""
    cells = np.where(sums[CELLS] > 0, sums[CELLS], np.nan)
    roots: np.ndarray = np.sqrt(sums[:CELLS] / cells)
    return roots
