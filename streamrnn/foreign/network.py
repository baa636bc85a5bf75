"""A network as a file of another library says it.

Each format has a reader, ``streamrnn/foreign/<library>_file.py``, of two functions:

- ``read(path: Path, options: ImportOptions) -> Foreign``. Raises ModelError of one problem for each thing
  that is wrong, each naming the tensor, layer or attribute of the file, and what to do; the caller adds the
  file's name. The reader turns its tensors into numbers by ``numbers``, lists them as ``Stage`` in the order
  in which a row passes them, and lets ``assemble`` check their sizes and make the ``Foreign``. Of the
  options it looks at those for readers alone.
- ``witness(path: Path, foreign: Foreign) -> Witness | None``: the original library, made to run the file
  itself, or its own layers with the file's settings and weights, for the self-check; None where it is not
  installed. The library loads data only: never code out of the file. Both may raise what it raises.

Libraries that are extras (h5py, onnx) are imported inside these functions; if one that ``read`` needs is
missing, it raises UserError naming the extra.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from streamrnn.model.cells import GATES
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

# Runs rows (n, C) float32 of one sequence from a state of zeros: in physical units if the Foreign has an
# input_mean, else standardised. Gives (n, O), one row for each: in physical units if the Foreign has an
# output_mean, else standardised.
Witness = Callable[[np.ndarray], np.ndarray]

# what whoever has a network of windows should know of streams, where the file does not say of how many rows
GOES_ON = "the state goes on from row to row; --window N if it was trained on windows of N rows"
WIDENED_LIMIT = 1 << 28  # weights


class OptionsError(ModelError):
    """Options that a file needs and that were not given, or that do not fit it: wrong usage."""

    exit_code = 2


@dataclass(frozen=True)
class ImportOptions:
    """What a user says of a file; None = not said."""

    channels: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    target: str | None = None  # "next" or "value"
    ahead: int | None = None  # rows from the input to the outputs; for "value"
    window: int | None = None  # rows that an answer comes of, 0 = all; None = as the file says
    scaling: str | None = None  # "none", or the name of a table to take means and deviations from
    mean: tuple[float, ...] | None = None  # of the channels
    std: tuple[float, ...] | None = None
    output_mean: tuple[float, ...] | None = None
    output_std: tuple[float, ...] | None = None
    sample_period_s: float | None = None  # 0 = unknown
    weights: str = "float32"  # recurrent ones, as a step holds them
    # for readers: what their formats leave open
    activation: str | None = None  # of an rnn's units: "tanh" or "relu" (PyTorch)
    dense: tuple[str, ...] | None = None  # activation of each dense layer in order, the head's last (PyTorch)
    reset: str | None = None  # "after" or "before": where a gru's reset gate acts, against the file (ONNX)


@dataclass(frozen=True, eq=False)
class Foreign:
    """A network of C channels and O outputs, as ``assemble`` makes it; None = the file does not carry it."""

    library: str  # "PyTorch", "Keras", "ONNX" or "RTNeural"
    cell: str
    activation: str
    reset: str
    layers: tuple[Layer, ...]  # all of the same hidden size
    before: tuple[Dense, ...]
    after: tuple[Dense, ...]
    head_weight: np.ndarray  # (O, units of what is before it)
    head_bias: np.ndarray  # (O,)
    input_mean: np.ndarray | None = None  # (C,)
    input_std: np.ndarray | None = None
    output_mean: np.ndarray | None = None  # (O,)
    output_std: np.ndarray | None = None
    sample_period_s: float | None = None
    window: int = 0  # the rows, from a state of zeros, of which it answers the last; 0 = no fixed number
    notes: tuple[str, ...] = ()  # what a user should know

    @property
    def sizes(self) -> tuple[int, int]:
        """C and O."""
        first = self.before[0].weight if self.before else self.layers[0].weight_ih
        return first.shape[1], len(self.head_bias)


class Stage(NamedTuple):
    """One layer of a network, under the name that the file has for it."""

    name: str
    part: Layer | Dense
    cell: str = ""  # of a Layer, as are the next two
    activation: str = "tanh"
    reset: str = "after"

    @property
    def sizes(self) -> tuple[int, int]:
        """How many values it takes and gives."""
        if isinstance(self.part, Dense):
            units, inputs = self.part.weight.shape
            return inputs, units
        return self.part.weight_ih.shape[1], self.part.weight_hh.shape[1]

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.cell, self.activation, self.reset


def numbers(name: str, values: np.ndarray) -> np.ndarray:
    """``values`` of the tensor ``name`` as float32. Raises ModelError if they are not finite floats of it."""
    if values.dtype.kind != "f":
        raise ModelError(f"{name}: expected floating-point numbers, found {values.dtype}")
    with np.errstate(over="ignore"):
        converted = values.astype(np.float32)
    if bad := int(values.size - np.isfinite(converted).sum()):
        what = "NaN or infinite" if not np.isfinite(values).all() else "too large for float32"
        raise ModelError(f"{name}: {bad} of {values.size} values are {what}; train it again")
    return converted


def assemble(library: str, stages: Sequence[Stage], **rest: Any) -> Foreign:
    """The network of ``stages``, in the order in which a row passes them; ``rest`` are fields of Foreign.

    A linear dense layer at the end becomes the head; without one, the head gives out what the last layer
    gives. Recurrent layers of fewer hidden units than the largest get units of weight zero, which stay at
    zero. Raises ModelError naming the layers whose sizes do not fit each other, and what streamrnn cannot
    run: no recurrent layer, a dense layer between two, cells of several kinds.
    """
    places = [k for k, stage in enumerate(stages) if isinstance(stage.part, Layer)]
    if not places:
        raise ModelError("has no recurrent layer; name the file of an lstm, gru or rnn")
    _check(stages, places)
    first, last = places[0], places[-1] + 1
    recurrent = stages[first:last]
    before = [stage.part for stage in stages[:first] if isinstance(stage.part, Dense)]
    after = [stage.part for stage in stages[last:] if isinstance(stage.part, Dense)]
    hidden = max(stage.sizes[1] for stage in recurrent)
    notes = tuple(rest.pop("notes", ()))
    if any(stage.sizes[1] < hidden for stage in recurrent):
        if len(recurrent) * GATES[recurrent[0].cell] * hidden**2 > WIDENED_LIMIT:
            raise ModelError(
                f"recurrent layers of sizes as different as {hidden} and less are too large to run"
            )
        found = ", ".join(f"{quoted(stage.name)} {stage.sizes[1]}" for stage in recurrent)
        notes += (f"layers of several sizes ({found}) all run with {hidden} units, the added of weight zero",)
    layers = []
    for k, stage in enumerate(recurrent):
        inputs = stage.sizes[0] if k == 0 else hidden
        layers.append(_widened(stage.part, GATES[stage.cell], inputs, hidden))
    width = recurrent[-1].sizes[1]
    if not after or after[-1].activation != "linear":
        units = len(after[-1].bias) if after else width
        if units**2 > WIDENED_LIMIT:
            raise ModelError(f"{units} outputs without a linear layer at the end are too many to run")
        after.append(Dense(np.eye(units, dtype=np.float32), np.zeros(units, np.float32)))
    weight = np.pad(after[0].weight, ((0, 0), (0, hidden - width)))
    after[0] = replace(after[0], weight=weight)
    cell, activation, reset = recurrent[0].kind
    return Foreign(
        library,
        cell,
        activation,
        reset,
        tuple(layers),
        tuple(before),
        tuple(after[:-1]),
        after[-1].weight,
        after[-1].bias,
        notes=notes,
        **rest,
    )


def _check(stages: Sequence[Stage], places: Sequence[int]) -> None:
    """Raise ModelError naming every layer that does not fit; ``places`` are the recurrent ones'."""
    if problems := [problem for stage in stages for problem in shape_problems(stage)]:
        raise ModelError(*problems)
    for stage, following in pairwise(stages):
        gives, takes = stage.sizes[1], following.sizes[0]
        if gives != takes:
            problems.append(
                f"{quoted(following.name)} takes {takes} values, {quoted(stage.name)} gives {gives}"
            )
    first = stages[places[0]]
    for stage in stages[places[0] : places[-1] + 1]:
        if isinstance(stage.part, Dense):
            problems.append(f"{quoted(stage.name)}: a dense layer between recurrent ones cannot be run")
        elif stage.kind != first.kind:
            differ = next(pair for pair in zip(first.kind, stage.kind, strict=True) if pair[0] != pair[1])
            names = f"{quoted(first.name)}, {quoted(stage.name)}"
            problems.append(
                f"{names}: layers of several kinds ({' and '.join(differ)}) cannot be run in one network"
            )
    if problems:
        raise ModelError(*problems)


