"""Recordings of events: begun with rows from before, gone on with, and packed when enough came behind."""

from collections.abc import Sequence

import numpy as np

from streamrnn.events.entries import Entered
from streamrnn.events.recording import ROW, pack
from streamrnn.events.watch import Watch
from streamrnn.settings.events_section import Events
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.slots import Slots

_AT_ONCE = 1024  # recordings that go on
_ANEW_NS = 30 * 10**9  # how often one that goes on is kept as it is


Named = Sequence[tuple[str, float]]  # with their offsets


class _Part:
    """What is recorded of one event so far."""

    def __init__(self, event: int, since: int, kept: int):
        self.event = event
        self.taken = 0  # samples of the slot that were looked at
        self.since = since  # CLOCK_MONOTONIC ns, of the first row
        self.until: int | None = None  # and of the last one, once the event has ended
        self.kept = kept  # when it was kept last
        self.samples: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.every = 1  # one sample of so many is left

    def is_over(self, now: int) -> bool:
        return self.until is not None and now > self.until


class Recordings:
    """The recordings that go on, of a few events at once."""

    def __init__(
        self,
        settings: Events,
        watch: Watch,
        channels: Sequence[tuple[str, float]],
        outputs: Sequence[tuple[str, float]],
    ):
        """``channels`` and ``outputs`` are names and offsets."""
        self._watch, self._channels, self._outputs = watch, channels, outputs
        self._before, self._after = (round(span * 1e9) for span in (settings.before, settings.after))
        each = ROW.itemsize + 4 * (len(channels) + len(outputs))
        self._most = settings.recording // each if watch.outputs else 0
        self._parts: dict[int, _Part] = {}  # by slot

    def to_keep(self, now: int, offset: int, everything: bool) -> list[tuple[int, int, bytes]]:
        """Takes in what is new, and gives event, rows and blob of what is to be kept now.

        ``offset``: CLOCK_REALTIME less CLOCK_MONOTONIC, ns.
        """
        watch, kept, found = self._watch, self._watch.kept, []
        for slot, part in self._parts.items():
            over = everything or part.is_over(now)
            again = now - part.kept >= _ANEW_NS
            if over or again or watch.seen["taken"][slot] - part.taken >= (kept + 1) // 2:
                self._collect(slot, part)
            if (over or again) and any(map(len, part.samples)):
                found.append((part.event, *self._packed(part, offset)))
        return found

    def go_on(self, entered: Sequence[Entered], slots: Slots, now: int, everything: bool) -> None:
        """What ``to_keep`` gave is kept; begins and ends recordings by what was entered."""
        for slot, kept in [*self._parts.items()]:
            if everything or kept.is_over(now):
                del self._parts[slot]
            elif now - kept.kept >= _ANEW_NS:
                kept.kept = now
        ids, parts = slots.ids.reshape(-1, ID_WORDS), self._parts
        for one in entered:
            part = parts.get(one.slot)
            if not one.begins and part is not None and part.event == one.event:
                part.until = one.received + self._after
            elif one.begins and part is not None and part.until is not None:
                part.until = min(part.until, one.received)
            elif one.begins and part is None and ids[one.slot].tobytes() == one.name and self._has_room():
                begin = one.received - self._before
                self._parts[one.slot] = _Part(one.event, begin, now - _ANEW_NS)

    def _has_room(self) -> bool:
        return self._most > 1 and len(self._parts) < _AT_ONCE

    def _collect(self, slot: int, part: _Part) -> None:
        watch, kept = self._watch, self._watch.kept
        taken = int(watch.seen["taken"][slot])
        if taken < part.taken:  # another stream has the slot
            return
        numbers = np.arange(max(part.taken, taken - kept), taken)
        part.taken = taken
        places = slot * kept + numbers % kept
        samples = watch.samples[places]
        width = watch.channels + watch.outputs
        values = watch.values.reshape(-1, width)[places]
        chosen = (samples["received"] >= part.since) & (numbers % part.every == 0)
        if part.until is not None:
            chosen &= samples["received"] <= part.until
        part.samples.append(samples[chosen])
        part.values.append(values[chosen])
        while sum(map(len, part.samples)) > self._most:
            _thin(part)

    def _packed(self, part: _Part, offset: int) -> tuple[int, bytes]:
        samples, values = np.concatenate(part.samples), np.concatenate(part.values)
        heads = np.zeros(len(samples), ROW)
        heads["wall_ns"], heads["time_ns"] = samples["received"] + offset, samples["ts_ns"]
        for name in ("seq", "score", "mark"):
            heads[name] = samples[name]
        channels = self._watch.channels
        return len(heads), pack(
            heads, values[:, :channels], values[:, channels:], self._channels, self._outputs
        )


def _thin(part: _Part) -> None:
    """Leaves of each two rows the one with the higher score."""
    samples, values = np.concatenate(part.samples), np.concatenate(part.values)
    even = len(samples) - len(samples) % 2
    score = np.nan_to_num(samples["score"][:even].reshape(-1, 2), nan=-1.0)
    chosen = np.arange(0, even, 2) + score.argmax(axis=1)
    chosen = np.append(chosen, np.arange(even, len(samples)))
    part.samples, part.values = [samples[chosen]], [values[chosen]]
    part.every *= 2
