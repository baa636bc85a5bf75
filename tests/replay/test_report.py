"""The page about a replay: what it is made of, and what a browser shows of it."""

import base64
import csv
import json
import re
import signal
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from browser import assert_everyone_can_use, chromium
from daemons import wait_for
from models import RELATIONS, untrained
from neighbours import command

from streamrnn.engine.engine import Engine
from streamrnn.errors import UserError
from streamrnn.model.model import Model
from streamrnn.model.model_file import write_model
from streamrnn.model.parts import Channel
from streamrnn.replay import ReplayOptions, Summary, replay
from streamrnn.replay.report import envelope
from streamrnn.replay.report.envelope import Envelopes
from streamrnn.replay.report.tracks import GAP, IMPUTED
from streamrnn.settings.sections import Faults, Predict
from streamrnn.table import Reading, Rows

EVIL = "</script><img src=x onerror=alert(1)>"
NAMES = ("flow", '<b>"temp"</b>&amp;', "current")
ROWS = 3000  # rows of each stream


def recording(path: Path, rows: int = ROWS) -> Path:
    """Two streams, the one with peaks, a gap and missing values, the other with a name that no page likes."""
    rng = np.random.default_rng(5)
    lines = ["time,unit,n," + ",".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in NAMES)]
    for row in range(rows):
        for stream in ("quiet", EVIL):
            values = np.round(np.sin(row / 20 + np.arange(3)) + rng.normal(0, 0.05, 3), 5).tolist()
            if stream == EVIL:
                if 1000 <= row < 1020 or 2000 <= row < 2020:
                    values[0] += 40 if row < 1500 else 200
                if 1200 <= row < 1240:
                    continue
                if row == 1500:
                    values[2] = ""
            elif 2500 <= row < 2540:
                values[1] -= 30
            time = f"2026-02-01 {row // 3600:02}:{row // 60 % 60:02}:{row % 60:02}"
            lines.append(",".join(map(str, [time, stream, row, *values])))
    path.write_text("\n".join(lines) + "\n")
    return path


class Replayed(NamedTuple):
    page: Path
    summary: Summary


def replayed(folder: Path, source: Path, model: Model, **options: Any) -> Replayed:
    write_model(model, folder / "model.safetensors")
    page = folder / "out.html"
    with_defaults = {"faults": Faults(), "output": str(folder / "out.csv")} | options
    return Replayed(
        page,
        replay(ReplayOptions(str(source), folder / "model.safetensors", report=str(page), **with_defaults)),
    )


def named() -> Model:
    channels = tuple(Channel(name, "bar") for name in NAMES)
    return replace(untrained(mean=np.zeros(3), std=np.ones(3)), channels=channels, outputs=channels)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    folder = tmp_path_factory.mktemp("report")
    source = recording(folder / "rows.csv")
    reading = Reading(seq="n", stream="unit")
    return replayed(folder, source, named(), reading=reading, faults=Faults(max_gap=100))


