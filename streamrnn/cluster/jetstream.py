"""What is asked of NATS: the requests of JetStream by their names and headers, over the plain client.

Atomic batches are of ADR-50, pinned consumers of ADR-42, reading many messages at once of ADR-31, in
nats-architecture-and-design.
"""

import asyncio
import base64
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from streamrnn.errors import UserError

PATIENCE_S = 4.0  # for an answer, which after the loss of a server takes an election
_API = "$JS.API."
_AGAIN_S = 0.2
_WRONG_LAST = (10071, 10164)  # err_code: it was not the last message of its subject that was said to be
_FULL = (10023, 10047, 10077, 10122, 10053)  # no room: of the server, the stream
_ABSENT = (10037, 10059, 10014)  # no such message, stream, consumer
_BROKEN = (10175, 10176)  # a batch: part of it went to a leader before, or too many others are under way
_EXISTS = 10058
_SEQUENCE = "Nats-Sequence"  # a header of the servers' own, whatever else a message has
Headers = Mapping[str, str]
_NONE: Headers = {}


class Unavailable(Exception):
    """No answer, or one that says to try again: nobody knows whether it was done."""


class LogFull(Unavailable):
    """There is no room for it now."""


class WrongLast(Exception):
    """Refused: somebody else has written meanwhile."""


class Logged(NamedTuple):
    """A message of the log."""

    seq: int
    subject: str
    data: bytes
    headers: Headers
    time_ns: int  # when it came there, by the server's clock
    pending: int  # how many of its subject follow


def told_ns(text: str) -> int:
    """A time of RFC 3339 in UTC, with any number of decimals, as ns from the epoch."""
    whole, _, decimals = text.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(whole + "+00:00").timestamp()
    return int(seconds) * 10**9 + int(decimals[:9].ljust(9, "0") or 0)


