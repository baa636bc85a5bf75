"""What a configuration asks of a model, in the form of compiled code; and whether the model can do it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from streamrnn.engine.crew import work_of
from streamrnn.errors import ConfigError
from streamrnn.kernels.affine import packed_rows
from streamrnn.kernels.network import Network
from streamrnn.kernels.packing import switches_of
from streamrnn.model.around import BETWEEN
from streamrnn.model.model import Model
from streamrnn.streams.bands import Bands, make_bands
from streamrnn.streams.batch import ROWS
from streamrnn.streams.rarity import first_levels
from streamrnn.streams.rules import GAP_POLICIES, MISSING_POLICIES, Rules
from streamrnn.streams.spread import KEPT, KEPT_AHEAD, NOT_KEPT

USUAL_THRESHOLD = 3.0  # of the score, for a model that says none
ROOM_BYTES = 1 << 26  # for the answers of several rows to a batch; the largest such answer
WORK = 2 * 10**9  # multiply-adds in a batch's answers of several rows: a tenth of a second or so
MOST_WORK = 2 * 10**10  # and in one, which holds up the others: a second or so


class FaultPolicies(Protocol):
    """What the engine reads of the ``faults`` section of the configuration."""

    @property
    def gap(self) -> str: ...
    @property
    def max_gap(self) -> int: ...
    @property
    def missing(self) -> str: ...
    @property
    def missing_values(self) -> Sequence[float]: ...


class AnswerPolicies(Protocol):
    """What it reads of the ``predict`` section."""

    @property
    def every(self) -> int: ...  # rows from one answer to a sequence to the next; 0 = at its END only
    @property
    def horizon(self) -> int: ...  # rows of a rollout; 0 = none
    @property
    def bands(self) -> Sequence[float]: ...  # levels, in rising order; none = no bands


class _AtEnd(NamedTuple):
    every: int = 0
    horizon: int = 0
    bands: tuple[float, ...] = ()


AT_END: AnswerPolicies = _AtEnd()


def asked_at_end(predict: AnswerPolicies) -> AnswerPolicies:
    """The same answers, at the END of a sequence only."""
    return _AtEnd(0, predict.horizon, tuple(predict.bands))


BEYOND, NEXT_TO_NOTHING = 1e6, 1e-6  # of a channel's deviation: what a raw value cannot be, or hardly
_UNKNOWN_SPREAD = 1e6  # of the values of a model that does not say their deviations


def _what_it_is(model: Model) -> str:
    return (
        f'this one is {model.relation} with target "{model.target}", {len(model.channels)} channels and '
        f"{len(model.outputs)} outputs"
    )


def _forecasts_all(model: Model) -> bool:
    forecasts = model.relation == "sequence-to-sequence" and model.target == "next"
    return forecasts and len(model.outputs) == len(model.channels)


def _raw_bounds(model: Model) -> dict[str, np.ndarray]:
    """What values of a raw message can be, see ``Rules``.

    Wide, as what was still in training may move later: the deviation counts as no less than the mean, or 1.
    Like the means, the bounds are without the channels' offsets.
    """
    mean, std = model.input_mean.astype(np.float64), model.input_std.astype(np.float64)
    spread = np.maximum(np.maximum(std, np.abs(mean + model.offsets)), 1)
    if model.normalisation == "none":
        spread[:] = _UNKNOWN_SPREAD
    float32 = np.finfo(np.float32)
    bounds = {
        "lowest": np.maximum(mean - BEYOND * spread, float32.min),
        "highest": np.minimum(mean + BEYOND * spread, float32.max),
        "least": np.maximum(NEXT_TO_NOTHING * std, float32.tiny),
    }
    return {name: values.astype(np.float32) for name, values in bounds.items()}


def _codes(model: Model, faults: FaultPolicies) -> np.ndarray:
    """The numbers that stand for a missing value, as the model and the configuration say.

    (n, channels) float32: each less the offset of the channel.
    """
    numbers = [*map(float, faults.missing_values), *model.missing_numbers]
    codes = np.unique(np.array(numbers, np.float32)).astype(np.float64)
    return np.ascontiguousarray(codes[:, np.newaxis] - model.offsets, np.float32)


def rules_for(model: Model, faults: FaultPolicies, memory: int) -> Rules:
    """The rules for compiled code; ``memory`` is the adaptation's. Raises ConfigError for what cannot be."""
    if memory and model.head_rows > 1:
        raise ConfigError(
            "adapt: corrections are learned of forecasts of one row, and this model gives "
            f"{model.horizon} at once; leave it out"
        )
    if memory and not _forecasts_all(model):
        raise ConfigError(
            "adapt: only a model that forecasts each of its channels can be corrected by what they turn "
            f"out to be; {_what_it_is(model)}; leave it out"
        )
    for key, policy in (("gap", faults.gap), ("missing", faults.missing)):
        if policy == "predict" and not _forecasts_all(model):
            raise ConfigError(
                f'faults.{key}: "predict" needs a model that forecasts each of its channels; '
                f'{_what_it_is(model)}; use "hold"'
            )
    return Rules(
        # what answers single frames has no state that a missing one could have moved
        gap=GAP_POLICIES.index("step" if model.relation == "vector-to-sequence" else faults.gap),
        max_gap=faults.max_gap,
        missing=MISSING_POLICIES.index(faults.missing),
        period_ns=round(model.sample_period_s * 1e9),
        levels=first_levels(len(model.outputs), model.score or {}, int(switches_of(model).sum())),
        codes=_codes(model, faults),
        threshold=np.float32(model.score["threshold"] if model.score else USUAL_THRESHOLD),
        **_raw_bounds(model),
    )


