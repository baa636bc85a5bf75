"""Which numbers are finite, or there at all, sixteen at a time."""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.simd import LANES, fma, load, splat

_ZERO = np.float32(0)


@intrinsic
def given(typingctx, vector):
    """1 in each lane that is a number, 0 where it is NaN."""

    def codegen(context, builder, sig, args):
        one, zero = ir.Constant(vector.ir, [1.0] * LANES), ir.Constant(vector.ir, None)
        return builder.select(builder.fcmp_ordered("ord", args[0], zero), one, zero)

    return vector(vector), codegen


@intrinsic
def filled(typingctx, vector, filler):
    """``vector``, but ``filler`` in each lane where it is NaN."""

    def codegen(context, builder, sig, args):
        known = builder.fcmp_ordered("ord", args[0], ir.Constant(vector.ir, None))
        return builder.select(known, *args)

    return vector(vector, vector), codegen


@intrinsic
def any_nonzero(typingctx, vector):
    """Whether a lane at least is not 0, as NaN is not: sooner known than what a sum of all lanes says."""

    def codegen(context, builder, sig, args):
        lanes = builder.fcmp_unordered("!=", args[0], ir.Constant(vector.ir, None))
        bits = ir.IntType(LANES)
        return builder.icmp_unsigned("!=", builder.bitcast(lanes, bits), bits(0))

    return types.boolean(vector), codegen


@inlined
def probe(values, at, width, lanes):
    """``lanes`` with NaN in one at least when any of ``width`` values is not finite, or else as they were."""
    for unit in range(at, at + width, LANES):
        lanes = fma(load(values, unit), splat(_ZERO), lanes)
    return lanes


@inlined
def all_finite(values, at, width):
    return not any_nonzero(probe(values, at, width, splat(_ZERO)))
