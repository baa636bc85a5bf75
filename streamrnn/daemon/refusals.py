"""What was turned away, for whoever can mend it: a publisher that is the cause sees nothing itself."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamrnn import stats as counted
from streamrnn.adapters.tally import IntakeTally, Turned, in_letters
from streamrnn.engine.engine import Engine
from streamrnn.model.parts import Channel
from streamrnn.wire.shortest import number

log = logging.getLogger("streamrnn")

_UNASKED = ("max_gap", "restart", "diverged", "degraded")  # resets that nobody wanted
_OF_NO_USE = ("late", "wild", "time")  # single values that no row has
_AGAIN_S = 60.0  # how often the log tells of a reason while it goes on
_NAMED = 5  # streams that a line names
_TRIES = 1000  # of what was written to while it was read


def refusals(engine: Engine, tally: IntakeTally) -> list[dict[str, Any]]:
    """What was refused last for each reason, by the pump and by an adapter, the latest first, JSON-ready."""
    stats, channels = engine.stats, engine.model.channels
    found = [
        _refusal(stats, index, channels) for index in range(len(counted.REASONS)) if stats.rejected[index]
    ]
    found += [_of_adapter(reason, turned) for reason, turned in [*tally.refused.items()]]
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


def _of_adapter(reason: str, turned: Turned) -> dict[str, Any]:
    meaning, remedy = counted.WHY[reason]
    return {
        "reason": reason,
        "count": turned.number,
        "first": round(turned.first_ns / 1e9, 6),
        "latest": round(turned.latest_ns / 1e9, 6),
        "topic": printable(turned.topic, turned.topic_bytes),
        "size": None,
        "wanted": None,
        "channel": None,
        "value": None,
        "what": turned.what,
        "meaning": meaning,
        "remedy": remedy,
    }


def printable(topic: bytes, length: int) -> str:
    """A topic of ``length`` bytes that begins with ``topic``, in letters that a terminal can bear."""
    return in_letters(topic.decode(errors="backslashreplace")) + ("..." if length > len(topic) else "")


class Refusals:
    """Logs what went wrong since it was last told."""

    def __init__(self, engine: Engine, tally: IntakeTally) -> None:
        self._engine, self._tally = engine, tally
        self._told: dict[str, tuple[float, int]] = {}  # by reason: when it was told of, and their number then
        self._before: dict[str, dict[str, int]] = {}
        self._noted, self._silent = set[str](), set[str]()

    def tell(self) -> None:
        """Logs what was refused, and what to do: a reason that is new at once, others once in a while."""
        now = time.monotonic()
        for refusal in refusals(self._engine, self._tally):
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

    def tell_notes(self) -> None:
        """Logs once what a user should know of what comes, and which streams go on without a channel."""
        for about, text in [*self._tally.notes.items()]:
            if about not in self._noted:
                self._noted.add(about)
                log.warning("%s", text)
        lacking = {*self._tally.incomplete()}
        if new := sorted(lacking - self._silent):
            some = ", ".join(f'"{name}"' for name in new[:_NAMED]) + (", ..." if len(new) > _NAMED else "")
            log.warning("a sensor has been silent for longer than assemble.hold: %s go on without it", some)
        self._silent = lacking

    def tell_counts(self, seconds: float) -> None:
        """Logs rows and values that were of no use, and streams that began anew, in the last ``seconds``."""
        stats, values = self._engine.stats, self._tally.values()
        resets = dict(zip(counted.RESETS, stats.resets.tolist(), strict=True))
        for what, now in (
            ("rows dropped", {"late": int(stats.counters[counted.LATE])}),
            ("values dropped", {why: values[why] for why in _OF_NO_USE}),
            ("streams that began anew", {why: resets[why] for why in _UNASKED}),
        ):
            before = self._before.get(what, {})
            more = {why: count - before.get(why, 0) for why, count in now.items()}
            self._before[what] = now
            if words := ", ".join(f"{why} {count:,}" for why, count in more.items() if count):
                log.warning("%s in the last %.0f s, by reason: %s", what, seconds, words)
