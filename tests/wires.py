"""Messages of other senders: recorded ones, and the senders themselves where they are installed."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from streamrnn.adapters.adapter import Adapter, Harvest, Message

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "wires"
TOOL = ROOT / "tools" / "golden_wires.py"
CHANNELS = ("a", "b", "c")
CAME = 1_700_000_000_123_456_789  # ns
SENDING_S = 120.0


def golden(name: str, folder: Path = GOLDEN) -> list[list[bytes]]:
    """The parts of each message of a recording."""
    said = json.loads((folder / f"{name}.json").read_text())
    return [[bytes.fromhex(part) for part in message] for message in said["messages"]]


def expected(count: int) -> np.ndarray:
    """(count, 3) float64: the rows that the recorded senders sent."""
    return np.arange(count)[:, None] + np.arange(3) / 4


def harvested(adapter: Adapter, messages: list[list[bytes]]) -> Harvest:
    harvest = Harvest()
    for parts in messages:
        adapter.read(Message(None, parts, CAME), harvest)
    return harvest


def recorded_anew(python: str | Path, sender: str, folder: Path) -> None:
    """Has ``sender`` send again what the recordings have. Skips where that Python does not have it."""
    library = {"gnuradio": "gnuradio.zeromq", "bsread": "bsread"}[sender]
    if not Path(python).exists() or subprocess.run([python, "-c", f"import {library}, zmq"]).returncode:
        pytest.skip(f"{python} has no {library}")
    words = [python, TOOL, sender, folder]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SENDING_S)
    assert done.returncode == 0, done.stdout + done.stderr


# Open Ephys has no recording: its messages are made here as its plugin writes them
STREAM = "Rhythm Data"
RATE = 1000.0
DROP = object()  # a key that is left out


def samples(first: int, count: int, channel: int) -> np.ndarray:
    """(count,) float32: what channel number ``channel`` has from sample ``first`` on."""
    return (np.arange(first, first + count) + channel / 4).astype("<f4")


def message(number: int, channel: int, first: int, count: int = 4, **said: object) -> list[bytes]:
    """The parts that the plugin sends for a block of one channel, its header as JUCE prints it."""
    values = said.pop("values", samples(first, count, channel).tobytes())
    content = {
        "stream": STREAM,
        "channel_num": channel,
        "channel_name": "abcdefgh"[channel],
        "num_samples": count,
        "sample_num": first,
        "sample_rate": RATE,
    }
    top = {
        "message_num": number,
        "type": "data",
        "content": content,
        "data_size": len(values),
        "timestamp": 1_700_000_000_000,
    }
    for key, value in said.items():
        (content if key in content else top)[key] = value
    for keys in (content, top):
        for key in [key for key, value in keys.items() if value is DROP]:
            del keys[key]
    return [b"DATA\0", json.dumps(top, indent=2).replace("\n", "\r\n").encode("ascii"), values]


def block(number: int, first: int, count: int = 4, channels: int = 3, **said: object) -> list[list[bytes]]:
    """The messages of one block, numbered from ``number`` on."""
    return [message(number + k, k, first, count, **said) for k in range(channels)]
