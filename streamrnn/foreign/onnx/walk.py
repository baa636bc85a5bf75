"""What an ONNX graph does to a row on its way from the input to the outputs.

Operators that only move values are carried out on the numbers of rows, with every dimension a number too, so
shape arithmetic folds to constants.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.network import ImportOptions
from streamrnn.foreign.onnx.folding import JOINS, LARGEST, MAKES, MOVES, fold
from streamrnn.foreign.onnx.graph import FLOATS, Graph, Node, branch, tensor_values, type_name
from streamrnn.foreign.onnx.moving import Constant, GraphRows, GraphState, Sources, Value, in_words
from streamrnn.foreign.onnx.operators import FLOAT, REFUSED, TABLE, Walked
from streamrnn.foreign.onnx.recurrent import RECURRENT, STATES
from streamrnn.foreign.vectors import RowVector, joined
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

INPUT_LIMIT = 1 << 20  # values of the graph's input
FOLDED_LIMIT = 1 << 28  # elements that may be made on the way
BRANCHES = 1000  # of If
INT64 = 7  # TensorProto.INT64
MOST_ROWS, SIZES_TRIED = 10_000, 8


class Way(NamedTuple):
    """The way of rows through a graph whose free dimensions are set, and where they come and go."""

    vector: RowVector  # what comes out, of all outputs side by side
    horizon: int  # rows that an answer is
    input: str
    shape: tuple[int, ...]  # of the input
    outputs: tuple[str, ...]
    order: np.ndarray  # (T, B): the number of each row in the input
    answered: np.ndarray  # (answers,): the number of the row that each is of
    fixed: bool  # whether the file says T
    once: bool  # whether only the last row is answered
    states: list[str]  # inputs that hold states
    notes: list[str]
    used: frozenset[str]  # every value on the way
    window: int = 0  # the rows that the graph is fixed to, if it answers the last of them from zeros; else 0


def find_way(graph: Graph, options: ImportOptions, steps: int = 3) -> Way:
    """The way of a sequence of ``steps`` rows, or of as many as the graph is fixed to.

    Which of the input's free dimensions is time shows at the first recurrent layer: they are tried in turn.
    Raises ModelError naming the node that cannot be run.
    """
    _check_recurrent(graph)
    name = _rows_input(graph)
    dimensions = graph.inputs[name]
    if graph.types[name] not in FLOATS:
        raise ModelError(f"input {quoted(name)}: expected floating-point numbers; export it anew")
    if not 2 <= len(dimensions) <= 4 or dimensions[-1] is None:
        raise ModelError(
            f"input {quoted(name)}: shape {dimensions}, expected (batch, time, C), C being fixed"
        )
    free = [axis for axis, size in enumerate(dimensions) if size is None]
    for time in (*free, None):
        problem: ModelError | None = None
        for count in (steps, *_sizes(graph)) if time is not None else (1,):
            shape = tuple(
                (count if k == time else 1) if size is None else size for k, size in enumerate(dimensions)
            )
            walk = _Walk(graph, options, name, shape)
            try:
                way = walk.finish()
            except ModelError as error:
                if time is None or (walk.steps == steps == count):
                    problem = error
            else:
                if time is None or walk.steps == count:
                    return way._replace(fixed=time is None or count != steps)
        if problem is not None:
            raise problem
    raise AssertionError("the last shape tried decides")


def _sizes(graph: Graph) -> list[int]:
    """The numbers of rows that an exporter may have fixed, although it says that they are free."""
    shapes = [graph.tensors.get(node.input(1)) for node in graph.nodes.values() if node.op == "Reshape"]
    found = {
        int(size)
        for tensor in shapes
        if tensor is not None and tensor.data_type == INT64
        for size in tensor_values(tensor.name, tensor).ravel()[:8]
    }
    return sorted(size for size in found if 1 < size <= MOST_ROWS)[:SIZES_TRIED]


def _check_recurrent(graph: Graph) -> None:
    ops = {node.op for node in graph.nodes.values()}
    if ops & (RECURRENT.keys() | {"If"}):
        return
    if found := ops & {"Loop", "Scan"}:
        raise ModelError(
            f"its recurrent layers are written as {' and '.join(sorted(found))}, as tf2onnx has Keras's GRU "
            "and SimpleRNN, step by step in a graph of its own; save the model with "
            "model.save('net.keras') and import that"
        )
    raise ModelError(
        f"no {', '.join(RECURRENT)} among its nodes: either it is another network, or the exporter wrote it "
        "unrolled; from PyTorch, export it with dynamo=False, or, if it is made of nn.LSTMCell, save its "
        "state dict: safetensors.torch.save_file(module.state_dict(), 'net.safetensors')"
    )


def _rows_input(graph: Graph) -> str:
    """The one input that reaches the outputs by another way than as a state."""
    reached, waiting, found = set[str](), list(graph.outputs), list[str]()
    while waiting:
        name = waiting.pop()
        if not name or name in reached:
            continue
        reached.add(name)
        if name in graph.inputs:
            found.append(name)
        elif name in graph.nodes:
            node = graph.nodes[name]
            waiting += node.inputs[:STATES] if node.op in RECURRENT else node.needs
    if len(found) != 1:
        raise ModelError(f"expected one input of rows, found {quoted(sorted(found)) if found else 'none'}")
    return found[0]


class _Walk(Walked):
    """One walk, from the outputs back to what they need."""

    def __init__(self, graph: Graph, options: ImportOptions, name: str, shape: tuple[int, ...]):
        if math.prod(shape) > INPUT_LIMIT:
            most = f"at most {INPUT_LIMIT:,} values; export it for fewer rows"
            raise ModelError(f"input {quoted(name)}: shape {shape} is too large, {most}")
        # of a shape of two it shows later whether the last holds channels or rows
        super().__init__(graph, options, Sources(math.prod(shape), shape[-1] if len(shape) > 2 else None))
        self.name, self.shape = name, shape
        ids = np.arange(math.prod(shape)).reshape(shape)
        self.values: dict[str, Value] = {name: GraphRows(ids, "")}
        self.states: list[str] = []
        self.nodes = dict(graph.nodes)
        self.branches = 0
        self.made = 0  # elements
        if (kind := graph.types[name]) != FLOAT:
            self.notes.append(f"computes in {type_name(kind).lower()}, here in float32")

    def finish(self) -> Way:
        """The whole way. Raises ModelError naming the node or output that cannot be run."""
        found = {name: self._value(name) for name in self.graph.outputs}
        rows = {name: value for name, value in found.items() if isinstance(value, GraphRows)}
        named = {name: value for name, value in rows.items() if not self.sources.is_final(value)} or rows
        if self.order is None:
            raise ModelError(
                f"output {quoted(self.graph.outputs)}: no {', '.join(RECURRENT)} on the way to it"
            )
        if not named:
            raise ModelError(f"expected an output of rows, found {quoted(sorted(found))}")
        answers = {name: self._answer(name, value, len(named)) for name, value in named.items()}
        [answered, *others] = [numbers for numbers, _, _ in answers.values()]
        if any(not np.array_equal(answered, other) for other in others):
            raise ModelError(f"outputs {quoted(list(answers))}: expected answers to the same rows")
        vectors = [
            RowVector(name, vector.width, vector.part, vector.of) for name, (_, vector, _) in answers.items()
        ]
        once = not np.isin(self.order, answered).all()
        if once and not np.array_equal(np.unique(answered), np.unique(self.order[-1])):
            moved = next(iter(named.values())).moved
            raise ModelError(f"outputs {quoted(list(answers))}: neither all rows nor the last after {moved}")
        horizon = max(horizon for _, _, horizon in answers.values())
        if horizon > 1 and not once and len(self.order) > 1:
            moved = next(iter(named.values())).moved
            raise ModelError(
                f"outputs {quoted(list(answers))}: the values of rows are not in order after {moved}"
            )
        return Way(
            joined("the outputs", vectors) if len(vectors) > 1 else next(iter(answers.values()))[1],
            horizon,
            self.name,
            self.shape,
            tuple(answers),
            self.order,
            answered,
            False,
            once,
            [name for name in self.graph.inputs if name in self.states],
            self.notes,
            frozenset(self.values),
        )

    def _answer(self, name: str, value: GraphRows, outputs: int) -> tuple[np.ndarray, RowVector, int]:
        """The rows that an output answers, with what, and how many rows an answer is."""
        what, shape = f"output {quoted(name)}", value.array.shape
        try:
            numbers, vector = self.sources.whole(what, value)
            return numbers.ravel(), vector, 1
        except ModelError:
            if len(shape) < 3 or outputs > 1:
                raise
        merged = value.array.reshape(*shape[:-2], -1)  # reshaped at the end: rows of outputs
        numbers, vector = self.sources.whole(what, value._replace(array=merged))
        return numbers.ravel(), vector, shape[-2]

    def _value(self, name: str) -> Value:
        """The value called ``name``, after those that it needs."""
        waiting, begun = [name], set[str]()
        while waiting:
            name = waiting[-1]
            if name not in self.values:
                node = self.nodes.get(name)
                if node is None:
                    self.values[name] = self._given(name)
                elif missing := [needed for needed in self._needs(node) if needed not in self.values]:
                    if name in begun and node.op != "If":
                        raise ModelError(f"{node}: needs its own output")
                    begun.add(name)
                    waiting += missing
                    continue
                else:
                    self.values |= zip(node.outputs, self._results(node), strict=False)
                    if name not in self.values:
                        raise ModelError(f"{node}: has no output {quoted(name)}")
            waiting.pop()
        return self.values[name]

    def _needs(self, node: Node) -> list[str]:
        """The values that must be there first; of an If whose condition is there, its branch's results."""
        needed = [name for name in node.inputs if name]
        if node.op == "If" and needed and needed[0] in self.values:
            needed += self._branch(node)[1]
        return needed

    def _branch(self, node: Node) -> tuple[dict[str, Node], list[str]]:
        """The nodes and the results of the branch that an If takes."""
        condition = self.values[node.input(0)]
        if not isinstance(condition, Constant) or condition.array.size != 1:
            raise ModelError(
                f"{node}: which branch is taken hangs on {in_words([condition])}; export it for inputs of "
                "fixed sizes, or without the condition"
            )
        nodes, tensors, results = branch(node, "then_branch" if condition.array.item() else "else_branch")
        if nodes and not nodes.keys() & self.nodes.keys():
            self.branches += 1
            if self.branches > BRANCHES:
                raise ModelError(f"{node}: more than {BRANCHES:,} branches")
            self.nodes |= nodes
        self.values |= {
            name: Constant(tensor_values(name, tensor))
            for name, tensor in tensors.items()
            if name not in self.values
        }
        return nodes, results

    def _given(self, name: str) -> Value:
        """A tensor of the file, or an input that holds a state."""
        if name in self.graph.tensors:
            return Constant(tensor_values(name, self.graph.tensors[name]))
        if name not in self.graph.inputs:
            raise ModelError(f"{quoted(name)}: used, but not in the file")
        self.states.append(name)
        shape = [size or 1 for size in self.graph.inputs[name]]
        if len(shape) > 4 or math.prod(shape) > LARGEST:
            raise ModelError(f"input {quoted(name)}: shape {quoted(shape)} is too large for a state")
        return GraphState(np.broadcast_to(np.float32(0), shape))

    def _results(self, node: Node) -> Sequence[Value]:
        """The outputs of ``node``, in order."""
        if node.op == "If":
            return [self.values[name] for name in self._branch(node)[1]]
        given = [self.values[name] if name else None for name in node.inputs]
        rows = [value for value in given if isinstance(value, GraphRows)]
        states = [value for value in given if isinstance(value, GraphState)]
        moved = [*rows, *states]
        moving = node.op in JOINS or (len(moved) == 1 and moved[0] is given[0])
        if node.op == "Shape" or (not rows and not states and node.op in MAKES):
            return [Constant(array) for array in self._folded(node, given)]
        if rows and node.op in TABLE:
            return TABLE[node.op](self, node, given)
        if node.op in MOVES and moving and not (rows and states):
            made = self._folded(node, given)
            if rows:
                return [GraphRows(array, str(node)) for array in made]
            return [GraphState(array) for array in made]
        if rows and node.op in REFUSED:
            raise ModelError(f"{node}: {REFUSED[node.op]}")
        only = ", ".join([*TABLE, *MOVES])
        raise ModelError(f"{node}: cannot be run on {in_words(given)}; only {only} can be run")

    def _folded(self, node: Node, given: Sequence[Value | None]) -> list[np.ndarray]:
        """What an operator makes of arrays."""
        arrays = fold(node, [value and value.array for value in given])
        self.count(node, sum(array.size for array in arrays))
        return arrays

    def count(self, node: Node, elements: int) -> None:
        """Raise ModelError when all that is made on the way is too much."""
        self.made += elements
        if self.made > FOLDED_LIMIT:
            raise ModelError(f"{node}: more than {FOLDED_LIMIT:,} elements are made on the way to it")
