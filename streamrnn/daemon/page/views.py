"""What the page shows of the daemon. All of it runs on the thread of the HTTP server, and only reads."""

import time
from collections.abc import Callable
from typing import Any

from streamrnn import __version__
from streamrnn.adapters.tally import IntakeTally
from streamrnn.daemon.page.history import KEPT, History
from streamrnn.daemon.page.one_stream import look
from streamrnn.daemon.page.overview import Overview
from streamrnn.daemon.page.rates import Rates
from streamrnn.daemon.refusals import refusals
from streamrnn.engine.engine import Engine
from streamrnn.rows.layout import SILENT
from streamrnn.web.metrics import Beside, Snapshots
from streamrnn.wire.shortest import shortest

_SECOND_S = 1.0
_UNWATCHED_S = 10.0  # how often streams to be sampled are chosen anew while nobody looks
_LISTED = 40  # at most as many of a page's list have a curve
CURVE_POINTS, CURVE_S = 60, 60.0


class PageViews:
    """The streams and figures of an engine for those who look at the page, and for the next one who will."""

    def __init__(
        self,
        engine: Engine,
        tally: IntakeTally,
        snapshots: Snapshots,
        readiness: Callable[[], tuple[bool, str]],
        control: bool = False,
        beside: Beside = lambda: None,
    ) -> None:
        """``control``: whether streams can be changed over HTTP; ``beside``: see ``side_by_side``."""
        self._control, self.shadow = control, beside
        self._engine, self._tally, self._snapshots, self._readiness = engine, tally, snapshots, readiness
        self._overview, self._history = Overview(engine), History(engine)
        self._rates = Rates(engine.stats, tally)
        self._began = time.time()
        self._second = self._chosen = self._watched = 0.0

    def tick(self) -> None:
        """Takes samples; called ten times a second."""
        if not self._readiness()[0]:  # streams may still be put back
            return
        now = time.monotonic()
        if now >= self._second:
            self._second = now + _SECOND_S
            self._rates.note()
            self._history.find_again()
            if now >= self._chosen + (_SECOND_S if now < self._watched + _UNWATCHED_S else _UNWATCHED_S):
                self._chosen = now
                self._history.keep(self._overview.most_unusual(_LISTED)[::-1])
        self._history.sample()

    def status(self) -> dict[str, Any]:
        """The daemon, its model and its figures, JSON-ready; see ``Rates.status``."""
        model, age, beside = self._engine.model, self._snapshots.age_s(), self.shadow()
        return {
            "version": __version__,
            "state": self._readiness()[1],
            "now": round(time.time(), 3),
            "began": round(self._began, 3),
            "model": {
                "fingerprint": model.fingerprint,
                "cell": model.cell,
                "hidden": model.hidden,
                "layers": len(model.layers),
                "relation": model.relation,
                "channels": [channel.stated() for channel in model.channels],
                "outputs": [output.stated() for output in model.outputs],
            },
            "forecasts": bool(self._engine.core.net.forecasts),
            "threshold": shortest(self._engine.core.rules.threshold),
            "bands": list(self._engine.levels),
            "control": self._control,
            "shadow": None if beside is None else beside["models"]["shadow"]["fingerprint"],
            "capacity": self._engine.capacity,
            "snapshot_age_s": None if age != age else round(age, 1),
            "snapshot_failures": self._snapshots.failures,
            **self._rates.status(),
        }

    def refusals(self) -> dict[str, Any]:
        """See ``refusals.refusals``."""
        return {"refusals": refusals(self._engine, self._tally)}

    def streams(self, sort: str, limit: int, search: str) -> dict[str, Any]:
        """See ``Overview.streams``, with the channels that are ``silent``; none before all is ready."""
        if not self._readiness()[0]:
            return {"held": 0, "found": 0, "streams": []}
        said = self._overview.streams(sort, limit, search)
        for stream in said["streams"]:
            stream["silent"] = self._silent_in(stream["stream"])
        return said

    def open_events(self, limit: int) -> tuple[int, list[tuple[str, float]]]:
        """See ``Overview.open_events``; none before all is ready."""
        return self._overview.open_events(limit) if self._readiness()[0] else (0, [])

    def _silent_in(self, name: str) -> int | None:
        """How many channels of a stream had no value in its last row; None where rows are not assembled."""
        standing = self._tally.standing(name)
        return None if standing is None else int((standing.how == SILENT).sum())

    def stream(self, name: str) -> dict[str, Any] | None:
        """See ``look``."""
        return look(self._engine, name, self._history.slot(name), self._tally.standing(name))

    def watch(self, name: str) -> None:
        """Has a stream sampled for whoever asks with ``since``. Raises ValueError for what is no id."""
        self._watched = time.monotonic()
        self._history.keep([name], at_any_rate=True)

    def listed(self, sort: str, limit: int, search: str) -> dict[str, Any]:
        """``streams``, the first of them with a small curve of the last minute."""
        self._watched = time.monotonic()
        said = self.streams(sort, limit, search)
        first = said["streams"][:_LISTED]
        self._history.keep(stream["stream"] for stream in reversed(first))
        for stream in first:
            stream["curve"] = self._history.curve(stream["stream"], CURVE_POINTS, CURVE_S)
        return said

    def since(self, name: str, first: int) -> dict[str, Any] | None:
        """See ``History.since``."""
        return self._history.since(name, first)


assert _LISTED < KEPT
