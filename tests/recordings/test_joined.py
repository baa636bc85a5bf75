"""Channels of several rates as rows of the fastest, against plain Python."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings.plain_join import PlainChannel, plain_join

from streamrnn.recordings.recording import ChannelGroup, Samples
from streamrnn.table import joined as module
from streamrnn.table.chosen_groups import rate_of
from streamrnn.table.in_time import GroupAhead
from streamrnn.table.joined import Joined

NAN = float("nan")


def pieces(ticks: np.ndarray, values: np.ndarray, size: int) -> Iterator[Samples]:
    for begin in range(0, len(ticks), size):
        yield Samples(ticks[begin : begin + size], values[begin : begin + size])


def join(
    groups: Sequence[tuple[np.ndarray, np.ndarray]], size: int = 10**9, period: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The times and the values of the rows of groups of (n,) ticks and (n, W) values."""
    ahead = [GroupAhead(pieces(*group, size), group[1].shape[1], print) for group in groups]
    rates: list[Any] = [rate_of(ChannelGroup("", ()), ticks) for ticks, _ in groups]
    widths = np.cumsum([0, *(values.shape[1] for _, values in groups)])
    columns = [list(range(*ends)) for ends in pairwise(widths.tolist())]
    rows = list(Joined(ahead, rates, columns, period or min(rate.period_ns for rate in rates)))
    if not rows:
        return np.zeros(0, np.int64), np.zeros((0, widths[-1]))
    return np.concatenate([some.ticks for some in rows]), np.concatenate([some.values for some in rows])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_rows_are_those_of_plain_python(data):
    """Even clocks of three rates that start anywhere, with gaps and invalid samples, in any pieces."""
    period = data.draw(st.sampled_from([1, 7, 10, 1000]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    groups, channels = [], []
    for k, ratio in enumerate((1, data.draw(st.integers(2, 9)), data.draw(st.integers(2, 40)))):
        count = data.draw(st.integers(20, 60)) if k == 0 else data.draw(st.integers(3, 20))
        ticks = np.arange(count) * period * ratio
        if k:
            ticks += data.draw(st.integers(-30, 30)) * period + data.draw(st.integers(0, period - 1))
        keep = np.ones(count, bool)
        if count > 10 and data.draw(st.booleans()):  # a gap
            begin = data.draw(st.integers(8, count - 1))
            keep[begin : begin + data.draw(st.integers(2, 5))] = False
        values = rng.normal(size=(count, 2))
        values[rng.random((count, 2)) < 0.1] = NAN
        groups.append((ticks[keep], values[keep]))
        stands = 0 if k == 0 else period * ratio
        channels += [PlainChannel(ticks[keep].tolist(), values[keep, c].tolist(), stands) for c in (0, 1)]
    ticks, values = join(groups, data.draw(st.sampled_from([1, 3, 8, 10**9])))
    assert ticks.tolist() == groups[0][0].tolist()
    np.testing.assert_array_equal(values, plain_join(ticks.tolist(), channels))


def test_a_rate_that_is_no_whole_number_of_ns_loses_no_row():
    third = np.round(np.arange(30_000) * 1e9 / 3).astype(np.int64)
    slow = np.arange(10_000) * 10**9
    ticks, values = join([(third, np.arange(30_000.0)[:, None]), (slow, np.arange(10_000.0)[:, None])], 1000)
    assert ticks.tolist() == third.tolist()
    np.testing.assert_array_equal(values, np.stack([np.arange(30_000), np.arange(30_000) // 3], axis=1))


def test_the_rows_of_odd_times_are_the_samples_of_the_fastest():
    rng = np.random.default_rng(0)
    fast = np.cumsum(rng.integers(8, 13, 500))
    slow = np.cumsum(rng.integers(95, 106, 50))
    ticks, values = join([(fast, fast[:, None] * 1.0), (slow, slow[:, None] * 1.0)])
    assert ticks.tolist() == fast.tolist() == values[:, 0].tolist()
    newest = np.searchsorted(slow, fast, "right") - 1
    stands = (newest >= 0) & (fast <= slow[-1] + 140)
    np.testing.assert_array_equal(values[stands, 1], slow[newest[stands]])
    assert np.isnan(values[fast < slow[0], 1]).all()


def test_groups_of_one_rate_make_rows_where_either_has_samples():
    one, other = np.r_[0:50, 80:100] * 10, np.arange(30, 120) * 10
    ticks, values = join([(one, one[:, None] * 1.0), (other, other[:, None] * 1.0)], 7)
    assert ticks.tolist() == (np.arange(120) * 10).tolist()
    np.testing.assert_array_equal(values[:, 0], np.where(np.isin(ticks, one), ticks, NAN))
    late = values[:, 1]
    assert np.isnan(late[:30]).all() and (late[30:] == ticks[30:]).all()


def test_nothing_is_held_over_a_long_gap_and_none_of_it_becomes_rows():
    fast = np.r_[0:1000, 10**7 : 10**7 + 1000] * 10
    slow = np.r_[0:100, 10**6 : 10**6 + 100] * 100
    ticks, values = join([(fast, fast[:, None] * 1.0), (slow, slow[:, None] * 1.0)], 300)
    assert ticks.tolist() == fast.tolist()
    assert (values[:, 1] == fast // 100 * 100).all()


def test_invalid_and_infinite_samples_stand_for_themselves():
    fast, slow = np.arange(40) * 10, np.arange(4) * 100
    values = np.array([[1.0], [NAN], [np.inf], [-np.inf]])
    _, rows = join([(fast, np.ones((40, 1))), (slow, values)])
    with np.errstate(over="ignore"):
        single = rows[:, 1].astype(np.float32)
    np.testing.assert_array_equal(single[::10], values[:, 0])
    assert module.INVALID not in rows


def test_times_that_run_back_are_left_out_and_counted():
    group = GroupAhead(pieces(np.array([0, 10, 5, 20, 15, 30]), np.ones((6, 1)), 3), 1, print)
    while not group.ended:
        group.more()
    assert (group.ticks.tolist(), group.back) == ([0, 10, 20, 30], 2)


@pytest.mark.parametrize(
    ("steps", "even", "regular"), [([1000] * 9, True, True), ([900, 1100, 1000, 3000, 1000], False, True)]
)
def test_rates(steps, even, regular):
    rate = rate_of(ChannelGroup("", ()), np.cumsum([5, *steps]))
    assert rate is not None
    assert (rate.period_ns, rate.even, rate.regular, rate.exact) == (1000, even, regular, even)
    assert rate.hold_ns == (1000 if even else 1500)
    assert rate_of(ChannelGroup("", ()), np.array([3])) is None
    assert rate_of(ChannelGroup("", ()), np.array([3, 3])) is None
