"""Every activation of the table: of single values, sixteen at a time, and of all units of a vector together.

Within a few last bits of the truth, over all of float32; of single IEEE operations, as in ``activations``.
What is not finite stays so, or comes to a limit: it never hides that a step went wrong.
"""

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.kernels.activations import (
    LEAST_POWER,
    LINEAR,
    LN2_HIGH,
    LN2_LOW,
    RELU,
    SIGMOID,
    TANH,
    exp,
    exp_less_1,
    log_1p,
    sigmoid,
    tanh,
)
from streamrnn.kernels.simd import (
    LANES,
    clamp,
    fill,
    first_lanes,
    fma,
    highest,
    larger,
    load,
    positive,
    splat,
    store,
    total,
    where_above,
)
from streamrnn.model.activations import ACTIVATIONS

_CODES = {kind.name: code for code, kind in enumerate(ACTIVATIONS)}
_HARD_SIGMOID, _HARD_SILU = _CODES["hard_sigmoid"], _CODES["hard_silu"]
_LEAKY_RELU, _THRESHOLDED_RELU = _CODES["leaky_relu"], _CODES["thresholded_relu"]
_ELU, _SELU, _SOFTSIGN, _SOFTPLUS = (_CODES[name] for name in ("elu", "selu", "softsign", "softplus"))
_SILU, _GELU, _GELU_TANH = (_CODES[name] for name in ("silu", "gelu", "gelu_tanh"))
_SCALED_TANH, _AFFINE, _CLIP = (_CODES[name] for name in ("scaled_tanh", "affine", "clip"))
SOFTMAX, LOG_SOFTMAX, LAYER_NORM = (_CODES[name] for name in ("softmax", "log_softmax", "layer_norm"))

_f = np.float32
_ZERO, _HALF, _ONE = _f(0), _f(0.5), _f(1)
_LOWEST = np.finfo(np.float32).min
# The upper tail of the normal distribution, Q(a) = erfc(a / sqrt(2)) / 2, is exp(-a^2 / 2) t P(t), with
# t = 1 / (1 + 0.35 a): fitted by least squares, weighted anew until the largest relative error was least,
# 7e-8.
_TAIL = _f(13)  # Q is 6e-39 there
_OF_TAIL = _f(0.35)
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8 = (
    _f(1.396217197e-01),
    _f(1.398566663e-01),
    _f(1.198694408e-01),
    _f(1.053676978e-01),
    _f(-2.278694883e-02),
    _f(1.587160975e-01),
    _f(-2.553217411e-01),
    _f(1.437853724e-01),
    _f(-2.910830639e-02),
)
_OF_GELU = _f(1.5957691216057308)  # 2 sqrt(2 / pi)
_CUBIC = _f(0.044715)
# squares of no more than the first, 65,535 of them, have a finite sum; the second takes the rest there
_HUGE, _SHRINK, _LEAST = _f(2.0**55), _f(2.0**-73), _f(2.0**-126)


@inlined
def _shared(above, below, size):
    """x / (1 + exp(-s)) for x = above - below, one of which is 0, and s of x's sign and the size ``size``."""
    share = exp(fill(size, _ZERO) - size)
    # of a number beyond all tails, even the least share would be something
    return (above - clamp(below, _ZERO, -LEAST_POWER) * share) / (share + fill(size, _ONE))


@inlined
def silu(x):
    """x sigmoid(x)."""
    above, below = positive(x), positive(fill(x, _ZERO) - x)
    return _shared(above, below, above + below)


@inlined
def gelu_tanh(x):
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), of Hendrycks & Gimpel 2016."""
    above, below = positive(x), positive(fill(x, _ZERO) - x)
    size = clamp(above + below, _ZERO, _TAIL)
    cubic = fma(size * size, fill(x, _CUBIC), fill(x, _ONE))
    return _shared(above, below, fill(x, _OF_GELU) * size * cubic)


@inlined
def gelu(x):
    """x times the normal distribution's function, of Hendrycks & Gimpel 2016: max(x, 0) - |x| Q(|x|)."""
    above, below = positive(x), positive(fill(x, _ZERO) - x)
    a = clamp(above + below, _ZERO, _TAIL)
    t = fill(x, _ONE) / fma(a, fill(x, _OF_TAIL), fill(x, _ONE))
    p = fma(t, fill(x, _Q8), fill(x, _Q7))
    p = fma(t, p, fill(x, _Q6))
    p = fma(t, p, fill(x, _Q5))
    p = fma(t, p, fill(x, _Q4))
    p = fma(t, p, fill(x, _Q3))
    p = fma(t, p, fill(x, _Q2))
    p = fma(t, p, fill(x, _Q1))
    p = fma(t, p, fill(x, _Q0))
    square = a * a
    lost = fma(a, a, fill(x, _ZERO) - square)  # by rounding it
    power = exp(fill(x, -_HALF) * square)
    power = fma(power, fill(x, -_HALF) * lost, power)
    return above - a * (power * t * p)


