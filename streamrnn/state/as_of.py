"""The state of streams as it was: the snapshot that was the newest at some time."""

import datetime
import re
from pathlib import Path

from streamrnn.errors import UserError
from streamrnn.settings.values import parse_duration
from streamrnn.state.target import Source, ago, find_target, of_file, say, utc
from streamrnn.streams.snapshot import SnapshotError, read_snapshot, snapshots_in, written_ns

_CLOCK = re.compile(r"([0-2]?[0-9]):([0-5][0-9])(?::([0-5][0-9]))?")
_AGO = re.compile(r"([0-9]+(?:ms|s|m|h|d)) ago")
_DAY = datetime.timedelta(days=1)


def parse_time(text: str, now: datetime.datetime) -> int:
    """A time as people write it, CLOCK_REALTIME ns: 09:00 is the last time it was that, here.

    Or 2026-03-01T09:00, of the zone that it says or this machine's, or "2h ago". ``now`` has a zone. Raises
    UserError.
    """
    try:
        if found := _AGO.fullmatch(text):
            when = now - datetime.timedelta(seconds=parse_duration(found[1]))
        elif found := _CLOCK.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in found.groups())
            at = datetime.time(hour, minute, second)
            here = now.astimezone().replace(tzinfo=None)
            when = datetime.datetime.combine(here.date(), at)
            when = (when if when <= here else when - _DAY).astimezone()
        else:
            when = datetime.datetime.fromisoformat(text)
            when = when if when.tzinfo else when.astimezone()
        return round(when.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(f'--as-of {text}: not a time; write 09:00, 2026-03-01T09:00 or "2h ago"') from error


def source_as_of(target: Path, text: str) -> Source:
    """The newest whole snapshot of a TARGET that was written at a time, or before. Says which on stderr."""
    when = parse_time(text, datetime.datetime.now(datetime.UTC))
    folder = find_target(target).snapshots
    paths = snapshots_in(folder) if folder is not None and folder.is_dir() else []
    if not paths:
        raise UserError(f"{target}: no snapshots there; name the folder of state.snapshots, or the .toml")
    oldest = 0
    for path in paths:
        try:
            if (oldest := written_ns(path)) <= when:
                return of_file(path, read_snapshot(path))
        except SnapshotError as error:
            say(f"warning: {error}")
    raise UserError(
        f"{folder}: nothing as old as {utc(when)}; the oldest snapshot is of {utc(oldest)}, {ago(oldest)} "
        'ago; state.keep = "2, 24h hourly, 30d daily" keeps older ones from now on'
    )
