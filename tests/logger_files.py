"""Files as loggers write them, each made from a plain table and a seed.

Whatever a logger puts around its table, the rows to be read are those of the plain table. To look at one:
``python tests/logger_files.py SEED FOLDER``.
"""

import gzip
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from logger_shape import NUMERIC_CODES, WORD_CODES, Shape, draw_shape
from logger_table import Rows, Stream, draw_streams, to_float32
from logger_text import Column, say_delimiter, write_text
from logger_times import draw_start

CHANNELS = (
    "T",
    "RH",
    "P",
    "Wind_Avg",
    "flow",
    "a",
    "b",
    "x1",
    "U_L1",
    "Vorlauf",
    "level",
    "speed",
    "current",
)
ACCENTED = ("Außen", "Dämpfung", "Zähler_µ", "Temp°", "Größe", "Strom, Süd")
UNITS = ("degC", "hPa", "%", "m/s", "V", "kW", "mbar", "W/m²", "°C", "µA")
STREAM_COLUMNS = ("machine", "sensor", "device", "unit", "station")
STREAM_IDS = (
    ("m1", "m2", "m3", "m4"),
    ("Nord", "Süd", "Ost", "West"),
    ("1", "2", "3", "4"),
    ("a-7", "a-8", "b-1", "b-2"),
)
LONG_COLUMNS = (("sensor", "value"), ("tag", "reading"), ("_field", "_value"), ("entity_id", "state"))
WORDS = (
    ("False", "True"),
    ("FALSE", "TRUE"),
    ("OFF", "ON"),
    ("false", "true"),
    ("no", "yes"),
    ("manual", "auto"),
)
COUNTERS = ("RECORD", "index", "No.", "n", "row", "", "__index_level_0__", "id", "Sample")


@dataclass
class Case:
    """A file, what a user has to say of it, and what is in it."""

    name: str
    content: bytes
    properties: list[str]
    channels: list[str]  # as the file names them
    asked: bool  # whether they must be asked for, with --channels
    needed: dict[str, str]  # options without which the file means something else
    truth: dict[str, str]  # all that can be said of the file in options
    suggested: list[str]  # options of ``needed`` that the reader is to suggest
    streams: dict[str, Rows]
    units: dict[str, str]  # of channels, as a row of units has them
    period_ns: int
    tolerance_ns: int  # of times
    seq: list[int] | None  # the record numbers, where they number the rows
    ordered: bool  # which of two words is 1 goes without saying
    bad_time: bool  # there is one row more, without a time, that may be left out


def make(seed: int) -> Case:
    """The file of this seed, always the same."""
    rng = random.Random(seed)
    shape = draw_shape(rng)
    start_ns = draw_start(rng, shape.form)
    ids = rng.choice(STREAM_IDS)[: shape.streams] if shape.streams > 1 else [f"logger{seed}"]
    streams = draw_streams(rng, shape.channels, ids, start_ns, shape.period_ns, shape.duplicates)
    names = _draw_names(rng, shape)
    if shape.long:
        columns, bad_row = _lay_long(rng, shape, streams, names), None
    else:
        columns = _lay_wide(rng, shape, streams, names)
        bad_row = _spoil(rng, shape, streams, columns)
    text, truth = write_text(rng, shape, columns)
    truth |= _truth(shape, columns)
    return Case(
        name=f"logger{seed}.{shape.suffix}",
        content=_encode(text, shape),
        properties=shape.properties,
        channels=names if shape.long else [c.name for c in columns if c.role in ("channel", "asked")],
        asked=any(column.role == "asked" for column in columns),
        needed={option: truth[option] for option in _needed(shape, truth)},
        truth=truth,
        suggested=[name for name in ("stream", "channel", "value") if name in truth],
        streams={stream.name: _expected(shape, stream) for stream in streams},
        units={c.name: c.unit for c in columns if c.role == "channel" and (shape.unit_row or shape.toa5)},
        period_ns=shape.period_ns,
        tolerance_ns=shape.form.tolerance_ns,
        seq=_record_numbers(shape, columns, bad_row),
        ordered=not any(column.role == "asked" and "auto" in column.cells for column in columns),
        bad_time=bad_row is not None,
    )


def _draw_names(rng: random.Random, shape: Shape) -> list[str]:
    pool = [*CHANNELS, *(ACCENTED if shape.accents and shape.mark != " " else ())]
    names = rng.sample(pool, shape.channels)
    if shape.accents and not {*names} & {*ACCENTED}:
        names[0] = rng.choice(ACCENTED[:5])
    return names


