"""Named tuples of arrays, in compiled code, by address.

An array is seven words to Numba, and a named tuple as many times more: the engine's is five hundred. A part
that takes one by value names them all, in every call and once more in itself, which was most of what there
was to compile. So an entry point gets one address, of words that hold all fields; see ``handed``. They do not
change while it runs, and LLVM is told so: a field is read where it is needed, and need not be read again.

Of an array in it, the address of its words is what is handed on. An index into it counts from its begin: a
negative one is no place near its end.
"""

import hashlib
import operator
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin, lower_getattr, lower_getattr_generic
from numba.core.types.containers import BaseTuple, UniTuple
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    Signature,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import NativeValue, models, register_model, unbox
from numba.np import arrayobj

WORD = 8  # bytes: of any number, too
_BYTES, _WORD = ir.IntType(8).as_pointer(), ir.IntType(64)
_SIZE, _DATA, _SHAPE = 2, 4, 5  # which words of an array's; then come the strides


class ArrayAt(types.Type):
    """Numba's type of the address of what it keeps of an array, C-contiguous."""

    def __init__(self, whole: types.Array) -> None:
        self.whole, self.dtype, self.ndim = whole, whole.dtype, whole.ndim
        self.words = _SHAPE + 2 * whole.ndim
        super().__init__(name=f"at {whole}")


class Bundle(types.Type):
    """Numba's type of the address of a named tuple, whose fields are read as those of the tuple are.

    A field of a literal type is not read at all: whoever is compiled for the bundle knows its value.
    """

    def __init__(self, of: Any, kinds: tuple[types.Type, ...]) -> None:
        """``of`` is the class of the named tuple, ``kinds`` are the types of its fields."""
        self.fields = dict(zip(of._fields, kinds, strict=True))
        self.begins, self.words = dict[str, int](), 0
        for name, kind in self.fields.items():
            self.begins[name] = self.words
            self.words += kind.words if isinstance(kind, Bundle | ArrayAt) else 1
        told = ", ".join(kind.key if isinstance(kind, Bundle) else str(kind) for kind in kinds)
        self._key = f"{of.__module__}.{of.__qualname__}({told})"
        super().__init__(name=of.__name__)

    @property
    def key(self) -> str:
        """What makes two of them one type: a text, of which Python knows the hash."""
        return self._key

    @property
    def mangling_args(self) -> tuple[str, tuple[()]]:
        """What stands for it in the name of a function, by which LLVM finds it.

        Numba's number in there does not tell two functions apart that two processes put into the cache.
        """
        return f"{self.name}.{hashlib.sha256(self._key.encode()).hexdigest()[:16]}", ()


@register_model(ArrayAt)
@register_model(Bundle)
class _AddressModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _BYTES)


@unbox(Bundle)
def _from_number(kind: Bundle, number: Any, context: Any) -> NativeValue:
    return NativeValue(context.pyapi.long_as_voidptr(number))


def _word(builder: Any, address: Any, index: int, kind: Any) -> Any:
    """The word ``index`` behind an address, of an LLVM type."""
    place = builder.gep(address, [_WORD(WORD * index)], inbounds=True)
    return builder.load(builder.bitcast(place, kind.as_pointer()))


@infer_getattr
class _Fields(AttributeTemplate):
    key = Bundle

    def generic_resolve(self, bundle: Bundle, name: str) -> types.Type | None:
        return bundle.fields.get(name)


@lower_getattr_generic(Bundle)
def _field(context: Any, builder: Any, bundle: Bundle, address: Any, name: str) -> Any:
    kind, begin = bundle.fields[name], bundle.begins[name]
    if isinstance(kind, types.Literal):
        return context.get_constant(kind, kind.literal_value)
    if isinstance(kind, Bundle | ArrayAt):
        return builder.gep(address, [_WORD(WORD * begin)], inbounds=True)
    return _word(builder, address, begin, context.get_value_type(kind))


def data_of(context: Any, builder: Any, kind: types.Type, array: Any) -> Any:
    """For intrinsics: the address of the first element of an array, in whichever form it is handed on."""
    if isinstance(kind, ArrayAt):
        return _word(builder, array, _DATA, context.get_data_type(kind.dtype).as_pointer())
    return arrayobj.make_array(kind)(context, builder, array).data


