"""What a compiled function may tell LLVM about itself."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def unlikely(typingctx: Any, condition: Any) -> Any:
    """``condition``, which is seldom true: what is done then takes no registers from what else is done."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bit = ir.IntType(1)
        kind = ir.FunctionType(bit, [bit, bit])
        expect = cgutils.get_or_insert_function(builder.module, kind, "llvm.expect.i1")
        return builder.call(expect, [args[0], bit(0)])

    return types.boolean(types.boolean), codegen
