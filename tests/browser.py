"""A real browser: Debian's Chromium, driven by playwright."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from needs import needs_programs
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

# It asks nothing of its maker's hosts.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--expose-gc",
]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1380, "height": 1000}
DEADLINE_S = 30.0  # for anything that a test waits for
_POLL_MS = 30

Opener = Callable[..., AbstractContextManager[Page]]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, without a window; see ``needs_programs`` for where there is none."""
    needs_programs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def opener(browser: Browser) -> Opener:
    """Opens a page; afterwards it must have asked no other host and said nothing on its console."""

    @contextmanager
    def opened(http: str, address: str = "", *, forgive: str = "\0", **settings: Any) -> Iterator[Page]:
        said: list[str] = []
        hosts: set[str] = set()

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not message.text.startswith(forgive):
                said.append(message.text)

        def on_request(request: Request) -> None:
            hosts.add(urlsplit(request.url).netloc)

        context = browser.new_context(**{"viewport": DESK} | settings)
        page = context.new_page()
        page.on("console", on_console)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", on_request)
        page.goto(f"{http}/{address}")
        yield page
        context.close()
        assert said == []
        assert hosts == {urlsplit(http).netloc}

    return opened


def until(page: Page, condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition()``; a failure says what was waited for."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {DEADLINE_S:g} s in vain for {what}"
        page.wait_for_timeout(_POLL_MS)
    return value


def shows(page: Page, expression: str, what: str) -> Any:
    """Waits until an expression is true in the page; returns it."""
    return until(page, lambda: page.evaluate(expression), f"{what}\n{expression}")


def assert_it_fits_a_phone(page: Page) -> None:
    """Nothing is wider than the screen, or too small to be read."""
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.evaluate("innerWidth") == PHONE["width"]
    beyond = """[...document.querySelectorAll("body *")].filter((part) =>
        part.checkVisibility() && !part.closest(".scroll, .u-wrap, #streams .name")
        && part.getBoundingClientRect().right > innerWidth).map((part) => part.outerHTML)"""
    assert page.evaluate(beyond) == []
    small = """[...document.querySelectorAll("body *")].filter((part) => part.checkVisibility()
        && [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
        && parseFloat(getComputedStyle(part).fontSize) < 11).map((part) => part.outerHTML)"""
    assert page.evaluate(small) == []


def assert_everyone_can_use(page: Any) -> None:
    """No serious finding of axe-core in a page as it stands."""
    found = Axe().run(page).response["violations"]
    serious = [finding for finding in found if finding["impact"] in ("serious", "critical")]
    assert not serious, json.dumps(serious, indent=1)
