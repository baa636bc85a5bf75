"""The calls of libzmq that the pump makes, for compiled code.

pyzmq brings its own libzmq; the process's memory map names the file it really loaded. Compiled code
calls its functions by symbol name, so it can be kept in the cache: an address could not.
A socket is an intp, ``zmq.Socket.underlying``; a message is an address of 64 bytes (zmq_msg_t).
"""

import ctypes
from pathlib import Path
from typing import Any

import zmq
from llvmlite import binding
from numba.core import types

DONTWAIT, SNDMORE = int(zmq.DONTWAIT), int(zmq.SNDMORE)
MESSAGE_BYTES = 64
POLLIN_WORD = int(zmq.POLLIN) << 32  # the second word: no fd, wait for input, nothing returned


def _loaded_library() -> str:
    """The file whose functions pyzmq calls. Raises ImportError where none is mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[-1] for line in lines if "zmq" in line}
    for path in sorted(mapped):
        if path.startswith("/") and hasattr(ctypes.CDLL(path), "zmq_msg_recv"):
            return path
    raise ImportError(f"pyzmq {zmq.__version__} has loaded no libzmq that can be called; looked at {mapped}")


binding.load_library_permanently(_loaded_library())


def _function(name: str, result: Any, *arguments: Any) -> Any:
    return types.ExternalFunction(name, result(*arguments))


_int, _address, _size, _long = types.int32, types.intp, types.uintp, types.int64
msg_init = _function("zmq_msg_init", _int, _address)
msg_recv = _function("zmq_msg_recv", _int, _address, _address, _int)  # message, socket, flags
msg_data = _function("zmq_msg_data", _address, _address)
msg_size = _function("zmq_msg_size", _size, _address)
msg_more = _function("zmq_msg_more", _int, _address)
msg_send = _function("zmq_msg_send", _int, _address, _address, _int)  # message, socket, flags
msg_close = _function("zmq_msg_close", _int, _address)
send = _function("zmq_send", _int, _address, _address, _size, _int)  # socket, bytes, length, flags
poll = _function("zmq_poll", _int, _address, _int, _long)  # items, count, milliseconds
sleep_us = _function("usleep", _int, types.uint32)  # the C library's, for a paced publisher
errno = _function("zmq_errno", _int)
EAGAIN, EINTR = int(zmq.EAGAIN), 4
