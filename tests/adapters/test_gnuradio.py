"""GNU Radio's sinks: recorded flow graphs, and with --long graphs that run here."""

import struct
from pathlib import Path

import numpy as np
import pytest
from wires import CAME, CHANNELS, GOLDEN, expected, golden, harvested, recorded_anew

from streamrnn.adapters.adapter import NO_SEQ, Harvest, Message, Plan, Rejected, RowBlock
from streamrnn.adapters.gnuradio import GnuRadioAdapter
from streamrnn.errors import ConfigError

HEAD = struct.Struct("<HBQQ")
ROWS = expected(4).astype("<f4")


def read(*parts: bytes, channels: tuple[str, ...] = CHANNELS, **settings: object) -> list[RowBlock]:
    harvest = harvested(GnuRadioAdapter(Plan(channels, **({"stream": "r"} | settings))), [list(parts)])
    assert not harvest.refused
    return harvest.blocks


def refused(reason: str, *parts: bytes, **settings: object) -> str:
    with pytest.raises(Rejected) as caught:
        read(*parts, **settings)
    assert caught.value.reason == reason
    assert len(caught.value.what) < 200
    return caught.value.what


def tagged(*tags: bytes, offset: int = 0, count: int | None = None, values: bytes = ROWS.tobytes()) -> bytes:
    """Vectors behind tags, each of which is the PMTs of key, value and source."""
    head = HEAD.pack(0x5FF0, 1, offset, len(tags) if count is None else count)
    return head + b"".join(struct.pack("<Q", offset) + tag for tag in tags) + values


def check(folder: Path) -> None:
    """That the six recordings of a folder give the rows that were sent."""

    def blocks(name: str) -> list[RowBlock]:
        return harvested(
            GnuRadioAdapter(Plan(CHANNELS, stream="radio")), golden(f"gnuradio-{name}", folder)
        ).blocks

    for name, stream in (("pub", "radio"), ("push", "radio"), ("key", "motor 1")):
        found = blocks(name)
        assert {(block.stream, block.seq, block.begins) for block in found} == {(stream, NO_SEQ, False)}
        assert np.array_equal(np.concatenate([block.values for block in found]), expected(40))
    assert len(blocks("push")) > 1
    found = blocks("tags")
    assert [block.seq for block in found] == 2 * [0, 9, 18, 27, 36]
    assert [block.begins for block in found] == 2 * [True, False, False, False, False]
    assert np.array_equal(np.concatenate([block.values for block in found]), np.tile(expected(40), (2, 1)))
    (block,) = blocks("key-tags")
    assert (block.stream, block.seq, block.begins) == ("motor 1", 0, True)
    assert np.array_equal(block.values, expected(40))
    one, four = blocks("message")
    assert np.array_equal(one.values, expected(1))
    assert np.array_equal(four.values, expected(4))


def test_recorded_flow_graphs():
    check(GOLDEN)


