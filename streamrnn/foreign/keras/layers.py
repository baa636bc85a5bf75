"""The layers of a Keras model, from its settings: in the order in which a row passes them, each checked.

Nothing is made by Keras here, so nothing that a file names is imported or run.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from streamrnn.foreign.chain import Activation, Part, ScaleShift
from streamrnn.foreign.hdf5 import REMEDY
from streamrnn.foreign.keras.archive import Archive
from streamrnn.foreign.keras.layout import keras_stage
from streamrnn.foreign.network import Stage
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ACTIVATIONS, ModelError
from streamrnn.model.stated import quoted

CELLS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
PASSED_OVER = {
    "InputLayer",
    "Dropout",
    "SpatialDropout1D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
}
READ = [*CELLS, "RNN", "Dense", "TimeDistributed", "Normalization", "Activation", *sorted(PASSED_OVER)]
# what a layer is set to that its answers do not hang on, or that its weights carry already
HARMLESS = re.compile(
    r"name|trainable|dtype|units|batch_shape|batch_input_shape|input_shape|input_dim|input_length|rate|stddev"
    r"|noise_shape|seed|dropout|recurrent_dropout|stateful|unroll|implementation|return_sequences|l1|l2"
    r"|unit_forget_bias|zero_output_for_mask|\w+_(initializer|regularizer|constraint)"
)
DTYPES = ("float32", "float64", "mixed_float16", "mixed_bfloat16")
MOST_LAYERS = 1000
EPSILON = 1e-7  # keras.backend.epsilon(), the least deviation that Normalization divides by


class LayerSettings(NamedTuple):
    """One layer, or the cell or layer within one."""

    name: str  # of the outermost layer: how messages and .h5 files call it
    path: str  # its place in a .keras file
    kind: str  # the name of its class
    config: dict[str, Any]
    cell: str = ""  # the name of a cell that is one of several

    def __str__(self) -> str:
        return f"layer {quoted(self.name)} ({self.kind})"


def read_layers(archive: Archive) -> tuple[list[Part], list[str], str]:
    """What a row passes, in order, notes for the user, and the layer that answers a sequence once, or "".

    Raises ModelError naming every layer refused.
    """
    parts: list[Part] = []
    problems, notes = list[str](), list[str]()
    once = ""
    for settings in ordered(archive.config):
        try:
            for inner in unwrapped(settings):
                parts += _parts(inner, archive)
        except ModelError as error:
            problems += error.problems
        if settings.kind in (*CELLS, "RNN"):
            if once:
                problems.append(f"layer {quoted(once)}: return_sequences false, but {settings} follows")
            once = "" if settings.config.get("return_sequences") else settings.name
        if (dtype := dtype_of(settings.config)) != DTYPES[0]:
            notes.append(f"{settings} computes in {quoted(dtype)}, here in float32")
    if not problems:
        problems += [f"{path}: no layer of the model uses it; {REMEDY}" for path in archive.unused()]
    if problems:
        raise ModelError(*problems)
    return parts, notes, once


def ordered(model: Any) -> list[LayerSettings]:
    """The layers in the order of a row's way through a Sequential or a Functional model."""
    kind = model.get("class_name") if isinstance(model, dict) else None
    if kind not in ("Sequential", "Functional", "Model"):
        raise ModelError(
            f"expected a Sequential or Functional model, found {quoted(kind)}; "
            "a model of a class of its own says what it computes only in its code"
        )
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config  # a list alone: Keras before 2.2.3
    if not isinstance(layers, list) or not 0 < len(layers) <= MOST_LAYERS:
        raise ModelError(f'"layers": expected a list of 1 to {MOST_LAYERS} layers, found {quoted(layers)}')
    counts: Counter[str] = Counter()
    ordered = []
    for layer in layers:
        settings = _settings(layer, "")
        number = counts[settings.kind]
        counts[settings.kind] += 1
        path = _snake_case(settings.kind) + (f"_{number}" if number else "")
        ordered.append(settings._replace(path=path))
    if repeated := [name for name, count in Counter(layer.name for layer in ordered).items() if count > 1]:
        raise ModelError(f"several layers are called {quoted(repeated)}")
    if kind == "Sequential":
        return ordered
    return _along_the_links(config, layers, {settings.name: settings for settings in ordered})


