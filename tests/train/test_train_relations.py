"""Training for the relations other than a prediction a row: what is learned from, what comes of it."""

import math
from pathlib import Path

import naive
import numpy as np
import pytest
from click.testing import Result
from runs import loaded, table, train

from streamrnn.errors import UserError
from streamrnn.model.model_file import read_model
from streamrnn.table import Reading
from streamrnn.train.data.dataset import Dataset, Scaling, Sequence
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.data.sequences import windows
from streamrnn.train.data.warnings import DataFacts
from streamrnn.train.descent import Course, TrainSettings
from streamrnn.train.fit_decoder import fit_decoder
from streamrnn.train.judge.simple_methods import mean_target, summaries, vector_methods
from streamrnn.train.net.network import NetworkShape
from streamrnn.train.relations import load_dataset, residuals_of

NAN = float("nan")


# what is learned from


def test_a_stream_is_a_sequence_and_its_last_row_says_what_it_is(tmp_path):
    rows = []
    for run in range(10):
        rows += [
            [f"r{run}", None, 1, "starting", 5],
            [f"r{run}", run, None, None, 6],
            [f"r{run}", 3, 4, "ab"[run % 2], run],
        ]
    dataset = loaded(table(tmp_path, "run,x,y,state,wear", rows), "sequence-to-vector", "state", "wear")
    assert dataset.channels == ["x", "y"]
    assert dataset.outputs == dataset.names == ["state=a", "state=b", "state=starting", "wear"]
    assert dataset.classes == {"state": slice(0, 3)}
    assert (len(dataset.train), len(dataset.validation)) == (8, 2)
    for sequence in (*dataset.train, *dataset.validation):
        run = int(sequence.stream[1:])
        np.testing.assert_array_equal(sequence.values, [[run, 1], [3, 4]])  # held, from where all are known
        expected = [run % 2 == 0, run % 2 == 1, 0, run]
        np.testing.assert_array_equal(sequence.targets, [expected, expected])
    assert {int(sequence.stream[1:]) % 2 for sequence in dataset.validation} == {0, 1}  # of each class one
    for sequence in dataset.train:
        np.testing.assert_array_equal(sequence.weights, [0.5, 1])
    for sequence in dataset.validation:
        np.testing.assert_array_equal(sequence.weights, [0, 1])
    learned = np.array([sequence.targets[-1] for sequence in dataset.train])
    np.testing.assert_allclose(dataset.scaling.output_mean, learned.mean(axis=0))
    assert dataset.facts.missing == 20 and dataset.facts.dropped == 0


def test_what_has_no_target_at_its_end_is_left_out(tmp_path):
    rows = [[f"r{run}", row, row if run < 5 or row < 1 else None] for run in range(6) for row in range(2)]
    dataset = loaded(table(tmp_path, "run,x,y", rows), "sequence-to-vector", "y")
    assert len(dataset.train) + len(dataset.validation) == 5
    assert dataset.facts.dropped == 2


def test_a_curve_follows_from_the_first_row(tmp_path):
    rows = [[f"r{run}", run if k == 0 else None, 10 * run + k] for run in range(6) for k in range(2 + run)]
    path = table(tmp_path, "run,speed,y", rows)
    dataset = loaded(path, "vector-to-sequence", "y")
    assert (dataset.channels, dataset.names, dataset.horizon) == (["speed"], ["y"], 7)
    for sequence in (*dataset.train, *dataset.validation):
        run = int(sequence.stream[1:])
        assert sequence.values.tolist() == [[run]]
        expected = [10 * run + k if k < 2 + run else NAN for k in range(7)]
        np.testing.assert_array_equal(sequence.targets, [expected])
    assert loaded(path, "vector-to-sequence", "y", horizon=3).train[0].targets.shape == (1, 3)
    known = np.concatenate([one.targets[~np.isnan(one.targets)] for one in dataset.train])
    np.testing.assert_allclose(dataset.scaling.output_mean, np.full(7, known.mean()), rtol=1e-6)


