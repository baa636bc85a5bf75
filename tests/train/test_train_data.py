"""What a training learns from: the rules by which files become sequences."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import reading_of, write

from streamrnn.errors import UserError
from streamrnn.table import Reading
from streamrnn.train.data import dataset as data
from streamrnn.train.data.dataset import Dataset, Sequence, load
from streamrnn.train.data.recording import DataOptions

DATA = Path(os.environ.get("STREAMRNN_DATA", Path(__file__).parents[3] / "shared" / "data"))
NAN = float("nan")


def loaded(*sources: Path | str, **options: Any) -> Dataset:
    reading = reading_of(options)
    return load(DataOptions(tuple(map(str, sources)), reading=reading, **options))


def fails(*sources: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        loaded(*sources, **options)
    return str(caught.value)


def table(folder: Path, name: str = "valve.csv", **columns: Any) -> Path:
    """A CSV file of columns; None is an empty cell."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    return write(folder, "\n".join([",".join(columns), *lines, ""]), name)


def seconds(*offsets: float) -> list[str]:
    return [f"2020-02-08 13:{int(offset) // 60:02}:{offset % 60:06.3f}" for offset in offsets]


def firsts(sequences: list[Sequence]) -> list[list[float]]:
    """The first channel of each sequence."""
    return [sequence.values[:, 0].tolist() for sequence in sequences]


def aims(sequences: list[Sequence]) -> list[list[float]]:
    """The first target of each sequence."""
    return [sequence.targets[:, 0].tolist() for sequence in sequences]


def test_the_next_row_is_the_target_and_the_last_rows_are_kept_from_training(tmp_path):
    result = loaded(table(tmp_path, a=range(10), b=range(10, 20)), validation=0.3)
    assert (result.channels, result.outputs, result.target, result.ahead) == (
        ["a", "b"],
        ["a", "b"],
        "next",
        1,
    )
    (train,), (validation,) = result.train, result.validation
    assert train.values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(train.targets, train.values + 1)
    # rows 7, 8 and 9 are kept: each is a target, and no row to learn from has anything to do with them
    assert validation.values[:, 1].tolist() == [10, 11, 12, 13, 14, 15, 16, 17, 18]
    np.testing.assert_array_equal(validation.targets[:, 0], [NAN] * 6 + [7, 8, 9])
    assert (validation.warm, validation.stream) == (6, "valve")
    assert train.values.dtype == train.targets.dtype == validation.targets.dtype == np.float32
    assert result.facts == data.DataFacts(
        files=1, streams=1, rows=10, gaps=0, missing=0, dropped=0, skipped=0
    )


def test_columns_of_their_own_are_targets(tmp_path):
    path = table(tmp_path, a=range(6), quality=[10, None, 12, 13, 14, 15])
    result = loaded(path, targets=("quality",), validation=0)
    assert (result.channels, result.outputs, result.target, result.ahead) == (["a"], ["quality"], "value", 0)
    assert firsts(result.train) == [[0, 1, 2, 3, 4, 5]] and result.validation == []
    np.testing.assert_array_equal(aims(result.train), [[10, NAN, 12, 13, 14, 15]])
    ahead = loaded(path, targets=("quality",), ahead=2, validation=0.25)
    assert (firsts(ahead.train), aims(ahead.train)) == ([[0, 1]], [[12, 13]])
    assert firsts(ahead.validation) == [[0, 1, 2, 3]]
    np.testing.assert_array_equal(aims(ahead.validation), [[NAN, NAN, 14, 15]])
    both = loaded(path, channels=("quality", "a"), targets=("a",), ahead=1, validation=0)
    assert (both.channels, both.outputs) == (["quality", "a"], ["a"])
    assert aims(both.train) == [[1, 2, 3, 4, 5]] and both.scaling.output_mean == both.scaling.input_mean[1]


def test_a_missing_cell_is_held_but_is_no_target(tmp_path):
    path = table(tmp_path, a=[None, 1, 2, None, None, 5, 6], b=[7, None, 8, 8, 8, 9, None])
    result = loaded(path, validation=0)
    (train,) = result.train
    assert train.values.tolist() == [[1, 7], [2, 8], [2, 8], [2, 8], [5, 9]]
    np.testing.assert_array_equal(train.targets, [[2, 8], [NAN, 8], [NAN, 8], [5, 9], [6, NAN]])
    assert (result.facts.missing, result.facts.dropped) == (5, 1)
    np.testing.assert_allclose(result.scaling.input_mean, [14 / 4, 40 / 5])  # of the cells that are there


