"""What threads of compiled code wait with: the C library's semaphores (sem_t), by address."""

import ctypes
from typing import Any

from numba.core import types

SEMAPHORE_BYTES = 32

_library = ctypes.CDLL(None)


def _function(name: str) -> Any:
    return types.ExternalFunction(name, types.int32(types.intp))


post = _function("sem_post")
wait = _function("sem_wait")
try_wait = _function("sem_trywait")  # 0 where a ``wait`` would not have slept
give_turn = types.ExternalFunction("sched_yield", types.int32())  # to who waits for this core


def make_semaphore(address: int) -> None:
    """Makes SEMAPHORE_BYTES zeros a semaphore that nobody has posted to."""
    _library.sem_init(ctypes.c_void_p(address), 0, 0)


def post_from_python(address: int) -> None:
    _library.sem_post(ctypes.c_void_p(address))
