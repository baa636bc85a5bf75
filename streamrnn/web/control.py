"""/api/control: what changes a stream, by POST, from whoever has the token.

A request is JSON with ``authorization: Bearer TOKEN``. No browser sends that header for a page from
elsewhere, and no cookie lets anybody in. What each action takes and gives is as over the control socket.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from streamrnn.errors import UserError

BODY_BYTES = 1 << 22
_STREAMS = '{"streams": ["pump-1"]} or {"prefix": "pump-"}'
# what can be done, and what the body of its request is like
ACTIONS = {
    "hold": _STREAMS,
    "release": _STREAMS,
    "judge": '{"event": 12, "verdict": "real", "note": "a bearing"}',
}
# a request as over the control socket, and who asks; what comes of it raises UserError for what is refused
Act = Callable[[dict[str, Any], str], Future[dict[str, Any]]]


@dataclass(frozen=True)
class Door:
    """What lets requests through that change something."""

    act: Act
    token: str = field(default="", repr=False)  # "" = the configuration lets nobody in
    ready: Callable[[], tuple[bool, str]] = lambda: (True, "ready")

    @property
    def is_open(self) -> bool:
        return bool(self.token)


class _Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, why: str, **headers: str):
        super().__init__(why)
        self.answer = JSONResponse({"error": why}, status, headers)


def control_routes(door: Door) -> list[Route]:
    """A route for each of ``ACTIONS``."""
    return [Route(f"/api/control/{action}", _Action(door, action)) for action in ACTIONS]


class _Action:
    """One action as an ASGI application, which any method comes to."""

    def __init__(self, door: Door, action: str) -> None:
        self._door, self._action = door, action

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            _let_in(self._door, request)
            answer = JSONResponse(await self._do(request))
        except _Refusal as refusal:
            answer = refusal.answer
        answer.headers["cache-control"] = "no-store"
        await answer(scope, receive, send)

    async def _do(self, request: Request) -> dict[str, Any]:
        asked = await _body(request)
        expected = f"the body of {self._action} is JSON like {ACTIONS[self._action]}"
        try:
            wanted = json.loads(asked)
        except (ValueError, RecursionError):
            raise _Refusal(400, expected) from None
        if not isinstance(wanted, dict) or "do" in wanted:
            raise _Refusal(400, expected)
        ready, why = self._door.ready()
        if not ready:
            raise _Refusal(503, f"not yet: {why}", **{"retry-after": "1"})
        host = request.client.host if request.client else "?"
        try:
            return await asyncio.wrap_future(
                self._door.act(wanted | {"do": self._action}, f"{host} over HTTP")
            )
        except UserError as error:
            raise _Refusal(400, str(error)) from None


def _let_in(door: Door, request: Request) -> None:
    """Raises _Refusal unless a request may change something."""
    headers = request.headers
    if request.method != "POST":
        raise _Refusal(405, "this changes streams: ask by POST", allow="POST")
    if not door.is_open:
        raise _Refusal(403, "the configuration lets nobody change streams over HTTP: see http.control")
    origin = headers.get("origin")
    foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if foreign or (origin is not None and urlsplit(origin).netloc != headers.get("host", "")):
        raise _Refusal(
            403, "a page from elsewhere may not ask; a proxy must pass the Host header on as it is"
        )
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(token.strip().encode(), door.token.encode()):
        why = "wrong token" if token else "no token"
        raise _Refusal(
            401,
            f"{why}: send authorization: Bearer and what is in http.token_file",
            **{"www-authenticate": "Bearer"},
        )
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refusal(415, "send JSON, and content-type: application/json")


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > BODY_BYTES:
            raise _Refusal(
                413, f"more than {BODY_BYTES:,} bytes; name fewer streams, or a prefix", connection="close"
            )
    return bytes(data)
