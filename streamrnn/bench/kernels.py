"""Time of one step, for one stream and for many, over cells and sizes."""

import statistics
import time
from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import aligned, forward, scale_input
from streamrnn.kernels.packing import make_scratch, pack_network
from streamrnn.model.model import random_model
from streamrnn.streams.batch import make_tile

SIZES = ((8, 16), (8, 32), (16, 64), (16, 128), (16, 256))  # inputs, hidden
MANY = 8 * TILE_STREAMS
_ROUNDS = 7


class StepTime(NamedTuple):
    """Microseconds per step of one stream: medians of several rounds."""

    cell: str
    inputs: int
    hidden: int
    one_us: float  # a single stream, step after step
    many_us: float  # a tile of streams at a time, round ``MANY`` of them
    multiply_adds: int  # of a step, padding among them

    @property
    def gain(self) -> float:
        return self.one_us / self.many_us

    def share(self, most: float) -> float:
        """Of ``most`` multiply-adds a second, how many the steps of many streams make."""
        return self.multiply_adds / (self.many_us * 1e-6) / most


@compiled
def run_steps(net, scratch, tile, state, values, record, streams, at_a_time, count):
    """``count`` rounds over ``streams`` streams, ``at_a_time`` to a step. Two records each in ``state``."""
    for turn in range(count):
        for first in range(0, streams, at_a_time):
            for lane in range(at_a_time):
                here = 2 * (first + lane) * record
                tile.source[lane] = here + (turn & 1) * record
                tile.target[lane] = here + (1 - (turn & 1)) * record
                scale_input(net, scratch, lane, values, ((turn + lane) & 63) * net.in_width)
            forward(net, scratch, tile, state, at_a_time, 0, net.row_products)


def _median_us(arguments: tuple, streams: int, at_a_time: int, seconds: float) -> float:
    """Median over rounds that last about ``seconds`` together."""
    steps = 1
    while True:  # how many turns fill a round
        began = time.perf_counter()
        run_steps(*arguments, streams, at_a_time, steps)
        if (elapsed := time.perf_counter() - began) > seconds / _ROUNDS / 4:
            break
        steps *= 2
    steps = max(1, round(steps * seconds / _ROUNDS / elapsed))
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run_steps(*arguments, streams, at_a_time, steps)
        times.append((time.perf_counter() - began) / (steps * streams) * 1e6)
    return statistics.median(times)


def step_time(cell: str, inputs: int, hidden: int, seconds: float) -> StepTime:
    """Times one size for about ``seconds``, half of it alone and half in tiles."""
    net = pack_network(random_model(cell, inputs, hidden))
    record = net.width * net.states
    state = aligned(2 * MANY * record)
    values = aligned(64 * net.in_width)
    noise = np.random.default_rng(0).normal(size=(64, inputs))
    values.reshape(64, net.in_width)[:, :inputs] = noise
    arguments = (net, make_scratch(net), make_tile(), state, values, record)
    run_steps(*arguments, 1, 1, 1)
    return StepTime(
        cell,
        inputs,
        hidden,
        one_us=_median_us(arguments, 1, 1, seconds / 2),
        multiply_adds=int((net.chain["rows"] * net.chain["columns"])[: net.row_products].sum()),
        many_us=_median_us(arguments, MANY, TILE_STREAMS, seconds / 2),
    )
