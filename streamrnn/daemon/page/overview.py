"""All streams at a glance: which are the most unusual, which have a name like this."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from streamrnn.daemon.page.read_records import Heads, read_heads
from streamrnn.engine.engine import Engine
from streamrnn.streams.choose import first, holding
from streamrnn.streams.slots import id_text
from streamrnn.streams.summary import health_of
from streamrnn.wire.shortest import number

_FRESH_S = 0.5  # one reading serves all who ask for so long
_SHARE = 20  # times as long as a reading takes of the processor, it serves at least
_PATIENCE_S = 0.05  # that anybody waits for one, but for the first
_ASKED = 64  # different questions whose answers are kept, as long as one reading serves


class Overview:
    """Every stream as it was a moment ago."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._heads: Heads | None = None
        self._found: dict[tuple[str, int, str], tuple[int, np.ndarray]] = {}
        self._stale_at = 0.0
        self._reader = ThreadPoolExecutor(1, "page-reader")
        self._reading: Future[tuple[Heads, float]] | None = None

    def _read(self) -> Heads:
        """The last reading, or a new one where that is stale.

        A million streams take longer than those who wait for the server can: then the last one serves on.
        """
        if self._reading is None and time.monotonic() >= self._stale_at:
            self._reading = self._reader.submit(self._read_now)
        if self._reading is not None:
            with suppress(TimeoutError):
                self._heads, took = self._reading.result(None if self._heads is None else _PATIENCE_S)
                self._reading = None
                self._found.clear()
                self._stale_at = time.monotonic() + max(_FRESH_S, _SHARE * took)
        assert self._heads is not None
        return self._heads

    def _read_now(self) -> tuple[Heads, float]:
        """What there is now, and the seconds of the processor that it took."""
        began = time.thread_time()
        core = self._engine.core
        return read_heads(core.slots, bool(core.net.forecasts)), time.thread_time() - began

    def streams(self, sort: str, limit: int, search: str) -> dict[str, Any]:
        """The first ``limit`` streams by ``sort`` of those whose id has ``search`` in it, JSON-ready.

        ``sort`` is "score" (the highest first), "name", or "age" (the longest silent first).
        """
        heads = self._read()
        found, shown = self._find(heads, sort, limit, search)
        now_ns = time.monotonic_ns()
        return {
            "held": len(heads.slot),
            "found": found,
            "streams": [
                {
                    "stream": id_text(heads.ids[at]),
                    "score": number(heads.score[at]),
                    "anomaly": bool(heads.anomaly[at]),
                    "held": bool(heads.held[at]),
                    "health": health_of(True, heads.ended[at], heads.degraded[at]),
                    "step": int(heads.step[at]),
                    "seq": int(heads.seq[at]),
                    "age_s": round(max(now_ns - int(heads.received[at]), 0) / 1e9, 3),
                }
                for at in shown
            ],
        }

    def _find(self, heads: Heads, sort: str, limit: int, search: str) -> tuple[int, np.ndarray]:
        """How many streams match, and the first of them; worked out once for all who ask the same."""
        if (known := self._found.get((sort, limit, search))) is not None:
            return known
        began = time.thread_time()
        which = holding(heads.ids, search.encode(), anywhere=True)
        known = len(which), first(_keys(heads, sort), heads.ids, which, limit)
        if len(self._found) < _ASKED:
            self._found[sort, limit, search] = known
        self._stale_at += _SHARE * (time.thread_time() - began)
        return known

    def open_events(self, limit: int) -> tuple[int, list[tuple[str, float]]]:
        """How many streams have an event, and ids and scores of the ``limit`` with the highest."""
        heads = self._read()
        which = np.flatnonzero(heads.anomaly)
        shown = first(_keys(heads, "score"), heads.ids, which, limit)
        return len(which), [(id_text(heads.ids[at]), float(heads.score[at])) for at in shown]

    def most_unusual(self, count: int) -> list[str]:
        """The ids of the ``count`` streams with the highest scores."""
        heads = self._read()
        shown = self._find(heads, "score", count, "")[1]
        return [id_text(heads.ids[at]) for at in shown]


def _keys(heads: Heads, sort: str) -> np.ndarray:
    """The least of which come first, (n,) float64."""
    if sort == "name":
        return np.zeros(len(heads.slot))
    return heads.received.astype(float) if sort == "age" else -np.nan_to_num(heads.score, nan=-1.0)
