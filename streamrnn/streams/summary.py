"""What a snapshot's records say of their streams, in numbers that a person or a program can read."""

from typing import Any

import numpy as np

from streamrnn.model.cells import cells_of
from streamrnn.stats import RESETS
from streamrnn.streams.choose import first, holding
from streamrnn.streams.exchange import read_layout, records_of, shape_of, stream_names, whole_records
from streamrnn.streams.health import DEGRADED_SHARE
from streamrnn.streams.record import (
    DEGRADED,
    ENDED,
    EPOCH,
    HOLD,
    RECEIVED,
    RESTORED,
    SEQ,
    STEP,
    TS,
    RecordLayout,
)
from streamrnn.streams.snapshot import Snapshot
from streamrnn.wire.shortest import shortest

SORTS = ("id", "age", "step", "health")


def sort_keys(
    sort: str,
    whole: np.ndarray,
    step: np.ndarray,
    received: np.ndarray,
    fresh: np.ndarray,
    degraded: np.ndarray,
    ended: np.ndarray,
) -> np.ndarray:
    """Of n streams, (n,) float64, the least of which come first by ``sort``, one of ``SORTS``.

    That is the longest silent, the most steps, the worst health; of one that is damaged, ``whole`` is False
    and the rest means nothing. ``fresh``: there was a row, at ``received``, in this boot.
    """
    if sort == "age":
        return np.where(whole & fresh, received.astype(float), np.inf)
    if sort == "step":
        return np.where(whole, -step.astype(float), 0.0)
    if sort == "health":
        return np.where(whole, np.where(ended, 2.0, np.where(degraded, 1.0, 3.0)), 0.0)
    return np.zeros(len(step))


def first_streams(
    snapshot: Snapshot, whole: np.ndarray, now_ns: int | None, sort: str, prefix: str, limit: int | None
) -> np.ndarray:
    """The first ``limit`` streams of a snapshot by ``sort`` whose ids begin with ``prefix``: their places.

    ``whole`` and ``now_ns`` are as ``whole_streams`` gives and ``summarise`` takes them.
    """
    ids = np.ascontiguousarray(snapshot.ids).view(np.uint64)
    words, halves = snapshot.records.view(np.uint64), snapshot.records.view(np.uint32)
    fresh = (halves[:, RESTORED] == 0) & (now_ns is not None)
    which = holding(ids, prefix.encode(errors="surrogatepass"), anywhere=False)
    degraded, ended = halves[:, DEGRADED] > 0, halves[:, ENDED] > 0
    keys = sort_keys(sort, whole, words[:, STEP], words[:, RECEIVED], fresh, degraded, ended)
    return first(keys, ids, which, len(which) if limit is None else limit)


def whole_streams(snapshot: Snapshot, name: str) -> np.ndarray:
    """Which streams of a snapshot are whole, (n,) bool. Raises UserError as ``read_layout``."""
    layout = read_layout(snapshot, name)
    return whole_records(records_of(snapshot, layout), shape_of(layout))


def summarise(snapshot: Snapshot, name: str, now_ns: int | None = None) -> list[dict[str, Any]]:
    """A dict for each stream, JSON-ready; of one that is damaged nothing but ``stream`` and ``health``.

    ``now_ns`` is CLOCK_MONOTONIC in the boot that wrote the records, None in any other: then ``age_s``
    is None, as it is of a stream that was put back and has had no row since. ``degraded_steps`` is how many
    steps in a row left the stream saturated, ``saturated`` the share of its units then; ``ended`` why its
    next row begins a new sequence; ``held`` whether learning is. Raises UserError as ``read_layout``.
    """
    layout = read_layout(snapshot, name)
    whole = whole_streams(snapshot, name)
    header = np.ascontiguousarray(snapshot.records[:, : layout.input_at])
    words, halves = header.view(np.uint64), header.view(np.uint32)
    with np.errstate(invalid="ignore"):  # of what is damaged
        largest = np.abs(_states(snapshot.records, layout)).max((2, 3))
    columns = {
        "stream": stream_names(snapshot.ids),
        "health": [health_of(*of) for of in zip(whole, halves[:, ENDED], halves[:, DEGRADED], strict=True)],
        "step": words[:, STEP].tolist(),
        "seq": words[:, SEQ].tolist(),
        "ts_ns": words[:, TS].view(np.int64).tolist(),
        "age_s": [
            None if restored else _seconds(now_ns, then)  # it was put back then, which is no row
            for then, restored in zip(words[:, RECEIVED].tolist(), halves[:, RESTORED].tolist(), strict=True)
        ],
        "epoch": halves[:, EPOCH].tolist(),
        "ended": [RESETS[why - 1] if 0 < why <= len(RESETS) else None for why in halves[:, ENDED].tolist()],
        "degraded_steps": halves[:, DEGRADED].tolist(),
        "saturated": [
            _saturated(record, layout) if steps and good else None
            for record, steps, good in zip(snapshot.records, halves[:, DEGRADED], whole, strict=True)
        ],
        "held": (halves[:, HOLD] != 0).tolist(),
        "restored": (halves[:, RESTORED] != 0).tolist(),
        "largest_hidden": [shortest(value) for value in largest[:, 0]],
        "largest_cell": [shortest(of[1]) if len(of) > 1 else None for of in largest],
    }
    return [
        dict(zip(columns, row, strict=True)) if good else {"stream": row[0], "health": row[1]}
        for row, good in zip(zip(*columns.values(), strict=True), whole, strict=True)
    ]


def health_of(whole: bool, ended: int, degraded: int) -> str:
    """In a word: damaged, degraded, ended or ok, from the worst on."""
    return "damaged" if not whole else "ended" if ended else "degraded" if degraded else "ok"


def _seconds(now_ns: int | None, then_ns: int) -> float | None:
    return None if now_ns is None else max(now_ns - then_ns, 0) / 1e9


def _saturated(record: np.ndarray, layout: RecordLayout) -> float | None:
    """The share of a degraded stream's units that are saturated, by the limits that found it degraded.

    None where these are limits of other activations, which the record does not tell.
    """
    states = np.abs(_states(record[np.newaxis], layout)[0])
    units = sum(_units_saturated(states[:, layer]) for layer in range(layout.layers))
    share = units / (layout.layers * layout.hidden)
    return share if share >= DEGRADED_SHARE else None


def _units_saturated(states: np.ndarray) -> int:
    """Of a layer, of which (states, width) are the absolute values.

    Which cell has left the record it does not say; of those that can have, the one of the fewest states and
    the closest bounds.
    """
    for count in range(1, len(states) + 1):
        for cell in cells_of(count):
            bounds = [state.bound for state in cell.states] + [0.0] * (len(states) - count)
            if (states.max(axis=1) <= bounds).all():
                return int(np.count_nonzero(states[cell.saturates] > np.float32(cell.saturates_at)))
    return 0


def _states(records: np.ndarray, layout: RecordLayout) -> np.ndarray:
    """What the units of n records carry: (n, states, layers, width); of windows, of the one that answers."""
    in_flight = records[:, layout.hidden_at : layout.past_at].reshape(
        len(records), layout.states, layout.places, layout.layers, layout.width
    )
    return in_flight[:, :, 0]
