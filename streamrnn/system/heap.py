"""The C library's heap, as it is best for messages that one thread makes and another frees."""

import ctypes

_M_MXFAST, _LARGEST = 1, 160  # mallopt(3): the most that it takes where a word has 8 bytes


def free_messages_fast() -> None:
    """Keeps what is freed of up to 160 bytes as it is, for the next one of its size.

    From 129 bytes on glibc joins it to its neighbours, under a lock of the whole heap. A prediction takes 104
    with libzmq's own 40, and 4 an output.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library may have none
    if set_option is not None:
        set_option(_M_MXFAST, _LARGEST)
