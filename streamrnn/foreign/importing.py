"""A network of another library becomes a model file, and is checked against that library."""

import importlib
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.foreign.both_ways import BothWays, both_ways
from streamrnn.foreign.complete import to_model, window_note
from streamrnn.foreign.keras.archive import Directory
from streamrnn.foreign.network import Foreign, ImportOptions, OptionsError, Witness
from streamrnn.model.inspect import describe_model
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.model.settings import SIZES, ModelError
from streamrnn.model.stated import quoted
from streamrnn.settings.sections import Faults
from streamrnn.table import Reading, open_rows
from streamrnn.table.moments import Moments

FILE_LIMIT = 1 << 30  # bytes
HEAD = 64  # bytes that tell a format
CHECK_ROWS = 1000
TOLERANCE = 1e-4
LEAST_SCALE = 1e-3  # of the sum of an output's weights

READERS = {
    "PyTorch": "streamrnn.foreign.torch_file",
    "Keras": "streamrnn.foreign.keras.file",
    "ONNX": "streamrnn.foreign.onnx.file",
    "RTNeural": "streamrnn.foreign.rtneural_file",
}
FORMATS = "PyTorch's safetensors, Keras's .keras and .h5, ONNX, RTNeural's JSON"
# what the witness of a library runs, where that is not the file itself
RUN_AS = {"PyTorch": "PyTorch's modules in that order", "Keras": "Keras's layers"}
# options that only some formats leave open
READER_OPTIONS = {
    "activation": ("PyTorch", "RTNeural"),
    "dense": ("PyTorch", "RTNeural"),
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
        whole = replace(model, weights="float32", window=0)  # as other libraries run sequences
        difference, checked = _compare(reader.witness, source, foreign, whole)
        rounding = None if model.weights == "float32" else _rounding(replace(model, window=0), whole)
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
        return "RTNeural"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and path.suffix != ".onnx":
        raise ModelError(PICKLE)
    if head[:1] == b"\x08" or path.suffix == ".onnx":  # ONNX begins with field 1, its version
        return "ONNX"
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
        if getattr(options, name) is not None and library not in libraries
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


def _compare(
    find_witness: Callable[[Path, Foreign], Witness | None], path: Path, foreign: Foreign, model: Model
) -> tuple[float | None, str]:
    """The largest difference between the library and the engine over seeded noise, and it in words.

    Relative to the largest value of each output, or to a thousandth of what the head's weights add up to if
    that is more. Raises ModelError for a difference above TOLERANCE.
    """
    library = foreign.library
    rows = np.random.default_rng(0).standard_normal((CHECK_ROWS, len(model.channels)), np.float32)
    theirs_in = rows
    if foreign.input_mean is not None and foreign.input_std is not None:
        theirs_in = (rows * foreign.input_std + foreign.input_mean).astype(np.float32)
        rows = ((theirs_in - np.float64(foreign.input_mean)) / foreign.input_std).astype(np.float32)
    try:
        witness = find_witness(path, foreign)
        if witness is None:
            return None, f"self-check: this Python cannot run files of {library}, so nothing was compared"
        theirs = np.asarray(witness(theirs_in), np.float64)
        if theirs.shape != (CHECK_ROWS, len(model.outputs)):
            raise ValueError(f"it gave {theirs.shape}")
    except Exception as error:
        why = quoted(str(error))
        return None, f"self-check: {library} could not run the file, so nothing was compared ({why})"
    floor = np.abs(foreign.head_weight).sum(1, dtype=np.float64)
    if foreign.output_mean is not None and foreign.output_std is not None:
        theirs = (theirs - foreign.output_mean) / foreign.output_std
        floor += np.abs(foreign.output_mean / foreign.output_std)  # float32 rounds what this was added to
    ours = run_standardised(model, rows)
    with np.errstate(invalid="ignore"):
        scale = np.maximum(np.abs(theirs).max(0), LEAST_SCALE * floor + np.finfo(np.float32).tiny)
        difference = float((np.abs(ours - theirs) / scale).max())
    if not difference <= TOLERANCE:
        what = f"over {CHECK_ROWS:,} rows the model differs from {library} by {difference:.2g}"
        raise ModelError(f"self-check: {what}, more than {TOLERANCE:g}; it was not written")
    said = f"largest difference to {RUN_AS.get(library, library)} over {CHECK_ROWS:,} rows: {difference:.2g}"
    return difference, f"self-check: {said}"


def _rounding(model: Model, whole: Model) -> float:
    """The largest difference that rounded weights make over seeded noise, relative to an output's largest."""
    rows = np.random.default_rng(0).standard_normal((CHECK_ROWS, len(model.channels)), np.float32)
    ours, theirs = run_standardised(model, rows), run_standardised(whole, rows)
    scale = np.abs(theirs).max(0) + np.finfo(np.float32).tiny
    return float((np.abs(ours - theirs) / scale).max())


def run_standardised(model: Model, rows: np.ndarray) -> np.ndarray:
    """What ``model`` gives for each of ``rows`` (n, C) float32, one sequence, both without its scaling."""
    inputs, outputs = len(model.channels), len(model.outputs)
    bare = replace(
        model,
        normalisation="none",
        input_mean=np.zeros(inputs),
        input_std=np.ones(inputs),
        output_mean=np.zeros(outputs),
        output_std=np.ones(outputs),
    )
    engine = Engine(bare, 1, Faults())
    return engine.feed(["check"], np.zeros(len(rows), np.int64), rows).values
