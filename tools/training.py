"""Training here beside training with PyTorch: the time of an epoch, and the error of what comes out.

    pip install torch                            # into the environment that has streamrnn
    OPENBLAS_NUM_THREADS=1 python tools/training.py speed
    OPENBLAS_NUM_THREADS=1 python tools/training.py error
    python tools/training.py memory              # the adding problem; needs no torch
    python tools/training.py recordings ../shared/data   # networks beside simple methods, on SKAB and ETTh1
    python tools/training.py spread ../shared/data       # what it is worth that a network says its spread

Both run on one thread, warm, on the same sizes and the same data, in turns.
"""

import argparse
import copy
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamrnn.demo.recording import record
from streamrnn.table import Reading
from streamrnn.train.data.dataset import Dataset, Scaling, Sequence, load
from streamrnn.train.data.lanes import Lanes
from streamrnn.train.data.recording import DataOptions
from streamrnn.train.data.warnings import DataFacts
from streamrnn.train.descent import AVERAGE, RISE, TrainSettings
from streamrnn.train.fit import chunks, fit, mean_error
from streamrnn.train.fit_spread import fit_with_spread
from streamrnn.train.judge.likelihood import linear_network, surprises
from streamrnn.train.judge.linear import Linear, linear_autoregression, persistence
from streamrnn.train.net.adam import Adam
from streamrnn.train.net.network import NetworkShape, RowNetwork

SIZES = ((8, 32, 32), (8, 64, 32), (16, 128, 64))  # inputs, hidden units, lanes
CHUNK = 64
ROUNDS = 9


def make_dataset(values: np.ndarray, targets: np.ndarray, cut: int) -> Dataset:
    """One stream whose rows before ``cut`` are learned from, the others validated on."""
    width, outputs = values.shape[1], targets.shape[1]
    parts = [[Sequence("s", values[part], targets[part])] for part in (slice(cut), slice(cut, None))]
    scaling = Scaling(
        values[:cut].mean(0), values[:cut].std(0), np.nanmean(targets[:cut], 0), np.nanstd(targets[:cut], 0)
    )
    names = [f"c{k}" for k in range(width)], [f"y{k}" for k in range(outputs)]
    return Dataset(*names, "value", 0, 0.0, *parts, scaling, DataFacts(1, 1, len(values), 0, 0, 0, 0), [])


