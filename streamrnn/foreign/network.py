"""A network as a file of another library says it.

Each format has a reader, ``streamrnn/foreign/<library>_file.py``, of two functions:

- ``read(path: Path, options: ImportOptions) -> Foreign``. Raises ModelError of one problem for each thing
  that is wrong, each naming the tensor, layer or attribute of the file, and what to do; the caller adds the
  file's name. The reader turns its tensors into numbers by ``numbers``, says what a row becomes as a graph
  of ``vectors``, and lets ``lowering`` make the ``Foreign`` of it. Of the options it looks at those for
  readers alone.
- ``witness(path: Path, foreign: Foreign) -> Witness | None``: the original library, made to run the file
  itself, or its own layers with the file's settings and weights, for the self-check; None where it is not
  installed. The library loads data only: never code out of the file. Both may raise what it raises.

Libraries that are extras (h5py, onnx) are imported inside these functions; if one that ``read`` needs is
missing, it raises UserError naming the extra.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from streamrnn.model.cells import GATES, Cell, find_cell
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted


class Witness(NamedTuple):
    """The original library, made to run a network.

    ``answers`` takes sequences (B, T, C) float32, each from the file's own state of a beginning: in physical
    units if the Foreign has an input_mean, else standardised. It gives (B, T, horizon * O), one for each row,
    or (B, 1, horizon * O), those of the last: in physical units if the Foreign has an output_mean.
    """

    answers: Callable[[np.ndarray], np.ndarray]
    steps: int | None = None  # T, where the file can run no other


# what whoever has a network of windows should know of streams, where the file does not say of how many rows
GOES_ON = "the state goes on from row to row; --window N if it was trained on windows of N rows"
OF_ONE_ROW = "the file is of one row at a time, each from a state of zeros; here the state goes on"
LARGEST_BESIDE = 1 << 26  # weights of layers side by side as one


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
    ignore: tuple[str, ...] = ()  # tensors that are not read, by names as a shell's patterns (PyTorch)
    reset: str | None = None  # "after" or "before": where a gru's reset gate acts, against the file (ONNX)


@dataclass(frozen=True, eq=False)
class Foreign:
    """A network of C channels and O outputs, as ``lower`` makes it; None = the file does not carry it."""

    library: str  # "PyTorch", "Keras", "ONNX", ...
    cells: tuple[Cell, ...]  # of each recurrent layer
    layers: tuple[Layer, ...]  # all of the same hidden size
    before: tuple[Dense, ...]
    between: tuple[tuple[Dense, ...], ...]  # behind each recurrent layer but the last; () = none at all
    after: tuple[Dense, ...]
    skips: tuple[tuple[int, int], ...]  # as a model file has them
    initial: tuple[tuple[np.ndarray, ...], ...]  # of each layer its states, (H,) each; () = zeros
    head_weight: np.ndarray  # (horizon * O, units of what is before it)
    head_bias: np.ndarray  # (horizon * O,)
    highway_weight: np.ndarray | None = None  # (horizon * O, C), of the newest row
    horizon: int = 1  # rows per answer
    window: int = 0  # rows that an answer comes of, each of them from a state of zeros; 0 = all
    names: tuple[str, ...] | None = None  # of the outputs
    input_mean: np.ndarray | None = None  # (C,)
    input_std: np.ndarray | None = None
    output_mean: np.ndarray | None = None  # (O,)
    output_std: np.ndarray | None = None
    sample_period_s: float | None = None
    notes: tuple[str, ...] = ()  # what a user should know
    plan: Any = None  # what the reader leaves for its witness

    @property
    def sizes(self) -> tuple[int, int]:
        """C and O."""
        first = self.before[0].weight if self.before else self.layers[0].weight_ih
        return first.shape[1], len(self.head_bias) // self.horizon


class Stage(NamedTuple):
    """One layer of a network, under the name that the file has for it."""

    name: str
    part: Layer | Dense
    cell: str = ""  # of a Layer, as are the next
    activation: str = "tanh"
    reset: str = "after"
    recurrent_activation: str = "sigmoid"
    output_activation: str | None = None  # None: as ``activation``
    initial: tuple[np.ndarray, ...] = ()  # its states at the beginning, (H,) each; () = zeros

    @property
    def sizes(self) -> tuple[int, int]:
        """How many values it takes and gives."""
        if isinstance(self.part, Dense):
            units, inputs = self.part.weight.shape
            return inputs, units
        return self.part.weight_ih.shape[1], self.part.weight_hh.shape[1]

    @property
    def is_recurrent(self) -> bool:
        return isinstance(self.part, Layer)

    @property
    def kind(self) -> Cell:
        return find_cell(
            self.cell, self.activation, self.reset, self.recurrent_activation, self.output_activation
        )


def beside(name: str, stages: Sequence[Stage]) -> Stage:
    """Recurrent layers of one kind as a single one, which takes and gives all of theirs side by side."""
    if len(stages) == 1:
        return stages[0]
    gates = GATES[stages[0].cell]

    def diagonal(part: str) -> np.ndarray:
        arrays = [getattr(stage.part, part) for stage in stages]
        units = [len(array) // gates for array in arrays]
        columns = [array.shape[1] for array in arrays]
        if sum(units) * sum(columns) * gates > LARGEST_BESIDE:
            raise ModelError(f"{name}: stand side by side, and are too large to be run as one layer")
        whole = np.zeros((gates, sum(units), sum(columns)), np.float32)
        row = column = 0
        for array, count, width in zip(arrays, units, columns, strict=True):
            whole[:, row : row + count, column : column + width] = array.reshape(gates, count, width)
            row, column = row + count, column + width
        return whole.reshape(-1, sum(columns))

    def along(part: str) -> np.ndarray:
        by_gate = [getattr(stage.part, part).reshape(gates, -1) for stage in stages]
        return np.concatenate(by_gate, 1).ravel()

    layer = Layer(diagonal("weight_ih"), diagonal("weight_hh"), along("bias_ih"), along("bias_hh"))
    states = max(len(stage.initial) for stage in stages)
    given = [stage.initial or (np.zeros(stage.sizes[1]),) * states for stage in stages]
    initial = tuple(np.concatenate(parts) for parts in zip(*given, strict=True))
    return stages[0]._replace(name=name, part=layer, initial=initial)


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
