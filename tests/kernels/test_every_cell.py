"""What every row of the table of cells must do: a new one is tested here before its author writes a test.

What else holds for each of them, formulas in float64, gradients, batching, kills, is tested beside what it
is a law of, over the same table.
"""

from collections.abc import Sequence
from pathlib import Path

import naive
import numpy as np
import pytest
from click.testing import CliRunner
from models import untrained
from plain_rules import moved, put_back, record_of, saved, vouch_for

from streamrnn.cli import main
from streamrnn.engine.engine import Answers, Engine
from streamrnn.model.cells import CELLS, NAMES, Cell, cells_of, code_of, find_cell
from streamrnn.model.inspect import describe_model
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults
from streamrnn.stats import PREDICTED
from streamrnn.streams.health import DEGRADED_STEPS
from streamrnn.streams.recovery import DAMAGED, PUT
from streamrnn.streams.slots import id_words
from streamrnn.train.net.network import NetworkShape, RowNetwork
from streamrnn.wire.frame import DEGRADED, END

# with activations of which no row is made, all of them one kind to compile
OTHERS = [
    find_cell("lstm", "relu", recurrent_activation="hard_sigmoid"),
    find_cell("lstm", output_activation="scaled_tanh(1.5, 0.5)"),
    find_cell("gru", "softsign", recurrent_activation="hard_sigmoid(0.16666667, 0.5)"),
    find_cell("gru", "elu", "before"),
    find_cell("rnn", "softplus"),
]


def _of(cells: Sequence[Cell]) -> pytest.MarkDecorator:
    names = [" ".join(map(str, cell.stated().values())) for cell in cells]
    return pytest.mark.parametrize("cell", cells, ids=names)


every_row, every_cell = _of(CELLS), _of([*CELLS, *OTHERS])
HIDDEN, LAYERS = 20, 2  # not whole vectors, so that there is padding


def model_of(cell: Cell, **more) -> Model:
    return untrained(channels=3, hidden=HIDDEN, layers=LAYERS, seed=7, **cell.stated(), **more)


def feed(engine: Engine, rows: np.ndarray, flags: np.ndarray | None = None) -> Answers:
    return engine.feed(["a"], np.zeros(len(rows), np.int64), rows.astype(np.float32), flags=flags)


def states(engine: Engine) -> np.ndarray:
    """What the units of stream "a" carry, (states, layers, padded units), as a view of its record."""
    net, slots = engine.core.net, engine.core.slots
    return record_of(slots, "a")[slots.hidden_at :].reshape(net.states, net.layers, net.width)


def wild_rows(count: int, spread: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, spread, (count, 3))


def with_weights(model: Model, weights: dict[str, float | np.ndarray]) -> Model:
    """``model`` with all weights of its layers 0, and some biases by the gate's letter."""
    tensors = {name: array.copy() for name, array in model.tensors().items()}
    gates = next(cell.gates for cell in CELLS if cell.name == model.cell)
    for name, array in tensors.items():
        if name.startswith(("weight_", "bias_")):
            array[:] = 0
        if name.startswith("bias_ih"):
            for gate, value in weights.items():
                array.reshape(-1, HIDDEN)[gates.index(gate)] = value
    return Model.from_tensors(model.settings(), tensors)


@every_row
def test_a_row_is_found_by_what_a_model_file_says(cell):
    assert CELLS[code_of(cell.name, cell.activation, cell.reset)] is cell
    assert cell in cells_of(len(cell.states))
    assert cell.states[0].name == "h" and 0 <= cell.saturates < len(cell.states)
    assert set(cell.keeps + cell.apart) <= set(cell.gates)
    assert sum(other[0] == cell[0] and other[5:7] == cell[5:7] for other in CELLS) == 1


@every_row
def test_it_has_a_slow_reference_and_a_place_in_what_people_read(cell):
    assert callable(getattr(naive, cell.name))
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    help_text = CliRunner().invoke(main, ["train", "--help"]).output
    assert f"`{cell.name}`" in readme and cell.name in help_text.replace("|", " ").replace("]", " ").split()


@every_cell
def test_inspect_counts_its_states(cell):
    assert describe_model(model_of(cell), "m")["state_bytes"] == len(cell.states) * LAYERS * HIDDEN * 4


@every_cell
@pytest.mark.parametrize("spread", [1, 30, 1e4])
def test_its_states_stay_within_their_bounds_and_its_padding_out_of_sight(cell, spread):
    engine = Engine(model_of(cell), 1, Faults())
    for row in wild_rows(300, spread):
        assert feed(engine, row[None]).outcome[0] == PREDICTED
        found = np.abs(states(engine)).max((1, 2))
        assert (found <= np.float32([state.bound for state in cell.states])).all()
        assert not states(engine)[0, :, HIDDEN:].any()


