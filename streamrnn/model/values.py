"""The numbers of a model's tensors: those that no step could use, and those that change nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamrnn.model.settings import NORMALISATION, SPREAD_SHAPE, SPREAD_START, tensor_shapes
from streamrnn.model.stated import quoted

SMALLEST_STD = float(np.finfo(np.float32).tiny)  # below it, 1 / std may be infinite


def value_problems(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> list[str]:
    """What is wrong with the numbers of tensors that are all those of these settings."""
    problems = []
    for name, array in tensors.items():
        if bad := array.size - int(np.isfinite(array).sum()):
            problems.append(f"{name}: {bad} of {array.size} values are NaN or infinite; train it again")
    remedy = "it must be above 0 (use 1 if it never varies)"
    problems += _low("input.std", settings["channels"], tensors, SMALLEST_STD, remedy)
    problems += _low("output.std", settings["outputs"], tensors, SMALLEST_STD, remedy)
    for name, least in ((SPREAD_SHAPE, 2.0), (SPREAD_START, 0.0)):
        above = float(np.nextafter(np.float32(least), np.float32(np.inf)))
        problems += _low(name, settings["outputs"], tensors, above, f"it must be above {least:g}")
    return problems


def identity(settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The means and deviations that leave every value as it is."""
    shapes = tensor_shapes({**settings, "normalisation": "standard"})
    return {name: np.full(shapes[name], name.endswith("std"), np.float32) for name in NORMALISATION}


def _low(
    name: str, channels: list[dict[str, Any]], tensors: Mapping[str, np.ndarray], least: float, remedy: str
) -> list[str]:
    """A problem for each value of a tensor, if it is there, that is below ``least``."""
    return [
        f"{name}: {value:g} for {quoted(channel['name'])}; {remedy}"
        for value, channel in zip(tensors.get(name, ()), channels, strict=False)
        if value < least
    ]
