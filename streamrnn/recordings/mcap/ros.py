"""Messages of ROS 1 and 2, by the definitions that an MCAP file has of them.

Sources: http://wiki.ros.org/msg and https://docs.ros.org/en/rolling/Concepts/Basic/About-Interfaces.html for
the definitions, the OMG's DDS-XTypes 7.4.1 for how ROS 2 lays a message out: as ROS 1 does, but that each
number stands at a multiple of its size. Nothing is generated or run.
"""

import re
import struct
from typing import NamedTuple

from streamrnn.recordings.mcap.numbers import MOST_ELEMENTS, Numbers, Undecodable, put
from streamrnn.recordings.mcap.records import McapSchema

_NUMBERS = {
    "bool": "B", "byte": "B", "char": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
_TIMES = ("builtin_interfaces/Time", "builtin_interfaces/Duration")
_TIME_OF_ROS1 = ("time", "duration")
_COUNTER = ("std_msgs/Header", "seq")
_FIELD = re.compile(r"([\w/]+)(<=\d+)?(\[(?:<=)?\d*\])?\s+(\w+)\s*(.*)", re.ASCII)
_MOST_DEEP, _MOST_TYPES = 32, 1024


class _Field(NamedTuple):
    name: str
    kind: str  # of a number, "string", "time", or the full name of another definition
    length: int  # of an array, or -1 where the message says it; 1 of others
    array: bool


class RosMessages:
    """Decodes the messages of one schema."""

    def __init__(self, schema: McapSchema, aligned: bool) -> None:
        """``aligned``: as ROS 2 has them. Raises Undecodable for definitions that cannot be read."""
        self._aligned, self._types = aligned, dict[str, list[_Field]]()
        text = schema.data.decode("utf-8", "replace")
        parts = re.split(r"^=+[ \t]*\r?$", text, flags=re.MULTILINE)
        self._root = _full_name(schema.name, "")
        for place, part in enumerate(parts):
            name = self._root
            if place:
                found = re.match(r"\s*MSG:\s*(\S+)[^\n]*\n", part)
                if not found:
                    continue
                name, part = _full_name(found[1], ""), part[found.end() :]
            if len(self._types) >= _MOST_TYPES:
                raise Undecodable(f"more than {_MOST_TYPES:,} definitions")
            self._types.setdefault(name, self._fields(part, name.rpartition("/")[0]))
        for name in _TIMES:
            self._types[name] = []
        for name, fields in self._types.items():
            for field in fields:
                if (
                    field.kind not in _NUMBERS
                    and field.kind not in ("string", "time")
                    and field.kind not in self._types
                ):
                    raise Undecodable(f"{field.kind}, of which {name} has one, is not defined")

    def _fields(self, text: str, package: str) -> list[_Field]:
        fields = []
        for line in text.splitlines():
            line = line.partition("#")[0].strip()
            found = _FIELD.fullmatch(line)
            if not line or (found and found[5].startswith("=")):  # a constant
                continue
            if not found:
                raise Undecodable(f"a definition with the line {line[:60]!r}")
            kind, _, array, name, _ = found.groups()
            if kind == "wstring":
                raise Undecodable("text of wide characters in a definition")
            if kind in _TIME_OF_ROS1 and not self._aligned:
                kind = "time"
            elif kind not in _NUMBERS and kind != "string":
                kind = _full_name(kind, package)
            count = 1
            if array:
                count = int(array[1:-1]) if array[1:-1].isdecimal() else -1
            fields.append(_Field(name, kind, count, bool(array)))
        return fields

    def read(self, data: memoryview) -> Numbers:
        """See ``decoder_of``."""
        found = Numbers()
        order, begin = "<", 0
        if self._aligned:
            if len(data) < 4 or data[0] != 0 or data[1] > 1:
                raise Undecodable("a message that is not plain CDR")
            order, begin = "<" if data[1] else ">", 4
        try:
            _Reader(self, data[begin:], order, found).message(self._root, "", 0)
        except struct.error:
            raise Undecodable(f"a message that is shorter than a {self._root}") from None
        return found

    def fields_of(self, name: str) -> list[_Field]:
        return self._types[name]

    @property
    def aligned(self) -> bool:
        return self._aligned


class _Reader:
    """Reads one message from its begin to its end."""

    def __init__(self, definitions: RosMessages, data: memoryview, order: str, found: Numbers) -> None:
        self._of, self._data, self._order, self._found, self._at = definitions, data, order, found, 0

    def message(self, name: str, path: str, depth: int) -> None:
        if depth > _MOST_DEEP:
            raise Undecodable("definitions within definitions without an end")
        if name in _TIMES:
            self._numbers("I", 2)
            self._put(path, "times")
            return
        fields = self._of.fields_of(name)
        if not fields and self._of.aligned:
            self._numbers("B", 1)  # which ROS 2 puts where there is nothing
        for field in fields:
            own = f"{path}.{field.name}" if path else field.name
            count = self._numbers("I", 1)[0] if field.length < 0 else field.length
            self._values(field, count, own, depth, (name, field.name) == _COUNTER)

    def _values(self, field: _Field, count: int, path: str, depth: int, counter: bool) -> None:
        code = _NUMBERS.get(field.kind)
        shown = not field.array or count <= MOST_ELEMENTS
        if not shown:
            self._put(path, f"an array of {count:,}")
        if code is not None:
            values = self._numbers(code, count, shown)
            for place, value in enumerate(values):
                own = f"{path}[{place}]" if field.array else path
                self._put(own, "a counter" if counter else float(value))
            return
        if not shown:
            found, self._found = self._found, Numbers()  # what is in it is gone over
        for place in range(count):
            if not shown:
                self._found.clear()
            own = f"{path}[{place}]" if field.array else path
            if field.kind == "string":
                self._skip(self._numbers("I", 1)[0])
                self._put(own, "text")
            elif field.kind == "time":
                self._numbers("I", 2)
                self._put(own, "times")
            else:
                self.message(field.kind, own, depth + 1)
        if not shown:
            self._found = found

    def _numbers(self, code: str, count: int, wanted: bool = True) -> tuple:
        """So many numbers. Raises struct.error where they are not there."""
        form = struct.Struct(self._order + code)
        if self._of.aligned and count:
            self._at += -self._at % form.size
        begin = self._at
        self._skip(count * form.size)
        return struct.unpack_from(f"{self._order}{count}{code}", self._data, begin) if wanted else ()

    def _skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._data):
            raise struct.error

    def _put(self, path: str, value: float | str) -> None:
        put(self._found, path, value)


def _full_name(name: str, package: str) -> str:
    """``package/Type``; ROS 2 says ``package/msg/Type``, ROS 1 only ``Header`` of one."""
    parts = [part for part in name.split("/") if part != "msg"]
    if len(parts) > 1:
        return f"{parts[0]}/{parts[-1]}"
    return "std_msgs/Header" if parts == ["Header"] else f"{package}/{parts[-1] if parts else ''}"