def test_the_rows_that_follow_are_targets_of_each_row_without_a_copy(tmp_path):
    rows = [["r", row, 100 + row] for row in range(20)]
    dataset = loaded(table(tmp_path, "run,x,y", rows), "encoder-decoder", horizon=3, validation=0.4)
    assert (dataset.target, dataset.names, dataset.outputs) == ("next", ["x", "y"], ["x", "y"] * 3)
    (learned,), (checked,) = dataset.train, dataset.validation
    np.testing.assert_array_equal(
        learned.values[:, 0], np.arange(9)
    )  # the last target is row 11, before the cut
    np.testing.assert_array_equal(learned.targets[8], [9, 109, 10, 110, 11, 111])
    assert not learned.targets.flags.owndata
    places = np.flatnonzero(checked.weights)
    np.testing.assert_array_equal(checked.values[places, 0], np.arange(11, 17))
    np.testing.assert_array_equal(checked.targets[places[-1], ::2], [17, 18, 19])
    assert not np.isnan(checked.targets[places]).any()
    only = loaded(tmp_path / "runs.csv", "encoder-decoder", "y", horizon=2)
    assert (only.channels, only.target, only.ahead) == (["x", "y"], "value", 1)  # y is not the first channel
    only = loaded(tmp_path / "runs.csv", "encoder-decoder", "x", horizon=2)
    assert (only.channels, only.target, only.names) == (["x", "y"], "next", ["x"])


# the simple methods


def small_dataset(
    train: list[Sequence], validation: list[Sequence], outputs: int, horizon: int = 1
) -> Dataset:
    channels = train[0].values.shape[1]
    one = np.ones(outputs * horizon, np.float32)
    scaling = Scaling(np.zeros(channels, np.float32), np.ones(channels, np.float32), 3 * one, 2 * one)
    names = [f"y{k}" for k in range(outputs)] * horizon
    facts = DataFacts(1, len(train), 0, 0, 0, 0, 0)
    return Dataset(
        [f"c{k}" for k in range(channels)],
        names,
        "value",
        0,
        0,
        train,
        validation,
        scaling,
        facts,
        [],
        horizon,
    )


def test_the_mean_of_each_target_wherever_it_is_known():
    frames = np.zeros((1, 1), np.float32)
    learned = [Sequence("a", frames, np.float32([[1, 4]])), Sequence("b", frames, np.float32([[3, NAN]]))]
    checked = [Sequence("c", frames, np.float32([[6, 4]]))]
    found = mean_target(small_dataset(learned, checked, 1, horizon=2), "mean curve")
    np.testing.assert_allclose(found.errors, [((6 - 2) / 2) ** 2, 0])


def test_a_linear_function_of_what_sums_a_sequence_up():
    """It finds a target that is one of mean, deviation and change, and knows nothing of their order."""
    rng = np.random.default_rng(0)

    def sequence() -> Sequence:
        values = rng.normal(rng.normal(), rng.uniform(0.5, 2), (rng.integers(5, 30), 2)).astype(np.float32)
        target = values[:, 0].mean() - 2 * values[:, 1].std() + values[-1, 0] - values[0, 0]
        return Sequence("s", values, np.full((len(values), 1), target, np.float32))

    dataset = small_dataset([sequence() for _ in range(100)], [sequence() for _ in range(20)], 1)
    found = vector_methods(dataset, lambda done: None)
    assert found.linear.errors[0] < 1e-4 < found.other.errors[0]
    assert summaries(dataset).channels[:3] == ["c0 mean", "c1 mean", "c0 deviation"]


# what is learned


def orders(folder: Path, runs: int = 200) -> Path:
    """Runs in which a pulse of one sensor comes before or after one of the other."""
    rng, rows = np.random.default_rng(0), []
    for run in range(runs):
        values = rng.normal(0, 0.1, (int(rng.integers(12, 20)), 2))
        first, second = sorted(rng.choice(len(values), 2, replace=False))
        swapped = int(rng.integers(2))
        values[first, swapped], values[second, 1 - swapped] = 1, 1
        rows += [[f"r{run}", *np.round(row, 3), ("rising", "falling")[swapped]] for row in values]
    return table(folder, "run,inlet,outlet,event", rows)


