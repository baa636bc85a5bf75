"""The thread that keeps the journal: what the pump put into the ring, and what it sees of the streams itself.

What is taken from the ring goes into the file together with the place in the ring it was taken from, so that
nothing comes twice, whenever the process ends. Where the file cannot be written, the ring holds what happens.
"""

import logging
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.errors import UserError
from streamrnn.events.entries import Entered, Entries, signed
from streamrnn.events.journal import Journal, note_lost, transaction
from streamrnn.events.recordings import Recordings
from streamrnn.events.ring import RingFile
from streamrnn.events.upkeep import OpenEvents, forget_old, hold_journal
from streamrnn.events.watch import LACKS, SILENT, Watch, look, make_watch, preset, sample_bytes, sealed_of
from streamrnn.events.webhook import KEPT, Webhook
from streamrnn.settings.events_section import Events
from streamrnn.streams.happenings import HEAD, LOST, SEALED, TAKEN
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.slots import Slots, id_text
from streamrnn.system.threads import give_way

log = logging.getLogger("streamrnn")

_TURN_S = 0.25
_SHARE = 20  # of its time, at most one part is spent on turns
_COMPARE_S = 5.0
_RETRY_S = 2.0
_AT_ONCE = 4096  # entries of one transaction
_MOST_SAMPLES = 1200  # of a stream
_MOST_SIGHTINGS = 1 << 16  # that wait to be written