def speed() -> None:
    """The time of an epoch: data into lanes, forwards, backwards, clipping and Adam; 20,000 rows."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print("ms per epoch of 20,000 rows; x = how many times ours PyTorch takes")
    print(f"{'cell':>6}{'in':>4}{'hidden':>8}{'lanes':>7}{'ours':>9}{'torch':>9}{'x':>6}  (least, most)")
    for cell in ("lstm", "gru", "rnn"):
        for inputs, hidden, lanes in SIZES:
            rows = rng.normal(size=(25_000, inputs)).astype(np.float32)
            dataset = make_dataset(rows[:-1], rows[1:], 20_000)
            ours = our_epoch(cell, hidden, lanes, dataset)
            theirs = torch_epoch(torch, cell, hidden, lanes, dataset)
            ours(), theirs()
            pairs = [(clocked(ours), clocked(theirs)) for _ in range(ROUNDS)]
            ratios = sorted(b / a for a, b in pairs)
            ms = [statistics.median(times) * 1000 for times in zip(*pairs, strict=True)]
            print(
                f"{cell:>6}{inputs:4}{hidden:8}{lanes:7}{ms[0]:9.1f}{ms[1]:9.1f}"
                f"{statistics.median(ratios):6.2f}  ({ratios[0]:.2f}, {ratios[-1]:.2f})",
                flush=True,
            )


def clocked(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def our_epoch(cell: str, hidden: int, lanes: int, dataset: Dataset) -> Callable[[], None]:
    network = RowNetwork(NetworkShape(cell, len(dataset.channels), len(dataset.outputs), hidden))
    network.start(np.random.default_rng(0))
    optimiser = Adam(network, 1.0)

    def epoch() -> None:
        packed = Lanes(dataset.train, dataset.scaling, lanes)
        for carried, chunk, _ in chunks(packed, 0, CHUNK):
            error = (network.forward(chunk.x, None, chunk.begins, carried) - chunk.y) * chunk.weight
            network.backward(error * np.float32(2 / chunk.weight.sum()))
            optimiser.update(1e-3, 1e-2)

    return epoch


def torch_epoch(torch, cell: str, hidden: int, lanes: int, dataset: Dataset) -> Callable[[], None]:
    net, head, weights = torch_network(torch, cell, len(dataset.channels), hidden, len(dataset.outputs))
    optimiser = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1e-2, fused=True)

    def epoch() -> None:
        packed = Lanes(dataset.train, dataset.scaling, lanes).chunk(0, 1 << 30)
        x, y = torch.from_numpy(packed.x), torch.from_numpy(packed.y)
        state = None
        for begin in range(0, len(x), CHUNK):
            top, state = net(x[begin : begin + CHUNK], state)
            state = tuple(part.detach() for part in state) if cell == "lstm" else state.detach()
            loss = torch.nn.functional.mse_loss(head(top), y[begin : begin + CHUNK])
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()

    return epoch


def torch_network(torch, cell: str, inputs: int, hidden: int, outputs: int):
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell]
    net, head = kind(inputs, hidden), torch.nn.Linear(hidden, outputs)
    return net, head, [*net.parameters(), *head.parameters()]


def mackey_glass(rows: int, seed: int) -> np.ndarray:
    """Mackey & Glass 1977 with a delay of 17, by steps of 0.1, every tenth kept: (rows,) float32."""
    rng, delay, step = np.random.default_rng(seed), 170, 0.1
    x = np.full(rows * 10 + 2000 + delay, 1.2)
    x[:delay] += rng.normal(0, 0.05, delay)
    for t in range(delay, len(x)):
        past = x[t - delay]
        x[t] = x[t - 1] + step * (0.2 * past / (1 + past**10) - 0.1 * x[t - 1])
    return x[2000 + delay :: 10].astype(np.float32)


def error() -> None:
    """The error on rows that neither saw, of networks of one size, data and schedule, by seed."""
    import torch

    torch.set_num_threads(1)
    series = mackey_glass(9000, 0)[:, None]
    noisy = series + np.random.default_rng(1).normal(0, 0.02, series.shape).astype(np.float32)
    values, targets = noisy[:-6], series[6:]
    dataset = make_dataset(values[:7000], targets[:7000], 5600)
    held = make_dataset(values, targets, 7000).validation
    held = dataset._replace(validation=held)
    settings = TrainSettings(epochs=60, patience=60, dropout=0.0, rate=5e-3)
    print("mean square error of Mackey-Glass 6 rows ahead, in standard deviations squared, LSTM 1 -> 32")
    both = []
    for seed in range(5):
        chosen = TrainSettings(**(vars(settings) | {"seed": seed}))
        ours = fit(dataset, NetworkShape("lstm", 1, 1, 32), chosen, None)[0]
        both.append((held_error(ours.forward, held), torch_fit(torch, dataset, chosen, held)))
        print(f"seed {seed}: ours {both[-1][0]:.5f}  torch {both[-1][1]:.5f}", flush=True)
    ours_mean, torch_mean = np.mean(both, axis=0)
    print(f"mean: ours {ours_mean:.5f}  torch {torch_mean:.5f}  ours / torch {ours_mean / torch_mean:.3f}")


def held_error(forward: Callable[..., np.ndarray], dataset: Dataset) -> float:
    packed = Lanes(dataset.validation, dataset.scaling, 16, overlap=512)
    chunk = packed.chunk(0, packed.steps)
    error = (forward(chunk.x, None, chunk.begins, False) - chunk.y) * chunk.weight
    return float((error**2).sum() / chunk.weight.sum())


def torch_fit(torch, dataset: Dataset, settings: TrainSettings, held: Dataset) -> float:
    """The schedule of ``streamrnn.train.descent`` with torch.nn.LSTM, autograd and torch's AdamW."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    net, head, weights = torch_network(torch, "lstm", 1, 32, 1)
    for tensor in weights:
        if tensor.ndim == 1:
            torch.nn.init.zeros_(tensor)
        elif tensor is net.weight_hh_l0:
            for gate in tensor.data.chunk(4):
                torch.nn.init.orthogonal_(gate)
        else:
            bound = math.sqrt(6 / (tensor.shape[1] + (1 if tensor is head.weight else 32)))
            torch.nn.init.uniform_(tensor, -bound, bound)
    torch.nn.init.ones_(net.bias_ih_l0.data[32:64])
    average = [tensor.detach().clone() for tensor in weights]
    decayed = [{"params": [w for w in weights if w.ndim == 2], "weight_decay": settings.decay}]
    decayed += [{"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(decayed, lr=settings.rate)
    updates, best, kept = 0, math.inf, None

    def forward(x, past, begins, carried):
        with torch.no_grad():
            saved = copy.deepcopy([w.data for w in weights])
            for weight, mean in zip(weights, average, strict=True):
                weight.data.copy_(mean)
            top, _ = net(torch.from_numpy(x))
            out = head(top).numpy()
            for weight, value in zip(weights, saved, strict=True):
                weight.data.copy_(value)
            return out

    for epoch in range(settings.epochs):
        offset = int(rng.integers(len(dataset.train[0].values)))
        packed = Lanes(dataset.train, dataset.scaling, settings.lanes, offset)
        state, count = None, -(-packed.steps // settings.chunk)
        for number, (_, chunk, _) in enumerate(chunks(packed, 0, settings.chunk), 1):
            # torch.nn.LSTM cannot begin anew within a chunk: it goes on, where ours begins
            top, state = net(torch.from_numpy(chunk.x), state)
            state = tuple(part.detach() for part in state)
            error = (head(top) - torch.from_numpy(chunk.y)) * torch.from_numpy(chunk.weight)
            loss = error.square().sum() / float(chunk.weight.sum())
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, settings.clip)
            done = (epoch + number / count) / settings.epochs
            rate = settings.rate * (1 + math.cos(math.pi * done)) / 2 * min(1.0, (updates + 1) / RISE)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            updates += 1
            keep = min(AVERAGE, updates / (updates + 10))
            for mean, weight in zip(average, weights, strict=True):
                mean += (1 - keep) * (weight.detach() - mean)
        error = held_error(forward, dataset)
        if error < best:
            best, kept = error, copy.deepcopy(average)
    for mean, value in zip(average, kept, strict=True):
        mean.copy_(value)
    return held_error(forward, held)


def memory() -> None:
    """The adding problem (Hochreiter & Schmidhuber 1997): the sum of two marked numbers among 100."""
    print("adding problem, 100 rows; the error of always saying the mean is 0.167 (1.0 standardised)")
    dataset = adding(4000, 100)
    for cell in ("rnn", "gru", "lstm"):
        settings = TrainSettings(
            epochs=60, patience=60, chunk=500, lanes=32, dropout=0.0, rate=4e-3, decay=0.0
        )
        began = time.perf_counter()
        _, course = fit(dataset, NetworkShape(cell, 2, 1, 32), settings, None)
        print(
            f"{cell:>6}: {course.errors[course.best]:.4f} standardised, {course.epoch} epochs, "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )


def adding(count: int, rows: int) -> Dataset:
    """``count`` sequences to learn from and a tenth of that to validate on; the target is on the last row."""
    rng = np.random.default_rng(0)

    def sequence() -> Sequence:
        values = np.zeros((rows, 2), np.float32)
        values[:, 0] = rng.random(rows)
        values[rng.integers(rows // 10), 1] = 1
        values[rng.integers(rows // 10, rows // 2), 1] = 1
        targets = np.full((rows, 1), np.nan, np.float32)
        targets[-1] = values[values[:, 1] > 0, 0].sum()
        return Sequence("s", values, targets)

    learned, checked = ([sequence() for _ in range(size)] for size in (count, count // 10))
    one = np.ones(2, np.float32)
    scaling = Scaling(one * 0, one, np.float32([1]), np.sqrt(np.float32([1 / 6])))
    names = ["number", "mark"], ["sum"]
    return Dataset(
        *names, "value", 0, 0.0, learned, checked, scaling, DataFacts(1, count, count * rows, 0, 0, 0, 0), []
    )


def recordings(folder: Path) -> None:
    """Errors one row ahead on rows that nothing was chosen by: the last of a recording, or simulated anew."""
    print("mean square errors in standard deviations squared, networks: the mean of 5 seeds (least, most)")
    with tempfile.TemporaryDirectory() as temporary:
        pumps = [Path(temporary) / name for name in ("learned.csv", "tested.csv")]
        record(pumps[0], 1200, seed=1)
        record(pumps[1], 600, seed=2)
        by_machine = Reading(stream="machine")
        learned = load(DataOptions((str(pumps[0]),), reading=by_machine))
        beside(
            "simulated pumps",
            learned,
            load(DataOptions((str(pumps[1]),), reading=by_machine, validation=0.99)),
        )
    skab = str(folder / "skab" / "anomaly-free" / "anomaly-free.csv")
    learned = load(DataOptions((skab,), reading=Reading(limit=7524)))
    beside("SKAB, anomaly-free", learned, load(DataOptions((skab,))))
    ett = str(folder / "ett" / "ETTh1.csv")
    learned = load(DataOptions((ett,), reading=Reading(limit=11520), validation=0.25))
    beside("ETTh1", learned, load(DataOptions((ett,), reading=Reading(limit=14400))))


def beside(what: str, learned: Dataset, tested: Dataset) -> None:
    """Trains on a dataset and prints errors on the validation part of another."""
    held = learned._replace(validation=tested.validation)
    linear = linear_autoregression(learned)
    print(f"{what}: persistence {persistence(held).errors.mean():.5f}", end="")
    print(f", linear over {linear.frames} rows {linear_error(linear, held):.5f}", end="", flush=True)
    for cell in ("lstm", "gru"):
        shape = NetworkShape(cell, len(learned.channels), len(learned.outputs), 32, highway=linear.frames)
        errors = [
            mean_error(fit(learned, shape, TrainSettings(seed=seed), linear)[0], held) for seed in range(5)
        ]
        print(f", {cell} {np.mean(errors):.5f} ({min(errors):.5f}, {max(errors):.5f})", end="", flush=True)
    print()


def linear_error(linear: Linear, dataset: Dataset) -> float:
    """A network whose recurrent part says nothing is its highway."""
    return mean_error(linear_network(linear, dataset), dataset)


def spread(folder: Path) -> None:
    """What a network's spread is worth on rows that nothing was chosen by, and what its forecasts are."""
    print(
        "negative log likelihood per value, by Student's t, and mean square error one row ahead, of an lstm\n"
        "of 32: the mean of 5 seeds (least, most); beside it a weighted and a constant spread of the linear\n"
        "forecast's errors, and a weighted one of persistence's"
    )
    with tempfile.TemporaryDirectory() as temporary:
        pumps = [Path(temporary) / name for name in ("monday.csv", "tuesday.csv")]
        record(pumps[0], 1800, seed=1)
        record(pumps[1], 900, seed=2)
        by_machine = Reading(stream="machine")
        learned = load(DataOptions((str(pumps[0]),), reading=by_machine))
        tested = load(DataOptions((str(pumps[1]),), reading=by_machine, validation=0.99))
    ett, skab = folder / "ett" / "ETTh1.csv", folder / "skab" / "anomaly-free" / "anomaly-free.csv"
    cut = load(DataOptions((str(ett),), reading=Reading(limit=11520), validation=0.25))
    spread_beside("ETTh1", cut, load(DataOptions((str(ett),), reading=Reading(limit=14400))))
    first = load(DataOptions((str(skab),), reading=Reading(limit=7524)))
    spread_beside("SKAB, anomaly-free", first, load(DataOptions((str(skab),))))
    spread_beside("simulated pumps", learned, tested)


def spread_beside(what: str, learned: Dataset, tested: Dataset) -> None:
    """Trains on a dataset, with a spread and without, and prints what comes of it on the tested rows."""
    held = learned._replace(validation=tested.validation)
    linear, found = linear_autoregression(learned), []
    shape = NetworkShape("lstm", len(learned.channels), len(learned.outputs), 32, highway=linear.frames)
    for seed in range(5):
        settings = TrainSettings(seed=seed)
        plain = fit(learned, shape, settings, linear)[0]
        network = fit_with_spread(learned, replace(shape, spread=True), settings, linear)[0]
        surprise = surprises(network, learned, linear, tested.validation)
        errors = (mean_error(one, held) for one in (network, plain))
        found.append([*(float(of_each.mean()) for of_each in surprise), *errors])
    (nll, weighted, constant, same, error, usual), nlls = np.mean(found, axis=0), [one[0] for one in found]
    print(
        f"{what}: {nll:.4f} ({min(nlls):.4f}, {max(nlls):.4f}), weighted {weighted:.4f}, "
        f"constant {constant:.4f}, persistence {same:.4f}; error {error:.5f}, without a spread {usual:.5f}, "
        f"linear {linear_error(linear, held):.5f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "error", "memory", "recordings", "spread"])
    parser.add_argument("folder", nargs="?", type=Path, help="of recordings")
    options = parser.parse_args()
    of_a_folder = {"recordings": recordings, "spread": spread}
    if options.what in of_a_folder:
        if options.folder is None:
            parser.error(f"{options.what} is of a folder: name it")
        of_a_folder[options.what](options.folder)
        return
    try:
        {"speed": speed, "error": error, "memory": memory}[options.what]()
    except ModuleNotFoundError as missing:
        sys.exit(f"error: {missing.name} is not installed: pip install {missing.name}")


if __name__ == "__main__":
    main()
