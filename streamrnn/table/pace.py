"""When rows are due: at a given rate, or as fast as they once came."""

import time
from collections.abc import Iterator

import numpy as np

from streamrnn.errors import UserError
from streamrnn.table.reader import RowReader
from streamrnn.table.rows import Rows

LONGEST_SLEEP_S = 3600.0


class Pacer:
    """Holds rows back until they are due, counted from the first row.

    ``rate`` is rows per second of all streams together; ``speed`` times real time, by the time column,
    or else by ``period_s``, the time between rows of a stream; with neither, every row is due at once.
    """

    def __init__(self, reader: RowReader, rate: float | None, speed: float | None, period_s: float) -> None:
        if speed is not None and reader.time_type is None and not period_s:
            raise UserError(
                "the rows have no time column and the model no sample period, so they have no speed; "
                "name the column with --time-column, or leave --speed out"
            )
        self._rate = rate
        self._speed = speed
        self._by_time = reader.time_type is not None
        self._period_ns = period_s * 1e9
        self._started: float | None = None  # monotonic, s
        self._rows = 0
        self._origin_ns: float | None = None  # of the first row that has a time
        self._last_s = 0.0  # when the row before is due

    def due(self, rows: Rows) -> np.ndarray:
        """Seconds after the first row at which each of n rows is due, (n,) float64, never decreasing."""
        count = len(rows.seq)
        if self._rate is not None:
            self._rows += count
            return np.arange(self._rows - count, self._rows) / self._rate
        return np.zeros(count) if self._speed is None else self._due(rows, self._speed)

    def slices(self, due: np.ndarray) -> Iterator[slice]:
        """Slices of ``due``, in order and as large as are due by now; sleeps in between."""
        if self._started is None:
            self._started = time.monotonic()
        done = 0
        while done < len(due):
            now = time.monotonic() - self._started
            ready = int(np.searchsorted(due, now, "right"))
            if ready > done:
                yield slice(done, ready)
                done = ready
            else:
                time.sleep(min(due[done] - now, LONGEST_SLEEP_S))

    def _due(self, rows: Rows, speed: float) -> np.ndarray:
        ns = rows.ts_ns if self._by_time else rows.seq * self._period_ns
        known = rows.ts_ns != 0 if self._by_time else np.ones(len(ns), bool)
        if self._origin_ns is None and known.any():
            self._origin_ns = ns[known.argmax()]
        due = np.where(known, (ns - (self._origin_ns or 0)) / (1e9 * speed), 0.0)
        due = np.maximum.accumulate(np.maximum(due, self._last_s))
        self._last_s = float(due[-1])
        return due
