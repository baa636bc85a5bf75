"""Networks of layers of several kinds, of any activations, with layers between and sums past others.

All of them are one kind to compile, but for the relation: what follows their products is data.
"""

import io
from typing import Any

import naive
import numpy as np
import pytest
from models import LAYERED, VALUES, untrained
from plain_rules import moved, put_back, record_of, saved, vouch_for
from test_kernels import Lanes

from streamrnn.engine.engine import Answers, Engine
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.cells import ANY
from streamrnn.kernels.packing import pack_network
from streamrnn.model.cells import CELLS
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import PREDICTED, REASONS, REJECTED, RESETS
from streamrnn.streams.recovery import DAMAGED, PUT
from streamrnn.streams.slots import id_words
from streamrnn.streams.snapshot import read_from
from streamrnn.streams.summary import summarise
from streamrnn.wire.frame import DEGRADED

COMMON = [{"cell": "lstm"}, {"cell": "gru"}, {"cell": "slstm"}, {"cell": "rnn", "activation": "relu"}]
COMMON += [{"cell": "gru", "reset": "before"}, {"cell": "rnn"}]
NETWORKS: dict[str, dict[str, Any]] = {
    "all of it": {"hidden": 7, **LAYERED},
    "all of it, looking back": {"hidden": 7, "highway": 5, **LAYERED},
    "the common cells": {"hidden": 20, "cell": "mixed", "layers": 6, "cells": COMMON},
    "an LSTM of rectifiers": {
        "hidden": 33,
        "layers": 2,
        "activation": "relu",
        "recurrent_activation": "clip(0, 1)",
    },
    "a GRU of others": {
        "hidden": 20,
        "cell": "gru",
        "activation": "leaky_relu",
        "recurrent_activation": "softsign",
    },
    "a GRU with reset before": {
        "hidden": 17,
        "cell": "gru",
        "reset": "before",
        "recurrent_activation": "hard_sigmoid",
        "skips": [[1, 2]],
    },
    "a neuron past which its input goes": {
        "hidden": 3,
        "layers": 3,
        "cell": "rnn",
        "activation": "elu",
        "skips": [[0, 2], [0, 3], [0, 4], [1, 4]],
        "highway": 2,
        "after": [{"units": 40, "activation": "softplus"}, {"units": 18, "activation": "layer_norm"}],
    },
}


def strong(times: float = 1.5, **settings: Any) -> Model:
    """An untrained model whose layers have larger weights than PyTorch's first, so that all of it counts."""
    model = untrained(**settings)
    tensors = {name: array * (times if "weight" in name else 1) for name, array in model.tensors().items()}
    return Model.from_tensors(model.settings(), tensors)


def sensor_rows(model: Model, count: int, spread: float = 1) -> np.ndarray:
    noise = np.random.default_rng(count).normal(0, spread, (count, len(model.channels)))
    return (model.input_mean + model.input_std * noise).astype(np.float32)


def feed(engine: Engine, rows: np.ndarray) -> Answers:
    return engine.feed(["a"], np.zeros(len(rows), np.int64), rows)


def exact(model: Model, rows: np.ndarray, **more: Any) -> np.ndarray:
    return naive.run_settings(model.settings(), model.tensors(), rows, **more)


@pytest.mark.parametrize("window", [2, 30])
def test_a_window_of_it_is_answered_from_its_rows_alone(window):
    model = strong(hidden=7, window=window, **LAYERED)
    rows = sensor_rows(model, 50)
    found = feed(Engine(model, 1, Faults()), rows).values
    parts = (rows[max(at + 1 - window, 0) : at + 1] for at in range(len(rows)))
    expected = np.array([exact(model, part)[-1] for part in parts])
    np.testing.assert_allclose((found - expected) / model.output_std, 0 * expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_after_1000_rows_it_is_where_the_formulas_are(name):
    model = strong(3 if "rectifiers" in name else 1.5, **NETWORKS[name])
    assert pack_network(model).cell == ANY
    rows = sensor_rows(model, 1000)
    expected = exact(model, rows) / model.output_std
    off = np.abs(feed(Engine(model, 1, Faults()), rows).values / model.output_std - expected)
    assert off.max() <= 1e-5 * max(1, np.abs(expected).max())
    assert np.ptp(expected, axis=0).min() > 1e-3


@pytest.mark.parametrize("settings", [NETWORKS["all of it, looking back"], NETWORKS["the common cells"]])
def test_a_rollout_is_what_the_formulas_say(settings):
    model = strong(**settings)
    rows = sensor_rows(model, 40)
    answers = feed(Engine(model, 1, Faults(), predict=Predict(every=1, horizon=9)), rows)
    expected = exact(model, rows, rollout=9)
    assert (np.abs(answers.several - expected) / model.output_std).max() <= 2e-5


def test_an_encoder_and_a_decoder_of_several_kinds():
    cells = {"cell": "mixed", "layers": 2, "cells": [{"cell": "gru"}, LAYERED["cells"][0]]}
    model = strong(relation="encoder-decoder", horizon=6, outputs=VALUES, target="value", hidden=20, **cells)
    rows = sensor_rows(model, 40)
    answers = feed(Engine(model, 1, Faults(), predict=Predict(every=1)), rows)
    assert (np.abs(answers.several - exact(model, rows)) / model.output_std).max() <= 2e-5


@pytest.mark.parametrize("cell", CELLS, ids=[cell.title for cell in CELLS])
def test_a_common_cell_is_the_same_among_others_to_the_last_bit(cell):
    after = [{"units": 3, "activation": "linear"}]
    model = untrained(hidden=20, layers=2, after=after, **cell.stated())
    other = Model.from_tensors(
        model.settings() | {"after": [after[0] | {"activation": "affine"}]}, model.tensors()
    )
    assert pack_network(model).cell != pack_network(other).cell == ANY
    rows = sensor_rows(model, 200)
    one, two = (feed(Engine(each, 1, Faults()), rows) for each in (model, other))
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.score, two.score)


