"""What follows a product in a network whose layers are not all of one common kind: short steps, as data.

So a cell with any activations, dense layers with any, and sums past layers are compiled once for all
networks that have them; and the common ones, of which the step knows the cell when it is compiled, have none
of it. Each step goes over ``width`` preactivations of a lane, where they stand in ``gates``, or takes from
there to the new state and to ``z``, where the next product reads.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.any_activation import activate_any
from streamrnn.kernels.cells import new_state, reset_state
from streamrnn.kernels.simd import LANES, first_lanes, fma, load, splat, store
from streamrnn.model.activations import ACTIVATIONS, find_activation
from streamrnn.model.cells import CELLS, Cell

(
    COMMON,  # the new state of a common cell
    COMMON_RESET,  # the reset of the state of a common one
    ACTIVATE,
    PUT,  # to z as it is
    LSTM_STATE,  # c', also to where its activation is then computed, in place of i
    LSTM_OUTPUT,
    GRU_GATES,  # a + u of r and of z
    GRU_CANDIDATE,  # a_n + r * u_n
    GRU_OUTPUT,
    GRU_RESET,  # r * h to z
    RNN_OUTPUT,
    CLEAR,  # further states of a layer whose cell has fewer than others of the network
    ADD_LAYER,  # what a layer below gives, to what was put to z
    ADD_INPUT,  # what goes into the first one
) = range(14)

STEP = np.dtype(
    [
        ("what", np.int64),  # as above
        ("at", np.int64),  # where in the preactivations it begins
        ("units", np.int64),  # preactivations, or units of a layer
        # of COMMON an index into the table of cells, of ACTIVATE into that of activations; of ADD_LAYER where
        # its hidden state begins among those of all layers; of CLEAR how many states
        ("which", np.int64),
        ("alpha", np.float32),  # of an activation
        ("beta", np.float32),
    ]
)
_ZERO = np.float32(0)


@inlined
def _give(value, units, state, new, z, to):
    """One vector of new hidden state, of which ``units`` lanes count, to the new record and to z."""
    value = first_lanes(value, units, _ZERO)
    store(state, new, value)
    store(z, to, value)


@inlined
def _sum_up(step, a, b, width, gates, at):
    """Adds block ``b`` of preactivations to block ``a``, both of ``width``."""
    for unit in range(0, step.units, LANES):
        here = at + a * width + unit
        store(gates, here, load(gates, here) + load(gates, at + b * width + unit))


@inlined
def _lstm(step, width, gates, at, state, old, new, apart, z, to):
    """The halves of an LSTM with gates that are activated already: c' = f * c + i * g, h' = o * phi(c')."""
    for unit in range(0, step.units, LANES):
        if step.what == LSTM_STATE:
            i, f = load(gates, at + unit), load(gates, at + width + unit)
            c = fma(f, load(state, old + apart + unit), i * load(gates, at + 2 * width + unit))
            c = first_lanes(c, step.units - unit, _ZERO)
            store(state, new + apart + unit, c)
            store(gates, at + unit, c)
        else:
            h = load(gates, at + 3 * width + unit) * load(gates, at + unit)
            _give(h, step.units - unit, state, new + unit, z, to + unit)


@inlined
def _gru(step, width, gates, at, state, old, new, z, to):
    """What a GRU does with gates that are activated already, as ``cells.gru`` and ``gru_reset_before``."""
    for unit in range(0, step.units, LANES):
        here = at + unit
        if step.what == GRU_CANDIDATE:
            a = fma(load(gates, here), load(gates, here + 5 * width), load(gates, here + 2 * width))
            store(gates, here + 2 * width, a)
        elif step.what == GRU_RESET:
            store(z, to + unit, load(gates, here) * load(state, old + unit))
        else:
            keep, n = load(gates, here + width), load(gates, here + 2 * width)
            h = fma(keep, load(state, old + unit) - n, n)
            _give(h, step.units - unit, state, new + unit, z, to + unit)


@inlined
def follow(net, scratch, tile, state, product, step, lane):
    """One of the steps behind a product, in one lane."""
    gates, z, width, what = scratch.gates, scratch.z, net.width, step.what
    at, to = lane * net.gate_stride, lane * net.z_stride + product.out
    old, new = tile.source[lane] + product.hidden, tile.target[lane] + product.hidden
    if what == ACTIVATE:
        activate_any(step.which, step.alpha, step.beta, gates, at + step.at, step.units)
    elif what == COMMON:
        new_state(net, step.which, gates, at, width, state, old, new, net.apart, z, to)
    elif what == COMMON_RESET:
        reset_state(gates, at, width, state, old, z, to)
    elif LSTM_STATE <= what <= LSTM_OUTPUT:
        _lstm(step, width, gates, at, state, old, new, net.apart, z, to)
    elif what == GRU_GATES:
        _sum_up(step, 0, 3, width, gates, at)
        _sum_up(step, 1, 4, width, gates, at)
    elif GRU_CANDIDATE <= what <= GRU_RESET:
        _gru(step, width, gates, at, state, old, new, z, to)
    elif what == RNN_OUTPUT:
        for unit in range(0, step.units, LANES):
            _give(load(gates, at + unit), step.units - unit, state, new + unit, z, to + unit)
    elif what == PUT:
        for unit in range(0, step.units, LANES):
            store(z, to + unit, load(gates, at + unit))
    elif what == CLEAR:
        for first in range(net.states - step.which, net.states):
            for unit in range(0, width, LANES):
                store(state, new + first * net.apart + unit, splat(_ZERO))
    elif what == ADD_LAYER:
        below = tile.target[lane] + step.which
        for unit in range(0, step.units, LANES):
            store(z, to + unit, load(z, to + unit) + load(state, below + unit))
    else:
        below = lane * net.z_stride + net.kept_at
        for unit in range(0, step.units, LANES):
            store(z, to + unit, load(z, to + unit) + load(z, below + unit))


def step_of(what: int, units: int, **fields: Any) -> tuple[Any, ...]:
    """A step as a row of STEP."""
    assert STEP.names is not None
    found = dict.fromkeys(STEP.names, 0) | {"what": what, "units": units} | fields
    return tuple(found.values())


def activation_step(said: str, units: int, at: int = 0) -> tuple[Any, ...]:
    """That of an activation as a model file says it."""
    kind, alpha, beta = find_activation(said)
    return step_of(ACTIVATE, units, at=at, which=ACTIVATIONS.index(kind), alpha=alpha, beta=beta)


def steps_of_cell(cell: Cell, units: int, width: int, states: int) -> list[tuple[Any, ...]]:
    """What makes the new state of a layer of ``units``, where cells have up to so many states."""
    phi, gate = cell.activation, cell.recurrent_activation
    if cell in CELLS:
        steps = [step_of(COMMON, units, which=CELLS.index(cell))]
    elif cell.name == "lstm":
        steps = [
            activation_step(gate, 2 * width),
            activation_step(phi, width, at=2 * width),
            activation_step(gate, width, at=3 * width),
            step_of(LSTM_STATE, units),
            activation_step(cell.output_activation or phi, width),
            step_of(LSTM_OUTPUT, units),
        ]
    elif cell.name == "gru" and cell.reset == "after":
        steps = [
            step_of(GRU_GATES, units),
            activation_step(gate, 2 * width),
            step_of(GRU_CANDIDATE, units),
            activation_step(phi, width, at=2 * width),
            step_of(GRU_OUTPUT, units),
        ]
    elif cell.name == "gru":
        steps = [
            activation_step(gate, width, at=width),
            activation_step(phi, width, at=2 * width),
            step_of(GRU_OUTPUT, units),
        ]
    else:
        steps = [activation_step(phi, width), step_of(RNN_OUTPUT, units)]
    missing = states - len(cell.states)
    return [*steps, step_of(CLEAR, units, which=missing)] if missing else steps


def steps_of_reset(cell: Cell, units: int, width: int) -> Sequence[tuple[Any, ...]]:
    """What makes r * h of the preactivations of a GRU whose reset gate acts before the product."""
    if cell in CELLS:
        return [step_of(COMMON_RESET, units)]
    return [activation_step(cell.recurrent_activation, width), step_of(GRU_RESET, units)]