def test_the_validation_part_is_warmed_up_by_a_bounded_number_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "WARM", 3)
    result = loaded(table(tmp_path, a=range(20)), validation=0.1)
    assert firsts(result.validation) == [[14, 15, 16, 17, 18]] and result.validation[0].warm == 3
    np.testing.assert_array_equal(aims(result.validation), [[NAN] * 3 + [18, 19]])


@given(
    runs=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    share=st.floats(0, 0.6),
    ahead=st.integers(0, 3),
    warm=st.integers(0, 4),
)
def test_nothing_of_the_validation_part_is_learned_from(runs, share, ahead, warm):
    rows = np.arange(sum(runs), dtype=np.float32)[:, None]
    edges = np.cumsum([0, *runs])
    parts, moments = data.Parts([], []), data.Moments(1)
    part = data.Part("file", "s", rows, rows[:, 0].astype(np.uint64), rows[:, 0].astype(np.int64))
    found = [data.Run(begin, rows[begin:end], rows[begin:end]) for begin, end in pairwise(edges)]
    found = [run for run in found if len(run.values) > ahead]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "WARM", warm)
        data._split_stream([part], [found], share, ahead, parts, moments)
    usable = np.concatenate([np.zeros((0, 1)), *(run.values for run in found)])[:, 0]
    first = usable[len(usable) - round(len(usable) * share) :][:1]  # of the validation part
    limit = first[0] if len(first) else len(rows)
    aimed = [aim for run in found for aim in run.targets[ahead:, 0]]
    learned = [aim for sequence in parts.train for aim in sequence.targets[:, 0]]
    assert learned == [aim for aim in aimed if aim < limit]
    assert all((sequence.values < limit).all() for sequence in parts.train)
    checked = [aim for sequence in parts.validation for aim in sequence.targets[sequence.warm :, 0]]
    assert checked == [aim for aim in aimed if aim >= limit]
    for sequence in [*parts.train, *parts.validation]:
        assert len(sequence.values) == len(sequence.targets) and sequence.warm <= warm
        assert np.isnan(sequence.targets[: sequence.warm]).all()
        np.testing.assert_array_equal(
            sequence.targets[sequence.warm :], sequence.values[sequence.warm :] + ahead
        )
    kept = rows[: int(max((run.begin + len(run.values) for run in found if run.begin < limit), default=0))]
    assert moments.count[0] == len(kept[kept < limit])


def test_gaps_are_never_joined(tmp_path):
    by_seq = loaded(table(tmp_path, n=[0, 1, 2, 7, 8, 3, 4], a=range(7)), seq="n", validation=0)
    assert firsts(by_seq.train) == [[0, 1], [3], [5]] and by_seq.facts.gaps == 2
    assert aims(by_seq.train) == [[1, 2], [4], [6]]
    steps = seconds(0, 0.1, 0.2, 0.35, 0.45, 0.65, 0.75, 0.79, 0.89, 0.5, 0.6)
    by_time = loaded(table(tmp_path, time=steps, a=range(11)), validation=0)
    assert by_time.period_s == pytest.approx(0.1)
    assert firsts(by_time.train) == [[0, 1, 2, 3], [5], [7], [9]]  # too long, too short, backwards
    told = loaded(table(tmp_path, time=steps, a=range(11)), validation=0, max_step_s=0.16)
    assert firsts(told.train) == [[0, 1, 2, 3], [5, 6, 7], [9]]
    bad_row = write(tmp_path, "a\n0\n1\noops\n3\n4\n5\n", "bad.csv")
    skipped = loaded(bad_row, on_error="skip", validation=0)
    assert firsts(skipped.train) == [[0], [3, 4]] and skipped.facts.skipped == 1


def test_a_row_alone_between_gaps_is_dropped_and_many_gaps_are_warned_of(tmp_path):
    times = seconds(0, 1.01, 2.02, 3.03, 9.09, 20, 21.01, 22.02)
    result = loaded(table(tmp_path, time=times, a=range(8)), validation=0)
    assert firsts(result.train) == [[0, 1, 2], [5, 6]]
    assert (result.facts.gaps, result.facts.dropped) == (2, 1)
    warning = result.warnings[-1]
    assert warning.startswith("2 gaps in 8 rows, as a rule 1.01 s apart; ") and "--max-step" in warning


