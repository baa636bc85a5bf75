"""What was turned away, for whoever can mend it: a publisher that is the cause sees nothing itself."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamrnn import stats as counted
from streamrnn.engine.engine import Engine
from streamrnn.model.parts import Channel
from streamrnn.wire.shortest import number

log = logging.getLogger("streamrnn")

_UNASKED = ("max_gap", "restart", "diverged", "degraded")  # resets that nobody wanted
_AGAIN_S = 60.0  # how often the log tells of a reason while it goes on
_TRIES = 1000  # of what was written to while it was read


def refusals(engine: Engine) -> list[dict[str, Any]]:
    """What was refused last for each reason, the latest first, JSON-ready."""
    stats, channels = engine.stats, engine.model.channels
    found = [
        _refusal(stats, index, channels) for index in range(len(counted.REASONS)) if stats.rejected[index]
    ]
    return sorted(filter(None, found), key=lambda refusal: -refusal["latest"])


def _last(stats: counted.Stats, index: int) -> tuple[int, np.void] | None:
    """How many were refused for a reason, and the last; None while they come faster than they can be read."""
    for _ in range(_TRIES):
        count = int(stats.rejected[index])
        last = stats.refused[2 * index + count % 2].copy()
        if stats.rejected[index] == count:
            return count, last
    return None


def _refusal(stats: counted.Stats, index: int, channels: Sequence[Channel]) -> dict[str, Any] | None:
    if (found := _last(stats, index)) is None:
        return None
    count, last = found
    reason = counted.REASONS[index]
    meaning, remedy = counted.WHY[reason]
    said: dict[str, Any] = {
        "reason": reason,
        "count": count,
        "first": round(int(last["first_ns"]) / 1e9, 6),
        "latest": round(int(last["latest_ns"]) / 1e9, 6),
        "topic": printable(last["topic"].tobytes()[: last["topic_bytes"]], int(last["topic_bytes"])),
        "size": None,
        "wanted": None,
        "channel": None,
        "value": None,
        "what": "",
        "meaning": meaning,
        "remedy": remedy,
    }
    if last["got"] != counted.NO_SIZE:
        said["size"], said["wanted"] = size, wanted = int(last["got"]), int(last["wanted"])
        if reason == "topic":
            said["what"] = f"a topic of {size:,} bytes, {wanted:,} at most"
        else:
            unit = ("part" if reason == "parts" else "byte") + ("" if size == 1 else "s")
            said["what"] = f"{size:,} {unit}" + (f", {wanted:,} wanted" if size != wanted else "")
    if last["channel"] != counted.NO_CHANNEL:
        channel, value = channels[last["channel"]], None
        if np.isfinite(last["value"]):
            value = number(last["value"], channel.offset)
        said["channel"], said["value"] = channel.name, value
        shown = reason if value is None else format(value, ".15g" if channel.offset else "g")
        said["what"] = f"{channel.name} is {shown}"
    return said


def printable(topic: bytes, length: int) -> str:
    """A topic of ``length`` bytes that begins with ``topic``, in letters that a terminal can bear."""
    text = topic.decode(errors="backslashreplace")
    safe = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return "".join(safe) + ("..." if length > len(topic) else "")


class Refusals:
    """Logs what went wrong since it was last told."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: dict[str, tuple[float, int]] = {}  # by reason: when it was told of, and their number then
        self._before: dict[str, dict[str, int]] = {}

    def tell(self) -> None:
        """Logs what was refused, and what to do: a reason that is new at once, others once in a while."""
        now = time.monotonic()
        for refusal in refusals(self._engine):
            reason, count = refusal["reason"], refusal["count"]
            then, before = self._told.get(reason, (-np.inf, 0))
            if count > before and now >= then + _AGAIN_S:
                self._told[reason] = now, count
                log.warning(
                    'rejected %s (%s), the last of "%s"%s. %s %s',
                    f"{count - before:,}",
                    reason,
                    refusal["topic"],
                    f": {refusal['what']}" if refusal["what"] else "",
                    refusal["meaning"],
                    refusal["remedy"],
                )

    def tell_counts(self, seconds: float) -> None:
        """Logs how many rows were late, and which streams began anew, in the last ``seconds``."""
        stats = self._engine.stats
        resets = dict(zip(counted.RESETS, stats.resets.tolist(), strict=True))
        for what, now in (
            ("rows dropped", {"late": int(stats.counters[counted.LATE])}),
            ("streams that began anew", {why: resets[why] for why in _UNASKED}),
        ):
            before = self._before.get(what, {})
            more = {why: count - before.get(why, 0) for why, count in now.items()}
            self._before[what] = now
            if words := ", ".join(f"{why} {count:,}" for why, count in more.items() if count):
                log.warning("%s in the last %.0f s, by reason: %s", what, seconds, words)
