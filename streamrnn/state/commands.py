"""What `streamrnn state` does: shows, moves and resets streams, in a running daemon or in files."""

import dataclasses
import json
import re
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from streamrnn.errors import UserError
from streamrnn.model.cells import cells_of
from streamrnn.model.inspect import align
from streamrnn.model.model_file import HEADER_LIMIT
from streamrnn.settings.values import toml_value
from streamrnn.state.as_of import source_as_of
from streamrnn.state.ask import ask
from streamrnn.state.target import (
    ago,
    duration,
    find_target,
    leave_damaged,
    locked,
    memory_file,
    newest_streams,
    only,
    read_source,
    say,
    utc,
)
from streamrnn.streams.choose import holding
from streamrnn.streams.exchange import (
    hold_records,
    listed,
    number_of,
    read_layout,
    records_of,
    refuse_another,
    refuse_taken,
    refuse_unfit,
    refuse_unknown,
    stream_names,
)
from streamrnn.streams.holding import BY_HAND, FREE
from streamrnn.streams.record import RecordLayout
from streamrnn.streams.snapshot import (
    ID_BYTES,
    Snapshot,
    read_from,
    read_snapshot,
    write_snapshot,
    write_to,
)
from streamrnn.streams.summary import first_streams, summarise, whole_streams
from streamrnn.system.whole_file import whole_file

_COLUMNS = ("stream", "step", "seq", "age", "epoch", "health", "|h|", "|c|")
_NAMED = 64  # streams that a daemon is asked for by name
_KIND = re.compile(rb'"format"\s*:\s*"streamrnn(-state)?/')


def show(
    target: Path, as_json: bool, limit: int | None, sort: str, prefix: str, as_of: str | None = None
) -> int:
    """Prints the streams whose ids begin with ``prefix``: a table, or a JSON object on each line."""
    wanted = {"sort": sort, "prefix": prefix, "limit": limit}
    asked = {} if limit is None and not prefix else wanted
    source = read_source(target, asked) if as_of is None else source_as_of(target, as_of)
    snapshot, whole = source.snapshot, whole_streams(source.snapshot, str(target))
    if not whole.all():
        damaged = listed(stream_names(snapshot.ids[~whole]))
        say(f"warning: damaged, so that a daemon would begin them anew: {damaged}")
    which = first_streams(snapshot, whole, source.now_ns, sort, prefix, limit)
    chosen = summarise(only(snapshot, which), str(target), source.now_ns)
    held = source.held or len(whole)
    shown = f", {len(chosen):,} shown" if len(chosen) < held else ""
    say(f"{number_of(held)}{shown} of the model {snapshot.fingerprint}, {source.origin}")
    if as_json:
        sys.stdout.writelines(f"{json.dumps(stream, ensure_ascii=False)}\n" for stream in chosen)
    elif chosen:
        sys.stdout.write(align([[*_COLUMNS], *map(_row, chosen)], "<>>>><>>") + "\n")
    return 0


def export(target: Path, output: str, streams: Sequence[str], force: bool, as_of: str | None = None) -> int:
    """Writes a snapshot file (- is stdout) of ``streams``, or of all that are not damaged."""
    if output == "-" and sys.stdout.isatty():
        raise UserError("-o -: standard output is a terminal; pipe it on, or name a file")
    few = 0 < len(streams) <= _NAMED  # of more a request has no room; they are picked here
    asked = {"streams": list(streams)} if few else {}
    source = read_source(target, asked) if as_of is None else source_as_of(target, as_of)
    snapshot = leave_damaged(source.snapshot, str(target))
    if streams:
        with _about(target):
            snapshot = only(snapshot, _marks(snapshot, streams))
    if output == "-":
        write_to(sys.stdout.buffer, snapshot)
    else:
        with _new_file(Path(output), force) as file:
            write_to(file, snapshot)
    say(f"exported {number_of(len(snapshot.ids))}, {source.origin}")
    return 0


def import_(name: str, target: Path, replace: bool) -> int:
    """Gives the streams of a snapshot file (- is stdin) to a daemon or a folder of snapshots: all or none."""
    snapshot = read_from(sys.stdin.buffer, "standard input") if name == "-" else read_snapshot(Path(name))
    return _give(name, snapshot, target, replace)


