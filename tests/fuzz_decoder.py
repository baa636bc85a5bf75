"""A coverage-guided fuzzer (libFuzzer, through Atheris) for the decoder.

    python tests/fuzz_decoder.py [--plant OLD NEW] [folder of inputs] [libFuzzer's options, as -runs=1000000]

Three decoders must agree on every input: the source of ``streamrnn.wire.codec`` run by Python, whose
branches guide the fuzzer and where a read outside the message raises; the same source compiled, on a message
behind which no byte can be read; and a plain one of numpy's dtypes. The first input on which they do not
ends the run with exit code 77 and is printed in hex. ``--plant`` changes a piece of the source that Python
runs, to see that the fuzzer finds out.
"""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import atheris
import numpy as np
from hostile import is_utf8, read_frame
from numba.core.dispatcher import Dispatcher
from walls import before_a_wall

from streamrnn.compiling.jit import compiled
from streamrnn.stats import REASONS
from streamrnn.wire import codec
from streamrnn.wire.frame import TOPIC_BYTES, TS
from streamrnn.wire.memory import address_of

LONGEST = 512  # bytes of an input
NO_OFFSETS = np.zeros(0)
READS = {"u8": "B", "u16": "<H", "u64": "<Q", "i16": "<h", "i32": "<i", "i64": "<q", "f32": "<f", "f64": "<d"}
BASE = 1 << 40  # the address that a message has for the decoder in Python

# of a message: why it is refused or ""; dtype, flags, rows, first seq, ts and dt; the bits of its values
Reading = tuple[str, list[int], list[int]]


class DisagreementError(Exception):
    """Decoders that read different things in one input."""


class OutsideError(Exception):
    """A read of bytes that are not the message's."""


def uncompiled(old: str, new: str) -> SimpleNamespace:
    """The codec as Python runs it, reading its ``memory``, with ``old`` in the source made ``new``."""
    file = Path(codec.__file__ or "")
    source = file.read_text()
    if old and source.count(old) != 1:
        raise SystemExit(f"{old!r} stands {source.count(old)} times in {file}, not once")
    space: dict[str, Any] = {"__name__": "uncompiled"}
    exec(compile(source.replace(old, new) if old else source, file, "exec"), space)
    decoder = SimpleNamespace(memory=b"")

    def reader(layout: str) -> Callable[[int], Any]:
        size = struct.calcsize(layout)

        def read(address: int) -> Any:
            at = address - BASE
            if not 0 <= at <= len(decoder.memory) - size:
                raise OutsideError(f"{size} bytes at {at} of {len(decoder.memory)}")
            (value,) = struct.unpack_from(layout, decoder.memory, at)
            return np.uint64(value) if layout == "<Q" else value

        return read

    for name, item in list(space.items()):
        if isinstance(item, Dispatcher) and item.py_func.__module__ == space["__name__"]:
            space[name] = item.py_func
            setattr(decoder, name, atheris.instrument_func(item.py_func))
    space |= {f"read_{name}": reader(layout) for name, layout in READS.items()}
    read_word = space["read_f32"]

    def copy_words(to: np.ndarray, source: int, count: int) -> None:
        to[:count] = [read_word(source + 4 * word) for word in range(count)]

    space |= {"copy_words": copy_words, "address_of": lambda array, index: array[index:]}
    return decoder


@compiled
def decode_compiled(message, channels, raw, values):
    """Decodes a message, and its rows to ``values``, which has room for them. Returns reason and header."""
    at = address_of(message, 0)
    if raw:
        reason, header = codec.decode_raw(at, message.size, channels)
    else:
        reason, header = codec.decode(at, message.size, channels)
    if reason < 0:
        for row in range(header.rows):
            codec.decode_row(header, row, channels, NO_OFFSETS, values, row * channels)
    return reason, header


@compiled
def is_utf8_compiled(name):
    return codec.is_utf8(address_of(name, 0))


def bits(values: np.ndarray) -> list[int]:
    """Of float32 values; a NaN is a NaN, whatever else it says."""
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32).tolist()


def plainly(message: bytes, channels: int, raw: bool) -> Reading:
    """What numpy reads in a message."""
    if raw:
        if not message or len(message) % (4 * channels) or len(message) == 8 * channels:
            return "refused", [], []
        return "", [1, 0, len(message) // (4 * channels), 0, 0, 0], bits(np.frombuffer(message, "<f4"))
    read = read_frame(message, channels)
    if isinstance(read, str):
        return read, [], []
    header, values = read
    ts = int(header["ts_ns"]) if header["flags"] & TS else 0
    fields = [*(int(header[name]) for name in ("dtype", "flags", "rows", "seq")), ts, int(header["dt_ns"])]
    return "", fields, bits(values.reshape(-1))


class Fuzzer:
    """Gives an input to the three decoders and compares what they say. Raises where they differ."""

    def __init__(self, decoder: SimpleNamespace):
        self._decoder, self._wall = decoder, before_a_wall()

    def __call__(self, data: bytes) -> None:
        """``data`` is a byte for the number of channels and the format, and a message or a stream id."""
        if not data:
            return
        channels, raw, message = 1 + data[0] % 8, data[0] & 8 != 0, data[1:]
        readings = [
            self._in_python(message, channels, raw),
            self._compiled(message, channels, raw),
            plainly(message, channels, raw),
        ]
        if raw and all(reason for reason, *_ in readings):
            readings.pop()  # why is told by the first two alone
        names = self._judge_name(message[:TOPIC_BYTES])
        for said in (readings, names):
            if any(other != said[0] for other in said[1:]):
                raise DisagreementError(f"input {data.hex()}: {said}")

    def _in_python(self, message: bytes, channels: int, raw: bool) -> Reading:
        decoder, values = self._decoder, np.zeros(LONGEST, np.float32)
        decoder.memory = message
        decode = decoder.decode_raw if raw else decoder.decode
        reason, header = decode(BASE, len(message), channels)
        if reason >= 0:
            return REASONS[reason], [], []
        with np.errstate(over="ignore", invalid="ignore"):
            for row in range(header.rows):
                decoder.decode_row(header, row, channels, NO_OFFSETS, values, row * channels)
        return self._reading(header, values, channels)

    def _compiled(self, message: bytes, channels: int, raw: bool) -> Reading:
        values = np.zeros(LONGEST, np.float32)
        reason, header = decode_compiled(self._placed(message), channels, raw, values)
        if reason >= 0:
            return REASONS[reason], [], []
        return self._reading(header, values, channels)

    def _reading(self, header: codec.Header, values: np.ndarray, channels: int) -> Reading:
        dtype, flags, rows, seq, ts, dt, _ = map(int, header)
        return "", [dtype, flags, rows, seq % 2**64, ts, dt], bits(values[: rows * channels])

    def _placed(self, content: bytes) -> np.ndarray:
        here = self._wall[len(self._wall) - len(content) :]
        here[:] = np.frombuffer(content, np.uint8)
        return here

    def _judge_name(self, name: bytes) -> list[bool]:
        # what follows a name would go on with a letter that is cut short
        self._decoder.memory = block = name.ljust(TOPIC_BYTES, b"\x80") + bytes([len(name)])
        return [self._decoder.is_utf8(BASE), is_utf8_compiled(self._placed(block)), is_utf8(name)]


def main() -> None:
    arguments, old, new = sys.argv[:], "", ""
    if "--plant" in arguments:
        at = arguments.index("--plant")
        old, new = arguments[at + 1 : at + 3]
        del arguments[at : at + 3]
    atheris.Setup([*arguments, f"-max_len={LONGEST}"], Fuzzer(uncompiled(old, new)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
