"""Replay: the engine over a file, as fast as it goes or at the speed of its time column.

Reading, stepping and writing overlap: while the engine steps one block, one thread reads the next and
another writes the one before. No more than those three are held.
"""

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from streamrnn.compiling.jit import compiling
from streamrnn.engine.engine import Engine
from streamrnn.engine.options import AT_END, ROOM_BYTES, AnswerPolicies, FaultPolicies
from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import read_model
from streamrnn.replay.learned import Learned, Learning
from streamrnn.replay.report import ReplayReport
from streamrnn.replay.summary import Summary, Tally
from streamrnn.stats import REASONS
from streamrnn.table import Reading, ResultWriter, RowReader, Rows, WholeFile, open_rows, open_writer
from streamrnn.table.ends import NO_ENDS, PIPED, Ends, find_ends, with_ends
from streamrnn.table.first import FirstRows
from streamrnn.table.output import Nowhere
from streamrnn.table.pace import Pacer
from streamrnn.table.progress import Progress, counted
from streamrnn.table.results import ResultKind
from streamrnn.table.with_model import check_units, with_model
from streamrnn.wire.frame import END, RESET

Ended = tuple[Rows, np.ndarray]  # rows, and which are the last of their streams


@dataclass(frozen=True)
class ReplayOptions:
    """What to replay, by which rules, and where to."""

    source: str  # a file, or - for standard input
    model: Path | None  # None = one beside the file or here, else one learned from the file's first part
    faults: FaultPolicies
    output: str | None = "-"  # None = nowhere
    format: str | None = None  # "csv", "ndjson" or "parquet"; None = by the output's name
    speed: float | None = None  # times real time; None = as fast as it goes
    reading: Reading = field(default_factory=Reading)
    capacity: int = 65536  # streams
    progress: bool = False
    predict: AnswerPolicies = AT_END
    memory: int = 0  # of the adaptation, in rows; 0 = there is none
    report: str | None = None  # a file for a page about it
    learning: Learning = field(default_factory=Learning)  # where there is no model


def replay(options: ReplayOptions) -> Summary:
    """Steps the model over every row of a file and writes a row of results for each.

    Raises UserError for a file, a row or an output that cannot be used, and ConfigError for such a
    model; a file of results, and a report, is then left out. At KeyboardInterrupt both hold what was done,
    stderr says so, and the interrupt goes on to the caller, as a BrokenPipeError does.
    """
    _keep_inputs(options)
    through = options.model or _find_or_learn(options)
    model = through.model if isinstance(through, Learned) else read_model(through)
    engine = Engine(model, options.capacity, options.faults, predict=options.predict, memory=options.memory)
    report = ReplayReport(options.report, engine) if options.report is not None else None
    with report or contextlib.nullcontext():
        return _replay(options, engine, through, report)


def _find_or_learn(options: ReplayOptions) -> Path | Learned:
    """A model for a recording that came without one, once it is known that results can be written."""
    from streamrnn.replay.alone import find_or_learn
    from streamrnn.train.data.recording import DataOptions

    for output in (options.output, options.report):
        if output not in (None, "-") and (Path(output).is_file() or not Path(output).exists()):
            WholeFile(output).discard()
    data = DataOptions((options.source,), reading=options.reading)
    return find_or_learn(data, options.learning, options.progress)


def _replay(
    options: ReplayOptions, engine: Engine, through: Path | Learned, report: ReplayReport | None
) -> Summary:
    model = engine.model
    channels = [channel.name for channel in model.channels]
    ends = _ends(options, model, channels)
    reading = with_model(options.reading, model)
    with open_rows(options.source, channels, reading, period_s=model.sample_period_s) as reader:
        if not isinstance(through, Learned):  # what was learned says as much
            sys.stderr.write(reader.opening())
        check_units(reader, model)
        pacer = Pacer(reader, None, options.speed, model.sample_period_s)
        tally = Tally(engine)
        _compile(engine, tally, report)
        outputs = [output.name for output in model.outputs]
        offsets = tuple(engine.core.net.out_offsets.tolist())
        kind = ResultKind(engine.rows > 0, bool(engine.core.net.forecasts), offsets, engine.levels)
        writer: ResultWriter | Nowhere = Nowhere()
        if options.output is not None:
            writer = open_writer(options.output, options.format, outputs, reader.time_type, kind)
        first = FirstRows(through.rows if isinstance(through, Learned) else {})
        progress = Progress(options.progress and not (options.output == "-" and sys.stdout.isatty()))
        interrupted = False
        try:
            _run(engine, reader, ends, first, pacer, writer, tally, report, progress)
        except KeyboardInterrupt:
            interrupted = True
        except BaseException:
            writer.discard()
            raise
        finally:
            progress.clear()
        writer.finish()
        sys.stderr.write(reader.closing())
        cut_short = isinstance(through, Learned) and through.interrupted
        summary = replace(tally.summary(reader, progress), report=options.report, interrupted=cut_short)
        if report is not None:
            _write_report(report, options, engine, through, reader, tally, summary, interrupted)
        if interrupted:
            rows = counted(writer.rows, "row")
            also = f", {report.name} the report of them" if report is not None else ""
            sys.stderr.write(f"interrupted: {writer.name} holds the results of the first {rows}{also}\n")
            raise KeyboardInterrupt
        return summary


