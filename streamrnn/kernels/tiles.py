"""Tiles: the accumulators of a small matrix product as one value, held in registers.

A ``Tile`` is blocks x streams vectors of sixteen lanes, each a value of its own to LLVM. Loads and stores
check nothing, as those of ``simd``.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from streamrnn.kernels.simd import (
    LANES,
    VECTOR_OF,
    emit_call,
    emit_element,
    emit_load,
    emit_splat,
    emit_store,
)

_INDEX = ir.IntType(64)


class Tile(types.Type):
    """Numba's type of ``blocks x streams`` accumulators, each a ``vector``."""

    def __init__(self, vector, blocks, streams):
        self.vector, self.blocks, self.streams = vector, blocks, streams
        super().__init__(name=f"tile{blocks}x{streams} {vector}")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        cells = tile.blocks * tile.streams
        super().__init__(manager, tile, ir.LiteralStructType([tile.vector.ir] * cells))


@intrinsic(prefer_literal=True)
def tile_load(typingctx, array, index, blocks, streams):
    """A tile whose every stream starts from ``blocks`` vectors at ``array[index]``: the biases.

    ``blocks`` and ``streams`` must be literal integers.
    """
    tile = Tile(VECTOR_OF[array.dtype], blocks.literal_value, streams.literal_value)

    def codegen(context, builder, sig, args):
        value = ir.Constant(context.get_value_type(tile), ir.Undefined)
        address = emit_element(context, builder, sig.args[0], *args[:2])
        for block in range(tile.blocks):
            vector = emit_load(builder, builder.gep(address, [_INDEX(LANES * block)]), tile.vector)
            for stream in range(tile.streams):
                value = builder.insert_value(value, vector, block * tile.streams + stream)
        return value

    return tile(array, types.intp, blocks, streams), codegen


@intrinsic(prefer_literal=True)
def tile_resume(typingctx, array, index, stride, blocks, streams):
    """A tile that ``tile_store`` wrote to ``array[index]``."""
    tile = Tile(VECTOR_OF[array.dtype], blocks.literal_value, streams.literal_value)

    def codegen(context, builder, sig, args):
        value = ir.Constant(context.get_value_type(tile), ir.Undefined)
        address = emit_element(context, builder, sig.args[0], *args[:2])
        for stream in range(tile.streams):
            row = builder.gep(address, [builder.mul(args[2], _INDEX(stream))])
            for block in range(tile.blocks):
                vector = emit_load(builder, builder.gep(row, [_INDEX(LANES * block)]), tile.vector)
                value = builder.insert_value(value, vector, block * tile.streams + stream)
        return value

    return tile(array, types.intp, types.intp, blocks, streams), codegen


@intrinsic(prefer_literal=True)
def tile_fill(typingctx, vector, blocks, streams):
    """A tile whose first block is ``vector`` in every stream, and its others zeros: strands of one sum."""
    tile = Tile(vector, blocks.literal_value, streams.literal_value)

    def codegen(context, builder, sig, args):
        value = ir.Constant(context.get_value_type(tile), None)
        for stream in range(tile.streams):
            value = builder.insert_value(value, args[0], stream)
        return value

    return tile(vector, blocks, streams), codegen


def _inputs(builder, address, count, vector):
    """``count`` inputs over and over, in all lanes of a vector."""
    if count == 1:
        return emit_splat(builder, builder.load(address), vector)
    few = ir.VectorType(vector.ir.element, count)
    value = builder.load(builder.bitcast(address, few.as_pointer()))
    value.align = vector.element.bitwidth // 8
    return builder.shuffle_vector(value, value, _mask(lane % count for lane in range(LANES)))


def _mask(lanes):
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


def _outer_product(builder, context, sig, args, blocks, inputs, together):
    """``tile`` and the products of the weights of its first ``blocks`` with the inputs of each stream.

    Those of a block are ``inputs`` further on than those of the one before, and ``together`` in a vector.
    """
    tile, (value, _, at, _, first, stride) = sig.args[0], args
    weight = emit_element(context, builder, sig.args[1], args[1], at)
    source = emit_element(context, builder, sig.args[3], args[3], first)
    vectors = [
        emit_load(builder, builder.gep(weight, [_INDEX(LANES * block)]), tile.vector)
        for block in range(blocks)
    ]
    # Stream by stream, all blocks of each: then one input is alive at a time, and the registers are left to
    # the accumulators. LLVM keeps the order, and spills in the other one.
    for stream in range(tile.streams):
        row = builder.gep(source, [builder.mul(stride, _INDEX(stream))])
        for block in range(blocks):
            if block == 0 or inputs > 0:
                lanes = _inputs(builder, builder.gep(row, [_INDEX(inputs * block)]), together, tile.vector)
            cell = block * tile.streams + stream
            added = emit_call(
                builder, "fma", tile.vector, vectors[block], lanes, builder.extract_value(value, cell)
            )
            value = builder.insert_value(value, added, cell)
    return value


@intrinsic
def tile_fma(typingctx, tile, weights, at, inputs, first, stride):
    """Adds the outer product of ``blocks`` weight vectors and one input of each stream.

    tile[b, s] += weights[at + 16 b : at + 16 b + 16] * inputs[first + s * stride]
    """

    def codegen(context, builder, sig, args):
        return _outer_product(builder, context, sig, args, tile.blocks, 0, 1)

    return tile(tile, weights, types.intp, inputs, types.intp, types.intp), codegen


# Where the sum of a single block is made in strands, STRANDS inputs after one another go to one strand each.
# A tile of four blocks has a strand in each; one of two or one, of which eight or four rows count, has two or
# four strands in each, row by row.
STRANDS = 4


