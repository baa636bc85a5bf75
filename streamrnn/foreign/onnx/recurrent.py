"""The LSTM, GRU and RNN operators of ONNX: their tensors in PyTorch's layout, their attributes checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamrnn.foreign.network import ImportOptions, Stage, numbers
from streamrnn.foreign.onnx.graph import Graph, Node
from streamrnn.foreign.onnx.moving import Constant, GraphState, Value
from streamrnn.model.activations import say_activation
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
ATTRIBUTES: dict[str, Any] = {"direction": "forward", "input_forget": 0, "clip": None}
KNOWN = (
    *ATTRIBUTES,
    *("hidden_size", "layout", "activations", "activation_alpha", "activation_beta", "linear_before_reset"),
)
# each with what its numbers are where a node does not say them: alpha, then beta
ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "sigmoid": ("sigmoid", ()),
    "tanh": ("tanh", ()),
    "relu": ("relu", ()),
    "affine": ("affine", (1.0, 0.0)),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "thresholdedrelu": ("thresholded_relu", (1.0,)),
    "scaledtanh": ("scaled_tanh", (1.0, 1.0)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "elu": ("elu", (1.0,)),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
}
# the activations of a node, in order: of the gates, the candidate, and an LSTM's cell state
USUAL = {"lstm": ["Sigmoid", "Tanh", "Tanh"], "gru": ["Sigmoid", "Tanh"], "rnn": ["Tanh"]}


def recurrent_stage(
    graph: Graph,
    node: Node,
    given: Sequence[Value | None],
    steps: tuple[int, ...],
    options: ImportOptions,
    notes: list[str],
) -> Stage:
    """The layer of one recurrent node, whose X is of ``steps`` (T, B) rows.

    Raises ModelError naming every attribute and input that cannot be run.
    """
    cell, found = RECURRENT[node.op], node.attributes
    problems = [
        f"{node}: attribute {name}, {quoted(found[name])}, cannot be run, only {only or 'none'}"
        for name, only in ATTRIBUTES.items()
        if found.get(name, only) not in (only, [])
    ]
    problems += [f"{node}: attribute {quoted(name)}: not known" for name in found if name not in KNOWN]
    activations: list[str] = []
    try:
        activations = _activations(node, cell)
    except ModelError as error:
        problems += error.problems
    problems += _input_problems(node, given, steps[0])
    if problems:
        raise ModelError(*problems)
    layer = _layer(node, cell, given)
    hidden = layer.weight_hh.shape[1]
    gates, candidate, output = [*["sigmoid"] * (len(activations) == 1), *activations, None, None][:3]
    return Stage(
        node.name,
        layer,
        cell,
        str(candidate),
        _reset(graph, node, options, notes) if cell == "gru" else "after",
        recurrent_activation=str(gates),
        output_activation=None if output == candidate else output,
        initial=_initial(node, given, hidden, steps[1], 2 if cell == "lstm" else 1),
    )


def _activations(node: Node, cell: str) -> list[str]:
    """In the words of the table of activations. Each takes its numbers from those that the node lists."""
    listed = node.attributes.get("activations") or USUAL[cell]
    alphas, betas = (list(node.attributes.get(f"activation_{name}") or []) for name in ("alpha", "beta"))
    said = []
    if not isinstance(listed, list) or len(listed) != len(USUAL[cell]):
        raise ModelError(f"{node}: attribute activations, {quoted(listed)}: expected {len(USUAL[cell])}")
    for name in listed:
        if str(name).lower() not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ModelError(f"{node}: attribute activations, {quoted(listed)}: only {known} can be run")
        ours, usual = ACTIVATIONS[str(name).lower()]
        sides = zip((alphas, betas), usual, strict=False)
        values = [side.pop(0) if side else number for side, number in sides]
        try:
            said.append(say_activation(ours, *values))
        except ValueError as error:
            raise ModelError(f"{node}: attribute activations: {error}") from error
    if alphas or betas:
        raise ModelError(
            f"{node}: activation_alpha and activation_beta have more numbers than it has uses for"
        )
    return said


def _input_problems(node: Node, given: Sequence[Value | None], steps: int) -> list[str]:
    """What is wrong with the inputs that are no weights: each may be left out, and is then as here."""
    problems = []
    for k, name in enumerate(INPUTS):
        value = given[k] if k < len(given) else None
        constant = isinstance(value, Constant)
        if k in (1, 2, 3):
            if not constant and (value is not None or k != 3):
                problems.append(f"{node}: input {name}: expected constant weights")
        elif k >= STATES and value is not None:
            is_state = name.startswith("initial")
            if not constant and not (is_state and isinstance(value, GraphState)):
                problems.append(f"{node}: input {name} is computed, which cannot be run; leave it out")
            elif isinstance(value, Constant) and not is_state:
                expected = steps if name == "sequence_lens" else 0
                if value.array.dtype.kind not in "fi" or (value.array != expected).any():
                    wanted = "the number of rows" if name == "sequence_lens" else "0 throughout"
                    problems.append(f"{node}: input {name} is not {wanted}, which cannot be run")
    return problems


def _initial(
    node: Node, given: Sequence[Value | None], hidden: int, batch: int, states: int
) -> tuple[np.ndarray, ...]:
    """The states that streams begin with, (H,) each; () = zeros."""
    expected = (batch, 1, hidden) if node.number("layout") else (1, batch, hidden)
    found = []
    for k in range(states):
        value = given[STATES + 1 + k] if STATES + 1 + k < len(given) else None
        if value is None:
            found.append(np.zeros(hidden))
            continue
        name, shape = INPUTS[STATES + 1 + k], value.array.shape
        if shape != expected:
            why = (
                "; PyTorch writes such a file for proj_size, which cannot be run"
                if shape[-1] != hidden
                else ""
            )
            raise ModelError(f"{node}: input {name} of shape {shape}, expected {expected}{why}")
        values = numbers(f"{node}, input {name}", value.array).reshape(batch, hidden)
        if (values != values[0]).any():
            raise ModelError(f"{node}: input {name} begins each sequence of a batch otherwise")
        found.append(values[0])
    return tuple(found) if any(map(np.any, found)) else ()


def _layer(node: Node, cell: str, given: Sequence[Value | None]) -> Layer:
    w, r, *rest = (
        numbers(f"{node}, input {name}", value.array) if isinstance(value, Constant) else None
        for name, value in zip(INPUTS[1:4], given[1:4], strict=False)
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
