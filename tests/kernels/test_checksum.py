"""What a checksum sees."""

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.checksum import checksum, row_sum

WORDS = 96


@compiled
def _sum_of(words, first, count):
    return checksum(words, first, count)


@compiled
def _row_of(words, first, count):
    return row_sum(words, first, count)


def plain(words: np.ndarray) -> int:
    """The same with Python's integers, lane by lane."""
    keys = np.random.default_rng(2).integers(0, 1 << 63, 16, np.uint64).tolist()
    total, folded = 0, [(int(word) ^ int(word) >> 15) if at > 1 else 0 for at, word in enumerate(words)]
    for lane, key in enumerate(keys):
        one = two = 0
        for word in reversed(folded[lane::16]):
            one = (one + word) % (1 << 32)
            two = (two + one) % (1 << 32)
        total += (two << 32 | one) * (2 * key + 1)
    return total % (1 << 64)


def random_words(count: int = WORDS) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 1 << 32, count).astype(np.uint32)


def test_it_is_what_its_formula_says():
    words = random_words(64 + 32)
    for first, count in ((0, 16), (0, 96), (32, 64)):
        assert _sum_of(words, first, count) == plain(words[first : first + count])


def test_no_flip_of_a_bit_and_no_two_leave_it_as_it_was():
    """But of its first two words, which hold it."""
    words = random_words()
    found = {int(_sum_of(words, 0, WORDS))}
    flips = [(at, bit) for at in range(2, WORDS) for bit in range(32)]
    changes = {}
    for at, bit in flips:
        words[at] ^= np.uint32(1 << bit)
        changes[at, bit] = int(_sum_of(words, 0, WORDS))
        words[at] ^= np.uint32(1 << bit)
    assert len(found | set(changes.values())) == 1 + len(flips)
    for lane in range(16):  # in one lane changes could cancel out; in two, by chance alone
        of_lane = [flip for flip in flips if flip[0] % 16 == lane]
        for first, (at, bit) in enumerate(of_lane):
            words[at] ^= np.uint32(1 << bit)
            for other, another in of_lane[first + 1 :]:
                words[other] ^= np.uint32(1 << another)
                assert int(_sum_of(words, 0, WORDS)) not in found, (at, bit, other, another)
                words[other] ^= np.uint32(1 << another)
            words[at] ^= np.uint32(1 << bit)


def test_the_sum_of_a_row_is_of_the_row_alone():
    words = random_words(48)
    for width in range(1, 17):
        row = _row_of(words, 8, width)
        other = words.copy()
        other[8 + width :] ^= np.uint32(0xFFFFFFFF)
        other[:8] = 0
        assert _row_of(other, 8, width) == row
        for at in range(8, 8 + width):
            for bit in range(32):
                other[at] ^= np.uint32(1 << bit)
                assert _row_of(other, 8, width) != row
                other[at] ^= np.uint32(1 << bit)
