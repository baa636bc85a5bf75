"""The correction of forecasts: against formulas in float64, and what must hold whatever comes in."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding
import numpy as np
import plain_rls
import pytest

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.network import aligned
from streamrnn.kernels.packing import make_scratch, pack_network
from streamrnn.kernels.rls import LIMIT, NOTHING, PROVES, RIDGE, TEACHES, adapt, make_adaptation
from streamrnn.model.model import random_model

MEMORY = 500
SIZES = [(1, 1), (3, 3), (8, 8), (17, 17), (17, 16), (5, 2)]  # inputs, outputs


@compiled
def run_adapt(net, rls, scratch, state, first, rows, forecasts, shows, corrected):
    """Rows through blocks 0 and 1 of ``state`` by turns, beginning with ``first``; behind them is the row."""
    for t in range(rows.shape[0]):
        for channel in range(net.inputs):
            state[2 * rls.words + channel] = rows[t, channel]
        for output in range(net.outputs):
            scratch.gates[output] = forecasts[t, output]
        old, new = (first + t & 1) * rls.words, (first + t + 1 & 1) * rls.words
        adapt(net, rls, scratch, 0, state, old, new, 2 * rls.words, shows[t])
        for output in range(net.outputs):
            corrected[t, output] = scratch.gates[output]


class Stream:
    """The blocks of one stream; rows in physical units, forecasts standardised."""

    def __init__(self, inputs: int, outputs: int, memory: int = MEMORY, **scaling: Any):
        named = [{"name": f"c{k}"} for k in range(outputs)]
        model = random_model("rnn", inputs, 3)
        tensors = {
            name: tensor[:outputs] if "head" in name else tensor for name, tensor in model.tensors().items()
        }
        settings = model.settings() | {"outputs": named, "target": "value", "ahead": 1}
        if scaling:
            tensors |= {"input.mean": scaling["mean"], "input.std": scaling["std"]}
            tensors |= {"output.mean": scaling["mean"][:outputs], "output.std": scaling["std"][:outputs]}
            settings["normalisation"] = "standard"
        self.net = pack_network(type(model).from_tensors(settings, tensors))
        self.rls = make_adaptation(self.net, memory)
        self.state = aligned(2 * self.rls.words + self.net.in_width)
        self.taken = 0

    def feed(self, rows: np.ndarray, forecasts: np.ndarray, shows: Any = TEACHES) -> np.ndarray:
        """The corrected forecast of each row, (n, outputs)."""
        corrected = np.zeros((len(rows), self.net.outputs), np.float32)
        flags = np.ascontiguousarray(np.broadcast_to(np.uint8(shows), len(rows)))
        scratch = make_scratch(self.net)
        scratch.gates[:] = 0
        arguments = np.float32(rows), np.float32(forecasts), flags, corrected
        run_adapt(self.net, self.rls, scratch, self.state, self.taken & 1, *arguments)
        self.taken += len(rows)
        return corrected

    @property
    def block(self) -> np.ndarray:
        """The words of the last row."""
        return self.state[(self.taken & 1) * self.rls.words :][: self.rls.words]

    @property
    def learned(self) -> np.ndarray:
        return self.block[self.rls.gain_at :]

    @property
    def theta(self) -> np.ndarray:
        rls = self.rls
        return self.block[rls.theta_at : rls.covariance_at].reshape(rls.features, -1)

    @property
    def covariance(self) -> np.ndarray:
        """P with the lanes past its last column, (features, width)."""
        features, at = self.rls.features, self.rls.covariance_at
        p = np.zeros((features, self.rls.width), np.float32)
        for column in range(0, features, 16):
            rows = self.block[at : at + 16 * (features - column)].reshape(-1, 16)
            p[column:, column : column + 16] = rows
            if len(rows) > 16:
                p[column : column + 16, column + 16 : features] = rows[16:].T
            at += rows.size
        assert at == self.rls.words
        return p


def autoregression(count: int, channels: int, seed: int = 0) -> np.ndarray:
    """Rows of which 0.9 times the last one is the best forecast; standardised."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, channels))
    for t in range(1, count):
        rows[t] = 0.9 * rows[t - 1] + np.sqrt(1 - 0.9**2) * rows[t]
    return rows


def mean_square(forecasts: np.ndarray, rows: np.ndarray) -> float:
    return float(np.square(forecasts[:-1] - rows[1:, : forecasts.shape[1]]).mean())


