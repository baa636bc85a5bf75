"""A replay as one page that opens from disk: what was found, with charts of it."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from streamrnn.engine.engine import Answers, Engine
from streamrnn.replay.report import charts, words
from streamrnn.replay.report.envelope import Envelopes
from streamrnn.replay.report.html import Html, element, join
from streamrnn.replay.report.words import ReportFacts
from streamrnn.table import Rows, WholeFile

_PACKAGE = files("streamrnn")
_SHARED, _OWN = "web/static", "replay/report"
_MADE = '<meta name="generator" content="streamrnn replay">'


class ReplayReport:
    """Takes what comes of a replay, block by block, and makes a page of it. For a ``with``.

    The file is opened at once, so that one that cannot be written is known before the work; unless
    ``finish`` is called nothing is left of it.
    """

    def __init__(self, path: str, engine: Engine) -> None:
        self._began = datetime.now(UTC)
        self._model = engine.model
        self._envelopes = Envelopes(engine)
        self._file = WholeFile(path)
        self.name = self._file.name

    def __enter__(self) -> "ReplayReport":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.discard()

    def add(self, rows: Rows, answers: Answers, learned: np.ndarray) -> None:
        """Takes n rows; ``learned``, (n,) bool, says which of them the model learned from."""
        self._envelopes.add(rows, answers, learned)

    def finish(self, **facts: Any) -> None:
        """Writes the page, of what of ``ReportFacts`` is not known here. Raises UserError where it cannot."""
        about = ReportFacts(model=self._model, began=self._began, envelopes=self._envelopes, **facts)
        with self._file.told():
            # a file's name need not be UTF-8
            self._file.stream.write(page(about).encode(errors="replace"))
        self._file.finish()


def is_report(path: Path) -> bool:
    """Whether a file is such a page."""
    try:
        with path.open("rb") as file:
            return _MADE.encode() in file.read(1000)
    except OSError:
        return False


def page(about: ReportFacts) -> str:
    """The page: no other file, no network, no script but its own."""
    body = join(
        part
        for part in (
            words.header(about),
            words.findings(about),
            words.stretches(about),
            words.stream_list(about),
            *charts.stream_sections(about),
            words.error_by_channel(about),
            words.rows_and_faults(about),
            words.model(about),
        )
        if part is not None
    )
    style = "\n".join([_text(_SHARED, "look.css"), _text(_SHARED, "uPlot.css"), _text(_OWN, "report.css")])
    first = _text(_SHARED, "look.js")
    licence = "/*\n" + _text(_SHARED, "uPlot.LICENSE") + "*/\n"
    scripts = [licence + _text(_SHARED, "uPlot.js"), _text(_SHARED, "charts.js"), _text(_OWN, "report.js")]
    data = json.dumps(charts.chart_data(about), separators=(",", ":")).replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src {' '.join(map(_hash, [first, *scripts]))}; style-src {_hash(style)}"
    )
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html(_MADE),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", f"{about.name}, replayed"),
            element("style", Html(style)),
            element("script", Html(first)),
        ],
        "\n",
    )
    noscript = element("noscript", element("p", "Charts need JavaScript; the tables do not."))
    scripted = [
        element("script", Html(data), type="application/json", id="data"),
        *(element("script", Html(script)) for script in scripts),
    ]
    inside = [element("main", noscript, body), *scripted]
    return (
        f'<!doctype html>\n<html lang="en">\n{element("head", head)}\n{element("body", *inside)}\n</html>\n'
    )


def _text(folder: str, name: str) -> str:
    return (_PACKAGE / folder / name).read_text(encoding="utf-8")


def _hash(inline: str) -> str:
    """What lets a policy admit a script or a style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
