"""What the assembler remembers, and how it lies in memory."""

from typing import Any, NamedTuple

import numpy as np

TAKES = ("last", "mean", "min", "max")
LAST, MEAN, MIN = (TAKES.index(name) for name in ("last", "mean", "min"))

NO_ROW, FRESH, HELD, SILENT = range(4)  # how a channel was in a stream's last row
COUNTS = ("rows", "held", "missing", "updates", "late", "wild", "ignored", "time", "unplaced")
ROWS_GIVEN, VALUES_HELD, VALUES_MISSING, UPDATES, LATE, WILD, IGNORED, TIME, UNPLACED = range(len(COUNTS))

FURTHEST = 1 << 62  # ns: the latest time an update may have
LONGEST = 1 << 59  # ns that a period, a hold or a lateness may last: no sum of them and a time overflows
NEVER = -(1 << 61)  # ns or ticks: longer ago than any hold

# What is remembered of a stream, in int64.
FIELDS = 16
(
    STAGE,  # FREE, FIRST: nothing accepted yet, or BEGUN
    NEWEST,  # ns: the largest time accepted
    TICK,  # its tick
    LEFT,  # the last tick that left
    WAITING,  # ticks that have a value and have not left
    PAST,  # channels that have spoken past the next tick to leave
    UNTIL,  # ns: how long a value that a row has had is held, at most
    BEGINS,  # 1: the next row is the first after the source's clock was set back
    SPOKE,  # ns of our clock: when it last said something that was accepted
    HEARD,  # the same of anything that it said
    ASIDE,  # updates put aside
    ASIDE_TICK,  # the first one's tick
    ASIDE_CAME,  # ns of our clock: when the last one came
    BELIEF,  # DOUBTED, or how far their being believed has come
    REPLAYED,  # of them, those that are in
) = range(15)
FREE, FIRST, BEGUN = range(3)
DOUBTED, BELIEVED, REPLAYING = range(3)


class Ticks(NamedTuple):
    """The settings, and all that is remembered of S streams of C channels; flat arrays."""

    channels: int  # C
    period: int  # ns
    hold: np.ndarray  # (C,) int64, ns
    lateness: int  # ns
    take: int  # of TAKES
    leap: int  # ticks: a time further off than that is wild
    ring: int  # R: ticks that can wait, a power of two
    agreeing: int  # N: wild times in a row that are believed
    fields: np.ndarray  # (S, FIELDS) int64
    spoken: np.ndarray  # (S, C) int64: each channel's newest tick
    gave: np.ndarray  # (S, C) float64: what the channel's last interval came to
    gave_ns: np.ndarray  # (S, C) int64: the newest time in it
    how: np.ndarray  # (S, C) uint8: NO_ROW, FRESH, HELD or SILENT, of the stream's last row
    occupied: np.ndarray  # (S, R) uint8: whether this tick has a value
    waits: np.ndarray  # (S, R, C) float64: the last, the sum, the least or the greatest of them
    waits_ns: np.ndarray  # (S, R, C) int64: the newest time of them
    waits_count: np.ndarray  # (S, R, C) int64: how many there are
    aside_channel: np.ndarray  # (S, N) int64
    aside_ns: np.ndarray  # (S, N) int64
    aside_value: np.ndarray  # (S, N) float64
    counts: np.ndarray  # (COUNTS,) int64


class Updates(NamedTuple):
    """n values in the order in which they came."""

    stream: np.ndarray  # (n,) int32
    channel: np.ndarray  # (n,) int32
    ts: np.ndarray  # (n,) int64: ns from the epoch
    value: np.ndarray  # (n,) float64


class Room(NamedTuple):
    """Room for some rows."""

    filled: np.ndarray  # (1,) int64: how many there are
    stream: np.ndarray  # (room,) int32
    tick: np.ndarray  # (room,) int64
    values: np.ndarray  # (room, C) float64, flat
    begins: np.ndarray  # (room,) bool


def arrays(streams: int, channels: int, ring: int, agreeing: int) -> dict[str, Any]:
    """Those of ``Ticks`` that have something of every stream."""
    return {
        "fields": np.zeros(streams * FIELDS, np.int64),
        "spoken": np.zeros(streams * channels, np.int64),
        "gave": np.zeros(streams * channels),
        "gave_ns": np.zeros(streams * channels, np.int64),
        "how": np.zeros(streams * channels, np.uint8),
        "occupied": np.zeros(streams * ring, np.uint8),
        "waits": np.zeros(streams * ring * channels),
        "waits_ns": np.zeros(streams * ring * channels, np.int64),
        "waits_count": np.zeros(streams * ring * channels, np.int64),
        "aside_channel": np.zeros(streams * agreeing, np.int64),
        "aside_ns": np.zeros(streams * agreeing, np.int64),
        "aside_value": np.zeros(streams * agreeing),
    }


def free(ticks: Ticks, first: int, end: int) -> None:
    """Makes the streams from ``first`` on nobody's."""
    streams = ticks.fields.size // FIELDS
    for array in (ticks.fields, ticks.occupied, ticks.waits_count, ticks.how):
        array.reshape(streams, -1)[first:end] = 0
    for array in (ticks.spoken, ticks.gave_ns):
        array.reshape(streams, -1)[first:end] = NEVER
    ticks.fields.reshape(streams, -1)[first:end, UNTIL] = NEVER


def longer(ticks: Ticks, streams: int, room: int) -> Ticks:
    """The same with room for more streams."""
    new = arrays(room, ticks.channels, ticks.ring, ticks.agreeing)
    more = ticks._replace(**new)
    for name, array in new.items():
        before = getattr(ticks, name)
        array[: before.size] = before
    free(more, streams, room)
    return more
