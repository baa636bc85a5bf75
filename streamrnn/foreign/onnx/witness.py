"""ONNX Runtime with the file itself, for the self-check."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from streamrnn.foreign.network import Foreign, ImportOptions, Witness
from streamrnn.foreign.onnx.graph import BRANCHES, FLOATS, Graph, load
from streamrnn.foreign.onnx.walk import Way, find_way

States = dict[
    tuple[str, str], tuple[int, int]
]  # the names of each as it goes in and comes out: size and layout


def runtime(path: Path, foreign: Foreign) -> Witness:
    """ONNX Runtime with the graph of the file, but for what was not looked at.

    What is not float32 becomes it, a gru's reset gate is where ``foreign`` has it, as a user may have told,
    and of a file that takes its states as inputs, all recurrent nodes take and give theirs.
    """
    model = onnx.load_model_from_string(path.read_bytes())
    resets = {cell.reset for cell in foreign.cells if cell.name == "gru"}
    graph, options = load(path), ImportOptions(reset=resets.pop() if len(resets) == 1 else None)
    way = find_way(graph, options)
    _keep(model, way.used)
    if options.reset:
        _set_reset(model, options.reset)
    _make_float32(model)
    states = _open_states(model) if way.states else {}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])

    def answers(sequences: np.ndarray) -> np.ndarray:
        steps = sequences.shape[1]
        found = way if way.fixed else find_way(graph, options, steps)
        return np.stack([_run(session, found, graph, states, rows) for rows in sequences])

    return Witness(answers, len(way.order) if way.fixed and not way.states else None)


def _run(session: Any, way: Way, graph: Graph, states: States, rows: np.ndarray) -> np.ndarray:
    """The answers to one sequence, (T, C); of a file with states in as many pieces as it has rows."""
    steps, batch = way.order.shape
    given: dict[str, np.ndarray] = {
        name: np.zeros([size or 1 for size in graph.inputs[name]], np.float32)
        for name in {value.name for value in session.get_inputs()} & set(way.states)
    }
    for (name, _), (hidden, layout) in states.items():
        given[name] = np.zeros((batch, 1, hidden) if layout else (1, batch, hidden), np.float32)
    step_of = np.empty(way.order.size, np.int64)
    step_of[way.order] = np.arange(steps)[:, np.newaxis]
    answers = []
    for start in range(0, len(rows), steps):
        some = rows[start : start + steps]
        x = np.zeros(way.shape, np.float32)
        x.reshape(-1, rows.shape[1])[way.order[: len(some)]] = some[:, np.newaxis]
        found = session.run([*way.outputs, *(name for _, name in states)], {way.input: x} | given)
        given |= zip((name for name, _ in states), found[len(way.outputs) :], strict=True)
        parts = [np.asarray(y).reshape(len(way.answered), -1) for y in found[: len(way.outputs)]]
        whole = np.concatenate(parts, -1)
        if way.once:
            answers.append(whole[:1])
            continue
        answer = np.empty((steps, whole.shape[1]), np.float32)
        answer[step_of[way.answered]] = whole
        answers.append(answer[: len(some)])
    return np.concatenate(answers)


def _keep(model: Any, used: frozenset[str]) -> None:
    """Cut off all that was not looked at, which could read other files, or run for ever.

    Of an If its branch stands in its place.
    """
    graph = model.graph
    nodes, tensors = [], list(graph.initializer)
    waiting = list(graph.node)[::-1]
    while waiting:
        node = waiting.pop()
        if used.isdisjoint(node.output):
            continue
        if node.op_type != "If":
            nodes.append(node)
            continue
        branches = [attribute.g for attribute in node.attribute if attribute.name in BRANCHES]
        taken = next(one for one in branches if used >= {value.name for value in one.output})
        tensors += taken.initializer
        named = zip(taken.output, node.output, strict=False)
        waiting += [helper.make_node("Identity", [value.name], [name]) for value, name in named]
        waiting += list(taken.node)[::-1]
    kept = {
        "node": nodes,
        "initializer": [tensor for tensor in tensors if tensor.name in used],
        "input": [value for value in graph.input if value.name in used],
        "output": [value for value in graph.output if value.name in used],
    }
    for name, parts in kept.items():
        copies = [type(part).FromString(part.SerializeToString()) for part in parts]
        del getattr(graph, name)[:]
        getattr(graph, name).extend(copies)
    del graph.sparse_initializer[:], graph.value_info[:], model.functions[:]


def _make_float32(model: Any) -> None:
    """Have all that is of other floating-point numbers be float32."""
    others = set(FLOATS) - {TensorProto.FLOAT}
    if not any(value.type.tensor_type.elem_type in others for value in model.graph.input):
        return

    def converted(tensor: TensorProto) -> TensorProto:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        return numpy_helper.from_array(array, tensor.name)

    for tensor in [tensor for tensor in model.graph.initializer if tensor.data_type in others]:
        tensor.CopyFrom(converted(tensor))
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type in others:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR and attribute.t.data_type in others:
                attribute.t.CopyFrom(converted(attribute.t))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in others:
                attribute.i = TensorProto.FLOAT


def _set_reset(model: Any, reset: str) -> None:
    for node in model.graph.node:
        if node.op_type == "GRU":
            kept = [attribute for attribute in node.attribute if attribute.name != "linear_before_reset"]
            kept.append(helper.make_attribute("linear_before_reset", int(reset == "after")))
            del node.attribute[:]
            node.attribute.extend(kept)


def _open_states(model: Any) -> States:
    """Make the states of all recurrent nodes inputs and outputs of the graph."""
    states: States = {}
    outputs = {value.name for value in model.graph.output}
    for k, node in enumerate(model.graph.node):
        if node.op_type not in ("LSTM", "GRU", "RNN"):
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        size, layout = (attributes[name].i if name in attributes else 0 for name in ("hidden_size", "layout"))
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
