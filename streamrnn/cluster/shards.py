"""Which shard a stream belongs to: a hash of its id, the same everywhere and for ever."""

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.wire.memory import address_of, read_u8

MOST_SHARDS = 512  # all of their heads fit into one batch, and each is a consumer of the servers'
# FNV-1a (Fowler, Noll, Vo), whose low bits alone are poor, and behind it MurmurHash3's finalizer
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_FIRST, _SECOND, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)


@inlined
def shard_of(topic, length, shards):
    """The shard of the id of ``length`` bytes at address ``topic``."""
    mixed = _OFFSET
    for at in range(length):
        mixed = (mixed ^ np.uint64(read_u8(topic + at))) * _PRIME
    mixed = (mixed ^ mixed >> _SHIFT) * _FIRST
    mixed = (mixed ^ mixed >> _SHIFT) * _SECOND
    mixed ^= mixed >> _SHIFT
    return np.int64(mixed % np.uint64(shards))


@compiled
def _shards_of(content, ends, shards, found):
    begin = 0
    for which in range(ends.size):
        found[which] = shard_of(address_of(content, begin), ends[which] - begin, shards)
        begin = ends[which]


def shards_of(names: list[bytes], shards: int) -> np.ndarray:
    """The shards, (n,) int64, of ids."""
    found = np.zeros(len(names), np.int64)
    if names:
        ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        _shards_of(np.frombuffer(b"".join(names), np.uint8).copy(), ends, shards, found)
    return found
