"""One step of a whole network for one stream or a tile of them: a chain of products, and what follows each.

The chain is data, made once by ``pack_network``: dense layers, recurrent ones and the head all pass the one
matrix product, which is therefore compiled, and inlined, once.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.compiling.known import Known, KnownIfZero
from streamrnn.kernels.activations import activate
from streamrnn.kernels.affine import affine
from streamrnn.kernels.cells import ANY, GRU_RESET_BEFORE, new_state, reset_state
from streamrnn.kernels.following import follow
from streamrnn.kernels.simd import LANES, first_lanes, fma, load, store, store_first

TO_SEQUENCE, TO_VECTOR, FROM_VECTOR, DECODED = range(4)  # relations, in the order of settings.CHOICES

# What follows a product: nothing, the reset of a state, a layer's new state, or an activation, counted from
# DENSE on.
NOTHING, RESET, CELL, DENSE = range(4)

# A product of the chain: a packed matrix and what is done with it in each lane, in float32 elements.
FIELDS = (
    "weights",  # begin of the matrix
    "words",  # begin of the same matrix in sixteen bits a weight; -1 = there is none
    "biases",
    "rows",
    "columns",
    "together",  # strands that share a vector in its last block
    "first",  # where in z the vector begins that it is multiplied with
    "to",  # where its result goes in the preactivations
    "then",  # what follows
    "out",  # where in z that puts its vector, for a product after it
    "hidden",  # where the hidden state of a recurrent layer begins among those of all layers
    "state",  # where in z the layer's old hidden state is put first; -1 = nowhere
)
PRODUCT = np.dtype([(field, np.int64) for field in FIELDS])


def aligned(count: int, dtype: type | np.dtype = np.float32) -> np.ndarray:
    """``count`` zeros that begin on a cache line: a vector across two lines costs two loads."""
    size = count * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


class Network(NamedTuple):
    """A model in the form that the step reads. Immutable; sizes in float32 elements.

    Vectors of hidden units are padded to ``width``, those of outputs to ``out_width`` and those of
    channels to ``in_width``, multiples of 16. Hidden states, outputs and channels in extra lanes are zero.
    """

    cell: Known  # an index into CELLS, the table of cells; ANY: ``steps`` say what follows a product
    relation: Known
    layers: int
    window: KnownIfZero  # rows from which on a state begins, each in flight at once; 0 = one without end
    inputs: int
    hidden: int
    outputs: int
    head_rows: KnownIfZero  # of outputs that the head gives at once; 0 = one
    highway: int  # frames that the head sees, the current one first
    in_width: int
    width: int
    states: int  # that each unit carries, the hidden state first
    apart: int  # from one of these to the next in a record: that of all layers, for each row of a window
    out_width: int
    score_width: int  # of a vector of the score
    # where in a lane of Scratch.gates the logarithms of the spread's factors are left; 0 = there are none
    factors_at: KnownIfZero
    forecasts: Known  # 1 when output k forecasts channel k one period ahead
    memory: KnownIfZero  # rows over which a stream's correction of these is learned; 0 = there is none
    spread: Known  # 1 when the spread of a stream's errors is kept, 2 with what becomes of rollouts
    past_rows: int  # of a stream's past; 0 where the head sees no further than the current frame
    z_stride: int  # of a lane in Scratch.z
    gate_stride: int  # of a lane in Scratch.gates
    head_at: int  # where in a lane of z the head's vector begins: the frames, then what the layer below gives
    saturates: int  # the state by which a unit is saturated
    saturates_at: np.float32  # beyond this absolute value
    # (states * layers,) float32: of their absolute values, layer by layer; infinite = it has none
    bounds: np.ndarray
    weights: np.ndarray  # every packed matrix, one after another
    words: np.ndarray  # uint32, two weights each: large ones once more, for one stream alone
    biases: np.ndarray
    chain: np.ndarray  # (products,) of PRODUCT, in the order of a step, its heads last; then a decoder's
    row_products: int  # of the step of a row; an encoder has no head
    recurrent_at: int  # the first product that a state goes into
    recurrent_end: int  # and the one after the last
    decoder_at: int  # the first product of a step that decodes: of the same network, but for an encoder
    mean: np.ndarray  # (in_width,) input scaling: (x - mean) * scale
    scale: np.ndarray  # (in_width,)
    past_mean: np.ndarray  # (past_rows * inputs, padded) the same, over and over, for the frames of a past
    past_scale: np.ndarray  # likewise
    out_std: np.ndarray  # (out_width,) output scaling: y * out_std + out_mean
    out_mean: np.ndarray  # (out_width,)
    out_scale: np.ndarray  # (out_width,) 1 / out_std
    run_scale: np.ndarray  # (out_width,) 1 / the longest usual run of equal readings; 0 = any is usual
    switches: np.ndarray  # (out_width,) 1 for a channel of no more than two values, 0 for others
    offsets: np.ndarray  # (inputs,) float64: what is taken off values that come in; (0,) where there are none
    out_offsets: np.ndarray  # (outputs,) float64: what is added to those that go out; likewise
    steps: np.ndarray  # (n,) of following.STEP: what follows each product of a network of ANY cell
    steps_at: np.ndarray  # (products + 1,) int64: where those of each product begin
    kept_at: int  # where in a lane of z what goes into the first layer is kept, for skips past it
    kept_width: int  # 0 = it is not
    kept_before: int  # the product before which it is
    # (states * layers,) float32, of a network of ANY cell: beyond this absolute value a unit is saturated,
    # and as how many units it counts then
    limits: np.ndarray
    counts: np.ndarray


class Scratch(NamedTuple):
    """What a step works in; one lane per stream of a tile."""

    z: np.ndarray  # (TILE_STREAMS * z_stride,) float32: [input | hidden state], then what the head sees
    gates: np.ndarray  # (TILE_STREAMS * gate_stride,) float32: preactivations
    # of streams whose windows are stepped, see ``windows``; without elements where there are none
    source: np.ndarray  # (TILE_STREAMS,) int64: where a stream's old states begin
    target: np.ndarray  # (TILE_STREAMS,) int64: and its new ones
    kept: np.ndarray  # (TILE_STREAMS * z_stride,) float32: what the first layer gets, the last one gives


@inlined
def copy(out, to, source, first, width):
    """``width`` elements, a multiple of 16."""
    for unit in range(0, width, LANES):
        store(out, to + unit, load(source, first + unit))


@inlined
def _places(net, tile, lane, hidden, out):
    """Where a lane has its preactivations, a layer's old and new hidden state, and the place ``out`` of z."""
    old, new = tile.source[lane] + hidden, tile.target[lane] + hidden
    return lane * net.gate_stride, old, new, lane * net.z_stride + out


