"""How long the rows of a batch took, counted. Compiled.

Rows were received, and are sent, some at a time between two looks at the clock: in a full batch times are
known to a few microseconds, and of a row that came alone to what a clock takes to be read.
"""

import numpy as np

from streamrnn import stats as counted
from streamrnn.compiling.jit import inlined
from streamrnn.daemon.publish import UNANSWERED

_QUEUE, _STEP, _TOTAL = range(len(counted.STAGES))
_LATENCY, _AGE, _BATCH = counted.LATENCY_BOUNDS_NS, counted.AGE_BOUNDS_NS, counted.BATCH_BOUNDS
_MOST = np.iinfo(np.int64).max


@inlined
def _bucket(bounds, value):
    bucket = 0
    for place in range(bounds.size):
        bucket += value > bounds[place]
    return bucket


@inlined
def _count_times(stats, queue, total, rows):
    """Counts the times of ``rows`` rows that were received together, and sent together."""
    queue, total = max(queue, 0), max(total, 0)
    stats.latency[_QUEUE][_bucket(_LATENCY, queue)] += rows
    stats.latency_ns[_QUEUE] += rows * queue
    stats.latency[_TOTAL][_bucket(_LATENCY, total)] += rows
    stats.latency_ns[_TOTAL] += rows * total


@inlined
def count_batch(pump, core, count, started, stepped, offset):
    """Counts a batch of ``count`` rows, and the times of those that were answered.

    Rows that follow each other with the same times, or ages of one bucket, are counted together: most do.
    """
    batch, stats = core.batch, core.stats
    answered = run = aged = bucket = 0
    came = sent = 0
    below = upto = -1  # of the bucket of the ages in hand
    ages = 0.0
    for row in range(count):
        published, received, ts = pump.published[row], batch.received[row], batch.said[row].ts_ns
        if published == UNANSWERED:
            continue
        if published != sent or received != came:
            _count_times(stats, started - came, sent - came, run)
            answered += run
            came, sent, run = received, published, 0
        run += 1
        if ts != 0:
            age = max(published + offset - ts, 0)
            if age <= below or age > upto:
                stats.age[bucket] += aged
                bucket, aged = _bucket(_AGE, age), 0
                below = _AGE[bucket - 1] if bucket > 0 else -1
                upto = _AGE[bucket] if bucket < _AGE.size else _MOST
            aged += 1
            ages += age
    _count_times(stats, started - came, sent - came, run)
    answered += run
    stats.age[bucket] += aged
    stats.age_ns[0] += ages
    per_row = (stepped - started) // count
    stats.latency[_STEP][_bucket(_LATENCY, per_row)] += answered
    stats.latency_ns[_STEP] += answered * per_row
    stats.batch[_bucket(_BATCH, count)] += 1
    stats.batch_rows[0] += count
