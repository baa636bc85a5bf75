"""How far back the gradient reaches: what makes long memory hard to train, and what the gates do about it.

Bengio, Simard & Frasconi 1994: through k steps the gradient is a product of k Jacobians, which vanishes or
explodes; Hochreiter & Schmidhuber 1997: a cell state that is added to keeps it.
"""

import numpy as np

from streamrnn.train.data.dataset import Dataset
from streamrnn.train.net.network import RowNetwork
from streamrnn.train.net.recurrence import ROWS

STEPS = 257  # so that the longest lag is 256
LAGS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FAINT = 0.01  # of what the newest row weighs: as good as forgotten
_BARS = " ▁▂▃▄▅▆▇█"
_DECADES = 4  # from the fullest bar to the emptiest


def gradient_reach(network: RowNetwork, dataset: Dataset) -> np.ndarray:
    """|dh/dx| of the input k rows back, k from 0, relative to the newest row's: (K,) float64.

    A root mean square over windows of the training rows, of the last layer's hidden state in some direction.
    K is 257, or as many rows as the longest sequence has.
    """
    x = windows(dataset, min(STEPS, max(len(sequence.values) for sequence in dataset.train)))
    network.forward(x, None, np.zeros(x.shape[:2], np.uint8), carried=False)
    dh = np.zeros((*x.shape[:2], network.shape.hidden), np.float32)
    dh[-1] = np.random.default_rng(0).normal(size=dh.shape[1:])
    dx = network.backward_layers(dh, inputs=True)
    assert dx is not None
    norms = np.sqrt(np.square(dx, dtype=np.float64).sum(axis=2).mean(axis=1))[::-1]
    return norms / norms[0]


def windows(dataset: Dataset, steps: int) -> np.ndarray:
    """ROWS windows of so many rows, evenly over the training part: (steps, ROWS, C) float32, standardised."""
    places = [
        (sequence.values, begin)
        for sequence in dataset.train
        for begin in range(0, len(sequence.values) - steps + 1, max(steps // ROWS, 1))
    ]
    chosen = np.linspace(0, len(places) - 1, ROWS).astype(int)
    rows = [places[place][0][places[place][1] :][:steps] for place in chosen]
    return (np.stack(rows, axis=1) - dataset.scaling.input_mean) / dataset.scaling.input_std


def describe_reach(reach: np.ndarray) -> dict[str, object]:
    """The reach at the LAGS there are, and after how many rows it stays below FAINT; None = never."""
    strong = np.flatnonzero(reach >= FAINT)
    last = int(strong[-1]) + 1
    return {
        "reach": {str(lag): float(reach[lag]) for lag in LAGS if lag < len(reach)},
        "rows": last if last < len(reach) else None,
    }


def reach_text(reaches: dict[str, np.ndarray]) -> str:
    """A table with a line, and a curve on a logarithmic scale, for each network by its name."""
    width = max(map(len, reaches))
    lags = [lag for lag in LAGS if all(lag < len(reach) for reach in reaches.values())]
    lines = [
        "how much the input of k rows back still weighs in the hidden state, the newest row's weight being 1",
        f"{'k':>{width}}" + "".join(f"{lag:>9}" for lag in lags),
    ]
    for name, reach in reaches.items():
        rows = describe_reach(reach)["rows"]
        said = f"under {FAINT:.0%} after {rows} rows" if rows else f"over {FAINT:.0%} all the way"
        curve = "".join(_bar(reach[lag]) for lag in lags)
        lines.append(
            f"{name:>{width}}" + "".join(f"{reach[lag]:9.1e}" for lag in lags) + f"  {curve}  {said}"
        )
    return "\n".join(lines)


def _bar(value: float) -> str:
    decades = np.log10(max(value, 1e-300)) + _DECADES
    return _BARS[int(np.clip(np.ceil(decades / _DECADES * (len(_BARS) - 1)), 0, len(_BARS) - 1))]