# against formulas in float64


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_kernel_and_reference_agree_over_thousands_of_rows(inputs, outputs):
    rng = np.random.default_rng(inputs)
    mean, std = rng.normal(0, 10, inputs), rng.uniform(0.5, 20, inputs)
    stream = Stream(inputs, outputs, mean=mean, std=std)
    exact = plain_rls.Adaptation(inputs, outputs, MEMORY)
    truth = autoregression(5000, inputs)
    forecasts = 0.9 * truth[:, :outputs] + 0.1 * rng.normal(size=(5000, outputs))
    rows = np.exp(np.linspace(0, 0.5, 5000))[:, None] * truth + np.linspace(0, 2, 5000)[:, None]
    shows = rng.choice([NOTHING, PROVES, TEACHES], 5000, p=[0.05, 0.05, 0.9])
    physical = (mean + std * rows).astype(np.float32)
    seen = (physical - np.float32(mean).astype(float)) / np.float32(std).astype(float)
    corrected = stream.feed(physical, forecasts, shows)
    wanted = [exact.row(*row) for row in zip(seen, np.float32(forecasts), shows, strict=True)]
    assert np.abs(corrected - wanted).max() <= 1e-3
    assert np.abs(stream.covariance[:, : len(exact.covariance)] - exact.covariance).max() <= 1e-3
    assert mean_square(corrected, rows) < 0.8 * mean_square(forecasts, rows)  # there was something to learn


# what it is worth


def test_a_sensor_that_drifts_is_forecast_as_well_as_before():
    truth = autoregression(20_000, 4)
    rng = np.random.default_rng(1)
    ramp = (
        np.clip((np.arange(20_000) - 3000) / 8000, 0, 1)[:, None] + (np.arange(20_000) > 12_000)[:, None] / 2
    )
    gain, offset = np.exp(ramp * rng.uniform(-0.5, 0.5, 4)), ramp * rng.uniform(-2, 2, 4)
    rows = gain * truth + offset
    forecasts = np.tanh(0.9 * rows)  # of a network whose units saturate
    corrected = Stream(4, 4).feed(rows, forecasts)
    best = gain * 0.9 * truth + offset
    late = slice(14_000, None)
    assert mean_square(forecasts[late], rows[late]) > 3 * mean_square(best[late], rows[late])
    assert mean_square(corrected[late], rows[late]) < 1.2 * mean_square(best[late], rows[late])


@pytest.mark.parametrize("channels", [1, 8, 20])
@pytest.mark.parametrize("memory", [100, 10_000])
def test_a_forecast_that_nothing_can_better_stays_as_good(channels, memory):
    rows = autoregression(20_000, channels)
    corrected = Stream(channels, channels, memory).feed(rows, 0.9 * rows)
    assert mean_square(corrected, rows) <= 1.01 * mean_square(0.9 * rows, rows)


# what must hold


def test_the_first_forecast_is_the_networks_own():
    rows = autoregression(1, 3)
    np.testing.assert_array_equal(Stream(3, 3).feed(rows, rows), np.float32(rows))


def test_what_is_learned_stays_where_nothing_is_to_be_learned_from():
    rows = autoregression(2000, 3)
    stream = Stream(3, 3)
    stream.feed(rows[:1000], 0.5 * rows[:1000])
    before, block = stream.learned.copy(), stream.block.copy()
    corrected = stream.feed(rows[1000:], 0.5 * rows[1000:], NOTHING)
    np.testing.assert_array_equal(stream.learned, before)
    assert not np.array_equal(stream.block, block)  # its row is another
    assert mean_square(corrected, rows[1000:]) < 0.65 * mean_square(0.5 * rows[1000:], rows[1000:])


def test_a_copy_of_the_block_goes_on_to_the_bit():
    rows = autoregression(3000, 8)
    one, other = Stream(8, 8), Stream(8, 8)
    one.feed(rows[:1501], 0.8 * rows[:1501])
    other.state[: other.rls.words] = one.block  # as the block of an even count of rows
    expected = one.feed(rows[1501:], 0.8 * rows[1501:])
    np.testing.assert_array_equal(other.feed(rows[1501:], 0.8 * rows[1501:]), expected)


