"""How streamrnn compiles, and where compiled code is kept between starts.

Numba keys its cache by the one file a function stands in; ours inlines code from several. So the
cache folder of an entry point carries a digest of every source that its module imports: changed code never
meets a stale entry, and two versions can share a machine.
"""

import functools
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from streamrnn.compiling.handing import Handed
from streamrnn.compiling.haste import in_haste
from streamrnn.compiling.inside import KNOWN, NEWEST
from streamrnn.compiling.sources import digest_of

_QUIET_S = 2.0


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
        with event.install_listener("numba:compile", notice), in_haste():
            yield
    finally:
        notice.cancel()


class _Notice(event.Listener):
    """Says why a start takes so long, from the first function on that is compiled, and not loaded."""

    def __init__(self, say: Callable[[str], object]) -> None:
        words = "compiling kernels for this machine; this takes some ten seconds, once"
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


def compiled(function: Any = None, *, cache: bool = True, unknown: str = "", **options: Any) -> Any:
    """An entry point: called from Python without the GIL, kept in the ``cache``. ``options`` are Numba's.

    Of the argument ``unknown`` nothing is known when it is compiled, so that this is done once.
    """
    if function is None:
        return functools.partial(compiled, cache=cache, unknown=unknown, **options)
    source = Path(function.__code__.co_filename)
    cache = cache and CACHE is not None and source.is_file()
    if cache:  # Numba reads it as it makes the function
        numba.config.CACHE_DIR = f"{CACHE}/{digest_of(source)[:16]}"
    if KNOWN:
        from streamrnn.compiling.inlining import EntryCompiler

        options = {"pipeline_class": EntryCompiler} | options
    return Entry(numba.njit(function, cache=cache, **_OPTIONS | options), unknown)


def hand_over(named_tuple: Any, known: bool = True) -> Any:
    """What an entry point takes in place of a named tuple that it is called with often; see ``Handed``.

    Without ``known`` in place of its argument that is ``unknown``.
    """
    return Handed(named_tuple, known) if KNOWN else named_tuple


class Entry:
    """An entry point. What it knows of itself is Numba's."""

    def __init__(self, dispatcher: Any, unknown: str) -> None:
        self._dispatcher = dispatcher
        names = dispatcher.py_func.__code__.co_varnames
        self._unknown = names.index(unknown) if unknown else None
        self._ready: dict[tuple[Any, ...], Any] = {}
        functools.update_wrapper(self, dispatcher.py_func)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)

    def __call__(self, *arguments: Any) -> Any:
        if not (KNOWN and any(isinstance(one, tuple | Handed) for one in arguments)):
            return self._dispatcher(*arguments)
        handed = self._handed(arguments)
        given = [one.address if isinstance(one, Handed) else one for one in handed]
        return self._for(handed)(*given)

    def prepare(self, *like: Any) -> None:
        """Compiles it for arguments like these, or loads it from the cache."""
        self._for(self._handed(like))

    def address_for(self, *handed: Any) -> int:
        """Compiles it for arguments like these, or loads it. Returns where its code begins."""
        self._for(handed)
        found = self._dispatcher.overloads[_kinds(handed)]
        address: int = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
        if not address:  # whoever calls it there would end the process
            raise RuntimeError(f"the code of {self.__name__} cannot be found")
        return address

    def _handed(self, arguments: Sequence[Any]) -> list[Any]:
        return [
            Handed(one, place != self._unknown) if KNOWN and isinstance(one, tuple) else one
            for place, one in enumerate(arguments)
        ]

    def _for(self, handed: Sequence[Any]) -> Any:
        kinds = _kinds(handed)
        if kinds not in self._ready:
            self._ready[kinds] = self._dispatcher.compile(kinds)
        return self._ready[kinds]


def _kinds(handed: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(one.kind if isinstance(one, Handed) else numba.typeof(one) for one in handed)


if not KNOWN:
    logging.getLogger("streamrnn").debug(
        "compiling without shortcuts, which know Numba up to %d.%d: this takes about three times as long",
        *NEWEST,
    )


def inlined(function: Callable[..., Any]) -> Any:
    """A part of an entry point, or of another part; not for Python to call."""
    if not KNOWN:
        return _part(function)
    import streamrnn.compiling.least  # noqa: F401  # for what it tells Numba
    from streamrnn.compiling.inlining import PartCompiler, whatever_values

    return whatever_values(_part(function, pipeline_class=PartCompiler))
