"""What pages cost that are open: the daemon's p99 with five of them and a scrape each second, against none.

    python tools/pages.py [--seconds 5] [--turns 9] [--streams 1000] [--browser]

10,000 frames a second of an LSTM 8 -> 32. Runs take turns: the page and metrics served but nobody looking,
five pages, no HTTP at all. A page is a connection that takes every event, in a process that yields to all
others, as it stands for another machine; with --browser they are tabs of Chromium, which yields, too. Only
ratios within a turn mean something. Kernels are in the cache before the clock starts.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamrnn.bench.daemon import CHANNELS, HIDDEN, LATENCY_RATE, Watched, measure, scraped
from streamrnn.model.model import random_model
from streamrnn.model.native import write_model

PAGES = 5

# Opens as many pages as it is given addresses, and takes their events until it is ended.
_READERS = """
import os, sys, threading, urllib.request
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
def read(address):
    with urllib.request.urlopen(address) as events:
        for line in events:
            pass
for address in sys.argv[1:]:
    threading.Thread(target=read, args=(address,)).start()
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
    process = subprocess.Popen([sys.executable, "-c", program, *addresses], start_new_session=True)
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
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a run")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--browser", action="store_true", help="five tabs of Chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, config = Path(folder, "model.safetensors"), Path(folder, "pages.toml")
        write_model(random_model("lstm", CHANNELS, HIDDEN), model)
        config.write_text(f"[streams]\ncapacity = {options.streams}\n")
        words = ["-m", "streamrnn", "serve", str(model), "-c", str(config), "--connect", "{source}"]
        words += ["--bind", "{sink}", "--http"]
        kinds: dict[str, tuple[str, Watched | None]] = {
            "nobody looks": ("127.0.0.1:0", None),
            "five pages": ("127.0.0.1:0", five_tabs if options.browser else five_pages),
            "no HTTP": ("", None),
        }
        runs: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(options.turns):
            for name, (http, watched) in kinds.items():
                run = measure([*words, http], folder, LATENCY_RATE, options.seconds, watched, options.streams)
                runs[name].append(run.p99_us)
            print(", ".join(f"{name} {p99[-1]:,.0f} us" for name, p99 in runs.items()), flush=True)
    for name, p99 in runs.items():
        ratios = sorted(own / base for own, base in zip(p99, runs["nobody looks"], strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"{name:12} p99 {statistics.median(ratios):.2f} of nobody looks ({spread})")


if __name__ == "__main__":
    main()
