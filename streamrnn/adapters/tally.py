"""What an adapter made of messages, and what it could not use, by reason: how often, and the last."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamrnn.adapters.adapter import Refused
from streamrnn.rows.assembler import Assembler, Standing
from streamrnn.rows.layout import COUNTS

_DROPPED = {"wild": "wild", "time": "time", "nan": "ignored"}  # by reason: the assembler's count
_YEAR_NS = 31_556_952 * 10**9
_FAR_NS = 2 * _YEAR_NS
KEPT = 127  # bytes of a topic, and letters of what was wrong


def in_letters(text: str) -> str:
    """A text from outside in letters that a terminal can bear."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class Turned(NamedTuple):
    """What was refused for one reason."""

    number: int
    first_ns: int  # CLOCK_REALTIME
    latest_ns: int
    topic: bytes  # of the last, or its stream; at most ``KEPT`` bytes
    topic_bytes: int  # as it came
    what: str  # was wrong with it


@dataclass
class IntakeTally:
    """Written by the thread that reads messages; others read it as it is."""

    adapter: str = ""  # the format that is read, "" = frames, which the pump reads itself
    messages: int = 0
    rows: int = 0  # that were made of them
    assembler: Assembler | None = None  # that makes the rows where messages bring single values
    refused: dict[str, Turned] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)  # what to tell once, by what it is about

    def values(self) -> dict[str, int]:
        """What the assembler counted, see ``rows.layout.COUNTS``; zeros without one."""
        counts = [0] * len(COUNTS) if self.assembler is None else self.assembler.counts.tolist()
        return dict(zip(COUNTS, counts, strict=True))

    def dropped(self) -> dict[str, int]:
        """Single values that no row could be made of, but for those that were late, by reason."""
        values = self.values()
        return {reason: values[count] for reason, count in _DROPPED.items()}

    def incomplete(self) -> list[str]:
        """The streams that go on without one of their channels."""
        return [] if self.assembler is None else self.assembler.lacking(time.monotonic_ns())

    def standing(self, stream: str) -> Standing | None:
        """How the channels of a stream stood in its last row; None where its rows are not assembled."""
        return None if self.assembler is None else self.assembler.standing(stream)

    def joined(self, others: Mapping[str, int]) -> dict[str, int]:
        """How many were refused by reason, with those that ``others`` count."""
        said = dict(others)
        for reason, turned in [*self.refused.items()]:
            said[reason] = said.get(reason, 0) + turned.number
        return said

    def note(self, about: str, text: str) -> None:
        """Something to tell a user once."""
        self.notes.setdefault(about, in_letters(text))

    def compare(self, ts_ns: np.ndarray, came_ns: int) -> None:
        """Notes source times that are years from when they came."""
        if "time" not in self.notes and len(ts_ns) and abs(far := int(ts_ns[0]) - came_ns) > _FAR_NS:
            when = np.datetime64(int(ts_ns[0]), "ns").astype("datetime64[s]")
            self.note(
                "time",
                f"source times are of {when}Z, {abs(far) / _YEAR_NS:.0f} years from this machine's clock; if "
                "that is wrong, say their unit in input.time_unit, or where they stand in input.time",
            )

    def lose(self, messages: int) -> None:
        """Counts messages that there was no room for."""
        self.refuse([Refused("oversized", b"", "larger than a message may be")] * messages)

    def refuse(self, refused: Iterable[Refused]) -> None:
        """Counts messages, or rows of them, that were turned away."""
        now = time.time_ns()
        for reason, topic, what in refused:
            before = self.refused.get(reason)
            count, first = (0, now) if before is None else (before.number, before.first_ns)
            shown = in_letters(what if len(what) <= KEPT else f"{what[:KEPT]}...")
            # one entry takes the place of another, so a reader sees either whole
            self.refused[reason] = Turned(count + 1, first, now, topic[:KEPT], len(topic), shown)
