"""The table of activations: what a dense layer does with its sums, and a cell with those of its gates.

A model file says one by its name, with its numbers where they are not the usual ones: ``"hard_sigmoid"``,
``"hard_sigmoid(0.25, 0.5)"``. A new one is a row here and its formula in ``kernels/activations.py``.
"""

import math
import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from streamrnn.model.stated import quoted

# Absolute values that networks of any use do not compute with: a state beyond is not one to go on from, where
# nothing bounds it.
FAR = 1e6
_FLAT = 7.9  # from here on tanh is
_LARGEST = 3.4028234663852886e38  # of float32
_SAID = re.compile(r"([a-z_]+)(?:\(([^()]{1,200})\))?")


def _is_no_zero(epsilon: float, _: float) -> bool:
    return epsilon >= 2.0**-126  # as float32


class ActivationKind(NamedTuple):
    """A row of the table. Its limits are functions of its two numbers, alpha and beta."""

    name: str
    # of the numbers, in their order: what each is called, and what it usually is
    numbers: tuple[tuple[str, float], ...] = ()
    low: Callable[[float, float], float] = lambda alpha, beta: -math.inf  # no value lies below
    high: Callable[[float, float], float] = lambda alpha, beta: math.inf  # or above
    flat: Callable[[float, float], float] = lambda alpha, beta: math.inf  # |x| beyond which nothing changes
    good: Callable[[float, float], bool] = lambda alpha, beta: True  # whether it can have these numbers
    of_vectors: bool = False  # of all units of a layer together: for dense layers alone

    @property
    def form(self) -> str:
        """How it is written with all of its numbers."""
        names = ", ".join(name for name, _ in self.numbers)
        return f"{self.name}({names})" if names else self.name


def _always(value: float) -> Callable[[float, float], float]:
    return lambda alpha, beta: value


def _over(value: float, size: float) -> float:
    return abs(value / size) if size else math.inf


ACTIVATIONS = (
    ActivationKind("linear"),
    ActivationKind("tanh", low=_always(-1), high=_always(1), flat=_always(_FLAT)),
    ActivationKind("relu", low=_always(0)),
    ActivationKind("sigmoid", low=_always(0), high=_always(1), flat=_always(2 * _FLAT)),
    # the numbers of Keras 2 and ONNX; Keras 3 and PyTorch have 1/6
    ActivationKind(
        "hard_sigmoid",
        (("alpha", 0.2), ("beta", 0.5)),
        low=_always(0),
        high=_always(1),
        flat=lambda alpha, beta: _over(1 + abs(beta), alpha),
    ),
    ActivationKind("leaky_relu", (("alpha", 0.01),)),
    ActivationKind("thresholded_relu", (("alpha", 1.0),)),
    ActivationKind("elu", (("alpha", 1.0),)),
    ActivationKind("selu", (("alpha", 1.6732632423543772), ("gamma", 1.0507009873554805))),
    ActivationKind("softsign", low=_always(-1), high=_always(1)),
    ActivationKind("softplus", low=_always(0)),
    ActivationKind("silu"),
    ActivationKind("hard_silu", (("alpha", 1 / 6), ("beta", 0.5))),
    ActivationKind("gelu"),
    ActivationKind("gelu_tanh"),
    ActivationKind(
        "scaled_tanh",
        (("alpha", 1.0), ("beta", 1.0)),
        low=lambda alpha, beta: -abs(alpha),
        high=lambda alpha, beta: abs(alpha),
        flat=lambda alpha, beta: _over(_FLAT, beta),
    ),
    ActivationKind("affine", (("alpha", 1.0), ("beta", 0.0))),
    ActivationKind(
        "clip",
        (("low", -1.0), ("high", 1.0)),
        low=lambda low, high: low,
        high=lambda low, high: high,
        flat=lambda low, high: max(abs(low), abs(high)),
        good=lambda low, high: low < high,
    ),
    ActivationKind("softmax", low=_always(0), high=_always(1), of_vectors=True),
    ActivationKind("log_softmax", high=_always(0), of_vectors=True),
    # less their mean, over their deviation; what scales and shifts them belongs to the next product
    ActivationKind("layer_norm", (("epsilon", 1e-5),), good=_is_no_zero, of_vectors=True),
)
_KINDS = {kind.name: kind for kind in ACTIVATIONS}
PLAIN = ("linear", "tanh", "relu", "sigmoid")  # what most networks have


