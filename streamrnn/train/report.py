"""What came of a training, beside what is simple: for people (a table) and for programs (a dict)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamrnn.model.inspect import align
from streamrnn.table.progress import counted
from streamrnn.train.data.warnings import DataFacts
from streamrnn.train.descent import Course
from streamrnn.train.judge.likelihood import Surprise
from streamrnn.train.judge.reach import describe_reach, reach_text

PAYS = 0.01  # the least share by which a network must be better to be worth it
SPREAD_PAYS = 0.01  # and the least by which the likelihood's logarithm must be
NAMED = 8  # outputs


@dataclass(frozen=True)
class Errors:
    """Mean squared errors on the validation part, (O,) each, in standard deviations squared."""

    network: np.ndarray
    linear: np.ndarray
    simple: np.ndarray
    simple_name: str  # "persistence", or "mean"


@dataclass(frozen=True)
class TrainReport:
    """A training in figures."""

    path: str
    network: str  # in words
    outputs: list[str]
    output_std: np.ndarray  # (O,)
    errors: Errors
    frames: int  # of the linear method
    linear: str  # what that sees, in words
    facts: DataFacts
    learned: int  # rows, or sequences
    validated: int  # likewise
    unit: str  # "row" or "sequence"
    course: Course
    seconds: float
    warnings: list[str]
    right: dict[str, dict[str, float]]  # by column of text and by method: the share of sequences told right
    surprise: Surprise | None  # of each output, by method; None = the network does not say its spread
    threshold: float | None  # score at which an anomaly begins; None without a score
    weights: str  # recurrent ones, as a step holds them
    in_float32: np.ndarray | None  # (O,) the network's errors before they were rounded; None = they are not
    reaches: dict[str, np.ndarray] | None  # by network
    interrupted: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; "validation_mse" is in standard deviations squared, the root in each output's unit."""
        columns = self._columns()
        course = self.course
        description: dict[str, Any] = {
            "file": self.path,
            "network": self.network,
            "rows": {"learned": self.learned, "validated": self.validated} | self.facts._asdict(),
            "epochs": course.epoch,
            "best_epoch": course.best,
            "ended": course.ended,
            "seconds": self.seconds,
            "validation_mse": {name: float(mse.mean()) for name, mse in columns.items()},
            "validation_rmse": {
                output: {name: float(self._rmse(mse)[k]) for name, mse in columns.items()}
                for k, output in enumerate(self.outputs)
            },
            "linear_frames": self.frames,
            "warnings": self.warnings,
        }
        if self.right:
            description["validation_right"] = self.right
        if self.surprise is not None:
            description["validation_nll"] = {
                output: {name: float(of_each[k]) for name, of_each in self.surprise._asdict().items()}
                for k, output in enumerate(self.outputs)
            }
        if self.in_float32 is not None:
            description["weights"] = self.weights
            description["validation_mse_in_float32"] = float(self.in_float32.mean())
        if self.threshold is not None:
            description["threshold"] = self.threshold
        if self.reaches is not None:
            description["gradient_reach"] = {
                name: describe_reach(reach) for name, reach in self.reaches.items()
            }
        return description

    def text(self) -> str:
        course = self.course
        ended = {
            "epochs": "",
            "patience": ", as it got no better",
            "diverged": ", as it diverged (a smaller --rate may go further)",
            "interrupted": ", as it was interrupted",
        }[course.ended]
        rows = f"{counted(self.learned, self.unit)} learned from, {self.validated:,} validated on"
        epochs = f"{counted(course.epoch, 'epoch')} in {self.seconds:.1f} s{ended}; the best is {course.best}"
        columns = self._columns()
        table = [["validation error", *columns]]
        table += [
            [name, *(f"{self._rmse(mse)[k]:.4g}" for mse in columns.values())]
            for k, name in enumerate(self.outputs)
        ]
        table.append(["all, in standard deviations", *(f"{root:.4g}" for root in self.roots().values())])
        parts = [f"{self.path}: {self.network}", f"{rows}; {epochs}"]
        parts.append("\n" + align(table, "<" + ">" * len(columns)))
        parts.append(f"(root mean squares; linear: {self.linear})\n")
        if self.surprise is not None:
            parts.append(f"{surprise_table(self.surprise, self.outputs)}\n")
        for column, shares in self.right.items():
            listed = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            parts.append(f"{column} told right: {listed}")
        if self.in_float32 is not None:
            before = float(np.sqrt(self.in_float32.mean()))
            by = f"{self.roots()['network'] / before - 1:+.3%}" if before > 0 else "nothing"
            parts.append(f"recurrent weights in {self.weights} change the network's error by {by}")
        parts.append(self._verdict())
        if self.surprise is not None:
            parts.append(surprise_verdict(self.surprise, self.outputs))
        if self.threshold is not None:
            parts.append(f"an anomaly begins at a score of {self.threshold:g}")
        if self.reaches is not None:
            parts.append("\n" + reach_text(self.reaches))
        return "\n".join(parts)

    def roots(self) -> dict[str, float]:
        """Of each method, the root mean square over all outputs, in standard deviations."""
        return {name: float(np.sqrt(mse.mean())) for name, mse in self._columns().items()}

    @property
    def loses(self) -> bool:
        """Whether the simple method does better than the network."""
        return bool(self.errors.network.mean() > self.errors.simple.mean())

    def _columns(self) -> dict[str, np.ndarray]:
        errors = self.errors
        return {"network": errors.network, "linear": errors.linear, errors.simple_name: errors.simple}

    def _rmse(self, mse: np.ndarray) -> np.ndarray:
        return np.sqrt(mse) * self.output_std

    def _verdict(self) -> str:
        columns = {name: float(mse.mean()) for name, mse in self._columns().items()}
        network = columns.pop("network")
        name, best = min(columns.items(), key=lambda pair: pair[1])
        gain = 1 - network / best if best > 0 else 0.0
        if gain < PAYS:
            beside = f"{-gain:.1%} above" if gain < 0 else f"{np.floor(gain * 1e4) / 1e4:.2%} below"
            return (
                f"the network does not pay here: its squared error is {beside} that of {name}; it should be "
                f"at least {PAYS:.0%} below"
            )
        return f"the network pays: its squared error is {gain:.1%} below that of {name}"


