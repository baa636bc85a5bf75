"""Networks that say the spread of their errors: its likelihood and gradients, and what is learned of it."""

import json
import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from models import CELLS
from runs import train
from test_training import LANES, STEPS, make_dataset, random_chunk, random_network

from streamrnn.engine.engine import Engine
from streamrnn.kernels.packing import pack_network
from streamrnn.model.model_file import read_model
from streamrnn.replay import ReplayOptions, replay
from streamrnn.settings.sections import Faults
from streamrnn.train.data.dataset import Dataset, Sequence
from streamrnn.train.data.lanes import Lanes
from streamrnn.train.descent import TrainSettings
from streamrnn.train.fit import chunks, mean_error
from streamrnn.train.fit_spread import fit_with_spread
from streamrnn.train.judge.likelihood import (
    SaidErrors,
    errors_of,
    first_spread,
    fit_student,
    linear_network,
    mean_size,
    spreads_of,
    surprise,
    surprises,
)
from streamrnn.train.judge.linear import linear_autoregression
from streamrnn.train.judge.validation import weights_of
from streamrnn.train.model_of import to_model
from streamrnn.train.net.network import NetworkShape, RowNetwork
from streamrnn.train.net.spread import freedom, likelihood, log_excess, run_spread

ETA = np.array([-1.0, 1.5])  # log(nu - 2) of two outputs


def plain_nll(error: float, sigma: float, nu: float) -> float:
    """Of Student's t of scale sigma, from its density."""
    density = math.gamma((nu + 1) / 2) / (math.sqrt(nu * math.pi) * math.gamma(nu / 2) * sigma)
    return -math.log(density * (1 + (error / sigma) ** 2 / nu) ** (-(nu + 1) / 2))


def plain_spread(errors, start: float) -> list[float]:
    """The running spread before each of ``errors``, None for none, as the definition of a stream has it."""
    spread, count, found = start, 33.0, []
    for error in errors:
        found.append(spread)
        if error is None:
            continue
        size = min(abs(error), 10 * spread) if count >= 30 else abs(error)
        spread += max(0.03, 1 / (count + 1)) * (size - spread)
        spread, count = min(max(spread, 2**-10), 2**20), count + 1
    return found


def ran(error: np.ndarray, weight: np.ndarray, begins: np.ndarray, start: np.ndarray, cut: int) -> np.ndarray:
    """The running spread, (T, B, O), over two chunks."""
    carry, spread = np.full(error.shape[1:], 7.0, error.dtype), np.empty_like(error)
    for part in (slice(cut), slice(cut, None)):
        run_spread(error[part], weight[part], begins[part], start, carry, spread[part])
    return spread


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_the_running_spread_is_the_definitions(dtype, limit):
    """With errors wild, tiny and missing, over chunks, and with sequences that begin in them."""
    rng = np.random.default_rng(0)
    error = rng.standard_cauchy((400, LANES, 2)) * np.array([1e-4, 1e6])
    weight, begins = rng.random(error.shape) < 0.8, np.zeros((400, LANES), np.uint8)
    begins[0] = begins[150, ::3] = begins[260] = 1
    start = np.array([0.01, 2.0])
    found = ran(error.astype(dtype), weight.astype(dtype), begins, start.astype(dtype), 97)
    for lane in range(LANES):
        places = [*map(int, np.flatnonzero(begins[:, lane])), 400]
        for output in range(2):
            known = [
                float(one) if there else None
                for one, there in zip(error[:, lane, output], weight[:, lane, output], strict=True)
            ]
            expected = [
                spread
                for begin, end in pairwise(places)
                for spread in plain_spread(known[begin:end], start[output])
            ]
            np.testing.assert_allclose(found[:, lane, output], expected, rtol=limit)
    assert found[..., 0].min() == 2**-10 and found[..., 1].max() == 2**20  # it was held at both ends


