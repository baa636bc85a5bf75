"""A network of another library becomes a model file, and is checked against that library."""

import importlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.errors import UserError
from streamrnn.foreign.both_ways import BothWays, both_ways
from streamrnn.foreign.checking import CHECK_ROWS, compare
from streamrnn.foreign.checking import rounding as find_rounding
from streamrnn.foreign.complete import to_model, window_note
from streamrnn.foreign.keras.archive import Directory
from streamrnn.foreign.network import ImportOptions, OptionsError
from streamrnn.model.inspect import describe_model
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.model.settings import SIZES, ModelError
from streamrnn.table import Reading, open_rows
from streamrnn.table.moments import Moments

FILE_LIMIT = 1 << 30  # bytes
HEAD = 64  # bytes that tell a format

READERS = {
    "PyTorch": "streamrnn.foreign.torch_file",
    "Keras": "streamrnn.foreign.keras.file",
    "ONNX": "streamrnn.foreign.onnx.file",
    "JSON": "streamrnn.foreign.json_file",
    "Flax": "streamrnn.foreign.flax_file",
}
FORMATS = (
    "safetensors of PyTorch, Flax and Haiku, Flax's msgpack, Keras's .keras and .h5, ONNX, and JSON of "
    "RTNeural, GuitarML and NAM"
)
# options that only some formats leave open
READER_OPTIONS = {
    "activation": ("PyTorch", "JSON"),
    "dense": ("PyTorch", "JSON", "Flax"),
    "ignore": ("PyTorch", "JSON", "Flax"),
    "reset": ("ONNX",),
}
PICKLE = (
    "a file of torch.save is a program, which is not run; in Python, where the module is, save its tensors: "
    "safetensors.torch.save_file(module.state_dict(), 'module.safetensors')"
)


@dataclass(frozen=True)
class Imported:
    """What came of an import."""

    model: Model
    library: str
    notes: tuple[str, ...]  # what a user should know
    largest_difference: float | None  # to the original library, relative; None = not compared
    checked: str  # what the self-check did, in words
    both: BothWays | None  # as windows and as a stream; None = not compared
    rounding: float | None  # largest difference of rounded weights, likewise; None = they are not

    def describe(self, path: Path) -> dict[str, Any]:
        """A JSON-ready description of the model, which was written to ``path``."""
        check = {"library": self.library, "largest_difference": self.largest_difference}
        if self.rounding is not None:
            check["rounding"] = self.rounding
        both = {} if self.both is None else {"both_ways": self.both.described()}
        return describe_model(self.model, path) | {"self_check": check} | both


def import_model(source: Path, output: Path, options: ImportOptions) -> Imported:
    """Write the network in the file ``source`` as a model file to ``output``, unless a check fails.

    The format is told by the file's content. Raises ModelError naming all of the file that is wrong or
    cannot be run as it is, or a difference to the original library above TOLERANCE; OptionsError naming
    every option that is missing or does not fit; UserError for files that cannot be read or written.
    """
    try:
        library = find_library(source)
        _check_reader_options(library, options)
        if output.exists() and output.samefile(source):
            raise OptionsError("-o: is the file to import; give the model another name")
        reader = importlib.import_module(READERS[library])
        foreign = reader.read(source, options)
        model = to_model(foreign, options, os.fsencode(source.name).decode(errors="replace"), measure)
        whole = replace(model, weights="float32")
        difference, checked = compare(reader.witness, source, foreign, whole)
        rounding = None if model.weights == "float32" else find_rounding(replace(model, window=0), whole)
    except ModelError as error:
        raise type(error)(*error.problems, where=str(source)) from error
    except MemoryError as error:
        raise ModelError("needs more memory than there is", where=str(source)) from error
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error})") from error
    write_model(model, output)
    if rounding is not None:
        said = f"largest difference to float32 over {CHECK_ROWS:,} rows: {rounding:.2g}"
        checked += f"\nweights in {model.weights}: {said}"
    both, window = None, model.window or min(foreign.window, SIZES["window"][1])
    if window and options.scaling not in (None, "none"):
        both = both_ways(model, window, options.scaling)
        checked += f"\n{both.text(model.window)}" if both else ""
    note = window_note(foreign, model.window)
    notes = (*foreign.notes, note) if note else foreign.notes
    return Imported(model, foreign.library, notes, difference, checked, both, rounding)


def find_library(path: Path) -> str:
    """The library that wrote the file at ``path``, by its content. Raises ModelError for none of READERS."""
    if not path.is_file():
        raise ModelError("no such file" if not path.exists() else "not a regular file; name one file")
    size = path.stat().st_size
    if size > FILE_LIMIT:
        raise ModelError(f"{size:,} bytes, at most {FILE_LIMIT:,} are read")
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _library_of_zip(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "Keras"
    if head[8:9] == b"{" and head[5:8] == b"\0\0\0":  # after the header's length
        return "PyTorch"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return "JSON"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and path.suffix != ".onnx":
        raise ModelError(PICKLE)
    if head[:1] == b"\x08" or path.suffix == ".onnx":  # ONNX begins with field 1, its version
        return "ONNX"
    if (
        len(head) > 1 and 0x81 <= head[0] <= 0x8F and 0xA0 <= head[1] <= 0xDB
    ):  # a small dictionary, and a text
        return "Flax"
    raise ModelError(f"not a file of a known format; {FORMATS} can be imported")


def _library_of_zip(path: Path) -> str:
    try:
        with Directory(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ModelError(f"not a whole zip file ({error}); copy or save it again") from error
    if "config.json" in names:
        return "Keras"
    if any(name.endswith("data.pkl") for name in names):
        raise ModelError(PICKLE)
    raise ModelError(f"a zip file, but not one of Keras; {FORMATS} can be imported")


def _check_reader_options(library: str, options: ImportOptions) -> None:
    """Raise OptionsError for options that files of ``library`` leave no room for."""
    if astray := [
        f"--{name}: a file of {library} says it itself; leave it out"
        for name, libraries in READER_OPTIONS.items()
        if getattr(options, name) not in (None, ()) and library not in libraries
    ]:
        raise OptionsError(*astray)


def measure(table: str, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The mean and the standard deviation of each named column of a CSV or parquet file.

    Missing cells do not count; the deviation of a column that never varies is 1. Raises UserError for a
    file that cannot be read, lacks a column, or has one without a number.
    """
    moments = Moments(len(names))
    with open_rows(table, names, Reading(offsets={})) as reader:
        for rows in reader:
            moments.add(np.where(np.isfinite(rows.values), rows.values, np.float32(np.nan)))
    if not moments.count.all():
        empty = [name for name, rows in zip(names, moments.count, strict=True) if not rows]
        raise UserError(f"{table}: no number in column {', '.join(map(repr, empty))}; use another file")
    mean, std, _ = moments.both()
    return {name: (float(mean[k]), float(std[k])) for k, name in enumerate(names)}
