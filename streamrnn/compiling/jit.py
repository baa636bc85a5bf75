"""How streamrnn compiles, and where compiled code is kept between starts.

Numba keys its cache by the one file a function stands in; ours inlines code from several. So the
cache folder of an entry point carries a digest of every source that its module imports: changed code never
meets a stale entry, and two versions can share a machine.
"""

import functools
import gc
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.registry import cpu_target

from streamrnn.compiling.inside import KNOWN, NEWEST
from streamrnn.compiling.sources import digest_of

_QUIET_S = 2.0
_SELDOM = 20_000  # objects made between two looks of the garbage collector


def _cache_root() -> Path:
    """Numba's own variable, then systemd's, then the user's cache folder."""
    for variable, folder in (
        ("NUMBA_CACHE_DIR", ""),
        ("CACHE_DIRECTORY", ""),
        ("XDG_CACHE_HOME", "streamrnn"),
    ):
        if value := os.environ.get(variable):
            return Path(value.split(":")[0]) / folder
    return Path("~/.cache/streamrnn").expanduser()


def _cache_folder() -> tuple[Path | None, str | None]:
    """A writable folder for what is compiled with this Numba, or why there is none."""
    folder = Path(f"numba-{numba.__version__}{'' if KNOWN else '-plain'}")
    try:
        folder = _cache_root() / folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what is loaded from here is run
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        reason = getattr(error, "strerror", None) or error
        return None, (
            f"compiled kernels cannot be kept in {folder} ({reason}), so every start compiles "
            "them anew; set NUMBA_CACHE_DIR to a folder that can be written"
        )
    return folder, None


@contextmanager
def compiling(say: Callable[[str], object]) -> Iterator[None]:
    """For a block that may compile much: says why it takes so long, where it does and not all was kept."""
    notice = _Notice(say)
    try:
        with event.install_listener("numba:compile", notice), _types_remembered(), _rare_collections():
            yield
    finally:
        notice.cancel()


class _Notice(event.Listener):
    """Says why a start takes so long, from the first function on that is compiled, and not loaded."""

    def __init__(self, say: Callable[[str], object]) -> None:
        words = "compiling kernels for this machine; this takes some ten seconds, once for each command"
        self._timer = threading.Timer(_QUIET_S, say, [words])
        self._timer.daemon = True
        self._begun = False

    def on_start(self, _: event.Event) -> None:
        if not self._begun:
            self._begun = True
            self._timer.start()

    def on_end(self, _: event.Event) -> None:
        pass

    def cancel(self) -> None:
        self._timer.cancel()


@contextmanager
def _types_remembered() -> Iterator[None]:
    """Has Numba ask once what a function gives for arguments of some types; it tries dozens of ways anew."""
    if not KNOWN:
        yield
        return
    context: Any = cpu_target.typing_context
    resolve, known = context.resolve_function_type, {}

    def resolve_once(function: Any, arguments: Any, keywords: Any) -> Any:
        key = function, tuple(arguments), tuple(dict(keywords).items())
        if key not in known and (found := resolve(function, arguments, keywords)) is not None:
            known[key] = found
        return known.get(key)

    context.resolve_function_type = resolve_once
    try:
        yield
    finally:
        del context.resolve_function_type


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Has the garbage collector look seldom: what the compiler makes stays, and each look is at all of it."""
    often = gc.get_threshold()
    gc.set_threshold(_SELDOM, *often[1:])
    try:
        yield
    finally:
        gc.set_threshold(*often)


CACHE, UNCACHED = _cache_folder()  # UNCACHED: what to tell a user whose kernels cannot be kept

# Division by zero gives inf or nan as NumPy does, so that no exception path stands in the way of a
# frame. `_nrt=False` turns Numba's reference counting off: nothing here allocates, the caller keeps
# every array alive, and counting the arrays of a named tuple cost four times what the step does. Without
# Numba's rewrites, which are for array expressions and the like, a tenth is compiled sooner.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_rewrites": True,
    "no_cfunc_wrapper": True,
}

# A part is always inlined, and without a wrapper for Python, which would take longer to compile than the
# function.
_part: Any = functools.partial(numba.njit, forceinline=True, no_cpython_wrapper=True, **_OPTIONS)


def compiled(function: Any = None, *, cache: bool = True, **options: Any) -> Any:
    """An entry point: called from Python without the GIL, kept in the ``cache``. ``options`` are Numba's."""
    if function is None:
        return functools.partial(compiled, cache=cache, **options)
    source = Path(function.__code__.co_filename)
    cache = cache and CACHE is not None and source.is_file()
    if cache:  # Numba reads it as it makes the function
        numba.config.CACHE_DIR = f"{CACHE}/{digest_of(source)[:16]}"
    return numba.njit(function, cache=cache, **_OPTIONS | options)


if not KNOWN:
    logging.getLogger("streamrnn").debug(
        "compiling without shortcuts, which know Numba up to %d.%d: this takes about three times as long",
        *NEWEST,
    )


def inlined(function: Callable[..., Any]) -> Any:
    """A part of an entry point, or of another part; not for Python to call."""
    if not KNOWN:
        return _part(function)
    from streamrnn.compiling.inlining import PartCompiler, whatever_values

    return whatever_values(_part(function, pipeline_class=PartCompiler))
