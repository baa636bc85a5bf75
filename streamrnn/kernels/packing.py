"""A model in the form that the step reads: packed matrices, one after another, and what follows each."""

from collections.abc import Sequence

import numpy as np

from streamrnn.kernels import activations
from streamrnn.kernels.affine import (
    FIRST_CACHE,
    TILE_STREAMS,
    pack,
    pack_bias,
    pack_words,
    packed_halves,
    packed_rows,
    strands_together,
)
from streamrnn.kernels.network import (
    CELL,
    DECODED,
    DENSE,
    FIELDS,
    FROM_VECTOR,
    PRODUCT,
    RESET,
    Network,
    Scratch,
    aligned,
)
from streamrnn.kernels.simd import LANES
from streamrnn.model.cells import CELLS, Cell, code_of, find_cell
from streamrnn.model.model import Model
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import CHOICES, ModelError

_ACTIVATIONS = {
    "linear": activations.LINEAR,
    "tanh": activations.TANH,
    "relu": activations.RELU,
    "sigmoid": activations.SIGMOID,
}


def _padded(values: np.ndarray, width: int, dtype: type = np.float32) -> np.ndarray:
    out = aligned(width, dtype)
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
        self.words: list[np.ndarray] = [np.zeros(0, np.uint32)]
        self.in_words = False  # whether weights are rounded so that two fit into a word
        self.products: list[dict[str, int]] = []

    def add(self, matrix: np.ndarray, bias: np.ndarray, gates: int = 1, **fields: int) -> None:
        """One product; its fields are 0 where nothing is said."""
        padded = _by_gate(matrix, gates)
        rows, columns = padded.shape
        together = strands_together(rows, len(matrix) // gates)
        begins = {"weights": sum(map(len, self.matrices)), "biases": sum(map(len, self.biases)), "words": -1}
        if self.in_words and padded.nbytes > FIRST_CACHE:
            begins["words"] = sum(map(len, self.words))
            self.words.append(pack_words(padded))
        sizes = {"rows": rows, "columns": columns, "together": together}
        self.products.append(dict.fromkeys(FIELDS, 0) | {"state": -1} | sizes | begins | fields)
        self.matrices.append(pack(padded, together))
        self.biases.append(pack_bias(_by_gate(bias, gates), together))

    def add_dense(self, dense: Dense) -> None:
        self.add(dense.weight, dense.bias, then=DENSE + _ACTIVATIONS[dense.activation])

    def add_layers(self, cell: Cell, layers: Sequence[Layer]) -> None:
        for number, layer in enumerate(layers):
            self._add_layer(cell, number, layer)

    def _add_layer(self, cell: Cell, number: int, layer: Layer) -> None:
        """A recurrent layer: one product over [x, h], or two where a gate needs parts of it."""
        inputs, size = layer.weight_ih.shape[1], layer.weight_hh.shape[1]
        width = packed_rows(size)
        hidden = number * width
        gates = len(cell.gates)
        if cell.apart:
            self.add(layer.weight_ih, layer.bias_ih, gates, hidden=hidden, state=inputs)
            beside = {"first": inputs, "to": gates * width, "then": CELL}
            self.add(layer.weight_hh, layer.bias_hh, gates, hidden=hidden, **beside)
            return
        matrix, bias = np.hstack([layer.weight_ih, layer.weight_hh]), layer.bias_ih + layer.bias_hh
        if cell.reset == "before":
            gated = (gates - 1) * size  # rows; those of the candidate state wait for the reset gate
            into = {"hidden": hidden, "state": inputs, "then": RESET, "out": inputs}
            self.add(matrix[:gated], bias[:gated], gates - 1, **into)
            self.add(matrix[gated:], bias[gated:], hidden=hidden, to=(gates - 1) * width, then=CELL)
        else:
            self.add(matrix, bias, gates, hidden=hidden, state=inputs, then=CELL)


def _stride(width: int) -> int:
    """``width`` or a vector more: an odd number of them, so that lanes do not share the sets of a cache."""
    return (width // LANES | 1) * LANES


def _run_scale(model: Model) -> np.ndarray:
    """``Network.run_scale``, (outputs,), of what the model says of runs, if anything."""
    runs = np.array((model.score or {}).get("runs") or [0] * len(model.outputs), float)
    return np.divide(1, runs, out=np.zeros(len(runs)), where=runs > 0)


def switches_of(model: Model) -> np.ndarray:
    """``Network.switches``, (outputs,), of what the model says of them, if anything."""
    return np.array((model.score or {}).get("switches") or [0] * len(model.outputs), float)


def _chain_of(model: Model, head_at: int, below_at: int, out_width: int) -> tuple[_Chain, int, int]:
    """A model's products, and where those of its recurrent layers begin and end.

    The head's vector begins at ``head_at``, and in it what the layer below gives at ``below_at``.
    """
    chain, cell = _Chain(), find_cell(model.cell, model.activation, model.reset)
    for dense in model.before:
        chain.add_dense(dense)
    recurrent_at = len(chain.products)
    held, chain.in_words = model.as_run(), model.weights == "bfloat16"
    chain.add_layers(cell, held.layers)
    recurrent_end = len(chain.products)
    chain.add_layers(cell, held.decoder)
    chain.in_words = False
    for dense in model.after:
        chain.add_dense(dense)
    chain.products[-1]["out"] = below_at
    chain.add(np.hstack([model.highway_weight, model.head_weight]), model.head_bias, first=head_at)
    if model.spread:
        chain.add(model.spread_weight, model.spread_bias, first=below_at, to=out_width)
    return chain, recurrent_at, recurrent_end


def refuse_unpacked(model: Model) -> None:
    """Raises ModelError for what a model file can say and no kernel does."""
    dense = [*model.before, *model.after]
    if (
        any(cell not in CELLS for cell in model.cells_of_layers)
        or model.cells
        or model.skips
        or any(model.between)
        or any(layer.activation not in _ACTIVATIONS for layer in dense)
    ):
        raise ModelError("cells, activations or layers in its settings that no step computes")


def pack_network(model: Model, memory: int = 0, spread: int = 0) -> Network:
    """The compiled form of a model; ``memory`` and ``spread`` as in Network."""
    refuse_unpacked(model)
    of_cell = model.cell, model.activation, model.reset
    cell, inputs, outputs = find_cell(*of_cell), len(model.channels), len(model.outputs)
    relation = CHOICES["relation"].index(model.relation)
    in_width, width, out_width = packed_rows(inputs), packed_rows(model.hidden), packed_rows(outputs)
    widths = [in_width, width, *(packed_rows(dense.units) for dense in model.before + model.after)]
    if relation in (FROM_VECTOR, DECODED):  # what was given out is fed back, behind the frame or alone
        widths.append(in_width + out_width)
    work = max(widths) + width  # [input | hidden state], whichever layer's
    seen = model.highway * inputs
    head_at = work if seen else 0

    chain, recurrent_at, recurrent_end = _chain_of(model, head_at, head_at + seen, out_width)
    weights, words, biases = map(np.concatenate, (chain.matrices, chain.words, chain.biases))
    past_rows = model.highway if model.highway > 1 else 0
    past = packed_rows(past_rows * inputs)
    return Network(
        cell=code_of(*of_cell),
        relation=relation,
        layers=len(model.layers),
        window=model.window,
        inputs=inputs,
        hidden=model.hidden,
        outputs=outputs,
        highway=model.highway,
        in_width=in_width,
        width=width,
        states=len(cell.states),
        apart=len(model.layers) * width * max(model.window, 1),
        out_width=out_width,
        score_width=packed_halves(outputs),
        factors_at=out_width if model.spread else 0,
        forecasts=int(model.relation == "sequence-to-sequence" and model.target == "next"),
        memory=memory,
        spread=spread,
        past_rows=past_rows,
        # Vectors are copied sixteen at a time, so a part may spill into the next, written after it, and the
        # last one past its end: hence the padded widths.
        z_stride=_stride(max(work, packed_rows(head_at + seen) + max(widths))),
        gate_stride=_stride(max(product["to"] + product["rows"] for product in chain.products)),
        head_at=head_at,
        saturates=cell.saturates,
        saturates_at=np.float32(cell.saturates_at),
        bounds=np.array([state.bound for state in cell.states], np.float32),
        weights=_padded(weights, len(weights)),
        words=_padded(words, len(words), np.uint32),
        biases=_padded(biases, len(biases)),
        chain=np.array([tuple(product.values()) for product in chain.products], PRODUCT),
        row_products=recurrent_end if relation == DECODED else len(chain.products),
        recurrent_at=recurrent_at,
        recurrent_end=recurrent_end,
        decoder_at=recurrent_end if relation == DECODED else 0,
        mean=_padded(model.input_mean, in_width),
        scale=_padded(1 / model.input_std.astype(np.float64), in_width),
        past_mean=_padded(np.resize(model.input_mean, past), past),
        past_scale=_padded(np.resize(1 / model.input_std.astype(np.float64), past), past),
        out_std=_padded(model.output_std, out_width),
        out_mean=_padded(model.output_mean, out_width),
        out_scale=_padded(1 / model.output_std.astype(np.float64), out_width),
        run_scale=_padded(_run_scale(model), out_width),
        switches=_padded(switches_of(model), out_width),
        offsets=_where_any(model.offsets),
        out_offsets=_where_any(model.output_offsets),
    )


def _where_any(offsets: np.ndarray) -> np.ndarray:
    return offsets if offsets.any() else offsets[:0]


def make_scratch(network: Network) -> Scratch:
    of_windows = TILE_STREAMS if network.window else 0
    return Scratch(
        z=aligned(TILE_STREAMS * network.z_stride),
        gates=aligned(TILE_STREAMS * network.gate_stride),
        source=aligned(of_windows, np.int64),
        target=aligned(of_windows, np.int64),
        kept=aligned(of_windows * network.z_stride),
    )
