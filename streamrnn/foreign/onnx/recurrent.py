"""The LSTM, GRU and RNN operators of ONNX: their tensors in PyTorch's layout, their attributes checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamrnn.foreign.network import ImportOptions, Stage, numbers
from streamrnn.foreign.onnx.graph import Graph, Node
from streamrnn.model.cells import GATES
from streamrnn.model.parts import Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

RECURRENT = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}
STATES = 4  # the first input that is no tensor of weights: sequence_lens, initial_h, initial_c; P follows
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
# where PyTorch's gates are among ONNX's: i, o, f, c; z, r, h
ORDER = {"lstm": (0, 2, 3, 1), "gru": (1, 0, 2), "rnn": (0,)}
# the value that can be run of each attribute; None: it must be left out
ATTRIBUTES: dict[str, Any] = {
    "direction": "forward",
    "input_forget": 0,
    "clip": None,
    "activation_alpha": None,
    "activation_beta": None,
}
ACTIVATIONS: dict[str, dict[tuple[str, ...], str]] = {
    "lstm": {("sigmoid", "tanh", "tanh"): "tanh"},
    "gru": {("sigmoid", "tanh"): "tanh"},
    "rnn": {("tanh",): "tanh", ("relu",): "relu"},
}


def recurrent_stage(
    graph: Graph,
    node: Node,
    constants: Sequence[np.ndarray | None],
    computed: Sequence[bool],
    steps: int,
    options: ImportOptions,
    notes: list[str],
) -> Stage:
    """The layer of one recurrent node, whose X is of ``steps`` rows.

    ``constants`` are its constant inputs, None for those left out or not constant; ``computed`` says which
    come of the rows. Raises ModelError naming every attribute and input that cannot be run.
    """
    cell, found = RECURRENT[node.op], node.attributes
    problems = [
        f"{node}: attribute {name}, {quoted(found[name])}, cannot be run, only {only or 'none'}"
        for name, only in ATTRIBUTES.items()
        if found.get(name, only) not in (only, [])
    ]
    known = {*ATTRIBUTES, "hidden_size", "layout", "activations", "linear_before_reset"}
    problems += [f"{node}: attribute {quoted(name)}: not known" for name in found if name not in known]
    activations = found.get("activations", [*next(iter(ACTIVATIONS[cell]))])
    listed = activations if isinstance(activations, list) else [activations]
    activation = ACTIVATIONS[cell].get(tuple(str(name).lower() for name in listed))
    if activation is None:
        choices = " or ".join(", ".join(names) for names in ACTIVATIONS[cell])
        problems.append(f"{node}: attribute activations, {quoted(activations)}: only {choices} can be run")
    problems += _input_problems(node, constants, computed, steps)
    if problems:
        raise ModelError(*problems)
    reset = _reset(graph, node, options, notes) if cell == "gru" else "after"
    return Stage(node.name, _layer(node, cell, constants), cell, activation or "", reset)


def _input_problems(
    node: Node, constants: Sequence[np.ndarray | None], computed: Sequence[bool], steps: int
) -> list[str]:
    """What is wrong with the inputs that are no weights: each may be left out, and is then as here."""
    problems = []
    for k, name in enumerate(INPUTS):
        given, array = node.input(k), constants[k] if k < len(constants) else None
        if k in (1, 2, 3):
            if array is None and (given or k != 3):
                problems.append(f"{node}: input {name}: expected constant weights")
        elif k >= STATES and given:
            expected = steps if name == "sequence_lens" else 0
            if computed[k] or (array is None and name in ("sequence_lens", "P")):
                problems.append(f"{node}: input {name} is computed, which cannot be run; leave it out")
            elif array is not None and (array.dtype.kind not in "fi" or (array != expected).any()):
                wanted = "the number of rows" if name == "sequence_lens" else "0 throughout"
                problems.append(f"{node}: input {name} is not {wanted}, which cannot be run")
    return problems


def _layer(node: Node, cell: str, constants: Sequence[np.ndarray | None]) -> Layer:
    w, r, *rest = (
        None if array is None else numbers(f"{node}, input {name}", array)
        for name, array in zip(INPUTS[1:4], constants[1:4], strict=False)
    )
    assert w is not None and r is not None
    gates = GATES[cell]
    hidden = r.shape[-1] if r.ndim else 0
    rows = gates * hidden
    b = rest[0] if rest and rest[0] is not None else np.zeros((1, 2 * rows), np.float32)
    said = node.number("hidden_size", hidden)
    shapes = [w.shape[:-1] if w.ndim == 3 else w.shape, r.shape, b.shape]
    if shapes != [(1, rows), (1, rows, hidden), (1, 2 * rows)] or not w.size or said != hidden:
        expected = f"W (1, {gates} H, inputs), R (1, {gates} H, H) and B (1, {2 * gates} H)"
        raise ModelError(
            f"{node}: hidden_size {quoted(said)}, W {w.shape}, R {r.shape} and B {b.shape} do not fit each "
            f"other, expected {expected} of H = hidden_size"
        )

    def by_gate(array: np.ndarray) -> np.ndarray:
        return array.reshape(gates, hidden, -1)[[*ORDER[cell]]].reshape(rows, -1)

    biases = [by_gate(half)[:, 0] for half in np.split(b[0], 2)]
    return Layer(by_gate(w[0]), by_gate(r[0]), *biases)


def _reset(graph: Graph, node: Node, options: ImportOptions, notes: list[str]) -> str:
    """Where the reset gate of a GRU acts. Raises ModelError where the file is known not to be believed."""
    said = "after" if node.number("linear_before_reset") else "before"
    if options.reset is not None:
        if options.reset != said:
            notes.append(f"{node}: reset gate {options.reset} the product, as told, not as the file says")
        return options.reset
    if graph.producer == "pytorch" and said == "before":
        raise ModelError(
            f"{node}: attribute linear_before_reset, 0, is wrong for PyTorch's GRU, and exporters are known "
            "to have written it: say `--reset after` if the network was trained as torch.nn.GRU, "
            "`--reset before` if the file is right"
        )
    return said
