"""What the times of rows say of rows that are missing: one rule, for training and for numbers by time."""

import numpy as np

CLOCKS_NS = (10**9, 10**6, 10**3)  # what times may be rounded to; else to 1 ns
JITTER = 0.5  # of a sample period: how far a time step may be off


def tick_ns(ts_ns: np.ndarray) -> int:
    """What times are rounded to: the largest of CLOCKS_NS that they are multiples of."""
    return next((tick for tick in CLOCKS_NS if not (ts_ns % tick).any()), 1)


def slack_ns(period_ns: float, tick: int) -> float:
    """How far a time step may be off the sample period before it is a gap.

    The tick matters to rows that come about as often as a clock of whole seconds ticks: every 1.06 s gives a
    step of 2 s now and then, with nothing missing.
    """
    return JITTER * period_ns + tick
