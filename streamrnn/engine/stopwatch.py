"""Where the time of a batch goes, by what is done with it; compiled into the steps where it is asked for."""

import time
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.compiling.known import Known
from streamrnn.wire.clock import monotonic_ns

# What the pump does, in its order: waits, or asks libzmq for news of its peers; takes messages from the
# socket, and finds where their streams are; reads frames; groups the rows of a batch by stream, and has their
# records fetched; looks whether a row may be taken, fills in, scales, and takes residuals; rates these; steps
# the network, and corrects forecasts; writes a record with its check, and commits it; tells refused rows;
# sends; counts times.
PASSES = ("wait", "receive", "decode", "order", "rules", "score", "step", "commit", "tally", "send", "count")
WAIT, RECEIVE, DECODE, ORDER, RULES, SCORE, STEP, COMMIT, TALLY, SEND, COUNT = range(len(PASSES))
_LAST = len(PASSES)


class Stopwatch(NamedTuple):
    """Of one thread."""

    running: Known  # 1 = times are taken
    laps: np.ndarray  # (2, len(PASSES) + 1) int64: ns by pass, and how often; last, when the last lap ended


def make_stopwatch(running: bool = False) -> Stopwatch:
    laps = np.zeros((2, len(PASSES) + 1), np.int64)
    laps[0, _LAST] = time.monotonic_ns()
    return Stopwatch(running=int(running), laps=laps)


@inlined
def lap(watch, what):
    """Notes that what was done since the last lap was ``what``."""
    if watch.running == 1:
        now = monotonic_ns()
        watch.laps[0, what] += now - watch.laps[0, _LAST]
        watch.laps[1, what] += 1
        watch.laps[0, _LAST] = now
