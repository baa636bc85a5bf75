"""The JSON files of RTNeural: a list of Keras's layers, or the state dict of a PyTorch module."""

from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.foreign.keras.layout import keras_stage
from streamrnn.foreign.network import (
    Foreign,
    ImportOptions,
    OptionsError,
    Stage,
    Witness,
    assemble,
    numbers,
)
from streamrnn.foreign.torch_file import network_of
from streamrnn.model.model_file import parse_json
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ACTIVATIONS, ModelError
from streamrnn.model.stated import quoted

SIZE_LIMIT = 1 << 24  # bytes; as Python objects they may take twenty times as many
DENSE = ("dense", "time-distributed-dense")
# keys beside the layers that change what comes out
EFFECTS = ("in_skip", "in_gain", "out_gain")


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network in the JSON file at ``path``. Raises ModelError, and OptionsError for --dense."""
    size = path.stat().st_size
    if size > SIZE_LIMIT:
        raise ModelError(f"{size:,} bytes of JSON, at most {SIZE_LIMIT:,} are read; use safetensors")
    content = parse_json(path.read_bytes(), "file")
    if not isinstance(content, dict) or not content:
        raise ModelError('expected an object with "layers", or with the tensors of a state dict')
    if "layers" in content:
        if options.dense or options.activation:
            raise OptionsError("--dense, --activation: a list of layers says these itself; leave them out")
        return _from_layers(content)
    tensors = _tensors((quoted(name), values) for name, values in content.items())
    return network_of("RTNeural", dict(zip(content, tensors, strict=True)), options)


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """None: RTNeural is a library for C++."""
    return None


def _from_layers(content: dict[str, Any]) -> Foreign:
    """The network of a list of Keras's layers."""
    for key in EFFECTS:
        if content.get(key):
            raise ModelError(f'"{key}": {quoted(content[key])} cannot be run; only a network without it can')
    if not isinstance(content["layers"], list):
        raise ModelError(f'"layers": expected a list, found {quoted(content["layers"])}')
    stages, problems = list[Stage](), list[str]()
    for k, layer in enumerate(content["layers"]):
        try:
            stages.append(_stage(k, layer))
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError(*problems)
    rate = content.get("samplerate")
    period = 1 / rate if isinstance(rate, int | float) and 1e-9 <= rate <= 1e12 else None
    declared = content.get("in_shape")
    if stages and isinstance(declared, list) and declared and declared[-1] != stages[0].sizes[0]:
        name, takes = stages[0].name, stages[0].sizes[0]
        raise ModelError(f'"in_shape": says {quoted(declared[-1])} channels, {quoted(name)} takes {takes}')
    ignored = sorted(set(content) - {"in_shape", "layers", "samplerate", *EFFECTS})
    notes = [f"not used: {', '.join(map(quoted, ignored[:12]))}"] if ignored else []
    return assemble("RTNeural", stages, sample_period_s=period, notes=notes)


def _stage(k: int, layer: Any) -> Stage:
    """Layer ``k`` of the list. Raises ModelError naming it and what it is that does not fit or cannot run."""
    kind = layer.get("type") if isinstance(layer, dict) else None
    if kind not in (*DENSE, "lstm", "gru"):
        runnable = f"lstm, gru, {' and '.join(DENSE)}"
        raise ModelError(f"layers[{k}]: a layer of type {quoted(kind)} cannot be run; only {runnable} can")
    name = f"layers[{k}] {kind}"
    activation, weights = layer.get("activation") or "linear", layer.get("weights")
    count = 2 if kind in DENSE else 3
    if not isinstance(weights, list) or len(weights) != count:
        raise ModelError(f'{name}: expected "weights" of {count} arrays')
    arrays = _tensors((f"{name} weights[{place}]", values) for place, values in enumerate(weights))
    if kind in DENSE:
        if activation not in ACTIVATIONS:
            raise ModelError(
                f"{name}: activation {quoted(activation)}, but only {', '.join(ACTIVATIONS)} can run"
            )
        kernel, bias = arrays
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
            shapes = f"{kernel.shape} and {bias.shape}"
            raise ModelError(f"{name}: expected weights (inputs, units) and (units,), found {shapes}")
        stage = Stage(name, Dense(kernel.T, bias, activation))
    else:
        if activation not in ("linear", "tanh"):
            raise ModelError(f"{name}: activation {quoted(activation)}; only tanh can be run")
        stage = keras_stage(name, kind, arrays[0], arrays[1], arrays[2])
    declared = layer.get("shape")
    if isinstance(declared, list) and declared and declared[-1] != stage.sizes[1]:
        raise ModelError(
            f'{name}: "shape" says {quoted(declared[-1])} units, its weights are those of {stage.sizes[1]}'
        )
    return stage


def _tensors(named: Any) -> list[np.ndarray]:
    """Each array of lists of numbers as float32. Raises ModelError naming those that are not."""
    arrays, problems = [], list[str]()
    for name, values in named:
        try:
            arrays.append(numbers(name, np.array(values, np.float64)))
        except ModelError as error:
            problems += error.problems
        except (TypeError, ValueError, OverflowError):
            problems.append(f"{name}: expected lists of numbers, all of the same length")
    if problems:
        raise ModelError(*problems)
    return arrays
