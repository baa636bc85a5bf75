"""What a network is: its architecture, channels, weights and scaling, checked once and then frozen.

Settings have one form, the JSON object of a model file, and tensors one naming, PyTorch's. All checks
are here: a file's reader calls them before it reads a weight, and a Model when it is made.
"""

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from streamrnn.errors import ConfigError

GATES = {"lstm": 4, "gru": 3, "rnn": 1}  # blocks of hidden rows in a layer's tensors

CHOICES = {
    "cell": tuple(GATES),
    "activation": ("tanh", "relu"),
    "relation": ("sequence-to-sequence", "sequence-to-vector", "vector-to-sequence", "encoder-decoder"),
    "target": ("next", "value"),
    "normalisation": ("standard", "none"),
}
# the largest sizes accepted; the horizon's is that of its field on the wire
SIZES = {"layers": 256, "hidden": 65535, "horizon": 65535}
SETTINGS = (*CHOICES, *SIZES, "channels", "outputs", "sample_period_s")
DEFAULTS: dict[str, Any] = {"activation": "tanh", "horizon": 1, "normalisation": "standard"}
PERIOD_LIMIT_S = 1e9  # as nanoseconds it fits the int64 of the wire

NORMALISATION = ("input.mean", "input.std", "output.mean", "output.std")
# the tensors of a model file that are fields of Model
FIELDS = {name: name.replace(".", "_") for name in ("head.weight", "head.bias", *NORMALISATION)}
SMALLEST_STD = float(np.finfo(np.float32).tiny)  # below it, 1 / std may be infinite

PROBLEMS_SHOWN = 12
_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 200


class ModelError(ConfigError):
    """A model that cannot be used: ``problems`` says each thing that is wrong, ``where`` in what."""

    def __init__(self, *problems: str, where: str = "model"):
        self.problems = problems
        lines = list(problems[:PROBLEMS_SHOWN])
        if len(problems) > len(lines):
            lines.append(f"and {len(problems) - len(lines)} more")
        super().__init__(("\n  " if len(lines) > 1 else " ").join([f"{where}:", *lines]))


