"""What a network is: its architecture, channels, weights and scaling, checked once and then frozen."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from streamrnn.model.around import BETWEEN, DENSE, SKIPS, dense_lists
from streamrnn.model.cells import CELL_KEYS, Cell, cell_of, cells_of_layers
from streamrnn.model.halves import round_layer
from streamrnn.model.parts import (
    LAYER_PARTS,
    Channel,
    Dense,
    Layer,
    frozen,
    layer_tensors,
)
from streamrnn.model.settings import (
    DECODER,
    INITIAL,
    NORMALISATION,
    RELATIONS,
    SETTINGS,
    SPREAD,
    SPREAD_SHAPE,
    SPREAD_START,
    SPREAD_TENSORS,
    ModelError,
    ahead_by_default,
    check_settings,
    check_shapes,
    head_prefix,
    tensor_shapes,
    with_defaults,
    without_defaults,
)
from streamrnn.model.values import identity, value_problems

ARCHITECTURE = (
    *(*CELL_KEYS, "cells", "layers", "hidden", "window", "highway", "relation", "horizon", SPREAD),
    *(*DENSE, BETWEEN, SKIPS),
)
# the tensors of a model file that are fields of Model; those of the head are the decoder's where there is one
HEAD = ("head.weight", "head.bias")
OPTIONAL_TENSORS = ("highway.weight", *SPREAD_TENSORS)  # without values where there are none
FIELDS = {name: name.replace(".", "_") for name in (*HEAD, *OPTIONAL_TENSORS, *NORMALISATION)}


def _none() -> np.ndarray:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Model:
    """A network of C channels, H hidden units and O outputs: immutable, shared by all streams.

    Arrays are copied to read-only, C-contiguous float32. The channels' offsets are taken off rows as they
    come in, and those of the outputs are added to what goes out; all between, the means too, is without them.

    A row becomes ``x = (row - input_mean) / input_std`` and passes the dense layers ``before``, the recurrent
    ``layers``, with the dense layers ``between`` two of them, and the dense layers ``after``, which leave a.
    To what goes into layer k of ``layers``, or behind the last of them, each of ``skips``, (j, k), adds what
    layer j gives, 0 being what goes into the first. With
    ``y = head_weight @ a + head_bias + highway_weight @ [x_t, x_t-1, ...]`` the prediction, in physical
    units, is ``y * output_std + output_mean``. Frames older than a sequence are taken equal to its first one.
    With a ``horizon`` of n the head gives n rows at once, y being the first, the second, and so on.
    With a ``window`` of n each is of the last n rows alone, or as many as there are, from a state of zeros.

    With ``spread`` the error of the next row, forecast - truth in units of ``output_std``, has Student's t
    distribution of ``spread_shape`` degrees of freedom and the scale ``r * exp(g)``, where
    ``g = spread_weight @ a + spread_bias``, within -4 and 4, and r is the stream's running spread.

    What writes several rows is fed its own: in "vector-to-sequence" the layers take [x, y of the row before],
    and begin each prediction from nothing, with y = 0. In "encoder-decoder" (Sutskever et al. 2014) the
    ``decoder`` takes y of the row before, and the head is its own; it begins from the states of ``layers``
    and, for the target "next", from the row that came in, as outputs are standardised, else from y = 0.

    Raises ModelError naming every setting and tensor that is wrong.
    """

    cell: str  # a name in the table of cells, as "lstm", or "mixed": ``cells`` says that of each layer
    activation: str  # of a candidate state, and an lstm's cell state; as the table of activations has it
    hidden: int
    layers: tuple[Layer, ...]
    head_weight: np.ndarray  # (G, units of the last of `after`, or H), G = O, or horizon * O: see `head_rows`
    head_bias: np.ndarray  # (G,)
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
    reset: str = "after"  # gru: its reset gate acts "after" the product with the state, or "before" it
    recurrent_activation: str = "sigmoid"  # of gates
    output_activation: str | None = None  # of an lstm's cell state, if not ``activation``
    cells: tuple[Cell, ...] = ()  # of the layers, where they differ
    weights: str = "float32"  # of recurrent layers, as a step holds them: or "bfloat16", as `as_run` has them
    before: tuple[Dense, ...] = ()
    between: tuple[tuple[Dense, ...], ...] = ()  # behind each layer but the last; () where there are none
    after: tuple[Dense, ...] = ()
    skips: tuple[tuple[int, int], ...] = ()  # as above
    initial: tuple[np.ndarray, ...] = ()  # of each layer, (states, H): what streams begin with; () = zeros
    decoder: tuple[Layer, ...] = ()  # as many as `layers`, in an encoder-decoder
    window: int = 0  # rows that an answer comes of, the newest last; 0 = all since the sequence began
    highway: int = 0  # frames that the head sees directly, the current one first
    highway_weight: np.ndarray = field(default_factory=_none)  # (G, highway * C), the newest first
    spread: bool = False  # whether the head says how far off a forecast may be; else the next four are empty
    spread_weight: np.ndarray = field(default_factory=_none)  # as head_weight
    spread_bias: np.ndarray = field(default_factory=_none)  # (O,)
    spread_shape: np.ndarray = field(default_factory=_none)  # (O,): degrees of freedom, above 2
    spread_start: np.ndarray = field(default_factory=_none)  # (O,): of a new stream's running spread, above 0
    # rows from the input row to the outputs, the first of them; -1, the default, becomes the target's, 1 or 0
    ahead: int = -1
    missing: tuple[str, ...] = ()  # numbers and words that stand for a missing value
    words: Mapping[str, float] = field(default_factory=dict)  # texts that stand for numbers
    errors: dict[str, Any] | None = None  # of prediction - truth on validation rows: "rows", "mean", "std"
    score: dict[str, Any] | None = None  # where new streams' levels begin, and the "threshold" of an event
    bands: dict[str, Any] | None = None  # how far those of new streams go: "levels", "quantiles", "spread"
    training: dict[str, Any] | None = None  # what whoever made the model said of it; any JSON

    def __post_init__(self) -> None:
        if self.ahead == -1:
            object.__setattr__(self, "ahead", ahead_by_default(self.target))
        check_settings(self._all_settings())
        object.__setattr__(self, "sample_period_s", float(self.sample_period_s))
        if self.errors is not None:
            numbers = {key: [float(number) for number in self.errors[key]] for key in ("mean", "std")}
            object.__setattr__(self, "errors", {"rows": self.errors["rows"]} | numbers)
        for key in ("score", "bands", "training"):  # copied, and in the form that a file gives back
            object.__setattr__(self, key, json.loads(json.dumps(getattr(self, key))))
        object.__setattr__(self, INITIAL, tuple(map(frozen, self.initial)))
        for name in FIELDS.values():
            object.__setattr__(self, name, frozen(getattr(self, name)))
        if not self.highway_weight.size:
            object.__setattr__(self, "highway_weight", frozen(np.zeros((len(self.head_bias), 0))))
        check_shapes(self.settings(), {name: array.shape for name, array in self.tensors().items()})
        self._check_values()

    @classmethod
    def from_tensors(cls, settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> "Model":
        """The model of a file's settings and tensors; settings in DEFAULTS may be left out.

        Raises ModelError for settings or tensors that are wrong, missing or of no use.
        """
        settings = with_defaults(settings)
        check_settings(settings)
        check_shapes(settings, {name: np.shape(tensor) for name, tensor in tensors.items()})
        given = {**tensors, **(identity(settings) if settings["normalisation"] == "none" else {})}
        prefix = head_prefix(settings["relation"])
        given |= {name: given.pop(prefix + name) for name in HEAD}
        parts: dict[str, Any] = {part: given[name] for name, part in FIELDS.items() if name in given}
        parts["channels"] = tuple(Channel(**channel) for channel in settings["channels"])
        parts["outputs"] = tuple(Channel(**output) for output in settings["outputs"])
        for key, before in (("layers", ""), ("decoder", DECODER)):
            parts[key] = tuple(
                Layer(*(tensors[f"{before}{part}_l{k}"] for part in LAYER_PARTS))
                for k in range(settings["layers"])
                if f"{before}weight_ih_l{k}" in tensors
            )
        dense = {
            key: tuple(
                Dense(tensors[f"{key}.{k}.weight"], tensors[f"{key}.{k}.bias"], dense["activation"])
                for k, dense in enumerate(layers)
            )
            for key, layers in dense_lists(settings).items()
        }
        parts |= {key: dense.pop(key) for key in DENSE} | {BETWEEN: tuple(dense.values())}
        parts["cells"] = tuple(map(cell_of, settings["cells"]))
        parts[SKIPS] = tuple(map(tuple, settings[SKIPS]))
        begun = range(settings["layers"] * settings[INITIAL])
        parts[INITIAL] = tuple(tensors[f"initial_l{k}"] for k in begun)
        return cls(**(settings | parts))

    def settings(self) -> dict[str, Any]:
        """Everything but the tensors, as the JSON object of a model file."""
        return without_defaults(self._all_settings())

    def _all_settings(self) -> dict[str, Any]:
        settings = {key: getattr(self, key) for key in SETTINGS}
        settings["layers"] = len(self.layers)
        settings["missing"], settings["words"] = list(self.missing), dict(self.words)
        settings["channels"] = [channel.stated() for channel in self.channels]
        settings["outputs"] = [output.stated() for output in self.outputs]
        settings["cells"] = [cell.stated() for cell in self.cells]
        settings |= {key: [dense.stated() for dense in getattr(self, key)] for key in DENSE}
        settings[BETWEEN] = [[dense.stated() for dense in layers] for layers in self.between]
        settings[SKIPS] = [list(skip) for skip in self.skips]
        settings[INITIAL] = bool(self.initial)
        return settings

    def tensors(self) -> dict[str, np.ndarray]:
        """Every tensor of a model file by its name; no means and deviations if normalisation is "none"."""
        tensors = layer_tensors(self.layers) | layer_tensors(self.decoder, DECODER)
        tensors |= {f"initial_l{k}": states for k, states in enumerate(self.initial)}
        between = {f"{BETWEEN}.{k}": layers for k, layers in enumerate(self.between)}
        for key, layers in {"before": self.before, **between, "after": self.after}.items():
            for k, dense in enumerate(layers):
                tensors |= {f"{key}.{k}.weight": dense.weight, f"{key}.{k}.bias": dense.bias}
        absent = [] if self.normalisation == "standard" else [*NORMALISATION]
        absent += [name for name in OPTIONAL_TENSORS if not getattr(self, FIELDS[name]).size]
        prefix = head_prefix(self.relation)
        return tensors | {
            (prefix + name if name in HEAD else name): getattr(self, part)
            for name, part in FIELDS.items()
            if name not in absent
        }

    def as_run(self) -> "Model":
        """The model with its weights as a step holds them, and nothing to round any more."""
        if self.weights == "float32":
            return self
        layers, decoder = (
            tuple(map(round_layer, self.cells_of_layers, part)) for part in (self.layers, self.decoder)
        )
        return replace(self, weights="float32", layers=layers, decoder=decoder)

    @property
    def cells_of_layers(self) -> list[Cell]:
        """That of each recurrent layer."""
        return list(self.cells) or cells_of_layers(self._all_settings())

    @property
    def head_rows(self) -> int:
        """How many rows of outputs the head gives at once."""
        return self.horizon if self.relation == "sequence-to-sequence" else 1

    @property
    def answers_sequences(self) -> bool:
        """Whether predictions are of sequences, at their END or every n rows, and not of each row."""
        return self.relation in ("sequence-to-vector", "encoder-decoder")

    @property
    def offsets(self) -> np.ndarray:
        """Of the channels, (C,) float64."""
        return np.array([channel.offset for channel in self.channels])

    @property
    def output_offsets(self) -> np.ndarray:
        """Of the outputs, (O,) float64."""
        return np.array([output.offset for output in self.outputs])

    @property
    def missing_numbers(self) -> list[float]:
        """Those of ``missing`` that are finite numbers."""
        numbers = []
        for code in self.missing:
            try:
                numbers.append(float(code))
            except ValueError:
                continue
        return [number for number in numbers if math.isfinite(number)]

    def shape(self) -> dict[str, Any]:
        """What the state of a stream, and the memory of a step, must fit: settings and channel counts."""
        settings = self._all_settings()
        sizes = {key: len(settings[key]) for key in ("channels", "outputs")}
        return sizes | {key: settings[key] for key in ARCHITECTURE}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all tensors and all settings but "training": of what the model does."""
        settings = {key: value for key, value in self.settings().items() if key != "training"}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, array in sorted(self.tensors().items()):
            digest.update(json.dumps([name, array.shape]).encode())
            digest.update(array.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def _check_values(self) -> None:
        """Raise ModelError naming every tensor that holds a number no step could use."""
        problems = value_problems(self.settings(), self.tensors())
        if self.normalisation == "none":
            for name, array in identity(self.settings()).items():
                if not np.array_equal(getattr(self, FIELDS[name]), array):
                    expected = f'expected {array.size} times {array[0]:g}, as "normalisation" is "none"'
                    problems.append(f"{name}: {expected}")
        if problems:
            raise ModelError(*problems)


def random_model(
    cell: str = "lstm",
    channels: int | Sequence[str] = 8,
    hidden: int = 32,
    *,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
    seed: int = 0,
    **settings: Any,
) -> Model:
    """An untrained model that forecasts its own channels, with PyTorch's first weights, U(±1/sqrt(hidden)).

    ``channels`` is their names, or how many (named c0, c1, ...). ``mean`` and ``std``, (channels,), scale
    both sides, cut or repeated for other outputs; with neither, normalisation is "none". ``settings`` are
    others of a model file, by default one layer, a sample period of 0 and, where the relation forecasts no
    channels, the target "value". The same arguments give the same model.
    """
    names = [f"c{k}" for k in range(channels)] if isinstance(channels, int) else channels
    scaled = mean is not None or std is not None
    relation = settings.get("relation", "sequence-to-sequence")
    stated: dict[str, Any] = with_defaults(
        {
            "cell": cell,
            "layers": 1,
            "hidden": hidden,
            "channels": [{"name": name} for name in names],
            "outputs": [{"name": name} for name in names],
            "sample_period_s": 0.0,
            "relation": relation,
            "target": RELATIONS.get(relation, {}).get("target", "next"),
            "normalisation": "standard" if scaled else "none",
            **settings,
        }
    )
    check_settings(stated)
    bound, rng = 1 / math.sqrt(hidden), np.random.default_rng(seed)
    tensors = {name: rng.uniform(-bound, bound, shape) for name, shape in tensor_shapes(stated).items()}
    for name in {SPREAD_SHAPE, SPREAD_START} & tensors.keys():
        tensors[name] += 4
    if scaled:
        tensors["input.mean"] = np.zeros(len(names)) if mean is None else mean
        tensors["input.std"] = np.ones(len(names)) if std is None else std
        for part in ("mean", "std"):
            tensors[f"output.{part}"] = np.resize(tensors[f"input.{part}"], len(stated["outputs"]))
    return Model.from_tensors(stated, tensors)
