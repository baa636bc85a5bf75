"""What score, bands and adaptation cost: a daemon's frames/s with them over those without, LSTM 8 -> 32.

    python tools/cost.py [--seconds 3] [--pairs 7]

1,000 streams. Runs take turns; only ratios within a turn mean something. Without a score is the same network
whose outputs are no forecasts. Kernels are in the cache before the clock starts.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from streamrnn.bench.daemon import CHANNELS, HIDDEN, measure
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model

ADAPT = "[adapt]\nenabled = true\n"
BANDS = "[predict]\nbands = [0.5, 0.9]\n"


def prepare(folder: Path) -> dict[str, list[str]]:
    """The words of a daemon of each kind, its endpoints left open."""
    words = {}
    for name, target, settings in (
        ("without", "value", ""),
        ("score", "next", ""),
        ("score and bands", "next", BANDS),
        ("score and adaptation", "next", ADAPT),
    ):
        model, config = folder / f"{target}.safetensors", folder / f"{name}.toml"
        write_model(random_model("lstm", CHANNELS, HIDDEN, target=target), model)
        config.write_text(settings)
        words[name] = ["-m", "streamrnn", "serve", str(model), "-c", str(config), "--http", ""]
        words[name] += ["--connect", "{source}", "--bind", "{sink}"]
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = prepare(folder)
        runs: dict[str, list[float]] = {name: [] for name in words}
        for _ in range(options.pairs):
            for name, command in words.items():
                runs[name].append(measure(command, str(folder), 0, options.seconds).per_second)
            print(", ".join(f"{name} {speeds[-1]:,.0f}" for name, speeds in runs.items()), flush=True)
    for name, speeds in runs.items():
        ratios = [speed / base for speed, base in zip(speeds, runs["without"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name:22} {statistics.median(ratios):.2f} of without ({spread})")


if __name__ == "__main__":
    main()
