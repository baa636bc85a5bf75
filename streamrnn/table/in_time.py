"""Groups of a recording side by side: their samples from one moment to the next, in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.recordings.recording import Samples

FAR = 1 << 62  # ns: later than any sample


class Span(NamedTuple):
    """The samples of a group up to a moment."""

    ticks: np.ndarray  # (n,) int64, rising
    values: np.ndarray  # (n, W) float64
    begins: np.ndarray  # (n,) bool: a new sequence begins with it, though the ticks do not show it


class GroupAhead:
    """A group, read as far as it is looked at. Samples whose times run back are left out, and counted."""

    def __init__(self, pieces: Iterator[Samples], width: int, cut: Callable[[str], object]) -> None:
        """``cut`` is told what lacks at the end, where the pieces say so."""
        self._pieces, self._cut = pieces, cut
        self._span = Span(np.zeros(0, np.int64), np.zeros((0, width)), np.zeros(0, bool))
        self.ended, self.back, self._newest = False, 0, -FAR

    @property
    def ticks(self) -> np.ndarray:
        """Those that are here, and not taken."""
        return self._span.ticks

    @property
    def until(self) -> int:
        """The last tick that is here; FAR once all are."""
        return FAR if self.ended else self._newest

    def more(self) -> None:
        """Reads another piece."""
        piece = next(self._pieces, None)
        if piece is None:
            self.ended = True
            return
        if piece.cut:
            self._cut(piece.cut)
        ticks, values = piece.ticks, piece.values
        begins = np.zeros(len(ticks), bool)
        begins[:1] = piece.begins
        newest = np.maximum.accumulate(np.concatenate([[self._newest], ticks]))
        if (late := ticks < newest[:-1]).any():
            self.back += int(late.sum())
            ticks, values, begins = ticks[~late], values[~late], begins[~late]
        self._newest = int(newest[-1])
        before = self._span
        self._span = Span(ticks, values, begins)
        if len(before.ticks):
            self._span = Span(*map(np.concatenate, zip(before, self._span, strict=True)))

    def take(self, until: int) -> Span:
        """Takes the samples up to a tick."""
        end = int(np.searchsorted(self._span.ticks, until, "right"))
        taken = Span(*(array[:end] for array in self._span))
        self._span = Span(*(array[end:] for array in self._span))
        return taken


def moments(groups: Sequence[GroupAhead], behind_ns: int) -> Iterator[int]:
    """Moments up to which all groups are known, and ``behind_ns`` further; the last one is FAR.

    After each, all samples up to it are to be taken.
    """
    while True:
        slowest = min(groups, key=lambda group: group.until)
        if slowest.ended:
            yield FAR
            return
        before = slowest.until
        slowest.more()
        moment = min(group.until for group in groups)
        if moment == FAR:
            yield FAR
            return
        if moment > before and moment - behind_ns > -FAR:
            yield moment - behind_ns
