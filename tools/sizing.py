"""Whether `streamrnn size` is right: what it says beside a daemon that is run for longer at that load.

Each load by turns: `size`, then a daemon with live state and snapshots whose streams have all begun, its
processor and memory read from /proc. Prints both and their ratio; within 0.7 to 1.3 is what it is to be.
"""

import argparse
import tempfile
import time
from pathlib import Path

from streamrnn.bench.daemon import publishing, received, sink_in, source_in, started
from streamrnn.bench.size import read_use, size
from streamrnn.demo.live import MODEL
from streamrnn.model.model import random_model
from streamrnn.model.model_file import read_model, write_model
from streamrnn.settings.config import Config, config_text, load_config

LOADS = ((100, 1_000), (1_000, 20_000), (20_000, 100_000), (100_000, 100_000))  # streams, rows a second


def measured(config: Config, folder: str, streams: int, rate: float, seconds: float) -> tuple[float, float]:
    """Cores and bytes that a daemon takes once every stream has had rows and a snapshot is taken."""
    channels = len(read_model(config.model).channels)
    file = Path(folder, "daemon.toml")
    file.write_text(config_text(config))
    with (
        started(["-m", "streamrnn", "serve", "-c", str(file)]) as (pid, line),
        publishing(folder, rate, streams, channels=channels),
    ):
        received(folder, streams / rate + 2 * config.state.interval)
        use = read_use(pid, line, lambda: received(folder, seconds))
    return use.processor_s, use.resident


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measured run")
    arguments = parser.parse_args()
    print(
        f"{'':44}{'cores: size':>12}{'measured':>10}{'ratio':>7}{'MB: size':>10}{'measured':>10}{'ratio':>7}"
    )
    with tempfile.TemporaryDirectory() as models:
        large = Path(models, "large.safetensors")
        write_model(random_model("lstm", 8, 128), large)
        for name, path in (("the demo's", MODEL), ("lstm 128", large)):
            for streams, rate in LOADS:
                with (
                    tempfile.TemporaryDirectory() as folder,
                    tempfile.TemporaryDirectory(dir="/dev/shm") as live,
                ):
                    told = {
                        "model": path,
                        "streams.capacity": streams,
                        "state.live": live,
                        "state.snapshots": f"{folder}/snapshots",
                        "state.interval": "5s",
                        "input.connect": (source_in(folder),),
                        "output.bind": (sink_in(folder),),
                        "http.listen": "127.0.0.1:0",
                    }
                    config = load_config(None, told)
                    said = size(config, streams, rate, 0.5)
                    cores, memory = measured(config, folder, streams, rate, arguments.seconds)
                used, bytes_ = said["processor"]["cores"], said["memory"]["bytes"]
                print(
                    f"{name + f', {streams:,} streams, {rate:,} rows/s':44}{used:12.2f}{cores:10.2f}"
                    f"{used / cores:7.2f}{bytes_ / 1e6:10,.0f}{memory / 1e6:10,.0f}{bytes_ / memory:7.2f}",
                    flush=True,
                )
                time.sleep(1)


if __name__ == "__main__":
    main()
