"""What Numba does for every function anew, done once for as long as many are compiled."""

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from numba.core import event
from numba.core.caching import Cache
from numba.core.postproc import PostProcessor
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.transforms import canonicalize_cfg
from numba.core.types.functions import BaseFunction
from numba.np import linalg

from streamrnn.compiling.inside import KNOWN

_SELDOM = 20_000  # objects made between two looks of the garbage collector


@contextmanager
def in_haste() -> Iterator[None]:
    with ExitStack() as put_back:
        put_back.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(_SELDOM)  # what the compiler makes stays, and each look is at all of it
        if KNOWN:
            typing, target = cpu_target.typing_context, cpu_target.target_context
            for owner, name, instead in (
                (typing, "resolve_function_type", _asked_once),
                (BaseFunction, "get_call_type", _asked_once),
                (typing, "load_additional_registries", functools.partial(_imported_once, typing)),
                (target, "load_additional_registries", functools.partial(_imported_once, target)),
                (target, "get_abi_sizeof", _measured_once),
                (event, "install_timer", _untimed),
                (PostProcessor, "run", _without_lifetimes),
                (linalg, "ensure_blas", _unasked),
                (Cache, "load_overload", _loaded_alone),
            ):
                put_back.enter_context(_replaced(owner, name, instead))
        yield


@contextmanager
def _replaced(owner: Any, name: str, instead: Callable[[Any], Any]) -> Iterator[None]:
    """Has an owner do something else by a name, made of what it does by it, for the block."""
    own = vars(owner).get(name)
    setattr(owner, name, instead(getattr(owner, name)))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _asked_once(resolve: Any) -> Any:
    """What a function gives for arguments of some types: Numba tries dozens of ways."""
    known: dict[Any, Any] = {}

    def resolve_once(*asked: Any) -> Any:
        *of, arguments, keywords = asked
        key = *of, tuple(arguments), tuple(dict(keywords).items())
        if key not in known and (found := resolve(*asked)) is not None:
            known[key] = found
        return known.get(key)

    return resolve_once


def _imported_once(context: Any, load: Any) -> Any:
    """Where Numba declares what it can do; what is declared later stands in the same tables."""
    loaded = False

    def load_once() -> None:
        nonlocal loaded
        if not loaded:
            load()
            loaded = True
        for registry in list(context._registries):
            context.install_registry(registry)

    return load_once


def _measured_once(size_of: Any) -> Any:
    """Bytes of an LLVM type: LLVM is handed a module that has one such value, as text."""
    known: dict[str, int] = {}

    def measure(kind: Any) -> int:
        key = str(kind)
        if key not in known:
            known[key] = size_of(kind)
        return known[key]

    return measure


def _untimed(_: Any) -> Any:
    """How long the compiler waited for its own lock, function by function within function."""
    return lambda *_: nullcontext()


def _loaded_alone(_: Any) -> Any:
    """From the cache, without all that Numba can compile, which takes longer than what there is to load."""

    def load(cache: Any, signature: Any, context: Any) -> Any:
        rtsys.initialize(context)
        with cache._guard_against_spurious_io_errors():
            return cache._load_overload(signature, context)

    return load


def _unasked(_: Any) -> Any:
    """Whether SciPy is there, for matrix products: it would be imported, and who takes one asks again."""
    return lambda: None


def _without_lifetimes(_: Any) -> Any:
    """How long each variable lives, found out anew after every pass, to count references: we have none."""

    def run(processor: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
        processor.func_ir.blocks = canonicalize_cfg(processor.func_ir.blocks)
        processor.func_ir.generator_info = None

    return run
