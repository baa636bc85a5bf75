"""The records of MDF 4: bytes in one block or a list of them, packed or not."""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from streamrnn.recordings.mdf.blocks import MOST_BLOCKS, MdfBlocks, MdfDataGroup
from streamrnn.recordings.packed import CODECS, unpack
from streamrnn.recordings.stored import PIECE, Damaged, Short

LONGEST_PACKED = 128 << 20  # bytes of a block, unpacked; writers make blocks of 4 MB
_PACKED = struct.Struct("<2sBxIQQ")
_PLAIN = ("DT", "SD", "DV", "RD")
_VARIABLE = 1  # flag of a group: its records have the length in front


class RecordBytes:
    """The bytes of a data group's records, as if they lay side by side; ``size`` of them are there."""

    def __init__(self, blocks: MdfBlocks, at: int, unfinished: bool) -> None:
        """Raises Damaged for what is no list of data."""
        self._blocks, self._unfinished = blocks, unfinished
        self._begin, self._at, self._packed = array("q"), array("q"), array("b")  # of each part; packed: 1
        self.size, self.cut = 0, False
        if at:
            try:
                self._find(at)
            except Short:
                self.cut = True
        self._number, self._unpacked = -1, b""

    def _find(self, at: int) -> None:
        kind, _, _ = self._blocks.head(at)
        if kind == "HL":
            at = self._blocks.read(at, "HL", links=1).links[0]
            if not at:
                return
            kind, _, _ = self._blocks.head(at)
        if kind != "DL":
            self._add(at)
            return
        for _, block in self._blocks.each(at, "DL", 1, 8):
            for link in block.links[1:]:
                if link and not self.cut:
                    self._add(link)

    def _add(self, at: int) -> None:
        """Adds a block of data, as far as it is there. Raises Damaged."""
        if len(self._at) >= MOST_BLOCKS:
            raise Damaged(f"more than {MOST_BLOCKS:,} blocks of data")
        file = self._blocks.file
        kind, begin, end = self._blocks.head(at)
        if kind == "DZ":
            size, _ = self._packed_size(begin, end)
            if end > file.size:
                raise Short("a packed block is cut")
        elif kind in _PLAIN:
            if end > file.size or (self._unfinished and end == begin):
                self.cut = self.cut or end > file.size
                end = file.size
            size = end - begin
        else:
            raise Damaged(f"a block {kind!r} at byte {at:,} instead of data")
        if size:
            self._begin.append(self.size)
            self._at.append(begin)
            self._packed.append(kind == "DZ")
            self.size += size

    def _packed_size(self, begin: int, end: int) -> tuple[int, tuple[str, int, int, int]]:
        """Bytes of a packed block, and its codec, columns (0 = as they are), place and packed size."""
        _, code, columns, size, packed = self._blocks.file.unpack(_PACKED, begin)
        codec, transposed = divmod(code, 2)
        if codec >= len(CODECS) or begin + _PACKED.size + packed > end:
            raise Damaged(f"a packed block at byte {begin:,} of an unknown kind")
        if size > LONGEST_PACKED:
            raise Damaged(
                f"a packed block of {size:,} bytes, which would have to be in memory at once, and more than "
                f"the {LONGEST_PACKED:,} that may be; save it anew in blocks of 4 MB, as other programs do"
            )
        if transposed and not columns:
            raise Damaged(f"a packed block at byte {begin:,} without columns")
        return size, (CODECS[codec], columns * transposed, begin + _PACKED.size, packed)

    def read(self, begin: int, size: int) -> bytes:
        """``size`` bytes from ``begin`` on. Raises Damaged."""
        if begin < 0 or begin + size > self.size:
            raise Short(f"{size:,} bytes at {begin:,} of {self.size:,}")
        found, part = [], bisect_right(self._begin, begin) - 1
        while size:
            offset = begin - self._begin[part]
            end = self._begin[part + 1] if part + 1 < len(self._begin) else self.size
            some = min(size, end - begin)
            if self._packed[part]:
                found.append(self._unpack(part)[offset : offset + some])
            else:
                found.append(self._blocks.file.read(self._at[part] + offset, some))
            begin, size, part = begin + some, size - some, part + 1
        return found[0] if len(found) == 1 else b"".join(found)

    def _unpack(self, part: int) -> bytes:
        """What is packed in a part, of which the last one is kept."""
        if self._number != part:
            self._unpacked = b""
            file, begin = self._blocks.file, self._at[part]
            size, (codec, columns, at, packed) = self._packed_size(begin, file.size)
            data = unpack(file.read(at, packed), codec, size, LONGEST_PACKED)
            if columns:
                lines = size // columns
                table = np.frombuffer(data, np.uint8, lines * columns).reshape(columns, lines)
                data = table.T.tobytes() + data[lines * columns :]
            self._number, self._unpacked = part, data
        return self._unpacked