def swings(folder: Path, runs: int = 120) -> Path:
    """A swing from its frequency and its damping, 12 rows."""
    rng, rows = np.random.default_rng(0), []
    for run in range(runs):
        pace, damping = rng.uniform(0.2, 0.9), rng.uniform(0.02, 0.2)
        for k in range(12):
            rows.append(
                [
                    f"r{run}",
                    f"{pace:.4f}",
                    f"{damping:.4f}",
                    f"{math.cos(pace * k) * math.exp(-damping * k):.4f}",
                ]
            )
    return table(folder, "run,pace,damping,angle", rows)


def crank(folder: Path) -> Path:
    """What no linear forecast knows (Hénon 1976)."""
    rows, x, y = [], 0.1, 0.1
    for _ in range(1000):
        x, y = 1 - 1.4 * x**2 + y, 0.3 * x
        rows.append([f"{x:.5f}", f"{y:.5f}"])
    return table(folder, "angle,speed", rows)


CASES = {
    "sequence-to-vector": (orders, ("--stream-column", "run", "--target", "event", "--epochs", 20)),
    "vector-to-sequence": (swings, ("--stream-column", "run", "--target", "angle", "--epochs", 30)),
    "encoder-decoder": (crank, ("--horizon", 3, "--epochs", 40, "--chunk", 16, "--cell", "gru")),
}


@pytest.fixture(scope="module", params=CASES)
def trained(request, tmp_path_factory) -> tuple[str, Path, Path, Result]:
    """A relation, its data, the model file, and what the training said."""
    make, words = CASES[request.param]
    folder = tmp_path_factory.mktemp("trained")
    path, output = make(folder), folder / "m"
    return request.param, path, output, train(path, "-o", output, "--relation", request.param, *words)


def test_a_network_learns_what_its_simple_method_cannot(trained):
    relation, _, output, result = trained
    assert result.exit_code == 0, result.stderr
    model = read_model(output)
    assert (model.relation, model.training["settings"]["relation"]) == (relation, relation)
    network, linear, simple = model.training["validation_mse"].values()
    assert network < 0.5 * linear and network < 0.5 * simple
    assert "the network pays" in result.stdout
    if relation == "sequence-to-vector":
        assert [one.name for one in model.outputs] == ["event=falling", "event=rising"]
        assert "outputs event=falling, event=rising, at the end of each stream" in result.stderr
        right = model.training["validation_right"]["event"]
        assert right["network"] > 0.9 > right["linear"]
        assert f"event told right: network {right['network']:.1%}, linear" in result.stdout


def test_the_reference_runs_what_was_trained(trained):
    """The errors that a file states are those of networks written out from their formulas."""
    relation, path, output, _ = trained
    model = read_model(output)
    targets = {"sequence-to-vector": ("event",), "vector-to-sequence": ("angle",)}.get(relation)
    reading = Reading(stream=None if relation == "encoder-decoder" else "run")
    options = DataOptions((str(path),), targets=targets, reading=reading)
    horizon = 3 if relation == "encoder-decoder" else None
    dataset = load_dataset(options, relation, horizon, 0, lambda rows: None)
    squares, count = np.zeros(len(model.outputs)), 0
    for sequence in dataset.validation:
        how = {"relation": relation, "horizon": model.horizon, "target": model.target}
        found = naive.run(model.cell, model.tensors(), sequence.values, **how)
        used = sequence.weights > 0
        error = (found.reshape(len(used), -1) - sequence.targets)[used].reshape(-1, len(squares))
        squares, count = squares + np.square(error).sum(axis=0), count + len(error)
    assert model.errors["rows"] == count
    stated = np.square(model.errors["std"]) + np.square(model.errors["mean"])
    np.testing.assert_allclose(stated, squares / count, rtol=2e-3)


def test_the_same_seed_gives_the_same_file(trained, tmp_path):
    relation, path, *_ = trained
    words = CASES[relation][1]
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ("--relation", relation, *words, "--epochs", 1, "--seed", seed, "--limit", 800)
        assert train(path, "-o", tmp_path / name, *options).exit_code == 0
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1] != files[2]


