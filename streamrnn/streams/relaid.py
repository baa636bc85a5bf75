"""Records that another setting or the version before laid out, as they are laid out now.

Neither a setting that says what is told of a stream nor an update must cost the stream. What there was not
then begins anew; all else stays, bit for bit.
"""

from dataclasses import replace

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.network import Network
from streamrnn.streams.rarity import first_levels
from streamrnn.streams.record import CHECK, ID_WORDS, RecordLayout, check_of, id_check, layout_of
from streamrnn.streams.residuals import FIRST_APART
from streamrnn.streams.score_part import APART, DEVIATION, RESIZED, SCALARS, SIZE, USUAL
from streamrnn.streams.snapshot import Snapshot
from streamrnn.streams.spread import KEPT, KEPT_AHEAD, NOT_KEPT, spread_words

# The score's part of the version before: these float32, of which (was, is) are where some stand, and as many
# vectors. It had no ways but the instant and the smoothed one, and looked at no channel by itself.
_SCALARS, _VECTORS = 16, 8
_MOVED = [*((k, k) for k in range(RESIZED)), (6, 12), (7, 13), (8, 14), (9, 17), (10, 18)]
_OF_DEVIATION = 0.8  # the mean size of a normal variable


def other_layouts(network: Network) -> dict[RecordLayout, str]:
    """Those of records that can be laid out anew, and what they are: with bands where there are none now, and
    so on, and of the version before.
    """
    kinds = {NOT_KEPT: "without bands", KEPT: "with bands", KEPT_AHEAD: "with bands of rollouts"}
    found = {
        layout_of(network._replace(spread=kind)): words
        for kind, words in kinds.items()
        if kind != network.spread
    }
    if network.forecasts:
        plain = layout_of(network._replace(spread=NOT_KEPT))
        less = plain.adapt_at - plain.score_at - _SCALARS - _VECTORS * network.score_width
        before = ("input_at", "score_at")
        behind = [name for name in plain._fields if name.endswith("_at") and name not in before]
        moved = {name: getattr(plain, name) - less for name in ("words", *behind)}
        found[plain._replace(**moved)] = "of the version before"
    return found


@compiled
def _check(was, ids, records_32, records, whole):
    """Marks in ``whole``, (n,) uint8, the records, uint32 and as uint64, that have their check."""
    for which in range(whole.size):
        at, name = which * was.words, id_check(ids, which)
        whole[which] = records[at // 2 + CHECK] == check_of(records_32, at, was.past_at, name)


@compiled
def _sign(now, ids, records_32, records, whole):
    """Gives the records that are marked their check, and the others none."""
    for which in range(whole.size):
        at, name = which * now.words, id_check(ids, which)
        check = check_of(records_32, at, now.past_at, name)
        records[at // 2 + CHECK] = check if whole[which] else ~check


def relaid_records(network: Network, was: RecordLayout, ids: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Records of one of ``other_layouts`` as they are laid out now, (n * words / 2,) uint64.

    ``ids`` (n * ID_WORDS,) and ``records``, uint64. What was damaged still is.
    """
    now, count = layout_of(network), len(ids) // ID_WORDS
    old, whole = np.ascontiguousarray(records).reshape(-1), np.zeros(count, np.uint8)
    new = np.zeros(count * now.words // 2, np.uint64)
    _check(was, ids, old.view(np.uint32), old, whole)
    source, to = (each.view(np.float32).reshape(count, -1) for each in (old, new))
    to[:, : now.score_at] = source[:, : now.score_at]
    if was.adapt_at - was.score_at == now.adapt_at - now.score_at:
        to[:, now.score_at : now.adapt_at] = source[:, was.score_at : was.adapt_at]
    else:
        _take_score(network, source[:, was.score_at : was.adapt_at], to[:, now.score_at : now.adapt_at])
    plain = layout_of(network._replace(spread=NOT_KEPT))
    adapted = plain.forecast_at - plain.adapt_at
    to[:, now.adapt_at : now.adapt_at + adapted] = source[:, was.adapt_at : was.adapt_at + adapted]
    if was.forecast_at > was.adapt_at + adapted and now.forecast_at > now.adapt_at + adapted:
        size = spread_words(network.outputs)  # what is known of errors one row ahead stays
        begin, place = was.adapt_at + adapted, now.adapt_at + adapted
        to[:, place : place + size] = source[:, begin : begin + size]
    to[:, now.forecast_at :] = source[:, was.forecast_at :]
    _sign(now, ids, new.view(np.uint32), new, whole)
    return new


def _take_score(network: Network, old: np.ndarray, new: np.ndarray) -> None:
    """The score's part of the version before, (n, words), as it is now."""
    width = network.score_width
    for was, now in _MOVED:
        new[:, now] = old[:, was]
    levels = first_levels(network.outputs, switches=int(network.switches.sum()))
    new[:, RESIZED : len(levels)] = levels[RESIZED:]
    vectors = new[:, SCALARS:]
    vectors[:, : _VECTORS * width] = old[:, _SCALARS : _SCALARS + _VECTORS * width]
    deviation = vectors[:, DEVIATION * width : (DEVIATION + 1) * width]
    for size in (SIZE, USUAL):
        vectors[:, size * width : (size + 1) * width] = np.float32(_OF_DEVIATION) * deviation
    vectors[:, APART * width : (APART + 1) * width] = FIRST_APART * (deviation > 0)


def relaid(snapshot: Snapshot, network: Network) -> Snapshot:
    """A snapshot with its records as they are laid out now, where they are of one of ``other_layouts``."""
    found = [was for was in other_layouts(network) if snapshot.layout == was._asdict()]
    if not found:
        return snapshot
    ids, records = (
        np.ascontiguousarray(part).reshape(-1).view(np.uint64) for part in (snapshot.ids, snapshot.records)
    )
    now = layout_of(network)
    laid_out = relaid_records(network, found[0], ids, records).view(np.float32)
    return replace(snapshot, layout=now._asdict(), records=laid_out.reshape(len(snapshot.ids), now.words))
