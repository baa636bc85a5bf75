"""The anomaly score written out, a channel at a time: float64, slow, and nothing of streamrnn in it."""

import math
from statistics import NormalDist

MODEL_LEAST, SPREAD_LEAST, MOST = 2.0**-10, 2.0**-16, 2.0**20


def clip(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))


def default_levels(channels: int) -> list["Levels"]:
    """Of each way. Of smoothed: the fourth root of (largest normal variable)^4 + 3 for each other one."""
    logs = []
    for share in (0.1, 0.01, 0.001):
        largest = NormalDist().inv_cdf((1 + (1 - share) ** (1 / channels)) / 2)
        logs.append(math.log2((largest**4 + 3 * (channels - 1)) ** 0.25))
    gaps = logs[1] - logs[0], logs[2] - logs[1]
    return [
        Levels(logs[0], 1.4, 1.4, 0.05),
        Levels(logs[0], *gaps, 0.001),
        Levels(logs[0] - math.log2(3) / 4, *(1.5 * gap for gap in gaps), 0.001),
        Levels(-1.0, 1.4, 1.4, 0.001),
    ]


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
        self.size, self.usual, self.apart = 0.0, 0.0, 0.0  # of ``size``: its mean, its fourth power from that
        self.reading, self.length = 0.0, 0  # the last one, and how many in a row were the same

    def step(self, e: float, slowed: float, resizing: float, switch: bool) -> tuple[float, float, float]:
        """The residual, and its weighted mean, in their standard deviations; and how far its size is from
        usual, to the fourth power, in units of the mean of that.
        """
        self.rows = min(self.rows + 1, 501)
        learned = self.rows > 500
        gain = slowed / 4000 if learned else 1 / self.rows
        r = clip(e, MOST) - self.mean
        if self.rows == 1:
            self.scale = self.size = self.usual = abs(r)
            self.apart = 0.1
        self.scale = min(MOST, max(MODEL_LEAST, self.scale))
        before, self.z = self.z, clip(r / self.scale, MOST)
        moved = clip(self.z, 10) * self.scale
        up, down = min(self.z, before) - 100, min(-self.z, -before) - 100
        beyond = max(up, 0.0) - max(down, 0.0)  # of two in a row
        self.u += 0.03 * (moved + beyond * self.scale - self.u)
        settled = self.rows > 60
        if not settled:  # as of independent residuals
            self.spread = math.sqrt(0.03 / (2 - 0.03)) * self.scale
        self.spread = min(MOST, max(SPREAD_LEAST, self.spread))
        t = clip(self.u / self.spread, MOST)
        resized = self.resize(abs(moved), gain, resizing / 4000 if learned else 1 / (self.rows + 33), switch)
        self.mean += gain * moved
        self.scale += self.scale * gain / 2 * (clip(self.z, 10) ** 2 - 1)
        if settled:
            gain = slowed / 4000 if learned else 1 / (self.rows - 58)
            self.spread += self.spread * gain / 2 * (clip(t, 10) ** 2 - 1)
        return self.z, t, resized

    def resize(self, now: float, gain: float, apart_gain: float, switch: bool) -> float:
        self.size += 0.03 * (now - self.size)
        usual = max(2.0**-13, self.usual)
        self.usual = max(2.0**-13, usual + gain * (min(now, 10 * usual) - usual))
        more = self.size / self.usual - 1
        more = max(more, 0.0) if switch else abs(more)
        apart = max(1e-3, self.apart)
        self.apart = apart + apart_gain * (min(more**4, (100 if switch else 1e4) * apart) - apart)
        return more**4 / apart

    def excess(self, reading: float, usual: int) -> float:
        """What a run of equal readings, this one its last, is longer than usual, in units of that.

        A missing one, NaN, goes on with a run that has begun.
        """
        if math.isnan(reading):
            self.length += 1 if self.length else 0
        else:
            self.length = self.length + 1 if self.length and reading == self.reading else 1
            self.reading = reading
        return max(0.0, self.length / usual - 1) if usual else 0.0


class Stream:
    """One stream's score. ``usual`` are the longest usual runs of equal readings, 0 = any."""

    def __init__(self, channels: int, usual: list[int] | None = None, switches: list[bool] | None = None):
        self.switches = switches or [False] * channels
        self.channels = [Channel() for _ in range(channels)]
        self.usual = usual or [0] * channels
        self.ways = default_levels(max(channels - sum(self.switches), 1))
        self.rows, self.said, self.run, self.resized = 0, 0.0, 0.0, 0.0

    def step(self, residuals: list[float]) -> float:
        """The score of a row, by its residuals in the model's standard deviations, NaN for a missing one.

        They are its readings, too: all forecasts are 0.
        """
        learning = self.rows < 500
        slowed = 0.2 if not learning and max(self.said, self.run) >= 4 else 1.0
        resizing = 0.2 if self.resized >= 2.5 else slowed
        found = [
            (switch, *channel.step(e, slowed, resizing, switch))
            for channel, e, switch in zip(self.channels, residuals, self.switches, strict=True)
            if not math.isnan(e)
        ]
        if not found:
            return math.nan
        wide = [each for each in found if not each[0]]
        z4, t4 = (sum(each[k] ** 4 for each in wide) for k in (1, 2))
        freedom = 3 + self.rows / 50
        t4 /= 1 + math.sqrt(t4) / freedom  # of a normal variable, about, where t is Student's
        powers = [z4, t4, sum(each[3] for each in wide), sum(each[3] for each in found if each[0])]
        logs = [math.log2(max(power, 2.0**-40)) / 4 for power in powers]
        said = [way.rarity(x) for way, x in zip(self.ways, logs, strict=True)]
        self.said, self.resized = said[1], max(said[2:])
        runs = [
            channel.excess(e, usual)
            for channel, e, usual in zip(self.channels, residuals, self.usual, strict=True)
        ]
        self.run = min(20.0, 2 * math.log2(1 + sum(run**4 for run in runs) ** 0.25))
        for way, x in zip(self.ways, logs, strict=True):
            way.track(x, slowed)
        self.rows = min(self.rows + 1, 4000)
        if self.rows > 100:
            shares = zip(said, (0.1, 0.75, 0.05, 0.1), strict=True)
            return max(0.0, self.run, *(rare + math.log10(share) for rare, share in shares))
        return math.nan

    def begin_sequence(self) -> None:
        for channel in self.channels:
            channel.u, channel.length = 0.0, 0
