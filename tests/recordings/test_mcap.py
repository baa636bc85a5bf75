"""MCAP of robots."""

import io
import json
import struct

import numpy as np
import pytest
from recorded import START_NS, parts, read_whole, ticks_of

from streamrnn.errors import UserError

pytest.importorskip("mcap")
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType, Writer

RNG = np.random.default_rng(9)
LAYOUTS = {
    "zstd": {"chunk_size": 3000},
    "lz4": {"chunk_size": 3000, "compression": CompressionType.LZ4},
    "plain": {"chunk_size": 3000, "compression": CompressionType.NONE},
    "no index": {"chunk_size": 3000, "index_types": IndexType.NONE, "repeat_channels": False},
    "no chunks": {"use_chunking": False},
}  # fmt: skip


def write(messages, schemas=(), **layout):
    """A file of (topic, ns, content), where ``schemas`` are (topic, encoding, name, encoding of it, text)."""
    output = io.BytesIO()
    writer = Writer(output, **layout)
    writer.start()
    topics = {}
    for topic, encoding, name, kind, text in schemas:
        topics[topic] = writer.register_channel(topic, encoding, writer.register_schema(name, kind, text))
    for topic, ns, content in messages:
        if topic not in topics:
            topics[topic] = writer.register_channel(topic, "json", 0)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        writer.add_message(topics[topic], ns, data, ns)
    writer.finish()
    return output.getvalue()


def read(tmp_path, content):
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    return read_whole("mcap", path)


def bench(path, layout="zstd"):
    """Writes topics of three rates with a gap, missing values, late ones; ticks and values of each rate."""
    blocks = [parts(0, 4), parts(6, 9)]
    expected, messages = [], []
    for k in range(3):
        ticks = [tick for block in blocks for tick in ticks_of(block[k])]
        values = np.concatenate([block[k].values for block in blocks])
        values[5 % len(values), 0] = np.nan
        expected.append((ticks, values))
        for tick, row in zip(ticks, values.tolist(), strict=True):
            fields = {"force": {"x": row[0] if row[0] == row[0] else None}, "more": row[1:], "name": "n"}
            messages.append((f"/r{k}", START_NS + tick, fields))
    messages.sort(key=lambda message: message[1])
    for at in range(0, len(messages) - 40, 40):  # senders that were late, across chunks
        messages[at], messages[at + 33] = messages[at + 33], messages[at]
    path.write_bytes(write(messages, **LAYOUTS[layout]))
    return expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_topics_of_three_rates_with_a_gap_come_in_the_order_of_their_times(tmp_path, layout):
    path = tmp_path / "x.mcap"
    expected = bench(path, layout)
    contents, groups = read_whole("mcap", path)
    assert (contents.start_ns, contents.zoned, contents.cut) == (START_NS, True, "")
    assert {name for name, _ in contents.left_out} == {"r0.name", "r1.name", "r2.name"}
    by_name = {group.name: found for group, found in zip(contents.groups, groups, strict=True)}
    for k, (ticks, values) in enumerate(expected):
        group = by_name[f"r{k}"]
        assert group.names == [f"r{k}.force.x"] + [f"r{k}.more[0]"] * (k == 0)
        assert group.ticks == ticks and np.array_equal(group.values, values, equal_nan=True)


def test_equal_times_are_in_the_order_of_the_file_as_the_library_has_them(tmp_path):
    messages = [("/a", START_NS + int(tick), {"x": k}) for k, tick in enumerate(RNG.integers(0, 50, 400))]
    content = write(messages, chunk_size=500)
    _, (group,) = read(tmp_path, content)
    theirs = [
        (m.log_time, json.loads(m.data)["x"]) for _, _, m in make_reader(io.BytesIO(content)).iter_messages()
    ]
    assert group.ticks == [time - START_NS for time, _ in theirs]
    by_time = sorted(range(400), key=lambda k: messages[k][1])
    assert group.values[:, 0].tolist() == by_time


