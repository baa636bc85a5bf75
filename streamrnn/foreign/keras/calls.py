"""A Keras model as its settings say it: which layers it calls, on what, in which order.

Nothing is made by Keras here, so nothing that a file names is imported or run.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

MOST_LAYERS = 1000  # of a model and those in it
MODELS = ("Sequential", "Functional", "Model")
TENSOR, SLICE, REST = "__keras_tensor__", "__slice__", "__ellipsis__"
FALSE: tuple[Any, ...] = (None, False, [], {})


class LayerSettings(NamedTuple):
    """One layer, or the cell or layer within one."""

    name: str  # of the outermost layer: how messages and .h5 files call it
    path: str  # its place in a .keras file
    kind: str  # the name of its class
    config: dict[str, Any]
    cell: str = ""  # the name of a cell that is one of several
    group: str = ""  # the outermost model around it, under which a .h5 has it

    def __str__(self) -> str:
        return f"layer {quoted(self.name)} ({self.kind})"


class Reference(NamedTuple):
    """One of the outputs of one of the calls of a layer."""

    layer: str
    call: int
    output: int


class Given(NamedTuple):
    """What a layer is called with: ``values`` are all that come of layers, in order."""

    values: list[Any]
    constants: list[Any]  # arguments that are none, as JSON has them
    named: dict[str, Any]  # those by name, in which a list holds values


Apply = Callable[[LayerSettings, Given], Sequence[Any]]


class _Counted:
    """How many layers there may still be."""

    def __init__(self) -> None:
        self.left = MOST_LAYERS


def run(model: Any, apply: Apply, inputs: Sequence[Any] | None = None) -> list[Any]:
    """The outputs of a model, whose layers ``apply`` calls, which returns the outputs of one.

    Without ``inputs`` it is called for input layers, too. Raises ModelError for what is no such model.
    """
    return _run(model, apply, inputs, "", "", _Counted())


def input_layers(model: Any) -> list[LayerSettings]:
    """The input layers of the whole model, in the order of its inputs."""
    kind, layers, config = _layers(model)
    listed = [_settings(layer, "") for layer in layers]
    if kind == "Sequential":
        return [layer for layer in listed[:1] if layer.kind == "InputLayer"]
    named = {layer.name: layer for layer in listed}
    return [
        named[end.layer] for end in _ends(config.get("input_layers"), "input_layers") if end.layer in named
    ]


def _run(
    model: Any, apply: Apply, inputs: Sequence[Any] | None, path: str, group: str, counted: _Counted
) -> list[Any]:
    kind, layers, config = _layers(model)
    counted.left -= len(layers)
    if counted.left < 0:
        raise ModelError(f"more than {MOST_LAYERS} layers in a model and those in it")
    listed, counts = list[LayerSettings](), Counter[str]()
    for layer in layers:
        settings = _settings(layer, "")
        number = counts[settings.kind]
        counts[settings.kind] += 1
        place = path + _snake_case(settings.kind) + (f"_{number}" if number else "")
        listed.append(settings._replace(path=place, group=group or settings.name))
    if repeated := [name for name, count in Counter(layer.name for layer in listed).items() if count > 1]:
        raise ModelError(f"several layers are called {quoted(repeated)}")

    def call(layer: LayerSettings, json: Any, given: Given) -> Sequence[Any]:
        if layer.kind in MODELS:
            return _run(json, apply, given.values, f"{layer.path}/layers/", layer.group, counted)
        return apply(layer, given)

    if kind == "Sequential":
        values = list(inputs or [])
        for layer, json in zip(listed, layers, strict=True):
            if layer.kind != "InputLayer" or inputs is None:
                values = list(call(layer, json, Given(values, [], {})))
        return values
    return _functional(
        config,
        dict(zip([layer.name for layer in listed], zip(listed, layers, strict=True), strict=True)),
        call,
        inputs,
    )


def _layers(model: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """The kind of a model, its layers as JSON, and its settings."""
    kind = model.get("class_name") if isinstance(model, dict) else None
    if kind not in MODELS:
        raise ModelError(
            f"expected a Sequential or Functional model, found {quoted(kind)}; "
            "a model of a class of its own says what it computes only in its code"
        )
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config  # a list alone: Keras before 2.2.3
    if not isinstance(layers, list) or not 0 < len(layers) <= MOST_LAYERS:
        name = f"model {quoted(config['name'])}: " if isinstance(config, dict) and "name" in config else ""
        raise ModelError(
            f'{name}"layers": expected a list of 1 to {MOST_LAYERS} layers, found {quoted(layers)}'
        )
    return kind, layers, config if isinstance(config, dict) else {}


def _functional(
    config: dict[str, Any],
    named: Mapping[str, tuple[LayerSettings, Any]],
    call: Callable[[LayerSettings, Any, Given], Sequence[Any]],
    inputs: Sequence[Any] | None,
) -> list[Any]:
    """The outputs of a model of links, each call made behind those whose outputs it takes."""
    done: dict[tuple[str, int], Sequence[Any]] = {}
    starts, ends = (_ends(config.get(key), key) for key in ("input_layers", "output_layers"))
    if inputs is not None:
        if len(inputs) != len(starts):
            raise ModelError(f"a model within takes {len(starts)} inputs, and is given {len(inputs)}")
        done |= {(start.layer, start.call): [value] for start, value in zip(starts, inputs, strict=True)}
    for end in ends:
        waiting, begun = [(end.layer, end.call)], set[tuple[str, int]]()
        while waiting:
            key = waiting[-1]
            if key in done:
                waiting.pop()
                continue
            if key[0] not in named:
                raise ModelError(f"{quoted(key[0])}: is called, and is no layer of the model")
            layer, json = named[key[0]]
            arguments, by_name = _arguments(layer, json, key[1])
            needed = _references([arguments, by_name])
            if missing := [(one.layer, one.call) for one in needed if (one.layer, one.call) not in done]:
                if key in begun:
                    raise ModelError(f"{layer}: needs its own output")
                begun.add(key)
                waiting += missing
                continue
            done[key] = call(layer, json, _given(layer, arguments, by_name, done))
            waiting.pop()
    used = {name for name, _ in done}
    if aside := [str(layer) for name, (layer, _) in named.items() if name not in used]:
        raise ModelError(*(f"{layer}: beside the way from input to output" for layer in aside))
    return [_output(end, done) for end in ends]


def _ends(ends: Any, key: str) -> list[Reference]:
    """``["name", 0, 0]``, a list of such, or (Keras 3) an object of such."""
    if isinstance(ends, list) and len(ends) == 3 and isinstance(ends[0], str):
        ends = [ends]
    found = [_reference(end) for end in (ends.values() if isinstance(ends, dict) else ends or [])]
    if not found or None in found:
        raise ModelError(f"{key}: expected names of layers, found {quoted(ends)}")
    return [end for end in found if end is not None]


def _reference(origin: Any) -> Reference | None:
    """``["name", call, output]``, None if it is none."""
    if isinstance(origin, list) and len(origin) >= 3 and isinstance(origin[0], str):
        numbers = origin[1:3]
        if all(type(number) is int and 0 <= number < MOST_LAYERS for number in numbers):
            return Reference(origin[0], *numbers)
    return None


def _arguments(layer: LayerSettings, json: Any, call: int) -> tuple[list[Any], dict[str, Any]]:
    """What a layer is called with for the nth time, References for what comes of others.

    Keras 3 writes ``{"args": [tensor], "kwargs": {...}}``, Keras 2 ``[["name", 0, 0, {...}], ...]``.
    """
    nodes = json.get("inbound_nodes")
    if layer.kind == "InputLayer" and nodes in (None, []):
        return [], {}
    if not isinstance(nodes, list) or not call < len(nodes):
        raise ModelError(f"{layer}: its call {call} is taken, of {quoted(nodes)}")
    node = nodes[call]
    if isinstance(node, dict) and isinstance(node.get("args"), list):
        arguments, named = _parsed(layer, node["args"]), _parsed(layer, node.get("kwargs") or {})
    elif isinstance(node, list) and node:
        origins = [node] if _reference(node) else node
        arguments = [_reference(origin) for origin in origins]
        named = origins[0][3] if isinstance(origins[0], list) and len(origins[0]) == 4 else {}
        named = (
            {key: _reference(value) or value for key, value in (named or {}).items()}
            if isinstance(named, dict)
            else None
        )
    else:
        arguments, named = [None], {}
    if not isinstance(arguments, list) or not isinstance(named, dict) or not _references(arguments):
        raise ModelError(f"{layer}: takes {quoted(node)}, expected outputs of layers")
    return arguments, named


def _parsed(layer: LayerSettings, argument: Any, depth: int = 0) -> Any:
    """An argument of Keras 3, a Reference for each tensor; slices are slices, and an ellipsis one."""
    if depth > 8:
        raise ModelError(f"{layer}: takes {quoted(argument)}, expected outputs of layers")
    if isinstance(argument, list):
        return [_parsed(layer, one, depth + 1) for one in argument]
    if not isinstance(argument, dict):
        return argument
    kind, config = argument.get("class_name"), argument.get("config")
    if kind == SLICE and isinstance(config, dict):
        return slice(*(config.get(key) for key in ("start", "stop", "step")))
    if kind == REST:
        return ...
    if kind == TENSOR and isinstance(config, dict) and argument.get("module") in (None, "keras"):
        return _reference(config.get("keras_history"))
    if kind is None:
        return {key: _parsed(layer, one, depth + 1) for key, one in argument.items()}
    raise ModelError(f"{layer}: takes {quoted(argument)}, expected outputs of layers")


def _references(argument: Any) -> list[Reference]:
    """All References in an argument, in order."""
    if isinstance(argument, Reference):
        return [argument]
    parts = argument.values() if isinstance(argument, dict) else argument
    if isinstance(argument, list | dict):
        return [found for part in parts for found in _references(part)]
    return []


def _given(
    layer: LayerSettings,
    arguments: list[Any],
    named: dict[str, Any],
    done: Mapping[tuple[str, int], Sequence[Any]],
) -> Given:
    """What a layer is called with, values in place of References."""
    values = [_output(one, done) for one in _references(arguments)]
    constants = [one for one in arguments if not _references(one)]
    filled = {
        key: [_output(one, done) for one in _references(argument)] if _references(argument) else argument
        for key, argument in named.items()
    }
    return Given(values, constants, {key: value for key, value in filled.items() if value not in FALSE})


def _output(reference: Reference, done: Mapping[tuple[str, int], Sequence[Any]]) -> Any:
    outputs = done.get((reference.layer, reference.call), ())
    if reference.output >= len(outputs):
        raise ModelError(f"{quoted(reference.layer)}: has no output {reference.output}")
    return outputs[reference.output]


def _settings(layer: Any, path: str, of: str = "") -> LayerSettings:
    """A layer out of its JSON. Raises ModelError if it is not one, or one of somebody's own."""
    kind, config = (layer.get("class_name"), layer.get("config")) if isinstance(layer, dict) else (None, None)
    name = config.get("name") if isinstance(config, dict) else None
    name = of or (layer.get("name", name) if isinstance(layer, dict) else None)
    if kind in MODELS and isinstance(config, list):  # Keras before 2.2.3
        config = {}
        name = name or "model"
    if not isinstance(kind, str) or not isinstance(config, dict) or not isinstance(name, str):
        raise ModelError(f"expected a layer with class_name, config and name, found {quoted(layer)}")
    settings = LayerSettings(name, path, kind, config)
    home = layer.get("module") or "keras"
    if layer.get("registered_name") not in (None, kind) or str(home).split(".")[0] != "keras":
        raise ModelError(f"{settings}: a layer of somebody's own; only those of Keras can be run")
    return settings


def inner_layer(layer: LayerSettings, key: str) -> LayerSettings:
    """The layer or cell in the setting ``key`` of a wrapper."""
    inner = _settings(layer.config.get(key), f"{layer.path}/{key}", layer.name)
    return inner._replace(group=layer.group)


def cells_within(layer: LayerSettings) -> list[LayerSettings]:
    """The cells of an RNN layer, one behind the other."""
    cell = inner_layer(layer, "cell")
    if cell.kind != "StackedRNNCells":
        return [cell]
    cells, counts, found = cell.config.get("cells"), Counter[str](), list[LayerSettings]()
    for one in cells if isinstance(cells, list) else []:
        inner = _settings(one, "", layer.name)
        number = counts[inner.kind]
        counts[inner.kind] += 1
        place = f"{cell.path}/cells/{_snake_case(inner.kind)}" + (f"_{number}" if number else "")
        found.append(inner._replace(path=place, cell=str(inner.config.get("name")), group=layer.group))
    return found


def _snake_case(name: str) -> str:
    """keras.src.utils.naming.to_snake_case."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
