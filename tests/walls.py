"""Memory that ends where it should not be read beyond."""

import ctypes
import mmap

import numpy as np


def before_a_wall() -> np.ndarray:
    """(mmap.PAGESIZE,) uint8, behind whose end no byte can be read."""
    page = mmap.PAGESIZE
    room = np.frombuffer(mmap.mmap(-1, 2 * page), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(room.ctypes.data + page), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return room[:page]
