"""Sixteen lanes of floats as a Numba type, so that a kernel reads like its formula.

``f32x16`` is one LLVM ``<16 x float>``: a register of AVX-512, two of AVX2, four of 64-bit Arm. What works
on it works on ``f64x16`` too, which the training of a network in double precision takes.
Every operation is a single IEEE operation
(``llvm.fma`` is fused everywhere), so results are the same bits on every instruction set.

Loads and stores take a one-dimensional array and an element index, need no alignment and
check nothing: the caller answers for ``index + 16 <= array.size``.
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from streamrnn.compiling.bundles import data_of

LANES = 16
HALF_LANES = LANES // 2


class Vector(types.Type):
    """Numba's type of sixteen lanes of ``element``, float32 or float64."""

    def __init__(self, element, suffix):
        self.element = element
        self.suffix = f"v{LANES}{suffix}"  # of the names of LLVM's intrinsics
        self.ir = ir.VectorType(ir.FloatType() if element == types.float32 else ir.DoubleType(), LANES)
        super().__init__(name=f"{suffix}x{LANES}")


f32x16, f64x16 = Vector(types.float32, "f32"), Vector(types.float64, "f64")
VECTOR_OF = {types.float32: f32x16, types.float64: f64x16}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.ir)


def emit_element(context, builder, array_type, array, index):
    """The address of ``array[index]``."""
    return builder.gep(data_of(context, builder, array_type, array), [index])


def emit_load(builder, address, vector):
    value = builder.load(builder.bitcast(address, vector.ir.as_pointer()))
    value.align = vector.element.bitwidth // 8
    return value


def emit_store(builder, value, address, vector):
    stored = builder.store(value, builder.bitcast(address, vector.ir.as_pointer()))
    stored.align = vector.element.bitwidth // 8


def emit_splat(builder, scalar, vector):
    none = ir.Constant(vector.ir, ir.Undefined)
    one = builder.insert_element(none, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def emit_call(builder, name, vector, *args):
    kind = ir.FunctionType(vector.ir, [vector.ir] * len(args))
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{vector.suffix}"), args
    )


@intrinsic
def load(typingctx, array, index):
    """The sixteen values from ``array[index]`` on."""
    vector = VECTOR_OF[array.dtype]

    def codegen(context, builder, sig, args):
        return emit_load(builder, emit_element(context, builder, sig.args[0], *args), vector)

    return vector(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Writes the sixteen lanes of ``vector`` to ``array[index:index + 16]``."""

    def codegen(context, builder, sig, args):
        emit_store(builder, args[2], emit_element(context, builder, sig.args[0], *args[:2]), vector)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR_OF[array.dtype]), codegen


@intrinsic
def store_first(typingctx, array, index, vector, count):
    """Writes the first ``count`` lanes of ``vector``, 1 to 16, to ``array[index:index + count]``."""

    def codegen(context, builder, sig, args):
        vector, count = args[2], builder.trunc(args[3], ir.IntType(32))
        word = ir.VectorType(ir.IntType(32), LANES)
        none = ir.Constant(word, ir.Undefined)
        every = builder.insert_element(none, count, ir.IntType(32)(0))
        every = builder.shuffle_vector(every, none, ir.Constant(word, None))
        mask = builder.icmp_signed("<", ir.Constant(word, list(range(LANES))), every)
        to = builder.bitcast(emit_element(context, builder, sig.args[0], *args[:2]), vector.type.as_pointer())
        align = ir.IntType(32)(sig.args[2].element.bitwidth // 8)
        kind = ir.FunctionType(ir.VoidType(), [vector.type, to.type, align.type, mask.type])
        name = f"llvm.masked.store.{sig.args[2].suffix}.p0"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [vector, to, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR_OF[array.dtype], types.intp), codegen


@intrinsic
def splat(typingctx, scalar):
    """One float in all sixteen lanes."""
    vector = VECTOR_OF[scalar]

    def codegen(context, builder, sig, args):
        return emit_splat(builder, args[0], vector)

    return vector(scalar), codegen


@intrinsic
def fill(typingctx, like, scalar):
    """A scalar in all sixteen lanes of a vector of the type of ``like``."""

    def codegen(context, builder, sig, args):
        return emit_splat(builder, args[1], like)

    return like(like, like.element), codegen


@intrinsic
def widened(typingctx, vector):
    """Sixteen float32 as float64."""

    def codegen(context, builder, sig, args):
        return builder.fpext(args[0], f64x16.ir)

    return f64x16(vector), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once."""

    def codegen(context, builder, sig, args):
        return emit_call(builder, "fma", a, *args)

    return a(a, a, a), codegen


@intrinsic
def clamp(typingctx, vector, low, high):
    """Each lane held between two scalars."""

    def codegen(context, builder, sig, args):
        value, low, high = args[0], emit_splat(builder, args[1], vector), emit_splat(builder, args[2], vector)
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        return builder.select(builder.fcmp_ordered(">", value, high), high, value)

    return vector(vector, vector.element, vector.element), codegen


@intrinsic
def positive(typingctx, vector):
    """max(x, 0), lane by lane: the rectifier. NaN stays NaN, so that a step gone wrong is seen."""

    def codegen(context, builder, sig, args):
        zero = ir.Constant(vector.ir, None)
        return builder.select(builder.fcmp_unordered(">", args[0], zero), args[0], zero)

    return vector(vector), codegen


@intrinsic
def larger(typingctx, a, b):
    """The larger of two values, lane by lane; NaN where the first is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", *args), args[1], args[0])

    return a(a, a), codegen


@intrinsic
def smaller(typingctx, a, b):
    """The smaller of two values, lane by lane; NaN where the first is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), args[1], args[0])

    return a(a, a), codegen


