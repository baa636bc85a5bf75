"""One step of a whole network for one stream or a tile of them: a chain of products, and what follows each.

The chain is data, made once by ``pack_network``: dense layers, recurrent ones and the head all pass the one
matrix product, which is therefore compiled, and inlined, once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels import cells
from streamrnn.kernels.affine import TILE_STREAMS, affine, pack, packed_rows
from streamrnn.kernels.simd import LANES, fma, load, store
from streamrnn.model.model import Dense, Layer, Model
from streamrnn.model.settings import CHOICES

RNN_TANH, RNN_RELU, GRU, GRU_RESET_BEFORE, LSTM = range(5)
TO_SEQUENCE, TO_VECTOR, FROM_VECTOR, DECODED = range(4)  # relations, in the order of settings.CHOICES

# What follows a product: nothing, the reset of a state, a layer's new state, or an activation, counted from
# _DENSE on.
_NOTHING, _RESET, _CELL, _DENSE = range(4)
_ACTIVATIONS = {"linear": cells.LINEAR, "tanh": cells.TANH, "relu": cells.RELU, "sigmoid": cells.SIGMOID}

# A product of the chain: a packed matrix and what is done with it in each lane, in float32 elements.
FIELDS = (
    "weights",  # begin of the matrix
    "biases",
    "rows",
    "columns",
    "first",  # where in z the vector begins that it is multiplied with
    "to",  # where its result goes in the preactivations
    "then",  # what follows
    "out",  # where in z that puts its vector, for a product after it
    "hidden",  # where the hidden state of a recurrent layer begins among those of all layers
    "state",  # where in z the layer's old hidden state is put first; -1 = nowhere
)
PRODUCT = np.dtype([(field, np.int64) for field in FIELDS])


def aligned(count: int, dtype: type = np.float32) -> np.ndarray:
    """``count`` zeros that begin on a cache line: a vector across two lines costs two loads."""
    size = count * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


class Network(NamedTuple):
    """A model in the form that the step reads. Immutable; sizes in float32 elements.

    Vectors of hidden units are padded to ``width``, those of outputs to ``out_width`` and those of
    channels to ``in_width``, multiples of 16 whose extra lanes stay zero. ``past`` is padded likewise, with
    values of frames before those that are needed.
    """

    cell: int
    relation: int
    layers: int
    inputs: int
    hidden: int
    outputs: int
    highway: int  # frames that the head sees, the current one first
    in_width: int
    width: int
    out_width: int
    forecasts: int  # 1 when output k forecasts channel k one period ahead
    memory: int  # rows over which a stream's correction of these forecasts is learned; 0 = there is none
    past: int  # of these frames, the values that a stream remembers
    z_stride: int  # of a lane in Scratch.z
    gate_stride: int  # of a lane in Scratch.gates
    head_at: int  # where in a lane of z the head's vector begins: the frames, then what the layer below gives
    weights: np.ndarray  # every packed matrix, one after another
    biases: np.ndarray
    chain: np.ndarray  # (products,) of PRODUCT, in the order of a step, its head last; then a decoder's
    row_products: int  # of the step of a row; an encoder has no head
    decoder_at: int  # the first product of a step that decodes: of the same network, but for an encoder
    mean: np.ndarray  # (in_width,) input scaling: (x - mean) * scale
    scale: np.ndarray  # (in_width,)
    past_mean: np.ndarray  # (past,) the same, over and over, for the frames that a stream remembers
    past_scale: np.ndarray  # (past,)
    out_std: np.ndarray  # (out_width,) output scaling: y * out_std + out_mean
    out_mean: np.ndarray  # (out_width,)
    out_scale: np.ndarray  # (out_width,) 1 / out_std
    run_scale: np.ndarray  # (out_width,) 1 / the longest usual run of equal readings; 0 = any is usual
    offsets: np.ndarray  # (inputs,) float64: what is taken off values that come in; (0,) where there are none
    out_offsets: np.ndarray  # (outputs,) float64: what is added to those that go out; likewise


class Scratch(NamedTuple):
    """What a step works in; one lane per stream of a tile."""

    z: np.ndarray  # (TILE_STREAMS * z_stride,) float32: [input | hidden state], then what the head sees
    gates: np.ndarray  # (TILE_STREAMS * gate_stride,) float32: preactivations
    source: np.ndarray  # (TILE_STREAMS,) int64: where in the state array the old h begins
    target: np.ndarray  # (TILE_STREAMS,) int64: where the new h begins


def _padded(values: np.ndarray, width: int) -> np.ndarray:
    out = aligned(width)
    out[: len(values)] = values
    return out


def _by_gate(values: np.ndarray, gates: int) -> np.ndarray:
    """The rows of each gate, or of all outputs of a layer, padded with zeros to whole blocks."""
    units = len(values) // gates
    padded = np.zeros((gates, packed_rows(units), *values.shape[1:]), np.float32)
    padded[:, :units] = values.reshape(gates, units, *values.shape[1:])
    return padded.reshape(-1, *values.shape[1:])


class _Chain:
    """A chain in the making."""

    def __init__(self) -> None:
        self.matrices: list[np.ndarray] = []
        self.biases: list[np.ndarray] = []
        self.products: list[dict[str, int]] = []

    def add(self, matrix: np.ndarray, bias: np.ndarray, gates: int = 1, **fields: int) -> None:
        """One product; its fields are 0 where nothing is said."""
        padded = _by_gate(matrix, gates)
        sizes = {"rows": len(padded), "columns": padded.shape[1]}
        begins = {"weights": sum(map(len, self.matrices)), "biases": sum(map(len, self.biases))}
        self.products.append(dict.fromkeys(FIELDS, 0) | {"state": -1} | sizes | begins | fields)
        self.matrices.append(pack(padded))
        self.biases.append(_by_gate(bias, gates))

    def add_dense(self, dense: Dense) -> None:
        self.add(dense.weight, dense.bias, then=_DENSE + _ACTIVATIONS[dense.activation])

    def add_layers(self, cell: int, layers: Sequence[Layer]) -> None:
        for number, layer in enumerate(layers):
            self._add_layer(cell, number, layer)

    def _add_layer(self, cell: int, number: int, layer: Layer) -> None:
        """A recurrent layer: one product over [x, h], or a GRU's two."""
        inputs, size = layer.weight_ih.shape[1], layer.weight_hh.shape[1]
        width = packed_rows(size)
        hidden = number * width
        if cell == GRU:
            self.add(layer.weight_ih, layer.bias_ih, 3, hidden=hidden, state=inputs)
            self.add(layer.weight_hh, layer.bias_hh, 3, hidden=hidden, first=inputs, to=3 * width, then=_CELL)
            return
        matrix, bias = np.hstack([layer.weight_ih, layer.weight_hh]), layer.bias_ih + layer.bias_hh
        if cell == GRU_RESET_BEFORE:
            gates = 2 * size  # rows; those of the candidate state wait for the reset gate
            self.add(matrix[:gates], bias[:gates], 2, hidden=hidden, state=inputs, then=_RESET, out=inputs)
            self.add(matrix[gates:], bias[gates:], hidden=hidden, to=2 * width, then=_CELL)
        else:
            self.add(matrix, bias, len(bias) // size, hidden=hidden, state=inputs, then=_CELL)


def _cell_of(model: Model) -> int:
    if model.cell == "rnn":
        return RNN_RELU if model.activation == "relu" else RNN_TANH
    if model.cell == "gru":
        return GRU_RESET_BEFORE if model.reset == "before" else GRU
    return LSTM


def _run_scale(model: Model) -> np.ndarray:
    """``Network.run_scale``, (outputs,), of what the model says of runs, if anything."""
    runs = np.array((model.score or {}).get("runs") or [0] * len(model.outputs), float)
    return np.divide(1, runs, out=np.zeros(len(runs)), where=runs > 0)


def pack_network(model: Model, memory: int = 0) -> Network:
    """The compiled form of a model; ``memory`` as in Network."""
    cell, inputs, outputs = _cell_of(model), len(model.channels), len(model.outputs)
    relation = CHOICES["relation"].index(model.relation)
    in_width, width, out_width = packed_rows(inputs), packed_rows(model.hidden), packed_rows(outputs)
    widths = [in_width, width, *(packed_rows(dense.units) for dense in model.before + model.after)]
    if relation in (FROM_VECTOR, DECODED):  # what was given out is fed back, behind the frame or alone
        widths.append(in_width + out_width)
    work = max(widths) + width  # [input | hidden state], whichever layer's
    seen = model.highway * inputs
    head_at = work if seen else 0

    chain = _Chain()
    for dense in model.before:
        chain.add_dense(dense)
    chain.add_layers(cell, model.layers)
    row_products = len(chain.products)
    chain.add_layers(cell, model.decoder)
    for dense in model.after:
        chain.add_dense(dense)
    chain.products[-1]["out"] = head_at + seen
    chain.add(np.hstack([model.highway_weight, model.head_weight]), model.head_bias, first=head_at)

    weights, biases = np.concatenate(chain.matrices), np.concatenate(chain.biases)
    past = packed_rows(max(model.highway - 1, 0) * inputs)
    return Network(
        cell=cell,
        relation=relation,
        layers=len(model.layers),
        inputs=inputs,
        hidden=model.hidden,
        outputs=outputs,
        highway=model.highway,
        in_width=in_width,
        width=width,
        out_width=out_width,
        forecasts=int(model.relation == "sequence-to-sequence" and model.target == "next"),
        memory=memory,
        past=past,
        # Vectors are copied sixteen at a time, so a part may spill into the next, written after it, and the
        # last one past its end: hence the padded widths.
        z_stride=max(work, packed_rows(head_at + seen) + max(widths)),
        gate_stride=max(product["to"] + product["rows"] for product in chain.products),
        head_at=head_at,
        weights=_padded(weights, len(weights)),
        biases=_padded(biases, len(biases)),
        chain=np.array([tuple(product.values()) for product in chain.products], PRODUCT),
        row_products=row_products if relation == DECODED else len(chain.products),
        decoder_at=row_products if relation == DECODED else 0,
        mean=_padded(model.input_mean, in_width),
        scale=_padded(1 / model.input_std.astype(np.float64), in_width),
        past_mean=_padded(np.resize(model.input_mean, past), past),
        past_scale=_padded(np.resize(1 / model.input_std.astype(np.float64), past), past),
        out_std=_padded(model.output_std, out_width),
        out_mean=_padded(model.output_mean, out_width),
        out_scale=_padded(1 / model.output_std.astype(np.float64), out_width),
        run_scale=_padded(_run_scale(model), out_width),
        offsets=_where_any(model.offsets),
        out_offsets=_where_any(model.output_offsets),
    )


def _where_any(offsets: np.ndarray) -> np.ndarray:
    return offsets if offsets.any() else offsets[:0]


def make_scratch(network: Network) -> Scratch:
    return Scratch(
        z=aligned(TILE_STREAMS * network.z_stride),
        gates=aligned(TILE_STREAMS * network.gate_stride),
        source=np.zeros(TILE_STREAMS, np.int64),
        target=np.zeros(TILE_STREAMS, np.int64),
    )


@inlined
def copy(out, to, source, first, width):
    """``width`` elements, a multiple of 16."""
    for unit in range(0, width, LANES):
        store(out, to + unit, load(source, first + unit))


@inlined
def _places(net, scratch, lane, hidden, out):
    """Where a lane has its preactivations, a layer's old and new hidden state, and the place ``out`` of z."""
    old, new = scratch.source[lane] + hidden, scratch.target[lane] + hidden
    return lane * net.gate_stride, old, new, lane * net.z_stride + out


@inlined
def _new_state(net, scratch, state, hidden, out, streams):
    """The new state of a layer in each lane, from its preactivations and its old state."""
    if net.cell == LSTM:
        beyond = net.layers * net.width  # the cell states follow all hidden states
        for lane in range(streams):
            at, old, new, to = _places(net, scratch, lane, hidden, out)
            cells.lstm(scratch.gates, at, net.width, state, old + beyond, new + beyond, new, scratch.z, to)
    elif net.cell == GRU:
        for lane in range(streams):
            at, old, new, to = _places(net, scratch, lane, hidden, out)
            cells.gru(scratch.gates, at, net.width, state, old, new, scratch.z, to)
    elif net.cell == GRU_RESET_BEFORE:
        for lane in range(streams):
            at, old, new, to = _places(net, scratch, lane, hidden, out)
            cells.gru_reset_before(scratch.gates, at, net.width, state, old, new, scratch.z, to)
    else:
        for lane in range(streams):
            at, _, new, to = _places(net, scratch, lane, hidden, out)
            cells.rnn(scratch.gates, at, net.width, net.cell == RNN_RELU, state, new, scratch.z, to)


@inlined
def forward(net, scratch, state, streams, first, last):
    """One step of ``streams`` streams, 1 to TILE_STREAMS, through the products ``first`` to ``last``.

    The scaled input of lane s stands at ``scratch.z[s * z_stride:]``; its old state is read at
    ``state[source[s]:]`` and its new state written at ``state[target[s]:]``, hidden states of all
    layers first and then, for an LSTM, cell states. What ``look_back`` keeps is not touched. The head's
    output, in the model's own scale, is left at ``scratch.gates[s * gate_stride:]``.
    """
    for number in range(first, last):
        product = net.chain[number]
        then = product.then
        if product.state >= 0:
            for lane in range(streams):
                row = lane * net.z_stride + product.state
                copy(scratch.z, row, state, scratch.source[lane] + product.hidden, net.width)
        affine(
            net.weights,
            product.weights,
            net.biases,
            product.biases,
            product.rows,
            product.columns,
            scratch.z,
            product.first,
            net.z_stride,
            scratch.gates,
            product.to,
            net.gate_stride,
            streams,
        )
        if then == _CELL:
            _new_state(net, scratch, state, product.hidden, product.out, streams)
        elif then == _RESET:
            for lane in range(streams):
                at, old, _, to = _places(net, scratch, lane, product.hidden, product.out)
                cells.reset_state(scratch.gates, at, net.width, state, old, scratch.z, to)
        elif then >= _DENSE:
            for lane in range(streams):
                at, _, _, to = _places(net, scratch, lane, 0, product.out)
                cells.activate(then - _DENSE, scratch.gates, at, product.rows, scratch.z, to)


@inlined
def scale_input(net, scratch, lane, values, at):
    """(x - mean) / std of the physical values at ``values[at:]``, into the lane's input."""
    row = lane * net.z_stride
    for unit in range(0, net.in_width, LANES):
        scaled = (load(values, at + unit) - load(net.mean, unit)) * load(net.scale, unit)
        store(scratch.z, row + unit, scaled)


@inlined
def look_back(net, scratch, state, lane, at, continues):
    """Puts a lane's scaled input, and those before it, where the head sees them: the highway.

    The input stands at ``state[at:]``, those before it at ``state[source - past:]``; where a sequence begins,
    they are taken equal to it. Those that the next step looks back to are written at
    ``state[target - past:]``. All are in physical units, so that a model of another scaling can go on from
    them. What spills over is hidden state, which ``forward`` writes after this.
    """
    now = lane * net.z_stride + net.head_at
    old, new = scratch.source[lane] - net.past, scratch.target[lane] - net.past
    copy(scratch.z, now, scratch.z, lane * net.z_stride, net.in_width)
    if net.past == 0:
        return
    copy(state, new, state, at, net.in_width)
    if continues:
        for unit in range(0, net.past, LANES):
            scaled = (load(state, old + unit) - load(net.past_mean, unit)) * load(net.past_scale, unit)
            store(scratch.z, now + net.inputs + unit, scaled)
        for unit in range(0, net.past - net.inputs, LANES):
            store(state, new + net.inputs + unit, load(state, old + unit))
    else:
        for value in range(net.past):
            scratch.z[now + net.inputs + value] = scratch.z[now + value]
        for value in range(net.past - net.inputs):
            state[new + net.inputs + value] = state[new + value]


@inlined
def scale_output(net, scratch, lane, values, at):
    """The head's output of a lane in physical units, to ``values[at:]``."""
    row = lane * net.gate_stride
    for unit in range(0, net.out_width, LANES):
        y = load(scratch.gates, row + unit)
        store(values, at + unit, fma(y, load(net.out_std, unit), load(net.out_mean, unit)))
