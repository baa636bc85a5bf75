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
_PER_TURN = 32  # that are packed at once
_ANEW_NS = 30 * 10**9  # how often one that goes on is kept as it is


Named = Sequence[tuple[str, float]]  # with their offsets


class _Part:
    """What is recorded of one event so far."""

    def __init__(self, slot: int, since: int, kept: int):
        self.slot = slot
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
        self._parts: dict[int, _Part] = {}  # by event
        self._latest: dict[int, int] = {}  # the last event of each slot
        self._given: list[int] = []  # those that ``to_keep`` gave last

    def to_keep(self, now: int, offset: int, everything: bool) -> list[tuple[int, int, bytes]]:
        """Takes in what is new, and gives event, rows and blob of what is to be kept now.

        ``offset``: CLOCK_REALTIME less CLOCK_MONOTONIC, ns.
        """
        watch, kept, found = self._watch, self._watch.kept, []
        self._given.clear()
        for event, part in self._parts.items():
            due = everything or part.is_over(now) or now - part.kept >= _ANEW_NS
            due = due and (everything or len(self._given) < _PER_TURN)
            if due or watch.seen["taken"][part.slot] - part.taken >= (kept + 1) // 2:
                self._collect(part)
            if due:
                self._given.append(event)
                if any(map(len, part.samples)):
                    found.append((event, *self._packed(part, offset)))
        return found

    def go_on(self, entered: Sequence[Entered], slots: Slots, now: int, everything: bool) -> None:
        """What ``to_keep`` gave is kept; begins and ends recordings by what was entered."""
        for event in self._given:
            part = self._parts[event]
            part.kept = now
            if everything or part.is_over(now):
                del self._parts[event]
        self._given.clear()
        ids = slots.ids.reshape(-1, ID_WORDS)
        for one in entered:
            if not one.begins:
                if (ended := self._parts.get(one.event)) is not None:
                    ended.until = one.received + self._after
                continue
            before = self._parts.get(self._latest.get(one.slot, 0))
            if before is not None and before.until is not None:
                before.until = min(before.until, one.received)
            if ids[one.slot].tobytes() == one.name and self._has_room():
                self._latest[one.slot] = one.event
                self._parts[one.event] = _Part(one.slot, one.received - self._before, now - _ANEW_NS)

    def _has_room(self) -> bool:
        return self._most > 1 and len(self._parts) < _AT_ONCE

    def _collect(self, part: _Part) -> None:
        watch, kept, slot = self._watch, self._watch.kept, part.slot
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
