"""What a model file says of its network, checked: the settings, and the tensors that they call for.

Settings have one form, the JSON object of a model file. A file's reader calls the checks before it reads a
weight, and a Model when it is made. Until then nothing is believed: a size may be any number, or none.
"""

import json
from collections.abc import Mapping
from typing import Any

from streamrnn.errors import ConfigError
from streamrnn.model.around import (
    BETWEEN,
    DENSE,
    SKIPS,
    between_problems,
    dense_problems,
    dense_shapes,
    skip_problems,
)
from streamrnn.model.cells import CELL_KEYS, MIXED, NAMES, cell_problems, cells_of_layers, list_problems
from streamrnn.model.stated import (
    band_problems,
    channel_problems,
    error_problems,
    quoted,
    said_problems,
    score_problems,
    training_problems,
)

INITIAL = "initial"  # whether streams begin from states of their own, not from zeros

_BARE: dict[str, Any] = {"highway": 0, "before": [], "after": [], BETWEEN: [], SKIPS: [], INITIAL: False}
# how inputs become outputs, and what the other settings must be for it
RELATIONS: dict[str, dict[str, Any]] = {
    "sequence-to-sequence": {},
    "sequence-to-vector": {"horizon": 1, "target": "value", "ahead": 0, "window": 0},
    "vector-to-sequence": {"target": "value", "ahead": 0, "window": 0, **_BARE},
    "encoder-decoder": {"window": 0, **_BARE},
}
DECODER = "decoder."  # before the names of its tensors, and those of the head

CHOICES = {
    "cell": (*NAMES, MIXED),
    "relation": tuple(RELATIONS),
    "target": ("next", "value"),
    "normalisation": ("standard", "none"),
    "weights": ("float32", "bfloat16"),
}
# the sizes accepted; the horizon's largest is that of its field on the wire
SIZES = {
    "layers": (1, 256),
    "hidden": (1, 65535),
    "horizon": (1, 65535),
    "highway": (0, 1024),
    "ahead": (0, 65535),
    "window": (0, 1024),
}
SAID = ("missing", "words")  # what cells and values beside numbers mean
SPREAD = "spread"  # whether the head says the spread of its forecasts' errors, too
SETTINGS = (
    *(
        *dict.fromkeys(("cell", "activation", *CHOICES, *CELL_KEYS)),
        "cells",
        *SIZES,
        "channels",
        "outputs",
        "sample_period_s",
        *DENSE,
        BETWEEN,
        SKIPS,
        *SAID,
        SPREAD,
        INITIAL,
        "errors",
        "score",
        "bands",
        "training",
    ),
)
# what a file leaves out where it is this
OPTIONAL: dict[str, Any] = {
    **{key: usual for key, usual in CELL_KEYS.items() if key not in ("cell", "activation")},
    "cells": [],
    "weights": "float32",
    "before": [],
    BETWEEN: [],
    "after": [],
    SKIPS: [],
    "highway": 0,
    "window": 0,
    SPREAD: False,
    INITIAL: False,
    "missing": [],
    "words": {},
    "errors": None,
    "score": None,
    "bands": None,
    "training": None,
}
DEFAULTS: dict[str, Any] = {"activation": "tanh", "horizon": 1, "normalisation": "standard"} | OPTIONAL
PERIOD_LIMIT_S = 1e9  # as nanoseconds it fits the int64 of the wire

NORMALISATION = ("input.mean", "input.std", "output.mean", "output.std")
SPREAD_SHAPE, SPREAD_START = "spread.shape", "spread.start"
SPREAD_TENSORS = ("spread.weight", "spread.bias", SPREAD_SHAPE, SPREAD_START)

PROBLEMS_SHOWN = 12


class ModelError(ConfigError):
    """A model that cannot be used: ``problems`` says each thing that is wrong, ``where`` in what."""

    def __init__(self, *problems: str, where: str = "model"):
        self.problems = problems
        lines = list(problems[:PROBLEMS_SHOWN])
        if len(problems) > len(lines):
            lines.append(f"and {len(problems) - len(lines)} more")
        super().__init__(("\n  " if len(lines) > 1 else " ").join([f"{where}:", *lines]))


