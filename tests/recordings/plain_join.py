"""Rows of channels of several rates, from the rules alone: slow, plain Python, nothing of streamrnn in it."""

import bisect
import math
from typing import NamedTuple


class PlainChannel(NamedTuple):
    ticks: list[int]  # of its samples, rising
    values: list[float]  # NaN = invalid
    period: int  # for how long one stands; 0 = at its own time only


def plain_join(rows: list[int], channels: list[PlainChannel]) -> list[list[float]]:
    """What each channel has at each row: its last sample, unless that is longer ago than its period."""
    found = []
    for tick in rows:
        row = []
        for channel in channels:
            place = bisect.bisect_right(channel.ticks, tick) - 1
            stands = place >= 0 and tick - channel.ticks[place] <= channel.period
            row.append(channel.values[place] if stands else math.nan)
        found.append(row)
    return found
