"""Arrays as pyzmq's guide sends them: by NumPy and a real socket, in every dtype and shape."""

import json

import numpy as np
import pytest
import zmq

from streamrnn.adapters.adapter import NO_SEQ, Harvest, Message, Plan, Rejected, RowBlock
from streamrnn.adapters.array import ArrayAdapter
from streamrnn.adapters.dtypes import DTYPES

CHANNELS = ("a", "b", "c")
CAME = 1_700_000_000_123_456_789
ROWS = np.arange(6).reshape(2, 3)
NAMES = ["bool", *(f"{kind}{8 * size}" for kind in ("int", "uint") for size in (1, 2, 4, 8))]
NAMES += ["float16", "float32", "float64"]


def sent(array: np.ndarray, topic: bytes | None = None) -> list[bytes]:
    """The parts that arrive where ``array`` is sent as the guide says."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.bind("inproc://array")
        other.connect("inproc://array")
        if topic is not None:
            one.send(topic, zmq.SNDMORE)
        one.send_json({"dtype": str(array.dtype), "shape": array.shape}, zmq.SNDMORE)
        one.send(array, copy=False)
        return other.recv_multipart()


def by_hand(header: object, content: bytes = b"", topic: bytes = b"m") -> list[bytes]:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return [topic, head, content]


def read(parts: list[bytes], channels: tuple[str, ...] = CHANNELS, **settings: object) -> list[RowBlock]:
    harvest = Harvest()
    ArrayAdapter(Plan(channels, **settings)).read(Message(None, parts, CAME), harvest)
    assert not harvest.rows
    assert not harvest.values
    assert not harvest.refused
    return harvest.blocks


def refused(reason: str, parts: list[bytes], **settings: object) -> str:
    with pytest.raises(Rejected) as caught:
        read(parts, **settings)
    assert caught.value.reason == reason
    return caught.value.what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", "<>")
def test_numpys_dtypes_in_both_orders(name, order):
    rows = np.array([[0, 1, 1], [1, 100, 7]]).astype(np.dtype(name).newbyteorder(order))
    for parts in (sent(rows, b"m"), by_hand({"dtype": rows.dtype.str, "shape": [2, 3]}, rows.tobytes())):
        (block,) = read(parts)
        assert block.stream == "m"
        assert block.values.dtype == np.float64
        assert np.array_equal(block.values, rows)
        assert block.ts_ns.tolist() == [CAME, CAME]
        assert (block.seq, block.begins) == (NO_SEQ, False)


def test_other_spellings():
    rows = ROWS.astype("<f4")
    for text in ("f4", "=f4", "<f4", "float32"):
        assert np.array_equal(read(by_hand({"dtype": text, "shape": [2, 3]}, rows.tobytes()))[0].values, rows)
    assert set(DTYPES) >= {"|u1", "|i1", "|b1", ">i8", "=f2"}


def test_a_bool_of_any_byte_is_one():
    (block,) = read(by_hand({"dtype": "bool", "shape": [3]}, b"\x00\x01\x02"))
    assert block.values.tolist() == [[0, 1, 1]]


@pytest.mark.filterwarnings("error")
def test_no_number_and_none_that_float32_holds_are_kept():
    rows = np.array([[np.nan, np.inf, 1e300]])
    (block,) = read(sent(rows, b"m"))
    assert np.array_equal(block.values, rows, equal_nan=True)
    signalling = b"\x01\x00\x80\x7f" * 3
    assert np.isnan(read(by_hand({"dtype": "float32", "shape": [3]}, signalling))[0].values).all()


@pytest.mark.parametrize(
    "text",
    [
        "complex64",
        "float128",
        "object",
        "O",
        "|O",
        "<U3",
        "|S4",
        "|V8",
        "datetime64[ns]",
        "[('a', '<f4'), ('b', '<f4')]",
        "{'names': ['a'], 'formats': ['<f4']}",
        "f4,f4",
        "<f16",
        "",
        "x" * 10_000,
        None,
        4,
        ["<f4"],
        {"a": "<f4"},
    ],
)
def test_other_dtypes_are_refused_and_never_handed_to_numpy(text, monkeypatch):
    monkeypatch.setattr(np, "dtype", None)
    assert len(refused("dtype", by_hand({"dtype": text, "shape": [3]}, bytes(12)))) < 200
    assert "says no dtype" in refused("dtype", by_hand({"shape": [3]}, bytes(12)))


def test_float64_is_not_twice_as_many_float32():
    parts = by_hand({"dtype": "float32", "shape": [2, 3]}, ROWS.astype("<f8").tobytes())
    assert "24 bytes, and 48 follow" in refused("oversized", parts)
    assert "24 bytes, and 20 follow" in refused("truncated", [*parts[:2], bytes(20)])


def test_shapes():
    assert read(sent(np.arange(3.0), b"m"))[0].values.tolist() == [[0, 1, 2]]
    assert read(sent(np.zeros((1, 3)), b"m"))[0].values.shape == (1, 3)
    assert read(sent(np.zeros((0, 3)), b"m")) == []
    assert read(by_hand({"dtype": "float64", "shape": []}, bytes(8)), ("a",))[0].values.shape == (1, 1)
    assert read(sent(np.zeros((4, 1)), b"m"), ("a",))[0].values.shape == (4, 1)
    assert read(sent(np.zeros(1), b"m"), ("a",))[0].values.shape == (1, 1)


@pytest.mark.parametrize(
    ("reason", "shape"),
    [
        ("channels", [4]),
        ("channels", [2, 4]),
        ("channels", []),
        ("channels", [0]),
        ("channels", [2, 0]),
        ("shape", [1, 2, 3]),
        ("shape", [3] * 10_000),
        ("shape", [-1, 3]),
        ("shape", [-3]),
        ("shape", [2.0, 3]),
        ("shape", [True, 3]),
        ("shape", [None, 3]),
        ("shape", ["2", 3]),
        ("shape", [[2, 3]]),
        ("shape", [10**30, 3]),
        ("shape", [2**62, 3]),
        ("shape", 3),
        ("shape", None),
        ("shape", "2, 3"),
        ("shape", {"0": 3}),
        ("truncated", [10**9, 3]),
        ("truncated", [2**39, 3]),
        ("oversized", [0, 3]),
    ],
)
def test_shapes_that_are_no_rows(reason, shape):
    assert len(refused(reason, by_hand({"dtype": "float64", "shape": shape}, bytes(12)))) < 200
    refused("shape", by_hand({"dtype": "float64"}, bytes(24)))


def test_channels_by_rows_are_named_and_not_turned():
    what = refused("shape", sent(np.zeros((3, 100)), b"m"))
    assert "[3, 100], channels by rows; send rows by channels, [rows, 3]" in what
    assert len(read(sent(np.zeros((3, 3)), b"m"))) == 1  # cannot be told
    assert refused("channels", sent(np.zeros(5), b"m"), channels=("a",))  # and not five rows of one channel


def test_columns_first_are_read_where_the_configuration_says_so():
    rows = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    parts = by_hand({"dtype": "float64", "shape": [4, 3]}, rows.tobytes(order="F"))
    assert np.array_equal(read(parts, order="F")[0].values, rows)
    assert not np.array_equal(read(parts)[0].values, rows)
    one = by_hand({"dtype": "float64", "shape": [3]}, np.arange(3.0).tobytes())
    assert read(one, order="F")[0].values.tolist() == [[0, 1, 2]]


def test_two_parts_without_a_topic():
    header, content = sent(np.zeros(3))
    assert read([header, content], stream="pump")[0].stream == "pump"
    refused("stream", [header, content])
    named = json.dumps(json.loads(header) | {"machine": {"id": 7}}).encode()
    assert read([named, content], stream="machine.id")[0].stream == "7"


def test_a_topic_beside_the_parts():
    harvest = Harvest()
    ArrayAdapter(Plan(CHANNELS)).read(Message(b"m", sent(np.zeros(3)), CAME), harvest)
    assert harvest.blocks[0].stream == "m"
    with pytest.raises(Rejected, match="3 parts"):
        ArrayAdapter(Plan(CHANNELS)).read(Message(b"m", sent(np.zeros(3), b"m"), CAME), harvest)


def test_a_header_whose_bytes_were_never_sent_takes_its_message_along():
    """What pyzmq does with a view that is not contiguous: the header has left when it fails."""
    strided = np.zeros((4, 6))[:, ::2]
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.bind("inproc://strided")
        other.connect("inproc://strided")
        for array in (strided, np.zeros(3)):
            one.send_json({"dtype": str(array.dtype), "shape": array.shape}, zmq.SNDMORE)
            try:
                one.send(array, copy=False)
            except BufferError:
                assert array is strided
        parts = other.recv_multipart()
    assert len(parts) == 3
    assert "never sent" in refused("parts", parts, stream="pump")
    assert "never sent" not in refused("parts", [b"m", *parts], stream="pump")
    refused("parts", [b"m", parts[0], b"m", *parts[1:]])


@pytest.mark.parametrize("count", [0, 1, 4, 5000])
def test_other_numbers_of_parts(count):
    assert f"{count} parts" in refused("parts", [b"x"] * count)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[1]",
        b"{",
        b'{"dtype": "float32", "shape": [3]',
        b'{"dtype": "float32", "shape": [3]} ;',
        b'{"\xff": 1}',
        b'{"a":' + b"[" * 60_000,
        b'{"dtype": "float32", "shape": [' + b"1" * 5000 + b"]}",
        b"{" + b" " * (1 << 16) + b"}",
    ],
)
def test_headers_that_are_none(head):
    assert len(refused("syntax", by_hand(head, bytes(12)))) < 200


@pytest.mark.parametrize("topic", [b"\xff", b"t" * 128, b"a\nb", b"t" * 5000, b""])
def test_topics_that_are_none(topic):
    with pytest.raises(Rejected) as caught:
        read([topic, *sent(np.zeros(3))])
    assert caught.value.reason in ("topic", "stream")


def test_times():
    header = {"dtype": "float64", "shape": [3, 3]}
    content = bytes(72)
    assert read(by_hand(header, content), period_ns=10)[0].ts_ns.tolist() == [CAME - 20, CAME - 10, CAME]
    timed = header | {"time": 1_700_000_000.5, "at": {"ts_ns": 7}}
    half = 1_700_000_000_500_000_000
    assert read(by_hand(timed, content), period_ns=10)[0].ts_ns.tolist() == [half - 20, half - 10, half]
    assert read(by_hand(timed, content), time="at.ts_ns")[0].ts_ns.tolist() == [7] * 3
    assert read(by_hand(timed, content), time="")[0].ts_ns.tolist() == [CAME] * 3
    assert read(by_hand(header | {"time": None}, content))[0].ts_ns.tolist() == [CAME] * 3
    for said in (True, [1], "soon", 1e30, 10**4000):
        assert len(refused("time", by_hand(header | {"time": said}, content))) < 200
    assert read(by_hand(header | {"time": "2023-11-14T22:13:20Z"}, content))[0].ts_ns[0] == 17 * 10**17
