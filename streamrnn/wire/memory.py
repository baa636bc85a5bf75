"""Reading and writing memory by address in compiled code: bytes that libzmq owns, and ordered stores.

Addresses are intp. Nothing is checked: whoever calls has compared offsets with the length.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamrnn.compiling.bundles import data_of
from streamrnn.compiling.jit import inlined


def _reader(numba_type):
    @intrinsic
    def read(typingctx, address):
        def codegen(context, builder, sig, args):
            kind = context.get_value_type(numba_type)
            value = builder.load(builder.inttoptr(args[0], kind.as_pointer()))
            value.align = 1  # libzmq hands out bytes at any address
            return value

        return numba_type(types.intp), codegen

    return read


read_u8 = _reader(types.uint8)
read_u16 = _reader(types.uint16)
read_u32 = _reader(types.uint32)
read_u64 = _reader(types.uint64)
read_i16 = _reader(types.int16)
read_i32 = _reader(types.int32)
read_i64 = _reader(types.int64)
read_f32 = _reader(types.float32)
read_f64 = _reader(types.float64)


def _writer(numba_type):
    @intrinsic
    def write(typingctx, address, value):
        def codegen(context, builder, sig, args):
            pointer = builder.inttoptr(args[0], context.get_value_type(numba_type).as_pointer())
            builder.store(args[1], pointer).align = 1
            return context.get_dummy_value()

        return types.void(types.intp, numba_type), codegen

    return write


write_u8 = _writer(types.uint8)
write_u16 = _writer(types.uint16)
write_u64 = _writer(types.uint64)
write_i64 = _writer(types.int64)
write_u32 = _writer(types.uint32)
write_f32 = _writer(types.float32)
write_f64 = _writer(types.float64)


@intrinsic
def address_of(typingctx, array, index):
    """The address of ``array[index]``, a one-dimensional contiguous array."""

    def codegen(context, builder, sig, args):
        data = data_of(context, builder, sig.args[0], args[0])
        return builder.ptrtoint(builder.gep(data, [args[1]]), context.get_value_type(types.intp))

    return types.intp(array, types.intp), codegen


@intrinsic
def copy_bytes(typingctx, to, source, size):
    """memcpy: ``size`` bytes from address ``source`` to address ``to``."""

    def codegen(context, builder, sig, args):
        byte = ir.IntType(8).as_pointer()
        to, source = builder.inttoptr(args[0], byte), builder.inttoptr(args[1], byte)
        cgutils.raw_memcpy(builder, to, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@inlined
def copy_words(to, source, count):
    """Copies ``count`` words of 4 bytes: for a few, calling memcpy takes longer than what it does."""
    while count >= 8:
        copy_bytes(to, source, 32)
        to, source, count = to + 32, source + 32, count - 8
    if count >= 4:
        copy_bytes(to, source, 16)
        to, source, count = to + 16, source + 16, count - 4
    if count >= 2:
        copy_bytes(to, source, 8)
        to, source, count = to + 8, source + 8, count - 2
    if count >= 1:
        copy_bytes(to, source, 4)


@inlined
def end_word(at, size):
    """The last 8 of ``size`` bytes, or what tells all of fewer from others of that size."""
    if size >= 8:
        return read_u64(at + size - 8)
    if size >= 4:
        return np.uint64(read_u32(at)) << np.uint64(32) | np.uint64(read_u32(at + size - 4))
    if size >= 2:
        return np.uint64(read_u16(at)) << np.uint64(32) | np.uint64(read_u16(at + size - 2))
    return np.uint64(read_u8(at))


@intrinsic
def folded_product(typingctx, one, other):
    """Both halves, joined by exclusive or, of the 128-bit product of two uint64."""

    def codegen(context, builder, sig, args):
        word, pair = ir.IntType(64), ir.IntType(128)
        product = builder.mul(*(builder.zext(factor, pair) for factor in args))
        high = builder.trunc(builder.lshr(product, pair(64)), word)
        return builder.xor(builder.trunc(product, word), high)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def prefetch(typingctx, address):
    """Has the cache line at an address fetched, meanwhile, for reading; it may be any address."""

    def codegen(context, builder, sig, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, all_caches, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(args[0], byte), to_read, all_caches, data])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def load_ordered(typingctx, array, index):
    """``array[index]`` (uint64), read after every read before it and before every read after it."""

    def codegen(context, builder, sig, args):
        data = data_of(context, builder, sig.args[0], args[0])
        builder.fence("acquire")
        value = builder.load_atomic(builder.gep(data, [args[1]]), "monotonic", 8)
        builder.fence("acquire")
        return value

    return types.uint64(array, types.intp), codegen


@intrinsic
def take_off(typingctx, array, index, amount):
    """Subtracts from ``array[index]`` (int64) in one step, whoever else does. Returns what it was."""

    def codegen(context, builder, sig, args):
        data = data_of(context, builder, sig.args[0], args[0])
        return builder.atomic_rmw("sub", builder.gep(data, [args[1]]), args[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def fence_release(typingctx):
    """No store before it is seen after one behind it."""

    def codegen(context, builder, sig, args):
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def store_release(typingctx, array, index, value):
    """``array[index] = value`` (uint64) after every store before it: a release fence, then one store."""

    def codegen(context, builder, sig, args):
        data = data_of(context, builder, sig.args[0], args[0])
        builder.fence("release")
        builder.store_atomic(args[2], builder.gep(data, [args[1]]), "monotonic", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), codegen
