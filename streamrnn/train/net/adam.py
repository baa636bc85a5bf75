"""The optimiser: Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019)."""

import math

import numpy as np

from streamrnn.compiling.jit import compiled
from streamrnn.train.net.network import Weights

_MEAN, _SQUARE = 0.9, 0.999  # how much of the running moments each update keeps
_SMALL = 1e-8
HIGHWAY_SHARE = 0.3  # of the learning rate


@compiled
def _update(
    weights: np.ndarray,
    gradient: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    decays: np.ndarray,
    share: np.ndarray,
    rate: float,
    decay: float,
    shrink: float,
    mean_bias: float,
    square_bias: float,
) -> None:
    kind = weights.dtype.type
    for k in range(np.uint64(weights.size)):
        g = gradient[k] * kind(shrink)
        mean[k] += kind(1 - _MEAN) * (g - mean[k])
        square[k] += kind(1 - _SQUARE) * (g * g - square[k])
        step = mean[k] / kind(mean_bias) / (np.sqrt(square[k] / kind(square_bias)) + kind(_SMALL))
        weights[k] -= kind(rate) * share[k] * (step + kind(decay) * decays[k] * weights[k])


class Adam:
    """Updates a network's weights from its gradient.

    Only matrices decay, never biases, nor the highway, which learns more slowly: it begins as the best linear
    forecast, and is only to give way where the network does better.
    """

    def __init__(self, network: Weights, clip: float) -> None:
        self._network, self._clip = network, clip
        self._mean, self._square = np.zeros_like(network.weights), np.zeros_like(network.weights)
        self._decays = np.zeros_like(network.weights)
        self._share = np.ones_like(network.weights)
        for name, view in network.views(self._decays).items():
            view[:] = 1 if view.ndim == 2 and name != "highway.weight" else 0
        if network.shape.highway:
            network.views(self._share)["highway.weight"][:] = HIGHWAY_SHARE
        self.updates = 0

    def update(self, rate: float, decay: float) -> None:
        """One step of ``rate``, the gradient first scaled to a norm of ``clip`` where it is above.

        Weights also lose a share of ``rate * decay``.
        """
        network = self._network
        self.updates += 1
        norm = math.sqrt(float(network.gradient @ network.gradient))
        shrink = self._clip / norm if norm > self._clip else 1.0
        bias = 1 - _MEAN**self.updates, 1 - _SQUARE**self.updates
        of_each = self._mean, self._square, self._decays, self._share
        _update(network.weights, network.gradient, *of_each, rate, decay, shrink, *bias)
