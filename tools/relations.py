"""The relations of input to output, tried: data made for each, networks, and simple methods beside them.

    python tools/relations.py                    # trains and replays each, and prints the table
    python tools/relations.py data FOLDER        # the data alone

Training and replay go through the command line, with the words of COMMANDS. The simple methods see the same
columns as the networks, and have their ridge chosen on the test data, in their favour.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.csv
from numpy.lib.stride_tricks import sliding_window_view
from relations_data import CONDITIONS, CURVE, DAY, PARAMETERS, SENSORS, Table, write_data

SEEDS = (0, 1, 2)
AT_ONCE = 2  # trainings, of a thread each
WEEK = 7 * DAY
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
PLANT = ("load", "temperature", "hour", "off", "off_tomorrow", "temperature_tomorrow")


class Commands(NamedTuple):
    train: str
    replay: str


COMMANDS = {
    "conditions": Commands(
        "train conditions.csv --stream-column run --relation sequence-to-vector --target condition",
        "replay conditions_test.csv --stream-column run",
    ),
    "load": Commands(
        "train load.csv --relation encoder-decoder --target load --horizon 24",
        "replay load_test.csv --every 24",
    ),
    "curves": Commands(
        "train curves.csv --stream-column run --relation vector-to-sequence --target position",
        "replay curves_test.csv --stream-column run",
    ),
}


class Trial(NamedTuple):
    """What is asked of one relation."""

    asked: str
    simple: dict[str, float]  # the figures of simple methods
    judge: Callable[[Table], float]  # the figure of what replay wrote


def conditions(folder: Path) -> Trial:
    learned, labels = _labelled(read_table(folder / "conditions.csv"))
    tested, truth = _labelled(read_table(folder / "conditions_test.csv"))
    wanted = (labels[:, None] == np.array(CONDITIONS)).astype(float)

    def right(scores: np.ndarray) -> float:
        return float((np.array(CONDITIONS)[scores.argmax(axis=1)] == truth).mean())

    def linear(features: Callable[[np.ndarray], np.ndarray]) -> float:
        seen, asked = (np.array([features(run) for run in runs]) for runs in (learned, tested))
        return max(right(scores) for scores in ridges(seen, wanted, asked))

    simple = {
        "the most common": right(np.tile(wanted.mean(axis=0), (len(truth), 1))),
        "linear on mean, deviation, last - first": linear(_summary),
        "linear on 50 figures chosen by hand": linear(_by_hand),
    }
    order = np.unique(read_table(folder / "conditions_test.csv")["run"])

    def judge(table: Table) -> float:
        scores = np.stack([table[f"condition={name}_pred"] for name in CONDITIONS], axis=1)
        return right(scores[np.searchsorted(table["stream"], order)])

    return Trial(
        "sequence to vector: the share of 400 recordings whose condition is told right", simple, judge
    )


def _labelled(table: Table) -> tuple[list[np.ndarray], np.ndarray]:
    """The rows of each run, (n, sensors) each, and each run's condition."""
    begins = np.flatnonzero(np.append(True, table["run"][1:] != table["run"][:-1]))
    values = np.stack([table[name] for name in SENSORS], axis=1)
    return np.split(values, begins[1:]), table["condition"][begins]


def _summary(run: np.ndarray) -> np.ndarray:
    return np.concatenate([run.mean(axis=0), run.std(axis=0), run[-1] - run[0]])