def test_rows_that_come_twice_are_no_gaps_and_times_that_run_back_are_told(tmp_path):
    times = seconds(0, 1.01, 2.02, 2.02, 2.02, 3.03, 4.04, 1.01, 5.05, 6.06, 7.07)
    result = loaded(table(tmp_path, time=times, a=range(11)), validation=0)
    assert firsts(result.train) == [[0, 1, 2, 5], [8, 9]]
    facts = result.facts
    assert (facts.rows, facts.twice, facts.gaps, facts.back, facts.dropped) == (9, 2, 2, 1, 1)
    said = " ".join(result.warnings)
    assert "2 rows came twice, with the time of the row before: " in said
    assert "the time runs back in 1 place: " in said
    numbered = loaded(table(tmp_path, n=range(11), time=times, a=range(11)), seq="n", validation=0)
    assert (numbered.facts.rows, numbered.facts.twice) == (11, 0)


def test_a_clock_of_whole_seconds_is_no_gap(tmp_path):
    slower = [f"2020-02-08 13:30:{int(1.06 * row):02}" for row in range(50)]  # now and then a step of 2 s
    result = loaded(table(tmp_path, time=slower, a=range(50)), channels=("a",), validation=0)
    assert (result.facts.gaps, result.period_s) == (0, 1.0)
    faster = [f"2020-02-08 13:30:{row // 10:02}" for row in range(100)]  # ten rows have one time
    faster[50:] = [f"2020-02-08 13:31:{row // 10:02}" for row in range(50)]
    result = loaded(table(tmp_path, time=faster, a=range(100)), channels=("a",), validation=0)
    assert (result.facts.gaps, len(result.train)) == (1, 2)
    assert result.period_s == pytest.approx(0.1, rel=0.2)
    hourly = [f"2020-02-08 {hour:02}:00:00" for hour in (0, 1, 2, 4, 5)]
    assert loaded(table(tmp_path, time=hourly, a=range(5)), validation=0).facts.gaps == 1


def test_rows_without_a_time_share_the_step_around_them(tmp_path):
    times = seconds(0, 1.1, 2.2, 3.3, 4.4, 5.5, 6.6, 7.7, 8.8, 20, 21.1)
    times[1] = times[3] = times[4] = times[8] = ""
    result = loaded(table(tmp_path, time=times, a=range(11)), validation=0)
    assert result.period_s == pytest.approx(1.1) and firsts(result.train) == [[*range(8)], [9]]
    same = loaded(table(tmp_path, time=seconds(*[5] * 4), a=range(4)), validation=0)
    assert (same.period_s, same.facts.gaps) == (0, 0)  # such a column says nothing


def test_streams_that_take_turns_are_taken_apart(tmp_path):
    path = table(tmp_path, id=list("pqpqpqpqpq"), a=range(10))
    result = loaded(path, stream="id", validation=0.4)
    assert [sequence.stream for sequence in result.train] == ["p", "q"]
    assert firsts(result.train) == [[0, 2], [1, 3]] and aims(result.train) == [[2, 4], [3, 5]]
    np.testing.assert_array_equal(aims(result.validation), [[NAN, NAN, 6, 8], [NAN, NAN, 7, 9]])
    assert result.facts.streams == 2


def test_files_are_streams_of_their_own_or_go_on(tmp_path):
    for day in ("1", "2"):
        (tmp_path / day).mkdir()
    first = table(tmp_path / "1", time=seconds(0, 1, 2, 3), a=range(4))
    second = table(tmp_path / "2", time=seconds(9, 10, 11, 12), a=range(10, 14))
    other = table(tmp_path, "pump.csv", time=seconds(0, 1, 2, 3), a=range(20, 24))
    result = loaded(second, first, other, validation=0.25)
    # the valve's two files are one stream in the order of time, the last quarter of which is kept
    assert firsts(result.train) == [[0, 1, 2], [10], [20, 21]]
    np.testing.assert_array_equal(aims(result.validation), [[NAN, 12, 13], [NAN, NAN, 23]])
    assert (result.facts.files, result.facts.streams, result.facts.gaps) == (3, 2, 0)
    overlapping = table(tmp_path / "2", time=seconds(3, 4, 5, 6), a=range(10, 14))
    assert firsts(loaded(overlapping, first, validation=0.25).train) == [[0, 1, 2], [10]]
    earlier = table(tmp_path / "2", time=seconds(2, 3, 4, 5), a=range(10, 14))
    assert fails(earlier, first).startswith(
        f'{earlier}: its times of stream "valve" and those of {first} overlap'
    )


