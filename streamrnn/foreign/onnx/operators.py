"""The table of ONNX operators on rows: what each that can be run does to them, and why others cannot be."""

from collections.abc import Callable, Sequence

import numpy as np

from streamrnn.foreign.network import ImportOptions, Stage, numbers
from streamrnn.foreign.onnx.dense import dense_stage, scaling_of
from streamrnn.foreign.onnx.graph import FLOATS, Graph, Node
from streamrnn.foreign.onnx.moving import Constant, GraphRows, Sources, Value, in_words
from streamrnn.foreign.onnx.products import product
from streamrnn.foreign.onnx.recurrent import recurrent_stage
from streamrnn.foreign.vectors import Activation, RowVector, activated, passed, scaled, summed
from streamrnn.model.activations import say_activation
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError

FLOAT = 1  # TensorProto.FLOAT
LARGEST_FLOAT = float(np.finfo(np.float32).max)
Given = Sequence[Value | None]


class Walked:
    """What operators on rows find and leave of a walk through a graph."""

    def __init__(self, graph: Graph, options: ImportOptions, sources: Sources):
        self.graph, self.options, self.sources = graph, options, sources
        self.order: np.ndarray | None = None  # (T, B): the number of each row, as recurrent layers take them
        self.notes: list[str] = []
        self.unbiased: set[RowVector] = set()  # straight out of a product with weights

    @property
    def steps(self) -> int | None:
        """How many time steps the first recurrent layer takes, None if it was not reached."""
        return None if self.order is None else len(self.order)

    def count(self, node: Node, elements: int) -> None:
        """Raise ModelError when all that is made on the way is too much."""
        raise NotImplementedError

    def rows(
        self, node: Node, numbers: np.ndarray, vector: RowVector | None, width: int, final: bool = False
    ) -> GraphRows:
        """``vector`` of each of the rows ``numbers``."""
        self.count(node, numbers.size * width)
        return GraphRows(self.sources.add(vector, width, numbers, final), str(node))


def _by_row(
    make: Callable[[Node, RowVector, Given], RowVector],
) -> Callable[[Walked, Node, Given], list[Value]]:
    """An operator that makes of each row another, and takes nothing beside it but constants."""

    def operator(walk: Walked, node: Node, given: Given) -> list[Value]:
        value = given[0] if given else None
        if not isinstance(value, GraphRows) or not all(
            one is None or isinstance(one, Constant) for one in given[1:]
        ):
            raise ModelError(f"{node}: expected rows first and then constants, found {in_words(given)}")
        numbers, vector = walk.sources.whole(str(node), value)
        made = make(node, vector, given)
        return [walk.rows(node, numbers, made, made.width)]

    return operator


def _activation(name: str, *attributes: tuple[str, float]) -> Callable[[Walked, Node, Given], list[Value]]:
    """An activation, with the attributes that are its numbers, and what they are when left out."""

    def make(node: Node, vector: RowVector, given: Given) -> RowVector:
        said = say_activation(name, *(node.number(key, usual) for key, usual in attributes))
        return activated(vector, str(node), said)

    return _by_row(make)


def _gelu(node: Node, vector: RowVector, given: Given) -> RowVector:
    said = node.attributes.get("approximate", "none")
    if said not in ("none", "tanh"):
        raise ModelError(f"{node}: attribute approximate, {said!r}: not known")
    return activated(vector, str(node), "gelu" if said == "none" else "gelu_tanh")


def _clip(node: Node, vector: RowVector, given: Given) -> RowVector:
    limits = []
    for k, (key, usual) in enumerate((("min", -LARGEST_FLOAT), ("max", LARGEST_FLOAT)), 1):
        array = _constant(node, given, k)
        if array is not None and array.size != 1:
            raise ModelError(f"{node}: {key} of shape {array.shape}, expected one number")
        limits.append(float(array.item()) if array is not None else node.number(key, usual))
    low, high = (min(max(limit, -LARGEST_FLOAT), LARGEST_FLOAT) for limit in limits)
    if (low, high) == (0.0, LARGEST_FLOAT):
        return activated(vector, str(node), "relu")
    if not low < high:
        raise ModelError(f"{node}: clips to {low:g} to {high:g}")
    return activated(vector, str(node), say_activation("clip", low, high))


def _slope(node: Node, vector: RowVector, given: Given) -> RowVector:
    """PRelu, of one slope for all."""
    slopes = _constant(node, given, 1)
    if slopes is None or not slopes.size or (slopes != slopes.ravel()[0]).any():
        raise ModelError(f"{node}: has a slope for each unit, which no activation here has")
    return activated(vector, str(node), say_activation("leaky_relu", float(slopes.ravel()[0])))


def _of_all(name: str) -> Callable[[Walked, Node, Given], list[Value]]:
    """A function of all values of a row."""

    def operator(walk: Walked, node: Node, given: Given) -> list[Value]:
        value = given[0]
        if isinstance(value, GraphRows):
            rank = value.array.ndim
            # before opset 13 all from the axis on counts as one
            if node.number("axis", -1 if walk.graph.opset >= 13 else 1) not in (-1, rank - 1):
                raise ModelError(
                    f"{node}: attribute axis, {node.attributes.get('axis')}: not that of the channels"
                )
        return _by_row(lambda node, vector, given: activated(vector, str(node), name))(walk, node, given)

    return operator