@inlined
def _new_state(net, scratch, tile, state, hidden, out, streams):
    """The new state of a layer in each lane, from its preactivations and its old state."""
    for lane in range(streams):
        at, old, new, to = _places(net, tile, lane, hidden, out)
        new_state(net, net.cell, scratch.gates, at, net.width, state, old, new, net.apart, scratch.z, to)


@inlined
def forward(net, scratch, tile, state, streams, first, last):
    """One step of ``streams`` streams, 1 to TILE_STREAMS, through the products ``first`` to ``last``.

    The scaled input of lane s stands at ``scratch.z[s * z_stride:]``; its old state is read at
    ``state[tile.source[s]:]`` and its new state written at ``state[tile.target[s]:]``, hidden states of all
    layers first, then each further state of the cell likewise. The head's output, in the model's own scale,
    is left at ``scratch.gates[s * gate_stride:]``, and what it says of its spread from ``factors_at`` on.
    """
    for number in range(first, last):
        product = net.chain[number]
        then = product.then
        if net.cell == ANY and number == net.kept_before:
            for lane in range(streams):
                row = lane * net.z_stride
                copy(scratch.z, row + net.kept_at, scratch.z, row, net.kept_width)
        if product.state >= 0:
            for lane in range(streams):
                row = lane * net.z_stride + product.state
                copy(scratch.z, row, state, tile.source[lane] + product.hidden, net.width)
        affine(
            net.weights,
            product.weights,
            net.words,
            product.words,
            net.biases,
            product.biases,
            product.rows,
            product.columns,
            product.together,
            scratch.z,
            product.first,
            net.z_stride,
            scratch.gates,
            product.to,
            net.gate_stride,
            streams,
        )
        if net.cell == ANY:
            for step in range(net.steps_at[number], net.steps_at[number + 1]):
                for lane in range(streams):
                    follow(net, scratch, tile, state, product, net.steps[step], lane)
        elif then == CELL:
            _new_state(net, scratch, tile, state, product.hidden, product.out, streams)
        elif net.cell == GRU_RESET_BEFORE and then == RESET:
            for lane in range(streams):
                at, old, _, to = _places(net, tile, lane, product.hidden, product.out)
                reset_state(scratch.gates, at, net.width, state, old, scratch.z, to)
        elif then >= DENSE:
            for lane in range(streams):
                at, _, _, to = _places(net, tile, lane, 0, product.out)
                activate(then - DENSE, scratch.gates, at, product.rows, scratch.z, to)


