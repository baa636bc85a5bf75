"""Keras files, ``.keras`` and ``.h5``: Sequential models, and Functional ones."""

from pathlib import Path

import numpy as np

from streamrnn.foreign.hdf5 import REMEDY
from streamrnn.foreign.keras.archive import Archive, open_archive
from streamrnn.foreign.keras.calls import Given, LayerSettings, input_layers, run
from streamrnn.foreign.keras.layers import check_layer, read_layer
from streamrnn.foreign.keras.shaping import input_shape
from streamrnn.foreign.keras.values import AHEAD, ROWS, STATE, Context, Value
from streamrnn.foreign.keras.witness import witness
from streamrnn.foreign.lowering import lower, names_of
from streamrnn.foreign.network import GOES_ON, OF_ONE_ROW, Foreign, ImportOptions
from streamrnn.foreign.vectors import RowVector, joined, picked, rows
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

__all__ = ["read", "witness"]
BROKEN = Value(None, "")  # what comes of a layer that cannot be read; others behind it may be wrong, too


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the Keras file at ``path``.

    Raises ModelError naming every layer, setting and weight that cannot be used, UserError without h5py.
    """
    archive = open_archive(path)
    context = Context(archive, _inputs(archive))
    problems: list[str] = []

    def apply(layer: LayerSettings, given: Given) -> list[Value]:
        try:
            if BROKEN in given.values:
                check_layer(layer)
                return [BROKEN] * 3
            return read_layer(context, layer, given)
        except ModelError as error:
            problems.extend(error.problems)
            return [BROKEN] * 3  # as many as a layer can give

    values = run(archive.config, apply)
    if problems:
        raise ModelError(*problems)
    if problems := [f"{path}: no layer of the model uses it; {REMEDY}" for path in archive.unused()]:
        raise ModelError(*problems)
    answers = [value for value in values if value.axes != STATE] or values
    axes = {value.axes for value in answers}
    if (
        len(axes) != 1
        or any(value.vector is None for value in answers)
        or (AHEAD in axes and len(answers) > 1)
    ):
        raise ModelError(f"its {len(answers)} outputs are not all of each row, or all once for a window")
    horizon = answers[0].size if AHEAD in axes else 1
    once = ROWS not in axes
    window = 0 if context.states or context.remembers else context.rows or 0
    vector = joined("the outputs", [value.given for value in answers])
    return lower(
        "Keras",
        vector,
        [*context.notes, *_window_notes(context, once, window)],
        horizon,
        window=window if once and window > 1 else 0,
        names=names_of(vector) if horizon == 1 else None,
    )


def _inputs(archive: Archive) -> dict[str, RowVector]:
    """What goes into each input layer of rows: all of the channels, or of several layers some each."""
    widths = {
        layer.name: input_shape(layer)[-1] or 0
        for layer in input_layers(archive.config)
        if len(input_shape(layer)) == 3
    }
    whole, start, inputs = rows(sum(widths.values())), 0, dict[str, RowVector]()
    for name, width in widths.items():
        inputs[name] = picked(whole, name, np.arange(start, start + width))
        start += width
    return inputs


def _window_notes(context: Context, once: bool, window: int) -> list[str]:
    """What a user should know of what the network saw at a time."""
    notes = []
    of = f"windows of {window} rows" if window else "windows of rows"
    if context.remembers:
        notes.append(
            f"{', '.join(context.remembers)}: stateful, its state goes on from call to call; so it does here"
        )
    if once:
        said = (
            f"layer {quoted(context.last)} was trained to answer once per sequence (return_sequences false)"
        )
        goes_on = "" if window or context.remembers else f", and {GOES_ON}"
        notes.append(f"{said}; here every row is answered{goes_on}")
    elif window > 1:
        notes.append(f"the file is of {of}, each from a state of zeros, and answers each row; here {GOES_ON}")
    if window == 1:
        notes.append(OF_ONE_ROW)
    if context.states:
        notes.append("states that the file takes as inputs start at zero in every stream")
    return notes