def ahead_by_default(target: object) -> int:
    """How many rows after the input row the outputs lie, where nothing is said."""
    return 1 if target == "next" else 0


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings``, with every key that may be left out."""
    return DEFAULTS | {"ahead": ahead_by_default(settings.get("target"))} | dict(settings)


def without_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` as a file has them: an optional key that says what its absence would is left out."""
    optional = OPTIONAL | {"ahead": ahead_by_default(settings["target"])}
    return {key: value for key, value in settings.items() if key not in optional or value != optional[key]}


def tensor_shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that a model file of these checked settings has."""
    inputs, outputs = len(settings["channels"]), len(settings["outputs"])
    shapes = network_shapes(settings, inputs, outputs)
    if settings.get("normalisation", "standard") == "standard":
        shapes |= {name: (inputs if name.startswith("input") else outputs,) for name in NORMALISATION}
    if settings.get(SPREAD):
        shapes[SPREAD_START] = (outputs,)
    return shapes


def network_shapes(settings: Mapping[str, Any], inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Those of the weights and biases of a network of so many channels and outputs."""
    settings = with_defaults(settings)
    dense, widths = dense_shapes(settings, inputs)
    fed_back = outputs if settings["relation"] == "vector-to-sequence" else 0
    shapes = _layer_shapes(settings, widths["before"] + fed_back, widths)
    prefix = ""
    if settings["relation"] == "encoder-decoder":
        prefix = DECODER
        shapes |= {prefix + name: shape for name, shape in _layer_shapes(settings, outputs, {}).items()}
    given = outputs  # by the head at once
    if settings["relation"] == "sequence-to-sequence":
        given *= settings["horizon"]
    shapes |= {f"{prefix}head.weight": (given, widths["after"]), f"{prefix}head.bias": (given,)} | dense
    if settings[INITIAL]:
        states = enumerate(len(cell.states) for cell in cells_of_layers(settings))
        shapes |= {f"initial_l{k}": (count, settings["hidden"]) for k, count in states}
    if settings["highway"]:
        shapes["highway.weight"] = (given, settings["highway"] * inputs)
    if settings[SPREAD]:
        shapes |= {"spread.weight": (outputs, widths["after"]), "spread.bias": (outputs,)}
        shapes[SPREAD_SHAPE] = (outputs,)
    return shapes


