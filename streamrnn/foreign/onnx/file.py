"""ONNX files: LSTM, GRU or RNN nodes with dense layers before and behind, as exporters write them."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.errors import UserError
from streamrnn.foreign.chain import join
from streamrnn.foreign.network import Foreign, ImportOptions, Witness


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the ONNX file at ``path``.

    Raises ModelError naming every node and attribute that cannot be used, UserError without onnx.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UserError("onnx is not installed, which reads ONNX files: pip install onnx")
    from streamrnn.foreign.onnx.graph import load
    from streamrnn.foreign.onnx.walk import find_way

    way = find_way(load(path), options)
    return replace(join("ONNX", way.parts, way.notes), window=way.window)


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """ONNX Runtime with the file, None without it.

    The graph is the file's, but that its recurrent nodes take and give their states, so that a file of so
    many rows can run more; and a gru's reset gate is where ``foreign`` has it, which a user may have told.
    Raises ValueError for a file that answers only the last of a fixed number of rows.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnx
    import onnxruntime

    from streamrnn.foreign.onnx.graph import load
    from streamrnn.foreign.onnx.walk import INPUT_LIMIT, find_way

    model = onnx.load_model_from_string(path.read_bytes())
    graph, options = load(path), ImportOptions(reset=foreign.reset)
    _keep(model, find_way(graph, options).used)
    states = _open_states(model, foreign.reset)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3  # a sequence of another length than the exported one is worth no warning
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])

    def run(rows: np.ndarray) -> np.ndarray:
        way = find_way(graph, options, min(len(rows), max(INPUT_LIMIT // foreign.sizes[0], 1)))
        if not np.isin(way.order, way.answered).all():
            way = find_way(graph, options, 1)
            if len(way.order) > 1:
                raise ValueError(f"it answers only the last of {len(way.order)} rows")
        steps, batch = way.order.shape
        given = {
            name: np.zeros([size or 1 for size in shape], np.float32)
            for name, shape in graph.inputs.items()
            if name in way.used
        }
        for (name, _), (hidden, layout) in states.items():
            given[name] = np.zeros((batch, 1, hidden) if layout else (1, batch, hidden), np.float32)
        step_of = np.empty(way.order.size, np.int64)
        step_of[way.order] = np.arange(steps)[:, np.newaxis]
        answers = []
        for start in range(0, len(rows), steps):
            some = rows[start : start + steps]
            x = np.zeros(way.shape, np.float32)
            x.reshape(-1, x.shape[-1])[way.order[: len(some)]] = some[:, np.newaxis]
            given[way.input] = x
            y, *after = session.run([way.output, *(name for _, name in states)], given)
            given |= zip((name for name, _ in states), after, strict=True)
            answer = np.empty((steps, foreign.sizes[1]), np.float32)
            answer[step_of[way.answered]] = y.reshape(len(way.answered), -1)
            answers.append(answer[: len(some)])
        return np.concatenate(answers)

    return run


def _keep(model: Any, used: frozenset[str]) -> None:
    """Cut off all that was not looked at: it could read other files, or run for ever."""
    graph = model.graph
    kept = {
        "node": [node for node in graph.node if not used.isdisjoint(node.output)],
        "initializer": [tensor for tensor in graph.initializer if tensor.name in used],
        "input": [value for value in graph.input if value.name in used],
    }
    for name, parts in kept.items():
        del getattr(graph, name)[:]
        getattr(graph, name).extend(parts)
    del graph.sparse_initializer[:], model.functions[:]


def _open_states(model: Any, reset: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Make the states of all recurrent nodes inputs and outputs of the graph, and set where a gru resets.

    Returns the names of each state as it goes in and comes out, with the hidden size and the layout.
    """
    from onnx import TensorProto, helper

    states = {}
    outputs = {value.name for value in model.graph.output}
    for k, node in enumerate(model.graph.node):
        if node.op_type not in ("LSTM", "GRU", "RNN"):
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        size, layout = (attributes[name].i if name in attributes else 0 for name in ("hidden_size", "layout"))
        if node.op_type == "GRU":
            attributes["linear_before_reset"] = helper.make_attribute(
                "linear_before_reset", int(reset == "after")
            )
            del node.attribute[:]
            node.attribute.extend(attributes.values())
        count = 2 if node.op_type == "LSTM" else 1
        node.input.extend([""] * (5 + count - len(node.input)))
        node.output.extend([""] * (1 + count - len(node.output)))
        for state in range(count):
            before, after = f"streamrnn {k} {state}", node.output[1 + state] or f"streamrnn {k} {state} after"
            node.input[5 + state], node.output[1 + state] = before, after
            states[before, after] = size, layout
            model.graph.input.append(helper.make_tensor_value_info(before, TensorProto.FLOAT, None))
            if after not in outputs:
                model.graph.output.append(helper.make_tensor_value_info(after, TensorProto.FLOAT, None))
    return states
