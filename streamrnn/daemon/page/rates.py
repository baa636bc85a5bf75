"""What the daemon does per second, from the pump's counts of the last seconds."""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from streamrnn import stats as of
from streamrnn.adapters.tally import IntakeTally
from streamrnn.stats import Stats

_SPAN_S = 10.0
_NAMED = 5  # streams without all of their channels
_PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class _Reading(NamedTuple):
    when: float  # CLOCK_MONOTONIC, s
    counters: np.ndarray
    latency: np.ndarray
    age: np.ndarray
    messages: int  # that an adapter read
    rows: int  # that were made of them
    values: dict[str, int]  # the assembler's counts


class Rates:
    """Looks back ``_SPAN_S`` seconds. ``note`` is to be called once a second or so."""

    def __init__(self, stats: Stats, tally: IntakeTally) -> None:
        self._stats, self._tally = stats, tally
        self._readings: deque[_Reading] = deque()
        self.note()

    def note(self) -> None:
        """Remembers what is counted by now."""
        stats, tally, now = self._stats, self._tally, time.monotonic()
        counts = stats.counters.copy(), stats.latency.copy(), stats.age.copy()
        self._readings.append(_Reading(now, *counts, tally.messages, tally.rows, tally.values()))
        while len(self._readings) > 2 and self._readings[1].when <= now - _SPAN_S:
            self._readings.popleft()

    def status(self) -> dict[str, Any]:
        """Totals since the start; rates and percentiles, in seconds, of the time looked back; JSON-ready.

        A percentile is None where nothing was published meanwhile.
        """
        stats, then, now = self._stats, self._readings[0], self._readings[-1]
        span = max(now.when - then.when, 1e-3)
        per_s = (now.counters - then.counters) / span
        latency = zip(of.STAGES, now.latency - then.latency, strict=True)
        return {
            "intake": self._intake(then, now, span) if self._tally.adapter else None,
            "frames": int(now.counters[of.RECEIVED]),
            "frames_per_s": round(float(per_s[of.RECEIVED]), 1),
            "predictions": int(now.counters[of.PREDICTIONS]),
            "predictions_per_s": round(float(per_s[of.PREDICTIONS]), 1),
            "streams": int(now.counters[of.STREAMS]),
            "anomalies": int(now.counters[of.ANOMALIES]),
            "late": int(now.counters[of.LATE]),
            "missing_rows": int(now.counters[of.MISSING_ROWS]),
            "rejected": self._tally.joined(_by_reason(of.REASONS, stats.rejected)),
            "resets": _by_reason(of.RESETS, stats.resets),
            "latency_s": {stage: _percentiles(counts, of.LATENCY_BOUNDS_NS) for stage, counts in latency},
            "age_s": _percentiles(now.age - then.age, of.AGE_BOUNDS_NS),
        }

    def _intake(self, then: _Reading, now: _Reading, span: float) -> dict[str, Any]:
        """What came of messages of other formats; ``assembled`` is None where a message is a row."""

        def rates(names: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
            counts = {name: after for name, (_, after) in names.items()}
            return counts | {
                f"{name}_per_s": round((after - before) / span, 1) for name, (before, after) in names.items()
            }

        said = rates({"messages": (then.messages, now.messages), "rows": (then.rows, now.rows)})
        said |= {"adapter": self._tally.adapter, "assembled": None}
        if self._tally.assembler is not None:
            incomplete = self._tally.incomplete()
            said["assembled"] = rates(
                {name: (then.values[name], now.values[name]) for name in ("held", "missing", "late")}
            ) | {
                "dropped": {why: count for why, count in self._tally.dropped().items() if count},
                "incomplete": len(incomplete),
                "first_incomplete": incomplete[:_NAMED],
            }
        return said


def _by_reason(reasons: tuple[str, ...], counts: np.ndarray) -> dict[str, int]:
    """Those that happened."""
    return {reason: count for reason, count in zip(reasons, counts.tolist(), strict=True) if count}


def _percentiles(counts: np.ndarray, bounds_ns: np.ndarray) -> dict[str, float | None]:
    """Percentiles in seconds of a histogram, its buckets' counts and upper bounds; linear within a bucket.

    What is above the last bound is given as that bound.
    """
    if not (total := int(counts.sum())):
        return dict.fromkeys(_PERCENTILES)
    upper = np.append(bounds_ns, bounds_ns[-1]) / 1e9
    edges, below = np.concatenate([[0.0], upper]), np.concatenate([[0], np.cumsum(counts)])
    found: dict[str, float | None] = {}
    for name, share in _PERCENTILES.items():
        bucket = int(np.searchsorted(below, share * total)) - 1
        within = (share * total - below[bucket]) / counts[bucket]
        found[name] = float(f"{edges[bucket] + within * (edges[bucket + 1] - edges[bucket]):.3g}")
    return found