def _layer_normalization(walk: Walked, node: Node, given: Given) -> list[Value]:
    value = given[0]
    if isinstance(value, GraphRows) and node.number("axis", -1) not in (-1, value.array.ndim - 1):
        raise ModelError(f"{node}: attribute axis, {node.attributes.get('axis')}: not that of the channels")

    def make(node: Node, vector: RowVector, given: Given) -> RowVector:
        said = say_activation("layer_norm", node.number("epsilon", 1e-5))
        scale, shift = (_floats(node, given, k, usual) for k, usual in ((1, 1.0), (2, 0.0)))
        return scaled(activated(vector, node.name, said), str(node), scale, shift)

    return _by_row(make)(walk, node, given)


def _batch_normalization(walk: Walked, node: Node, given: Given) -> list[Value]:
    """Its channels are axis 1: (x - mean) / sqrt(variance + epsilon) * scale + bias."""
    value = given[0]
    if not isinstance(value, GraphRows) or value.array.ndim < 2 or len(given) < 5:
        raise ModelError(f"{node}: cannot be run on {in_words(given)}")
    if node.number("training_mode"):
        raise ModelError(f"{node}: training_mode is set; export the model in evaluation mode")

    def make(node: Node, vector: RowVector, given: Given) -> RowVector:
        scale, bias, mean, variance = (_floats(node, given, k, 0.0) for k in (1, 2, 3, 4))
        variance = variance + node.number("epsilon", 1e-5)
        if not (variance > 0).all():
            raise ModelError(f"{node}: its variances have values below 0")
        scale = scale / np.sqrt(variance)
        return scaled(vector, str(node), scale, bias - mean * scale)

    last = [value._replace(array=np.moveaxis(value.array, 1, -1)), *given[1:]]
    [made] = _by_row(make)(walk, node, last)
    assert isinstance(made, GraphRows)
    return [made._replace(array=np.moveaxis(made.array, -1, 1))]


def _passed_on(walk: Walked, node: Node, given: Given) -> list[Value]:
    """Cast and Dropout, which change nothing of what is run in float32."""
    if node.op == "Cast" and node.attributes.get("to") not in FLOATS:
        raise ModelError(f"{node}: attribute to, {node.attributes.get('to')}: rows are float32 (1) here")
    training = given[2] if node.op == "Dropout" and len(given) > 2 else None
    if training is not None and (not isinstance(training, Constant) or training.array.any()):
        raise ModelError(f"{node}: training_mode is set; export the model in evaluation mode")
    value = given[0]
    assert value is not None
    return [value]


def _product(walk: Walked, node: Node, given: Given) -> list[Value]:
    """MatMul and Gemm with constant weights."""
    addend = _constant(node, given, 2)

    def make(node: Node, vector: RowVector, given: Given) -> RowVector:
        weights = _constant(node, given, 1)
        assert weights is not None
        weights = numbers(f"{node}, input 1", weights)
        bias = None if addend is None else numbers(f"{node}, input 2", addend)
        made = passed(vector, dense_stage(node, vector.width, weights, bias))
        if bias is None:
            walk.unbiased.add(made)
        return made

    if len(given) < 2 or not isinstance(given[1], Constant):
        raise ModelError(f"{node}: expected rows first and then constants, found {in_words(given)}")
    return _by_row(make)(walk, node, given)


def _arithmetic(walk: Walked, node: Node, given: Given) -> list[Value]:
    """Add, Sub, Mul and Div: of rows and constants, of two rows, or what with others makes an activation."""
    rows = [value for value in given if isinstance(value, GraphRows)]
    if len(given) != 2 or len(rows) + sum(isinstance(value, Constant) for value in given) != 2:
        raise ModelError(f"{node}: cannot be run on {in_words(given)}")
    if len(rows) == 1:
        return [_with_constant(walk, node, rows[0], given)]
    first, second = (rows[k]._replace(array=array) for k, array in enumerate(_broadcast(node, rows)))
    (numbers, a), (others, b) = (walk.sources.whole(str(node), one) for one in (first, second))
    if not np.array_equal(numbers, others):
        raise ModelError(f"{node}: takes rows and rows of other steps")
    if node.op in ("Add", "Sub"):
        made = summed(str(node), [a, b if node.op == "Add" else scaled(b, str(node), -1.0)])
    else:
        made = product(node, a, b)
    return [walk.rows(node, numbers, made, made.width)]


def _broadcast(node: Node, rows: list[GraphRows]) -> list[np.ndarray]:
    try:
        return list(np.broadcast_arrays(*(one.array for one in rows)))
    except ValueError as error:
        raise ModelError(f"{node}: does not fit its inputs ({error}); export it anew") from error


