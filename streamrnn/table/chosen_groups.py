"""What of a recording becomes rows: its channels, each under a name, and the groups of those asked for."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streamrnn.errors import UserError
from streamrnn.recordings.recording import ChannelGroup, Contents, OpenRecording
from streamrnn.table.columns import find_columns, listed, quoted_names

GROUP = "group"  # as the stream column: each group is a stream
LOOKED_AT = 1 << 14  # samples that tell the rate of a group
EVEN, ALIKE = 0.01, 0.25  # of a period: steps of an even clock; of a rate that counts as the same
REGULAR = 0.5  # the share of steps that are the usual one, of what has a rate
NO_TIMES = "its samples have no times, and others have"


class GroupRate(NamedTuple):
    """How often a group has samples."""

    period_ns: int
    even: bool  # whether its steps are all alike, but for gaps
    regular: bool  # whether most are
    exact: bool = True  # whether the period is a whole number of ns

    @property
    def hold_ns(self) -> int:
        """How long a sample stands: until the next one is due; longer where these come at odd times."""
        if self.even:
            return self.period_ns
        return self.period_ns * 3 // 2 if self.regular else 10 * self.period_ns


class ChosenGroup(NamedTuple):
    """A group, and which of its channels are asked for."""

    place: int  # among those of the recording
    group: ChannelGroup
    channels: list[int]  # places in the group
    columns: list[int]  # of each, the place among all channels asked for
    stream: str  # its name, where groups are streams


class Chosen(NamedTuple):
    """What was chosen."""

    names: list[str]  # of the channels asked for
    units: dict[str, str]
    single: list[bool]  # of each: whether it is stored as float32, as it is
    groups: list[ChosenGroup]
    streams: bool  # whether each group is a stream of its own
    left_out: dict[str, str]
    notes: list[str]


def channel_names(contents: Contents) -> list[list[str]]:
    """The name of each channel, group by group: group/name where names repeat."""
    plain = [[channel.name or f"c{n + 1}" for n, channel in enumerate(g.channels)] for g in contents.groups]
    counts = Counter(name for names in plain for name in names)
    full = [
        [name if counts[name] == 1 or not group.name else f"{group.name}/{name}" for name in names]
        for group, names in zip(contents.groups, plain, strict=True)
    ]
    seen = Counter[str]()
    for names in full:
        for place, name in enumerate(names):
            seen[name] += 1
            if seen[name] > 1:
                names[place] = f"{name}#{seen[name]}"
    return full


def choose(
    contents: Contents,
    wanted: Sequence[str] | None,
    exclude: Sequence[str],
    stream: str | None,
    recording: OpenRecording,
    where: str,
) -> Chosen:
    """The groups that have the channels ``wanted``, or all but those to ``exclude``.

    Groups become streams of their own where ``stream`` is GROUP, or where they have channels of the same
    names and follow one another in time. Raises UserError for a channel that is not there.
    """
    groups = contents.groups
    own = [tuple(channel.name for channel in group.channels) for group in groups]
    apart = (
        len(groups) > 1 and {*map(frozenset, own)} == {frozenset(own[0])} and len({*own[0]}) == len(own[0])
    )
    if stream not in (None, GROUP):
        raise UserError(
            f'{where}: a recording has no column "{stream}" of streams; --stream-column {GROUP} makes each '
            "of its groups one"
        )
    if stream == GROUP and not apart:
        raise UserError(
            f"{where}: its groups cannot be streams, as their channels are not the same: "
            f"{quoted_names([group.name for group in groups])}"
        )
    apart = apart and (stream == GROUP or _follow(recording, groups))
    named = [list(own[0])] * len(groups) if apart else channel_names(contents)
    every = list(dict.fromkeys(name for names in named for name in names))
    asked = [*every]
    if wanted is not None:
        places = find_columns(wanted, every, where)
        asked = [every[place] for place in sorted({*places})]
    else:
        gone = {every[place] for place in find_columns(exclude, every, where)}
        asked = [name for name in every if name not in gone]
    if not asked:
        raise UserError(f"{where}: no channel of it is left")
    return _chosen(contents, named, asked, apart, where)


def _chosen(contents: Contents, named: list[list[str]], asked: list[str], apart: bool, where: str) -> Chosen:
    left_out, notes = dict(contents.left_out), [*contents.notes]
    place_of = {name: place for place, name in enumerate(asked)}
    found = list[ChosenGroup]()
    for place, (group, names) in enumerate(zip(contents.groups, named, strict=True)):
        inside = [inner for inner, name in enumerate(names) if name in place_of]
        if inside:
            columns = [place_of[names[inner]] for inner in inside]
            found.append(ChosenGroup(place, group, inside, columns, group.name or f"{place + 1}"))
    timed = [one for one in found if one.group.timed]
    if timed and len(timed) < len(found):
        for one in found:
            if not one.group.timed:
                left_out |= dict.fromkeys((asked[column] for column in one.columns), NO_TIMES)
        found = timed
    elif not timed and len(found) > 1 and not apart:
        lengths = [
            f"{quoted_names([asked[c] for c in one.columns])} {one.group.samples or 0:,}" for one in found
        ]
        raise UserError(
            f"{where}: nothing says the times of its samples, and channels have different numbers of them: "
            f"{listed(lengths)}; take those of one number with --channels"
        )
    kept = sorted({column for one in found for column in one.columns})
    moved = {column: place for place, column in enumerate(kept)}
    found = [one._replace(columns=[moved[column] for column in one.columns]) for one in found]
    channels = {
        column: one.group.channels[c]
        for one in found
        for c, column in zip(one.channels, one.columns, strict=True)
    }
    names = [asked[column] for column in kept]
    units = {names[place]: channel.unit for place, channel in channels.items() if channel.unit}
    single = [channels[place].stored == "float32" for place in range(len(names))]
    if timed and contents.start_ns is not None and not contents.zoned:
        notes.append("its times say no zone; they are taken for UTC")
    return Chosen(names, units, single, found, apart, left_out, notes)


def _follow(recording: OpenRecording, groups: Sequence[ChannelGroup]) -> bool:
    """Whether groups follow one another in time."""
    if not all(group.timed for group in groups):
        return False
    spans = []
    for place in range(len(groups)):
        ticks = [piece.ticks for piece in recording.pieces(place, []) if len(piece.ticks)]
        if not ticks:
            return False
        spans.append((int(ticks[0][0]), int(ticks[-1][-1])))
    spans.sort()
    return all(before[1] < after[0] for before, after in pairwise(spans))


def rate_of(group: ChannelGroup, ticks: np.ndarray) -> GroupRate | None:
    """The rate of a group of times by its first (n,) ticks; None where there are too few to tell."""
    if len(ticks) < 2:
        return None
    steps = np.diff(ticks)
    steps = steps[steps > 0]
    if not len(steps):
        return None
    period = float(np.median(steps)) if group.period_ns is None else group.period_ns
    usual = np.abs(steps - period)
    near = steps[steps < 1.5 * period]
    even = bool(len(near)) and bool((np.abs(near - period) <= max(EVEN * period, 2)).all())
    regular = bool((usual <= ALIKE * period).mean() >= REGULAR)
    return GroupRate(max(1, round(period)), even, regular, bool((near == period).all()))
