"""The HTTP of the daemon: page, metrics and health, on a thread that never touches a frame."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamrnn.errors import UserError
from streamrnn.system.threads import give_way
from streamrnn.web.api import Ticker, Views, api_routes
from streamrnn.web.cluster import ClusterViews, cluster_routes
from streamrnn.web.control import Door, control_routes
from streamrnn.web.journal import JournalReader, journal_routes
from streamrnn.web.open_events import make_events_registry

# from this many open connections on a request is answered 503; twice as many, and the new one is dropped
CONNECTIONS = 64
# a connection may take this long to its first response, from each response to the next, and in one that
# goes on to take what it was sent
RESPONSE_S = 10.0
# at a stop: how long answers under way may take, and the thread
GRACE_S = 0.5
STOP_S = 3.0

# a state, and one line that says why
Check = Callable[[], tuple[bool, str]]

STATIC = Path(__file__).parent / "static"
# Nothing from elsewhere, nothing inline. uPlot sets styles by script, which this allows.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class WebServer:
    """Serves the page, /api, /metrics, /healthz and /readyz from a daemon thread, an event loop of its own.

    ``health``, ``ready`` and ``views`` are called on that thread; they must not block.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Check,
        ready: Check,
        views: Views | ClusterViews,
        door: Door | None = None,
        journal: JournalReader | None = None,
    ) -> None:
        self._host, self._port, self._journal = host, port, journal
        app = make_app(registry, health, ready, views, _is_loopback(host), door, journal)
        self._server = uvicorn.Server(_settings(app))
        self._thread: threading.Thread | None = None
        self.address = _join(host, port)  # where it listens; once started, with the port it was given

    def start(self) -> None:
        """Listens, and answers from then on. Raises UserError where the address cannot be had."""
        listener = _listen(self._host, self._port)
        self.address = _join(*listener.getsockname()[:2])
        self._thread = threading.Thread(
            target=self._run, args=(listener,), name="streamrnn-http", daemon=True
        )
        self._thread.start()

    def _run(self, listener: socket.socket) -> None:
        give_way()  # with both cores saturated a scrape still took 0.16 s at most
        self._server.run([listener])

    def stop(self) -> None:
        """Frees the port and ends the thread, within ``STOP_S`` seconds; harmless if never started."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S)
        if self._journal is not None:
            self._journal.stop()


def make_app(
    registry: CollectorRegistry,
    health: Check,
    ready: Check,
    views: Views | ClusterViews,
    here: bool,
    door: Door | None,
    journal: JournalReader | None,
) -> Starlette:
    """The routes. Handlers are coroutines, so that they run on the event loop's thread.

    ``here``: only this machine can ask. ``door``: what lets somebody change streams, None where nobody can.
    ``journal``: of the events that are kept, None where none is.
    """
    ticker: Ticker | None = None
    if isinstance(views, ClusterViews):
        routes = cluster_routes(views)
    else:
        ticker = Ticker(views)
        events = Route(
            "/metrics/events", _scraped(make_events_registry(lambda limit: views.open_events(limit)))
        )
        routes = [events, *api_routes(views, ticker), *journal_routes(journal)]

    @asynccontextmanager
    async def ticking(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(ticker.run()) if ticker is not None else None
        yield
        if task is not None:
            task.cancel()

    async def healthz(request: Request) -> Response:
        return _answer(health)

    async def readyz(request: Request) -> Response:
        return _answer(ready)

    app = Starlette(
        routes=[
            Route("/metrics", _scraped(registry)),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            *routes,
            *(control_routes(door) if door is not None else []),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(_Guarded, here=here), Middleware(GZipMiddleware, compresslevel=5)],
        lifespan=ticking,
    )
    app.router.redirect_slashes = False
    return app


def _scraped(registry: CollectorRegistry) -> Callable[[Request], Awaitable[Response]]:
    """What answers a scrape."""

    async def metrics(request: Request) -> Response:
        try:
            render, content_type = choose_encoder(request.headers.get("accept", ""))
        except TypeError:  # the client asked for a version that is no number
            render, content_type = choose_encoder("")
        return Response(render(registry), headers={"content-type": content_type})

    return metrics


def _answer(check: Check) -> Response:
    good, why = check()
    return PlainTextResponse(f"{why}\n", 200 if good else 503)


class _Guarded:
    """Adds ``HEADERS`` to every response, and has browsers ask whether a file is still the same.

    ``here``: who asks by a name other than localhost is refused. It may be a page from elsewhere, whose name
    was made to lead here (DNS rebinding), so that a browser takes what is here for its own.
    """

    def __init__(self, app: ASGIApp, here: bool) -> None:
        self._app, self._here = app, here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._here and scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not _is_local(host):
                words = f"asked as {host!r}: this answers to localhost or to an address\n"
                await PlainTextResponse(words, 421)(scope, receive, send)
                return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self._app(scope, receive, guarded)


def _is_local(host: str) -> bool:
    """Whether a Host header is an address, localhost, or nothing."""
    try:
        name = urlsplit(f"//{host}").hostname or "localhost"
        return name == "localhost" or bool(ip_address(name))
    except ValueError:
        return False


class _Connection(H11Protocol):
    """uvicorn's connection with a deadline: by itself it waits for a request's head for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > 2 * CONNECTIONS:
            transport.abort()
        else:
            self._abort_in(RESPONSE_S)

    def on_response_complete(self) -> None:
        # one that is closing keeps its deadline: its peer may never read the rest
        if not self.transport.is_closing():
            self._abort_in(RESPONSE_S)
        super().on_response_complete()

    def shutdown(self) -> None:
        super().shutdown()
        self._cancel()
        self._deadline = self.loop.call_later(GRACE_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _abort_in(self, seconds: float) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        going_on = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if going_on and not self.flow.write_paused and not self.transport.is_closing():
            self._abort_in(RESPONSE_S)  # events: the peer takes them
        else:
            self.transport.abort()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


def _settings(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        interface="asgi3",
        workers=1,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="error",  # at "warning" every malformed request writes a line
        backlog=CONNECTIONS,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,  # seconds, over GRACE_S
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            # before the thread runs: only a listening socket keeps a second daemon off the port
            listener.listen(CONNECTIONS)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UserError(
            f'http.listen = "{_join(host, port)}": {error.strerror}; give http.listen an address of this '
            'machine and a free port (0 picks one), or "" to serve no HTTP'
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
