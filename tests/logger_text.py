"""The text of a logger's file, from its columns."""

import random
from dataclasses import dataclass

from logger_shape import MARK_NAMES, Shape

TOA5_FIRST = '"TOA5","Hof","CR1000","21004","CR1000.Std.27","CPU:hof.CR1","3710","Table1"'


@dataclass
class Column:
    """A column of the file; ``role`` is time, stream, channel, name (of a channel), value, asked or other."""

    name: str
    cells: list[str | None]  # None = missing
    role: str = "other"
    unit: str = ""
    type: str = "string"
    comma: bool = False

    @property
    def is_number(self) -> bool:
        return self.role in ("channel", "value")


def write_text(rng: random.Random, shape: Shape, columns: list[Column]) -> tuple[str, dict[str, str]]:
    """The text; and the options that say where in it the names and the rows begin."""
    lines = list(shape.before)
    fields = [_cells(shape, column) for column in columns]
    head: list[list[str]] = []
    if shape.influx == "annotated":
        lines += _annotations(columns)
    if shape.has_names:
        head.append([column.name for column in columns])
    if shape.toa5:
        lines.append(TOA5_FIRST)
        head += [[_unit(rng, shape, column) for column in columns], [*map(_process, columns)]]
    if shape.unit_row:
        head.append([_unit(rng, shape, column) for column in columns])
    if shape.type_row:
        head.append([column.type for column in columns])
    header_line = len(lines) + 1 if shape.has_names else 0
    widths = [0] * len(columns)
    if shape.mark == " ":
        widths = [2 + max(map(len, cells)) for cells in zip(*head, *zip(*fields, strict=True), strict=True)]
    lines += [_line(shape, cells, [True] * len(columns), widths, shape.trailing == "all") for cells in head]
    data_line = len(lines) + 1
    text = [not (column.is_number or column.type == "int") for column in columns]
    lines += [_line(shape, cells, text, widths, bool(shape.trailing)) for cells in zip(*fields, strict=True)]
    end = "\r\n" if shape.crlf else "\n"
    truth = {"header_line": str(header_line), "data_line": str(data_line)}
    return end.join(lines) + end * shape.ended, truth


def _cells(shape: Shape, column: Column) -> list[str]:
    cells = [shape.code if cell is None else cell for cell in column.cells]
    if not column.comma:
        return cells
    return [shape.code if cell is None else cell.replace(".", ",") for cell in column.cells]


def _annotations(columns: list[Column]) -> list[str]:
    """Influx's lines before the names."""
    types = {"float": "double", "int": "long", "datetime": "dateTime:RFC3339"}
    typed = [types.get(column.type, "string") for column in columns[1:]]
    grouped = ["true" if column.name in ("_start", "_stop", "host") else "false" for column in columns[1:]]
    return [
        ",".join(["#group", *grouped]),
        ",".join(["#datatype", *typed]),
        ",".join(["#default", "_result", *[""] * (len(columns) - 2)]),
    ]


def _unit(rng: random.Random, shape: Shape, column: Column) -> str:
    if column.role == "time" and not column.unit:
        blank = "TS" if shape.toa5 else rng.choice(["", "UTC", "yyyy-mm-dd"])
        return blank or ("-" if shape.mark == " " else "")
    if shape.toa5 and column.name == "RECORD":
        return "RN"
    return column.unit or ("-" if shape.mark == " " else "")


def _process(column: Column) -> str:
    return "Avg" if column.role == "channel" else ""


def _line(shape: Shape, cells: list[str], text: list[bool], widths: list[int], trailing: bool) -> str:
    if shape.mark == " ":
        return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    fields = []
    for cell, is_text in zip(cells, text, strict=True):
        is_quoted = shape.quoting == "all" or (shape.quoting == "text" and (is_text or cell == "NAN"))
        if is_quoted or shape.mark in cell or '"' in cell:
            cell = '"' + cell.replace('"', '""') + '"'
        fields.append(cell)
    mark = shape.mark + " " if shape.pad else shape.mark
    return mark.join(fields) + shape.mark * trailing


def say_delimiter(mark: str) -> str:
    return MARK_NAMES.get(mark, mark)
