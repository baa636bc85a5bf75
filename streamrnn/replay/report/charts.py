"""The streams of a report: the data of their charts, and what says the same in words and figures."""

import base64
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from streamrnn.model.model import Model
from streamrnn.model.parts import Channel
from streamrnn.replay.anomalies import Stretch
from streamrnn.replay.report.envelope import Envelope
from streamrnn.replay.report.html import Html, element, join, paragraph, section, table
from streamrnn.replay.report.tracks import GAP, GAP_BEFORE, LEARNED, MARKS
from streamrnn.replay.report.words import CHANNELS, NONE, ReportFacts
from streamrnn.table.progress import counted

_LEGEND = {
    "anomaly": "at or above the threshold",
    "gap": "gap",
    "reset": "began anew",
    "imputed": "values filled in",
    "late": "late rows",
    "rejected": "rows rejected",
    "learned": "learned from, in no figure",
}


class Chart(NamedTuple):
    """What one chart shows: a channel, an output, or both where the one forecasts the other."""

    channel: Channel
    input: int | None  # index into the series of an Envelope
    output: int | None
    label: str  # of the output: "forecast" or "output"


def charts_of(model: Model, shares: np.ndarray, forecasts: bool) -> list[Chart]:
    """The charts of a stream. Of too many, those that have most to do with its score."""
    inputs, outputs = range(len(model.channels)), range(len(model.outputs))
    if forecasts:
        has = np.zeros(len(inputs))
        has[: len(outputs)] = shares
        chosen = sorted(np.argsort(-has, kind="stable")[:CHANNELS].tolist())
        return [
            Chart(model.channels[k], k, len(inputs) + k if k < len(outputs) else None, "forecast")
            for k in chosen
        ]
    drawn = [Chart(model.channels[k], k, None, "") for k in inputs[:CHANNELS]]
    if model.relation in ("sequence-to-sequence", "sequence-to-vector"):
        drawn += [Chart(model.outputs[k], None, len(inputs) + k, "output") for k in outputs[:CHANNELS]]
    return drawn


def stream_sections(about: ReportFacts) -> Iterator[Html]:
    """A section for each stream that has charts; ``report.js`` puts them in."""
    for index, number in about.drawn.items():
        envelope = about.envelopes.of(index)
        assert envelope is not None
        name = about.streams[index]
        charts = charts_of(about.model, envelope.shares, about.forecasts)
        inside = [
            paragraph(_extent(about, index, envelope, charts), class_="muted"),
            _legend(about, envelope),
            element("div", class_="charts", data_stream=number),
            _figures(about.model, envelope, charts),
            _answer(about.model, envelope),
        ]
        yield section(f"Stream {name}", *inside, id_=f"stream-{number}", class_="stream panel")


def _extent(about: ReportFacts, index: int, envelope: Envelope, charts: list[Chart]) -> str:
    """How much of the stream is shown, and how."""
    said = counted(int(about.envelopes.totals.rows[index]), "row")
    if envelope.ts_ns is not None:
        said += f" from {utc(envelope.ts_ns[0])} to {utc(envelope.last_ns)} UTC"
    highest = float(about.envelopes.totals.highest[index])
    if highest >= 0:
        said += f", highest score {highest:.1f}"
    if envelope.rows > 1:
        said += f". Each {envelope.rows:,} of them are drawn by their lowest and highest value"
    if envelope.before:
        said += f". The first {envelope.before:,} were not kept, as other streams had higher scores then"
    if about.envelopes.span_s and envelope.ts_ns is None:
        said += ". By row numbers, as times are missing or go back"
    inputs = sum(chart.input is not None for chart in charts)
    if inputs < len(about.model.channels):
        which = "those that have most to do with its score" if about.forecasts else "the first"
        said += f". {inputs} of {len(about.model.channels):,} channels are shown, {which}"
    return f"{said}."


def _legend(about: ReportFacts, envelope: Envelope) -> Html:
    """What the colours behind the lines are, of those that there are, and in print those of the lines."""
    bits = int(np.bitwise_or.reduce(envelope.marks))
    kinds = [mark for bit, mark in enumerate(MARKS) if bits >> bit & 1]
    anomalies = about.summary.anomalies
    judged = envelope.score[envelope.marks >> LEARNED & 1 == 0]
    if anomalies is not None and (judged >= anomalies.threshold).any():
        kinds.insert(0, "anomaly")
    printed = {"input": "input", "forecast": "forecast" if about.forecasts else "output"}
    keys = [_key("printed", tone, words) for tone, words in printed.items()]
    keys += [_key("", kind if kind == "reset" else f"band {kind}", _LEGEND[kind]) for kind in kinds]
    return element("p", *keys, class_="legend")


def _key(of: str, swatch: str, words: str) -> Html:
    return element("span", element("i", class_=f"swatch {swatch}"), words, class_=f"key {of}".strip())


def _figures(model: Model, envelope: Envelope, charts: list[Chart]) -> Html:
    """The charts as a table."""
    rows = []
    for chart in charts:
        cells = [cell for series in (chart.input, chart.output) for cell in _extremes(envelope, series)]
        rows.append([chart.channel.title, chart.channel.unit or NONE, *cells])
    said = "output" if not any(chart.label == "forecast" for chart in charts) else "forecast"
    head = ["Channel", "Unit", "Lowest", "Highest", f"Lowest {said}", f"Highest {said}"]
    listing = table(head, rows, "<<>>>>", "What the charts show, in figures")
    return element("details", element("summary", "In figures"), listing)


def _extremes(envelope: Envelope, series: int | None) -> tuple[object, object]:
    if series is None or np.isnan(envelope.low[:, series]).all():
        return NONE, NONE
    return f"{np.nanmin(envelope.low[:, series]):.5g}", f"{np.nanmax(envelope.high[:, series]):.5g}"


