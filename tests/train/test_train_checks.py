"""What a training refuses before its work, what it says is missing, and what an interrupt leaves."""

from pathlib import Path

import naive
import numpy as np
import pytest
from runs import loaded, table, train

from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.table import Reading, csv_file
from streamrnn.train import fit_decoder as decoding
from streamrnn.train import job
from streamrnn.train.data import sequences
from streamrnn.train.data.dataset import Dataset
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.descent import TrainSettings
from streamrnn.train.judge.classes import shares_right
from streamrnn.train.judge.linear import Linear
from streamrnn.train.net.decoder import EncoderDecoder
from streamrnn.train.net.network import NetworkShape, RowNetwork
from streamrnn.train.relations import fit_network, load_dataset


def refused(path: Path, relation: str, *targets: str, **options) -> str:
    with pytest.raises(UserError) as caught:
        loaded(path, relation, *targets, **options)
    return str(caught.value)


def forecast_rows(tmp_path: Path, rows: int = 400) -> Dataset:
    """Two streams of two channels that an encoder and decoder of 20 rows learns from."""
    x = np.random.default_rng(0).normal(size=(rows, 2)).round(3)
    path = table(tmp_path, "run,x,y", [["ab"[row > rows // 3], *x[row]] for row in range(rows)])
    return loaded(path, "encoder-decoder", horizon=20, validation=0.4)


# where an encoder and decoder are checked after an epoch


def test_a_long_horizon_is_checked_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHECKED", 1)  # as of a horizon of thousands of rows
    dataset = forecast_rows(tmp_path)
    shape = NetworkShape("gru", 2, 2, 16, relation="encoder-decoder", horizon=20)
    _, course = fit_network(dataset, shape, TrainSettings(epochs=1), None, lambda course: None)
    assert len(course.errors) == 2 and np.isfinite(course.errors).all()


def test_some_places_of_every_sequence_are_checked(tmp_path, monkeypatch):
    """Their mean error is that of the reference there, and rows that bring a state up are none of them."""
    monkeypatch.setattr(decoding, "LEAST_CHECKED", 10)
    monkeypatch.setattr(decoding, "CHECKED", 1)
    dataset = forecast_rows(tmp_path)
    task = decoding._DecodingTask(dataset, TrainSettings())
    shape = NetworkShape("gru", 2, 2, 16, relation="encoder-decoder", horizon=20)
    network = EncoderDecoder(shape)
    network.start(np.random.default_rng(0))
    model, squares = job.to_model(network, dataset), list[np.ndarray]()
    how = {"relation": shape.relation, "horizon": 20, "target": "next"}
    for sequence in task._checked.validation:
        places = np.flatnonzero(sequence.weights)
        assert len(places) and places[0] >= sequence.warm and places[-1] == len(sequence.values) - 1
        assert len({*np.diff(places)}) == 1 < np.diff(places)[0]
        found = naive.run(model.cell, model.tensors(), sequence.values, **how)
        error = found.reshape(len(sequence.values), -1) - sequence.targets
        squares.append(np.square(error[places] / dataset.scaling.output_std))
    assert len(squares) == 2 and sum(map(len, squares)) >= 10
    assert task.error(network) == pytest.approx(np.concatenate(squares).mean(), rel=1e-4)


# what a model file would refuse is refused before the work


def test_a_name_that_no_file_holds_ends_it_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_fit", lambda *_: pytest.fail("it trains"))
    path = table(tmp_path, "a\x07,b", [[row % 7, row % 5] for row in range(40)])
    result = train(path, "-o", tmp_path / "m")
    assert (result.exit_code, "expected a printable name" in result.stderr) == (78, True), result.stderr


def test_a_curve_longer_than_a_prediction_can_be(tmp_path, monkeypatch):
    monkeypatch.setitem(sequences.SIZES, "horizon", (1, 50))
    path = table(tmp_path, "run,x,y", [["r", 1, 2]] * 51)
    message = "the longest stream has 51 rows, and a curve at most 50; say how many with --horizon"
    assert refused(path, "vector-to-sequence", "y") == message


def test_an_output_without_a_value_where_there_is_room_for_a_horizon(tmp_path):
    rows = [[run, row, row if row < 20 or run == "b" else None] for run in "ab" for row in range(50)]
    rows = [row for row in rows if row[0] == "a" or row[1] % 7]  # b's rows stand in short pieces
    path = table(tmp_path, "run,n,y", rows)
    reading = Reading(stream="run", seq="n")
    data = DataOptions((str(path),), channels=("n", "y"), targets=("n", "y"), reading=reading)
    with pytest.raises(UserError, match='"y" has no value where there are 8 rows on end to validate on; use'):
        load_dataset(data, "encoder-decoder", 8, 0, lambda rows: None)


def test_outputs_of_one_name(tmp_path):
    path = table(tmp_path, "run,x,cond,cond=ok", [[run, 1, ["ok", "worn"][run % 2], 1] for run in range(9)])
    assert 'two outputs have the name "cond=ok"' in refused(path, "sequence-to-vector", "cond", "cond=ok")


# sequences and their targets


def test_what_is_told_right_is_of_those_that_have_the_label(tmp_path):
    """Some have another target only; a network that says nothing names the most frequent class."""
    rows = [[f"r{k}", k % 3, None if k % 4 == 0 else "aab"[k % 3], k] for k in range(40)]
    dataset = loaded(table(tmp_path, "run,x,state,wear", rows), "sequence-to-vector", "state", "wear")
    ends = np.array([one.targets[-1] for one in dataset.validation])
    assert np.isnan(ends[:, 0]).any()
    share = ends[~np.isnan(ends[:, 0]), 0].mean()
    assert 0 < share < 1
    network = RowNetwork(NetworkShape("gru", 1, 3, 16, relation="sequence-to-vector"))
    nothing = Linear(np.zeros((3, 3)), np.zeros(3), np.ones(3), 1, np.ones(3))
    found = shares_right(network, nothing, dataset)
    assert found == {"state": dict.fromkeys(("network", "linear", "most frequent"), pytest.approx(share))}


def test_a_label_that_only_the_last_row_has_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "HEAD", 40)  # bytes: the first rows
    rows = [[k // 9, k, None if k % 9 < 8 else f"s{k // 9 % 2}"] for k in range(90)]
    dataset = loaded(table(tmp_path, "run,x,state", rows), "sequence-to-vector", "state")
    assert (dataset.channels, dataset.names) == (["x"], ["state=s0", "state=s1"])
    numbers = [[*row[:2], row[1] / 4 if row[2] else None] for row in rows]
    path = table(tmp_path, "run,x,wear", numbers)
    dataset = loaded(path, "sequence-to-vector", "wear")
    assert (dataset.channels, dataset.names, dict(dataset.classes)) == (["x"], ["wear"], {})
    assert {float(one.targets[-1, 0]) for one in dataset.train} < {row[2] for row in numbers}
    dataset = load_dataset(
        DataOptions((str(path),), exclude=("run",), targets=("wear",)),
        "sequence-to-sequence",
        None,
        0,
        lambda rows: None,
    )
    assert (dataset.channels, dataset.outputs) == (["x"], ["wear"])
    known = np.concatenate([one.targets for one in dataset.train])
    np.testing.assert_array_equal(known[~np.isnan(known)], np.arange(8, 72, 9) / 4)


def test_files_whose_labels_come_late_or_not_at_all_are_one_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "HEAD", 12)
    files = [
        table(tmp_path, "x,state", [[1, None]] * 8 + [[1, label]], f"{k}.csv")
        for k, label in enumerate(["ok", None, "worn", "ok", "worn"])
    ]
    data = DataOptions(tuple(map(str, files)), targets=("state",))
    dataset = load_dataset(data, "sequence-to-vector", None, 0, lambda rows: None)
    assert dataset.names == ["state=ok", "state=worn"]
    assert {one.stream: one.targets[-1, 0] for one in (*dataset.train, *dataset.validation)} == {
        "0": 1,
        "2": 0,
        "3": 1,
        "4": 0,
    }


def test_a_label_cannot_be_a_channel(tmp_path):
    path = table(tmp_path, "run,x,cond", [[run, run, "ok" if run % 2 else "worn"] for run in range(12)])
    message = (
        f'{path}: column "cond" is text, such as "worn", and cannot be a channel; leave it out of --chan'
    )
    assert refused(path, "sequence-to-vector", "cond", channels=("x", "cond")).startswith(message)
    with pytest.raises(UserError, match="only sequence-to-vector has targets of text"):
        loaded(path, "vector-to-sequence", "cond")


def test_what_sequences_lack_is_named(tmp_path):
    rows = [[run, row, "ok" if run < 1 or row < 1 else None] for run in range(6) for row in range(2)]
    path = table(tmp_path, "run,x,cond", [*rows, [7, 1, "worn"]])
    text = refused(path, "sequence-to-vector", "cond")
    assert text == (
        "1 sequence to learn from and 0 to validate on, of 7 streams of 13 rows; 5 streams with no target in "
        "the last row; no class has two sequences: give more of each"
    ).replace("1 sequence", "2 sequences")
    path = table(tmp_path, "run,x,y", [[run, run if run < 2 else None, 1] for run in range(6)])
    text = refused(path, "vector-to-sequence", "y")
    assert text.endswith("; 4 streams with a channel without a value in the first row")
    rows = [[run, run, "ab"[run % 2], run if run == 3 else None] for run in range(20)]
    path = table(tmp_path, "run,x,cond,wear", rows)
    text = refused(path, "sequence-to-vector", "cond", "wear")
    assert text.startswith('"wear" has a value in 1 sequence, none to ') and "leave it out" in text


def test_how_far_curves_reach(tmp_path):
    lengths = [30] * 20 + [50] * 3
    path = table(tmp_path, "run,x,y", [[k, k, row] for k, rows in enumerate(lengths) for row in range(rows)])
    message = "the longest stream has 50 rows: nothing to learn 51 from; use a smaller --horizon"
    assert refused(path, "vector-to-sequence", "y", horizon=51) == message
    dataset = loaded(path, "vector-to-sequence", "y")
    assert dataset.horizon == 50
    assert dataset.warnings[-1] == (
        "of 23 sequences only 3 reach row 50, and fewer than 10 go past row 30: what comes there may be "
        "chance; --horizon 30 ends before"
    )
    assert not any(
        "reach" in warning for warning in loaded(path, "vector-to-sequence", "y", horizon=30).warnings
    )


# an interrupt


@pytest.mark.parametrize("relation", ["sequence-to-sequence", "encoder-decoder"])
def test_an_interrupt_before_anything_is_learned_leaves_the_old_file(tmp_path, monkeypatch, relation):
    """But where a network begins as the linear forecast, that is worth keeping."""

    def interrupted(dataset, shape, settings, start, report):
        def interrupt(course):
            raise KeyboardInterrupt

        return fit_network(dataset, shape, settings, start, interrupt)

    monkeypatch.setattr(job, "fit_network", interrupted)
    x = np.random.default_rng(0).normal(size=(300, 2)).round(3)
    path, output = table(tmp_path, "x,y", x.tolist()), tmp_path / "m"
    output.write_text("old")
    words = ("--horizon", 3) if relation == "encoder-decoder" else ()
    result = train(path, "-o", output, "--relation", relation, *words)
    assert result.exit_code == 130
    if words:
        assert output.read_text() == "old" and result.stdout == ""
        assert "interrupted before the network got better: nothing is written" in result.stderr
    else:
        assert read_model(output).training["best_epoch"] == 0


def test_the_help_says_whose_horizon_must_be_told():
    words = " ".join(train("--help").stdout.split())
    assert "an encoder-decoder writes [required], or a vector-to-sequence [default: as in the lo" in words


@pytest.mark.parametrize(
    ("relation", "more", "said"),
    [
        ("encoder-decoder", {"horizon": 3, "highway": 4}, "--highway is for --relation sequence-to-sequence"),
        ("encoder-decoder", {}, "--relation encoder-decoder needs --horizon"),
        ("sequence-to-vector", {}, "--relation sequence-to-vector needs --target"),
        ("vector-to-sequence", {"settings": TrainSettings(dropout=0.1)}, "--dropout is not for"),
    ],
)
def test_whoever_calls_it_is_told_what_a_relation_does_not_take(tmp_path, relation, more, said):
    options = job.TrainOptions(DataOptions(("no such file.csv",)), None, relation=relation, **more)
    with pytest.raises(UserError, match=said):
        job.train(options)
