"""JSON headers, as they stand before or beside the bytes of values."""

from typing import Any

from pydantic_core import from_json

from streamrnn.adapters.adapter import Rejected

HEADER_BYTES = 1 << 16


def read_header(content: bytes, name: str, largest: int = HEADER_BYTES) -> dict[str, Any]:
    """The object in ``content``, which a message calls ``name``. Raises Rejected where there is none.

    Of a key that comes twice the last value counts. NaN and Infinity are read, nesting is bounded.
    """
    if len(content) > largest:
        raise Rejected("syntax", f"its {name} has {len(content)} bytes, and {largest} at most are read")
    try:
        said = from_json(content)
    except ValueError as error:
        raise Rejected("syntax", f"its {name} is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise Rejected("syntax", f"its {name} is no JSON object but {shown(said)}")
    return said


def whole(said: object) -> int | None:
    """A whole number from 0 to 2^63 - 1; None for anything else, true and 1.0 included."""
    return said if type(said) is int and 0 <= said < 1 << 63 else None


def shown(said: object) -> str:
    """What was found, short enough for a line of the log."""
    if isinstance(
        said, (list, dict)
    ):  # never looked into: it may be large, or nested deeper than Python goes
        return f"a {'list' if isinstance(said, list) else 'map'} of {len(said)}"
    text = repr(said[:60] if isinstance(said, (str, bytes)) else said)
    return text if len(text) <= 60 else f"{text[:57]}..."
