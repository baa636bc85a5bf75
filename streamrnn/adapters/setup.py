"""A configuration and a model, turned into what reads messages and makes rows of them."""

from streamrnn.adapters.adapter import Plan
from streamrnn.adapters.gather import Gatherer
from streamrnn.adapters.table import make_adapter
from streamrnn.adapters.tally import IntakeTally
from streamrnn.errors import ConfigError
from streamrnn.model.model import Model
from streamrnn.rows.assembler import Assembler
from streamrnn.settings.config import Config
from streamrnn.settings.sections import Assemble


def make_gatherer(config: Config, model: Model, tally: IntakeTally) -> Gatherer:
    """What makes rows for ``model`` of the messages that ``config`` tells of.

    Raises ConfigError for settings that do not go with the model, or a library that is not there.
    """
    plan = plan_of(config, model)
    assembler = None
    if config.assemble.period_ns > 0:
        assembler = make_assembler(config.assemble, len(plan.channels), config.streams.capacity)
    return Gatherer(make_adapter(config.input.format, plan), plan, assembler, tally)


def plan_of(config: Config, model: Model) -> Plan:
    """What adapters are told. Raises ConfigError for fields of no channel, single values without a raster."""
    settings, channels = config.input, tuple(channel.name for channel in model.channels)
    for name in settings.fields:
        if name not in channels:
            raise ConfigError(f'input.fields: "{name}" is no channel; there are {", ".join(channels)}')
    if "{channel}" in settings.topic and not config.assemble.period_ns:
        raise ConfigError(
            "input.topic: with {channel} a message is a single value, and rows must be made of them; say in "
            'assemble.period how far apart these are, as "1s"'
        )
    return Plan(
        channels=channels,
        stream=settings.stream,
        topic=settings.topic,
        time=settings.time,
        time_unit=settings.time_unit,
        fields=settings.fields,
        dtype=settings.dtype,
        order=settings.order,
        words=words_of(model),
        period_ns=round(model.sample_period_s * 1e9),
    )


def words_of(model: Model) -> dict[str, float]:
    """What texts stand for, as the model was told: casefolded; NaN = a missing value."""
    missing = {word.casefold(): float("nan") for word in model.missing}
    return missing | {word.casefold(): value for word, value in model.words.items()}


def make_assembler(settings: Assemble, channels: int, capacity: int) -> Assembler:
    """The assembler that ``settings`` describe. Raises ConfigError for times that are too far apart."""
    try:
        return Assembler(
            channels=channels,
            period_ns=settings.period_ns,
            take=settings.take,
            hold_ns=settings.hold_ns,
            lateness_ns=settings.lateness_ns,
            capacity=capacity,
        )
    except ValueError as error:
        raise ConfigError(f"assemble: {error}") from None
