"""The numbers of a message, by the path of their field."""

from collections.abc import Callable

MOST_FIELDS = 1024  # of a message
MOST_ELEMENTS = 256  # of an array that becomes channels; longer ones are pictures, clouds, maps

Numbers = dict[str, "float | str"]  # by path; text = why that is no number
Decoder = Callable[[memoryview], Numbers]


class Undecodable(Exception):
    """A message, or all of a topic, cannot be decoded; its text says why."""


def put(found: Numbers, path: str, value: float | str) -> None:
    """Adds a field. Raises Undecodable for one too many."""
    if len(found) >= MOST_FIELDS:
        raise Undecodable(f"a message of more than {MOST_FIELDS:,} fields")
    found[path] = value
