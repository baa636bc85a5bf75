"""What a person says of an event: kept in the journal."""

from pathlib import Path
from typing import Any

from streamrnn.errors import UserError
from streamrnn.events.journal import Journal


def keep_verdict(path: Path | None, asked: dict[str, Any]) -> dict[str, Any]:
    """Keeps a verdict on an event, and a note where one is given; returns the event as it is then.

    ``asked``: ``event``, its id; ``verdict``, "" to take it back; and ``note``, or None. Raises UserError
    for what is no such request, and where the journal cannot be written.
    """
    match asked:
        case {"event": int(event), "verdict": str(verdict), **rest} if _fits(event, rest):
            if path is None:
                raise UserError("no journal is kept: set events.path, and start the daemon anew")
            with Journal(path, write=True) as journal:
                entry = journal.judge(event, verdict, rest.get("note"))
            return entry | {"recording": entry["recording"] is not None}
    raise UserError('not a verdict; name event and verdict, as {"event": 12, "verdict": "real", "note": ""}')


def _fits(event: int, rest: dict[str, Any]) -> bool:
    """Whether an id, and what stands beside it and the verdict, are what a file could hold."""
    match rest:
        case {"note": str(note), **more}:
            fits = not more and note.encode(errors="ignore").decode() == note  # no half of a letter
        case _:
            fits = rest in ({}, {"note": None})
    return fits and not isinstance(event, bool) and 0 <= event < 1 << 63
