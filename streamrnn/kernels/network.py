"""One step of a whole network: stacked layers and the head, for one stream or a tile of them."""

from typing import NamedTuple

import numpy as np

from streamrnn.jit import inlined
from streamrnn.kernels import cells
from streamrnn.kernels.affine import TILE_STREAMS, affine, pack, packed_rows
from streamrnn.kernels.simd import LANES, fma, load, store
from streamrnn.model.model import GATES, Layer, Model

RNN_TANH, RNN_RELU, GRU, LSTM = range(4)


def aligned(count: int, dtype: type = np.float32) -> np.ndarray:
    """``count`` zeros that begin on a cache line: a vector across two lines costs two loads."""
    size = count * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


class Network(NamedTuple):
    """A model in the form that the step reads. Immutable; sizes in float32 elements.

    Vectors of hidden units are padded to ``width``, those of outputs to ``out_width`` and those of
    channels to ``in_width``, multiples of 16 whose extra lanes stay zero.
    """

    cell: int
    layers: int
    inputs: int
    hidden: int
    outputs: int
    in_width: int
    width: int
    out_width: int
    weights: np.ndarray  # every packed matrix, one after another
    biases: np.ndarray
    at: np.ndarray  # (layers + 1, 4) int64: weights, biases, then a GRU's second pair; the head is last
    mean: np.ndarray  # (in_width,) input scaling: (x - mean) * scale
    scale: np.ndarray  # (in_width,)
    out_std: np.ndarray  # (out_width,) output scaling: y * out_std + out_mean
    out_mean: np.ndarray  # (out_width,)
    out_scale: np.ndarray  # (out_width,) 1 / out_std


class Scratch(NamedTuple):
    """What a step works in; one lane per stream of a tile."""

    z: np.ndarray  # (TILE_STREAMS * z_stride,) float32: [input | hidden state]
    gates: np.ndarray  # (TILE_STREAMS * gate_stride,) float32: preactivations
    recurrent: np.ndarray  # the same, of a GRU's recurrent product
    source: np.ndarray  # (TILE_STREAMS,) int64: where in the state array the old h begins
    target: np.ndarray  # (TILE_STREAMS,) int64: where the new h begins
    z_stride: int
    gate_stride: int


def _padded(values: np.ndarray, width: int) -> np.ndarray:
    out = aligned(width)
    out[: len(values)] = values
    return out


def _by_gate(values: np.ndarray, gates: int, hidden: int, width: int) -> np.ndarray:
    """Rows of each gate padded from ``hidden`` to ``width`` with zeros."""
    padded = np.zeros((gates, width, *values.shape[1:]), np.float32)
    padded[:, :hidden] = values.reshape(gates, hidden, *values.shape[1:])
    return padded.reshape(gates * width, *values.shape[1:])


def _products(cell: str, layer: Layer) -> list[tuple[np.ndarray, np.ndarray]]:
    """The matrix products of a layer, (matrix, bias) each: one over [x, h], a GRU's two apart."""
    if cell == "gru":
        return [(layer.weight_ih, layer.bias_ih), (layer.weight_hh, layer.bias_hh)]
    return [(np.hstack([layer.weight_ih, layer.weight_hh]), layer.bias_ih + layer.bias_hh)]


def pack_network(model: Model) -> Network:
    """The compiled form of a model."""
    hidden, gates = model.hidden, GATES[model.cell]
    width, out_width = packed_rows(hidden), packed_rows(len(model.outputs))
    in_width = packed_rows(len(model.channels))
    matrices: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    at = np.zeros((len(model.layers) + 1, 4), np.int64)

    def place(row: int, slot: int, matrix: np.ndarray, bias: np.ndarray) -> None:
        at[row, slot : slot + 2] = sum(map(len, matrices)), sum(map(len, biases))
        matrices.append(pack(matrix))
        biases.append(bias)

    for number, layer in enumerate(model.layers):
        for slot, (matrix, bias) in enumerate(_products(model.cell, layer)):
            place(
                number,
                2 * slot,
                _by_gate(matrix, gates, hidden, width),
                _by_gate(bias, gates, hidden, width),
            )
    head = np.zeros((out_width, hidden), np.float32)
    head[: len(model.outputs)] = model.head_weight
    place(len(model.layers), 0, head, _padded(model.head_bias, out_width))

    codes = {"gru": GRU, "lstm": LSTM, "rnn": RNN_RELU if model.activation == "relu" else RNN_TANH}
    packed = np.concatenate(matrices)
    return Network(
        cell=codes[model.cell],
        layers=len(model.layers),
        inputs=len(model.channels),
        hidden=hidden,
        outputs=len(model.outputs),
        in_width=in_width,
        width=width,
        out_width=out_width,
        weights=_padded(packed, len(packed)),
        biases=_padded(np.concatenate(biases), sum(map(len, biases))),
        at=at,
        mean=_padded(model.input_mean, in_width),
        scale=_padded(1 / model.input_std.astype(np.float64), in_width),
        out_std=_padded(model.output_std, out_width),
        out_mean=_padded(model.output_mean, out_width),
        out_scale=_padded(1 / model.output_std.astype(np.float64), out_width),
    )


