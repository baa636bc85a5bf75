"""Values at odd times as rows at even ones: a table read through the assembler that a daemon has.

The same values in the same order give the daemon's rows: a row's number is its tick, and ticks without a row
are gaps. The file is read in pieces and nothing is held of it but what the assembler holds; of one with a
value a row, the channels are found by reading it once before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from streamrnn.errors import UserError
from streamrnn.rows.assembler import AssembledRows, Assembler
from streamrnn.rows.layout import COUNTS
from streamrnn.table.blocks import Block
from streamrnn.table.progress import counted
from streamrnn.table.reading import Raster, Reading
from streamrnn.wire.frame import LARGEST

HEAD = 1 << 10  # rows that are looked at first
ROWS = 1 << 16  # of a block, about
_MOST_STREAMS = 1 << 20
_UNITS = (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))


class SomeValues(NamedTuple):
    """n values in the order of the file."""

    stream: np.ndarray  # (n,) int32: indices into ``streams``
    channel: np.ndarray  # (n,) int32: into ``channels``; below 0 = none of them
    ns: np.ndarray  # (n,) int64
    value: np.ndarray  # (n,) float64; NaN = missing


class ValueSource(Protocol):
    """A file of values."""

    where: str
    said: str
    channels: list[str]
    units: dict[str, str]
    streams: list[str]  # grows as it is iterated
    stream: str | None  # the name of their column
    notes: list[str]

    @property
    def skipped(self) -> int: ...
    def __iter__(self) -> Iterator[SomeValues]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class RasterFile:
    """The table of the rows: times, numbers, streams if there are any, channels."""

    unit = "row"

    def __init__(self, source: ValueSource, raster: Raster, reading: Reading, whole_head: bool) -> None:
        """``whole_head``: look at many rows first, as they need not be waited for."""
        self._source, self._raster = source, raster
        self.where, self.notes = source.where, source.notes
        self.left_out: dict[str, str] = getattr(source, "left_out", {})
        holds = None if raster.hold_told else getattr(source, "holds", None)
        try:
            self._assembler = Assembler(
                len(source.channels),
                raster.period_ns,
                raster.take,
                hold_ns=raster.hold_ns if holds is None else holds,
                lateness_ns=raster.lateness_ns,
                capacity=_MOST_STREAMS,
            )
        except ValueError as error:
            raise UserError(f"--period, --hold, --lateness: {error}") from None
        time, seq = (_free(name, source.channels) for name in ("time", "tick"))
        stream = None if source.stream is None else _free(source.stream, source.channels)
        self.reading = replace(reading, time=(time,), time_format=None, seq=seq, stream=stream, raster=None)
        self.names = [time, seq, *([] if stream is None else [stream]), *source.channels]
        self.units = source.units
        self.said = f"{source.said}; rows every {raster.period}"
        self._infinite = 0
        self._rows = self._assembled()
        self._ahead = list[AssembledRows]()
        most = HEAD if whole_head else 1
        while sum(len(rows.tick) for rows in self._ahead) < most:
            if (rows := next(self._rows, None)) is None:
                break
            self._ahead.append(rows)
        if not self._ahead:
            raise UserError(f"{self.where}: no value of its channels makes a row")
        self._head = self._columns(_joined(self._ahead))

    @property
    def skipped(self) -> int:
        """Bad rows left out so far."""
        return self._source.skipped

    def head(self) -> list[pa.Array]:
        """Every column of the first rows."""
        return self._head

    def blocks(self, columns: list[int]) -> Iterator[Block]:
        """The rows in the order in which they left; runs once."""
        first = 1
        while (rows := self._ahead.pop(0) if self._ahead else next(self._rows, None)) is not None:
            every = self._columns(rows)
            begins = rows.begins if rows.begins.any() else None
            yield Block([every[place] for place in columns], [], first, first.__add__, begins)
            first += len(rows.tick)

    def closing(self) -> list[str]:
        """What became of the values."""
        counts = dict(zip(COUNTS, self._assembler.counts.tolist(), strict=True))
        left = {
            "late": counts["late"],
            "of a wild time": counts["wild"],
            "of no time": counts["time"],
            "infinite": self._infinite,
        }
        lost = [f"{number:,} {what}" for what, number in left.items() if number]
        values = counts["updates"] - counts["ignored"] + self._infinite
        said = (
            f"{self.where}: {counted(counts['rows'], 'row')} every {self._raster.period} of "
            f"{counted(values, 'value')}; {counts['held']:,} held, {counts['missing']:,} missing"
        )
        own = self._source.closing() if hasattr(self._source, "closing") else []
        return [said + (f"; left out: {', '.join(lost)}" if lost else ""), *own]

    def stop(self) -> None:
        """Lets ``blocks`` end within a moment; for any thread."""
        self._source.stop()

    def close(self) -> None:
        self._source.close()

    def _assembled(self) -> Iterator[AssembledRows]:
        for values in self._source:
            infinite = np.abs(values.value) > LARGEST
            wanted = (values.channel >= 0) & ~infinite
            self._infinite += int((infinite & (values.channel >= 0)).sum())
            for name in self._source.streams[len(self._assembler.names) :]:
                if self._assembler.stream(name) < 0:
                    raise UserError(f"{self.where}: has more than {_MOST_STREAMS:,} streams")
            columns = (array[wanted] for array in (values.stream, values.channel, values.ns, values.value))
            yield from _in_blocks(self._assembler.take(*columns))
        yield from _in_blocks(self._assembler.flush())

    def _columns(self, rows: AssembledRows) -> list[pa.Array]:
        period = self._raster.period_ns
        unit, size = next(each for each in _UNITS if period % each[1] == 0)
        columns = [
            pa.array(rows.tick * (period // size), pa.timestamp(unit, "UTC")),
            pa.array(rows.tick, pa.uint64()),
        ]
        if self._source.stream is not None:
            columns.append(pa.array(self._assembler.names, pa.string()).take(pa.array(rows.stream)))
        return columns + [
            pa.array(np.ascontiguousarray(column), from_pandas=True) for column in rows.values.T
        ]


def _in_blocks(rows: Iterator[AssembledRows]) -> Iterator[AssembledRows]:
    """The same in blocks of about ROWS."""
    waiting, count = list[AssembledRows](), 0
    for some in rows:
        waiting.append(some)
        count += len(some.tick)
        if count >= ROWS:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(rows: list[AssembledRows]) -> AssembledRows:
    return rows[0] if len(rows) == 1 else AssembledRows(*map(np.concatenate, zip(*rows, strict=True)))


def _free(name: str, taken: Sequence[str]) -> str:
    """A name for a column that no channel has."""
    lower = {other.casefold() for other in taken}
    while name.casefold() in lower:
        name += "_"
    return name
