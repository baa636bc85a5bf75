"""Blocks: what gateways fill and workers step, by themselves, without servers."""

import time
import zlib
from typing import Any

import numpy as np
import pytest
from daemons import Answer, rows_answers
from hypothesis import given
from hypothesis import strategies as st

from streamrnn.cluster.blocks import (
    ENTRY,
    FRAMES,
    HEAD,
    PREDICTIONS,
    RAW,
    BlockError,
    messages_in,
    open_block,
    seal,
)
from streamrnn.cluster.clock import SteadyClock
from streamrnn.cluster.filling import PARTS, TOO_LARGE, TOPIC, fill_blocks, make_filling
from streamrnn.cluster.shards import shards_of
from streamrnn.cluster.stepper import CheckpointError, Stepper
from streamrnn.engine.engine import Engine
from streamrnn.model.model_file import read_model
from streamrnn.settings.sections import Faults
from streamrnn.wire.frame import EVICTED, pack_frame, unpack_prediction
from streamrnn.wire.many import Inbox

BASE_NS = 10**18
MOST = 1 << 20


def body_of(messages: list[tuple[bytes, bytes]]) -> np.ndarray:
    parts = []
    for topic, payload in messages:
        entry = np.zeros((), ENTRY)
        entry["topic"], entry["size"] = len(topic), len(payload)
        parts.append(entry.tobytes() + topic + payload)
    return np.frombuffer(b"".join(parts), np.uint8)


def block_of(
    messages: list[tuple[bytes, bytes]], kind: int = FRAMES, at_ns: int = BASE_NS, **more: int
) -> Any:
    head = {"messages": len(messages), "rows": len(messages), "shard": 1, "shards": 4}
    data = seal(body_of(messages), kind=kind, base_ns=at_ns, sealed_ns=at_ns, **head | more)
    return open_block(data, 1, 4, (kind,))


def inbox_of(messages: list[list[bytes]]) -> Inbox:
    parts = [part for message in messages for part in message]
    content = np.frombuffer(b"".join(parts) + b"\0", np.uint8).copy()
    part_end = np.cumsum([len(part) for part in parts], dtype=np.int64)
    message_end = np.cumsum([len(message) for message in messages], dtype=np.int64)
    return Inbox(content, part_end, message_end, np.zeros(8, np.uint64), np.zeros(4, np.int64))


@pytest.fixture(scope="module")
def engine(model_file) -> Engine:
    return Engine(read_model(model_file), 1, Faults())


def stepper(engine: Engine, idle_s: float = 0) -> Stepper:
    return Stepper(engine, 1, 4, 64, idle_s, 0)


def said(
    ones: Stepper, block: Any, position: int = 0, logged_ns: int = BASE_NS, most: int = MOST
) -> list[bytes]:
    """What a block is answered."""
    ones.step(block, logged_ns)
    return ones.flush(position, most)


def answers_in(blocks: list[bytes]) -> list[Answer]:
    found = []
    for data in blocks:
        for topic, payload in messages_in(open_block(data, 1, 4, (PREDICTIONS,))):
            header, values, _ = unpack_prediction(payload)
            counts = [header[name] for name in ("seq", "ts_ns", "step", "gap", "epoch")]
            floats = [header["score"], header["residual"], values]
            found.append(Answer.of(topic.decode(), header["flags"], counts, floats))
    return found


@given(st.data())
def test_a_block_that_was_changed_is_none(data):
    sealed = bytearray(seal(body_of([(b"a", b"123"), (b"bc", b"")]), shard=1, shards=4, messages=2, rows=2))
    assert messages_in(open_block(bytes(sealed), 1, 4, (FRAMES,))) == [(b"a", b"123"), (b"bc", b"")]
    at = data.draw(st.integers(0, len(sealed) - 1))
    free = range(12, HEAD - 8)  # numbers and times, which may be any
    sealed[at] ^= data.draw(st.integers(1, 255))
    if at not in free:
        with pytest.raises(BlockError):
            open_block(bytes(sealed), 1, 4, (FRAMES,))
    for end in (at, len(sealed) - 1):
        with pytest.raises(BlockError):
            open_block(bytes(sealed[:end]), 1, 4, (FRAMES,))