def make_scratch(network: Network) -> Scratch:
    # Vectors are copied sixteen at a time, so a part may spill into the next, written after it, and
    # the last one past its end: hence the padded widths.
    z_stride = max(network.in_width, network.width) + network.width
    gate_stride = max(4 * network.width, network.out_width)
    return Scratch(
        z=aligned(TILE_STREAMS * z_stride),
        gates=aligned(TILE_STREAMS * gate_stride),
        recurrent=aligned(TILE_STREAMS * gate_stride),
        source=np.zeros(TILE_STREAMS, np.int64),
        target=np.zeros(TILE_STREAMS, np.int64),
        z_stride=z_stride,
        gate_stride=gate_stride,
    )


@inlined
def copy(out, to, source, first, width):
    """``width`` elements, a multiple of 16."""
    for unit in range(0, width, LANES):
        store(out, to + unit, load(source, first + unit))


@inlined
def _product(net, row, which, rows, k_count, z, first, scratch, out, streams):
    affine(
        net.weights,
        net.at[row, which],
        net.biases,
        net.at[row, which + 1],
        rows,
        k_count,
        z,
        first,
        scratch.z_stride,
        out,
        0,
        scratch.gate_stride,
        streams,
    )


@inlined
def _layer(net, scratch, state, layer, inputs, streams):
    """One layer for each lane: gates from [input, old h] in ``scratch.z``, new state to its target."""
    hidden_at = layer * net.width
    cell_at = net.layers * net.width + hidden_at  # the cell states follow all hidden states
    if net.cell == GRU:
        _product(net, layer, 0, 3 * net.width, inputs, scratch.z, 0, scratch, scratch.gates, streams)
        _product(
            net, layer, 2, 3 * net.width, net.hidden, scratch.z, inputs, scratch, scratch.recurrent, streams
        )
    else:
        rows = 4 * net.width if net.cell == LSTM else net.width
        _product(net, layer, 0, rows, inputs + net.hidden, scratch.z, 0, scratch, scratch.gates, streams)
    for lane in range(streams):
        at = lane * scratch.gate_stride
        old, new = scratch.source[lane] + hidden_at, scratch.target[lane] + hidden_at
        if net.cell == LSTM:
            old_c, new_c = scratch.source[lane] + cell_at, scratch.target[lane] + cell_at
            cells.lstm(scratch.gates, at, net.width, state, old_c, new_c, new)
        elif net.cell == GRU:
            cells.gru(scratch.gates, scratch.recurrent, at, net.width, state, old, new)
        else:
            cells.rnn(scratch.gates, at, net.width, net.cell == RNN_RELU, state, new)


@inlined
def forward(net, scratch, state, streams):
    """One step of ``streams`` streams, 1 to TILE_STREAMS.

    The scaled input of lane s stands at ``scratch.z[s * z_stride:]``; its old state is read at
    ``state[source[s]:]`` and its new state written at ``state[target[s]:]``, hidden states of all
    layers first and then, for an LSTM, cell states. The head's output, in the model's own scale,
    is left at ``scratch.gates[s * gate_stride:]``.
    """
    for layer in range(net.layers):
        inputs = net.inputs if layer == 0 else net.hidden
        for lane in range(streams):
            row = lane * scratch.z_stride
            if layer > 0:
                below = scratch.target[lane] + (layer - 1) * net.width
                copy(scratch.z, row, state, below, net.width)
            copy(scratch.z, row + inputs, state, scratch.source[lane] + layer * net.width, net.width)
        _layer(net, scratch, state, layer, inputs, streams)
    for lane in range(streams):
        top = scratch.target[lane] + (net.layers - 1) * net.width
        copy(scratch.z, lane * scratch.z_stride, state, top, net.width)
    _product(net, net.layers, 0, net.out_width, net.hidden, scratch.z, 0, scratch, scratch.gates, streams)


@inlined
def scale_input(net, scratch, lane, values, at):
    """(x - mean) / std of the physical values at ``values[at:]``, into the lane's input."""
    row = lane * scratch.z_stride
    for unit in range(0, net.in_width, LANES):
        scaled = (load(values, at + unit) - load(net.mean, unit)) * load(net.scale, unit)
        store(scratch.z, row + unit, scaled)


@inlined
def scale_output(net, scratch, lane, values, at):
    """The head's output of a lane in physical units, to ``values[at:]``."""
    row = lane * scratch.gate_stride
    for unit in range(0, net.out_width, LANES):
        y = load(scratch.gates, row + unit)
        store(values, at + unit, fma(y, load(net.out_std, unit), load(net.out_mean, unit)))
