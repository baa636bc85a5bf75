"""What an ONNX graph does to a row on its way from the input to the output.

The input of the graph is a tensor of numbered rows. Operators that only move values are carried out on the
numbers, with every dimension a number too, so shape arithmetic folds to constants; where a layer or the
output needs whole rows, in order, the numbers tell whether they are.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.chain import Activation, Part
from streamrnn.foreign.network import GOES_ON, ImportOptions, Stage, numbers
from streamrnn.foreign.onnx.dense import dense_stage, scaling_part
from streamrnn.foreign.onnx.folding import JOINS, LARGEST, MAKES, MOVES, fold
from streamrnn.foreign.onnx.graph import Graph, Node, tensor_values
from streamrnn.foreign.onnx.moving import Constant, GraphRows, GraphState, Value, in_words, is_computed
from streamrnn.foreign.onnx.recurrent import RECURRENT, STATES, recurrent_stage
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

INPUT_LIMIT = 1 << 20  # values of the graph's input
FOLDED_LIMIT = 1 << 28  # elements that may be made on the way
ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu", "Sigmoid": "sigmoid"}
FLOAT = 1  # TensorProto.FLOAT
BY_ROW = ("MatMul", "Gemm", "Add", "Sub", "Mul", "Div")
RUN = [*RECURRENT, *BY_ROW, *ACTIVATIONS, *MOVES]


class Way(NamedTuple):
    """The way of rows through a graph whose free dimensions are set, and where they come and go."""

    parts: tuple[Part, ...]
    input: str
    shape: tuple[int, ...]  # of the input
    output: str
    order: np.ndarray  # (T, B): the number of each row in the input
    answered: np.ndarray  # (rows in the output,): the number of the row that each answers
    notes: list[str]
    used: frozenset[str]  # every value on the way
    window: int = 0  # the rows that the graph is fixed to, if it answers the last of them from zeros; else 0


def find_way(graph: Graph, options: ImportOptions, steps: int = 3) -> Way:
    """The way of a sequence of ``steps`` rows, or of as many as the graph is fixed to.

    Which of the input's free dimensions is time shows at the first recurrent layer: they are tried in turn.
    Raises ModelError naming the node that cannot be run.
    """
    if not any(node.op in RECURRENT for node in graph.nodes.values()):
        raise ModelError(
            f"no {', '.join(RECURRENT)} among its nodes: either it is another network, or the exporter wrote "
            "it unrolled; from PyTorch, export it with dynamo=False, or, if it is made of nn.LSTMCell, "
            "save its state dict: safetensors.torch.save_file(module.state_dict(), 'net.safetensors')"
        )
    name = _rows_input(graph)
    dimensions = graph.inputs[name]
    if graph.types[name] != FLOAT:
        raise ModelError(f"input {quoted(name)}: expected float32; export it anew")
    if not 2 <= len(dimensions) <= 4 or dimensions[-1] is None:
        raise ModelError(
            f"input {quoted(name)}: shape {dimensions}, expected (batch, time, C), C being fixed"
        )
    free = [axis for axis, size in enumerate(dimensions) if size is None]
    for time in (*free, None):
        shape = tuple(
            (steps if k == time else 1) if size is None else size for k, size in enumerate(dimensions)
        )
        walk = _Walk(graph, options, name, shape)
        try:
            way = walk.finish()
        except ModelError:
            if time is None or walk.steps == steps:
                raise
        else:
            steps_fixed = time is None and len(way.order) > 1
            once = way.answered.size < way.order.size
            if steps_fixed and once and not walk.states:
                way = way._replace(window=len(way.order))
            elif steps_fixed or once:
                window = f"windows of {len(way.order)} rows" if steps_fixed else "windows of rows"
                way.notes.append(f"the file is of {window}, each from a state of zeros; here {GOES_ON}")
            if time is None or walk.steps == steps:
                return way
    raise AssertionError("the last shape tried decides")


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
            waiting += node.inputs[:STATES] if node.op in RECURRENT else node.inputs
    if len(found) != 1:
        raise ModelError(f"expected one input of rows, found {quoted(sorted(found)) if found else 'none'}")
    return found[0]


class _Walk:
    """One walk, from the outputs back to what they need."""

    def __init__(self, graph: Graph, options: ImportOptions, name: str, shape: tuple[int, ...]):
        if math.prod(shape) > INPUT_LIMIT:
            most = f"at most {INPUT_LIMIT:,} values; export it for fewer rows"
            raise ModelError(f"input {quoted(name)}: shape {shape} is too large, {most}")
        self.graph, self.options, self.name, self.shape = graph, options, name, shape
        ids = np.arange(math.prod(shape)).reshape(shape)
        self.values: dict[str, Value] = {name: GraphRows(ids, shape[-1], (), "")}
        self.states: list[str] = []
        self.order: np.ndarray | None = None  # (T, B)
        self.made = 0  # elements
        self.notes: list[str] = []

    @property
    def steps(self) -> int | None:
        """How many time steps the first recurrent layer takes, None if it was not reached."""
        return None if self.order is None else len(self.order)

    def finish(self) -> Way:
        """The whole way. Raises ModelError naming the node or output that cannot be run."""
        found = {name: self._value(name) for name in self.graph.outputs}
        rows = {name: value for name, value in found.items() if isinstance(value, GraphRows)}
        named = {name: value for name, value in rows.items() if not value.final} or rows
        if len(named) != 1:
            raise ModelError(f"expected one output, found {quoted(sorted(named) or sorted(found))}")
        [(output, value)] = named.items()
        if self.order is None:
            raise ModelError(f"output {quoted(output)}: no {', '.join(RECURRENT)} on the way to it")
        answered = self._whole(f"output {quoted(output)}", value).ravel()
        final = not np.isin(self.order, answered).all()
        if final and not np.array_equal(np.unique(answered), np.unique(self.order[-1])):
            raise ModelError(
                f"output {quoted(output)}: gives neither all rows nor the last after {value.moved}"
            )
        if final:
            self.notes.append("the network answers once per sequence; here every row is answered")
        if self.states:
            names = ", ".join(quoted(name) for name in self.graph.inputs if name in self.states)
            self.notes.append(f"states that the file takes as inputs ({names}) start at zero in every stream")
        return Way(
            value.path,
            self.name,
            self.shape,
            output,
            self.order,
            answered,
            self.notes,
            frozenset(self.values),
        )

    def _value(self, name: str) -> Value:
        """The value called ``name``, after those that it needs."""
        waiting, begun = [name], set[str]()
        while waiting:
            name = waiting[-1]
            if name not in self.values:
                node = self.graph.nodes.get(name)
                if node is None:
                    self.values[name] = self._given(name)
                elif missing := [needed for needed in node.inputs if needed and needed not in self.values]:
                    if name in begun:
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

    def _results(self, node: Node) -> Iterator[Value]:
        """The outputs of ``node``, in order."""
        given = [self.values[name] if name else None for name in node.inputs]
        rows = [value for value in given if isinstance(value, GraphRows)]
        moving = given[:1] if rows and rows[0] is given[0] else []
        constant = all(value is None or isinstance(value, Constant) for value in given[len(moving) :])
        if node.op in RECURRENT:
            yield from self._recurrent(node, given)
        elif node.op == "Shape" or (constant and not moving and node.op in MOVES | MAKES):
            yield Constant(self._folded(node, given))
        elif constant and moving and node.op in MOVES:
            yield self._moved(node, rows[0], given)
        elif node.op in MOVES | JOINS and all(value.final for value in rows):
            computed = bool(rows) or any(map(is_computed, given))
            yield GraphState(self._folded(node, given, states=True), computed)
        elif len(rows) == 1 and node.op in ACTIVATIONS:
            yield self._by_row(node, rows[0], rows[0].width, Activation(str(node), ACTIVATIONS[node.op]))
        elif len(rows) == 1 and len(given) > 1 and node.op in BY_ROW:
            yield self._with_constants(node, rows[0], given)
        else:
            remedy = f"only {', '.join(RUN)} can be run"
            if any(map(is_computed, given)):
                remedy = "export what comes of the outputs of the last step, out[:, -1] in place of h_n[-1]"
            raise ModelError(f"{node}: cannot be run on {in_words(given)}; {remedy}")

    def _folded(self, node: Node, given: Sequence[Value | None], states: bool = False) -> np.ndarray:
        """What an operator makes of arrays; with ``states``, of zeros in the shape of those not known."""
        arrays = [
            np.broadcast_to(np.float32(0), value.array.shape)
            if states and isinstance(value, GraphRows)
            else value and value.array
            for value in given
        ]
        array = fold(node, arrays)
        self._count(node, array.size)
        return array

    def _count(self, node: Node, elements: int) -> None:
        """Raise ModelError when all that is made on the way is too much."""
        self.made += elements
        if self.made > FOLDED_LIMIT:
            raise ModelError(f"{node}: more than {FOLDED_LIMIT:,} elements are made on the way to it")

    def _moved(self, node: Node, rows: GraphRows, given: Sequence[Value | None]) -> GraphRows:
        """Rows in other places, or some of them."""
        if node.op == "Cast" and node.attributes.get("to") != FLOAT:
            raise ModelError(f"{node}: attribute to, {node.attributes.get('to')}: rows are float32 (1) here")
        if node.op == "Dropout" and len(given) > 2 and given[2] is not None and given[2].array.any():
            raise ModelError(f"{node}: training_mode is set; export the model in evaluation mode")
        if node.op == "Cast":
            return rows
        return rows._replace(array=self._folded(node, given), moved=str(node))

    def _whole(self, what: str, rows: GraphRows) -> np.ndarray:
        """The number of each row. Raises ModelError unless the last axis holds their values, in order."""
        if rows.width == 1 and rows.array.shape[-1:] != (1,):  # squeezed: each value is a row
            return rows.array
        first = rows.array[..., :1]
        if rows.array.shape[-1:] != (rows.width,) or (first % rows.width).any():
            raise ModelError(f"{what}: takes no whole rows of {rows.width} values after {rows.moved}")
        if not np.array_equal(rows.array, first + np.arange(rows.width)):
            raise ModelError(f"{what}: the values of its rows are not in order after {rows.moved}")
        return first[..., 0] // rows.width

    def _by_row(
        self, node: Node, rows: GraphRows, width: int, part: Part, unbiased: bool = False
    ) -> GraphRows:
        """Rows that have passed ``part``, which makes ``width`` values of each."""
        numbers = self._whole(str(node), rows)
        self._count(node, numbers.size * width)
        ids = numbers[..., np.newaxis] * width + np.arange(width)
        return GraphRows(ids, width, (*rows.path, part), str(node), unbiased=unbiased)

    def _with_constants(self, node: Node, rows: GraphRows, given: Sequence[Value | None]) -> GraphRows:
        """Rows after a product or sum with constants."""
        first, second, *more = given
        right = isinstance(first, GraphRows)
        other, third = second if right else first, more[0] if more else None
        if (
            not isinstance(other, Constant)
            or not (third is None or isinstance(third, Constant))
            or (not right and node.op in ("MatMul", "Gemm", "Div"))
        ):
            raise ModelError(f"{node}: expected rows first and then constants, found {in_words(given)}")
        values = numbers(f"{node}, input {int(right)}", other.array)
        if node.op in ("MatMul", "Gemm"):
            addend = None if third is None else numbers(f"{node}, input 2", third.array)
            dense = dense_stage(node, rows.width, values, addend)
            return self._by_row(node, rows, dense.sizes[1], dense, unbiased=addend is None)
        scaling = scaling_part(node, rows.width, values, right)
        extra = max(values.ndim - rows.array.ndim, 0)
        rows = rows._replace(array=rows.array.reshape((1,) * extra + rows.array.shape))
        last = rows.path[-1] if rows.unbiased else None
        if isinstance(last, Stage) and isinstance(last.part, Dense) and node.op == "Add":
            bias = np.broadcast_to(scaling.shift, rows.width)
            dense = last._replace(part=Dense(last.part.weight, bias))
            return rows._replace(path=(*rows.path[:-1], dense), moved=str(node), unbiased=False)
        return self._by_row(node, rows, rows.width, scaling)

    def _recurrent(self, node: Node, given: Sequence[Value | None]) -> Iterator[Value]:
        """Rows and states after a recurrent layer, whose time steps must be those of the layer before."""
        rows = given[0] if given else None
        if not isinstance(rows, GraphRows):
            raise ModelError(f"{node}: input X: expected rows, found {in_words(given[:1])}")
        layout, order = node.number("layout"), self._whole(str(node), rows)
        if layout not in (0, 1) or order.ndim != 2:
            raise ModelError(f"{node}: X of shape {rows.array.shape} in layout {layout} cannot be run")
        order = order.T if layout else order  # (T, B)
        if self.order is None:
            if np.unique(order).size != math.prod(self.shape[:-1]) or order.size != np.unique(order).size:
                raise ModelError(f"{node}: takes only some of the rows after {rows.moved}")
            self.order = order
        elif not np.array_equal(self.order, order):
            raise ModelError(f"{node}: its steps are not those of the layer before, after {rows.moved}")
        constants = [value.array if isinstance(value, Constant) else None for value in given]
        computed = [isinstance(value, GraphRows) or is_computed(value) for value in given]
        stage = recurrent_stage(self.graph, node, constants, computed, len(order), self.options, self.notes)
        if stage.sizes[0] != rows.width:
            raise ModelError(f"{node}: takes {stage.sizes[0]} values of {rows.width}")
        hidden = stage.sizes[1]
        self._count(node, order.size * hidden)
        ids = order[:, np.newaxis, :, np.newaxis] * hidden + np.arange(hidden)  # (T, 1, B, H)
        path = (*rows.path, stage)
        last = ids[-1]  # (1, B, H)
        yield GraphRows(ids.transpose(2, 0, 1, 3) if layout else ids, hidden, path, str(node))
        yield GraphRows(last.transpose(1, 0, 2) if layout else last, hidden, path, str(node), final=True)
        yield GraphState(np.zeros(last.transpose(1, 0, 2).shape if layout else last.shape, np.float32), True)
