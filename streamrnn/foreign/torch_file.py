"""The state dict of a PyTorch module, in a safetensors file.

A state dict holds names and tensors, not what the module's ``forward`` does with them: the network is read as
its nn.LSTM, nn.GRU or nn.RNN modules (or their cells), nn.Linear layers and normalisations, one after
the other.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from streamrnn.foreign import jax_modules
from streamrnn.foreign.modules import network_of as network_of_modules
from streamrnn.foreign.network import (
    Foreign,
    ImportOptions,
    OptionsError,
    Witness,
    numbers,
)
from streamrnn.foreign.torch_modules import EPSILON, IGNORE, Tensors, modules_of
from streamrnn.model.model_file import FORMAT, read_header
from streamrnn.model.parts import LAYER_PARTS
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

# a weight's direction and length apart, as torch.nn.utils has them: old and new names
WEIGHT_NORM = {
    re.compile(r"((?:.*\.)?)parametrizations\.([^.]+)\.original0", re.DOTALL): (
        "{0}{1}",
        "{0}parametrizations.{1}.original1",
    ),
    re.compile(r"((?:.*\.)?)([^.]+)_g", re.DOTALL): ("{0}{1}", "{0}{1}_v"),
}
SCALING = re.compile(r"((?:.*[._])?)(mean|std)", re.DOTALL)
PREFIXES = ("module.", "_orig_mod.", "model.")  # of wrappers: parallel, compiled, Lightning's
COUNTER = "num_batches_tracked"
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network of the state dict at ``path``. Raises ModelError, and OptionsError for options."""
    return network_of("PyTorch", read_tensors(path, options.ignore), options)


