"""Means and standard deviations of columns, from blocks of rows."""

import numpy as np

from streamrnn.model.values import SMALLEST_STD

BLOCK = 1 << 16  # rows summed at once


class Moments:
    """Means and standard deviations of columns, NaN left out, from blocks of rows.

    In float64, merged as in Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".
    """

    def __init__(self, columns: int) -> None:
        self.count = np.zeros(columns)
        self._mean = np.zeros(columns)
        self._squares = np.zeros(columns)  # sums of squared distances from the mean
        self._least = np.full(columns, np.nan)
        self._most = np.full(columns, np.nan)

    def add(self, values: np.ndarray) -> None:
        """Takes rows in, (n, columns) float32."""
        for begin in range(0, len(values), BLOCK):
            block = values[begin : begin + BLOCK].astype(np.float64)
            there = ~np.isnan(block)
            count = there.sum(axis=0)
            mean = np.where(there, block, 0).sum(axis=0) / np.maximum(count, 1)
            squares = (np.where(there, block - mean, 0) ** 2).sum(axis=0)
            total = np.maximum(self.count + count, 1)
            distance = mean - self._mean
            self._squares += squares + distance**2 * self.count * count / total
            self._mean += distance * count / total
            self.count += count
            self._least = np.fmin(self._least, np.fmin.reduce(block, axis=0))
            self._most = np.fmax(self._most, np.fmax.reduce(block, axis=0))

    def both(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means and deviations, (columns,) float64, 1 where a column does not vary, (columns,) bool."""
        std = np.sqrt(self._squares / np.maximum(self.count, 1))
        constant = (self._least == self._most) | (std < SMALLEST_STD)
        return self._mean, np.where(constant, 1, std), constant

    def scaling(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``both`` as float32."""
        mean, std, constant = self.both()
        return mean.astype(np.float32), std.astype(np.float32), constant
