"""Files that are no tables, or tables no more, each from a seed.

To look at one: ``python tests/hostile_tables.py SEED FOLDER``.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from logger_files import make

MARKS = ",;\t| "
CELLS = (
    "",
    "0",
    "1",
    "-1.5",
    "1e999",
    "-1e-999",
    "nan",
    "inf",
    "-inf",
    "0x10",
    "1_000",
    "1,5",
    "1.234,5",
    "9" * 400,
)
CELLS += (
    "2024-03-13",
    "2024-03-13 01:02:03",
    "0001-01-01",
    "9999-12-31T23:59:59.999999999Z",
    "31.02.2024",
    "24:00:00",
)
CELLS += (
    "13/13/2024",
    "1e18",
    "-9223372036854775808",
    "18446744073709551616",
    "20240313",
    "45352.5",
    "ON",
    "True",
    "é",
)
CELLS += (
    '"',
    '""',
    '"a',
    "a\0b",
    "\ufeff",
    "\u202e",
    "#",
    "#N/A",
    "a" * 300,
    "١٢",
    "\u22125",
    "1e5",
    "%",
    "T",
    "time",
)
NAMES = (
    "time",
    "t",
    "a",
    "b",
    "Date",
    "Time",
    "time_ms",
    "RECORD",
    "",
    "_time",
    "_value",
    "#group",
    "1",
    "é",
    "a b",
)
STARTS = (
    "sep=;\n",
    "sep=",
    "#\n",
    '"TOA5"\n',
    '"TOA5","x"\n',
    "#group,false\n",
    "\ufeff",
    "PAR1",
    "\n\n\n",
    "\r",
    "\r\n",
)
MAGICS = (b"\x1f\x8b", b"\x1f\x8b\x08\0", b"PAR1", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
FORMATS = (
    "day-first",
    "month-first",
    "s",
    "ms",
    "us",
    "ns",
    "serial",
    "%d.%m.%Y",
    "%Q",
    "%",
    "%Y%m%d",
    "%H:%M",
    "x",
    "",
)
ENCODINGS = (
    "utf-8",
    "utf-16",
    "utf-16-le",
    "cp1252",
    "latin-1",
    "utf-32",
    "cp437",
    "shift_jis",
    "utf-99",
    "rot13",
    "",
)


def make_hostile(seed: int) -> tuple[bytes, dict[str, str]]:
    """The bytes of a file, and options to read it with."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        content, options = _mutant(rng)
    else:
        content, options = (
            rng.choice([_cells, _cells, _bytes, _text, _json, _html, _little, _repeated])(rng),
            {},
        )
    if rng.random() < 0.05:
        content = rng.choice(MAGICS) + content
    return content, _options(rng) if rng.random() < 0.25 else options


def _mutant(rng: random.Random) -> tuple[bytes, dict[str, str]]:
    """A logger's file with some damage, and what was true of it."""
    case = make(rng.randrange(10**6))
    content = case.content
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        content = rng.choice(DAMAGES)(rng, content)
    options = dict(rng.choice([{}, case.needed, case.truth, case.truth]))
    if options and rng.random() < 0.5:
        options["on_error"] = "skip"
    return content, options


def _flip(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 3, 50])):
        if damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _behead(rng: random.Random, content: bytes) -> bytes:
    return content[rng.randrange(min(len(content), 300) + 1) :]


def _move_lines(rng: random.Random, content: bytes) -> bytes:
    """Swaps, doubles, deletes or shuffles lines."""
    lines = content.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            lines.insert(other, lines[one])
        case 2:
            del lines[one]
        case 3:
            rng.shuffle(lines)
        case 4:
            lines[one:one] = lines[: rng.randrange(4)]  # the head once more
    return b"\n".join(lines)


def _insert(rng: random.Random, content: bytes) -> bytes:
    cell = rng.choice([*CELLS, *MARKS * 3, "\n", "\r", "\0" * 9, "\n\n\n", ",,,,,,"]).encode()
    place = rng.randrange(len(content) + 1)
    return content[:place] + cell + content[place + rng.choice([0, 0, len(cell)]) :]


def _replace(rng: random.Random, content: bytes) -> bytes:
    """Another cell in place of one, or of all that are the same."""
    mark = rng.choice([mark.encode() for mark in MARKS])
    fields = content.split(mark)
    old, new = rng.choice(fields), rng.choice(CELLS).encode()
    return content.replace(old, new, rng.choice([1, -1])) if old else content


def _remark(rng: random.Random, content: bytes) -> bytes:
    return content.replace(
        rng.choice(MARKS).encode(), rng.choice(MARKS + '"\n').encode(), rng.choice([3, -1])
    )


def _lengthen(rng: random.Random, content: bytes) -> bytes:
    place = rng.randrange(len(content) + 1)
    piece = rng.choice([b"9", b"a", b",", b'"', b" ", b"\n", b"\0", b"1,", b";", b'""', b'",'])
    return content[:place] + piece * rng.choice([1000, 1000, 30_000, 200_000]) + content[place:]