def take_back(target: Path, as_of: str, streams: Sequence[str]) -> int:
    """Has ``streams`` of a daemon, or of a folder of snapshots, go on from what they were at a time."""
    source = source_as_of(target, as_of)
    with _about(source.origin.removeprefix("in ")):
        snapshot = only(source.snapshot, _marks(source.snapshot, streams))
    say(f"as they are {source.origin}")
    return _give(str(target), snapshot, target, replace=True)


def _give(name: str, snapshot: Snapshot, target: Path, replace: bool) -> int:
    with _about(name):
        refuse_unfit(snapshot.ids, whole_streams(snapshot, "all of it"))
    found = find_target(target)
    with memory_file() as file:
        write_to(file, snapshot)
        file.flush()
        for folder in found.folders:
            said = ask(folder, name, {"do": "import", "replace": replace}, file.fileno())
            if said is not None:
                say(
                    f"imported {number_of(said['streams'])}, of which {said['replaced']:,} were there already"
                )
                return 0
    with locked(found) as folder:
        parts = [snapshot]
        if (old := newest_streams(folder)) is not None:
            with _about(name):
                parts.insert(0, _without(old, snapshot, replace))
        ids, records = (np.concatenate([getattr(part, of) for part in parts]) for of in ("ids", "records"))
        path = _write(folder, dataclasses.replace(snapshot, ids=ids, records=records))
    say(f"imported {number_of(len(snapshot.ids))}: {path} has them, for the next start")
    return 0


def reset(target: Path, streams: Sequence[str], everything: bool) -> int:
    """Has ``streams``, or every one, begin anew: in a daemon with their next row, in a folder by leaving."""
    found = find_target(target)
    request = {"do": "reset", "streams": None if everything else list(streams)}
    for folder in found.folders:
        if (said := ask(folder, target, request)) is not None:
            say(f"reset {number_of(said['streams'])}, to begin anew with the next row")
            return 0
    with locked(found) as folder, _about(target):
        if (old := newest_streams(folder)) is None:
            raise UserError("holds no snapshot; there is nothing to reset")
        gone = np.ones(len(old.ids), bool) if everything else _marks(old, streams)
        path = _write(folder, only(old, ~gone))
    say(f"reset {number_of(int(np.count_nonzero(gone)))}: {path} is without, for the next start")
    return 0


def hold(target: Path, streams: Sequence[str], prefix: str | None, release: bool) -> int:
    """Holds, or releases, what ``streams``, or those whose ids begin with ``prefix``, learn."""
    found = find_target(target)
    done = "released" if release else "held"
    request: dict[str, Any] = {"do": "release" if release else "hold"}
    request |= {"streams": list(streams)} if prefix is None else {"prefix": prefix}
    for folder in found.folders:
        if (said := ask(folder, target, request)) is not None:
            say(f"{done} what {number_of(said['streams'])} learn{_s(said['streams'])}{_already(said)}")
            return 0
    with locked(found) as folder, _about(target):
        if (old := newest_streams(folder)) is None:
            raise UserError("holds no snapshot; there is nothing to hold or release")
        if prefix is None:
            which = np.flatnonzero(_marks(old, streams))
        else:
            ids = np.ascontiguousarray(old.ids).view(np.uint64)
            which = holding(ids, prefix.encode(errors="surrogatepass"), anywhere=False)
        records = records_of(old, read_layout(old, str(target)))
        hold_records(records, which, FREE if release else BY_HAND)
        state = records.state.reshape(old.records.shape)
        path = _write(folder, dataclasses.replace(old, records=state))
    say(f"{done} what {number_of(len(which))} learn{_s(len(which))}: {path} says so, for the next start")
    return 0


def _write(folder: Path, snapshot: Snapshot) -> Path:
    """Writes a snapshot of now; which of the others stay, the next daemon decides."""
    return write_snapshot(folder, dataclasses.replace(snapshot, written_ns=time.time_ns()), None)


def _s(count: int) -> str:
    return "s" if count == 1 else ""


def _already(said: dict[str, int]) -> str:
    there = said["streams"] - said["changed"]
    return f", {there:,} of them were already" if there else ""


