"""Rubbish: whatever comes, an adapter says Rejected or reads rows, stays small, and goes on reading."""

import contextlib
import copy
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable

import msgpack
import numpy as np
import pytest
from wires import CAME, CHANNELS, block, golden, harvested

from streamrnn.adapters.adapter import NO_SEQ, Adapter, Harvest, Message, Plan, Rejected
from streamrnn.adapters.gather import Gatherer
from streamrnn.adapters.table import make_adapter
from streamrnn.adapters.tally import IntakeTally

MESSAGES, MANY_MESSAGES = 3000, 100_000  # of each adapter, without and with --long
REASONS = {
    *("parts", "topic", "stream", "syntax", "dtype", "shape", "channels", "truncated", "oversized"),
    *("time", "value"),
}
PEAK_BYTES = 64 << 20  # what an adapter may need at once, messages of some KiB given
HOSTILE = [
    *(None, True, 0, -1, 1, 2, 3, 1.5, 10**9, 2**31, 2**62, 2**63, 2**64, 10**30, 10**4000, 1e300),
    *(float("nan"), float("inf"), "", "x", "\x00", "é" * 200, "a", "float32", ">f8", "O", "string"),
    *("none", "lz4", "bitshuffle_lz4", "big", "1700000000", "2024-01-01T00:00:00Z", "[('a', '<f4')]"),
    *([], [3], [1, 3], [3, 1], [10**9, 3], [-1, 3], [0, 3], [[]], {}, {"name": "a"}, [{"name": "a"}] * 3),
]
EDGES = [b"\0", b"\xff", b"\x7f", b"\x80", b"{", b"[", b'"', b"\xf0\x5f\x01", b"\x07\x06\x0a\x08", b"\0" * 8]
EDGES += [b"\xff" * 8, b"\x07", b"\x0c\xff\xff\xff\xff", b"[" * 300, b'{"a":' * 300]


def arrays() -> list[list[bytes]]:
    good = []
    for dtype in ("<f4", ">f8", "<i2", "bool"):
        rows = np.arange(6).reshape(2, 3).astype(dtype)
        header = {"dtype": str(rows.dtype), "shape": rows.shape, "time": 1_700_000_000}
        good.append([b"m", json.dumps(header).encode(), rows.tobytes()])
    return [*good, good[0][1:]]


def pulses() -> list[list[bytes]]:
    pytest.importorskip("lz4")
    names = ("push", "python", "lz4-header", "bitshuffle_lz4-header", "lz4-13", "bitshuffle_lz4-long")
    return [golden(f"bsread-{name}")[0] for name in names]


# adapter -> channels and good messages, which tell the same after anything else
GOOD: dict[str, tuple[tuple[str, ...], Callable[[], list[list[bytes]]]]] = {
    "array": (CHANNELS, arrays),
    "gnuradio": (
        CHANNELS,
        lambda: [m for n in ("tags", "key", "message") for m in golden(f"gnuradio-{n}")[:5]],
    ),
    "bsread": ((*CHANNELS, "w[0]", "w[2999]", "lf8[12]", "bi2[3]"), pulses),
    "open-ephys": (CHANNELS, lambda: [*block(1, 0), *block(4, 4), *block(7, 8, 3)]),
}


def leaves(said: object, path: tuple = ()) -> list[tuple]:
    """The places in an object of JSON."""
    found = [path] if path else []
    items = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for key, value in items:
        found += leaves(value, (*path, key))
    return found


def other_json(rng: random.Random, part: bytes) -> bytes:
    """An object with a value of it, or a key, made another."""
    said = json.loads(part)
    for _ in range(rng.choice([1, 1, 2])):
        if places := leaves(said):
            *way, last = rng.choice(places)
            at = said
            for key in way:
                at = at[key]
            if rng.random() < 0.15 and isinstance(at, dict):
                del at[last]
            else:
                at[last] = copy.deepcopy(rng.choice(HOSTILE))
    return json.dumps(said).encode()


