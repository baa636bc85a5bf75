"""What an operator has done to streams while they run: between two frames, by whichever way it is asked."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.daemon.driver import Driver
from streamrnn.daemon.judging import keep_verdict
from streamrnn.daemon.succession import Succession
from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.streams.choose import holding
from streamrnn.streams.exchange import find_streams, ids_of, number_of, refuse_unknown
from streamrnn.streams.holding import BY_HAND, FREE, UNTIL_OVER, set_hold
from streamrnn.streams.judging import NORMAL, REAL, UNDO, judge
from streamrnn.streams.record import HOLD, ID_WORDS

log = logging.getLogger("streamrnn")

_AT_ONCE = 4096  # streams changed while the pump stands once: some ms


class Operator:
    """Changes streams of an engine while its pump stands.

    ``submit`` runs what it is given on a thread that keeps the priority of the one that calls ``start``: one
    that steps back for everybody must not be what the pump waits for.
    """

    def __init__(self, engine: Engine, succession: Succession, journal: Path | None = None):
        """``journal``: the file of the events that are kept, None where none is.

        Streams of ``engine`` that are held or reset are so in its shadow, too, where there is one.
        """
        self._engine, self.succession, self._journal = engine, succession, journal
        self._between_frames = ThreadPoolExecutor(1, "between-frames")

    def start(self, driver: Driver, promote: Callable[[], dict[str, str]]) -> None:
        """``driver`` is the one that steps the engine; before it nothing can be asked.

        ``promote`` has the shadow take over, on the thread of ``submit``.
        """
        self._driver, self.promote = driver, promote
        self._between_frames.submit(int).result()

    def stop(self) -> None:
        self._between_frames.shutdown(wait=False)

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._between_frames.submit(function, *args)

    def act(self, request: dict[str, Any], who: str) -> Future[dict[str, Any]]:
        """Has a request done; the result raises UserError for one that is refused, with nothing changed."""
        return self.submit(self._act, request, who)

    def _act(self, request: dict[str, Any], who: str) -> dict[str, Any]:
        match request:
            case {"do": "hold" | "release" as do, "streams": list(names), **rest} if not rest and _are_texts(
                names
            ):
                found = self._named(names)
            case {"do": "hold" | "release" as do, "prefix": str(prefix), **rest} if not rest:
                found = self._beginning(prefix)
            case {"do": "judge", **asked}:
                return self._judge(asked, who)
            case _:
                raise UserError(
                    'not a request that this version knows; name streams, as {"streams": ["pump-1"]}, or '
                    '{"prefix": "pump-"}'
                )
        said = {"streams": len(found), "changed": self._hold(found, BY_HAND if do == "hold" else FREE)}
        what = "learning held" if do == "hold" else "learning released"
        log.info("%s of %s, as %s asked", what, number_of(said["streams"]), who)
        return said

    def _judge(self, asked: dict[str, Any], who: str) -> dict[str, Any]:
        """Keeps a verdict, and gives it its effect."""
        event = keep_verdict(self._journal, asked)
        effect = ""
        if event["kind"] == "event":
            goes_on = event["end_wall_ns"] is None
            effect = self.judged(event["stream"], event["verdict"], goes_on, event["begin_seq"])
        verdict = event["verdict"] or "no more"
        log.info("event %d judged %s, as %s asked%s", event["id"], verdict, who, effect and f": {effect}")
        return {"event": event, "effect": effect}

    def _hold(self, words: np.ndarray, hold: np.uint32) -> int:
        """Sets HOLD of the streams of ids, (n, ID_WORDS) uint64; of those that were let go meanwhile, none.

        Returns how many it changed.
        """
        changed = 0
        for first in range(0, len(words), _AT_ONCE):
            with self._driver.paused():
                found = find_streams(self._engine.core.slots, words[first : first + _AT_ONCE])
                changed += set_hold(self._engine.core.slots, found[found >= 0], hold)
                self.succession.hold(words[first : first + _AT_ONCE], hold)
        return changed

    def judged(self, stream: str, verdict: str, goes_on: bool, begin_seq: int | None = None) -> str:
        """Gives a verdict on an event of a stream its effect, between two frames; to be called by ``submit``.

        ``verdict`` is "real", "work", "normal" or "", which takes the one before it back; ``goes_on`` whether
        the event does, ``begin_seq`` the number of its first row, where that is known. "normal" has the score
        of such a stream take what it shows now as usual. "real" and "work" hold learning until nothing is
        unusual any more, and what the score learned since the event began is taken back; the same of an event
        that is over, where it is the last one of its stream and this process saw it begin. Returns in words
        what it did: "" for nothing, as with a stream that is gone and an event that is long over.
        """
        with self._driver.paused():
            core = self._engine.core
            slot = int(find_streams(core.slots, ids_of([stream]))[0])
            if slot < 0:
                return ""
            began = int(core.slots.notes[slot]["began"])
            since = began if goes_on and begin_seq is None else begin_seq
            does = {"normal": NORMAL, "": UNDO}.get(verdict, REAL)
            if not goes_on and (does == NORMAL or (does == REAL and since != began)):
                return ""
            was = int(core.slots.state_32[slot * core.slots.words + HOLD])
            hold, back = judge(core.net, core.slots, slot, does, -1 if since is None else since)
        if does == NORMAL:
            return "what it shows now is taken as usual"
        if does == UNDO:
            return "learning released" if was != hold else ""
        held = "learning held until it is over" if hold == UNTIL_OVER else "learning is held by hand"
        return held + (", and what was learned since it began is taken back" if back else "")

    def _named(self, names: list[str]) -> np.ndarray:
        """The ids of streams, (n, ID_WORDS) uint64; all of them are there, or UserError."""
        words = ids_of(names)
        with self._driver.paused():
            found = find_streams(self._engine.core.slots, words)
        refuse_unknown([name for name, slot in zip(names, found, strict=True) if slot < 0])
        return np.unique(words, axis=0)

    def _beginning(self, prefix: str) -> np.ndarray:
        """The same of the streams whose ids begin with ``prefix``."""
        slots = self._engine.core.slots
        ids = slots.ids.reshape(-1, ID_WORDS)[slots.committed > 0]
        return ids[holding(ids, prefix.encode(errors="surrogatepass"), anywhere=False)]


def _are_texts(names: list[object]) -> bool:
    return all(isinstance(name, str) for name in names)
