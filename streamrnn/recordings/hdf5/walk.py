"""The folders of an HDF5 file and what is in them. No link is followed, so no other file is opened."""

from collections.abc import Iterator

import h5py
from h5py import h5l

from streamrnn.errors import UserError

MOST_NAMES = 100_000
DEEPEST = 32  # groups in one another
_OF_MATLAB = ("#refs#", "#subsystem#")


def folders(file: "h5py.File") -> Iterator[tuple[str, "h5py.Group", dict[str, "h5py.Dataset"]]]:
    """Each folder's path ("" of the file itself) with its datasets by name, folders above those in them."""
    left: list[tuple[str, h5py.Group, int]] = [("", file["/"], 0)]
    names = 0
    while left:
        path, group, depth = left.pop(0)
        datasets, inside = dict[str, h5py.Dataset](), list[tuple[str, h5py.Group, int]]()
        for name in group:
            names += 1
            if names > MOST_NAMES:
                raise UserError(f"has more than {MOST_NAMES:,} names in it")
            if not _is_here(group, name) or (not path and name in _OF_MATLAB):
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                datasets[name] = item
            elif isinstance(item, h5py.Group) and not _is_index(item):
                if depth == DEEPEST:
                    raise UserError(f"has groups more than {DEEPEST} deep")
                inside.append((f"{path}/{name}".strip("/"), item, depth + 1))
        yield path, group, datasets
        left = inside + left


def _is_here(group: "h5py.Group", name: str) -> bool:
    """Whether ``name`` is in this very place of the file: asking h5py for it would follow a link."""
    links, encoded = group.id.links, name.encode()
    return bool(links.exists(encoded) and links.get_info(encoded).type == h5l.TYPE_HARD)


def _is_index(group: "h5py.Group") -> bool:
    """Whether PyTables keeps an index there, which is no data."""
    return "CLASS" in group.attrs and group.attrs["CLASS"] in (b"TINDEX", b"INDEX", "TINDEX", "INDEX")
