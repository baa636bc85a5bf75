"""The state dict of a PyTorch module, in a safetensors file.

A state dict holds names and tensors, not what the module's ``forward`` does with them: the network is read as
its nn.LSTM, nn.GRU or nn.RNN modules (or their cells) and nn.Linear layers, one after the other.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, deserialize

from streamrnn.foreign.network import (
    Foreign,
    ImportOptions,
    OptionsError,
    Stage,
    Witness,
    assemble,
    numbers,
    shape_problems,
)
from streamrnn.model.model_file import FORMAT, read_header
from streamrnn.model.parts import LAYER_PARTS, Dense, Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

CELLS = {4: "lstm", 3: "gru", 1: "rnn"}  # by the gates in their tensors
RECURRENT = re.compile(r"(?:(.*)\.)?(weight_ih|weight_hh|bias_ih|bias_hh)(?:_l(\d{1,3}))?", re.DOTALL)
LINEAR = re.compile(r"(?:(.*)\.)?(weight|bias)", re.DOTALL)
REFUSED = {
    r".*_reverse": "the second direction of a bidirectional network would need the end of a stream first",
    r".*weight_hr(_l\d{1,3})?": "a projection of the hidden state cannot be run; train with proj_size=0",
}
EMBEDDING = "an embedding cannot be run: what comes in are values, not the numbers of tokens"
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}
MODULES_ORDERED = 64  # of different names, at most
BEGINNINGS = 10_000  # of orders that are tried; past them the order counts as not told

Tensors = Mapping[str, np.ndarray]


class Module(NamedTuple):
    """One nn.LSTM, nn.GRU, nn.RNN, cell or nn.Linear by its name."""

    name: str
    stages: tuple[Stage, ...]  # its layers

    @property
    def takes(self) -> int:
        return self.stages[0].sizes[0]

    @property
    def gives(self) -> int:
        return self.stages[-1].sizes[1]

    @property
    def linear(self) -> bool:
        return isinstance(self.stages[0].part, Dense)


def read(path: Path, options: ImportOptions) -> Foreign:
    """The network of the state dict at ``path``. Raises ModelError, and OptionsError for --dense."""
    return network_of("PyTorch", read_tensors(path), options)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file, as float32. Raises ModelError naming those that cannot be."""
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
    for name, part in parts:
        if part["dtype"] not in DTYPES:
            problems.append(f"{quoted(name)}: expected floating-point numbers, found {quoted(part['dtype'])}")
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


def network_of(library: str, tensors: Tensors, options: ImportOptions) -> Foreign:
    """The network of a state dict's ``tensors``, float32, in a file of ``library``.

    Raises ModelError for tensors that are not one stack of recurrent layers with linear ones around it,
    OptionsError if the activations of these are needed or too many.
    """
    channels = len(options.channels) if options.channels else None
    modules = _ordered(_modules(tensors, options.activation or "tanh"), channels)
    _check_dense(modules, options.dense)
    activations = iter(options.dense or ("linear",))
    stages, notes = [], []
    for module in modules:
        for stage in module.stages:
            part = stage.part
            if isinstance(part, Dense):
                part = Dense(part.weight, part.bias, next(activations))
            stages.append(stage._replace(part=part))
    if len(modules) > 1:
        names = ", then ".join(
            f"{quoted(module.name)} ({module.takes} to {module.gives})" for module in modules
        )
        notes.append(
            f"a state dict does not say what forward() does; it is taken to run {names}, and nothing else"
        )
    plain = any(stage.cell == "rnn" for stage in stages)
    if options.activation is not None and not plain:
        raise OptionsError("--activation: is for an nn.RNN, and the file has none; leave it out")
    if options.activation is None and plain:
        notes.append("an nn.RNN is taken as one of tanh; say --activation relu for nonlinearity='relu'")
    return assemble(library, stages, notes=notes)


