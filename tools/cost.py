"""What score, bands, adaptation and a shadow cost: a daemon's frames/s with them over those without.

    python tools/cost.py [--seconds 3] [--pairs 7] [--rate 10000]

LSTM 8 -> 32, 1,000 streams. Runs take turns; only ratios within a turn mean something. Without a score is the
same network whose outputs are no forecasts; the shadow, of half the hidden units, stands beside one with a
score. Kernels are in the cache before the clock starts. With a rate of frames a second it is the p99 of the
latency that is compared.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from streamrnn.bench.daemon import CHANNELS, HIDDEN, measure
from streamrnn.model.model import random_model
from streamrnn.model.model_file import write_model

ADAPT = "[adapt]\nenabled = true\n"
OF = {"score and shadow": "score"}  # what each is compared with, where that is not "without"
BANDS = "[predict]\nbands = [0.5, 0.9]\n"


def prepare(folder: Path) -> dict[str, list[str]]:
    """The words of a daemon of each kind, its endpoints left open."""
    words, half = {}, folder / "half.safetensors"
    write_model(random_model("lstm", CHANNELS, HIDDEN // 2), half)
    for name, target, settings in (
        ("without", "value", ""),
        ("score", "next", ""),
        ("score and bands", "next", BANDS),
        ("score and adaptation", "next", ADAPT),
        ("score and shadow", "next", f'shadow = "{half}"\n'),
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
    parser.add_argument("--rate", type=float, default=0.0, help="frames a second, 0 = all that come through")
    parser.add_argument("--only", nargs="*", help="kinds, with what they are compared with")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = prepare(folder)
        if options.only:
            wanted = {*options.only, *(OF.get(name, "without") for name in options.only)}
            words = {name: command for name, command in words.items() if name in wanted}
        runs: dict[str, list[float]] = {name: [] for name in words}
        for _ in range(options.pairs):
            for name, command in words.items():
                run = measure(command, str(folder), options.rate, options.seconds)
                runs[name].append(run.p99_us if options.rate else run.per_second)
            print(", ".join(f"{name} {figures[-1]:,.0f}" for name, figures in runs.items()), flush=True)
    for name, figures in runs.items():
        base = OF.get(name, "without")
        if name == base or base not in runs:
            continue
        ratios = [figure / other for figure, other in zip(figures, runs[base], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name:22} {statistics.median(ratios):.2f} of {base} ({spread})")


if __name__ == "__main__":
    main()