def _lay_wide(rng: random.Random, shape: Shape, streams: list[Stream], names: list[str]) -> list[Column]:
    """A column for each channel. The streams take turns."""
    order = sorted(
        (time, at, row) for at, stream in enumerate(streams) for row, time in enumerate(stream.times)
    )
    columns = _time_columns(shape, [time for time, _, _ in order])
    if len(streams) > 1:
        ids: list[str | None] = [streams[at].name for _, at, _ in order]
        columns.insert(rng.randrange(len(columns) + 1), Column(rng.choice(STREAM_COLUMNS), ids, "stream"))
    for channel, name in enumerate(names):
        cells = [streams[at].channels[channel][row] for _, at, row in order]
        columns.append(_channel_column(rng, shape, name, cells))
    if shape.comma and not any(column.comma for column in columns):
        columns[-1].comma = True
    if shape.words:
        words = rng.choice(WORDS)
        for stream in streams:
            stream.channels.append([rng.choice("01") for _ in stream.times])
        cells = [words[int(streams[at].channels[-1][row] or 0)] for _, at, row in order]
        role = "asked" if shape.words == "asked" else "other"
        columns.append(Column(rng.choice(["valve", "pump", "on"]), cells, role, "", "boolean"))
        if role == "other":
            for stream in streams:
                stream.channels.pop()
    if shape.influx:
        return _influx_columns(rng, len(order)) + columns
    if shape.late_time:
        columns.sort(key=lambda column: column.role == "time")
    for kind in shape.others:
        place = 0 if rng.random() < 0.5 else rng.randrange(len(columns) + 1)
        columns.insert(place, _other_column(rng, shape, kind, len(order)))
    return columns


def _lay_long(rng: random.Random, shape: Shape, streams: list[Stream], names: list[str]) -> list[Column]:
    """A row for each reading; a missing one has an empty cell, or no row."""
    rows = []
    order = sorted(
        (time, at, row) for at, stream in enumerate(streams) for row, time in enumerate(stream.times)
    )
    leaves_out = rng.random() < 0.5
    for time, at, row in order:
        readings = [
            (time, at, name, cells[row]) for name, cells in zip(names, streams[at].channels, strict=True)
        ]
        if leaves_out:
            readings = [reading for reading in readings if reading[3] is not None]
            if not readings:  # no row says that there was one
                streams[at].channels[0][row] = "1"
                readings = [(time, at, names[0], "1")]
        if rng.random() < 0.1:
            rng.shuffle(readings)
        rows += readings
    columns = _time_columns(shape, [time for time, *_ in rows])
    name, value = rng.choice(LONG_COLUMNS)
    if len(streams) > 1:
        columns.append(Column("host", [streams[at].name for _, at, *_ in rows], "stream"))
    columns.append(Column(name, [name for *_, name, _ in rows], "name"))
    columns.append(Column(value, [cell for *_, cell in rows], "value", "", "double", bool(shape.comma)))
    return columns


def _time_columns(shape: Shape, times: list[int]) -> list[Column]:
    if not shape.timed:
        return []
    unit = shape.form.unit if shape.form.unit_row else ""
    cells = zip(*map(shape.form.write, times), strict=True)
    comma = shape.comma == "all" and shape.form.is_number
    return [
        Column(name, [*column], "time", unit, "int" if shape.form.is_number else "datetime", comma)
        for name, column in zip(shape.form.columns, cells, strict=True)
    ]


def _channel_column(rng: random.Random, shape: Shape, name: str, cells: list[str | None]) -> Column:
    unit = rng.choice(UNITS)
    match shape.name_units:
        case "_":
            name = f"{name}_{unit}"
        case " ()" | " []" | "()":
            name = f"{name}{shape.name_units[:-1]}{unit}{shape.name_units[-1]}"
    comma = shape.comma == "all" or (shape.comma == "some" and rng.random() < 0.5)
    return Column(name, cells, "channel", unit, "float", comma)


