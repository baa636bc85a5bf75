"""Files as loggers write them, a few lines each: the right rows, or an error that names the option for it."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tables import Read, fails, read, write

from streamrnn.errors import UserError
from streamrnn.table import Reading, open_rows
from streamrnn.table.cell_values import NUMBER
from streamrnn.table.numbering import TimeNumbers

START = 1_710_288_000 * 10**9  # 2024-03-13 00:00:00 UTC
MINUTE = 60 * 10**9
ROWS = range(120)
A = [round(20 + 2 * math.sin(row / 9), 2) for row in ROWS]


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Writes text or bytes to a file and returns its path."""
    return partial(write, tmp_path)


def table(head: str, times: list[str], mark: str = ",", cells: list[str] | None = None) -> str:
    """A file of a time and a channel, lines of ``head`` above it."""
    return head + "".join(f"{t}{mark}{a}\n" for t, a in zip(times, cells or map(str, A), strict=True))


def check(found: Read, name: str = "a", step: int = MINUTE, start: int = START) -> None:
    """Every row, at its time."""
    assert found.reader.channels == [name]
    assert found.rows.values[:, 0].tolist() == np.array(A, np.float32).tolist()
    assert found.rows.ts_ns.tolist() == [start + step * row for row in ROWS]


CLOCK = [f"{row // 60:02}:{row % 60:02}:00" for row in ROWS]
ISO = [f"2024-03-13 {clock}" for clock in CLOCK]


@pytest.mark.parametrize(
    "times",
    [
        [f"13/03/2024 {clock}" for clock in CLOCK],
        [f"03/13/24 {clock}" for clock in CLOCK],
        [f"2024/03/13 {clock}" for clock in CLOCK],
        [f"13.03.2024 {clock}" for clock in CLOCK],
        [f"2024-03-13 {clock} UTC" for clock in CLOCK],
        [f"2024-03-13T{clock},000" for clock in CLOCK],
        [f"3/13/2024 {row // 60 + 12 * (row < 60)}:{row % 60:02} AM" for row in ROWS],
        [f"13-Mar-2024 {clock}" for clock in CLOCK],
        [f"2024-03-13 {row // 60 + 1:02}:{row % 60:02}:00+0100 [Europe/Berlin]" for row in ROWS],
        [f"20240313{clock.replace(':', '')}" for clock in CLOCK],
        [f"20240313T{clock.replace(':', '')}Z" for clock in CLOCK],
        [f"{1_710_288_000 + 60 * row}" for row in ROWS],
        [f"{1_710_288_000_000 + 60_000 * row}" for row in ROWS],
        [f"{45_364 + row / 1440:.6f}" for row in ROWS],
    ],
)
def test_times_that_only_mean_one_thing(csv, times):
    quoted = [f'"{text}"' if "," in text else text for text in times]
    check(read(csv(table("taken,a\n" if "/" in times[0] else "time,a\n", quoted))))


def test_a_day_and_a_month_are_told_apart_by_the_whole_column(csv):
    days = [f"{1 + row // 5:02}/02/2024 {row % 5:02}:00" for row in range(100)]  # the 13th comes in row 60
    found = read(csv("when,a\n" + "".join(f"{day},{row % 7}.5\n" for row, day in enumerate(days))))
    assert found.rows.ts_ns[5] - found.rows.ts_ns[0] == 24 * 60 * MINUTE
    one_day = csv(
        "when,a\n" + "".join(f"02/03/2024 {clock},{a}\n" for clock, a in zip(CLOCK, A, strict=True))
    )
    said = fails(one_day)
    assert said.startswith(
        '"02/03/2024 00:00:00" in column "when" may begin with the day or with the month; '
    )
    check(read(one_day, time_format="day-first"), start=START - 11 * 24 * 60 * MINUTE)
    check(read(one_day, time_format="month-first"), start=START - 39 * 24 * 60 * MINUTE)
    check(read(one_day, time_format="%d/%m/%Y %H:%M:%S"), start=START - 11 * 24 * 60 * MINUTE)


@pytest.mark.parametrize(
    ("name", "times", "step"),
    [
        ("time_ms", [str(100 * row + 5) for row in ROWS], 10**8),
        ("ts_ns", [str(50_000_000_000_000 + 10**6 * row) for row in ROWS], 10**6),
        ("Time (s)", [f"{row * 0.01 + 1:.2f}" for row in ROWS], 10**7),
        ("time(sec)", [f"{row * 0.5 + 1}" for row in ROWS], 5 * 10**8),
        ("elapsed_s", [str(row + 1) for row in ROWS], 10**9),
        ("seconds_elapsed", [str(row + 1) for row in ROWS], 10**9),
        ("t", [f"{(row + 1) * 8e-7:.7f}" for row in ROWS], 800),
        ("uptime", [f"{row // 3600 + 25}:{row // 60:02}:{row % 60:02}" for row in ROWS], 10**9),
        ("time", [f"0 days 00:{row // 60:02}:{row % 60:02}.5" for row in ROWS], 10**9),
    ],
)
def test_times_since_the_start(csv, name, times, step):
    found = read(csv(table(f"{name},a\n", times)))
    check(found, step=step, start=int(found.rows.ts_ns[0]))


def test_a_temperature_called_t_is_no_time(csv):
    lines = [f"{20 + row * 0.01 - row % 9 * 0.02:.2f},{a}" for row, a in zip(ROWS, A, strict=True)]
    found = read(csv("\n".join(["T,RH", *lines])))
    assert (found.reader.channels, found.rows.time) == (["T", "RH"], None)


