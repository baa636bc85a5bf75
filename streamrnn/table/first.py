"""Which rows are the first ones of their streams: a part of a recording that is taken apart from the rest."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from streamrnn.table.reader import RowReader
from streamrnn.table.rows import Rows


class FirstRows:
    """Tells the first rows of each stream, as many as ``lengths`` says of its id, block by block."""

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self.left = sum(lengths.values())  # of all streams
        self._lengths = lengths
        self._left = np.zeros(0, np.int64)  # of each stream that was met; 0 or below = none

    def among(self, rows: Rows, streams: Sequence[str]) -> np.ndarray:
        """Which of the next n rows are among the first of their streams, (n,) bool."""
        first = np.zeros(len(rows.stream), bool)
        if not self.left or not len(first):
            return first
        new = [self._lengths.get(name, 0) for name in streams[len(self._left) :]]
        self._left = np.concatenate([self._left, np.array(new, np.int64)])
        order = np.argsort(rows.stream, kind="stable")
        grouped = rows.stream[order]
        begins = np.flatnonzero(np.diff(grouped, prepend=-1))
        counts = np.diff(begins, append=len(grouped))
        first[order] = np.arange(len(grouped)) - np.repeat(begins, counts) < self._left[grouped]
        self._left[grouped[begins]] -= counts
        self.left -= int(first.sum())
        return first

    def only(self, reader: RowReader) -> Iterator[Rows]:
        """The blocks of a reader with no other rows; it is read no further than there can be any."""
        if not self.left:
            return
        for rows in reader:
            yield rows.only(self.among(rows, reader.streams))
            if not self.left:
                return


def count_rows(reader: RowReader, progress: Callable[[int], object]) -> dict[str, int]:
    """How many rows each stream of a reader has, by its id; ``progress`` is told the rows of every block."""
    counts = np.zeros(0, np.int64)
    for rows in reader:
        counts = np.concatenate([counts, np.zeros(len(reader.streams) - len(counts), np.int64)])
        counts += np.bincount(rows.stream, minlength=len(counts))
        progress(len(rows.stream))
    return dict(zip(reader.streams, counts.tolist(), strict=False))  # a stream may have bad rows only
