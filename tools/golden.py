#!/usr/bin/env python3
"""Writes tests/golden/torch, state dicts of seeded PyTorch modules and what they give, and golden/gradients.

Needs PyTorch, and is needed only to add a case: the tests read what it wrote.
"""

from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
FOLDER, GRADIENTS = GOLDEN / "torch", GOLDEN / "gradients"
CHANNELS, HIDDEN, OUTPUTS = 3, 8, 2
STEPS, EVERY = 10_000, 50
MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
CELLS = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}


class Stack(torch.nn.Module):
    """One nn.LSTM, nn.GRU or nn.RNN, and a linear head."""

    def __init__(self, kind: str, layers: int, **settings: object) -> None:
        super().__init__()
        self.core = MODULES[kind](CHANNELS, HIDDEN, layers, **settings)
        self.head = torch.nn.Linear(HIDDEN, OUTPUTS)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.core(rows)[0])


class Chain(torch.nn.Module):
    """Cells in a row, with a linear head."""

    def __init__(self, kind: str, layers: int, **settings: object) -> None:
        super().__init__()
        sizes = [CHANNELS] + [HIDDEN] * (layers - 1)
        self.cells = torch.nn.ModuleList(CELLS[kind](size, HIDDEN, **settings) for size in sizes)
        self.head = torch.nn.Linear(HIDDEN, OUTPUTS)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        states: list = [None] * len(self.cells)
        outputs = []
        for row in rows:
            value = row
            for k, cell in enumerate(self.cells):
                states[k] = cell(value, states[k])
                value = states[k][0] if isinstance(cell, torch.nn.LSTMCell) else states[k]
            outputs.append(self.head(value))
        return torch.stack(outputs)


class Surrounded(torch.nn.Module):
    """A linear layer in front, two behind, and two recurrent modules of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = torch.nn.Linear(CHANNELS, 6)
        self.lstm = torch.nn.LSTM(6, 12)
        self.lstm2 = torch.nn.LSTM(12, HIDDEN, bias=False)
        self.fc = torch.nn.Linear(HIDDEN, 5)
        self.head = torch.nn.Linear(5, OUTPUTS, bias=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = self.lstm2(self.lstm(torch.relu(self.enter(rows)))[0])[0]
        return self.head(torch.sigmoid(self.fc(rows)))


def gradients(kind: str, layers: int, **settings: object) -> dict[str, np.ndarray]:
    """Weights, two chunks of rows with targets, and the gradient of the second's mean square error.

    The state is carried over and the gradient is not. All in float64, rows (2, T, B, ...).
    """
    stack = Stack(kind, layers, **settings).double()
    x, y = (torch.randn(2, 5, 16, size, dtype=torch.float64) for size in (CHANNELS, OUTPUTS))
    _, state = stack.core(x[0])
    state = tuple(part.detach() for part in state) if kind == "lstm" else state.detach()
    predicted = stack.head(stack.core(x[1], state)[0])
    torch.nn.functional.mse_loss(predicted, y[1]).backward()
    arrays = {"x": x, "y": y}
    for name, weight in stack.named_parameters():
        ours = name.removeprefix("core.")
        arrays |= {f"weight {ours}": weight.detach(), f"gradient {ours}": weight.grad}
    return {name: array.numpy() for name, array in arrays.items()}


def main() -> None:
    torch.manual_seed(4)
    cases: dict[str, torch.nn.Module] = {
        "surrounded": Surrounded(),
        "relu": Stack("rnn", 2, nonlinearity="relu"),
    }
    for kind in MODULES:
        cases |= {f"{kind}-{layers}": Stack(kind, layers) for layers in (1, 2, 3)}
        cases[f"{kind}-cells"] = Chain(kind, 2)
    # the tests draw the same rows
    rows = np.random.default_rng(4).standard_normal((STEPS, CHANNELS), np.float32)
    for folder in (FOLDER, GRADIENTS):
        folder.mkdir(parents=True, exist_ok=True)
    outputs = {}
    for name, module in cases.items():
        save_file(module.state_dict(), FOLDER / f"{name}.safetensors", {"format": "pt"})
        with torch.inference_mode():
            outputs[name] = module(torch.from_numpy(rows))[::EVERY].contiguous().numpy()
    safetensors.numpy.save_file(outputs, FOLDER / "outputs.safetensors")
    for kind in MODULES:
        for layers in (1, 2, 3):
            safetensors.numpy.save_file(gradients(kind, layers), GRADIENTS / f"{kind}-{layers}.safetensors")
    relu = gradients("rnn", 2, nonlinearity="relu")
    safetensors.numpy.save_file(relu, GRADIENTS / "relu-2.safetensors")


if __name__ == "__main__":
    main()