def test_files_must_have_the_same_columns_and_period(tmp_path):
    one = table(tmp_path, "one.csv", time=seconds(0, 1, 2, 3), a=range(4), b=range(4))
    swapped = table(tmp_path, "two.csv", b=range(10, 14), a=range(20, 24), time=seconds(0, 1, 2, 3))
    result = loaded(one, swapped, validation=0)
    assert result.channels == ["a", "b"] and firsts(result.train) == [[0, 1, 2], [20, 21, 22]]
    more = table(tmp_path, "more.csv", c=range(4), a=range(4))
    assert fails(one, more) == (
        f'{more}: its columns of numbers are not those of {one}: it lacks "b" and has besides "c"; '
        "name the channels that all files have with --channels"
    )
    assert loaded(one, more, channels=("a",), validation=0).channels == ["a"]
    assert fails(one, more, channels=("b",)).startswith(f'{more}: has no column "b"')
    slow = table(tmp_path, "slow.csv", time=seconds(0, 10, 20, 30), a=range(4), b=range(4))
    for files in ((one, slow), (slow, one)):
        assert fails(*files).startswith(f"{slow}: a row every 10 s, but {one} has one every 1 s; ")
    backwards = table(tmp_path, time=seconds(3, 2, 1, 0), a=range(4))
    assert (
        fails(backwards) == f"{backwards}: its time runs backwards; sort the rows by time, the oldest first"
    )


def test_parquet_and_limit(tmp_path):
    path = tmp_path / "rows.parquet"
    times = pa.array(np.arange(50) * 20, pa.timestamp("ms"))
    pq.write_table(pa.table({"time": times, "a": np.arange(50.0), "b": np.arange(50) % 3}), path)
    again = tmp_path / "again.parquet"
    again.write_bytes(path.read_bytes())
    seen = list[int]()
    options = DataOptions((str(path), str(again)), ("a",), reading=Reading(limit=20), validation=0.5)
    result = load(options, seen.append)
    assert sum(seen) == result.facts.rows == 40 and result.period_s == 0.02  # the limit is each file's
    assert firsts(result.train) == [[*range(9)]] * 2


