"""Sequences side by side in lanes that a network steps through together, and the rows before each step."""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.train.data.dataset import Scaling, Sequence

_ALL_WEIGH_ONE = np.zeros(0, np.float32)


class Chunk(NamedTuple):
    """T steps of B lanes, C-contiguous, in standard deviations."""

    x: np.ndarray  # (T, B, C) float32; zeros where a lane is empty
    y: np.ndarray  # (T, B, O) float32: the targets; 0 where there is none
    weight: np.ndarray  # (T, B, O) float32: of the row where there is a target, else 0
    begins: np.ndarray  # (T, B) uint8: 1 where a sequence begins; the state is zeros before that row


class Piece(NamedTuple):
    """Rows of a sequence that stand in a lane one after another."""

    step: int  # of the first row
    sequence: int
    begin: int  # its first row in the sequence
    end: int
    run_up: int  # leading rows that weigh nothing here


class Lanes:
    """Sequences end to end, cut into ``batch`` lanes of equal length; less than one row a lane is empty.

    Every row is there once. Where a lane begins inside a sequence, its state begins from nothing there.
    ``offset``, in rows, moves these places: the lanes begin that far into the first sequence, and end
    there. With ``overlap``, such a lane begins that many rows earlier in its sequence, and these weigh
    nothing: for errors as a running network makes them, not one that has just begun, and for a true
    ``history``, which else begins from nothing there, too.

    With ``order``, the numbers of all sequences, none is cut: in that order they are dealt out, each to the
    lane that has the fewest rows.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        scaling: Scaling,
        batch: int,
        offset: int = 0,
        overlap: int = 0,
        order: np.ndarray | None = None,
    ) -> None:
        self._sequences = sequences
        self._scaling = scaling
        self.count, self.width = batch, len(scaling.input_mean) + len(scaling.output_mean)
        edges = np.cumsum([0, *(len(sequence.values) for sequence in sequences)])
        self.rows = int(edges[-1])
        share = -(-self.rows // batch)
        self._lanes = list[list[Piece]]()
        if order is None:
            for lane in range(batch):
                begin, end = min(lane * share, self.rows), min((lane + 1) * share, self.rows)
                self._lanes.append(_pieces(edges, offset + begin, offset + end, overlap))
        else:
            self._lanes = _whole(np.diff(edges), order, batch)
        ends = [pieces[-1].step + pieces[-1].end - pieces[-1].begin for pieces in self._lanes if pieces]
        self.steps = max(ends, default=0)  # T, of the longest lane

    def chunk(self, begin: int, end: int) -> Chunk:
        """Steps ``begin`` to ``end`` (or to the last) of every lane, in arrays of its own."""
        steps = min(end, self.steps) - begin
        batch, inputs, outputs = (
            len(self._lanes),
            len(self._scaling.input_mean),
            len(self._scaling.output_mean),
        )
        chunk = Chunk(
            np.zeros((steps, batch, inputs), np.float32),
            np.zeros((steps, batch, outputs), np.float32),
            np.zeros((steps, batch, outputs), np.float32),
            np.zeros((steps, batch), np.uint8),
        )
        for lane, pieces in enumerate(self._lanes):
            first = max(bisect_right(pieces, begin, key=lambda piece: piece.step) - 1, 0)
            for piece in pieces[first:]:
                if piece.step >= begin + steps:
                    break
                self._fill(chunk, lane, piece, begin)
        return chunk

    def _fill(self, chunk: Chunk, lane: int, piece: Piece, begin: int) -> None:
        """Copies the rows of a piece that stand in a chunk, which begins at step ``begin``, into its lane."""
        skip = max(begin - piece.step, 0)  # rows that stand in the chunk before
        at = piece.step + skip - begin
        count = min(piece.end - piece.begin - skip, len(chunk.x) - at)
        if count <= 0:
            return
        sequence = self._sequences[piece.sequence]
        _standardise(
            sequence.values,
            sequence.targets,
            _ALL_WEIGH_ONE if sequence.weights is None else sequence.weights,
            *self._scaling,
            *chunk[:3],
            *(piece.begin + skip, count, piece.run_up - skip),
            *(at, lane),
        )
        if skip == 0:
            chunk.begins[at, lane] = 1


@compiled
def _standardise(
    values: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    input_mean: np.ndarray,
    input_std: np.ndarray,
    output_mean: np.ndarray,
    output_std: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    begin: int,
    count: int,
    run_up: int,
    at: int,
    lane: int,
) -> None:
    """Enters rows of a sequence, ``count`` from ``begin`` on, into a lane of a chunk, from step ``at`` on.

    The first ``run_up`` weigh nothing. Arrays are whole: a part of one row has another type to Numba, which
    would compile this once more.
    """
    for k in range(count):
        row, step = begin + k, at + k
        for channel in range(x.shape[2]):
            x[step, lane, channel] = (values[row, channel] - input_mean[channel]) / input_std[channel]
        counts = weights[row] if weights.size > 0 else np.float32(1)
        for output in range(y.shape[2]):
            target = targets[row, output]
            if k < run_up or np.isnan(target) or not counts > 0:
                y[step, lane, output] = weight[step, lane, output] = 0
            else:
                y[step, lane, output] = (target - output_mean[output]) / output_std[output]
                weight[step, lane, output] = counts


def _pieces(edges: np.ndarray, begin: int, end: int, overlap: int) -> list[Piece]:
    """What a lane holds: places ``begin`` to ``end`` of the sequences end to end, again from the start.

    ``edges`` says where each sequence begins, and where the last one ends.
    """
    pieces, step = list[Piece](), 0
    while begin < end:
        place = begin % int(edges[-1])
        sequence = int(np.searchsorted(edges, place, "right")) - 1
        row, last = place - int(edges[sequence]), int(edges[sequence + 1] - edges[sequence])
        count = min(end - begin, last - row)
        run_up = min(overlap, row)  # 0 but for the first piece: the others begin with their sequence
        pieces.append(Piece(step, sequence, row - run_up, row + count, run_up))
        step += run_up + count
        begin += count
    return pieces


def _whole(lengths: np.ndarray, order: np.ndarray, batch: int) -> list[list[Piece]]:
    """Lanes of whole sequences."""
    lanes, ends = [list[Piece]() for _ in range(batch)], np.zeros(batch, int)
    for sequence in map(int, order):
        lane, length = int(ends.argmin()), int(lengths[sequence])
        lanes[lane].append(Piece(int(ends[lane]), sequence, 0, length, 0))
        ends[lane] += length
    return lanes


def history(
    x: np.ndarray, begins: np.ndarray, frames: int, carry: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The last ``frames`` rows at every step, (T, B, frames * C), the newest first; and a carry.

    ``x`` (T, B, C) and ``begins`` (T, B) are a chunk's, T at least 1. Rows before the first of a sequence are
    taken equal to it. The ``carry``, (B, frames * C), is for the chunk that follows; None where lanes
    begin.
    """
    steps, batch, channels = x.shape
    seen = np.empty((steps, batch, frames * channels), x.dtype)
    before = np.tile(x[0], frames) if carry is None else carry
    _shift(np.ascontiguousarray(x), np.ascontiguousarray(begins), before, seen)
    return seen, seen[-1].copy()


@compiled
def _shift(x: np.ndarray, begins: np.ndarray, before: np.ndarray, seen: np.ndarray) -> None:
    """Each row of ``seen`` is a new frame and then the row of the step before, but for its oldest frame."""
    steps, batch, width = seen.shape
    channels = x.shape[2]
    for step in range(steps):
        for lane in range(batch):
            for channel in range(channels):
                seen[step, lane, channel] = x[step, lane, channel]
            if begins[step, lane] == 1:
                for place in range(channels, width):
                    seen[step, lane, place] = seen[step, lane, place - channels]
            elif step == 0:
                for place in range(channels, width):
                    seen[step, lane, place] = before[lane, place - channels]
            else:
                for place in range(channels, width):
                    seen[step, lane, place] = seen[step - 1, lane, place - channels]
