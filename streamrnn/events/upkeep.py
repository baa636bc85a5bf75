"""What keeps a journal within its bounds, and in step with the streams."""

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from sqlite3 import Connection

import numpy as np

from streamrnn.errors import UserError
from streamrnn.events.entries import channels_text
from streamrnn.events.watch import Watch
from streamrnn.streams.record import EPOCH, ID_WORDS
from streamrnn.streams.score_part import CAUSES, CAUSES_KEPT, EVENT, EVENT_ROWS, PEAK
from streamrnn.streams.slots import Slots, id_text

_AT_ONCE = 2000  # entries that one transaction brings up to date


def forget_old(run: Callable, keep_ns: int, size: int, now_ns: int, few: int) -> int:
    """Deletes up to ``few`` entries that are too old or, past ``size`` bytes, the oldest. Returns how many.

    What somebody judged or noted goes last, and for want of room alone; what goes on stays.
    """
    plain = "verdict = '' AND note = ''"
    delete = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE {} ORDER BY begin_wall_ns LIMIT ?)"
    past = f"begin_wall_ns < ? AND end_wall_ns < ? AND {plain}"
    gone = run(delete.format(past), [now_ns - keep_ns, now_ns - keep_ns, few]).rowcount
    for which in (plain, f"NOT ({plain})"):
        if gone < few and _bytes(run) > size:
            gone += run(delete.format(f"end_wall_ns IS NOT NULL AND {which}"), [few - gone]).rowcount
    return int(gone)


def _bytes(run: Callable) -> int:
    """What of the file is in use."""
    pages, free, size = (
        run(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


class OpenEvents:
    """Compares the events that go on in the journal with those in the records.

    A stream that was put back from a snapshot, or a model that took over, may leave one without the other,
    and so does what found no room in the ring.
    """

    def __init__(self, slots: Slots, watch: Watch, outputs: Sequence[str]):
        self._slots, self._watch, self._outputs = slots, watch, outputs
        self._only_told: set[int] = set()
        self._only_here: set[str] = set()

    def compare(self, connection: Connection, wall_ns: int, offset: int) -> None:
        """Brings entries up to date, and mends what was at odds the last time, too.

        Called when all that is in the ring was entered.
        """
        run, ids = connection.execute, self._slots.ids.reshape(-1, ID_WORDS)
        told: dict[str, tuple[int, int]] = {
            stream: (event, rows or 0)
            for event, stream, rows in run(
                "SELECT id, stream, rows FROM events WHERE kind = 'event' AND end_wall_ns IS NULL"
            )
        }
        here = {id_text(ids[slot]): int(slot) for slot in np.flatnonzero(self._watch.seen["event"])}
        only_told = {told[stream][0] for stream in told.keys() - here.keys()}
        only_here = here.keys() - told.keys()
        for event in only_told & self._only_told:
            run(
                "UPDATE events SET end_wall_ns = max(begin_wall_ns, ?), detail = 'cut off' WHERE id = ?",
                [wall_ns, event],
            )
        for stream in only_here & self._only_here:
            if (found := self._read(here[stream], offset)) is not None:
                run(
                    "INSERT INTO events (kind, stream, begin_wall_ns, epoch, rows, peak, channels, detail)"
                    " VALUES ('event', ?, ?, ?, ?, ?, ?, 'went on')",
                    [stream, wall_ns, *found],
                )
        self._only_told, self._only_here = only_told, {*only_here}
        for stream in [*(told.keys() & here.keys())][:_AT_ONCE]:
            event, rows = told[stream]
            if (found := self._read(here[stream], offset)) is not None and found[1] > rows:
                run(
                    "UPDATE events SET rows = ?, peak = ?, channels = ? WHERE id = ?",
                    [*found[1:], event],
                )

    def _read(self, slot: int, offset: int) -> tuple[int, int, float, str] | None:
        """Epoch, rows, peak and channels of the event that goes on in a slot; None where it does not."""
        slots = self._slots
        at, part = slot * slots.words, slot * slots.words + slots.score_at
        before = slots.committed[slot]
        epoch, rows, peak = (
            int(slots.state_32[at + EPOCH]),
            slots.state[part + EVENT_ROWS],
            slots.state[part + PEAK],
        )
        channels = channels_text(slots.state[part + CAUSES : part + CAUSES + CAUSES_KEPT], self._outputs)
        if slots.committed[slot] != before or slots.state[part + EVENT] == 0:
            return None
        return epoch, int(rows), float(peak), channels


def hold_journal(path: Path) -> int:
    """Keeps other daemons off a journal for as long as this process lives. Returns the lock's descriptor."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UserError(
            f"{lock}: cannot be made ({error.strerror}); set events.path to a file in a folder that is there "
            "and that this user can write"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise UserError(
            f"{path}: another daemon keeps its journal there; end it, or name another file"
        ) from None
    return held
