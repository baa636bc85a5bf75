"""How the workers of an engine, a thread each, divide the streams of a batch among them. Compiled.

One of them leads: its thread calls ``advance``. It lays the streams of a batch out and, where they are worth
it, rings for helpers, who sleep otherwise. Then all take of what nobody has, the leader too, so that it waits
for no helper whom the kernel has not let run yet; and the less is left, the less each takes (guided
self-scheduling: Polychronopoulos & Kuck 1987). Whoever took a stream takes all of its rows in the batch; that
is done when all are through with what they took.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import MOST
from streamrnn.kernels.network import Network, aligned
from streamrnn.streams.batch import ROWS
from streamrnn.system.semaphores import SEMAPHORE_BYTES, give_turn, make_semaphore, post, try_wait, wait
from streamrnn.wire.clock import monotonic_ns
from streamrnn.wire.memory import address_of, load_ordered, store_release, take_off

LEADER = 0
WORTH = 3_000_000  # multiply-adds: what is less is stepped sooner than others are woken
EACH = 25_000  # in a step: from there on one more worker has as much to do as the leader has for it
_SHORT_NS = 200_000  # what a helper looks for streams, before it sleeps
_SPIN_NS = 50_000  # what the leader looks whether the others are through, before it sleeps
_TOGETHER = 3  # log2 of the slots that belong to one worker: their words share cache lines

# indices into Crew.board, whose words do not share cache lines
_LINE = 8
OPEN, _ALONE, _OFFERED, _OF_WORKERS = (_LINE * line for line in range(4))
_PILE, _LEFT, _DONE, _WAITED = (_LINE * line for line in range(4))
_EACH = 4 * _LINE


class Crew(NamedTuple):
    """The workers as one of them knows them."""

    number: int  # of this one
    workers: int  # how many there are
    least: int  # rows of a batch that are worth sharing
    ready: np.ndarray  # ((1 + workers) * ROWS,) int64: the first row of each stream; then in piles, by worker
    # by _LINE: 1 until the helpers are called off; how many streams are left, to a leader alone; how many
    # were ever laid out in piles. Then of each worker: the streams on its pile, how many are left of them,
    # how many of any pile it was ever through with; and for how long it waited last, ns
    board: np.ndarray  # (_OF_WORKERS + workers * _EACH,) int64
    bells: np.ndarray  # (workers * _LINE,) int64: a semaphore of each


def work_of(network: Network) -> int:
    """Multiply-adds of a row, or a few less: dense layers are passed once, whatever the window."""
    return network.weights.size * max(network.window, 1)


def usual_workers(network: Network, cores: int) -> int:
    """As many as have something to do, for streams enough."""
    return max(min(work_of(network) // EACH, cores), 1)


def make_crew(network: Network, workers: int) -> Crew:
    bells = aligned(workers * _LINE, np.int64)
    assert _LINE * bells.itemsize >= SEMAPHORE_BYTES
    for worker in range(workers):
        make_semaphore(bell_of(bells, worker))
    return Crew(
        number=LEADER,
        workers=workers,
        least=-(-WORTH // work_of(network)),
        ready=np.zeros((1 + workers) * ROWS, np.int64),
        board=aligned(_OF_WORKERS + workers * _EACH, np.int64),
        bells=bells,
    )


def bell_of(bells: np.ndarray, worker: int) -> int:
    """The address of a worker's semaphore."""
    return bells.ctypes.data + worker * _LINE * bells.itemsize


@inlined
def _bell(crew, worker):
    return address_of(crew.bells, worker * _LINE)


@inlined
def _of(worker, what):
    return _OF_WORKERS + worker * _EACH + what


@inlined
def lay_out(crew, batch, streams, rows):
    """Lays out the streams of a batch of so many rows. Whether for all workers, or else for the leader alone.

    A stream goes on the pile of the worker that had it before, in whose cache its record may be.
    """
    board, ready = crew.board, crew.ready
    if crew.workers == 1 or streams <= MOST or rows < crew.least:
        board[_ALONE] = streams
        return False
    for worker in range(crew.workers):
        board[_of(worker, _PILE)] = 0
    for place in range(streams):
        row = ready[place]
        worker = (batch.slot[row] >> _TOGETHER) % crew.workers
        at = _of(worker, _PILE)
        ready[(1 + worker) * ROWS + board[at]] = row
        board[at] += 1
    board[_OFFERED] += streams
    for worker in range(crew.workers):
        store_release(board, _of(worker, _LEFT), np.uint64(board[_of(worker, _PILE)]))
    for helper in range(1, min(crew.workers, (streams + MOST - 1) // MOST)):
        post(_bell(crew, helper))
    return True


@inlined
def _left(crew, worker):
    return np.int64(load_ordered(crew.board, _of(worker, _LEFT)))


@inlined
def take(crew, shared, streams, most):
    """Takes up to ``most`` streams. Returns where they begin in ``Crew.ready``, how many, and its end.

    So many ``streams`` are laid out for a leader alone; else who finds its own pile gone takes of another.
    """
    board = crew.board
    if not shared:
        left = board[_ALONE]
        board[_ALONE] = max(left - most, 0)
        return streams - left, min(left, most), streams
    for turn in range(crew.workers):
        worker = (crew.number + turn) % crew.workers
        left = _left(crew, worker)
        if left > 0:
            some = min(most, max(left // (2 * MOST) * MOST, MOST))
            left = take_off(board, _of(worker, _LEFT), some)
            if left > 0:
                end = (1 + worker) * ROWS + board[_of(worker, _PILE)]
                return end - left, min(left, some), end
    return np.int64(0), np.int64(0), np.int64(0)


@inlined
def _note_done(crew, streams):
    at = _of(crew.number, _DONE)
    store_release(crew.board, at, np.uint64(crew.board[at] + streams))


@inlined
def report(crew, streams):
    """Tells the leader that a helper is through with so many streams."""
    _note_done(crew, streams)
    post(_bell(crew, LEADER))


@inlined
def join(crew, streams):
    """Waits, for a leader who is through with so many streams, until all that were offered are done."""
    _note_done(crew, streams)
    until = np.int64(0)
    while True:
        done = np.int64(0)
        for worker in range(crew.workers):
            done += np.int64(load_ordered(crew.board, _of(worker, _DONE)))
        if done == crew.board[_OFFERED]:
            break
        now = monotonic_ns()
        if until == 0:
            until = now + _SPIN_NS
        elif now > until:
            wait(_bell(crew, LEADER))
        else:
            give_turn()
    while try_wait(_bell(crew, LEADER)) == 0:  # of helpers who were not waited for
        pass


@inlined
def stay(crew):
    """Has a helper wait for streams to take, or be called off; whether the former.

    It sleeps, and to wake it costs the leader some us, on a virtual machine tens. So where the last wait was
    short it looks for so long whether this one is, too, and lets others have the core meanwhile.
    """
    board, bell, waited = crew.board, _bell(crew, crew.number), _of(crew.number, _WAITED)
    while try_wait(bell) == 0:  # rung for a batch that it found by itself; or not yet, so it looks once more
        pass
    since = monotonic_ns()
    until = since + (_SHORT_NS if board[waited] < _SHORT_NS else 0)
    while True:
        there = load_ordered(board, OPEN) == np.uint64(0)
        for worker in range(crew.workers):
            there = there or _left(crew, worker) > 0
        if there:
            board[waited] = monotonic_ns() - since
            return board[OPEN] != 0
        if monotonic_ns() >= until:
            break
        give_turn()
    wait(bell)
    board[waited] = monotonic_ns() - since
    return load_ordered(board, OPEN) != np.uint64(0)
