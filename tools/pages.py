"""What pages cost that are open: the daemon's p99 with five of them and a scrape each second, against none.

    python tools/pages.py [--seconds 2] [--turns 60] [--streams 1000] [--browser]

10,000 frames a second of an LSTM 8 -> 32 through one daemon, which is watched and not watched in turn. A
page is a connection that takes every event, in a process that yields to all others, as it stands for
another machine; with --browser they are tabs of Chromium, which yields, too. Nobody looking is also
measured against itself, twice in each turn: that says what a ratio is worth on this machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from streamrnn.bench.daemon import (
    CHANNELS,
    HIDDEN,
    LATENCY_RATE,
    Watched,
    http_address,
    received,
    running,
    scraped,
)
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model

PAGES = 5
_AROUND_S = 10.0  # a run's start and end, at most

# Opens as many pages as it is given addresses, and takes their events until it is ended.
_READERS = """
import os, socket, sys, threading
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
def read(host, path):
    with socket.create_connection(host.rsplit(":", 1)) as page:
        page.sendall(f"GET /{path} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
        while page.recv(1 << 16):
            pass
for address in sys.argv[1:]:
    threading.Thread(target=read, args=address.split("/", 3)[2:]).start()
"""
_TABS = """
import os, sys, time
from playwright.sync_api import sync_playwright
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
words = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=words.split())
    pages = [browser.new_context().new_page() for _ in sys.argv[1:]]
    for page, address in zip(pages, sys.argv[1:]):
        page.goto(address)
    time.sleep(600)
"""


@contextmanager
def _watching(program: str, addresses: list[str], http: str) -> Iterator[None]:
    """Five pages, and a scrape each second."""
    # a group of processes, no session: Linux would give one its own share, against which it yields to nobody
    process = subprocess.Popen([sys.executable, "-c", program, *addresses], process_group=0)
    try:
        with scraped(http, 1.0):
            yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def five_pages(http: str) -> Iterator[None]:
    """Connections that show five different streams."""
    events = [f"http://{http}/api/events?limit=40&stream=machine-{page}" for page in range(PAGES)]
    return _watching(_READERS, events, http)


def five_tabs(http: str) -> Iterator[None]:
    return _watching(_TABS, [f"http://{http}/"] * PAGES, http)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--browser", action="store_true", help="five tabs of Chromium")
    options = parser.parse_args()
    watched = five_tabs if options.browser else five_pages
    kinds: dict[str, Watched | None] = {"nobody": None, "five pages": watched, "nobody again": None}
    runs: dict[str, list[float]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as folder:
        lasting = options.turns * len(kinds) * (options.seconds + _AROUND_S)
        with running(
            _daemon(folder, options.streams), folder, LATENCY_RATE, options.streams, lasting
        ) as line:
            received(folder, options.seconds)  # the first is warm
            for turn in range(options.turns):
                order = list(kinds.items())[:: -1 if turn % 2 else 1]
                for name, look in order:
                    with look(http_address(line)) if look else nullcontext():
                        runs[name].append(received(folder, options.seconds).p99_us)
                print(", ".join(f"{name} {p99[-1]:,.0f} us" for name, p99 in runs.items()), flush=True)
    for name, p99 in runs.items():
        ratios = sorted(own / base for own, base in zip(p99, runs["nobody"], strict=True))
        quarter = len(ratios) // 4
        print(
            f"{name:12} median p99 {statistics.median(p99):,.0f} us; of nobody's, turn by turn: median "
            f"{statistics.median(ratios):.2f}, half {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}"
        )


def _daemon(folder: str, streams: int) -> list[str]:
    """The words that start it, for ``running``."""
    model, config = Path(folder, "model.safetensors"), Path(folder, "pages.toml")
    write_model(random_model("lstm", CHANNELS, HIDDEN), model)
    config.write_text(f"[streams]\ncapacity = {streams}\n")
    words = ["-m", "streamrnn", "serve", str(model), "-c", str(config), "--connect", "{source}"]
    return [*words, "--bind", "{sink}", "--http", "127.0.0.1:0"]


if __name__ == "__main__":
    main()
