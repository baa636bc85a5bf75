"""Streams on their way into a daemon or a file: what can be taken in, and what is done to many at once.

Nothing in a snapshot's body is trusted: whoever reads one asks ``whole_records`` first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.errors import UserError
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.network import Network
from streamrnn.model.cells import CELLS, widest_bounds
from streamrnn.model.settings import SIZES
from streamrnn.streams.holding import FREE, set_hold
from streamrnn.streams.judging import judge
from streamrnn.streams.record import (
    CHECK,
    COUNT,
    HEADER,
    HOLD,
    ID_WORDS,
    RecordLayout,
    check_of,
    id_check,
    is_whole,
)
from streamrnn.streams.recovery import sane
from streamrnn.streams.rules import request_reset
from streamrnn.streams.slots import Slots, find, id_text, id_words, is_id
from streamrnn.streams.snapshot import Snapshot
from streamrnn.wire.memory import address_of

LONGEST_WINDOW = SIZES["window"][1]
_NAMED = 5  # ids that an error names


class RecordShape(NamedTuple):
    """What the check of a record needs to know of a network; a ``Network`` has it, too."""

    layers: int
    width: int
    apart: int
    bounds: np.ndarray  # (states * layers,) float32, as in Network


class Records(NamedTuple):
    """The records of n streams outside of any slots."""

    # as in RecordLayout
    words: int
    hidden_at: int
    past_at: int
    past_rows: int
    row: int
    ids: np.ndarray  # (n * ID_WORDS,) uint64
    state: np.ndarray  # (n * words,) float32
    # views of `state`
    state_32: np.ndarray  # uint32
    state_64: np.ndarray  # uint64


@compiled
def vouch(shape, records, whole):
    """Marks in ``whole``, (n,) uint8, each record that has its check and holds what a step can leave."""
    for which in range(whole.size):
        at = which * records.words
        first = at // 2
        name = id_check(records.ids, which)
        whole[which] = (
            records.state_64[first + COUNT] != np.uint64(0)
            and is_whole(records, records.state_64, records.state_32, at, name)
            and is_id(address_of(records.ids, which * ID_WORDS))
            and sane(shape, records, at)
        )


@compiled
def find_slots(slots, ids, found):
    """``find`` for many: ``found``, (n,) int64, gets the slots, or -1, of ``ids``, (n * ID_WORDS,) uint64."""
    for which in range(found.size):
        found[which] = find(slots, address_of(ids, which * ID_WORDS))


def ids_of(names: Sequence[str]) -> np.ndarray:
    """Ids as they are stored, (n, ID_WORDS) uint64; zeros, which no stream has, for what is no id."""
    words = np.zeros((len(names), ID_WORDS), np.uint64)
    for row, name in enumerate(names):
        with suppress(ValueError):
            words[row] = id_words(name)
    return words


def find_streams(slots: Slots, words: np.ndarray) -> np.ndarray:
    """The slots of streams of such ids, (n,) int64, -1 for one that is not there; nothing may step them."""
    found = np.full(len(words), -1, np.int64)
    find_slots(slots, np.ascontiguousarray(words).reshape(-1), found)
    found[(found >= 0) & (slots.committed[found] == 0)] = -1
    return found


@compiled
def request_resets(slots, which):
    """``request_reset`` for many: ``which`` (n,) int64."""
    for slot in which:
        request_reset(slots, slot)


@compiled
def hold_records(records, which, hold):
    """Sets HOLD in the records ``which``, (n,) int64, and gives each its check again."""
    for place in which:
        at = place * records.words
        records.state_32[at + HOLD] = hold
        check = check_of(records.state_32, at, records.past_at, id_check(records.ids, place))
        records.state_64[at // 2 + CHECK] = check


def compile_transfer(net: Network, slots: Slots) -> None:
    """Compiles what the control socket runs, or loads it from the cache."""
    numbers, none = np.zeros(0, np.int64), np.zeros(0, np.uint64)
    state = none.view(np.float32)
    records = Records(0, 0, 0, 0, 0, none, state, state.view(np.uint32), none)
    vouch.prepare(shape_of_network(net), records, np.zeros(0, np.uint8))
    find_slots.prepare(slots, slots.ids, numbers)
    request_resets.prepare(slots, numbers)
    set_hold.prepare(slots, numbers, FREE)
    judge.prepare(net, slots, 0, 0, -1)


def records_of(snapshot: Snapshot, layout: RecordLayout) -> Records:
    """The records of a snapshot, of which ``read_layout`` gave the layout."""
    state = np.require(snapshot.records, np.float32, ["C", "W"]).reshape(-1)
    ids = np.require(snapshot.ids, np.uint8, ["C", "W"]).reshape(-1).view(np.uint64)
    of = (layout.words, layout.hidden_at, layout.past_at, layout.past_rows, layout.row)
    return Records(*of, ids, state, state.view(np.uint32), state.view(np.uint64))


def whole_records(records: Records, shape: RecordShape) -> np.ndarray:
    """Which records are what some step committed, (n,) bool."""
    whole = np.zeros(len(records.ids) // ID_WORDS, np.uint8)
    vouch(shape, records, whole)
    return whole.astype(bool)


def read_layout(snapshot: Snapshot, name: str) -> RecordLayout:
    """The layout that a snapshot says it has. Raises UserError for one that this version does not write."""
    try:
        layout = RecordLayout(**snapshot.layout)
    except TypeError:
        layout = RecordLayout(*[0] * len(RecordLayout._fields))
    begins = [getattr(layout, name) for name in layout._fields if name.endswith("_at")]
    parts = [*begins, layout.words]
    state, apart = layout.layers * layout.width, layout.cell_at - layout.hidden_at
    if (
        parts[0] != HEADER
        or sorted(parts) != parts
        or any(part % 16 for part in parts)
        or not 0 < layout.hidden <= layout.width
        or layout.layers < 1
        or not 0 < layout.places <= LONGEST_WINDOW
        or apart != layout.places * state
        or layout.past_at != layout.hidden_at + layout.states * apart
        or layout.words != layout.past_at + packed_rows(layout.past_rows * layout.row)
        or layout.row < 1
        or layout.past_rows == 1
        or not 0 < layout.states <= max(len(cell.states) for cell in CELLS)
    ):
        raise UserError(
            f"{name}: its records are laid out as this version does not; use the one that wrote it"
        )
    return layout


def shape_of_network(net: Network) -> RecordShape:
    return RecordShape(net.layers, net.width, net.apart, net.bounds)


def shape_of(layout: RecordLayout) -> RecordShape:
    """As much as a layout tells of its network: the widest bounds of the cells that it can be of."""
    widest = np.array(widest_bounds(layout.states), np.float32)
    apart = layout.cell_at - layout.hidden_at
    return RecordShape(layout.layers, layout.width, apart, np.repeat(widest, layout.layers))


def stream_names(ids: np.ndarray) -> list[str]:
    """The ids in (n, 128) uint8, or in as many uint64 words."""
    return [id_text(row) for row in np.ascontiguousarray(ids).reshape(-1, 8 * ID_WORDS // ids.itemsize)]


def number_of(count: int) -> str:
    """So many streams."""
    return "1 stream" if count == 1 else f"{count:,} streams"


def listed(names: Iterable[str]) -> str:
    """Some ids for an error, and how many there are beside them."""
    names = list(names)
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


def refuse_unfit(ids: np.ndarray, whole: np.ndarray) -> None:
    """Raises UserError unless every record is whole and every stream there once; ``ids`` (n, 128) uint8."""
    if not whole.all():
        raise UserError(
            f"damaged: {listed(stream_names(ids[~whole]))}; nothing was imported, and "
            "`streamrnn state export` makes a file of the others"
        )
    twice = [name for name, count in Counter(map(bytes, ids)).items() if count > 1]
    if twice:
        raise UserError(f"has {number_of(len(twice))} twice; nothing was imported, use another copy")


def refuse_another(theirs: str, ours: str, same_layout: bool) -> None:
    """Raises UserError unless two fingerprints are the same, and so are the layouts."""
    if theirs != ours:
        raise UserError(
            f"of the model {theirs}, and the streams there are of {ours}; import it where its own model runs"
        )
    if not same_layout:
        raise UserError(
            "its records are laid out as with another adapt.enabled, without predict.bands or with, or by "
            "another version; import it where these are the same"
        )


def refuse_taken(names: list[str]) -> None:
    """Raises UserError where ``names``, the streams that are there already, are any."""
    if names:
        raise UserError(
            f"there already: {listed(names)}; nothing was imported, --replace puts the file's in their place"
        )


def refuse_unknown(names: list[str]) -> None:
    """Raises UserError where ``names``, the streams that were asked for and are not there, are any."""
    if names:
        raise UserError(
            f"no such stream: {listed(names)}; nothing was done, `streamrnn state show` lists them"
        )
