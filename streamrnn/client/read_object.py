"""Predictions that come as JSON, checked."""

import json
import sys
from collections.abc import Callable
from typing import Any

from streamrnn.wire.frame import BAND_FIELDS, OBJECT_FIELDS, WireError


def read_object(payload: bytes) -> dict[str, Any]:
    """The fields of a prediction that was published as JSON, and what others it may have.

    Raises WireError where it is none, or could not be written again as JSON in UTF-8.
    """
    try:
        fields = json.loads(payload.decode(), parse_constant=_refuse)
        json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # UnicodeError is a ValueError, too
        raise WireError(f"it begins with {{ and is no JSON: {error}") from None
    for name in OBJECT_FIELDS:
        if name not in fields:
            raise WireError(f"a prediction as JSON has {name}, this has not: {payload[:60]!r}")
        if not _RULES[name](fields[name]):
            raise WireError(f"{name} of a prediction cannot be {str(fields[name])[:60]!r}")
    for name in BAND_FIELDS:
        if not _are_outputs(fields.get(name, {})):
            raise WireError(f"{name} of a prediction cannot be {str(fields[name])[:60]!r}")
    return fields


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON's")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 64


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= sys.float_info.max)


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_outputs(value: Any) -> bool:
    return isinstance(value, dict) and all(
        all(map(_is_number, said if isinstance(said, list) else [said])) for said in value.values()
    )


_RULES: dict[str, Callable[[Any], bool]] = {
    "stream": _is_text,
    "seq": _is_count,
    "time": lambda value: value is None or _is_text(value),
    "step": _is_count,
    "kind": _is_text,
    "flags": _are_words,
    "score": _is_number,
    "residual": _is_number,
    "gap": _is_count,
    "epoch": _is_count,
    "prediction": _are_outputs,
}
