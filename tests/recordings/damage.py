"""Damaged copies of a small recording: bytes flipped, ends cut off. Each gives an error, or rows."""

import random
from pathlib import Path

import numpy as np

from streamrnn.errors import UserError
from streamrnn.recordings.apart import RecordingApart
from streamrnn.recordings.formats import format_of

MOST_CHILD = 800 << 20  # bytes of the reading process
LONGEST = 2000  # characters of an error
Everything = list[tuple[str, np.ndarray, np.ndarray]]  # of each group: its channels, ticks, values


def everything(path: Path) -> Everything:
    """All that a recording holds. Raises UserError as its reader does."""
    row = format_of(path)
    if row is None:
        raise UserError("no recording any more")
    recording = RecordingApart(path, row)
    try:
        found = []
        for place, group in enumerate(recording.contents.groups):
            pieces = list(recording.pieces(place, range(len(group.channels))))
            names = " ".join(f"{group.name}/{channel.name}" for channel in group.channels)
            ticks = np.concatenate([np.zeros(0, np.int64), *(piece.ticks for piece in pieces)])
            width = len(group.channels)
            values = np.concatenate([np.zeros((0, width)), *(piece.values for piece in pieces)])
            found.append((names, ticks, values))
        return found
    finally:
        memory = Path(f"/proc/{recording._process.pid}/status").read_text().splitlines()
        recording.close()
        assert sum(int(line.split()[1]) << 10 for line in memory if line.startswith("VmHWM")) < MOST_CHILD


def check_damaged(path: Path, count: int, seed: int, prefix: bool = True) -> tuple[int, int]:
    """Reads ``count`` damaged copies of a recording; how many gave rows, and how many errors.

    ``prefix``: of a copy whose end is cut off, what is read must be the first of what was there.
    """
    content, whole = path.read_bytes(), {names: (ticks, values) for names, ticks, values in everything(path)}
    rng, rows, errors = random.Random(seed), 0, 0
    copy = path.with_name(f"damaged{path.suffix}")
    for number in range(count):
        damaged = bytearray(content)
        if cut := number % 4 == 3:
            damaged = damaged[: rng.randrange(len(damaged))]
        else:
            most = len(damaged) if number % 2 else min(len(damaged), 4096)
            damaged[rng.randrange(most)] ^= rng.randrange(1, 256)
        copy.write_bytes(damaged)
        try:
            found = everything(copy)
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < LONGEST, repr(str(error))
            errors += 1
            continue
        rows += 1
        for names, ticks, values in found if cut and prefix else ():
            for name, column in zip(names.split(), values.T, strict=True):
                there = next(known for known in whole if name in known.split())
                before, known = whole[there][0], whole[there][1][:, there.split().index(name)]
                assert np.array_equal(ticks, before[: len(ticks)])
                np.testing.assert_array_equal(column, known[: len(column)])
    copy.unlink()
    return rows, errors
