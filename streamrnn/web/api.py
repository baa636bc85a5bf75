"""/api: the streams and figures of the daemon as JSON, and as events for as long as a page is open."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

log = logging.getLogger("streamrnn")

PAGES = 24  # that can be open at once
_TICK_S = 0.1
_AGAIN_S = 10.0
_TICKS_A_SECOND = 10
_TICKS_A_TELLING = 2  # of a stream: half the work, and an eye sees no more
_LIMITS = 50, 1000  # streams in a list: unless told otherwise, and at most
_SORTS = ("score", "name", "age")
_SEARCH_BYTES = 127
_RETRY_MS = 1000  # after which a page that lost its connection tries again


class Views(Protocol):
    """What there is to see; all of it JSON-ready, none of it may take long."""

    def tick(self) -> None:
        """Called ten times a second, whether anyone looks or not."""

    def status(self) -> dict[str, Any]: ...

    def refusals(self) -> dict[str, Any]:
        """What was refused last for each reason."""

    def open_events(self, limit: int) -> tuple[int, Sequence[tuple[str, float]]]:
        """How many streams have an event, and ids and scores of the ``limit`` with the highest."""

    def shadow(self) -> Mapping[str, Any] | None:
        """How the model and its shadow compare; None where there is no shadow."""

    def streams(self, sort: str, limit: int, search: str) -> dict[str, Any]: ...

    def listed(self, sort: str, limit: int, search: str) -> dict[str, Any]:
        """``streams`` with a curve of each, for a page."""

    def stream(self, name: str) -> dict[str, Any] | None: ...

    def watch(self, name: str) -> None:
        """Called every second for a stream that a page shows. Raises ValueError for what is no id."""

    def since(self, name: str, first: int) -> dict[str, Any] | None:
        """Samples of a stream from number ``first`` on; ``next`` is that of the one to come."""


class Ticker:
    """Has samples taken, wakes whoever waits for them, and keeps what it told one page for the others."""

    def __init__(self, views: Views) -> None:
        self._views, self._tick = views, asyncio.Event()
        self._told: dict[tuple[str, int, str], str] = {}  # of this tick
        self.ticks = self.pages = 0

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            try:
                self._views.tick()
            except Exception:  # whatever it is, metrics and health must go on
                log.exception("no samples were taken for the page; next try in %g s", _AGAIN_S)
                await asyncio.sleep(_AGAIN_S)
            self.ticks += 1
            self._told.clear()
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()
            await asyncio.sleep(_TICK_S)

    async def wait(self) -> None:
        await self._tick.wait()

    def told(self, query: tuple[str, int, str]) -> str:
        """The events of each second, but for those of a stream, the same for all who ask the same."""
        if (told := self._told.get(query)) is None:
            told = _event("status", self._views.status()) + _event("refusals", self._views.refusals())
            told += _event("streams", self._views.listed(*query))
            if len(self._told) < PAGES:
                self._told[query] = told
        return told


def api_routes(views: Views, ticker: Ticker) -> list[Route]:
    """The routes of /api."""

    async def status(request: Request) -> Response:
        return JSONResponse(views.status())

    async def refusals(request: Request) -> Response:
        return JSONResponse(views.refusals())

    async def shadow(request: Request) -> Response:
        return JSONResponse({"shadow": views.shadow()})

    async def streams(request: Request) -> Response:
        try:
            return JSONResponse(views.streams(*_query(request)))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)

    async def stream(request: Request) -> Response:
        found = views.stream(name := request.path_params["stream"])
        if found is None:
            return JSONResponse({"error": f"no stream {name!r} is held"}, 404)
        return JSONResponse(found)

    async def events(request: Request) -> Response:
        try:
            query = _query(request)
            if ticker.pages >= PAGES:
                said = {"error": f"{PAGES} pages are open already"}
                return JSONResponse(said, 503, {"retry-after": "5"})
            if name := request.query_params.get("stream", ""):
                views.watch(name)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return _Events(ticker, _tell(views, ticker, query, name))

    return [
        Route("/api/status", status),
        Route("/api/refusals", refusals),
        Route("/api/shadow", shadow),
        Route("/api/streams", streams),
        Route("/api/streams/{stream:path}", stream),
        Route("/api/events", events),
    ]


def _query(request: Request) -> tuple[str, int, str]:
    """``sort``, ``limit`` and ``search`` of a list of streams. Raises ValueError that says what is wrong."""
    said = request.query_params
    sort, search = said.get("sort", _SORTS[0]), said.get("search", "")
    if sort not in _SORTS:
        raise ValueError(f"sort: {sort!r} is none of {', '.join(_SORTS)}")
    limit = said.get("limit", str(_LIMITS[0]))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 9 and 1 <= int(limit) <= _LIMITS[1]):
        raise ValueError(f"limit: {limit!r} is no whole number from 1 to {_LIMITS[1]}")
    if len(search.encode(errors="replace")) > _SEARCH_BYTES:
        raise ValueError(f"search: longer than {_SEARCH_BYTES} bytes, as no stream's id is")
    return sort, int(limit), search


class _Events(StreamingResponse):
    """The events of one page, counted from here on: many may ask at once, before the first is answered."""

    def __init__(self, ticker: Ticker, told: AsyncIterator[str]) -> None:
        super().__init__(told, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._ticker = ticker
        ticker.pages += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ticker.pages -= 1


async def _tell(views: Views, ticker: Ticker, query: tuple[str, int, str], name: str) -> AsyncIterator[str]:
    """The events of one page: ``status``, ``refusals`` and ``streams`` each second, five times a second
    ``stream`` with new samples of one.

    Each is made when the connection takes it, so a page that is slow gets fewer, and the newest.
    """
    yield f"retry: {_RETRY_MS}\n\n"
    first, second, turn = 0, None, None
    apart = ticker.pages  # pages are told of their streams by turns
    while True:
        if (now := ticker.ticks // _TICKS_A_SECOND) != second:
            second = now
            yield ticker.told(query)
            if name:
                views.watch(name)
        if name and (now := (ticker.ticks + apart) // _TICKS_A_TELLING) != turn:
            turn = now
            said = _news(views, name, first)
            if said is not None:
                first = said["next"]
                yield _event("stream", said)
        await ticker.wait()


def _news(views: Views, name: str, first: int) -> dict[str, Any] | None:
    """The samples of a stream from ``first`` on, and how it stands; None where there is nothing new."""
    samples = views.since(name, first)
    if samples is None or samples["next"] == first:
        return None
    stands = views.stream(name)
    return None if stands is None else samples | {"now": stands}


def _event(kind: str, said: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(said, allow_nan=False, separators=(',', ':'))}\n\n"