def kept_of(predict: AnswerPolicies) -> int:
    """``Network.spread``: what streams keep of their errors for these bands."""
    return (KEPT_AHEAD if predict.horizon else KEPT) if predict.bands else NOT_KEPT


def _growth_size(model: Model, rows: int) -> int:
    return rows * len(model.channels) * packed_rows(len(model.outputs))


def bands_for(model: Model, predict: AnswerPolicies) -> Bands:
    """The bands of a model's forecasts. Raises ConfigError for what has none."""
    if predict.bands and (model.relation, model.target) != ("sequence-to-sequence", "next"):
        raise ConfigError(
            "predict.bands: only forecasts of the next row turn out right or wrong with it; "
            f"{_what_it_is(model)}; leave them out"
        )
    if predict.bands and model.head_rows > 1:
        raise ConfigError(
            f"predict.bands: there are none for the {model.horizon} rows that this model gives at once; "
            "leave them out"
        )
    if predict.bands and 4 * _growth_size(model, predict.horizon) > ROOM_BYTES:
        raise ConfigError(
            f"predict.bands: how errors add up over {predict.horizon:,} rows of {len(model.channels):,} "
            f"channels takes over {ROOM_BYTES >> 20} MiB; ask for fewer rows, or leave them out"
        )
    start = model.spread_start if model.spread else None
    return make_bands(predict.bands, len(model.outputs), model.bands, start)


def rows_of_answer(model: Model, predict: AnswerPolicies) -> int:
    """The rows of an answer of several, 0 = none. Raises ConfigError for what cannot be asked of a model."""
    rows = predict.horizon
    if predict.every and (model.relation == "vector-to-sequence" or model.head_rows > 1):
        which = "whose head gives several rows at once" if model.head_rows > 1 else "of vector-to-sequence"
        raise ConfigError(
            f"predict.every: {predict.every}, but a model {which} answers each frame; leave it out"
        )
    if model.relation in ("vector-to-sequence", "encoder-decoder") or model.head_rows > 1:
        if rows not in (0, model.horizon):
            raise ConfigError(
                f"predict.horizon: {rows}, but the model writes {model.horizon} rows, and no other number; "
                "leave it out"
            )
        rows = model.horizon
    elif rows and not _forecasts_all(model):
        raise ConfigError(
            f"predict.horizon: a rollout needs a model that forecasts each of its channels; "
            f"{_what_it_is(model)}; leave it out"
        )
    elif predict.every and not rows and model.relation == "sequence-to-sequence":
        raise ConfigError(
            f"predict.every: every {predict.every} rows of what? this model answers each row; "
            "set predict.horizon, too, for a rollout of so many rows"
        )
    if (size := 4 * rows * len(model.outputs) * parts_of(predict)) > ROOM_BYTES:
        bands, fewer = (" and their bands", "fewer rows, or bands") if predict.bands else ("", "fewer rows")
        raise ConfigError(
            f"{rows:,} rows of {len(model.outputs):,} outputs{bands} are {size >> 20:,} MiB in one message; "
            f"at most {ROOM_BYTES >> 20} are sent, so ask for {fewer}"
        )
    work, steps = _work_of(model), rows // model.head_rows
    if work > MOST_WORK:
        raise ConfigError(
            f"a row of {work:,} multiply-adds would hold up every other stream for seconds; use a smaller "
            "network, or a shorter window"
        )
    if steps * work > MOST_WORK:
        raise ConfigError(
            f"{rows:,} rows of {work:,} multiply-adds each would hold up every other stream for seconds; "
            "ask for fewer rows, or use a smaller network"
        )
    return rows


def refuse_unable(model: Model, faults: FaultPolicies, memory: int, predict: AnswerPolicies) -> None:
    """Raises ConfigError where a model cannot do what a configuration asks of it."""
    rules_for(model, faults, memory)
    rows_of_answer(model, predict)
    bands_for(model, predict)


def _work_of(model: Model) -> int:
    """The multiply-adds of a row: recurrent layers step once for each row of a window."""
    sizes = {name: tensor.size for name, tensor in model.tensors().items() if "weight" in name}
    recurrent = sum(size for name, size in sizes.items() if name.startswith(("weight_", BETWEEN)))
    return sum(sizes.values()) + recurrent * max(model.window - 1, 0)


def parts_of(predict: AnswerPolicies) -> int:
    """Of an answer: its values, and low and high of each band."""
    return 1 + 2 * len(predict.bands)


def batch_rows(network: Network, rows: int, parts: int = 1) -> int:
    """How many rows to take at once, where each may be answered by ``rows`` more in so many ``parts``."""
    room = ROOM_BYTES // max(4 * rows * network.out_width * parts, 1)
    work = WORK // max(max(rows, 1) * work_of(network), 1)
    return max(min(ROWS, room, work), 1)
