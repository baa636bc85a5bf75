"""Messages received, and rows sent as frames, many at a time. Compiled: no Python object is made for each.

This is for threads that read other formats in Python and hand rows to the pump.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.wire import codec, frame, libzmq
from streamrnn.wire.frame import ID_WORDS
from streamrnn.wire.memory import address_of, copy_bytes, write_f64, write_i64, write_u16, write_u64

LARGEST_PART = 1 << 24  # bytes; libzmq reads no larger ones
_HEAD = frame.FRAME.itemsize
_FLOAT64 = 2  # its code in a frame
_FLAGS_AT = 4

# indices into Inbox.tally
COUNT, LOST, ERROR, DRY = range(4)


class Inbox(NamedTuple):
    """Messages as they were received, part behind part."""

    content: np.ndarray  # uint8: room for two of the largest messages
    part_end: np.ndarray  # int64: where each part ends in ``content``
    message_end: np.ndarray  # int64: where each message ends in ``part_end``
    part: np.ndarray  # (8,) uint64: a zmq_msg_t
    tally: (
        np.ndarray
    )  # (4,) int64: messages here; those larger than there is room for; errno; 1 = no more waited


def make_inbox(messages: int = 2048, parts: int = 1 << 14) -> Inbox:
    """An inbox for at most so many messages at once; one has half of the parts and bytes at most."""
    return Inbox(
        content=np.zeros(2 * LARGEST_PART, np.uint8),  # its pages are touched only when they are used
        part_end=np.zeros(parts, np.int64),
        message_end=np.zeros(messages, np.int64),
        part=np.zeros(libzmq.MESSAGE_BYTES // 8, np.uint64),
        tally=np.zeros(4, np.int64),
    )


@compiled
def receive(socket, inbox):
    """Takes what waits at a socket, whole messages, up to about half of the inbox. Returns how many.

    A message that there is no room for is dropped whole and counted. -1 where the socket broke.
    """
    part, count, parts, used = address_of(inbox.part, 0), 0, 0, 0
    content = address_of(inbox.content, 0)
    libzmq.msg_init(part)
    result = 0
    inbox.tally[DRY] = 0
    while (
        count < inbox.message_end.size and 2 * parts < inbox.part_end.size and 2 * used < inbox.content.size
    ):
        begun, start, fits, more = parts, used, True, True
        while more:  # the rest of a message is there as soon as its first part is
            if libzmq.msg_recv(part, socket, libzmq.DONTWAIT) < 0:
                inbox.tally[ERROR] = libzmq.errno()
                result = -1
                break
            size = np.int64(libzmq.msg_size(part))
            fits = fits and parts < inbox.part_end.size and used + size <= inbox.content.size
            if fits:
                copy_bytes(content + used, libzmq.msg_data(part), size)
                used += size
                inbox.part_end[parts] = used
                parts += 1
            more = libzmq.msg_more(part) != 0
        if result < 0:
            if parts == begun and (inbox.tally[ERROR] == libzmq.EAGAIN or inbox.tally[ERROR] == libzmq.EINTR):
                result = 0
                inbox.tally[DRY] = 1
            break
        if fits:
            inbox.message_end[count] = parts
            count += 1
        else:
            parts, used = begun, start
            inbox.tally[LOST] += 1
    libzmq.msg_close(part)
    inbox.tally[COUNT] = count
    return count if result == 0 else -1


def frame_buffer(channels: int) -> np.ndarray:
    """Room for one frame of a row of float64, its header begun."""
    buffer = np.zeros(_HEAD + 8 * channels, np.uint8)
    head = buffer[:_HEAD].view(frame.FRAME)[0]
    head["magic"], head["version"], head["dtype"], head["rows"] = b"SR", frame.VERSION, _FLOAT64, 1
    return buffer


@compiled
def send_rows(socket, buffer, names, stream, flags, seq, ts, values, first):
    """Sends rows from ``first`` on, a frame each, until the socket takes no more. Returns how far it came.

    ``buffer`` is a ``frame_buffer``; ``names``, (streams * ID_WORDS,) uint64, are ids as slots keep them,
    ``stream``, (n,) int64, indices into them; ``flags``, ``seq`` and ``ts``, (n,) int64, as in a frame;
    ``values``, (n, channels) float64.
    """
    message, channels = address_of(buffer, 0), values.shape[1]
    for row in range(first, stream.size):
        at = stream[row] * ID_WORDS
        size = names[at + ID_WORDS - 1] >> np.uint64(56)
        write_u16(message + _FLAGS_AT, np.uint16(flags[row]))
        write_u64(message + codec.SEQ_AT, np.uint64(seq[row]))
        write_i64(message + codec.TS_AT, ts[row])
        for channel in range(channels):
            write_f64(message + _HEAD + 8 * channel, values[row, channel])
        if libzmq.send(socket, address_of(names, at), size, libzmq.DONTWAIT | libzmq.SNDMORE) < 0:
            return row
        libzmq.send(socket, message, np.uint64(buffer.size), libzmq.DONTWAIT)
    return stream.size
