"""The state of streams as it was: the snapshot that was the newest at some time."""

import datetime
from pathlib import Path

from streamrnn.errors import UserError
from streamrnn.settings.moments import parse_moment
from streamrnn.state.target import Source, ago, find_target, of_file, say, utc
from streamrnn.streams.snapshot import SnapshotError, read_snapshot, snapshots_in, written_ns


def source_as_of(target: Path, text: str) -> Source:
    """The newest whole snapshot of a TARGET that was written at a time, or before. Says which on stderr."""
    try:
        when = parse_moment(text, datetime.datetime.now(datetime.UTC))
    except ValueError as error:
        raise UserError(f"--as-of: {error}") from error
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
