"""Tables that pandas wrote. Names and index are read where they stand as data; what is a pickle is not.

Fixed: ``axis1`` is the index, ``block0_items`` and ``block0_values`` are names and values, and so on. Table:
a compound ``table`` of an ``index`` and a column each, or blocks whose names stand in a pickle.
"""

import re
from collections.abc import Sequence

import h5py
import numpy as np

from streamrnn.recordings.hdf5.attributes import Moment, Said
from streamrnn.recordings.hdf5.packing import PLAIN
from streamrnn.recordings.hdf5.store import Store, StoredColumn, check_storage, columns_of, numeric
from streamrnn.recordings.hdf5.times import Counted, Stamped, TimeBase, Timed

_KIND = re.compile(r"(datetime|timedelta)64(?:\[(s|ms|us|ns)\])?$")
_BLOCK = re.compile(r"(block\d+)_values$")
IN_BLOCKS = (
    "the names of its columns stand in a pickle, which is not read; write it with data_columns=True, or as "
    "parquet"
)
PICKLED = "pickled objects, which are not read"


class FrameIndex(Stamped):
    """The index of a table: whole numbers of a unit since 1970, or, of time deltas, since the start."""

    def __init__(self, store: Store, said: Said, unit: str, dated: bool, zoned: bool) -> None:
        super().__init__(store, said, None, unit)
        self.zero = Moment(0, zoned) if dated else None


def is_frame(group: "h5py.Group") -> bool:
    """Whether pandas wrote a group."""
    return "pandas_type" in group.attrs


def read_frame(
    path: str, group: "h5py.Group", datasets: dict[str, "h5py.Dataset"]
) -> tuple[list[Timed], dict[str, str]]:
    """The samples of a table, and what of it is none, with the reason."""
    kind = Said(group).text("pandas_type")
    for name, data in datasets.items():
        if data.shape is not None and numeric(data.dtype):
            check_storage(f"{path}/{name}", data)
    if kind == "frame_table" and "table" in datasets:
        return _of_table(path, datasets["table"])
    if kind == "frame" and "axis1" in datasets:
        return _of_blocks(path, Said(group), datasets)
    if kind == "series" and {"index", "values"} <= datasets.keys():
        name = Said(group).text("name") or path.rpartition("/")[2]
        return _series(path, name, datasets)
    return [], {path: f"a {kind or 'kind of'} table of pandas, which is not read; write a frame"}


def _series(path: str, name: str, datasets: dict[str, "h5py.Dataset"]) -> tuple[list[Timed], dict[str, str]]:
    values = datasets["values"]
    if not numeric(values.dtype) or values.ndim != 1:
        return [], {path: PICKLED}
    store = Store(f"{path}/values", values, 0, [StoredColumn(name, "", None, PLAIN)])
    return [Timed(path, _index(path, datasets["index"]), [store])], {}


def _of_blocks(
    path: str, said: Said, datasets: dict[str, "h5py.Dataset"]
) -> tuple[list[Timed], dict[str, str]]:
    stores, left_out, encoding = list[Store](), {f"{path}/axis1": "times"}, said.text("encoding") or "utf-8"
    for name, values in datasets.items():
        if (block := _BLOCK.fullmatch(name)) is None:
            continue
        items = _names(datasets.get(f"{block[1]}_items"), encoding)
        if not numeric(values.dtype) or values.ndim != 2:
            left_out |= dict.fromkeys((f"{path}/{item}" for item in items or [name]), PICKLED)
        elif Said(values)["value_type"] is not None:
            left_out |= {f"{path}/{item}": "times" for item in items}
        elif len(items) == values.shape[1]:
            stores.append(
                Store(f"{path}/{name}", values, 0, columns_of(items[0], "", len(items), items, PLAIN))
            )
        else:
            left_out[f"{path}/{name}"] = "the names of its columns cannot be told"
    return [Timed(path, _index(path, datasets["axis1"]), stores)] if stores else [], left_out


def _of_table(path: str, table: "h5py.Dataset") -> tuple[list[Timed], dict[str, str]]:
    columns, left_out = list[StoredColumn](), {f"{path}/index": "times"}
    for field in table.dtype.names or ():
        if field == "index":
            continue
        if field.startswith("values_block_"):
            left_out[f"{path}/{field}"] = IN_BLOCKS
        elif not numeric(table.dtype[field]):
            left_out[f"{path}/{field}"] = "text"
        elif Said(table).text(f"{field}_dtype").startswith(("datetime", "timedelta")):
            left_out[f"{path}/{field}"] = "times"
        else:
            columns.append(StoredColumn(field, "", field, PLAIN))
    if not columns:
        return [], left_out
    return [Timed(path, _index(path, table), [Store(f"{path}/table", table, 0, columns)])], left_out


def _index(path: str, data: "h5py.Dataset") -> TimeBase:
    """The times of a table: its index, where that has some."""
    compound = bool(data.dtype.names)
    said = Said(data)
    found = _KIND.match(said.text("index_kind" if compound else "kind"))
    if found is None:
        return Counted(int(data.shape[0]))
    column = StoredColumn("index", "", "index" if compound else None, PLAIN)
    zoned = "tz" in said or ("index_tz" in said)
    store = Store(f"{path}/index", data, 0, [column])
    return FrameIndex(store, said, found[2] or "ns", found[1] == "datetime", zoned)


def _names(data: "h5py.Dataset | None", encoding: str) -> Sequence[str]:
    """Names that stand as data; none for what is a pickle."""
    if data is None or data.ndim != 1 or data.dtype.kind not in "Si" or data.size > 1 << 16:
        return []
    try:
        return [
            one.decode(encoding) if isinstance(one, bytes) else str(one)
            for one in np.asarray(data[:]).tolist()
        ]
    except (UnicodeDecodeError, LookupError):
        return []
