"""Large recordings of every format: rows a second and memory of reading them, beside parquet.

    python tools/large_files.py FOLDER [--mb 2000] [--format mdf]

8 channels of float32 (int16 in EDF) at 1 kHz, written into FOLDER by pieces, each file of about as many MB;
MCAP holds JSON, and is a tenth as large. Each is read by a process of its own, as train reads it: peak memory
is that of it and of the reader's process together. Files that are there are taken as they are.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from edf_bytes import Signal, edf  # noqa: E402
from tdms_bytes import INTERLEAVED, NEW_LIST, Writes, labview  # noqa: E402
from xdf_bytes import file_header, stream_header  # noqa: E402

CHANNELS, RATE, PIECE = 8, 1000, 200_000  # rows of a piece
START = 1_772_600_767 * 10**9
NAMES = [f"c{k}" for k in range(CHANNELS)]


def pieces(rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of rows, and their values, (n, CHANNELS) float32."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(PIECE, CHANNELS)).astype(np.float32)
    for first in range(0, rows, PIECE):
        yield np.arange(first, min(first + PIECE, rows)), values[: min(PIECE, rows - first)]


def parquet(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for number, values in pieces(rows):
        columns = {"time": pa.array(START + number * (10**9 // RATE), pa.timestamp("ns", "UTC"))}
        columns |= {name: pa.array(np.ascontiguousarray(c)) for name, c in zip(NAMES, values.T, strict=True)}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="none")
        writer.write_table(table)
    assert writer is not None
    writer.close()


def tdms(path: Path, rows: int, flags: int = 0) -> None:
    """One segment: of each channel a block, or rows."""
    w = Writes()
    told = {"wf_start_time": labview(START), "wf_increment": 1 / RATE}
    entries = [w.entry(f"/'g'/'{name}'", w.index("f4", rows), told) for name in NAMES]
    size = rows * CHANNELS * 4
    with path.open("wb") as file:
        file.write(w.segment(entries, b"", NEW_LIST | flags | 8, size + len(w.segment(entries)) - 28))
        if flags:
            file.writelines(values.tobytes() for _, values in pieces(rows))
            return
        for channel in range(CHANNELS):
            file.writelines(np.ascontiguousarray(values[:, channel]) for _, values in pieces(rows))


def mdf(path: Path, rows: int, compression: int = 0) -> None:
    from asammdf import MDF
    from asammdf import Signal as MdfSignal

    with MDF() as file:
        file.header.abs_time = START
        for number, values in pieces(rows):
            times = number / RATE
            if number[0] == 0:
                columns = zip(NAMES, values.T, strict=True)
                file.append([MdfSignal(c.copy(), times, name=name) for name, c in columns])
            else:
                file.extend(0, [(times, None), *((c.copy(), None) for c in values.T)])
        file.save(path.with_suffix(".mf4"), overwrite=True, compression=compression)
    path.with_suffix(".mf4").rename(path)


def mcap(path: Path, rows: int) -> None:
    from mcap.writer import Writer

    with path.open("wb") as output:
        writer = Writer(output)
        writer.start()
        topic = writer.register_channel("/b", "json", 0)
        for number, values in pieces(rows):
            for k, row in zip(number.tolist(), values.tolist(), strict=True):
                time_ns = START + k * (10**9 // RATE)
                writer.add_message(
                    topic, time_ns, json.dumps(dict(zip(NAMES, row, strict=True))).encode(), time_ns
                )
        writer.finish()


def xdf(path: Path, rows: int) -> None:
    at_once = 500
    with path.open("wb") as file:
        file.write(file_header() + stream_header(1, "s", NAMES, RATE, "float32"))
        for number, values in pieces(rows):
            for first in range(0, len(number), at_once):
                some = values[first : first + at_once]
                body = np.zeros((len(some), 9 + 4 * CHANNELS), np.uint8)
                body[:, 0] = 8
                stamps = 5000.0 + number[first : first + at_once] / RATE
                body[:, 1:9] = stamps.view(np.uint8).reshape(-1, 8)
                body[:, 9:] = np.ascontiguousarray(some).view(np.uint8)
                content = b"\x03\0\x01\0\0\0\x04" + len(some).to_bytes(4, "little") + body.tobytes()
                file.write(b"\x04" + len(content).to_bytes(4, "little") + content)


def edf_(path: Path, rows: int) -> None:
    limits = (-32768.0, 32767.0), (-32768, 32767)
    with path.open("wb") as file:
        for number, values in pieces(rows):
            raw = (values[: len(number) // RATE * RATE] * 1000).astype(np.int16)
            signals = [
                Signal(n, "uV", *limits, c.reshape(-1, RATE)) for n, c in zip(NAMES, raw.T, strict=True)
            ]
            content = edf(signals, kind="", records=-1)
            file.write(content if number[0] == 0 else content[256 * (1 + CHANNELS) :])


def hdf5(path: Path, rows: int, **how: object) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        times = file.create_dataset("time", rows, np.float64, **how)
        columns = [file.create_dataset(name, rows, np.float32, **how) for name in NAMES]
        for number, values in pieces(rows):
            times[number[0] : number[-1] + 1] = START / 1e9 + number / RATE
            for column, of_channel in zip(columns, values.T, strict=True):
                column[number[0] : number[-1] + 1] = of_channel


FORMATS: dict[str, tuple[Callable[[Path, int], None], float]] = {  # and MB of a million rows
    "parquet": (parquet, 40),
    "hdf5": (hdf5, 40),
    "hdf5 compressed": (lambda path, rows: hdf5(path, rows, chunks=(10_000,), compression="gzip"), 40),
    "tdms": (tdms, 32),
    "tdms interleaved": (lambda path, rows: tdms(path, rows, INTERLEAVED), 32),
    "mdf": (mdf, 40),
    "mdf transposed": (lambda path, rows: mdf(path, rows, 2), 40),
    "mcap": (mcap, 2000),
    "xdf": (xdf, 41),
    "edf": (edf_, 16),
}


def read(path: Path) -> None:
    """Reads a file as train does, and prints what it took."""
    from streamrnn.table import open_rows

    begin = time.perf_counter()
    reader = open_rows(str(path), None)
    rows = sum(len(block.seq) for block in reader)
    seconds = time.perf_counter() - begin
    reader.close()
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"rows": rows, "seconds": seconds, "mb": sum(peaks) / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--mb", type=int, default=2000)
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.folder)
        return
    options.folder.mkdir(exist_ok=True)
    known = 0.0
    for name in dict.fromkeys(["parquet", *(options.format or FORMATS)]):
        write, size = FORMATS[name]
        path = options.folder / name.replace(" ", "-")
        if not path.exists():
            write(path, int(options.mb / size * 1_000_000))
        done = subprocess.run([sys.executable, __file__, path, "--read"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        took = json.loads(done.stdout)
        speed = took["rows"] / took["seconds"]
        known = known or speed
        print(
            f"{name:18} {path.stat().st_size / 1e6:7,.0f} MB {took['rows']:12,} rows {speed:12,.0f} rows/s "
            f"{speed / known:5.2f} x parquet, peak {took['mb']:5,.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
