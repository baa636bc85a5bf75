"""What the engine says of rows."""

from typing import NamedTuple

import numpy as np

from streamrnn.wire.frame import PREDICTION, blank_predictions


class Answers(NamedTuple):
    """What came of n rows, in their order."""

    outcome: np.ndarray  # (n,) uint8: 0 predicted, 1 late, 2 + i rejected for stats.REASONS[i]
    answers: np.ndarray  # (n,) uint8: which a predicted row gets: stats.OWN, that is ``values``, and SEVERAL
    # (n,) of PREDICTION, whose fields are attributes, too: seq and ts_ns of all rows; flags, step, score,
    # gap, epoch and residual of those that were predicted; the others are for who sends it
    said: np.ndarray
    begins: np.ndarray  # (n,) uint8: 1 for a row that an event begins with
    shares: np.ndarray  # (n, outputs) float32: of each in a score of SHARED or more; else zeros
    values: np.ndarray  # (n, outputs) float32, physical units less the outputs' offsets
    bands: np.ndarray  # (n, 2 * bands, outputs) float32: low, high of each, likewise; NaN = none yet
    several: np.ndarray  # (m, rows, outputs) float32: of the rows that get SEVERAL, in their order
    bands_ahead: np.ndarray  # (m, 2 * bands, rows, outputs) float32: of those, where they are rollouts
    step_ns: np.ndarray  # (n,) float32: time of the row's batch, divided by its rows

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in (PREDICTION.names or ()):
            raise AttributeError(name)
        field: np.ndarray = self.said[name]
        return field


def no_answers(count: int, outputs: int, rows: int, bands: int) -> Answers:
    """Those of so many rows before they are stepped; ``rows`` are those of an answer of several."""
    return Answers(
        outcome=np.zeros(count, np.uint8),
        answers=np.zeros(count, np.uint8),
        said=blank_predictions(count),
        begins=np.zeros(count, np.uint8),
        shares=np.zeros((count, outputs), np.float32),
        values=np.full((count, outputs), np.nan, np.float32),
        bands=np.full((count, 2 * bands, outputs), np.nan, np.float32),
        several=np.zeros((0, rows, outputs), np.float32),
        bands_ahead=np.zeros((0, 2 * bands, rows, outputs), np.float32),
        step_ns=np.zeros(count, np.float32),
    )
