"""/api/journal: the events that the daemon keeps, to read. See events/journal.py for what they are."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from streamrnn.errors import UserError
from streamrnn.events.journal import KINDS, MOST, VERDICTS, Filter, Journal
from streamrnn.system.threads import give_way

_PAGE = Path(__file__).parent / "static" / "events.html"
_LIMIT = 100  # entries, unless told otherwise
_BINS = 1500, 10_000  # parts of a time line: unless told otherwise, and at most
_BARS = 50_000  # of a time line: more, and its parts are made longer
_LEAST_BINS = 20
_STREAMS = 2000  # in a time line, and in counts
_NAME_BYTES = 127
_PATIENCE_S = 5.0  # for an answer: what takes longer is given up
_WAITING = 32  # questions at once
_STEPS = 10_000  # of SQLite, between two looks at the clock
_DAY_S = 86400
_WEEKS = 9

# a name of a query, and what it makes of its text; raises ValueError that says what is wrong
Query = Mapping[str, Callable[[str], Any]]


class JournalReader:
    """Asks a journal on a thread of its own, one question after another, and gives way to every frame."""

    def __init__(self, path: Path):
        self._path = path
        self._thread = ThreadPoolExecutor(1, "journal-reader", initializer=give_way)
        self._journal: Journal | None = None
        self._file: tuple[int, int] | None = None
        self._ends = 0.0
        self._waiting = 0
        self._stopped = False

    async def ask(self, question: Callable[[Journal], Any]) -> bytes | None:
        """The answer as JSON, None for None. Raises UserError where the journal cannot be read."""
        if self._waiting >= _WAITING:
            raise UserError("too many ask at once; ask again")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """Gives up what is being asked; Python waits for the thread before it ends."""
        self._stopped = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, question: Callable[[Journal], Any]) -> bytes | None:
        self._ends = time.monotonic() + _PATIENCE_S
        try:
            found = question(self._open())
        except UserError as error:
            self._close()
            if time.monotonic() >= self._ends:
                raise UserError(f"no answer within {_PATIENCE_S:g} s; ask for less time") from error
            raise
        return None if found is None else json.dumps(found, allow_nan=False, separators=(",", ":")).encode()

    def _open(self) -> Journal:
        """The journal that is there now: somebody may have put another file in its place."""
        file = None
        with suppress(OSError):
            found = self._path.stat()
            file = found.st_dev, found.st_ino
        if self._journal is None or file != self._file:
            self._close()
            self._journal, self._file = Journal(self._path), file
            self._journal.connection.set_progress_handler(self._is_late, _STEPS)
        return self._journal

    def _is_late(self) -> bool:
        return self._stopped or time.monotonic() >= self._ends

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def journal_routes(reader: JournalReader | None) -> list[Route]:
    """The page of events, and what it asks. None: no journal is kept."""

    async def page(request: Request) -> Response:
        return FileResponse(_PAGE)

    def answers(question: Callable[[Request], Callable[[Journal], Any]]) -> Any:
        async def answer(request: Request) -> Response:
            if reader is None:
                return _error(404, "no journal is kept: set events.path, and start the daemon anew")
            try:
                found = await reader.ask(question(request))
            except ValueError as error:
                return _error(400, str(error))
            except UserError as error:
                return _error(503, str(error))
            if found is None:
                return _error(404, "no such event is kept")
            return Response(found, media_type="application/json", headers={"cache-control": "no-store"})

        return answer

    return [
        Route("/events", page),
        Route("/api/journal", answers(_entries)),
        Route("/api/journal/timeline", answers(_timeline)),
        Route("/api/journal/counts", answers(_counts)),
        Route("/api/journal/{event}", answers(_one)),
    ]


def _error(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)


def _entries(request: Request) -> Callable[[Journal], Any]:
    asked = _asked(request, {**_CHOSEN, "before": _whole(1, 1 << 62), "limit": _whole(1, MOST)})
    limit = asked.pop("limit", _LIMIT)

    def answer(journal: Journal) -> dict[str, Any]:
        events, following = journal.entries(Filter(**asked), limit)
        return {"events": events, "next": following}

    return answer


def _one(request: Request) -> Callable[[Journal], Any]:
    event = _whole(0, 1 << 62)(request.path_params["event"])
    return lambda journal: journal.one(event)


def _timeline(request: Request) -> Callable[[Journal], Any]:
    asked = _asked(request, {**_CHOSEN, "bins": _whole(1, _BINS[1])})
    until_ns = asked.pop("until_ns", time.time_ns())
    since_ns = asked.pop("since_ns", until_ns - _DAY_S * 10**9)
    bins = asked.pop("bins", _BINS[0])
    if since_ns >= until_ns:
        raise ValueError("since: not before until")
    chosen = Filter(**asked)

    def answer(journal: Journal) -> dict[str, Any]:
        parts = bins
        while True:
            found = journal.timeline(since_ns, until_ns, parts, chosen)
            streams = found["streams"]
            bars = sum(map(len, streams.values()))
            if parts <= _LEAST_BINS or bars <= _BARS:
                break
            parts = max(parts * _BARS // (4 * bars), _LEAST_BINS)
        return {**found, "streams": _highest(streams), "left_out": max(len(streams) - _STREAMS, 0)}

    return answer


def _highest(streams: dict[str, list[list[Any]]]) -> dict[str, list[list[Any]]]:
    """The streams with the highest peaks, where there are more than anybody looks at."""
    if len(streams) <= _STREAMS:
        return streams
    peak = {stream: max(bar[2] or 0 for bar in bars) for stream, bars in streams.items()}
    return {stream: streams[stream] for stream in sorted(streams, key=lambda each: -peak[each])[:_STREAMS]}


def _counts(request: Request) -> Callable[[Journal], Any]:
    asked = _asked(request, {name: _CHOSEN[name] for name in ("since", "until")})
    since_ns = asked.get("since_ns", time.time_ns() - _WEEKS * 7 * _DAY_S * 10**9)

    def answer(journal: Journal) -> dict[str, Any]:
        counts = journal.counts(since_ns, asked.get("until_ns"))
        total: dict[str, int] = {}
        for each in counts:
            total[each["stream"]] = total.get(each["stream"], 0) + each["events"]
        most = set(sorted(total, key=lambda stream: -total[stream])[:_STREAMS])
        told = [each for each in counts if each["stream"] in most]
        return {"counts": told, "left_out": len(total) - len(most)}

    return answer


# --- what a query says


def _asked(request: Request, known: Query) -> dict[str, Any]:
    """The values that a query has, times as ``since_ns`` and ``until_ns``. Raises ValueError."""
    found = {}
    for name, text in request.query_params.items():
        if name not in known:
            raise ValueError(f"{name}: unknown; there are {', '.join(known)}")
        try:
            found[f"{name}_ns" if name in ("since", "until") else name] = known[name](text)
        except ValueError as error:
            raise ValueError(f"{name}: {text[:80]!r} is {error}") from None
    return found


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) <= most:
            raise ValueError(f"no whole number from {least} to {most}")
        return int(text)

    return read


def _name(text: str) -> str:
    if len(text.encode(errors="replace")) > _NAME_BYTES:
        raise ValueError(f"longer than {_NAME_BYTES} bytes, as no stream's id is")
    return text


def _time_ns(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,9})?", text):
        raise ValueError("no time, in seconds since the Unix epoch")
    return round(float(text) * 1e9)


def _kind(text: str) -> str:
    if text not in KINDS:
        raise ValueError(f"none of {', '.join(KINDS)}")
    return text


def _verdict(text: str) -> str:
    if text not in ("none", *VERDICTS[1:]):
        raise ValueError(f"none of none, {', '.join(VERDICTS[1:])}")
    return "" if text == "none" else text


_CHOSEN: Query = {
    "stream": _name,
    "prefix": _name,
    "kind": _kind,
    "verdict": _verdict,
    "since": _time_ns,
    "until": _time_ns,
}
