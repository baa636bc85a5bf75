"""The header page of a live state: which boot, model and layout it is of; two copies, one of them whole."""

import os
import zlib

import numpy as np

from streamrnn.streams.record import RecordLayout

PAGE = 4096
MAGIC, FORMAT = b"SRSTATE", 5
_READ = (4, FORMAT)  # the version before has the same header

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("format", "<u4"),
        ("crc", "<u4"),  # of the rest, with this as 0
        ("generation", "<u8"),  # of the two copies in the page, the later whole one counts
        ("boot", "S40"),
        ("model", "S64"),  # the fingerprint
        ("successor", "S64"),  # of the model that is taking over, while it does
        ("snapshot", "<u8"),  # the number of the last one that was taken of it
        ("capacity", "<u8"),
        ("work", "<u8"),  # the records to work in
        ("layout", "<u4", len(RecordLayout._fields)),
    ]
)
_FORMAT_AT, _MOST_PARTS = 8, 32  # in every version: where format and crc are, the most parts of a layout
assert HEADER.fields is not None and HEADER.fields["format"][1] == _FORMAT_AT
COPY_AT = (0, PAGE // 2)


class Unusable(Exception):
    """Why a file cannot be taken over; the newest snapshot is the next best."""


class AnotherFormat(Unusable):
    """It is one of another version."""


def read_header(file: int) -> np.void:
    """The header of an open live state. Raises Unusable for what is not one, or of another version."""
    page = os.pread(file, PAGE, 0)
    for at in COPY_AT:
        if (found := _other_format(page[at : at + PAGE // 2])) is not None:
            raise AnotherFormat(f"of format {found}, this version knows {FORMAT}")
    headers = _whole_headers(page)
    if not headers:
        raise Unusable("its header is damaged")
    return headers[-1]


def _whole_headers(page: bytes) -> list[np.void]:
    """The copies of a header that are whole, the one that counts last."""
    whole: list[np.void] = []
    for at in COPY_AT:
        if len(page) < at + HEADER.itemsize:
            break
        copy = np.frombuffer(page, HEADER, 1, at).copy()
        crc = int(copy["crc"][0])
        copy["crc"] = 0
        if copy["magic"][0] == MAGIC and crc == zlib.crc32(copy.tobytes()):
            whole.append(copy[0])
    return sorted(whole, key=lambda copy: int(copy["generation"]))


def _other_format(page: bytes) -> int | None:
    """The format of a whole header that another version wrote, with a layout of any number of words."""
    fixed = HEADER.itemsize - HEADER["layout"].itemsize
    if len(page) < fixed or not page.startswith(MAGIC):
        return None
    found, crc = (int.from_bytes(page[at : at + 4], "little") for at in (_FORMAT_AT, _FORMAT_AT + 4))
    bare = page[: _FORMAT_AT + 4] + bytes(4) + page[_FORMAT_AT + 8 :]
    sizes = range(fixed, min(fixed + 4 * _MOST_PARTS, len(page)) + 1, 4)
    return found if found not in _READ and crc in map(zlib.crc32, (bare[:size] for size in sizes)) else None