def _other_column(rng: random.Random, shape: Shape, kind: str, count: int) -> Column:
    """A column that is no measurement."""
    match kind:
        case "counter":
            first = rng.choice([0, 1, 1, 1000, 123_456])
            names = [name for name in COUNTERS if shape.mark != " " or (name and "." not in name)]
            name = "RECORD" if shape.toa5 else rng.choice(names if shape.has_names else COUNTERS[:5])
            return Column(name, [str(first + row) for row in range(count)], "counter", "", "int")
        case "still":
            name, value = rng.choice(
                [("status", "0"), ("altitude", "412.5"), ("device_id", "4711"), ("tilt", "1.0")]
            )
            return Column(name, [value] * count, "other", "", "float")
        case "still text":
            return Column("place", ["Hof"] * count)
        case "installed":
            return Column("installed", ["2023-11-05"] * count)
    return Column("remark", ["door open" if row == count // 2 else "" for row in range(count)])


def _influx_columns(rng: random.Random, count: int) -> list[Column]:
    """Those before the time."""
    columns = [
        Column("", [""] * count),
        Column("result", [""] * count),
        Column("table", ["0"] * count, type="int"),
    ]
    columns += [
        Column(name, [f"20{year}-01-02T00:00:00Z"] * count, type="datetime")
        for name, year in (("_start", 10), ("_stop", 26))
    ]
    return columns + [Column("host", ["p1"] * count)] * rng.randrange(2)


def _spoil(rng: random.Random, shape: Shape, streams: list[Stream], columns: list[Column]) -> int | None:
    """Makes one time bad, and its row none of the plain table; the row's place in the file."""
    if not shape.bad_time:
        return None
    order = sorted(
        (time, at, row) for at, stream in enumerate(streams) for row, time in enumerate(stream.times)
    )
    place = rng.randrange(5, len(order))
    next(column for column in reversed(columns) if column.role == "time").cells[place] = shape.bad_time
    _, at, row = order[place]
    for cells in (streams[at].times, *streams[at].channels):
        del cells[row]
    return place


def _expected(shape: Shape, stream: Stream) -> Rows:
    values = np.column_stack([to_float32(cells) for cells in stream.channels])
    return Rows(stream.times if shape.timed else [0] * len(stream.times), values, shape.period_ns)


def _truth(shape: Shape, columns: list[Column]) -> dict[str, str]:
    """All but where names and rows begin."""
    by_role = {column.role: column.name for column in columns}
    truth = {
        "delimiter": say_delimiter(shape.mark),
        "encoding": {"utf-16-le": "utf-16", "utf-16-be": "utf-16"}.get(shape.encoding, shape.encoding),
        "time": ",".join(column.name for column in columns if column.role == "time") or "none",
    }
    if shape.timed and shape.form.tells:
        truth["time_format"] = shape.form.tells
    if not shape.has_names:
        truth["names"] = ",".join(column.name for column in columns)
    if shape.comma:
        truth["decimal"] = "comma"
    if shape.code in (*NUMERIC_CODES, *WORD_CODES):
        truth["missing"] = shape.code
    if shape.bad_time:
        truth["on_error"] = "skip"
    roles = {"stream": "stream", "name": "channel", "value": "value"}
    truth |= {option: by_role[role] for role, option in roles.items() if role in by_role}
    if shape.toa5 and "counter" in by_role:
        truth["seq"] = by_role["counter"]
    return truth


def _needed(shape: Shape, truth: dict[str, str]) -> list[str]:
    """The options without which a reader cannot but take the file for something else."""
    needed = [option for option in ("stream", "channel", "value") if option in truth]
    if shape.code in NUMERIC_CODES:
        needed.append("missing")
    if needed and "names" in truth:
        needed.append("names")
    return needed


def _record_numbers(shape: Shape, columns: list[Column], bad_row: int | None) -> list[int] | None:
    numbers = [column.cells for column in columns if shape.toa5 and column.role == "counter"]
    return [int(cell or 0) for row, cell in enumerate(numbers[0]) if row != bad_row] if numbers else None


def _encode(text: str, shape: Shape) -> bytes:
    mark = "\ufeff" if shape.encoding.startswith("utf-16") else ""
    content = (mark + text).encode(shape.encoding)
    return gzip.compress(content, mtime=0) if shape.gzip else content


def main() -> None:
    """Writes the file of a seed into a folder, and prints what is in it."""
    seed, folder = int(sys.argv[1]), Path(sys.argv[2])
    case = make(seed)
    path = folder / case.name
    path.write_bytes(case.content)
    print(path)
    print("properties:", *case.properties, sep="\n  ")
    print("needed:", as_options(case.needed), "--channels ..." * case.asked)
    print("truth:", as_options(case.truth))
    print("channels:", case.channels, "units:", case.units)
    for name, rows in case.streams.items():
        print(f"stream {name}: {len(rows.times)} rows, gaps {rows.gaps}, times {rows.times[:3]} ...")
        print(rows.values[:4])
    content = gzip.decompress(case.content) if path.suffix == ".gz" else case.content
    text = content.decode(case.truth["encoding"])
    print("file:", *map(repr, text.split("\n")[:12]), sep="\n  ")


def as_options(said: dict[str, str]) -> str:
    """As they are written on the command line."""
    columns = ("time", "seq", "stream", "channel", "value")
    words = [
        f"--{name.replace('_', '-')}{'-column' * (name in columns)} '{value}'" for name, value in said.items()
    ]
    return " ".join(words)


if __name__ == "__main__":
    main()
