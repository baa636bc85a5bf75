"""What a row becomes on its way through a network, as a graph: each vector is made of those before it.

Readers build this graph of what a file says, one call for each of its layers; ``lowering`` makes the network
of it that can be run. What is linear about it is a ``Form``: a sum of matrices times ``bases``, the vectors
that are not linear in others or are worth a product of their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamrnn.foreign.network import Stage
from streamrnn.model.parts import Dense
from streamrnn.model.settings import ModelError

LARGEST = 1 << 26  # elements of a matrix


class ScaleShift(NamedTuple):
    """x * scale + shift."""

    scale: np.ndarray  # (width,) float64, or (1,) for all
    shift: np.ndarray


class Activation(NamedTuple):
    """An activation that is not part of a layer."""

    activation: str


class Pick(NamedTuple):
    """Some of the values, or all in another order."""

    places: np.ndarray  # (width,) integers


class Sum(NamedTuple):
    """The sum of several vectors of one width."""


class Concatenation(NamedTuple):
    """Several vectors, one behind the other."""


Part = Stage | ScaleShift | Activation | Pick | Sum | Concatenation


@dataclass(frozen=True, eq=False)
class RowVector:
    """What a row is at one place: ``part`` of the vectors ``of``, or as it comes in, without a part."""

    name: str  # of the layer or node that makes it, as messages have it
    width: int
    part: Part | None = None
    of: tuple["RowVector", ...] = ()

    @property
    def is_recurrent(self) -> bool:
        return isinstance(self.part, Stage) and self.part.is_recurrent

    @property
    def is_dense(self) -> bool:
        """Whether it is a product with weights."""
        return isinstance(self.part, Stage) and not self.part.is_recurrent

    @property
    def is_base(self) -> bool:
        return self.part is None or isinstance(self.part, Stage | Activation)


def rows(width: int) -> RowVector:
    """Rows of ``width`` values as they come in."""
    return RowVector("the input", width)


def passed(vector: RowVector, stage: Stage) -> RowVector:
    """After a layer; the activation of a dense one stands by itself. Raises ModelError if it does not fit."""
    takes, gives = stage.sizes
    if takes != vector.width:
        raise ModelError(f"{stage.name!r} takes {takes} values, {vector.name!r} gives {vector.width}")
    after = RowVector(stage.name, gives, stage, (vector,))
    return activated(after, stage.name, stage.part.activation) if isinstance(stage.part, Dense) else after


def activated(vector: RowVector, name: str, activation: str) -> RowVector:
    if activation == "linear":
        return vector
    return RowVector(name, vector.width, Activation(activation), (vector,))


def scaled(vector: RowVector, name: str, scale: object = 1.0, shift: object = 0.0) -> RowVector:
    """``vector * scale + shift``, each one number or as many as it has. Raises ModelError for others."""
    part = ScaleShift(*(np.atleast_1d(np.asarray(given, np.float64)) for given in (scale, shift)))
    for values in part:
        if values.shape not in ((1,), (vector.width,)):
            raise ModelError(f"{name}: scales {values.size} values of {vector.width}")
        if not np.isfinite(values).all():
            raise ModelError(f"{name}: expected finite numbers to scale by")
    return RowVector(name, vector.width, part, (vector,))


def summed(name: str, vectors: Sequence[RowVector]) -> RowVector:
    """The sum of ``vectors``. Raises ModelError unless they are of one width."""
    if len({vector.width for vector in vectors}) != 1:
        widths = " and ".join(str(vector.width) for vector in vectors)
        raise ModelError(f"{name}: adds vectors of {widths} values")
    return RowVector(name, vectors[0].width, Sum(), tuple(vectors))


def joined(name: str, vectors: Sequence[RowVector]) -> RowVector:
    if len(vectors) == 1:
        return vectors[0]
    return RowVector(name, sum(vector.width for vector in vectors), Concatenation(), tuple(vectors))


def picked(vector: RowVector, name: str, places: np.ndarray) -> RowVector:
    """The values at ``places``; the vector itself if these are all, in order."""
    if np.array_equal(places, np.arange(vector.width)):
        return vector
    return RowVector(name, len(places), Pick(np.asarray(places)), (vector,))


class Form(NamedTuple):
    """The sum of a factor times each of some bases, and a shift."""

    terms: Mapping[
        RowVector, np.ndarray
    ]  # float64: (width, width of the base), or (width,), the diagonal of it
    shift: np.ndarray  # (width,)

    def matrix(self, base: RowVector) -> np.ndarray:
        """The factor of ``base``, (width, width of the base)."""
        return _matrix(base, self.terms[base])


class Product(NamedTuple):
    """A dense or recurrent layer of a chain: its weights times ``form``, which says what goes into it."""

    vector: RowVector  # what it gives
    form: Form
    made: Stage | str  # a recurrent layer, or the activation of a dense one


def base_form(vector: RowVector) -> Form:
    return Form({vector: np.ones(vector.width)}, np.zeros(vector.width))


def times(factor: np.ndarray, form: Form) -> Form:
    """``factor``, a matrix or the diagonal of one, times a form."""
    terms = {base: _product(factor, other) for base, other in form.terms.items()}
    return Form(terms, _product(factor, form.shift[:, np.newaxis])[:, 0])


def total(forms: Sequence[Form]) -> Form:
    terms: dict[RowVector, np.ndarray] = {}
    for form in forms:
        for base, factor in form.terms.items():
            before = terms.get(base)
            if before is not None and before.ndim != factor.ndim:
                before, factor = (_matrix(base, one) for one in (before, factor))
            terms[base] = factor if before is None else before + factor
    return Form(terms, np.sum([form.shift for form in forms], 0))


def in_front(vectors: Iterable[RowVector]) -> list[RowVector]:
    """All vectors that ``vectors`` are made of, and they, each behind those that it is made of itself."""
    done: dict[RowVector, None] = {}
    waiting = list(vectors)[::-1]
    while waiting:
        vector = waiting[-1]
        if left := [one for one in vector.of if one not in done]:
            waiting += left[::-1]
        else:
            done[waiting.pop()] = None
    return list(done)


def form_of(vector: RowVector, known: Mapping[RowVector, Form]) -> Form:
    """The form of a vector that is no base, of those in front of it."""
    forms = [known[one] for one in vector.of]
    part = vector.part
    if isinstance(part, ScaleShift):
        form = times(np.broadcast_to(part.scale, vector.width), forms[0])
        return form._replace(shift=form.shift + part.shift)
    if isinstance(part, Sum):
        return total(forms)
    if isinstance(part, Pick):
        _check_size(vector.name, len(part.places) * sum(base.width for base in forms[0].terms))
        terms = {base: forms[0].matrix(base)[part.places] for base in forms[0].terms}
        return Form(terms, forms[0].shift[part.places])
    assert isinstance(part, Concatenation)
    return stacked(vector, forms)


def product_form(dense: RowVector, form: Form) -> Form:
    """What a dense layer without its activation makes of the form of what goes in."""
    assert isinstance(dense.part, Stage) and isinstance(dense.part.part, Dense)
    made = times(dense.part.part.weight.astype(np.float64), form)
    return made._replace(shift=made.shift + dense.part.part.bias)


def stacked(vector: RowVector, forms: Sequence[Form]) -> Form:
    """The forms of several vectors, one below the other."""
    bases = dict.fromkeys(base for form in forms for base in form.terms)
    _check_size(vector.name, vector.width * sum(base.width for base in bases))
    terms = {
        base: np.concatenate(
            [
                form.matrix(base) if base in form.terms else np.zeros((len(form.shift), base.width))
                for form in forms
            ]
        )
        for base in bases
    }
    return Form(terms, np.concatenate([form.shift for form in forms]))


def _product(factor: np.ndarray, other: np.ndarray) -> np.ndarray:
    if factor.ndim == 2 and other.ndim == 2:
        return factor @ other
    if factor.ndim == 2:
        return factor * other
    return factor[:, np.newaxis] * other if other.ndim == 2 else factor * other


def _matrix(base: RowVector, factor: np.ndarray) -> np.ndarray:
    if factor.ndim == 2:
        return factor
    _check_size(base.name, factor.size**2)
    return np.diag(factor)


def _check_size(name: str, elements: int) -> None:
    if elements > LARGEST:
        raise ModelError(f"{name}: a matrix of {elements:,} elements comes of it, at most {LARGEST:,}")