@every_cell
def test_a_record_beyond_its_bounds_is_not_taken(cell):
    engine = Engine(model_of(cell), 1, Faults())
    feed(engine, wild_rows(5, 1))
    for k, state in enumerate(cell.states):
        for value, fate in ((0.5, PUT), (state.bound * 1.01, DAMAGED)):
            other = moved(engine)
            states(other)[k, -1, 3] = value
            vouch_for(other.core.slots, record_of(other.core.slots, "a"), id_words("a"))
            if fate == PUT or np.isfinite(state.bound):
                assert put_back(Engine(engine.model, 1, Faults()), saved(other), 1) == fate


@every_cell
def test_a_sequence_begins_from_zeros_whatever_was_before_it(cell):
    model, rows = model_of(cell), wild_rows(40, 10)
    flags = np.zeros(60, np.uint16)
    flags[19] = END
    after = feed(Engine(model, 1, Faults()), np.concatenate([wild_rows(20, 1e4), rows]), flags)
    np.testing.assert_array_equal(after.values[20:], feed(Engine(model, 1, Faults()), rows).values)


@every_cell
def test_a_row_far_off_is_forgotten(cell):
    """Nothing that one row says may stay for good, however wild it was."""
    model, rows = model_of(cell), wild_rows(3000, 1) * [3, 1, 1]
    wild = rows.copy()
    wild[10] = [1e12, -1e12, 1e12]
    calm, shocked = (feed(Engine(model, 1, Faults()), each) for each in (rows, wild))
    assert (shocked.outcome == PREDICTED).all()
    off = np.abs(calm.values - shocked.values) / model.output_std
    assert off[11].max() > 1e-3 and off[-100:].max() < 1e-5


@pytest.mark.parametrize("opened", [0, 3, 30])
def test_the_mean_of_an_slstm_stays_one(opened):
    """c and n are added to for as long as a stream lasts; what they are rounded by must not add up."""
    some = np.where(np.arange(HIDDEN) % 2, opened, 0)  # or, degraded, it would begin anew
    model = with_weights(model_of(find_cell("slstm")), {"f": some, "g": 1.0, "i": -1.0})
    engine = Engine(model, 1, Faults())
    assert feed(engine, wild_rows(1_000_000, 1)).epoch[-1] == 0
    assert np.abs(states(engine)[0, :, :HIDDEN] / (0.5 * np.tanh(1)) - 1).max() < 2e-3
    assert states(engine)[2].max() < 66_000


@every_cell
def test_all_of_its_state_goes_through_a_snapshot(cell):
    model, rows = model_of(cell), wild_rows(60, 20)
    engine = Engine(model, 1, Faults())
    feed(engine, rows[:30])
    other = moved(engine)
    np.testing.assert_array_equal(feed(other, rows[30:]).values, feed(engine, rows[30:]).values)


@every_cell
def test_a_state_that_nothing_moves_any_more_is_degraded_and_given_up(cell):
    """Every cell that has a gate for it is made to keep what it has; others are driven, see test_rules."""
    if not cell.keeps:
        pytest.skip("keeps nothing by itself")
    more: dict[str, float | np.ndarray] = (
        {"n": 30.0} if cell.name == "gru" else {}
    )  # whose gate lets a little of its candidate in
    engine = Engine(with_weights(model_of(cell), {cell.keeps: 30.0} | more), 1, Faults())
    feed(engine, wild_rows(1, 1))
    for value, flag in ((1.001 * cell.saturates_at, DEGRADED), (0.9 * cell.saturates_at, 0)):
        other = moved(engine)
        states(other)[cell.saturates, :, :HIDDEN] = min(value, cell.states[cell.saturates].bound)
        vouch_for(other.core.slots, record_of(other.core.slots, "a"), id_words("a"))
        answers = feed(other, wild_rows(DEGRADED_STEPS + 1, 1))
        assert set(answers.flags[:DEGRADED_STEPS] & DEGRADED) == {flag}
        assert answers.epoch[-1] == (1 if flag else 0)


@pytest.mark.parametrize("name", NAMES)
def test_training_begins_with_gates_that_keep(name):
    cell = next(cell for cell in CELLS if cell.name == name)
    network = RowNetwork(NetworkShape(name, 3, 2, 5))
    network.start(np.random.default_rng(0))
    biases = network.tensors["bias_ih_l0"].reshape(len(cell.gates), 5)
    expected = [float(gate == cell.keeps) for gate in cell.gates]
    np.testing.assert_array_equal(biases, np.repeat(expected, 5).reshape(-1, 5))
