"""What a report says in words and tables of a replay."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from streamrnn.model.inspect import describe_model, format_description
from streamrnn.model.model import Model
from streamrnn.replay.anomalies import KEPT, Anomalies, Stretch
from streamrnn.replay.error import OneStepError
from streamrnn.replay.learned import Learned
from streamrnn.replay.report.envelope import Envelopes
from streamrnn.replay.report.html import Html, element, facts, join, paragraph, section, table
from streamrnn.replay.report.tracks import MARKS
from streamrnn.replay.summary import Summary
from streamrnn.stats import RESETS
from streamrnn.table.progress import counted

LISTED = 100  # stretches, the highest; the rest can be unfolded
STREAMS_LISTED = 2000
STREAMS = 24  # that have charts
CHANNELS = 24  # of a stream that have charts
DATA = 3_500_000  # characters, of all charts
BAR = 160  # px
NONE = Html('<span class="muted">-</span>')
_UNITS = ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class ReportFacts:
    """All that a report is made of."""

    source: str
    through: Path | Learned  # where the model is from
    model: Model
    began: datetime
    summary: Summary
    errors: OneStepError | None  # None where the model forecasts no channels
    resets: np.ndarray  # (RESETS,) int64
    envelopes: Envelopes
    streams: Sequence[str]
    limit: int | None
    interrupted: bool

    @property
    def learned(self) -> Learned | None:
        """What the model was learned from, if that was the recording's first part."""
        return self.through if isinstance(self.through, Learned) else None

    @property
    def name(self) -> str:
        return "standard input" if self.source == "-" else Path(self.source).name

    @property
    def forecasts(self) -> bool:
        """Whether the model forecasts the next row of its channels, so that there is a score."""
        return self.summary.anomalies is not None

    @cached_property
    def drawn(self) -> dict[int, int]:
        """The streams that have charts, with the numbers of their sections: those that fit, highest first."""
        outputs = min(len(self.model.outputs), CHANNELS) * (1 + len(self.summary.levels))
        lines = min(len(self.model.channels), CHANNELS) + outputs
        chosen: dict[int, int] = {}
        left = DATA
        for index in self.by_score:
            if len(chosen) == STREAMS:
                break
            if (envelope := self.envelopes.of(index)) is None:
                continue
            answer = min(envelope.ahead.size, len(envelope.ahead) * CHANNELS)
            # in base64: of a bucket, x, its score, and the low and the high of each line
            left -= 4 * (len(envelope.score) * (12 + 8 * lines) + 4 * answer) // 3
            if chosen and left < 0:
                break
            chosen[index] = len(chosen)
        return chosen

    @property
    def by_score(self) -> list[int]:
        """Indices of the streams, those of the highest score first."""
        highest = self.envelopes.totals.highest[: len(self.streams)]
        order: list[int] = np.argsort(-highest, kind="stable").tolist()
        return order


def duration(seconds: float) -> str:
    """A time in the largest unit that it fills."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    size, unit = next(each for each in _UNITS if seconds >= each[0])
    return f"{seconds / size:.3g} {unit}"


def _plain(number: float) -> str:
    """Three digits, without an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def header(about: ReportFacts) -> Html:
    """Title, what was replayed through what, and how long it took."""
    summary, span = about.summary, about.envelopes.span_s
    period = about.model.sample_period_s
    if not span and period and summary.predicted:
        span = period * int(about.envelopes.totals.rows.max(initial=0))
    pairs: list[tuple[object, object]] = [
        ("Rows", f"{summary.rows:,}"),
        ("Streams", f"{summary.streams:,}"),
        ("Took", duration(summary.seconds)),
        ("Rows per second", f"{summary.rows_per_s:,.0f}"),
    ]
    if span:
        pairs.append(("Of recording", duration(span)))
        pairs.append(("Times real time", _plain(span / summary.seconds)))
    if summary.step_p50_us is not None:
        pairs.append(("Step p50, p99", f"{summary.step_p50_us:.2g}, {summary.step_p99_us:.2g} µs"))
    when = about.began.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    model = "a model of its first part" if isinstance(about.through, Learned) else about.through.name
    through = join(["replayed through ", element("b", model), f" on {when}"])
    return element(
        "header", element("h1", about.name), paragraph(through, class_="lead"), facts(pairs, "tiles")
    )


def findings(about: ReportFacts) -> Html:
    """What was found, in plain sentences."""
    bands = about.summary.covered and f"{about.summary.covered}."
    said = [_of_score(about), _of_error(about), bands, _of_rows(about), _of_learning(about)]
    if about.interrupted:
        said.insert(0, "The replay was interrupted: this is what was done until then.")
    elif about.limit is not None and about.summary.rows == about.limit:
        said.insert(0, f"Only {counted(about.limit, 'row')} were asked for.")
    return section("What was found", *(paragraph(words) for words in said if words), class_="findings")