def test_scaling_is_of_the_training_rows_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("streamrnn.table.moments.BLOCK", 7)
    rng = np.random.default_rng(0)
    values = np.round(rng.normal([5, 1e5], [2, 0.5], (100, 2)), 3).astype(np.float32)
    values[3, 0] = NAN
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": values[:, 0], "b": values[:, 1], "flat": np.full(100, 0.1)}), path)
    result = loaded(path, validation=0.2)
    learned = values[:80].astype(np.float64)
    assert result.channels == ["a", "b"]
    np.testing.assert_allclose(result.scaling.input_mean, np.nanmean(learned, axis=0), rtol=1e-7)
    np.testing.assert_allclose(result.scaling.input_std, np.nanstd(learned, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(result.scaling.output_std, result.scaling.input_std)
    assert result.warnings[0].startswith('left out: "flat" (always 0.1); ')
    asked = loaded(path, channels=("a", "b", "flat"), validation=0.2)
    assert asked.scaling.input_mean[2] == np.float32(0.1) and asked.scaling.input_std[2] == 1
    assert asked.warnings[0].startswith('"flat": never varies in the rows to learn from; ')
    own = loaded(path, targets=("a",), validation=0.2)
    assert own.channels == ["b"]
    np.testing.assert_array_equal(own.scaling.output_mean, result.scaling.input_mean[:1])
    np.testing.assert_array_equal(own.scaling.input_std, result.scaling.input_std[1:])


def test_what_is_too_little_is_said(tmp_path):
    short = table(tmp_path, a=range(3))
    assert fails(short) == (
        f"{short}: 1 row to learn from, at least 2 needed: "
        "3 rows read, 0 gaps found, 0 dropped; give more rows"
    )
    assert "0 rows to validate on, at least 1 needed" in fails(table(tmp_path, a=range(5)), validation=0.01)
    empty = table(tmp_path, a=range(9), b=[None] * 9)
    text = fails(empty, channels=("a", "b"))
    assert text.endswith('9 dropped (channel "b" has no value at all: leave it out); give more rows')
    no_rows = write(tmp_path, "a,b\n")
    assert fails(no_rows, channels=("a",)).startswith(f"{no_rows}: 0 rows to learn from")
    assert "no column holds measurements" in fails(write(tmp_path, "a,b\nx,y\n"))
    unlabelled = table(tmp_path, a=range(10), label=[1] * 8 + [None] * 2)
    assert fails(unlabelled, targets=("label",)).startswith(
        f'{unlabelled}: "label" has no value in any row to validate on; '
    )
    assert fails() == "no file to learn from; name one or more CSV or parquet files"


def test_columns_that_cannot_be_are_said(tmp_path):
    path = table(tmp_path, a=range(9), b=range(9), state=["open"] * 9)
    assert fails(path, targets=("state",)) == (
        f'{path}: column "state" is text, such as "open", and no finite number; '
        "only sequence-to-vector has targets of text"
    )
    assert fails(path, targets=("a", "b")).startswith(f"{path}: no column of numbers is left")
    assert fails(path, channels=("a", "A")) == '"a" is named twice among the channels; name it once'
    assert fails(path, ahead=0).startswith("0 rows ahead: ")
    assert fails(path, targets=("a",), ahead=-1).startswith("-1 rows ahead: ")
    assert fails(path, validation=1.0).startswith("a validation part of 1 of the rows; ")
    infinite = table(tmp_path, id=list("pqqqqq"), a=[1, 2, 3, "1e39", 5, 6])
    assert fails(infinite, stream="id").startswith(
        f'{infinite}: column "a": the value of row 2 of stream "q" is infinite as a float32; '
    )
    left = loaded(infinite, stream="id", on_error="skip", validation=0)
    assert firsts(left.train) == [[2], [5]] and left.facts.skipped == 1


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is missing")
def test_the_valve_bench():
    result = loaded(DATA / "skab" / "anomaly-free" / "anomaly-free.csv")
    # 1.06 s a row on a clock of whole seconds: 556 steps are of 2 s, and nothing is missing
    assert (result.facts.rows, result.facts.gaps, result.facts.dropped, result.period_s) == (9405, 0, 0, 1.0)
    assert len(result.channels) == 8 and result.warnings == []
    assert (len(result.train[0].values), len(result.validation[0].values)) == (7523, data.WARM + 1881)
    files = sorted((DATA / "skab" / "valve1").glob("*.csv"))
    faulty = loaded(*files, channels=tuple(result.channels))
    assert (faulty.facts.rows, faulty.facts.streams, faulty.facts.gaps) == (18160, 16, 3)
    labelled = loaded(*files, targets=("anomaly",))
    assert "changepoint" in labelled.channels and "anomaly" not in labelled.channels


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is missing")
def test_the_electricity_transformer():
    result = loaded(DATA / "ett" / "ETTh1.csv", limit=11520, validation=0.25)
    assert (result.period_s, result.facts.gaps, len(result.channels)) == (3600, 0, 7)
    (train,), (validation,) = result.train, result.validation
    assert len(train.values) == 8639 and len(validation.values) - validation.warm == 2880
    learned = np.loadtxt(
        DATA / "ett" / "ETTh1.csv", delimiter=",", skiprows=1, usecols=range(1, 8), max_rows=8640
    )
    np.testing.assert_allclose(result.scaling.input_mean, learned.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(result.scaling.input_std, learned.std(axis=0), rtol=1e-6)


def test_what_a_user_should_look_at_is_said(tmp_path):
    """Labels, counters, columns of no numbers, machines that take turns, times not seen, few rows."""
    rows = range(600)
    columns = {
        "time": seconds(*(row // 2 for row in rows)),
        "flow": [f"{row % 7}.5" for row in rows],
        "label": [row % 2 for row in rows],
        "number": rows,
        "who": ["ann"] * 600,
    }
    told = " / ".join(loaded(table(tmp_path, **columns)).warnings)
    for words in (
        '"label": holds only 0 and 1; ',
        'left out: "number" (counts the rows), "who" (text)',
        "most times occur more than once; ",
    ):
        assert words in told, told
    del columns["time"]
    half = {name: [*cells][:300] for name, cells in columns.items()}
    few = loaded(table(tmp_path, **half), exclude=("label",))
    told = " / ".join(few.warnings)
    assert "no column of times was found" in told and "300 rows are few" in told and "label" not in told
    assert few.channels == ["flow"]


def test_a_target_ahead_may_be_an_input_and_one_of_now_is_none(tmp_path):
    path = table(tmp_path, a=range(50), b=[row % 5 for row in range(50)])
    assert loaded(path, targets=("a",), ahead=2).channels == ["a", "b"]
    assert loaded(path, targets=("a",)).channels == ["b"]
    assert loaded(path, targets=("a",), ahead=2, exclude=("a",)).channels == ["b"]
    assert "has no column" in fails(path, exclude=("c",))