def _along_the_links(
    config: dict[str, Any], layers: list[Any], named: dict[str, LayerSettings]
) -> list[LayerSettings]:
    """The layers of a Functional model from its one input to its one output."""
    start, end = (_only(config.get(key), key) for key in ("input_layers", "output_layers"))
    links = {
        name: _link(settings, layer.get("inbound_nodes"), name == start)
        for (name, settings), layer in zip(named.items(), layers, strict=True)
    }
    way, at = [], end
    while at in named and at not in way:
        way.append(at)
        at = links[at] if at != start else ""
    if way[-1:] != [start]:
        raise ModelError(f"no single way leads from {quoted(start)} to {quoted(end)}: {quoted(at)}")
    if aside := [str(settings) for name, settings in named.items() if name not in way]:
        raise ModelError(*(f"{layer}: beside the way from input to output" for layer in aside))
    return [named[name] for name in reversed(way)]


def _only(ends: Any, key: str) -> str:
    """The layer's name in ``["name", 0, 0]`` or ``[["name", 0, 0]]``."""
    if isinstance(ends, list) and len(ends) == 1 and isinstance(ends[0], list):
        ends = ends[0]
    if not isinstance(ends, list) or len(ends) != 3 or not isinstance(ends[0], str) or ends[1:] != [0, 0]:
        raise ModelError(f"{key}: expected one, found {quoted(ends)}; a model of several cannot be run")
    return ends[0]


def _link(layer: LayerSettings, nodes: Any, is_input: bool) -> str:
    """The name of the layer whose output is the one input of ``layer``.

    Keras 3 writes ``[{"args": [tensor], "kwargs": {...}}]``, Keras 2 ``[[["name", 0, 0, {...}]]]``.
    """
    if is_input and nodes == []:
        return ""
    if not isinstance(nodes, list) or len(nodes) != 1:
        raise ModelError(f"{layer}: used {len(nodes) if isinstance(nodes, list) else 0} times, expected once")
    node = nodes[0]
    if isinstance(node, dict):
        args, kwargs = node.get("args"), node.get("kwargs")
        tensor = args[0] if isinstance(args, list) and len(args) == 1 else None
        history = _output_of(tensor)
        origin = history.get("keras_history") if isinstance(history, dict) else None
    else:
        origin = node[0] if isinstance(node, list) and len(node) == 1 else None
        kwargs = origin[3] if isinstance(origin, list) and len(origin) == 4 else {}
        origin = origin[:3] if isinstance(origin, list) else None
    if not isinstance(kwargs, dict) or any(kwargs.values()):
        raise ModelError(f"{layer}: called with {quoted(kwargs)}, expected its input alone")
    if not isinstance(origin, list) or origin[1:] != [0, 0] or not isinstance(origin[0], str):
        raise ModelError(f"{layer}: takes {quoted(node)}, expected the one output of one layer")
    return origin[0]


def _output_of(tensor: Any) -> Any:
    """Where an argument comes from; None unless it is the output of a layer, nothing else."""
    if not isinstance(tensor, dict) or tensor.get("class_name") != "__keras_tensor__":
        return None
    return tensor.get("config") if tensor.get("module") in (None, "keras") else None


def _settings(layer: Any, path: str, of: str = "", cell: str = "") -> LayerSettings:
    """A layer out of its JSON. Raises ModelError if it is not one, or one of somebody's own."""
    kind, config = (layer.get("class_name"), layer.get("config")) if isinstance(layer, dict) else (None, None)
    name = config.get("name") if isinstance(config, dict) else None
    name = of or (layer.get("name", name) if isinstance(layer, dict) else None)
    if not isinstance(kind, str) or not isinstance(config, dict) or not isinstance(name, str):
        raise ModelError(f"expected a layer with class_name, config and name, found {quoted(layer)}")
    settings = LayerSettings(name, path, kind, config, cell)
    home = layer.get("module") or "keras"
    if layer.get("registered_name") not in (None, kind) or str(home).split(".")[0] != "keras":
        raise ModelError(f"{settings}: a layer of somebody's own; only those of Keras can be run")
    return settings