@given(st.binary(max_size=60), st.integers(0, 5))
def test_bytes_that_are_no_messages_are_none(body, messages):
    head = seal(np.zeros(0, np.uint8), shards=1, messages=messages)[: HEAD - 8]
    head += len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little")
    at, count = 0, 0
    while len(body) - at >= ENTRY.itemsize:
        entry = np.frombuffer(body, ENTRY, 1, at)[0]
        if not 1 <= entry["topic"] <= 127:
            break
        at += ENTRY.itemsize + int(entry["topic"]) + int(entry["size"])
        count += 1
    if at == len(body) and count == messages:
        open_block(head + body, 0, 1, (FRAMES,))
    else:
        with pytest.raises(BlockError):
            open_block(head + body, 0, 1, (FRAMES,))


def test_a_stream_has_one_shard_for_ever():
    names = [f"machine-{number}".encode() for number in range(1000)]
    shards = shards_of(names, 16)
    assert shards[:6].tolist() == [int(slow_shard(name, 16)) for name in names[:6]]
    assert shards_of(names[500:], 16).tolist() == shards[500:].tolist()
    assert np.bincount(shards, minlength=16).min() > 30


def slow_shard(name: bytes, shards: int) -> int:
    """FNV-1a of 64 bits, and MurmurHash3's finalizer."""
    mixed, ones = 0xCBF29CE484222325, (1 << 64) - 1
    for byte in name:
        mixed = (mixed ^ byte) * 0x100000001B3 & ones
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ mixed >> 33) * factor & ones
    return (mixed ^ mixed >> 33) % shards


def test_blocks_fill_by_shard():
    frame = pack_frame(np.zeros((3, 2), np.float32), seq=0)
    messages = [
        [b"one", frame],
        [b"two", frame],
        [b"one", b"!"],
        [b"x" * 128, frame],
        [b"a", b"b", b"c"],
        [b""],
    ]
    messages += [[b"one", bytes(300)]]
    filling = make_filling(4, 250, 7, False, "")
    inbox = inbox_of(messages)
    assert fill_blocks(filling, inbox, len(messages), 0, 5) == len(messages)
    one, two = shards_of([b"one", b"two"], 4)
    assert (filling.messages[one], filling.rows[one]) == ((3, 7) if one == two else (2, 4))
    assert filling.base_ns[one] == 5
    assert filling.rejected.sum() == 4
    assert [filling.rejected[reason] for reason in (PARTS, TOPIC, TOO_LARGE)] == [2, 1, 1]
    begin = int(one) * filling.room
    sealed = seal(
        filling.content[begin : begin + int(filling.used[one])], messages=int(filling.messages[one]), shards=1
    )
    assert (b"one", frame) in messages_in(open_block(sealed, 0, 1, (FRAMES,)))
    # no room for more rows, or bytes: whoever fills stops there, and goes on when the block has gone
    assert fill_blocks(filling, inbox_of([[b"one", b"!"], [b"one", frame], [b"one", frame]]), 3, 0, 6) < 3


def test_messages_of_one_part_are_the_streams_that_the_configuration_names():
    filling = make_filling(1, 100, 9, True, "all")
    assert fill_blocks(filling, inbox_of([[b"12345678"]]), 1, 0, 0) == 1
    sealed = seal(filling.content[: int(filling.used[0])], messages=1, shards=1)
    assert messages_in(open_block(sealed, 0, 1, (FRAMES,))) == [(b"all", b"12345678")]


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10, (count, 3)).astype(np.float32)


