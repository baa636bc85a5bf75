"""What readers of tables hand on: rows of sensor values, block by block."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa


class Rows(NamedTuple):
    """n rows in the order of the file, C channels."""

    stream: np.ndarray  # (n,) int32: indices into RowReader.streams
    values: np.ndarray  # (n, C) float32, C-contiguous, less RowReader.offsets; NaN = missing
    seq: np.ndarray  # (n,) uint64
    ts_ns: np.ndarray  # (n,) int64: since the Unix epoch; 0 = none
    time: pa.Array | None  # (n,) the time column as it stands in the file
    line: int  # where the block begins in the file
    begins: np.ndarray | None = None  # (n,) bool: rows that begin a new sequence; None = none is said to

    def part(self, which: slice) -> "Rows":
        """Consecutive rows, without a copy."""
        return self._replace(
            stream=self.stream[which],
            values=self.values[which],
            seq=self.seq[which],
            ts_ns=self.ts_ns[which],
            time=None if self.time is None else self.time[which],
            begins=None if self.begins is None else self.begins[which],
        )

    def only(self, keep: np.ndarray) -> "Rows":
        """The rows that ``keep``, (n,) bool, names."""
        return self._replace(
            stream=self.stream[keep],
            values=self.values[keep],
            seq=self.seq[keep],
            ts_ns=self.ts_ns[keep],
            time=None if self.time is None else self.time.filter(pa.array(keep)),
            begins=None if self.begins is None else self.begins[keep],
        )
