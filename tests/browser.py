"""A real browser: Debian's Chromium, driven by playwright."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from needs import needs_programs
from playwright.sync_api import sync_playwright

# It asks nothing of its maker's hosts.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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


def assert_everyone_can_use(page: Any) -> None:
    """No serious finding of axe-core in a page as it stands."""
    found = Axe().run(page).response["violations"]
    serious = [finding for finding in found if finding["impact"] in ("serious", "critical")]
    assert not serious, json.dumps(serious, indent=1)