def promote(target: Path) -> int:
    """Has the shadow of the daemon over ``target`` serve, and says what its file must name from now on."""
    for folder in find_target(target).folders:
        if (said := ask(folder, target, {"do": "promote"})) is not None:
            say(
                f"promoted: the model is {said['fingerprint']}, and what served is its shadow. Write into "
                "the configuration, or the next reload and the next start are refused:"
            )
            for key in ("model", "shadow"):
                sys.stdout.write(f"{key} = {toml_value(said[key])}\n")
            return 0
    raise UserError(f"{target}: no daemon runs there; name the shadow's file as model, and start it")


def is_snapshot(path: Path) -> bool:
    """Whether a file says that it is a snapshot, or that it is a model. Raises UserError for neither."""
    if not path.is_file():
        return False  # reading it as a model says what is wrong
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        kind = _KIND.search(file.read(min(size, HEADER_LIMIT)))
    if kind is None:
        raise UserError(
            f"{path}: neither a model nor a snapshot; name a .safetensors file that streamrnn wrote, or use "
            "another copy"
        )
    return kind[1] is not None


def describe_snapshot(path: Path) -> dict[str, Any]:
    """A JSON-ready description of the snapshot at ``path``. Raises SnapshotError."""
    snapshot = read_snapshot(path)
    whole = whole_streams(snapshot, str(path))
    return {
        "file": str(path),
        "fingerprint": snapshot.fingerprint,
        "streams": len(whole),
        "damaged": stream_names(snapshot.ids[~whole]),
        "written_ns": snapshot.written_ns,
        "bytes": path.stat().st_size,
        "layout": snapshot.layout,
    }


def format_snapshot(description: dict[str, Any]) -> str:
    """The table that `streamrnn inspect` prints of ``describe_snapshot``'s result."""
    layout, written_ns = description["layout"], description["written_ns"]
    names = [state.name for state in cells_of(RecordLayout(**layout).states)[0].states]
    states = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    facts = {
        "file": description["file"],
        "model": description["fingerprint"],
        "streams": f"{description['streams']:,}",
        "damaged": listed(description["damaged"]) or "none",
        "written": f"{utc(written_ns)}, {ago(written_ns)} ago",
        "size": f"{description['bytes']:,} bytes, {ID_BYTES + 4 * layout['words']:,} per stream",
        "state": f"{states} of {layout['layers']} x {layout['hidden']} hidden units",
    }
    return align([[*fact] for fact in facts.items()], "<<")


def _marks(snapshot: Snapshot, streams: Collection[str]) -> np.ndarray:
    """Which streams of a snapshot are named, (n,) bool. Raises UserError for names that it does not have."""
    names, wanted = stream_names(snapshot.ids), set(streams)
    refuse_unknown(sorted(wanted.difference(names)))
    return np.array([name in wanted for name in names], bool)


def _without(old: Snapshot, new: Snapshot, replace: bool) -> Snapshot:
    """What stays of ``old`` where ``new`` comes. Raises UserError where it may not."""
    refuse_another(new.fingerprint, old.fingerprint, new.layout == old.layout)
    names, coming = stream_names(old.ids), set(stream_names(new.ids))
    if not replace:
        refuse_taken([name for name in names if name in coming])
    return only(old, np.array([name not in coming for name in names], bool))


@contextmanager
def _new_file(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A file for this user alone, that takes its name when all is in it."""
    if path.exists() and not force:
        raise UserError(f"{path}: is there already; name another, or replace it with --force")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a regular file; name a file that can be replaced, or - and a pipe")
    with whole_file(path, 0o600) as file:
        yield file


@contextmanager
def _about(name: object) -> Iterator[None]:
    """Says of what an error is that does not."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _row(stream: dict[str, Any]) -> list[str]:
    name = stream["stream"] if stream["stream"].isprintable() else ascii(stream["stream"])
    if stream["health"] == "damaged":
        return [name, *["-"] * 4, "damaged", *["-"] * 2]
    why = f" ({stream['ended']})" if stream["ended"] else ""
    held = ", held" if stream["held"] else ""
    if stream["health"] == "degraded" and stream["saturated"] is not None:
        why = f" ({stream['saturated']:.0%} saturated)"
    age, cell = stream["age_s"], stream["largest_cell"]
    return [
        *(name, str(stream["step"]), str(stream["seq"])),
        *("-" if age is None else duration(age), str(stream["epoch"]), stream["health"] + why + held),
        *(f"{stream['largest_hidden']:.3g}", "-" if cell is None else f"{cell:.3g}"),
    ]
