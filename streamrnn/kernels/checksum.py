"""Checksums of words of memory, sixteen 32-bit words at a time."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamrnn.compiling.bundles import data_of
from streamrnn.kernels.simd import LANES

_WORD, _SUM = ir.IntType(32), ir.IntType(64)
_WORDS, _SUMS = ir.VectorType(_WORD, LANES), ir.VectorType(_SUM, LANES)
# odd numbers, one a lane, of no pattern
_KEYS = np.random.default_rng(2).integers(0, 1 << 63, LANES, np.uint64) * np.uint64(2) + np.uint64(1)
_FOLD = 15  # bits: see ``checksum``


def _load(context, builder, array_type, array, index):
    """Sixteen words from ``array[index]`` on, folded."""
    data = data_of(context, builder, array_type, array)
    words = builder.load(builder.bitcast(builder.gep(data, [index]), _WORDS.as_pointer()))
    words.align = 4
    return words


def _folded(builder, words):
    return builder.xor(words, builder.lshr(words, ir.Constant(_WORDS, [_FOLD] * LANES)))


def _mixed(builder, sums):
    """One number of sixteen, each times its lane's key."""
    product = builder.mul(sums, ir.Constant(_SUMS, [int(key) for key in _KEYS]))
    kind = ir.FunctionType(_SUM, [_SUMS])
    name = f"llvm.vector.reduce.add.v{LANES}i64"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [product])


@intrinsic
def checksum(typingctx, values, first, count):
    """64 bits from the 32-bit words ``values[first : first + count]`` but the first two, uint64.

    In each lane their sum and the sum of these sums (Fletcher 1982), both modulo 2^32, make one number;
    the lanes' are multiplied by keys and added. A change of one word always changes the result, as do
    two of one bit each in a lane: for that, the upper bits of a word are first folded upon the lower, or two
    changes of the highest bit could cancel out. Other changes leave it as it was once in 2^64 or so.
    ``count`` is a multiple of 16. Read from the end on: what stands first was written last, and a load that
    spans several stores waits for all of them.
    """

    def codegen(context, builder, sig, args):
        array, first, count = args
        sums, sums_of_sums = (cgutils.alloca_once_value(builder, ir.Constant(_WORDS, None)) for _ in range(2))

        def add(words):
            builder.store(builder.add(builder.load(sums), _folded(builder, words)), sums)
            builder.store(builder.add(builder.load(sums_of_sums), builder.load(sums)), sums_of_sums)

        step = ir.Constant(count.type, LANES)
        last = builder.sub(builder.add(first, count), step)
        with cgutils.for_range(
            builder, builder.sub(builder.udiv(count, step), ir.Constant(count.type, 1))
        ) as loop:
            add(_load(context, builder, sig.args[0], array, builder.sub(last, builder.mul(loop.index, step))))
        head = ir.Constant(_WORDS, [0, 0] + [(1 << 32) - 1] * (LANES - 2))
        add(builder.and_(_load(context, builder, sig.args[0], array, first), head))
        high = builder.shl(builder.zext(builder.load(sums_of_sums), _SUMS), ir.Constant(_SUMS, [32] * LANES))
        return _mixed(builder, builder.or_(high, builder.zext(builder.load(sums), _SUMS)))

    return types.uint64(values, types.intp, types.intp), codegen


@intrinsic
def row_sum(typingctx, values, first, count):
    """64 bits from the 32-bit words ``values[first : first + count]``, 16 at most, uint64. Reads all 16."""

    def codegen(context, builder, sig, args):
        array, first, count = args
        lanes = ir.Constant(_WORDS, list(range(LANES)))
        count = builder.trunc(count, _WORD)
        none = ir.Constant(_WORDS, ir.Undefined)
        every = builder.shuffle_vector(
            builder.insert_element(none, count, _WORD(0)), none, ir.Constant(_WORDS, None)
        )
        words = _load(context, builder, sig.args[0], array, first)
        words = builder.select(builder.icmp_signed("<", lanes, every), words, ir.Constant(_WORDS, None))
        return _mixed(builder, builder.zext(words, _SUMS))

    return types.uint64(values, types.intp, types.intp), codegen
