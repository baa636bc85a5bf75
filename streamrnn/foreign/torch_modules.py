"""PyTorch's modules by the names and shapes of a state dict's tensors."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from streamrnn.foreign.modules import Module, Norm
from streamrnn.foreign.network import Stage, shape_problems
from streamrnn.model.activations import say_activation
from streamrnn.model.parts import LAYER_PARTS, Dense, Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

CELLS = {4: "lstm", 3: "gru", 1: "rnn"}  # by the gates in their tensors
RECURRENT = re.compile(r"(?:(.*)\.)?(weight_ih|weight_hh|bias_ih|bias_hh)(?:_l(\d{1,3}))?", re.DOTALL)
LINEAR = re.compile(r"(?:(.*)\.)?(weight|bias)", re.DOTALL)
NORM = re.compile(r"(?:(.*)\.)?(weight|bias|running_mean|running_var)", re.DOTALL)
REFUSED = {
    r".*_reverse": "the second direction of a bidirectional network would need the end of a stream first",
    r".*weight_hr(_l\d{1,3})?": "a projection of the hidden state cannot be run; train with proj_size=0",
}
EMBEDDING = "an embedding cannot be run: what comes in are values, not the numbers of tokens"
IGNORE = "if forward() does not use it to answer, leave it out: `--ignore {}`"
EPSILON = 1e-5  # of PyTorch's normalisations; a state dict does not say it

Tensors = Mapping[str, np.ndarray]


def modules_of(tensors: Tensors, activation: str) -> list[Module]:
    """The modules that the tensors belong to, in no order. Raises ModelError naming all that is wrong."""
    recurrent: dict[str, dict[tuple[str, str], np.ndarray]] = defaultdict(dict)
    linear: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    problems = []
    norms = _norms(tensors)
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
        elif (match := NORM.fullmatch(name)) and (match[1] or "") in norms:
            norms[match[1] or ""][match[2]] = array
        elif (match := LINEAR.fullmatch(name)) and array.ndim == (2 if match[2] == "weight" else 1):
            linear[match[1] or ""][match[2]] = array
        else:
            problems.append(
                f"{quoted(name)} of shape {array.shape}: not of an nn.LSTM, nn.GRU, nn.RNN, nn.Linear or "
                f"normalisation, and other layers cannot be run; {IGNORE.format(name)}"
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
    for prefix, given in norms.items():
        try:
            modules.append(Module(prefix, norm=_norm(prefix, given)))
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError(*problems)
    return modules


def _norms(tensors: Tensors) -> dict[str, dict[str, np.ndarray]]:
    """The names of normalisations: they keep running means, or have a weight for each value of a row."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        match = NORM.fullmatch(name)
        if match and (match[2].startswith("running") or (match[2] == "weight" and array.ndim == 1)):
            found[match[1] or ""] = {}
    return found


def _norm(prefix: str, given: Mapping[str, np.ndarray]) -> Norm:
    """BatchNorm1d, (x - running_mean) / sqrt(running_var + eps), or LayerNorm; times weight, plus bias."""
    widths = {array.shape for array in given.values()}
    width = widths.pop()
    if widths or len(width) != 1 or not width[0]:
        shapes = {name: array.shape for name, array in given.items()}
        raise ModelError(f"{quoted(prefix)}: {shapes} do not fit one normalisation")
    scale = given.get("weight", np.ones(width)).astype(np.float64)
    shift = given.get("bias", np.zeros(width)).astype(np.float64)
    if "running_mean" not in given or "running_var" not in given:
        return Norm(say_activation("layer_norm", EPSILON), scale, shift)
    variance = given["running_var"].astype(np.float64) + EPSILON
    if not (variance > 0).all():
        raise ModelError(f"{quoted(prefix)}: running_var has values below 0")
    scale = scale / np.sqrt(variance)
    return Norm("", scale, shift - given["running_mean"] * scale)


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