def test_the_likelihood_is_that_of_its_density():
    rng = np.random.default_rng(1)
    error, factor, spread = rng.normal(size=(3, 50, 2))
    spread, weight = np.exp(spread), np.float64(rng.random((50, 2)) < 0.7)
    found = likelihood(error, factor, spread, weight, ETA)
    for output, nu in enumerate(freedom(ETA)):
        each = [
            plain_nll(error[row, output], spread[row, output] * math.exp(factor[row, output]), nu)
            for row in np.flatnonzero(weight[:, output])
        ]
        assert found.sum[output] == pytest.approx(sum(each), rel=1e-12)
    np.testing.assert_allclose(log_excess(freedom(ETA)), ETA, rtol=1e-12)
    assert not found.d_error[weight == 0].any() and not found.d_factor[weight == 0].any()


def test_wild_errors_and_factors_leave_finite_derivatives():
    error = np.float32([[1e38], [-1e38], [0], [1e-38]])
    factor = np.float32([[-90], [90], [4.5], [0]])
    spread, weight = np.full_like(error, 2**-10), np.ones_like(error)
    found = likelihood(error, factor, spread, weight, np.array([20.0]))
    assert all(np.isfinite(part).all() for part in found)
    assert not found.d_factor[:3].any() and found.d_factor[3]  # what is held has no derivative
    assert found.d_shape == 0


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_the_gradient_of_mean_spread_and_shape_is_that_of_finite_differences(cell, activation, layers):
    """In float64, of the second of two chunks, with a highway, dropout and targets that are missing."""
    shape = NetworkShape(cell, 3, 2, 5, layers, activation, highway=2, spread=True)
    network = random_network(shape)
    masks = [np.random.default_rng(k).integers(0, 2, (LANES, 5)) * 2.0 for k in range(layers)]
    first, (x, past, y, begins) = random_chunk(shape, 1), random_chunk(shape, 2)
    weight = np.random.default_rng(4).integers(0, 3, y.shape) / 2.0
    spread = np.exp(np.random.default_rng(5).normal(size=y.shape))

    def said() -> np.ndarray:
        network.forward(first[0], first[1], first[3], False, masks)
        return network.forward(x, past, begins, True, masks)

    ended = said()
    found = likelihood(ended[..., :2] - y, ended[..., 2:], spread, weight, network.tensors["spread.shape"])
    network.backward(np.concatenate([found.d_error, found.d_factor], axis=-1))
    network.gradients["spread.shape"][:] = found.d_shape
    gradient = network.gradient.copy()

    def loss(place: int, step: float) -> float:
        """For a weight changed after the first chunk."""
        network.forward(first[0], first[1], first[3], False, masks)
        network.weights[place] += step
        now = network.forward(x, past, begins, True, masks)
        nu = 2 + np.exp(network.tensors["spread.shape"])
        network.weights[place] -= step
        sigma = spread * np.exp(np.clip(now[..., 2:], -4, 4))
        return sum(
            float(weight[at]) * plain_nll(float(now[at] - y[at]), float(sigma[at]), float(nu[at[-1]]))
            for at in np.ndindex(y.shape)
            if weight[at]
        )

    heads = network.views(np.arange(network.weights.size))
    tried = {*map(int, np.random.default_rng(3).permutation(gradient.size)[:20])}
    tried |= {int(heads[name].flat[0]) for name in heads if name.startswith(("spread", "head", "highway"))}
    size = 1e-6
    for place in sorted(tried):
        slope = (loss(place, size) - loss(place, -size)) / (2 * size)
        assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-5), place


