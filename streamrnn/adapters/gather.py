"""From messages to rows: an adapter reads them, and where they bring single values, rows are assembled."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from streamrnn.adapters.adapter import NO_SEQ, Adapter, Harvest, Message, Plan, Refused, Rejected, RowBlock
from streamrnn.adapters.objects import NUMBERS, numbers
from streamrnn.adapters.tally import IntakeTally
from streamrnn.rows.assembler import AssembledRows, Assembler
from streamrnn.wire.frame import LARGEST


class GatheredRows(NamedTuple):
    """n rows, in the order of each stream."""

    names: Sequence[str]  # of the streams
    stream: np.ndarray  # (n,) int64: indices into ``names``
    ts_ns: np.ndarray  # (n,) int64
    seq: np.ndarray  # (n,) int64; NO_SEQ = none
    begins: np.ndarray  # (n,) bool: that begin a new sequence
    values: np.ndarray  # (n, channels) float64; NaN = missing


class _Updates(NamedTuple):
    """n values of single channels."""

    names: Sequence[str]
    stream: np.ndarray  # (n,) int64: indices into ``names``
    channel: np.ndarray  # (n,) int32
    ts_ns: np.ndarray  # (n,) int64
    value: np.ndarray  # (n,) float64


class Gatherer:
    """Turns messages of one format into rows; used by one thread at a time."""

    def __init__(self, adapter: Adapter, plan: Plan, assembler: Assembler | None, tally: IntakeTally) -> None:
        """``plan`` is the adapter's. Without an ``assembler`` a message's rows are rows.

        ``tally`` is told of what cannot be used.
        """
        self._adapter, self._assembler, self._tally = adapter, assembler, tally
        self._plan, self._channels = plan, plan.channels
        tally.assembler = assembler

    def take(self, messages: Iterable[Message], now_ns: int = 0) -> Iterator[GatheredRows]:
        """The rows that are complete with these messages; ``now_ns`` is CLOCK_MONOTONIC, 0 = no clock.

        What is done is done as the iterator is exhausted, and it must be.
        """
        harvest = Harvest()
        count, came_ns = read_all(self._adapter, messages, harvest)
        self._tally.messages += count
        if harvest.note:
            self._tally.note("stream", harvest.note)
        rows = [rows_in(harvest.blocks)] if harvest.blocks else []
        if harvest.rows:
            rows.append(rows_of(harvest, self._channels, self._plan.words))
        for ts_ns in (*(some.ts_ns for some in rows), np.array(harvest.at, np.int64)):
            self._tally.compare(ts_ns, came_ns)
        if self._assembler is not None:
            updates = [*map(_updates_of, rows), *([_single(harvest)] if harvest.values else [])]
            for some in updates:
                yield from self._assembled(some, harvest, now_ns)
        else:
            self._tally.rows += sum(len(some.stream) for some in rows)
            yield from rows
        self._tally.refuse(harvest.refused)

    def release(self, now_ns: int) -> Iterator[GatheredRows]:
        """The rows of streams that have been silent, by the clock."""
        if self._assembler is not None:
            yield from self._named(self._assembler.release(now_ns))

    def adopt(self, sample_period_s: float) -> None:
        """The model's rows are so far apart from here on."""
        self._plan.period_ns = round(sample_period_s * 1e9)

    def forget(self, now_ns: int, idle_ns: int) -> None:
        """Forgets streams that have said nothing for ``idle_ns``, nor may have rows still."""
        if self._assembler is not None:
            self._assembler.forget(now_ns - max(idle_ns, self._assembler.outlasts_ns))

    def _assembled(self, updates: _Updates, harvest: Harvest, now_ns: int) -> Iterator[GatheredRows]:
        """The rows that are complete with some values."""
        assert self._assembler is not None
        known = np.array([self._assembler.stream(name) for name in updates.names], np.int32)
        stream = known[updates.stream]
        infinite = np.abs(updates.value) > LARGEST
        if infinite.any() or (known < 0).any():
            for place in np.flatnonzero(infinite | (stream < 0)).tolist():
                name = updates.names[updates.stream[place]].encode()
                channel = self._channels[updates.channel[place]]
                harvest.refused.append(
                    Refused("infinite", name, f"{channel} is {updates.value[place]}")
                    if infinite[place]
                    else Refused("capacity", name, "")
                )
            keep = ~infinite & (stream >= 0)
            stream, updates = (
                stream[keep],
                updates._replace(
                    **{key: getattr(updates, key)[keep] for key in ("channel", "ts_ns", "value")}
                ),
            )
        yield from self._named(
            self._assembler.take(stream, updates.channel, updates.ts_ns, updates.value, now_ns)
        )

    def _named(self, blocks: Iterable[AssembledRows]) -> Iterator[GatheredRows]:
        assert self._assembler is not None
        for rows in blocks:
            of, stream = np.unique(rows.stream, return_inverse=True)
            names = [self._assembler.names[index] for index in of.tolist()]
            ts_ns = rows.tick * self._assembler.period_ns
            self._tally.rows += len(stream)
            yield GatheredRows(names, stream.astype(np.int64), ts_ns, rows.tick, rows.begins, rows.values)


