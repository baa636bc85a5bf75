"""Entry points that other compiled code calls, by their address: compiled once, whoever calls them."""

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from streamrnn.compiling.handing import Handed
from streamrnn.compiling.jit import Entry

_WORD, _BYTES, _STATUS = ir.IntType(64), ir.IntType(8).as_pointer(), ir.IntType(32)


class Callee(NamedTuple):
    """An entry point and the named tuple that it is to be called with, as compiled code knows them."""

    code: int  # the address of the one
    words: int  # and of those of the other, see ``handing``


NOBODY = Callee(0, 0)


class Prepared:
    """An entry point that takes a named tuple and two integers, compiled or loaded for ``call``.

    ``callee`` is good for as long as this and the named tuple are.
    """

    def __init__(self, entry: Entry, named_tuple: Any, known: bool = True) -> None:
        """``known``: as of ``Handed``."""
        self._handed = Handed(named_tuple, known)
        self.callee = Callee(entry.address_for(self._handed, 0, 0), self._handed.address)


@intrinsic
def call(typingctx, code, words, one, other):  # type: ignore[no-untyped-def]
    """What a ``Callee`` returns for two integers: an integer. It raises nothing."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        said, raised = cgutils.alloca_once(builder, _WORD), cgutils.alloca_once(builder, _BYTES)
        # how Numba calls a function: where to put what it returns and raises, then its arguments
        parameters = [said.type, raised.type, _BYTES, _WORD, _WORD]
        function = builder.inttoptr(args[0], ir.FunctionType(_STATUS, parameters).as_pointer())
        builder.call(function, [said, raised, builder.inttoptr(args[1], _BYTES), *args[2:]])
        return builder.load(said)

    return types.intp(types.intp, types.intp, types.intp, types.intp), codegen
