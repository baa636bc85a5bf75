"""A model in the form that the step reads: packed matrices, one after another, and what follows each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

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
from streamrnn.kernels.cells import ANY
from streamrnn.kernels.following import (
    ADD_INPUT,
    ADD_LAYER,
    PUT,
    STEP,
    activation_step,
    step_of,
    steps_of_cell,
    steps_of_reset,
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
from streamrnn.model.activations import PLAIN
from streamrnn.model.cells import CELLS, Cell
from streamrnn.model.model import Model
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import CHOICES


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
    """A chain in the making, for units that carry up to so many states."""

    def __init__(self, states: int) -> None:
        self.states = states
        self.matrices: list[np.ndarray] = []
        self.biases: list[np.ndarray] = []
        self.words: list[np.ndarray] = [np.zeros(0, np.uint32)]
        self.in_words = False  # whether weights are rounded so that two fit into a word
        self.products: list[dict[str, int]] = []
        self.steps: list[list[tuple[Any, ...]]] = []  # behind each product, where the network is of ANY cell

    def add(
        self,
        matrix: np.ndarray,
        bias: np.ndarray,
        gates: int = 1,
        steps: Sequence[tuple[Any, ...]] = (),
        **fields: int,
    ) -> None:
        """One product, and the ``steps`` behind it; its fields are 0 where nothing is said."""
        padded = _by_gate(matrix, gates)
        rows, columns = padded.shape
        together = strands_together(rows, len(matrix) // gates)
        begins = {"weights": sum(map(len, self.matrices)), "biases": sum(map(len, self.biases)), "words": -1}
        if self.in_words and padded.nbytes > FIRST_CACHE:
            begins["words"] = sum(map(len, self.words))
            self.words.append(pack_words(padded))
        sizes = {"rows": rows, "columns": columns, "together": together}
        self.products.append(dict.fromkeys(FIELDS, 0) | {"state": -1} | sizes | begins | fields)
        self.steps.append([*steps])
        self.matrices.append(pack(padded, together))
        self.biases.append(pack_bias(_by_gate(bias, gates), together))

    def add_dense(self, dense: Dense) -> None:
        steps = [activation_step(dense.activation, dense.units), step_of(PUT, dense.units)]
        # what a common network does with it
        then = PLAIN.index(dense.activation) if dense.activation in PLAIN else 0
        self.add(dense.weight, dense.bias, steps=steps, then=DENSE + then)

    def add_layer(self, cell: Cell, number: int, layer: Layer) -> None:
        """A recurrent layer: one product over [x, h], or two where a gate needs parts of it."""
        inputs, size = layer.weight_ih.shape[1], layer.weight_hh.shape[1]
        width = packed_rows(size)
        hidden = number * width
        gates = len(cell.gates)
        steps = steps_of_cell(cell, size, width, self.states)
        if cell.apart:
            self.add(layer.weight_ih, layer.bias_ih, gates, hidden=hidden, state=inputs)
            beside = {"first": inputs, "to": gates * width, "then": CELL}
            self.add(layer.weight_hh, layer.bias_hh, gates, steps, hidden=hidden, **beside)
            return
        matrix, bias = np.hstack([layer.weight_ih, layer.weight_hh]), layer.bias_ih + layer.bias_hh
        if cell.reset == "before":
            gated = (gates - 1) * size  # rows; those of the candidate state wait for the reset gate
            into = {"hidden": hidden, "state": inputs, "then": RESET, "out": inputs}
            self.add(matrix[:gated], bias[:gated], gates - 1, steps_of_reset(cell, size, width), **into)
            to = (gates - 1) * width
            self.add(matrix[gated:], bias[gated:], 1, steps, hidden=hidden, to=to, then=CELL)
        else:
            self.add(matrix, bias, gates, steps, hidden=hidden, state=inputs, then=CELL)

    def add_skip(self, begin: int, units: int, size: int) -> None:
        """Adds what layer ``begin`` gives, 0 what the first takes, to the ``units`` of the last product."""
        width = packed_rows(size)
        step = step_of(ADD_LAYER, units, which=(begin - 1) * width) if begin else step_of(ADD_INPUT, units)
        self.steps[-1].append(step)


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


class _Chained(NamedTuple):
    """A model's products, and what is where among them."""

    chain: _Chain
    recurrent_at: int  # where those of recurrent layers begin
    recurrent_end: int  # and end


def _chain_of(model: Model, head_at: int, below_at: int, out_width: int) -> _Chained:
    """The head's vector begins at ``head_at``, and in it what the layer below gives at ``below_at``."""
    cells = model.cells_of_layers
    chain = _Chain(max(len(cell.states) for cell in cells))
    for dense in model.before:
        chain.add_dense(dense)
    recurrent_at = len(chain.products)
    held, chain.in_words = model.as_run(), model.weights == "bfloat16"
    for number, (cell, layer) in enumerate(zip(cells, held.layers, strict=True)):
        chain.add_layer(cell, number, layer)
        units = model.hidden
        for dense in model.between[number] if number < len(model.between) else ():
            chain.add_dense(dense)
            units = dense.units
        for begin, end in model.skips:
            if end == number + 2:
                chain.add_skip(begin, units, model.hidden)
    recurrent_end = len(chain.products)
    for number, (cell, layer) in enumerate(zip(cells, held.decoder, strict=False)):
        chain.add_layer(cell, number, layer)
    chain.in_words = False
    for dense in model.after:
        chain.add_dense(dense)
    chain.products[-1]["out"] = below_at
    chain.add(np.hstack([model.highway_weight, model.head_weight]), model.head_bias, first=head_at)
    if model.spread:
        chain.add(model.spread_weight, model.spread_bias, first=below_at, to=out_width)
    return _Chained(chain, recurrent_at, recurrent_end)


