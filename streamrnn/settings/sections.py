"""The sections of the configuration: the one place where a setting, its default and meaning are written."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationInfo,
    field_validator,
)

from streamrnn.settings.brokers import is_broker, parse_broker
from streamrnn.settings.retention import parse_keep
from streamrnn.settings.values import (
    STREAM_BYTES,
    check_endpoint,
    check_key,
    check_levels,
    check_stream,
    check_topic,
    format_duration,
    is_key,
    parse_duration,
    span_ns,
    toml_value,
)

LIVE: Any = {"live": True}  # of a setting that a running daemon takes anew at SIGHUP
Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]  # seconds
BindEndpoint = Annotated[str, AfterValidator(lambda text: check_endpoint(text, bind=True))]
ConnectEndpoint = Annotated[str, AfterValidator(lambda text: check_endpoint(text, bind=False))]
SourceEndpoint = Annotated[str, AfterValidator(lambda text: _check_source(text))]
# TOML has lists, a frozen section holds tuples: the container alone is converted, its items are not
Topics = Annotated[tuple[str, ...], Strict(False)]
BindEndpoints = Annotated[tuple[BindEndpoint, ...], Strict(False)]
ConnectEndpoints = Annotated[tuple[ConnectEndpoint, ...], Strict(False)]
SourceEndpoints = Annotated[tuple[SourceEndpoint, ...], Strict(False)]
Codes = Annotated[tuple[Annotated[float, Strict(False), AllowInfNan(False)], ...], Strict(False)]
Levels = Annotated[Codes, AfterValidator(check_levels)]
Keys = Annotated[tuple[Annotated[str, AfterValidator(check_key)], ...], Strict(False)]


OF_ONE_PART = ("json", "msgpack")  # formats of messages that a broker can bring


def _check_source(text: str) -> str:
    if not is_broker(text):
        return check_endpoint(text, bind=False)
    parse_broker(text)
    return text


def _check_keep(text: str) -> str:
    parse_keep(text)
    return text


def beside_the_file(name: str, info: ValidationInfo) -> str:
    """A path that a configuration names: a relative one starts at the file's folder."""
    folder = (info.context or {}).get("folder")
    return str(folder / name) if name and folder else name


