"""Which rows are the last ones of their streams: where a sequence in a file ends."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamrnn.table.input_formats import open_rows
from streamrnn.table.reader import RowReader
from streamrnn.table.reading import Reading
from streamrnn.table.rows import Rows


class Ends(NamedTuple):
    """What tells the last rows: ``lengths``, the rows of each stream by its id; or the end of the file."""

    lengths: dict[str, int] | None


NO_ENDS = Ends({})
PIPED = "from a pipe, the last rows of its streams cannot be told; give the file's name"


def find_ends(source: str, channels: Sequence[str] | None, reading: Reading) -> Ends | None:
    """The ends of a file's streams, found by reading it once; None where that cannot be done twice.

    A file without a stream column is one stream and need not be read, nor need standard input. Arguments and
    errors are those of ``open_rows``.
    """
    if source == "-" or not Path(source).is_file():
        return Ends(None) if reading.stream is None else None
    lengths = np.zeros(0, np.int64)
    with open_rows(source, channels, replace(reading, limit=None)) as reader:
        if not reader.by_stream:
            return Ends(None)
        for rows in reader:
            lengths = _grown(lengths, len(reader.streams))
            lengths += np.bincount(rows.stream, minlength=len(lengths))
        return Ends(dict(zip(reader.streams, lengths.tolist(), strict=False)))  # one may have bad rows only


def with_ends(reader: RowReader, ends: Ends) -> Iterator[tuple[Rows, np.ndarray]]:
    """The blocks of a reader, each with which of its n rows are the last of their streams, (n,) bool.

    Says on stderr where that cannot be told: what came from a pipe turned out to have streams.
    """
    if ends.lengths is not None:
        seen = np.zeros(0, np.int64)
        for rows in reader:
            seen = _grown(seen, len(reader.streams))
            yield rows, _last_of_each(rows, reader.streams, seen, ends.lengths)
        return
    if reader.by_stream:
        sys.stderr.write(f"warning: {PIPED}\n")
    held: Rows | None = None  # until another one, or none, follows
    for rows in reader:
        if held is not None:
            yield held, np.zeros(len(held.seq), bool)
        held = rows
    if held is not None:
        last = np.zeros(len(held.seq), bool)
        last[-1] = reader.whole and not reader.by_stream
        yield held, last


def _grown(counts: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([counts, np.zeros(size - len(counts), np.int64)])


def _last_of_each(
    rows: Rows, streams: Sequence[str], seen: np.ndarray, lengths: dict[str, int]
) -> np.ndarray:
    """The last rows in a block; adds its rows to those ``seen`` of each stream."""
    last = np.zeros(len(rows.seq), bool)
    seen += np.bincount(rows.stream, minlength=len(seen))
    present, place = np.unique(rows.stream[::-1], return_index=True)  # of the last row of each
    whole = np.array([seen[index] == lengths.get(streams[index]) for index in present], bool)
    last[len(last) - 1 - place[whole]] = True
    return last
