"""A record: all that is remembered of one stream, and how its bits are vouched for.

A record is float32 words: ``HEADER`` words, the last input (in_width), the statistics behind the score of a
network that forecasts, what was learned to correct its forecasts, the spread of their errors where that is
kept, what was forecast of the last input (out_width), the last prediction (out_width), the hidden states of
all layers, those of each further state of the cell, and the past: the rows that the highway looks back to,
see ``past``. All begin at multiples of 16. Of a network of windows there are hidden states of all layers for
each row of a window, the one that answers first, and each further state likewise: see ``kernels.windows``.

A step writes all of a record anew but for the past, of which it writes one row. So the check covers what is
before the past, and in it a sum of the past's rows, which goes on from step to step as they come and go.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.checksum import checksum, row_sum
from streamrnn.kernels.network import Network
from streamrnn.kernels.rls import make_adaptation
from streamrnn.kernels.simd import LANES
from streamrnn.streams.score_part import score_words
from streamrnn.streams.spread import spread_words
from streamrnn.wire.frame import ID_WORDS

HEADER = 32  # words

# A record's header, as indices into its 64-bit words
CHECK = 0  # of all the rest but the past, and of the stream's id
SEQ, TS, STEP = 1, 2, 3  # of the last row committed; steps since the last reset
COUNT = 4  # what its commit made of the slot's counter
RECEIVED = 5  # CLOCK_MONOTONIC ns of the last row committed
FIRST = 6  # the number that its sequence began with
PAST_CHECK = 11  # of the rows of the past, see ``row_check``
SLOT = 12  # whose record it is
LAST_SEQ, LAST_RECEIVED = 14, 15  # of the last row that was unusual, in the last event, see ``event``
# and into its 32-bit words
EPOCH, ENDED = 14, 15  # resets so far; why the next row begins a new sequence, 1 + index into RESETS, or 0
DEGRADED = 16  # steps in a row that left it degraded
RESTORED = 17  # 1 = put back, and not yet said so
FILLED = 18  # 1 = not all of its input was measured
MISSED = 19  # rows missing before rows that came, all in all; from 2^32 on it begins again
PLACE = 20  # in the past, of its newest row
FORESEEN = 21  # 1 = what was forecast of the last input is in the record
HOLD = 26  # why what is learned stands still, see ``holding``; 0 = it does not

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


class RecordLayout(NamedTuple):
    """Where the parts of a record begin, in float32 words."""

    words: int  # in all
    input_at: int
    score_at: int  # where the prediction begins, for a network that forecasts nothing
    adapt_at: int  # likewise; where the spread, or what was forecast, begins without adaptation
    forecast_at: int  # likewise; where the spread ends
    prediction_at: int
    hidden_at: int  # (places, layers, width): of a network without windows one place
    cell_at: int  # (states but the hidden one, places, layers, width); the past's begin, if there are none
    past_at: int  # (past_rows, row), padded to 16
    past_rows: int  # 0 = none is looked back to
    row: int  # channels
    layers: int
    width: int  # hidden, padded to 16
    hidden: int

    @property
    def states(self) -> int:
        """That each unit carries, the hidden one among them."""
        return (self.past_at - self.hidden_at) // (self.cell_at - self.hidden_at)

    @property
    def places(self) -> int:
        """The states in flight at once: the rows of a window, or 1."""
        return (self.cell_at - self.hidden_at) // (self.layers * self.width)


def layout_of(network: Network) -> RecordLayout:
    input_at = HEADER
    score_at = input_at + network.in_width
    adapt_at = score_at + (score_words(network.outputs) if network.forecasts else 0)
    spread_begin = adapt_at + make_adaptation(network, network.memory).words
    forecast_at = spread_begin + spread_words(network.outputs, network.spread)
    prediction_at = forecast_at + (network.out_width if network.forecasts else 0)
    hidden_at = prediction_at + network.out_width
    past_at = hidden_at + network.states * network.apart
    return RecordLayout(
        words=past_at + packed_rows(network.past_rows * network.inputs),
        input_at=input_at,
        score_at=score_at,
        adapt_at=adapt_at,
        forecast_at=forecast_at,
        prediction_at=prediction_at,
        hidden_at=hidden_at,
        cell_at=hidden_at + network.apart,
        past_at=past_at,
        past_rows=network.past_rows,
        row=network.inputs,
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
def check_of(records, at, words, name):
    """The check of the record at 32-bit word ``at`` of ``records``, without its past ``words`` long.

    ``records`` are float32 or uint32; ``name`` is its stream's ``id_check``.
    """
    return name + checksum(records, at, words)


@inlined
def row_check(records, at, place, width):
    """What the row at 32-bit word ``at``, ``width`` long, adds to the check of a past at its place there."""
    check, key = np.uint64(0), np.uint64(2 * place + 1) * _MIX
    for channel in range(0, width, LANES):
        check += row_sum(records, at + channel, min(width - channel, LANES)) * key
        key += _MIX + _MIX
    return check


@inlined
def past_check(layout, records, at, place, count):
    """The check of the past of the record at 32-bit word ``at``: of ``count`` rows from ``place`` on."""
    check = np.uint64(0)
    for row in range(count):
        where = (place + row) % layout.past_rows
        check += row_check(records, at + layout.past_at + where * layout.row, where, layout.row)
    return check


@inlined
def rows_kept(layout, steps):
    """How many rows of the past a stream has after ``steps`` steps of its sequence."""
    return min(np.int64(min(steps, np.uint64(layout.past_rows))), layout.past_rows - 1)


@inlined
def is_whole(layout, records_64, records_32, at, name):
    """Whether the record at 32-bit word ``at`` is as it was when it was sealed for the stream of ``name``."""
    first = at // 2
    if records_64[first + CHECK] != check_of(records_32, at, layout.past_at, name):
        return False
    if layout.past_rows == 0:
        return True
    place = np.int64(records_32[at + PLACE])
    if place >= layout.past_rows:
        return False
    count = rows_kept(layout, records_64[first + STEP])
    return records_64[first + PAST_CHECK] == past_check(layout, records_32, at, place, count)