@pytest.mark.parametrize("layout", ["zstd", "no chunks"])
def test_of_a_file_that_is_cut_the_whole_records_are_taken(tmp_path, layout):
    content = write([("/a", START_NS + k, {"x": k}) for k in range(300)], **LAYOUTS[layout])
    counts = set()
    for size in range(80, len(content) - 500, 97):
        contents, groups = read(tmp_path, content[:size])
        if not contents.cut:  # only what says where its data are
            assert len(groups[0].ticks) == 300
        elif groups:
            assert "no whole record" in contents.cut
            assert groups[0].values[:, 0].tolist() == [*range(len(groups[0].ticks))]
            counts.add(len(groups[0].ticks))
    assert len(counts) > 2


def test_times_of_a_simulation_are_no_dates(tmp_path):
    contents, (group,) = read(tmp_path, write([("/a", 5 * k, k) for k in range(4)]))
    assert contents.start_ns is None and group.ticks == [0, 5, 10, 15] and group.names == ["a"]


def test_fields_that_are_no_numbers_are_left_out_by_name(tmp_path):
    message = {"deep": {"list": [1, {"y": True}]}, "text": "x", "long": [0] * 300, "big": 10**400}
    contents, (group,) = read(
        tmp_path, write([("/a/b", START_NS, message), ("/a/b", START_NS + 1, {"late": 1})])
    )
    assert group.names == ["a/b.deep.list[0]", "a/b.deep.list[1].y", "a/b.big", "a/b.late"]
    inf, nan = np.inf, np.nan
    assert np.array_equal(group.values, [[1, 1, inf, nan], [nan, nan, nan, 1]], equal_nan=True)
    assert dict(contents.left_out) == {"a/b.text": "text", "a/b.long": "an array of 300"}


TWO = b"""# a comment
std_msgs/Header header
float64 x  # metres
int8 SMALL=3
Inner[] inner
uint8[300] picture
string<=10 name "none"
bool ok
float32[<=4] few
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: test/Inner
uint8 kind
float64[2] pair
"""
ONE = (
    TWO.replace(b"builtin_interfaces/Time stamp", b"uint32 seq\ntime stamp")
    .replace(b"<=10", b"").replace(b"<=4", b"").replace(b"float64 x", b"duration age\nfloat64 x")
    .replace(b"std_msgs/Header header", b"Header header")
)  # fmt: skip


class Bytes:
    """A message of ROS: each number at a multiple of its size, or not."""

    def __init__(self, aligned, order="<"):
        self.aligned, self.order, self.data = aligned, order, b""

    def put(self, code, *values):
        for value in values:
            size = struct.calcsize(code)
            if self.aligned:
                self.data += bytes(-len(self.data) % size)
            self.data += struct.pack(self.order + code, value)

    def text(self, text):
        content = text.encode() + b"\0" * self.aligned
        self.put("I", len(content))
        self.data += content

    def message(self, k):
        if not self.aligned:
            self.put("I", k)
        self.put("I", 7, 8)
        self.text("odd")
        if not self.aligned:
            self.put("i", 3, 4)
        self.put("d", k / 3)
        self.put("I", 2)
        for part in range(2):
            self.put("B", part)
            self.put("d", k + part / 7, -k)
        self.data += bytes(300)
        self.text("n")
        self.put("B", k % 2)
        self.put("I", 3)
        self.put("f", 0.5, k, -0.25)
        return self.data


