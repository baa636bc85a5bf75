"""What tests of training share: the command, tables of runs, and what is read of them."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from tables import write

from streamrnn.cli import main
from streamrnn.table import Reading
from streamrnn.train.data.dataset import Dataset
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.relations import load_dataset


def train(*words: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, words)], prog_name="streamrnn")


def table(folder: Path, header: str, rows: list, name: str = "runs.csv") -> Path:
    """A CSV file; None is an empty cell."""
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    return write(folder, "\n".join([header, *lines, ""]), name)


def loaded(path: Path, relation: str, *targets: str, horizon: int | None = None, **options: Any) -> Dataset:
    """The dataset of a file whose streams are its runs."""
    data = DataOptions((str(path),), targets=targets or None, reading=Reading(stream="run"), **options)
    return load_dataset(data, relation, horizon, 0, lambda rows: None)
