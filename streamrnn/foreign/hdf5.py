"""HDF5 as data alone, read by a process of its own: ``python -m streamrnn.foreign.hdf5 < FILE``.

The HDF5 library can hang or crash over a damaged file, so it never runs in the process that asks. No link
is followed, no other file opened, no filter run; a size that a file declares is believed only when as many
bytes are stored. Needs h5py, an extra, and safetensors to hand over what was read.
"""

import importlib.util
import io
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.numpy

from streamrnn.errors import UserError
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

if TYPE_CHECKING:
    import h5py

TEXT = "model_config"  # the attribute of a whole-model file that holds its layers, as JSON
VERSION = "keras_version"  # and the one that says which Keras wrote it
GROUPS = ("layers", "vars", "model_weights")  # where Keras keeps weights; the optimizer's are of no use
MOST_NAMES = 10_000  # in one file; a network of 256 layers has a quarter of it
DEEPEST = 16  # groups in one another
LONGEST_TEXT = 16 << 20  # bytes
TIME_LIMIT_S = 60
MEMORY = 4 << 30  # bytes that reading may take, beside four times the file
REFUSED = 3  # exit code of the reading process that has said why
REMEDY = "save the whole model with model.save()"


def read_hdf5(content: bytes) -> dict[str, np.ndarray]:
    """Every dataset in GROUPS of a file of these bytes, by its path; TEXT and VERSION, if they are there, as
    uint8 of UTF-8.

    Raises UserError without h5py, and ModelError for bytes that are not such a file.
    """
    if importlib.util.find_spec("h5py") is None:
        raise UserError("h5py is not installed, which reads Keras files: pip install h5py")
    command = [sys.executable, "-P", "-m", __name__]
    # "::" keeps the HDF5 library from loading filters out of other folders
    package = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": package, "HDF5_PLUGIN_PRELOAD": "::"}
    try:
        ended = subprocess.run(
            command, input=content, env=env, capture_output=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"not readable as HDF5 within {TIME_LIMIT_S} s; {REMEDY}") from error
    if ended.returncode == REFUSED:
        raise ModelError(ended.stderr.decode(errors="replace").strip())
    try:
        if ended.returncode == 0:
            return safetensors.numpy.load(ended.stdout)
    except safetensors.SafetensorError:
        pass
    lines = ended.stderr.decode(errors="replace").splitlines()
    raise ModelError(f"not readable as HDF5 ({quoted(lines[-1] if lines else 'crashed')}); {REMEDY}")


def main() -> int:
    """Reads the file on standard input and writes what is in it, as safetensors, to standard output."""
    content = sys.stdin.buffer.read()
    limit = MEMORY + 4 * len(content)
    for kind, most in (
        (resource.RLIMIT_AS, limit),
        (resource.RLIMIT_CPU, TIME_LIMIT_S),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    try:
        read = load(content)
    except ModelError as error:
        sys.stderr.write(error.problems[0])
        return REFUSED
    sys.stdout.buffer.write(safetensors.numpy.save(read))
    return 0


def load(content: bytes) -> dict[str, np.ndarray]:
    """What ``read_hdf5`` returns, read in this process: for files that can be trusted not to crash it."""
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        read, left = {}, len(content)
        for name in (TEXT, VERSION):
            if name in file.attrs:
                read[name] = np.frombuffer(_text(file, name).encode(), np.uint8)
        groups, names = [(name, file, name, 0) for name in GROUPS if _is_here(file, name)], 0
        while groups:
            path, above, name, depth = groups.pop()
            item = above[name]
            if isinstance(item, h5py.Dataset):
                read[path] = _array(item, path, left)
                left -= read[path].nbytes
                continue
            if not isinstance(item, h5py.Group) or depth > DEEPEST:
                raise ModelError(f"{quoted(path)}: neither numbers nor a group of a Keras file; {REMEDY}")
            inside = sorted(item)
            names += len(inside)
            if names > MOST_NAMES:
                raise ModelError(f"{quoted(path)}: more than {MOST_NAMES} names in one file; {REMEDY}")
            for name in inside:
                if not _is_here(item, name):
                    raise ModelError(f"{quoted(f'{path}/{name}')}: a link to another place; {REMEDY}")
                groups.append((f"{path}/{name}", item, name, depth + 1))
        return read


def _is_here(group: "h5py.Group", name: str) -> bool:
    """Whether ``name`` is in this very place of the file: asking h5py for it would follow a link."""
    import h5py

    links, encoded = group.id.links, name.encode()
    return links.exists(encoded) and links.get_info(encoded).type == h5py.h5l.TYPE_HARD


def _array(data: "h5py.Dataset", path: str, most: int) -> np.ndarray:
    """The numbers of a dataset that is stored plainly in at most ``most`` bytes of the file itself."""
    from h5py import h5d

    if data.dtype.kind not in "fiu" or data.shape is None:
        raise ModelError(f"{quoted(path)}: expected numbers, found {quoted(str(data.dtype))}")
    how, size = data.id.get_create_plist(), math.prod(data.shape) * data.dtype.itemsize
    plain = how.get_layout() in (h5d.COMPACT, h5d.CONTIGUOUS)
    if not plain or how.get_nfilters() or how.get_external_count():
        raise ModelError(f"{quoted(path)}: compressed, in parts or in another file; {REMEDY}")
    if data.id.get_storage_size() != size or size > most:
        raise ModelError(f"{quoted(path)}: shape {data.shape} is not what is stored; {REMEDY}")
    return np.asarray(data[()], data.dtype.newbyteorder("="))


def _text(file: "h5py.File", name: str) -> str:
    attribute = file.attrs.get_id(name)
    if attribute.shape != () or attribute.get_storage_size() > LONGEST_TEXT:
        raise ModelError(f"{name}: expected a text of at most {LONGEST_TEXT:,} bytes; {REMEDY}")
    text = file.attrs[name]
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    if not isinstance(text, str):
        raise ModelError(f"{name}: expected a text, found {quoted(text)}; {REMEDY}")
    return text


if __name__ == "__main__":
    sys.exit(main())
