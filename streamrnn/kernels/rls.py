"""The head's forecast corrected as rows come in: recursive least squares with forgetting, stream by stream.

What is learned is a linear correction c = Theta' phi of the forecast y of the next row x', from the features
phi = [1, x, y]: the row, and what the head makes of the hidden state. All are standardised. Each row shows by
how much the one before it was mistaken, e = x' - y - c, and with P near (sum of lambda^age phi phi')^-1

    g = P phi   d = lambda + phi' g   Theta += g e' / d   P = (P - g g' / d) / lambda

(Haykin, Adaptive Filter Theory, chapter 9). In a direction that no row excites, P / lambda would grow without
end. So before each row one feature i, in turn, is taken to have been seen alone, with the weight
k = RIDGE |phi|^2 and nothing to correct: a ridge, renewed as fast as it is forgotten (Gay 1996, "Dynamically
regularized fast RLS"). It holds every P[i, i] below lambda^-features / RIDGE and P's condition within what
float32 can tell, and takes Theta back to zero where nothing speaks for it.

The correction is applied as far as it has proved itself: times the share in [0, 1] with which the errors
x' - y - share c have the least sum of squares over the same memory, output by output (a convex combination;
Arenas-Garcia, Figueiras-Vidal & Sayed 2006, doi 10.1109/TSP.2005.863126). Where there is nothing to correct,
the share goes to zero, however many features there are.

A stream's block is float32 words that the caller keeps; zeros are one that has not begun.
"""

from typing import NamedTuple

import numpy as np

from streamrnn.compiling.jit import inlined
from streamrnn.compiling.known import KnownIfZero
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.network import Network, aligned, copy
from streamrnn.kernels.simd import LANES, clamp, fma, load, positive, splat, store, total

RIDGE = np.float32(1e-4)  # of a row's own weight: with a third of it, rounding can cost P its sign
LIMIT = np.float32(100)  # standard deviations: features, mistakes and corrections are held within it
LARGEST = np.float32(1e6)  # of Theta's numbers
SLOWED = np.float32(0.1)  # the weight of a row that must not teach, in how far a correction is applied
START = np.float32(0.1)  # times the unit matrix is P of a stream that begins: as after ten rows of ridge

NOTHING, PROVES, TEACHES = range(3)  # what a row can be to the correction

_ZERO, _ONE = np.float32(0), np.float32(1)
_TINY = np.float32(1e-30)


class Adaptation(NamedTuple):
    """What is adapted, how, and where the parts of a block begin, in float32 words from the block's begin."""

    features: KnownIfZero  # 1 + inputs + outputs; 0 = no adaptation, and blocks without words
    width: int  # padded to 16
    words: int  # of a block
    forget: np.float32  # lambda
    # of the last row
    features_at: int  # (width,) phi, zeros after the features
    forecast_at: int  # (out_width,) y
    correction_at: int  # (out_width,) c = Theta' phi
    # of all rows so far: what is learned
    gain_at: int  # (out_width,) sum of c (x' - y)
    power_at: int  # (out_width,) sum of c^2
    turn_at: int  # (16,) the feature whose turn it is, then zeros
    theta_at: int  # (features, out_width)
    covariance_at: int  # P by sixteen columns, of each the rows from the diagonal on, (rows, 16)
    work: np.ndarray  # (2 * width,) float32: what an update works in


def make_adaptation(network: Network, memory: int) -> Adaptation:
    """Adaptation that forgets over ``memory`` rows, lambda = 1 - 1 / memory; none for 0.

    For a network whose output k forecasts channel k one row ahead.
    """
    count = 1 + network.inputs + network.outputs if memory else 0
    width = packed_rows(count)
    sizes = {
        "features_at": width,
        **dict.fromkeys(("forecast_at", "correction_at", "gain_at", "power_at"), network.out_width),
        "turn_at": LANES,
        "theta_at": count * network.out_width,
        "covariance_at": count * width - width * (width - LANES) // 2,
    }
    begins = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    return Adaptation(
        features=count,
        width=width,
        words=sum(sizes.values()) if memory else 0,
        forget=np.float32(1 - 1 / memory if memory else 1),
        **begins,
        work=aligned(2 * width),
    )


@inlined
def _columns(rls, unit):
    """Where in a block P[k, unit : unit + 16] begins, less 16 k; for k from ``unit`` on."""
    return rls.covariance_at + unit * rls.features - unit * (unit + LANES) // 2


@inlined
def _begin(rls, state, at):
    """What is known before the first row: nothing, Theta = 0."""
    for word in range(at + rls.gain_at, at + rls.words, LANES):
        store(state, word, splat(_ZERO))
    for feature in range(rls.features):
        lane = feature % LANES
        state[at + _columns(rls, feature - lane) + feature * LANES + lane] = START


