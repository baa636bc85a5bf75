"""The system's clocks for compiled code."""

import time

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamrnn.compiling.jit import inlined

_MONOTONIC, _REALTIME = int(time.CLOCK_MONOTONIC), int(time.CLOCK_REALTIME)


@intrinsic
def _clock_ns(typingctx, clock):
    """clock_gettime(2) as one count of nanoseconds; the C library is already in the process."""

    def codegen(context, builder, sig, args):
        word, number = ir.IntType(64), ir.IntType(32)
        timespec = cgutils.alloca_once(builder, ir.ArrayType(word, 2))
        kind = ir.FunctionType(number, [number, timespec.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(function, [builder.trunc(args[0], number), timespec])
        seconds, rest = (builder.extract_value(builder.load(timespec), part) for part in (0, 1))
        return builder.add(builder.mul(seconds, word(10**9)), rest)

    return types.int64(types.int64), codegen


@inlined
def monotonic_ns():
    return _clock_ns(_MONOTONIC)


@inlined
def realtime_ns():
    return _clock_ns(_REALTIME)
