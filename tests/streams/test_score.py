"""The anomaly score: against its plain form, and the laws it must keep."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plain_score
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.affine import packed_halves
from streamrnn.streams import score, score_part
from streamrnn.streams.rarity import HIGHEST, WORK, first_levels
from streamrnn.streams.score import event_after, keep, update
from streamrnn.streams.score_part import score_words
from streamrnn.train.judge.calibration import TAUGHT, calibrate, event_rows, score_residuals

NOISES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "laplace": lambda rng, size: rng.laplace(size=size),
    "student": lambda rng, size: rng.standard_t(3, size=size),
}


class Net(NamedTuple):
    """What the score reads of a network."""

    outputs: int
    out_width: int
    score_width: int
    out_scale: np.ndarray
    run_scale: np.ndarray
    switches: np.ndarray


def net_of(
    outputs: int,
    usual: Sequence[int] = (),
    unit: Sequence[float] | float = 1.0,
    switches: Sequence[bool] = (),
) -> Net:
    """One of up to 16 outputs, each in its ``unit``, with the longest usual runs of them, 0 = any."""
    out_scale, run_scale, of_switches = np.zeros((3, 16), np.float32)
    of_switches[: len(switches)] = switches
    out_scale[:outputs] = 1 / np.array(unit)
    run_scale[: len(usual)] = [1 / run if run else 0 for run in usual]
    return Net(outputs, 16, packed_halves(outputs), out_scale, run_scale, of_switches)


@compiled
def _step(net, first, state, old, new, values, row_at, forecast_at, work):
    return update(net, first, state, old, new, values, row_at, forecast_at, work)


def step(*arguments):
    return _step(*arguments, np.zeros(WORK, np.float32))


@compiled
def hold(net, state, old, new, continues):
    keep(net, state, old, new, continues)


@compiled
def share(net, part, found):
    score.share_out(net, part, 0, found, 0)


def noise(kind: str, rows: int, channels: int, seed: int = 0) -> np.ndarray:
    """Channels of different sizes that share some of their noise, (rows, channels) float32."""
    rng = np.random.default_rng(seed)
    own = NOISES[kind](rng, (rows, channels)) * np.geomspace(0.02, 1, channels)
    return (own + 0.01 * rng.normal(size=(rows, 1))).astype(np.float32)


def shares_of(part: np.ndarray, outputs: int) -> np.ndarray:
    found = np.zeros(outputs, np.float32)
    share(net_of(outputs), part, found)
    return found


def scores_of(residuals: np.ndarray, switches: Sequence[bool] = ()) -> np.ndarray:
    levels = first_levels(residuals.shape[1], switches=sum(switches))
    return score_residuals(residuals, levels, switches)[0]


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("channels", [1, 5, 20])
def test_it_is_what_its_plain_form_says(kind, channels):
    residuals = noise(kind, 1500, channels)
    residuals[np.random.default_rng(1).random(residuals.shape) < 0.05] = np.nan
    residuals[700] = np.nan
    residuals[900:1000] += 0.2
    found = scores_of(residuals)
    stream = plain_score.Stream(channels)
    expected = np.array([stream.step(row) for row in residuals.astype(float).tolist()])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    # float32 against float64: a level that a row just reaches or just does not moves by another step
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert np.nanmax(found) > 3


def switching(rows: int, each: int, seed: int = 0) -> np.ndarray:
    """The residuals of a switch that changes every so many rows, by chance, (rows,) float32."""
    return (np.random.default_rng(seed).random(rows) < 1 / each).astype(np.float32)


def test_it_is_what_its_plain_form_says_with_switches():
    residuals, switches = noise("laplace", 2500, 4), [False, True, False, True]
    residuals[:, 1], residuals[:, 3] = switching(2500, 50), 0
    residuals[1200:1203, 3], residuals[1500:1600, 1], residuals[2000:2100, 0] = 5, 1, 3
    found = scores_of(residuals, switches)
    stream = plain_score.Stream(4, switches=switches)
    expected = np.array([stream.step(row) for row in residuals.astype(float).tolist()])
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert min(found[1200:1230].max(), found[1500:1600].max(), found[2000:2100].max()) > 2


def test_what_always_stood_still_and_changes_is_seen_at_once():
    residuals = np.column_stack([noise("normal", 4000, 3), np.zeros(4000, np.float32)])
    residuals[3000, 3] = 0.5
    found = scores_of(residuals, [False, False, False, True])
    assert found[:3000][100:].max() < 3 < found[3000]
    levels = first_levels(4, switches=1)
    part = score_residuals(residuals[:3001], levels, [False, False, False, True])[1]
    shares = np.zeros(4, np.float32)
    share(net_of(4, switches=[False, False, False, True]), part, shares)
    np.testing.assert_array_equal(shares, [0, 0, 0, 1])


def test_a_switch_does_not_hide_what_becomes_of_the_others():
    """Its rare changes are far beyond its spread; among them one row of another would count for nothing."""
    residuals = np.column_stack([noise("normal", 6000, 3), switching(6000, 100)])
    residuals[5000, 1] = 30 * residuals[:5000, 1].std()
    by_itself, among = scores_of(residuals, [False] * 3 + [True]), scores_of(residuals)
    assert by_itself[5000] > 3 > among[5000]
    assert by_itself[1000:5000].max() < 4


@pytest.mark.parametrize(("factor", "least"), [(3, 3), (0.1, 2)])
def test_residuals_that_grow_or_shrink_are_seen(factor, least):
    residuals = noise("normal", 6000, 3)
    residuals[5000:5200, 1] *= factor
    found, part = score_residuals(residuals[:5200], first_levels(3))
    assert found[5060:5090].min() > least > found[4500:5000].max()
    assert shares_of(part, 3)[1] > 0.9


def test_one_wild_value_does_not_blind_the_score():
    residuals = noise("normal", 6000, 3)
    residuals[5000, 1] = 1e6
    residuals[5500:5600, 1] += 2 * residuals[:5000, 1].std()
    found = scores_of(residuals)
    assert found[5000] > 5 > 3 > found[5001:5500].max()
    assert found[5540:5600].min() > 3


def test_no_score_while_warming():
    found = scores_of(noise("normal", 300, 3))
    assert np.isnan(found[: score_part.WARMING_ROWS]).all()
    assert np.isfinite(found[score_part.WARMING_ROWS :]).all()


@pytest.mark.parametrize(("kind", "channels"), [("normal", 1), ("normal", 8), ("laplace", 8), ("student", 2)])
def test_the_share_of_rows_is_what_the_score_says(kind, channels):
    found = scores_of(noise(kind, 400_000, channels))[2000:]
    for says in (1, 2, 3):
        assert 0.5 < np.mean(found >= says) * 10**says < 2
    assert np.mean(found >= 4) < 4e-4  # some 40 rows, in a few stretches


@pytest.mark.parametrize(("kind", "channels"), [("normal", 1), ("normal", 8), ("laplace", 8)])
def test_the_share_of_rows_is_what_the_score_says_in_new_streams(kind, channels):
    found = np.stack([scores_of(noise(kind, 2000, channels, seed)) for seed in range(400)])
    for begin, end in ((500, 1000), (1000, 2000)):
        rows = found[:, begin:end]
        for says in (2, 3):
            assert np.mean(rows >= says) * 10**says < 2
        assert np.mean(rows >= 2) > 0.005
        assert np.mean(rows >= 4) < 4e-4


def test_a_changing_scale_is_followed():
    residuals = noise("laplace", 300_000, 4) * np.geomspace(1, 30, 300_000, dtype=np.float32)[:, None]
    found = scores_of(residuals)[2000:]
    for says in (1, 2, 3):
        assert 0.5 < np.mean(found >= says) * 10**says < 2


def test_a_fault_that_lasts_stays_visible_and_is_not_learned():
    residuals = noise("normal", 4500, 4)
    residuals[3000:3400, 2] += 1.5 * residuals[:3000, 2].std()
    found, part = score_residuals(residuals, first_levels(4))
    assert found[3030:3400].min() > 3
    assert found[3600:].max() < 3
    clean = score_residuals(noise("normal", 3000, 4), first_levels(4))[1]
    spread = score_part.SCALARS + score_part.SPREAD * 16
    assert part[spread + 2] < 2 * clean[spread + 2]


def test_the_channels_at_fault_can_be_read():
    residuals = noise("normal", 3100, 6)
    residuals[3000:, 4] += 1.5 * residuals[:3000, 4].std()
    _, part = score_residuals(residuals, first_levels(6))
    found = shares_of(part, 6)
    assert found.sum() == pytest.approx(1)
    assert found[4] > 0.95
    residuals = noise("normal", 3000, 6)
    residuals[-1, 1] += 50 * residuals[:, 1].std()
    _, part = score_residuals(residuals, first_levels(6))
    assert shares_of(part, 6)[1] > 0.95
    assert (shares_of(np.zeros(score_words(6), np.float32), 6) == 0).all()


def test_one_row_that_stands_out_is_seen_at_once():
    residuals = noise("normal", 20_000, 3)
    residuals[-1, 0] += 40 * residuals[:, 0].std()
    assert scores_of(residuals)[-1] > 3


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_it_stays_finite_whatever_comes(data):
    channels = data.draw(st.integers(1, 18))
    numbers = st.floats(width=32, allow_infinity=False)
    rows = data.draw(
        st.lists(st.lists(numbers, min_size=channels, max_size=channels), min_size=1, max_size=8)
    )
    residuals = np.tile(np.array(rows, np.float32), (100, 1))
    found, part = score_residuals(residuals, first_levels(channels))
    assert np.isfinite(part).all()
    known = found[~np.isnan(found)]
    assert ((known >= 0) & (known <= HIGHEST)).all()


def test_a_copy_of_the_record_goes_on_as_the_stream_does():
    residuals = noise("student", 900, 5)
    whole, last = score_residuals(residuals, first_levels(5))
    net = net_of(5)
    words = score_words(5)
    state = np.zeros(2 * words + 16, np.float32)
    state[:words] = score_residuals(residuals[:600], first_levels(5))[1]
    values = np.zeros((900, 16), np.float32)
    values[:, :5] = residuals
    found = []
    for row in range(600, 900):
        found.append(step(net, first_levels(5), state, 0, words, values.ravel(), row * 16, 2 * words))
        state[:words] = state[words : 2 * words].copy()
    assert np.array(found, np.float32).tobytes() == whole[600:].tobytes()
    assert state[:words].tobytes() == last.tobytes()


def test_residuals_are_of_values_against_forecasts_in_units_of_the_model():
    net = net_of(2, unit=[2, 0.25])
    words = score_words(2)
    state = np.zeros(2 * words + 16, np.float32)
    state[2 * words : 2 * words + 2] = 10, 20
    values = np.zeros(16, np.float32)
    values[:3] = 14, 19, 7  # a channel more than outputs
    step(net, first_levels(2), state, 0, words, values, 0, 2 * words)
    vectors = state[words + score_part.SCALARS :][: score_part.VECTORS * net.score_width]
    vectors = vectors.reshape(score_part.VECTORS, net.score_width)
    np.testing.assert_array_equal(vectors[score_part.MEAN, :3], [2, -4, 0])
    np.testing.assert_array_equal(vectors[score_part.COUNT, :3], [1, 1, 0])


def test_a_sequence_that_begins_keeps_what_was_learned():
    net, words = net_of(3), score_words(3)
    part = score_residuals(noise("normal", 800, 3), first_levels(3))[1]
    state = np.concatenate([part, np.zeros(words, np.float32)])
    hold(net, state, 0, words, True)
    assert state[words:].tobytes() == part.tobytes()
    hold(net, state, 0, words, False)
    for begun in (score_part.WEIGHTED, score_part.RUN, score_part.LATEST):
        at = score_part.SCALARS + begun * 8
        assert part[at : at + 3].all()
        assert (state[words + at : words + at + 8] == 0).all()
        state[words + at : words + at + 8] = part[at : at + 8]
    assert state[words:].tobytes() == part.tobytes()


def test_an_event_begins_once_and_ends_after_a_calm():
    calm = [1.0] * score_part.QUIET
    scores = np.array([1, 3, 4, 1, 3, np.nan, 2, *calm, 2.9, 3, *calm[1:], 2.9, *calm, 3], np.float32)
    found = event_rows(scores, 3.0)
    begins = (found > 0) & (np.concatenate([[0], found[:-1]]) == 0)
    assert np.flatnonzero(begins).tolist() == [1, 8 + len(calm), len(scores) - 1]
    assert found[:7].tolist() == [0, 1, 1, 2, 1, 1, 1]
    assert event_after.py_func(np.float32(0), np.float32("nan"), np.float32(3)) == 0


def test_calibration_is_what_a_stream_comes_to():
    stream = noise("laplace", 30_000, 3, 1)
    found, first = calibrate([stream, noise("normal", 80, 3)]), first_levels(3)
    assert found["rows"] == 30_000 - score_part.WARMING_ROWS
    _, part = score_residuals(stream, first)
    levels = first_levels(3, found)
    np.testing.assert_array_equal(levels[:3], part[:3])
    expected = (30_000 * part[3:12] + TAUGHT * first[3:]) / (30_000 + TAUGHT)
    np.testing.assert_allclose(levels[3:], expected, rtol=1e-6)
    assert found["threshold"] == 3
    assert found["instant"][1] < first[1]  # the tail was seen to be lighter than it might be


def test_levels_of_several_streams_are_those_of_all_their_rows():
    """However long ago the restless one was, whose rows are what one in a thousand is."""
    streams = [noise("normal", 20_000, 3, seed) for seed in range(4)]
    for begin in range(1000, 20_000, 1500):
        streams[1][begin : begin + 60] += 0.7 * streams[1].std(axis=0)
    found, turned = calibrate(streams), calibrate(streams[::-1])
    np.testing.assert_allclose(found["smoothed"], turned["smoothed"], atol=0.01)
    shares = {}
    for name, stated in (("all", found), ("last", calibrate(streams[:1]))):
        levels = first_levels(3, stated)
        scores = [score_residuals(stream, levels)[0] for stream in streams]
        shares[name] = (np.concatenate(scores) >= 3).mean()
    assert shares["all"] < 0.0015 < 0.003 < shares["last"]


def test_streams_too_short_to_learn_from_leave_the_levels_as_they_are():
    found = calibrate([noise("normal", 300, 3), noise("laplace", 80, 3)])
    np.testing.assert_array_equal(first_levels(3, found), first_levels(3))


def test_more_events_in_the_validation_part_than_chance_brings_raise_the_threshold():
    def threshold(events: int) -> float:
        streams = [noise("normal", 400, 2, seed) for seed in range(40)]  # 12 events are one in 1,000 rows
        for residuals in streams[:events]:
            residuals[300:320] += 20 * residuals.std(axis=0)
        return calibrate(streams)["threshold"]

    assert [threshold(events) for events in (0, 15, 25)] == [3, 3, 4]
