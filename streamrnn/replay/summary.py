"""What came of a replay, in figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamrnn.engine.engine import Answers, Engine
from streamrnn.replay.anomalies import Anomalies
from streamrnn.replay.coverage import Coverage
from streamrnn.replay.error import OneStepError
from streamrnn.stats import LATE, MISSING_ROWS, PREDICTED, PREDICTIONS, REASONS
from streamrnn.table import RowReader, Rows
from streamrnn.table.progress import Progress, counted

STEP_BOUNDS_NS = np.geomspace(1, 1e10, 2001)  # each 1.2 % above the one before


@dataclass(frozen=True)
class Summary:
    """What came of a replay. Errors are root mean squares over outputs, in standard deviations."""

    rows: int
    predicted: int
    rejected: dict[str, int]  # by reason, those that occurred
    late: int
    missing: int  # rows that a gap in seq says were there
    skipped: int  # bad rows of the file
    learned: int  # rows that the model learned from, which the figures below leave out
    streams: int
    seconds: float
    rows_per_s: float
    step_p50_us: float | None
    step_p99_us: float | None
    one_step_error: float | None  # of the forecast made at a row, against the next row of its stream
    persistence_error: float | None  # of taking the row itself as the forecast, at the same rows
    coverage: Coverage | None  # None without bands
    anomalies: Anomalies | None  # None without a score
    report: str | None = None  # the page about it
    interrupted: bool = False  # whether the learning before it was, which then went on with what it had

    @property
    def levels(self) -> tuple[float, ...]:
        """Of the bands, the narrowest first."""
        return () if self.coverage is None else self.coverage.levels

    @property
    def covered(self) -> str:
        """How many truths the bands held, in words; empty where there are none."""
        return "" if self.coverage is None else self.coverage.text()

    def as_dict(self) -> dict[str, Any]:
        anomalies = None if self.anomalies is None else self.anomalies.as_dict()
        said = {key: value for key, value in vars(self).items() if key != "coverage"}
        bands = {} if self.coverage is None else {"bands": self.coverage.as_dicts()}
        return said | bands | {"anomalies": anomalies}

    def text(self) -> str:
        speed = f"{self.rows:,} rows of {counted(self.streams, 'stream')} in {self.seconds:.2f} s"
        speed += f", {self.rows_per_s:,.0f} rows/s"
        if self.step_p50_us is not None:
            speed += f", step p50 {self.step_p50_us:.2f} us, p99 {self.step_p99_us:.2f} us"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.rejected.items())
        fates = [
            f"{self.predicted:,} predicted",
            f"{sum(self.rejected.values()):,} rejected" + (f" ({reasons})" if reasons else ""),
            f"{self.late:,} late",
            f"{self.missing:,} missing",
            f"{self.skipped:,} skipped",
        ]
        lines = [speed, ", ".join(fates)]
        if self.learned:
            lines.append(f"{self.learned:,} of the rows were learned from; what follows is of the others")
        if self.one_step_error is not None:
            errors = f"one-step error {self.one_step_error:.4g}, persistence {self.persistence_error:.4g}"
            lines.append(f"{errors} (root mean square, in standard deviations)")
        if self.covered:
            lines.append(self.covered)
        if self.anomalies is not None:
            lines.append(self.anomalies.text())
            if self._is_lost(self.anomalies):
                lines.append(
                    "warning: the model forecasts worse than persistence, and most rows are unusual to it: "
                    "it says little of them, as they are unlike those that it learned from"
                )
        if self.report is not None:
            lines.append(f"{self.report}: the report; open it in a browser")
        return "\n".join(lines)

    def _is_lost(self, anomalies: Anomalies) -> bool:
        """Whether the model is none for these rows, rather than the rows faulty: those are the fewer."""
        worse = (self.one_step_error or 0) > (self.persistence_error or 0)
        return worse and anomalies.rows > anomalies.scored / 2


class Tally:
    """What a summary is made of, kept up block by block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._steps = np.zeros(len(STEP_BOUNDS_NS) + 1, np.int64)  # a histogram of the times of a step
        self._learned = 0
        self.errors: OneStepError | None = None
        self._anomalies: Anomalies | None = None
        self.coverage = Coverage(engine.levels, len(engine.model.outputs)) if engine.levels else None
        if engine.core.net.forecasts:
            self.errors = OneStepError(engine.model)
            self._anomalies = Anomalies(engine.model, float(engine.core.rules.threshold))

    def add(self, rows: Rows, streams: Sequence[str], answers: Answers, learned: np.ndarray) -> None:
        """Takes n rows; ``learned``, (n,) bool, says which of them the model learned from."""
        self._learned += int(learned.sum())
        step_ns = answers.step_ns[answers.outcome == PREDICTED]
        buckets = np.searchsorted(STEP_BOUNDS_NS, step_ns)
        self._steps += np.bincount(buckets, minlength=len(self._steps))
        if self.errors is not None:
            self.errors.add(rows, answers, learned)
        if self.coverage is not None:
            self.coverage.add(rows, answers, learned)
        if self._anomalies is not None:
            self._anomalies.add(rows, streams, answers, learned)

    def summary(self, reader: RowReader, progress: Progress) -> Summary:
        counters, rejected = self._engine.stats.counters, self._engine.stats.rejected
        rows, seconds = progress.rows, progress.seconds
        forecast, persistence = self.errors.roots() if self.errors is not None else (None, None)
        return Summary(
            rows=rows,
            predicted=int(counters[PREDICTIONS]),
            rejected={reason: int(n) for reason, n in zip(REASONS, rejected, strict=True) if n},
            late=int(counters[LATE]),
            missing=int(counters[MISSING_ROWS]),
            skipped=reader.skipped,
            learned=self._learned,
            streams=len(reader.streams) if rows else 0,
            seconds=seconds,
            rows_per_s=rows / seconds,
            step_p50_us=_quantile_us(self._steps, 0.5),
            step_p99_us=_quantile_us(self._steps, 0.99),
            one_step_error=forecast,
            persistence_error=persistence,
            coverage=self.coverage,
            anomalies=self._anomalies,
        )


def _quantile_us(buckets: np.ndarray, share: float) -> float | None:
    total = int(buckets.sum())
    if not total:
        return None
    bucket = int(np.searchsorted(np.cumsum(buckets), share * total))
    return float(STEP_BOUNDS_NS[min(bucket, len(STEP_BOUNDS_NS) - 1)]) / 1000