class Reader(HTMLParser):
    """Tables as rows of cells, what the elements are, and the data of the charts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = path.read_text()
        self._cell: list[str] | None = None
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        of = dict(attributes)
        self.addresses += [of[name] or "" for name in ("src", "href") if name in of]
        if of.get("class") == "wide":
            self._rows = self.tables.setdefault(of["aria-label"] or "", [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._cell = []

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self._rows[-1].append("".join(self._cell))
            self._cell = None

    @property
    def data(self) -> dict[str, Any]:
        text = self.text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
        data: dict[str, Any] = json.loads(text)
        return data


def numbers(text: str, kind: str = "<f4") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_what_it_says_is_what_the_summary_says(made):
    page, anomalies = Reader(made.page), made.summary.anomalies
    assert anomalies is not None and anomalies.count >= 2
    told = anomalies.as_dict()["stretches"]
    assert all(not key.endswith("_ns") for each in told for key in each)
    _, *listed = page.tables["Stretches above the threshold"]
    told.sort(key=lambda each: -each["score"])
    assert listed == [
        [
            *(each["stream"], each["first_time"], each["last_time"], f"{each['rows']:,}"),
            *(f"{each['score']:.1f}", each["cause"].replace("|", ", ") or "-"),
        ]
        for each in told
    ]
    errors = page.tables["Error by channel"]
    assert [row[0] for row in errors[1:]] == [*NAMES, "all together"]
    assert errors[-1][1] == f"{made.summary.one_step_error:.4g}"
    assert errors[-1][2] == f"{made.summary.persistence_error:.4g}"
    for column in (1, 2):  # as many cells of each channel, but for one that is missing
        squares = [float(row[column]) ** 2 for row in errors[1:-1]]
        assert np.sqrt(np.mean(squares)) == pytest.approx(float(errors[-1][column]), rel=1e-3)
    streams = {row[0]: row for row in page.tables["Streams"][1:]}
    assert {name: row[1] for name, row in streams.items()} == {"quiet": "3,000", EVIL: "2,960"}
    assert streams[EVIL][5:] == ["1", "-", "1", "-", "-"]
    assert "40 missing" in page.text and "5,960" in page.text


def test_it_needs_nothing_else_and_no_name_becomes_markup(made):
    page = Reader(made.page)
    assert {"img", "b"} & set(page.tags) <= {"b"}
    assert all(address.startswith("#") for address in page.addresses), page.addresses
    assert EVIL not in page.text and NAMES[1] not in page.text
    assert "default-src 'none'" in page.text and "unsafe-inline" not in page.text
    assert "Copyright (c)" in page.text and " style=" not in page.text.split("<script")[1].split("</main>")[0]


def test_the_charts_have_the_extremes_of_the_rows_they_stand_for(made):
    quiet = next(each for each in Reader(made.page).data["streams"] if each["name"] == "quiet")
    each = quiet["each"]
    assert each == 4
    with made.page.with_name("out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    mine = [row for row in rows[1:] if row[0] == "quiet"]
    values = [
        line.split(",")
        for line in made.page.with_name("rows.csv").read_text().splitlines()
        if ",quiet," in line
    ]
    flow = np.array([row[3] for row in values], np.float32).reshape(-1, each)
    forecast = np.array([np.nan, *[row[4] for row in mine[:-1]]], np.float32).reshape(-1, each)
    score = np.array([row[7] or "nan" for row in mine], np.float32).reshape(-1, each)
    given, said = quiet["charts"][0]["lines"]
    for line, expected in ((given, flow), (said, forecast)):
        low, high = map(numbers, line["ends"])
        np.testing.assert_array_equal(low, np.nanmin(expected, axis=1))
        np.testing.assert_array_equal(high, np.nanmax(expected, axis=1))
    np.testing.assert_array_equal(numbers(quiet["score"]), np.fmax.reduce(score, axis=1))
    begins = numbers(quiet["x"], "<f8")
    assert begins[0] == np.datetime64("2026-02-01T00:00:00", "s").astype(int)
    assert np.unique(np.diff(begins)).tolist() == [each]
    evil = next(each for each in Reader(made.page).data["streams"] if each["name"] == EVIL)
    kinds = {kind: (first, end) for kind, first, end in evil["marks"]}
    assert kinds.keys() == {"gap", "imputed"}
    x = numbers(evil["x"], "<f8") - begins[0]
    assert x[kinds["gap"][0]] <= 1199 and x[kinds["gap"][1]] >= 1240


def engine_of(capacity: int = 4096, **settings: Any) -> Engine:
    return Engine(untrained(**settings), capacity, Faults())


def feed(engine: Engine, to: Envelopes, stream: np.ndarray, values: np.ndarray, block: int) -> None:
    ids = [f"s{k}" for k in range(int(stream.max()) + 1)]
    for begin in range(0, len(stream), block):
        part = slice(begin, begin + block)
        answers = engine.feed(ids, stream[part], values[part])
        index, none = stream[part].astype(np.int32), np.zeros(len(answers.seq), bool)
        to.add(Rows(index, values[part], answers.seq, answers.ts_ns, None, 1), answers, none)


@pytest.mark.parametrize("block", [7, 1000, 100_000])
def test_any_blocks_give_the_same_envelope(block):
    rng = np.random.default_rng(1)
    stream = np.where(rng.random(20_000) < 0.9, 0, 1)
    values = rng.normal(0, 20, (20_000, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.01] = np.nan
    values[:50] = 1
    engine = engine_of()
    found = Envelopes(engine)
    feed(engine, found, stream, values, block)
    for index in (0, 1):
        kept, mine = found.of(index), values[stream == index]
        assert kept is not None and envelope.MOST / 2 <= len(kept.score) <= envelope.MOST
        edges = np.arange(0, len(mine), kept.rows)
        assert kept.seq.tolist() == edges.tolist()
        np.testing.assert_array_equal(kept.low[:, :3], np.fmin.reduceat(mine, edges))
        np.testing.assert_array_equal(kept.high[:, :3], np.fmax.reduceat(mine, edges))
        missing = np.logical_or.reduceat(np.isnan(mine).any(axis=1), edges)
        assert (kept.marks >> IMPUTED & 1).astype(bool).tolist() == missing.tolist()
        assert not (kept.marks >> GAP & 1).any()


def test_of_more_streams_than_fit_those_with_the_highest_scores_are_kept(monkeypatch):
    monkeypatch.setattr(envelope, "ROOM", 3_000_000)
    rng = np.random.default_rng(2)
    stream = np.tile(np.arange(200), 300)
    values = rng.normal(0, 1, (len(stream), 3)).astype(np.float32)
    for odd in (60, 150, 199):
        values[(stream == odd) & (np.arange(len(stream)) >= 50_000)] += 1000
    engine = engine_of()
    found = Envelopes(engine)
    feed(engine, found, stream, values, 5000)
    kept = [index for index in range(200) if found.of(index) is not None]
    assert 16 <= len(kept) < 100
    highest = found.totals.highest[:200]
    order = np.argsort(-highest)
    assert {60, 150, 199} == set(order[:3].tolist()) and set(order[:10].tolist()) <= set(kept)
    late = found.of(199)
    assert late is not None and 100 < late.before < 260 and late.before + len(late.score) == 300
    assert np.nanmax(late.score) == highest[199]


def test_a_page_of_many_streams_is_bounded(tmp_path):
    rng = np.random.default_rng(3)
    streams, rows = 2300, 105
    values = np.char.mod("%.3f", rng.normal(0, 1, (streams * rows, 3)))
    names = np.tile(np.char.add("a rather long name of stream ", np.arange(streams).astype(str)), rows)
    lines = [",".join([name, *row]) for name, row in zip(names.tolist(), values.tolist(), strict=True)]
    source = tmp_path / "many.csv"
    source.write_text("\n".join(["id,c0,c1,c2", *lines]) + "\n")
    page = replayed(tmp_path, source, untrained(), reading=Reading(stream="id")).page
    assert page.stat().st_size < 5e6
    reader = Reader(page)
    assert (len(reader.data["streams"]), len(reader.tables["Streams"])) == (24, 2001)
    assert "300 more are not listed" in reader.text


def test_where_it_can_be_written(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, source = made.page.with_name("model.safetensors"), made.page.with_name("rows.csv")
    options = ReplayOptions(str(source), model, Faults(), "o.csv", reading=Reading(stream="unit", limit=50))
    for name, problem in (
        ("no/such/out.html", r"^no/such/out\.html: cannot be written: No such file"),
        ("o.csv", "is where the results go"),
        (str(source), "is read by this replay"),
        ("-", "name a file"),
    ):
        with pytest.raises(UserError, match=problem):
            replay(replace(options, report=name))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="has no column"):
        replay(replace(options, reading=Reading(stream="nobody"), report="out.html"))
    assert list(tmp_path.iterdir()) == []
    replay(replace(options, report="out.html"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.csv", "out.html"]
    page = Path("out.html").read_text()
    assert "Only 50 rows were asked for." in page and "No row has a score" in page


def test_a_file_without_rows(model_file, tmp_path):
    (tmp_path / "rows.csv").write_text("c0,c1,c2\n")
    page = tmp_path / "out.html"
    replay(
        ReplayOptions(
            str(tmp_path / "rows.csv"), model_file, Faults(), str(tmp_path / "o.csv"), report=str(page)
        )
    )
    reader = Reader(page)
    assert reader.data == {"threshold": 3.0, "streams": []} and "No row has a score" in reader.text


def test_standard_input_and_output_and_an_interrupt(model_file, tmp_path):
    words = ("replay", "-", "-m", model_file, "--report", "out.html")
    with command(*words, cwd=tmp_path) as child:
        child.stdin.write("c0,c1,c2\n1,2,3\n4,5,6\n")
        child.stdin.flush()
        assert child.stdout.readline().startswith("stream,seq,")
        assert child.stdout.readline().startswith("stdin,0,")
        assert not (tmp_path / "out.html").exists()
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        said = child.stderr.read()
    assert re.search(r"\ninterrupted: .* of the first \d rows?, out.html the report of them\n$", said)
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]
    page = (tmp_path / "out.html").read_text()
    assert "<h1>standard input</h1>" in page and "The replay was interrupted" in page


@pytest.mark.parametrize("relation", ["values", *RELATIONS])
def test_models_without_a_score(relation, tmp_path, browser):
    value = {"target": "value", "outputs": RELATIONS["sequence-to-vector"]["outputs"]}
    model = untrained(**RELATIONS.get(relation, value))
    source = tmp_path / "rows.csv"
    values = np.random.default_rng(0).normal(0, 5, (400, 3))
    source.write_text("c0,c1,c2,id\n" + "".join(f"{a},{b},{c},s{a > 0}\n" for a, b, c in values))
    predict = Predict(every=50) if model.answers_sequences else Predict()
    page = replayed(tmp_path, source, model, reading=Reading(stream="id"), predict=predict).page
    text = page.read_text()
    assert "does not forecast the next row of its channels" in text
    assert "Stretches above" not in text and "Error by channel" not in text
    with opened(browser, page) as shown:
        charts = shown.locator("#stream-0 .chart")
        titles = charts.locator(".title").all_inner_texts()
        outputs = [output.name for output in model.outputs]
        assert [title.removesuffix(" bar") for title in titles] == ["c0", "c1", "c2", *outputs]
        assert all(drawn(shown))
    if relation == "sequence-to-vector":
        answers, _ = (rows for name, rows in Reader(page).tables.items() if name.startswith("The last of"))
        assert [row[0] for row in answers] == ["Output", *outputs]


def test_a_rollout_is_shown_ahead(tmp_path, browser):
    source = tmp_path / "rows.csv"
    source.write_text("c0,c1,c2\n" + "1,2,3\n" * 200)
    page = replayed(tmp_path, source, untrained(), predict=Predict(horizon=30)).page
    with opened(browser, page) as shown:
        assert shown.locator(".answer .chart").count() == 3
        assert shown.evaluate("uPlot.sync('answer-0').plots[0].data[0].length") == 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@contextmanager
def opened(browser: Any, path: Path, look: str = "light", width: int = 1200) -> Iterator[Any]:
    """The page, from disk, with its first charts drawn; fails if it wanted anything else, or complained."""
    context = browser.new_context(color_scheme=look, viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append("a dialog"))
    page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    page.wait_for_selector(".chart canvas")
    yield page
    context.close()
    assert said == []


def drawn(page: Any) -> list[bool]:
    """Of each chart, whether its lines are to be seen: pixels of the colour of one of them."""
    return page.evaluate(
        """[...document.querySelectorAll(".chart")].map((chart) => {
          const canvas = chart.querySelector("canvas");
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          const hex = (tone) => charts.tone(tone).match(/[0-9a-f]{2}/g).map((two) => parseInt(two, 16));
          const tones = ["input", "forecast", "score"].map(hex);
          for (let at = 0; at < pixels.length; at += 4) {
            if (pixels[at + 3] === 255 && tones.some((tone) => tone.every((c, k) => c === pixels[at + k]))) {
              return true;
            }
          }
          return false;
        })"""
    )


@pytest.mark.parametrize(("look", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_it_opens_from_disk(made, browser, look, width):
    with opened(browser, made.page, look, width) as page:
        page.locator("#stream-1").scroll_into_view_if_needed()
        wait_for(lambda: page.locator(".chart").count() == 8, "all charts")
        assert drawn(page) == [True] * 8
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        titles = page.locator(".stream h2").all_inner_texts()
        assert sorted(titles) == [f"Stream {EVIL}", "Stream quiet"]
        assert page.locator("#stream-0 .chart .title").all_inner_texts() == [
            "Score",
            *(f"{name} bar" for name in NAMES),
        ]
        label = page.locator(f"#stream-{titles.index(f'Stream {EVIL}')} [role=img]").first
        assert label.get_attribute("aria-label").startswith(f"Score of {EVIL}: highest from 0.000 to ")


def test_a_stretch_leads_to_its_place_in_the_charts(made, browser):
    assert made.summary.anomalies is not None
    worst = max(made.summary.anomalies.kept, key=lambda stretch: stretch.score)
    number = [each["name"] for each in Reader(made.page).data["streams"]].index(worst.stream)
    shown = f"uPlot.sync('stream-{number}').plots.map(({{scales}}) => [scales.x.min, scales.x.max])"
    with opened(browser, made.page) as page:
        page.locator("a[data-stretch]").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#stream-{number} .whole:visible")
        ranges = page.evaluate(shown)
        assert len(ranges) == 4 and len({tuple(each) for each in ranges}) == 1
        (low, high), *_ = ranges
        assert low <= worst.first_ns / 1e9 <= worst.last_ns / 1e9 <= high
        assert high - low < 1000
        page.locator(f"#stream-{number} .whole").click()
        page.wait_for_selector(f"#stream-{number} .whole", state="hidden")
        (low, high), *_ = page.evaluate(shown)
        assert high - low > 2990


def test_dragging_zooms_all_charts_of_a_stream_and_a_double_click_ends_it(made, browser):
    span = "uPlot.sync('stream-0').plots.map(({scales}) => scales.x.max - scales.x.min)"
    with opened(browser, made.page) as page:
        page.locator("#stream-0").scroll_into_view_if_needed()
        over = page.locator("#stream-0 .u-over").first
        over.scroll_into_view_if_needed()
        box = over.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 200, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, middle, steps=4)
        page.mouse.up()
        wait_for(lambda: max(page.evaluate(span)) < 500, "a zoom")
        page.mouse.dblclick(box["x"] + 250, middle)
        wait_for(lambda: min(page.evaluate(span)) > 2990, "its end")


def test_it_prints_without_an_empty_page(made, browser):
    with opened(browser, made.page, "dark") as page:
        pages = pages_of(page.pdf(prefer_css_page_size=True))
        assert 4 <= len(pages) <= 8
        assert all(content.count(b"Tj") + content.count(b"TJ") >= 8 for content in pages)
        assert page.evaluate("document.documentElement.dataset.look") == "dark"
        assert page.locator(".chart").count() == 8
        assert drawn(page) == [True] * 8


def pages_of(pdf: bytes) -> list[bytes]:
    """What is drawn on each page."""
    objects = dict(re.findall(rb"\n(\d+) 0 obj\n?(.*?)endobj", pdf, re.DOTALL))
    found = [one for one in objects.values() if re.search(rb"/Type\s*/Page\b", one)]
    contents = []
    for one in found:
        content = objects[re.search(rb"/Contents (\d+) 0 R", one)[1]]
        packed = content.split(b"stream", 1)[1].lstrip(b"\r\n")
        contents.append(zlib.decompressobj().decompress(packed))
    return contents


@pytest.mark.parametrize("look", ["light", "dark"])
def test_everyone_can_use_it(made, browser, look):
    with opened(browser, made.page, look) as page:
        assert_everyone_can_use(page)
