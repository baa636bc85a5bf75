"""The network that can be run, made of the graph of vectors that a file says.

Recurrent layers stand in one chain, with dense layers in front, between and behind. What is linear is folded
into the product that follows it, in float64; a vector added further down is a skip, and rows that reach the
head are its highway.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamrnn.foreign.network import Foreign, Stage, beside, shape_problems
from streamrnn.foreign.placing import place
from streamrnn.foreign.vectors import (
    Activation,
    Concatenation,
    Form,
    Product,
    RowVector,
    ScaleShift,
    base_form,
    form_of,
    in_front,
    joined,
    passed,
    product_form,
    rows,
    stacked,
    times,
    total,
)
from streamrnn.model.activations import find_activation
from streamrnn.model.settings import ModelError
from streamrnn.model.stated import quoted

WIDENED_LIMIT = 1 << 28  # weights


def lower(
    library: str, output: RowVector, notes: Sequence[str] = (), horizon: int = 1, **rest: Any
) -> Foreign:
    """The network that gives ``output`` for each row; ``rest`` are fields of Foreign.

    Scaling in front of all else and behind it becomes that of the inputs and outputs. Recurrent layers of
    fewer hidden units than the largest get units of weight zero. Raises ModelError naming the layer that
    takes what no chain of layers can give it.
    """
    output, scaling = _output_scaling(output, horizon)
    chain = _Chain(output)
    placed = place(library, chain.products, chain.head, chain.input, chain.sources)
    said = {"notes": (*notes, *placed.notes), "horizon": horizon}
    return replace(placed, **(chain.scaling | scaling | said | rest))


def lower_stages(library: str, stages: Sequence[Stage], notes: Sequence[str] = (), **rest: Any) -> Foreign:
    """The network of ``stages``, one behind the other; as ``lower``."""
    if problems := [problem for stage in stages for problem in shape_problems(stage)]:
        raise ModelError(*problems)
    if not any(stage.is_recurrent for stage in stages):
        raise ModelError("has no recurrent layer; name the file of an lstm, gru or rnn")
    vector = rows(stages[0].sizes[0])
    for stage in stages:
        vector = passed(vector, stage)
    return lower(library, vector, notes, **rest)


def names_of(output: RowVector) -> tuple[str, ...] | None:
    """The names of the values of an output that several heads give, by those; None for one head."""
    if not isinstance(output.part, Concatenation):
        return None
    names = [
        f"{head.name}_{k}" if head.width > 1 else head.name for head in output.of for k in range(head.width)
    ]
    return tuple(names) if len(set(names)) == len(names) else None


def _output_scaling(output: RowVector, horizon: int) -> tuple[RowVector, dict[str, Any]]:
    """What stands in front of the scaling at the end, and that scaling."""
    vector, scale, shift = output, np.ones(output.width), np.zeros(output.width)
    while isinstance(vector.part, ScaleShift):
        if not _is_scaling(vector.part):
            break
        shift = vector.part.shift * scale + shift
        scale = vector.part.scale * scale
        vector = vector.of[0]
    by_row = [values.reshape(horizon, -1) for values in (shift, scale)]
    if vector is output or not all((values == values[0]).all() for values in by_row):
        return output, {}
    return vector, {"output_mean": by_row[0][0], "output_std": by_row[1][0]}


def _is_scaling(part: ScaleShift) -> bool:
    """Whether it can be that of the model: undone, and by the deviation that its factor is."""
    with np.errstate(divide="ignore", over="ignore"):
        return bool(((part.scale > 0) & np.isfinite(1 / part.scale)).all())


class _Chain:
    """The products of a network one after the other, and what each is made of."""

    def __init__(self, output: RowVector):
        self.output = output
        order = in_front([output])
        inputs = [vector for vector in order if vector.part is None]
        self.input = inputs[0] if inputs else output
        self.recurrent = [vector for vector in order if vector.is_recurrent]
        if not self.recurrent:
            raise ModelError("has no recurrent layer; name the file of an lstm, gru or rnn")
        self.scaling: dict[str, Any] = {}
        self.notes: list[str] = []
        self.forms = self._input_scaling(order)
        for vector in order:
            if vector not in self.forms:
                made = base_form(vector) if vector.is_base else form_of(vector, self.forms)
                self.forms[vector] = made
        self.products: list[Product] = []
        self.tip = self.input
        self.layers = 0  # so far
        self.sources: dict[RowVector, int] = {}  # what can be added further down: the number of each
        self.left = True  # whether recurrent layers are still to come
        self.parts: dict[RowVector, Form] = {}  # what runs as a part of one beside it
        waiting = [vector for vector in order if vector.is_recurrent or isinstance(vector.part, Activation)]
        while waiting:
            waiting = self._add(waiting)
        self.left = False
        self.head = self._runnable(output.name, self.forms[output], self._joins(False), is_head=True)

    def _input_scaling(self, order: list[RowVector]) -> dict[RowVector, Form]:
        """The forms of the input, and of what its scaling makes of it, which is the input from there on."""
        last, scale, shift = self.input, np.ones(self.input.width), np.zeros(self.input.width)
        needed = set(in_front(self.recurrent[:1]))
        while following := [
            vector
            for vector in order
            if vector in needed and vector.of == (last,) and isinstance(vector.part, ScaleShift)
        ]:
            part = following[0].part
            assert isinstance(part, ScaleShift)
            if not _is_scaling(part):
                break
            last = following[0]
            scale, shift = scale * part.scale, shift * part.scale + part.shift
        if last is self.input:
            return {self.input: base_form(self.input)}
        std, mean = 1 / scale, -shift / scale
        self.scaling = {"input_mean": mean, "input_std": std}
        return {self.input: Form({self.input: std}, mean), last: base_form(self.input)}

    def _joins(self, recurrent: bool) -> bool:
        """Whether what goes into the next product can have vectors of further up added to it."""
        if recurrent:
            return self.layers > 0
        return self.layers > 0 and not self.left and self.tip in self.sources

    def _add(self, waiting: list[RowVector]) -> list[RowVector]:
        """Add the first of ``waiting`` to the chain, and what can only be run beside it; those left."""
        first = waiting[0]
        self.left = any(vector.is_recurrent for vector in waiting)
        if first.is_recurrent:
            self._take_dense(self.forms[first.of[0]])
        joins = self._joins(first.is_recurrent)
        form = self._runnable(first.name, self.forms[first.of[0]], joins)
        beside = [
            (vector, given)
            for vector in waiting[1:]
            if vector.is_recurrent == first.is_recurrent
            and (given := self._given(self.forms[vector.of[0]], joins)) is not None
        ]
        vector, form, made = _side_by_side([(first, form), *beside])
        if first.is_recurrent:
            if not self.layers:
                self.sources[self.tip] = 0
            self.layers += 1
            self.sources[vector] = self.layers
        self._append(vector, form, made)
        start = 0
        for one, _ in [(first, form), *beside] if beside else []:
            selection = np.eye(vector.width)[start : start + one.width]
            self.parts[one] = Form({vector: selection}, np.zeros(one.width))
            start += one.width
        done = {first, *(vector for vector, _ in beside)}
        return [vector for vector in waiting if vector not in done]

    def _append(self, vector: RowVector, form: Form, made: Stage | str) -> None:
        self.products.append(Product(vector, form, made))
        self.tip = vector

    def _runnable(self, name: str, form: Form, joins: bool, is_head: bool = False) -> Form:
        """``form`` by what the chain gives so far. Raises ModelError if it cannot give it."""
        if (made := self._given(form, joins, is_head)) is not None:
            return made
        takes = " and ".join(quoted(base.name) for base in self._expanded(form).terms)
        only = f"only what {quoted(self.tip.name)} gives" + (
            ", with what recurrent layers before it gave added," if joins else ""
        )
        raise ModelError(f"{quoted(name)}: takes {takes or 'no rows'}; {only} can be run there")

    def _given(self, form: Form, joins: bool, is_head: bool = False) -> Form | None:
        """``form`` by what the chain gives so far, None if it cannot give it."""
        form = self._expanded(form)
        needed = {base for base in form.terms if not (is_head and base is self.input)}
        known = {self.tip, *self.sources} if joins else {self.tip}
        return form if self.tip in form.terms and needed <= known else None

    def _expanded(self, form: Form) -> Form:
        """``form`` without products that are none of the chain, and by what runs of what is beside others."""
        known = {self.tip, *self.sources}
        while rest := [
            base for base in form.terms if base not in known and (base.is_dense or base in self.parts)
        ]:
            terms = [
                times(factor, self._inner(base) if base in rest else base_form(base))
                for base, factor in form.terms.items()
            ]
            form = total([*terms, Form({}, form.shift)])
        return form

    def _inner(self, base: RowVector) -> Form:
        if base in self.parts:
            return self.parts[base]
        return product_form(base, self.forms[base.of[0]])

    def _take_dense(self, form: Form) -> None:
        """Has a product that a recurrent layer takes, and that can follow the chain's end, become its end."""
        dense = [base for base in form.terms if base.is_dense]
        others = {base for base in form.terms if not base.is_dense}
        if len(dense) == 1 and others <= self.sources.keys():
            inner = self._expanded(self._inner(dense[0]))
            if set(inner.terms) == {self.tip}:
                self._append(dense[0], inner, "linear")


def _side_by_side(ready: Sequence[tuple[RowVector, Form]]) -> tuple[RowVector, Form, Stage | str]:
    """Layers that take what is there at one place of the chain, as one. Raises ModelError for unlike ones."""
    vectors = [vector for vector, _ in ready]
    names = ", ".join(quoted(vector.name) for vector in vectors)
    parts = [vector.part for vector in vectors]
    if isinstance(parts[0], Activation):
        made: Stage | str = parts[0].activation
        alike = all(part == parts[0] for part in parts) and not find_activation(made).kind.of_vectors
    else:
        stages = [part for part in parts if isinstance(part, Stage)]
        alike = all(stage.kind == stages[0].kind for stage in stages)
        made = beside(names, stages) if alike else stages[0]
    if len(vectors) == 1:
        return vectors[0], ready[0][1], made
    if not alike:
        raise ModelError(f"{names}: stand side by side, and are not of one kind, so no chain can run them")
    whole = joined(names, vectors)
    return whole, stacked(whole, [form for _, form in ready]), made
