"""Recordings far larger than what reading them may take, beside parquet."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from readme import ROOT

CHANNELS, STEP = 8, 1 << 20  # rows written at once
PEAK = 600 << 20  # bytes of the process that asks and of the one that reads, together
READS = """
import sys, time
from pathlib import Path
from streamrnn.table import open_rows
def peak(process):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
rows = 0
with open_rows(sys.argv[1], None) as reader:
    began = time.perf_counter()
    for block in reader:
        rows += len(block.seq)
    seconds = time.perf_counter() - began
    reading = Path("/proc/self/task").glob("*/children")
    print(rows, seconds, sum(map(peak, ["self", *" ".join(path.read_text() for path in reading).split()])))
"""


def numbers(begin: int, rows: int) -> np.ndarray:
    return np.random.default_rng(begin).normal(size=(CHANNELS, rows))


def write_hdf5(path: Path, rows: int, slow: bool = False) -> None:
    """Rows every millisecond; with ``slow`` the last channel every 40 ms only."""
    with h5py.File(path, "w") as file:
        kinds = [("fast", rows, CHANNELS - slow), *([("slow", rows // 40, 1)] if slow else [])]
        for name, count, width in kinds:
            group = file.create_group(name)
            times = group.create_dataset("time_ns", (count,), "i8", chunks=(1 << 14,))
            sets = [
                group.create_dataset(f"{name}{k}", (count,), "f8", chunks=(1 << 14,)) for k in range(width)
            ]
            for begin in range(0, count, STEP):
                end = min(begin + STEP, count)
                times[begin:end] = 17 * 10**17 + np.arange(begin, end) * (rows // count) * 10**6
                for data, column in zip(sets, numbers(begin, end - begin), strict=False):
                    data[begin:end] = column


def write_parquet(path: Path, rows: int) -> None:
    names, writer = ["time_ns", *(f"c{k}" for k in range(CHANNELS))], None
    for begin in range(0, rows, STEP):
        count = min(STEP, rows - begin)
        times = pa.array(17 * 10**17 + np.arange(begin, begin + count) * 10**6)
        table = pa.table([times, *numbers(begin, count)], names)
        writer = writer or pq.ParquetWriter(path, table.schema, compression=None, use_dictionary=False)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def read(path: Path) -> tuple[int, float, int]:
    """Rows, rows/s, and the peak of memory, bytes, of a process that reads a file."""
    ended = subprocess.run([sys.executable, "-c", READS, path], capture_output=True, text=True, check=True)
    rows, seconds, peak = ended.stdout.split()
    return int(rows), int(rows) / float(seconds), int(peak)


@pytest.mark.skipif("not config.getoption('--long')", reason="writes 2 GB: run with --long")
def test_two_gigabytes_of_hdf5(tmp_path):
    rows = 30_000_000
    write_hdf5(tmp_path / "one.h5", rows)
    assert (tmp_path / "one.h5").stat().st_size > 2 * 10**9
    write_parquet(tmp_path / "one.parquet", rows // 5)
    ratios = []
    for _ in range(3):
        found, ours, peak = read(tmp_path / "one.h5")
        theirs = read(tmp_path / "one.parquet")[1]
        assert found == rows and peak < PEAK, f"{peak >> 20} MB"
        ratios.append(ours / theirs)
    print(f"of parquet's rows/s: {sorted(ratios)}, peak {peak >> 20} MB")
    assert sorted(ratios)[1] > 0.5


@pytest.mark.skipif("not config.getoption('--long')", reason="writes 2 GB: run with --long")
def test_two_gigabytes_of_two_rates(tmp_path):
    write_hdf5(tmp_path / "two.h5", 32_000_000, slow=True)
    rows, rate, peak = read(tmp_path / "two.h5")
    print(f"{rate:,.0f} rows/s, peak {peak >> 20} MB")
    assert rows == 32_000_000 and peak < PEAK


@pytest.mark.skipif("not config.getoption('--long')", reason="writes 2 GB: run with --long")
@pytest.mark.parametrize("form", ["tdms", "tdms interleaved", "mdf", "mdf transposed", "xdf", "edf"])
def test_two_gigabytes_of_other_formats(tmp_path, form):
    tool = [sys.executable, ROOT / "tools" / "large_files.py", tmp_path, "--mb", "2000", "--format", form]
    said = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    print(said)
    assert int(re.findall(r"peak +([\d,]+) MB", said)[-1].replace(",", "")) << 20 < PEAK
