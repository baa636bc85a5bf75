"""The model file: safetensors, with the settings as one JSON object in its metadata.

A file is taken whole or refused: every tensor and key is used, and none is guessed. A size that a file
declares is believed only when the tensors that are there agree with it.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.settings import ModelError, check_settings, check_shapes, with_defaults
from streamrnn.model.stated import quoted
from streamrnn.system.whole_file import whole_file

FORMAT = "streamrnn/1"
HEADER_LIMIT = 100_000_000  # bytes; the safetensors library accepts no longer header
REMEDY = "name a streamrnn model file"
ALIGNMENT = 8  # bytes; the tensors begin at a multiple of it


def read_model(path: str | Path) -> Model:
    """The model in the ``.safetensors`` file at ``path``, of format ``streamrnn/1``.

    Raises ModelError, naming the file and all that is wrong, for a file that is not exactly that.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ModelError("not a regular file; name a .safetensors file")
        with safe_open(path, framework="numpy") as file:
            return _read(file, path)
    except ModelError as error:
        raise ModelError(*error.problems, where=str(path)) from error
    except SafetensorError as error:
        problem = f"not a whole safetensors file ({quoted(str(error))}); {REMEDY}"
        raise ModelError(problem, where=str(path)) from error
    except FileNotFoundError as error:
        raise ModelError("no such file", where=str(path)) from error
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror or error})", where=str(path)) from error


def write_model(model: Model, path: str | Path) -> None:
    """Write ``model`` to ``path``, whole or not at all; the same model always gives the same bytes.

    Raises UserError when the file cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a regular file; name a file that can be replaced")
        with whole_file(path) as file:
            file.write(_encode(model))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def _encode(model: Model) -> bytes:
    """The bytes of a file. The library's own writer puts metadata in an order that changes by the run."""
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "model": json.dumps(model.settings())}}
    body = bytearray()
    for name, array in sorted(model.tensors().items()):
        begin = len(body)
        body += array.astype("<f4", copy=False).tobytes()
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [begin, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def _read(file: safe_open, path: Path) -> Model:
    """The model in an open file, whose offsets the library has checked against the file's size."""
    read_header(path)
    settings = _read_settings(file.metadata() or {})
    names = list(file.keys())
    headers = {name: file.get_slice(name) for name in names}
    check_shapes(settings, {name: tuple(header.get_shape()) for name, header in headers.items()})
    dtypes = {name: header.get_dtype() for name, header in headers.items()}
    if problems := [
        f"{name}: expected float32 (F32), found {dtype}; convert it before saving, in PyTorch by .float()"
        for name, dtype in dtypes.items()
        if dtype != "F32"
    ]:
        raise ModelError(*problems)
    return Model.from_tensors(settings, {name: file.get_tensor(name) for name in names})


def read_header(path: Path) -> Any:
    """The header. Raises ModelError if it has a name twice; the library would keep the last in silence."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return parse_json(file.read(min(size, HEADER_LIMIT)), "header")


def _read_settings(metadata: dict[str, str]) -> dict[str, Any]:
    """The checked settings in a file's metadata, with the defaults filled in."""
    found = metadata.get("format")
    if found != FORMAT:
        said = "metadata has no format" if found is None else f"its format is {quoted(found)}"
        raise ModelError(f'not a "{FORMAT}" model, {said}; {REMEDY}')
    if unknown := sorted(metadata.keys() - {"format", "model"}):
        raise ModelError(*(f"metadata {quoted(key)}: unknown key; remove it" for key in unknown))
    if "model" not in metadata:
        raise ModelError('metadata "model": missing; it holds the settings as one JSON object')
    settings = parse_json(metadata["model"], 'metadata "model"')
    if not isinstance(settings, dict):
        raise ModelError(f'metadata "model": expected a JSON object, found {quoted(settings)}')
    settings = with_defaults(settings)
    check_settings(settings)
    return settings


def parse_json(text: str | bytes, what: str) -> Any:
    """``text`` as JSON. Raises ModelError if it is not, or if an object in it has a name twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if repeated:
            raise ModelError(*(f"{what}: {quoted(name)} appears more than once" for name in repeated))
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}: not valid JSON ({error})") from error
