"""What a model is made of: channels, recurrent layers and dense ones, each checked and frozen."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Channel:
    """One quantity that goes into a model or comes out of it."""

    name: str
    unit: str = ""
    offset: float = 0.0  # what is taken off it, in float64, before it is rounded to float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", float(self.offset))

    def stated(self) -> dict[str, Any]:
        """As a model file has it."""
        return {"name": self.name, "unit": self.unit} | ({"offset": self.offset} if self.offset else {})

    @property
    def title(self) -> str:
        """What a picture of it shows."""
        return f"{self.name} \N{MINUS SIGN} {self.offset:.15g}" if self.offset else self.name


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One recurrent layer in PyTorch's layout: the rows of a tensor are its gates', ``hidden`` rows each.

    The gates' order is that of the table of cells. Arrays are copied to read-only,
    C-contiguous float32.
    """

    weight_ih: np.ndarray  # (gates * hidden, inputs)
    weight_hh: np.ndarray  # (gates * hidden, hidden)
    bias_ih: np.ndarray  # (gates * hidden,)
    bias_hh: np.ndarray  # (gates * hidden,)

    def __post_init__(self) -> None:
        for part in LAYER_PARTS:
            object.__setattr__(self, part, frozen(getattr(self, part)))


LAYER_PARTS = tuple(part.name for part in fields(Layer))


def layer_tensors(layers: Sequence[Layer], prefix: str = "") -> dict[str, np.ndarray]:
    """The tensors of a network's recurrent layers, by their names after ``prefix``."""
    return {
        f"{prefix}{part}_l{k}": getattr(layer, part) for k, layer in enumerate(layers) for part in LAYER_PARTS
    }


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A layer without a state: activation(weight @ x + bias). Arrays are copied as Layer's are."""

    weight: np.ndarray  # (units, inputs)
    bias: np.ndarray  # (units,)
    activation: str = "linear"  # as the table of activations has it

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight))
        object.__setattr__(self, "bias", frozen(self.bias))

    @property
    def units(self) -> int:
        return len(self.weight)

    def stated(self) -> dict[str, Any]:
        """As a model file has it."""
        return {"units": self.units, "activation": self.activation}


def frozen(values: np.ndarray) -> np.ndarray:
    """A read-only, C-contiguous float32 copy; what float32 cannot hold becomes infinite, to be refused."""
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32, order="C")
    array.setflags(write=False)
    return array
