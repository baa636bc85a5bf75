"""What an adapter is: it reads messages of one format, and enters what they say into a ``Harvest``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

NO_SEQ = -1  # rows without numbers of their own


class Rejected(Exception):
    """A message, or a part of one, that cannot be read: why, a key of stats.WHY, and what was wrong."""

    def __init__(self, reason: str, what: str):
        super().__init__(what)
        self.reason, self.what = reason, what


@dataclass
class Plan:
    """What the configuration says of messages, see ``settings.sections.Input``, and the model's channels."""

    channels: tuple[str, ...]
    stream: str = ""
    topic: str = ""
    time: str = "time"
    time_unit: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)  # channel -> path of its key
    words: Mapping[str, float] = field(default_factory=dict)  # casefolded -> what each stands for
    dtype: str = "float32"  # of values whose message does not say it
    order: str = "C"  # or "F": arrays that have the values of a channel side by side
    period_ns: int = 0  # between the rows of a message that does not say; 0 = unknown
    met: list[str] | None = None  # names of channels as they are met; None = there are ``channels`` alone


class FoundChannels(NamedTuple):
    """What messages showed, where nobody said what the channels are."""

    channels: tuple[str, ...]
    fields: Mapping[str, str]  # as of a ``Plan``, of those whose name is not their key
    texts: tuple[str, ...] = ()  # keys that hold words


class Message(NamedTuple):
    """One message, whole."""

    topic: bytes | None  # of a transport that has topics beside the parts (MQTT); else None
    parts: Sequence[bytes]
    came_ns: int  # CLOCK_REALTIME


class RowBlock(NamedTuple):
    """n rows of one stream, one after another."""

    stream: str
    values: np.ndarray  # (n, channels) float64, or float32 as it came, in the model's order; NaN = missing
    ts_ns: np.ndarray  # (n,) int64: source times
    seq: int = NO_SEQ  # of the first row, +1 a row
    begins: bool = False  # whether the first row begins a new sequence


class Refused(NamedTuple):
    """One message, or one row of it, that was turned away."""

    reason: str
    topic: bytes
    what: str


@dataclass
class Harvest:
    """What was read from some messages, in the order in which it came.

    Of rows, blocks and single values an adapter enters one kind for a stream. Columns are lists side by side.
    """

    # rows one by one
    streams: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)  # ns since the epoch
    rows: list[Sequence[float]] = field(default_factory=list)  # of all channels in the model's order
    blocks: list[RowBlock] = field(default_factory=list)
    # single values
    of: list[str] = field(default_factory=list)  # streams
    channels: list[int] = field(default_factory=list)
    at: list[int] = field(default_factory=list)  # ns since the epoch
    values: list[float] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    note: str = ""  # what a user should know once

    def row(self, stream: str, ts_ns: int, values: Sequence[float]) -> None:
        self.streams.append(stream)
        self.times.append(ts_ns)
        self.rows.append(values)

    def update(self, stream: str, channel: int, ts_ns: int, value: float) -> None:
        self.of.append(stream)
        self.channels.append(channel)
        self.at.append(ts_ns)
        self.values.append(value)


class Adapter(Protocol):
    """Reads messages of one format; made once for a daemon, used by one thread.

    What it remembers from message to message (headers, blocks that wait for their other channels) is bounded.
    """

    def __init__(self, plan: Plan): ...

    def read(self, message: Message, harvest: Harvest) -> None:
        """Enters what a message says; a row of it that cannot be used goes to ``harvest.refused``.

        Raises Rejected where nothing of it can be used, and, whatever the bytes are, nothing else. NaN is a
        missing value. Infinite ones, and those that float32 cannot hold, are entered as they are: who takes
        the rows rejects them.
        """
