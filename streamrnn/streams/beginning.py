"""The states that streams begin with, where these are not zeros."""

from collections.abc import Sequence

import numpy as np

from streamrnn.kernels.network import Network
from streamrnn.streams.slots import Slots


def begin_from(slots: Slots, net: Network, initial: Sequence[np.ndarray]) -> None:
    """Has streams begin with the states of each layer, (states, H), in ``initial``; without, with zeros.

    A stream that begins takes its old states from the record of zeros, see ``zero_record``, so they are put
    there; of another process, which kept this memory, others may be there.
    """
    start = (slots.capacity + slots.work) * slots.words + slots.hidden_at
    words = slots.state[start : start + net.states * net.apart]
    places = words.reshape(net.states, -1, net.layers, net.width)  # of each row of a window, or one
    places[:] = 0
    for layer, states in enumerate(initial):
        places[: len(states), :, layer, : states.shape[1]] = states[:, np.newaxis]
