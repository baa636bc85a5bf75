"""What the page of events takes of a browser: until a night is open, and to move through it.

    python tools/nights.py [--events 300] [--streams 1000] [--turns 5]

A journal is made up, served from this process, and opened by Chromium on the same machine.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # its server and its browser

from browser import chromium
from models import untrained
from nights import write_night
from pages import site

from streamrnn.engine.engine import Engine
from streamrnn.settings.sections import Faults

_OPEN = """async () => {
    while (!(seen.events.length && line.rows.length && line.drawn > 1)) {
        await new Promise(requestAnimationFrame);
    }
    return performance.now();
}"""
# moves it each frame, to and fro and up and down
_MOVE = """(frames) => new Promise((done) => {
    const took = [];
    let last = performance.now();
    const frame = (now) => {
        took.push(now - last);
        last = now;
        line.pan(took.length % 80 < 40 ? -0.01 : 0.01, false);
        at("rows").scrollTop = (took.length % 40) * 60;
        if (took.length < frames) requestAnimationFrame(frame);
        else done(took.slice(5));
    };
    requestAnimationFrame(frame);
})"""
_PAINT = """() => {
    const began = performance.now();
    for (let k = 0; k < 100; k++) {
        at("rows").scrollTop = k * 60;
        line.print(false);
    }
    return (performance.now() - began) / 100;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    opens, frames, paints = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.sqlite")
        write_night(path, time.time(), options.events, options.streams)
        with site(Engine(untrained(), 4, Faults()), path) as here, chromium() as browser:
            for _ in range(options.turns):
                page = browser.new_context(viewport={"width": 1380, "height": 1000}).new_page()
                page.goto(f"{here.http}/events")
                opens.append(page.evaluate(_OPEN) / 1000)
                frames += page.evaluate(_MOVE, 200)
                paints.append(page.evaluate(_PAINT))
                rows = page.evaluate("line.rows.length")
                page.context.close()
    print(f"{options.events:,} events of {options.streams:,} streams, in {rows:,} rows:")
    print(f"open after {statistics.median(opens):.2f} s, at most {max(opens):.2f} s")
    low, high = np.percentile(frames, [50, 99])
    print(f"moved, from frame to frame {low:.1f} ms, p99 {high:.1f} ms; of that the picture takes", end=" ")
    print(f"{statistics.median(paints):.2f} ms")


if __name__ == "__main__":
    main()
