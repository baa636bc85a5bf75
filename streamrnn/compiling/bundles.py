"""Named tuples of arrays, handed from part to part by address.

An array is seven words to Numba, and a named tuple as many times more: the engine's is five hundred. Each
part that takes one by value names them all, in every call and once more in itself, which was most of what
there was to compile. An address is one word, and when everything is inlined nothing is left of it: LLVM
takes the copy on the stack apart, and keeps what is used of it in registers as before.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_getattr_generic
from numba.core.types.containers import BaseNamedTuple
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, models, register_model


class Bundle(types.Type):
    """Numba's type of the address of a named tuple, whose fields are read as those of the tuple are."""

    def __init__(self, whole: BaseNamedTuple) -> None:
        self.whole = whole
        self.fields = {
            name: Bundle(field) if isinstance(field, BaseNamedTuple) else field
            for name, field in zip(whole.fields, whole.types, strict=True)
        }
        super().__init__(name=whole.instance_class.__name__)

    @property
    def key(self) -> types.Type:
        """What makes two of them one type."""
        return self.whole


@register_model(Bundle)
class _BundleModel(models.PrimitiveModel):
    def __init__(self, manager: Any, bundle: Bundle) -> None:
        fields = [manager[field].get_value_type() for field in bundle.fields.values()]
        super().__init__(manager, bundle, ir.LiteralStructType(fields).as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):
    key = Bundle

    def generic_resolve(self, bundle: Bundle, name: str) -> types.Type | None:
        return bundle.fields.get(name)


def _place(builder: Any, bundle: Bundle, address: Any, name: str) -> Any:
    return cgutils.gep_inbounds(builder, address, 0, list(bundle.fields).index(name))


@lower_getattr_generic(Bundle)
def _field(context: Any, builder: Any, bundle: Bundle, address: Any, name: str) -> Any:
    return builder.load(_place(builder, bundle, address, name))


def _put(context: Any, builder: Any, bundle: Bundle, whole: Any) -> Any:
    """The address of a copy of ``whole`` on the stack of the function that is being built."""
    address = cgutils.alloca_once(builder, context.get_value_type(bundle).pointee)
    for index, (name, kind) in enumerate(bundle.fields.items()):
        field = builder.extract_value(whole, index)
        if isinstance(kind, Bundle):
            field = _put(context, builder, kind, field)
        builder.store(field, _place(builder, bundle, address, name))
    return address


@intrinsic
def by_address(typingctx: Any, named_tuple: Any) -> Any:
    """A named tuple for the parts that an entry point calls, as is every named tuple in it."""
    bundle = Bundle(named_tuple)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _put(context, builder, bundle, args[0])

    return bundle(named_tuple), codegen