def _by_hand(run: np.ndarray) -> np.ndarray:
    """What an engineer might add: extremes, steps, correlations, and the second half against the first."""
    halves = run[: len(run) // 2], run[len(run) // 2 :]
    deviations = [half.std(axis=0) for half in halves]
    steps = np.diff(run, axis=0)
    pairs = np.corrcoef(run.T)[np.triu_indices(run.shape[1], 1)]
    changed = halves[1].mean(axis=0) - halves[0].mean(axis=0), np.log(deviations[1] / deviations[0])
    return np.concatenate(
        [_summary(run), run.min(axis=0), run.max(axis=0), steps.std(axis=0), pairs, *changed]
    )


def load(folder: Path) -> Trial:
    learned, tested = read_table(folder / "load.csv"), read_table(folder / "load_test.csv")
    seen, asked = _weeks(learned, PLANT), _weeks(tested, PLANT)
    truth = _next_days(tested)
    origins = np.arange(WEEK - 1, len(tested["load"]) - DAY, DAY)

    def linear(seen: np.ndarray, wanted: np.ndarray, asked: np.ndarray) -> float:
        return min(rmse(said, truth[::DAY]) for said in ridges(seen, wanted, asked))

    one, wanted = ("load",), _next_days(learned)
    loads = _weeks(tested, one)[::DAY]
    simple = {
        "the same hour a day before": rmse(loads[:, -DAY:], truth[::DAY]),
        "the same hour a week before": rmse(loads[:, :DAY], truth[::DAY]),
        "linear on 168 rows of load": linear(_weeks(learned, one), wanted, loads),
        "linear on 168 rows of all columns": linear(seen, wanted, asked[::DAY]),
        "the same, learned at midnight only": linear(seen[::DAY], wanted[::DAY], asked[::DAY]),
    }

    def judge(table: Table) -> float:
        chosen = np.isin(table["seq"], origins)
        return rmse(table["load_pred"][chosen].reshape(-1, DAY), truth[::DAY])

    return Trial("encoder-decoder: the next day from a week, root mean square error in kW", simple, judge)


def _weeks(table: Table, names: tuple[str, ...]) -> np.ndarray:
    """The week to each row that has a week and a day around it, (n, 168 * names)."""
    rows = np.stack([table[name] for name in names], axis=1).astype(float)
    return sliding_window_view(rows[:-DAY], WEEK, axis=0).transpose(0, 2, 1).reshape(-1, WEEK * len(names))


def _next_days(table: Table) -> np.ndarray:
    """The day after each such week, (n, 24)."""
    return sliding_window_view(table["load"][WEEK:], DAY)


def curves(folder: Path) -> Trial:
    learned, truth = read_table(folder / "curves.csv"), read_table(folder / "curves_truth.csv")
    asked = _parameters(read_table(folder / "curves_test.csv"))
    seen = _parameters(learned)[::CURVE]
    wanted, true = (table["position"].reshape(-1, CURVE) for table in (learned, truth))
    distance = (((seen - asked[:, None]) / seen.std(axis=0)) ** 2).sum(axis=2)  # (asked, learned)

    def linear(features: Callable[[np.ndarray], np.ndarray]) -> float:
        return min(rmse(said, true) for said in ridges(features(seen), wanted, features(asked)))

    simple = {
        "the mean curve": rmse(wanted.mean(axis=0), true),
        "linear on the parameters": linear(lambda x: x),
        "the mean of the three nearest": rmse(wanted[distance.argsort(axis=1)[:, :3]].mean(axis=1), true),
        "linear on them and their products": linear(_with_products),
    }

    def judge(table: Table) -> float:
        return rmse(table["position_pred"].reshape(-1, CURVE), true)

    return Trial("vector to sequence: 60 rows from four numbers, root mean square error in m", simple, judge)


def _parameters(table: Table) -> np.ndarray:
    return np.stack([table[name] for name in PARAMETERS], axis=1)


def _with_products(x: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(x.shape[1])
    return np.hstack([x, x[:, first] * x[:, second]])


def ridges(features: np.ndarray, wanted: np.ndarray, asked: np.ndarray) -> list[np.ndarray]:
    """What linear functions say where they are asked, (asked, outputs) each; one to each of RIDGES.

    Each has the least mean squared error + ridge * (the sum of its squared weights), features standardised.
    """
    mean, std, centre = features.mean(axis=0), features.std(axis=0), wanted.mean(axis=0)
    std[std == 0] = 1
    x, z = (features - mean) / std, (asked - mean) / std
    square, cross = x.T @ x / len(x), x.T @ (wanted - centre) / len(x)
    return [z @ np.linalg.solve(square + ridge * np.eye(len(square)), cross) + centre for ridge in RIDGES]


def rmse(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def read_table(path: Path) -> Table:
    table = pyarrow.csv.read_csv(path)
    return {name: table[name].to_numpy() for name in table.column_names}


TRIALS = {"conditions": conditions, "load": load, "curves": curves}


def predict(name: str, folder: Path, seed: int = 0, replay: str = "") -> Table:
    """Trains on the data in ``folder``, replays what was held back, and gives what was predicted."""
    model, predictions = f"{name}_{seed}.safetensors", f"{name}_{seed}_predictions.csv"
    streamrnn(f"{COMMANDS[name].train} --seed {seed} -o {model}", folder)
    streamrnn(f"{COMMANDS[name].replay} {replay} -m {model} -o {predictions}", folder)
    return read_table(folder / predictions)


def streamrnn(words: str, folder: Path) -> None:
    command = [sys.executable, "-m", "streamrnn", *words.split()]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    )
    if done.returncode:
        sys.exit(f"streamrnn {words}\n{done.stderr}")


def try_all(folder: Path, names: list[str]) -> None:
    write_data(folder)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tables = {name: [pool.submit(predict, name, folder, seed) for seed in SEEDS] for name in names}
        for name in names:
            trial = TRIALS[name](folder)
            print(trial.asked)
            for method, figure in trial.simple.items():
                print(f"  {method:42}{figure:8.3g}", flush=True)
            figures = [trial.judge(table.result()) for table in tables[name]]
            seeds = ", ".join(f"{figure:.3g}" for figure in figures)
            print(f"  {'the network':42}{np.mean(figures):8.3g}  (by seed: {seeds})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["table", "data"], default="table")
    parser.add_argument("folder", nargs="?", type=Path, help="for data")
    parser.add_argument("--only", choices=list(TRIALS), help="one relation's data")
    options = parser.parse_args()
    if (options.what == "table") != (options.folder is None):
        parser.error("data go to a folder: name it")
    if options.what == "data":
        write_data(options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        try_all(Path(temporary), [options.only] if options.only else list(TRIALS))


if __name__ == "__main__":
    main()
