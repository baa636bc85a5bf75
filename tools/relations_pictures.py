"""Pictures of what comes out of each relation, and of a rollout: SVG, for light and for dark ground.

python tools/relations_pictures.py FOLDER    # needs matplotlib: pip install -e .[tools]
"""

import argparse
import io
import re
import tempfile
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from relations import WEEK, predict, read_table, streamrnn
from relations_data import CONDITIONS, CURVE, DAY, PARAMETERS, Table, write_data

GREY, BLUE, ORANGE, GREEN, RED = "#7d8590", "#2f81f7", "#d97706", "#2ea043", "#e5534b"
COLOURS = dict(zip(CONDITIONS, (RED, ORANGE, GREEN, BLUE), strict=True))
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # a browser without it takes its own
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.bottom": False,  # the numbers say it
    "ytick.left": False,
    "legend.frameon": False,
    "legend.labelcolor": GREY,
    "path.simplify_threshold": 0.4,
    "svg.fonttype": "none",  # text stays text: smaller
    "svg.hashsalt": "streamrnn",  # the same file each time
    "savefig.transparent": True,
    **{f"{part}.color": GREY for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}": GREY for part in ("edgecolor", "labelcolor", "titlecolor")},
}
ROLLOUT = 40  # rows of one, and from one to the next


def draw_all(work: Path, folder: Path) -> None:
    """Makes data and models in ``work``, and a picture of each in ``folder``, which is made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_data(work)
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            figure = draw(work)
            path = folder / f"{name}.svg"
            path.write_text(_svg(figure))
            plt.close(figure)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    short = re.sub(r"(\d\.\d)\d+(?=[^<]*>)", r"\1", drawn.getvalue())  # in tags, a tenth of a point will do
    return re.sub(r" *\n *", "\n", short)


def draw_conditions(work: Path) -> Figure:
    """A run of each condition: two of its sensors, and what is said of it as it goes on."""
    table, said = read_table(work / "conditions_test.csv"), predict("conditions", work, replay="--every 8")
    figure, axes = plt.subplots(3, 4, figsize=(9, 4.2), sharex="col", sharey="row", layout="constrained")
    for column, condition in enumerate(CONDITIONS):
        run = _first_run(table, condition)
        rows, told = table["run"] == run, said["stream"] == run
        above, middle, below = axes[:, column]
        above.plot(table["deviation"][rows], color=GREY, lw=0.8)
        middle.plot(table["vibration"][rows], color=GREY, lw=0.8)
        for name, colour in COLOURS.items():
            below.plot(said["seq"][told], said[f"condition={name}_pred"][told], color=colour)
        above.set_title(condition, color=COLOURS[condition])  # the legend
        below.set(xlabel="row", ylim=(-0.25, 1.25))
        below.locator_params(axis="x", nbins=3)
    for axis, label in zip(
        axes[:, 0], ("deviation of\nthe valve, %", "vibration,\nmm/s", "told"), strict=True
    ):
        axis.set_ylabel(label)
    return figure


def _first_run(table: Table, condition: str) -> str:
    """The first run of a condition of 80 to 110 rows."""
    names, counts = np.unique(table["run"][table["condition"] == condition], return_counts=True)
    return str(names[(counts >= 80) & (counts <= 110)][0])


def draw_load(work: Path) -> Figure:
    """The week behind and the day ahead: a working day, a Saturday, a Monday."""
    table, said = read_table(work / "load_test.csv"), predict("load", work)
    figure, axes = plt.subplots(3, 1, figsize=(9, 5.4), layout="constrained")
    for axis, day in zip(axes, ("2026-02-11", "2026-05-02", "2026-07-27"), strict=True):
        begin = int(np.flatnonzero(table["time"] == np.datetime64(day))[0])
        shown = slice(begin - WEEK, begin + DAY)
        hours, load = np.arange(-WEEK, DAY), table["load"]
        axis.plot(hours, load[shown], color=GREY, lw=1, label="measured")
        axis.plot(hours[-DAY:], load[begin - DAY : begin], ":", color=ORANGE, label="a day before")
        forecast = said["load_pred"][said["seq"] == begin - 1]
        axis.plot(hours[-DAY:], forecast, color=BLUE, lw=2, label="forecast")
        axis.axvline(0, color=GREY, lw=0.5)
        axis.set(ylabel="load, kW", xticks=range(-WEEK, DAY + 1, DAY), title=f"from {day}")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper right")
    axes[-1].set_xlabel("hours from the forecast on")
    return figure


def draw_curves(work: Path) -> Figure:
    """Four springs, from little damping to much: what was measured, and what the parameters alone told."""
    said, truth = predict("curves", work), read_table(work / "curves_truth.csv")
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.4), sharey=True, layout="constrained")
    by_damping = truth["damping"][::CURVE].argsort()
    for axis, curve in zip(axes, by_damping[:: len(by_damping) // len(axes)], strict=True):
        rows = slice(curve * CURVE, (curve + 1) * CURVE)
        axis.plot(truth["t"][rows], truth["position"][rows], color=GREY, lw=3, alpha=0.5, label="measured")
        axis.plot(truth["t"][rows], said["position_pred"][rows], color=BLUE, label="told")
        told = (f"{name} {truth[name][rows][0]:g}" for name in PARAMETERS)
        axis.set_title("\n".join(told), fontsize=8, loc="left")
        axis.set_xlabel("time, s")
    axes[0].set_ylabel("position, m")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def draw_rollout(work: Path) -> Figure:
    """A pump, and what its model says the next 40 rows will be, every 40 rows."""
    streamrnn("demo --record monday.csv --seconds 600", work)
    streamrnn("demo --record tuesday.csv --seconds 36 --seed 2", work)
    streamrnn("train monday.csv --stream-column machine -o pumps.safetensors", work)
    replay = f"replay tuesday.csv --stream-column machine --every {ROLLOUT} --horizon {ROLLOUT}"
    streamrnn(f"{replay} -m pumps.safetensors -o rollout.csv", work)
    table, said = read_table(work / "tuesday.csv"), read_table(work / "rollout.csv")
    rows, told = table["machine"] == "pump-3", said["stream"] == "pump-3"
    starts = list(range(ROLLOUT - 1, rows.sum() - ROLLOUT, ROLLOUT))
    figure, axes = plt.subplots(3, 1, figsize=(9, 4.2), sharex=True, layout="constrained")
    for axis, (name, unit) in zip(axes, {"valve": "%", "flow": "m3/h", "current": "A"}.items(), strict=True):
        measured = table[name][rows]
        axis.plot(measured, color=GREY, lw=1, label="measured")
        for row in starts:
            rollout = said[f"{name}_pred"][told & (said["seq"] == row)]
            axis.plot(row + 1 + np.arange(len(rollout)), rollout, color=BLUE, label=_once(axis, "rollout"))
        axis.plot(starts, measured[starts], "o", color=BLUE, ms=3)
        axis.set_ylabel(f"{name}, {unit}")
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="outside upper right")
    axes[-1].set_xlabel("row")
    return figure


def _once(axis: Axes, label: str) -> str | None:
    """A label for the first line that has it."""
    return None if label in axis.get_legend_handles_labels()[1] else label


PICTURES = {
    "sequence-to-vector": draw_conditions,
    "encoder-decoder": draw_load,
    "vector-to-sequence": draw_curves,
    "rollout": draw_rollout,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        draw_all(Path(temporary), options.folder)


if __name__ == "__main__":
    main()