def read_all(adapter: Adapter, messages: Iterable[Message], harvest: Harvest) -> tuple[int, int]:
    """Enters what messages say, and what of them cannot be used. Returns how many came, and when the last."""
    count = came_ns = 0
    for message in messages:
        count, came_ns = count + 1, message.came_ns
        try:
            adapter.read(message, harvest)
        except Rejected as error:
            harvest.refused.append(Refused(error.reason, topic_of(message), error.what))
        except (MemoryError, RecursionError) as error:  # no adapter should, and none ends all
            what = f"it takes too much to read ({type(error).__name__})"
            harvest.refused.append(Refused("syntax", topic_of(message), what))
    return count, came_ns


def rows_of(harvest: Harvest, channels: Sequence[str], words: Mapping[str, float]) -> GatheredRows:
    """The single rows of a harvest; those with anything but numbers, or ``words``, are refused."""
    streams, times = harvest.streams, harvest.times
    values = _matrix(harvest.rows, len(channels))
    if values is None:
        kept, plain = [], []
        for place, row in enumerate(harvest.rows):
            try:
                plain.append(numbers(row, channels, words))
                kept.append(place)
            except Rejected as error:
                harvest.refused.append(Refused(error.reason, streams[place].encode(), error.what))
        streams, times = [streams[place] for place in kept], [times[place] for place in kept]
        values = np.array(plain, np.float64).reshape(len(plain), len(channels))
    names: dict[str, int] = {}
    stream = np.array([names.setdefault(name, len(names)) for name in streams], np.int64)
    seq, begins = np.full(len(stream), NO_SEQ), np.zeros(len(stream), bool)
    return GatheredRows([*names], stream, np.array(times, np.int64), seq, begins, values)


def rows_in(blocks: Sequence[RowBlock]) -> GatheredRows:
    """The rows of some blocks, one after another, as one; of float32 and float64, float64."""
    names: dict[str, int] = {}
    of = [names.setdefault(block.stream, len(names)) for block in blocks]
    counts = np.array([len(block.values) for block in blocks])
    first = np.cumsum(counts) - counts
    place = np.arange(counts.sum())
    seq = np.array([block.seq for block in blocks])
    begins = np.zeros(len(place), bool)
    begins[first[counts > 0]] = np.array([block.begins for block in blocks])[counts > 0]
    return GatheredRows(
        [*names],
        np.repeat(np.array(of, np.int64), counts),
        np.concatenate([block.ts_ns for block in blocks]),
        np.where(np.repeat(seq, counts) == NO_SEQ, NO_SEQ, np.repeat(seq - first, counts) + place),
        begins,
        np.concatenate([block.values for block in blocks]),
    )


def topic_of(message: Message) -> bytes:
    """What to call a message by; nothing where its first part is a header."""
    if message.topic is not None:
        return message.topic
    first = message.parts[0] if len(message.parts) > 1 else b""
    return b"" if first.startswith((b"{", b"DATA\0")) else first


def _matrix(rows: Sequence[Sequence[Any]], channels: int) -> np.ndarray | None:
    """(n, channels) float64 of rows that hold nothing but numbers; None where some hold anything else."""
    # looked at first: an array of rows with one long text in them has room for it in every place
    if not {*map(type, chain.from_iterable(rows))} <= NUMBERS:
        return None
    try:
        values = np.array(rows, np.float64)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return values if values.shape == (len(rows), channels) else None


def _updates_of(rows: GatheredRows) -> _Updates:
    """The values of rows, one by one, without those that are missing."""
    row, channel = np.nonzero(~np.isnan(rows.values))
    return _Updates(
        rows.names, rows.stream[row], channel.astype(np.int32), rows.ts_ns[row], rows.values[row, channel]
    )


def _single(harvest: Harvest) -> _Updates:
    names: dict[str, int] = {}
    stream = np.array([names.setdefault(name, len(names)) for name in harvest.of], np.int64)
    channel, at = np.array(harvest.channels, np.int32), np.array(harvest.at, np.int64)
    return _Updates([*names], stream, channel, at, np.array(harvest.values, np.float64))
