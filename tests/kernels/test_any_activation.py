"""Every activation of the table against its formula in float64, over all of float32."""

import naive
import numpy as np
import pytest

from streamrnn.compiling.jit import compiled
from streamrnn.kernels import activations
from streamrnn.kernels.any_activation import activate_any
from streamrnn.kernels.simd import LANES
from streamrnn.model.activations import ACTIVATIONS, PLAIN, find_activation

SIZES = np.geomspace(1e-45, 3.4e38, 20_000).astype(np.float32)
GRID = np.concatenate([np.linspace(-100, 100, 200_001).astype(np.float32), SIZES, -SIZES, [0.0, -0.0]])
SAID = [kind.name for kind in ACTIVATIONS if not kind.of_vectors]
SAID += ["hard_sigmoid(0.16666667, 0.5)", "leaky_relu(-0.3)", "elu(0.3)", "selu(2, 0.5)", "clip(0, 6)"]
SAID += ["scaled_tanh(1.7159, 0.66666667)", "affine(-2, 3)", "thresholded_relu(-1)", "hard_silu(1, 0)"]
VECTORS = ["softmax", "log_softmax", "layer_norm", "layer_norm(0.001)"]


@compiled
def run_any(which, alpha, beta, a, at, units):
    activate_any(which, alpha, beta, a, at, units)


def over(said: str, x: np.ndarray) -> np.ndarray:
    kind, alpha, beta = find_activation(said)
    a = np.full(16 + -(-x.size // LANES) * LANES + 16, np.nan, np.float32)
    a[16 : 16 + x.size] = x
    run_any(ACTIVATIONS.index(kind), np.float32(alpha), np.float32(beta), a, 16, x.size)
    assert np.isnan(a[:16]).all() and np.isnan(a[-16:]).all()
    return a[16:-16]


def test_the_common_ones_have_the_codes_of_dense_layers():
    assert tuple(kind.name for kind in ACTIVATIONS[: len(PLAIN)]) == PLAIN
    assert PLAIN.index("sigmoid") == activations.SIGMOID and PLAIN.index("relu") == activations.RELU


@pytest.mark.parametrize("said", SAID)
def test_of_single_values(said):
    """Within a few last bits of what the formula gives, or of what is added up in it."""
    kind, alpha, beta = find_activation(said)
    with np.errstate(over="ignore"):
        expected = naive.activate(said, GRID.astype(np.float64))
    found = over(said, GRID)[: GRID.size].astype(np.float64)
    terms = (
        abs(alpha) * np.abs(GRID) + abs(beta) if kind.name in ("affine", "hard_sigmoid", "hard_silu") else 0
    )
    if kind.name in ("sigmoid", "hard_sigmoid"):  # of all that they can be
        terms = 1
    if kind.name == "hard_silu":  # where it is within its bounds
        terms = np.where(expected == 0, 0, np.abs(GRID) * np.minimum(terms, 1))
    bits = 1e-5 if kind.name == "gelu_tanh" else 6e-7  # whose exponent, of up to 87, is rounded
    within = bits * np.maximum(np.abs(expected), terms) + 1e-35
    finite = np.abs(expected) < 3.4e38
    assert (np.abs(found - expected)[finite] <= within[finite]).all()
    assert (np.sign(found) == np.sign(expected))[~finite].all()
    low, high = (np.float32(limit(alpha, beta)) for limit in (kind.low, kind.high))
    assert (found >= low).all() and (found <= high).all()
    assert np.isnan(over(said, np.array([np.nan, -np.nan], np.float32))[:2]).all()


@pytest.mark.parametrize("said", VECTORS)
@pytest.mark.parametrize("units", [1, 2, 15, 16, 17, 100, 5000])
def test_of_vectors(said, units):
    """Of the true units alone, whatever stands in the lanes behind them; those are left at 0."""
    rng = np.random.default_rng(units)
    for spread in (1e-30, 0.1, 1, 10, 1000, 1e15):
        x = rng.normal(rng.normal(0, spread), spread, units).astype(np.float32)
        found = over(said, x)
        expected = naive.activate(said, x.astype(np.float64))
        largest = np.abs(x).max() if said != "softmax" else 1
        if said.startswith("layer_norm"):  # what is lost where a mean is taken off
            largest = 5 * largest / np.sqrt(x.astype(float).var() + find_activation(said).alpha)
        bound = 5e-7 * np.maximum(np.abs(expected), largest) + 1e-35
        assert (np.abs(found[:units] - expected) <= bound).all()
        assert not found[units:].any()
    if said == "softmax":
        assert found[:units].sum() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("units", [3, 16, 40])
@pytest.mark.parametrize(("mean", "deviation"), [(5, 1e-3), (100, 0.01), (0, 1e25), (3e38, 1e37), (1, 1e30)])
def test_a_layer_norm_of_odd_sizes(units, mean, deviation):
    """Far from zero, where a mean is rounded by as much as deviations are, and near the end of float32."""
    x = np.random.default_rng(units).normal(mean, deviation, units).clip(-3.4e38, 3.4e38).astype(np.float32)
    expected = naive.activate("layer_norm", x.astype(np.float64))
    np.testing.assert_allclose(over("layer_norm", x)[:units], expected, atol=2e-6)


@pytest.mark.parametrize("said", VECTORS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_hidden(said, value):
    for place in (0, 3, 18):
        x = np.ones(20, np.float32)
        x[place] = value
        assert not np.isfinite(over(said, x)[:20]).all()
