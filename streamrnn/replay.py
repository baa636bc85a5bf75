"""Replay: the engine over a file, as fast as it goes or at the speed of its time column.

Reading, stepping and writing overlap: while the engine steps one block, one thread reads the next and
another writes the one before. No more than those three are held.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamrnn.engine import ROOM_BYTES, Answers, Engine, Faults, Predict
from streamrnn.errors import UserError
from streamrnn.jit import compiled, slow_notice
from streamrnn.model.model import Model
from streamrnn.model.native import read_model
from streamrnn.stats import LATE, MISSING_ROWS, PREDICTIONS, REASONS
from streamrnn.streams.batch import PREDICTED
from streamrnn.table import Columns, RowReader, Rows, Writer, open_rows, open_writer
from streamrnn.table.ends import NO_ENDS, Ends, find_ends, with_ends
from streamrnn.table.pace import Pacer
from streamrnn.table.progress import Progress, counted
from streamrnn.wire.frame import END

Ended = tuple[Rows, np.ndarray]  # rows, and which are the last of their streams
STEP_BOUNDS_NS = np.geomspace(1, 1e10, 2001)  # each 1.2 % above the one before
FORECAST, PERSISTENCE, CELLS = range(3)  # sums of squares, and how many


@dataclass(frozen=True)
class ReplayOptions:
    """What to replay, by which rules, and where to."""

    source: str  # a file, or - for standard input
    model: Path
    faults: Faults
    output: str = "-"
    format: str | None = None  # "csv", "ndjson" or "parquet"; None = by the output's name
    speed: float | None = None  # times real time; None = as fast as it goes
    limit: int | None = None
    columns: Columns = field(default_factory=Columns)
    delimiter: str | None = None
    on_error: str = "fail"  # or "skip"
    capacity: int = 65536  # streams
    progress: bool = False
    predict: Predict = field(default_factory=Predict)


@dataclass(frozen=True)
class Summary:
    """What came of a replay. Errors are root mean squares over outputs, in standard deviations."""

    rows: int
    predicted: int
    rejected: dict[str, int]  # by reason, those that occurred
    late: int
    missing: int  # rows that a gap in seq says were there
    skipped: int  # bad rows of the file
    streams: int
    seconds: float
    rows_per_s: float
    step_p50_us: float | None
    step_p99_us: float | None
    one_step_error: float | None  # of the forecast made at a row, against the next row of its stream
    persistence_error: float | None  # of taking the row itself as the forecast, at the same rows

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        speed = f"{self.rows:,} rows of {counted(self.streams, 'stream')} in {self.seconds:.2f} s"
        speed += f", {self.rows_per_s:,.0f} rows/s"
        if self.step_p50_us is not None:
            speed += f", step p50 {self.step_p50_us:.2f} us, p99 {self.step_p99_us:.2f} us"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.rejected.items())
        fates = [
            f"{self.predicted:,} predicted",
            f"{sum(self.rejected.values()):,} rejected" + (f" ({reasons})" if reasons else ""),
            f"{self.late:,} late",
            f"{self.missing:,} missing",
            f"{self.skipped:,} skipped",
        ]
        lines = [speed, ", ".join(fates)]
        if self.one_step_error is not None:
            errors = f"one-step error {self.one_step_error:.4g}, persistence {self.persistence_error:.4g}"
            lines.append(f"{errors} (root mean square, in standard deviations)")
        return "\n".join(lines)


def replay(options: ReplayOptions) -> Summary:
    """Steps the model over every row of a file and writes a row of results for each.

    Raises UserError for a file, a row or an output that cannot be used, and ConfigError for such a
    model; a file of results is then left out. At KeyboardInterrupt the file holds what was done, stderr
    says so, and the interrupt goes on to the caller, as a BrokenPipeError does.
    """
    _keep_inputs(options)
    model = read_model(options.model)
    engine = Engine(model, options.capacity, options.faults, predict=options.predict)
    channels = [channel.name for channel in model.channels]
    ends = _ends(options, model, channels)
    with open_rows(
        options.source, channels, options.columns, options.delimiter, options.on_error, options.limit
    ) as reader:
        pacer = Pacer(reader, None, options.speed, model.sample_period_s)
        tally = Tally(model)
        _compile(engine, tally)
        outputs = [output.name for output in model.outputs]
        writer = open_writer(options.output, options.format, outputs, reader.time_type, engine.rows > 0)
        progress = Progress(options.progress and not (options.output == "-" and sys.stdout.isatty()))
        try:
            _run(engine, reader, ends, pacer, writer, tally, progress)
        except KeyboardInterrupt:
            writer.finish()
            progress.clear()
            rows = counted(writer.rows, "row")
            sys.stderr.write(f"interrupted: {writer.name} holds the results of the first {rows}\n")
            raise
        except BaseException:
            writer.discard()
            raise
        finally:
            progress.clear()
        writer.finish()
        return tally.summary(engine, reader, progress)


def _compile(engine: Engine, tally: "Tally") -> None:
    """Compiles what is compiled, before the clock starts."""
    channels = len(engine.model.channels)
    none = np.zeros(0, np.int64)
    rows = Rows(
        none.astype(np.int32), np.zeros((0, channels), np.float32), none.astype(np.uint64), none, None, 1
    )
    with slow_notice(lambda words: sys.stderr.write(f"{words}\n")):
        tally.add(rows, engine.feed([], rows.stream, rows.values, rows.seq, rows.ts_ns))


def _keep_inputs(options: ReplayOptions) -> None:
    """Raises UserError if the output would replace what is read."""
    output = Path(options.output)
    for source in (Path(options.source), options.model):
        if output.is_file() and source.is_file() and output.samefile(source):
            raise UserError(f"{output}: is read by this replay; give the output another name")


def _ends(options: ReplayOptions, model: Model, channels: list[str]) -> Ends:
    """Where the sequences end, if that is when they are answered."""
    if model.relation == "vector-to-sequence" or not (
        options.predict.horizon or model.relation != "sequence-to-sequence"
    ):
        return NO_ENDS
    ends = find_ends(options.source, channels, options.columns, options.delimiter, options.on_error)
    if ends is None:
        sys.stderr.write(
            "warning: from a pipe, the last rows of its streams cannot be told; give the file's name\n"
        )
    return ends or NO_ENDS


def _run(
    engine: Engine,
    reader: RowReader,
    ends: Ends,
    pacer: Pacer,
    writer: Writer,
    tally: "Tally",
    progress: Progress,
) -> None:
    """All rows through the engine. When this returns or raises, both threads have ended."""
    with ThreadPoolExecutor(2) as pool:
        written: Future[None] | None = None
        try:
            for block, last in _ahead(pool, with_ends(reader, ends)):
                flags = last * np.uint16(END)
                for which in _portions(engine, pacer.slices(pacer.due(block))):
                    rows = block.part(which)
                    answers = engine.feed(
                        reader.streams, rows.stream, rows.values, rows.seq, rows.ts_ns, flags[which]
                    )
                    _check_capacity(engine)
                    if written is not None:
                        written.result()
                    written = pool.submit(writer.write, rows, reader.streams, answers)
                    tally.add(rows, answers)
                    progress.add(len(rows.seq))
            if written is not None:
                written.result()
        finally:
            reader.stop()


def _ahead(pool: ThreadPoolExecutor, blocks: Iterator[Ended]) -> Iterator[Ended]:
    """The blocks, the next one being read while one is worked on."""
    following = pool.submit(next, blocks, None)
    while (block := following.result()) is not None:
        following = pool.submit(next, blocks, None)
        yield block


def _portions(engine: Engine, slices: Iterator[slice]) -> Iterator[slice]:
    """The same slices, none so long that the answers of several rows to it take much memory."""
    most = max(ROOM_BYTES // (4 * max(engine.rows * len(engine.model.outputs), 1)), 1)
    for which in slices:
        for begin in range(which.start, which.stop, most):
            yield slice(begin, min(begin + most, which.stop))


def _check_capacity(engine: Engine) -> None:
    if engine.stats.rejected[REASONS.index("capacity")]:
        raise UserError(
            f"more than {engine.capacity:,} streams; raise --capacity, or replay the file in parts"
        )


class Tally:
    """What a summary is made of, kept up block by block."""

    def __init__(self, model: Model) -> None:
        self._steps = np.zeros(len(STEP_BOUNDS_NS) + 1, np.int64)  # a histogram of the times of a step
        forecasts = model.relation == "sequence-to-sequence" and model.target == "next"
        self._errors = OneStepError(model) if forecasts else None

    def add(self, rows: Rows, answers: Answers) -> None:
        step_ns = answers.step_ns[answers.outcome == PREDICTED]
        buckets = np.searchsorted(STEP_BOUNDS_NS, step_ns)
        self._steps += np.bincount(buckets, minlength=len(self._steps))
        if self._errors is not None:
            self._errors.add(rows, answers)

    def summary(self, engine: Engine, reader: RowReader, progress: Progress) -> Summary:
        counters, rejected = engine.stats.counters, engine.stats.rejected
        rows, seconds = progress.rows, progress.seconds
        forecast, persistence = self._errors.roots() if self._errors is not None else (None, None)
        return Summary(
            rows=rows,
            predicted=int(counters[PREDICTIONS]),
            rejected={reason: int(n) for reason, n in zip(REASONS, rejected, strict=True) if n},
            late=int(counters[LATE]),
            missing=int(counters[MISSING_ROWS]),
            skipped=reader.skipped,
            streams=len(reader.streams) if rows else 0,
            seconds=seconds,
            rows_per_s=rows / seconds,
            step_p50_us=_quantile_us(self._steps, 0.5),
            step_p99_us=_quantile_us(self._steps, 0.99),
            one_step_error=forecast,
            persistence_error=persistence,
        )


class Past(NamedTuple):
    """What is kept of each stream's last row, and the sums so far."""

    forecast: np.ndarray  # (streams, outputs) float32
    values: np.ndarray  # (streams, outputs) float32
    epoch: np.ndarray  # (streams,) int64; -1 = no row yet
    scale: np.ndarray  # (outputs,) float64: 1 / standard deviation
    sums: np.ndarray  # (3,) float64: FORECAST, PERSISTENCE, CELLS


