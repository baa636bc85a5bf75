"""Graphs of vectors become chains: what comes out is what the graph says, by numpy and float64."""

from collections.abc import Callable, Mapping

import naive
import numpy as np
import pytest

from streamrnn.foreign.checking import run_standardised
from streamrnn.foreign.complete import to_model
from streamrnn.foreign.importing import measure
from streamrnn.foreign.lowering import lower, names_of
from streamrnn.foreign.network import Foreign, ImportOptions, Stage
from streamrnn.foreign.vectors import (
    Activation,
    Concatenation,
    Pick,
    RowVector,
    ScaleShift,
    Sum,
    activated,
    in_front,
    joined,
    passed,
    picked,
    rows,
    scaled,
    summed,
)
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import ModelError

C, H = 3, 4
FUNCTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
}


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + 7 * sum(shape)).uniform(-0.8, 0.8, shape).astype(np.float32)


def recurrent(inputs: int, hidden: int = H, cell: str = "lstm", seed: int = 0, **more: str) -> Stage:
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * hidden
    arrays = [values(*shape, seed=seed) for shape in ((gates, inputs), (gates, hidden), (gates,), (gates,))]
    return Stage(f"{cell}{seed}", Layer(*arrays), cell, **more)


def dense(inputs: int, units: int, seed: int = 0, activation: str = "linear") -> Stage:
    return Stage(
        f"dense{seed}", Dense(values(units, inputs, seed=seed), values(units, seed=seed), activation)
    )


def noise() -> np.ndarray:
    return np.random.default_rng(4).standard_normal((200, C), np.float32)


def slow(output: RowVector, given: np.ndarray) -> np.ndarray:
    """Every vector of the graph in turn."""
    found: dict[RowVector, np.ndarray] = {}
    for vector in in_front([output]):
        of, part = [found[one] for one in vector.of], vector.part
        if part is None:
            value = given.astype(float)
        elif isinstance(part, Stage) and isinstance(part.part, Layer):
            tensors = {f"{name}_l0": getattr(part.part, name) for name in Layer.__slots__}
            hidden = part.part.weight_hh.shape[1]
            tensors |= {"head.weight": np.eye(hidden), "head.bias": np.zeros(hidden)}
            value = naive.run(part.cell, tensors, of[0], part.activation)
        elif isinstance(part, Stage):
            value = of[0] @ part.part.weight.astype(float).T + part.part.bias
        elif isinstance(part, ScaleShift):
            value = of[0] * part.scale + part.shift
        elif isinstance(part, Pick):
            value = of[0][:, part.places]
        elif isinstance(part, Activation):
            value = FUNCTIONS[part.activation](of[0])
        else:
            value = np.sum(of, 0) if isinstance(part, Sum) else np.concatenate(of, -1)
            assert isinstance(part, Sum | Concatenation)
        found[vector] = value
    return found[output]


def as_run(foreign: Foreign, given: np.ndarray) -> np.ndarray:
    takes, gives = foreign.sizes
    names = tuple(f"c{k}" for k in range(takes)), tuple(f"o{k}" for k in range(gives))
    carried = foreign.input_mean is not None and foreign.output_mean is not None
    options = ImportOptions(*names, "value", scaling=None if carried else "none", sample_period_s=0.0)
    model = to_model(foreign, options, "file", measure)
    if foreign.input_mean is not None:
        given = ((given - foreign.input_mean) / foreign.input_std).astype(np.float32)
    out = run_standardised(model, given)
    return out if foreign.output_mean is None else out * foreign.output_std + foreign.output_mean


def residual() -> RowVector:
    first = passed(rows(C), recurrent(C))
    second = passed(first, recurrent(H, seed=1))
    return passed(summed("sum", [first, second]), dense(H, 2))


def last_value() -> RowVector:
    """The input added to what comes out, scaled on the way in and out."""
    x = rows(C)
    inner = passed(scaled(x, "in", [2, 0.5, 1], [1, 2, 3]), recurrent(C))
    return summed("sum", [scaled(passed(inner, dense(H, C)), "out", 3, [1, 0, 2]), x])


def joined_states() -> RowVector:
    """Both layers' states in the head, of weights of their own."""
    first = passed(rows(C), recurrent(C))
    second = passed(first, recurrent(H, 3, seed=1))
    return passed(joined("both", [first, second]), dense(H + 3, 2))


