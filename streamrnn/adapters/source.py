"""Whose a message is: a part of its topic, a key of its object, or what the configuration says."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from streamrnn.adapters.adapter import Plan, Rejected
from streamrnn.adapters.names import value_at
from streamrnn.wire.frame import TOPIC_BYTES

_LONGEST = 1024  # bytes of a topic that is looked at
_REMEMBERED = 1 << 16  # topics whose parts are known
_PLACE = re.compile(r"\{(stream|channel|\d+)\}")
_WHAT = {"stream": r"(?P<stream>[^/]+)", "channel": r"(?P<channel>[^/]+)"}


class Origin(NamedTuple):
    """What a topic says."""

    stream: str | None
    channel: str | None


class StreamFinder:
    """Finds the stream, and the channel where topics name it."""

    def __init__(self, plan: Plan):
        self._stream, self._topic = plan.stream, plan.topic
        self.missed = False  # whether an object came that has no key of that name
        self._pattern = _compiled(plan.topic) if plan.topic else None
        self._places = bool(_PLACE.search(plan.stream))
        self._key = () if self._places or not plan.stream else tuple(plan.stream.split("."))
        self._known: dict[bytes, Origin] = {}

    def of_topic(self, topic: bytes | None) -> Origin:
        """What a topic says of stream and channel. Raises Rejected for one that no stream is called like."""
        if topic is None:
            return Origin(None, None)
        if len(topic) > _LONGEST:
            raise Rejected("topic", f"its topic has {len(topic)} bytes, and {_LONGEST} at most are read")
        if (known := self._known.get(topic)) is not None:
            return known
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        return self._known.setdefault(topic, self._read_topic(topic))

    def of(self, origin: Origin, said: Mapping[Any, Any] | None = None) -> str:
        """The stream of a message whose object, if it is one, is ``said``. Raises Rejected where it has none.

        A topic that `input.topic` or "{1}" reads comes first, then the key that `input.stream` names, the
        topic as a whole, and the text of `input.stream` itself.
        """
        if self._pattern is not None and origin.stream is not None:
            return origin.stream
        if self._key and said is not None:
            found = value_at(said, self._key)
            if found is not None:
                return named(found)
        if origin.stream is not None:
            return origin.stream
        if self._stream and not self._places:
            self.missed |= said is not None
            return self._stream
        raise Rejected("stream", "neither a topic nor a key says whose it is")

    def _read_topic(self, topic: bytes) -> Origin:
        try:
            text = topic.decode()
        except UnicodeDecodeError:
            raise Rejected("topic", "its topic is not UTF-8") from None
        parts = text.split("/")
        stream = channel = None
        if self._pattern is not None:
            if (match := self._pattern.fullmatch(text)) is None:
                raise Rejected("topic", f'"{text[:60]}" is unlike input.topic = "{self._topic}"')
            found = match.groupdict()
            stream, channel = found.get("stream"), found.get("channel")
        if stream is None and self._places:
            stream = _PLACE.sub(lambda place: _part(parts, place[1]), self._stream)
        if stream is None and self._pattern is None:
            # one that is no id is none where a key, or the configuration, can say whose the message is
            stream = None if self._key and not _is_name(text) else text or None
        return Origin(None if stream is None else named(stream), channel)


def named(found: object) -> str:
    """A stream's id that was found in a message. Raises Rejected for what is none."""
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str):
        raise Rejected("stream", f"its stream is {type(found).__name__}, not text or a whole number")
    if not _is_name(found):
        raise Rejected(
            "stream", f"{found[:20]!r} is no stream's id: 1 to {TOPIC_BYTES} bytes that can be printed"
        )
    return found


def _is_name(text: str) -> bool:
    return 0 < len(text.encode(errors="replace")) <= TOPIC_BYTES and text.isprintable()


def _part(parts: list[str], place: str) -> str:
    if not place.isdigit() or not 1 <= int(place) <= len(parts):
        raise Rejected("topic", f"its topic has no part {place}")
    return parts[int(place) - 1]


def _compiled(pattern: str) -> re.Pattern[str]:
    """The expression for ``plant/{stream}/{channel}``; + stands for any one part, # for all that follow."""
    said = []
    parts = pattern.split("/")
    rest = parts.pop() if len(parts) > 1 and parts[-1] == "#" else ""
    for part in parts:
        if part == "+":
            said.append("[^/]+")
        elif part == "#":
            said.append(".*")
        else:
            pieces = re.split(r"(\{stream\}|\{channel\})", part)
            said.append(
                "".join(_WHAT[p[1:-1]] if p in ("{stream}", "{channel}") else re.escape(p) for p in pieces)
            )
    # as in MQTT, what follows may be nothing: "a/#" is like "a", too
    return re.compile("/".join(said) + ("(?:/.*)?" if rest else ""), re.DOTALL)
