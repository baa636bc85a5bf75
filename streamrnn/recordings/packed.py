"""Packed bytes of formats that pack piece by piece: as large as they say, or an error."""

import zlib

import pyarrow as pa

from streamrnn.recordings.stored import LONGEST, Damaged

CODECS = ("deflate", "zstd", "lz4")


def unpack(packed: bytes, codec: str, size: int, most: int = LONGEST) -> bytes:
    """The ``size`` bytes that are ``packed`` by one of CODECS. Raises Damaged, before it takes too many."""
    if size > most:
        raise Damaged(f"a block of {size:,} bytes, which is more than the {most:,} unpacked at once")
    try:
        if codec == "deflate":
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(packed, size + 1)
        else:
            data = pa.decompress(packed, decompressed_size=size, codec=codec, asbytes=True)
    except (zlib.error, pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"a block that is damaged ({error})") from None
    if len(data) != size:
        raise Damaged(f"a block that is not the {size:,} bytes long that it says")
    return data
