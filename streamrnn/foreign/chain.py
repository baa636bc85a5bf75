"""What a row passes in a foreign network, one part after another, made into the layers that can be run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from streamrnn.foreign.network import Foreign, Stage, assemble
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError

WIDEST = 4096  # values of an activation that becomes a dense layer of its own


class ScaleShift(NamedTuple):
    """x * scale + shift."""

    name: str
    scale: np.ndarray  # (width,) float64, or (1,) for all
    shift: np.ndarray


class Activation(NamedTuple):
    """An activation that is not part of a layer."""

    name: str
    activation: str


Part = Stage | ScaleShift | Activation


def join(library: str, parts: Sequence[Part], notes: Sequence[str]) -> Foreign:
    """The network of ``parts``, in the order in which a row passes them.

    Scaling in front of all layers and behind them becomes that of the inputs and outputs; an activation
    belongs to the linear dense layer in front of it, or becomes a dense layer. Raises ModelError naming the
    part that fits none of this, and as ``assemble`` does.
    """
    front, behind = list[ScaleShift](), list[ScaleShift]()
    stages = list[Stage]()
    for part in parts:
        if isinstance(part, ScaleShift):
            (behind if stages else front).append(part)
            continue
        if behind:
            raise ModelError(f"{behind[0].name}: scaling between layers cannot be run")
        if isinstance(part, Stage):
            stages.append(part)
        else:
            _activate(stages, part)
    network = assemble(library, stages, notes=notes)
    channels, outputs = network.sizes
    scaling: dict[str, Any] = {}
    if front:
        scale, shift = _composed(front, channels)
        scaling |= {"input_mean": -shift / scale, "input_std": 1 / scale}
    if behind:
        scale, shift = _composed(behind, outputs)
        scaling |= {"output_mean": shift, "output_std": scale}
    return replace(network, **scaling)


def _activate(stages: list[Stage], part: Activation) -> None:
    """Add an activation behind the last of ``stages``."""
    width = stages[-1].sizes[1] if stages else 0
    if not 0 < width <= WIDEST:
        raise ModelError(
            f"{part.name}: {part.activation} of {width or 'the inputs'}, expected behind a layer"
        )
    last = stages[-1].part
    if isinstance(last, Dense) and last.activation == "linear":
        stages[-1] = stages[-1]._replace(part=Dense(last.weight, last.bias, part.activation))
    else:
        dense = Dense(np.eye(width, dtype=np.float32), np.zeros(width, np.float32), part.activation)
        stages.append(Stage(part.name, dense))


def _composed(scalings: Sequence[ScaleShift], width: int) -> tuple[np.ndarray, np.ndarray]:
    """All of ``scalings`` as one, of shape (width,). Raises ModelError for one that cannot be undone."""
    scale, shift = np.ones(width), np.zeros(width)
    for part in scalings:
        if part.scale.shape not in ((1,), (width,)) or part.shift.shape not in ((1,), (width,)):
            raise ModelError(f"{part.name}: scales {max(part.scale.size, part.shift.size)} values of {width}")
        if not (np.isfinite(part.scale) & (part.scale > 0)).all() or not np.isfinite(part.shift).all():
            raise ModelError(f"{part.name}: expected finite numbers, and a factor above 0")
        scale, shift = scale * part.scale, shift * part.scale + part.shift
    return scale, shift
