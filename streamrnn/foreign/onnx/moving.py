"""What a node of an ONNX graph can be given: constants, states, and rows on their way.

Rows are numbers, one for each value: from which vector it is, of which row, and where in it. Operators that
only move values are carried out on these numbers; where whole rows are needed, the numbers tell.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.vectors import RowVector, joined, picked, rows
from streamrnn.model.settings import ModelError

SOURCE_BITS = 40  # of a number that say the row and the place in it; those above, the source
WITHIN = (1 << SOURCE_BITS) - 1


class Constant(NamedTuple):
    array: np.ndarray


class GraphState(NamedTuple):
    """A state that goes in: zeros in its shape, as its values are not known."""

    array: np.ndarray


class GraphRows(NamedTuple):
    """Rows on their way."""

    array: np.ndarray  # int64: source << SOURCE_BITS | row * width of the source + place
    moved: str  # by which node last


Value = Constant | GraphState | GraphRows


class GraphSource(NamedTuple):
    """What values come from."""

    vector: RowVector | None  # None: a cell state, which nothing here can see
    width: int
    final: bool = False  # it is the state after the last step, not an answer to each


class Sources:
    """All sources of one walk, and the rows that come of them."""

    def __init__(self, size: int, width: int | None):
        self.size = size  # values in the graph's input
        self.listed: list[GraphSource] = []
        if width:
            self._begin(width)

    @property
    def rows(self) -> int:
        """How many rows come in, once it is known how wide they are."""
        return self.size // self.listed[0].width

    @property
    def input(self) -> RowVector:
        assert self.listed and self.listed[0].vector is not None
        return self.listed[0].vector

    def _begin(self, width: int) -> None:
        self.listed.append(GraphSource(rows(width), width))

    def add(
        self, vector: RowVector | None, width: int, numbers: np.ndarray, final: bool = False
    ) -> np.ndarray:
        """The numbers of the values of ``vector`` for each of the rows ``numbers``: one more axis."""
        self.listed.append(GraphSource(vector, width, final))
        start = len(self.listed) - 1 << SOURCE_BITS
        return start + numbers[..., np.newaxis] * width + np.arange(width)

    def is_final(self, value: GraphRows) -> bool:
        """Whether all of it is what recurrent layers keep."""
        return all(self.listed[source].final for source in np.unique(value.array >> SOURCE_BITS)[:1000])

    def whole(self, what: str, value: GraphRows) -> tuple[np.ndarray, RowVector]:
        """The number of each row, and the vector of its values, which the last axis holds.

        Of vectors of one value each that axis may be missing. Raises ModelError if it holds no such rows.
        """
        array = value.array
        if not array.size or not array.ndim:
            raise ModelError(f"{what}: takes no rows after {value.moved}")
        if not self.listed:  # nothing has told yet how wide a row is
            first = array.reshape(-1, array.shape[-1])
            width = array.shape[-1]
            if self.size % width or (first[:, 0] % width).any() or (first[:, 0] > self.size).any():
                raise ModelError(f"{what}: takes no whole rows after {value.moved}")
            self._begin(width)
        source, within = array >> SOURCE_BITS, array & WITHIN
        widths = np.array([one.width for one in self.listed])[source]
        numbers, places = within // widths, within % widths
        if array.shape[-1] > 1 and (widths == 1).all() and (numbers != numbers[..., :1]).any():
            source, numbers, places = (part[..., np.newaxis] for part in (source, numbers, places))
        if (numbers != numbers[..., :1]).any():
            raise ModelError(
                f"{what}: takes no whole rows after {value.moved}, but values of several at once, which no "
                "step of a stream sees"
            )
        first_source, first_place = (part.reshape(-1, part.shape[-1])[0] for part in (source, places))
        if (source != first_source).any() or (places != first_place).any():
            raise ModelError(f"{what}: the values of its rows are not in order after {value.moved}")
        return numbers[..., 0], self._vector(what, first_source, first_place)

    def _vector(self, what: str, source: np.ndarray, places: np.ndarray) -> RowVector:
        """The vector of so many places of so many sources."""
        cuts = [0, *(np.flatnonzero(np.diff(source)) + 1), len(source)]
        parts = []
        for start, end in pairwise(cuts):
            vector = self.listed[source[start]].vector
            if vector is None:
                raise ModelError(
                    f"{what}: takes the cell state of an LSTM, which only its next step may see; "
                    "export what comes of the outputs of the last step, out[:, -1]"
                )
            parts.append(picked(vector, what, places[start:end]))
        return joined(what, parts)


def in_words(given: Sequence[Value | None]) -> str:
    """What the inputs of a node are, for a message."""
    kinds = {Constant: "constants", GraphState: "a state", GraphRows: "rows"}
    return (
        " and ".join(kinds[type(value)] if value is not None else "nothing" for value in given) or "nothing"
    )
