"""Recursive least squares with forgetting, from its formulas: float64, slow, and nothing of streamrnn in it.

Rows and forecasts are standardised.
"""

from collections.abc import Sequence

import numpy as np

RIDGE, LIMIT, SLOWED, START = 1e-4, 100.0, 0.1, 0.1


class Adaptation:
    """What is learned of one stream: see ``row``."""

    def __init__(self, inputs: int, outputs: int, memory: int):
        features = 1 + inputs + outputs
        self.forget = 1 - 1 / memory
        self.theta = np.zeros((features, outputs))
        self.covariance = START * np.eye(features)
        self.gain, self.power = np.zeros(outputs), np.zeros(outputs)
        self.turn = 0
        self.before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def row(self, x: Sequence[float], y: Sequence[float], shows: int) -> np.ndarray:
        """The corrected forecast of the row after ``x``, of which a network says ``y``.

        ``shows``: 0 = it tells nothing of what was forecast, 1 = how good the correction was, 2 = all it can.
        """
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if shows and self.before is not None:
            phi, forecast, correction = self.before
            mistake = np.clip(x[: len(y)] - forecast, -LIMIT, LIMIT)
            if shows == 2:
                self._learn(phi, mistake, correction)
            weight = 1.0 if shows == 2 else SLOWED
            kept = 1 - weight * (1 - self.forget)
            self.gain = kept * self.gain + weight * mistake * correction
            self.power = kept * self.power + weight * correction**2
        phi = np.concatenate([[1.0], np.clip(x, -LIMIT, LIMIT), np.clip(y, -LIMIT, LIMIT)])
        correction = np.clip(self.theta.T @ phi, -LIMIT, LIMIT)
        self.before = phi, y, correction
        share = [g / p if p else 0.0 for g, p in zip(self.gain, self.power, strict=True)]
        return y + np.clip(share, 0, 1) * correction

    def _learn(self, phi: np.ndarray, mistake: np.ndarray, correction: np.ndarray) -> None:
        alone, before = np.zeros(len(phi)), self.theta
        alone[self.turn] = np.sqrt(RIDGE * (phi @ phi))
        self._see(alone, -self.theta.T @ alone, 1.0)
        self._see(phi, mistake - correction + (before - self.theta).T @ phi, self.forget)
        self.turn = (self.turn + 1) % len(phi)

    def _see(self, phi: np.ndarray, error: np.ndarray, forget: float) -> None:
        """What one observation makes of Theta and P."""
        g = self.covariance @ phi
        d = forget + phi @ g
        self.theta = self.theta + np.outer(g / d, error)
        self.covariance = (self.covariance - np.outer(g, g) / d) / forget
