"""What is in a file of measurements, for programs (a dict) and for people: ``streamrnn inspect FILE``."""

from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.model.inspect import align
from streamrnn.recordings.apart import RecordingApart
from streamrnn.recordings.formats import format_of
from streamrnn.recordings.recording import ChannelGroup, OpenRecording, RecordedChannel
from streamrnn.table.chosen_groups import LOOKED_AT, channel_names, rate_of
from streamrnn.table.clock import slack_ns, tick_ns
from streamrnn.table.input_formats import open_rows
from streamrnn.table.reader import RowReader

NAMES, SHOWN = 60, 200  # characters of a name; lines of a table


class _GroupTally:
    """Counts what a group has, piece by piece: its times, gaps, missing samples."""

    def __init__(self, group: ChannelGroup) -> None:
        self._group = group
        self.samples = self.gaps = self.back = 0
        self.missing = np.zeros(len(group.channels), np.int64)
        self.first: int | None = None
        self._last = 0
        self._period: float | None = None
        self._tick = 1

    def add(self, ticks: np.ndarray, values: np.ndarray) -> None:
        self.missing += np.isnan(values).sum(axis=0)
        if not len(ticks):
            return
        if self._group.timed:
            if self._period is None and (rate := rate_of(self._group, ticks[:LOOKED_AT])) is not None:
                self._period, self._tick = self._group.period_ns or rate.period_ns, tick_ns(ticks)
            steps = np.diff(ticks, prepend=ticks[:1] if self.first is None else self._last)
            self.back += int((steps < 0).sum())
            if self._period is not None:
                self.gaps += int((steps - self._period > slack_ns(self._period, self._tick)).sum())
        self.first = int(ticks[0]) if self.first is None else self.first
        self._last = int(ticks[-1])
        self.samples += len(ticks)

    def described(self, names: list[str], start_ns: int | None) -> dict[str, Any]:
        """JSON-ready."""
        group = self._group
        span = (self.first, self._last) if group.timed and self.first is not None else (None, None)
        first, last = (None if tick is None else tick + (start_ns or 0) for tick in span)
        dated = start_ns is not None
        return {
            "name": group.name,
            "samples": self.samples,
            "rate_hz": None if self._period is None else 1e9 / self._period,
            "begins": _in_words(first, dated),
            "ends": _in_words(last, dated),
            "gaps": self.gaps if group.timed else None,
            **({"runs_back": self.back} if self.back else {}),
            "channels": [
                {"name": name, "unit": channel.unit, "stored": channel.stored, "missing": int(missing)}
                for name, channel, missing in zip(names, group.channels, self.missing, strict=True)
            ],
        }


def describe_file(path: Path) -> dict[str, Any]:
    """What is in a recording, or in a table of rows: its groups, each of channels of one rate, and which of
    these ``train`` would take. All of it is read. Raises UserError for a file that cannot be."""
    with open_rows(str(path), None) as reader:
        chosen, left_out, notes, said = reader.channels, reader.left_out, reader.notes, reader.said
        if (row := format_of(path)) is None:
            groups = [_of_rows(reader)]
            notes = [*notes, *reader.closing().splitlines()]
    if row is not None:
        recording = RecordingApart(path, row)
        try:
            groups, more = _of_recording(recording)
            notes = [*notes, *more]
        finally:
            recording.close()
    return {
        "file": str(path),
        "said": said.removeprefix(f"{path}: "),
        "groups": groups,
        "channels": chosen,
        "left_out": left_out,
        "notes": list(dict.fromkeys(notes)),
    }


def format_contents(description: dict[str, Any]) -> str:
    """The table that people see of ``describe_file``'s result."""
    parts = [f"{description['file']}: {description['said']}"]
    for group in description["groups"]:
        facts = [
            *([("group", group["name"])] if group["name"] else []),
            ("samples", f"{group['samples']:,}" + (_rate(group["rate_hz"]) if group["rate_hz"] else "")),
            *([("times", f"{group['begins']} to {group['ends']}")] if group["begins"] else []),
            ("gaps", "no times to see them by" if group["gaps"] is None else f"{group['gaps']:,}"),
            *([("times that run back", f"{group['runs_back']:,}")] if "runs_back" in group else []),
        ]
        rows = [
            [channel["name"][:NAMES], channel["unit"], channel["stored"], f"{channel['missing']:,}"]
            for channel in group["channels"][:SHOWN]
        ]
        parts.append(align([list(fact) for fact in facts], "<<"))
        parts.append(align([["channel", "unit", "stored as", "missing"], *rows], "<<<>"))
        if len(group["channels"]) > SHOWN:
            parts.append(f"and {len(group['channels']) - SHOWN:,} more channels")
    if description["left_out"]:
        reasons = [[name[:NAMES], why] for name, why in [*description["left_out"].items()][:SHOWN]]
        parts.append(align([["no channel", "why"], *reasons], "<<"))
    parts += [f"note: {note}" for note in description["notes"]]
    return "\n\n".join(parts)


def _of_rows(reader: RowReader) -> dict[str, Any]:
    """The rows of a table as a group."""
    channels = tuple(RecordedChannel(name, reader.units.get(name, "")) for name in reader.channels)
    tally = _GroupTally(ChannelGroup("", channels, timed=reader.time_type is not None))
    for rows in reader:
        tally.add(rows.ts_ns, rows.values)
    return tally.described(reader.channels, 0)


def _of_recording(recording: OpenRecording) -> tuple[list[dict[str, Any]], list[str]]:
    """Each group as it stands there, and what was found out as it was read."""
    contents, cuts = recording.contents, list[str]()
    described = []
    for place, (group, names) in enumerate(zip(contents.groups, channel_names(contents), strict=True)):
        tally = _GroupTally(group)
        for piece in recording.pieces(place, range(len(group.channels))):
            tally.add(piece.ticks, piece.values)
            cuts += [piece.cut] if piece.cut else []
        described.append(tally.described(names, contents.start_ns))
    return described, cuts


def _in_words(ns: int | None, dated: bool) -> str | None:
    if ns is None:
        return None
    return f"{np.datetime64(ns, 'ns')}" if dated else f"{ns / 1e9:.9f} s".replace("000000 s", " s")


def _rate(hertz: float) -> str:
    return f", {hertz:.6g} Hz" if hertz >= 1 else f", one every {1 / hertz:.6g} s"
