"""No file, however odd, gets more than an error out of the reader: no traceback, no hang, little memory.

To see the file of a seed: ``python tests/hostile_tables.py SEED .``
"""

import gc
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

import pyarrow as pa
import pytest
from hostile_tables import make_hostile
from logger_check import read

from streamrnn.errors import UserError

FILES, MANY_FILES = 120, 100_000  # without and with --long
# seeds of fields too long between spaces, digits without end, names alone, no time column, a year too high,
# long names, hundreds of columns of times, or of commas, hundreds of digits behind a point, and of 100,000
# spaces in a name
FOUND = (50214, 51919, 1601, 2706, 10933, 10810, 1656, 11954, 51200, 39017, 75073, 31894)
LONGEST_S, CPU_S = 60, 15.0  # of one file of at most 1 MB or so: on a busy machine, and of a slow processor
PEAK, KEPT = 400 << 20, 64 << 20  # bytes: at any time; when all is done
WORDS = 2000  # characters of an error


def now_in_memory() -> int:
    """Resident bytes of this process."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def most_in_memory() -> int:
    """The same at its peak since it was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # proc(5)


def interrupt(_: int, __: FrameType | None) -> None:
    raise TimeoutError("it takes too long")


def fault(path: Path, options: dict[str, str]) -> str:
    """What is wrong with how a file is read; "" if nothing is."""
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    began = time.process_time()
    try:
        read(path, None, options)
    except UserError as error:
        if len(str(error)) > WORDS:
            return f"an error of {len(str(error))} characters: {str(error)[:200]}"
    except Exception:  # what must not be, and is told with its seed
        return traceback.format_exc(limit=-3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.process_time() - began
    return f"it takes {took:.1f} s" if took > CPU_S else ""


@pytest.mark.filterwarnings("error")  # of numpy, too
def test_odd_files_get_an_error_at_most(tmp_path, request, monkeypatch):
    count = MANY_FILES if request.config.getoption("--long") else FILES
    before = signal.signal(signal.SIGALRM, interrupt)
    faults, path = list[str](), tmp_path / "odd.csv"
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: faults.append(f"lost: {lost.exc_value!r}"))
    began = now_in_memory()
    forget_peak()
    try:
        for seed in (*range(count), *FOUND):
            content, options = make_hostile(seed)
            path.write_bytes(content)
            if found := fault(path, options):
                faults.append(f"seed {seed} with {options}: {found}")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not faults, "\n".join([f"{len(faults)} of {count} files:", *faults[:10]])
    peak = most_in_memory()
    assert peak < began + PEAK, f"{(peak - began) >> 20} MB at the peak"
    assert now_in_memory() < began + KEPT
