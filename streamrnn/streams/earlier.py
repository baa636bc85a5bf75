"""Records as versions before 2 laid them out, brought up to date: an update must not cost the streams.

They held the frames that the highway looks back to newest first, each stream twice, and another check.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled, inlined
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.network import Network
from streamrnn.streams.record import (
    CHECK,
    HEADER,
    ID_WORDS,
    PAST_CHECK,
    STEP,
    check_of,
    id_check,
    layout_of,
    past_check,
    rows_kept,
)
from streamrnn.streams.score import SCALARS, VECTORS
from streamrnn.streams.snapshot import Snapshot

LIVE_FORMAT = 3  # of a live state that has such records

_MIX = np.uint64(0x9E3779B97F4A7C15)
_LOW, _ODD = np.uint64(0xFFFFFFFF), np.uint64(1)


class EarlierLayout(NamedTuple):
    """As RecordLayout was; the frames looked back to stood between the prediction and the hidden states."""

    words: int
    input_at: int
    score_at: int
    adapt_at: int
    prediction_at: int
    hidden_at: int
    cell_at: int
    layers: int
    width: int
    hidden: int


def earlier_layout(network: Network) -> EarlierLayout:
    now = layout_of(network._replace(spread=0))  # there was none
    score = SCALARS + VECTORS * network.out_width if network.forecasts else 0
    prediction_at = now.score_at + score + now.forecast_at - now.adapt_at
    hidden_at = prediction_at + network.out_width + packed_rows((network.past_rows or 1) * now.row - now.row)
    return EarlierLayout(
        words=hidden_at + now.past_at - now.hidden_at,
        input_at=now.input_at,
        score_at=now.score_at,
        adapt_at=now.score_at + score,
        prediction_at=prediction_at,
        hidden_at=hidden_at,
        cell_at=hidden_at + now.cell_at - now.hidden_at,
        layers=now.layers,
        width=now.width,
        hidden=now.hidden,
    )


@inlined
def _earlier_check(records, first, words, name):
    """The check that a record of 32-bit length ``words`` had at 64-bit word ``first``."""
    check = name
    for word in range(1, words // 2):
        pair = records[first + word]
        key = np.uint64(2 * word) * _MIX
        check += (pair & _LOW) * (key & _LOW | _ODD) + (pair >> np.uint64(32)) * (key + _MIX & _LOW | _ODD)
    return check


def _parts(network: Network) -> np.ndarray:
    """The parts of a record: (n, 3) int64, where each began, where it begins, and how long it is."""
    was, now = earlier_layout(network), layout_of(network)
    parts = [
        (0, 0, now.score_at),
        (was.adapt_at, now.adapt_at, was.prediction_at - was.adapt_at),
        (was.prediction_at, now.prediction_at, network.out_width),
        (was.hidden_at, now.hidden_at, now.past_at - now.hidden_at),
    ]
    if network.forecasts:
        width, begin = network.score_width, now.score_at + SCALARS
        parts += [(now.score_at, now.score_at, SCALARS)]
        parts += [(begin + k * network.out_width, begin + k * width, width) for k in range(VECTORS)]
    return np.array(parts)


@compiled
def _convert(was, now, parts, past, ids, old, new, new_32):
    """Writes records ``old`` as they are laid out now to ``new``, both uint64; ``new_32`` is a view of it.

    ``past`` is where their frames begin. One that had not its check gets none.
    """
    for which in range(ids.size // ID_WORDS):
        source, to = which * was.words // 2, which * now.words // 2
        name = id_check(ids, which)
        for part in range(len(parts)):
            begin, place = source + parts[part, 0] // 2, to + parts[part, 1] // 2
            for word in range(parts[part, 2] // 2):
                new[place + word] = old[begin + word]
        count = 0
        if now.past_rows > 0:
            count = rows_kept(now, old[source + STEP])
            old_32, begin = old.view(np.uint32), 2 * source + past
            for word in range(count * now.row):
                new_32[2 * to + now.past_at + word] = old_32[begin + word]
            new[to + PAST_CHECK] = past_check(now, new_32, 2 * to, 0, count)
        whole = old[source + CHECK] == _earlier_check(old, source, was.words, name)
        check = check_of(new_32, 2 * to, now.past_at, name)
        new[to + CHECK] = check if whole else ~check


def brought_up(snapshot: Snapshot, network: Network) -> Snapshot:
    """A snapshot with its records as they are laid out now, where they are those of the network, earlier."""
    if snapshot.layout != earlier_layout(network)._asdict():
        return snapshot
    ids, records = (
        np.ascontiguousarray(part).reshape(-1).view(np.uint64) for part in (snapshot.ids, snapshot.records)
    )
    now = layout_of(network)
    found = converted(network, ids, records).view(np.float32).reshape(len(snapshot.ids), now.words)
    return replace(snapshot, layout=now._asdict(), records=found)


def newest_records(
    network: Network, capacity: int, block: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Ids, and records as they are laid out now, of the streams in an earlier live state; None for no such.

    ``block``, uint64, is all of it but its header.
    """
    words = earlier_layout(network).words // 2
    sizes = [capacity * ID_WORDS, -(-capacity // 8) * 8, 2 * capacity * words]
    if sum(sizes) > block.size:
        return None
    ids, committed, records, _ = np.split(block, np.cumsum(sizes))
    taken = np.flatnonzero(committed[:capacity])
    newest = 2 * taken + (committed[taken] & np.uint64(1)).astype(np.int64)
    names = ids.reshape(capacity, ID_WORDS)[taken].reshape(-1)
    return names, converted(network, names, records.reshape(2 * capacity, words)[newest].reshape(-1))


def converted(network: Network, ids: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Earlier records of n streams as they are laid out now, (n * words / 2,) uint64.

    ``ids`` (n * ID_WORDS,) and ``records``, uint64. What was damaged still is.
    """
    was, now = earlier_layout(network), layout_of(network)
    assert was.input_at == HEADER
    new = np.zeros(len(ids) // ID_WORDS * now.words // 2, np.uint64)
    past = was.prediction_at + network.out_width
    _convert(was, now, _parts(network), past, ids, np.ascontiguousarray(records), new, new.view(np.uint32))
    return new