@pytest.mark.parametrize("offset", [0, 5, 60])
@pytest.mark.parametrize("memory", [100, 10_000])
def test_p_stays_symmetric_and_positive(memory, offset):
    """With features that are nearly the same: rows that hardly vary, and forecasts that repeat them.

    Only what is on and below P's blocks on the diagonal is kept.
    """
    rng = np.random.default_rng(0)
    stream = Stream(8, 8, memory)
    for _ in range(20):
        rows = offset + 0.1 * autoregression(1000, 8, seed=int(rng.integers(1000)))
        rows[:, 1] = rows[:, 0]
        stream.feed(rows, rows * 0.99)
        p, features = stream.covariance, stream.rls.features
        np.testing.assert_array_equal(p[:, :features], p[:, :features].T)
        assert not p[:, features:].any()
        wide = p[:, :features].astype(np.float64)
        # to what float32 can tell of it
        assert np.linalg.eigvalsh(wide).min() > -1e-6 * np.linalg.eigvalsh(wide).max()
        assert 0 < p.diagonal().min() <= p.diagonal().max() <= stream.rls.forget**-features / RIDGE


def test_input_that_never_varies_winds_nothing_up():
    channels = 4
    stream, calm = Stream(channels, channels, 100), Stream(channels, channels, 100)
    rows = autoregression(4000, channels)
    stream.feed(rows[:2000], 0.9 * rows[:2000])
    stuck = np.ones((100_000, channels))
    corrected = stream.feed(stuck, 0.5 * stuck)
    assert np.abs(corrected[1000:] - 1).max() < 0.01  # what was stuck is forecast
    assert np.isfinite(stream.block).all()
    assert stream.covariance.max() <= stream.rls.forget**-stream.rls.features / RIDGE
    assert np.abs(stream.theta).max() < 1
    again = stream.feed(rows[2000:], 0.9 * rows[2000:])
    calm.feed(rows[:2000], 0.9 * rows[:2000])
    without = calm.feed(rows[2000:], 0.9 * rows[2000:])
    assert np.abs(again - 0.9 * rows[2000:]).max() < 5  # no burst
    assert mean_square(again[500:], rows[2500:]) < 1.02 * mean_square(without[500:], rows[2500:])


@pytest.mark.parametrize("memory", [100, 10_000])
def test_any_finite_row_and_forecast_leave_all_finite_and_the_correction_bounded(memory):
    rng = np.random.default_rng(memory)
    extremes = np.float32([0, -0.0, 1e-45, 1e-38, 1, -1, 99, 101, -1e6, 1e19, 1e20, 3.4e38, -3.4e38])
    stream = Stream(5, 5, memory, mean=np.full(5, -1e30), std=np.float32([1e-37, 1, 3e38, 2, 1e10]))
    for _ in range(300):
        rows, forecasts = rng.choice(extremes, (2, 20, 5))
        corrected = stream.feed(rows, forecasts)
        assert np.isfinite(stream.state).all()
        assert np.abs(corrected - forecasts.astype(np.float64)).max() <= 1.001 * LIMIT + np.spacing(
            np.float32(3e38)
        )
    rows = autoregression(20_000, 5) * np.float32([1e-37, 1, 3e38 / 100, 2, 1e10])
    assert np.isfinite(stream.feed(rows, 0 * rows)).all()


@pytest.mark.parametrize("part", ["theta_at", "covariance_at", "gain_at", "turn_at"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_cannot_be_gone_on_from_begins_anew_and_the_forecast_is_the_networks(part, value):
    rows = autoregression(3000, 8)
    stream = Stream(8, 8)
    stream.feed(rows[:1000], 0.5 * rows[:1000])
    stream.block[getattr(stream.rls, part)] = value
    corrected = stream.feed(rows[1000:], 0.5 * rows[1000:])
    assert np.isfinite(corrected).all()
    assert np.isfinite(stream.block).all()
    assert mean_square(corrected[1000:], rows[2000:]) < 0.65 * mean_square(0.5 * rows[2000:], rows[2000:])


def test_no_adaptation_takes_no_room():
    assert make_adaptation(pack_network(random_model()), 0).words == 0


def digest() -> str:
    """SHA-256 of what some streams become."""
    digest = hashlib.sha256()
    for inputs, outputs in SIZES:
        rows = autoregression(2000, inputs)
        stream = Stream(inputs, outputs, mean=np.full(inputs, 3.0), std=np.full(inputs, 0.7))
        digest.update(stream.feed(rows, np.tanh(rows[:, :outputs])).tobytes() + stream.block.tobytes())
    return digest.hexdigest()


def test_the_same_bits_on_another_instruction_set():
    """AVX2 alone."""
    features = llvmlite.binding.get_host_cpu_features()
    if not (features.get("avx2") and features.get("fma")):
        pytest.skip("this processor has no AVX2 to compare with")
    path = os.pathsep.join([*map(str, Path(__file__).parents[:2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": path}
    command = [sys.executable, "-c", "import test_adapt; print(test_adapt.digest())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest()