def test_blocks_are_answered_as_by_the_engine(engine, model_file):
    values, ones = rows(300), stepper(engine)
    frames = [(b"s", pack_frame(row, seq=n, ts_ns=BASE_NS + n)) for n, row in enumerate(values)]
    frames[7] = (b"s", b"no frame")  # a gap
    found = []
    for first in range(0, 300, 100):
        found += said(ones, block_of(frames[first : first + 100]), first)
    numbers = np.delete(np.arange(300), 7)
    whole = Engine(read_model(model_file), 4, Faults())
    expected = rows_answers(whole, "s", values[numbers], numbers.astype(np.uint64), BASE_NS + numbers)
    assert answers_in(found) == expected


def test_a_frame_of_many_rows_and_answers_in_many_messages(engine, model_file):
    values = rows(1000)
    block = block_of([(b"s", pack_frame(values, seq=0))])
    found = said(stepper(engine), block, most=2000)
    assert len(found) > 10
    assert max(map(len, found)) <= 2000
    whole = Engine(read_model(model_file), 4, Faults())
    period_ns = 10_000_000
    numbers = np.arange(1000)
    assert [each.bits for each in answers_in(found)] == [
        each.bits for each in rows_answers(whole, "s", values, numbers.astype(np.uint64), period_ns * numbers)
    ]


@pytest.mark.parametrize("kind", [FRAMES, RAW])
def test_a_checkpoint_goes_on_bit_for_bit(engine, kind):
    values, one, other = rows(200), stepper(engine), stepper(engine)
    pack = (lambda n, row: pack_frame(row, seq=n)) if kind == FRAMES else (lambda n, row: row.tobytes())
    frames = [(b"s%d" % (n % 5), pack(n, row)) for n, row in enumerate(values)]
    for first in range(0, 100, 20):
        said(one, block_of(frames[first : first + 20], kind))
    other.take_up(one.checkpoint())
    assert other.streams == 5
    rest = block_of(frames[100:], kind)
    assert said(one, rest) == said(other, rest)
    kept = one.checkpoint()
    records = 5 * 4 * engine.core.slots.words
    for at in (*range(0, len(kept), 331), *range(len(kept) - records, len(kept), 97)):
        damaged = bytearray(kept)
        damaged[at] ^= 1  # what is before the records has its check in the log
        with pytest.raises(CheckpointError):
            stepper(engine).take_up(bytes(damaged if at >= len(kept) - records else damaged[:at]))


def test_the_clock_of_blocks_does_not_jump(monkeypatch):
    clock, real = SteadyClock(), time.time_ns
    before = clock.now_ns()
    assert abs(before - real()) < 10**9
    for jump in (3600, -3600):
        monkeypatch.setattr("streamrnn.cluster.clock.time.time_ns", lambda jump=jump: real() + jump * 10**9)
        after = clock.now_ns()
        assert 0 <= after - before < 10**9
        before = after


def test_silent_streams_are_let_go_by_the_time_of_blocks(engine):
    ones = stepper(engine, idle_s=10)
    said(ones, block_of([(b"a", pack_frame(rows(1)[0], seq=0))]))
    later = BASE_NS + 9 * 10**9
    said(ones, block_of([(b"b", pack_frame(rows(1)[0], seq=0))], at_ns=later), 1, later)
    ones.let_go()
    assert ones.flush(1, MOST) == []
    far = BASE_NS + 10**15  # a gateway whose clock is wrong: the log's says otherwise
    said(ones, block_of([(b"c", pack_frame(rows(1)[0], seq=0))], at_ns=far), 2, BASE_NS + 11 * 10**9)
    ones.let_go()
    (gone,) = ones.flush(2, MOST)
    ((topic, payload),) = messages_in(open_block(gone, 1, 4, (PREDICTIONS,)))
    assert (topic, ones.streams) == (b"a", 2)
    assert unpack_prediction(payload)[0]["flags"] == EVICTED
