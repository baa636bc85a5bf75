"""What every reader of recordings owes: numbers to ticks, and the process that it runs in."""

from fractions import Fraction

import numpy as np
import pytest

from streamrnn.errors import UserError
from streamrnn.recordings.recording import even_ticks, to_ticks


@pytest.mark.parametrize("rate", ["1024", "3", "44100", "999.9871", "0.25", "1e-3"])
def test_ticks_of_a_rate_are_each_rounded_for_themselves(rate):
    period = 10**9 / Fraction(rate)
    first = 10**6 + 7
    assert even_ticks(first, 3000, period).tolist() == [
        int((first + k) * period + Fraction(1, 2)) for k in range(3000)
    ]


def test_times_in_binary_fractions_are_as_exact_as_they_can_be():
    steps = np.cumsum(np.full(10, 0.1))  # 0.30000000000000004 is among them
    assert to_ticks(steps, 10**9, "x").tolist() == [k * 10**8 for k in range(1, 11)]
    today = 1.7e9 + np.arange(5) * 0.01
    assert to_ticks(today, 10**9, "x").tolist() == [17 * 10**17 + k * 10**7 for k in range(5)]
    single = (100 + np.arange(5) * 0.01).astype(np.float32)
    assert to_ticks(single, 10**9, "x").tolist() == [10**11 + k * 10**7 for k in range(5)]
    assert to_ticks(np.array([2**61 + 1]), 1, "x").tolist() == [2**61 + 1]
    assert to_ticks(np.array([0.5]), 10**9, "x", 2.0**31).tolist() == [500 * 10**6]
    for bad in ([np.nan], [np.inf], [1e300]):
        with pytest.raises(UserError, match="x: "):
            to_ticks(np.array(bad), 10**9, "x")
    with pytest.raises(UserError, match="beyond the years"):
        to_ticks(np.array([2**62]), 1000, "x")
    with pytest.raises(UserError, match="beyond the years"):
        even_ticks(10**9, 1, Fraction(10**12))