class Section(BaseModel):
    """A frozen table of settings that refuses unknown keys and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Input(Section):
    connect: SourceEndpoints = Field(
        default=(), description="endpoints of publishers to connect to, and of MQTT brokers"
    )
    bind: BindEndpoints = Field(default=(), description="endpoints to bind, for publishers that connect")
    socket: Literal["sub", "pull"] = Field(default="sub", description='"sub" beside PUB, "pull" beside PUSH')
    topics: Topics = Field(default=("",), description='prefixes of the stream ids to take ("sub" only)')
    format: Literal["frame", "raw", "array", "json", "msgpack", "gnuradio", "bsread", "open-ephys"] = Field(
        default="frame",
        validate_default=True,
        description='"frame", "raw": float32 values alone, or what other senders speak',
    )
    stream: str = Field(
        default="",
        description='whose messages are: an id, "{1}" of their topic, or a key; "" = nobody\'s',
    )
    topic: Annotated[str, AfterValidator(check_topic)] = Field(
        default="", description='what the parts of topics are: "plant/{stream}/{channel}"'
    )
    time: str = Field(default="time", description='key of the source time; "" = when a message came')
    time_unit: Literal["", "s", "ms", "us", "ns"] = Field(
        default="",
        description='of times: "s", "ms", "us", "ns"; "" = told by size, or name of key',
    )
    dtype: Literal["float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32"] = Field(
        default="float32",
        description="of values whose message does not say it",
    )
    order: Literal["C", "F"] = Field(
        default="C", description='"F" for arrays that have the values of a channel side by side'
    )
    fields: Annotated[dict[str, str], Strict(False)] = Field(
        default={},
        description="channel = path.of.its.key, where its name is not it",
    )

    @field_validator("topics")
    @classmethod
    def _topics_need_sub(cls, topics: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("socket") == "pull" and topics != ("",):
            raise ValueError('a "pull" socket takes every frame; leave topics out, or use socket = "sub"')
        if not topics:
            raise ValueError('[] receives nothing; use [""] for every stream')
        return topics

    @field_validator("format")
    @classmethod
    def _is_what_brokers_bring(cls, name: str, info: ValidationInfo) -> str:
        if any(map(is_broker, info.data.get("connect") or ())) and name not in OF_ONE_PART:
            raise ValueError(
                f"{toml_value(name)} is not what comes over MQTT; write "
                + " or ".join(f"format = {toml_value(one)}" for one in OF_ONE_PART)
            )
        return name

    @field_validator("stream")
    @classmethod
    def _names_a_stream(cls, stream: str, info: ValidationInfo) -> str:
        if info.data.get("format") in ("frame", "raw"):
            return check_stream(stream)
        if len(stream.encode()) > STREAM_BYTES or not stream.isprintable():
            raise ValueError(
                f"write at most {STREAM_BYTES} letters: an id, {{1}} for a part of the topic, or a key"
            )
        return stream

    @property
    def adapted(self) -> bool:
        """Whether messages are read by an adapter."""
        return self.format not in ("frame", "raw")

    @property
    def publishers(self) -> tuple[str, ...]:
        """Of ``connect`` the endpoints of ZeroMQ."""
        return tuple(endpoint for endpoint in self.connect if not is_broker(endpoint))

    @property
    def brokers(self) -> tuple[str, ...]:
        """Of ``connect`` those of MQTT."""
        return tuple(endpoint for endpoint in self.connect if is_broker(endpoint))


class Assemble(Section):
    period: str = Field(
        default="0",
        description='time from row to row; "0" = a message is a row; else single values are',
    )
    take: Literal["last", "mean", "min", "max"] = Field(
        default="last", description='of the values in a row\'s time: "last", "mean", "min" or "max"'
    )
    hold: str = Field(
        default="10 periods",
        description="how long a value stands for a silent channel; missing after it",
    )
    lateness: str = Field(
        default="1 period", description="how far behind the newest time of its stream a value may come"
    )

    @field_validator("period", "hold", "lateness")
    @classmethod
    def _is_a_time(cls, text: str, info: ValidationInfo) -> str:
        span_ns(text)
        if info.field_name == "period" and "period" in text:
            raise ValueError(f'{text!r} says nothing; write a time, as "1s", or "0"')
        return text

    @property
    def period_ns(self) -> int:
        """0 = a message is a row."""
        return span_ns(self.period)

    @property
    def hold_ns(self) -> int:
        return span_ns(self.hold, self.period_ns)

    @property
    def lateness_ns(self) -> int:
        return span_ns(self.lateness, self.period_ns)


class Output(Section):
    bind: BindEndpoints = Field(default=(), description="endpoints to publish predictions on")
    connect: ConnectEndpoints = Field(default=(), description="endpoints of subscribers that bind")
    format: Literal["prediction", "json"] = Field(
        default="prediction", description='"prediction": header and values, or "json": an object'
    )


class Streams(Section):
    capacity: int = Field(default=4096, ge=1, le=10_000_000, description="streams held, 1 to 10000000")
    idle_timeout: Duration = Field(
        default=3600.0, description='a stream this silent is let go, "0" = never', json_schema_extra=LIVE
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="threads that step streams, up to 64; 0 = by the network and the cores",
    )


class Predict(Section):
    every: int = Field(
        default=0,
        ge=0,
        le=2**31,
        description="rows from one answer to a sequence, or rollout, to the next, 0 = at END",
    )
    horizon: int = Field(
        default=0, ge=0, le=65535, description="rows of a rollout of a next-frame model, 0 = none"
    )
    bands: Levels = Field(default=(), description="shares of errors that bands hold, as [0.5, 0.9]")


class Faults(Section):
    gap: Literal["step", "hold", "predict"] = Field(
        default="hold",
        description='missing rows: "step" over, "hold" the last input, or "predict" them',
        json_schema_extra=LIVE,
    )
    max_gap: int = Field(
        default=64,
        ge=0,
        le=1024,
        description="missing rows past which a stream resets, 0 to 1024",
        json_schema_extra=LIVE,
    )
    missing: Literal["reject", "hold", "predict"] = Field(
        default="hold",
        description='NaN: "reject" the row, "hold" the last value, or "predict" it',
        json_schema_extra=LIVE,
    )
    missing_values: Codes = Field(
        default=(),
        max_length=64,
        description="numbers that mean a missing value, beside the model's own",
        json_schema_extra=LIVE,
    )


class Adapt(Section):
    enabled: bool = Field(
        default=False,
        description="true corrects each stream's forecasts by what its channels turned out to be",
    )
    memory: int = Field(
        default=500,
        ge=100,
        le=10_000,
        description="rows over which a correction is learned, 100 to 10000",
    )

    @property
    def rows(self) -> int:
        """The memory, 0 where nothing is adapted."""
        return self.memory if self.enabled else 0


class State(Section):
    live: str = Field(
        default="", description='folder on tmpfs for the live state, as /run/streamrnn; "" = memory only'
    )
    snapshots: str = Field(default="", description='folder on disk for snapshots; "" = none')
    interval: Duration = Field(
        default=10.0, gt=0, description="time between snapshots", json_schema_extra=LIVE
    )
    keep: Annotated[str, AfterValidator(_check_keep)] = Field(
        default="2",
        description='newest snapshots that stay, and older ones, as "2, 24h hourly, 30d daily"',
        json_schema_extra=LIVE,
    )

    @field_validator("live", "snapshots")
    @classmethod
    def _starts_at_the_file(cls, name: str, info: ValidationInfo) -> str:
        path = beside_the_file(name, info)
        if path and path == info.data.get("live"):
            raise ValueError("is the folder of state.live, too; name one on a disk")
        return path


class Security(Section):
    server_secret: str = Field(
        default="", description='file of the CURVE secret key (`streamrnn keygen`), "" = no CURVE'
    )
    client_keys: Keys = Field(
        default=(),
        validate_default=True,
        description="public keys that may publish to the input",
        json_schema_extra=LIVE,
    )
    output_clients: Keys = Field(
        default=(),
        validate_default=True,
        description="public keys that may subscribe to the output",
        json_schema_extra=LIVE,
    )
    insecure: bool = Field(default=False, description="true lets sockets bind beyond loopback without CURVE")

    @field_validator("server_secret")
    @classmethod
    def _names_a_file(cls, name: str, info: ValidationInfo) -> str:
        # no file is called like this: it is the secret itself, which must not appear in an error
        if is_key(name) and set(name) & set("^!*?&<>()[]{}$#"):
            raise ValueError("holds a key; name a file that holds it, and that its owner alone can read")
        return beside_the_file(name, info)

    @field_validator("client_keys", "output_clients")
    @classmethod
    def _go_with_a_secret(cls, keys: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        secret = info.data.get("server_secret")  # None: wrong, and already reported
        if secret and not keys:
            raise ValueError("[] lets nobody in; name public keys (`streamrnn keygen` prints them)")
        if keys and secret == "":
            raise ValueError("keys are checked by CURVE alone; set security.server_secret, or remove them")
        return keys


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description='least severe to log: "debug", "info", "warning" or "error"',
        json_schema_extra=LIVE,
    )
    format: Literal["text", "json"] = Field(
        default="text", description='lines of "text", or of "json"', json_schema_extra=LIVE
    )
