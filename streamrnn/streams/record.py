"""A record: all that is remembered of one stream, and how its bits are vouched for.

A record is float32 words: ``HEADER`` words, the last input (in_width), the statistics behind the score of a
network that forecasts, what was learned to correct its forecasts, the last prediction (out_width), what the
highway looks back to (past), the hidden states of all layers, then those of each further state of the cell;
all multiples of 16.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.network import Network
from streamrnn.kernels.rls import make_adaptation
from streamrnn.streams.score import score_words
from streamrnn.wire.frame import TOPIC_BYTES

HEADER = 32  # words
ID_WORDS = (TOPIC_BYTES + 1) // 8  # 64-bit words of an id: UTF-8, zeros and, in its last byte, its length

# A record's header, as indices into its 64-bit words
CHECK = 0  # of all the rest and of the stream's id
SEQ, TS, STEP = 1, 2, 3  # of the last row committed; steps since the last reset
COUNT = 4  # what its commit made of the slot's counter
RECEIVED = 5  # CLOCK_MONOTONIC ns of the last row committed
FIRST = 6  # the number that its sequence began with
# and into its 32-bit words
EPOCH, ENDED = 14, 15  # resets so far; why the next row begins a new sequence, 1 + index into RESETS, or 0
DEGRADED = 16  # steps in a row that left it degraded
RESTORED = 17  # 1 = put back, and not yet said so
FILLED = 18  # 1 = not all of its input was measured
MISSED = 19  # rows missing before rows that came, all in all; from 2^32 on it begins again

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_LOW, _ODD = np.uint64(0xFFFFFFFF), np.uint64(1)


class RecordLayout(NamedTuple):
    """Where the parts of a record begin, in float32 words."""

    words: int  # in all
    input_at: int
    score_at: int  # where the prediction begins, for a network that forecasts nothing
    adapt_at: int  # likewise, without adaptation
    prediction_at: int
    hidden_at: int  # (layers, width)
    cell_at: int  # (states but the hidden one, layers, width); where the record ends, if there are none
    layers: int
    width: int  # hidden, padded to 16
    hidden: int

    @property
    def states(self) -> int:
        """That each unit carries, the hidden one among them."""
        return (self.words - self.hidden_at) // (self.layers * self.width)


def layout_of(network: Network) -> RecordLayout:
    input_at = HEADER
    score_at = input_at + network.in_width
    adapt_at = score_at + (score_words(network.out_width) if network.forecasts else 0)
    prediction_at = adapt_at + make_adaptation(network, network.memory).words
    hidden_at = prediction_at + network.out_width + network.past
    cell_at = hidden_at + network.layers * network.width
    return RecordLayout(
        words=hidden_at + network.states * network.layers * network.width,
        input_at=input_at,
        score_at=score_at,
        adapt_at=adapt_at,
        prediction_at=prediction_at,
        hidden_at=hidden_at,
        cell_at=cell_at,
        layers=network.layers,
        width=network.width,
        hidden=network.hidden,
    )


@inlined
def _mix(mixed, word):
    """A bijection of either argument: no change of one word alone leaves the result as it was."""
    mixed = (mixed ^ word) * _MIX
    return mixed ^ mixed >> _SHIFT


@inlined
def id_check(ids, slot):
    """64 bits from the id at place ``slot`` of ``ids`` (uint64)."""
    mixed = _MIX
    for word in range(slot * ID_WORDS, (slot + 1) * ID_WORDS):
        mixed = _mix(mixed, ids[word])
    return mixed


@inlined
def _weighed(pair, place):
    """Both 32-bit halves of a word, each times an odd number below 2^32 that belongs to its place."""
    key = (place + place) * _MIX
    return (pair & _LOW) * (key & _LOW | _ODD) + (pair >> np.uint64(32)) * (key + _MIX & _LOW | _ODD)


@inlined
def check_of(records, first, words, name):
    """The check of the record at 64-bit word ``first`` of ``records``, ``words`` float32 words long.

    ``name`` is its stream's ``id_check``. The sum of all 32-bit words, each times an odd number of its own
    below 2^32, so no change of one word, and no two of one bit each, leave it as it was; other changes do
    with a chance of 2^-64 or so. Sums of products are what a processor does sixteen at a time.
    """
    check, begin = name, np.uint64(first)
    for word in range(np.uint64(0), np.uint64(words // 2)):  # unsigned: no index below zero to think of
        check += _weighed(records[begin + word], word)
    return check - _weighed(records[begin + np.uint64(CHECK)], np.uint64(CHECK))
