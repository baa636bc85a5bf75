"""How many truths in a replay were inside the bands that were told before."""

from typing import Any, NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.engine.engine import Answers
from streamrnn.replay.error import follows
from streamrnn.stats import PREDICTED
from streamrnn.table import Rows


class ToldBands(NamedTuple):
    """What is kept of each stream's last row, and how many truths there were so far."""

    bands: np.ndarray  # (streams, 2 * bands, outputs) float32
    epoch: np.ndarray  # (streams,) int64; -1 = no row yet
    truths: np.ndarray  # (outputs,) int64
    inside: np.ndarray  # (bands, outputs) int64


@compiled
def _compare(
    stream: np.ndarray, values: np.ndarray, answers: Answers, learned: np.ndarray, told: ToldBands
) -> None:
    """Holds each row against what was kept of the one before it in its stream, then keeps it."""
    for row in range(stream.size):
        if answers.outcome[row] != PREDICTED:
            continue
        at = stream[row]
        counts = follows(answers, row, at, told.epoch) and not learned[row]
        for output in range(told.truths.size):
            value = values[row, output]
            if counts and not np.isnan(value + told.bands[at, 0, output]):
                told.truths[output] += 1
                for band in range(len(told.inside)):
                    low, high = told.bands[at, 2 * band, output], told.bands[at, 2 * band + 1, output]
                    told.inside[band, output] += low <= value <= high
            for side in range(told.bands.shape[1]):
                told.bands[at, side, output] = answers.bands[row, side, output]


class Coverage:
    """The bands told at each row against the next row of its stream.

    Rows after a gap or a reset, missing values and rows that were learned from do not count.
    """

    def __init__(self, levels: tuple[float, ...], outputs: int) -> None:
        self.levels = levels
        self._told = ToldBands(
            bands=np.zeros((0, 2 * len(levels), outputs), np.float32),
            epoch=np.zeros(0, np.int64),
            truths=np.zeros(outputs, np.int64),
            inside=np.zeros((len(levels), outputs), np.int64),
        )

    def add(self, rows: Rows, answers: Answers, learned: np.ndarray) -> None:
        """Takes n rows; ``learned`` (n,) bool."""
        streams, have = int(rows.stream.max(initial=-1)) + 1, len(self._told.epoch)
        if streams > have:
            more = max(streams, 2 * have) - have
            self._told = self._told._replace(
                bands=np.concatenate(
                    [self._told.bands, np.zeros((more, *self._told.bands.shape[1:]), np.float32)]
                ),
                epoch=np.concatenate([self._told.epoch, np.full(more, -1)]),
            )
        _compare(rows.stream, rows.values, answers, learned, self._told)

    def shares(self) -> np.ndarray:
        """Of truths inside each band, (bands,) float64; NaN where there were none."""
        truths = int(self._told.truths.sum())
        return self._told.inside.sum(axis=1) / (truths or np.nan)

    def shares_by_output(self) -> np.ndarray:
        """The same of each output, (bands, outputs) float64."""
        shares: np.ndarray = self._told.inside / np.where(self._told.truths > 0, self._told.truths, np.nan)
        return shares

    def as_dicts(self) -> list[dict[str, Any]]:
        return [
            {"level": level, "inside": None if np.isnan(share) else float(share)}
            for level, share in zip(self.levels, self.shares(), strict=True)
        ]

    def text(self) -> str:
        """Empty where nothing was compared."""
        if np.isnan(self.shares()).any():
            return ""
        each = [
            f"{100 * share:.1f}{' of each 100 truths were' * (k == 0)} inside the {100 * level:.10g} % band"
            for k, (level, share) in enumerate(zip(self.levels, self.shares(), strict=True))
        ]
        return ", ".join(each)
