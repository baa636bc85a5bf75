"""The layers of a chain as a model file has them: recurrent ones all of as many units, weights in place.

Each layer's units stand at an offset among the hidden ones. Where vectors are added to each other and the
next product has other weights for each, their places do not overlap: then the sum is one behind the other.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from streamrnn.foreign.network import Foreign, Stage
from streamrnn.foreign.vectors import Form, Product, RowVector
from streamrnn.model.activations import find_activation
from streamrnn.model.cells import GATES, Cell
from streamrnn.model.parts import Dense, Layer
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

WIDENED_LIMIT = 1 << 28  # weights
OF_ZERO = ("sigmoid", "hard_sigmoid", "softplus", "affine", "clip")  # which may not be 0 there


def place(
    library: str, products: Sequence[Product], head: Form, rows: RowVector, sources: Mapping[RowVector, int]
) -> Foreign:
    """The network of ``products``, behind which ``head`` is; ``rows`` are what comes in.

    ``sources`` are the vectors that can be added further down, each with its number: 0 for what the first
    recurrent layer takes, then those layers. Raises ModelError for what becomes too large.
    """
    taken = Form({base: head.terms[base] for base in head.terms if base is not rows}, head.shift)
    units = _Units(products, taken)
    lists, layers, skips = [list[Dense]()], list[Layer](), list[tuple[int, int]]()
    initial, cells = list[tuple[np.ndarray, ...]](), list[Cell]()
    if rows in units.offsets:
        lists[0].append(units.placing(rows))
    end = rows  # what the product before gave
    for product in [*products, None]:
        form = taken if product is None else product.form
        skips += [(sources[base], len(layers) + 1) for base in form.terms if base is not end]
        if product is None:
            break
        end, made = product.vector, product.made
        if isinstance(made, Stage):
            layers.append(units.layer(end, made, form))
            states = made.initial or (np.zeros(end.width),) * len(made.kind.states)
            initial.append(tuple(units.spread(state, end) for state in states))
            cells.append(made.kind)
            lists.append([])
        else:
            lists[-1].append(Dense(units.weight(form), form.shift, made))
            if end in units.offsets:
                lists[-1].append(units.placing(end))
    before, *between, after = lists
    return Foreign(
        library,
        cells=tuple(cells),
        layers=tuple(layers),
        before=tuple(before),
        between=tuple(map(tuple, between)) if any(between) else (),
        after=tuple(after),
        skips=tuple(skips),
        initial=tuple(initial) if any(map(np.any, sum(initial, ()))) else (),
        head_weight=units.weight(taken),
        head_bias=head.shift,
        highway_weight=head.matrix(rows) if rows in head.terms else None,
        notes=units.notes,
    )


class _Units:
    """Where each vector stands among the hidden units; those that are not among ``offsets`` stand alone."""

    def __init__(self, products: Sequence[Product], head: Form):
        recurrent = [product.vector for product in products if isinstance(product.made, Stage)]
        joins = [form for form in [*(product.form for product in products), head] if len(form.terms) > 1]
        apart = {
            frozenset(pair)
            for form in joins
            for pair in combinations(form.terms, 2)
            if not np.array_equal(form.terms[pair[0]], form.terms[pair[1]])
        }
        self.offsets: dict[RowVector, int] = {}
        for vector in dict.fromkeys([*recurrent, *(base for form in joins for base in form.terms)]):
            self._place(vector, [one for one in self.offsets if frozenset((vector, one)) in apart])
        self.hidden = max(offset + vector.width for vector, offset in self.offsets.items())
        self.notes = self._notes(products)
        for vector in {base for pair in apart for base in pair}:
            cell = vector.part.kind if isinstance(vector.part, Stage) and vector.is_recurrent else None
            activations = (cell.activation, cell.output_activation or cell.activation) if cell else ()
            if any(find_activation(said).kind.name in OF_ZERO for said in activations):
                raise ModelError(
                    f"{quoted(vector.name)}: added to layers of other weights, its activation of 0 must be 0"
                )

    def _place(self, vector: RowVector, others: list[RowVector]) -> None:
        """At the first offset where it overlaps none of ``others``."""
        for offset in sorted({0, *(self.offsets[one] + one.width for one in others)}):
            if all(
                offset + vector.width <= self.offsets[one] or self.offsets[one] + one.width <= offset
                for one in others
            ):
                self.offsets[vector] = offset
                return

    def _notes(self, products: Sequence[Product]) -> tuple[str, ...]:
        stages = [product.made for product in products if isinstance(product.made, Stage)]
        weights = sum(GATES[stage.cell] for stage in stages) * self.hidden**2
        smaller = [stage for stage in stages if stage.sizes[1] < self.hidden]
        if not smaller:
            return ()
        found = ", ".join(f"{quoted(stage.name)} {stage.sizes[1]}" for stage in stages)
        if weights > WIDENED_LIMIT:
            raise ModelError(f"recurrent layers of sizes ({found}) as different are too large to run")
        run = f"all run with {self.hidden} units, the added of weight zero"
        return (f"layers of several sizes ({found}) {run}",)

    def weight(self, form: Form) -> np.ndarray:
        """The weights of a product, (units, values that come in)."""
        if not any(base in self.offsets for base in form.terms):
            [base] = form.terms
            return form.matrix(base)
        weight = np.zeros((len(form.shift), self.hidden))
        for base in form.terms:
            start = self.offsets[base]
            weight[:, start : start + base.width] = form.matrix(base)
        return weight

    def spread(self, values: np.ndarray, vector: RowVector) -> np.ndarray:
        """One value for each unit of ``vector``, as many as there are hidden ones."""
        spread = np.zeros(self.hidden)
        spread[self.offsets[vector] : self.offsets[vector] + vector.width] = values
        return spread

    def placing(self, vector: RowVector) -> Dense:
        """A layer that puts the values of a vector into its place."""
        weight = np.zeros((self.hidden, vector.width))
        weight[self.offsets[vector] : self.offsets[vector] + vector.width] = np.eye(vector.width)
        return Dense(weight, np.zeros(self.hidden))

    def layer(self, vector: RowVector, stage: Stage, form: Form) -> Layer:
        """The layer of a stage that takes ``form``, with as many units as all have, the added of weight zero.

        A unit without weights stays at its start, h = 0: its candidate is tanh(0) or relu(0).
        """
        layer, offset = stage.part, self.offsets[vector]
        assert isinstance(layer, Layer)
        gates, size = GATES[stage.cell], vector.width
        weight_ih = layer.weight_ih.astype(np.float64)
        bias_ih = layer.bias_ih + weight_ih @ form.shift
        around = (offset, self.hidden - offset - size)

        def widen(array: np.ndarray, columns: tuple[int, int] = (0, 0)) -> np.ndarray:
            by_gate = array.reshape(gates, size, -1)
            return np.pad(by_gate, ((0, 0), around, columns)).reshape(gates * self.hidden, -1)

        return Layer(
            widen(weight_ih @ self.weight(form)),
            widen(layer.weight_hh, around),
            widen(bias_ih)[:, 0],
            widen(layer.bias_hh)[:, 0],
        )
