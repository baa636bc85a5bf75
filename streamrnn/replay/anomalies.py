"""The stretches of a replay in which the score stood above its threshold, one an event."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamrnn.engine.engine import Answers
from streamrnn.model.inspect import align
from streamrnn.model.model import Model
from streamrnn.stats import PREDICTED
from streamrnn.table import Rows
from streamrnn.table.progress import counted
from streamrnn.table.results import cause_of
from streamrnn.wire.frame import ANOMALY

KEPT = 1000  # stretches; of more, only their number
SHOWN = 12  # in a text, the highest
FOREMOST = 3  # outputs that are named where no share is large


@dataclass
class Stretch:
    """An event of a stream: its rows from the threshold on, but for those with a score below half of it."""

    stream: str
    first_seq: int
    last_seq: int
    first_time: str | None  # as the file says it
    last_time: str | None
    first_ns: int  # since the Unix epoch; 0 = unknown
    last_ns: int
    rows: int
    score: float  # the highest
    cause: str  # the outputs that have most to do with its rows


class Anomalies:
    """All stretches, found block by block; rows that the model learned from belong to none."""

    def __init__(self, model: Model, threshold: float) -> None:
        self.threshold = threshold
        self.count = self.rows = self.scored = 0
        self.kept: list[Stretch] = []  # the first
        self._names = [output.name for output in model.outputs]
        self._last: dict[int, Stretch] = {}  # by the index of their stream
        self._shares: dict[int, np.ndarray] = {}  # (outputs,) of each of these, summed over its rows

    def add(self, rows: Rows, streams: Sequence[str], answers: Answers, learned: np.ndarray) -> None:
        """Takes n rows; ``learned`` (n,) bool."""
        judged = (answers.outcome == PREDICTED) & ~learned
        high = judged & (answers.flags & ANOMALY != 0)
        self.scored += int((judged & np.isfinite(answers.score)).sum())
        went_on = set()
        for row in np.flatnonzero(high).tolist():
            stream = int(rows.stream[row])
            if stream not in self._last and answers.score[row] < self.threshold:
                continue  # the end of an event in rows that were learned from
            self.rows += 1
            if answers.begins[row] or stream not in self._last:
                self._name_cause(stream)
                self._last[stream] = self._begin(rows, streams[stream], row)
                self._shares[stream] = np.zeros(len(self._names))
            self._shares[stream] += answers.shares[row]
            _go_on(self._last[stream], rows, answers, row)
            went_on.add(stream)
        for stream in went_on:
            self._name_cause(stream)

    def _name_cause(self, stream: int) -> None:
        """Says of a stream's last stretch, if any, which outputs it is by their shares so far."""
        if (shares := self._shares.get(stream)) is not None:
            cause = cause_of(shares / max(shares.sum(), 1.0), self._names)
            self._last[stream].cause = cause or _foremost(shares, self._names)

    def _begin(self, rows: Rows, stream: str, row: int) -> Stretch:
        seq, time, ns = int(rows.seq[row]), _time(rows, row), int(rows.ts_ns[row])
        stretch = Stretch(stream, seq, seq, time, time, ns, ns, 0, 0.0, "")
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(stretch)
        return stretch

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; at most KEPT ``stretches``, the first."""
        return {
            "threshold": self.threshold,
            "count": self.count,
            "rows": self.rows,
            "rows_scored": self.scored,
            "stretches": [_told(stretch) for stretch in self.kept],
        }

    def text(self) -> str:
        share = self.rows / max(self.scored, 1)
        said = (
            f"anomalies: {self.count:,}, in all {counted(self.rows, 'row')} ({share:.2%} of those scored), "
        )
        said += f"by a threshold of {self.threshold:g}"
        if not self.kept:
            return said
        highest = sorted(self.kept, key=lambda stretch: -stretch.score)[:SHOWN]
        shown = [stretch for stretch in self.kept if stretch in highest]
        table = [["  stream", "from", "to", "rows", "score", "cause"]]
        for each in shown:
            begin, end = each.first_time or str(each.first_seq), each.last_time or str(each.last_seq)
            table.append([f"  {each.stream}", begin, end, str(each.rows), f"{each.score:.1f}", each.cause])
        of = f"{self.count:,}" if self.count <= KEPT else f"the first {KEPT:,}"
        more = "" if len(shown) == self.count else f"\n  (the highest {len(shown)} of {of})"
        return f"{said}\n{align(table, '<<<>><')}{more}"


def _foremost(shares: np.ndarray, names: Sequence[str]) -> str:
    """The outputs of the largest shares, where many have a part and none a large one."""
    order = np.argsort(-shares, kind="stable")[:FOREMOST]
    return "|".join(names[output] for output in order if shares[output] > 0)


def _go_on(stretch: Stretch, rows: Rows, answers: Answers, row: int) -> None:
    """Takes a row into its stretch, but for what its shares say."""
    stretch.last_seq, stretch.last_time = int(rows.seq[row]), _time(rows, row)
    stretch.last_ns = int(rows.ts_ns[row])
    stretch.rows += 1
    stretch.score = max(stretch.score, float(answers.score[row]))


def _told(stretch: Stretch) -> dict[str, Any]:
    """A stretch without the times that only charts need."""
    return {key: value for key, value in asdict(stretch).items() if not key.endswith("_ns")}


def _time(rows: Rows, row: int) -> str | None:
    return None if rows.time is None else str(rows.time[row])
