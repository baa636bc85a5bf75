"""The data made for the relations is what it says, and what is predicted is judged at the right rows."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from relations import TRIALS, WEEK, read_table
from relations_data import (
    CONDITIONS,
    CURVE,
    DAY,
    SENSORS,
    make_conditions,
    make_curves,
    make_load,
    write_data,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("relations")
    write_data(made)
    return made


@pytest.mark.parametrize("make", [make_conditions, make_curves, lambda size, seed: make_load(0, size, seed)])
def test_the_same_seed_gives_the_same_data(make):
    first, again, other = make(20, seed=3), make(20, seed=3), make(20, seed=4)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    assert len({len(column) for column in first.values()}) == 1


def test_a_recording_has_one_condition_and_runs_on_by_seconds(folder):
    table = read_table(folder / "conditions_test.csv")
    names, begins = np.unique(table["run"], return_index=True)
    lengths = np.diff(np.append(begins, len(table["run"])))
    assert len(names) == 400
    assert lengths.min() >= 60 and lengths.max() <= 200
    within = np.ones(len(table["run"]), bool)
    within[begins] = False
    assert np.all(np.diff(table["time"])[within[1:]] == np.timedelta64(1, "s"))
    assert np.array_equal(table["condition"], np.repeat(table["condition"][begins], lengths))
    assert set(table["condition"]) == set(CONDITIONS)
    assert all(np.isfinite(table[name]).all() for name in SENSORS)


def test_tomorrow_is_what_comes_and_the_held_back_load_is_later(folder):
    learned, tested = read_table(folder / "load.csv"), read_table(folder / "load_test.csv")
    assert np.array_equal(learned["off_tomorrow"][:-DAY], learned["off"][DAY:])
    assert tested["time"][0] - learned["time"][-1] == np.timedelta64(1, "h")
    assert np.all(np.diff(tested["time"]) == np.timedelta64(1, "h"))
    assert tested["hour"][0] == 0 and tested["load"].min() > 0


def test_a_curve_is_asked_by_the_parameters_of_its_rows(folder):
    asked, truth = read_table(folder / "curves_test.csv"), read_table(folder / "curves_truth.csv")
    for name, column in asked.items():
        assert np.array_equal(np.repeat(column, CURVE), truth[name])


def test_exact_predictions_are_judged_as_such_and_better_than_what_is_simple(folder):
    told = read_table(folder / "conditions_test.csv")
    runs, begins = np.unique(told["run"], return_index=True)
    scores = {f"condition={name}_pred": (told["condition"][begins] == name) * 1.0 for name in CONDITIONS}
    load = read_table(folder / "load_test.csv")["load"]
    origins = np.arange(DAY - 1, len(load) - DAY, DAY)  # the first week's are to be left out
    days = np.array([load[origin + 1 : origin + 1 + DAY] for origin in origins])
    days[: WEEK // DAY - 1] = 0
    exact = {
        "conditions": {"stream": runs, **scores},
        "load": {"seq": np.repeat(origins, DAY), "load_pred": days.ravel()},
        "curves": {"position_pred": read_table(folder / "curves_truth.csv")["position"]},
    }
    for name, best in (("conditions", 1), ("load", 0), ("curves", 0)):
        trial = TRIALS[name](folder)
        figures = list(trial.simple.values())
        assert trial.judge(exact[name]) == best
        assert all(
            abs(figure - best) < abs(figures[0] - best) for figure in figures[1:]
        )  # none is a straw man