def unwrapped(layer: LayerSettings) -> Iterator[LayerSettings]:
    """The layer, or what is in TimeDistributed and RNN."""
    if layer.kind == "TimeDistributed":
        _refuse_unknown(layer, {"layer"})
        inner = _settings(layer.config.get("layer"), f"{layer.path}/layer", layer.name)
        if inner.kind in (*CELLS, "RNN", "TimeDistributed"):
            raise ModelError(f"{layer}: around {inner.kind}, which cannot be run")
        yield inner
    elif layer.kind == "RNN":
        _refuse_unknown(layer, {"cell"})
        cell = _settings(layer.config.get("cell"), f"{layer.path}/cell", layer.name)
        cells = [cell]
        if cell.kind == "StackedRNNCells":
            _refuse_unknown(cell, {"cells"})
            cells = list(_stacked(cell))
        for inner in cells:
            if not inner.kind.endswith("Cell"):
                raise ModelError(f"{inner}: not a cell of {', '.join(CELLS)}")
            yield inner
    else:
        if layer.kind.endswith("Cell"):
            raise ModelError(f"{layer}: a cell outside of RNN")
        yield layer._replace(path=f"{layer.path}/cell") if layer.kind in CELLS else layer


def _stacked(layer: LayerSettings) -> Iterator[LayerSettings]:
    cells, counts = layer.config.get("cells"), Counter[str]()
    for cell in cells if isinstance(cells, list) else []:
        inner = _settings(cell, "", layer.name, "?")
        number = counts[inner.kind]
        counts[inner.kind] += 1
        place = f"{layer.path}/cells/{_snake_case(inner.kind)}" + (f"_{number}" if number else "")
        yield inner._replace(path=place, cell=str(inner.config.get("name")))


def _parts(layer: LayerSettings, archive: Archive) -> list[Part]:
    """What ``layer`` does to a row; nothing, for a layer that only trains."""
    kind = layer.kind.removesuffix("Cell")
    if kind in CELLS:
        return [_recurrent(layer, CELLS[kind], archive)]
    if kind == "Dense":
        _refuse_unknown(layer, {"activation", "use_bias"})
        activation = _activation(layer, ACTIVATIONS)
        kernel, *bias = take_weights(layer, archive, ["kernel", "bias"])
        if kernel.ndim != 2 or kernel.shape[1] != layer.config.get("units"):
            raise _unlike_units(layer, kernel)
        return [
            Stage(layer.name, Dense(kernel.T, bias[0] if bias else np.zeros(kernel.shape[1]), activation))
        ]
    if kind == "Activation":
        _refuse_unknown(layer, {"activation"})
        activation = _activation(layer, ACTIVATIONS)
        return [] if activation == "linear" else [Activation(str(layer), activation)]
    if kind == "Normalization":
        return [_scaling(layer, archive)]
    if kind not in PASSED_OVER:
        raise ModelError(f"{layer}: cannot be run; of Keras's layers only {', '.join(READ)} can")
    _refuse_unknown(layer, set())
    return []


def _recurrent(layer: LayerSettings, cell: str, archive: Archive) -> Stage:
    """The stage of a recurrent layer or cell. Raises ModelError naming each setting that cannot be run."""
    own = {"activation", "use_bias"} | ({"recurrent_activation"} if cell != "rnn" else set())
    _refuse_unknown(layer, own | ({"reset_after"} if cell == "gru" else set()))
    activation = _activation(layer, ("tanh", "relu") if cell == "rnn" else ("tanh",))
    if cell != "rnn":
        _activation(layer, ("sigmoid",), "recurrent_activation")
    kernel, recurrent, *bias = take_weights(layer, archive, ["kernel", "recurrent_kernel", "bias"])
    after = bool(layer.config.get("reset_after", False))
    if recurrent.shape[:1] != (layer.config.get("units"),):
        raise _unlike_units(layer, recurrent)
    if cell == "gru" and bias and (bias[0].ndim == 2) != after:
        raise ModelError(f"{layer}: reset_after {after}, but a bias of shape {bias[0].shape}")
    stage = keras_stage(layer.name, cell, kernel, recurrent, bias[0] if bias else None, activation)
    return stage._replace(reset="before") if cell == "gru" and not after else stage


