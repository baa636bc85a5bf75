"""Sequences in lanes, and the rows before each step."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamrnn.train.data.dataset import Scaling, Sequence
from streamrnn.train.data.lanes import Chunk, Lanes, history

NAN = float("nan")


def numbered(lengths: list[int], known: np.ndarray | None = None) -> list[Sequence]:
    """Sequences of 2 channels, the first of which numbers all rows from 1, and 1 output, its tenfold."""
    numbers = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    targets = 10 * numbers if known is None else np.where(known, 10 * numbers, NAN).astype(np.float32)
    edges = np.cumsum([0, *lengths])
    return [
        Sequence("s", np.column_stack([numbers, -numbers])[begin:end], targets[begin:end, None])
        for begin, end in pairwise(edges)
    ]


def whole(lanes: Lanes) -> Chunk:
    return lanes.chunk(0, lanes.steps)


PLAIN = Scaling(*(np.array(values, np.float32) for values in ([0, 0], [1, 1], [0], [1])))
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@given(LENGTHS, st.integers(1, 6), st.integers(0, 60), st.data())
def test_lanes_hold_every_row_once_and_join_no_sequences(lengths, batch, offset, choice):
    rows = sum(lengths)
    offset = min(offset, rows)
    known = np.array(choice.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    x, y, weight, begins = whole(Lanes(numbered(lengths, known), PLAIN, batch, offset))
    assert x.shape == (-(-rows // batch), batch, 2) and x.size // 2 - rows < batch
    assert all(array.flags.c_contiguous for array in (x, y, weight, begins))
    assert (x.dtype, y.dtype, weight.dtype, begins.dtype) == (np.float32,) * 3 + (np.uint8,)
    number = x[..., 0]
    assert sorted(number[number > 0]) == list(range(1, rows + 1))
    np.testing.assert_array_equal(x[..., 1], -number)
    there = (number > 0) & known[number.astype(int) - 1]
    np.testing.assert_array_equal(weight[..., 0], there)
    np.testing.assert_array_equal(y[..., 0], np.where(there, 10 * number, 0))
    starts = {1 + int(edge) for edge in np.cumsum([0, *lengths])}
    for lane in range(batch):
        for step in range(len(x)):
            value = number[step, lane]
            goes_on = step > 0 and value == number[step - 1, lane] + 1 and value not in starts
            assert begins[step, lane] == (value > 0 and not goes_on)


@given(LENGTHS, st.integers(1, 6), st.integers(0, 60), st.integers(0, 7), st.integers(1, 9))
def test_lanes_with_a_run_up_weigh_every_row_once_and_come_in_chunks(lengths, batch, offset, overlap, length):
    sequences = numbered(lengths)
    packed = Lanes(sequences, PLAIN, batch, min(offset, sum(lengths)), overlap)
    every = whole(packed)
    weighed = every.x[..., 0][every.weight[..., 0] > 0]
    assert sorted(weighed) == list(range(1, sum(lengths) + 1))
    sequence_of = np.repeat(np.arange(len(lengths)), lengths)
    row_of = np.concatenate([np.arange(length) for length in lengths])
    for lane in range(batch):
        number = every.x[:, lane, 0].astype(int) - 1
        for step in np.flatnonzero(every.begins[:, lane]):
            silent = 0
            while every.weight[step + silent, lane, 0] == 0:
                silent += 1
            aimed = number[step + silent]
            assert sequence_of[number[step]] == sequence_of[aimed]
            assert silent == (min(overlap, row_of[aimed]) if step == 0 else 0)
    chunks = [packed.chunk(begin, begin + length) for begin in range(0, packed.steps, length)]
    for joined, expected in zip(zip(*chunks, strict=True), every, strict=True):
        np.testing.assert_array_equal(np.concatenate(joined), expected)


def test_lanes_are_in_standard_deviations():
    scaling = Scaling(*(np.array(values, np.float32) for values in ([1, 0], [2, 4], [10], [5])))
    x, y, weight, begins = whole(Lanes(numbered([3]), scaling, 1))
    np.testing.assert_array_equal(x[:, 0], [[0, -0.25], [0.5, -0.5], [1, -0.75]])
    assert (y[:, 0, 0].tolist(), weight[:, 0, 0].tolist(), begins[:, 0].tolist()) == (
        [0, 2, 4],
        [1] * 3,
        [1, 0, 0],
    )


def plain_history(x: np.ndarray, begins: np.ndarray, frames: int) -> np.ndarray:
    seen = np.zeros((*x.shape[:2], frames, x.shape[2]), np.float32)
    for lane in range(x.shape[1]):
        first = 0
        for step in range(x.shape[0]):
            first = step if begins[step, lane] else first
            for lag in range(frames):
                seen[step, lane, lag] = x[max(step - lag, first), lane]
    return seen.reshape(*x.shape[:2], -1)


@given(
    st.integers(1, 12), st.integers(1, 3), st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**32 - 1)
)
def test_history_equals_a_plain_loop_whole_and_in_chunks(steps, batch, frames, length, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, batch, 2)).astype(np.float32)
    begins = (rng.random((steps, batch)) < rng.choice([0, 0.2, 0.8])).astype(np.uint8)
    expected = plain_history(x, begins, frames)
    whole, _ = history(x, begins, frames)
    assert whole.dtype == np.float32 and whole.flags.c_contiguous
    np.testing.assert_array_equal(whole, expected)
    carry, pieces = None, []
    for begin in range(0, steps, length):
        piece, carry = history(x[begin : begin + length], begins[begin : begin + length], frames, carry)
        pieces.append(piece)
    np.testing.assert_array_equal(np.concatenate(pieces), expected)


@given(LENGTHS, st.integers(1, 6), st.data())
def test_whole_sequences_are_dealt_out_evenly(lengths, batch, choice):
    order = np.array(choice.draw(st.permutations(range(len(lengths)))))
    x, _, weight, begins = whole(Lanes(numbered(lengths), PLAIN, batch, order=order))
    assert len(x) <= sum(lengths) / batch + max(lengths)
    number, edges = x[..., 0], np.cumsum([0, *lengths])
    found = []
    for lane in range(batch):
        starts = np.flatnonzero(begins[:, lane])
        for start in starts:
            sequence = int(np.searchsorted(edges, number[start, lane] - 1))
            rows = number[start : start + lengths[sequence], lane]
            np.testing.assert_array_equal(rows, np.arange(edges[sequence], edges[sequence + 1]) + 1)
            found.append(sequence)
    assert sorted(found) == list(range(len(lengths)))
    np.testing.assert_array_equal(weight[..., 0], number > 0)


def test_the_weights_of_rows_are_those_of_their_targets():
    sequence = numbered([3], np.array([True, True, False]))[0]
    weighed = sequence._replace(weights=np.array([0, 0.5, 1], np.float32))
    _, y, weight, _ = whole(Lanes([weighed], PLAIN, 1))
    assert (y.ravel().tolist(), weight.ravel().tolist()) == ([0, 20, 0], [0, 0.5, 0])