def _write_report(
    report: ReplayReport,
    options: ReplayOptions,
    engine: Engine,
    through: Path | Learned,
    reader: RowReader,
    tally: Tally,
    summary: Summary,
    interrupted: bool,
) -> None:
    report.finish(
        source=options.source,
        through=through,
        summary=summary,
        errors=tally.errors,
        resets=engine.stats.resets,
        streams=reader.streams[: summary.streams],
        limit=options.reading.limit,
        interrupted=interrupted,
    )


def _compile(engine: Engine, tally: Tally, report: ReplayReport | None) -> None:
    """Compiles what is compiled, before the clock starts."""
    channels = len(engine.model.channels)
    none = np.zeros(0, np.int64)
    rows = Rows(
        none.astype(np.int32), np.zeros((0, channels), np.float32), none.astype(np.uint64), none, None, 1
    )
    with compiling(lambda words: sys.stderr.write(f"{words}\n")):
        answers = engine.feed([], rows.stream, rows.values, rows.seq, rows.ts_ns)
        tally.add(rows, [], answers, none.astype(bool))
        if report is not None:
            report.add(rows, answers, none.astype(bool))


def _keep_inputs(options: ReplayOptions) -> None:
    """Raises UserError if the output or the report would replace what is read, or the one the other."""
    if options.report == "-":
        raise UserError("a report is a page for a browser; name a file, as in --report out.html")
    outputs = [Path(name) for name in (options.output, options.report) if name and name != "-"]
    for output in outputs:
        for source in filter(None, (Path(options.source), options.model)):
            if output.is_file() and source.is_file() and output.samefile(source):
                raise UserError(f"{output}: is read by this replay; give the output another name")
    if len(outputs) == 2 and outputs[0].resolve() == outputs[1].resolve():
        raise UserError(f"{outputs[0]}: is where the results go; give the report another name")


def _ends(options: ReplayOptions, model: Model, channels: list[str]) -> Ends:
    """Where the sequences end, if that is when they are answered."""
    if not (options.predict.horizon or model.answers_sequences):
        return NO_ENDS
    ends = find_ends(options.source, channels, with_model(options.reading, model))
    if ends is None:
        sys.stderr.write(f"warning: {PIPED}\n")
    return ends or NO_ENDS


def _run(
    engine: Engine,
    reader: RowReader,
    ends: Ends,
    first: FirstRows,
    pacer: Pacer,
    writer: ResultWriter | Nowhere,
    tally: Tally,
    report: ReplayReport | None,
    progress: Progress,
) -> None:
    """All rows through the engine. When this returns or raises, both threads have ended."""
    with ThreadPoolExecutor(2) as pool:
        written: Future[None] | None = None
        try:
            for block, last in _ahead(pool, with_ends(reader, ends)):
                flags, learned = _flags(block, last), first.among(block, reader.streams)
                for which in _portions(engine, pacer.slices(pacer.due(block))):
                    rows = block.part(which)
                    answers = engine.feed(
                        reader.streams, rows.stream, rows.values, rows.seq, rows.ts_ns, flags[which]
                    )
                    _check_capacity(engine)
                    if written is not None:
                        written.result()
                    written = pool.submit(writer.write, rows, reader.streams, answers, learned[which])
                    tally.add(rows, reader.streams, answers, learned[which])
                    if report is not None:
                        report.add(rows, answers, learned[which])
                    progress.add(len(rows.seq))
            if written is not None:
                written.result()
        finally:
            reader.stop()


def _flags(rows: Rows, last: np.ndarray) -> np.ndarray:
    """(n,) uint16, as frames of these rows would have them."""
    flags: np.ndarray = last * np.uint16(END)
    return flags if rows.begins is None else flags | rows.begins * np.uint16(RESET)


def _ahead(pool: ThreadPoolExecutor, blocks: Iterator[Ended]) -> Iterator[Ended]:
    """The blocks, the next one being read while one is worked on."""
    following = pool.submit(next, blocks, None)
    while (block := following.result()) is not None:
        following = pool.submit(next, blocks, None)
        yield block


def _portions(engine: Engine, slices: Iterator[slice]) -> Iterator[slice]:
    """The same slices, none so long that the answers of several rows to it take much memory."""
    parts = 1 + 2 * len(engine.levels)
    most = max(ROOM_BYTES // (4 * max(engine.rows * len(engine.model.outputs) * parts, 1)), 1)
    for which in slices:
        for begin in range(which.start, which.stop, most):
            yield slice(begin, min(begin + most, which.stop))


def _check_capacity(engine: Engine) -> None:
    if engine.stats.rejected[REASONS.index("capacity")]:
        raise UserError(
            f"more than {engine.capacity:,} streams; raise --capacity, or replay the file in parts"
        )