def test_date_and_time_of_day_in_columns_of_their_own(csv):
    check(read(csv(table("Date,Time,a\n", [f"2024-03-13,{clock}" for clock in CLOCK]))))
    check(read(csv(table("Datum;Zeit;a\n", [f"13.03.2024;{clock}" for clock in CLOCK], ";"))))
    check(read(csv(table("DATE,TIME,a\n", [f"20240313,{100 * (row // 60) + row % 60}" for row in ROWS]))))
    parts = [f"2024,3,13,{row // 60},{row % 60}" for row in ROWS]
    check(read(csv(table("year,month,day,hour,minute,a\n", parts))))
    told = table("", [f"13,3,2024,{row // 60},{row % 60}" for row in ROWS])
    check(read(csv(told), ["c6"], time=("c3", "c2", "c1", "c4", "c5")), "c6")


def test_the_column_that_moves_is_the_time_and_a_bad_cell_does_not_lose_it(csv):
    lines = [f"2023-11-05,{t},{a}" for t, a in zip(ISO, A, strict=True)]
    found = read(csv("\n".join(["installed,taken,a", *lines])))
    check(found)
    assert found.reader.left_out == {"installed": "times"}
    lines[50] = f"2023-11-05,ERR,{A[50]}"
    path = csv("\n".join(["installed,taken,a", *lines]))
    assert fails(path) == (
        'line 52, column "taken": "ERR" is not a time; leave such rows out with --on-error skip'
    )
    assert read(path, on_error="skip").reader.skipped == 1
    assert read(path, on_error="skip", time="none").reader.time_type is None


HEADS = {
    "Plot Title: boiler\n": ",",
    "sep=;\n": ";",
    "# logger 7\n# station 3, Hof\n": ",",
    "Serial,21004,x,y\n\n": ",",
    "Name;Boiler\n\n": ";",
}


@pytest.mark.parametrize("head", HEADS)
def test_lines_before_the_names(csv, head):
    mark = HEADS[head]
    found = read(csv(table(f"{head}time{mark}a\n", ISO, mark)))
    check(found)
    assert f"names on line {head.count(chr(10)) + 1}" in found.reader.said


def test_lines_of_units_and_types_below_the_names(csv):
    found = read(csv(table("time,a\nUTC,degree_C\n", ISO)))
    check(found)
    assert found.reader.units == {"a": "degree_C"}
    seconds = read(csv(table("time,a\ns,V\n", [f"{row / 100 + 1:.2f}" for row in ROWS])))
    check(seconds, step=10**7, start=10**9)
    toa5 = '"TOA5","BBS","CR1000"\n"TIMESTAMP","RECORD","a"\n"TS","RN","mV"\n"","","Avg"\n'
    found = read(csv(toa5 + "".join(f'"{t}",{900 + row},{A[row]}\n' for row, t in enumerate(ISO))))
    check(found)
    assert found.reader.units == {"a": "mV"} and found.rows.seq.tolist() == [900 + row for row in ROWS]
    unknown = read(csv(table("time,a\nfoo,furlongs\n", ISO)))  # no cell is a number, every later one is
    check(unknown)
    assert unknown.reader.units["a"] == "furlongs"
    one_bad = csv(table("time,a\nfurlongs,furlongs\n", ISO))
    assert fails(one_bad).endswith("if the rows begin further down give --data-line")
    check(read(one_bad, data_line=3))


def test_a_bad_first_row_is_not_taken_for_units(csv):
    path = csv("x,y\nERR,ERR\n" + "".join(f"{a},{a}\n" for a in A))
    assert 'column "x": "ERR" is not a number' in fails(path)
    assert len(read(path, on_error="skip").rows.seq) == 120
    assert len(read(path, missing=("ERR",)).rows.seq) == 121


def test_no_names_at_all(csv):
    path = csv(table("", ISO))
    check(read(path), "c2")
    check(read(path, names=("when", "a")))
    assert "no names" in read(path).reader.said
    assert 'no column "a"; its columns are "c1", "c2"; no line names its columns: ' in fails(path, ["a"])
    seven = csv("Year\tMonth\tTemperatures\n" + "".join(f"2018\t{a}\t{a}\t{a}\t{a}\n" for a in A))
    assert fails(seven).startswith("line 1 has 3 fields, and every row 5; if it has the names, give all of ")


def test_separators_at_the_end_numbered_rows_and_spaces(csv):
    check(read(csv(table("time,a\n", ISO, cells=[f"{a}," for a in A]))))
    numbered = "".join(f'"{row + 1}",{t},{A[row]}\n' for row, t in enumerate(ISO))
    check(read(csv(f"time,a\n{numbered}")))
    spaces = "".join(f"  {t.replace(' ', 'T')}   {a:>8}\n" for t, a in zip(ISO, A, strict=True))
    check(read(csv(f"  time        a\n{spaces}")))
    assert fails(csv(table("time,a,b,c\n", ISO))).startswith("line 1 has 4 fields, and every row 2; ")


