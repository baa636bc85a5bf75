"""Arrays out of JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamrnn.foreign.network import numbers
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted


def tensors_of(named: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Each array of lists of numbers as float32. Raises ModelError naming those that are not."""
    arrays, problems = dict[str, np.ndarray](), list[str]()
    for name, values in named.items():
        try:
            arrays[name] = numbers(quoted(name), np.array(values, np.float64))
        except ModelError as error:
            problems += error.problems
        except (TypeError, ValueError, OverflowError):
            problems.append(f"{quoted(name)}: expected lists of numbers, all of the same length")
    if problems:
        raise ModelError(*problems)
    return arrays


def whole_number(content: Mapping[str, Any], key: str, most: int, least: int = 1) -> int:
    """Raises ModelError for none from ``least`` to ``most``."""
    value = content.get(key)
    if type(value) is not int or not least <= value <= most:
        raise ModelError(f'"{key}": expected a whole number, {least} to {most:,}, found {quoted(value)}')
    return value


def period_of(rate: object) -> float | None:
    """The sample period of a rate in Hz, None for what is none."""
    return 1 / rate if isinstance(rate, int | float) and 1e-9 <= rate <= 1e12 else None


def unused(content: Mapping[str, Any], used: set[str]) -> list[str]:
    """A note of the keys that are not among ``used``."""
    left = sorted(set(content) - used)
    return [f"not used: {', '.join(map(quoted, left[:12]))}"] if left else []
