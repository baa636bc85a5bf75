"""bsread: pulses that psi-bsread sent, recorded, and with --long sent anew; and pulses made by hand."""

import json
import struct
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from wires import CAME, CHANNELS, GOLDEN, expected, golden, harvested, recorded_anew

from streamrnn.adapters import bsread, packed
from streamrnn.adapters.adapter import NO_SEQ, Harvest, Plan, Rejected
from streamrnn.adapters.bsread import BsreadAdapter

SENDER = "psi-bsread==2.0.1"
INSTALL_S = 300.0
START = 1_700_000_000_500_000_000  # time of pulse 1000 of a recording, which are a second apart
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
NAMES = [f"{order}{kind}" for order in "lb" for kind in TYPES]  # channels of recorded arrays
STAMP = struct.pack("<qq", 1, 2)


def adapter(channels: tuple[str, ...] = CHANNELS, **settings: object) -> BsreadAdapter:
    return BsreadAdapter(Plan(channels, **({"stream": "beam"} | settings)))


def pulse(
    channels: object = tuple({"name": name} for name in CHANNELS),
    values: tuple[bytes, ...] = tuple(np.array(k, "<f8").tobytes() for k in (1, 2, 3)),
    **main: object,
) -> list[bytes]:
    """A message by hand; the time of a channel that has a value is STAMP."""
    said = {"htype": "bsr_m-1.1", "pulse_id": 5, "global_timestamp": {"sec": 17, "ns": 3}, "hash": "x"} | main
    data = channels if isinstance(channels, bytes) else json.dumps({"channels": channels}).encode()
    timed = [part for value in values for part in (value, STAMP if value else b"")]
    return [json.dumps({key: v for key, v in said.items() if v is not ...}).encode(), data, *timed]


def one(channel: object, value: bytes) -> list[bytes]:
    """A message of the channel ``a`` alone."""
    return pulse([{"name": "a"} | channel], (value,))


def values(parts: list[bytes], channels: tuple[str, ...] = CHANNELS, **settings: object) -> list[float]:
    harvest = harvested(adapter(channels, **settings), [parts])
    assert not harvest.refused
    (block,) = harvest.blocks
    return block.values[0].tolist()


def refused(reason: str, parts: list[bytes], channels: tuple[str, ...] = CHANNELS, **settings: object) -> str:
    with pytest.raises(Rejected) as caught:
        harvested(adapter(channels, **settings), [parts])
    assert caught.value.reason == reason
    assert len(caught.value.what) < 200
    return caught.value.what


def missing(reason: str, parts: list[bytes]) -> str:
    """What is counted of a message whose channel ``a`` has a value that cannot be read."""
    harvest = harvested(adapter(("a",)), [parts])
    assert np.isnan(harvest.blocks[0].values).all()
    (found,) = harvest.refused
    assert (found.reason, found.topic) == (reason, b"beam")
    assert len(found.what) < 200
    return found.what


def check(folder: Path) -> None:
    """That what a folder's recordings have is what was sent."""

    def rows(name: str, channels: tuple[str, ...]) -> np.ndarray:
        harvest = harvested(adapter(channels), golden(f"bsread-{name}", folder))
        assert not harvest.refused
        assert [block.seq for block in harvest.blocks] == [1000 + k for k in range(len(harvest.blocks))]
        assert [block.ts_ns.tolist() for block in harvest.blocks] == [
            [START + k * 10**9] for k in range(len(harvest.blocks))
        ]
        assert not any(block.begins for block in harvest.blocks)
        assert {block.stream for block in harvest.blocks} == {"beam"}
        return np.concatenate([block.values for block in harvest.blocks])

    for name in ("push", "pub", "lz4-header", "bitshuffle_lz4-header"):
        assert np.array_equal(rows(name, CHANNELS), expected(12))
        assert np.array_equal(rows(name, ("c", "a")), expected(12)[:, [2, 0]])
    # a number takes its type from its value, and what is None has none
    assert np.array_equal(
        rows("python", CHANNELS),
        [[1, 1.5, 1], [1.5, np.nan, 0], [np.nan, np.nan, np.nan], [-128, -1, 2**64 - 1]],
        equal_nan=True,
    )
    for name, size in (("arrays", 5), ("lz4-13", 13), ("bitshuffle_lz4-13", 13)):
        for element in (0, 1, size - 1):
            found = rows(name, tuple(f"{channel}[{element}]" for channel in NAMES))
            assert np.array_equal(found, np.repeat([[element], [1 + element], [2 + element]], 20, axis=1))
        beyond = rows(name, (f"li1[{size - 1}]", f"li1[{size}]"))
        assert np.isnan(beyond[:, 1]).all()
        assert not np.isnan(beyond[:, 0]).any()
    for name in ("lz4-1", "bitshuffle_lz4-1"):
        assert np.array_equal(rows(name, tuple(NAMES)), np.repeat([[0], [1], [2]], 20, axis=1))
        assert np.array_equal(rows(name, ("lf8[0]",)), [[0], [1], [2]])  # one element is one of several, too
    for name in ("lz4-long", "bitshuffle_lz4-long"):
        found = rows(name, tuple(f"w[{k}]" for k in range(3003)))
        wanted = np.arange(3003) % 100 * 1.5
        assert np.array_equal(found, [wanted, wanted, wanted.astype(int)])
    image = rows("image", tuple(f"i[{k}]" for k in range(12)))
    assert np.array_equal(image[0], np.arange(12))  # row by row, as NumPy has it
    assert image[1, 0] == 7  # a plain number
    assert np.isnan(image[2]).all()  # an array of nothing