def towers() -> RowVector:
    """Two layers side by side, over some channels each, and two heads of several layers."""
    x = rows(C)
    left = passed(picked(x, "left", np.array([0, 2])), recurrent(2))
    right = passed(picked(x, "right", np.array([1])), recurrent(1, 3, seed=1))
    both = joined("both", [left, right])
    heads = [passed(passed(both, dense(H + 3, 5, k, "relu")), dense(5, 2, k + 5)) for k in range(2)]
    return joined("heads", heads)


def between() -> RowVector:
    """Norms, linear and other layers between recurrent ones of several kinds, a skip past them, a softmax."""
    x = passed(rows(C), dense(C, H, 3, "tanh"))
    first = scaled(passed(x, recurrent(H)), "norm", values(H), values(H, seed=1))
    second = passed(passed(first, dense(H, H, 4, "relu")), recurrent(H, H, "gru", 1))
    third = passed(passed(second, dense(H, H, 5)), recurrent(H, H, "rnn", 2, activation="relu"))
    return activated(passed(summed("sum", [x, third]), dense(H, C, 6)), "softmax", "softmax")


GRAPHS = [residual, last_value, joined_states, towers, between]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_a_chain_gives_what_its_graph_does(graph):
    output = graph()
    foreign = lower("Any", output)
    np.testing.assert_allclose(as_run(foreign, noise()), slow(output, noise()), rtol=0, atol=2e-5)


def test_what_is_linear_becomes_part_of_a_product():
    foreign = lower("Any", residual())
    assert (
        foreign.skips == ((1, 3),)
        and not foreign.before + foreign.after
        and foreign.layers[0].weight_hh.shape[1] == H
    )
    foreign = lower("Any", last_value())
    assert foreign.highway_weight is not None and not foreign.skips
    np.testing.assert_allclose(foreign.input_std, [0.5, 2, 1])
    foreign = lower("Any", joined_states())
    assert foreign.layers[0].weight_hh.shape[1] == H + 3 and foreign.skips == ((1, 3),)
    foreign = lower("Any", towers())
    assert len(foreign.layers) == len(foreign.after) == 1
    assert names_of(towers()) == ("dense5_0", "dense5_1", "dense6_0", "dense6_1")


def test_scaling_at_the_end_is_that_of_the_outputs():
    output = scaled(passed(passed(rows(C), recurrent(C)), dense(H, 4)), "out", [2, 3, 2, 3], [1, 5, 1, 5])
    foreign = lower("Any", output, horizon=2)
    np.testing.assert_allclose([foreign.output_mean, foreign.output_std], [[1, 5], [2, 3]])
    assert foreign.sizes == (C, 2)
    unlike = scaled(passed(passed(rows(C), recurrent(C)), dense(H, 4)), "out", [2, 3, 4, 3])
    assert lower("Any", unlike, horizon=2).output_mean is None


def test_what_no_chain_can_run_is_refused():
    first = passed(rows(C), recurrent(C))
    second = passed(first, recurrent(H, seed=1))
    kinds = [
        activated(passed(first, dense(H, 2, k)), f"act{k}", said) for k, said in enumerate(("tanh", "relu"))
    ]
    for output, words in (
        (rows(C), "has no recurrent layer"),
        (passed(rows(C), dense(C, 2)), "has no recurrent layer"),
        (joined("both", kinds), "'act0', 'act1': stand side by side"),
        (
            summed("sum", [activated(first, "act", "tanh"), second]),
            "'lstm1': takes 'lstm0'; only what 'act' gives",
        ),
        (
            passed(activated(summed("sum", [first, rows(H)]), "act", "tanh"), recurrent(H, seed=2)),
            "'act': takes",
        ),
    ):
        with pytest.raises(ModelError, match=words):
            lower("Any", output)
    with pytest.raises(ModelError, match="adds vectors of 4 and 3 values"):
        summed("sum", [first, rows(C)])
    with pytest.raises(ModelError, match="scales 2 values of 4"):
        scaled(first, "norm", [1, 2])
    with pytest.raises(ModelError, match="expected finite numbers"):
        scaled(first, "norm", np.inf)
