"""What `streamrnn events` does: lists, follows, exports and judges what a journal has."""

import csv
import datetime
import io
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from streamrnn.errors import UserError
from streamrnn.events.journal import FIELDS, Filter, Journal
from streamrnn.model.inspect import align
from streamrnn.settings.config import load_config
from streamrnn.state.ask import ask
from streamrnn.state.target import duration, say, utc
from streamrnn.system.whole_file import whole_file

FORMATS = ("csv", "ndjson")
NO_VERDICT = "none"  # how it is said on a command line
_LOOK_S = 0.5
_COLUMNS = ("id", "kind", "stream", "begin", "lasted", "rows", "peak", "cause", "verdict", "note")
_TIMES = ("begin_ns", "end_ns", "begin_wall_ns", "end_wall_ns", "judged_ns")
_CAUSE = 0.2  # the least share that is named


def list_(target: Path, chosen: Filter, limit: int, as_json: bool) -> int:
    """Prints the latest ``limit`` entries, the latest last: a table, or a JSON object on each line."""
    with Journal(_path(target)) as journal:
        entries, before = journal.entries(chosen, limit)
        lost = sum(count for _, _, count in journal.lost())
    entries.reverse()
    if as_json:
        sys.stdout.writelines(map(_line, entries))
    elif entries:
        sys.stdout.write(align([[*_COLUMNS], *map(_row, entries)], "><<<>>><<<") + "\n")
    if before is not None:
        say(f"the latest {limit:,}; --limit shows more")
    if lost:
        say(f"warning: {lost:,} entries were lost, as the journal could not be written")
    return 0


def follow(target: Path, chosen: Filter, as_json: bool) -> int:
    """Prints entries as they come, and events once more when they have ended; ends by KeyboardInterrupt."""
    with Journal(_path(target)) as journal:
        latest, _ = journal.entries(limit=1)
        last = latest[0]["id"] if latest else 0
        open_ids = {entry["id"] for entry in journal.in_order(chosen) if _goes_on(entry)}
        say(f"following {journal.path} behind entry {last}; Ctrl-C ends it")
        while True:
            new = list(journal.in_order(chosen._replace(after=last)))
            ended = [entry for one in sorted(open_ids) if (entry := journal.one(one)) and not _goes_on(entry)]
            open_ids -= {entry["id"] for entry in ended}
            open_ids |= {entry["id"] for entry in new if _goes_on(entry)}
            last = max([last, *(entry["id"] for entry in new)])
            for entry in [*ended, *new]:
                if as_json:
                    entry["recording"] = bool(entry["recording"])
                    sys.stdout.write(_line(entry))
                else:
                    sys.stdout.write("  ".join(filter(None, _row(entry))) + "\n")
            sys.stdout.flush()
            time.sleep(_LOOK_S)


def export(target: Path, chosen: Filter, output: str, form: str | None, force: bool) -> int:
    """Writes all entries that are chosen, the first one first, to a file (- is stdout)."""
    form = form or next((each for each in FORMATS if output.endswith(f".{each}")), None)
    if form is None:
        if output != "-":
            raise UserError(f"{output}: name it .csv or .ndjson, or say --format")
        form = "csv"
    write = _write_csv if form == "csv" else _write_lines
    with Journal(_path(target)) as journal:
        entries = journal.in_order(chosen)
        if output == "-":
            count = write(sys.stdout, entries)
        else:
            if not force and Path(output).exists():
                raise UserError(f"{output}: is there already; name another file, or say --force")
            with whole_file(Path(output)) as file:
                text = io.TextIOWrapper(file, "utf-8", newline="")
                count = write(text, entries)
                text.detach()
    say(f"exported {count:,} {'entry' if count == 1 else 'entries'}")
    return 0


def judge(target: Path, event: int, verdict: str, note: str | None) -> int:
    """Keeps a verdict and, unless None, a note; a daemon that a .toml names is asked to, and acts on it."""
    verdict = "" if verdict == NO_VERDICT else verdict
    if target.suffix == ".toml":
        state = load_config(target, {}).state
        request = {"do": "judge", "event": event, "verdict": verdict, "note": note}
        for folder in filter(None, (state.live, state.snapshots)):
            if ask(Path(folder), target, request) is not None:
                say(f"event {event}: {verdict or 'no verdict'}, as the daemon over {folder} now goes by")
                return 0
    with Journal(_path(target), write=True) as journal:
        judged = journal.judge(event, verdict, note)
    say(f"event {event} of {_shown(judged['stream'])}: {verdict or 'no verdict'}; no daemon was told")
    return 0


def _path(target: Path) -> Path:
    """The journal that a TARGET means: itself, or what the .toml file says."""
    if target.suffix != ".toml":
        return target
    path = load_config(target, {}).events.path
    if not path:
        raise UserError(f"{target}: keeps no journal; set events.path")
    return Path(path)


def _goes_on(entry: dict[str, Any]) -> bool:
    return entry["end_wall_ns"] is None


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _write_lines(file: IO[str], entries: Iterable[dict[str, Any]]) -> int:
    count = 0
    for entry in entries:
        file.write(_line(entry))
        count += 1
    return count


def _write_csv(file: IO[str], entries: Iterable[dict[str, Any]]) -> int:
    """Times as ISO 8601; channels as ``flow:0.62|pressure:0.3``."""
    count, writer = 0, csv.writer(file, lineterminator="\n")
    writer.writerow(field.removesuffix("_ns") for field in FIELDS)
    for entry in entries:
        shown: dict[str, Any] = dict(
            entry, channels=_shares(entry["channels"]), recording=int(entry["recording"])
        )
        for name in _TIMES:
            shown[name] = "" if entry[name] is None else _exactly(entry[name])
        writer.writerow(shown[field] for field in FIELDS)
        count += 1
    return count


def _exactly(time_ns: int) -> str:
    """A time of any source as text, to the nanosecond."""
    seconds, rest = divmod(time_ns, 10**9)
    try:
        when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return str(time_ns)
    return f"{when.isoformat()}.{rest:09d}Z"


def _shares(channels: Sequence[tuple[str, float]]) -> str:
    return "|".join(f"{name}:{share:g}" for name, share in channels)


def _row(entry: dict[str, Any]) -> list[str]:
    begin, end = entry["begin_wall_ns"], entry["end_wall_ns"]
    rows, peak = entry["rows"], entry["peak"]
    named = [name for place, (name, share) in enumerate(entry["channels"]) if share >= _CAUSE or place == 0]
    return [
        *(str(entry["id"]), entry["kind"], _shown(entry["stream"]), utc(begin)),
        "goes on" if end is None else duration((end - begin) / 1e9),
        "" if rows is None else str(rows),
        "" if peak is None else f"{peak:.1f}",
        _shown(entry["detail"] or "|".join(named)),
        *(entry["verdict"], _shown(entry["note"])),
    ]


def _shown(text: str) -> str:
    """A text of others as a terminal may see it."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
