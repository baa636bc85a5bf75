"""A state dict's modules, which say what they are but not what a module's ``forward`` does with them.

They are taken one after the other, in the one order that their names and sizes allow.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.lowering import lower
from streamrnn.foreign.network import Foreign, ImportOptions, OptionsError, Stage
from streamrnn.foreign.vectors import RowVector, activated, passed, rows, scaled
from streamrnn.model.activations import PLAIN
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

# Of linear layers: the names by which PyTorch, Flax and the table of activations mean the same. Their "gelu"
# does not: Flax's is the one by tanh.
DENSE_ACTIVATIONS = (*PLAIN, "leaky_relu", "elu", "selu", "softplus", "softsign", "silu")
MODULES_ORDERED = 64  # of different names, at most
BEGINNINGS = 10_000  # of orders that are tried; past them the order counts as not told


class Norm(NamedTuple):
    """A normalisation: ``activation`` of all values of a row, or with "" none; then each is scaled."""

    activation: str
    scale: np.ndarray  # (width,)
    shift: np.ndarray


class Module(NamedTuple):
    """One nn.LSTM, nn.GRU, nn.RNN, cell, nn.Linear or normalisation by its name."""

    name: str
    stages: tuple[Stage, ...] = ()  # its layers
    norm: Norm | None = None

    @property
    def takes(self) -> int:
        return len(self.norm.scale) if self.norm else self.stages[0].sizes[0]

    @property
    def gives(self) -> int:
        return len(self.norm.scale) if self.norm else self.stages[-1].sizes[1]

    @property
    def linear(self) -> bool:
        return not self.norm and isinstance(self.stages[0].part, Dense)

    @property
    def recurrent(self) -> bool:
        return not self.norm and not self.linear


def network_of(
    library: str,
    modules: Sequence[Module],
    options: ImportOptions,
    notes: Sequence[str] = (),
    scaling: tuple[np.ndarray, np.ndarray] | None = None,
) -> Foreign:
    """The network of a state dict's modules, in a file of ``library``, behind a scaling of the inputs.

    Raises ModelError for modules that no order fits, OptionsError if the activations of linear ones are
    needed or too many.
    """
    channels = len(options.channels) if options.channels else None
    order = ordered(list(modules), channels)
    _check_dense(order, options.dense)
    said = iter(options.dense or ("linear",))
    activations = [next(said) if module.linear else "linear" for module in order]
    vector = rows(order[0].takes)
    if scaling is not None:
        mean, std = scaling
        if len(mean) != vector.width or len(mean) == order[-1].gives:
            raise ModelError(
                f"{len(mean)} means and deviations, of which it is not told whether they are those of inputs "
                "or outputs; leave them out by `--ignore`, and say them by --mean, --std, --output-mean and "
                "--output-std"
            )
        vector = scaled(vector, "the scaling", 1 / std.astype(np.float64), -mean / std.astype(np.float64))
    for module, activation in zip(order, activations, strict=True):
        vector = _after(vector, module, activation)
    if len(order) > 1:
        names = ", then ".join(f"{quoted(one.name)} ({one.takes} to {one.gives})" for one in order)
        notes = [
            f"a state dict does not say what forward() does; it is taken to run {names}, and nothing else",
            *notes,
        ]
    plan = [*zip(order, activations, strict=True)]
    return lower(library, vector, notes, plan=plan)


def _after(vector: RowVector, module: Module, activation: str) -> RowVector:
    """After one module."""
    if module.norm is not None:
        if module.norm.activation:
            vector = activated(vector, module.name, module.norm.activation)
        return scaled(vector, module.name, module.norm.scale, module.norm.shift)
    for stage in module.stages:
        part = stage.part
        if isinstance(part, Dense):
            stage = stage._replace(part=Dense(part.weight, part.bias, activation))
        vector = passed(vector, stage)
    return vector


def _check_dense(modules: Sequence[Module], activations: Sequence[str] | None) -> None:
    """Raise OptionsError unless there are as many activations as linear layers; one layer needs none."""
    linear = [quoted(module.name) for module in modules if module.linear]
    names = ", ".join(linear[:12])
    if activations is None and len(linear) > 1:
        raise OptionsError(
            f"{len(linear)} linear layers ({names}), but not what is between them; say "
            "their activations in this order, as in `--dense tanh,linear`"
        )
    if activations is not None and len(activations) != len(linear):
        found = f"{len(linear)} linear layers ({names})" if linear else "no linear layer"
        raise OptionsError(f"--dense: {len(activations)} activations for {found}")


def ordered(modules: list[Module], channels: int | None = None) -> list[Module]:
    """The modules in the one order that their names and sizes allow.

    Names that differ by a number alone (lstm, lstm2; net.0, net.2) follow each other by it; otherwise each
    takes as many values as the one before it gives, the first one ``channels``. Raises ModelError where no
    order is left, or several; without channels that fit, a single linear layer comes last if it can.
    """
    by_number = sorted(modules, key=lambda module: [int(n[:18]) for n in re.findall(r"\d+", module.name)])
    groups: dict[str, list[Module]] = defaultdict(list)
    for module in by_number:
        groups[re.sub(r"\d+", "", module.name)].append(module)
    if len(groups) <= 1:
        return by_number
    orders: list[list[Module]] = []
    if len(modules) <= MODULES_ORDERED:
        orders = _orders([*groups.values()]) or _orders([[module] for module in modules])
    fitting = [order for order in orders if channels == order[0].takes]
    orders = fitting or orders
    if not fitting and sum(module.linear for module in modules) == 1:
        orders = [order for order in orders if order[-1].linear] or orders
    orders = [order for order in orders if not order[-1].norm] or orders
    if len(orders) == 1:
        return orders[0]
    names = ", ".join(f"{quoted(module.name)} {module.takes} to {module.gives}" for module in by_number[:12])
    ways = "several ways" if orders else "no way"
    raise ModelError(
        f"its {len(modules)} modules ({names}) can follow each other in {ways} that their names and sizes "
        "tell; save them as net.0, net.1, ... in the order in which a row passes them, "
        "or leave out by `--ignore` what no answer needs"
    )


def _orders(groups: list[list[Module]]) -> list[list[Module]]:
    """The orders of all modules that keep that of each group and in which the sizes fit, but see BEGINNINGS.

    Recurrent modules follow each other without a linear one between them: so an encoder and its decoder are
    not taken for a stack, which only numbers in their names can say.
    """
    found: list[list[Module]] = []
    waiting: list[tuple[list[Module], list[list[Module]]]] = [([], groups)]
    for _ in range(BEGINNINGS):
        if not waiting:
            break
        order, left = waiting.pop()
        if not any(left):
            found.append(order)
        for k, group in enumerate(left):
            if group and _fits(order, group[0]):
                waiting.append(([*order, group[0]], [*left[:k], group[1:], *left[k + 1 :]]))
    return [] if waiting else found


def _fits(order: list[Module], module: Module) -> bool:
    """Whether ``module`` can follow those of ``order``."""
    if not order:
        return True
    split = module.recurrent and order[-1].linear and any(done.recurrent for done in order)
    return order[-1].gives == module.takes and not split
