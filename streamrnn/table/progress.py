"""A line on the terminal that says how far the work is."""

import sys
import time

EVERY_S = 0.2


class Progress:
    """Shows rows and rows per second on stderr, in place; does nothing where nobody looks."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._started = self._last = time.monotonic()
        self.rows = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def add(self, rows: int) -> None:
        """Counts rows done."""
        self.rows += rows
        now = time.monotonic()
        if self._shown and now - self._last >= EVERY_S:
            self._last = now
            self._write(f"{self.rows:,} rows, {self.rows / self.seconds:,.0f} rows/s")

    def clear(self) -> None:
        """Takes the line away, so that other words can be said."""
        if self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def counted(number: int, what: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