def _reencode(rng: random.Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(["utf-16", "utf-16-be", "utf-32", "cp1252", "cp437"]), "replace")


def _join(rng: random.Random, content: bytes) -> bytes:
    return content + make(rng.randrange(10**6)).content


DAMAGES: list[Callable[[random.Random, bytes], bytes]] = [
    _flip,
    _truncate,
    _behead,
    _move_lines,
    _insert,
    _insert,
]
DAMAGES += [_replace, _replace, _remark, _lengthen, _reencode, _join]


def _cells(rng: random.Random) -> bytes:
    """A table of odd cells, not all rows of the same width."""
    mark, width, ragged = rng.choice(MARKS), rng.choice([1, 2, 3, 5, 40]), rng.random() < 0.3
    columns = [[rng.choice(CELLS) for _ in range(rng.choice([1, 2, 4]))] for _ in range(width)]
    lines = [mark.join(rng.choice(NAMES) for _ in range(width))] * rng.choice([0, 1, 1, 2])
    for _ in range(rng.choice([0, 1, 3, 60])):
        lines.append(
            mark.join(rng.choice(column) for column in columns) + mark * (ragged and rng.randrange(3))
        )
    text = rng.choice(STARTS) * (rng.random() < 0.2) + rng.choice(["\n", "\r\n", "\r"]).join(lines)
    return text.encode(rng.choice(["utf-8", "utf-8", "utf-16", "cp1252"]), "replace")


def _bytes(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([1, 2, 10, 300, 5000]))


def _text(rng: random.Random) -> bytes:
    """Random characters, of ASCII or of all of Unicode."""
    last = rng.choice([0x7F, 0x7F, 0x2FF, 0xD7FF])
    characters = [chr(rng.randrange(1, last)) for _ in range(rng.choice([5, 200, 3000]))]
    return "".join(rng.choice([*characters, *"\n,;"]) for _ in characters).encode()


def _json(rng: random.Random) -> bytes:
    rows = [
        {"time": k, "a": rng.random(), "b": [1, {"c": None}], "d": rng.choice(CELLS)}
        for k in range(rng.randrange(40))
    ]
    if rng.random() < 0.5:
        return "\n".join(map(json.dumps, rows)).encode()
    return json.dumps({"rows": rows}, indent=rng.choice([None, 2])).encode()


def _html(rng: random.Random) -> bytes:
    rows = "".join(f"<tr><td>{k}</td><td>{rng.random():.3f}</td></tr>\n" for k in range(rng.randrange(40)))
    return f"<!DOCTYPE html>\n<html><title>404, not; found</title>\n<table>{rows}</table></html>".encode()


def _little(rng: random.Random) -> bytes:
    """Next to nothing."""
    pieces = [
        "",
        "\n",
        "\r",
        " ",
        ",",
        ";",
        '"',
        "\t",
        "\0",
        "a",
        "1",
        ".",
        "-",
        "time",
        "\ufeff",
        "\r\n",
        "#",
        "sep=",
        "T",
    ]
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(9))).encode()


def _repeated(rng: random.Random) -> bytes:
    """A piece very often: many columns, many lines, many quotes."""
    piece = "".join(rng.choice([*CELLS[:40], *MARKS, "\n", "\n", '"']) for _ in range(rng.randrange(1, 5)))
    return (piece * rng.choice([10, 300, 20_000]))[: 1 << 20].encode()


def _options(rng: random.Random) -> dict[str, str]:
    """Some options, right or wrong, of right types."""
    name = rng.choice(NAMES)
    drawn = {
        "delimiter": rng.choice(["tab", "space", *MARKS[:4], ":", "a", "."]),
        "encoding": rng.choice(ENCODINGS),
        "header_line": str(rng.choice([0, 0, 1, 2, 3, 10, 10**6])),
        "data_line": str(rng.choice([1, 2, 3, 10, 10**6])),
        "names": ",".join(rng.sample(["time", "a", "b", "c", "d", "e", "Date", "Time"], rng.randrange(1, 8))),
        "decimal": rng.choice(["point", "comma"]),
        "missing": rng.choice(["-9999", "?,ERR", "0", "nan", "-9999,x,1e999"]),
        "time": rng.choice(["none", "time", "Date,Time", "a", name, "c1"]),
        "time_format": rng.choice(FORMATS),
        "stream": rng.choice(["a", "c2", name]),
        "seq": rng.choice(["RECORD", "a", name]),
        "channel": rng.choice(["_field", "b", name]),
        "value": rng.choice(["_value", "a", name]),
        "on_error": rng.choice(["skip", "skip", "fail"]),
    }
    return {option: drawn[option] for option in rng.sample(list(drawn), rng.choice([1, 1, 2, 5]))}


if __name__ == "__main__":
    content, options = make_hostile(int(sys.argv[1]))
    path = Path(sys.argv[2]) / f"hostile{sys.argv[1]}.csv"
    path.write_bytes(content)
    print(path, options, content[:300])
