"""The folders of an HDF5 file and what is in them. No link is followed, so no other file is opened."""

from collections.abc import Iterator
from contextlib import contextmanager

import h5py
from h5py import h5l

from streamrnn.errors import UserError

MOST_NAMES = 100_000
DEEPEST = 32  # groups in one another
GONE = "what says where its samples are is not there any more"
_OF_MATLAB = ("#refs#", "#subsystem#")


def folders(
    file: "h5py.File", gone: dict[str, str] | None
) -> Iterator[tuple[str, "h5py.Group", dict[str, "h5py.Dataset"]]]:
    """Each folder's path ("" of the file itself) with its datasets by name, folders above those in them.

    What cannot be read goes to ``gone``, or raises where that is None.
    """
    left: list[tuple[str, h5py.Group, int]] = [("", file["/"], 0)]
    names = 0
    while left:
        path, group, depth = left.pop(0)
        datasets, inside = dict[str, h5py.Dataset](), list[tuple[str, h5py.Group, int]]()
        for name in _names(path, group, gone):
            names += 1
            if names > MOST_NAMES:
                raise UserError(f"has more than {MOST_NAMES:,} names in it")
            if not path and name in _OF_MATLAB:
                continue
            with lost(f"{path}/{name}".strip("/"), gone):
                item = group[name] if _is_here(group, name) else None
                if isinstance(item, h5py.Dataset):
                    datasets[name] = item
                elif isinstance(item, h5py.Group) and not _is_index(item):
                    if depth == DEEPEST:
                        raise UserError(f"has groups more than {DEEPEST} deep")
                    inside.append((f"{path}/{name}".strip("/"), item, depth + 1))
        yield path, group, datasets
        left = inside + left


@contextmanager
def lost(path: str, gone: dict[str, str] | None) -> Iterator[None]:
    """Notes what cannot be read in ``gone``; raises it where that is None."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        if gone is None:
            raise
        gone[path or "/"] = GONE


def _names(path: str, group: "h5py.Group", gone: dict[str, str] | None) -> list[str]:
    names = list[str]()
    with lost(path, gone):
        for name in group:
            names.append(name)
            if len(names) > MOST_NAMES:
                raise UserError(f"has more than {MOST_NAMES:,} names in it")
    return names


def _is_here(group: "h5py.Group", name: str) -> bool:
    """Whether ``name`` is in this very place of the file: asking h5py for it would follow a link."""
    links, encoded = group.id.links, name.encode()
    return bool(links.exists(encoded) and links.get_info(encoded).type == h5l.TYPE_HARD)


def _is_index(group: "h5py.Group") -> bool:
    """Whether PyTables keeps an index there, which is no data."""
    return "CLASS" in group.attrs and group.attrs["CLASS"] in (b"TINDEX", b"INDEX", "TINDEX", "INDEX")
