"""All streams at a glance: which are the most unusual, which have a name like this."""

import time
from typing import Any

import numpy as np

from streamrnn.daemon.page.read_records import Heads, read_heads
from streamrnn.engine.engine import Engine
from streamrnn.streams.slots import id_text
from streamrnn.streams.summary import health_of
from streamrnn.wire.shortest import number

_FRESH_S = 0.5  # one reading serves all who ask for so long
_SHARE = 20  # times as long as a reading takes of the processor, it serves at least
_ASKED = 64  # different questions whose answers are kept, as long as one reading serves
_UPPER_A, _UPPER_Z, _TO_LOWER = ord("A"), ord("Z"), 32


class Overview:
    """Every stream as it was a moment ago."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._heads: Heads | None = None
        self._lower: np.ndarray | None = None
        self._found: dict[tuple[str, int, str], tuple[int, np.ndarray]] = {}
        self._stale_at = 0.0

    def _read(self) -> Heads:
        if self._heads is None or time.monotonic() >= self._stale_at:
            began = time.thread_time()
            self._heads = read_heads(self._engine.core.slots, bool(self._engine.core.net.forecasts))
            self._lower = None
            self._found.clear()
            self._stale_at = time.monotonic() + max(_FRESH_S, _SHARE * (time.thread_time() - began))
        return self._heads

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
                    "stream": id_text(heads.name[at]),
                    "score": number(heads.score[at]),
                    "anomaly": bool(heads.anomaly[at]),
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
        which = self._matching(heads, search)
        known = len(which), which[_first(heads, which, sort, limit)]
        if len(self._found) < _ASKED:
            self._found[sort, limit, search] = known
        self._stale_at += _SHARE * (time.thread_time() - began)
        return known

    def most_unusual(self, count: int) -> list[str]:
        """The ids of the ``count`` streams with the highest scores."""
        heads = self._read()
        shown = self._find(heads, "score", count, "")[1]
        return [id_text(heads.name[at]) for at in shown]

    def _matching(self, heads: Heads, search: str) -> np.ndarray:
        """The streams whose id has ``search`` in it, whatever the case of ASCII letters."""
        if not search:
            return np.arange(len(heads.slot))
        if self._lower is None:
            self._lower = _lowered(heads.name[:, :-1])
        text = self._lower.view(f"S{self._lower.shape[1]}")[:, 0]
        wanted = _lowered(np.frombuffer(search.encode(), np.uint8)).tobytes()
        return np.flatnonzero(np.strings.find(text, wanted) >= 0)


def _lowered(text: np.ndarray) -> np.ndarray:
    upper = (text >= _UPPER_A) & (text <= _UPPER_Z)
    return np.ascontiguousarray(text + upper * np.uint8(_TO_LOWER))


def _first(heads: Heads, which: np.ndarray, sort: str, limit: int) -> np.ndarray:
    """The places in ``which`` of its first ``limit`` streams by ``sort``."""
    if sort == "name":
        return np.argsort(_names(heads, which), kind="stable")[:limit]
    keys = heads.received[which] if sort == "age" else -np.nan_to_num(heads.score[which], nan=-1.0)
    if limit < len(which):
        limit_key = np.partition(keys, limit)[limit - 1 : limit + 1].max()
        near = np.flatnonzero(keys <= limit_key)
    else:
        near = np.arange(len(which))
    if len(near) > 20 * limit:  # as many alike: those of the lowest slots, rather than all names in order
        near = near[np.argsort(keys[near], kind="stable")[: 20 * limit]]
    return near[np.lexsort((_names(heads, which[near]), keys[near]))][:limit]


def _names(heads: Heads, which: np.ndarray) -> np.ndarray:
    names = np.ascontiguousarray(heads.name[which, :-1])
    return names.view(f"S{names.shape[1]}")[:, 0] if len(names) else np.zeros(0, "S1")
