"""Where the streams are kept while the daemon runs, and what they are when it starts.

The live state is the slots themselves; snapshots of them go to disk from a thread of their own. At a start
the live state is taken over, and where there is none of this boot, the newest snapshot that is whole.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from streamrnn import stats as counted
from streamrnn.engine.engine import Engine
from streamrnn.errors import ConfigError
from streamrnn.kernels.network import Network
from streamrnn.settings.retention import parse_keep
from streamrnn.settings.sections import State
from streamrnn.streams.exchange import compile_transfer
from streamrnn.streams.live import LiveFile, hold_lock, is_held, mismatch
from streamrnn.streams.record import ID_WORDS, layout_of
from streamrnn.streams.recovery import DAMAGED, NO_ROOM, drop, recover, restore
from streamrnn.streams.relaid import relaid
from streamrnn.streams.rules import unlearn
from streamrnn.streams.running_copy import copied, make_copy, refresh
from streamrnn.streams.slots import id_text
from streamrnn.streams.snapshot import (
    Snapshot,
    SnapshotError,
    newest_number,
    number_of,
    read_snapshot,
    snapshots_in,
    write_snapshot,
)
from streamrnn.streams.thinning import Retention
from streamrnn.system.threads import give_way

log = logging.getLogger("streamrnn")

_WAIT_S = 1.0  # between two words to who waits for a copy
_NAMED = 20  # ids that one line of the log holds


class Keeper:
    """Keeps one engine's streams: ``home`` when it is made, then ``compile``, ``recover`` and ``start``."""

    def __init__(self, settings: State, reset: str = ""):
        """``reset``: what gives a state of another model up, in words; "" = it is refused.

        Takes the lock of the snapshots' folder; raises as ``hold_lock``.
        """
        self._settings, self._reset = settings, reset
        self._live: LiveFile | None = None
        self._folder = Path(settings.snapshots) if settings.snapshots else None
        self._held = hold_lock(self._folder) if self._folder else None
        self.lock = threading.Lock()  # of the copy; no snapshot is taken while it is held
        self._as_of_ns = time.time_ns()  # the moment whose state is on disk; before the first, of the start
        self._end, self._wake = False, threading.Event()
        self._thread: threading.Thread | None = None
        self._unsaved = self._failing = self._live_gone = False  # unsaved: the copy has what no snapshot has
        self.failures = 0

    def home(self, network: Network, work: int, fingerprint: str, capacity: int) -> np.ndarray | None:
        """The memory for the slots of an engine, or None for its own. Takes and raises as ``LiveFile``."""
        if not self._settings.live:
            return None
        self._live = LiveFile(Path(self._settings.live), network, fingerprint, capacity, self._reset, work)
        return self._live.block

    def compile(self, engine: Engine) -> None:
        """Compiles what ``recover``, the snapshots and the control socket run, or loads it from the cache."""
        slots = engine.core.slots
        self._engine = engine
        self._layout = layout_of(engine.core.net)._asdict()
        self._fingerprint = self._saved_as = engine.model.fingerprint
        self._copy = make_copy(slots, np.arange(slots.capacity))
        net, marks, words = engine.core.net, np.zeros(0, np.uint8), np.zeros(0, np.uint64)
        unlearn.prepare(slots)
        if self._live is None and self._folder is None:  # nothing is kept, and nobody can ask for it
            return
        recover.prepare(net, slots, 0, marks)
        drop.prepare(slots, marks)
        restore.prepare(net, slots, words, words, 0, marks)
        refresh.prepare(slots, self._copy)
        compile_transfer(net, slots)

    def recover(self) -> None:
        """Gives the streams that were kept their slots back, and says which could not be.

        A snapshot counts before a live state that it was not taken of: somebody imported streams into the
        folder, or a daemon ran without this live state. Raises ConfigError for a state of another model or
        format, for more streams than there are slots, and where there are snapshots and none can be used.
        """
        live = self._live
        kept = live is not None and (live.taken_over or live.remains is not None)
        if live is not None and not kept and live.why_not:
            log.warning("the live state cannot be used: %s", live.why_not)
        after = live.snapshot if live is not None and kept else 0
        found = self._newest_snapshot(after, needed=not kept)
        if found is not None:
            if live is not None and kept:
                log.warning("%s is newer than the live state, which is given up for it", found[0])
                live.block[:] = 0
            self.put_back(str(found[0]), found[1])
            self._as_of_ns = found[1].written_ns
            log.info("restored %d streams from %s", self._engine.core.slots.counts[1], found[0])
        elif live is not None and live.taken_over:
            self._take_over()
        elif live is not None and live.remains is not None:
            self._put_back("live state", live.remains.ids, live.remains.records, 0)
            log.info("the live state was %s; its streams moved", live.why_not)
        if live is not None:
            live.snapshot = newest_number(self._folder) if self._folder else 0
            live.publish()
            live.remains = None
        self._count_streams()

    def _count_streams(self) -> None:
        self._engine.stats.counters[counted.STREAMS] = self._engine.core.slots.counts[1]

    def _take_over(self) -> None:
        core, bad = self._engine.core, np.zeros(self._engine.capacity, np.uint8)
        recover(core.net, core.slots, time.monotonic_ns(), bad)
        ids = core.slots.ids.reshape(-1, ID_WORDS)
        _name_lost("live state", [id_text(ids[slot]) for slot in np.flatnonzero(bad)])
        drop(core.slots, bad)
        log.info("took over %d streams from the live state", core.slots.counts[1])

    def _newest_snapshot(self, after: int, needed: bool) -> tuple[Path, Snapshot] | None:
        """The newest whole snapshot of a number above ``after``. ``needed``: there is no other state."""
        paths = snapshots_in(self._folder) if self._folder else []
        if paths:
            self._as_of_ns = paths[0].stat().st_mtime_ns
        paths = [path for path in paths if number_of(path) > after]
        for path in paths:
            try:
                snapshot = relaid(read_snapshot(path), self._engine.core.net)
            except SnapshotError as error:
                log.error("a snapshot cannot be used: %s", error)
                continue
            if (snapshot.fingerprint, snapshot.layout) == (self._fingerprint, self._layout):
                return path, snapshot
            if not self._reset:
                raise mismatch(path, snapshot.fingerprint, self._fingerprint)
            log.warning("%s: of the model %s, which %s gives up", path, snapshot.fingerprint, self._reset)
            return None
        if paths and needed and not self._reset:
            raise ConfigError(
                f"{self._folder}: none of its snapshots can be used; put a whole one there, name another "
                "folder, or start once with --on-mismatch=reset to begin anew"
            )
        return None

    def put_back(self, name: str, snapshot: Snapshot) -> tuple[int, list[str]]:
        """Gives the streams of a snapshot slots; nothing may step them meanwhile.

        Returns how many it put back, and the ids of those that were damaged. Raises ConfigError where
        there are too few slots, with as many put back as there were.
        """
        if (snapshot.fingerprint, snapshot.layout) != (self._fingerprint, self._layout):
            raise mismatch(Path(name), snapshot.fingerprint, self._fingerprint)
        ids = np.ascontiguousarray(snapshot.ids).reshape(-1).view(np.uint64)
        records = np.ascontiguousarray(snapshot.records).reshape(-1).view(np.uint64)
        return self._put_back(name, ids, records, time.monotonic_ns())

    def _put_back(self, name: str, ids: np.ndarray, records: np.ndarray, now: int) -> tuple[int, list[str]]:
        core, fate = self._engine.core, np.zeros(len(ids) // ID_WORDS, np.uint8)
        restore(core.net, core.slots, ids, records, now, fate)
        rows = ids.reshape(-1, ID_WORDS)
        lost = [id_text(rows[which]) for which in np.flatnonzero(fate == DAMAGED)]
        _name_lost(name, lost)
        self._count_streams()
        if over := int(np.count_nonzero(fate == NO_ROOM)):
            raise ConfigError(
                f"{name}: has more streams than streams.capacity = {self._engine.capacity:,} holds; "
                f"set it to {self._engine.capacity + over:,} or more"
            )
        return len(fate) - len(lost), lost

    def start(self) -> None:
        """Begins to take snapshots, where they are configured."""
        if self._folder is not None:
            self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        give_way()
        while not self._end:
            self.save()
            self._wake.wait(self._settings.interval)
            self._wake.clear()

    def save_soon(self) -> None:
        """Has a snapshot taken now, by the thread whose work that is."""
        self._wake.set()

    def stop(self) -> bool:
        """Ends the snapshots with a last one; called when nothing steps the streams any more.

        Returns whether all that is remembered is where it should be.
        """
        self._halt()
        return self._thread is None or self.save()

    def _halt(self) -> None:
        self._end = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def discard(self) -> None:
        """Undoes what a start that failed has made."""
        if self._live is not None:
            self._live.discard()

    def save(self) -> bool:
        """Takes a snapshot if anything changed since the last. A failure is counted and logged, no more."""
        if self._folder is None:
            return True
        with self.lock:
            now, fingerprint = time.time_ns(), self._fingerprint
            try:
                self._hold_again()
                self._refresh()
                if self._unsaved or fingerprint != self._saved_as:
                    if self._live is not None:
                        # first: or a kill in between makes the snapshot look newer than the live state
                        self._live.note(1 + newest_number(self._folder))
                    retention = Retention(*parse_keep(self._settings.keep))
                    # of after the copy: no row in it is newer than it says
                    write_snapshot(self._folder, self._snapshot(time.time_ns()), retention)
            except Exception as error:  # whatever it is, serving goes on
                self._say_failed(error)
                return False
            if self._failing:
                log.info("snapshots are written again")
            self._unsaved = self._failing = False
            self._saved_as = fingerprint
            self._as_of_ns = now
            return True

    def _hold_again(self) -> None:
        """Takes the lock anew where the folder was removed meanwhile. Raises UserError where it cannot."""
        assert self._folder is not None and self._held is not None
        if not is_held(self._held, self._folder):
            log.error("%s: was removed while the daemon runs; it is made again", self._folder)
            self._held = hold_lock(self._folder)

    def look(self) -> None:
        """Says so, once, when the live state was removed: then only snapshots are left of a crash."""
        if self._live is not None and not self._live_gone and not self._live.is_there():
            self._live_gone = True
            log.error(
                "%s: the live state was removed; a crash now costs what no snapshot has: restart the daemon",
                self._settings.live,
            )

    def _say_failed(self, error: Exception) -> None:
        self.failures += 1
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if self._end:
            log.error("no last snapshot written to %s: %s; the one before it stays", self._folder, why)
        elif not self._failing:
            log.error(
                "no snapshot written to %s: %s; serving goes on, the last one stays, next try in %g s",
                self._folder,
                why,
                self._settings.interval,
            )
        self._failing = True

    def _refresh(self) -> None:
        changed, failed = refresh(self._engine.core.slots, self._copy)
        self._unsaved = self._unsaved or changed > 0
        if failed:
            log.warning("%d streams were too busy to be copied; they are not in this snapshot", failed)

    def _snapshot(self, now_ns: int) -> Snapshot:
        ids, records = copied(self._engine.core.slots, self._copy)
        return Snapshot(self._fingerprint, self._layout, now_ns, ids, records)

    @contextmanager
    def now(self, waiting: Callable[[], object]) -> Iterator[Snapshot]:
        """Every stream as it was committed just now. The arrays are the copy's: only for the block.

        ``waiting`` is called now and then while a snapshot that is being written is waited for.
        """
        while not self.lock.acquire(timeout=_WAIT_S):
            waiting()
        try:
            self._refresh()
            yield self._snapshot(time.time_ns())
        finally:
            self.lock.release()

    def some(self, which: np.ndarray) -> Snapshot:
        """The streams of some slots, (n,) int64, in their order, as they were committed just now."""
        slots = self._engine.core.slots
        copy = make_copy(slots, which)
        refresh(slots, copy)
        return Snapshot(self._fingerprint, self._layout, time.time_ns(), *copied(slots, copy))

    def age_s(self) -> float:
        """How old the state on disk is: what a power loss would cost. NaN without snapshots."""
        return max(time.time_ns() - self._as_of_ns, 0) / 1e9 if self._folder is not None else float("nan")

    def announce(self, fingerprint: str) -> None:
        """Says that another model is about to take the streams over."""
        if self._live is not None:
            self._live.announce(self._fingerprint, fingerprint)

    def swap(self, other: "Keeper") -> None:
        """Trades places with another engine's keeper, both locks held. Raises as ``LiveFile.trade``."""
        if self._live is not None and other._live is not None:
            if self._folder is not None:
                other._live.note(newest_number(self._folder))  # or these look as if they came after it
            self._live.trade(other._live)
            if other._folder is not None:
                self._live.note(newest_number(other._folder))
        for name in ("_live", "_copy", "_layout", "_fingerprint", "_live_gone"):
            self.__dict__[name], other.__dict__[name] = other.__dict__[name], self.__dict__[name]
        self._saved_as = other._saved_as = ""  # what is on disk is the other's

    def end(self) -> None:
        """Takes no more snapshots, and removes what was kept."""
        self._halt()
        if self._live is not None:
            self._live.remove()
        for path in snapshots_in(self._folder) if self._folder else []:
            path.unlink(missing_ok=True)
        if self._held is not None:
            os.close(self._held)

    def adopt(self, fingerprint: str, settings: State) -> None:
        """Says that it did; called while nothing steps the streams, so it waits for no snapshot under way."""
        self._fingerprint, self._settings = fingerprint, settings
        if self._live is not None:
            self._live.adopt(fingerprint)


def _name_lost(source: str, names: list[str]) -> None:
    """Logs the streams that were damaged, by id."""
    for first in range(0, len(names), _NAMED):
        some = ", ".join(map(repr, names[first : first + _NAMED]))
        log.error("%s: damaged, so these streams begin anew: %s", source, some)
