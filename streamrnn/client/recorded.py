"""What adapters read of messages, as tables: a row a line, or a value a line, in the order of coming."""

from collections.abc import Mapping, Sequence, Set

import numpy as np
import pyarrow as pa

from streamrnn.adapters.adapter import NO_SEQ, Harvest, Refused
from streamrnn.adapters.gather import GatheredRows, rows_in, rows_of
from streamrnn.table.recorded import SEQ, STREAM, TIME, VALUES
from streamrnn.wire.frame import LARGEST

_TIME = pa.timestamp("ns", "UTC")
_KNOWN = 1 << 20  # streams whose numbers are known
_LARGEST = 1 << 62  # number of a row


class WideTable:
    """Columns stream, time, seq where rows are numbered or bring no time, then the channels."""

    def __init__(self, channels: Sequence[str], words: Mapping[str, float], numbered: bool) -> None:
        """``words`` stand for numbers; ``numbered``: rows have numbers even where none has come yet."""
        self._channels, self._words = channels, words
        self._numbers = _RowNumbers() if numbered else None
        self._begun = numbered

    def batches(self, harvest: Harvest, came: Set[int]) -> list[pa.RecordBatch]:
        """The rows of a harvest; what cannot be used is refused in it.

        ``came`` are the times at which its messages came: rows of such a time bring none, and several have
        the same, so that they are numbered.
        """
        found = [rows_in(harvest.blocks)] if harvest.blocks else []
        found += [rows_of(harvest, self._channels, self._words)] if harvest.rows else []
        batches = [self._batch(_usable(rows, self._channels, harvest), came) for rows in found]
        return [batch for batch in batches if len(batch)]

    def _batch(self, rows: GatheredRows, came: Set[int]) -> pa.RecordBatch:
        if not self._begun and len(rows.seq):
            self._begun = True
            untimed = not came.isdisjoint(rows.ts_ns.tolist())
            self._numbers = _RowNumbers() if untimed or (rows.seq != NO_SEQ).any() else None
        names, columns = [STREAM, TIME], [_coded(rows.stream, rows.names), _times(rows.ts_ns)]
        if self._numbers is not None:
            names.append(SEQ)
            columns.append(pa.array(self._numbers.of(rows), pa.uint64()))
        columns += [
            pa.array(np.ascontiguousarray(rows.values[:, place]), from_pandas=True)
            for place in range(rows.values.shape[1])
        ]
        return pa.RecordBatch.from_arrays(columns, [*names, *self._channels])


class LongTable:
    """Columns time, stream, channel, value."""

    def __init__(self, channels: Sequence[str]) -> None:
        """``channels`` may grow."""
        self._channels = channels

    def batches(self, harvest: Harvest, came: Set[int]) -> list[pa.RecordBatch]:
        """The single values of a harvest; what cannot be used is refused in it."""
        value = np.array(harvest.values, np.float64)
        streams: dict[str, int] = {}
        stream = np.array([streams.setdefault(name, len(streams)) for name in harvest.of], np.int64)
        channel, at = np.array(harvest.channels, np.int64), np.array(harvest.at, np.int64)
        names = [*streams]
        infinite = np.abs(value) > LARGEST
        for place in np.flatnonzero(infinite).tolist():
            what = f"{self._channels[channel[place]]} is {value[place]}"
            harvest.refused.append(Refused("infinite", names[stream[place]].encode(), what))
        bad = infinite | _unwritable(stream, names, harvest)
        for name in dict.fromkeys(harvest.streams):  # rows where single values should be
            harvest.refused.append(Refused("channel", name.encode(), "a row, and single values are recorded"))
        used, coded = np.unique(channel, return_inverse=True)
        columns = [
            _times(at),
            _coded(stream, names),
            _coded(coded, [self._channels[index] for index in used.tolist()]),
            pa.array(value, from_pandas=True),
        ]
        batch = pa.RecordBatch.from_arrays(columns, [TIME, STREAM, *VALUES])
        batch = batch.filter(pa.array(~bad)) if bad.any() else batch
        return [batch] if len(batch) else []


class _RowNumbers:
    """Numbers of rows, stream by stream: the wire's; where it has none the next, as a daemon numbers them.

    Where a source begins anew, a file goes on: a number that falls would be taken for a late row.
    """

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._more: dict[str, int] = {}  # what is added to the numbers of the wire

    def of(self, rows: GatheredRows) -> np.ndarray:
        """(n,) int64."""
        if not self._more and not rows.begins.any() and (rows.seq != NO_SEQ).all():
            newest = np.full(len(rows.names), NO_SEQ)
            np.maximum.at(newest, rows.stream, rows.seq)
            for name, seq in zip(rows.names, newest.tolist(), strict=True):
                self._next[name] = max(seq + 1, self._next.get(name, 0))
            numbers = rows.seq
        else:
            each = zip(rows.stream.tolist(), rows.seq.tolist(), rows.begins.tolist(), strict=True)
            numbers = np.array([self._one(rows.names[of], seq, begins) for of, seq, begins in each], np.int64)
        if len(self._next) > _KNOWN:
            self._next.clear()
            self._more.clear()
        return numbers

    def _one(self, name: str, seq: int, begins: bool) -> int:
        following = self._next.get(name, 0)
        if seq == NO_SEQ:
            number = following
        else:
            if begins and seq + self._more.get(name, 0) < following:
                self._more[name] = following - seq
            number = min(seq + self._more.get(name, 0), _LARGEST)
        self._next[name] = max(following, min(number + 1, _LARGEST))
        return number


def _unwritable(stream: np.ndarray, names: Sequence[str], harvest: Harvest) -> np.ndarray:
    """(n,) bool: rows of streams whose ids would not be read back as they are; refused."""
    bad = np.array([not name.isprintable() or name != name.strip() for name in names], bool)
    found = bad[stream] if len(names) else np.zeros(len(stream), bool)
    for row in np.flatnonzero(found).tolist():
        what = f"{names[stream[row]][:40]!r} cannot be written as it is"
        harvest.refused.append(Refused("stream", names[stream[row]].encode(), what))
    return found


def _usable(rows: GatheredRows, channels: Sequence[str], harvest: Harvest) -> GatheredRows:
    """The rows that float32 can hold, of streams that can be written; the others are refused."""
    infinite = np.abs(rows.values) > LARGEST
    bad = infinite.any(axis=1)
    unwritable = _unwritable(rows.stream, rows.names, harvest)
    if not (bad.any() or unwritable.any()):
        return rows
    for row in np.flatnonzero(bad).tolist():
        channel = int(infinite[row].argmax())
        what = f"{channels[channel]} is {rows.values[row, channel]}"
        harvest.refused.append(Refused("infinite", rows.names[rows.stream[row]].encode(), what))
    bad |= unwritable
    kept = {key: getattr(rows, key)[~bad] for key in ("stream", "ts_ns", "seq", "begins", "values")}
    return rows._replace(**kept)


def _coded(codes: np.ndarray, names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))


def _times(ns: np.ndarray) -> pa.Array:
    return pa.array(ns, pa.int64()).cast(_TIME)
