"""The blocks of MDF 4 that say what is recorded, and how.

Source: ASAM MDF 4.x, https://www.asam.net/standards/detail/mdf/wiki. A block is an id, its length, links to
other blocks, and data. Lists are followed once: a link that comes back is damage.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from streamrnn.recordings.stored import Damaged, FileBytes

_HEAD = struct.Struct("<4s4xQQ")
LONGEST_BLOCK = 16 << 20  # bytes of one that says something
MOST_BLOCKS = 1 << 20  # of a list
_TEXT = re.compile(rb"<TX[^>]*>([^<]*)</TX>")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&"}


class MdfBlock(NamedTuple):
    """A block; links of 0 lead nowhere."""

    kind: str  # two letters
    links: tuple[int, ...]
    data: bytes


class MdfBlocks:
    """Reads blocks of a file. Each call raises Damaged for what is none."""

    def __init__(self, file: FileBytes) -> None:
        self.file = file

    def head(self, at: int) -> tuple[str, int, int]:
        """The kind of the block at ``at``, where its data begin, and where it ends."""
        magic, size, links = self.file.unpack(_HEAD, at)
        if not magic.startswith(b"##") or size < _HEAD.size + 8 * links:
            raise Damaged(f"no block at byte {at:,}")
        return magic[2:].decode("latin-1"), at + _HEAD.size + 8 * links, at + size

    def read(self, at: int, *kinds: str, links: int = 0, size: int = 0) -> MdfBlock:
        """The block at ``at``, which is one of ``kinds`` and has as many links and bytes of data at least."""
        kind, begin, end = self.head(at)
        if kind not in kinds:
            raise Damaged(f"a block {kind!r} at byte {at:,} instead of {kinds[0]}")
        if end - at > LONGEST_BLOCK:
            raise Damaged(f"a block {kind} of {end - at:,} bytes")
        block = self.file.read(at + _HEAD.size, end - at - _HEAD.size)
        count = (begin - at - _HEAD.size) // 8
        found = struct.unpack_from(f"<{count}Q", block)
        if count < links or len(block) - 8 * count < size:
            raise Damaged(f"a block {kind} at byte {at:,} that is too short")
        return MdfBlock(kind, found, block[8 * count :])

    def each(self, at: int, kind: str, links: int, size: int) -> Iterator[tuple[int, MdfBlock]]:
        """The blocks of a list, whose first link leads on, and where they are."""
        seen = set[int]()
        while at:
            if at in seen or len(seen) >= MOST_BLOCKS:
                raise Damaged(f"a list of blocks {kind} without an end")
            seen.add(at)
            block = self.read(at, kind, links=links, size=size)
            yield at, block
            at = block.links[0]

    def text(self, at: int) -> str:
        """What the text at ``at`` says, or XML of its first text; "" at 0."""
        if not at:
            return ""
        block = self.read(at, "TX", "MD")
        data = block.data.split(b"\0", 1)[0]
        if block.kind == "MD":
            found = _TEXT.search(data)
            text = found[1].decode("utf-8", "replace") if found else ""
            for entity, char in _ENTITIES.items():
                text = text.replace(entity, char)
        else:
            text = data.decode("utf-8", "replace")
        return text.strip()


class MdfChannel(NamedTuple):
    """A channel block (CN)."""

    name: str
    unit: str
    kind: int  # 0 values, 2 times, 3 times by the record's number; others are in ``file``
    sync: int  # of times: 1 time, 2 angle, 3 distance, 4 record
    data_type: int
    bit_offset: int
    byte_offset: int
    bits: int
    flags: int  # 1: all values are invalid; 2: each has a bit that says so
    invalid_bit: int
    conversion: int  # where its conversion is, or 0
    composed: int  # where what it is composed of is, or 0


class MdfGroup(NamedTuple):
    """A channel group block (CG)."""

    name: str
    channels: tuple[MdfChannel, ...]
    id: int  # of its records
    records: int  # as many as it says
    flags: int  # 1: of variable length; 2, 4: bus events; 8: times elsewhere
    data_size: int  # bytes of a record
    invalid_size: int  # bytes behind them


class MdfDataGroup(NamedTuple):
    """A data group block (DG)."""

    groups: tuple[MdfGroup, ...]
    data: int  # where its records are, or 0
    id_size: int  # bytes before each record


_DG, _CG, _CN = struct.Struct("<B7x"), struct.Struct("<QQHHIII"), struct.Struct("<BBBBIIII")


def read_data_group(blocks: MdfBlocks, block: MdfBlock) -> MdfDataGroup:
    """A data group with all that is in it. Raises Damaged."""
    (id_size,) = _DG.unpack_from(block.data)
    groups = tuple(_group(blocks, each) for _, each in blocks.each(block.links[1], "CG", 6, _CG.size))
    return MdfDataGroup(groups, block.links[2], id_size)


def _group(blocks: MdfBlocks, block: MdfBlock) -> MdfGroup:
    record, count, flags, _, _, size, invalid = _CG.unpack_from(block.data)
    name = blocks.text(block.links[2])
    if not name and block.links[3]:
        name = blocks.text(blocks.read(block.links[3], "SI", links=3).links[0])
    channels = [*_channels(blocks, block.links[1], "", 0)]
    return MdfGroup(name, tuple(channels), record, count, flags, size, invalid)


def _channels(blocks: MdfBlocks, at: int, prefix: str, depth: int) -> Iterator[MdfChannel]:
    """The channels of a list, and those that a structure is composed of, by the names of both."""
    if depth > 8:
        raise Damaged("channels composed of channels without an end")
    for _, block in blocks.each(at, "CN", 8, _CN.size):
        kind, sync, data_type, bit, byte, bits, flags, invalid = _CN.unpack_from(block.data)
        name = prefix + blocks.text(block.links[2])
        composed = block.links[1]
        parts = bool(composed) and blocks.head(composed)[0] == "CN"
        unit = "" if parts else blocks.text(block.links[6])
        if parts:
            yield from _channels(blocks, composed, f"{name}.", depth + 1)
        else:
            yield MdfChannel(
                name, unit, kind, sync, data_type, bit, byte, bits, flags, invalid, block.links[4], composed
            )


class MdfHeader(NamedTuple):
    """The header block (HD), and what the file begins with."""

    version: int  # 410 is 4.10
    unfinished: bool  # its recorder was ended before it was done
    start_ns: int  # since 1970
    zoned: bool  # whether that is UTC; else local time
    first: int  # where the first data group is, or 0


MAGIC, UNFINISHED = b"MDF     ", b"UnFinMF "
_HD_AT = 64
_HD = struct.Struct("<QhhBBB")


def read_header(blocks: MdfBlocks) -> MdfHeader:
    """What a file begins with. Raises Damaged."""
    first = blocks.file.read(0, _HD_AT)
    if first[:8] not in (MAGIC, UNFINISHED):
        raise Damaged("it does not begin as one")
    (version,) = struct.unpack_from("<H", first, 28)
    if not 400 <= version < 500:
        raise Damaged(f"its version is {version / 100:g}; save it as MDF 4 with the program that wrote it")
    block = blocks.read(_HD_AT, "HD", links=6, size=_HD.size)
    start, _, _, time_flags, _, _ = _HD.unpack_from(block.data)
    if start >= 1 << 63:
        raise Damaged("its start is beyond the years that ns count")
    return MdfHeader(version, first[:8] == UNFINISHED, start, not time_flags & 1, block.links[0])
