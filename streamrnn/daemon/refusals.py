"""What was turned away, told in the log: a publisher that is the cause sees nothing itself."""

import logging

from streamrnn import stats as counted
from streamrnn.stats import Stats

log = logging.getLogger("streamrnn")

_UNASKED = ("max_gap", "restart", "diverged", "degraded")  # resets that nobody wanted


class Refusals:
    """Logs what went wrong from one ``tell`` to the next."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._told: dict[str, dict[str, int]] = {}

    def tell(self, seconds: float) -> None:
        """Logs what is new in the last ``seconds``, by reason."""
        stats = self._stats
        refused = dict(zip(counted.REASONS, stats.rejected.tolist(), strict=True))
        refused["late"] = int(stats.counters[counted.LATE])
        resets = dict(zip(counted.RESETS, stats.resets.tolist(), strict=True))
        for what, now in (
            ("not answered", refused),
            ("streams that began anew", {why: resets[why] for why in _UNASKED}),
        ):
            before = self._told.get(what, {})
            more = {why: count - before.get(why, 0) for why, count in now.items()}
            self._told[what] = now
            if words := ", ".join(f"{why} {count:,}" for why, count in more.items() if count):
                log.warning("%s in the last %.0f s, by reason: %s", what, seconds, words)
