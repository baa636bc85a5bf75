"""The table of cells: what each of them is, a row that everything else reads.

A new one is a row here, its formula in ``kernels/cells.py`` and its gradient in ``train/net/recurrence.py``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

_OF_TANH = 1.000001  # a hidden state made of tanh; the last bit is the approximation's


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

    @property
    def title(self) -> str:
        """For people: with its activation where it could have another."""
        several = len({cell.activation for cell in CELLS if cell.name == self.name}) > 1
        return f"{self.name} ({self.activation})" if several else self.name


_H = CellState("h", _OF_TANH)
CELLS = (
    # from 7.9 on tanh(c) is flat
    Cell("lstm", "ifgo", (_H, CellState("c")), 1, 7.9, keeps="f"),
    Cell("gru", "rzn", (_H,), 0, 0.9999, keeps="z", apart="n"),
    Cell("gru", "rzn", (_H,), 0, 0.9999, reset="before", keeps="z"),
    Cell("rnn", "h", (_H,), 0, 0.9999),
    # a rectifier has no bound; this is far outside of what a network of any use computes with
    Cell("rnn", "h", (CellState("h"),), 0, 1e6, activation="relu"),
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


def find_cell(name: str, activation: str = "tanh", reset: str = "after") -> Cell:
    """A cell by what a model file says of it. Raises ValueError for none."""
    return CELLS[code_of(name, activation, reset)]


def names_with(key: str, value: str) -> list[str]:
    """The names of the cells that can have a value of "activation" or "reset"."""
    return [cell.name for cell in CELLS if getattr(cell, key) == value]


def cells_of(states: int) -> Sequence[Cell]:
    """All that have so many states: what is known of a cell by its records alone."""
    return [cell for cell in CELLS if len(cell.states) == states]
