"""A webhook is told what begins and ends, signed, in order, until it has taken it."""

import base64
import hashlib
import hmac
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from daemons import wait_for
from needs import needs_programs

from streamrnn.errors import ConfigError
from streamrnn.events import webhook as webhook_module
from streamrnn.events.journal import Journal
from streamrnn.events.webhook import Webhook
from streamrnn.settings.events_section import Events

SECRET = b"0123456789abcdef0123456789abcdef"


class Receiver(ThreadingHTTPServer):
    """Answers with the given statuses, one each, then with 200; keeps what came."""

    def __init__(self, *answers: tuple[int, dict[str, str]]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.heard = list(answers), list[tuple[str, dict[str, str], bytes, int]]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def names(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _, _ in self.heard]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.server.heard.append((self.path, dict(self.headers), body, status))
        self.send_response(status)
        for name, value in {"content-length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with an event of which both is still to be told, and another that began."""
    with Journal(tmp_path / "events.db", write=True) as journal:
        run = journal.connection.execute
        for stream, end in (("pümp-1", 9), ("fan", None)):
            run(
                "INSERT INTO events (kind, stream, begin_wall_ns, end_wall_ns, peak, channels)"
                " VALUES ('event', ?, 5, ?, 4.5, '[[\"flow\", 0.7]]')",
                [stream, end],
            )
        for event, what in ((1, "begin"), (1, "end"), (2, "begin")):
            run("INSERT INTO outbox (event, what) VALUES (?, ?)", [event, what])
    return tmp_path / "events.db"


@pytest.fixture(autouse=True)
def impatience(monkeypatch) -> None:
    monkeypatch.setattr(webhook_module, "_FIRST_S", 0.02)
    monkeypatch.setattr(webhook_module, "_LONGEST_S", 0.1)
    monkeypatch.setattr(webhook_module, "_PATIENCE_S", 0.2)


def settings(path: Path, receiver: Receiver, scheme: str = "http") -> Events:
    secret = path.parent / "secret"
    secret.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    secret.chmod(0o600)
    address = f"{scheme}://127.0.0.1:{receiver.server_port}/told?by=us"
    return Events(path=str(path), webhook=address, webhook_secret_file=str(secret))


@contextmanager
def telling(path: Path, receiver: Receiver, scheme: str = "http") -> Iterator[Webhook]:
    webhook = Webhook(settings(path, receiver, scheme))
    webhook.start()
    try:
        yield webhook
    finally:
        webhook.stop()
        receiver.shutdown()
        receiver.server_close()


def waiting(path: Path) -> int:
    with Journal(path) as journal:
        return journal.connection.execute("SELECT count(*) FROM outbox").fetchone()[0]


def test_what_is_told_is_signed_and_in_order(path):
    receiver = Receiver()
    with telling(path, receiver) as webhook:
        wait_for(lambda: not waiting(path), "all to be told")
        assert (webhook.told, webhook.failures) == (3, 0)
    assert receiver.names() == ["1-begin", "1-end", "2-begin"]
    for target, headers, body, _ in receiver.heard:
        assert target == "/told?by=us" and headers["content-type"] == "application/json"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        ours = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{ours}"
    said = json.loads(receiver.heard[1][2])
    assert (said["what"], said["id"], said["stream"], said["peak"]) == ("end", 1, "pümp-1", 4.5)
    assert said["channels"] == [["flow", 0.7]]


def test_it_is_told_until_it_takes_it(path):
    elsewhere = {"location": "/elsewhere"}
    receiver = Receiver(
        (500, {}), (302, elsewhere), (503, {"retry-after": "3600"}), (429, {"retry-after": "x"})
    )
    with telling(path, receiver) as webhook:
        wait_for(lambda: not waiting(path), "all to be told")
        assert (webhook.told, webhook.failures) == (3, 4)
    assert receiver.names() == ["1-begin"] * 5 + ["1-end", "2-begin"]
    assert {target for target, *_ in receiver.heard} == {"/told?by=us"}  # no redirect was followed


def test_what_it_refuses_does_not_hold_up_the_others(path):
    receiver = Receiver(*[(422, {})] * 3)
    with telling(path, receiver) as webhook:
        wait_for(lambda: not waiting(path), "all to be told")
        assert webhook.told == 2
    with Journal(path) as journal:
        assert [(reason, count) for _, reason, count in journal.lost()] == [("refused by the webhook", 1)]


def test_what_waits_is_told_after_a_restart(path):
    nobody = Receiver()
    nobody.shutdown()
    nobody.server_close()
    webhook = Webhook(settings(path, nobody))
    webhook.start()
    wait_for(lambda: webhook.failures > 1, "tries in vain")
    webhook.stop()
    assert waiting(path) == 3
    receiver = Receiver()
    with telling(path, receiver):
        wait_for(lambda: not waiting(path), "all to be told")
    assert receiver.names() == ["1-begin", "1-end", "2-begin"]


def test_https_is_told_where_its_certificate_is_known(path, tmp_path, monkeypatch):
    needs_programs("openssl")
    words = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=us"
    words += " -addext subjectAltName=IP:127.0.0.1 -keyout tls.key -out tls.pem"
    subprocess.run(["openssl", *words.split()], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    receiver = Receiver()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.pem", tmp_path / "tls.key")
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    with telling(path, receiver, "https") as webhook:
        wait_for(lambda: webhook.failures > 1, "tries in vain")
        assert waiting(path) == 3 and not receiver.heard
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
        wait_for(lambda: not waiting(path), "all to be told")


def test_a_secret_that_is_none_is_refused(path, tmp_path):
    receiver = Receiver()
    good = settings(path, receiver)
    receiver.shutdown()
    receiver.server_close()
    for text in ("hello", "whsec_", "whsec_?", "whsec_aGVsbG8="):
        Path(good.webhook_secret_file).write_text(text)
        with pytest.raises(ConfigError, match="openssl rand"):
            Webhook(good)


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("http://example.com/x", "http:// goes to this machine alone"),
        ("ftp://example.com/x", "write https://host/path"),
        ("https://me:secret@example.com/", "no user or password"),
        ("https://", "write https://host/path"),
        ("https://host:99999/", "write https://host/path"),
        ("https://host/a b", "write https://host/path"),
    ],
)
def test_an_address_that_is_not_safe_is_refused(address, wrong):
    with pytest.raises(ValueError, match=wrong):
        Events(path="x", webhook=address, webhook_secret_file="y")


def test_a_webhook_needs_a_journal_and_a_secret():
    with pytest.raises(ValueError, match=r"set events\.path, too"):
        Events(webhook="https://example.com", webhook_secret_file="y")
    with pytest.raises(ValueError, match="set both, or neither"):
        Events(path="x", webhook="https://example.com")
