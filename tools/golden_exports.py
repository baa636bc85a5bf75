#!/usr/bin/env python3
"""Writes tests/golden/onnx: seeded PyTorch modules as both of its exporters write them, and what they give.

Needs PyTorch, onnx and onnxscript, and is needed only to add a case: the tests read what it wrote.
"""

from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
import torch

FOLDER = Path(__file__).parents[1] / "tests" / "golden" / "onnx"
CHANNELS, HIDDEN, OUTPUTS = 3, 5, 2
STEPS, EVERY = 10_000, 50
FIXED = 7  # rows of an export without free dimensions


class Net(torch.nn.Module):
    """One nn.LSTM, nn.GRU or nn.RNN, and around it what ``how`` says."""

    def __init__(self, kind: str, layers: int, how: str = "", **settings: object) -> None:
        super().__init__()
        self.how = how
        width = 4 if how == "scaled" else CHANNELS
        self.core = getattr(torch.nn, kind)(width, HIDDEN, layers, **settings)
        self.head = torch.nn.Linear(HIDDEN, OUTPUTS)
        self.enter = torch.nn.Linear(CHANNELS, width)
        for name, size in (("mean", CHANNELS), ("output_mean", OUTPUTS)):
            self.register_buffer(name, torch.randn(size))
        for name, size in (("std", CHANNELS), ("output_std", OUTPUTS)):
            self.register_buffer(name, torch.rand(size) + 0.5)

    def forward(self, rows: torch.Tensor, *states: torch.Tensor) -> torch.Tensor | tuple:
        if self.how == "scaled":
            rows = torch.tanh(self.enter((rows - self.mean) / self.std))
        hidden, after = self.core(rows, *((states,) if len(states) == 2 else states))
        if self.how == "scaled":
            last = hidden if self.training else hidden[:, -1]  # training: what every row would have given
            return self.head(torch.relu(last)) * self.output_std + self.output_mean
        if self.how == "flat":
            flat = torch.sigmoid(self.head(hidden.reshape(-1, HIDDEN)))
            return flat.reshape(hidden.shape[0], hidden.shape[1], OUTPUTS)
        return (self.head(hidden), after) if states else self.head(hidden)


def strip(path: Path) -> None:
    """Remove the lines of source, with their paths, that the exporter notes beside each node."""
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]
    onnx.save(model, path)


def main() -> None:
    torch.manual_seed(4)
    FOLDER.mkdir(parents=True, exist_ok=True)
    # the tests draw the same rows
    rows = torch.from_numpy(np.random.default_rng(4).standard_normal((STEPS, CHANNELS), np.float32))
    state = torch.zeros(2, 1, HIDDEN)
    cases = {
        "lstm": (Net("LSTM", 2, batch_first=True), ()),
        "gru": (Net("GRU", 3), ()),
        "rnn": (Net("RNN", 2, batch_first=True), ()),
        "relu": (Net("RNN", 1, nonlinearity="relu"), ()),
        "scaled": (Net("GRU", 1, "scaled", batch_first=True), ()),
        "flat": (Net("LSTM", 1, "flat", batch_first=True), ()),
        "states": (Net("LSTM", 2, "states", batch_first=True, bias=False), (state, state)),
    }
    outputs = {}
    for name, (module, states) in cases.items():
        time_first = not module.core.batch_first
        example = (torch.zeros((FIXED, 1, CHANNELS) if time_first else (1, FIXED, CHANNELS)), *states)
        module.eval()
        free = {"rows": {0: "time", 1: "batch"} if time_first else {0: "batch", 1: "time"}}
        names = ["rows", "h", "c"][: len(example)]
        path = FOLDER / f"{name}-script.onnx"
        torch.onnx.export(module, example, path, dynamo=False, input_names=names, dynamic_axes=free)
        if name != "rnn":  # which is unrolled, as relu is
            path = FOLDER / f"{name}-dynamo.onnx"
            torch.onnx.export(module, example, path, dynamo=True, input_names=names, external_data=False)
            strip(path)
        module.train(module.how == "scaled")
        with torch.no_grad():
            found = module(rows[:, None] if time_first else rows[None], *states)
        found = found[0] if states else found
        outputs[name] = found.reshape(STEPS, OUTPUTS)[::EVERY].contiguous().numpy()
    safetensors.numpy.save_file(outputs, FOLDER / "outputs.safetensors")


if __name__ == "__main__":
    main()
