"""JSON: an object a message, rows as lists, lists of either, or a number where topics name channels."""

import json
import re
from typing import Any

from pydantic_core import from_json

from streamrnn.adapters.adapter import Harvest, Message, Plan, Rejected
from streamrnn.adapters.objects import ObjectReader

_HIDDEN = re.compile(rb'"\s')  # white space behind a key, or behind a text


class JsonAdapter:
    """Messages of one part of JSON, or of a topic and one.

    NaN, Infinity and -Infinity as bare words, which Python writes, are read as well.
    """

    def __init__(self, plan: Plan):
        self._objects = ObjectReader(plan)

    def read(self, message: Message, harvest: Harvest) -> None:
        topic, payload = self._objects.split(message)
        try:
            said = from_json(payload)
        except ValueError as error:
            if self._objects.enter_text(payload, topic, message.came_ns, harvest):
                return
            raise Rejected("syntax", f"no JSON ({error}), it begins with {payload[:20]!r}") from None
        # Of a key that stands there twice the last one wins without a word. Each has a colon: where there are
        # as many colons as keys, there is none.
        if payload.count(b":") != (len(said) if type(said) is dict else 0) and _may_be_twice(payload, said):
            _refuse_twice(payload)
        self._objects.enter(said, topic, message.came_ns, harvest)


def _may_be_twice(payload: bytes, said: Any) -> bool:
    """Whether fewer keys came of it than there may stand in it; of a text like a key it may be wrong."""
    keys = _keys(said)
    if payload.count(b":") == keys:
        return False
    return payload.count(b'":') != keys or _HIDDEN.search(payload) is not None


def _keys(said: Any) -> int:
    """How many keys all objects have."""
    count, left = 0, [said]
    while left:
        value = left.pop()
        if type(value) is dict:
            count += len(value)
            left += value.values()
        elif type(value) is list:
            left += value
    return count


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Rejected("value", "the same key twice in one object")
    return found


def _refuse_twice(payload: bytes) -> None:
    try:
        json.loads(payload, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Rejected("syntax", f"no JSON, it begins with {payload[:20]!r}") from None
