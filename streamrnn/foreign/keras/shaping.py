"""Keras's layers that take rows in, and say which of their values go on."""

import math

import numpy as np

from streamrnn.foreign.keras.calls import Given, LayerSettings
from streamrnn.foreign.keras.values import (
    AHEAD,
    FLAT,
    LAST,
    MOST,
    ROWS,
    Context,
    Value,
    alike,
    check_axis,
)
from streamrnn.foreign.vectors import joined, picked, rows
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted


def input_shape(layer: LayerSettings) -> list[int | None]:
    """(batch, time, channels) or (batch, values), None for what is not fixed."""
    shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
    if not isinstance(shape, list) or len(shape) not in (2, 3):
        raise ModelError(f"{layer}: shape {quoted(shape)}, expected (batch, time, channels)")
    if any(size is not None and (type(size) is not int or not 0 < size <= MOST) for size in shape):
        raise ModelError(f"{layer}: shape {quoted(shape)}, expected sizes up to {MOST:,}")
    if shape[-1] is None:
        raise ModelError(f"{layer}: shape {quoted(shape)}, expected a fixed number of channels")
    return shape


def read_input(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    shape = input_shape(layer)
    if len(shape) == 2:
        return [Value(None, FLAT, shape[1] or 0)]
    if context.rows not in (None, shape[1]):
        raise ModelError(f"{layer}: of {shape[1]} rows, another input of {context.rows}; expected as many")
    if layer.name not in context.inputs:
        raise ModelError(f"{layer}: is none of the model's inputs")
    context.rows = shape[1]
    return [Value(context.inputs[layer.name], ROWS)]


def read_reshape(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value, target = given.values[0], layer.config.get("target_shape")
    if not isinstance(target, list) or not all(type(size) is int and -1 <= size <= MOST for size in target):
        raise ModelError(f"{layer}: target_shape {quoted(target)}, expected whole numbers")
    width = value.size if value.axes == FLAT else value.given.width
    count = width if value.axes in (FLAT, LAST) else width * (context.rows or 0)
    if -1 in target and count:
        known = -math.prod(target)
        target = [size if size >= 0 else count // known if known > 0 else 0 for size in target]
    if value.axes == ROWS and target == [context.rows, width]:
        return [value]
    if math.prod(target) == count and value.axes == FLAT and len(target) == 2:
        context.rows = target[0]
        return [Value(rows(target[1]), ROWS)]
    if math.prod(target) == count and value.axes == LAST and len(target) == 1:
        return [value]
    if math.prod(target) == count and value.axes == LAST and len(target) == 2:
        return [value._replace(axes=AHEAD, size=target[0])]
    raise ModelError(
        f"{layer}: target_shape {quoted(target)} mixes rows, or rows and channels, which cannot be run"
    )


def read_flatten(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value = given.values[0]
    if value.axes == LAST:
        return [value]
    raise ModelError(
        f"{layer}: what follows sees all rows of a window at once, which no step of a stream does; train "
        "it to answer from the last (return_sequences false)"
    )


def read_concatenate(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    value, vectors = alike(layer, given)
    check_axis(layer, value)
    return [value._replace(vector=joined(layer.name, vectors))]


def read_get_item(context: Context, layer: LayerSettings, given: Given) -> list[Value]:
    """A slice: of the last row, or of some channels."""
    value, cuts = given.values[0], given.constants[0] if given.constants else None
    cuts = cuts if isinstance(cuts, list) else [cuts]
    axes = {ROWS: 3, LAST: 2}.get(value.axes, 0)
    whole, last = slice(None), context.rows
    at = cuts.index(...) if ... in cuts else len(cuts)
    cuts = [*cuts[:at], *[whole] * (axes - len(cuts[:at] + cuts[at + 1 :])), *cuts[at + 1 :]]
    if len(cuts) != axes or cuts[0] != whole:
        raise ModelError(
            f"{layer}: {quoted(given.constants)} cannot be run; only of the last row, or of channels"
        )
    of = value.axes
    if of == ROWS and cuts[1] != whole:
        if cuts[1] != -1 and (last is None or cuts[1] != last - 1):
            raise ModelError(f"{layer}: takes other rows than the last, which no step of a stream does")
        of = LAST
    try:
        places = np.arange(value.given.width)[cuts[-1]]
    except (IndexError, TypeError) as error:
        raise ModelError(f"{layer}: {quoted(cuts[-1])} of {value.given.width} channels") from error
    if places.ndim != 1 or not places.size:
        places = np.atleast_1d(places)
    return [Value(picked(value.given, layer.name, places), of)]
