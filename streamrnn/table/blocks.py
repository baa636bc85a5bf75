"""What the readers of each file format hand on."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa


class Malformed(NamedTuple):
    """A record that is no row at all."""

    record: int  # its place in the block
    what: str


class Block(NamedTuple):
    """Some records of a file, as columns: text, numbers, timestamps or dates."""

    columns: list[pa.Array]  # the columns asked for, n cells each
    malformed: list[Malformed]  # records left out of the columns, in order
    line: int  # the line (or row) number at which the block begins
    locate: Callable[[int], int]  # a record's place in the block -> its line (or row) number
    begins: np.ndarray | None = None  # (n,) bool: records that begin a new sequence; None = not told


Again = Callable[[list[int]], Iterator[Block]]  # all blocks of a file, of some columns, from the beginning
