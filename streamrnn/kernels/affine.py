"""W z + b for one stream or several: the matrix product in which a step spends its time.

A matrix of R x K is cut into blocks of sixteen rows. Blocks are packed in groups of four, and what
is left over one by one: group ``[K][4][16]``, single block ``[K][16]``. Either way block ``n``
begins at element ``16 n K``. A single block is summed in four interleaved strands, or each sum would wait
for itself; where eight rows or four of the last one count, two strands or all share a vector.

A tile of accumulators is blocks x streams, and chosen so that it stays in registers with the weights of
those blocks and one input beside it: sixteen 256-bit registers (AVX2), two to a vector, hold 1 x 6, as do
thirty-two 128-bit ones (64-bit Arm), four to a vector; thirty-two 512-bit ones (AVX-512) hold 4 x 6. Several
tiles of streams follow one another at each group of blocks, whose weights then stand in the first cache.
A block in a group is summed over k in order and a single block in four interleaved sums, whatever
the tile: so a stream's bits depend neither on its neighbours nor on the machine.
"""

import numpy as np
from numba.core.registry import cpu_target

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.simd import HALF_LANES, LANES, load, splat
from streamrnn.kernels.tiles import (
    STRANDS,
    tile_add,
    tile_fill,
    tile_fma,
    tile_fma_first,
    tile_fma_lower,
    tile_fma_strands,
    tile_fma_words,
    tile_join,
    tile_load,
    tile_resume,
    tile_store,
)
from streamrnn.model.halves import words_of

GROUP = 4  # blocks packed side by side
_SPAN = GROUP * LANES
_ZERO = np.float32(0)


def _is_avx512() -> bool:
    """Whether Numba compiles for a processor with it."""
    return "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2]


# Blocks of a tile, by its streams: at least eight accumulators, or they would wait for each other.
TILES = {6: 4, 4: 4, 2: 4} if _is_avx512() else {6: 1, 4: 1, 2: 2}
MOST = max(TILES)
HALVES = 6 if _is_avx512() else 2  # streams of a single block of eight rows
_PAIRS = not _is_avx512()  # of columns: twelve fma alone take as long as what is counted beside them
_AT_ONCE = 2 if _is_avx512() else 1  # groups of one stream
# Blocks of one stream whose words are read together, and groups in which they come out even. Sixteen
# registers of half a block do not hold the sums, words and inputs of four: one sum went by way of memory.
_WORD_BLOCKS, _WORD_GROUPS = (8, 2) if _is_avx512() else (3, 3)
_AHEAD = 4  # pairs of columns: two kB of words, or less than one
TILE_STREAMS = 24  # streams stepped together: several tiles
FIRST_CACHE = 32 << 10  # bytes; what is more comes from the second one
COLUMNS = 160  # of a group, at most, that all of them pass at once: 40 kB of weights