def test_decimal_commas_also_in_some_columns_only(csv):
    commas = [str(a).replace(".", ",") for a in A]
    check(read(csv(table("time;a\n", ISO, ";", commas))))
    mixed = [f"{a};{row % 7}.25;{row}" for row, a in enumerate(commas)]
    found = read(csv(table("time;a;b;n\n", ISO, ";", mixed)), ["a", "b"])
    assert found.rows.values[:3, 1].tolist() == [0.25, 1.25, 2.25]
    assert found.rows.values[:, 0].tolist() == np.array(A, np.float32).tolist()
    point = csv(table("time;a\n", ISO, ";", [*map(str, A[:-1]), "20,5"]))
    assert "if the comma is a decimal one give --decimal comma" in fails(point)
    assert "1.234" in fails(csv(table("time;a\n", ISO, ";", [*commas[:-1], "1.234"])))
    thousands = read(csv(table("time;a\n", ISO, ";", [*commas[:-1], "1.234,5"])))
    assert thousands.rows.values[-1, 0] == 1234.5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(csv, encoding):
    found = read(csv(table("Zeit;Größe °C\n", ISO, ";").encode(encoding)))
    check(found, "Größe °C")
    assert fails(csv(b"x\n\xb0\n")).startswith(
        "no column holds measurements; it was taken for text in CP1252, "
    )


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("RECNO", [str(5000 + row + (row > 70)) for row in ROWS], "counts the rows"),
        ("n", [str(row % 40) for row in ROWS], "counts the rows"),
        ("angle", [f"{row * 0.1:.1f}" for row in ROWS], "rises evenly from 0, as a clock does"),
        ("elapsed_ms", [str(row * 10) for row in ROWS], "another clock"),
        ("note", ["ok"] * 120, "text"),
        ("valve", ["ON", "off"] * 60, "true and false, or words for them"),
    ],
)
def test_columns_that_are_no_measurement(csv, name, cells, why):
    path = csv(table(f"time,{name},a\n", [f"{t},{cell}" for t, cell in zip(ISO, cells, strict=True)]))
    found = read(path)
    check(found)
    assert found.reader.left_out == {name: why}
    if why != "text":
        assert read(path, [name]).reader.channels == [name]  # asked for


def test_words_for_two_states_are_0_and_1_where_asked_for(csv):
    path = csv(table("time,valve\n", ISO, cells=["TRUE", "False"] * 60))
    assert read(path, ["valve"]).rows.values[:3, 0].tolist() == [1, 0, 1]
    path = csv(table("time,mode\n", ISO, cells=["manual", "auto"] * 60))
    found = read(path, ["mode"])
    assert found.rows.values[:2, 0].tolist() == [1, 0] and found.reader.words == {"auto": 0, "manual": 1}
    assert '"auto" is taken for 0; --words says otherwise' in found.reader.notes
    assert read(path, ["mode"], words={"auto": 5, "manual": 7}).rows.values[:2, 0].tolist() == [7, 5]
    three = csv(table("time,mode\n", ISO, cells=["manual", "auto", "fault"] * 40))
    assert "with --words manual=0,... or give --missing manual, or leave " in fails(three, ["mode"])


def test_what_is_missing(csv):
    cells = ["-9999" if row % 20 == 7 else str(a) for row, a in zip(ROWS, A, strict=True)]
    cells[3] = "ERR"
    path = csv(table("time,a\n", ISO, cells=cells))
    assert "if it means a missing value give --missing ERR, or leave such rows out with --on-" in fails(path)
    found = read(path, missing=("ERR",))
    assert found.rows.values[7, 0] == -9999
    with open_rows(str(path), None, Reading(missing=("ERR",))) as reader:
        assert '"a": -9999 comes 6 times, ' in reader.opening()
    values = read(path, missing=("ERR", "-9999")).rows.values[:, 0]
    assert np.flatnonzero(np.isnan(values)).tolist() == [3, 7, 27, 47, 67, 87, 107]


def test_a_code_that_most_cells_hold_is_told_from_a_machine_that_stands_still(csv):
    stands = ["60" if row % 9 else f"{row % 4}.5" for row in range(len(ROWS))]
    broken = ["-7999" if row % 9 else f"-{row % 4}.5" for row in range(len(ROWS))]
    path = csv(table("time,a,b\n", ISO, cells=map(",".join, zip(stands, broken, strict=True))))
    with open_rows(str(path), None) as reader:
        said = reader.opening()
    assert (
        f'"b": -7999 comes {sum(cell == "-7999" for cell in broken)} times, ' in said and '"a": ' not in said
    )


def test_a_line_of_numbers_above_the_rows(csv):
    rows = "".join(f"1 {row + 1} {a} {a} 12\n" for row, a in enumerate(A))
    path = csv("94255 2018 2011 0 0\n" + rows)
    found = read(path)
    assert 'line 1 is unlike all below it in "c1" (94255, and below 1 to 1), ' in " ".join(found.reader.notes)
    begun = read(path, data_line=2)
    assert len(begun.rows.seq) == len(A) and not any("unlike" in note for note in begun.reader.notes)
    assert begun.rows.values[:, begun.reader.channels.index("c3")].tolist() == np.float32(A).tolist()
    assert not any("unlike" in note for note in read(csv(rows, "plain.txt")).reader.notes)


@pytest.mark.parametrize(
    "begin, what",
    [
        (b"PK\x03\x04", "a spreadsheet or a zip archive"),
        (b"%PDF-1.7\n", "a PDF"),
        (b'{"t": 0, "a": 1}\n{"t": 1, "a": 2}\n', "JSON"),
        (b'[\n  {"t": 0, "a": 1}]\n', "JSON"),
    ],
)
def test_files_of_other_kinds(csv, begin, what):
    path = csv("")
    path.write_bytes(begin)
    assert fails(path) == f"is {what}; write its rows as CSV or parquet"