@dataclass(frozen=True, slots=True)
class Channel:
    """One quantity that goes into a model or comes out of it."""

    name: str
    unit: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One recurrent layer in PyTorch's layout: the rows of a tensor are its gates', ``hidden`` rows each.

    The gates' order is i, f, g, o for lstm; r, z, n for gru; rnn has one. Arrays are copied to read-only,
    C-contiguous float32.
    """

    weight_ih: np.ndarray  # (gates * hidden, inputs)
    weight_hh: np.ndarray  # (gates * hidden, hidden)
    bias_ih: np.ndarray  # (gates * hidden,)
    bias_hh: np.ndarray  # (gates * hidden,)

    def __post_init__(self) -> None:
        for part in LAYER_PARTS:
            object.__setattr__(self, part, _frozen(getattr(self, part)))


LAYER_PARTS = tuple(field.name for field in fields(Layer))


@dataclass(frozen=True, eq=False)
class Model:
    """A network of C channels, H hidden units and O outputs: immutable, shared by all streams.

    Arrays are copied to read-only, C-contiguous float32. The first layer takes
    ``(x - input_mean) / input_std``; a prediction in physical units is
    ``(head_weight @ h + head_bias) * output_std + output_mean``. Raises ModelError naming every setting
    and tensor that is wrong.
    """

    cell: str  # "lstm", "gru" or "rnn"
    activation: str  # "tanh", or "relu" for rnn
    hidden: int
    layers: tuple[Layer, ...]
    head_weight: np.ndarray  # (O, H)
    head_bias: np.ndarray  # (O,)
    input_mean: np.ndarray  # (C,); zeros when normalisation is "none"
    input_std: np.ndarray  # (C,); ones when it is "none"
    output_mean: np.ndarray  # (O,); likewise
    output_std: np.ndarray  # (O,)
    channels: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    sample_period_s: float  # 0 = unknown
    relation: str
    horizon: int  # rows per prediction
    target: str  # "next": output k forecasts channel k one period ahead; "value": quantities of their own
    normalisation: str  # "standard" or "none"

    def __post_init__(self) -> None:
        check_settings(self.settings())
        object.__setattr__(self, "sample_period_s", float(self.sample_period_s))
        for field in FIELDS.values():
            object.__setattr__(self, field, _frozen(getattr(self, field)))
        check_shapes(self.settings(), {name: array.shape for name, array in self.tensors().items()})
        self._check_values()

    @classmethod
    def from_tensors(cls, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> "Model":
        """The model of a file's settings and tensors; settings in DEFAULTS may be left out.

        Raises ModelError for settings or tensors that are wrong, missing or of no use.
        """
        settings = DEFAULTS | dict(settings)
        check_settings(settings)
        check_shapes(settings, {name: np.shape(tensor) for name, tensor in tensors.items()})
        given = {**tensors, **(_identity(settings) if settings["normalisation"] == "none" else {})}
        parts: dict[str, Any] = {field: given[name] for name, field in FIELDS.items()}
        parts["channels"] = tuple(Channel(**channel) for channel in settings["channels"])
        parts["outputs"] = tuple(Channel(**output) for output in settings["outputs"])
        parts["layers"] = tuple(
            Layer(*(tensors[f"{part}_l{k}"] for part in LAYER_PARTS)) for k in range(settings["layers"])
        )
        return cls(**(settings | parts))

    def settings(self) -> dict[str, Any]:
        """Everything but the tensors, as the JSON object of a model file."""
        settings = {key: getattr(self, key) for key in SETTINGS}
        settings["layers"] = len(self.layers)
        settings["channels"] = [asdict(channel) for channel in self.channels]
        settings["outputs"] = [asdict(output) for output in self.outputs]
        return settings

    def tensors(self) -> dict[str, np.ndarray]:
        """Every tensor of a model file by its name; no means and deviations if normalisation is "none"."""
        recurrent = {
            f"{part}_l{k}": getattr(layer, part)
            for k, layer in enumerate(self.layers)
            for part in LAYER_PARTS
        }
        return recurrent | {
            name: getattr(self, field)
            for name, field in FIELDS.items()
            if self.normalisation == "standard" or name not in NORMALISATION
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all settings and tensors: equal for equal models, whatever their files."""
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode())
        for name, array in sorted(self.tensors().items()):
            digest.update(json.dumps([name, array.shape]).encode())
            digest.update(array.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def _check_values(self) -> None:
        """Raise ModelError naming every tensor that holds a number no step could use."""
        problems = []
        for name, array in self.tensors().items():
            if bad := array.size - int(np.isfinite(array).sum()):
                problems.append(f"{name}: {bad} of {array.size} values are NaN or infinite; train it again")
        if self.normalisation == "none":
            for name, array in _identity(self.settings()).items():
                if not np.array_equal(getattr(self, FIELDS[name]), array):
                    expected = f'expected {array.size} times {array[0]:g}, as "normalisation" is "none"'
                    problems.append(f"{name}: {expected}")
        else:
            problems += _std_problems("input.std", self.input_std, self.channels)
            problems += _std_problems("output.std", self.output_std, self.outputs)
        if problems:
            raise ModelError(*problems)


def random_model(
    cell: str = "lstm",
    channels: int | Sequence[str] = 8,
    hidden: int = 32,
    *,
    layers: int = 1,
    activation: str = "tanh",
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
    sample_period_s: float = 0.0,
    seed: int = 0,
) -> Model:
    """An untrained model that forecasts its own channels, with PyTorch's first weights, U(±1/sqrt(hidden)).

    ``channels`` is their names, or how many (named c0, c1, ...). ``mean`` and ``std``, (channels,), scale
    both sides; with neither, normalisation is "none". The same arguments give the same model.
    """
    names = [f"c{k}" for k in range(channels)] if isinstance(channels, int) else channels
    scaled = mean is not None or std is not None
    settings: dict[str, Any] = DEFAULTS | {
        "cell": cell,
        "activation": activation,
        "layers": layers,
        "hidden": hidden,
        "channels": [{"name": name} for name in names],
        "outputs": [{"name": name} for name in names],
        "sample_period_s": sample_period_s,
        "relation": "sequence-to-sequence",
        "target": "next",
        "normalisation": "standard" if scaled else "none",
    }
    check_settings(settings)
    bound, rng = 1 / math.sqrt(hidden), np.random.default_rng(seed)
    tensors = {name: rng.uniform(-bound, bound, shape) for name, shape in tensor_shapes(settings).items()}
    if scaled:
        for side in ("input", "output"):
            tensors[f"{side}.mean"] = np.zeros(len(names)) if mean is None else mean
            tensors[f"{side}.std"] = np.ones(len(names)) if std is None else std
    return Model.from_tensors(settings, tensors)


def tensor_shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that a model file of these checked settings has."""
    hidden, rows = settings["hidden"], GATES[settings["cell"]] * settings["hidden"]
    inputs, outputs = len(settings["channels"]), len(settings["outputs"])
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(settings["layers"]):
        shapes[f"weight_ih_l{k}"] = (rows, inputs if k == 0 else hidden)
        shapes[f"weight_hh_l{k}"] = (rows, hidden)
        shapes[f"bias_ih_l{k}"] = shapes[f"bias_hh_l{k}"] = (rows,)
    shapes |= {"head.weight": (outputs, hidden), "head.bias": (outputs,)}
    if settings["normalisation"] == "standard":
        shapes |= {name: (inputs if name.startswith("input") else outputs,) for name in NORMALISATION}
    return shapes


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ModelError naming every key that is missing, unknown, or of a value that cannot be."""
    problems = [f'"{key}": missing' for key in SETTINGS if key not in settings]
    problems += [f"{quoted(key)}: unknown key; remove it" for key in settings if key not in SETTINGS]
    if problems:
        raise ModelError(*problems)
    for key, choices in CHOICES.items():
        if settings[key] not in choices:
            expected = " or ".join(f'"{choice}"' for choice in choices)
            problems.append(f'"{key}": expected {expected}, found {quoted(settings[key])}')
    for key, limit in SIZES.items():
        if type(settings[key]) is not int or not 1 <= settings[key] <= limit:
            problems.append(f'"{key}": expected a whole number, 1 to {limit}, found {quoted(settings[key])}')
    period = settings["sample_period_s"]
    if isinstance(period, bool) or not isinstance(period, int | float) or not 0 <= period <= PERIOD_LIMIT_S:
        problems.append(f'"sample_period_s": expected seconds, or 0 for unknown, found {quoted(period)}')
    problems += _channel_problems("channels", settings["channels"])
    problems += _channel_problems("outputs", settings["outputs"])
    if settings["activation"] == "relu" and settings["cell"] != "rnn":
        problems.append(f'"activation": "relu" is for the cell "rnn" only, not {quoted(settings["cell"])}')
    if problems:
        raise ModelError(*problems)
    channels, outputs = ([channel["name"] for channel in settings[key]] for key in ("channels", "outputs"))
    if settings["target"] == "next" and outputs != channels[: len(outputs)]:
        raise ModelError(
            f'"outputs": {quoted(outputs)} must be the first of the channels, {quoted(channels)}, in their '
            'order, for the target "next"; for other quantities say "target": "value"'
        )


def check_shapes(settings: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelError naming every tensor that is missing, of no use, or not of the settings' shape.

    ``settings`` are checked ones, ``found`` the shape of each tensor by its name.
    """
    expected = tensor_shapes(settings)
    missing = [name for name in expected if name not in found]
    problems = [
        f"{name}: missing, of shape {expected[name]}" for name in missing if name not in NORMALISATION
    ]
    if unscaled := [name for name in missing if name in NORMALISATION]:
        remedy = 'add them, or say "normalisation": "none" if the network takes values as they are'
        problems.append(f"{', '.join(unscaled)}: missing; {remedy}")
    for name, shape in found.items():
        if name in expected:
            if shape != expected[name]:
                problems.append(f"{name}: expected shape {expected[name]}, found {quoted(shape)}")
        elif name in NORMALISATION:
            problems.append(f'{name}: not used as "normalisation" is "none"; remove it, or say "standard"')
        elif name.startswith("decoder."):
            problems.append(f"{quoted(name)}: this version cannot read a second network, the decoder's")
        else:
            network = f"{settings['layers']}-layer {settings['cell']}"
            problems.append(f"{quoted(name)}: a {network} has no such tensor; remove it")
    if problems:
        raise ModelError(*problems)


def _channel_problems(key: str, channels: object) -> list[str]:
    """What is wrong with a list of ``{"name", "unit"}``; the unit may be left out."""
    if not isinstance(channels, list) or not channels:
        return [f'"{key}": expected a list of one or more {{"name", "unit"}}, found {quoted(channels)}']
    problems, names = [], set()
    for k, channel in enumerate(channels):
        if not isinstance(channel, dict) or not {"name"} <= set(channel) <= {"name", "unit"}:
            problems.append(f'"{key}"[{k}]: expected {{"name", "unit"}}, found {quoted(channel)}')
            continue
        name, unit = channel["name"], channel.get("unit", "")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            problems.append(f'"{key}"[{k}]: expected a printable name, found {quoted(name)}')
        elif name in names:
            problems.append(f'"{key}"[{k}]: {quoted(name)} is already a name; give it another')
        else:
            names.add(name)
        if not isinstance(unit, str) or not unit.isprintable():
            problems.append(f'"{key}"[{k}]: expected a printable unit, found {quoted(unit)}')
    return problems


def _std_problems(name: str, std: np.ndarray, channels: Sequence[Channel]) -> list[str]:
    return [
        f"{name}: {value:g} for {quoted(channel.name)}; it must be above 0 (use 1 if it never varies)"
        for value, channel in zip(std, channels, strict=True)
        if value < SMALLEST_STD
    ]


def _identity(settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The means and deviations that leave every value as it is."""
    shapes = tensor_shapes({**settings, "normalisation": "standard"})
    return {name: np.full(shapes[name], name.endswith("std"), np.float32) for name in NORMALISATION}


def _frozen(values: np.ndarray) -> np.ndarray:
    """A read-only, C-contiguous float32 copy; what float32 cannot hold becomes infinite, to be refused."""
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32, order="C")
    array.setflags(write=False)
    return array


def quoted(value: object) -> str:
    """A value out of a file for a message: quoted, escaped and, if long or deep, cut short."""
    return _shorten.repr(value)
