"""A crash after any instruction leaves the state before or the state after, never a mixture.

The compiled code is stepped through one machine instruction at a time. What it has written into the live
state by then is what a process killed there leaves behind, so after each change that is recovered.
"""

import ctypes
import functools
import gc
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from llvmlite import binding
from models import ADDED, untrained
from slots_by_hand import find_slot, live_streams, release_slot

from streamrnn.compiling.jit import compiled
from streamrnn.engine.advance import advance, prepared
from streamrnn.engine.engine import Engine, _feed
from streamrnn.engine.helpers import core_of
from streamrnn.engine.options import AT_END, AnswerPolicies
from streamrnn.kernels.network import Network
from streamrnn.model.cells import NAMES
from streamrnn.model.model import Model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.streams.live import LiveFile
from streamrnn.streams.record import PLACE, layout_of
from streamrnn.streams.recovery import recover
from streamrnn.streams.rules import request_reset
from streamrnn.streams.slots import WORK_RECORDS, Slots, id_words, live_bytes, make_slots
from streamrnn.wire.frame import END, RESET, SEQ

TRACE_ME, SINGLE_STEP = 0, 9  # ptrace(2)
CAPACITY, WORKERS = 2, 2
WORK = WORKERS * WORK_RECORDS
NOBODY: dict[str, bytes] = {}

# The C library's: no more is stepped through than what stands between two of these
_stop = numba.types.ExternalFunction("raise", numba.int32(numba.int32))
_SIGSTOP = int(signal.SIGSTOP)

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


@functools.cache
def stopping(function: Any, count: int) -> Any:
    """Compiled code that calls other compiled code, and stops the process before and after."""
    names = ", ".join(f"argument{number}" for number in range(count))
    lines = [f"def stepped({names}):", "stop(number)", f"function({names})", "stop(number)"]
    known: dict[str, Any] = {"stop": _stop, "number": _SIGSTOP, "function": function}
    exec("\n ".join(lines), known)
    return compiled(known["stepped"], cache=False)


def between_stops(function: Any, *arguments: Any, kept: object = None) -> Callable[[], object]:
    """``kept`` is what must stay for as long as the arguments are used."""
    stepped = stopping(function, len(arguments))
    stepped.prepare(*arguments)
    return lambda: (stepped(*arguments), kept)


def step_through(work: Callable[[], object], block: np.ndarray) -> Iterator[bytes]:
    """Every content that ``block``, shared memory, has while a child process does ``work``."""
    child = os.fork()
    if child == 0:
        gc.disable()
        libc.ptrace(TRACE_ME, 0, None, None)
        work()
        os._exit(0)
    try:
        before = block.tobytes()
        yield before
        _, status = os.waitpid(child, 0)
        assert os.WIFSTOPPED(status), "the child could not be traced"
        while True:
            assert libc.ptrace(SINGLE_STEP, child, None, None) == 0, os.strerror(ctypes.get_errno())
            _, status = os.waitpid(child, 0)
            assert os.WIFSTOPPED(status), status
            if (now := block.tobytes()) != before:
                before = now
                yield now
            if os.WSTOPSIG(status) != signal.SIGTRAP:
                break
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def without_spare_row(slots: Slots, record: np.ndarray) -> bytes:
    """A record less the row of its past that nothing looks back to, and that a step writes first."""
    if slots.past_rows:
        spare = (int(record.view(np.uint32)[PLACE]) - 1) % slots.past_rows
        record[slots.past_at :][spare * slots.row : (spare + 1) * slots.row] = 0
    return record.tobytes()


def recovered(network: Network, content: bytes) -> dict[str, bytes]:
    """The streams that a start finds in a live state, each with its committed record."""
    slots = make_slots(layout_of(network), CAPACITY, np.frombuffer(bytearray(content), np.uint8), WORK)
    bad = np.zeros(CAPACITY, np.uint8)
    recover(network, slots, 1 << 62, bad)
    assert not bad.any()
    found = {}
    for name, slot in live_streams(slots):
        at = slot * slots.words
        found[name] = without_spare_row(slots, slots.state[at : at + slots.words].copy())
    return found