def test_names_alone_and_a_time_column_that_is_none(csv):
    assert fails(csv("t;a\n1,5;2,5\n"), data_line=9).startswith("no row follows ")
    assert fails(csv(table("time,a\n", ISO)), time=()).startswith("--time-column names no column; ")


def test_a_year_that_ns_do_not_count(csv):
    path = csv("time,a\n" + "".join(f"{year}/05/06,{year}\n" for year in (2024, 9024, 2025)))
    assert '"9024/05/06" is not a time' in fails(path, time=("time",), time_format="%Y/%m/%d")


def test_a_field_longer_than_any(csv):
    long = "x" * 200_000
    for mark in (" ", ";"):
        path = csv(f"{long}{mark}b\n1{mark}2\n")
        assert fails(path, delimiter=mark).startswith("line 1 is no row, nor does it name columns: ")


def test_a_line_of_json_above_rows_is_passed_over(csv):
    check(read(csv('{"logger": "east", "rate": 1}\n' + table("time,a\n", ISO))))


DATES, DOYS = ["2024,2,28", "2024,2,29", "2024,3,1"], ["2024,59", "2024,60", "2024,61"]
DAYS_FIRST, COMPACT = ["28/02/2024", "29/02/2024", "01/03/2024"], ["20240228", "20240229", "20240301"]
# names of the columns of a time, and what stands in them at minute n of 2024-02-28 and on
PARTS: list[tuple[str, Callable[[int, int], str]]] = [
    ("Year,DOY,MST", lambda day, minute: f"2024,{59 + day},{minute // 60 * 100 + minute % 60}"),
    ("Year,Day,Hour/Minute", lambda day, minute: f"2024,{59 + day},{minute // 60:02}{minute % 60:02}"),
    ("Year,JDay,Time", lambda day, minute: f"2024,{59 + day},{minute // 60:02}:{minute % 60:02}"),
    ("Year,DOY,Hour,Minute", lambda day, minute: f"2024,{59 + day},{minute // 60},{minute % 60}"),
    ("Year,Month,Day,HHMM", lambda day, minute: f"{DATES[day]},{minute // 60 * 100 + minute % 60}"),
    ("Year,Month,Day,Time", lambda day, minute: f"{DATES[day]},{minute // 60:02}:{minute % 60:02}"),
    ("Date,Hour,Minute", lambda day, minute: f"{DATES[day].replace(',', '-')},{minute // 60},{minute % 60}"),
    ("Date,Time", lambda day, minute: f"{DAYS_FIRST[day]},{minute // 60 * 100 + minute % 60}"),
    ("Date,Time", lambda day, minute: f"{COMPACT[day]},{minute // 60:02}:{minute % 60:02}:00"),
]


@pytest.mark.parametrize(("names", "cells"), PARTS)
@pytest.mark.parametrize("told", [False, True])
def test_times_whose_parts_stand_in_columns_of_their_own(csv, names, cells, told):
    minutes = range(7, 3 * 1440, 31)
    lines = [f"{cells(*divmod(minute, 1440))},{minute % 13}.5\n" for minute in minutes]
    found = read(csv(f"{names},a\n" + "".join(lines)), **({"time": tuple(names.split(","))} if told else {}))
    assert found.reader.channels == ["a"]
    begin = 1_709_078_400 * 10**9  # 2024-02-28
    assert found.rows.ts_ns.tolist() == [begin + MINUTE * minute for minute in minutes]


def test_hours_alone_stand_beside_a_date(csv):
    hours = range(72)
    for names, date in (("Date,Hour", [d.replace(",", "-") for d in DATES]), ("Year,DOY,Hour", DOYS)):
        lines = [f"{date[hour // 24]},{hour % 24},{hour % 7}.5\n" for hour in hours]
        found = read(csv(f"{names},a\n" + "".join(lines)))
        assert np.diff(found.rows.ts_ns).tolist() == [60 * MINUTE] * 71 and found.reader.channels == ["a"]


def test_a_day_that_its_year_has_not_is_no_time(csv):
    days = [*range(300, 367)]
    path = csv("Year,DOY,a\n" + "".join(f"2023,{day},{day % 7}.5\n" for day in days))
    assert fails(path).startswith('line 68, column "Year": ')
    assert len(read(path, on_error="skip").rows.seq) == 66
    leap = read(csv("Year,DOY,a\n" + "".join(f"2024,{day},{day % 7}.5\n" for day in days)))
    assert np.datetime64(int(leap.rows.ts_ns[-1]), "ns") == np.datetime64("2024-12-31")


DATED = [datetime(2017, 10, 2, 21, 15) + timedelta(minutes=17 * row) for row in range(900)]
DATED_NS = [(1_506_978_900 + 1020 * row) * 10**9 for row in range(900)]


UNNAMED = [
    "{t.day},{t.month},{t.year},{t.hour},{t.minute},0",
    "{t.year},{t:%j},{t.month},{t.day},{t.hour},{t.minute}",
    "7,{t.year},{t.month},{t.day},{t.hour},{t.minute}",
    "{t.year},{t.month},{t.day},{t.hour},{t.minute}",
]


@pytest.mark.parametrize("form", UNNAMED)
def test_columns_without_names_are_times_where_they_rise_evenly(csv, form):
    found = read(csv("".join(form.format(t=t) + f",{row % 7}.5\n" for row, t in enumerate(DATED))))
    assert found.rows.ts_ns.tolist() == DATED_NS
    assert set(found.reader.channels) <= {"c1", f"c{form.count(',') + 2}"}  # the 7 stands still
    one_day = DATED[10:60]  # the 3rd of October, or the 10th of March
    lines = [f"{t.day},{t.month},{t.year},{t.hour},{t.minute},{t.hour % 7}.5\n" for t in one_day]
    assert read(csv("".join(lines))).reader.time_type is None


