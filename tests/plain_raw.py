"""What becomes of raw messages, in plain NumPy."""

from collections import Counter

import numpy as np

from streamrnn.model.model import Model

PROOF = 16  # rows to come before a topic that sent what is implausible may begin a stream


class RawRules:
    """Judges raw messages in their order. Knows no bound of streams."""

    def __init__(self, model: Model):
        self.mean, std = model.input_mean.astype(np.float64), model.input_std.astype(np.float64)
        self.channels = len(std)
        self.wide = 1e6 * np.max([std, np.abs(self.mean), np.ones(self.channels)], axis=0)
        self.least = 1e-6 * std
        self.counts: Counter[str] = Counter()  # by reason
        self.taken: Counter[str] = Counter()  # rows of each stream
        self._doubted: dict[str, int] = {}

    def take(self, topic: str, payload: bytes) -> None:
        if reason := self._misfit(len(payload)):
            self.counts[reason] += 1
            return
        for row in np.frombuffer(payload, "<u4").reshape(-1, self.channels):
            reason = self._refusal(topic, payload, row)
            self.counts[reason] += bool(reason)
            self.taken[topic] += not reason

    def _misfit(self, size: int) -> str:
        row = 4 * self.channels
        if size == 2 * row:
            return "float64"
        if size and size % row == 0:
            return ""
        rows = max(size // row, 1)
        if size and size % (4 * rows) == 0:
            return "channels"
        return "truncated" if size < rows * row else "oversized"

    def _refusal(self, topic: str, payload: bytes, row: np.ndarray) -> str:
        new = not self.taken[topic]
        if new and (topic[0] in "[{" or any(letter < " " or letter == "\x7f" for letter in topic)):
            return "topic"
        wrong = self._is_implausible(row, new) or self._is_text(payload, new)
        if new:
            if wrong:
                self._doubted[topic] = PROOF
                return "implausible"
            if self._doubted.get(topic, 0):
                self._doubted[topic] -= 1
                return "implausible"
        if wrong:
            return "implausible"
        values = row.view("<f4")
        if np.isinf(values).any():
            return "infinite"
        return "missing" if new and np.isnan(values).any() else ""

    def _is_text(self, payload: bytes, new: bool) -> bool:
        letters = all(byte in b"\t\n\v\f\r" or 32 <= byte < 127 for byte in payload[:64])
        return letters and len(payload) >= (16 if new else 32)

    def _is_implausible(self, row: np.ndarray, new: bool) -> bool:
        beyond, odd = self._strange(row.view("<f4"))
        if beyond.sum() > (~np.isnan(row.view("<f4"))).sum() / 2 or (new and beyond.any()):
            return True
        with np.errstate(invalid="ignore"):
            turned = row.view(">f4").astype(np.float64)
        return bool(odd.any() and not self._strange(turned)[1].any() and not np.isinf(turned).any())

    def _strange(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which values no sensor can have sent, and which are so or all but nothing."""
        with np.errstate(invalid="ignore"):
            x = values.astype(np.float64)
            size = np.abs(x)
            beyond = (np.abs(x - self.mean) > self.wide) & np.isfinite(x)
            beyond |= (size > 0) & (size < 2.0**-126)
            return beyond, beyond | (size > 0) & (size < self.least)
