"""The fuzzer finds nothing in the decoder, and what is planted there it finds."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile import frame

from streamrnn.wire.frame import DTYPES, SEQ, TS

pytest.importorskip("atheris", reason="the fuzzer has no wheel for this machine")

RUNS, MANY_RUNS = 50_000, 2_000_000  # without and with --long
FUZZER = Path(__file__).parents[1] / "fuzz_decoder.py"
# wrong pieces of streamrnn/wire/codec.py, in place of right ones
PLANTS = {
    "a message that is too long": ("if size == expected:", "if size >= expected:"),
    "a header that is cut short": ("if size < _HEAD:", "if size < 8:"),
    "an unknown flag": ("flags & ~_KNOWN_FLAGS", "flags & ~31"),
    "a row of another width": (
        "np.float32(read_f64(at + 8 * channel))",
        "np.float32(read_f64(at + 4 * channel))",
    ),
    "an id longer than need be": ("(more == 3 and code < 0x10000)", "(more == 3 and code < 0x1000)"),
}


def fuzz(folder: Path, *options: str, seed: int = 1) -> subprocess.CompletedProcess[str]:
    """One run, from a good message of every type and an id. Where code lies and hashes have a part in it."""
    corpus = folder / f"corpus-{seed}"
    corpus.mkdir()
    for code, dtype in DTYPES.items():
        good = frame(np.ones((2, 2), dtype), flags=SEQ | TS, clocks=(1, 2, 3))
        (corpus / str(code)).write_bytes(b"\1" + good)
    (corpus / "id").write_bytes("\0aé€😀".encode())
    words = [sys.executable, str(FUZZER), *options, corpus.name, f"-seed={seed}", "-use_value_profile=1"]
    return subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_fuzzer_finds_nothing(tmp_path, request):
    runs = MANY_RUNS if request.config.getoption("--long") else RUNS
    done = fuzz(tmp_path, f"-runs={runs}")
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"#{runs}\tDONE" in done.stdout


@pytest.mark.parametrize("plant", PLANTS)
def test_the_fuzzer_finds_what_is_planted(tmp_path, plant):
    for seed in range(1, 5):  # of fifty runs one finds nothing
        done = fuzz(tmp_path, "--plant", *PLANTS[plant], f"-runs={RUNS}", seed=seed)
        if done.returncode:
            break
    assert done.returncode == 77, done.stdout[-3000:]
    assert re.search(r"DisagreementError: input [0-9a-f]+:|OutsideError", done.stdout), done.stdout[-3000:]
