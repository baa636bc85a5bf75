"""Tells somebody over HTTP what events begin and end, as often as it takes, from a queue in the journal.

A POST of JSON, signed as Standard Webhooks has it (https://www.standardwebhooks.com): the headers webhook-id,
by which a receiver sees what it had already, webhook-timestamp, and webhook-signature, "v1," and base64 of
HMAC-SHA256 over "id.timestamp.body".
"""

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import logging
import random
import signal
import socket
import sqlite3
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streamrnn import __version__
from streamrnn.errors import ConfigError, UserError
from streamrnn.events.journal import Journal, note_lost, transaction
from streamrnn.settings.events_section import Events
from streamrnn.settings.secret_file import read_secret_line
from streamrnn.system.threads import give_way

log = logging.getLogger("streamrnn")

KEPT = 10_000  # that wait to be told
_PREFIX, _SECRET_BYTES = "whsec_", (24, 64)
_SILENT_S, _WHOLE_S = 10.0, 30.0  # how long a receiver may say nothing, and take in all
_FIRST_S, _LONGEST_S = 1.0, 300.0  # between tries
_PATIENCE_S = 3600.0  # the longest Retry-After that is heeded
_REFUSED, _TRIES = (400, 413, 422), 3  # what is wrong with the message itself, and how often that is tried
_LOOK_S, _LEAVE_S = 0.5, 2.0


def read_secret(file: Path) -> bytes:
    """The key in the file of ``events.webhook_secret_file``. Raises ConfigError."""
    text = read_secret_line("events.webhook_secret_file", file, "secret")
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    least, most = _SECRET_BYTES
    if not (text.startswith(_PREFIX) and least <= len(secret) <= most):
        raise ConfigError(
            f"events.webhook_secret_file: {file}: is {_PREFIX} and {least} to {most} bytes in base64; "
            f"`echo {_PREFIX}$(openssl rand -base64 32) > {file}` makes one"
        )
    return secret


class Webhook:
    """Tells one receiver, in the order of the queue, from a thread of its own."""

    def __init__(self, settings: Events):
        """Raises ConfigError for a secret that cannot be used."""
        self._path, self._url = Path(settings.path), urlsplit(settings.webhook)
        self._secret = read_secret(Path(settings.webhook_secret_file))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._failing = 0  # tries in a row
        self.told = self.failures = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends, soon; what waits, or is under way, is told after the next start."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        give_way()
        journal: Journal | None = None
        while not self._end.is_set():
            pause = _LOOK_S
            try:
                if journal is None or not journal.is_there():
                    journal = Journal(self._path, write=True)
                pause = self._tell_next(journal)
            except (UserError, sqlite3.Error, OSError) as error:
                log.debug("webhook: %s", error)  # the journal's own thread says so
                journal = None
            except Exception:
                log.exception("the webhook failed at something; it goes on")
                pause = _LONGEST_S
            self._end.wait(pause)
        if journal is not None:
            journal.close()

    def _tell_next(self, journal: Journal) -> float:
        """Tells what waits longest, if anything. Returns how long to wait then."""
        run = journal.connection.execute
        found = run("SELECT id, event, what FROM outbox ORDER BY id LIMIT 1").fetchone()
        if found is None:
            return _LOOK_S
        number, event, what = found
        entry = journal.one(event, recorded=False)
        after, why = (None, "") if entry is None else self._post(f"{event}-{what}", {"what": what, **entry})
        if after is not None:
            self._say_failed(why, after)
            return after
        with transaction(run):
            run("DELETE FROM outbox WHERE id = ?", [number])
            if why:
                note_lost(run, time.time_ns(), "refused by the webhook", 1)
        if why:
            log.error("the webhook refuses event %d for good: %s", event, why)
        elif self._failing:
            log.info("the webhook takes events again")
        self._failing, self.told = 0, self.told + (entry is not None and not why)
        return 0.0

    def _say_failed(self, why: str, after: float) -> None:
        if self._failing == 1:
            log.error("the webhook at %s takes no event: %s; it is tried again", self._url.netloc, why)
        log.debug("webhook: %s; the next try is in %.0f s", why, after)

    def _post(self, name: str, said: dict[str, Any]) -> tuple[float | None, str]:
        """One try: how long to wait for the next, None for no more; and what was wrong, "" for nothing."""
        body = json.dumps(said, ensure_ascii=False).encode()
        try:
            status, reason, wait = self._answer(body, self._signed(name, body))
        except (OSError, http.client.HTTPException) as error:
            status, reason, wait = 0, str(error) or type(error).__name__, ""
        if 200 <= status < 300:
            return None, ""
        self.failures, self._failing = self.failures + 1, self._failing + 1
        why = f"{status} {reason}" if status else reason
        if status in _REFUSED and self._failing >= _TRIES:
            return None, why
        after = min(_FIRST_S * 2 ** min(self._failing - 1, 20), _LONGEST_S) * random.uniform(0.8, 1.2)  # noqa: S311
        if wait.isascii() and wait.isdigit():
            after = max(after, min(float(wait), _PATIENCE_S))
        return after, why

    def _signed(self, name: str, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signature = hmac.digest(self._secret, f"{name}.{now}.".encode() + body, hashlib.sha256)
        return {
            "content-type": "application/json",
            "user-agent": f"streamrnn/{__version__}",
            "webhook-id": name,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }

    def _answer(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, str]:
        """Status, reason and Retry-After. No redirect is followed: the body is for the address alone."""
        url = self._url
        host, target = url.hostname or "", (url.path or "/") + (f"?{url.query}" if url.query else "")
        if url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, url.port, timeout=_SILENT_S, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, url.port, timeout=_SILENT_S)
        end = threading.Timer(_WHOLE_S, _cut, [connection])
        end.daemon = True
        end.start()
        try:
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.reason, answer.headers.get("retry-after", "")
        finally:
            end.cancel()
            connection.close()


def _cut(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
