"""What the pump counts: arrays that compiled code fills and a scrape reads without a lock.

Every cell is one aligned 64-bit number with a single writer, so a reader on another thread sees each
value whole. All but the number of streams only grow.
"""

from typing import NamedTuple

import numpy as np

# why a frame, or one row of it, was not answered: the value of the `reason` label
REASONS = (
    "parts",  # not exactly a topic and a payload
    "topic",  # empty, over 127 bytes, or not UTF-8
    "magic",
    "version",
    "dtype",
    "flags",  # a flag nobody has defined
    "rows",  # a frame of no rows
    "truncated",  # shorter than its header says
    "oversized",  # longer than its header says
    "channels",  # whole rows, of another number of channels than the model's
    "infinite",  # a row with an infinite value
    "missing",  # a row with a NaN that the rules do not fill in
    "capacity",  # a new stream where every slot is taken
    "diverged",  # a row whose step, after which the stream is reset, or whose answer was not finite
)
# why a stream's state went back to zero: the value of the `reason` label
RESETS = (
    "frame",  # a frame said RESET
    "end",  # the sequence before had ended
    "max_gap",
    "restart",  # the source began its numbers again after a silence
    "diverged",
    "degraded",  # saturated for too many steps in a row
    "request",  # `streamrnn state reset`
    "idle",  # let go
)
STAGES = ("queue", "step", "total")

# upper bounds of the latency histograms, ns: 1, 2, 5 per decade from 1 us to 1 s; one more bucket above
LATENCY_BOUNDS_NS = np.array(
    [base * 10**decade for decade in range(3, 9) for base in (1, 2, 5)] + [10**9], np.int64
)
# upper bounds of the frame age, ns: 100 us to 1,000 s
AGE_BOUNDS_NS = np.array([10**decade for decade in range(5, 13)], np.int64)
# upper bounds of the batch size, rows
BATCH_BOUNDS = 2 ** np.arange(10, dtype=np.int64)

# indices into Stats.counters
RECEIVED, LATE, MISSING_ROWS, PREDICTIONS, STREAMS, ANOMALIES = range(6)


class Stats(NamedTuple):
    """Counts since the start, int64. Histograms hold plain (not cumulative) buckets."""

    counters: np.ndarray  # (6,) messages received, rows late, rows missing, predictions, live streams, events
    rejected: np.ndarray  # (len(REASONS),)
    resets: np.ndarray  # (len(RESETS),)
    latency: np.ndarray  # (len(STAGES), len(LATENCY_BOUNDS_NS) + 1)
    latency_ns: np.ndarray  # (len(STAGES),) sums
    age: np.ndarray  # (len(AGE_BOUNDS_NS) + 1,)
    age_ns: np.ndarray  # (1,) sum, float64: a source whose clock is wrong is decades old
    batch: np.ndarray  # (len(BATCH_BOUNDS) + 1,)
    batch_rows: np.ndarray  # (1,) sum

    @classmethod
    def zeros(cls) -> "Stats":
        def count(*shape: int) -> np.ndarray:
            return np.zeros(shape, np.int64)

        stages, latencies = len(STAGES), len(LATENCY_BOUNDS_NS) + 1
        return cls(
            counters=count(6),
            rejected=count(len(REASONS)),
            resets=count(len(RESETS)),
            latency=count(stages, latencies),
            latency_ns=count(stages),
            age=count(len(AGE_BOUNDS_NS) + 1),
            age_ns=np.zeros(1, np.float64),
            batch=count(len(BATCH_BOUNDS) + 1),
            batch_rows=count(1),
        )
