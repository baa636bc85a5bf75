"""An ONNX file as data: the nodes and tensors of its graph. Needs onnx, an extra."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto

from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

BRANCHES = ("then_branch", "else_branch")  # of an If
OLDEST_OPSET = 7  # recurrent operators and broadcasting have meant the same since
# the element types that tensors of weights and of shape arithmetic have
DTYPES = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: np.float32,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.BOOL: np.bool_,
}
# those that rows can be of: all become float32
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
# what numpy raises for arrays and attributes that do not fit one another
FAULTS = (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError, ZeroDivisionError)


@dataclass(frozen=True, eq=False)
class Node:
    """One node: ``str`` of it names it as messages do."""

    name: str
    op: str
    inputs: tuple[str, ...]  # "" = left out
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"node {quoted(self.name)} ({self.op})"

    @property
    def needs(self) -> list[str]:
        """The values that it takes, those in its branches too."""
        inner = [self.attributes.get(name) for name in BRANCHES]
        return [*self.inputs, *(name for graph in inner if graph is not None for name in _taken(graph))]

    def input(self, k: int) -> str:
        return self.inputs[k] if k < len(self.inputs) else ""

    def number(self, name: str, default: float = 0) -> float:
        """The attribute ``name``. Raises ModelError if it is no number."""
        found = self.attributes.get(name, default)
        if not isinstance(found, int | float):
            raise ModelError(f"{self}: attribute {name}, {quoted(found)}, expected a number")
        return found


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph whose nodes are all standard operators. A dimension of None is not fixed."""

    producer: str
    opset: int
    nodes: dict[str, Node]  # by the name of each of their outputs
    tensors: dict[str, TensorProto]
    inputs: dict[str, tuple[int | None, ...]]
    types: dict[str, int]  # of the inputs' elements
    outputs: tuple[str, ...]


def load(path: Path) -> Graph:
    """The graph of the ONNX file at ``path``. Raises ModelError for a file that is not one, or not whole."""
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        graph = model.graph
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        opset = opsets.get("", opsets.get("ai.onnx", 0))
        if opset < OLDEST_OPSET:
            raise ModelError(f"opset {opset}, expected {OLDEST_OPSET} or later; export it anew")
        own = {(function.domain, function.name) for function in model.functions}
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        nodes: dict[str, Node] = {}
        for proto in graph.node:
            node = _node(proto, own)
            for output in filter(None, node.outputs):
                if output in nodes or output in tensors:
                    raise ModelError(f"{node}: {quoted(output)} is made twice")
                nodes[output] = node
        inputs = [value for value in graph.input if value.name not in tensors]
        return Graph(
            model.producer_name,
            opset,
            nodes,
            tensors,
            {value.name: _dimensions(value) for value in inputs},
            {value.name: value.type.tensor_type.elem_type for value in inputs},
            tuple(value.name for value in graph.output),
        )
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"not a whole ONNX file ({quoted(str(error))})") from error


def tensor_values(name: str, tensor: TensorProto) -> np.ndarray:
    """The values of a tensor in the file itself, read-only."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(
            f"tensor {quoted(name)}: kept in another file, expected one file: export with "
            "external_data=False, or in Python: import onnx; onnx.save(onnx.load('x.onnx'), 'one.onnx')"
        )
    if tensor.data_type not in DTYPES:
        raise ModelError(f"tensor {quoted(name)}: elements of type {type_name(tensor.data_type)}")
    try:
        stored = len(tensor.raw_data) if tensor.HasField("raw_data") else tensor.ByteSize() * 8
        if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) > stored:
            raise ValueError(f"{stored} bytes")
        array = onnx.numpy_helper.to_array(tensor)
        return array.astype(np.float32) if tensor.data_type == TensorProto.BFLOAT16 else array
    except FAULTS as error:
        problem = f"shape {quoted(list(tensor.dims))} does not fit what is stored"
        raise ModelError(f"tensor {quoted(name)}: {problem}; export it anew") from error


def branch(node: Node, name: str) -> tuple[dict[str, Node], dict[str, TensorProto], list[str]]:
    """The nodes and tensors in one of the branches of an If, and the names of what it gives."""
    graph = node.attributes.get(name)
    if not isinstance(graph, onnx.GraphProto):
        raise ModelError(f"{node}: has no {name}")
    nodes = {
        output: made for proto in graph.node for made in [_node(proto, set())] for output in made.outputs
    }
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    return nodes, tensors, [value.name for value in graph.output]


def _taken(graph: onnx.GraphProto) -> list[str]:
    """All that the nodes of a branch take; of branches within, what is taken there is not looked at."""
    return [name for node in graph.node for name in node.input] + [value.name for value in graph.output]


def _node(proto: onnx.NodeProto, own: set[tuple[str, str]]) -> Node:
    name = proto.name or next(iter(proto.output), "")
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    standard = proto.domain in ("", "ai.onnx") and (proto.domain, proto.op_type) not in own
    op = proto.op_type if standard else f"{proto.domain}.{proto.op_type}"
    return Node(name, op, tuple(proto.input), tuple(proto.output), attributes)


def _attribute(attribute: AttributeProto) -> Any:
    """A number, text, tensor, graph or list of numbers or texts; None for what no operator here has."""
    kind = attribute.type
    if kind == AttributeProto.STRING:
        return attribute.s.decode(errors="replace")
    if kind == AttributeProto.STRINGS:
        return [text.decode(errors="replace") for text in attribute.strings]
    if kind in (AttributeProto.INTS, AttributeProto.FLOATS):
        return list(attribute.ints if kind == AttributeProto.INTS else attribute.floats)
    fields = {
        AttributeProto.INT: "i",
        AttributeProto.FLOAT: "f",
        AttributeProto.TENSOR: "t",
        AttributeProto.GRAPH: "g",
    }
    return getattr(attribute, fields[kind]) if kind in fields else None


def _dimensions(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(
        dimension.dim_value if dimension.dim_value > 0 else None
        for dimension in value.type.tensor_type.shape.dim
    )


def type_name(number: int) -> str:
    return TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else str(number)