def read_tensors(path: Path, ignore: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file but those in ``ignore``, as float32.

    Raises ModelError naming those that cannot be.
    """
    try:
        parts = deserialize(path.read_bytes())
    except SafetensorError as error:
        raise ModelError(
            f"not a whole safetensors file ({quoted(str(error))}); copy or save it again"
        ) from error
    metadata = read_header(path).get("__metadata__") or {}
    if metadata.get("format") == FORMAT:
        raise ModelError("is a streamrnn model already; serve and replay take it as it is")
    tensors, problems = {}, []
    for name, part in kept(dict(parts), ignore).items():
        if part["dtype"] not in DTYPES:
            found = f"expected floating-point numbers, found {quoted(part['dtype'])}"
            problems.append(f"{quoted(name)}: {found}; {IGNORE.format(name)}")
            continue
        array = np.frombuffer(part["data"], DTYPES[part["dtype"]])
        if part["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        try:
            tensors[name] = numbers(quoted(name), array.reshape(part["shape"]))
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError(*problems)
    return tensors


def kept(named: Mapping[str, Any], ignore: Sequence[str]) -> dict[str, Any]:
    """What is left of a state dict without the names that match one of ``ignore``, and without counters.

    The prefixes that wrappers put before every name are taken off. Raises OptionsError for a pattern that
    matches none.
    """
    if astray := [one for one in ignore if not any(_matches(name, one) for name in named)]:
        listed = ", ".join(quoted(name) for name in list(named)[:12])
        raise OptionsError(
            *(f"--ignore: no tensor is called {quoted(one)}; there are {listed}" for one in astray)
        )
    left = {
        name: value
        for name, value in named.items()
        if not any(_matches(name, one) for one in ignore) and name.split(".")[-1] != COUNTER
    }
    while prefix := next(
        (one for one in PREFIXES if left and all(name.startswith(one) for name in left)), ""
    ):
        left = {name.removeprefix(prefix): value for name, value in left.items()}
    return left


def _matches(name: str, pattern: str) -> bool:
    """Whether a name, or all names below it, are what a pattern says, with wrappers' prefixes or without."""
    while prefix := next(
        (one for one in PREFIXES if name.startswith(one) and not pattern.startswith(one)), ""
    ):
        name = name.removeprefix(prefix)
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def network_of(library: str, tensors: Tensors, options: ImportOptions) -> Foreign:
    """The network of a state dict's ``tensors``, float32, in a file of ``library``.

    Raises ModelError for tensors that are not one stack of recurrent layers with others around it,
    OptionsError if the activations of linear ones are needed or too many.
    """
    if found := jax_modules.find(tensors):
        family, modules = found
        return network_of_modules(family, modules, options)
    tensors, notes = dict(tensors), list[str]()
    scaling = _take_scaling(tensors)
    modules = modules_of(_without_weight_norm(tensors), options.activation or "tanh")
    plain = any(stage.cell == "rnn" for module in modules for stage in module.stages)
    if options.activation is not None and not plain:
        raise OptionsError("--activation: is for an nn.RNN, and the file has none; leave it out")
    if options.activation is None and plain:
        notes.append("an nn.RNN is taken as one of tanh; say --activation relu for nonlinearity='relu'")
    if norms := [quoted(module.name) for module in modules if module.norm]:
        notes.append(f"{', '.join(norms)}: taken as a normalisation with PyTorch's usual eps of {EPSILON:g}")
    if scaling is not None:
        notes.append("the tensors mean and std are taken as what inputs are scaled by, (x - mean) / std")
    return network_of_modules(library, modules, options, notes, scaling)


def _take_scaling(tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Takes the one pair of mean and std out of ``tensors``, if there is one."""
    pairs = [
        (name, f"{match[1]}std")
        for name in tensors
        if (match := SCALING.fullmatch(name)) and match[2] == "mean" and f"{match[1]}std" in tensors
    ]
    if len(pairs) != 1:
        return None
    mean, std = (tensors.pop(name).ravel() for name in pairs[0])
    if mean.shape != std.shape or not (std > 0).all():
        raise ModelError(f"{quoted(pairs[0][1])}: expected as many deviations as means, all above 0")
    return mean, std


def _without_weight_norm(tensors: Tensors) -> dict[str, np.ndarray]:
    """``tensors``, with each weight in place of its direction v and the lengths g of its rows: g v / |v|."""
    folded = dict(tensors)
    for pattern, (whole, other) in WEIGHT_NORM.items():
        for name in tensors:
            if not (match := pattern.fullmatch(name)) or other.format(*match.groups()) not in folded:
                continue
            length, direction = folded.pop(name), folded.pop(other.format(*match.groups())).astype(np.float64)
            norms = np.sqrt((direction.reshape(len(direction), -1) ** 2).sum(1)) if direction.ndim else None
            if norms is None or length.size != len(norms) or not (norms > 0).all():
                raise ModelError(
                    f"{quoted(name)}: {length.shape} does not fit a direction of {direction.shape}"
                )
            factors = (length.ravel() / norms).reshape(-1, *[1] * (direction.ndim - 1))
            folded[whole.format(*match.groups())] = (direction * factors).astype(np.float32)
    return folded


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """PyTorch's own modules with the file's tensors, run from a state of zeros."""
    if find_spec("torch") is None or foreign.library != "PyTorch":
        return None
    import torch

    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
    chain: list[Callable[[Any], Any]] = []
    if foreign.input_mean is not None and foreign.input_std is not None:
        mean, std = (
            torch.tensor(side, dtype=torch.float32) for side in (foreign.input_mean, foreign.input_std)
        )
        chain.append(lambda x: (x - mean) / std)
    for module, activation in foreign.plan:
        if module.norm is not None:
            width, norm = len(module.norm.scale), module.norm
            scale, shift = (torch.tensor(side, dtype=torch.float32) for side in (norm.scale, norm.shift))
            if norm.activation:
                layer = torch.nn.LayerNorm(width, EPSILON)
                layer.load_state_dict({"weight": scale, "bias": shift})
                chain.append(layer)
            else:
                chain.append(partial(torch.addcmul, shift, scale))
            continue
        parts = [stage.part for stage in module.stages]
        if module.linear:
            [dense] = parts
            layer = torch.nn.Linear(module.takes, module.gives)
            layer.load_state_dict({name: torch.tensor(getattr(dense, name)) for name in ("weight", "bias")})
            chain += [layer] if activation == "linear" else [layer, getattr(torch.nn.functional, activation)]
            continue
        cell = module.stages[0].kind
        more = {"nonlinearity": cell.activation} if cell.name == "rnn" else {}
        layer = kinds[cell.name](module.takes, module.gives, len(parts), batch_first=True, **more)
        layer.load_state_dict(
            {
                f"{name}_l{k}": torch.tensor(getattr(part, name))
                for k, part in enumerate(parts)
                for name in LAYER_PARTS
            }
        )
        chain += [layer, itemgetter(0)]

    def answers(sequences: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(sequences)
        with torch.inference_mode():
            for layer in chain:
                values = layer(values)
        return values.numpy()

    return Witness(answers)