def _layer_shapes(
    settings: Mapping[str, Any], inputs: int, widths: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Those of the recurrent layers of a network into which ``inputs`` numbers go."""
    hidden = settings["hidden"]
    shapes: dict[str, tuple[int, ...]] = {}
    for k, cell in enumerate(cells_of_layers(settings)):
        rows = len(cell.gates) * hidden
        shapes[f"weight_ih_l{k}"] = (rows, widths.get(f"{BETWEEN}.{k - 1}", hidden) if k else inputs)
        shapes[f"weight_hh_l{k}"] = (rows, hidden)
        shapes[f"bias_ih_l{k}"] = shapes[f"bias_hh_l{k}"] = (rows,)
    return shapes


def head_prefix(relation: str) -> str:
    """What stands before the names of the head's tensors in a model file."""
    return DECODER if relation == "encoder-decoder" else ""


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
    for key, (low, high) in SIZES.items():
        if type(settings[key]) is not int or not low <= settings[key] <= high:
            found = quoted(settings[key])
            problems.append(f'"{key}": expected a whole number, {low} to {high}, found {found}')
    period = settings["sample_period_s"]
    if isinstance(period, bool) or not isinstance(period, int | float) or not 0 <= period <= PERIOD_LIMIT_S:
        problems.append(f'"sample_period_s": expected seconds, or 0 for unknown, found {quoted(period)}')
    problems += channel_problems("channels", settings["channels"])
    problems += channel_problems("outputs", settings["outputs"])
    for key in DENSE:
        problems += dense_problems(f'"{key}"', settings[key])
    if settings["cell"] in NAMES:
        problems += cell_problems({key: settings[key] for key in CELL_KEYS})
    elif settings["cell"] == MIXED:
        problems += [
            f'"{key}": where "cell" is "{MIXED}" it stands in "cells"; remove it'
            for key, usual in CELL_KEYS.items()
            if key != "cell" and settings[key] != usual
        ]
    problems += [
        f'"{key}": expected true or false, found {quoted(settings[key])}'
        for key in (SPREAD, INITIAL)
        if not isinstance(settings[key], bool)
    ]
    problems += said_problems(settings["missing"], settings["words"])
    problems += training_problems(settings["training"])
    if problems:
        raise ModelError(*problems)
    problems = list_problems(settings["cells"], settings["layers"], settings["cell"])
    problems += between_problems(settings[BETWEEN], settings["layers"])
    problems += _relation_problems(settings) + _target_problems(settings)
    problems = problems or skip_problems(settings)
    problems += error_problems(settings["errors"], len(settings["outputs"]))
    problems += score_problems(settings["score"], len(settings["outputs"]))
    problems += band_problems(settings["bands"], len(settings["outputs"]))
    if problems:
        raise ModelError(*problems)


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
        elif name == "highway.weight":
            problems.append(
                f'{name}: not used as "highway" is 0; remove it, or say how many frames it is for'
            )
        elif name in SPREAD_TENSORS:
            problems.append(f'{name}: not used as "{SPREAD}" is false; remove it, or say "{SPREAD}": true')
        elif name.startswith(DECODER) and settings["relation"] != "encoder-decoder":
            remedy = 'remove it, or say "relation": "encoder-decoder"'
            problems.append(
                f"{quoted(name)}: a second network is not used by {settings['relation']}; {remedy}"
            )
        else:
            network = f"{settings['layers']}-layer {settings['cell']}"
            problems.append(f"{quoted(name)}: a {network} has no such tensor; remove it")
    if problems:
        raise ModelError(*problems)


def _relation_problems(settings: Mapping[str, Any]) -> list[str]:
    """What the other settings say that the relation cannot have."""
    relation = settings["relation"]
    problems = [
        f'"{key}": expected {json.dumps(value)} for the relation "{relation}", found {quoted(settings[key])}'
        for key, value in RELATIONS[relation].items()
        if settings[key] != value
    ]
    if settings["highway"] > settings["window"] > 0:
        problems.append(
            f'"highway": {settings["highway"]} rows are more than a window has, {settings["window"]}'
        )
    forecasts = relation == "sequence-to-sequence" and settings["target"] == "next"
    if settings[SPREAD] and not (forecasts and settings["horizon"] == 1):
        problems.append(
            f'"{SPREAD}": true is for forecasts of the next row: the relation "sequence-to-sequence", the '
            'target "next" and a horizon of 1'
        )
    return problems


def _target_problems(settings: Mapping[str, Any]) -> list[str]:
    """What a forecast of the channels cannot have: other outputs, or ones that lie elsewhere."""
    if settings["target"] != "next":
        return []
    problems = []
    channels, outputs = ([channel["name"] for channel in settings[key]] for key in ("channels", "outputs"))
    if outputs != channels[: len(outputs)]:
        problems.append(
            f'"outputs": {quoted(outputs)} must be the first of the channels, {quoted(channels)}, in their '
            'order, for the target "next"; for other quantities say "target": "value"'
        )
    offsets = [[channel.get("offset", 0.0) for channel in settings[key]] for key in ("channels", "outputs")]
    if offsets[1] != offsets[0][: len(outputs)]:
        problems.append(
            f'"outputs": offsets {quoted(offsets[1])} must be those of the channels, {quoted(offsets[0])}, '
            'for the target "next"'
        )
    if settings["ahead"] != 1:
        problems.append(
            f'"ahead": expected 1 for the target "next", found {settings["ahead"]}; for outputs that lie '
            'elsewhere say "target": "value"'
        )
    return problems