def _check_dense(modules: Sequence[Module], activations: Sequence[str] | None) -> None:
    """Raise OptionsError unless there are as many activations as linear layers; one layer needs none."""
    linear = [quoted(module.name) for module in modules if module.linear]
    names = ", ".join(linear[:12])
    if activations is None and len(linear) > 1:
        raise OptionsError(
            f"{len(linear)} linear layers ({names}), but not what is between them; say "
            "their activations in this order, as in `--dense tanh,linear`"
        )
    if activations is not None and len(activations) != len(linear):
        found = f"{len(linear)} linear layers ({names})" if linear else "no linear layer"
        raise OptionsError(f"--dense: {len(activations)} activations for {found}")


def _modules(tensors: Tensors, activation: str) -> list[Module]:
    """The modules that the tensors belong to, in no order. Raises ModelError naming all that is wrong."""
    recurrent: dict[str, dict[tuple[str, str], np.ndarray]] = defaultdict(dict)
    linear: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    problems = []
    for name, array in tensors.items():
        reasons = [reason for end, reason in REFUSED.items() if re.fullmatch(end, name, re.DOTALL)]
        if (
            "embed" in name
            and name.endswith("weight")
            and f"{name.removesuffix('weight')}bias" not in tensors
        ):
            reasons.append(EMBEDDING)
        if reasons:
            problems.append(f"{quoted(name)}: {reasons[0]}")
        elif match := RECURRENT.fullmatch(name):
            recurrent[match[1] or ""][match[3] or "", match[2]] = array
        elif (match := LINEAR.fullmatch(name)) and array.ndim == (2 if match[2] == "weight" else 1):
            linear[match[1] or ""][match[2]] = array
        else:
            problems.append(
                f"{quoted(name)} of shape {array.shape}: not of an nn.LSTM, nn.GRU, nn.RNN or nn.Linear, and "
                "other layers cannot be run"
            )
    if problems:
        raise ModelError(*problems)
    modules = []
    for prefix, parts in recurrent.items():
        try:
            modules.append(Module(prefix, tuple(_layers(prefix, parts, activation))))
        except ModelError as error:
            problems += error.problems
    for prefix, given in linear.items():
        if "weight" not in given:
            problems.append(f"{quoted(_joined(prefix, 'weight'))}: missing")
            continue
        bias = given.get("bias", np.zeros(len(given["weight"]), np.float32))
        modules.append(Module(prefix, (Stage(prefix, Dense(given["weight"], bias)),)))
    if problems:
        raise ModelError(*problems)
    return modules


def _layers(prefix: str, parts: Mapping[tuple[str, str], np.ndarray], activation: str) -> Iterator[Stage]:
    """The layers of one recurrent module; ``parts`` by the number of the layer ("" for a cell) and name."""
    numbers_found = {number for number, _ in parts}
    expected = [""] if "" in numbers_found else [str(k) for k in range(len(numbers_found))]
    if numbers_found != set(expected):
        found = ", ".join(sorted(quoted(_joined(prefix, part, number)) for number, part in parts))
        raise ModelError(f"{quoted(prefix)}: layers are missing between those that are there: {found}")
    for number in expected:
        given = {part: parts[number, part] for part in LAYER_PARTS if (number, part) in parts}
        wanted = LAYER_PARTS if "bias_ih" in given or "bias_hh" in given else LAYER_PARTS[:2]
        if missing := [part for part in wanted if part not in given]:
            raise ModelError(*(f"{quoted(_joined(prefix, part, number))}: missing" for part in missing))
        weight = given["weight_hh"]
        name = _joined(prefix, "weight_hh", number)
        gates, rest = divmod(weight.shape[0], weight.shape[1] or 1) if weight.ndim == 2 else (0, 0)
        if rest or gates not in CELLS:
            sizes = "(4 H, H) for an lstm, (3 H, H) for a gru or (H, H) for an rnn"
            raise ModelError(f"{quoted(name)}: expected shape {sizes}, found {weight.shape}")
        zeros = np.zeros(len(weight), np.float32)
        layer = Layer(*(given.get(part, zeros) for part in LAYER_PARTS))
        cell = CELLS[gates]
        label = f"{prefix} layer {number}".strip() if number else prefix
        stage = Stage(label, layer, cell, activation if cell == "rnn" else "tanh")
        if problems := shape_problems(stage):
            raise ModelError(*problems)
        yield stage