@pytest.mark.parametrize("name", ["all of it, looking back", "the common cells"])
def test_any_batching_equals_none(name):
    model, rng = strong(**NETWORKS[name] | {"highway": 0}), np.random.default_rng(1)
    streams, steps = TILE_STREAMS + 3, 30
    rows = rng.normal(size=(streams, steps, 3)).astype(np.float32)
    alone, together = Lanes(model, streams), Lanes(model, streams)
    expected = [[alone.step([s], rows[s, t : t + 1])[0] for t in range(steps)] for s in range(streams)]
    while waiting := [s for s in range(streams) if together.steps[s] < steps]:
        chosen = rng.permutation(waiting)[: rng.integers(1, TILE_STREAMS + 1)].tolist()
        at = [int(together.steps[s]) for s in chosen]
        for stream, t, output in zip(chosen, at, together.step(chosen, rows[chosen, at]), strict=True):
            np.testing.assert_array_equal(output, expected[stream][t])
    np.testing.assert_array_equal(together.state, alone.state)
    assert np.isfinite(alone.state).all()


# what is remembered of it


def states(engine: Engine) -> np.ndarray:
    """What the units of stream "a" carry, (states, layers, padded units), as a view of its record."""
    net, slots = engine.core.net, engine.core.slots
    records = record_of(slots, "a")[slots.hidden_at : slots.past_at]
    return records.reshape(net.states, net.layers, net.width)


def test_layers_of_fewer_states_have_none_in_a_record():
    engine = Engine(strong(**NETWORKS["all of it"]), 1, Faults())
    feed(engine, sensor_rows(engine.model, 30))
    assert [bool(found) for found in states(engine)[1].any(axis=1)] == [True, False, False, True]
    assert not states(engine)[:, :, 7:].any()
    for layer, fate in ((0, PUT), (1, DAMAGED)):
        other = moved(engine)
        states(other)[1, layer, 3] = 0.5
        vouch_for(other.core.slots, record_of(other.core.slots, "a"), id_words("a"))
        assert put_back(Engine(engine.model, 1, Faults()), saved(other), 1) == fate


def test_it_goes_on_from_a_snapshot():
    engine = Engine(strong(**NETWORKS["all of it, looking back"]), 1, Faults())
    rows = sensor_rows(engine.model, 60)
    feed(engine, rows[:30])
    other = moved(engine)
    np.testing.assert_array_equal(feed(other, rows[30:]).values, feed(engine, rows[30:]).values)


def test_a_stream_that_diverges_begins_anew_and_its_neighbour_does_not_notice():
    """Rectifiers whose states grow until they are no numbers."""
    model = strong(30, hidden=20, layers=2, activation="relu", recurrent_activation="hard_sigmoid")
    rows = sensor_rows(model, 2000)
    rows[::2] = model.input_mean
    engine = Engine(model, 2, Faults())
    answers = engine.feed(["a", "b"], np.arange(2000) % 2, rows)
    assert (answers.outcome == REJECTED + REASONS.index("diverged")).any()
    assert engine.stats.resets[RESETS.index("diverged")] > 0
    assert np.isfinite(answers.values[answers.outcome == PREDICTED]).all()
    assert np.isfinite(engine.core.slots.state).all()
    for k in range(2):
        alone = feed(Engine(model, 1, Faults()), rows[k::2])
        np.testing.assert_array_equal(alone.values, answers.values[k::2])


@pytest.mark.parametrize(
    ("beyond", "flag"),
    [((1, 1), DEGRADED), ((1, 0.7), 0), ((0.7, 1), 0)],
    ids=["both layers", "the LSTM", "the GRU"],
)
def test_each_layer_is_saturated_by_the_state_of_its_cell(beyond, flag):
    """An LSTM whose cell states stand beyond 7.9, and a GRU whose hidden states stand at 1."""
    model = untrained(hidden=20, cell="mixed", layers=2, cells=[{"cell": "lstm"}, {"cell": "gru"}])
    tensors = {name: array * (0 if "_l" in name else 1) for name, array in model.tensors().items()}
    tensors["bias_ih_l0"][20:40] = tensors["bias_ih_l1"][20:40] = 30  # what keeps what was
    engine = Engine(Model.from_tensors(model.settings(), tensors), 1, Faults())
    feed(engine, sensor_rows(model, 1))
    for of, layer, value in zip((1, 0), (0, 1), (10, 0.99999), strict=True):
        states(engine)[of, layer, : round(20 * beyond[layer])] = value
    vouch_for(engine.core.slots, record_of(engine.core.slots, "a"), id_words("a"))
    answers = feed(engine, sensor_rows(model, 2))
    assert set(answers.flags & DEGRADED) == {flag}
    (said,) = summarise(read_from(io.BytesIO(saved(engine)), "snapshot"), "snapshot")
    assert said["health"] == ("degraded" if flag else "ok") and said["saturated"] == (1 if flag else None)
