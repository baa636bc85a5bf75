"""Bytes that were packed by LZ4, plain or after their bits were put side by side (bitshuffle).

The library ``lz4`` is imported by the first message that needs it. The bits are put back here: the library
``bitshuffle`` believes the lengths that it finds in the bytes, and reads past their end. Its format: blocks
of elements, each the length of its LZ4 (u32, high byte first) and the LZ4 of its bits, bit b of all elements
before bit b + 1 of any; the last elements, fewer than 8, are as they were.
"""

import struct

import numpy as np

from streamrnn.adapters.adapter import Rejected

_SHUFFLED_HEAD = struct.Struct(">qi")  # bytes when unpacked, bytes of a block
_MOST_BLOCKS = 1 << 14


def unpacked(content: bytes, how: str, size: int, item_bytes: int) -> bytes:
    """The ``size`` bytes that were packed; raises Rejected for others, before room is made for them.

    ``how`` is "none", "lz4" or "bitshuffle_lz4", ``item_bytes`` the size of an element.
    """
    if how == "none":
        return _of_size(content, size)
    if how == "lz4":
        # from psi-bsread the length comes low byte first, from bsread_java high byte first
        if len(content) < 4 or size not in (
            int.from_bytes(content[:4], order) for order in ("little", "big")
        ):
            raise Rejected("truncated", f"its LZ4 says another length than the {size} bytes it should have")
        return _lz4(content[4:], size)
    if how == "bitshuffle_lz4":
        return _unshuffled(content, size, item_bytes)
    raise Rejected("dtype", f"it is packed by {how[:40]!r}, which is not none, lz4 or bitshuffle_lz4")


def packed_sizes(content: bytes, how: str) -> list[int]:
    """What packed bytes may come to, by their own word."""
    if how == "lz4":
        return [int.from_bytes(content[:4], order) for order in ("little", "big")]
    return [int.from_bytes(content[:8])] if how == "bitshuffle_lz4" else [len(content)]


def _unshuffled(content: bytes, size: int, item_bytes: int) -> bytes:
    if len(content) < _SHUFFLED_HEAD.size:
        raise Rejected("truncated", "its bitshuffle is cut short")
    said, block = _SHUFFLED_HEAD.unpack_from(content)
    if said != size:
        raise Rejected("truncated", f"its bitshuffle says {said} bytes, and {size} it should have")
    if block <= 0 or block % (8 * item_bytes) or size // block > _MOST_BLOCKS:
        raise Rejected("syntax", f"its bitshuffle has blocks of {block} bytes")
    at, done = _SHUFFLED_HEAD.size, []
    while (length := min(block, size // (8 * item_bytes) * 8 * item_bytes)) > 0 and size > 0:
        packed = content[at + 4 : at + 4 + int.from_bytes(content[at : at + 4])]
        bits = np.frombuffer(_lz4(packed, length), np.uint8).reshape(8 * item_bytes, -1)
        items = np.unpackbits(bits, axis=1, bitorder="little").T  # (elements, bits of one)
        done.append(np.packbits(items, axis=1, bitorder="little").tobytes())
        at, size = at + 4 + len(packed), size - length
    return b"".join([*done, _of_size(content[at:], size)])


def _lz4(content: bytes, size: int) -> bytes:
    try:
        import lz4.block
    except ImportError:
        raise Rejected(
            "dtype", 'it is packed by LZ4, which needs lz4, which `pip install "streamrnn[bsread]"` brings'
        ) from None
    try:
        return _of_size(lz4.block.decompress(content, uncompressed_size=size), size)
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
        raise Rejected("syntax", f"its LZ4 cannot be read: {str(error)[:60]}") from None


def _of_size(content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise Rejected(
            "truncated" if len(content) < size else "oversized", f"it has {len(content)} bytes, not {size}"
        )
    return content