def _cell_of(model: Model) -> int:
    """``Network.cell``: the common one of all its layers, if only common activations are around them."""
    cells = model.cells_of_layers
    dense = [*model.before, *(dense for layers in model.between for dense in layers), *model.after]
    plain = all(layer.activation in PLAIN for layer in dense) and not model.skips
    common = cells[0] in CELLS and all(cell == cells[0] for cell in cells)
    return CELLS.index(cells[0]) if plain and common else ANY


def _limits_of(cells: Sequence[Cell], states: int, hidden: int) -> dict[str, np.ndarray]:
    """``Network``'s bounds, limits and counts; states that a layer does not have are 0.

    What is saturated says little until most units are. What nothing bounds, a rectifier for half of its
    units, is no state to go on from when one is as far off.
    """
    bounds, limits, counts = np.zeros((3, states, len(cells)), np.float32)
    limits[:] = np.inf
    for layer, cell in enumerate(cells):
        with np.errstate(over="ignore"):  # what is beyond float32 is no bound
            bounds[: len(cell.states), layer] = [state.bound for state in cell.states]
        limits[cell.saturates, layer] = cell.saturates_at
        counts[cell.saturates, layer] = 1 if np.isfinite(cell.states[0].bound) else len(cells) * hidden
    return {"bounds": bounds.ravel(), "limits": limits.ravel(), "counts": counts.ravel()}


def _scalings_of(model: Model, in_width: int, out_width: int, past: int) -> dict[str, np.ndarray]:
    """``Network``'s means, scales and offsets; ``past`` is how many elements those of a past take."""
    scale, out_scale = (1 / std.astype(np.float64) for std in (model.input_std, model.output_std))
    return {
        "mean": _padded(model.input_mean, in_width),
        "scale": _padded(scale, in_width),
        "past_mean": _padded(np.resize(model.input_mean, past), past),
        "past_scale": _padded(np.resize(scale, past), past),
        "out_std": _padded(model.output_std, out_width),
        "out_mean": _padded(model.output_mean, out_width),
        "out_scale": _padded(out_scale, out_width),
        "run_scale": _padded(_run_scale(model), out_width),
        "switches": _padded(switches_of(model), out_width),
        "offsets": _where_any(model.offsets),
        "out_offsets": _where_any(model.output_offsets),
    }


def pack_network(model: Model, memory: int = 0, spread: int = 0) -> Network:
    """The compiled form of a model; ``memory`` and ``spread`` as in Network."""
    cells, inputs, outputs = model.cells_of_layers, len(model.channels), len(model.outputs)
    states = max(len(cell.states) for cell in cells)
    relation = CHOICES["relation"].index(model.relation)
    in_width, width, out_width = packed_rows(inputs), packed_rows(model.hidden), packed_rows(outputs)
    dense = [*model.before, *(layer for layers in model.between for layer in layers), *model.after]
    widths = [in_width, width, *(packed_rows(layer.units) for layer in dense)]
    if relation in (FROM_VECTOR, DECODED):  # what was given out is fed back, behind the frame or alone
        widths.append(in_width + out_width)
    work = max(widths) + width  # [input | hidden state], whichever layer's
    seen = model.highway * inputs
    head_at = work if seen else 0

    chain, recurrent_at, recurrent_end = _chain_of(model, head_at, head_at + seen, out_width)
    weights, words, biases = map(np.concatenate, (chain.matrices, chain.words, chain.biases))
    past_rows = model.highway if model.highway > 1 else 0
    past = packed_rows(past_rows * inputs)
    # Vectors are copied sixteen at a time, so a part may spill into the next, written after it, and the
    # last one past its end: hence the padded widths.
    end = max(work, packed_rows(head_at + seen) + max(widths))
    into_first = packed_rows(model.layers[0].weight_ih.shape[1])
    kept = into_first if any(begin == 0 for begin, _ in model.skips) else 0
    return Network(
        cell=_cell_of(model),
        relation=relation,
        layers=len(model.layers),
        window=model.window,
        inputs=inputs,
        hidden=model.hidden,
        outputs=outputs,
        head_rows=model.head_rows if model.head_rows > 1 else 0,
        highway=model.highway,
        in_width=in_width,
        width=width,
        states=states,
        apart=len(model.layers) * width * max(model.window, 1),
        out_width=out_width,
        score_width=packed_halves(outputs),
        factors_at=out_width if model.spread else 0,
        forecasts=int(model.relation == "sequence-to-sequence" and model.target == "next"),
        memory=memory,
        spread=spread,
        past_rows=past_rows,
        z_stride=_stride(end + kept),
        gate_stride=_stride(
            max(
                (model.head_rows - 1) * outputs + out_width,
                *(product["to"] + product["rows"] for product in chain.products),
            )
        ),
        head_at=head_at,
        saturates=cells[0].saturates,
        saturates_at=np.float32(cells[0].saturates_at),
        weights=_padded(weights, len(weights)),
        words=_padded(words, len(words), np.uint32),
        biases=_padded(biases, len(biases)),
        chain=np.array([tuple(product.values()) for product in chain.products], PRODUCT),
        row_products=recurrent_end if relation == DECODED else len(chain.products),
        recurrent_at=recurrent_at,
        recurrent_end=recurrent_end,
        decoder_at=recurrent_end if relation == DECODED else 0,
        **_scalings_of(model, in_width, out_width, past),
        steps=np.array([step for steps in chain.steps for step in steps], STEP),
        steps_at=np.cumsum([0, *map(len, chain.steps)]),
        kept_at=end,
        kept_width=kept,
        kept_before=recurrent_at if kept else -1,
        **_limits_of(cells, states, model.hidden),
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
