"""Record: what comes over the wire, of any input format, as tables that `train`, `replay`, `send` take."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa

from streamrnn.adapters.adapter import Adapter, Harvest, Message, Plan, Refused
from streamrnn.adapters.gather import read_all, topic_of
from streamrnn.adapters.table import find_channels, make_adapter
from streamrnn.adapters.tally import IntakeTally, in_letters
from streamrnn.client.recorded import LongTable, WideTable
from streamrnn.client.subscription import Subscription
from streamrnn.errors import UserError
from streamrnn.settings.broker_section import Mqtt
from streamrnn.settings.curve_keys import ClientKeys
from streamrnn.settings.sections import Input
from streamrnn.table.columns import quoted_names
from streamrnn.table.progress import Line, counted
from streamrnn.table.record_files import RecordFiles, Rotation
from streamrnn.table.recorded import SEQ, STREAM, TIME

LOOK_S = 1.0  # how long messages are looked at for their channels
_LOOK_MESSAGES, _LOOK_BYTES = 10_000, 1 << 26  # and how many of them at most
_AGAIN_S, _AGAIN_MESSAGES = 0.2, 20  # how often, and how many, for channels that come later
_WAIT_MS = 100
_MOST_STREAMS = 1_000_000  # that are told apart
_MOST_KEYS = 1000  # that are said to be left out


@dataclass(frozen=True)
class RecordOptions:
    """What to record, and where to."""

    input: Input
    output: str  # a file, a folder, or - for standard output
    kind: str | None = None  # "csv" or "parquet"; None = by the output's name
    rotation: Rotation | None = None
    force: bool = False
    channels: tuple[str, ...] | None = None  # names and order; None = as messages show
    period_ns: int = 0  # between the rows of a message that does not say; 0 = unknown
    words: Mapping[str, float] = field(default_factory=dict)  # casefolded -> what each stands for
    seconds: float | None = None
    rows: int | None = None
    keys: ClientKeys | None = None  # to talk to a publisher that has a CURVE key
    login: Mqtt = field(default_factory=Mqtt)  # and to brokers
    progress: bool = False


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded."""

    rows: int
    values: bool  # whether a row is a single value
    streams: int
    channels: int
    messages: int
    seconds: float
    rejected: dict[str, int]  # by reason
    last: dict[str, str]  # of each reason: what was wrong with the last
    files: list[str]

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | {"rows_per_s": self.rows / self.seconds}

    def text(self) -> str:
        what = counted(self.rows, "value" if self.values else "row")
        where = f" into {self.files[0]}" if len(self.files) == 1 and self.rows else ""
        where = (
            f" into {counted(len(self.files), 'file')}, {self.files[0]} first"
            if len(self.files) > 1
            else where
        )
        lines = [
            f"recorded {what} of {counted(self.streams, 'stream')} in {self.seconds:.2f} s, "
            f"{self.rows / self.seconds:,.0f} a second{where}"
        ]
        for reason, count in self.rejected.items():
            lines.append(
                f"{counted(count, 'message')} or rows rejected as {reason}; the last: {self.last[reason]}"
            )
        if not self.rows:
            lines.append("nothing came that could be recorded" if self.messages else "nothing came")
        return "\n".join(lines)


def record(options: RecordOptions, stopped: Callable[[], bool] = lambda: False) -> RecordSummary:
    """Records until ``stopped``, or as long as the options say.

    Raises UserError for endpoints and outputs that cannot be used. Whatever ends it, what was taken until
    then is in the files, and if it is an error stderr has said how much that is.
    """
    recorder = Recorder(options)
    line, began = Line(options.progress), time.monotonic()
    try:
        with Subscription(options.input, options.keys, options.login) as subscription:
            if subscription.bound:
                sys.stderr.write(f"listening on {subscription.bound}\n")
            while not (stopped() or recorder.full):
                left = _WAIT_MS if options.seconds is None else _left_ms(began, options.seconds)
                if left <= 0:
                    break
                came = subscription.take(min(left, _WAIT_MS))
                recorder.take(came.messages, came.refused)
                line.show(recorder.progress)
        recorder.finish()
    except BaseException as error:
        line.clear()
        recorder.give_up()
        if isinstance(error, UserError) and recorder.summary().rows:
            sys.stderr.write(f"{recorder.summary().text()}\n")
        raise
    finally:
        line.clear()
    return recorder.summary()


