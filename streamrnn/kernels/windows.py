"""The step of a network that was trained on windows: each answer is of the last rows and a state of zeros.

A stream has a state in flight for each row of its window, in the order in which they began. With a row each
moves one place on and takes the row: the first one has now seen a whole window, and answers; the last one
began with this row. So a window of n rows costs n steps a row, but not one after another: the states of a
stream are lanes of a tile, as those of several streams are. All of them begin with a sequence's first row, so
where there are fewer rows than a window has, the answer is of those.
"""

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.affine import TILE_STREAMS
from streamrnn.kernels.network import copy, forward
from streamrnn.kernels.simd import LANES


@inlined
def _keep(net, scratch, tile, streams):
    """Puts aside what goes into the first layer of each stream, and where its states are."""
    inputs = net.chain[net.recurrent_at].state
    for stream in range(streams):
        scratch.source[stream], scratch.target[stream] = tile.source[stream], tile.target[stream]
        at = stream * net.z_stride
        copy(scratch.kept, at, scratch.z, at, (inputs + LANES - 1) // LANES * LANES)


@inlined
def _take(net, scratch, tile, nothing, done, lanes):
    """Sets ``lanes`` up for as many states, from number ``done`` on.

    Stream by stream, the last place first: what a stream's first place answers may take its input's room.
    """
    inputs, words = net.chain[net.recurrent_at].state, net.layers * net.width
    for lane in range(lanes):
        stream, place = (done + lane) // net.window, net.window - 1 - (done + lane) % net.window
        begins = place == net.window - 1
        tile.source[lane] = nothing if begins else scratch.source[stream] + (place + 1) * words
        tile.target[lane] = scratch.target[stream] + place * words
        to, at = lane * net.z_stride, stream * net.z_stride
        copy(scratch.z, to, scratch.kept, at, (inputs + LANES - 1) // LANES * LANES)


@inlined
def _answer(net, scratch, done, lanes):
    """Keeps what the last layer gave in the lanes of states that have seen a whole window."""
    out = net.chain[net.recurrent_end - 1].out
    for lane in range(lanes):
        if (done + lane) % net.window == net.window - 1:
            to = (done + lane) // net.window * net.z_stride
            copy(scratch.kept, to, scratch.z, lane * net.z_stride + out, net.width)


@inlined
def forward_windows(net, scratch, tile, state, nothing, streams):
    """``forward`` through the whole chain of a network of windows.

    At ``state[tile.source[s]:]`` stand the hidden states of all layers of the first place, then those of the
    next ones; then each further state of the cell likewise. ``nothing`` is where as many zeros stand.
    ``tile.source`` and ``tile.target`` are of no use afterwards.
    """
    first, last, lanes = 0, net.recurrent_at, streams
    done, states = 0, streams * net.window
    while True:
        forward(net, scratch, tile, state, lanes, first, last)  # the only call, as it is inlined
        if first == net.recurrent_end:
            return
        if last == net.recurrent_at:
            _keep(net, scratch, tile, streams)
        else:
            _answer(net, scratch, done, lanes)
            done += lanes
        if done < states:
            first, last, lanes = net.recurrent_at, net.recurrent_end, min(states - done, TILE_STREAMS)
            _take(net, scratch, tile, nothing, done, lanes)
        else:
            first, last, lanes = net.recurrent_end, net.chain.size, streams
            out = net.chain[net.recurrent_end - 1].out
            for stream in range(streams):
                at = stream * net.z_stride
                copy(scratch.z, at + out, scratch.kept, at, net.width)
