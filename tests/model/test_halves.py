"""Weights of sixteen bits, two in a word."""

import numpy as np
import pytest
from models import untrained

from streamrnn.engine.engine import Engine
from streamrnn.model.halves import round_in_twos, words_of
from streamrnn.model.model import Model, random_model
from streamrnn.settings.sections import Faults

# cell, its units and channels: a matrix that goes in words and one that does not, an odd column, an odd group
SIZES = [
    ("lstm", 8, 3),
    ("lstm", 64, 16),
    ("lstm", 80, 7),
    ("gru", 96, 16),
    ("gru", 112, 5),
    ("rnn", 256, 16),
    ("rnn", 128, 16),
    ("slstm", 64, 7),
]


def some_matrix(rows: int, columns: int) -> np.ndarray:
    """Of very different sizes, some of them zeros, negative ones, too."""
    rng = np.random.default_rng(columns)
    matrix = rng.normal(size=(rows, columns)) * np.exp(rng.normal(0, 10, (rows, columns)))
    matrix[rng.random(matrix.shape) < 0.2] = 0
    return matrix.astype(np.float32)


@pytest.mark.parametrize("columns", [1, 2, 5, 40])
def test_a_weight_moves_by_half_a_step_of_bfloat16_at_most(columns):
    matrix = some_matrix(200, columns)
    rounded = round_in_twos(matrix)
    assert (np.abs(rounded - matrix) <= np.maximum(2.0**-8 * np.abs(matrix), 2e-38)).all()
    assert not (rounded.view(np.uint32)[:, ::2] & 0xFFFF).any()
    np.testing.assert_array_equal(round_in_twos(rounded), rounded)
    assert not (round_in_twos(np.zeros((3, columns), np.float32))).any()


@pytest.mark.parametrize("columns", [1, 2, 5, 40])
def test_a_word_is_two_weights(columns):
    rounded = round_in_twos(some_matrix(200, columns))
    words = words_of(rounded)
    assert words.shape == (200, (columns + 1) // 2)
    np.testing.assert_array_equal((words << 16).view(np.float32), rounded[:, ::2])
    np.testing.assert_array_equal(words.view(np.float32)[:, : columns // 2], rounded[:, 1::2])


def test_what_is_nearly_too_large_for_a_float32_stays_finite():
    largest = np.finfo(np.float32).max
    rounded = round_in_twos(np.array([[largest, -largest, -largest, largest]], np.float32))
    assert np.isfinite(rounded).all()
    np.testing.assert_allclose(rounded, [[largest, -largest, -largest, largest]], rtol=2.0**-7)


def several(model: Model, streams: int, rows: np.ndarray) -> np.ndarray:
    """What is said of the same rows for each of some streams, (rows, streams, outputs)."""
    stream = np.tile(np.arange(streams), len(rows))
    engine = Engine(model, streams, Faults())
    said = engine.feed([f"s{k}" for k in range(streams)], stream, np.repeat(rows, streams, axis=0))
    return said.values.reshape(len(rows), streams, -1)


@pytest.mark.parametrize(("cell", "hidden", "channels"), SIZES)
def test_one_stream_and_many_run_the_rounded_weights_to_the_last_bit(cell, hidden, channels):
    model = random_model(cell, channels, hidden, weights="bfloat16")
    rows = np.random.default_rng(hidden).normal(size=(40, channels)).astype(np.float32)
    expected = several(model.as_run(), 1, rows)
    np.testing.assert_array_equal(several(model, 1, rows), expected)
    np.testing.assert_array_equal(several(model, 7, rows), expected.repeat(7, axis=1))
    assert (several(model, 1, rows) != several(random_model(cell, channels, hidden), 1, rows)).any()


def test_only_recurrent_weights_are_rounded():
    more = {"before": [{"units": 5, "activation": "tanh"}], "highway": 3, "layers": 2}
    model = untrained("lstm", weights="bfloat16", **more)
    run = model.as_run()
    assert run.weights == "float32" and run.as_run() is run
    tensors = run.tensors()
    for name, array in model.tensors().items():
        rounded = name.startswith(("weight_ih", "weight_hh"))
        assert np.array_equal(array, tensors[name]) != rounded


def test_both_networks_of_an_encoder_decoder_are_rounded():
    outputs = {"outputs": [{"name": "y"}], "target": "value"}
    model = random_model(relation="encoder-decoder", horizon=3, weights="bfloat16", **outputs)
    run = model.as_run()
    for layer, rounded in zip(model.layers + model.decoder, run.layers + run.decoder, strict=True):
        assert (layer.weight_ih != rounded.weight_ih).any()
        assert (layer.weight_hh != rounded.weight_hh).any()