def shape_problems(stage: Stage) -> list[str]:
    """What is wrong with the shapes of a stage's tensors; only where nothing is, it has ``sizes``."""
    part = stage.part
    if isinstance(part, Dense):
        if part.weight.ndim == 2 and part.bias.shape == part.weight.shape[:1] and part.weight.size:
            return []
        shapes = f"weight {part.weight.shape}, bias {part.bias.shape}"
        return [f"{quoted(stage.name)}: expected weight (units, inputs) and bias (units,), found {shapes}"]
    hidden = part.weight_hh.shape[-1] if part.weight_hh.ndim else 0
    rows = GATES[stage.cell] * hidden
    inputs = part.weight_ih.shape[-1] if part.weight_ih.ndim else 0
    expected = {
        "weight_ih": (rows, inputs),
        "weight_hh": (rows, hidden),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    problems = [
        f"{quoted(stage.name)}: expected {name} {shape} of a {stage.cell}, found {getattr(part, name).shape}"
        for name, shape in expected.items()
        if getattr(part, name).shape != shape
    ]
    if not hidden or not inputs:
        problems.append(f"{quoted(stage.name)}: has no units or takes no values")
    return problems


def _widened(layer: Any, gates: int, inputs: int, hidden: int) -> Layer:
    """``layer`` with as many inputs and hidden units, the added ones of weight zero.

    A unit without weights stays at its start, h = 0: its candidate is tanh(0) or relu(0).
    """
    size, taken = layer.weight_hh.shape[1], layer.weight_ih.shape[1]
    more = hidden - size

    def widen(array: np.ndarray, columns: int) -> np.ndarray:
        by_gate = array.reshape(gates, size, -1)
        added = ((0, 0), (0, more), (0, columns))
        return np.pad(by_gate, added).reshape(gates * hidden, -1)

    return Layer(
        widen(layer.weight_ih, inputs - taken),
        widen(layer.weight_hh, more),
        widen(layer.bias_ih, 0)[:, 0],
        widen(layer.bias_hh, 0)[:, 0],
    )
