"""The engine: a model, its streams and the rules for their faults, behind ``feed``."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from streamrnn.compiling.calls import NOBODY
from streamrnn.compiling.jit import UNCACHED, compiled, inlined
from streamrnn.engine.advance import Core, advance, prepared, slot_for, stage
from streamrnn.engine.answers import Answers, no_answers
from streamrnn.engine.crew import make_crew, usual_workers
from streamrnn.engine.growth import with_growth
from streamrnn.engine.helpers import helped
from streamrnn.engine.options import (
    AT_END,
    ROOM_BYTES,
    AnswerPolicies,
    FaultPolicies,
    asked_at_end,
    bands_for,
    batch_rows,
    kept_of,
    parts_of,
    rows_of_answer,
    rules_for,
)
from streamrnn.engine.stopwatch import make_stopwatch
from streamrnn.errors import ConfigError
from streamrnn.kernels.network import Network
from streamrnn.kernels.packing import make_scratch, pack_network
from streamrnn.kernels.rls import make_adaptation
from streamrnn.model.model import Model
from streamrnn.stats import OWN, PREDICTED, PREDICTIONS, REJECTED, SEVERAL, STREAMS, Stats
from streamrnn.streams.bands import Bands
from streamrnn.streams.batch import SHARED, make_batch, make_tile
from streamrnn.streams.beginning import begin_from
from streamrnn.streams.happenings import make_ring
from streamrnn.streams.record import ID_WORDS, layout_of
from streamrnn.streams.rules import unlearn
from streamrnn.streams.several_rows import make_decoder
from streamrnn.streams.slots import WORK_RECORDS, id_words, make_slots
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.frame import SEQ
from streamrnn.wire.memory import address_of


@inlined
def _answer(core, answers, row, to, step_ns):
    """Copies what came of a row of the batch to place ``to`` of the answers."""
    net, batch = core.net, core.batch
    answers.outcome[to] = batch.outcome[row]
    answers.said[to].seq, answers.said[to].ts_ns = batch.said[row].seq, batch.said[row].ts_ns
    answers.step_ns[to] = step_ns
    if batch.outcome[row] != PREDICTED:
        return
    answers.said[to] = batch.said[row]
    answers.answers[to] = batch.answers[row]
    answers.begins[to] = batch.begins[row]
    for output in range(net.outputs):
        answers.values[to, output] = batch.predicted[row * net.out_width + output]
        for side in range(2 * core.bands.number):
            at = (row * 2 * core.bands.number + side) * net.out_width + output
            answers.bands[to, side, output] = batch.bands[at]
        if batch.said[row].score >= SHARED:
            answers.shares[to, output] = batch.shares[row * net.out_width + output]


@inlined
def _several(core, several, row, to):
    """Copies the several rows that answer a row of the batch, and their bands, to place ``to``."""
    rows, width, sides = core.decoder.rows, core.net.out_width, several.shape[1] - 1
    for step in range(rows):
        for output in range(core.net.outputs):
            several[to, 0, step, output] = core.decoder.values[(row * rows + step) * width + output]
            for side in range(sides):
                at = ((row * sides + side) * rows + step) * width + output
                several[to, 1 + side, step, output] = core.decoder.bands[at]


@compiled(unknown="core")
def _feed(core, names, stream, values, seq, flags, ts, answers, several, done):
    """Steps rows from ``done`` on until ``several`` may be full. Returns the rows done, and its answers."""
    net, batch, stats = core.net, core.batch, core.stats
    given = 0
    while done < stream.size and (core.decoder.rows == 0 or given + batch.rows <= len(several)):
        count = 0
        received = monotonic_ns()
        while done < stream.size and count < batch.rows:
            for channel in range(net.inputs):
                batch.values[count * net.in_width + channel] = values[done, channel]
            slot = slot_for(core, address_of(names, stream[done] * ID_WORDS), count)
            if slot >= 0:
                stage(core, count, slot, flags[done], seq[done], ts[done], received)
                batch.origin[count] = done
                count += 1
            else:
                answers.outcome[done] = np.uint8(REJECTED - 1 - slot)
                answers.said[done].seq, answers.said[done].ts_ns = seq[done], ts[done]
            done += 1
        started = monotonic_ns()
        advance(core, count)
        step_ns = np.float32(monotonic_ns() - started) / np.float32(max(count, 1))
        for row in range(count):
            _answer(core, answers, row, batch.origin[row], step_ns)
            if batch.outcome[row] != PREDICTED:
                continue
            stats.counters[PREDICTIONS] += batch.answers[row] & OWN != 0
            if batch.answers[row] & SEVERAL != 0:
                stats.counters[PREDICTIONS] += 1
                _several(core, several, row, given)
                given += 1
    return done, given


class Engine:
    """A model, its streams and the rules for their faults.

    ``predict`` says when a sequence is answered, by how many rows, and with which bands; ``memory`` over how
    many rows the correction of forecasts is learned, 0 for none. ``home`` gives, for the network and the
    number of records to work in, the memory that the live state is to be kept in (see ``make_slots``);
    without one it is this process's own, and ends with it. ``workers`` threads step the streams of a batch,
    the one that calls among them, 0 for what the network and the processor suggest; no bit depends on how
    many.

    Raises ConfigError for a model or rules that this version cannot run. Not for use from two
    threads at once.
    """

    def __init__(
        self,
        model: Model,
        capacity: int,
        faults: FaultPolicies,
        home: Callable[[Network, int], np.ndarray | None] | None = None,
        predict: AnswerPolicies = AT_END,
        memory: int = 0,
        workers: int = 1,
        bands: Bands | None = None,
    ):
        if UNCACHED is not None:
            logging.getLogger("streamrnn").warning(UNCACHED)
        rules, rows = rules_for(model, faults, memory), rows_of_answer(model, predict)
        self.model = model
        self.capacity = capacity
        self._predict = predict
        self._ids: list[str] = []
        self._names = np.zeros(0, np.uint64)
        bands = bands or self._bands_for(model, faults, predict)
        network = pack_network(model, memory, kept_of(predict))
        workers = workers or usual_workers(network, len(os.sched_getaffinity(0)))
        work = workers * WORK_RECORDS
        try:
            block = home(network, work) if home is not None else None
            slots = make_slots(layout_of(network), capacity, block, work)
        except OSError as error:
            raise ConfigError(
                f"no memory for {capacity:,} streams of this model ({error.strerror}); use a smaller capacity"
            ) from error
        at_once = batch_rows(network, rows, parts_of(predict))
        self.core = Core(
            net=network,
            slots=slots,
            rules=rules,
            adaptation=make_adaptation(network, network.memory),
            bands=bands,
            decoder=make_decoder(network, rows, predict.every, model.target == "next", at_once, bands.number),
            batch=make_batch(network, at_once, bands.number),
            scratch=make_scratch(network),
            tile=make_tile(network.out_width, capacity * slots.words),
            crew=make_crew(network, workers),
            stats=Stats.zeros(),
            journal=make_ring(),
            watch=make_stopwatch(),
            stepping=NOBODY,
        )
        begin_from(slots, network, model.initial)
        self._alone: tuple[Core, Core, object] | None = None  # the core, and as it is when prepared

    def replacement(self, model: Model, faults: FaultPolicies) -> Core:
        """A core that goes on with these streams, for ``replace``. Raises ConfigError for another shape."""
        ours = self.model.shape()
        for key, value in model.shape().items():
            if value != ours[key]:
                raise ConfigError(
                    f"model: {key} {value}, the running one has {ours[key]}; a model of another shape "
                    "cannot take over its streams"
                )
        rows_of_answer(model, self._predict)
        decoder = self.core.decoder._replace(target_is_next=int(model.target == "next"))
        theirs, here = ([channel.name for channel in of.channels] for of in (model, self.model))
        if theirs != here:
            raise ConfigError(
                f"model: channels {', '.join(theirs)}, the running one has {', '.join(here)}; frames do not "
                "name their values, so all of them must stay, in their order"
            )
        for one, other in (
            (model.offsets, self.model.offsets),
            (model.output_offsets, self.model.output_offsets),
        ):
            if not np.array_equal(one, other):
                raise ConfigError(
                    "model: its channels or outputs have other offsets than those of the running one, less "
                    "which its streams are remembered; start the daemon anew to use it"
                )
        network = pack_network(model, self.core.net.memory, self.core.net.spread)
        if network.forecasts != self.core.net.forecasts:
            raise ConfigError(
                f'model: target "{model.target}", the running one has "{self.model.target}"; a model of '
                "another kind cannot take over its streams"
            )
        return self.core._replace(
            net=network,
            rules=rules_for(model, faults, network.memory),
            bands=self._bands_for(model, faults, self._predict),
            decoder=decoder,
        )

    def replace(self, model: Model, core: Core) -> None:
        """Has another model and rules go on with the streams; nothing may step them at that moment."""
        self.model, self.core = model, core
        begin_from(core.slots, core.net, model.initial)

    def swap(self, other: "Engine") -> None:
        """Trades models and streams with an engine of the same channels, capacity and policies.

        What was counted, and the journal, stay with each. Nothing may step either at that moment.
        """
        ours, theirs = self.core, other.core
        self.model, other.model = other.model, self.model
        self.core = theirs._replace(stats=ours.stats, journal=ours.journal)
        other.core = ours._replace(stats=theirs.stats, journal=theirs.journal)
        self._alone = other._alone = None
        for engine in (self, other):
            engine.stats.counters[STREAMS] = engine.core.slots.counts[1]

    def unlearn(self) -> None:
        """Forgets what streams have learned of their residuals: of another model, they are others."""
        unlearn(self.core.slots)

    @staticmethod
    def _bands_for(model: Model, faults: FaultPolicies, predict: AnswerPolicies) -> Bands:
        """The bands of a model; those of a rollout grow by what another engine answers to small changes."""

        def feed_of(bands: Bands) -> Callable[..., Answers]:
            at_end = asked_at_end(predict)  # or it would roll out with every row that only warms it up
            return Engine(model, len(model.channels) + 1, faults, predict=at_end, bands=bands).feed

        return with_growth(bands_for(model, predict), model, predict.horizon, feed_of)

    @property
    def stats(self) -> Stats:
        return self.core.stats

    @property
    def levels(self) -> tuple[float, ...]:
        """Of the bands, the narrowest first."""
        return tuple(self._predict.bands)

    @property
    def rows(self) -> int:
        """Of an answer of several; 0 = there is none."""
        return self.core.decoder.rows

    def feed(
        self,
        ids: Sequence[str],
        stream: np.ndarray,
        values: np.ndarray,
        seq: np.ndarray | None = None,
        ts_ns: np.ndarray | None = None,
        flags: np.ndarray | None = None,
    ) -> Answers:
        """Steps n rows, in order, and returns what came of each.

        ``stream`` (n,) holds indices into ``ids``; ``values`` (n, channels) float32 in physical
        units less the channels' offsets, NaN for a missing one; ``seq`` (n,) uint64, or None to number the
        rows of each stream; ``ts_ns`` (n,) int64, 0 or None for no time; ``flags`` (n,) uint16, of a frame:
        END and RESET. Runs without the GIL.

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
        for name, array in (("seq", seq), ("ts_ns", ts_ns), ("flags", flags)):
            if array is not None and array.shape != (count,):
                raise ValueError(f"{name} must be ({count},), not {array.shape}")
        answers = no_answers(count, outputs, self.core.decoder.rows, self.core.bands.number)
        none = np.zeros(count, np.uint64)
        numbers = none if seq is None else np.require(seq, np.uint64, ["C", "W"])
        times = none.view(np.int64) if ts_ns is None else np.require(ts_ns, np.int64, ["C", "W"])
        said = np.zeros(count, np.uint16) if flags is None else flags.astype(np.uint16)
        said |= np.uint16(0 if seq is None else SEQ)
        names = self._id_words(ids)
        several = self._step(names, stream, values, numbers, said, times, answers)
        ahead = (np.ascontiguousarray(part) for part in (several[:, 0], several[:, 1:]))
        return answers._replace(**dict(zip(("several", "bands_ahead"), ahead, strict=True)))

    def _step(self, names: np.ndarray, *rows: Any) -> np.ndarray:
        """All rows through the network, and their answers of several rows, in pieces of bounded size.

        These are (m, 1 + 2 * bands, rows, outputs).
        """
        stream = rows[0]
        shape = parts_of(self._predict), self.core.decoder.rows, self.core.net.outputs
        size = 4 * max(math.prod(shape), 1)
        pieces, done = [np.empty((0, *shape), np.float32)], 0
        many = len(stream) > self.core.batch.rows
        with self.helped() if many else nullcontext(self._without_help()) as core:
            while True:
                room = 0
                if core.decoder.rows:
                    room = max(min(ROOM_BYTES // size, len(stream) - done), core.batch.rows)
                several = np.empty((room, *shape), np.float32)
                done, given = _feed(core, names, *rows, several, done)
                pieces.append(several[:given].copy() if given < room else several)
                if done == len(stream):
                    return np.concatenate(pieces)

    def helped(self) -> AbstractContextManager[Core]:
        """Has all workers at hand for the block, in which one thread leads them, with the core it gets."""
        return helped(self.core)

    def _without_help(self) -> Core:
        if self._alone is None or self._alone[0] is not self.core:
            self._alone = self.core, *prepared(self.core)
        return self._alone[1]

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