def test_an_interrupt_keeps_the_best_decoder_so_far():
    rng = np.random.default_rng(0)
    rows = np.sin(np.arange(900) / 5)[:, None] + rng.normal(0, 0.05, (900, 2))
    rows = rows.astype(np.float32)
    parts = [[Sequence("s", rows[part][:-1], rows[part][1:])] for part in (slice(600), slice(600, None))]
    dataset = windows(small_dataset(*parts, 2)._replace(outputs=["c0", "c1"], target="next"), 5)

    def interrupt(course: Course) -> None:
        if course.epoch == 3 and course.done > 0.4:
            raise KeyboardInterrupt

    shape = NetworkShape("gru", 2, 2, 16, relation="encoder-decoder", horizon=5)
    network, course = fit_decoder(dataset, shape, TrainSettings(epochs=50, chunk=8), interrupt)
    assert (course.ended, course.epoch, len(course.errors)) == ("interrupted", 3, 4)
    error = np.concatenate([error[there] for error, there in residuals_of(network, dataset)])
    assert np.square(error).mean() == pytest.approx(min(course.errors), rel=1e-4)


# what cannot be


def test_what_a_sequence_lacks_is_said(tmp_path):
    one = table(tmp_path, "run,x,y,state", [["a", 1, 1, "ok"], ["a", 2, 2, "ok"]])
    with pytest.raises(UserError, match='"state" is of one class only, "ok"; give'):
        loaded(one, "sequence-to-vector", "state")
    with pytest.raises(UserError, match="each stream is one sequence: give a file for each, or name"):
        loaded(one, "vector-to-sequence", "y")
    mixed = [table(tmp_path, "x,state", rows, f"{rows[0][1]}.csv") for rows in ([[1, "ok"]], [[1, 5]])]
    options = DataOptions(tuple(map(str, mixed)), targets=("state",))
    with pytest.raises(UserError, match='column "state" is text in some files, and numbers in others'):
        load_dataset(options, "sequence-to-vector", None, 0, lambda rows: None)


def test_what_is_no_class_is_said(tmp_path):
    path = table(tmp_path, "run,x,note", [[run, 1, f"note {run}"] for run in range(300)])
    with pytest.raises(UserError, match=r'"note" holds 300 different texts, .* at most 256 classes'):
        loaded(path, "sequence-to-vector", "note")


@pytest.mark.parametrize(("validation", "purpose"), [(0.3, "validate on"), (0.8, "learn from")])
def test_rows_too_few_for_a_horizon_are_said(tmp_path, validation, purpose):
    path = table(tmp_path, "run,x,y", [["a", row, row] for row in range(20)])
    message = f"nowhere 8 rows on end to {purpose}; use a smaller --horizon, or give more rows"
    with pytest.raises(UserError, match=message):
        loaded(path, "encoder-decoder", horizon=8, validation=validation)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sequence-to-vector",), "needs --target, the columns to estimate"),
        (("vector-to-sequence",), "needs --target, the columns to estimate"),
        (("encoder-decoder",), "needs --horizon, the number of rows to write"),
        (("encoder-decoder", "--horizon", 0), "writes one row or more"),
        (("sequence-to-vector", "--target", "x", "--horizon", 2), "--horizon is not for sequence-to-vector"),
        (
            ("encoder-decoder", "--horizon", 2, "--highway", 3),
            "--highway is for --relation sequence-to-sequence",
        ),
        (("vector-to-sequence", "--target", "x", "--explain"), "--explain is for --relation sequence-to-seq"),
        (
            ("encoder-decoder", "--horizon", 2, "--dropout", 0.1),
            "--dropout is not for --relation encoder-dec",
        ),
        (
            ("vector-to-sequence", "--target", "x", "--chunk", 9),
            "--chunk is not for --relation vector-to-seq",
        ),
        (
            ("vector-to-sequence", "--target", "x", "--max-step", "1s"),
            "--max-step is not for --relation vector",
        ),
        (("sequence-to-vector", "--target", "x", "--max-step", "1s"), "no gap ends a sequence there"),
        (("one-to-one",), "'one-to-one' is not one of"),
    ],
)
def test_wrong_usage(tmp_path, words, message):
    result = train(tmp_path / "none.csv", "-o", tmp_path / "m", "--relation", *words)
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (2, True), result.stderr
