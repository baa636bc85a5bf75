"""Updates of single sensors -> rows at integer ticks: the same updates, the same rows, live and from a file.

An update is a value of one channel of one stream at a time of its source. Tick k stands at k periods from
the epoch, its interval is ((k - 1) periods, k periods], and its row has what was known at it, in order of k.

What a row has of a channel:

- of the updates of its interval the ``last`` (by time; of equal times the last to come), the ``mean`` (their
  sum in the order in which they came, over their count), the ``min`` or the ``max``;
- if there are none, what the channel's last interval that had some came to, while the newest time in that
  is no further back than ``hold``; then NaN. Never a value of a later tick;
- a row of nothing but NaN is none: consumers see the hole, since a row's number is its tick.

When the row of tick k leaves:

- as soon as every channel has said something later than k, or one of them something more than ``lateness``
  later: what is just ``lateness`` behind the newest time may still come;
- by the clock (``release``) as if the newest time had gone on with it since the stream last spoke. So held
  rows leave, too, until nothing is held. The clock lets go no tick behind the last row: what a source says
  after it stood still is not late for ever;
- at the end (``flush``), up to the newest tick. Nothing is held past that.

What an update may be:

- not a number, or infinite: ignored, as if it had not been said;
- before tick 0, or later than 2^62 ns, in 2116: dropped;
- wild, if its tick is further from the stream's newest one, either way, than a leap: 1000 ticks, or hold and
  lateness together, if that is more. It is put aside. As soon as there are as many as there are channels, and
  two at least, with none accepted between them, all ahead or all behind, and none more than a leap before the
  one that came before it, they are believed and go in, in order. If they are behind, the source's clock was
  set back: what waits leaves, all else of the stream is forgotten, and its next row says that it begins anew.
  One that does not agree with those put aside takes their place, and one that is accepted drops them. By the
  clock they are believed when they have waited for longer than ``lateness``, and at the end anyway;
- late, if its tick has left, with a row or as a hole: dropped, and nothing changes. At a stream's first
  update those have left that its time lets go, so that an earlier one may still come.

So one wrong time costs nothing, a clock that is set costs its gap, and memory is bounded whatever comes.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from streamrnn.rows.layout import (
    COUNTS,
    FIELDS,
    FIRST,
    FREE,
    HEARD,
    LONGEST,
    NO_ROW,
    SILENT,
    SPOKE,
    STAGE,
    TAKES,
    UPDATES,
    Room,
    Ticks,
    Updates,
    arrays,
    free,
    longer,
)
from streamrnn.rows.ticks import release_rows, take_updates

MOST_LATENESS = 1000  # periods
MOST_HOLD = 100_000
_LEAP = 1000  # ticks, at least
_BLOCK_ROWS = 4096
_BLOCK_VALUES = 1 << 18
_FEW = 8  # streams, to begin with
_GONE_NS = 60 * 10**9  # a stream that said nothing for as long, and for longer than is held, does not go on


class AssembledRows(NamedTuple):
    """n rows, those of a stream in the order of their ticks; arrays of their own."""

    stream: np.ndarray  # (n,) int32: index, as ``Assembler.stream`` gives it
    tick: np.ndarray  # (n,) int64, from 0 on: the row's number; its time is tick * period
    values: np.ndarray  # (n, C) float64: NaN where a channel has nothing
    begins: np.ndarray  # (n,) bool: the first row after the source's clock was set back


class Standing(NamedTuple):
    """The channels of a stream in its last row."""

    how: np.ndarray  # (C,) uint8: FRESH, HELD or SILENT
    ts_ns: np.ndarray  # (C,) int64: the source time of each one's last value; below 0 = it had none


class Assembler:
    """Rows of up to ``capacity`` streams of ``channels`` channels; one thread at a time.

    A stream takes some 25 bytes for each channel and period of ``lateness_ns``, and two more of these.

    An iterator that ``take``, ``release`` or ``flush`` gives does its work as it is exhausted, and must be
    before anything else is called. ``how``, ``counts``, ``standing`` and ``lacking`` may be read from other
    threads at any time.
    """

    def __init__(
        self,
        channels: int,
        period_ns: int,
        take: str = "last",
        *,
        hold_ns: int | np.ndarray,
        lateness_ns: int,
        capacity: int,
    ) -> None:
        """``hold_ns`` is of all channels, or (C,) int64 of each, and then of any number of periods."""
        if channels < 1 or capacity < 1:
            raise ValueError("there must be a channel, and room for a stream")
        if not 1 <= period_ns <= LONGEST:
            raise ValueError(f"a period of {period_ns} ns is not between 1 ns and 18 years")
        if take not in TAKES:
            raise ValueError(f'take = "{take}" is none of {", ".join(TAKES)}')
        holds = np.broadcast_to(np.asarray(hold_ns, np.int64), channels).copy()
        longest = int(holds.max())
        most_hold = LONGEST if isinstance(hold_ns, np.ndarray) else MOST_HOLD
        spans = [("lateness", lateness_ns, MOST_LATENESS)]
        spans += [("hold", int(end), most_hold) for end in (holds.min(), longest)]
        for name, value, most in spans:
            if not 0 <= value <= min(most * period_ns, LONGEST):
                raise ValueError(
                    f"a {name} of {value} ns is not between 0 and {most} periods, or over 18 years"
                )
        late_ticks, hold_ticks = -(-lateness_ns // period_ns), -(-longest // period_ns)
        self.period_ns, self.capacity = period_ns, capacity
        self.names: list[str] = []  # of the streams by index; "" where there is none
        self.counts = np.zeros(len(COUNTS), np.int64)  # see COUNTS: in all, so that a call's are a difference
        self._index: dict[str, int] = {}
        self._unused: list[int] = []  # indices that were given back
        few, ring, agreeing = min(_FEW, capacity), 1 << late_ticks.bit_length(), max(2, channels)
        self._ticks = Ticks(
            channels=channels,
            period=period_ns,
            hold=holds,
            lateness=lateness_ns,
            take=TAKES.index(take),
            leap=max(_LEAP, hold_ticks + late_ticks),
            ring=ring,
            agreeing=agreeing,
            counts=self.counts,
            **arrays(few, channels, ring, agreeing),
        )
        free(self._ticks, 0, few)
        rows = max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // channels))
        self._room = Room(
            np.zeros(1, np.int64),
            np.zeros(rows, np.int32),
            np.zeros(rows, np.int64),
            np.zeros(rows * channels),
            np.zeros(rows, np.bool_),
        )

    @property
    def how(self) -> np.ndarray:
        """NO_ROW, FRESH, HELD or SILENT of each channel in its stream's last row, (streams so far, C) uint8.

        Where streams come, a longer array takes its place: what a reader holds stays as long as it was, and
        is no longer written to.
        """
        return self._ticks.how.reshape(-1, self._ticks.channels)

    def standing(self, name: str) -> Standing | None:
        """How a stream's channels stood in its last row; None where it has none."""
        index, ticks = self._index.get(name), self._ticks
        if index is None or (index + 1) * ticks.channels > ticks.how.size:
            return None
        here = slice(index * ticks.channels, (index + 1) * ticks.channels)
        found = Standing(ticks.how[here].copy(), ticks.gave_ns[here].copy())
        if self.names[index] != name or (found.how == NO_ROW).any():  # its index is another's meanwhile
            return None
        return found

    def lacking(self, now_ns: int) -> list[str]:
        """The streams that go on, but for channels that had no value in the last row.

        One that has gone silent as a whole is none of them: where its last row had some channels still and
        others no more is chance. ``now_ns`` is of the clock that ``take`` is told.
        """
        ticks = self._ticks
        silent = (ticks.how.reshape(-1, ticks.channels) == SILENT).any(axis=1)
        silence = now_ns - ticks.fields.reshape(-1, FIELDS)[:, SPOKE]
        silent &= silence <= max(_GONE_NS, self.outlasts_ns)
        return [name for index in np.flatnonzero(silent).tolist() if (name := self.names[index])]

    @property
    def outlasts_ns(self) -> int:
        """How long a stream that is silent may still have rows."""
        return int(self._ticks.hold.max()) + self._ticks.lateness + 2 * self._ticks.period

    @property
    def most_bytes(self) -> int:
        """What all that is remembered takes once ``capacity`` streams have come."""
        of_one = arrays(1, self._ticks.channels, self._ticks.ring, self._ticks.agreeing)
        return self.capacity * sum(array.nbytes for array in of_one.values())

    def stream(self, name: str) -> int:
        """The index of a stream, which is admitted if it is new; -1 where there is no room for it."""
        if (known := self._index.get(name)) is not None:
            return known
        if self._unused:
            index = self._unused.pop()
            self.names[index] = name
        elif (index := len(self.names)) < self.capacity:
            if index * FIELDS == self._ticks.fields.size:
                self._ticks = longer(self._ticks, index, min(2 * index, self.capacity))
            self.names.append(name)
        else:
            return -1
        self._index[name] = index
        self._ticks.fields[index * FIELDS + STAGE] = FIRST
        return index

    def forget(self, before_ns: int) -> list[str]:
        """Forgets the streams that have said nothing since ``before_ns`` of the clock that ``take`` is told.

        Their indices go to others. What of them still waits is lost, so that should be ``outlasts_ns`` ago.
        """
        fields = self._ticks.fields.reshape(-1, FIELDS)
        gone = np.flatnonzero((fields[:, STAGE] != FREE) & (fields[:, HEARD] < before_ns))
        names = [self.names[index] for index in gone]
        for index, name in zip(gone.tolist(), names, strict=True):
            del self._index[name]
            self.names[index] = ""
            self._unused.append(index)
            free(self._ticks, index, index + 1)
        return names

    def take(
        self, stream: np.ndarray, channel: np.ndarray, ts_ns: np.ndarray, value: np.ndarray, now_ns: int = 0
    ) -> Iterator[AssembledRows]:
        """Takes n updates in the order in which they came; gives the rows that leave, in blocks.

        ``stream`` and ``channel``: (n,) int32 indices, of which unknown ones are counted and dropped;
        ``ts_ns``: (n,) int64 of the source's clock, from the epoch; ``value``: (n,) float64. ``now_ns``: when
        they came, by a clock that never goes back; a file has none.
        """
        given = ((stream, np.int32), (channel, np.int32), (ts_ns, np.int64), (value, np.float64))
        # Of one kind: for arrays that cannot be written to Numba would compile everything again.
        updates = Updates(*(np.require(array, kind, ["C", "A", "W"]) for array, kind in given))
        if any(array.shape != (updates.ts.size,) for array in updates):
            raise ValueError("updates need a stream, a channel, a time and a value each")
        now = _checked(now_ns)
        self.counts[UPDATES] += updates.ts.size
        return self._blocks(
            updates.ts.size, lambda at: take_updates(self._ticks, updates, self._room, at, now)
        )

    def release(self, now_ns: int) -> Iterator[AssembledRows]:
        """Gives the rows that are due by the clock that ``take`` is told."""
        return self._released(_checked(now_ns), False)

    def flush(self) -> Iterator[AssembledRows]:
        """Gives all that waits, at the end."""
        return self._released(0, True)

    def _released(self, now: int, at_the_end: bool) -> Iterator[AssembledRows]:
        streams = len(self.names)
        return self._blocks(
            streams, lambda at: release_rows(self._ticks, self._room, at, streams, now, at_the_end)
        )

    def _blocks(self, count: int, work: Callable[[int], int]) -> Iterator[AssembledRows]:
        """Has ``work`` go on from where it stopped until it has done ``count``, and gives what it filled."""
        at, room = 0, self._room
        while at < count:
            room.filled[0] = 0
            at = work(at)
            if rows := int(room.filled[0]):
                values = room.values[: rows * self._ticks.channels].reshape(rows, -1).copy()
                yield AssembledRows(
                    room.stream[:rows].copy(), room.tick[:rows].copy(), values, room.begins[:rows].copy()
                )


def _checked(now_ns: int) -> int:
    if not 0 <= now_ns < 1 << 62:
        raise ValueError(f"{now_ns} ns is no time of a monotonic clock")
    return now_ns