def other_bytes(rng: random.Random, part: bytes) -> bytes:
    made = bytearray(part)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(5):
            case 0:
                made[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del made[at:]
            case 2:
                made[at:at] = rng.choice(EDGES)
            case 3:
                edge = rng.choice(EDGES)
                made[at : at + len(edge)] = edge
            case _:
                made += rng.randbytes(rng.choice([1, 4, 8, 12, 100]))
    return bytes(made)


def rubbish(rng: random.Random, good: list[list[bytes]]) -> list[bytes]:
    """A message that is made of a good one, or of nothing."""
    parts = list(rng.choice(good))
    for _ in range(rng.choice([1, 1, 1, 2])):
        at = rng.randrange(len(parts)) if parts else 0
        match rng.randrange(10) if parts else 9:
            case 0 | 1 | 2 | 3:
                try:
                    parts[at] = other_json(rng, parts[at])
                except ValueError:
                    parts[at] = other_bytes(rng, parts[at])
            case 4 | 5 | 6:
                parts[at] = other_bytes(rng, parts[at])
            case 7:
                del parts[at]
            case 8:
                parts.insert(at, rng.choice(rng.choice(good)))
            case _:
                parts = [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(6))]
    return parts


def told(harvest: Harvest) -> list[tuple]:
    return [(found.stream, found.seq, found.values.tobytes()) for found in harvest.blocks]


def cleared(adapter: Adapter, good: list[list[bytes]]) -> None:
    """Has good messages end what rubbish began: the first of a block may be one that has come before."""
    for parts in good:
        with contextlib.suppress(Rejected):
            adapter.read(Message(None, parts, CAME), Harvest())


def look(harvest: Harvest, channels: int) -> None:
    """That blocks are what blocks are."""
    for found in harvest.blocks:
        rows = len(found.values)
        assert rows > 0
        assert found.values.shape == (rows, channels)
        assert found.values.dtype == np.float64
        assert found.ts_ns.shape == (rows,)
        assert found.ts_ns.dtype == np.int64
        assert 0 < len(found.stream.encode()) <= 127
        assert NO_SEQ <= found.seq < 2**63 - rows
    for reason, topic, what in harvest.refused:
        assert reason in REASONS
        assert isinstance(topic, bytes)
        assert len(what) < 300


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", GOOD)
def test_rubbish(name, request):
    channels, make = GOOD[name]
    good, rng = make(), random.Random(name)
    plan = Plan(channels, stream="s", period_ns=10**6)
    adapter: Adapter = make_adapter(name, plan)
    wanted = told(harvested(adapter, good))
    assert wanted
    reasons: Counter[str] = Counter()
    tracemalloc.start()
    for number in range(MANY_MESSAGES if request.config.getoption("--long") else MESSAGES):
        harvest, parts = Harvest(), rubbish(rng, good)
        try:
            adapter.read(Message(None, parts, CAME + number), harvest)
            reasons["read"] += 1
        except Rejected as error:
            assert error.reason in REASONS
            assert 0 < len(error.what) < 300
            assert str(error) == error.what
            reasons[error.reason] += 1
        look(harvest, len(channels))
        if number % 100 == 0:
            if name == "open-ephys":
                cleared(adapter, good)
            assert told(harvested(adapter, good)) == wanted
    assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    tracemalloc.stop()
    assert len(reasons) > 4, reasons
    assert told(harvested(make_adapter(name, plan), good)) == wanted


def objects(form: str) -> list[list[bytes]]:
    pack = msgpack.packb if form == "msgpack" else (lambda said: json.dumps(said).encode())
    said = [
        {"a": 1, "b": 2.5, "c": None, "time": 1_700_000_000},
        [1, 2, 3],
        [[1, 2, 3], {"a": 1}],
        {"b": {"x": 1}},
    ]
    return [[b"m", pack(one)] for one in said]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_rubbish_among_rows_that_are_gathered(form, request):
    """A batch at a time, as they come: a good row beside rubbish is always one."""
    good, rng = objects(form), random.Random(form)
    plan, tally = Plan(CHANNELS, stream="s"), IntakeTally(form)
    gatherer = Gatherer(make_adapter(form, plan), plan, None, tally)
    tracemalloc.start()
    rows = 0
    for _ in range((MANY_MESSAGES if request.config.getoption("--long") else MESSAGES) // 20):
        batch = [*(rubbish(rng, good) for _ in range(19)), [b"good", good[1][1]]]
        for found in gatherer.take(Message(None, parts, CAME) for parts in batch):
            assert found.values.dtype == np.float64
            rows += sum(found.names[place] == "good" for place in found.stream.tolist())
    assert tracemalloc.get_traced_memory()[1] < PEAK_BYTES
    tracemalloc.stop()
    assert rows == tally.messages // 20
    assert len(tally.refused) > 4
