"""The one-step error of the forecasts in a replay, beside persistence."""

from typing import NamedTuple

import numpy as np

from streamrnn.engine import Answers
from streamrnn.jit import compiled
from streamrnn.model.model import Model
from streamrnn.streams.batch import PREDICTED
from streamrnn.table import Rows

FORECAST, PERSISTENCE, CELLS = range(3)  # sums of squares, and how many


class Past(NamedTuple):
    """What is kept of each stream's last row, and the sums so far."""

    forecast: np.ndarray  # (streams, outputs) float32
    values: np.ndarray  # (streams, outputs) float32
    epoch: np.ndarray  # (streams,) int64; -1 = no row yet
    scale: np.ndarray  # (outputs,) float64: 1 / standard deviation
    sums: np.ndarray  # (3,) float64: FORECAST, PERSISTENCE, CELLS


@compiled
def _compare(stream: np.ndarray, values: np.ndarray, answers: Answers, past: Past) -> None:
    """Holds each row against what was kept of the one before it in its stream, then keeps it."""
    for row in range(stream.size):
        if answers.outcome[row] != PREDICTED:
            continue
        at = stream[row]
        follows = answers.gap[row] == 0 and past.epoch[at] == np.int64(answers.epoch[row])
        past.epoch[at] = answers.epoch[row]
        for output in range(past.scale.size):
            value = values[row, output]
            error = (value - past.forecast[at, output]) * past.scale[output]
            change = (value - past.values[at, output]) * past.scale[output]
            if follows and not np.isnan(change):
                past.sums[FORECAST] += error * error
                past.sums[PERSISTENCE] += change * change
                past.sums[CELLS] += 1
            past.forecast[at, output] = answers.values[row, output]
            past.values[at, output] = value


class OneStepError:
    """The forecast made at each row against the next row of its stream, beside persistence.

    Rows after a gap or a reset and missing values count for neither.
    """

    def __init__(self, model: Model) -> None:
        outputs = len(model.outputs)
        self._past = Past(
            forecast=np.zeros((0, outputs), np.float32),
            values=np.zeros((0, outputs), np.float32),
            epoch=np.zeros(0, np.int64),
            scale=1 / model.output_std.astype(np.float64),
            sums=np.zeros(3),
        )

    def add(self, rows: Rows, answers: Answers) -> None:
        self._make_room(int(rows.stream.max(initial=-1)) + 1)
        _compare(rows.stream, rows.values, answers, self._past)

    def _make_room(self, streams: int) -> None:
        past, have = self._past, len(self._past.epoch)
        if streams > have:
            new = max(streams, 2 * have) - have
            none = np.zeros((new, len(past.scale)), np.float32)
            self._past = past._replace(
                forecast=np.concatenate([past.forecast, none]),
                values=np.concatenate([past.values, none]),
                epoch=np.concatenate([past.epoch, np.full(new, -1)]),
            )

    def roots(self) -> tuple[float | None, float | None]:
        """Root mean squares of forecast and persistence; None when no row follows another."""
        sums = self._past.sums
        if not sums[CELLS]:
            return None, None
        forecast, persistence = np.sqrt(sums[:CELLS] / sums[CELLS])
        return float(forecast), float(persistence)