def surprise_table(surprise: Surprise, outputs: list[str]) -> str:
    """The negative log likelihood of each output by each method."""
    table = [["negative log likelihood", *surprise._fields]]
    table += [[name, *(f"{of_each[k]:.3f}" for of_each in surprise)] for k, name in enumerate(outputs)]
    table.append(["mean", *(f"{of_each.mean():.3f}" for of_each in surprise)])
    said = (
        "(of a value in standard deviations, by Student's t; weighted and constant: linear, its spread\n"
        "a weighted mean of its last errors, or always the same; persistence: the last row, as weighted)"
    )
    return f"{align(table, '<>>>>')}\n{said}"


def surprise_verdict(surprise: Surprise, outputs: list[str]) -> str:
    """Whether it pays that a network says its spread, and of which outputs."""
    simple = {name: of_each for name, of_each in surprise._asdict().items() if name != "network"}
    name = min(simple, key=lambda name: float(simple[name].mean()))
    gains = simple[name] - surprise.network
    gain = float(gains.mean())
    if gain < SPREAD_PAYS:
        by = f"{abs(np.floor(gain * 1e3) / 1e3):.3f} {'below' if gain < 0 else 'above'}"
        return (
            f"its spread does not pay here: the likelihood's logarithm is {by} that of {name}; it should be "
            f"at least {SPREAD_PAYS:g} above"
        )
    gaining = [output for output, of_one in zip(outputs, gains, strict=True) if of_one >= SPREAD_PAYS]
    who = "all outputs gain"
    if len(gaining) < len(outputs):
        named = ", ".join(gaining[:NAMED]) + (", ..." if len(gaining) > NAMED else "")
        who = f"{len(gaining)} of {counted(len(outputs), 'output')} gain: {named}"
    return f"its spread pays: the likelihood's logarithm is {gain:.3f} above that of {name}; {who}"
