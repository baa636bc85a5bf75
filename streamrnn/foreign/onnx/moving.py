"""What a node of an ONNX graph can be given: constants, states, and rows on their way."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.chain import Part


class Constant(NamedTuple):
    array: np.ndarray


class GraphState(NamedTuple):
    """A state that goes in or comes out: zeros in its shape, as its values are not known."""

    array: np.ndarray
    computed: bool = False  # by a recurrent layer


class GraphRows(NamedTuple):
    """Rows on their way: ``array`` holds row * width + place for each value of ``width`` in a row."""

    array: np.ndarray  # int64
    width: int
    path: tuple[Part, ...]  # what they have passed
    moved: str  # by which node last
    final: bool = False  # the hidden state after the last step, as its layer gives it
    unbiased: bool = False  # straight out of a product with weights


Value = Constant | GraphState | GraphRows


def is_computed(value: Value | None) -> bool:
    """Whether a value is a state that a recurrent layer leaves."""
    return isinstance(value, GraphState) and value.computed


def in_words(given: Sequence[Value | None]) -> str:
    """What the inputs of a node are, for a message."""
    kinds = {Constant: "constants", GraphState: "a state", GraphRows: "rows"}
    return (
        " and ".join(kinds[type(value)] if value is not None else "nothing" for value in given) or "nothing"
    )