def _left_ms(began: float, seconds: float) -> int:
    return round(1000 * (seconds - (time.monotonic() - began)))


class Recorder:
    """Messages into files."""

    def __init__(self, options: RecordOptions) -> None:
        settings = options.input
        self._single = "{channel}" in settings.topic
        self._format, self._limit = settings.format, options.rows
        self._plan = Plan(
            channels=(),
            **{key: getattr(settings, key) for key in ("stream", "topic", "time", "time_unit", "fields")},
            dtype=settings.dtype,
            order=settings.order,
            period_ns=options.period_ns,
            words=options.words,
        )
        self._adapter: Adapter | None = None
        self._table: WideTable | LongTable | None = None
        self._tally, self._names = IntakeTally(settings.format), set[str]()
        self._waiting: list[Message] = []  # to be looked at for their channels
        self._waiting_bytes, self._look_until, self._next_look = 0, 0.0, 0.0
        self._told = set[str]()
        self._left_out: set[str] | None = None  # what was said to be; None = channels were told
        self._began = time.monotonic()
        if self._single:
            told = tuple(options.channels or settings.fields)
            self._begin(replace(self._plan, channels=told, met=None if options.channels else []))
        elif options.channels:
            _check_names(options.channels)
            self._begin(replace(self._plan, channels=options.channels))
        else:
            find_channels(self._format, self._plan, [])  # or it can never be told
            self._left_out = set()
        self._files = RecordFiles(options.output, options.kind, options.rotation, options.force)

    @property
    def full(self) -> bool:
        """Whether there are as many rows as were asked for."""
        return self._limit is not None and self._files.rows >= self._limit

    def take(self, messages: Sequence[Message], refused: Sequence[Refused] = ()) -> None:
        """Records what came, or keeps it until its channels are known. Raises UserError."""
        self._tally.messages += len(messages) + len(refused)
        self._tally.refuse(refused)
        if refused:
            self._tell()
        if self._adapter is None:
            self._look_at(messages)
        elif messages:
            self._read(messages)
            self._look_again(messages)
        self._files.keep_up()

    def finish(self) -> None:
        """Ends the files. Raises UserError."""
        if self._adapter is None and self._waiting:
            self._settle()
        self._files.finish()

    def give_up(self) -> None:
        """Ends the files as well as can be, behind an error."""
        with suppress(UserError, OSError):
            self._files.finish()

    def progress(self) -> str:
        rows, a_second = self._files.rows, self._files.rows / max(time.monotonic() - self._began, 1e-9)
        what = "values" if self._single else "rows"
        return (
            f"{rows:,} {what} of {counted(len(self._names), 'stream')}, {a_second:,.0f} a second, "
            f"{sum(self._tally.joined({}).values()):,} rejected"
        )

    def summary(self) -> RecordSummary:
        return RecordSummary(
            rows=self._files.rows,
            values=self._single,
            streams=len(self._names),
            channels=0 if self._adapter is None else len(self._plan.met or self._plan.channels),
            messages=self._tally.messages,
            seconds=max(time.monotonic() - self._began, 1e-9),
            rejected=self._tally.joined({}),
            last={reason: turned.what for reason, turned in self._tally.refused.items()},
            files=self._files.files,
        )

    def _begin(self, plan: Plan) -> None:
        """Reads with these channels from here on."""
        self._plan, self._adapter = plan, make_adapter(self._format, plan)
        if self._single:
            self._table = LongTable(plan.channels if plan.met is None else plan.met)
        else:
            self._table = WideTable(plan.channels, plan.words, self._format == "frame")

    def _look_at(self, messages: Sequence[Message]) -> None:
        """Keeps messages until enough have come to tell their channels."""
        now = time.monotonic()
        if messages and not self._waiting:
            self._look_until = now + LOOK_S
        self._waiting += messages
        self._waiting_bytes += sum(len(part) for message in messages for part in message.parts)
        many = len(self._waiting) >= _LOOK_MESSAGES or self._waiting_bytes >= _LOOK_BYTES
        if self._waiting and (many or now >= self._look_until):
            self._settle()

    def _settle(self) -> None:
        """Takes the channels of what has come, and records it."""
        messages, self._waiting, self._waiting_bytes = self._waiting, [], 0
        found = find_channels(self._format, self._plan, messages)
        channels = (
            [] if found is None else [name for name in found.channels if name not in (STREAM, TIME, SEQ)]
        )
        if found is None or not channels:
            what = "it shows no channel that could be recorded"
            self._tally.refuse(Refused("channels", topic_of(message), what) for message in messages)
            self._tell()
            return
        self._say_left_out([name for name in found.channels if name not in channels])
        if found.texts:
            texts = quoted_names(found.texts)
            sys.stderr.write(f"warning: left out, as their values are text: {texts}\n")
        sys.stderr.write(f"recording {counted(len(channels), 'channel')}: {quoted_names(channels)}\n")
        fields = {name: path for name, path in found.fields.items() if name in channels}
        self._begin(replace(self._plan, channels=tuple(channels), fields=fields))
        self._read(messages)

    def _look_again(self, messages: Sequence[Message]) -> None:
        """Says which channels there are besides, now and then."""
        now = time.monotonic()
        if self._left_out is None or now < self._next_look or not self._plan.channels:
            return
        self._next_look = now + _AGAIN_S
        found = find_channels(self._format, self._plan, messages[-_AGAIN_MESSAGES:])
        if found is not None and self._format not in ("frame", "raw"):
            self._say_left_out([name for name in found.channels if name not in self._plan.channels])

    def _tell(self) -> None:
        """Says once of each reason what was rejected, and what else a user should know."""
        news = {f"note: {about}": text for about, text in self._tally.notes.items()}
        for reason, turned in self._tally.refused.items():
            whose = (
                f' of "{in_letters(turned.topic.decode(errors="backslashreplace"))}"' if turned.topic else ""
            )
            news[reason] = f"rejected, as {reason}, a message{whose}: {turned.what}; others will be counted"
        for what, text in news.items():
            if what not in self._told:
                self._told.add(what)
                sys.stderr.write(f"warning: {text}\n")

    def _say_left_out(self, names: Sequence[str]) -> None:
        assert self._left_out is not None
        if len(self._left_out) < _MOST_KEYS and (
            new := [name for name in names if name not in self._left_out]
        ):
            self._left_out |= {*new}
            sys.stderr.write(f"left out: {quoted_names(new)}; --channels says what is recorded\n")

    def _read(self, messages: Sequence[Message]) -> None:
        assert self._adapter is not None and self._table is not None
        harvest = Harvest()
        _, came_ns = read_all(self._adapter, messages, harvest)
        batches = self._table.batches(harvest, {message.came_ns for message in messages})
        self._tally.refuse(harvest.refused)
        for batch in batches:
            self._tally.compare(batch.column(TIME).cast(pa.int64()).to_numpy(zero_copy_only=False), came_ns)
        if harvest.note:
            self._tally.note("stream", harvest.note)
        self._tell()
        for batch in batches:
            if self._limit is not None:
                batch = batch[: self._limit - self._files.rows]
            if len(self._names) < _MOST_STREAMS:
                column = batch.column(STREAM)
                of = np.unique(column.indices.to_numpy()).tolist()
                self._names |= {column.dictionary[index].as_py() for index in of}
            if len(batch):
                self._files.write(batch)


def _check_names(channels: Sequence[str]) -> None:
    if taken := [name for name in channels if name in (STREAM, TIME, SEQ)]:
        raise UserError(f'a channel "{taken[0]}" cannot be recorded: a column of the file has that name')


@contextmanager
def until_stopped() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT, SIGTERM or SIGHUP came; a second one ends the program as ever."""
    stop = threading.Event()
    before = dict[int, Any]()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[each] = signal.signal(each, on_signal)
    try:
        yield stop.is_set
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