def _element(context: Any, builder: Any, array: ArrayAt, address: Any, index: Any) -> tuple[Any, int | None]:
    """Where an element stands, and how it is aligned."""
    place = builder.gep(data_of(context, builder, array, address), [index], inbounds=True)
    return place, None if array.whole.aligned else 1


def _places(array: ArrayAt, index: types.Type) -> types.Type | None:
    """The type to which Numba casts an index: a number for each dimension."""
    if array.ndim == 1 and isinstance(index, types.Integer):
        return types.intp
    if isinstance(index, BaseTuple) and all(isinstance(one, types.Integer) for one in index):
        return UniTuple(types.intp, array.ndim) if len(index) == array.ndim > 1 else None
    return None


@infer_global(operator.getitem)
class _Getting(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Signature | None:
        array, index = arguments
        if isinstance(array, ArrayAt) and (places := _places(array, index)):
            return signature(array.dtype, array, places)
        if isinstance(array, ArrayAt) and array.ndim == 2 and isinstance(index, types.Integer):
            return signature(types.Array(array.dtype, 1, "C", aligned=array.whole.aligned), array, types.intp)
        return None


@infer_global(operator.setitem)
class _Setting(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Signature | None:
        array, index, value = arguments
        places = _places(array, index) if isinstance(array, ArrayAt) else None
        if places is None or self.context.can_convert(value, array.dtype) is None:
            return None
        return signature(types.none, array, places, array.dtype)


def _flat(builder: Any, array: ArrayAt, address: Any, kind: types.Type, index: Any) -> Any:
    """An index among all elements."""
    if not isinstance(kind, UniTuple):
        return index
    at = builder.extract_value(index, 0)
    for axis in range(1, array.ndim):
        size = _word(builder, address, _SHAPE + axis, _WORD)
        at = builder.add(builder.mul(at, size), builder.extract_value(index, axis))
    return at


@lower_builtin(operator.getitem, ArrayAt, types.Any)
def _get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array, kind = sig.args
    if sig.return_type != array.dtype:
        return _row(context, builder, sig, args)
    place = _element(context, builder, array, args[0], _flat(builder, array, args[0], kind, args[1]))
    return context.unpack_value(builder, array.dtype, *place)


def _row(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A row of a table, as an array of Numba's."""
    array, (address, index) = sig.args[0], args
    width = _word(builder, address, _SHAPE + 1, _WORD)
    place, _ = _element(context, builder, array, address, builder.mul(index, width))
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
    row = arrayobj.make_array(sig.return_type)(context, builder)
    arrayobj.populate_array(row, place, [width], [item], item, None)
    return row._getvalue()


@lower_builtin(operator.setitem, ArrayAt, types.Any, types.Any)
def _set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array, kind, _ = sig.args
    place = _element(context, builder, array, args[0], _flat(builder, array, args[0], kind, args[1]))
    context.pack_value(builder, array.dtype, args[2], *place)
    return context.get_dummy_value()


@infer_getattr
class _Sizes(AttributeTemplate):
    key = ArrayAt

    def resolve_size(self, array: ArrayAt) -> types.Type:
        return types.intp

    def resolve_shape(self, array: ArrayAt) -> types.Type:
        return UniTuple(types.intp, array.ndim)


@lower_getattr(ArrayAt, "size")
def _size(context: Any, builder: Any, array: ArrayAt, address: Any) -> Any:
    return _word(builder, address, _SIZE, _WORD)


@lower_getattr(ArrayAt, "shape")
def _shape(context: Any, builder: Any, array: ArrayAt, address: Any) -> Any:
    sizes = [_word(builder, address, _SHAPE + axis, _WORD) for axis in range(array.ndim)]
    return context.make_tuple(builder, UniTuple(types.intp, array.ndim), sizes)


@infer_global(len)
class _Length(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Signature | None:
        return signature(types.intp, *arguments) if isinstance(arguments[0], ArrayAt) else None


@lower_builtin(len, ArrayAt)
def _length(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _word(builder, args[0], _SHAPE, _WORD)