def test_float32_has_the_gradient_of_float64():
    shape = NetworkShape("lstm", 3, 2, 20, 2, highway=2, spread=True)
    gradients = []
    for dtype in (np.float64, np.float32):
        network = random_network(shape, dtype)
        x, past, y, begins = random_chunk(shape, 2, dtype)
        said = network.forward(x, past, begins, False)
        error, ones = said[..., :2] - y, np.ones_like(y)
        found = likelihood(error, said[..., 2:], ones, ones, network.tensors["spread.shape"])
        network.backward(np.concatenate([found.d_error, found.d_factor], axis=-1))
        network.gradients["spread.shape"][:] = found.d_shape
        gradients.append(network.gradients)
    for name, expected in gradients[0].items():
        assert np.linalg.norm(gradients[1][name] - expected) <= 1e-4 * np.linalg.norm(expected), name


def test_the_gradient_is_that_of_jax():
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(6)
    error, factor = rng.normal(size=(2, STEPS, LANES, 2))
    spread, weight = np.exp(rng.normal(size=error.shape)), rng.random(error.shape)

    def nll(e, g, eta):
        density = jax.scipy.stats.t.logpdf(e, 2 + jax.numpy.exp(eta), 0, spread * jax.numpy.exp(g))
        return -(density * weight).sum()

    with jax.enable_x64(True):
        theirs = jax.grad(nll, (0, 1, 2))(*map(jax.numpy.array, (error, factor, ETA)))
    found = likelihood(error, factor, spread, weight, ETA)
    for ours, expected in zip((found.d_error, found.d_factor, found.d_shape), theirs, strict=True):
        np.testing.assert_allclose(ours, np.asarray(expected), rtol=1e-8, atol=1e-10)


def test_the_likeliest_shape_and_factor_are_found():
    """Of errors that were drawn so, and no neighbour is likelier."""
    rng = np.random.default_rng(7)
    spread = np.exp(rng.normal(size=(20_000, 3))).astype(np.float32)
    true_nu, true_factor = np.array([3.0, 8.0, 1e9]), np.array([0.5, -1.0, 2.0])
    drawn = np.stack([rng.standard_t(nu, 20_000) for nu in true_nu], axis=1) * np.exp(true_factor)
    said = SaidErrors((drawn * spread).astype(np.float32), np.zeros_like(spread), np.ones_like(spread))
    found = fit_student([said], [spread])
    np.testing.assert_allclose(found.factor, true_factor, atol=0.03)
    np.testing.assert_allclose(freedom(found.shape)[:2], true_nu[:2], rtol=0.1)
    assert freedom(found.shape)[2] > 50

    def nll(factor: np.ndarray, shape: np.ndarray) -> np.ndarray:
        told = said._replace(factor=np.tile(factor, (len(spread), 1)).astype(np.float32))
        return surprise([told], [spread], shape)

    best = nll(*found)
    for step in (-0.1, 0.1):
        assert (nll(found.factor + step, found.shape) > best).all()
        assert (nll(found.factor, found.shape + step) > best - 1e-6).all()