def _joined(prefix: str, part: str, number: str = "") -> str:
    """The name of a tensor."""
    return (f"{prefix}." if prefix else "") + part + (f"_l{number}" if number else "")


def _ordered(modules: list[Module], channels: int | None = None) -> list[Module]:
    """The modules in the one order that their names and sizes allow.

    Names that differ by a number alone (lstm, lstm2; net.0, net.2) follow each other by it; otherwise each
    takes as many values as the one before it gives, the first one ``channels``. Raises ModelError where no
    order is left, or several; without channels that fit, a single linear layer comes last if it can.
    """
    by_number = sorted(modules, key=lambda module: [int(n[:18]) for n in re.findall(r"\d+", module.name)])
    groups: dict[str, list[Module]] = defaultdict(list)
    for module in by_number:
        groups[re.sub(r"\d+", "", module.name)].append(module)
    if len(groups) <= 1:
        return by_number
    orders: list[list[Module]] = []
    if len(modules) <= MODULES_ORDERED:
        orders = _orders([*groups.values()]) or _orders([[module] for module in modules])
    fitting = [order for order in orders if channels == order[0].takes]
    orders = fitting or orders
    if not fitting and sum(module.linear for module in modules) == 1:
        orders = [order for order in orders if order[-1].linear] or orders
    if len(orders) == 1:
        return orders[0]
    names = ", ".join(f"{quoted(module.name)} {module.takes} to {module.gives}" for module in by_number[:12])
    ways = "several ways" if orders else "no way"
    raise ModelError(
        f"its {len(modules)} modules ({names}) can follow each other in {ways} that their names and sizes "
        "tell; save them as net.0, net.1, ... in the order in which a row passes them"
    )


def _orders(groups: list[list[Module]]) -> list[list[Module]]:
    """The orders of all modules that keep that of each group and in which the sizes fit, but see BEGINNINGS.

    Recurrent modules follow each other without a linear one between them.
    """
    found: list[list[Module]] = []
    waiting: list[tuple[list[Module], list[list[Module]]]] = [([], groups)]
    for _ in range(BEGINNINGS):
        if not waiting:
            break
        order, left = waiting.pop()
        if not any(left):
            found.append(order)
        for k, group in enumerate(left):
            if group and _fits(order, group[0]):
                waiting.append(([*order, group[0]], [*left[:k], group[1:], *left[k + 1 :]]))
    return [] if waiting else found


def _fits(order: list[Module], module: Module) -> bool:
    """Whether ``module`` can follow those of ``order``."""
    if not order:
        return True
    splits = not module.linear and order[-1].linear and not all(done.linear for done in order)
    return order[-1].gives == module.takes and not splits


def witness(path: Path, foreign: Foreign) -> Witness | None:
    """PyTorch's own modules with the file's tensors, run from a state of zeros."""
    if find_spec("torch") is None:
        return None
    import torch
    from safetensors.torch import load_file

    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    plan = _ordered(
        _modules({name: tensor.numpy() for name, tensor in state.items()}, foreign.activation),
        foreign.sizes[0],
    )
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
    activations = iter([dense.activation for dense in (*foreign.before, *foreign.after)] + ["linear"])
    chain: list[Callable[[Any], Any]] = []
    for module in plan:
        own = {
            name.removeprefix(f"{module.name}."): tensor
            for name, tensor in state.items()
            if name.rpartition(".")[0] == module.name
        }
        if module.linear:
            layer = torch.nn.Linear(module.takes, module.gives, bias="bias" in own)
            layer.load_state_dict(own)
            activation = next(activations)
            chain += [layer] if activation == "linear" else [layer, getattr(torch, activation)]
            continue
        more = {"nonlinearity": foreign.activation} if foreign.cell == "rnn" else {}
        of_layers = {name if "_l" in name else f"{name}_l0": tensor for name, tensor in own.items()}
        biased = "bias_ih_l0" in of_layers
        layer = kinds[foreign.cell](module.takes, module.gives, len(module.stages), bias=biased, **more)
        layer.load_state_dict(of_layers)
        chain += [layer, itemgetter(0)]

    def run(rows: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(rows)
        with torch.inference_mode():
            for layer in chain:
                values = layer(values)
        return values.numpy()

    return run
