"""Updates of single sensors into rows: each rule by example, and all of them against plain Python."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_rows import FURTHEST, TAKES, PlainRows, Row, rows_in_order

from streamrnn.rows import assembler as module
from streamrnn.rows.assembler import AssembledRows, Assembler
from streamrnn.rows.layout import COUNTS, FRESH, HELD, LONGEST, NO_ROW, SILENT
from streamrnn.rows.ticks import take_updates

NAN = math.nan
Update = tuple[int, int, int, float]  # stream, channel, ts, value


def assembler(channels: int = 1, period: int = 10, take: str = "last", **more: int) -> Assembler:
    more = {"hold_ns": 0, "lateness_ns": 0, "capacity": 4} | more
    return Assembler(channels, period, take, **more)


def flat(blocks: Iterable[AssembledRows]) -> list[Row]:
    rows = []
    for block in blocks:
        assert len(block.stream) == len(block.tick) == len(block.values) == len(block.begins) > 0
        for stream, tick, values, begins in zip(*(field.tolist() for field in block), strict=True):
            rows.append(Row(stream, tick, tuple(values), begins))
    return rows


def give(rows: Assembler, updates: Sequence[Update], now: int = 0) -> list[Row]:
    stream, channel, ts, value = zip(*updates, strict=True) if updates else ((), (), (), ())
    return flat(rows.take(np.array(stream), np.array(channel), np.array(ts, np.int64), np.array(value), now))


def plain(rows: Iterable[Row]) -> list[tuple[int, tuple]]:
    """Ticks and values, None for NaN."""
    return [(row.tick, tuple(None if math.isnan(v) else v for v in row.values)) for row in rows]


def said(rows: Assembler, *updates: tuple[int, int, float], now: int = 0) -> list[tuple[int, tuple]]:
    """What leaves after updates of stream "a": channel, time, value."""
    stream = rows.stream("a")
    return plain(give(rows, [(stream, *update) for update in updates], now))


def counted(rows: Assembler, *names: str) -> Any:
    counts = dict(zip(COUNTS, rows.counts.tolist(), strict=True))
    return tuple(counts[name] for name in names) if len(names) > 1 else counts[names[0]]


def bits(rows: Iterable[Row]) -> list[tuple]:
    """Rows that are equal when they are so bit for bit, all NaN being one."""
    return [
        (row.stream, row.tick, row.begins, *("nan" if math.isnan(v) else v.hex() for v in row.values))
        for row in rows
    ]


# The rules, one by one


def test_a_tick_ends_its_interval():
    rows = assembler()
    assert said(rows, (0, 10, 1.0), (0, 11, 2.0), (0, 20, 3.0)) == [(1, (1.0,))]
    assert plain(flat(rows.flush())) == [(2, (3.0,))]
    assert flat(rows.flush()) == []


def test_the_first_tick_of_all_is_zero():
    rows = assembler()
    assert said(rows, (0, -10, 1.0), (0, -9, 2.0), (0, 0, 3.0), (0, 1, 4.0)) == [(0, (3.0,))]
    assert counted(rows, "time") == 1


@pytest.mark.parametrize(("take", "value"), [("last", 4.0), ("mean", 3.5), ("min", 1.0), ("max", 6.0)])
def test_what_an_interval_comes_to(take, value):
    rows = assembler(take=take, lateness_ns=10)
    assert said(rows, (0, 3, 6.0), (0, 7, 3.0), (0, 7, 4.0), (0, 5, 1.0), (0, 21, 9.0)) == [(1, (value,))]


def test_a_mean_is_summed_in_the_order_in_which_values_came():
    rows = assembler(take="mean")
    said(rows, (0, 3, 1e16), (0, 2, 1.0), (0, 1, -1e16))
    assert plain(flat(rows.flush())) == [(1, ((1e16 + 1.0 - 1e16) / 3,))]


def test_a_row_leaves_when_every_channel_has_spoken_past_it():
    rows = assembler(2, lateness_ns=1000)
    assert said(rows, (0, 5, 1.0), (1, 6, 2.0), (0, 11, 3.0), (1, 10, 4.0)) == []
    assert said(rows, (1, 11, 5.0)) == [(1, (1.0, 4.0))]
    assert said(rows, (0, 45, 6.0)) == []
    assert said(rows, (1, 41, 7.0)) == [(2, (3.0, 5.0))]  # in 3 and 4 nothing was said, and nothing is held


def test_a_row_leaves_when_something_is_later_by_more_than_the_lateness():
    rows = assembler(2, lateness_ns=15)
    assert said(rows, (0, 10, 1.0), (0, 25, 2.0), (1, 10, 3.0)) == []
    assert said(rows, (0, 26, 4.0)) == [(1, (1.0, 3.0))]
    assert said(rows, (1, 10, 5.0), (1, 11, 6.0)) == []
    assert counted(rows, "late") == 1
    assert plain(flat(rows.flush())) == [(2, (None, 6.0)), (3, (4.0, None))]


def test_before_the_first_update_another_may_come_within_the_lateness():
    rows = assembler(2, lateness_ns=20)
    assert said(rows, (0, 100, 1.0), (0, 70, 2.0), (0, 71, 3.0)) == []
    assert counted(rows, "late") == 1
    assert plain(flat(rows.flush())) == [(8, (3.0, None)), (10, (1.0, None))]


def test_a_single_channel_waits_for_nobody():
    rows = assembler(lateness_ns=1000)
    assert said(rows, (0, 100, 1.0), (0, 99, 2.0), (0, 101, 3.0)) == [(10, (1.0,))]
    assert said(rows, (0, 100, 4.0)) == [] and counted(rows, "late") == 1


def test_a_value_is_held_as_long_as_it_may():
    rows = assembler(2, hold_ns=20)
    assert said(rows, (0, 5, 1.0), (1, 61, 2.0)) == [
        (1, (1.0, None)),
        (2, (1.0, None)),
    ]  # 25 ns before tick 3
    assert counted(rows, "rows", "held", "missing") == (2, 1, 2)
    assert rows.how.tolist()[0] == [HELD, SILENT] and rows.lacking(0) == ["a"]
    assert plain(flat(rows.flush())) == [(7, (None, 2.0))]
    assert rows.how.tolist() == [[SILENT, FRESH]] + 3 * [[NO_ROW, NO_ROW]]
    assert said(rows, (0, 71, 3.0), (1, 72, 4.0), (1, 81, 5.0), (0, 81, 6.0)) == [(8, (3.0, 4.0))]
    assert rows.lacking(0) == []


def test_what_is_held_is_what_its_interval_came_to_from_its_newest_time_on():
    rows = assembler(take="mean", hold_ns=12)
    assert said(rows, (0, 8, 1.0), (0, 3, 2.0), (0, 31, 7.0)) == [(1, (1.5,)), (2, (1.5,))]


def test_values_that_are_no_numbers_are_not_said():
    rows = assembler(2)
    said(rows, (0, 5, 1.0), (1, 5, NAN), (0, 95, math.inf), (1, 95, -math.inf))
    assert counted(rows, "ignored") == 3
    assert plain(flat(rows.flush())) == [(1, (1.0, None))]


def test_what_is_of_no_stream_or_channel_is_dropped():
    rows = assembler(2, capacity=1)
    a = rows.stream("a")
    assert (a, rows.stream("b"), rows.stream("a"), rows.names) == (0, -1, 0, ["a"])
    give(rows, [(stream, channel, 5, 1.0) for stream in (-1, 0, 1, 10**9) for channel in (-1, 0, 2, 10**9)])
    assert counted(rows, "updates", "unplaced") == (16, 15)


# Wild times


@pytest.mark.parametrize("wrong", [FURTHEST, 10_000_000, 0])
def test_one_wrong_time_costs_nothing(wrong):
    rows = assembler()
    assert said(rows, (0, 100_000, 1.0), (0, wrong, 2.0), (0, 100_001, 3.0)) == [(10_000, (1.0,))]
    assert counted(rows, "wild", "late") == (1, 0)
    assert plain(flat(rows.flush())) == [(10_001, (3.0,))]


def test_a_clock_set_ahead_costs_its_gap():
    rows = assembler()
    assert said(rows, (0, 5, 1.0), (0, 20_005, 2.0)) == []
    assert said(rows, (0, 20_015, 3.0)) == [(1, (1.0,)), (2001, (2.0,))]
    assert not any(row.begins for row in flat(rows.flush()))
    assert counted(rows, "wild") == 0


def test_a_clock_set_back_begins_the_stream_anew():
    rows = assembler(hold_ns=100, lateness_ns=100)
    a = rows.stream("a")
    assert give(rows, [(a, 0, 100_005, 1.0), (a, 0, 5, 2.0)]) == []
    assert give(rows, [(a, 0, 15, 3.0)]) == [Row(a, 10_001, (1.0,), False), Row(a, 1, (2.0,), True)]
    assert give(rows, [(a, 0, 25, 4.0)]) == [Row(a, 2, (3.0,), False)]
    assert counted(rows, "wild", "late") == (0, 0)


def test_wild_times_must_agree():
    rows = assembler(3)
    said(rows, (0, 5, 1.0), *((0, time, float(time)) for time in (10**6, 10**7, 10**7 - 10_011, 10**6)))
    assert counted(rows, "wild") == 3  # 10^7 - 10,011 is 1,001 ticks before 10^7, and 10^6 more
    assert said(rows, (0, 10**6 + 5, 2.0), (0, 10**6 + 15, 3.0)) == [
        (1, (1.0, None, None)),
        (10**5, (1e6, None, None)),
        (10**5 + 1, (2.0, None, None)),
    ]
    assert counted(rows, "wild", "late") == (3, 0)


def test_a_stream_slower_than_a_leap_is_heard():
    rows = assembler(2, hold_ns=0)
    times = [5 + 20_000 * place for place in range(8)]
    found = said(rows, *((place % 2, time, float(place)) for place, time in enumerate(times)))
    found += plain(flat(rows.flush()))
    assert [tick for tick, _ in found] == [1 + 2000 * place for place in range(8)]
    assert counted(rows, "wild", "late") == (0, 0)


def test_at_the_end_what_was_put_aside_is_believed():
    rows = assembler()
    said(rows, (0, 100_005, 1.0), (0, 5, 2.0))
    assert [(row.tick, row.begins) for row in flat(rows.flush())] == [(10_001, False), (1, True)]


# The clock


def test_rows_of_a_silent_stream_leave_by_the_clock():
    rows = assembler(hold_ns=30, lateness_ns=10)
    assert said(rows, (0, 5, 1.0), now=1000) == []
    assert flat(rows.release(1015)) == []
    assert plain(flat(rows.release(1016))) == [(1, (1.0,))]
    assert plain(flat(rows.release(9999))) == [(2, (1.0,)), (3, (1.0,))]
    assert said(rows, (0, 30, 2.0), now=9999) == []
    assert counted(rows, "late") == 1
    assert said(rows, (0, 31, 3.0), (0, 41, 4.0), now=9999) == [(4, (3.0,))]  # which nothing stood for


def test_what_was_put_aside_is_believed_by_the_clock():
    rows = assembler(hold_ns=0, lateness_ns=10)
    said(rows, (0, 100_005, 1.0), now=1000)
    said(rows, (0, 5, 2.0), now=1000)
    assert flat(rows.release(1010)) == []
    assert [(row.tick, row.begins) for row in flat(rows.release(1011))] == [(10_001, False)]
    assert [(row.tick, row.begins) for row in flat(rows.release(1016))] == [(1, True)]


def test_streams_that_are_silent_are_forgotten_and_make_room():
    rows = assembler(2, capacity=2)
    a, b = rows.stream("a"), rows.stream("b")
    give(rows, [(a, 0, 5, 1.0), (b, 0, 5, 1.0)], now=100)
    give(rows, [(b, 0, 5, 2.0), (b, 1, 50_000, 1.0)], now=200)
    left = plain(flat(rows.release(300)))
    assert left == [(1, (1.0, None)), (1, (2.0, None)), (5000, (None, 1.0))]
    assert rows.forget(100) == [] and rows.forget(200) == ["a"]
    assert (rows.stream("a"), rows.stream("c")) == (a, -1)
    assert rows.how[a].tolist() == [NO_ROW, NO_ROW]
    assert plain(give(rows, [(a, 1, 3, 7.0), (a, 1, 11, 8.0)], now=300)) == [(1, (None, 7.0))]
    assert rows.forget(400) == ["a", "b"] and rows.names == ["", ""]
    assert give(rows, [(a, 0, 5, 1.0)]) == [] and counted(rows, "unplaced") == 1


def test_streams_keep_what_they_had_while_others_come():
    rows = assembler(2, capacity=1000)
    before = rows.how
    for stream in range(1000):
        assert rows.stream(f"s{stream}") == stream
        give(rows, [(stream, 0, stream + 1, float(stream))])
    assert len(before) < len(rows.how) == 1000
    assert [row.values[0] for row in flat(rows.flush())] == list(range(1000))


# Everything against plain Python


class Both:
    """An assembler and the plain one, told the same."""

    def __init__(
        self,
        streams: int,
        channels: int,
        period: int,
        take: str,
        hold: int | list[int],
        lateness: int,
        room: int,
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_BLOCK_ROWS", room)
            each = hold if isinstance(hold, int) else np.array(hold)
            self.ours = Assembler(
                channels, period, take, hold_ns=each, lateness_ns=lateness, capacity=streams
            )
        self.plain = PlainRows(channels, period, take, hold, lateness)
        self.streams, self.seen = [self.ours.stream(f"s{stream}") for stream in range(streams)], 0

    def take(self, updates: Sequence[Update], now: int = 0) -> None:
        for update in updates:
            self.plain.take(*update, now)
        self.compare(give(self.ours, updates, now))

    def release(self, now: int) -> None:
        self.plain.release(now)
        self.compare(flat(self.ours.release(now)))

    def flush(self) -> None:
        self.plain.flush()
        self.compare(flat(self.ours.flush()))

    def compare(self, rows: list[Row]) -> None:
        assert bits(rows) == bits(self.plain.rows[self.seen :])
        self.seen = len(self.plain.rows)
        assert dict(zip(COUNTS, self.ours.counts.tolist(), strict=True)) == self.plain.counts
        words = {FRESH: "fresh", HELD: "held", SILENT: "silent"}
        how = {s: [words[h] for h in row] for s, row in enumerate(self.ours.how.tolist()) if any(row)}
        assert how == self.plain.how
        assert len(self.ours.lacking(0)) == sum("silent" in row for row in how.values())


STEPS = st.sampled_from([0, 0, 1, 1, 2, 3, 5, 10, 10, 11, 20, 30, 47, 90, -1, -2, -5, -10, -11, -20, -31])
LEAPS = st.sampled_from(
    [9_990, 10_000, 10_010, 10_011, 12_000, 10**6, -(10**6), -10_010, -10_020, -9_990, 10**17]
)
VALUES = st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, 0.1, 1e300, -1e16, 1e16, NAN, NAN, math.inf])


@st.composite
def updates_of(draw, streams: int, channels: int) -> list[Update]:
    """Updates whose times go on from each other, but for a few that are wild."""
    ts, updates = draw(st.sampled_from([0, 5, 100_000, 10**18])), []
    for _ in range(draw(st.integers(1, 25))):
        ts += draw(STEPS)
        kind = draw(st.sampled_from(["usual"] * 8 + ["wild", "wild", "set"]))
        off = 0 if kind == "usual" else draw(LEAPS)
        channel = draw(st.integers(0, channels - 1))
        updates.append((draw(st.integers(0, streams - 1)), channel, ts + off, draw(VALUES)))
        ts += off if kind == "set" else 0
    return updates


@st.composite
def ways(draw) -> dict[str, Any]:
    period, channels = draw(st.sampled_from([1, 7, 10, 10])), draw(st.integers(1, 3))
    holds = [draw(st.sampled_from([0, 1, 9, 10, 25, 60, 1100])) * period // 10 for _ in range(channels)]
    return {
        "streams": draw(st.integers(1, 2)),
        "channels": channels,
        "period": period,
        "take": draw(st.sampled_from(TAKES)),
        "hold": draw(st.sampled_from([holds, holds[0]])),
        "lateness": draw(st.sampled_from([0, 1, 9, 10, 11, 15, 40])) * period // 10,
        "room": draw(st.sampled_from([1, 2, 3, 4096])),
    }


@settings(max_examples=150, deadline=None)
@given(st.data(), ways())
def test_whatever_is_said_the_rows_are_those_of_plain_python(data, how):
    both = Both(**how)
    now = 0
    for _ in range(data.draw(st.integers(1, 5))):
        both.take(data.draw(updates_of(how["streams"], how["channels"])), now)
        now += data.draw(st.sampled_from([0, 1, 5, 10, 15, 30, 100, 10_000]))
        if data.draw(st.booleans()):
            both.release(now)
    both.flush()


@settings(max_examples=100, deadline=None)
@given(st.data(), ways())
def test_any_batching_equals_none(data, how):
    updates = [one for _ in range(3) for one in data.draw(updates_of(how["streams"], how["channels"]))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(updates)), max_size=6)))
    both, at_once = Both(**how), Both(**how | {"room": 4096})
    for first, end in zip([0, *cuts], [*cuts, len(updates)], strict=True):
        both.take(updates[first:end])
    at_once.take(updates)
    assert bits(both.plain.rows) == bits(at_once.plain.rows)  # which ours are the same as


EXTREMES = [
    *(-(2**63), -(2**63) + 1, -FURTHEST, -LONGEST - 1, -LONGEST, 1 - LONGEST, -1, 0, 1, LONGEST, 2 * LONGEST),
    *(FURTHEST - LONGEST, FURTHEST - 1000, FURTHEST - 1, FURTHEST, FURTHEST + 1, 2**63 - 1),
]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1), st.integers(0, 1), st.sampled_from(EXTREMES), st.sampled_from([1.0, 2.0])
        )
    ),
    st.sampled_from([(1, 0, 0), (1, 50, 1000), (LONGEST, LONGEST, LONGEST), (LONGEST // 3, LONGEST, 1)]),
    st.sampled_from([0, 1, 10**10, 2**62 - 1]),
)
def test_times_at_the_end_of_the_integers(updates, timing, now):
    period, hold, lateness = timing
    both = Both(2, 2, period, "last", hold, lateness, 4096)
    both.take(updates)
    both.release(now)
    both.take(updates, now)
    both.flush()


# Sensors as they are


def sensors(seed: int, period: int) -> list[list[tuple[int, int, float]]]:
    """Eight sensors of eight rates, with doubles and losses: the updates of each, channel, time, value."""
    rng = np.random.default_rng(seed)
    said = []
    for channel, every in enumerate((0.3, 0.5, 0.9, 1.0, 1.7, 2.0, 3.3, 7.0)):
        times = 10**15 + np.cumsum(rng.uniform(0.5, 1.5, round(150 / every)) * every * period).astype(
            np.int64
        )
        times = np.sort(np.concatenate([times, rng.choice(times, 5)]))
        times = times[rng.random(times.size) > 0.1]
        said.append(
            [
                (channel, int(ts), float(value))
                for ts, value in zip(times, rng.normal(size=times.size), strict=True)
            ]
        )
    return said


@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("seed", range(3))
def test_sensors_that_are_shuffled_within_the_lateness(seed, take):
    period, rng = 100_000_000, np.random.default_rng(seed)
    updates = [update for sensor in sensors(seed, period) for update in sensor]
    order = np.argsort([ts + rng.uniform(0, 2 * period) for _, ts, _ in updates])
    both = Both(1, 8, period, take, 3 * period, 2 * period, 4096)
    both.take([(0, *updates[at]) for at in order])
    both.flush()
    assert counted(both.ours, "wild") == 0
    assert counted(both.ours, "rows") > 140


@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("seed", range(3))
def test_sensors_each_with_a_delay_of_its_own(seed, take):
    """Each in order: then the rows are what the list of all updates says, whoever came first."""
    period, rng = 100_000_000, np.random.default_rng(seed)
    delay = rng.uniform(0, 2 * period, 8)
    updates = sorted(
        (update for sensor in sensors(seed, period) for update in sensor), key=lambda u: u[1] + delay[u[0]]
    )
    ours = assembler(8, period, take, hold_ns=5 * period // 2, lateness_ns=2 * period)
    rows = said(ours, *updates) + plain(flat(ours.flush()))
    expected = rows_in_order(updates, period, take, 5 * period // 2)
    assert rows == plain(Row(0, tick, values, False) for tick, values in expected)
    assert counted(ours, "late", "wild") == (0, 0)


# Bounds


def test_a_long_hold_comes_in_blocks():
    rows = assembler(3, period=1, hold_ns=100_000)
    rows.stream("a")
    blocks = list(rows.take([0, 0], [0, 0], [1, 90_001], [1.0, 2.0]))
    assert max(len(block.tick) for block in blocks) <= 4096
    assert np.array_equal(np.concatenate([block.tick for block in blocks]), np.arange(1, 90_001))


def test_a_hundred_thousand_streams_do_not_find_room():
    rows = assembler(capacity=10)
    indices = [rows.stream(f"s{number}") for number in range(100_000)]
    assert indices == [*range(10), *[-1] * 99_990]
    give(rows, [(index, 0, 5, 1.0) for index in indices])
    assert counted(rows, "unplaced") == 99_990
    assert len(rows.names) == len(rows.how) == 10


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"period": 0}, "period"),
        ({"period": LONGEST + 1}, "period"),
        ({"take": "median"}, "last, mean, min, max"),
        ({"hold_ns": -1}, "hold"),
        ({"hold_ns": 1_000_001}, "100000 periods"),
        ({"lateness_ns": 10_001}, "1000 periods"),
        ({"period": LONGEST // 2, "lateness_ns": LONGEST + 1}, "18 years"),
        ({"channels": 0}, "channel"),
        ({"capacity": 0}, "stream"),
    ],
)
def test_settings_that_cannot_be(settings_, words):
    with pytest.raises(ValueError, match=words):
        assembler(**settings_)


def test_updates_may_lie_in_memory_that_is_not_ours():
    rows = assembler()
    rows.stream("a")
    said_twice = np.array([0, 1, 5, 0, 0, 0, 15, 1])
    said_twice.flags.writeable = False
    zeros, ts, value = (said_twice[at::4] for at in (0, 2, 3))
    assert plain(flat(rows.take(zeros, zeros, ts, value))) == [(1, (0.0,))]
    assert len(take_updates.signatures) == 1


def test_updates_that_do_not_fit_together():
    rows = assembler()
    with pytest.raises(ValueError, match="each"):
        rows.take([0], [0, 0], [1, 2], [1.0, 2.0])
    with pytest.raises(ValueError, match="monotonic"):
        rows.release(-1)
