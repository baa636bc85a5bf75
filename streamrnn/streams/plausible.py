"""Whether raw messages can be what they should be: rows of float32 that the model's sensors sent.

Nothing in them says so, and text, integers and floats whose high byte comes first read as float32, too.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.network import Network
from streamrnn.stats import NO_CHANNEL, REASONS
from streamrnn.streams.slots import id_key
from streamrnn.wire.frame import LARGEST, TOPIC_BYTES
from streamrnn.wire.memory import address_of, read_u8, write_u32

PROOF = 16  # rows that a topic must send to become a stream, once it has sent what is implausible
_TOPICS = 256  # that are remembered for it, a power of two
# Bytes from which on it is not by chance that all of them are letters: one row in 100,000 of positive values,
# one in 10**10; and at most so many are looked at.
_SHORT_TEXT, _TEXT, _LOOKED_AT = 16, 32, 64
_TOPIC, _IMPLAUSIBLE = REASONS.index("topic"), REASONS.index("implausible")
_SMALLEST = np.finfo(np.float32).tiny  # of float32's normal numbers; small integers read as less
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


class Doubts(NamedTuple):
    """What it takes to judge raw messages."""

    topics: np.ndarray  # (_TOPICS,) uint64: key of an id << 32 | rows that it must still send
    turned: np.ndarray  # (inputs,) uint32: a row, its bytes in the other order
    turned_values: np.ndarray  # (inputs,) float32: a view of it


def make_doubts(network: Network) -> Doubts:
    turned = np.zeros(network.inputs, np.uint32)
    return Doubts(np.zeros(_TOPICS, np.uint64), turned, turned.view(np.float32))


@inlined
def _is_label(name):
    """Whether the id at address ``name`` is one that somebody chose: no line of a protocol, no JSON."""
    first = read_u8(name)
    if first == ord("{") or first == ord("["):
        return False
    for at in range(np.int64(read_u8(name + TOPIC_BYTES))):
        letter = read_u8(name + at)
        if letter < 0x20 or letter == 0x7F:
            return False
    return True


@inlined
def _is_text(message, size):
    """Whether a message of ``size`` bytes begins with nothing but printable ASCII and white space."""
    for at in range(min(size, _LOOKED_AT)):
        letter = read_u8(message + at)
        if (letter < 0x20 and (letter < 0x09 or letter > 0x0D)) or letter > 0x7E:
            return False
    return True


@inlined
def _is_beyond(rules, channel, value):
    """Whether no sensor can have sent a value. Infinite ones are refused as such."""
    size = abs(value)
    outside = value < rules.lowest[channel] or value > rules.highest[channel]
    return (outside and size <= LARGEST) or (size < _SMALLEST and size > 0)


@inlined
def _is_odd(rules, channel, value):
    """Whether a value is beyond what sensors send, or next to nothing without being nothing."""
    return _is_beyond(rules, channel, value) or (value != 0 and abs(value) < rules.least[channel])


@inlined
def _strange(rules, values, at, channels):
    """Of a row at ``at``: the values that are beyond, those that are odd, and those that are there."""
    beyond = odd = there = 0
    for channel in range(channels):
        value = values[at + channel]
        beyond += _is_beyond(rules, channel, value)
        odd += _is_odd(rules, channel, value)
        there += not np.isnan(value)
    return beyond, odd, there


@inlined
def _is_turned(net, rules, doubts, row):
    """Whether none of the values at address ``row`` is odd once their bytes stand in the other order."""
    for channel in range(net.inputs):
        word = 0
        for byte in range(4):
            word = word << 8 | np.int64(read_u8(row + 4 * channel + byte))
        write_u32(address_of(doubts.turned, channel), np.uint32(word))
    for channel in range(net.inputs):
        value = doubts.turned_values[channel]
        if net.offsets.size > 0:
            value = np.float32(value - net.offsets[channel])
        if np.isinf(value) or _is_odd(rules, channel, value):
            return False
    return True


@inlined
def _is_doubted(slots, doubts, name, wrong):
    """Whether the id of no stream must still prove itself; ``wrong``: this row of it is implausible."""
    key = id_key(slots, name, np.int64(read_u8(name + TOPIC_BYTES)))
    at = np.int64(key) & (_TOPICS - 1)
    if wrong:
        doubts.topics[at] = key << _HALF | np.uint64(PROOF)
        return True
    entry = doubts.topics[at]
    if entry >> _HALF != key or entry & _LOW == np.uint64(0):
        return False
    doubts.topics[at] = entry - np.uint64(1)
    return True


@inlined
def raw_refusal(core, doubts, header, row, count, name, slot):
    """Why row ``row`` of a raw message cannot be used, an index into REASONS or -1, and whose value it is.

    It stands at ``count`` in the batch; ``name`` is the address of its id, ``slot`` its stream's, or -1: what
    begins a stream is held to more, as one wild value of a stream may be real.
    """
    net, rules, batch = core.net, core.rules, core.batch
    if slot < 0 and not _is_label(name):
        return _TOPIC, NO_CHANNEL
    message, size, at = header.at, 4 * net.inputs, count * net.in_width
    beyond, odd, there = _strange(rules, batch.values, at, net.inputs)
    wrong = 2 * beyond > there or (beyond > 0 and slot < 0)
    wrong = wrong or (odd > 0 and _is_turned(net, rules, doubts, message + row * size))
    whole = header.rows * size
    wrong = wrong or (whole >= (_SHORT_TEXT if slot < 0 else _TEXT) and _is_text(message, whole))
    if slot < 0:
        wrong = _is_doubted(core.slots, doubts, name, wrong)
    if not wrong:
        return -1, NO_CHANNEL
    for channel in range(net.inputs):
        if _is_odd(rules, channel, batch.values[at + channel]):
            return _IMPLAUSIBLE, channel
    return _IMPLAUSIBLE, NO_CHANNEL
