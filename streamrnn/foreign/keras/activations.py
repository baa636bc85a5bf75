"""Keras's activations, as names and as layers, in the words of the table of activations."""

import math
from typing import Any

from streamrnn.foreign.keras.calls import LayerSettings
from streamrnn.model.activations import find_activation, say_activation
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

BY_NAME = {
    **{
        name: name
        for name in (
            *("linear", "tanh", "relu", "sigmoid", "elu", "selu", "softsign", "softplus", "silu", "gelu"),
            *("softmax", "log_softmax", "hard_silu"),
        )
    },
    "swish": "silu",
    "hard_swish": "hard_silu",
    "leaky_relu": "leaky_relu(0.2)",
    "relu6": "clip(0, 6)",
    "hard_tanh": "clip(-1, 1)",
}
# by Keras's version
HARD_SIGMOID = {2: say_activation("hard_sigmoid"), 3: say_activation("hard_sigmoid", 1 / 6, 0.5)}


def activation_of(layer: LayerSettings, key: str, version: str, vectors: bool = False) -> str:
    """The activation in the setting ``key`` of ``layer``, or with "" that it is; ``version`` is Keras's.

    Raises ModelError for one that is not among those here, or of vectors where ``vectors`` is not set.
    """
    found = layer.config.get(key, "linear") if key else {"class_name": layer.kind, "config": layer.config}
    if isinstance(found, dict) and found.get("class_name") == "function":
        found = found.get("config")
    said = _by_class(layer, found) if isinstance(found, dict) else _by_name(layer, found, version)
    if said is None or (find_activation(said).kind.of_vectors and not vectors):
        what = f"{key} {quoted(found)}" if key else "with these settings"
        known = ", ".join(
            name for name in BY_NAME if vectors or not find_activation(BY_NAME[name]).kind.of_vectors
        )
        raise ModelError(f"{layer}: {what} cannot be run, only {known} and hard_sigmoid")
    return said


def _by_name(layer: LayerSettings, name: Any, version: str) -> str | None:
    if name == "hard_sigmoid":
        major = version.split(".")[0]
        if major not in ("1", "2", "3"):
            raise ModelError(
                f"{layer}: hard_sigmoid is another function in Keras 3 than before, and the file does not "
                "say of which version it is; save it again with model.save()"
            )
        return HARD_SIGMOID[3 if major == "3" else 2]
    return BY_NAME.get(name) if isinstance(name, str) else None


def _by_class(layer: LayerSettings, json: dict[str, Any]) -> str | None:
    """An activation that is a layer, as LeakyReLU; None for others."""
    kind, config = json.get("class_name"), json.get("config")
    config = config if isinstance(config, dict) else {}

    def number(*keys: str, usual: float) -> float:
        value: Any = next((config[key] for key in keys if config.get(key) is not None), usual)
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ModelError(f"{layer}: {quoted(config)}, expected numbers")
        return float(value)

    if kind == "LeakyReLU":
        return say_activation("leaky_relu", number("negative_slope", "alpha", usual=0.3))
    if kind == "ELU":
        return say_activation("elu", number("alpha", usual=1.0))
    if kind == "ThresholdedReLU":
        return say_activation("thresholded_relu", number("theta", usual=1.0))
    if kind == "Softmax":
        return "softmax" if config.get("axis", -1) in (-1, [-1]) else None
    if kind == "ReLU":
        most = config.get("max_value")
        slope, threshold = number("negative_slope", usual=0.0), number("threshold", usual=0.0)
        if threshold == 0 and most is None:
            return say_activation("leaky_relu", slope) if slope else "relu"
        if slope == 0 and threshold == 0:
            return say_activation("clip", 0.0, number("max_value", usual=0.0))
        if slope == 0 and most is None and threshold > 0:
            return say_activation("thresholded_relu", threshold)
    return None