@inlined
def _pull(rls, state, old):
    """The ridge of the feature whose turn it is: v into work[width:]. Returns (s, v' phi).

    v = s P[:, i] with s^2 = k / (1 + k P[i, i]) makes P - v v' of P, and Theta - v s Theta[i]' of Theta.
    """
    turn = np.int64(state[old + rls.turn_at])
    squares, along = splat(_ZERO), splat(_ZERO)
    for unit in range(0, rls.width, LANES):
        phi = load(state, old + rls.features_at + unit)
        squares = fma(phi, phi, squares)
    weight = RIDGE * total(squares)
    lane = turn % LANES
    below = old + _columns(rls, turn - lane) + lane
    scale = np.sqrt(weight / (_ONE + weight * state[below + turn * LANES]))
    for unit in range(0, turn + 1, LANES):
        left = load(state, old + _columns(rls, unit) + turn * LANES)
        store(rls.work, rls.width + unit, splat(scale) * left)
    for k in range(turn - lane + LANES, rls.features):
        rls.work[rls.width + k] = scale * state[below + k * LANES]
    for unit in range(0, rls.width, LANES):
        along = fma(load(rls.work, rls.width + unit), load(state, old + rls.features_at + unit), along)
    return scale, total(along)


@inlined
def _project(rls, state, old, along):
    """g = (P - v v') phi into work[:width]. Returns phi' g."""
    phi, power = old + rls.features_at, splat(_ZERO)
    for unit in range(0, rls.width, LANES):
        store(rls.work, unit, splat(-along) * load(rls.work, rls.width + unit))
    for unit in range(0, rls.width, LANES):
        at, here = old + _columns(rls, unit), load(state, phi + unit)
        even, odd = load(rls.work, unit), splat(_ZERO)
        for k in range(unit, min(unit + LANES, rls.features)):
            even, odd = odd, fma(load(state, at + k * LANES), splat(state[phi + k]), even)
        for k in range(unit + LANES, rls.features):  # and, above the diagonal, the same numbers
            p = load(state, at + k * LANES)
            even, odd = odd, fma(p, splat(state[phi + k]), even)
            rls.work[k] += total(p * here)
        g = even + odd
        store(rls.work, unit, g)
        power = fma(g, here, power)
    return total(power)


@inlined
def _update_covariance(rls, state, old, new, shrink):
    """P' = (P - v v' - u u') / lambda, and u = shrink g into work[:width].

    Returns lanes of zeros, NaN in one where P' is not finite.
    """
    known, renew = splat(_ZERO), splat(_ONE / rls.forget)
    for unit in range(0, rls.width, LANES):
        store(rls.work, unit, splat(shrink) * load(rls.work, unit))
    for unit in range(0, rls.width, LANES):
        u = splat(_ZERO) - load(rls.work, unit)
        v = splat(_ZERO) - load(rls.work, rls.width + unit)
        at = _columns(rls, unit)
        for k in range(unit, rls.features):
            p = fma(v, splat(rls.work[rls.width + k]), load(state, old + at + k * LANES))
            p = fma(u, splat(rls.work[k]), p) * renew
            store(state, new + at + k * LANES, p)
            known = fma(p, splat(_ZERO), known)
    return known


@inlined
def _left(net, rls, state, old, row, unit):
    """x' - y of sixteen outputs: what the network's own forecast of the row at ``state[row:]`` left."""
    truth = (load(state, row + unit) - load(net.out_mean, unit)) * load(net.out_scale, unit)
    return clamp(truth - load(state, old + rls.forecast_at + unit), -LIMIT, LIMIT)


@inlined
def _prove(net, rls, state, old, new, row, weight):
    """What the row at ``state[row:]`` says of the correction before it, and whether that is of any use."""
    known, forget = splat(_ZERO), splat(_ONE - weight * (_ONE - rls.forget))
    for unit in range(0, net.out_width, LANES):
        left = _left(net, rls, state, old, row, unit)
        correction = load(state, old + rls.correction_at + unit)
        weighed = splat(weight) * correction
        gain = fma(left, weighed, forget * load(state, old + rls.gain_at + unit))
        power = fma(correction, weighed, forget * load(state, old + rls.power_at + unit))
        store(state, new + rls.gain_at + unit, gain)
        store(state, new + rls.power_at + unit, power)
        known = fma(gain + power, splat(_ZERO), known)
    return total(known) == _ZERO


