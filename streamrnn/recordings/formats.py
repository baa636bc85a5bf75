"""The formats of recordings, a row each: what a file of it looks like, and what reads it."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from streamrnn.errors import UserError

LOOKED_AT = 1 << 12  # bytes of a file that tell what it is
_HDF5 = b"\x89HDF\r\n\x1a\n"  # at 0, or behind a block of the user's of 512 bytes, 1024, 2048, ...


class RecordingFormat(NamedTuple):
    """A row of the table."""

    name: str
    suffixes: tuple[str, ...]  # that its files usually have; for people, its content tells
    looks: Callable[[bytes], bool]  # whether the first LOOKED_AT bytes of a file are of it
    module: str  # of ``streamrnn.recordings``: has ``open_recording``
    library: str  # that must be there; "" = none, it is read by what is here
    extra: str  # that brings it; "" where there is none
    holds: str  # what it is known for, in a few words


def _begins(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic)


def _is_edf(head: bytes) -> bool:
    """By more than its first bytes, which a text may have, too: a date and a time stand at their place."""
    at_place = re.fullmatch(rb"(\d\d\D\d\d\D\d\d){2}", head[168:184]) is not None
    return head[:8] in (b"0       ", b"\xffBIOSEMI") and at_place


FORMATS: tuple[RecordingFormat, ...] = (
    RecordingFormat(
        "HDF5",
        (".h5", ".hdf5", ".mat", ".nc"),
        lambda head: any(head[at : at + len(_HDF5)] == _HDF5 for at in (0, 512, 1024, 2048)),
        "hdf5",
        "h5py",
        "hdf5",
        "plain HDF5, MATLAB 7.3, pandas, netCDF-4",
    ),
    RecordingFormat("TDMS", (".tdms",), _begins(b"TDSm"), "tdms", "", "", "of LabVIEW and DAQmx"),
    RecordingFormat(
        "MDF", (".mf4", ".mdf"), _begins(b"MDF     ", b"UnFinMF "), "mdf", "", "", "MDF 4 of vehicles"
    ),
    RecordingFormat(
        "MCAP", (".mcap",), _begins(b"\x89MCAP0\r\n"), "mcap", "", "", "of robots: JSON, ROS, protobuf"
    ),
    RecordingFormat("XDF", (".xdf",), _begins(b"XDF:"), "xdf", "", "", "of the Lab Streaming Layer"),
    RecordingFormat("EDF", (".edf", ".bdf"), _is_edf, "edf", "", "", "EDF, EDF+ and BDF of clinics"),
)
NAMES = {row.name: row for row in FORMATS}
SUFFIXES = tuple(suffix for row in FORMATS for suffix in row.suffixes)


def looks_like(begin: bytes) -> RecordingFormat | None:
    """The format of what begins like this."""
    return next((row for row in FORMATS if row.looks(begin[:LOOKED_AT])), None)


def format_of(path: Path) -> RecordingFormat | None:
    """The format of a file by its content; None for another, or what cannot be read twice.

    Raises UserError, which names the command that brings it, if the library that reads it is missing.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(LOOKED_AT)
    except OSError:
        return None
    found = looks_like(head)
    if found is not None and found.library and importlib.util.find_spec(found.library) is None:
        raise UserError(
            f"{path}: is {found.name}, which {found.library} reads; pip install 'streamrnn[{found.extra}]'"
        )
    return found


def is_safetensors(path: Path) -> bool:
    """Whether a file is a model or a snapshot by its name, or by its first bytes."""
    if path.suffix == ".safetensors" or not path.is_file():
        return path.suffix == ".safetensors"
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and head[4:8] == bytes(4)