def packed_rows(rows: int) -> int:
    """``rows`` rounded up to whole blocks."""
    return -(-rows // LANES) * LANES


def packed_halves(rows: int) -> int:
    """``rows`` rounded up to halves of a block, where a whole one would be mostly empty."""
    return -(-rows // HALF_LANES) * HALF_LANES


def strands_together(rows: int, units: int) -> int:
    """Strands that share a vector in the last block of a matrix, of which the last ``units`` rows count."""
    used = (units - 1) % LANES + 1
    if rows // LANES % GROUP == 0 or used > LANES // 2:
        return 1
    return 2 if used > LANES // STRANDS else STRANDS


def pack(matrix: np.ndarray, together: int = 1) -> np.ndarray:
    """A (R, K) float32 matrix, R a multiple of 16, in the order in which the product reads it."""
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows // LANES, LANES, columns)
    grouped = len(blocks) // GROUP * GROUP
    groups = blocks[:grouped].reshape(-1, GROUP, LANES, columns).transpose(0, 3, 1, 2)
    single = blocks[grouped:].transpose(0, 2, 1)
    if together == 1:
        return np.concatenate([groups.ravel(), single.ravel()])
    used = single[-1, :, : LANES // together]
    whole = columns - columns % STRANDS
    strands = used[:whole].reshape(-1, together, LANES // together).swapaxes(1, 2)
    rest = _spread(used[whole:], together)
    return np.concatenate([groups.ravel(), single[:-1].ravel(), strands.ravel(), rest.ravel()])


def pack_words(matrix: np.ndarray) -> np.ndarray:
    """The words of a (R, K) matrix of ``round_in_twos``, in the order in which one stream reads them."""
    whole = len(matrix) // (_WORD_GROUPS * _SPAN) * _WORD_GROUPS * _SPAN
    words = words_of(matrix[:whole])
    return words.reshape(-1, _WORD_BLOCKS * LANES, words.shape[1]).swapaxes(1, 2).ravel()


def pack_bias(bias: np.ndarray, together: int = 1) -> np.ndarray:
    """(R,) biases in the order in which the product reads them."""
    last = bias[-LANES:][: LANES // together]
    return np.concatenate([bias[:-LANES], _spread(last, together)])


def _spread(values: np.ndarray, together: int) -> np.ndarray:
    """(..., 16 / together) as (..., 16): each value in the first of as many lanes, zeros in the others."""
    lanes = np.zeros((*values.shape, together), np.float32)
    lanes[..., 0] = values
    return lanes.reshape(*values.shape[:-1], LANES)


def group_of(blocks, streams):
    """The product of a group of blocks with as many streams, by tiles of as many of its blocks.

    Of columns ``k`` to ``end``; those before are in ``out``, where ``k`` is not 0.
    """

    @inlined
    def group(w, at, b, bias, k, end, z, first, stride, out, to, out_stride):
        for block in range(0, GROUP, blocks):
            here, row = at + block * LANES, block * LANES
            if k == 0:
                tile = tile_load(b, bias + row, blocks, streams)
            else:
                tile = tile_resume(out, to + row, out_stride, blocks, streams)
            column = k
            while column + 2 <= end and _PAIRS:
                tile = tile_fma(tile, w, here + column * _SPAN, z, first + column, stride)
                tile = tile_fma(tile, w, here + (column + 1) * _SPAN, z, first + column + 1, stride)
                column += 2
            while column < end:
                tile = tile_fma(tile, w, here + column * _SPAN, z, first + column, stride)
                column += 1
            tile_store(tile, out, to + row, out_stride)

    return group


_group_of_6, _group_of_4, _group_of_2 = (group_of(TILES[streams], streams) for streams in (6, 4, 2))
_group_of_1 = group_of(GROUP, 1)


@inlined
def _groups(w, at, b, bias, groups, k_count, z, first, stride, out, to, out_stride, streams):
    """All groups for several streams, tile after tile."""
    parts = -(-k_count // COLUMNS)
    columns = -(-k_count // parts)
    for group in range(groups):
        here, biases = at + group * _SPAN * k_count, bias + group * _SPAN
        for k in range(0, k_count, columns):
            end = min(k + columns, k_count)
            z_at, out_at = first, to + group * _SPAN
            left = streams
            while left > 4:
                _group_of_6(w, here, b, biases, k, end, z, z_at, stride, out, out_at, out_stride)
                z_at, out_at, left = z_at + 6 * stride, out_at + 6 * out_stride, left - 6
            if left > 2:
                _group_of_4(w, here, b, biases, k, end, z, z_at, stride, out, out_at, out_stride)
            elif left > 0:
                _group_of_2(w, here, b, biases, k, end, z, z_at, stride, out, out_at, out_stride)


@inlined
def _one_stream(w, at, b, bias, groups, k_count, z, first, out, to):
    """All groups for one stream, two at a time where registers hold their eight sums: no fma then waits."""
    span = _SPAN * k_count
    group = 0
    while group + 2 <= groups * (_AT_ONCE - 1):
        here = at + group * span
        low = tile_load(b, bias + group * _SPAN, GROUP, 1)
        high = tile_load(b, bias + (group + 1) * _SPAN, GROUP, 1)
        for k in range(k_count):
            low = tile_fma(low, w, here + k * _SPAN, z, first + k, 0)
            high = tile_fma(high, w, here + span + k * _SPAN, z, first + k, 0)
        tile_store(low, out, to + group * _SPAN, 0)
        tile_store(high, out, to + (group + 1) * _SPAN, 0)
        group += 2
    while group < groups:
        here, row = at + group * span, group * _SPAN
        _group_of_1(w, here, b, bias + row, 0, k_count, z, first, 0, out, to + row, 0)
        group += 1


@inlined
def _one_stream_in_words(w, at, words, words_at, b, bias, groups, k_count, z, first, out, to):
    """The same with half of the bytes, two columns a word; groups that are left over as they are."""
    whole = groups // _WORD_GROUPS * _WORD_GROUPS
    for row in range(0, whole * _SPAN, _WORD_BLOCKS * LANES):
        here = words_at + row * ((k_count + 1) // 2)
        tile = tile_load(b, bias + row, _WORD_BLOCKS, 1)
        for k in range(0, k_count - 1, 2):
            tile = tile_fma_words(tile, words, here, z, first + k, _AHEAD)
            here += _WORD_BLOCKS * LANES
        if k_count % 2 == 1:
            tile = tile_fma_lower(tile, words, here, z, first + k_count - 1)
        tile_store(tile, out, to + row, 0)
    _one_stream(
        w,
        at + whole * _SPAN * k_count,
        b,
        bias + whole * _SPAN,
        groups - whole,
        k_count,
        z,
        first,
        out,
        to + whole * _SPAN,
    )


def strands_of(together, streams):
    """The sum over k of a single block for as many streams, ``together`` of its strands in a vector."""
    vectors = STRANDS // together

    @inlined
    def strands(w, at, b, bias, k_count, z, first, stride):
        tile = tile_fill(load(b, bias), vectors, streams)
        here, k = at, 0
        while k + STRANDS <= k_count:
            tile = tile_fma_strands(tile, w, here, z, first + k, stride)
            here, k = here + vectors * LANES, k + STRANDS
        while k < k_count:
            tile = tile_fma_first(tile, w, here, z, first + k, stride)
            here, k = here + LANES, k + 1
        return tile_join(tile)

    return strands


@inlined
def _strand(w, at, b, bias, k_count, z, first, stride, strand):
    """One of the strands of a whole block for six streams."""
    tile = tile_fill(load(b, bias) if strand == 0 else splat(_ZERO), 1, 6)
    whole = k_count - k_count % STRANDS
    for k in range(strand, whole, STRANDS):
        tile = tile_fma(tile, w, at + k * LANES, z, first + k, stride)
    if strand == 0:
        for k in range(whole, k_count):
            tile = tile_fma(tile, w, at + k * LANES, z, first + k, stride)
    return tile


@inlined
def strand_by_strand(w, at, b, bias, k_count, z, first, stride):
    """As ``strands_of(1, 6)``, for registers that do not hold all of them side by side."""
    one = _strand(w, at, b, bias, k_count, z, first, stride, 0)
    two = _strand(w, at, b, bias, k_count, z, first, stride, 1)
    three = _strand(w, at, b, bias, k_count, z, first, stride, 2)
    four = _strand(w, at, b, bias, k_count, z, first, stride, 3)
    return tile_add(tile_add(one, two), tile_add(three, four))


def _single_block_of(one, several, at_a_time, from_):
    """A single block for each of several streams, ``at_a_time`` or one by one when less than ``from_``."""

    @inlined
    def single_block(w, at, b, bias, k_count, z, first, stride, out, to, out_stride, streams):
        left = streams
        while left >= from_:
            tile = several(w, at, b, bias, k_count, z, first, stride)
            tile_store(tile, out, to, out_stride)
            first, to, left = first + at_a_time * stride, to + at_a_time * out_stride, left - at_a_time
        while left > 0:
            tile = one(w, at, b, bias, k_count, z, first, 0)
            tile_store(tile, out, to, 0)
            first, to, left = first + stride, to + out_stride, left - 1

    return single_block


_six_strands = strands_of(1, 6) if TILES[6] == GROUP else strand_by_strand
_whole_block = _single_block_of(strands_of(1, 1), _six_strands, 6, 4)
_half_block = _single_block_of(strands_of(2, 1), strands_of(2, HALVES), HALVES, HALVES // 2 + 1)
_quarter_block = _single_block_of(strands_of(4, 1), strands_of(4, 6), 6, 4)


@inlined
def affine(
    w, at, words, words_at, b, bias, rows, k_count, together, z, first, stride, out, to, out_stride, streams
):
    """out[s] = W z[s] + b for ``streams`` streams, 1 to TILE_STREAMS.

    ``w`` holds the packed matrix (rows, k_count) from ``at`` on, and ``words`` its groups once more from
    ``words_at`` on unless that is -1; ``b`` its biases from ``bias`` on;
    ``together`` as of ``strands_together``, which both are packed for. z[s] begins at ``first + s * stride``
    and out[s] at ``to + s * out_stride``. Rows of ``z`` and ``out`` up to TILE_STREAMS must exist: a tile is
    computed whole.
    """
    blocks = rows // LANES
    groups = blocks // GROUP
    if streams == 1 and words_at >= 0:
        _one_stream_in_words(w, at, words, words_at, b, bias, groups, k_count, z, first, out, to)
    elif streams == 1:
        _one_stream(w, at, b, bias, groups, k_count, z, first, out, to)
    else:
        _groups(w, at, b, bias, groups, k_count, z, first, stride, out, to, out_stride, streams)
    for block in range(groups * GROUP, blocks):
        here, row = at + block * LANES * k_count, block * LANES
        if together == 1 or block < blocks - 1:
            _whole_block(
                w, here, b, bias + row, k_count, z, first, stride, out, to + row, out_stride, streams
            )
        elif together == 2:
            _half_block(w, here, b, bias + row, k_count, z, first, stride, out, to + row, out_stride, streams)
        else:
            _quarter_block(
                w, here, b, bias + row, k_count, z, first, stride, out, to + row, out_stride, streams
            )
