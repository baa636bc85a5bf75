"""One stream as it stands, for a person or a program to read, while the pump goes on."""

import time
from typing import Any

import numba
import numpy as np

from streamrnn.engine import Engine
from streamrnn.streams.copy import peek
from streamrnn.streams.record import EPOCH, RECEIVED, SEQ, STEP, TS
from streamrnn.streams.score import EVENT, LATEST, SCALARS, UNUSUAL, last_score, shares
from streamrnn.streams.slots import id_words


class Look:
    """Looks at the streams of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def compile(self) -> None:
        """Compiles what ``stream`` runs, or loads it from the cache."""
        core, words = self._engine.core, numba.types.Array(numba.uint64, 1, "C")
        floats = numba.types.Array(numba.float32, 1, "C")
        peek.compile((numba.typeof(core.slots), words, words))
        shares.compile((numba.typeof(core.net), floats, floats))

    def stream(self, name: str) -> dict[str, Any] | None:
        """A stream, JSON-ready; None where there is none of that id.

        ``channels`` have the last ``value`` and, of one that is forecast, the ``forecast`` of the next, the
        last ``residual`` in its running deviations, and its ``share`` in the score.
        """
        model, core = self._engine.model, self._engine.core
        try:
            words = id_words(name).copy()
        except ValueError:
            return None
        slots, found = core.slots, np.zeros(core.slots.words // 2, np.uint64)
        if not peek(slots, words, found):
            return None
        record, halves = found.view(np.float32), found.view(np.uint32)
        age_ns = time.monotonic_ns() - int(found[RECEIVED])
        said: dict[str, Any] = {
            "stream": name,
            "step": int(found[STEP]),
            "seq": int(found[SEQ]),
            "ts_ns": int(found[TS : TS + 1].view(np.int64)[0]),
            "epoch": int(halves[EPOCH]),
            "age_s": max(age_ns, 0) / 1e9,
            "score": None,
            "anomaly": False,
        }
        channels = [
            {"name": channel.name, "unit": channel.unit, "value": _number(record[slots.input_at + k])}
            for k, channel in enumerate(model.channels)
        ]
        forecasts = record[slots.prediction_at : slots.prediction_at + len(model.outputs)]
        if core.net.forecasts:
            part = record[slots.score_at : slots.prediction_at].copy()
            score, share = last_score(part), np.zeros(len(model.outputs), np.float32)
            shares(core.net, part, share)
            latest = part[SCALARS + LATEST * core.net.out_width :]
            said |= {"score": None if np.isnan(score) else score, "anomaly": bool(part[EVENT] == UNUSUAL)}
            for k, channel in enumerate(channels[: len(model.outputs)]):
                channel |= {"forecast": _number(forecasts[k]), "residual": _number(latest[k])}
                channel["share"] = _number(share[k])
        elif model.relation == "sequence-to-sequence":
            said["outputs"] = [
                {"name": output.name, "unit": output.unit, "value": _number(forecasts[k])}
                for k, output in enumerate(model.outputs)
            ]
        return said | {"channels": channels}


def _number(value: np.float32) -> float:
    """The float of fewest digits that rounds to a float32."""
    return float(str(value))
