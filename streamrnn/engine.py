"""The engine: network, slots and rules behind one compiled ``advance``.

The daemon's pump and ``Engine.feed`` (replay, tests, benchmarks) call the same ``advance``, so what a
replay shows is what the daemon does.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from streamrnn.errors import ConfigError
from streamrnn.jit import UNCACHED, compiled, inlined
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import Network, Scratch, forward, make_scratch, pack_network
from streamrnn.model.model import Model
from streamrnn.stats import PREDICTIONS, REASONS, STREAMS, Stats
from streamrnn.streams.batch import PREDICTED, REJECTED, ROWS, Batch, make_batch
from streamrnn.streams.record import ID_WORDS
from streamrnn.streams.rules import (
    GAP_POLICIES,
    IMAGINED,
    MISSING_POLICIES,
    SKIP,
    Rules,
    prepare,
    refusal,
    write,
)
from streamrnn.streams.slots import Slots, admit, commit, find, id_words, make_slots
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.codec import is_utf8
from streamrnn.wire.frame import SEQ
from streamrnn.wire.memory import address_of

_CAPACITY, _TOPIC = REASONS.index("capacity"), REASONS.index("topic")


class Faults(Protocol):
    """What the engine reads of the ``faults`` section of the configuration."""

    @property
    def gap(self) -> str: ...
    @property
    def max_gap(self) -> int: ...
    @property
    def missing(self) -> str: ...


class Core(NamedTuple):
    """Everything that ``advance`` works on."""

    net: Network
    slots: Slots
    rules: Rules
    batch: Batch
    scratch: Scratch
    stats: Stats


class Answers(NamedTuple):
    """What came of n rows, in their order."""

    outcome: np.ndarray  # (n,) uint8: 0 predicted, 1 late, 2 + i rejected for stats.REASONS[i]
    flags: np.ndarray  # (n,) uint16: of the prediction
    seq: np.ndarray  # (n,) uint64
    ts_ns: np.ndarray  # (n,) int64
    step: np.ndarray  # (n,) uint64
    score: np.ndarray  # (n,) float32: NaN, none is computed in this version
    gap: np.ndarray  # (n,) uint32
    epoch: np.ndarray  # (n,) uint32
    residual: np.ndarray  # (n,) float32
    values: np.ndarray  # (n, outputs) float32, physical units
    step_ns: np.ndarray  # (n,) float32: time of the row's batch, divided by its rows


@inlined
def _link(slots, batch, count):
    """Chains the rows of each stream in order. Returns how many streams can begin at once."""
    batch.number[0] += 1
    ready = 0
    for row in range(count):
        slot = batch.slot[row]
        if slots.batch[slot] == batch.number[0]:
            batch.next[slots.tail[slot]] = row
        else:
            slots.batch[slot] = batch.number[0]
            batch.ready[ready] = row
            ready += 1
        slots.tail[slot] = row
        batch.next[row] = -1
        batch.gap[row] = np.uint32(0)
    return ready


@compiled
def advance(core, count):
    """Takes rows 0 to ``count`` of the batch through the rules and the network, and commits each.

    Rows of one stream are taken in order, one a round; a round's streams are stepped a tile at a
    time. A row behind a gap comes back in the next round until the rows before it are filled in.
    """
    net, slots, rules, batch, scratch, stats = core
    ready = _link(slots, batch, count)
    while ready > 0:
        at = waiting = 0
        while at < ready:
            lanes = 0
            while at < ready and lanes < TILE_STREAMS:
                row = batch.ready[at]
                at += 1
                what = prepare(net, slots, rules, batch, scratch, stats, row, lanes)
                if what != SKIP:
                    lanes += 1
                following = row if what == IMAGINED else batch.next[row]
                if following >= 0:
                    batch.ready[waiting] = following
                    waiting += 1
            if lanes > 0:
                forward(net, scratch, slots.state, lanes)
            for lane in range(lanes):
                write(net, slots, rules, batch, scratch, stats, lane)
                commit(slots, batch.slot[batch.lane_row[lane]])
        ready = waiting


@inlined
def stage(core, row, slot, flags, seq, ts, received):
    """Enters a row, its values already in place, for the next ``advance``."""
    batch = core.batch
    batch.slot[row] = slot
    batch.flags[row] = flags
    batch.seq[row] = seq
    batch.ts[row] = ts
    batch.received[row] = received


@inlined
def slot_for(core, name, row):
    """The slot of the id at address ``name`` for row ``row`` of the batch, its values in place.

    A new stream is admitted by its first row, so that row must be usable as it is: with nothing
    known of the stream there is nothing to fill in from. Otherwise -1 - index into REASONS, counted.
    """
    slots, stats = core.slots, core.stats
    slot = find(slots, name)
    if slot >= 0:
        return slot
    reason = refusal(core.net, core.rules, core.batch, row, False)
    if not is_utf8(name):
        reason = _TOPIC
    if reason < 0:
        slot = admit(slots, name)
        stats.counters[STREAMS] = slots.counts[1]
        if slot >= 0:
            return slot
        reason = _CAPACITY
    stats.rejected[reason] += 1
    return -1 - reason


@inlined
def _answer(core, answers, row, to, step_ns):
    """Copies what came of a row of the batch to place ``to`` of the answers."""
    net, batch = core.net, core.batch
    answers.outcome[to] = batch.outcome[row]
    answers.seq[to] = batch.seq[row]
    answers.ts_ns[to] = batch.ts[row]
    answers.step_ns[to] = step_ns
    if batch.outcome[row] != PREDICTED:
        return
    answers.flags[to] = batch.said[row]
    answers.step[to] = batch.step[row]
    answers.gap[to] = batch.gap[row]
    answers.epoch[to] = batch.epoch[row]
    answers.residual[to] = batch.residual[row]
    for output in range(net.outputs):
        answers.values[to, output] = batch.predicted[row * net.out_width + output]


@compiled
def _feed(core, names, stream, values, seq, numbered, ts, answers):
    net, batch, stats = core.net, core.batch, core.stats
    flags = np.uint16(SEQ if numbered else 0)
    done = 0
    while done < stream.size:
        count = 0
        received = monotonic_ns()
        while done < stream.size and count < ROWS:
            for channel in range(net.inputs):
                batch.values[count * net.in_width + channel] = values[done, channel]
            slot = slot_for(core, address_of(names, stream[done] * ID_WORDS), count)
            if slot >= 0:
                stage(core, count, slot, flags, seq[done], ts[done], received)
                batch.origin[count] = done
                count += 1
            else:
                answers.outcome[done] = np.uint8(REJECTED - 1 - slot)
                answers.seq[done] = seq[done]
                answers.ts_ns[done] = ts[done]
            done += 1
        started = monotonic_ns()
        advance(core, count)
        step_ns = np.float32(monotonic_ns() - started) / np.float32(max(count, 1))
        for row in range(count):
            stats.counters[PREDICTIONS] += batch.outcome[row] == PREDICTED
            _answer(core, answers, row, batch.origin[row], step_ns)


def _rules_for(model: Model, faults: Faults) -> Rules:
    """The rules for compiled code. Raises ConfigError where the model cannot run, or not by these."""
    if model.relation != "sequence-to-sequence" or model.horizon != 1:
        raise ConfigError(
            f"the model is {model.relation} with horizon {model.horizon}; "
            "this version runs sequence-to-sequence models with horizon 1"
        )
    forecasts_all = model.target == "next" and len(model.outputs) == len(model.channels)
    for key, policy in (("gap", faults.gap), ("missing", faults.missing)):
        if policy == "predict" and not forecasts_all:
            raise ConfigError(
                f'faults.{key}: "predict" needs a model that forecasts each of its channels; '
                f'this one has target "{model.target}", {len(model.channels)} channels and '
                f'{len(model.outputs)} outputs; use "hold"'
            )
    return Rules(
        gap=GAP_POLICIES.index(faults.gap),
        max_gap=faults.max_gap,
        missing=MISSING_POLICIES.index(faults.missing),
        forecasts=int(model.target == "next"),
        period_ns=round(model.sample_period_s * 1e9),
    )


class Engine:
    """A model, its streams and the rules for their faults.

    ``home`` gives the memory that the live state is to be kept in (see ``make_slots``); without one
    it is this process's own, and ends with it.

    Raises ConfigError for a model or rules that this version cannot run. Not for use from two
    threads at once.
    """

    def __init__(
        self,
        model: Model,
        capacity: int,
        faults: Faults,
        home: Callable[[Network], np.ndarray | None] | None = None,
    ):
        if UNCACHED is not None:
            logging.getLogger("streamrnn").warning(UNCACHED)
        rules = _rules_for(model, faults)
        self.model = model
        self.capacity = capacity
        self._ids: list[str] = []
        self._names = np.zeros(0, np.uint64)
        network = pack_network(model)
        try:
            slots = make_slots(network, capacity, home(network) if home is not None else None)
        except OSError as error:
            raise ConfigError(
                f"no memory for {capacity:,} streams of this model ({error.strerror}); use a smaller capacity"
            ) from error
        self.core = Core(
            net=network,
            slots=slots,
            rules=rules,
            batch=make_batch(network),
            scratch=make_scratch(network),
            stats=Stats.zeros(),
        )

    def replacement(self, model: Model, faults: Faults) -> Core:
        """A core that goes on with these streams, for ``replace``. Raises ConfigError for another shape."""
        ours = self.model.shape()
        for key, value in model.shape().items():
            if value != ours[key]:
                raise ConfigError(
                    f"model: {key} {value}, the running one has {ours[key]}; a model of another shape "
                    "cannot take over its streams"
                )
        return self.core._replace(net=pack_network(model), rules=_rules_for(model, faults))

    def replace(self, model: Model, core: Core) -> None:
        """Has another model and rules go on with the streams; nothing may step them at that moment."""
        self.model, self.core = model, core

    @property
    def stats(self) -> Stats:
        return self.core.stats

    def feed(
        self,
        ids: Sequence[str],
        stream: np.ndarray,
        values: np.ndarray,
        seq: np.ndarray | None = None,
        ts_ns: np.ndarray | None = None,
    ) -> Answers:
        """Steps n rows, in order, and returns what came of each.

        ``stream`` (n,) holds indices into ``ids``; ``values`` (n, channels) float32 in physical
        units, NaN for a missing one; ``seq`` (n,) uint64, or None to number the rows of each
        stream; ``ts_ns`` (n,) int64, 0 or None for no time. Runs without the GIL.

        Raises ValueError for shapes that do not fit together or an id that cannot be a topic.
        """
        count, outputs = len(stream), self.core.net.outputs
        if stream.shape != (count,):
            raise ValueError(f"stream must be ({count},), not {stream.shape}")
        # Numba compiles anew for an array that cannot be written to, as those of Arrow: "W" copies them
        values = np.require(values, np.float32, ["C", "W"])
        stream = np.require(stream, np.int64, ["C", "W"])
        if values.shape != (count, self.core.net.inputs):
            raise ValueError(f"values must be ({count}, {self.core.net.inputs}), not {values.shape}")
        if count and not 0 <= stream.min() <= stream.max() < len(ids):
            raise ValueError(f"stream must hold indices into the {len(ids)} ids")
        for name, array in (("seq", seq), ("ts_ns", ts_ns)):
            if array is not None and array.shape != (count,):
                raise ValueError(f"{name} must be ({count},), not {array.shape}")
        answers = Answers(
            outcome=np.zeros(count, np.uint8),
            flags=np.zeros(count, np.uint16),
            seq=np.zeros(count, np.uint64),
            ts_ns=np.zeros(count, np.int64),
            step=np.zeros(count, np.uint64),
            score=np.full(count, np.nan, np.float32),
            gap=np.zeros(count, np.uint32),
            epoch=np.zeros(count, np.uint32),
            residual=np.full(count, np.nan, np.float32),
            values=np.full((count, outputs), np.nan, np.float32),
            step_ns=np.zeros(count, np.float32),
        )
        none = np.zeros(count, np.uint64)
        numbers = none if seq is None else np.require(seq, np.uint64, ["C", "W"])
        times = none.view(np.int64) if ts_ns is None else np.require(ts_ns, np.int64, ["C", "W"])
        names = self._id_words(ids)
        _feed(self.core, names, stream, values, numbers, seq is not None, times, answers)
        return answers

    def _id_words(self, ids: Sequence[str]) -> np.ndarray:
        """The ids as the slots keep them. A list only grows from call to call: what is new is packed."""
        known = len(self._ids)
        if list(ids[:known]) != self._ids:
            self._ids, self._names, known = [], np.zeros(0, np.uint64), 0
        new = list(ids[known:])
        if new:
            self._names = np.concatenate([self._names, *map(id_words, new)])
            self._ids += new
        return self._names
