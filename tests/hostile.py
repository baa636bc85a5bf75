"""Messages that nobody should send, seeded, and a plain model of what becomes of each."""

import random
import struct
from collections import Counter
from collections.abc import Callable

import numpy as np

from streamrnn.wire.frame import DTYPES, END, FRAME, RESET, SEQ, TOPIC_BYTES, TS, VERSION

CHANNELS = 3
LARGEST = float(np.finfo(np.float32).max)


def read_frame(payload: bytes, channels: int) -> str | tuple[np.void, np.ndarray]:
    """Why a payload is refused; or its header, a FRAME record, and its values, (rows, channels) float32."""
    if payload[:2] != b"SR"[: len(payload)]:
        return "magic"
    if len(payload) < FRAME.itemsize:
        return "truncated"
    header = np.frombuffer(payload, FRAME, 1)[0]
    dtype = DTYPES.get(int(header["dtype"]))
    rows = int(header["rows"])
    if header["version"] != VERSION:
        return "version"
    if dtype is None:
        return "dtype"
    if header["flags"] > END | RESET | SEQ | TS:
        return "flags"
    if rows == 0:
        return "rows"
    size, column = len(payload) - FRAME.itemsize, rows * dtype.itemsize
    if size != column * channels:
        if size and size % column == 0:
            return "channels"
        return "truncated" if size < column * channels else "oversized"
    values = np.frombuffer(payload, dtype, offset=FRAME.itemsize).reshape(rows, channels)
    with np.errstate(over="ignore", invalid="ignore"):
        return header, values.astype(np.float32)


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def judge(parts: list[bytes]) -> str | list[str]:
    """Why a message is refused whole; or what is wrong with each of its rows: "infinite", "missing" or ""."""
    if len(parts) != 2:
        return "parts"
    if not 1 <= len(parts[0]) <= TOPIC_BYTES:
        return "topic"
    read = read_frame(parts[1], CHANNELS)
    if isinstance(read, str):
        return read
    rows = [(np.isinf(row).any(), np.isnan(row).any()) for row in read[1]]
    return ["infinite" if infinite else "missing" if missing else "" for infinite, missing in rows]


class Fates:
    """Counts what becomes of messages, in their order: a reason for each message or row that is refused, and
    "taken" for a row that is answered, is late, or diverges."""

    def __init__(self, capacity: int):
        self.counts: Counter[str] = Counter()
        self._capacity, self._streams = capacity, set[bytes]()

    def take(self, name: bytes, judged: str | list[str]) -> None:
        if isinstance(judged, str):
            self.counts[judged] += 1
        elif not is_utf8(name):
            self.counts["topic"] += len(judged)
        else:
            for wrong in judged:
                self.counts[self._fate(name, wrong)] += 1

    def _fate(self, name: bytes, wrong: str) -> str:
        known = name in self._streams
        if wrong == "infinite" or (wrong and not known):
            return wrong
        if not known:
            if len(self._streams) == self._capacity:
                return "capacity"
            self._streams.add(name)
        return "taken"


def frame(
    values: np.ndarray,
    *,
    magic: bytes = b"SR",
    version: int = 1,
    dtype: int = 0,
    flags: int = 0,
    rows: int = 0,
    clocks: tuple[int, int, int] = (0, 0, 0),
) -> bytes:
    """A frame whose header says anything; 0 stands for the truth about ``values``."""
    block = np.atleast_2d(values)
    code = dtype or next(code for code, kind in DTYPES.items() if kind == block.dtype)
    return (
        struct.pack("<2sBBHHQqq", magic, version, code, flags, rows or len(block), *clocks) + block.tobytes()
    )


def _calm(r: random.Random, rows: int = 1, channels: int = CHANNELS) -> np.ndarray:
    kind = r.choice(list(DTYPES.values()))
    return np.array([[r.uniform(-90, 90) for _ in range(channels)] for _ in range(rows)]).astype(kind)


def _with(r: random.Random, value: float, kind: str = "<f4", rows: int = 1) -> bytes:
    """A frame with ``value`` somewhere in it."""
    block = _calm(r, rows).astype(kind)
    block[r.randrange(rows), r.randrange(CHANNELS)] = value
    return frame(block, flags=r.choice([0, 0, END, RESET]))


def _good(r: random.Random) -> bytes:
    return frame(_calm(r))


def _mutated(r: random.Random) -> bytes:
    payload = bytearray(frame(_calm(r, r.choice([1, 1, 2])), flags=r.randrange(16)))
    for _ in range(r.randint(1, 3)):
        payload[r.choice([r.randrange(8), r.randrange(len(payload))])] = r.randrange(256)
    return bytes(payload)