def _with_constant(walk: Walked, node: Node, rows: GraphRows, given: Given) -> GraphRows:
    right = given[0] is rows
    constant = given[1] if right else given[0]
    assert isinstance(constant, Constant)
    if node.op == "Div" and not right:
        raise ModelError(f"{node}: expected rows first and then constants, found {in_words(given)}")
    values = numbers(f"{node}, input {int(right)}", constant.array)
    extra = max(values.ndim - rows.array.ndim, 0)
    rows = rows._replace(array=rows.array.reshape((1,) * extra + rows.array.shape))
    which, vector = walk.sources.whole(str(node), rows)
    scale, shift = scaling_of(node, vector.width, values, right)
    part = vector.part
    if (
        vector in walk.unbiased
        and node.op == "Add"
        and isinstance(part, Stage)
        and isinstance(part.part, Dense)
    ):
        dense = Dense(part.part.weight, np.broadcast_to(shift, vector.width))
        made = passed(vector.of[0], part._replace(part=dense))
    else:
        made = scaled(vector, str(node), scale, shift)
    return walk.rows(node, which, made, made.width)


def _recurrent(walk: Walked, node: Node, given: Given) -> list[Value]:
    """Rows and states after a recurrent layer, whose time steps must be those of the layer before."""
    value = given[0] if given else None
    if not isinstance(value, GraphRows):
        raise ModelError(f"{node}: input X: expected rows, found {in_words(given[:1])}")
    order, vector = walk.sources.whole(str(node), value)
    layout = node.number("layout")
    if layout not in (0, 1) or order.ndim != 2:
        raise ModelError(f"{node}: X of shape {value.array.shape} in layout {layout} cannot be run")
    order = order.T if layout else order  # (T, B)
    if walk.order is None:
        if np.unique(order).size != walk.sources.rows or order.size != walk.sources.rows:
            raise ModelError(f"{node}: takes only some of the rows after {value.moved}")
        walk.order = order
    elif not np.array_equal(walk.order, order):
        if order.size > order.shape[1] and (order == walk.order[-1]).all():
            raise ModelError(
                f"{node}: takes the last answer at each of its steps, as the decoder of an autoencoder does, "
                "which would need the end of a window before it begins"
            )
        raise ModelError(f"{node}: its steps are not those of the layer before, after {value.moved}")
    stage = recurrent_stage(walk.graph, node, given, order.shape, walk.options, walk.notes)
    if stage.sizes[0] != vector.width:
        raise ModelError(f"{node}: takes {stage.sizes[0]} values of {vector.width}")
    hidden, after = stage.sizes[1], passed(vector, stage)
    each = walk.rows(node, order[:, np.newaxis], after, hidden)  # (T, 1, B, H)
    last = walk.rows(node, order[-1:], after, hidden, final=True)  # (1, B, H)
    cell = walk.rows(node, order[-1:], None, hidden, final=True)
    if not layout:
        return [each, last, cell]
    turned = [one._replace(array=np.swapaxes(one.array, 0, 1)) for one in (last, cell)]
    return [each._replace(array=each.array.transpose(2, 0, 1, 3)), *turned]


def _constant(node: Node, given: Given, k: int) -> np.ndarray | None:
    value = given[k] if k < len(given) else None
    if value is not None and not isinstance(value, Constant):
        raise ModelError(f"{node}: expected rows first and then constants, found {in_words(given)}")
    return None if value is None else value.array


def _floats(node: Node, given: Given, k: int, usual: float) -> np.ndarray:
    array = _constant(node, given, k)
    if array is None:
        return np.full(1, usual)
    return numbers(f"{node}, input {k}", array).astype(np.float64).ravel()


TABLE: dict[str, Callable[[Walked, Node, Given], list[Value]]] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("Cast", "Dropout"), _passed_on),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Softmax": _of_all("softmax"),
    "LogSoftmax": _of_all("log_softmax"),
    "Tanh": _activation("tanh"),
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "HardSigmoid": _activation("hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": _activation("hard_silu"),
    "LeakyRelu": _activation("leaky_relu", ("alpha", 0.01)),
    "ThresholdedRelu": _activation("thresholded_relu", ("alpha", 1.0)),
    "Elu": _activation("elu", ("alpha", 1.0)),
    "Selu": _activation("selu", ("alpha", 1.6732632), ("gamma", 1.050701)),
    "Softsign": _activation("softsign"),
    "Softplus": _activation("softplus"),
    "Gelu": _by_row(_gelu),
    "Clip": _by_row(_clip),
    "PRelu": _by_row(_slope),
    "Neg": _by_row(lambda node, vector, given: scaled(vector, str(node), -1.0)),
    # runs only as a part of what ``product`` knows
    "Erf": _by_row(
        lambda node, vector, given: RowVector(str(node), vector.width, Activation("erf"), (vector,))
    ),
}
_SEVERAL_ROWS = "sees several rows at once, and a step of a stream sees one; its state does not hold them"
REFUSED = dict.fromkeys(
    ("Conv", "ReduceMean", "ReduceMax", "ReduceSum", "MaxPool", "AveragePool", "GlobalAveragePool"),
    _SEVERAL_ROWS,
)