@pytest.fixture
def live_engine() -> Iterator[Callable[..., tuple[Engine, np.ndarray]]]:
    """Makes an engine whose slots are on tmpfs, and gives that memory, too."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:

        def make(
            model: Model, predict: AnswerPolicies = AT_END, **faults: object
        ) -> tuple[Engine, np.ndarray]:
            def home(network: Network, work: int) -> np.ndarray:
                live = LiveFile(Path(folder), network, model.fingerprint, CAPACITY, work=work)
                assert live.block.size == live_bytes(layout_of(network), CAPACITY, WORK)
                return live.block

            engine = Engine(model, CAPACITY, Faults(**faults), home, predict, workers=WORKERS)
            return engine, engine.core.slots.ids.base

        yield make


def feed(engine: Engine, seq: int) -> Callable[[], object]:
    """One row of stream "a", numbered ``seq``, ready to be fed by one call of compiled code."""
    values = np.full((1, len(engine.model.channels)), 0.5 + seq, np.float32)
    one = np.zeros(1, np.int64)
    answers = engine.feed(["a"], one[:0], values[:0])
    answers = type(answers)(*(np.zeros((1, *part.shape[1:]), part.dtype) for part in answers))
    flags, none = np.array([SEQ], np.uint16), np.zeros((0, 1, 0, values.shape[1]), np.float32)
    arrays = (id_words("a").copy(), one, values, np.array([seq], np.uint64), flags, one.copy(), answers)
    core, kept = prepared(engine.core)
    return between_stops(_feed, core, *arrays, none, 0, kept=kept)


def feed_one(engine: Engine) -> None:
    """Row 0 of stream "a"."""
    engine.feed(["a"], np.zeros(1, np.int64), np.full((1, 2), 0.25, np.float32))


def advance_one(engine: Engine, seq: int, flags: int, value: float, worker: int = 0) -> Callable[[], object]:
    """One row of stream "a" with flags, ready in the batch, to be stepped where ``worker`` steps rows."""
    core, batch = engine.core, engine.core.batch
    core, kept = prepared(core._replace(tile=core_of(core, worker).tile))
    batch.slot[0] = find_slot(core.slots, id_words("a"))
    batch.flags[0], batch.received[0] = flags | SEQ, 7
    batch.said["seq"][0], batch.said["ts_ns"][0] = seq, 5
    batch.values[: len(engine.model.channels)] = value
    return between_stops(advance, core, 1, kept=kept)


def states(engine: Engine, block: np.ndarray, work: Callable[[], object]) -> list[dict[str, bytes]]:
    """What a start would find, in order, each only once in a row."""
    found: list[dict[str, bytes]] = []
    changes = 0
    for content in step_through(work, block):
        changes += 1
        if not found or recovered(engine.core.net, content) != found[-1]:
            found.append(recovered(engine.core.net, content))
    assert changes > 3, "nothing was seen to change"
    return found


@pytest.mark.parametrize(("cell", "more"), [*((name, {}) for name in NAMES), ("gru", ADDED)])
def test_a_step(live_engine, cell, more):
    engine, block = live_engine(untrained(cell, channels=2, hidden=4, layers=2, **more))
    feed_one(engine)
    (before, after) = states(engine, block, feed(engine, 1))
    assert before.keys() == after.keys() == {"a"}


def test_a_stream_s_first_step_admits_it(live_engine):
    engine, block = live_engine(untrained("lstm", channels=2, hidden=4))
    (before, after) = states(engine, block, feed(engine, 0))
    assert (before, after.keys()) == (NOBODY, {"a"})


def test_each_row_of_a_gap_is_a_step(live_engine):
    engine, block = live_engine(untrained("lstm", channels=2, hidden=4), gap="hold")
    feed_one(engine)
    found = states(engine, block, feed(engine, 3))
    assert len(found) == 4  # as it was, two that are filled in, and the row


@pytest.mark.parametrize("flags, value", [(RESET, 1.0), (END, 1.0), (RESET, np.inf), (END, np.inf)])
def test_sequences_that_end_and_begin(live_engine, flags, value):
    engine, block = live_engine(untrained("gru", channels=2, hidden=4))
    feed_one(engine)
    assert len(states(engine, block, advance_one(engine, 1, flags, value))) == 2


def test_a_rollout_that_is_remembered_is_a_commit_behind_its_row_s(live_engine):
    asked = Predict(bands=(0.5,), horizon=3)
    engine, block = live_engine(untrained("lstm", channels=2, hidden=4), asked)
    feed_one(engine)
    found = states(engine, block, advance_one(engine, 1, END, 1.0))
    assert len(found) == 3  # as it was, the row, and the rollout
    assert len(states(engine, block, advance_one(engine, 2, END, 1.0))) == 3


def test_a_step_of_another_worker(live_engine):
    engine, block = live_engine(untrained("lstm", channels=2, hidden=4))
    feed_one(engine)
    (before, after) = states(engine, block, advance_one(engine, 1, 0, 1.0, worker=1))
    assert before.keys() == after.keys() == {"a"}


def test_letting_go_and_a_reset(live_engine):
    engine, block = live_engine(untrained("gru", channels=2, hidden=4))
    slots = engine.core.slots
    feed_one(engine)
    assert len(states(engine, block, between_stops(request_reset, slots, 0))) == 2
    (before, after) = states(engine, block, between_stops(release_slot, slots, 0))
    assert (before.keys(), after) == ({"a"}, NOBODY)


@pytest.fixture(scope="module")
def a_commit() -> str:
    """LLVM's code of the smallest function that commits; what comes from the cache cannot be looked at."""
    slots = Engine(untrained("lstm", channels=2, hidden=4), 1, Faults()).core.slots
    function = compiled(request_reset.py_func, cache=False)
    function.prepare(slots, 0)
    return function.inspect_llvm(function.signatures[0])


def test_what_commits_stands_right_behind_a_release_fence(a_commit):
    """The check, the counter, and the record's own count; between fence and store addresses are made."""
    stores = re.findall(r"store atomic .*", a_commit)
    address = r"(?:\s+%\S+ = (?:getelementptr|mul) [^\n]*\n)*"
    ordered = re.findall(
        rf"fence release[^\n]*\n{address}\s+store atomic i64 [^\n]* monotonic, align 8", a_commit
    )
    assert len(ordered) == len(stores) == 3


def test_on_arm_the_fence_is_a_barrier(a_commit):
    """Where the processor itself may reorder stores, the generated code has to forbid it."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple("aarch64-linux-gnu").create_target_machine(opt=3)
    text = re.sub(r'target triple = ".*"', 'target triple = "aarch64-linux-gnu"', a_commit)
    text = re.sub(r'target datalayout = ".*"', f'target datalayout = "{target.target_data}"', text)
    text = re.sub(r'"target-(cpu|features)"="[^"]*"', "", text)
    assembly = target.emit_assembly(binding.parse_assembly(text))
    barriers = re.findall(r"dmb\s+ish\n(?:\s+(?!st)\w.*\n)*\s+(st\w+\s+x)", assembly)
    assert len(barriers) == 3
    assert len(re.findall(r"dmb\s+ish\n", assembly)) == 4  # and one between the counter and what is copied