@intrinsic
def tile_fma_strands(typingctx, tile, weights, at, inputs, first, stride):
    """Adds the products of STRANDS inputs of each stream, each to its strand."""
    together = STRANDS // tile.blocks

    def codegen(context, builder, sig, args):
        return _outer_product(builder, context, sig, args, tile.blocks, together, together)

    return tile(tile, weights, types.intp, inputs, types.intp, types.intp), codegen


@intrinsic
def tile_fma_first(typingctx, tile, weights, at, inputs, first, stride):
    """Adds the products of one input of each stream to the first strand."""
    together = STRANDS // tile.blocks

    def codegen(context, builder, sig, args):
        value = _outer_product(builder, context, sig, args, 1, 0, 1)
        if together == 1:
            return value
        first = ir.Constant(
            ir.VectorType(ir.IntType(1), LANES), [lane % together == 0 for lane in range(LANES)]
        )
        for stream in range(tile.streams):
            old, new = (builder.extract_value(one, stream) for one in (args[0], value))
            value = builder.insert_value(value, builder.select(first, new, old), stream)
        return value

    return tile(tile, weights, types.intp, inputs, types.intp, types.intp), codegen


def _add_words(builder, context, sig, args, columns):
    """To a tile of one stream the products of the weights in the words of each block, one column or both."""
    tile, (value, _, at, _, first) = sig.args[0], args
    address = emit_element(context, builder, sig.args[1], args[1], at)
    source = emit_element(context, builder, sig.args[3], args[3], first)
    kind = ir.VectorType(ir.IntType(32), LANES)
    sixteen = ir.Constant(kind, [16] * LANES)
    inputs = [
        emit_splat(builder, builder.load(builder.gep(source, [_INDEX(column)])), tile.vector)
        for column in range(columns)
    ]
    for block in range(tile.blocks):
        place = builder.gep(address, [_INDEX(LANES * block)])
        word = builder.load(builder.bitcast(place, kind.as_pointer()))
        word.align = 4
        added = builder.extract_value(value, block)
        for column, lanes in enumerate(inputs):
            weights = builder.bitcast(word if column else builder.shl(word, sixteen), tile.vector.ir)
            added = emit_call(builder, "fma", tile.vector, weights, lanes, added)
        value = builder.insert_value(value, added, block)
    return value


@intrinsic(prefer_literal=True)
def tile_fma_words(typingctx, tile, words, at, inputs, first, ahead):
    """Adds for one stream the products of two columns whose weights share words, as ``halves`` has it.

    Has the words fetched into the first cache that are to be read ``ahead`` calls later, a literal integer.
    """
    further = ahead.literal_value

    def codegen(context, builder, sig, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, number, number, number]),
            "llvm.prefetch.p0",
        )
        to_read, all_caches, data = number(0), number(3), number(1)
        value = _add_words(builder, context, sig, args[:5], 2)
        address = emit_element(context, builder, sig.args[1], args[1], args[2])
        for block in range(tile.blocks):
            place = builder.gep(address, [_INDEX(LANES * (further * tile.blocks + block))])
            builder.call(function, [builder.bitcast(place, byte), to_read, all_caches, data])
        return value

    return tile(tile, words, types.intp, inputs, types.intp, ahead), codegen


@intrinsic
def tile_fma_lower(typingctx, tile, words, at, inputs, first):
    """The same for a column that is alone in the lower halves."""

    def codegen(context, builder, sig, args):
        return _add_words(builder, context, sig, args, 1)

    return tile(tile, words, types.intp, inputs, types.intp), codegen


@intrinsic
def tile_join(typingctx, tile):
    """The strands of each stream, added up as (0 + 1) + (2 + 3): a tile of one block."""
    joined = Tile(tile.vector, 1, tile.streams)
    together = STRANDS // tile.blocks
    rows = LANES // together

    def codegen(context, builder, sig, args):
        value = ir.Constant(context.get_value_type(joined), ir.Undefined)
        zeros = ir.Constant(tile.vector.ir, None)
        for stream in range(tile.streams):
            strands = []
            for strand in range(STRANDS):
                vector = builder.extract_value(args[0], strand // together * tile.streams + stream)
                lanes = [row * together + strand % together for row in range(rows)]
                if together > 1:
                    vector = builder.shuffle_vector(vector, zeros, _mask(lanes + [LANES] * (LANES - rows)))
                strands.append(vector)
            one, two, three, four = strands
            total = builder.fadd(builder.fadd(one, two), builder.fadd(three, four))
            value = builder.insert_value(value, total, stream)
        return value

    return joined(tile), codegen


@intrinsic
def tile_add(typingctx, a, b):
    """a + b, vector by vector."""

    def codegen(context, builder, sig, args):
        value = ir.Constant(context.get_value_type(a), ir.Undefined)
        for cell in range(a.blocks * a.streams):
            one, other = (builder.extract_value(tile, cell) for tile in args)
            value = builder.insert_value(value, builder.fadd(one, other), cell)
        return value

    return a(a, a), codegen


@intrinsic
def tile_store(typingctx, tile, array, index, stride):
    """Writes tile[b, s] to ``array[index + s * stride + 16 b]``."""

    def codegen(context, builder, sig, args):
        value, _, index, stride = args
        address = emit_element(context, builder, sig.args[1], args[1], index)
        for stream in range(tile.streams):
            offset = builder.mul(stride, _INDEX(stream))
            row = builder.gep(address, [offset])
            for block in range(tile.blocks):
                vector = builder.extract_value(value, block * tile.streams + stream)
                emit_store(builder, vector, builder.gep(row, [_INDEX(LANES * block)]), tile.vector)
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), codegen