def _of_learning(about: ReportFacts) -> str:
    learned = about.learned
    if learned is None:
        return ""
    streams = " of each stream" if len(learned.rows) > 1 else ""
    until = f", up to {learned.until}" if learned.until else ""
    said = (
        f"The model was learned from the first rows{streams}, {about.summary.learned:,} of "
        f"{about.summary.rows:,}{until}: they are shaded in the charts, and no figure here counts them."
    )
    for why in dict.fromkeys(learned.left_out.values()):
        names = ", ".join(name for name, reason in learned.left_out.items() if reason == why)
        said += f" Left out: {names} ({why} there)."
    return said


def _of_score(about: ReportFacts) -> str:
    anomalies, model = about.summary.anomalies, about.model
    if anomalies is None:
        return (
            f"This model ({model.relation}, target {model.target}) does not forecast the next row of its "
            "channels, so nothing can be held against a forecast: there is no score, no error and no "
            "persistence beside it. Shown are the inputs, and what the model says of them."
        )
    if not anomalies.scored:
        return "No row has a score: a stream is scored once a hundred of its rows have been seen."
    if not anomalies.count:
        highest = float(about.envelopes.totals.highest.max(initial=0))
        return (
            f"Nothing unusual: no row reached the threshold of {anomalies.threshold:g}. The highest score of "
            f"{counted(anomalies.scored, 'row')} is {highest:.3g}."
        )
    worst = max(anomalies.kept, key=lambda stretch: stretch.score)
    cause = f", most of all in {' and '.join(worst.cause.split('|'))}" if worst.cause else ""
    several = "one stretch" if anomalies.count == 1 else f"{anomalies.count:,} stretches"
    share = f"{anomalies.rows / anomalies.scored:.2%} of those scored"
    return (
        f"The score reached its threshold of {anomalies.threshold:g} in {several}, "
        f"{counted(anomalies.rows, 'row')} in all ({share}). The highest is {worst.score:.1f}, in "
        f"{worst.stream} from {_begin(worst)} on{cause}."
    )


def _of_error(about: ReportFacts) -> str:
    forecast, persistence = about.summary.one_step_error, about.summary.persistence_error
    if forecast is None or persistence is None:
        return ""
    said = (
        f"One row ahead, the forecast is off by {forecast:.4g} standard deviations; persistence, which takes "
        f"each row as the forecast of the next, by {persistence:.4g}"
    )
    if forecast < persistence:
        return f"{said}. The error of the forecast is {1 - forecast / persistence:.0%} less."
    during = about.summary.anomalies is not None and about.summary.anomalies.count > 0
    rest = ", during anomalies too, where it is to be far off" if during else ""
    return f"{said}. Over all rows{rest}, the model does no better."


def _of_rows(about: ReportFacts) -> str:
    summary = about.summary
    gone = {
        "rejected": sum(summary.rejected.values()),
        "late": summary.late,
        "missing": summary.missing,
        "left out": summary.skipped,
    }
    told = [f"{count:,} {what}" for what, count in gone.items() if count]
    return f"Not every row was predicted: {', '.join(told)}." if told else ""


def _begin(stretch: Stretch) -> str:
    return stretch.first_time or f"row {stretch.first_seq:,}"


def stretches(about: ReportFacts) -> Html | None:
    """The stretches above the threshold, the highest first, each with a link to its place in a chart."""
    anomalies = about.summary.anomalies
    if anomalies is None or not anomalies.count:
        return None
    order = sorted(range(len(anomalies.kept)), key=lambda k: -anomalies.kept[k].score)
    of = "" if anomalies.count <= KEPT else f" Listed are the first {KEPT:,} of {anomalies.count:,}."
    words = paragraph(
        "Rows with a score at or above the threshold, until it has been below half of that for a while. "
        f"Choose one to see it in the charts.{of}",
        class_="muted",
    )
    inside = [words, _stretch_table(about, anomalies, order[:LISTED])]
    if more := order[LISTED:]:
        summary = element(
            "summary", f"{len(more):,} more, of scores from {anomalies.kept[more[0]].score:.1f}"
        )
        inside.append(element("details", summary, _stretch_table(about, anomalies, more)))
    return section("Stretches above the threshold", *inside, id_="stretches")


def _stretch_table(about: ReportFacts, anomalies: Anomalies, which: list[int]) -> Html:
    numbers = {about.streams[index]: number for index, number in about.drawn.items()}
    rows = []
    for k in which:
        each = anomalies.kept[k]
        number, begin = numbers.get(each.stream), _begin(each)
        link = element("a", begin, href=f"#stream-{number}", data_stretch=k) if number is not None else begin
        end = each.last_time or f"row {each.last_seq:,}"
        causes = join(each.cause.split("|"), ", ") if each.cause else NONE
        rows.append([each.stream, link, end, f"{each.rows:,}", f"{each.score:.1f}", causes])
    head = ["Stream", "From", "To", "Rows", "Peak score", "Caused by"]
    return table(head, rows, "<<<>><", "Stretches above the threshold")