def test_a_part_of_the_time_is_no_channel_unless_asked_for(csv):
    lines = [
        f"{t},{(t.hour + 2) % 24},{t.isoweekday()},{t.month},{t.hour * 2},{row % 7}.5\n"
        for row, t in enumerate(DATED)
    ]
    path = csv("timestamp,hour,weekday,month,twice,a\n" + "".join(lines))
    found = read(path)
    assert found.reader.channels == ["twice", "a"]
    assert found.reader.left_out == dict.fromkeys(["hour", "weekday", "month"], "a part of the time")
    assert read(path, ["hour", "a"]).reader.channels == ["hour", "a"]


def test_a_bad_part_of_a_time_is_told_and_does_not_lose_the_columns(csv):
    lines = [f"2024,{1 + row // 24},{row % 24 * 100},{row % 7}.5\n" for row in range(96)]
    lines[9] = lines[9].replace("2024", "2023.5")
    path = csv("year,doy,hhmm,a\n" + "".join(lines))
    assert (
        fails(path)
        == 'line 11, column "year": "2023.5" is not a time; leave such rows out with --on-error skip'
    )
    assert (
        np.diff(read(path, on_error="skip").rows.ts_ns).tolist()
        == [60 * MINUTE] * 8 + [120 * MINUTE] + [60 * MINUTE] * 85
    )


HOURS = [datetime(2024, 1, 1) + timedelta(hours=row) for row in range(200)]
EVEN_HOURS = [(1_704_067_200 + 3600 * row) * 10**9 for row in range(200)]
# what stands beside the parts of a time, and is none, or is read in one way only
BESIDE = {
    "date,hour,min,max": ("{t:%Y-%m-%d},{t.hour},{noise},{noise}", ["min", "max", "a"]),
    "year,month,day,hour,changed": ("{t.year},{t.month},{t.day},{t.hour},{flag}", ["changed", "a"]),
    "year,doy,time": ("{t.year},{t:%j},{t.hour}00", ["a"]),
    "date,time": ("{t:%Y-%m-%d},{t.hour}", ["a"]),
    "date,Hour": ("{t:%Y-%m-%d},{t.hour}00", ["a"]),
    "year,day,hour": ("{t.year},{t:%j},{t.hour}", ["a"]),
}


@pytest.mark.parametrize("names", BESIDE)
def test_what_stands_beside_a_date(csv, names):
    form, channels = BESIDE[names]
    lines = [
        form.format(t=t, noise=row * 37 % 59, flag=int(row % 50 > 40)) + f",{row % 7}.5\n"
        for row, t in enumerate(HOURS)
    ]
    found = read(csv(f"{names},a\n" + "".join(lines)))
    assert found.rows.ts_ns.tolist() == EVEN_HOURS and found.reader.channels == channels


def test_columns_without_names_that_are_no_calendar(csv):
    state = [f"2024,1,1,{t // 60},{t % 60},{int(t % 9 > 6)},{t % 7}.5\n" for t in range(200)]
    found = read(csv("".join(state)))
    assert found.reader.channels == ["c6", "c7"] and np.diff(found.rows.ts_ns).tolist() == [MINUTE] * 199
    whole = [f"2024,1,{1 + h // 24},{h % 24},{20 + h // 90},{h % 7}.5\n" for h in range(200)]
    assert read(csv("".join(whole))).reader.time_type is None


def test_a_measurement_that_changes_at_a_full_hour_is_a_channel(csv):
    lines = [f"{t},{int(t.day > 1)},{20 + (t.hour >= 12)},{row % 7}.5\n" for row, t in enumerate(HOURS[:48])]
    assert read(csv("time,heating,setpoint,a\n" + "".join(lines))).reader.channels == [
        "heating",
        "setpoint",
        "a",
    ]


def test_a_pattern_for_two_columns_is_for_what_stands_in_them(csv):
    lines = [f"{t:%Y%m%d},{t:%H%M},{row % 7}.5\n" for row, t in enumerate(HOURS)]
    found = read(csv("d,t,a\n" + "".join(lines)), time=("d", "t"), time_format="%Y%m%d %H%M")
    assert found.rows.ts_ns.tolist() == EVEN_HOURS


def test_one_missing_number_leaves_the_others_their_nanoseconds(csv):
    times = [f"{1_700_000_000 + row}.123456789" for row in range(50)]
    times[7] = "nan"
    found = read(csv("time,a\n" + "".join(f"{t},{row % 7}.5\n" for row, t in enumerate(times))))
    assert found.rows.ts_ns[[6, 7, 8]].tolist() == [1_700_000_006_123456789, 0, 1_700_000_008_123456789]


def test_the_rate_of_a_heart_is_no_hour(csv):
    lines = [f"2024-03-{1 + row:02},{60 + row * 7 % 40},{row % 5}.5\n" for row in range(30)]
    found = read(csv("Date,hr,a\n" + "".join(lines)))
    assert found.reader.channels == ["hr", "a"]
    assert np.diff(found.rows.ts_ns).tolist() == [1440 * MINUTE] * 29


