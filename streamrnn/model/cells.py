"""The table of cells: what each of them is, a row that everything else reads.

A new one is a row here, its formula in ``kernels/cells.py`` and its gradient in ``train/net/recurrence.py``.
A row has the activations of the field's formulas. A network of others has a cell that follows from a row, see
``find_cell``, which runs and is not trained.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streamrnn.model.activations import FAR, activation_problems, find_activation
from streamrnn.model.stated import quoted

_ROUNDED = 1.000001  # times a bound: the last bit is the approximation's
_ALMOST = 0.9999  # of a bound


class CellState(NamedTuple):
    """A number that each unit carries from step to step."""

    name: str
    bound: float = math.inf  # no step leaves its absolute value above


class Cell(NamedTuple):
    """What a recurrent layer of a model file can be made of."""

    name: str  # its "cell"
    gates: str  # a letter each: the blocks of ``hidden`` rows in a layer's tensors, in their order
    states: tuple[CellState, ...]  # the hidden state first
    # A unit is saturated, and says the same whatever comes in, when the state of this index has a larger
    # absolute value than that.
    saturates: int
    saturates_at: float
    activation: str = "tanh"  # its "activation"
    reset: str = "after"  # its "reset"
    keeps: str = ""  # the gate that keeps what was
    apart: str = ""  # gates that need W x and U h each by itself, not their sum
    free: tuple[str, ...] = ()  # the keys of a model file under which it can have other activations
    recurrent_activation: str = "sigmoid"  # of its gates
    output_activation: str | None = None  # of its cell state; None: its "activation"

    @property
    def title(self) -> str:
        """For people: with its activations where they are not those of every such cell."""
        several = len({cell.activation for cell in CELLS if cell.name == self.name}) > 1
        said = [self.activation] if several or self.activation != "tanh" else []
        if self.recurrent_activation != "sigmoid":
            said.append(f"gates {self.recurrent_activation}")
        if self.output_activation is not None:
            said.append(f"output {self.output_activation}")
        return f"{self.name} ({', '.join(said)})" if said else self.name

    def stated(self) -> dict[str, Any]:
        """As a model file has it in its list of cells."""
        found = {key: getattr(self, "name" if key == "cell" else key) for key in CELL_KEYS}
        return {key: value for key, value in found.items() if value != CELL_KEYS[key]}


# what a model file says of a cell, and what each is that is left out
CELL_KEYS: dict[str, Any] = {
    "cell": "",
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "output_activation": None,
    "reset": "after",
}
MIXED = "mixed"  # the "cell" of a network whose layers differ

_H = CellState("h", _ROUNDED)
_LSTM, _GRU = (
    ("activation", "recurrent_activation", "output_activation"),
    ("activation", "recurrent_activation"),
)
CELLS = (
    # from 7.9 on tanh(c) is flat
    Cell("lstm", "ifgo", (_H, CellState("c")), 1, 7.9, keeps="f", free=_LSTM),
    Cell("gru", "rzn", (_H,), 0, _ALMOST, keeps="z", apart="n", free=_GRU),
    Cell("gru", "rzn", (_H,), 0, _ALMOST, reset="before", keeps="z", free=_GRU),
    Cell("rnn", "h", (_H,), 0, _ALMOST, free=("activation",)),
    # a rectifier has no bound
    Cell("rnn", "h", (CellState("h"),), 0, FAR, activation="relu", free=("activation",)),
    # c / n is a mean of tanh in which the newest row weighs 1 / n at most; n is held to 2^16
    Cell(
        "slstm",
        "ifgo",
        (_H, CellState("c", 1e5), CellState("n", 1e5), CellState("m", 15)),
        saturates=2,
        saturates_at=5e4,
        keeps="f",
    ),
)
NAMES = tuple(dict.fromkeys(cell.name for cell in CELLS))
GATES = {cell.name: len(cell.gates) for cell in CELLS}  # blocks of hidden rows in a layer's tensors


def code_of(name: str, activation: str = "tanh", reset: str = "after") -> int:
    """The index of a cell among CELLS, which compiled code knows it by. Raises ValueError for none."""
    return [(cell.name, cell.activation, cell.reset) for cell in CELLS].index((name, activation, reset))


def find_cell(
    name: str,
    activation: str = "tanh",
    reset: str = "after",
    recurrent_activation: str = "sigmoid",
    output_activation: str | None = None,
) -> Cell:
    """A cell by what a model file says of it: a row of CELLS, or one with other activations that follows.

    Raises ValueError for none.
    """
    output = None if output_activation == activation else output_activation
    if (name, activation, reset) in [(cell.name, cell.activation, cell.reset) for cell in CELLS]:
        row = CELLS[code_of(name, activation, reset)]
        if (recurrent_activation, output) == ("sigmoid", None):
            return row
    row = next(cell for cell in CELLS if (cell.name, cell.reset) == (name, reset))
    candidate, gates, given = map(find_activation, (activation, recurrent_activation, output or activation))
    if name == "lstm":  # h = o * output(c), and nothing bounds c
        # no 0 * inf: what is multiplied by nothing is nothing
        bound = gates.bound * given.bound if gates.bound and given.bound else 0.0
        more, saturates, at = row.states[1:], 1, given.flat
    else:  # h is a mean of candidates, as long as gates say shares
        bound = candidate.bound if name == "rnn" or gates.gates else math.inf
        more, saturates, at = (), 0, min(bound * _ALMOST, FAR)
    return row._replace(
        states=(CellState("h", bound * _ROUNDED), *more),
        saturates=saturates,
        saturates_at=at,
        activation=activation,
        recurrent_activation=recurrent_activation,
        output_activation=output,
    )


def cell_of(said: Mapping[str, Any]) -> Cell:
    """The cell that the checked CELL_KEYS of a model file, or of an object in its list of cells, say."""
    found = {key: said.get(key, usual) for key, usual in CELL_KEYS.items()}
    return find_cell(found.pop("cell"), **found)


def cells_of_layers(settings: Mapping[str, Any]) -> list[Cell]:
    """Of checked settings, the cell of each recurrent layer."""
    if settings["cell"] == MIXED:
        return [cell_of(said) for said in settings["cells"]]
    return [cell_of(settings)] * settings["layers"]


def cell_problems(said: Mapping[str, Any], where: str = "") -> list[str]:
    """What is wrong with what is said under CELL_KEYS; ``where`` stands in front of each."""
    found = CELL_KEYS | dict(said)
    name, problems = found["cell"], []
    if name not in NAMES:
        expected = " or ".join(f'"{choice}"' for choice in NAMES)
        problems.append(f'{where}"cell": expected {expected}, found {quoted(name)}')
    if found["reset"] not in ("after", "before"):
        problems.append(f'{where}"reset": expected "after" or "before", found {quoted(found["reset"])}')
    for key in _LSTM:
        if found[key] is not None or key != "output_activation":
            problems += activation_problems(found[key], f'{where}"{key}"')
    if problems:
        return problems
    for key, usual in CELL_KEYS.items():
        able = names_with(key, found[key])
        if key != "cell" and found[key] != usual and name not in able:
            only = " or ".join(f'"{one}"' for one in able)
            problems.append(f'{where}"{key}": "{found[key]}" is for the cell {only} only, not {quoted(name)}')
    return problems


def list_problems(cells: object, layers: int, cell: str) -> list[str]:
    """What is wrong with the list of cells of a network of so many layers, its "cell" being ``cell``."""
    if cell != MIXED:
        return [] if cells == [] else [f'"cells": expected none where "cell" is not "{MIXED}"; remove it']
    form = ", ".join(f'"{key}"' for key in CELL_KEYS)
    if not isinstance(cells, list) or len(cells) != layers:
        return [f'"cells": expected a list of {layers} {{{form}}}, one a layer, found {quoted(cells)}']
    problems = []
    for k, said in enumerate(cells):
        if isinstance(said, dict) and {"cell"} <= set(said) <= set(CELL_KEYS):
            problems += cell_problems(said, f'"cells"[{k}]: ')
        else:
            problems.append(f'"cells"[{k}]: expected {{{form}}}, found {quoted(said)}')
    return problems


def names_with(key: str, value: str) -> list[str]:
    """The names of the cells that can have a value under one of CELL_KEYS."""
    able = [cell.name for cell in CELLS if key in cell.free or getattr(cell, key, None) == value]
    return list(dict.fromkeys(able))


def trained_with(activation: str) -> list[str]:
    """The names of the cells that can be trained with an activation."""
    return [cell.name for cell in CELLS if cell.activation == activation and cell.reset == "after"]


def widest_bounds(states: int) -> list[float]:
    """Of each state of a network whose cells have up to so many; its layers may be of several kinds."""
    known = [cell for cell in CELLS if len(cell.states) <= states]
    further = (max(c.states[k].bound for c in known if k < len(c.states)) for k in range(1, states))
    return [math.inf, *further]  # of other activations the hidden state has no bound


def cells_of(states: int) -> Sequence[Cell]:
    """All that have so many states: what is known of a cell by its records alone.

    Last, one of which activations leave open how far its hidden state goes, and what saturates it.
    """
    rows = [cell for cell in CELLS if len(cell.states) == states]
    unbounded = [
        cell._replace(states=(CellState("h"), *cell.states[1:]), saturates_at=max(FAR, cell.saturates_at))
        for cell in rows[:1]
    ]
    return [*rows, *unbounded]
