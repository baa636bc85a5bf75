"""Messages of protobuf, by the description that an MCAP file has of them."""

from typing import Any

from streamrnn.recordings.mcap.numbers import MOST_ELEMENTS, Decoder, Numbers, Undecodable, put
from streamrnn.recordings.mcap.records import McapSchema

_MOST_DEEP = 32
_TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")


def protobuf_decoder(schema: McapSchema) -> Decoder:
    """See ``decoder_of``."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory  # type: ignore[import-untyped]
    except ImportError:
        raise Undecodable("protobuf, which its library reads: pip install 'streamrnn[protobuf]'") from None
    pool = descriptor_pool.DescriptorPool()
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(schema.data)
        waiting = {file.name: file for file in files.file}
        while waiting:  # each after those that it imports
            ready = [name for name, file in waiting.items() if not {*file.dependency} & {*waiting}]
            for name in ready:
                pool.Add(waiting.pop(name))
            if not ready:
                raise Undecodable("protobuf whose descriptions import each other")
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
    except (TypeError, KeyError, ValueError, message.DecodeError) as error:
        raise Undecodable(f"protobuf whose description cannot be read ({error})") from None

    def read(data: memoryview) -> Numbers:
        found = Numbers()
        try:
            _flatten(kind.FromString(bytes(data)), "", found, 0)
        except message.DecodeError as error:
            raise Undecodable(f"no message of {schema.name}: {error}") from None
        return found

    return read


def _flatten(message: Any, path: str, found: Numbers, depth: int) -> None:
    if depth > _MOST_DEEP:
        raise Undecodable("messages within messages without an end")
    for field in message.DESCRIPTOR.fields:
        name = f"{path}.{field.name}" if path else field.name
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            put(found, name, "a map")
        elif field.is_repeated:
            if len(value) > MOST_ELEMENTS:
                put(found, name, f"an array of {len(value):,}")
                continue
            for place, part in enumerate(value):
                _add(part, f"{name}[{place}]", field, found, depth)
        elif field.has_presence and not message.HasField(field.name):
            continue  # what a sender left out is missing
        else:
            _add(value, name, field, found, depth)


def _add(value: Any, path: str, field: Any, found: Numbers, depth: int) -> None:
    if field.message_type is None:
        put(found, path, "text" if isinstance(value, (str, bytes)) else float(value))
    elif field.message_type.full_name in _TIMES:
        put(found, path, "times")
    else:
        _flatten(value, path, found, depth + 1)
