"""Parts of compiled functions, which are only ever inlined: lowered by Numba, but not compiled by themselves.

Numba optimises every function, and makes machine code of it, before another one inlines it, which does both
again: of a function some calls deep that is most of the time it takes to compile. A part is linked as it was
lowered, and optimised once, where it ends up.
"""

import ctypes
from typing import Any

from numba import _dynfunc, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

# What stands for the machine code of a part, which nobody calls.
_NEVER_CALLED = ctypes.CFUNCTYPE(None)(lambda: None)
_ADDRESS = ctypes.cast(_NEVER_CALLED, ctypes.c_void_p).value


class _Library(JITCodeLibrary):
    """Code to be linked into other libraries."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


def _executable(library: Any, fndesc: Any, env: Any) -> Any:
    """In place of ``CPUContext.get_executable``: what Numba knows the part by."""
    name = fndesc.qualname.split(".")[-1]
    return _dynfunc.make_function(fndesc.lookup_module(), name, "", _ADDRESS, env, (library,))


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's own, into such a library."""

    _name = "lowering_of_a_part"

    def run_pass(self, state: Any) -> bool:
        context = state.targetctx
        state.library = _Library(context.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        context.get_executable = _executable  # of this instance, for as long as the pass runs
        try:
            lowered: bool = super().run_pass(state)
        finally:
            del context.get_executable
        return lowered


class PartCompiler(CompilerBase):
    """Numba's compiler with that lowering, for ``numba.njit(pipeline_class=...)``."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (_Lowering if stage is NativeLowering else stage, words) for stage, words in pipeline.passes
        ]
        pipeline.finalize()
        return [pipeline]


def whatever_values(part: Any) -> Any:
    """Has a part compiled once for arguments of some types, also where their values are known.

    Numba would compile it, and all that it calls, for the 0 that a loop begins with, and for integers again.
    """
    fold = part._compiler.fold_argument_types

    def fold_argument_types(args: Any, kws: Any) -> Any:
        signature, kinds = fold(args, kws)
        return signature, tuple(map(types.unliteral, kinds))

    part._compiler.fold_argument_types = fold_argument_types
    return part