def tides(rows: int, seed: int = 0) -> Dataset:
    """Two channels of noise; how wide the first one's next value is, the second says, which has no trend."""
    rng = np.random.default_rng(seed)
    says = rng.normal(size=rows + 1)
    noise = rng.normal(size=rows + 1)
    noise[1:] *= np.exp(says[:-1])
    x = np.stack([noise, says], axis=1).astype(np.float32)
    return make_dataset(x[:-1], x[1:], rows * 4 // 5, "next")


def test_a_network_learns_a_spread_that_past_errors_do_not_tell():
    dataset = tides(6000)
    linear = linear_autoregression(dataset, (2,))
    shape = NetworkShape("gru", 2, 2, 16, highway=2, spread=True)
    reports: list[float] = []
    network, course = fit_with_spread(
        dataset,
        shape,
        TrainSettings(epochs=60, patience=60),
        linear,
        lambda course: reports.append(course.done),
    )
    found = surprises(network, dataset, linear, dataset.validation)
    plain = linear_network(linear, dataset)
    begun = surprise_of_linear(dataset, plain)
    assert course.errors[0] == pytest.approx(begun, abs=5e-3)  # it begins as good as the weighted spread
    assert course.errors[0] == pytest.approx(float(found.weighted.mean()), abs=5e-3)
    assert float(found.network.mean()) == pytest.approx(course.errors[course.best], abs=1e-5)
    assert found.network[0] < found.weighted[0] - 0.3
    assert found.network[1] < found.weighted[1] + 0.02  # there is nothing to know of the other
    assert mean_error(network, dataset) < 1.01 * linear.errors.mean()
    assert len(reports) > 60


def surprise_of_linear(dataset: Dataset, plain: RowNetwork) -> float:
    """The weighted spread alone: a factor and a shape fitted on the rows to learn from."""
    learned = errors_of(plain, dataset.train, dataset.scaling)
    student = fit_student(learned, spreads_of(learned, mean_size(learned)))
    checked = errors_of(plain, dataset.validation, dataset.scaling)
    told = [
        one._replace(factor=np.tile(student.factor, (len(one.error), 1)).astype(np.float32))
        for one in checked
    ]
    return float(surprise(told, spreads_of(told, mean_size(told)), student.shape).mean())


@pytest.mark.parametrize(("cell", "activation"), CELLS)
@pytest.mark.parametrize("highway", [0, 5])
def test_the_engine_says_the_spread_that_was_trained(cell, activation, highway):
    """Row by row, behind forecasts that are bit for bit those of the same network without a spread."""
    outputs = 19  # more than a vector, and no whole number of them
    rows = np.random.default_rng(3).normal(3, 2, size=(60, outputs)).astype(np.float32)
    dataset = make_dataset(rows[:-1], rows[1:], 50, "next")
    shape = NetworkShape(cell, outputs, outputs, 20, 2, activation, highway, spread=True)
    network = random_network(shape, np.float32)
    network.weights[:] *= 0.5
    lanes = Lanes([Sequence("s", rows, rows)] * LANES, dataset.scaling, LANES)
    said = [
        network.forward(chunk.x, past, chunk.begins, carried)[:, 0, outputs:]
        for carried, chunk, past in chunks(lanes, highway, 64)
    ]
    model = to_model(network, dataset)
    engine, found, forecasts = Engine(model, 1, Faults()), [], []
    net, scratch = engine.core.net, engine.core.scratch
    for row in rows:
        forecasts.append(engine.feed(["s"], np.zeros(1, np.int64), row[None]).values[0])
        found.append(scratch.gates[net.factors_at :][:outputs].copy())
    np.testing.assert_allclose(found, np.concatenate(said), atol=2e-5)
    nothing = {part: np.zeros(0) for part in ("spread_weight", "spread_bias", "spread_shape", "spread_start")}
    plain = replace(model, spread=False, **nothing)
    assert pack_network(plain).factors_at == 0
    again = Engine(plain, 1, Faults()).feed(["s"], np.zeros(len(rows), np.int64), rows)
    np.testing.assert_array_equal(np.array(forecasts), again.values)


def test_a_stream_without_a_target_has_no_say():
    dataset = tides(600)
    (rows,) = dataset.validation
    silent = rows._replace(stream="silent", targets=np.full_like(rows.targets, np.nan))
    network = random_network(NetworkShape("gru", 2, 2, 16, spread=True), np.float32)
    both = errors_of(network, [rows, silent], dataset.scaling)
    assert [len(one.error) for one in both] == [len(rows.values), 0]
    np.testing.assert_array_equal(mean_size(both), first_spread(network, dataset))
    shape = network.tensors["spread.shape"]
    nlls = [surprise(part, spreads_of(part, np.ones(2, np.float32)), shape) for part in (both, both[:1])]
    np.testing.assert_array_equal(*nlls)


def test_the_file_says_what_was_learned():
    dataset = tides(600)
    network = random_network(NetworkShape("gru", 2, 2, 16, highway=2, spread=True), np.float32)
    start = first_spread(network, dataset)
    model = to_model(network, dataset, start)
    assert model.spread and model.settings()["spread"] is True
    np.testing.assert_allclose(model.spread_shape, 2 + np.exp(network.tensors["spread.shape"]), rtol=1e-6)
    np.testing.assert_array_equal(model.spread_start, start)
    weights, other = network.weights.copy(), RowNetwork(network.shape)
    with weights_of(model, other):
        np.testing.assert_allclose(other.weights, weights, rtol=1e-5, atol=1e-6)
    plain = random_network(NetworkShape("gru", 2, 2, 16, highway=2), np.float32)
    assert not to_model(plain, dataset).spread


@pytest.fixture(scope="module")
def tidal(tmp_path_factory):
    dataset = tides(3000)
    rows = np.concatenate([part.values for part in (*dataset.train, *dataset.validation)])
    path = tmp_path_factory.mktemp("data") / "tides.csv"
    path.write_text("level,wind\n" + "\n".join(f"{a:.5f},{b:.5f}" for a, b in rows) + "\n")
    return path


def test_what_train_says_of_a_spread(tidal, tmp_path):
    words = ("--spread", "--epochs", 30, "--hidden", 16)
    result = train(tidal, "-o", tmp_path / "m", *words, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)["validation_nll"]
    assert told["level"]["network"] < told["level"]["weighted"] - 0.2
    model = read_model(tmp_path / "m")
    assert model.spread and model.spread_weight.shape == (2, 16)
    replay(ReplayOptions(str(tidal), tmp_path / "m", Faults(), str(tmp_path / "out.csv")))
    lines = (tmp_path / "out.csv").read_text().splitlines()
    names = lines[0].split(",")
    said = np.genfromtxt(
        lines[1:], delimiter=",", usecols=[names.index(f"{k}_pred") for k in ("level", "wind")]
    )
    rows = np.loadtxt(tidal, delimiter=",", skiprows=1)
    kept = len(rows) - model.errors["rows"]
    sizes = np.abs(said[kept - 1 : -1] - rows[kept:]).mean(axis=0) / model.output_std
    np.testing.assert_allclose(model.spread_start, sizes, rtol=1e-3)
    result = train(tidal, "-o", tmp_path / "m", *words)
    assert re.search(
        r"^negative log likelihood +network +weighted +constant +persistence$", result.stdout, re.MULTILINE
    )
    assert re.search(r"^mean( +-?\d\.\d{3}){4}$", result.stdout, re.MULTILINE)
    assert re.search(
        r"^its spread pays: .* above that of \w+; 1 of 2 outputs gain: level$", result.stdout, re.M
    )


def test_a_spread_that_does_not_pay_is_said_so(tmp_path):
    rows = np.random.default_rng(0).normal(size=(2000, 2))
    (tmp_path / "noise.csv").write_text("a,b\n" + "\n".join(f"{a:.5f},{b:.5f}" for a, b in rows) + "\n")
    result = train(tmp_path / "noise.csv", "-o", tmp_path / "m", "--spread", "--epochs", 5)
    assert "its spread does not pay here" in result.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--target", "level"), 2),
        (("--horizon", 3), 1),
        (("--relation", "encoder-decoder", "--horizon", 4), 2),
        (("--relation", "vector-to-sequence", "--target", "level"), 2),
        (("--relation", "sequence-to-vector", "--target", "level"), 2),
    ],
)
def test_a_spread_is_of_every_channel_one_row_ahead(tidal, tmp_path, words, code):
    result = train(tidal, "-o", tmp_path / "m", "--spread", *words)
    assert result.exit_code == code, result.stderr
    assert "--spread is for networks that forecast every channel one row ahead" in result.stderr
    assert not (tmp_path / "m").exists()
    plain = train(tidal, "-o", tmp_path / "m", "--no-spread", "--epochs", 1)
    assert plain.exit_code == 0 and not read_model(tmp_path / "m").spread
