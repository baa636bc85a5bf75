"""ONNX files: LSTM, GRU or RNN nodes with dense layers before and behind, as exporters write them."""

import importlib.util
from pathlib import Path

from streamrnn.errors import UserError
from streamrnn.foreign.lowering import lower, names_of
from streamrnn.foreign.network import GOES_ON, OF_ONE_ROW, Foreign, ImportOptions, Witness
from streamrnn.model.stated import quoted


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the ONNX file at ``path``.

    Raises ModelError naming every node and attribute that cannot be used, UserError without onnx.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UserError("onnx is not installed, which reads ONNX files: pip install onnx")
    from streamrnn.foreign.onnx.graph import load
    from streamrnn.foreign.onnx.products import check_erf
    from streamrnn.foreign.onnx.walk import find_way

    way = find_way(load(path), options)
    check_erf(way.vector)
    notes = [*way.notes]
    window = len(way.order) if way.fixed and not way.states and len(way.order) > 1 else 0
    if way.once:
        notes.append("the network answers once per sequence; here every row is answered")
    if way.once != (window > 0):  # of windows that it answers the last row of, the model itself is
        of = f"windows of {window} rows" if window else "windows of rows"
        notes.append(f"the file is of {of}, each from a state of zeros; here {GOES_ON}")
    if way.fixed and len(way.order) == 1 and not way.states:
        notes.append(OF_ONE_ROW)
    if way.states:
        names = ", ".join(map(quoted, way.states))
        notes.append(f"states that the file takes as inputs ({names}) start at zero in every stream")
    return lower(
        "ONNX",
        way.vector,
        notes,
        way.horizon,
        window=window if way.once else 0,
        names=names_of(way.vector) if way.horizon == 1 else None,
    )


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """ONNX Runtime with the file, None without it."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    from streamrnn.foreign.onnx.witness import runtime

    return runtime(path, foreign)
