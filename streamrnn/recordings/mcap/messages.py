"""Messages of MCAP as numbers by the path of their field, whatever they are encoded in."""

import json
from typing import Any

from streamrnn.recordings.mcap.numbers import MOST_ELEMENTS, Decoder, Numbers, Undecodable, put
from streamrnn.recordings.mcap.protobuf import protobuf_decoder
from streamrnn.recordings.mcap.records import McapSchema
from streamrnn.recordings.mcap.ros import RosMessages


def decoder_of(encoding: str, schema: McapSchema | None) -> Decoder:
    """What decodes the messages of a topic; it raises Undecodable as well. Raises Undecodable."""
    if encoding == "json":
        return _read_json
    kind = None if schema is None else schema.encoding
    if schema is not None and (encoding, kind) in (("cdr", "ros2msg"), ("ros1", "ros1msg")):
        return RosMessages(schema, encoding == "cdr").read
    if schema is not None and (encoding, kind) == ("protobuf", "protobuf"):
        return protobuf_decoder(schema)
    raise Undecodable(f"messages in {encoding or 'no encoding'!r} by {kind or 'no schema'!r} are not read")


def _read_json(data: memoryview) -> Numbers:
    try:
        message = json.loads(str(data, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"no JSON: {error}") from None
    found = Numbers()
    try:
        _flatten(message, "", found)
    except RecursionError:
        raise Undecodable("JSON that is too deep") from None
    return found


def _flatten(value: Any, path: str, found: Numbers) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _flatten(part, f"{path}.{key}" if path else key, found)
    elif isinstance(value, list):
        if len(value) > MOST_ELEMENTS:
            put(found, path, f"an array of {len(value):,}")
            return
        for place, part in enumerate(value):
            _flatten(part, f"{path}[{place}]", found)
    elif isinstance(value, str):
        put(found, path, "text")
    elif value is None:
        put(found, path, float("nan"))
    else:
        try:
            put(found, path, float(value))
        except OverflowError:
            put(found, path, float("inf") if value > 0 else float("-inf"))