def error_by_channel(about: ReportFacts) -> Html | None:
    """The error of each output's forecast beside that of persistence."""
    if about.errors is None or about.summary.one_step_error is None:
        return None
    roots = about.errors.roots_by_output()
    most = float(np.nanmax(roots))
    rows = []
    for k, output in enumerate(about.model.outputs):
        forecast, persistence = roots[:, k].tolist()
        std = float(about.model.output_std[k])
        in_units = [f"{error * std:.4g}" if error == error else NONE for error in (forecast, persistence)]
        unit = output.unit or NONE
        rows.append([output.name, *_compared(forecast, persistence, most), *in_units, unit])
    forecast, persistence = about.summary.one_step_error, about.summary.persistence_error or 0.0
    rows.append([Html("<b>all together</b>"), *_compared(forecast, persistence, most), "", "", ""])
    head = ["Channel", "Forecast", "Persistence", "Ratio", "", "Forecast", "Persistence", "Unit"]
    words = paragraph(
        "Root mean square of the error one row ahead: in standard deviations of the data that the model was "
        "trained on, then in the channel's own unit. Rows after a gap or a reset count for neither"
        f"{', nor do those learned from' if about.learned else ''}.",
        class_="muted",
    )
    return section("Error by channel", words, table(head, rows, "<>>><>><", "Error by channel"), id_="errors")


def _compared(forecast: float, persistence: float, most: float) -> list[object]:
    """Both errors, their ratio, and bars of them."""
    if not (forecast == forecast and persistence == persistence):
        return [NONE] * 4
    scale = BAR / most if most > 0 else 0.0
    bars = "".join(
        f'<rect class="{name}" y="{y}" width="{max(scale * error, 1):.1f}" height="5"/>'
        for name, y, error in (("forecast", 1, forecast), ("persistence", 8, persistence))
    )
    ratio = f"{forecast / persistence:.2f}" if persistence > 0 else NONE
    svg = Html(f'<svg class="bars" width="{BAR}" height="14" aria-hidden="true">{bars}</svg>')
    return [f"{forecast:.4g}", f"{persistence:.4g}", ratio, svg]


def stream_list(about: ReportFacts) -> Html | None:
    """All streams, or those of the highest scores, with links to those that have charts."""
    count = len(about.streams)
    if count < 2:
        return None
    totals, scored = about.envelopes.totals, about.summary.anomalies is not None
    roots = about.errors.roots_by_stream(count) if about.errors is not None else np.full((2, count), np.nan)
    order = about.by_score
    rows = []
    for index in order[:STREAMS_LISTED]:
        name, number = about.streams[index], about.drawn.get(index)
        link = element("a", name, href=f"#stream-{number}") if number is not None else name
        row: list[object] = [link, f"{int(totals.rows[index]):,}"]
        if scored:
            highest = float(totals.highest[index])
            row.append(f"{highest:.1f}" if highest >= 0 else NONE)
            row += [f"{error:.4g}" if error == error else NONE for error in roots[:, index].tolist()]
        marks = totals.marks[index].tolist()[: None if about.learned else MARKS.index("learned")]
        rows.append(row + [f"{n:,}" if n else NONE for n in marks])
    head = ["Stream", "Rows", *(["Highest score", "Error", "Persistence"] if scored else [])]
    head += ["Gaps", "Resets", "Filled in", "Late", "Rejected", *(["Learned from"] if about.learned else [])]
    first = "those with the highest scores" if scored else "the first"
    words = (
        f"{len(about.drawn)} of {count:,} streams have charts below, {first}."
        if len(about.drawn) < count
        else "All of them have charts below."
    )
    if count > STREAMS_LISTED:
        words += f" {count - STREAMS_LISTED:,} more are not listed, none of a higher score."
    listing = table(head, rows, "<" + ">" * (len(head) - 1), "Streams")
    return section("Streams", paragraph(words, class_="muted"), listing, id_="streams")


def rows_and_faults(about: ReportFacts) -> Html:
    """What became of the rows, by reason."""
    summary = about.summary
    marks = dict(zip(MARKS, about.envelopes.totals.marks.sum(axis=0).tolist(), strict=True))
    pairs = [(f"Rejected: {reason}", count) for reason, count in summary.rejected.items()]
    pairs += [
        ("Late, or a second time", summary.late),
        ("Missing, by the gaps in their numbers", summary.missing),
    ]
    pairs.append(("Left out, as they could not be read", summary.skipped))
    pairs += [("Rows behind a gap", marks["gap"]), ("Rows with values filled in", marks["imputed"])]
    reasons = zip(RESETS, about.resets.tolist(), strict=True)
    pairs += [(f"Streams that began anew: {reason}", count) for reason, count in reasons if count]
    rows = [[name, f"{count:,}"] for name, count in pairs if count]
    said = f"Of {counted(summary.rows, 'row')} came {counted(summary.predicted, 'prediction')}"
    if not rows:
        return section(
            "Rows", paragraph(f"{said}; none was rejected, late, missing or left out."), id_="rows"
        )
    what = "What became of the rows"
    return section("Rows", paragraph(f"{said}."), table(["What", "Rows"], rows, "<>", what), id_="rows")


def model(about: ReportFacts) -> Html:
    """What ``streamrnn inspect`` says of it."""
    file = about.through if isinstance(about.through, Path) else about.through.kept or "not kept"
    description = format_description(describe_model(about.model, file))
    inside = element("pre", description, tabindex="0", role="region", aria_label="What the model is")
    return section("Model", inside, id_="model")