_SEQS = [0, 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
_TIMES = [0, 1, -1, 2**63 - 1, -(2**63)]

# payloads of streams of their own
PAYLOADS: dict[str, Callable[[random.Random], bytes]] = {
    "good": _good,
    "nothing": lambda r: b"",
    "noise": lambda r: r.randbytes(r.randrange(200)),
    "noise behind the magic": lambda r: b"SR\1" + r.randbytes(r.randrange(100)),
    "magic": lambda r: frame(_calm(r), magic=r.choice([b"SP", b"RS", b"sr", r.randbytes(2)])),
    "version": lambda r: frame(_calm(r), version=r.choice([0, 2, 255])),
    "dtype": lambda r: frame(_calm(r), dtype=r.randint(1, 255)),
    "flags": lambda r: frame(_calm(r), flags=1 << r.randrange(16)),
    "no rows": lambda r: _good(r)[:6] + bytes(2) + _good(r)[8:],
    "rows": lambda r: frame(_calm(r), rows=r.choice([2, 65535, r.randint(1, 65535)])),
    "cut": lambda r: _good(r)[: r.randrange(44)],
    "longer": lambda r: _good(r) + r.randbytes(r.randint(1, 40)),
    "channels": lambda r: frame(_calm(r, r.randint(1, 3), r.choice([1, 2, 4, 8]))),
    "NaN": lambda r: _with(r, np.nan, r.choice(["<f4", "<f8"]), r.randint(1, 3)),
    "infinite": lambda r: _with(r, r.choice([np.inf, -np.inf]), r.choice(["<f4", "<f8"]), r.randint(1, 3)),
    "past float32": lambda r: _with(r, r.choice([1e300, -1e39]), "<f8"),
    "large": lambda r: _with(r, r.choice([1e29, -1e29, 1e9])),
    "largest": lambda r: frame(np.array([r.choice([LARGEST, -LARGEST, 1.0]) for _ in range(3)], "<f4")),
    "denormal": lambda r: _with(r, r.choice([1e-45, -1e-40, 0.0, -0.0])),
    "numbered": lambda r: frame(
        _calm(r, r.randint(1, 3)),
        flags=r.choice([SEQ, SEQ, SEQ | END, SEQ | RESET]),
        clocks=(r.choice([*_SEQS, r.getrandbits(64), r.randrange(300)]), 0, 0),
    ),
    "sequences": lambda r: frame(_calm(r, r.randint(1, 4)), flags=r.choice([0, END, RESET, END | RESET])),
    "clocks": lambda r: frame(
        _calm(r, 2), flags=TS, clocks=(0, r.choice([*_TIMES, r.getrandbits(63)]), r.choice(_TIMES))
    ),
    "block": lambda r: frame(_calm(r, r.choice([3, 40, 129]))),
    "mutated": _mutated,
}
# messages that are wrong around the payload
MESSAGES: dict[str, Callable[[random.Random], list[bytes]]] = {
    "one part": lambda r: [r.choice([b"", b"x", _good(r)])],
    "three parts": lambda r: [b"x", _good(r), r.choice([b"", _good(r)])],
    "many parts": lambda r: [b"x"] + [_good(r)] * r.randint(3, 60),
    "no topic": lambda r: [b"", _good(r)],
    "long topic": lambda r: [b"x" * r.choice([128, 129, 300]), _good(r)],
    "topic of noise": lambda r: [r.randbytes(r.randint(1, 127)), _good(r)],
    "surrogate": lambda r: [b"x" * r.randrange(120) + b"\xed\xa0\x80", frame(_calm(r, r.randint(1, 3)))],
    "all wrong": lambda r: [b"\xff", _with(r, np.nan)],
}


def is_certain(parts: list[bytes]) -> bool:
    """Whether it does not depend on when a message comes what becomes of it: late, or refused as infinite."""
    read = read_frame(parts[-1], CHANNELS)
    return isinstance(read, str) or not (read[0]["flags"] & SEQ and np.isinf(read[1]).any())


def hostile_messages(seed: int, each: int) -> list[list[bytes]]:
    """About ``each`` messages of every kind."""
    r = random.Random(seed)
    found = []
    for name, payload in PAYLOADS.items():
        found += [[f"{name} {number % 4}".encode(), payload(r)] for number in range(each)]
    for message in MESSAGES.values():
        found += [message(r) for _ in range(each)]
    return [parts for parts in found if is_certain(parts)]
