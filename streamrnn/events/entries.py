"""What the pump says of events, as entries of the journal."""

import json
from collections.abc import Sequence
from sqlite3 import Connection
from typing import NamedTuple

import numpy as np

from streamrnn.events.ring import NOTHING
from streamrnn.stats import RESETS
from streamrnn.streams.happenings import BEGINS, ENDS
from streamrnn.streams.score_part import causes_of
from streamrnn.streams.slots import id_text

TOGETHER_NS = 60 * 10**9  # resets, and gaps, of a stream that follow each other within this are one entry
_IDLE = RESETS.index("idle")
_OPEN = "kind = 'event' AND stream = ? AND end_wall_ns IS NULL"


class Entered(NamedTuple):
    """An event that began or ended, once it is in the journal."""

    event: int
    begins: bool
    slot: int
    name: bytes  # the words of the stream's id
    received: int  # CLOCK_MONOTONIC ns of the row


def signed(seq: int) -> int:
    """A number of a row as SQLite's integers hold it."""
    return seq - (1 << 64) if seq >= 1 << 63 else seq


def channels_text(causes: np.ndarray, outputs: Sequence[str]) -> str:
    """The outputs behind a score and their shares, as the journal has them."""
    named = [[outputs[output], share] for output, share in causes_of(causes) if output < len(outputs)]
    return json.dumps(named, ensure_ascii=False)


class Entries:
    """Enters what is in the ring, within a transaction of its caller."""

    def __init__(self, connection: Connection, outputs: Sequence[str], to_tell: bool):
        """``outputs`` are their names; ``to_tell``: a webhook is told of each begin and end."""
        self._run, self._outputs, self._to_tell = connection.execute, outputs, to_tell
        self.counts = {"event": 0, "reset": 0}  # new ones

    def enter(self, ring: np.ndarray, offset: int) -> list[Entered]:
        """Enters entries, (n,) of ENTRY; ``offset``: CLOCK_REALTIME less CLOCK_MONOTONIC, ns."""
        entered = []
        for entry in ring:
            kind = entry["kind"]
            if kind == NOTHING:
                continue
            stream, wall = id_text(entry["name"]), int(entry["received"]) + offset
            if kind == BEGINS:
                event = self._begin(entry, stream, wall)
            elif kind == ENDS:
                event = self._end(entry, stream, wall, int(entry["last_received"]) + offset)
            else:
                self._reset(entry, stream, wall)
                continue
            what = (kind == BEGINS, int(entry["slot"]), entry["name"].tobytes(), int(entry["received"]))
            entered.append(Entered(event, *what))
            if self._to_tell:
                self._run(
                    "INSERT INTO outbox (event, what) VALUES (?, ?)",
                    [event, "begin" if kind == BEGINS else "end"],
                )
        return entered

    def _begin(self, entry: np.void, stream: str, wall: int) -> int:
        self._run(
            f"UPDATE events SET end_wall_ns = ?, detail = 'its end was lost' WHERE {_OPEN}", [wall, stream]
        )
        self.counts["event"] += 1
        return self._insert(entry, stream, wall)

    def _insert(self, entry: np.void, stream: str, wall: int, detail: str = "") -> int:
        added = self._run(
            "INSERT INTO events (kind, stream, begin_ns, begin_wall_ns, begin_seq, epoch, rows, peak,"
            " channels, detail) VALUES ('event', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                *(stream, int(entry["ts_ns"]) or None, wall, signed(int(entry["seq"])), int(entry["epoch"])),
                *(
                    int(entry["rows"]),
                    float(entry["peak"]),
                    channels_text(entry["causes"], self._outputs),
                    detail,
                ),
            ],
        )
        return int(added.lastrowid or 0)

    def _end(self, entry: np.void, stream: str, wall: int, last_wall: int) -> int:
        found = self._run(f"SELECT id FROM events WHERE {_OPEN}", [stream]).fetchone()
        if found is None:
            event = self._insert(entry, stream, min(last_wall, wall), "its begin was lost")
            self._run("UPDATE events SET begin_ns = NULL, begin_seq = NULL WHERE id = ?", [event])
        else:
            event = found[0]
        self._run(
            "UPDATE events SET end_ns = ?, end_wall_ns = max(begin_wall_ns, ?), end_seq = ?, rows = ?,"
            " peak = ?, channels = ? WHERE id = ?",
            [
                *(int(entry["last_ts_ns"]) or None, min(last_wall, wall), signed(int(entry["last_seq"]))),
                *(int(entry["rows"]), float(entry["peak"])),
                *(channels_text(entry["causes"], self._outputs), event),
            ],
        )
        return int(event)

    def _reset(self, entry: np.void, stream: str, wall: int) -> None:
        reason = RESETS[entry["reason"]]
        seq, ts = signed(int(entry["seq"])), int(entry["ts_ns"]) or None
        self._add("reset", stream, reason, 1, (ts, wall, seq))
        if entry["reason"] == _IDLE:
            self._run(
                "UPDATE events SET end_wall_ns = ?, detail = 'let go' "
                "WHERE kind = 'silence' AND stream = ? AND end_wall_ns IS NULL",
                [wall, stream],
            )
            self._run("DELETE FROM missing WHERE stream = ?", [stream])

    def _add(self, kind: str, stream: str, detail: str, rows: int, when: tuple[int | None, int, int]) -> None:
        """Adds an entry, or goes on with one of the stream, of that kind and detail, that is not long past.

        ``when``: source time, the daemon's, and number of the row.
        """
        latest = self._run(
            "SELECT id, detail, end_wall_ns FROM events WHERE stream = ? AND kind = ?"
            " ORDER BY begin_wall_ns DESC LIMIT 1",
            [stream, kind],
        ).fetchone()
        if latest is not None and latest[1] == detail and when[1] - latest[2] < TOGETHER_NS:
            self._run(
                "UPDATE events SET rows = rows + ?, end_ns = ?, end_wall_ns = ?, end_seq = ? WHERE id = ?",
                [rows, *when, latest[0]],
            )
            return
        self._run(
            "INSERT INTO events (kind, stream, detail, rows, begin_ns, begin_wall_ns, begin_seq, end_ns,"
            " end_wall_ns, end_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [kind, stream, detail, rows, *when, *when],
        )
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def lack(self, stream: str, rows: int, missed: int, when: tuple[int | None, int, int]) -> None:
        """Adds a gap of so many rows; ``missed`` are now all that ever were missing, as the record has it."""
        self._add("gap", stream, "", rows, when)
        self._run("INSERT OR REPLACE INTO missing VALUES (?, ?)", [stream, missed])

    def fall_silent(self, stream: str, when: tuple[int | None, int, int]) -> None:
        self._run(
            "INSERT INTO events (kind, stream, begin_ns, begin_wall_ns, begin_seq)"
            " VALUES ('silence', ?, ?, ?, ?)",
            [stream, *when],
        )
        self.counts["silence"] = self.counts.get("silence", 0) + 1

    def speak(self, stream: str, when: tuple[int | None, int, int]) -> None:
        self._run(
            "UPDATE events SET end_ns = ?, end_wall_ns = ?, end_seq = ? "
            "WHERE kind = 'silence' AND stream = ? AND end_wall_ns IS NULL",
            [*when, stream],
        )
