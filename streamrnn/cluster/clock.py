"""A clock for blocks: CLOCK_REALTIME, but for its jumps."""

import time

_SLEW = 0.001  # of the time that passes: so fast it comes back to where CLOCK_REALTIME is


class SteadyClock:
    """Never goes back, nor jumps, while the process lives; a clock that was set is followed slowly."""

    def __init__(self) -> None:
        self._ahead_ns = time.time_ns() - time.monotonic_ns()
        self._looked_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        now = time.monotonic_ns()
        most = int(_SLEW * (now - self._looked_ns))
        if most > 0:
            apart = time.time_ns() - now - self._ahead_ns
            self._ahead_ns += max(-most, min(apart, most))
            self._looked_ns = now
        return now + self._ahead_ns