@compiled
def _compare(stream: np.ndarray, values: np.ndarray, answers: Answers, past: Past) -> None:
    """Holds each row against what was kept of the one before it in its stream, then keeps it."""
    for row in range(stream.size):
        if answers.outcome[row] != PREDICTED:
            continue
        at = stream[row]
        follows = answers.gap[row] == 0 and past.epoch[at] == np.int64(answers.epoch[row])
        past.epoch[at] = answers.epoch[row]
        for output in range(past.scale.size):
            value = values[row, output]
            error = (value - past.forecast[at, output]) * past.scale[output]
            change = (value - past.values[at, output]) * past.scale[output]
            if follows and not np.isnan(change):
                past.sums[FORECAST] += error * error
                past.sums[PERSISTENCE] += change * change
                past.sums[CELLS] += 1
            past.forecast[at, output] = answers.values[row, output]
            past.values[at, output] = value


class OneStepError:
    """The forecast made at each row against the next row of its stream, beside persistence.

    Rows after a gap or a reset and missing values count for neither.
    """

    def __init__(self, model: Model) -> None:
        outputs = len(model.outputs)
        self._past = Past(
            forecast=np.zeros((0, outputs), np.float32),
            values=np.zeros((0, outputs), np.float32),
            epoch=np.zeros(0, np.int64),
            scale=1 / model.output_std.astype(np.float64),
            sums=np.zeros(3),
        )

    def add(self, rows: Rows, answers: Answers) -> None:
        self._make_room(int(rows.stream.max(initial=-1)) + 1)
        _compare(rows.stream, rows.values, answers, self._past)

    def _make_room(self, streams: int) -> None:
        past, have = self._past, len(self._past.epoch)
        if streams > have:
            new = max(streams, 2 * have) - have
            none = np.zeros((new, len(past.scale)), np.float32)
            self._past = past._replace(
                forecast=np.concatenate([past.forecast, none]),
                values=np.concatenate([past.values, none]),
                epoch=np.concatenate([past.epoch, np.full(new, -1)]),
            )

    def roots(self) -> tuple[float | None, float | None]:
        """Root mean squares of forecast and persistence; None when no row follows another."""
        sums = self._past.sums
        if not sums[CELLS]:
            return None, None
        forecast, persistence = np.sqrt(sums[:CELLS] / sums[CELLS])
        return float(forecast), float(persistence)


def _quantile_us(buckets: np.ndarray, share: float) -> float | None:
    total = int(buckets.sum())
    if not total:
        return None
    bucket = int(np.searchsorted(np.cumsum(buckets), share * total))
    return float(STEP_BOUNDS_NS[min(bucket, len(STEP_BOUNDS_NS) - 1)]) / 1000
