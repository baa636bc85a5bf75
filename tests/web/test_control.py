"""Who may change streams over HTTP, and who may not."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from test_web import Streams

from streamrnn.errors import ConfigError, UserError
from streamrnn.settings.secret_file import read_token
from streamrnn.web.app import WebServer
from streamrnn.web.control import ACTIONS, BODY_BYTES, Door

TOKEN = "0123456789abcdef0123456789abcdef"
HOLD = "/api/control/hold"
RIGHT = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}


class Site:
    """A server with a door, and what came through."""

    def __init__(self, token: str):
        self.done: list[dict[str, Any]] = []
        self.ready = (True, "ready")
        door = Door(self.act, token, lambda: self.ready)
        fine = (lambda: (True, "ok")), (lambda: (True, "ok"))
        self.server = WebServer("127.0.0.1", 0, CollectorRegistry(), *fine, Streams(), door)
        self.server.start()

    def act(self, request: dict[str, Any], who: str) -> Future[dict[str, Any]]:
        answer: Future[dict[str, Any]] = Future()
        if "gone" in request.get("streams", []):
            answer.set_exception(UserError("no such stream: 'gone'"))
        else:
            self.done.append(request)
            answer.set_result({"streams": 1, "who": who})
        return answer

    def ask(
        self, path: str, body: bytes = b"{}", method: str = "POST", **more: str | None
    ) -> tuple[int, dict[str, Any]]:
        headers = RIGHT | {name.replace("_", "-"): text for name, text in more.items()}
        headers = {name: text for name, text in headers.items() if text is not None}
        connection = http.client.HTTPConnection(self.server.address, timeout=30)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        assert response.headers["content-type"] == "application/json"
        return response.status, json.loads(answer)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(TOKEN)
    yield site
    site.server.stop()


def test_what_has_the_token_comes_through(site):
    for action in ACTIONS:
        body = json.dumps({"streams": ["a\u2028b", "\u00e4"]}).encode()
        status, said = site.ask(f"/api/control/{action}", body)
        assert (status, said) == (200, {"streams": 1, "who": "127.0.0.1 over HTTP"})
        assert site.done.pop() == {"do": action, "streams": ["a\u2028b", "\u00e4"]}
    own = {"origin": f"http://{site.server.address}", "sec_fetch_site": "same-origin"}
    assert site.ask(HOLD, content_type="application/json; charset=utf-8", **own)[0] == 200
    assert site.ask(HOLD, b'{"streams": ["gone"]}') == (400, {"error": "no such stream: 'gone'"})


@pytest.mark.parametrize(
    ("status", "why", "more"),
    [
        (401, "no token", {"authorization": None}),
        (401, "wrong token", {"authorization": f"Bearer {TOKEN}0"}),
        (401, "wrong token", {"authorization": f"Bearer {TOKEN[:-1]}"}),
        (401, "wrong token", {"authorization": f"Basic {TOKEN}"}),
        (401, "no token", {"authorization": "Bearer "}),
        (403, "a page from elsewhere", {"origin": "https://elsewhere.example"}),
        (403, "a page from elsewhere", {"origin": "null"}),
        (403, "a page from elsewhere", {"sec_fetch_site": "cross-site"}),
        (403, "a page from elsewhere", {"sec_fetch_site": "same-site"}),
        (405, "ask by POST", {"method": "GET"}),
        (405, "ask by POST", {"method": "PUT"}),
        (415, "send JSON", {"content_type": "text/plain"}),
        (415, "send JSON", {"content_type": "application/x-www-form-urlencoded"}),
        (415, "send JSON", {"content_type": None}),
        (400, "is JSON like", {"body": b"["}),
        (400, "is JSON like", {"body": b"[" * 100_000}),
        (400, "is JSON like", {"body": b'["a"]'}),
        (400, "is JSON like", {"body": b'{"do": "reset", "streams": null}'}),
        (400, "is JSON like", {"body": b"\xff"}),
        (413, "more than", {"body": b" " * (BODY_BYTES + 1)}),
    ],
)
def test_what_is_turned_away_changes_nothing(site, status, why, more):
    for action in ACTIONS:
        found, said = site.ask(f"/api/control/{action}", **more)
        assert found == status
        assert why in said["error"]
        assert site.done == []


def test_nobody_comes_in_where_the_configuration_says_nothing_and_before_all_is_ready(site):
    site.ready = (False, "compiling kernels")
    assert site.ask(HOLD) == (503, {"error": "not yet: compiling kernels"})
    closed = Site("")
    try:
        for token in (TOKEN, "", None):
            status, said = closed.ask(HOLD, authorization=None if token is None else f"Bearer {token}")
            assert (status, "http.control" in said["error"]) == (403, True)
        assert closed.done == []
    finally:
        closed.server.stop()


def test_a_token_must_be_the_owners_alone_and_not_to_be_guessed(tmp_path):
    file = tmp_path / "token"
    for text, mode, why in [
        (TOKEN, 0o644, "run chmod 600"),
        ("secret", 0o600, "openssl rand -hex 32"),
        ("two words that are long enough", 0o600, "no space"),
        ("", 0o600, "write the token there"),
        (f"{TOKEN}\n{TOKEN}", 0o600, "as one line"),
    ]:
        file.write_text(text)
        file.chmod(mode)
        with pytest.raises(ConfigError, match=why) as caught:
            read_token(file)
        assert str(caught.value).startswith(f"http.token_file: {file}: ")
        assert TOKEN not in str(caught.value)
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
    with pytest.raises(ConfigError, match="No such file"):
        read_token(tmp_path / "gone")
