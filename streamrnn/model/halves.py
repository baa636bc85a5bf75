"""Weights in sixteen bits each, two in a word: "weights": "bfloat16".

The weights of a recurrent layer come from the second cache once they are more than the first one holds, and
one stream waits for that. Of the columns of [W_x | W_h], which [x, h] is multiplied by, two after one another
share a word. Its lower half is the first weight, as bfloat16: the upper half of a float32. The word itself,
read as a float32, is the second one: lower bits that it did not choose, and upper ones that are nearest to
what it was. So either is within half a step of bfloat16, 2^-8 of its value; one shift makes the first of a
word, and nothing has to be done for the second.
"""

from dataclasses import replace

import numpy as np

from streamrnn.model.cells import Cell
from streamrnn.model.parts import Layer

_HIGH = np.uint32(0xFFFF0000)
_LEAST = 0x0080  # upper half of the smallest normal number: a denormal one would be slow


def round_layer(cell: Cell, layer: Layer) -> Layer:
    """The layer with its weights as they are in such words."""
    if cell.apart:  # W_x and W_h are multiplied one by one
        return replace(
            layer, weight_ih=round_in_twos(layer.weight_ih), weight_hh=round_in_twos(layer.weight_hh)
        )
    both = round_in_twos(np.hstack([layer.weight_ih, layer.weight_hh]))
    inputs = layer.weight_ih.shape[1]
    return replace(layer, weight_ih=both[:, :inputs], weight_hh=both[:, inputs:])


def round_in_twos(matrix: np.ndarray) -> np.ndarray:
    """A (R, K) float32 matrix with its columns rounded so that two after one another fit into a word."""
    first = _bfloat16(matrix[:, ::2])
    rounded = np.empty_like(matrix)
    rounded[:, ::2] = first
    second = matrix[:, 1::2]
    rounded[:, 1::2] = _nearest(second, first.view(np.uint32)[:, : second.shape[1]] >> 16)
    return rounded


def words_of(rounded: np.ndarray) -> np.ndarray:
    """The words, (R, K / 2) uint32, of such a matrix; an odd last column is alone in the lower half."""
    rows, columns = rounded.shape
    bits = np.ascontiguousarray(rounded).view(np.uint32)
    words = np.zeros((rows, -(-columns // 2)), np.uint32)
    words[:] = bits[:, ::2] >> 16
    words[:, : columns // 2] = bits[:, 1::2]
    return words


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """To the nearest number whose lower half is zeros, the even one of two; or the largest one."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    up = (bits + (0x7FFF + (bits >> 16 & 1))) & _HIGH
    return np.where(np.isfinite(up.view(np.float32)), up, bits & _HIGH).view(np.float32)


def _nearest(values: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """To the nearest number with these lower halves that is not denormal."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    sign, size = bits >> 31 << 31, (bits & 0x7FFFFFFF) >> 16
    best = np.full(values.shape, np.inf, np.float32)
    for step in (-1, 0, 1):
        upper = np.maximum(size.astype(np.int64) + step, np.where(lower > 0, _LEAST, 0))
        found = (sign | upper.astype(np.uint32) << 16 | lower).view(np.float32)
        with np.errstate(invalid="ignore"):  # beyond the largest number are those that are none
            off = [np.abs(one.astype(np.float64) - values) for one in (found, best)]
        best = np.where(np.isfinite(found) & (off[0] < off[1]), found, best)
    return best
