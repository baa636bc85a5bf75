"""The record numbers of a logger as sequence numbers: after its restart they begin again, and go on here."""

import numpy as np

from streamrnn.table.progress import counted


class LoggerRecords:
    """Numbers rows by a logger's records, block by block."""

    def __init__(self) -> None:
        self._last = -1  # the last record, as the logger numbers it
        self._newest = 0  # ns: the latest time
        self._more = 0  # what is added to a record for its number
        self._restarts = 0

    def number(self, records: np.ndarray, ts_ns: np.ndarray) -> np.ndarray:
        """Of n rows in order, records (n,) uint64 and times (n,) int64: (n,) uint64.

        Where a record falls while time goes on, numbers go on from the last one.
        """
        if not len(records):
            return records
        own = records.astype(np.int64)
        before = np.concatenate([[self._last], own[:-1]])
        newest = np.maximum.accumulate(np.concatenate([[self._newest], ts_ns]))
        restarts = (own < before) & (ts_ns > newest[:-1])
        more = self._more + np.cumsum(np.where(restarts, before + 1 - own, 0))
        self._restarts += int(restarts.sum())
        self._last, self._newest, self._more = int(own[-1]), int(newest[-1]), int(more[-1])
        return (own + more).astype(np.uint64)

    def said(self) -> list[str]:
        """What a user should know of the records so far."""
        if not self._restarts:
            return []
        return [f"the records begin again in {counted(self._restarts, 'place')}; their numbers go on there"]
