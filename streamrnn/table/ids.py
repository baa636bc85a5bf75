"""The streams of a file: an index for every id, and a number for every row of a stream."""

import numpy as np
import pyarrow as pa

from streamrnn.wire.frame import TOPIC_BYTES


class StreamIds:
    """``names`` grows as ids are met; everywhere else an index into it stands for the id."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._index: dict[bytes, int] = {}
        self._rows = np.zeros(1, np.int64)  # rows numbered so far: of no stream, then of each

    def find(self, column: pa.Array) -> np.ndarray:
        """The index of every cell of a column of text, (n,) int32; -1 where it is no id."""
        coded = column.dictionary_encode()
        distinct = coded.dictionary.cast(pa.binary()).to_pylist()
        index = np.array([self._find(raw) for raw in distinct] + [-1], np.int32)
        return index[coded.indices.fill_null(len(distinct)).to_numpy()]

    def _find(self, raw: bytes) -> int:
        """The index of an id, new or not; -1 if it is not 1 to 127 bytes of UTF-8."""
        if (index := self._index.get(raw)) is not None:
            return index
        try:
            name = raw.decode() if len(raw) <= TOPIC_BYTES else ""
        except UnicodeDecodeError:
            name = ""
        self._index[raw] = len(self.names) if name else -1
        if name:
            self.names.append(name)
        return self._index[raw]

    def number(self, stream: np.ndarray) -> np.ndarray:
        """The next numbers of each stream, from 0, for rows in order: (n,) int32 -> (n,) uint64.

        Rows of no stream (-1) are numbered among themselves.
        """
        new = len(self.names) + 1 - len(self._rows)
        self._rows = np.concatenate([self._rows, np.zeros(new, np.int64)])
        key = stream + 1
        small = len(self._rows) <= 1 << 16  # NumPy sorts 16 bits by radix
        order = np.argsort(key.astype(np.uint16) if small else key, kind="stable")
        grouped = key[order]
        begins = np.flatnonzero(np.concatenate([[True], grouped[1:] != grouped[:-1]])[: len(key)])
        lengths = np.diff(begins, append=len(key))
        met = grouped[begins]
        seq = np.empty(len(key), np.uint64)
        seq[order] = np.repeat(self._rows[met] - begins, lengths) + np.arange(len(key))
        self._rows[met] += lengths
        return seq