def test_a_column_that_is_empty_for_long_is_a_channel(csv):
    cells = [f"{row % 9}.5,{'' if row < 5000 else row % 5}" for row in range(6000)]
    lines = [f"{1_700_000_000 + row},{cell}" for row, cell in enumerate(cells)]
    found = read(csv("\n".join(["time,a,new", *lines])))
    assert found.reader.channels == ["a", "new"]
    assert int(np.isnan(found.rows.values[:, 1]).sum()) == 5000


def test_names_with_commas(csv):
    path = csv(table('time,"Temp, C",b\n', ISO, cells=[f"{a},{a}" for a in A]))
    assert read(path, ["Temp", "C", "b"]).reader.channels == ["Temp, C", "b"]
    assert read(path, exclude=("Temp", "C")).reader.channels == ["b"]
    assert read(path, exclude=("time",)).reader.channels == ["Temp, C", "b"]


def test_machines_that_take_turns_are_seen(csv):
    cells = [f"m{row % 4},{a}" for row, a in zip(ROWS, A, strict=True)]
    (said,) = read(csv(table("time,machine,a\n", ISO, cells=cells))).reader.notes
    assert said.startswith(
        '"machine" holds 4 texts that take turns (m0, m1, m2, m3, ... in the first rows); '
    )
    assert '--stream-column "machine"; if they name sensors, --channel-column "machine"' in said
    numbers = [f"{1 + row % 3},{a}" for row, a in zip(ROWS, A, strict=True)]
    times = [ISO[row // 3] for row in ROWS]
    found = read(csv(table("time,unit,a\n", times, cells=numbers)))
    assert found.reader.channels == ["a"] and '--stream-column "unit"' in found.reader.notes[0]


LONG = "time,sensor,value\n" + "".join(
    f"{t},a,{a}\n{t},b,{row % 7}.5\n" for row, (t, a) in enumerate(zip(ISO, A, strict=True))
)


def test_tables_of_one_value_a_row(csv):
    found = read(csv(LONG), channel="sensor", value="value")
    assert found.reader.channels == ["a", "b"]
    assert found.rows.values[:, 0].tolist() == np.array(A, np.float32).tolist()
    assert found.rows.ts_ns.tolist() == [START + MINUTE * row for row in ROWS]
    influx = "#group,false,true\n#datatype,string,long\n#default,_result,\n"
    influx += ",result,table,_start,_time,_value,_field\n"
    influx += "".join(
        f",,0,2024-03-01T00:00:00Z,{t.replace(' ', 'T')}Z,{a},a\n" for t, a in zip(ISO, A, strict=True)
    )
    check(read(csv(influx)))
    states = "entity_id,state,last_changed\n" + "".join(
        f"sensor.a,{'unavailable' if row == 5 else a},{t}Z\n"
        for row, (t, a) in enumerate(zip(ISO, A, strict=True))
    )
    assert np.isnan(read(csv(states)).rows.values[5, 0])
    pivoted = ",result,table,_start,_stop,_time,host,a\n"
    pivoted += "".join(
        f",,0,2024-03-01T00:00:00Z,2024-04-01T00:00:00Z,{t}Z,p1,{a}\n" for t, a in zip(ISO, A, strict=True)
    )
    check(read(csv(pivoted), ["a"]))
    twice = csv("time,sensor,value\n" + f"{ISO[0]},a,1\n" * 2 + f"{ISO[1]},a,3\n")
    assert read(twice, channel="sensor", value="value").rows.values[:, 0].tolist() == [1, 1, 3]


def test_bad_rows_of_tables_of_one_value_a_row(csv):
    told = {"channel": "sensor", "value": "value"}
    short = csv(LONG + "2024-03-14 00:00:00,a\n")
    assert fails(short, **told) == (
        "line 242: has 2 fields, expected 3; leave such rows out with --on-error skip"
    )
    assert read(short, **told, on_error="skip").reader.skipped == 1
    word = csv(LONG + "2024-03-14 00:00:00,a,ERR\n2024-03-14 00:00:00,door,open\n")
    assert 'line 242: "ERR" is not a number; if it means a missing value give --missing' in fails(
        word, **told
    )
    assert read(word, **told, missing=("ERR",)).reader.channels == ["a", "b"]  # a door is no measurement
    assert fails(csv("time,sensor,value\n"), **told) == "no row follows the names of the columns"
    assert "--channel-column and --value-column go together" in fails(short, channel="sensor")


def test_parquet_of_the_same_kinds(tmp_path):
    path = tmp_path / "x.parquet"
    columns = {
        "__index_level_0__": [*ROWS],
        "epoch": pa.array([1_710_288_000 + 60 * row for row in ROWS]).cast(pa.decimal128(22, 3)),
        "on": [row % 2 == 0 for row in ROWS],
        "a": pa.array(A, pa.float64()),
    }
    pq.write_table(pa.table(columns), path)
    found = read(path)
    check(found)
    assert found.reader.left_out["__index_level_0__"] == "counts the rows"
    assert read(path, ["a", "on"]).rows.values[:2, 1].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("seconds", "numbers"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([0, 1, 5, 6], [0, 1, 5, 6]),
        ([0, 1, 1, 2], [0, 1, 1, 2]),  # twice
        ([0, 1, 2, 0.5, 3], [0, 1, 2, 2, 3]),  # backwards
        ([0, 1.2, 1.9, 3.3], [0, 1, 2, 3]),
        ([0, 1, None, None, 4, 7], [0, 1, 2, 3, 4, 7]),
        ([None, 10, 11, 13], [0, 1, 2, 4]),
        ([0, 2.6, 3.6], [0, 3, 4]),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 100])
def test_rows_are_numbered_by_their_times(seconds, numbers, block):
    ns = np.array([0 if s is None else START + 10**6 + int(s * 1e9) for s in seconds])
    times = TimeNumbers(1e9)
    stream = np.zeros(len(ns), np.int32)
    found = [times.number(stream[at : at + block], ns[at : at + block]) for at in range(0, len(ns), block)]
    assert np.concatenate(found).tolist() == numbers


def test_a_file_is_numbered_by_its_times_and_says_so(csv):
    lines = [t for row, t in enumerate(ISO) if row not in (40, 41)]
    lines.insert(61, lines[60])
    path = csv("time,a\n" + "".join(f"{t},{row % 7}.5\n" for row, t in enumerate(lines)))
    found = read(path, period_s=60.0)
    assert found.rows.seq[[39, 40, 60, 61, 62]].tolist() == [39, 42, 62, 62, 63]
    assert found.reader.closing() == (
        "warning: rows are missing in 1 place, the first of them before 2024-03-13 00:42:00\n"
        "warning: 1 row came late or twice, the first of them of 2024-03-13 01:02:00: they are left out; "
        "--no-time "
        "counts rows instead\n"
    )
    assert read(path, period_s=60.0, count_rows=True).rows.seq.tolist() == [*range(len(lines))]
    assert (
        "a row every 60 s, and the model was trained on one every 10 s"
        in read(path, period_s=10).reader.closing()
    )
    backwards = csv("time,a\n" + "".join(f"{t},1.5\n" for t in reversed(ISO)))
    assert fails(backwards, period_s=60.0).startswith("the time runs backwards; sort the rows by time, the ")


def test_names_that_are_numbers_under_an_empty_one(csv):
    rows = "".join(f"{row},{a},{a}\n" for row, a in zip(ROWS, A, strict=True))
    found = read(csv(f",0,1\n{rows}"))
    assert found.reader.channels == ["0", "1"] and len(found.rows.seq) == 120


def test_commas_between_thousands_are_not_taken_for_decimal_ones(csv):
    path = csv(
        table("time,T,rpm\n", ISO, cells=[f'{a},"1,{400 + row}"' for row, a in zip(ROWS, A, strict=True)])
    )
    ask = '"1,400" may have thousands or decimals; say which with --decimal comma or --decimal point'
    assert fails(path) == f'column "rpm": {ask}'
    assert read(path, decimal="point").rows.values[:2, 1].tolist() == [1400, 1401]
    commas = [f"{str(a).replace('.', ',')};1.{400 + row}" for row, a in zip(ROWS, A, strict=True)]
    beside = csv(table("time;T;rpm\n", ISO, ";", commas))
    assert '"1.400" may have thousands or decimals; say which' in fails(beside)
    dated = [f"13.03.2024 {clock}" for clock in CLOCK]
    check(read(csv(table("time;a\n", dated, ";", [f"{a:.2f}".replace(".", ",") for a in A]))))
    threes = [f"{1.001 + row:.3f}".replace(".", ",") for row in ROWS]
    assert read(csv(table("time;a\n", dated, ";", threes)), ["a"]).rows.values[0, 0] == np.float32(1.001)


def test_one_column_of_decimal_commas_stays_one(csv):
    cells = [str(a).replace(".", ",") for a in A]
    found = read(csv("temperature\n" + "\n".join(cells)))
    assert found.reader.channels == ["temperature"] and found.rows.values[1, 0] == np.float32(A[1])


def test_records_that_begin_again_go_on(csv):
    records = [*range(70), *range(50)]
    lines = [f"{t},{record},{a}" for t, record, a in zip(ISO, records, A, strict=True)]
    path = csv("\n".join(["TIMESTAMP,RECORD,a", *lines]))
    assert read(path).rows.seq.tolist() == [*ROWS]
    long = [f"{1_700_000_000 + row},{row % 2500},{row % 7}.5" for row in range(3000)]
    whole = read(csv("\n".join(["TIMESTAMP,RECORD,a", *long])))
    assert whole.rows.seq.tolist() == [*range(3000)]
    assert "the records begin again in 1 place" in whole.reader.closing()
    assert read(
        csv(
            "\n".join(
                ["TIMESTAMP,RECORD,m,a", *(f"{line[:-4]},m{row % 2},1.5" for row, line in enumerate(long))]
            )
        ),
        stream="m",
    ).rows.seq[:4].tolist() == [0, 0, 1, 1]


def test_words_of_two_kinds_for_one_number_are_refused(csv):
    path = csv(table("time,mode\n", ISO, cells=["off", "low", "high"] * 40))
    assert 'holds "high", "low", "off", of which two would be one number; say what they' in fails(
        path, ["mode"]
    )
    assert read(path, ["mode"], words={"off": 0, "low": 1, "high": 2}).rows.values[:3, 0].tolist() == [
        0,
        1,
        2,
    ]


def test_times_that_would_be_cut_or_guessed(csv):
    parts = [f"2024,3,13,0,0,{row / 2}" for row in range(100)]
    found = read(
        csv(
            "year,month,day,hour,minute,second,a\n"
            + "".join(f"{p},{a}\n" for p, a in zip(parts, A, strict=False))
        )
    )
    assert np.diff(found.rows.ts_ns).tolist() == [5 * 10**8] * 99
    monthly = "".join(f"{month:02}/01/2023,{month}.5\n" for month in range(1, 13))
    assert "may begin with the day or with the month" in fails(csv(f"when,a\n{monthly}"))
    days = [f"{45_364 + row / 864_000:.7f}" for row in ROWS]  # ten a second
    steps = np.diff(read(csv(table("Date,a\n", days))).rows.ts_ns)
    assert steps.min() >= 9 * 10**7 and steps.max() <= 11 * 10**7
    colons = [f"2024-03-13 00:00:{row:02}:050" for row in range(60)]
    assert (
        read(csv("time,a\n" + "".join(f"{t},1.5\n" for t in colons))).rows.ts_ns[1] == START + 1_050_000_000
    )
    midnight = [
        f"{(1410 + row) // 60 % 24:02}:{row % 60 + (30 if row % 60 < 30 else -30):02}:00" for row in ROWS
    ]
    streams = "".join(f"{t},{unit},{row}.5\n" for row, t in enumerate(midnight) for unit in "ab")
    ns = read(csv(f"time,unit,a\n{streams}"), stream="unit").rows.ts_ns
    assert (np.diff(ns[::2]) == MINUTE).all() and (np.diff(ns[1::2]) == MINUTE).all()


def test_bad_lines_below_the_names_are_bad_rows(csv):
    path = csv(table("time,a,b,c\n2024-03-13 01:00:00,1\n", [f"{t},1,2" for t in ISO]))
    assert fails(path).startswith("line 2 has 2 fields, expected 4; ")
    assert read(path, on_error="skip").reader.channels == ["a", "b", "c"]
    told = csv("time,a,b,c\n1,2\n" + "".join(f"{t},1,2,{a}\n" for t, a in zip(ISO, A, strict=True)))
    assert fails(told, header_line=1).startswith("line 2 has 2 fields, expected 4; ")
    commented = read(csv(table("time,a\n# logger 7, site 3\n", ISO)))
    check(commented)
    assert commented.reader.units == {}
    marked = read(csv(table("# time,a\n# s,degC\n", [str(1_710_288_000 + 60 * row) for row in ROWS])))
    check(marked)
    assert "line 1, column" in fails(csv(table("err,err\n", ISO)), header_line=0)


def test_what_is_told_overrules_what_is_found(csv):
    with pytest.raises(UserError, match=r"is not text in utf-8 .* name another with --encoding"):
        read(csv(table("time,Größe\n", ISO).encode("cp1252")), encoding="utf-8")
    again = csv(table("time,a\n", ISO) + table("time,a\n", ISO).splitlines(True)[0])
    assert read(again, names=("when", "x")).reader.channels == ["x"]
    gone = csv(table("time,a\n", ["?", *ISO[1:]]))
    assert read(gone, missing=("?",)).rows.ts_ns[:2].tolist() == [0, START + MINUTE]
    counts = [f"{t},{row},{a}" for row, (t, a) in enumerate(zip(ISO, A, strict=True))]
    path = csv("\n".join(["TIMESTAMP,RECORD,a", *counts[:50], *counts[60:]]))
    assert read(path).rows.seq[50] == 60
    assert read(path, count_rows=True).rows.seq[50] == 50
    assert read(path, exclude=("RECORD",)).rows.seq[50] == 50


def test_a_measured_value_is_no_time(csv):
    cells = [f"{round(20 + row * 0.13 - row % 20 * 0.2, 2)}" for row in ROWS]
    found = read(
        csv("setpoint,measured\n" + "".join(f"{a},{cell}\n" for a, cell in zip(A, cells, strict=True)))
    )
    assert found.reader.channels == ["setpoint", "measured"] and found.reader.time_type is None


@pytest.mark.parametrize(
    "cell",
    [lambda row: 7 + 3 * row, lambda row: row // 3 + row, lambda row: 1000 + row * 0.25 + row % 3 * 0.01],
)
def test_what_only_rises_is_no_channel_unless_it_is_named(csv, cell):
    path = csv("\n".join(["time,total,a", *(f"{t},{cell(row)},{A[row]}" for row, t in enumerate(ISO))]))
    found = read(path)
    assert found.reader.channels == ["a"] and '"total" (' in found.reader.opening()
    assert read(path, ["total", "a"]).rows.values[5, 0] == np.float32(cell(5))


def test_the_table_of_influx_is_no_channel(csv):
    lines = [f",,{row // 60},{t},{A[row]}" for row, t in enumerate(ISO)]
    head = [
        "#group,false,false,false,false",
        "#datatype,string,long,dateTime:RFC3339,double",
        ",result,table,_time,a",
    ]
    found = read(csv("\n".join([*head, *lines])))
    assert found.reader.channels == ["a"] and found.reader.left_out["table"] == "a count of Influx's"


def test_a_line_of_names_longer_than_what_is_looked_at(csv):
    names = [f"a_channel_of_a_long_name_{k:05}" for k in range(3500)]
    row = ";".join(f"{k},5" for k in range(3500))
    found = read(csv(";".join(names) + f"\n{row}\n{row}\n"))
    assert len(found.reader.channels) == 3500 and found.rows.values[0, 3] == 3.5


@given(st.text("+-.019eEiInNfFaAtyYxX()_ ", max_size=8))
@example("1.5e+10")
@example("-Infinity")
@example("nan(2)")
def test_the_pattern_of_numbers_leaves_out_nothing_that_is_one(text):
    """It spares pyarrow the attempt, which takes long where it fails."""
    cells = pa.array([text])
    try:
        pc.cast(cells, pa.float32())
    except pa.ArrowInvalid:
        return
    assert pc.all(pc.match_substring_regex(cells, NUMBER)).as_py()