class GivenActivation(NamedTuple):
    """One of them, with its numbers."""

    kind: ActivationKind
    alpha: float = 0.0
    beta: float = 0.0

    @property
    def bound(self) -> float:
        """Of its absolute value."""
        low, high = (limit(self.alpha, self.beta) for limit in (self.kind.low, self.kind.high))
        return max(abs(low), abs(high))

    @property
    def gates(self) -> bool:
        """Whether its values are from 0 to 1, as a share of something is."""
        low, high = (limit(self.alpha, self.beta) for limit in (self.kind.low, self.kind.high))
        return low >= 0 and high <= 1

    @property
    def flat(self) -> float:
        """The absolute value of its argument beyond which it says the same; FAR if it never does."""
        return min(self.kind.flat(self.alpha, self.beta), FAR)


@lru_cache(1024)
def find_activation(said: str, of_vectors: bool = True) -> GivenActivation:
    """The activation that a model file says. Raises ValueError, in words for who wrote it, if it is none.

    These name what there is, for vectors or for single values alone.
    """
    found = _SAID.fullmatch(said)
    kind = _KINDS.get(found[1]) if found else None
    if found is None or kind is None:
        raise ValueError(f"expected activation {' or '.join(_listed(of_vectors))}, found {quoted(said)}")
    said_numbers = found[2].split(",") if found[2] else []
    try:
        numbers = [math.nan if "_" in number else float(number) for number in said_numbers]
    except ValueError:
        numbers = [math.nan]
    numbers += [usual for _, usual in kind.numbers[len(numbers) :]]
    whole = [*numbers, 0.0, 0.0]
    if len(numbers) > len(kind.numbers) or not all(abs(number) <= _LARGEST for number in numbers):
        how = f"finite numbers as in {kind.form}" if kind.numbers else "no numbers behind it"
        raise ValueError(f"expected {how}, found {quoted(said)}")
    if not kind.good(whole[0], whole[1]):
        raise ValueError(f"{quoted(said)}: {kind.form} is none with these numbers")
    return GivenActivation(kind, whole[0], whole[1])


def say_activation(name: str, *numbers: float) -> str:
    """As a model file says it; numbers are rounded to float32. Raises ValueError as ``find_activation``."""
    usual = find_activation(name)
    if not numbers:
        return name
    said = f"{name}({', '.join(map(_shortest, numbers))})"
    same = zip(find_activation(said)[1:], usual[1:], strict=True)
    return name if all(_shortest(one) == _shortest(other) for one, other in same) else said


def _shortest(number: float) -> str:
    """The fewest digits that read as the float32 nearest to it; what none can hold as it is."""
    if not abs(number) <= _LARGEST:
        return str(number)
    (rounded,) = struct.unpack("f", struct.pack("f", number))
    texts = (f"{rounded:.{digits}g}" for digits in range(1, 10))
    return next(text for text in texts if struct.unpack("f", struct.pack("f", float(text))) == (rounded,))


def activation_problems(said: object, where: str, of_vectors: bool = False) -> list[str]:
    """What is wrong with an activation that stands at ``where`` in a file, of vectors or of single values."""
    if not isinstance(said, str):
        return [f"{where}: expected activation {' or '.join(_listed(of_vectors))}, found {quoted(said)}"]
    try:
        kind = find_activation(said, of_vectors).kind
    except ValueError as error:
        return [f"{where}: {error}"]
    if kind.of_vectors and not of_vectors:
        return [f'{where}: "{kind.name}" is for dense layers only']
    return []


def _listed(of_vectors: bool) -> list[str]:
    return [f'"{kind.form}"' for kind in ACTIVATIONS if of_vectors or not kind.of_vectors]
