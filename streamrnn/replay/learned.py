"""A model that was learned from the first part of the very recording that it then replays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamrnn.model.model import Model


@dataclass(frozen=True)
class Learned:
    """The model, and the rows that it has seen: no figure counts them."""

    model: Model
    rows: Mapping[str, int]  # of each stream, its first ones
    until_ns: int = 0  # source time of the last of them; 0 = unknown
    left_out: Mapping[str, str] = field(default_factory=dict)  # columns that are no channels, and why
    kept: Path | None = None  # where the model was written
    interrupted: bool = False  # whether it could have learned more

    @property
    def until(self) -> str:
        """The time in words, to the second; empty where it is not known."""
        if not self.until_ns:
            return ""
        return str(np.datetime64(self.until_ns // 10**9, "s")).replace("T", " ")


@dataclass(frozen=True)
class Learning:
    """How a model is learned from the first part of a recording."""

    first: float | None = None  # of each stream: a share of its rows below 1, else rows; None = as many as do
    channels: tuple[str, ...] | None = None  # its channels; None = every column of numbers
    exclude: tuple[str, ...] = ()  # columns that are no channels
    save: Path | None = None  # where the model is written besides