def take_weights(layer: LayerSettings, archive: Archive, names: list[str]) -> list[np.ndarray]:
    """The weights ``names`` of ``layer``, the last of which is its bias and may not be used."""
    if layer.config.get("use_bias", True) is not True:
        names = names[:-1]
    return archive.take(layer.name, layer.path, layer.cell, names)


def _unlike_units(layer: LayerSettings, weights: np.ndarray) -> ModelError:
    units = quoted(layer.config.get("units"))
    return ModelError(f"{layer}: units {units} do not fit weights of shape {weights.shape}")


def _scaling(layer: LayerSettings, archive: Archive) -> ScaleShift:
    """A Normalization layer, with the mean and variance that it was given or adapted to.

    It gives (x - mean) / max(sqrt(variance), EPSILON), or inverted, x * max(...) + mean.
    """
    _refuse_unknown(layer, {"axis", "mean", "variance", "invert"})
    if layer.config.get("axis", -1) not in (-1, 2, None, [-1], [2], []):
        raise ModelError(f"{layer}: axis {quoted(layer.config['axis'])}, expected -1, the channels")
    mean, variance = (values.ravel() for values in normalization(layer, archive))
    std = np.maximum(np.sqrt(variance), EPSILON)
    if layer.config.get("invert"):
        return ScaleShift(str(layer), std, mean)
    return ScaleShift(str(layer), 1 / std, -mean / std)


def normalization(layer: LayerSettings, archive: Archive) -> tuple[np.ndarray, np.ndarray]:
    """The mean and variance of a Normalization layer, float64, in the shapes that the file has."""
    given: list[Any] = [layer.config.get(key) for key in ("mean", "variance")]
    if any(values is None for values in given):
        given = [*archive.take(layer.name, layer.path, "", ["mean", "variance", "count"])[:2]]
    try:
        mean, variance = (np.asarray(values, np.float64) for values in given)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{layer}: mean and variance {quoted(given)}, expected numbers") from error
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
        raise ModelError(f"{layer}: mean and variance {quoted(given)}, expected finite ones")
    return mean, variance


def _activation(layer: LayerSettings, known: tuple[str, ...], key: str = "activation") -> str:
    found = layer.config.get(key, "linear")
    if not isinstance(found, str) or found not in known:
        raise ModelError(f"{layer}: {key} {quoted(found)} cannot be run, only {' or '.join(known)}")
    return found


def _refuse_unknown(layer: LayerSettings, read: set[str]) -> None:
    """Raise ModelError naming each setting that is neither in ``read`` nor harmless, and not off."""
    problems = [
        f"{layer}: {quoted(key)[1:-1]} {quoted(value)} cannot be run"
        for key, value in layer.config.items()
        if value not in (None, False) and key not in read and not HARMLESS.fullmatch(key)
    ]
    dtype = dtype_of(layer.config)
    if dtype not in DTYPES:
        problems.append(f"{layer}: dtype {quoted(dtype)} cannot be run, only {' or '.join(DTYPES)}")
    if problems:
        raise ModelError(*problems)


def dtype_of(config: dict[str, Any]) -> Any:
    """The name of a layer's policy, which is a text or a policy's own settings."""
    dtype = config.get("dtype") or DTYPES[0]
    policy = dtype.get("config") if isinstance(dtype, dict) else None
    return policy.get("name") if isinstance(policy, dict) else dtype


def _snake_case(name: str) -> str:
    """keras.src.utils.naming.to_snake_case."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
