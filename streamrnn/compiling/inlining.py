"""Parts of compiled functions, which are only ever inlined: lowered by Numba, but not compiled by themselves.

Numba optimises every function, and makes machine code of it, before another one inlines it, which does both
again: of a function some calls deep that is most of the time it takes to compile. A part is linked as it was
lowered, and optimised once, where it ends up.

No index in a part is negative: counting from the end would cost each access of an array four instructions,
an eighth of all that a frame takes.
"""

import ctypes
from typing import Any

from llvmlite import ir
from llvmlite.binding import create_pass_builder, create_pipeline_tuning_options
from numba import _dynfunc, types
from numba.core import cgutils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, _pass_registry, register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import (
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode
from numba.np import arrayobj

from streamrnn.compiling.bundles import Bundle
from streamrnn.compiling.pruning import Pruning

# What stands for the machine code of a part, which nobody calls.
_NEVER_CALLED = ctypes.CFUNCTYPE(None)(lambda: None)
_ADDRESS = ctypes.cast(_NEVER_CALLED, ctypes.c_void_p).value


class _PartLibrary(JITCodeLibrary):
    """Code to be linked into an entry point's, and nothing more: as it was lowered."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._finalized = True


class _EntryLibrary(JITCodeLibrary):
    """Code with that of all parts, each of them once."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        """All at once, where Numba has three rounds, and no loop unrolled: ours were no faster for it."""
        tuning = create_pipeline_tuning_options(speed_level=2)
        tuning.loop_vectorization, tuning.loop_unrolling = True, False
        builder = create_pass_builder(self._codegen._tm, tuning)
        builder.getModulePassManager().run(self._final_module, builder)

    def finalize(self) -> None:
        self._linking_libraries: list[Any] = _with_parts_of_parts(self._linking_libraries)
        super().finalize()


def _with_parts_of_parts(libraries: list[Any]) -> list[Any]:
    found, left = dict[Any, None](), list(libraries)
    while left:
        library = left.pop()
        if library not in found:
            found[library] = None
            left += library._linking_libraries if isinstance(library, _PartLibrary) else []
    return list(found)


def _executable(library: Any, fndesc: Any, env: Any) -> Any:
    """In place of ``CPUContext.get_executable``: what Numba knows the part by."""
    name = fndesc.qualname.split(".")[-1]
    return _dynfunc.make_function(fndesc.lookup_module(), name, "", _ADDRESS, env, (library,))


def _from_the_front(context: Any, builder: Any, kind: Any, index: Any, _: Any) -> Any:
    """In place of ``arrayobj.fix_integer_index``: the index as it is."""
    return context.cast(builder, index, kind, types.intp)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's own, into such a library."""

    _name = "lowering_of_a_part"

    def run_pass(self, state: Any) -> bool:
        context = state.targetctx
        state.library = _PartLibrary(context.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        fix_index = arrayobj.fix_integer_index
        context.get_executable = _executable  # of this instance, for as long as the pass runs
        arrayobj.fix_integer_index = _from_the_front
        try:
            lowered: bool = super().run_pass(state)
        finally:
            del context.get_executable
            arrayobj.fix_integer_index = fix_index
        return lowered


class _CopyingLower(Lower):
    """Numba's own, of a function whose named tuples are copied to its stack, where LLVM takes them apart."""

    def extract_function_arguments(self) -> Any:
        given = zip(self.fndesc.argtypes, super().extract_function_arguments(), strict=True)
        self.fnargs = [
            _copied(self.builder, kind, value) if isinstance(kind, Bundle) else value for kind, value in given
        ]
        return self.fnargs


def _copied(builder: Any, bundle: Bundle, address: Any) -> Any:
    words = ir.ArrayType(ir.IntType(64), bundle.words)
    copy = cgutils.alloca_once(builder, words)
    copy.align = 16
    copy = builder.bitcast(copy, address.type)
    cgutils.raw_memcpy(builder, copy, address, ir.IntType(64)(8 * bundle.words), 1)
    return copy


@register_pass(mutates_CFG=True, analysis_only=False)
class _EntryLowering(NativeLowering):
    _name = "lowering_of_an_entry_point"

    def run_pass(self, state: Any) -> bool:
        state.library = _EntryLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        lowered: bool = super().run_pass(state)
        return lowered

    @property
    def lowering_class(self) -> type:
        return _CopyingLower


class _Passes(PassManager):
    """The passes of Numba's that find something to do here, and ours, without what is done between two."""

    def __init__(self, lowering: type) -> None:
        super().__init__("nopython")
        self.passes = [
            (TranslateByteCode, ""),
            (FixupArgs, ""),
            (IRProcessing, ""),
            (Pruning, ""),
            (ReconstructSSA, ""),
            (NopythonTypeInference, ""),
            (PreLowerStripPhis, ""),
            (lowering, ""),
            (NoPythonBackend, ""),
        ]
        self.finalize()

    def run(self, state: Any) -> None:
        for stage, _ in self.passes:
            _pass_registry.get(stage).pass_inst.run_pass(state)


class EntryCompiler(CompilerBase):
    """Numba's compiler with that lowering, for ``numba.njit(pipeline_class=...)``."""

    def define_pipelines(self) -> list[Any]:
        return [_Passes(_EntryLowering)]


class PartCompiler(CompilerBase):
    """Numba's compiler with that lowering, for ``numba.njit(pipeline_class=...)``."""

    def define_pipelines(self) -> list[Any]:
        return [_Passes(_Lowering)]


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