@intrinsic
def nearest(typingctx, vector):
    """The nearest whole number, the even one of two."""

    def codegen(context, builder, sig, args):
        return emit_call(builder, "rint", vector, *args)

    return vector(vector), codegen


@intrinsic
def times_power_of_2(typingctx, vector, exponents):
    """v * 2^k, lane by lane, for whole k of -126 to 127. What k of NaN gives is unspecified."""
    bits = vector.element.bitwidth
    fraction = 23 if bits == 32 else 52
    word = ir.VectorType(ir.IntType(bits), LANES)

    def codegen(context, builder, sig, args):
        def every(number):
            return ir.Constant(word, [number] * LANES)

        # added to 1.5 * 2^fraction, k stands in the lowest bits of the sum
        magic = ir.Constant(vector.ir, [1.5 * 2.0**fraction] * LANES)
        low = builder.bitcast(builder.fadd(args[1], magic), word)
        one = every((1 << bits - 2) - (1 << fraction))  # 1.0
        power = builder.add(builder.shl(low, every(fraction)), one)
        return builder.fmul(args[0], builder.bitcast(power, vector.ir))

    return vector(vector, vector), codegen


@intrinsic
def beyond(typingctx, vector, limit):
    """1 in each lane whose absolute value is above a scalar, 0 in the others."""

    def codegen(context, builder, sig, args):
        size = emit_call(builder, "fabs", vector, args[0])
        over = builder.fcmp_ordered(">", size, emit_splat(builder, args[1], vector))
        return builder.select(
            over, emit_splat(builder, vector.ir.element(1), vector), ir.Constant(vector.ir, None)
        )

    return vector(vector, vector.element), codegen


@intrinsic
def first_lanes(typingctx, vector, count, rest):
    """The first ``count`` lanes, all if it is 16 or more, and a scalar in the others."""

    def codegen(context, builder, sig, args):
        vector, count, rest = args
        word = ir.VectorType(ir.IntType(64), LANES)
        none = ir.Constant(word, ir.Undefined)
        every = builder.insert_element(none, count, ir.IntType(32)(0))
        every = builder.shuffle_vector(every, none, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))
        within = builder.icmp_signed("<", ir.Constant(word, list(range(LANES))), every)
        return builder.select(within, vector, emit_splat(builder, rest, sig.args[0]))

    return vector(vector, types.intp, vector.element), codegen


@intrinsic
def where_above(typingctx, vector, limit):
    """Each lane that is above a scalar, 0 for the others; NaN stays NaN."""

    def codegen(context, builder, sig, args):
        above = builder.fcmp_unordered(">", args[0], emit_splat(builder, args[1], vector))
        return builder.select(above, args[0], ir.Constant(vector.ir, None))

    return vector(vector, vector.element), codegen


def _tree(builder, value, joined):
    """The sixteen lanes as one scalar, by a tree of four levels: ((0+8)+(4+12))+..."""
    for half in (8, 4, 2, 1):
        lanes = [ir.IntType(32)(lane) for lane in range(half)]
        upper = [ir.IntType(32)(lane + half) for lane in range(half)]
        mask = ir.VectorType(ir.IntType(32), half)
        low = builder.shuffle_vector(value, value, ir.Constant(mask, lanes))
        high = builder.shuffle_vector(value, value, ir.Constant(mask, upper))
        value = joined(low, high)
    return builder.extract_element(value, ir.IntType(32)(0))


@intrinsic
def total(typingctx, vector):
    """The sum of the sixteen lanes, as a tree of four levels: ((0+8)+(4+12))+..."""

    def codegen(context, builder, sig, args):
        return _tree(builder, args[0], builder.fadd)

    return vector.element(vector), codegen


@intrinsic
def highest(typingctx, vector):
    """The largest of the sixteen lanes; any of them where one is NaN."""

    def codegen(context, builder, sig, args):
        def larger_of(a, b):
            return builder.select(builder.fcmp_ordered("<", a, b), b, a)

        return _tree(builder, args[0], larger_of)

    return vector.element(vector), codegen


def _arithmetic(operation, emit):
    @infer_global(operation)
    class _Typing(ConcreteTemplate):
        cases = tuple(signature(vector, vector, vector) for vector in (f32x16, f64x16))

    @lower_builtin(operation, f32x16, f32x16)
    @lower_builtin(operation, f64x16, f64x16)
    def _lower(context, builder, sig, args):
        return getattr(builder, emit)(*args)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")
