"""A digest of what the engine answers to random rows and what it remembers.

    python tools/digest.py > before; git switch ...; python tools/digest.py | diff before -

Eight models, 20,000 rows of 40 streams each: rows missing, late and twice, missing and infinite values, ends
and resets of sequences, corrections of forecasts, answers of several rows. The same on every processor, and
for every Numba.
"""

import hashlib
from typing import Any

import numpy as np

from streamrnn.engine.engine import Engine
from streamrnn.kernels.network import Network
from streamrnn.model.model import Model, random_model
from streamrnn.settings.sections import Faults, Predict
from streamrnn.stats import REASONS
from streamrnn.streams.record import (
    COUNT,
    DEGRADED,
    ENDED,
    EPOCH,
    FILLED,
    FIRST,
    MISSED,
    RESTORED,
    STEP,
    TS,
)
from streamrnn.streams.record import (
    SEQ as NUMBER,
)
from streamrnn.streams.score_part import EVENT_ROWS, SCALARS, VECTORS
from streamrnn.wire.frame import END, RESET, SEQ

ROWS, STREAMS, CHANNELS = 20_000, 40, 5
VALUES: dict[str, Any] = {"outputs": [{"name": "y0"}, {"name": "y1"}], "target": "value"}
MODELS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "two LSTM layers": ("lstm", 24, {"layers": 2, "highway": 4}),
    "GRU": ("gru", 20, {"missing": ["-9999"]}),
    "LSTM that looks back": ("lstm", 16, {"highway": 9}),
    "ReLU neuron": ("rnn", 17, {"activation": "relu"}),
    "sLSTM": ("slstm", 18, {"layers": 2}),
    "encoder-decoder": ("lstm", 12, {"relation": "encoder-decoder", "horizon": 3} | VALUES),
    "vector-to-sequence": ("gru", 12, {"relation": "vector-to-sequence", "horizon": 4} | VALUES),
    "layers of several kinds": (
        "mixed",
        17,
        {
            "layers": 3,
            "cells": [
                {"cell": "lstm", "output_activation": "elu"},
                {"cell": "gru", "activation": "softsign", "recurrent_activation": "hard_sigmoid"},
                {"cell": "rnn", "activation": "gelu"},
            ],
            "before": [{"units": 17, "activation": "silu"}],
            "between": [
                [{"units": 20, "activation": "softmax"}, {"units": 17, "activation": "softplus"}],
                [],
            ],
            "after": [{"units": 9, "activation": "layer_norm"}],
            "skips": [[0, 2], [1, 4]],
            "highway": 2,
        },
    ),
}
HOW: dict[str, dict[str, Any]] = {  # beside the default
    "two LSTM layers": {"faults": Faults(gap="predict", missing="predict"), "memory": 200},
    "GRU": {"faults": Faults(max_gap=8), "predict": Predict(horizon=3, every=7)},
    "LSTM that looks back": {"faults": Faults(gap="hold"), "predict": Predict(horizon=12, every=5)},
    "ReLU neuron": {"faults": Faults(gap="step", missing="reject")},
    "encoder-decoder": {"predict": Predict(every=9)},
}

FIELDS = (
    *("outcome", "answers", "flags", "seq", "ts_ns", "step", "score", "begins", "shares", "gap", "epoch"),
    *("residual", "values", "several"),
)


def make(name: str) -> Model:
    cell, hidden, settings = MODELS[name]
    rng = np.random.default_rng(hidden)
    mean, std = rng.normal(0, 10, CHANNELS), rng.uniform(0.5, 20, CHANNELS)
    return random_model(cell, CHANNELS, hidden, mean=mean, std=std, sample_period_s=0.01, **settings)


def score_parts(net: Network) -> list[tuple[int, int]]:
    """Where in the score's part of a record its scalars and vectors begin, and how long each is."""
    if not net.forecasts:
        return []
    vectors = [(SCALARS + k * net.score_width, net.outputs) for k in range(VECTORS)]
    return [(0, SCALARS), *vectors]


def parts(engine: Engine) -> list[np.ndarray]:
    """What the records hold, wherever that stands in them."""
    slots, net = engine.core.slots, engine.core.net
    records = slots.state.reshape(-1, slots.words)[: slots.capacity].copy()
    if net.forecasts:  # of an event that goes on: behind what digests were first made of
        records[:, slots.score_at + EVENT_ROWS : slots.score_at + SCALARS] = 0
    words, halves = records.view(np.uint64), records.view(np.uint32)
    return [
        *(words[:, of] for of in (NUMBER, TS, STEP, COUNT, FIRST)),
        *(halves[:, of] for of in (EPOCH, ENDED, DEGRADED, RESTORED, FILLED, MISSED)),
        records[:, slots.input_at : slots.score_at],
        *(records[:, slots.score_at + at : slots.score_at + at + width] for at, width in score_parts(net)),
        records[:, slots.adapt_at : slots.forecast_at],
        records[:, slots.prediction_at : slots.prediction_at + net.out_width],
        records[:, slots.hidden_at : slots.past_at],
    ]


def digest_of(name: str) -> str:
    """SHA-256, in hex, of all answers of a model and of its streams' last records but for when they came."""
    model, rng = make(name), np.random.default_rng(7)
    engine = Engine(model, STREAMS + 2, **{"faults": Faults()} | HOW.get(name, {}))
    ids = [f"stream {k}" for k in range(STREAMS)]
    stream = rng.integers(0, STREAMS, ROWS)
    steps = rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 0, 2, 5, 12], ROWS)
    seq = np.zeros(ROWS, np.uint64)
    for k in range(STREAMS):
        seq[stream == k] = np.cumsum(steps[stream == k])
    values = (rng.normal(0, 1.5, (ROWS, CHANNELS)) * model.input_std + model.input_mean).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    values[rng.random(values.shape) < 0.005] = -9999
    values[rng.random(values.shape) < 0.001] = np.inf
    flags = SEQ | np.where(rng.random(ROWS) < 0.01, END, 0) | np.where(rng.random(ROWS) < 0.005, RESET, 0)
    digest, begin = hashlib.sha256(), 0
    while begin < ROWS:
        part = slice(begin, begin + int(rng.integers(1, 700)))
        said = engine.feed(ids, stream[part], values[part], seq[part], None, flags[part].astype(np.uint16))
        for field in FIELDS:
            digest.update(np.ascontiguousarray(getattr(said, field)).tobytes())
        begin = part.stop
    for part in parts(engine):
        digest.update(np.ascontiguousarray(part).tobytes())
    counts = dict(zip(REASONS, engine.stats.rejected.tolist(), strict=True))
    digest.update(engine.stats.resets.tobytes() + repr({why: n for why, n in counts.items() if n}).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    for model_name in MODELS:
        print(f"{digest_of(model_name)}  {model_name}")
