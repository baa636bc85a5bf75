"""Records of a daemon without bands as one with them lays them out, and the other way round.

A setting that says what is told of a stream must not cost the stream. What is learned for the bands begins
anew then; all else stays, bit for bit.
"""

from dataclasses import replace

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.network import Network
from streamrnn.streams.record import CHECK, ID_WORDS, RecordLayout, check_of, id_check, layout_of
from streamrnn.streams.snapshot import Snapshot
from streamrnn.streams.spread import KEPT, KEPT_AHEAD, NOT_KEPT


def other_layouts(network: Network) -> dict[RecordLayout, str]:
    """Those of the network's records with a spread where they have none now, and so on, and what they are."""
    kinds = {NOT_KEPT: "without bands", KEPT: "with bands", KEPT_AHEAD: "with bands of rollouts"}
    return {
        layout_of(network._replace(spread=kind)): words
        for kind, words in kinds.items()
        if kind != network.spread
    }


@compiled
def _relay(was, now, begin, ids, old, old_32, new, new_32):
    """Writes records ``old`` as they are laid out ``now`` to ``new``, zeros, both uint64; and views, uint32.

    The spread begins at word ``begin``. One that had not its check gets none.
    """
    before = begin // 2
    for which in range(ids.size // ID_WORDS):
        source, to, name = which * was.words // 2, which * now.words // 2, id_check(ids, which)
        for word in range(before):
            new[to + word] = old[source + word]
        for word in range((was.words - was.forecast_at) // 2):
            new[to + now.forecast_at // 2 + word] = old[source + was.forecast_at // 2 + word]
        whole = old[source + CHECK] == check_of(old_32, 2 * source, was.past_at, name)
        check = check_of(new_32, 2 * to, now.past_at, name)
        new[to + CHECK] = check if whole else ~check


def relaid_records(network: Network, was: RecordLayout, ids: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Records of ``was``, one of ``other_layouts``, as they are laid out now, (n * words / 2,) uint64.

    ``ids`` (n * ID_WORDS,) and ``records``, uint64. What was damaged still is.
    """
    now = layout_of(network)
    old = np.ascontiguousarray(records)
    new = np.zeros(len(ids) // ID_WORDS * now.words // 2, np.uint64)
    begin = layout_of(network._replace(spread=NOT_KEPT)).forecast_at
    _relay(was, now, begin, ids, old, old.view(np.uint32), new, new.view(np.uint32))
    return new


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
