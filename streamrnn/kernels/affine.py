"""W z + b for one stream or several: the matrix product in which a step spends its time.

A matrix of R x K is cut into blocks of sixteen rows. Blocks are packed in groups of four, and what
is left over one by one: group ``[K][4][16]``, single block ``[K][16]``. Either way block ``n``
begins at element ``16 n K``.

The tile of accumulators is chosen so that it stays in registers. Thirty-two 512-bit registers (AVX-512)
hold 4 blocks x 4 streams. Sixteen 256-bit ones (AVX2), two to a vector, hold 1 x 6 and leave room for the
weights and one input; thirty-two 128-bit ones (64-bit Arm), four to a vector, 1 x 4. One stream more, or
4 x 4 on either of them, and the inner loop spills.
A block in a group is summed over k in order and a single block in four interleaved sums, whatever
the tile: so a stream's bits depend neither on its neighbours nor on the machine.
"""

import numpy as np
from numba.core.registry import cpu_target

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.simd import LANES, fma, load, splat, store, tile_fma, tile_load, tile_store

GROUP = 4  # blocks packed side by side
_SPAN = GROUP * LANES
_ZERO = np.float32(0)


def _tile_shape() -> tuple[int, int]:
    """Blocks and streams of a tile, for the processor that Numba compiles for."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    if "+avx512f" in features:
        return 4, 4
    return (1, 6) if triple.startswith("x86_64") else (1, 4)


TILE_BLOCKS, TILE_STREAMS = _tile_shape()


def packed_rows(rows: int) -> int:
    """``rows`` rounded up to whole blocks."""
    return -(-rows // LANES) * LANES


def pack(matrix: np.ndarray) -> np.ndarray:
    """A (R, K) float32 matrix, R a multiple of 16, in the order in which the product reads it."""
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows // LANES, LANES, columns)
    grouped = len(blocks) // GROUP * GROUP
    groups = blocks[:grouped].reshape(-1, GROUP, LANES, columns).transpose(0, 3, 1, 2)
    return np.concatenate([groups.ravel(), blocks[grouped:].transpose(0, 2, 1).ravel()])


@inlined
def _one_stream(w, at, b, bias, groups, k_count, z, first, out, to):
    """All groups for one stream, two at a time: eight sums hide the latency of the fma."""
    span = _SPAN * k_count
    group = 0
    while group + 2 <= groups:
        here = at + group * span
        low = tile_load(b, bias + group * _SPAN, GROUP, 1)
        high = tile_load(b, bias + (group + 1) * _SPAN, GROUP, 1)
        for k in range(k_count):
            low = tile_fma(low, w, here + k * _SPAN, z, first + k, 0)
            high = tile_fma(high, w, here + span + k * _SPAN, z, first + k, 0)
        tile_store(low, out, to + group * _SPAN, 0)
        tile_store(high, out, to + (group + 1) * _SPAN, 0)
        group += 2
    if group < groups:
        here = at + group * span
        last = tile_load(b, bias + group * _SPAN, GROUP, 1)
        for k in range(k_count):
            last = tile_fma(last, w, here + k * _SPAN, z, first + k, 0)
        tile_store(last, out, to + group * _SPAN, 0)


@inlined
def _tile_of_streams(w, at, b, bias, groups, k_count, z, first, stride, out, to, out_stride):
    """All groups for TILE_STREAMS streams, each weight loaded once for all of them."""
    for group in range(groups):
        for block in range(0, GROUP, TILE_BLOCKS):
            here = at + group * _SPAN * k_count + block * LANES
            row = group * _SPAN + block * LANES
            tile = tile_load(b, bias + row, TILE_BLOCKS, TILE_STREAMS)
            for k in range(k_count):
                tile = tile_fma(tile, w, here + k * _SPAN, z, first + k, stride)
            tile_store(tile, out, to + row, out_stride)


@inlined
def _single_block(w, at, b, bias, k_count, z, first, out, to):
    """One block for one stream. Alone it would wait for each fma, so k is summed in four strands."""
    one, two, three, four = load(b, bias), splat(_ZERO), splat(_ZERO), splat(_ZERO)
    k = 0
    while k + 4 <= k_count:
        one = fma(load(w, at + k * LANES), splat(z[first + k]), one)
        two = fma(load(w, at + (k + 1) * LANES), splat(z[first + k + 1]), two)
        three = fma(load(w, at + (k + 2) * LANES), splat(z[first + k + 2]), three)
        four = fma(load(w, at + (k + 3) * LANES), splat(z[first + k + 3]), four)
        k += 4
    while k < k_count:
        one = fma(load(w, at + k * LANES), splat(z[first + k]), one)
        k += 1
    store(out, to, (one + two) + (three + four))


@inlined
def affine(w, at, b, bias, rows, k_count, z, first, stride, out, to, out_stride, streams):
    """out[s] = W z[s] + b for ``streams`` streams, 1 to TILE_STREAMS.

    ``w`` holds the packed matrix (rows, k_count) from ``at`` on, ``b`` its biases from ``bias`` on;
    z[s] begins at ``first + s * stride`` and out[s] at ``to + s * out_stride``. Rows of ``z`` and
    ``out`` up to TILE_STREAMS must exist: a tile that is more than half full is computed whole.
    """
    blocks = rows // LANES
    groups = blocks // GROUP
    if groups > 0:
        if streams > TILE_STREAMS // 2:
            _tile_of_streams(w, at, b, bias, groups, k_count, z, first, stride, out, to, out_stride)
        else:
            for s in range(streams):
                _one_stream(w, at, b, bias, groups, k_count, z, first + s * stride, out, to + s * out_stride)
    for block in range(groups * GROUP, blocks):
        here, row = at + block * LANES * k_count, block * LANES
        for s in range(streams):
            _single_block(
                w, here, b, bias + row, k_count, z, first + s * stride, out, to + s * out_stride + row
            )
