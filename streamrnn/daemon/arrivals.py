"""Messages as the pump takes them from its socket: many at once, each left where libzmq put it. Compiled.

What must be fetched from memory for one is asked for while others are worked on, so a million streams, whose
table and ids are in no cache, hardly wait for it.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.network import aligned
from streamrnn.streams.batch import ROWS
from streamrnn.streams.slots import id_key, likely_slot, prefetch_cell
from streamrnn.wire import libzmq
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.frame import TOPIC_BYTES
from streamrnn.wire.memory import address_of, prefetch

# A message that was received: a cache line.
MESSAGE = np.dtype(
    [
        ("topic", np.int64),  # address of the stream's id
        ("length", np.int64),  # of it, bytes
        ("payload", np.int64),  # address of the frame
        ("size", np.int64),  # of it, bytes
        ("parts", np.int64),
        ("came", np.int64),  # CLOCK_MONOTONIC ns, when it was here
        ("key", np.uint64),  # of the id, as slots have it
        ("slot", np.int64),  # probably the stream's; -1 = of none yet
    ]
)
# indices into Pump.control
STOP, HEARTBEAT, FAILED, OPEN = range(4)
# and into Arrivals.hand
NEXT, HERE, ROW = range(3)

_TIMED = 16  # messages that are received between two looks at the clock
_BEHIND = 8  # messages that are received between hashing an id and finding its slot
_WITHIN = 33  # bytes that libzmq keeps within a zmq_msg_t
_NO_KEY = np.uint64(0)  # of an id of no bytes, which no stream has
_WORDS = libzmq.MESSAGE_BYTES // 8


class Arrivals(NamedTuple):
    """Up to ``ROWS`` messages, and those of them that are in hand: with rows that were not stepped yet."""

    messages: np.ndarray  # (ROWS,) of MESSAGE
    topics: np.ndarray  # (ROWS * _WORDS,) uint64: zmq_msg_t of each
    payloads: np.ndarray  # (ROWS * _WORDS,) uint64
    named: (
        np.ndarray
    )  # (ROWS,) int64: for each row of the batch the part to send on as its answer's topic, or 0
    hand: np.ndarray  # (3,) int64: the first message in hand, how many are here, the first one's next row


def make_arrivals() -> Arrivals:
    return Arrivals(
        messages=aligned(ROWS * MESSAGE.itemsize, np.uint8).view(MESSAGE),
        topics=aligned(ROWS * _WORDS, np.uint64),
        payloads=aligned(ROWS * _WORDS, np.uint64),
        named=np.zeros(ROWS, np.int64),
        hand=np.zeros(3, np.int64),
    )


@inlined
def _topic_part(arrivals, index):
    return address_of(arrivals.topics, index * _WORDS)


@inlined
def part_to_send(arrivals, index):
    """A message's topic, if it can be sent on as it is, else 0; for a message of one row, whose topic it is.

    A longer one would hold on to the memory that libzmq read it into, with all the messages beside it.
    """
    message = arrivals.messages[index]
    return _topic_part(arrivals, index) if message.parts == 2 and message.length <= _WITHIN else 0


@inlined
def _payload_part(arrivals, index):
    return address_of(arrivals.payloads, index * _WORDS)


@inlined
def open_parts(arrivals):
    for index in range(ROWS):
        libzmq.msg_init(_topic_part(arrivals, index))
        libzmq.msg_init(_payload_part(arrivals, index))


@inlined
def close_parts(arrivals):
    for index in range(ROWS):
        libzmq.msg_close(_topic_part(arrivals, index))
        libzmq.msg_close(_payload_part(arrivals, index))


@inlined
def are_in_hand(arrivals):
    return arrivals.hand[NEXT] < arrivals.hand[HERE]


@inlined
def let_go_of(arrivals, index):
    """Frees a message that the pump is done with, all but its topic, which may yet be sent on."""
    payload = _payload_part(arrivals, index)
    libzmq.msg_close(payload)
    libzmq.msg_init(payload)


@inlined
def receive_one(pump, index):
    """Takes message ``index`` from the socket. Returns whether one was there.

    ``pump.alone`` is the id of messages that have one part. A socket that broke is noted in ``pump.control``.
    """
    arrivals = pump.arrivals
    message, topic = arrivals.messages[index], _topic_part(arrivals, index)
    payload = _payload_part(arrivals, index)
    if libzmq.msg_recv(topic, pump.source, libzmq.DONTWAIT) < 0:
        error = libzmq.errno()
        if error != libzmq.EAGAIN and error != libzmq.EINTR:
            pump.control[FAILED] = error
        return False
    parts, more = 1, libzmq.msg_more(topic) != 0
    while more:  # the rest of a message is there as soon as its first part is
        if libzmq.msg_recv(payload, pump.source, libzmq.DONTWAIT) < 0:
            pump.control[FAILED] = libzmq.errno()
            return False
        parts += 1
        more = libzmq.msg_more(payload) != 0
    if parts == 1 and pump.alone_bytes > 0:
        payload = topic
        message.topic, message.length = address_of(pump.alone, 0), pump.alone_bytes
    else:
        message.topic, message.length = libzmq.msg_data(topic), np.int64(libzmq.msg_size(topic))
    message.payload, message.size = libzmq.msg_data(payload), np.int64(libzmq.msg_size(payload))
    message.parts = parts
    return True


@inlined
def hash_id(slots, message):
    """Hashes a message's id, and has fetched where the table has it, and the frame."""
    key, length = _NO_KEY, message.length
    if 1 <= length <= TOPIC_BYTES:
        key = id_key(slots, message.topic, length)
        prefetch_cell(slots, key)
    message.key = key
    prefetch(message.payload)


@inlined
def find_likely(slots, message):
    """Finds a message's slot by its key alone, and has fetched what is needed to be sure and to begin."""
    message.slot = likely_slot(slots, message.key)


@inlined
def receive(pump, slots, most, room):
    """Takes what waits at the socket, whole messages, ``most`` or fewer, when none is in hand any more.

    None more once they have ``room`` bytes: no stream waits for many blocks of another that are in hand.

    Returns how many came. They are timed ``_TIMED`` at a time, by the last. Each is looked up while later
    ones are received: what must be fetched for that is there when it is needed.
    """
    arrivals = pump.arrivals
    here = timed = found = 0
    while here < most and room > 0 and receive_one(pump, here):
        room -= arrivals.messages[here].size
        hash_id(slots, arrivals.messages[here])
        here += 1
        if here - found > _BEHIND:
            find_likely(slots, arrivals.messages[found])
            found += 1
        if here - timed == _TIMED:
            timed = _time(arrivals, timed, here)
    for index in range(found, here):
        find_likely(slots, arrivals.messages[index])
    if timed < here:
        _time(arrivals, timed, here)
    arrivals.hand[NEXT], arrivals.hand[HERE], arrivals.hand[ROW] = 0, here, 0
    return here


@inlined
def _time(arrivals, begin, end):
    now = monotonic_ns()
    for index in range(begin, end):
        arrivals.messages[index].came = now
    return end


@inlined
def look_again(slots, arrivals):
    """Finds the slots of messages that have stayed in hand."""
    for index in range(arrivals.hand[NEXT], arrivals.hand[HERE]):
        find_likely(slots, arrivals.messages[index])