@pytest.mark.parametrize("kind", ["ros1", "cdr", "cdr big"])
def test_messages_of_ros_by_their_definitions(tmp_path, kind):
    order = ">" if kind == "cdr big" else "<"
    head = {"ros1": b"", "cdr": b"\0\1\0\0", "cdr big": b"\0\0\0\0"}[kind]
    told = (
        ("/t", "ros1", "test/T", "ros1msg", ONE)
        if kind == "ros1"
        else ("/t", "cdr", "test/msg/T", "ros2msg", TWO)
    )
    messages = [("/t", START_NS + k, head + Bytes(kind != "ros1", order).message(k)) for k in range(5)]
    contents, (group,) = read(tmp_path, write(messages, [told]))
    assert group.names == [
        *("t.x", "t.inner[0].kind", "t.inner[0].pair[0]", "t.inner[0].pair[1]"),
        *("t.inner[1].kind", "t.inner[1].pair[0]", "t.inner[1].pair[1]"),
        *("t.ok", "t.few[0]", "t.few[1]", "t.few[2]"),
    ]
    rows = [[k / 3, 0, k, -k, 1, k + 1 / 7, -k, k % 2, 0.5, k, -0.25] for k in range(5)]
    assert group.values.tolist() == rows
    why = dict(contents.left_out)
    assert (
        why["t.header.stamp"] == "times" and why["t.picture"] == "an array of 300" and why["t.name"] == "text"
    )
    for cut in (3, 40):
        bad = [*messages, ("/t", START_NS + 9, messages[0][2][:-cut])]
        with pytest.raises(UserError, match=f"at {START_NS + 9} ns cannot be read"):
            read(tmp_path, write(bad, [told]))


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (("cdr", "a/B", "ros2idl", b"module"), "'cdr' by 'ros2idl'"),
        (("flatbuffer", "a", "flatbuffer", b""), "'flatbuffer'"),
        (("cdr", "a/B", "ros2msg", b"C c"), "a/C, of which a/B has one, is not defined"),
        (("cdr", "a/B", "ros2msg", b"wstring s"), "wide characters"),
        (("protobuf", "a.B", "protobuf", b"\xff\xff"), "protobuf"),
    ],
)
def test_topics_that_cannot_be_decoded_are_left_out_and_the_others_read(tmp_path, told, why):
    messages = [("/bad", START_NS, b"x"), ("/good", START_NS, {"x": 1})]
    contents, (group,) = read(tmp_path, write(messages, [("/bad", *told)]))
    assert group.names == ["good.x"] and contents.left_out[0][0] == "bad" and why in contents.left_out[0][1]


def test_definitions_that_hold_themselves_end(tmp_path):
    told = [("/a", "cdr", "t/A", "ros2msg", b"A a")]
    with pytest.raises(UserError, match="without an end"):
        read(tmp_path, write([("/a", START_NS, bytes([0, 1, 0, 0]) + bytes(50))], told))


def test_messages_of_protobuf_by_their_description(tmp_path):
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="t.proto", package="t", syntax="proto3")
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="y", number=1, type=2, label=1)
    outer = file.message_type.add(name="Outer")
    outer.field.add(name="x", number=1, type=1, label=1)
    outer.field.add(name="inner", number=2, type=11, type_name=".t.Inner", label=1)
    outer.field.add(name="list", number=3, type=5, label=3)
    outer.field.add(name="name", number=4, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Outer"))
    messages = []
    for k in range(3):
        message = kind(x=k / 3, list=[k, -k], name="n")
        if k:
            message.inner.y = k / 4
        messages.append(("/p", START_NS + k, message.SerializeToString()))
    told = [("/p", "protobuf", "t.Outer", "protobuf", files.SerializeToString())]
    contents, (group,) = read(tmp_path, write(messages, told))
    assert group.names == ["p.x", "p.list[0]", "p.list[1]", "p.inner.y"]
    rows = [[0, 0, 0, np.nan], [1 / 3, 1, -1, 0.25], [2 / 3, 2, -2, 0.5]]
    assert np.array_equal(group.values, rows, equal_nan=True) and contents.left_out == (("p.name", "text"),)
    with pytest.raises(UserError, match=r"no message of t\.Outer"):
        read(tmp_path, write([("/p", START_NS, b"\x09\x01")], told))


def test_a_chunk_that_is_not_what_was_written_is_an_error(tmp_path):
    content = bytearray(write([("/a", START_NS + k, {"x": k}) for k in range(300)], **LAYOUTS["plain"]))
    at = content.find(b'{"x": 150}')
    content[at + 6] ^= 1
    with pytest.raises(UserError, match="by its checksum"):
        read(tmp_path, bytes(content))


def test_a_chunk_that_says_that_it_is_huge_is_refused_before_it_is_unpacked(tmp_path):
    content = bytearray(write([("/a", START_NS + k, {"x": k}) for k in range(300)], **LAYOUTS["zstd"]))
    at = content.find(b"\x04\0\0\0zstd") - 12
    struct.pack_into("<Q", content, at, 1 << 40)
    with pytest.raises(UserError, match="1,099,511,627,776 bytes"):
        read(tmp_path, bytes(content))