def test_recorded_pulses():
    pytest.importorskip("lz4")
    check(GOLDEN)


@pytest.mark.skipif("not config.getoption('--long')", reason="installs psi-bsread: run with --long")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="psi-bsread needs what has no wheel for this Python")
def test_pulses_that_are_sent_here(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    words = [python, "-m", "pip", "install", "--quiet", SENDER]
    done = subprocess.run(words, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        pytest.skip(f"{SENDER} cannot be installed: {done.stderr[-200:]}")
    recorded_anew(python, "bsread", tmp_path / "sent")
    check(tmp_path / "sent")


def test_text_that_is_wanted_is_refused_and_other_text_is_not():
    (first, *_) = golden("bsread-python")
    assert "'text' is text" in refused("value", first, ("a", "text"))
    assert "is text" in refused("value", first, ("text[0]",))
    assert values(first, ("a", "nowhere"))[0] == 1


# headers


def test_without_its_key_a_pulse_has_no_number_and_the_time_when_it_came():
    for main, seq, ts in (
        ({"pulse_id": ...}, NO_SEQ, 17 * 10**9 + 3),
        ({"global_timestamp": ...}, 5, CAME),
        ({"global_timestamp": None}, 5, CAME),
    ):
        (block,) = harvested(adapter(), [pulse(**main)]).blocks
        assert (block.seq, block.ts_ns.tolist()) == (seq, [ts])
    assert harvested(adapter(time=""), [pulse()]).blocks[0].ts_ns.tolist() == [CAME]


@pytest.mark.parametrize("stamp", [5, "now", {"sec": 1}, {"sec": 1.0, "ns": 0}, {"sec": -1, "ns": 0}])
def test_times_that_are_none(stamp):
    refused("time", pulse(global_timestamp=stamp))
    refused("time", pulse(global_timestamp={"sec": 1, "ns": 10**9}))
    refused("time", pulse(global_timestamp={"sec": 1 << 32, "ns": 0}))


@pytest.mark.parametrize("number", [-1, 1.0, True, "5", None, 2**63, [1]])
def test_numbers_that_are_none(number):
    refused("syntax", pulse(pulse_id=number))


def test_a_sender_that_is_started_anew_begins_a_sequence():
    def at(number: int, second: int) -> list[bytes]:
        return pulse(pulse_id=number, global_timestamp={"sec": second, "ns": 0})

    # a restart, a pulse that was late, numbers that go on, a restart before 0 was seen
    messages = [at(7, 10), at(9, 12), at(8, 11), at(10, 13), at(0, 20), at(1, 21), at(5, 22), at(2, 30)]
    blocks = harvested(adapter(), messages).blocks
    assert [block.seq for block in blocks if block.begins] == [0, 2]


def test_the_stream_is_the_configurations():
    assert "neither" in refused("stream", pulse(), stream="")
    assert harvested(adapter(stream="hash"), [pulse(hash="h7")]).blocks[0].stream == "h7"


@pytest.mark.parametrize("htype", [..., None, 5, "bsr_d-1.1", "array-1.0", ["bsr_m-1.1"]])
def test_a_main_header_says_that_it_is_one(htype):
    refused("syntax", pulse(htype=htype))


@pytest.mark.parametrize("head", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * 70_000 + b"{}"])
def test_main_headers_that_are_none(head):
    refused("syntax", [head, *pulse()[1:]])


def test_numbers_of_parts():
    parts = pulse()
    for count in (0, 1, 3, 7):
        assert f"{count} parts" in refused("parts", parts[:count])
    assert "data header says 8" in refused("parts", parts[:6])
    refused("parts", [*parts, b"", b""])
    refused("parts", [*parts, *[b""] * 10_000])


@pytest.mark.parametrize(
    "channels",
    [
        b"",
        b"null",
        b"{}",
        b'{"channels": {}}',
        b'{"channels": [1]}',
        b'{"channels": [{"name": 1}]}',
        b'{"channels": [{"name": null}]}',
        b'{"channels": [{}]}',
        b'{"channels": [{"name": "\xff"}]}',
        b'{"channels": ' + b"[" * 100_000,
        b'{"channels": ' + b" " * (1 << 20) + b"[]}",
    ],
    ids=lambda content: content[:30],
)
def test_data_headers_that_are_none(channels):
    refused("syntax", pulse(channels))


def test_channels_none_of_which_is_the_models():
    assert "none of its 2 channels is the model's: x, y" in refused(
        "channels", pulse([{"name": "x"}, {"name": "y"}], (b"", b""))
    )
    assert "none of its 0" in refused("channels", pulse([], ()))
    assert "two channels 'a'" in refused("channels", pulse([{"name": "a"}, {"name": "a"}], (b"", b"")))
    assert values(pulse([{"name": "x"}] * 2 + [{"name": "b"}], (b"", b"", np.array(4.0).tobytes())))[1] == 4


def test_a_data_header_is_read_when_it_is_new(monkeypatch):
    reads = []
    real = BsreadAdapter._read_layout
    monkeypatch.setattr(BsreadAdapter, "_read_layout", lambda *said: reads.append(1) or real(*said))
    reader, harvest = adapter(), Harvest()
    for k in range(40):
        channels = [{"name": name, "k": k // 10} for name in CHANNELS]
        harvest = harvested(reader, [pulse(channels, hash=str(k))])  # it is the bytes that count
    assert harvest.blocks[0].values.tolist() == [[1, 2, 3]]
    assert len(reads) == 4
    for k in range(100):
        harvested(reader, [pulse([{"name": name, "more": k} for name in CHANNELS])])
    assert len(reader._known) == bsread._KNOWN


def test_another_header_under_the_same_hash_is_read():
    reader = adapter(("a",))
    four = np.array(1, "<f4").tobytes()
    messages = [one({"type": kind}, four) for kind in ("float32", "uint32")]
    harvest = harvested(reader, messages)
    assert [block.values.tolist() for block in harvest.blocks] == [[[1.0]], [[0x3F800000]]]


def test_channels_by_the_names_of_the_configuration():
    parts = pulse(
        [{"name": "SINEG01:TEMP"}, {"name": "w", "shape": [2]}], (bytes(8), np.arange(2.0).tobytes())
    )
    fields = {"a": "SINEG01:TEMP", "b": "w[1]"}
    assert values(parts, ("a", "b"), fields=fields) == [0, 1]


# values


def test_defaults_are_one_float64_low_byte_first_and_not_packed():
    nothing = {"type": None, "shape": None, "encoding": None, "compression": None}
    for channel in ({}, nothing, {"shape": [1]}, {"shape": []}, {"type": "Float64", "encoding": "little"}):
        assert values(one(channel, np.array(2.5, "<f8").tobytes()), ("a",)) == [2.5]


def test_a_value_of_another_length_is_missing_and_counted():
    assert "'a': it has 4 bytes, not 8" in missing("truncated", one({}, bytes(4)))
    missing("oversized", one({}, bytes(16)))
    missing("truncated", [*one({}, b"")[:3], STAMP])  # a time, and no value
    harvest = harvested(adapter(), [pulse(values=(bytes(4), bytes(8), bytes(9)))])
    assert np.isnan(harvest.blocks[0].values).tolist() == [[True, False, True]]
    assert len(harvest.refused) == 1  # a message is counted once


def test_no_value_is_missing_and_not_counted():
    assert np.isnan(values(pulse(values=(b"", bytes(8), b"")))).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("reason", "channel"),
    [
        ("dtype", {"type": "complex64"}),
        ("dtype", {"type": 8}),
        ("dtype", {"type": ["f4"]}),
        ("dtype", {"encoding": "middle"}),
        ("dtype", {"encoding": ["big"]}),
        ("dtype", {"compression": "zstd"}),
        ("dtype", {"compression": 4}),
        ("value", {"type": "string"}),
        ("shape", {"shape": [2]}),
        ("shape", {"shape": [1, 3]}),
        ("shape", {"shape": 1}),
        ("shape", {"shape": [-1]}),
        ("shape", {"shape": [1.0]}),
        ("shape", {"shape": [True]}),
        ("shape", {"shape": [10**9]}),
        ("shape", {"shape": [2**62, 4]}),
        ("shape", {"shape": [10**30]}),
        ("shape", {"shape": [1] * 9}),
        ("shape", {"shape": {"0": 1}}),
    ],
)
def test_channels_that_cannot_be_read(reason, channel):
    refused(reason, one(channel, bytes(8)), ("a",))
    values(pulse([{"name": "b"}, {"name": "x"} | channel], (bytes(8), bytes(8))), ("b",))  # not asked for


# packed values


def shuffled(content: bytes, size: int | None = None, block: int = 8192) -> bytes:
    return struct.pack(">qi", len(content) if size is None else size, block) + content


def test_lengths_of_lz4_in_both_orders():
    lz4 = pytest.importorskip("lz4.block")
    content = np.arange(300.0).tobytes()
    for order in ("little", "big"):
        whole = len(content).to_bytes(4, order) + lz4.compress(content, store_size=False)
        assert packed.unpacked(whole, "lz4", len(content), 8) == content


def test_what_is_packed_badly_is_missing():
    lz4 = pytest.importorskip("lz4.block")
    good = lz4.compress(bytes(8), store_size=False)
    for reason, content in (
        ("truncated", b"\1"),
        ("truncated", (9).to_bytes(4, "little") + good),
        ("truncated", b"\xff\xff\xff\xff" + good),  # 4 GiB, by its own word
        ("syntax", (8).to_bytes(4, "little")),
        ("syntax", (8).to_bytes(4, "little") + good[:-1]),
        ("syntax", (8).to_bytes(4, "little") + b"\xff" * 40),
        ("syntax", (8).to_bytes(4, "little") + lz4.compress(bytes(80_000), store_size=False)),
    ):
        missing(reason, one({"compression": "lz4"}, content))
    for reason, content in (
        ("truncated", b"\1"),
        ("truncated", shuffled(bytes(8), 2**62)),
        ("truncated", shuffled(bytes(8), -8)),
        ("truncated", shuffled(bytes(7), 8)),
        ("oversized", shuffled(bytes(9), 8)),
        ("syntax", shuffled(bytes(8), block=0)),
        ("syntax", shuffled(bytes(8), block=-8192)),
        ("syntax", shuffled(bytes(8), block=8191)),
    ):
        missing(reason, one({"compression": "bitshuffle_lz4"}, content))
    assert values(one({"compression": "bitshuffle_lz4"}, shuffled(bytes(8))), ("a",)) == [0]


def test_a_bomb_is_not_unpacked():
    lz4 = pytest.importorskip("lz4.block")
    bomb = lz4.compress(bytes(64 << 20), store_size=False)
    said = {"type": "uint8", "compression": "lz4", "shape": [64 << 20]}
    refused("shape", one(said, (64 << 20).to_bytes(4, "little") + bomb), ("a[0]",))
    header = (0xFFFFFF).to_bytes(4, "little") + lz4.compress(b" " * (1 << 24), store_size=False)
    refused("oversized", pulse(header, dh_compression="lz4"))
    refused("oversized", pulse(struct.pack(">qi", 1 << 40, 8192), dh_compression="bitshuffle_lz4"))
    small = {"type": "uint8", "compression": "bitshuffle_lz4", "shape": [4 << 20]}
    tiny = struct.pack(">qi", 4 << 20, 8) + bytes(8 << 20)  # half a million blocks
    harvest = harvested(adapter(("a[0]",)), [one(small, tiny)])
    assert harvest.refused[0].reason == "syntax"


@pytest.mark.parametrize("how", ["zstd", 5, ["lz4"]])
def test_data_headers_packed_otherwise(how):
    refused("dtype", pulse(dh_compression=how))


@pytest.mark.parametrize("name", ["lz4-1", "bitshuffle_lz4-13", "lz4-header"])
def test_without_lz4_it_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "lz4", None)
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    first, channel = golden(f"bsread-{name}")[0], "a" if name == "lz4-header" else "li2[0]"
    assert 'pip install "streamrnn[bsread]"' in refused("dtype", first, (channel,))
    assert values(golden("bsread-push")[0]) == [0, 0.25, 0.5]


@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8"])
def test_bits_are_put_back_as_bitshuffle_does(kind):
    bitshuffle = pytest.importorskip("bitshuffle")
    rng = np.random.default_rng(8)
    for size in (1, 7, 8, 9, 127, 128, 129, 5000):
        content = rng.integers(0, 256, size * np.dtype(kind).itemsize, np.uint8).view(kind)
        for block in (128, 1024):
            whole = struct.pack(">qi", content.nbytes, block * content.itemsize)
            whole += bitshuffle.compress_lz4(content, block).tobytes()
            found = packed.unpacked(whole, "bitshuffle_lz4", content.nbytes, content.itemsize)
            assert found == content.tobytes()