@pytest.mark.skipif("not config.getoption('--long')", reason="runs flow graphs: run with --long")
def test_flow_graphs_that_run_here(tmp_path):
    recorded_anew("/usr/bin/python3", "gnuradio", tmp_path)
    check(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8", "bool", "float16"])
def test_dtypes_of_the_configuration(dtype):
    rows = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    (block,) = read(rows.tobytes(), dtype=dtype)
    assert np.array_equal(block.values, rows)
    assert block.values.dtype == np.float64


@pytest.mark.parametrize("dtype", ["complex64", "<f4", "", "O"])
def test_other_dtypes_are_an_error_of_the_configuration(dtype):
    with pytest.raises(ConfigError, match=r"input\.dtype"):
        GnuRadioAdapter(Plan(CHANNELS, dtype=dtype))


def test_as_many_vectors_as_there_are():
    for count in (1, 2, 5000):
        (block,) = read(expected(count).astype("<f4").tobytes())
        assert np.array_equal(block.values, expected(count))
    for size in (0, 4, 11):
        refused("truncated", bytes(size))
    assert "28 bytes are no whole number of vectors of 3 float32" in refused("oversized", bytes(28))


def test_rows_are_timed_backwards_from_the_message():
    (block,) = read(ROWS.tobytes(), period_ns=10)
    assert block.ts_ns.tolist() == [CAME - 30, CAME - 20, CAME - 10, CAME]
    assert set(read(ROWS.tobytes())[0].ts_ns.tolist()) == {CAME}


def test_the_key_is_the_topic():
    assert read(b"motor 1", ROWS.tobytes())[0].stream == "motor 1"
    assert read(b"hall/motor 1", ROWS.tobytes(), stream="{2}")[0].stream == "motor 1"
    assert read(ROWS.tobytes(), stream="pump")[0].stream == "pump"
    refused("stream", ROWS.tobytes(), stream="")
    refused("topic", b"\xff", ROWS.tobytes(), stream="")
    harvest = Harvest()
    GnuRadioAdapter(Plan(CHANNELS)).read(Message(b"m", [ROWS.tobytes()], CAME), harvest)
    assert harvest.blocks[0].stream == "m"


@pytest.mark.parametrize("count", [0, 3, 5000])
def test_other_numbers_of_parts(count):
    assert f"{count} parts" in refused("parts", *[ROWS.tobytes()] * count)


def test_values_that_look_like_a_header_are_values():
    rows = ROWS.copy()
    rows.reshape(-1).view("<u4")[0] = 0x41015FF0
    assert rows.tobytes()[:3] == b"\xf0\x5f\x01"
    assert np.array_equal(read(rows.tobytes())[0].values, rows)
    rows.reshape(-1)[1:] = 0  # a header of no tags, but what is behind it are no whole vectors
    assert np.array_equal(read(rows.tobytes())[0].values, rows)
    assert read(rows.tobytes())[0].seq == NO_SEQ
    assert np.array_equal(read(rows[:1].tobytes())[0].values, rows[:1])  # shorter than a header


def test_tags_number_the_rows():
    tag = bytes.fromhex("0200016b 03fffffffb 06".replace(" ", ""))
    adapter = GnuRadioAdapter(Plan(CHANNELS, stream="r"))
    messages = [[tagged(tag, offset=offset)] for offset in (5, 9, 20, 24, 0, 4, 3)]
    blocks = harvested(adapter, messages).blocks
    assert [block.seq for block in blocks] == [5, 9, 20, 24, 0, 4, 3]
    assert [block.begins for block in blocks] == [False, False, False, False, True, False, True]
    assert all(np.array_equal(block.values, ROWS) for block in blocks)
    assert read(tagged(offset=7))[0].seq == 7  # pass_tags, and none of them


def test_behind_tags_are_whole_vectors():
    tag = bytes.fromhex("0200016b 03fffffffb 06".replace(" ", ""))
    refused("oversized", tagged(tag, values=bytes(50)))
    refused("truncated", tagged(tag, values=b""))
    refused("oversized", tagged(values=bytes(19)))


NESTED = 50_000


@pytest.mark.parametrize(
    "tag",
    [
        b"",
        b"\x06\x06",  # no source
        b"\x0e\x06\x06",  # of no kind
        b"\xff\x06\x06",
        b"\x02\xff\xffk\x06\x06",  # longer than the message
        b"\x08\xff\xff\xff\xff\x06\x06",
        b"\x0c\x7f\xff\xff\xff\x06\x06",
        b"\x0a\x08\xff\xff\xff\xff\x00\x06\x06",
        b"\x0a\x0c\x00\x00\x00\x01\x00\x06\x06",
        b"\x0a\x08\x00\x00\x00\x01\xff\x06\x06",
        b"\x07" * NESTED + b"\x06",
        b"\x0c\x00\x00\x00\x02" * NESTED + b"\x06",
        b"\x09" * 300_000 + b"\x06" * 300_003,  # sound, and too long
    ],
    ids=lambda tag: tag[:8].hex(),
)
def test_tags_that_are_none(tag):
    refused("syntax", tagged(tag, values=b"\x0e\x0e\x0e"))


def test_deep_tags_are_skipped_and_not_descended_into():
    tag = b"\x07" * NESTED + b"\x06" * (NESTED + 1) + b"\x06\x06"
    assert np.array_equal(read(tagged(tag))[0].values, ROWS)
    wide = b"\x0c" + struct.pack(">I", NESTED) + b"\x00" * NESTED + b"\x06\x06"
    assert np.array_equal(read(tagged(wide, wide))[0].values, ROWS)


@pytest.mark.parametrize("count", [5, 2**32, 2**63, 2**64 - 1])
def test_more_tags_than_there_are_bytes(count):
    refused("syntax", tagged(count=count, values=bytes(50)))


def test_a_number_beyond_any():
    refused("syntax", tagged(offset=2**62, values=bytes(24)))
    refused("syntax", tagged(offset=2**64 - 1, values=bytes(24)))


def test_a_message_of_another_block_of_values():
    head = bytes.fromhex("07060a08") + struct.pack(">IB", 3, 1) + b"\0"
    values = np.array([1.5, np.nan, 3], ">f4").tobytes()
    assert np.array_equal(read(head + values, dtype="int16")[0].values, [[1.5, np.nan, 3]], equal_nan=True)
    refused("oversized", head + values + b"\0")  # no message of that kind then, and no vectors
    assert read(head + values + b"\0\0")[0].values.shape == (2, 3)  # 24 bytes, which may be values
    four = bytes.fromhex("07060a08") + struct.pack(">IB", 4, 0) + bytes(16)
    assert "16 bytes" in refused("oversized", four)


def test_what_is_remembered_of_streams_is_bounded():
    adapter = GnuRadioAdapter(Plan(("a",), dtype="uint16"))
    harvest = Harvest()
    for k in range(70_000):
        adapter.read(Message(None, [b"%d" % k, tagged(values=b"\1\0")], CAME), harvest)
        harvest.blocks.clear()
    assert len(adapter._next) <= 1 << 16
