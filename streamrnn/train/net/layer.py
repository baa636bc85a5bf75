"""A recurrent layer in training: from tensors in PyTorch's layout to what is compiled, and gradients back."""

from typing import Any, NamedTuple

import numpy as np

from streamrnn.compiling.jit import hand_over
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.network import aligned
from streamrnn.kernels.simd import LANES
from streamrnn.model.cells import code_of, find_cell
from streamrnn.train.net.recurrence import ROWS, Unrolled, backward, forward


class LayerState(NamedTuple):
    """What a layer of W units (padded) carries from step to step in B lanes, or the gradient of that."""

    h: np.ndarray  # (B, W)
    memory: np.ndarray  # (B, M, W): further states of the cell; room for one where it has none


class RecurrentLayer:
    """A recurrent layer of ``inputs`` -> ``hidden`` units, and the memory of the chunk it last saw.

    A chunk is begun, and then gone through forwards in one or more calls, and backwards likewise. Between
    them a caller can feed back what came out, or add to ``carry``, the gradient of the state.

    ``tensors`` and ``gradient`` are views into the network's vectors: weight_ih (G * H, I),
    weight_hh (G * H, H), bias_ih and bias_hh (G * H,), in that order.
    """

    def __init__(
        self,
        cell: str,
        activation: str,
        inputs: int,
        hidden: int,
        tensors: list[np.ndarray],
        gradient: list[np.ndarray],
    ) -> None:
        self.inputs, self.hidden, self.width = inputs, hidden, packed_rows(hidden)
        self.tensors, self.gradient = tensors, gradient
        self._cell, self._code = find_cell(cell, activation), code_of(cell, activation)
        self._blocks = len(self._cell.gates + self._cell.apart)  # of preactivations
        self._room: Unrolled | None = None  # for the longest chunk so far
        self._parts = dict[tuple[int, int], tuple[Unrolled, Any]]()  # of it, and as compiled code takes them
        self._steps = 0

    def _weights(self) -> np.ndarray:
        """All weights as one matrix over [x | h | 1]: (blocks, W, I + W + 1)."""
        inputs, hidden, width = self.inputs, self.hidden, self.width
        w_ih, w_hh, b_ih, b_hh = (
            tensor.reshape(len(self._cell.gates), hidden, *tensor.shape[1:]) for tensor in self.tensors
        )
        whole = np.zeros((self._blocks, width, inputs + width + 1), w_ih.dtype)
        gates = len(w_ih)
        whole[:gates, :hidden, :inputs] = w_ih
        whole[:gates, :hidden, inputs : inputs + hidden] = w_hh
        whole[:gates, :hidden, -1] = b_ih + b_hh
        for beside, gate in enumerate(map(self._cell.gates.index, self._cell.apart), gates):
            whole[gate, :hidden, inputs:-1] = 0
            whole[gate, :hidden, -1] = b_ih[gate]
            whole[beside, :hidden, inputs : inputs + hidden] = w_hh[gate]
            whole[beside, :hidden, -1] = b_hh[gate]
        return whole

    def begin(self, begins: np.ndarray, before: LayerState | None) -> None:
        """A chunk of T steps of B lanes, with the weights as they are now.

        ``begins`` (T, B) uint8 is 1 where a sequence begins, from zeros; ``before`` is the state before the
        first step, None zeros.
        """
        steps, lanes = begins.shape
        room = self._room
        if room is None or room.steps < steps or room.lanes != lanes:
            self._room = room = self._unroll(steps, lanes)
            self._parts.clear()
        self._steps = steps
        room.begins[: begins.size] = begins.ravel()
        part, _ = self._part(0, 0)
        h, memory = part.z.reshape(lanes, -1)[:, self.inputs : -1], part.memory.reshape(lanes, -1, self.width)
        h[:] = 0 if before is None else before.h
        memory[:] = 0 if before is None else before.memory
        self.carry = LayerState(np.zeros((lanes, self.width), memory.dtype), np.zeros_like(memory))
        self._gone_back = 0  # steps, from the first one to where the way back began
        whole = self._weights()
        blocks = whole.reshape(self._blocks, -1, LANES, whole.shape[-1])
        self._packed = _flat(blocks.transpose(1, 0, 3, 2))
        self._recurrent = blocks[..., self.inputs : -1].reshape(*blocks.shape[:3], -1, LANES)
        self._into_inputs = blocks[..., : self.inputs].transpose(1, 0, 2, 3)

    def forward(self, x: np.ndarray, at: int = 0) -> np.ndarray:
        """Hidden states (t, B, W) for the inputs (t, B, I) of the steps from ``at`` on."""
        part, handed = self._part(at, at + len(x))
        by_step = part.z.reshape(len(x) + 1, part.lanes, -1)
        by_step[:-1, :, : self.inputs] = x
        forward(self._code, handed, self._packed)
        return part.h.reshape(len(x), part.lanes, -1)

    def state(self, step: int) -> LayerState:
        """The state after a step, as views."""
        part, _ = self._part(step, step + 1)
        memory = part.memory.reshape(2, part.lanes, -1, self.width)
        return LayerState(part.h.reshape(part.lanes, -1), memory[1])

    def states(self, steps: np.ndarray, lanes: np.ndarray) -> LayerState:
        """Those after some steps, (n,), each in a lane of its own, (n,), as copies."""
        part, _ = self._part(0, self._steps)
        h = part.h.reshape(-1, part.lanes, self.width)
        memory = part.memory.reshape(part.steps + 1, part.lanes, -1, self.width)
        return LayerState(h[steps, lanes], memory[steps + 1, lanes])

    def end(self) -> LayerState | None:
        """The state after the last chunk; None before the first one."""
        return self.state(self._steps - 1) if self._steps else None

    def backward(self, dh: np.ndarray, wanted: bool, at: int = 0) -> np.ndarray | None:
        """Goes back through the steps from ``at`` on, from dL/dh (t, B, H); of several calls the last first.

        Returns dL/dx (t, B, I) if it is ``wanted``. The call that reaches the first step adds to the
        gradient of the weights; ``carry`` is then that of the state before it.
        """
        width, steps = self.width, len(dh)
        if width != self.hidden:
            dh = np.pad(dh, ((0, 0), (0, 0), (0, width - self.hidden)))
        if not self._gone_back:
            self._gone_back = at + steps
            self._back = _flat(self._recurrent.transpose(3, 1, 0, 2, 4))
        part, handed = self._part(at, at + steps)
        carry = self.carry.h.reshape(-1), self.carry.memory.reshape(-1)
        backward(self._code, handed, self._back, _flat(dh), *carry)
        if at == 0:
            self._add_all()
        if not wanted:
            return None
        into = self._into_inputs.reshape(-1, self.inputs)
        return (part.gates.reshape(-1, len(into)) @ into).reshape(steps, part.lanes, self.inputs)

    def _part(self, begin: int, end: int) -> tuple[Unrolled, Any]:
        """The memory of some steps, as views, and that as compiled code takes it."""
        if (begin, end) not in self._parts:
            part = self._views(begin, end)
            self._parts[begin, end] = part, hand_over(part)
        return self._parts[begin, end]

    def _views(self, begin: int, end: int) -> Unrolled:
        unrolled = self._room
        assert unrolled is not None
        lanes, size = unrolled.lanes, unrolled.lanes * self.width
        stride, further = lanes * (self.inputs + self.width + 1), size * unrolled.memories
        return unrolled._replace(
            steps=end - begin,
            z=unrolled.z[begin * stride : (end + 1) * stride],
            gates=unrolled.gates[begin * size * self._blocks : end * size * self._blocks],
            memory=unrolled.memory[begin * further : (end + 1) * further],
            kept=unrolled.kept[begin * size : end * size],
            h=unrolled.h[begin * size : end * size],
            begins=unrolled.begins[begin * lanes : end * lanes],
        )

    def _add_all(self) -> None:
        """Adds to the gradient what the steps that were gone back through say."""
        part, _ = self._part(0, self._gone_back)
        d_gates = part.gates.reshape(part.steps * part.lanes, -1)
        z = part.z.reshape(-1, self.inputs + self.width + 1)[: len(d_gates)]
        d_whole = (d_gates.T @ z).reshape(-1, self._blocks, LANES, z.shape[1])
        self._add(d_whole.transpose(1, 0, 2, 3).reshape(self._blocks, self.width, -1)[:, : self.hidden])

    def _add(self, whole: np.ndarray) -> None:
        """Adds the gradient of all weights, (blocks, H, I + W + 1), to those of the tensors."""
        gates, inputs, hidden = len(self._cell.gates), self.inputs, self.hidden
        parts = [
            whole[:gates, :, :inputs],
            whole[:gates, :, inputs : inputs + hidden],
            whole[:gates, :, -1],
            whole[:gates, :, -1],
        ]
        if self._cell.apart:
            beside = [*range(gates)]
            for block, gate in enumerate(map(self._cell.gates.index, self._cell.apart), gates):
                beside[gate] = block
            parts[1], parts[3] = whole[beside, :, inputs : inputs + hidden], whole[beside, :, -1]
        for gradient, part in zip(self.gradient, parts, strict=True):
            gradient += part.reshape(gradient.shape)

    def _unroll(self, steps: int, lanes: int) -> Unrolled:
        if lanes % ROWS:
            raise ValueError(f"lanes must be a multiple of {ROWS}, not {lanes}")
        size, memories = lanes * self.width, max(len(self._cell.states) - 1, 1)
        kind = self.tensors[0].dtype.type
        unrolled = Unrolled(
            inputs=self.inputs,
            width=self.width,
            blocks=self._blocks,
            memories=memories,
            lanes=lanes,
            steps=steps,
            z=aligned((steps + 1) * lanes * (self.inputs + self.width + 1), kind),
            gates=aligned(steps * size * self._blocks, kind),
            memory=aligned((steps + 1) * size * memories, kind),
            kept=aligned(steps * size, kind),
            h=aligned(steps * size, kind),
            begins=np.zeros(steps * lanes, np.uint8),
            zeros=np.zeros(LANES, kind),
        )
        unrolled.z.reshape(-1, self.inputs + self.width + 1)[:, -1] = 1
        return unrolled


def _flat(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).ravel()