@inlined
def activated(which, alpha, beta, x):
    """Row ``which`` of the table of activations, which is of single values, with its two numbers, of x."""
    above, below = positive(x), positive(fill(x, _ZERO) - x)
    value = x
    if which == TANH:
        value = tanh(x)
    elif which == SIGMOID:
        value = sigmoid(x)
    elif which == RELU:
        value = above
    elif which == _HARD_SIGMOID:
        value = clamp(fma(x, fill(x, alpha), fill(x, beta)), _ZERO, _ONE)
    elif which == _HARD_SILU:
        value = x * clamp(fma(x, fill(x, alpha), fill(x, beta)), _ZERO, _ONE)
    elif which == _LEAKY_RELU:
        value = fma(below, fill(x, -alpha), above)
    elif which == _THRESHOLDED_RELU:
        value = where_above(x, alpha)
    elif which == _ELU:
        value = fma(fill(x, alpha), exp_less_1(x), above)
    elif which == _SELU:
        value = fill(x, beta) * fma(fill(x, alpha), exp_less_1(x), above)
    elif which == _SOFTSIGN:
        value = x / (fill(x, _ONE) + above + below)
    elif which == _SOFTPLUS:
        value = above + log_1p(exp(fill(x, _ZERO) - above - below))
    elif which == _SILU:
        value = silu(x)
    elif which == _GELU:
        value = gelu(x)
    elif which == _GELU_TANH:
        value = gelu_tanh(x)
    elif which == _SCALED_TANH:
        value = fill(x, alpha) * tanh(fill(x, beta) * x)
    elif which == _AFFINE:
        value = fma(x, fill(x, alpha), fill(x, beta))
    elif which == _CLIP:
        value = clamp(x, alpha, beta)
    return value


@inlined
def softmax(which, a, at, units):
    """e^x over their sum, or the logarithm of that, of ``units`` values at ``a[at:]``, where they stand."""
    top = splat(_LOWEST)
    for unit in range(0, units, LANES):
        top = larger(first_lanes(load(a, at + unit), units - unit, _LOWEST), top)
    most = highest(top)
    sums = splat(_ZERO)
    for unit in range(0, units, LANES):
        x = load(a, at + unit) - splat(most)
        power = exp(x)
        sums = sums + first_lanes(power, units - unit, _ZERO)
        store(a, at + unit, power if which == SOFTMAX else x)
    whole = total(sums)
    halvings, rest = _ZERO, whole
    while rest > _f(2):
        halvings, rest = halvings + _ONE, rest * _HALF
    log = log_1p(splat(rest - _ONE))
    log = fma(splat(halvings), splat(LN2_LOW), log) + splat(halvings * LN2_HIGH)
    for unit in range(0, units, LANES):
        x = load(a, at + unit)
        x = x / splat(whole) if which == SOFTMAX else x - log
        store(a, at + unit, first_lanes(x, units - unit, _ZERO))


@inlined
def layer_norm(a, at, units, epsilon):
    """(x - mean) / sqrt(variance + epsilon) of ``units`` values at ``a[at:]`` (Ba et al. 2016).

    Values so large that sums or squares of them would be infinite are made smaller before, all alike. The
    mean is taken off twice, as once it is rounded by more than small deviations are large.
    """
    top = splat(_ZERO)
    for unit in range(0, units, LANES):
        x = first_lanes(load(a, at + unit), units - unit, _ZERO)
        top = larger(positive(x) + positive(splat(_ZERO) - x), top)
        store(a, at + unit, x)
    shrink = _SHRINK if highest(top) > _HUGE else _ONE
    for unit in range(0, units, LANES):
        store(a, at + unit, load(a, at + unit) * splat(shrink))
    for _ in range(2):
        sums = splat(_ZERO)
        for unit in range(0, units, LANES):
            sums = sums + load(a, at + unit)
        mean = splat(total(sums) / _f(units))
        for unit in range(0, units, LANES):
            store(a, at + unit, first_lanes(load(a, at + unit) - mean, units - unit, _ZERO))
    sums = splat(_ZERO)
    for unit in range(0, units, LANES):
        x = load(a, at + unit)
        sums = fma(x, x, sums)
    least = max(epsilon * shrink * shrink, _LEAST)
    scale = splat(_ONE / np.sqrt(total(sums) / _f(units) + least))
    for unit in range(0, units, LANES):
        store(a, at + unit, load(a, at + unit) * scale)


@inlined
def activate_any(which, alpha, beta, a, at, units):
    """Row ``which`` of the table of ``units`` values at ``a[at:]``, to where they stand, in whole vectors."""
    if which == LAYER_NORM:
        layer_norm(a, at, units, alpha)
    elif which >= SOFTMAX:
        softmax(which, a, at, units)
    elif which != LINEAR:
        for unit in range(0, units, LANES):
            store(a, at + unit, activated(which, alpha, beta, load(a, at + unit)))
