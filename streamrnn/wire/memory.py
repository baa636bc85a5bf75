"""Reading and writing memory by address in compiled code: bytes that libzmq owns, and ordered stores.

Addresses are intp. Nothing is checked: whoever calls has compared offsets with the length.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj


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


write_u64 = _writer(types.uint64)
write_i64 = _writer(types.int64)
write_u32 = _writer(types.uint32)
write_f32 = _writer(types.float32)


@intrinsic
def address_of(typingctx, array, index):
    """The address of ``array[index]``, a one-dimensional contiguous array."""

    def codegen(context, builder, sig, args):
        data = arrayobj.make_array(sig.args[0])(context, builder, args[0]).data
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


@intrinsic
def load_ordered(typingctx, array, index):
    """``array[index]`` (uint64), read after every read before it and before every read after it."""

    def codegen(context, builder, sig, args):
        data = arrayobj.make_array(sig.args[0])(context, builder, args[0]).data
        builder.fence("acquire")
        value = builder.load_atomic(builder.gep(data, [args[1]]), "monotonic", 8)
        builder.fence("acquire")
        return value

    return types.uint64(array, types.intp), codegen


@intrinsic
def store_release(typingctx, array, index, value):
    """``array[index] = value`` (uint64) after every store before it: a release fence, then one store."""

    def codegen(context, builder, sig, args):
        data = arrayobj.make_array(sig.args[0])(context, builder, args[0]).data
        builder.fence("release")
        builder.store_atomic(args[2], builder.gep(data, [args[1]]), "monotonic", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), codegen
