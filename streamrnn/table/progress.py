"""A line on the terminal that says how far the work is."""

import sys
import time
from collections.abc import Callable

EVERY_S = 0.2


class Line:
    """A line on stderr that is written over, a few times a second; none where nobody looks."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._last = time.monotonic()

    def show(self, text: Callable[[], str]) -> None:
        """Writes what ``text`` gives, unless the line was written a moment ago."""
        now = time.monotonic()
        if self._shown and now - self._last >= EVERY_S:
            self._last = now
            self._write(text())

    def clear(self) -> None:
        """Takes the line away, so that other words can be said."""
        if self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


class Progress:
    """Shows rows and rows per second."""

    def __init__(self, shown: bool) -> None:
        self._line = Line(shown)
        self._started = time.monotonic()
        self.rows = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def add(self, rows: int) -> None:
        """Counts rows done."""
        self.rows += rows
        self._line.show(lambda: f"{self.rows:,} rows, {self.rows / self.seconds:,.0f} rows/s")

    def clear(self) -> None:
        self._line.clear()


def counted(number: int, what: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
