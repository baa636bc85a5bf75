"""A model and its shadow over the same rows, side by side, for a person or a program to read."""

from typing import Any

import numpy as np

from streamrnn.daemon.comparing import BINS, FIRST, LATEST, PER_SCORE, PERSISTENCE, SHADOW
from streamrnn.daemon.succession import Succession
from streamrnn.engine.engine import Engine
from streamrnn.streams.slots import id_text
from streamrnn.wire.shortest import number

_OF = {"model": FIRST, "shadow": SHADOW, "persistence": PERSISTENCE}
_BOTH = {"model": FIRST, "shadow": SHADOW}
_BEGINS = {"model": "begins", "shadow": "shadow_begins"}
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def side_by_side(engine: Engine, succession: Succession) -> dict[str, Any] | None:
    """How the two compare, JSON-ready; None where there is no shadow.

    ``rows`` both have answered; over the ``compared`` of them that both had forecast, and behind no gap,
    stand the errors: of each channel the root mean square in its unit, and ``error``, that of all in the
    standard deviations of the model that serves. ``met``: events during which the other model had one, too.
    """
    if (shadow := succession.shadow) is None:
        return None
    found, model = shadow.found, engine.model
    outputs = len(found.values)
    values, squares = found.values.copy(), found.squares.reshape(3, -1).copy()
    scaled = squares / model.output_std[:outputs].astype(np.float64) ** 2
    count = int(values.sum())
    scores = found.scores.reshape(2, BINS).copy()
    return {
        "since": round(shadow.since, 3),
        "rows": int(found.rows[0]),
        "compared": int(found.rows[1]),
        "forecasting": shadow.forecasting,
        "seconds": float(found.spent_ns[0]) / 1e9,
        "values": count,
        "squared_error": {name: float(scaled[which].sum()) for name, which in _OF.items()},
        "error": {name: _root(scaled[which].sum(), count) for name, which in _OF.items()},
        "channels": [
            {"name": channel.name, "unit": channel.unit, "values": int(values[k])}
            | {name: _root(squares[which, k], int(values[k])) for name, which in _OF.items()}
            for k, channel in enumerate(model.channels[:outputs])
        ],
        "models": {
            name: {
                "fingerprint": of.model.fingerprint,
                "cell": of.model.cell,
                "hidden": of.model.hidden,
                "layers": len(of.model.layers),
                "streams": int(of.core.slots.counts[1]),
                "threshold": number(of.core.rules.threshold),
                "events": int(found.events[which]),
                "met": int(found.met[which]),
                "score": _quantiles(scores[which]),
            }
            for (name, which), of in zip(_BOTH.items(), (engine, shadow.engine), strict=True)
        },
        "latest": _latest(found.latest, int(found.begun[0])),
    }


def _root(squares: float, count: int) -> float | None:
    return float(f"{(squares / count) ** 0.5:.6g}") if count else None


def _quantiles(counts: np.ndarray) -> dict[str, float | None]:
    """Of a histogram of scores, (BINS,): linear within a bin; what is above the last one is its end."""
    total = int(counts.sum())
    if not total:
        return dict.fromkeys(_QUANTILES)
    return {name: round(_quantile(counts, share * total), 3) for name, share in _QUANTILES.items()}


def _quantile(counts: np.ndarray, rank: float) -> float:
    below = np.concatenate([[0], np.cumsum(counts)])
    place = int(np.searchsorted(below[1:], rank))
    return (place + (rank - float(below[place])) / float(counts[place])) / PER_SCORE


def _latest(ring: np.ndarray, begun: int) -> list[dict[str, Any]]:
    """The events that began last, the newest first. The pump may be writing the one behind the oldest."""
    kept = [ring[number % LATEST].copy() for number in range(begun - 1, max(begun - LATEST, -1), -1)]
    return [
        {
            "stream": id_text(event["stream"]),
            "time": round(int(event["when_ns"]) / 1e9, 3),
            "ts_ns": int(event["ts_ns"]),
            "seq": int(event["seq"]),
            "begins": [
                name for name, key in (("model", "begins"), ("shadow", "shadow_begins")) if event[key]
            ],
            "model": number(event["score"]),
            "shadow": number(event["shadow_score"]),
        }
        for event in kept
    ]