@inlined
def scale_input(net, scratch, lane, values, at):
    """(x - mean) / std of the physical values at ``values[at:]``, into the lane's input."""
    row = lane * net.z_stride
    for unit in range(0, net.in_width, LANES):
        scaled = (load(values, at + unit) - load(net.mean, unit)) * load(net.scale, unit)
        store(scratch.z, row + unit, scaled)


@inlined
def _scale_rows(net, scratch, to, state, at, count):
    """Scales ``count`` values of the past from ``state[at:]`` on, whose first is a row's first, to z."""
    for unit in range(0, count, LANES):
        scaled = (load(state, at + unit) - load(net.past_mean, unit)) * load(net.past_scale, unit)
        store(scratch.z, to + unit, scaled)


@inlined
def look_back(net, scratch, lane, state, past, place, count):
    """Puts a lane's scaled input, and the rows before it, where the head sees them: the highway.

    Those before stand at ``state[past:]``, a ring of ``past_rows`` rows of ``inputs`` values in physical
    units, so that a model of another scaling can go on from them: the newest at ``place``, each older one
    behind it, ``count`` in all, past_rows - 1 at most. Before a sequence's first row all is taken equal to
    it. What spills over is overwritten by hidden state, which ``forward`` writes after this.
    """
    now = lane * net.z_stride + net.head_at
    copy(scratch.z, now, scratch.z, lane * net.z_stride, net.in_width)
    if net.past_rows == 0:
        return
    before, row = now + net.inputs, net.inputs
    first = min(count, net.past_rows - place)  # up to the ring's end; the others go on at its begin
    _scale_rows(net, scratch, before, state, past + place * row, first * row)
    _scale_rows(net, scratch, before + first * row, state, past, (count - first) * row)
    for value in range(count * row, (net.past_rows - 1) * row):
        scratch.z[before + value] = scratch.z[now + value]


@inlined
def next_place(net, place):
    """Where in a past the row goes that follows the one at ``place``: where none is that may be needed."""
    return (place if place > 0 else net.past_rows) - 1


@inlined
def enter_row(net, state, past, place, values, at):
    """Writes the row at ``values[at:]`` to ``place`` of a past, and nothing beside it."""
    to = past + place * net.inputs
    for channel in range(0, net.inputs, LANES):
        row = load(values, at + channel)
        store_first(state, to + channel, row, min(net.inputs - channel, LANES))


@inlined
def scale_output(net, scratch, lane, number, values, at):
    """Row ``number`` of the head's outputs of a lane in physical units, to ``values[at:]``.

    Past the outputs another row may stand, or what a layer left there.
    """
    row = lane * net.gate_stride
    if net.head_rows > 0:
        row += number * net.outputs
    for unit in range(0, net.out_width, LANES):
        y = load(scratch.gates, row + unit)
        if net.head_rows > 0:
            y = first_lanes(y, net.outputs - unit, np.float32(0))
        store(values, at + unit, fma(y, load(net.out_std, unit), load(net.out_mean, unit)))