def _answer(model: Model, envelope: Envelope) -> Html:
    """The last answer to the stream, where it is one row: charts show those of more."""
    if not envelope.answers:
        return Html()
    to = f"The last of {counted(envelope.answers, 'answer')}, to row {envelope.answered:,}"
    if len(envelope.ahead) > 1:
        return element("div", paragraph(f"{to}, by rows ahead:", class_="muted"), class_="answer")
    rows = [
        [output.title, f"{value:.6g}", output.unit or NONE]
        for output, value in zip(model.outputs, envelope.ahead[0].tolist(), strict=True)
    ]
    return join([paragraph(f"{to}:", class_="muted"), table(["Output", "Value", "Unit"], rows, "<><", to)])


def chart_data(about: ReportFacts) -> dict[str, Any]:
    """What ``report.js`` draws, JSON-ready: numbers as little-endian arrays in base64."""
    anomalies = about.summary.anomalies
    stretches: dict[str, list[tuple[int, Stretch]]] = {about.streams[index]: [] for index in about.drawn}
    for k, each in enumerate(anomalies.kept if anomalies is not None else []):
        stretches.get(each.stream, []).append((k, each))
    return {
        "threshold": anomalies.threshold if anomalies is not None else None,
        **({"widest": _label(about, len(about.summary.levels) - 1)} if about.summary.levels else {}),
        "streams": [_stream_data(about, index, stretches[about.streams[index]]) for index in about.drawn],
    }


def _stream_data(about: ReportFacts, index: int, stretches: list[tuple[int, Stretch]]) -> dict[str, Any]:
    envelope = about.envelopes.of(index)
    assert envelope is not None
    timed = envelope.ts_ns is not None
    # row numbers never go back in a sequence; where one begins anew, they stay where they were
    x = envelope.ts_ns / 1e9 if envelope.ts_ns is not None else np.maximum.accumulate(envelope.seq)
    return {
        "name": about.streams[index],
        "time": timed,
        "each": envelope.rows,
        "x": _packed(x, "<f8"),
        "score": _packed(envelope.score, "<f4") if about.forecasts else None,
        "marks": list(_runs(envelope)),
        "stretches": [
            [k, each.first_ns / 1e9, each.last_ns / 1e9] if timed else [k, each.first_seq, each.last_seq]
            for k, each in stretches
        ],
        "charts": [
            _chart_data(about, envelope, chart)
            for chart in charts_of(about.model, envelope.shares, about.forecasts)
        ],
        "answer": _answer_data(about.model, envelope),
    }


def _chart_data(about: ReportFacts, envelope: Envelope, chart: Chart) -> dict[str, Any]:
    lines = []
    if chart.output is not None:
        lines += [_band(about, envelope, chart.output, band) for band in range(len(about.summary.levels))]
    for series, tone, label in ((chart.input, "input", "input"), (chart.output, "forecast", chart.label)):
        if series is None:
            continue
        ends = (envelope.low, envelope.high) if envelope.rows > 1 else (envelope.low,)
        packed = [_packed(_held(envelope, end[:, series], label), "<f4") for end in ends]
        lines.append({"tone": tone, "label": label, "ends": packed})
    return {"title": chart.channel.title, "unit": chart.channel.unit, "lines": lines}


def _band(about: ReportFacts, envelope: Envelope, output: int, band: int) -> dict[str, Any]:
    """What is drawn of a band of the output whose series is ``output``; the widest comes first."""
    place = len(about.summary.levels) - 1 - band
    low, high = (output + (1 + 2 * place + side) * len(about.model.outputs) for side in range(2))
    ends = [_packed(envelope.low[:, low], "<f4"), _packed(envelope.high[:, high], "<f4")]
    return {"tone": "forecast", "label": _label(about, place), "ends": ends, "bare": True}


def _label(about: ReportFacts, band: int) -> str:
    return f"{100 * about.summary.levels[band]:.10g} % band"


def _held(envelope: Envelope, values: np.ndarray, label: str) -> np.ndarray:
    """An output that is not said at every row, as it stands until it is said again."""
    if label != "output" or not envelope.answers:
        return values
    said = np.flatnonzero(~np.isnan(values))
    if len(said) == 0:
        return values
    last = np.searchsorted(said, np.arange(len(values)), "right") - 1
    return np.where(last >= 0, values[said[last]], np.nan)


def _answer_data(model: Model, envelope: Envelope) -> list[dict[str, Any]]:
    if len(envelope.ahead) < 2:
        return []
    return [
        {
            "title": output.title,
            "unit": output.unit,
            "values": _packed(envelope.ahead[:, k], "<f4"),
            "sides": [_packed(side[:, k], "<f4") for side in envelope.sides],
        }
        for k, output in enumerate(model.outputs[:CHANNELS])
    ]


def _runs(envelope: Envelope) -> Iterator[list[Any]]:
    """Each mark as [kind, the bucket where it begins, the one before which it ends]."""
    before = envelope.marks >> GAP_BEFORE & 1  # such a gap ends where its bucket begins
    marks = np.where(before, envelope.marks & ~np.uint8(1 << GAP), envelope.marks)
    marks[:-1] |= before[1:] << GAP
    for bit, kind in enumerate(MARKS):
        marked = np.concatenate([[0], marks >> bit & 1, [0]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(marked))
        for first, end in edges.reshape(-1, 2).tolist():
            yield [kind, first, end]


def utc(time_ns: int) -> str:
    """A source time, to the second."""
    return str(np.datetime64(int(time_ns) // 10**9, "s")).replace("T", " ")


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()