class GroupRecords:
    """The records of one of a data group's groups: (n, bytes) uint8, whose data are from ``begin`` on."""

    def __init__(self, data: RecordBytes, where: MdfDataGroup, number: int) -> None:
        """Raises Damaged for records of no size."""
        self._data, self._where, self.group = data, where, where.groups[number]
        self._width = self.group.data_size + self.group.invalid_size
        if self._width == 0:
            raise Damaged(f"a group {self.group.name!r} with records of no size")
        mixed = len(where.groups) > 1
        self.begin = 0 if mixed else where.id_size
        self.whole: int | None = 0  # as many as are there; None = not known before they are read
        if data.size:
            said, there = self.group.records, data.size // (self.begin + self._width)
            self.whole = None if mixed else min(said, there) if said else there

    def cut(self) -> str:
        """How many are whole, where that is less than the file says; else ""."""
        if self.whole is not None and self.whole < self.group.records:
            return f"{self.whole:,} samples of {self.group.records:,}"
        return "the whole samples" if self._data.cut else ""

    def last(self) -> np.ndarray | None:
        """The last record; None where it is not known."""
        if not self.whole:
            return None
        return self._table(self.whole - 1, 1)

    def blocks(self, most: int) -> Iterator[np.ndarray]:
        """All of them, in blocks of ``most`` records or less. Raises Damaged."""
        most = max(1, min(most, PIECE // (self.begin + self._width)))
        if self.whole is None:
            yield from self._mixed(most)
            return
        for first in range(0, self.whole, most):
            yield self._table(first, min(most, self.whole - first))

    def _table(self, first: int, count: int) -> np.ndarray:
        width = self.begin + self._width
        return np.frombuffer(self._data.read(first * width, count * width), np.uint8).reshape(count, width)

    def _mixed(self, most: int) -> Iterator[np.ndarray]:
        """Those that lie between records of other groups, which are gone over."""
        sizes = {
            each.id: -1 if each.flags & _VARIABLE else each.data_size + each.invalid_size
            for each in self._where.groups
        }
        left, at = self.group.records or self._data.size, 0
        while at < self._data.size and left > 0:
            block = self._data.read(at, min(PIECE, self._data.size - at))
            places, used = _places(block, self._where.id_size, sizes, self.group.id)
            if not used:
                return  # what is left is no whole record
            at, places, content = at + used, places[:left], np.frombuffer(block, np.uint8)
            left -= len(places)
            for first in range(0, len(places), most):
                begins = np.array(places[first : first + most])
                yield content[begins[:, None] + np.arange(self._width)]


def _places(block: bytes, id_size: int, sizes: dict[int, int], wanted: int) -> tuple[list[int], int]:
    """Where the whole records of a group have their data, and where all that is whole ends."""
    places, at, end = list[int](), 0, len(block)
    while at + id_size <= end:
        record = int.from_bytes(block[at : at + id_size], "little")
        size = sizes.get(record)
        if size is None:
            raise Damaged(f"a record of the group {record}, which is not there")
        begin = at + id_size
        if size < 0:
            if begin + 4 > end:
                break
            size = 4 + int.from_bytes(block[begin : begin + 4], "little")
        if begin + size > end:
            break
        if record == wanted:
            places.append(begin)
        at = begin + size
    return places, at
