"""The anomaly score written out, a channel at a time: float64, slow, and nothing of streamrnn in it."""

import math
from statistics import NormalDist

MODEL_LEAST, SPREAD_LEAST, MOST = 2.0**-10, 2.0**-16, 2.0**20


def clip(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))


def default_levels(channels: int) -> tuple["Levels", "Levels"]:
    """Of instant and smoothed: the fourth root of (largest normal variable)^4 + 3 for each other one."""
    logs = []
    for share in (0.1, 0.01, 0.001):
        largest = NormalDist().inv_cdf((1 + (1 - share) ** (1 / channels)) / 2)
        logs.append(math.log2((largest**4 + 3 * (channels - 1)) ** 0.25))
    return Levels(logs[0], 1.4, 1.4, 0.05), Levels(logs[0], logs[1] - logs[0], logs[2] - logs[1], 0.001)


class Levels:
    """What one row in 10, 100 and 1000 exceeds, in log2."""

    def __init__(self, first: float, gap: float, gap_2: float, rate: float):
        self.first, self.gap, self.gap_2, self.rate = first, gap, gap_2, rate

    def rarity(self, x: float) -> float:
        second = self.first + self.gap
        third = second + self.gap_2
        if x < self.first:
            return max(0.0, 1 - (self.first - x) / (2 * self.gap))
        if x < second:
            return 1 + (x - self.first) / self.gap
        if x < third:
            return 2 + (x - second) / self.gap_2
        return min(30.0, 3 + (x - third) / (self.gap_2 * max(0.7, min(1.0, self.gap_2 / self.gap))))

    def track(self, x: float, slowed: float) -> None:
        first, second = self.first, self.first + self.gap
        third, unit = second + self.gap_2, self.gap
        rate = self.rate * slowed
        self.first += 2 * rate * unit * ((x >= first) - 0.1)
        self.gap += rate * unit * ((x >= second) - 0.01)
        self.gap_2 += rate * unit * ((x >= third) - 0.001)
        self.first = min(21.0, max(-8.0, self.first))
        self.gap, self.gap_2 = (min(4.0, max(0.1, gap)) for gap in (self.gap, self.gap_2))


class Channel:
    """Running statistics of one channel's residual ``e`` and of its exponentially weighted mean ``u``."""

    def __init__(self) -> None:
        self.rows, self.mean, self.scale, self.u, self.spread = 0, 0.0, 0.0, 0.0, 0.0
        self.z = 0.0
        self.reading, self.length = 0.0, 0  # the last one, and how many in a row were the same

    def step(self, e: float, slowed: float) -> tuple[float, float]:
        """The residual, and its weighted mean, in their standard deviations."""
        self.rows = min(self.rows + 1, 501)
        learned = self.rows > 500
        gain = slowed / 4000 if learned else 1 / self.rows
        r = clip(e, MOST) - self.mean
        if self.rows == 1:
            self.scale = abs(r)
        self.scale = min(MOST, max(MODEL_LEAST, self.scale))
        self.z = clip(r / self.scale, MOST)
        moved = clip(self.z, 10) * self.scale
        self.u += 0.03 * (moved - self.u)
        settled = self.rows > 60
        if not settled:  # as of independent residuals
            self.spread = math.sqrt(0.03 / (2 - 0.03)) * self.scale
        self.spread = min(MOST, max(SPREAD_LEAST, self.spread))
        t = clip(self.u / self.spread, MOST)
        self.mean += gain * moved
        self.scale += self.scale * gain / 2 * (clip(self.z, 10) ** 2 - 1)
        if settled:
            gain = slowed / 4000 if learned else 1 / (self.rows - 58)
            self.spread += self.spread * gain / 2 * (clip(t, 10) ** 2 - 1)
        return self.z, t

    def excess(self, reading: float, usual: int) -> float:
        """What a run of equal readings, this one its last, is longer than usual, in units of that."""
        self.length = self.length + 1 if self.length and reading == self.reading else 1
        self.reading = reading
        return max(0.0, self.length / usual - 1) if usual else 0.0


class Stream:
    """One stream's score. ``usual`` are the longest usual runs of equal readings, 0 = any."""

    def __init__(self, channels: int, usual: list[int] | None = None):
        self.channels = [Channel() for _ in range(channels)]
        self.usual = usual or [0] * channels
        self.instant, self.smoothed = default_levels(channels)
        self.rows, self.said, self.run = 0, 0.0, 0.0

    def step(self, residuals: list[float]) -> float:
        """The score of a row, by its residuals in the model's standard deviations, NaN for a missing one.

        They are its readings, too: all forecasts are 0.
        """
        learning = self.rows < 500
        slowed = 0.2 if not learning and max(self.said, self.run) >= 4 else 1.0
        pairs = [
            channel.step(e, slowed)
            for channel, e in zip(self.channels, residuals, strict=True)
            if not math.isnan(e)
        ]
        if not pairs:
            return math.nan
        x, t = (max(sum(pair[k] ** 4 for pair in pairs), 2.0**-40) ** 0.25 for k in (0, 1))
        z = t / (1 + t**2 / (3 + self.rows / 50)) ** 0.25  # normal, about, where t is Student's
        x, y = math.log2(x), math.log2(z)
        instant, self.said = self.instant.rarity(x), self.smoothed.rarity(y)
        runs = [
            channel.excess(e, usual)
            for channel, e, usual in zip(self.channels, residuals, self.usual, strict=True)
            if not math.isnan(e)
        ]
        self.run = min(20.0, 2 * math.log2(1 + sum(run**4 for run in runs) ** 0.25))
        self.instant.track(x, slowed)
        self.smoothed.track(y, slowed)
        self.rows = min(self.rows + 1, 4000)
        if self.rows > 100:
            return max(0.0, instant + math.log10(0.1), self.said + math.log10(0.9), self.run)
        return math.nan

    def begin_sequence(self) -> None:
        for channel in self.channels:
            channel.u, channel.length = 0.0, 0
