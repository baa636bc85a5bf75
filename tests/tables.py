"""Whole files read at once, for tests of what reading gives."""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from streamrnn.errors import UserError
from streamrnn.table import Reading, RowReader, Rows, open_rows

T0 = 1581168647 * 10**9  # 2020-02-08 13:30:47 UTC


class Read(NamedTuple):
    """A whole file: its rows as one, and what was read."""

    rows: Rows
    reader: RowReader
    blocks: int

    @property
    def ids(self) -> list[str]:
        return [self.reader.streams[index] for index in self.rows.stream]


def reading_of(options: dict[str, Any]) -> Reading:
    """The options that say how a file is read, taken out of the others; a time column may be one name."""
    names = {field.name for field in fields(Reading)}
    told = {name: options.pop(name) for name in [*options] if name in names}
    if isinstance(told.get("time"), str):
        told["time"] = (told["time"],)
    return Reading(**told)


def read(source: Path | str, channels: list[str] | None = None, **options: Any) -> Read:
    reading = reading_of(options)
    with open_rows(str(source), channels, reading, **options) as reader:
        blocks = list(reader)
    width = len(reader.channels)
    arrays = [
        np.concatenate([np.zeros(shape, dtype), *(getattr(block, name) for block in blocks)])
        for name, shape, dtype in (
            ("stream", 0, np.int32),
            ("values", (0, width), np.float32),
            ("seq", 0, np.uint64),
            ("ts_ns", 0, np.int64),
        )
    ]
    for block in blocks:
        kinds = (block.stream.dtype, block.values.dtype, block.seq.dtype, block.ts_ns.dtype)
        assert kinds == (np.int32, np.float32, np.uint64, np.int64)
        assert block.values.flags.c_contiguous and block.values.shape == (len(block.seq), width)
    times = [] if reader.time_type is None else [block.time for block in blocks]
    time = pa.chunked_array(times, reader.time_type).combine_chunks() if times else None
    return Read(Rows(*arrays, time, blocks[0].line if blocks else 0), reader, len(blocks))


def write(folder: Path, content: str | bytes, name: str = "valve.csv") -> Path:
    """A file of this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fails(source: Path, *args: Any, **options: Any) -> str:
    """The text of the UserError, without the file's name before it."""
    with pytest.raises(UserError) as caught:
        read(source, *args, **options)
    text = str(caught.value)
    assert text.startswith(f"{source}: "), text
    return text.removeprefix(f"{source}: ")