class Writer:
    """Keeps one daemon's journal, in a thread that no frame waits for."""

    def __init__(
        self,
        settings: Events,
        ring: RingFile,
        channels: Sequence[tuple[str, float]],
        outputs: Sequence[tuple[str, float]],
    ):
        """Opens the journal, or makes one; ``channels`` and ``outputs`` are names and offsets.

        Raises UserError where it cannot be had, or another daemon has it, ConfigError for another file.
        """
        self._settings, self._file, self._ring = settings, ring, ring.ring
        self._path = Path(settings.path)
        self.webhook = Webhook(settings) if settings.webhook else None
        self._channels, self._outputs = channels, outputs
        self._held = hold_journal(self._path)
        self._journal: Journal | None = Journal(self._path, write=True)
        self._end, self._wake = False, threading.Event()
        self._thread: threading.Thread | None = None
        self._sightings: list[np.ndarray] = []
        self._next: tuple[Any, ...] = ()
        self._failing = False
        self._position, self._lost_position = f"ring:{ring.identity:x}", f"lost:{ring.identity:x}"
        self._told_lost = 0
        self._next_compare = self._next_sample = 0.0
        self.counts = dict.fromkeys(("event", "reset", "gap", "silence"), 0)
        self.failures = self.unseen = 0

    def _watch_over(self, slots: Slots, forecasts: bool) -> None:
        """Makes what it remembers of the streams; ``forecasts``: its outputs are those of the channels."""
        outputs = len(self._outputs) if forecasts else 0
        each = sample_bytes(len(self._channels), outputs)
        kept = self._settings.memory // (slots.capacity * each) if outputs and self._settings.recording else 1
        kept = max(min(kept, _MOST_SAMPLES), 1)
        self._sample_s = max(self._settings.before / kept, _TURN_S) if outputs else np.inf
        self._slots = slots
        self._watch: Watch = make_watch(slots.capacity, kept, len(self._channels), outputs)
        self._recordings = Recordings(self._settings, self._watch, self._channels, self._outputs)
        self._open_events = OpenEvents(slots, self._watch, [name for name, _ in self._outputs])

    def start(self, slots: Slots, forecasts: bool) -> None:
        """Begins, when the streams are in their slots and before anything steps them.

        First the file gets what the last process left in the ring, which must not fill however short they
        live.
        """
        self._watch_over(slots, forecasts)
        if left_out := self._file.recover(self._slots):
            log.info("%d entries of events are of rows that were not committed", left_out)
        self._since, self._retry = time.monotonic_ns(), 0.0
        try:
            self._load()
        except sqlite3.Error as error:
            self._say_failed(error)
        self._try_turn(ending=False)
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()
        if self.webhook is not None:
            self.webhook.start()

    def adopt(self, *streams: Any) -> None:
        """Goes on with the streams of a model that took over, from the thread's next turn on: slots and
        ``forecasts`` as of ``start``, ``channels`` and ``outputs`` as of a new one.

        What was told of one model alone is mended as after a restart.
        """
        self._next = streams
        self._wake.set()

    def _take_over(self) -> None:
        (slots, forecasts, self._channels, self._outputs), self._next = self._next, ()
        with suppress(sqlite3.Error, UserError, OSError):  # the turn that follows tells of it
            self._write(ending=True)
        self._watch_over(slots, forecasts)
        with suppress(sqlite3.Error):
            self._load()

    def stop(self) -> None:
        """Writes what is left, when nothing steps the streams any more."""
        if self.webhook is not None:
            self.webhook.stop()
        self._end = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            for ending in (False, True):  # here, as a thread that gives way waits long for a core
                self._try_turn(ending)
        if self._journal is not None:
            self._journal.close()
        os.close(self._held)

    def waiting(self) -> int:
        """Entries that are not in the file yet."""
        return int(self._ring.counts[HEAD]) - int(self._ring.marks[TAKEN])

    def file_bytes(self) -> int:
        """Of the file on the disk, with what is yet to go into it."""
        total = 0
        for name in (self._path.name, f"{self._path.name}-wal"):
            with suppress(OSError):
                total += self._path.with_name(name).stat().st_size
        return total

    def lost(self) -> int:
        """Entries that found no room since the ring was made, or that were seen while too many waited."""
        return int(self._ring.counts[LOST]) + self.unseen

    def told(self) -> tuple[int, int]:
        """What the webhook took, and tries that it did not."""
        return (0, 0) if self.webhook is None else (self.webhook.told, self.webhook.failures)

    def _load(self) -> None:
        """Goes on from where the journal is: what of the ring it has, and what it knows of the streams."""
        assert self._journal is not None
        run, ring, slots = self._journal.connection.execute, self._ring, self._slots
        known = dict(run("SELECT name, value FROM positions"))
        if (position := known.get(self._position)) is not None:
            ring.marks[TAKEN] = max(int(ring.marks[TAKEN]), min(int(position), int(ring.marks[SEALED])))
        self._told_lost = int(known.get(self._lost_position, 0))
        missing = dict(run("SELECT stream, rows FROM missing"))
        open_silences = run("SELECT stream FROM events WHERE kind = 'silence' AND end_wall_ns IS NULL")
        silent = {stream for (stream,) in open_silences}
        used = np.flatnonzero(slots.committed)
        preset(slots, self._watch, used)
        if missing or silent:
            ids, seen = slots.ids.reshape(-1, ID_WORDS), self._watch.seen
            for slot in used:
                stream = id_text(ids[slot])
                seen["silent"][slot] = stream in silent
                seen["missed"][slot] = min(missing.get(stream, 1 << 32), seen["missed"][slot])

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        give_way()
        while not self._end:
            began = time.thread_time()  # what it takes of a core, not what it waits for one
            self._try_turn(ending=False)
            spent = time.thread_time() - began
            self._wake.wait(max(_TURN_S, _SHARE * min(spent, 0.5)))
            self._wake.clear()

    def _try_turn(self, ending: bool) -> None:
        try:
            self._turn(ending)
        except Exception:  # whatever it is, serving goes on
            log.exception("the journal of events failed at something; serving goes on")
            self.failures += 1

    def _turn(self, ending: bool) -> None:
        if self._next:
            self._take_over()
        self._look()
        while ending or time.monotonic() >= self._retry:
            more = int(self._ring.marks[SEALED]) - int(self._ring.marks[TAKEN]) > _AT_ONCE
            try:
                self._write(ending and not more)
            except (sqlite3.Error, UserError, OSError) as error:
                self._say_failed(error)
                return
            if self._failing:
                log.info("the journal of events is written again")
                self._failing = False
            if not more:
                return

    def _look(self) -> None:
        """Looks at the streams; what is found waits until it is written."""
        now = time.monotonic_ns()
        sampling = now / 1e9 >= self._next_sample and self._watch.outputs > 0
        if sampling:
            self._next_sample = now / 1e9 + self._sample_s
        silence = round(self._settings.silence * 1e9)
        found = look(self._slots, self._watch, now, self._since, silence, int(sampling))
        if found:
            if sum(map(len, self._sightings)) < _MOST_SIGHTINGS:
                self._sightings.append(self._watch.found[:found].copy())
            else:
                self.unseen += found

    def _write(self, ending: bool) -> None:
        """One transaction: what is in the ring, what was seen, what is due. Raises sqlite3.Error."""
        journal, ring = self._open(), self._ring
        taken, sealed = int(ring.marks[TAKEN]), int(sealed_of(ring.marks))
        until = min(sealed, taken + _AT_ONCE)
        entries = ring.entries[np.arange(taken, until) % ring.entries.size]
        now = time.monotonic_ns()
        offset = time.time_ns() - now
        due = now / 1e9 >= self._next_compare or ending
        recorded = self._recordings.to_keep(now, offset, ending)
        entered: list[Entered] = []
        if until > taken or self._sightings or due or recorded:
            run, names = journal.connection.execute, [name for name, _ in self._outputs]
            book = Entries(journal.connection, names, self.webhook is not None)
            with transaction(run):
                entered = book.enter(entries, offset)
                for sightings in self._sightings:
                    self._enter_sightings(book, sightings, offset)
                for event, rows, blob in recorded:
                    run(
                        "INSERT OR REPLACE INTO recordings SELECT ?, ?, ?"
                        " WHERE EXISTS (SELECT 1 FROM events WHERE id = ?)",
                        [event, rows, blob, event],
                    )
                if due and until == sealed:
                    self._open_events.compare(journal.connection, now + offset, offset)
                lost = self._note_lost(run, now + offset)
                run("INSERT OR REPLACE INTO positions VALUES (?, ?)", [self._position, until])
            ring.marks[TAKEN] = until
            self._told_lost = lost
            self._sightings.clear()
            for kind, count in book.counts.items():
                self.counts[kind] += count
        self._recordings.go_on(entered, self._slots, now, ending)
        if due:
            self._next_compare = now / 1e9 + _COMPARE_S
            self._bound(journal, now + offset)

    def _enter_sightings(self, book: Entries, sightings: np.ndarray, offset: int) -> None:
        ids = self._slots.ids.reshape(-1, ID_WORDS)
        for sighting in sightings:
            slot = int(sighting["slot"])
            if self._slots.notes["id_check"][slot] != sighting["stream"]:  # let go, and another has its place
                continue
            stream, kind = id_text(ids[slot]), int(sighting["kind"])
            when = (
                *(int(sighting["ts_ns"]) or None, int(sighting["received"]) + offset),
                signed(int(sighting["seq"])),
            )
            if kind == LACKS:
                book.lack(stream, int(sighting["rows"]), int(sighting["missed"]), when)
            elif kind == SILENT:
                book.fall_silent(stream, when)
            else:
                book.speak(stream, when)

    def _note_lost(self, run: Callable[..., Any], wall_ns: int) -> int:
        """Says in the journal how many entries found no room since that was last said."""
        lost = int(self._ring.counts[LOST]) + self.unseen
        if new := lost - self._told_lost:
            note_lost(run, wall_ns, "no room in the ring", new)
            run("INSERT OR REPLACE INTO positions VALUES (?, ?)", [self._lost_position, lost - self.unseen])
        return lost

    def _bound(self, journal: Journal, wall_ns: int) -> None:
        """Lets what is too old, or too much, go, and gives its room on the disk back."""
        run, few = journal.connection.execute, 16
        keep_ns = round(self._settings.keep * 1e9)
        while True:
            with transaction(run):
                gone = forget_old(run, keep_ns, self._settings.size, wall_ns, few)
            if gone < few:
                break
            few = min(2 * few, _AT_ONCE)
        if self.webhook is not None:
            with transaction(run):
                late = run("DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - ?", [KEPT]).rowcount
                if late:
                    note_lost(run, wall_ns, "too many for the webhook", late)
        # by ``execute`` CPython 3.11 steps it once, which frees a page
        journal.connection.executescript("PRAGMA incremental_vacuum")

    def _open(self) -> Journal:
        """The journal, opened anew where it broke or was removed."""
        if self._journal is not None and not self._journal.is_there():
            log.error("%s: was removed while the daemon runs; it is made again", self._path)
            self._close()
        if self._journal is None:
            self._journal = Journal(self._path, write=True)
        return self._journal

    def _close(self) -> None:
        if self._journal is not None:
            with suppress(sqlite3.Error):
                self._journal.close()
            self._journal = None

    def _say_failed(self, error: Exception) -> None:
        self.failures += 1
        if not self._failing:
            log.error(
                "%s: the journal of events cannot be written: %s; serving goes on, what happens waits, with "
                "room for %d entries more, next try in %g s",
                self._path,
                error,
                self._ring.entries.size - self.waiting(),
                _RETRY_S,
            )
        self._failing, self._retry = True, time.monotonic() + _RETRY_S
        if getattr(error, "sqlite_errorcode", None) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            self._close()