@inlined
def _learn(net, rls, state, old, new, row):
    """What is learned from the row at ``state[row:]`` about the one before it. Whether it is of any use."""
    scale, along = _pull(rls, state, old)
    seen = _project(rls, state, old, along)
    if not seen >= _ZERO:  # rounding has cost P its sign
        return False
    turn = np.int64(state[old + rls.turn_at])
    shrink = _ONE / np.sqrt(rls.forget + seen)
    known = _update_covariance(rls, state, old, new, shrink)
    for unit in range(0, net.out_width, LANES):
        left = _left(net, rls, state, old, row, unit)
        correction = load(state, old + rls.correction_at + unit)
        pull = splat(scale) * load(state, old + rls.theta_at + turn * net.out_width + unit)
        error = splat(shrink) * (left - (correction - splat(along) * pull))
        for feature in range(rls.features):
            at = rls.theta_at + feature * net.out_width + unit
            theta = fma(splat(rls.work[feature]), error, load(state, old + at))
            theta = clamp(theta - splat(rls.work[rls.width + feature]) * pull, -LARGEST, LARGEST)
            store(state, new + at, theta)
            known = fma(theta, splat(_ZERO), known)
    store(state, new + rls.turn_at, splat(_ZERO))
    state[new + rls.turn_at] = np.float32((turn + 1) % rls.features)
    return total(known) == _ZERO


@inlined
def _look(net, rls, scratch, lane, state, new, row):
    """phi and y of the row at ``state[row:]``, into the block."""
    at, gates = new + rls.features_at, lane * net.gate_stride
    for unit in range(0, rls.width, LANES):
        store(state, at + unit, splat(_ZERO))
    state[at] = _ONE
    for unit in range(0, net.in_width, LANES):
        x = (load(state, row + unit) - load(net.mean, unit)) * load(net.scale, unit)
        store(state, at + 1 + unit, clamp(x, -LIMIT, LIMIT))
    # lanes after the last feature are zeros; those that spill into the forecast are written once more, below
    for unit in range(0, net.out_width, LANES):
        y = load(scratch.gates, gates + unit)
        store(state, at + 1 + net.inputs + unit, clamp(y, -LIMIT, LIMIT))
    copy(state, new + rls.forecast_at, scratch.gates, gates, net.out_width)


@inlined
def _correct(net, rls, state, new):
    """c = Theta' phi of the row whose phi is in the block, into it. Whether it is finite."""
    known = splat(_ZERO)
    for unit in range(0, net.out_width, LANES):
        correction = splat(_ZERO)
        for feature in range(rls.features):
            theta = load(state, new + rls.theta_at + feature * net.out_width + unit)
            correction = fma(theta, splat(state[new + rls.features_at + feature]), correction)
        known = fma(correction, splat(_ZERO), known)
        store(state, new + rls.correction_at + unit, clamp(correction, -LIMIT, LIMIT))
    return total(known) == _ZERO


@inlined
def adapt(net, rls, scratch, lane, state, old, new, row, shows):
    """Corrects the forecast of a lane, y at ``scratch.gates[lane * gate_stride:]``, after ``forward``.

    The stream's block at ``state[old:]`` is read, the one at ``state[new:]`` written whole. The lane's row is
    at ``state[row:]``, in_width values in physical units. ``shows`` is NOTHING unless all of it was measured
    and the block at ``old`` is of the row just before it; PROVES lets it tell how good the correction is, and
    TEACHES change that. Where float32 cannot tell it any more, it begins anew. Rows and y must be finite; all
    that is written then is.
    """
    begun = state[old + rls.covariance_at] > _ZERO
    if not (begun and _ZERO <= state[old + rls.turn_at] < rls.features):
        _begin(rls, state, new)
    else:
        if shows != TEACHES:
            copy(state, new + rls.gain_at, state, old + rls.gain_at, rls.words - rls.gain_at)
        sound = shows != TEACHES or _learn(net, rls, state, old, new, row)
        weight = _ONE if shows == TEACHES else SLOWED
        if not (sound and (shows == NOTHING or _prove(net, rls, state, old, new, row, weight))):
            _begin(rls, state, new)
    _look(net, rls, scratch, lane, state, new, row)
    if not _correct(net, rls, state, new):
        _begin(rls, state, new)
        _correct(net, rls, state, new)
    for unit in range(0, net.out_width, LANES):
        power = positive(load(state, new + rls.power_at + unit)) + splat(_TINY)
        share = clamp(load(state, new + rls.gain_at + unit) / power, _ZERO, _ONE)
        at = lane * net.gate_stride + unit
        correction = load(state, new + rls.correction_at + unit)
        store(scratch.gates, at, fma(share, correction, load(scratch.gates, at)))