class JetStream:
    """One connection to the servers, and what is asked over it. Made by ``connect``."""

    def __init__(self, client: Any, closing: Callable[[], object]):
        self.client, self._closing = client, closing
        self._token = itertools.count()
        self._waiting: dict[str, asyncio.Queue[Any]] = {}
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"

    async def start(self) -> None:
        await self.client.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def _answered(self, message: Any) -> None:
        queue = self._waiting.get(message.subject.rpartition(".")[2])
        if queue is not None:
            queue.put_nowait(message)

    def require_open(self) -> None:
        """Raises UserError where the client has given up, as it does with who is not let in any more."""
        if self.client.is_closed:
            raise UserError(f"the NATS servers let us in no more: {self.client.last_error}")

    @property
    def most_bytes(self) -> int:
        """Of a message, with room for its headers."""
        return int(self.client.max_payload) - 1024

    async def _publish(self, subject: str, data: bytes, headers: Headers, reply: str = "") -> None:
        try:
            await self.client.publish(subject, data, reply=reply, headers=dict(headers) or None)
        except Exception as error:  # of many kinds: closed, reconnecting with too much on hand
            raise Unavailable(str(error) or type(error).__name__) from error

    async def _ask(
        self, messages: Sequence[tuple[str, bytes, Headers]], patience_s: float = PATIENCE_S
    ) -> Any:
        """Publishes messages, and returns the answer to the last."""
        token = f"{next(self._token)}"
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._waiting[token] = queue
        try:
            for place, (subject, data, headers) in enumerate(messages):
                last = place == len(messages) - 1
                await self._publish(subject, data, headers, f"{self._inbox}.{token}" if last else "")
            return await asyncio.wait_for(queue.get(), patience_s)
        except TimeoutError:
            raise Unavailable(self._why(patience_s)) from None
        finally:
            del self._waiting[token]

    def _why(self, patience_s: float) -> str:
        """There was no answer for so long: servers do not answer what they do not permit, but say so."""
        said = str(self.client.last_error or "")
        return f"no answer within {patience_s:g} s" + (f" ({said})" if "permissions" in said.lower() else "")

    async def _decided(
        self, messages: Sequence[tuple[str, bytes, Headers]], patience_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        answer = await self._ask(messages, patience_s)
        if (answer.headers or {}).get("Status") == "503":
            raise Unavailable("no server answers for JetStream")
        try:
            decided: dict[str, Any] = json.loads(answer.data)
        except ValueError:
            raise Unavailable("an answer that is no JSON") from None
        if error := decided.get("error"):
            raise _error(error)
        return decided

    async def api(self, what: str, **request: Any) -> dict[str, Any]:
        """Asks the API. Raises Unavailable, and UserError for what it refuses."""
        data = json.dumps(request).encode() if request else b""
        return await self._decided([(_API + what, data, {})])

    async def append(self, subject: str, data: bytes, name: str, headers: Headers = _NONE) -> int:
        """Appends a message, or finds that one of that name is there. Returns its sequence number.

        Raises Unavailable, LogFull.
        """
        return int((await self._decided([(subject, data, {"Nats-Msg-Id": name, **headers})]))["seq"])

    async def commit(self, messages: Sequence[tuple[str, bytes, Headers]], expected: int) -> int:
        """Appends messages, all or none, if the last of the last one's subject is number ``expected``.

        Returns the number of the last one. Raises WrongLast, Unavailable, LogFull.
        """
        batch = secrets.token_hex(12)
        sent = []
        for number, (subject, data, headers) in enumerate(messages, 1):
            more = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            if number == len(messages):
                more |= {"Nats-Batch-Commit": "1", "Nats-Expected-Last-Subject-Sequence": str(expected)}
            sent.append((subject, data, {**headers, **more}))
        return int((await self._decided(sent))["seq"])

    async def last(self, stream: str, subject: str) -> Logged | None:
        """The last message of a subject, as the stream's leader has it. Raises Unavailable."""
        try:
            found = (await self.api(f"STREAM.MSG.GET.{stream}", last_by_subj=subject))["message"]
        except Missing:
            return None
        data = base64.b64decode(found.get("data", ""))
        return Logged(int(found["seq"]), subject, data, {}, told_ns(found["time"]), 0)

    async def read(
        self, stream: str, subject: str, first: int, most: int, most_bytes: int = 1 << 22
    ) -> list[Logged]:
        """Up to ``most`` messages of a subject, from number ``first`` on, in order; none where none is yet.

        Raises Unavailable.
        """
        token = f"{next(self._token)}"
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._waiting[token] = queue
        wanted = {"seq": first, "next_by_subj": subject, "batch": most, "max_bytes": most_bytes}
        found = list[Logged]()
        try:
            asked = json.dumps(wanted).encode()
            await self._publish(f"{_API}DIRECT.GET.{stream}", asked, {}, f"{self._inbox}.{token}")
            while True:
                message = await asyncio.wait_for(queue.get(), PATIENCE_S)
                headers = message.headers or {}
                if _SEQUENCE in headers:  # first of all: what is in the log may say that it is a status
                    found.append(_logged(message.data, headers))
                elif (status := headers.get("Status")) in ("204", "404"):
                    return found
                else:
                    raise Unavailable(f"reading: {status} {headers.get('Description', '')}")
        except TimeoutError:
            raise Unavailable(self._why(PATIENCE_S)) from None
        finally:
            del self._waiting[token]

    async def state(self, stream: str, subjects: str = "") -> dict[str, Any]:
        """How a stream is. Raises Unavailable."""
        request = {"subjects_filter": subjects} if subjects else {}
        return await self.api(f"STREAM.INFO.{stream}", **request)

    async def purge(self, stream: str, subject: str, **what: int) -> None:
        """Removes messages of a subject: those before number ``seq``, or all but the last ``keep``."""
        await self.api(f"STREAM.PURGE.{stream}", filter=subject, **what)

    async def pull(self, stream: str, consumer: str, reply: str, **request: Any) -> None:
        """Asks a consumer for messages; they come to ``reply``. Raises Unavailable."""
        name = f"{_API}CONSUMER.MSG.NEXT.{stream}.{consumer}"
        await self._publish(name, json.dumps(request).encode(), {}, reply)

    async def tell(self, subject: str, data: bytes) -> None:
        """To who listens now. Raises Unavailable."""
        await self._publish(subject, data, {})

    async def hear(self, subject: str, told: Callable[[Any], Any]) -> Any:
        """Calls ``told``, a coroutine function, with each message of a subject. Returns the subscription."""
        return await self.client.subscribe(subject, cb=told)

    async def close(self) -> None:
        self._closing()
        await self.client.close()


class Missing(UserError):
    """What was asked for is not there."""


def _error(error: Mapping[str, Any]) -> Exception:
    code, text = error.get("err_code"), str(error.get("description", error))
    if code in _WRONG_LAST:
        return WrongLast(text)
    if code in _FULL:
        return LogFull(text)
    if code in _ABSENT:
        return Missing(text)
    if code not in _BROKEN and (error.get("code") == 400 or code == _EXISTS):
        return UserError(f"the servers refuse: {text}")
    return Unavailable(text)


def _logged(data: bytes, headers: Headers) -> Logged:
    seq, subject = int(headers[_SEQUENCE]), headers["Nats-Subject"]
    pending = int(headers.get("Nats-Num-Pending", 0))
    return Logged(seq, subject, data, headers, told_ns(headers["Nats-Time-Stamp"]), pending)


async def insist(work: Callable[[], Any], patience_s: float) -> Any:
    """What a coroutine function returns, called again for so long. Raises Unavailable in the end."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return await work()
        except Unavailable:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(_AGAIN_S)


async def each(
    jetstream: JetStream, stream: str, subject: str, first: int, end: int
) -> AsyncIterator[list[Logged]]:
    """The messages of a subject from number ``first`` to ``end``, that included, some at a time."""
    while first <= end:
        found = await insist(lambda at=first: jetstream.read(stream, subject, at, 64), 30.0)  # type: ignore[misc]
        if within := [message for message in found if message.seq <= end]:
            yield within
        if len(within) < len(found) or not found:
            return
        first = found[-1].seq + 1
