"""The page of events in a real browser, over a night of 300 events in 1,000 streams."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from browser import (
    DESK,
    PHONE,
    Opener,
    assert_everyone_can_use,
    assert_it_fits_a_phone,
    chromium,
    opener,
    shows,
    until,
)
from models import untrained
from nights import write_night
from pages import Site, site
from playwright.sync_api import Browser, Page

from streamrnn.engine.engine import Engine
from streamrnn.events.journal import Filter, Journal
from streamrnn.settings.sections import Faults

EVENTS, STREAMS = 300, 1000
ODD = ['<b onclick="x()">bold</b> & "pump"', "hall 2/Überdruck" + " lang" * 15, "\u202eabc", "#1 ?%20&=;"]
REFUSED = "Failed to load resource: the server responded"  # what Chromium itself says of an answer like 404
OPENS_S = 1.0
TOKEN = "0123456789abcdef0123456789abcdef"
FRAMES = """() => new Promise((done) => {
    const took = [];
    let last = performance.now();
    const frame = (now) => {
        took.push(now - last);
        last = now;
        line.pan(took.length % 80 < 40 ? -0.01 : 0.01, false);
        at("rows").scrollTop = (took.length % 40) * 60;
        if (took.length < 90) requestAnimationFrame(frame);
        else done(took.slice(5));
    };
    requestAnimationFrame(frame);
})"""
PAINTS = """() => {
    const began = performance.now();
    for (let k = 0; k < 50; k++) { at("rows").scrollTop = k * 60; line.print(false); }
    return (performance.now() - began) / 50;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened(browser: Browser) -> Opener:
    return opener(browser)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    path = tmp_path_factory.mktemp("night") / "events.sqlite"
    write_night(path, time.time(), EVENTS, STREAMS, names=ODD)
    with site(Engine(untrained(), 4, Faults()), path) as here:
        yield here


def listed(page: Page) -> list[list[str]]:
    """The cells of the table's rows."""
    return cells(page, "#events tbody tr")


def cells(page: Page, rows: str) -> list[list[str]]:
    script = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.innerText))"
    return page.locator(rows).evaluate_all(script)


def ready(page: Page) -> None:
    shows(page, "seen.events.length && line.rows.length && line.drawn", "the time line and the table")


def shows_event(page: Page, event: int) -> None:
    shows(page, f"shown.event?.id === {event} && !at('event').hidden", f"event {event}")


def kept(here: Site, **chosen: Any) -> list[dict[str, Any]]:
    with Journal(here.journal) as journal:
        return journal.entries(Filter(**chosen), 1000)[0]


def bar(page: Page, event: int) -> tuple[float, float]:
    """Where the bar of an event is on the screen."""
    x, y = page.evaluate(
        """(id) => {
        const row = line.rows.findIndex(({ events }) => events.some((each) => each.id === id));
        at("rows").scrollTop = row * bars.ROW - 40;
        const { from, to } = line.rows[row].events.find((each) => each.id === id);
        const box = line.canvas.getBoundingClientRect();
        const left = line.width < 560 ? 104 : 190;
        const x = (time) => left + ((time - line.since) / line.span) * (line.width - left);
        const top = box.top + row * bars.ROW - at("rows").scrollTop;
        return [box.left + (x(from) + x(to ?? line.now())) / 2, top + 14];
    }""",
        event,
    )
    return x, y


def test_a_night_opens_in_a_second_and_moves_smoothly(night, opened, capsys):
    with opened(night.http, "events") as page:
        ready(page)
        took = []
        for _ in range(3):
            page.reload()
            took.append(
                page.evaluate(
                    """async () => {
                while (!(seen.events.length && line.rows.length && line.drawn > 1)) {
                    await new Promise(requestAnimationFrame);
                }
                return performance.now();
            }"""
                )
                / 1000
            )
        frames = page.evaluate(FRAMES)
        paint = page.evaluate(PAINTS)
        rows = page.evaluate("line.rows.length")
    with capsys.disabled():
        print(f"\n{EVENTS} events in {rows} rows: open after {min(took):.2f} s; moved, a frame takes")
        print(f"{np.median(frames):.1f} ms, p95 {np.percentile(frames, 95):.1f} ms; a picture {paint:.2f} ms")
    assert min(took) < OPENS_S
    assert paint < 8.0
    assert np.median(frames) < 34.0


def test_what_is_in_the_journal_is_in_the_table_and_the_time_line(night, opened):
    with opened(night.http, "events") as page:
        ready(page)
        every = kept(night)
        assert len(listed(page)) == 100
        for many in (200, 300):
            page.click("#older")
            until(page, lambda many=many: len(listed(page)) == many, "more of them")
        assert [stream.split("\n")[0] for _, stream, *_ in listed(page)] == [each["stream"] for each in every]
        assert not page.is_visible("#older")
        counts = page.evaluate("line.rows.flatMap(({ events }) => events.map((each) => each.count))")
        assert sum(counts) == EVENTS
        events = sum(each["kind"] == "event" for each in every)
        streams = len({each["stream"] for each in every})
        assert page.inner_text("#found") == f"{events} events in {streams} streams; 1 goes on"
        assert page.locator("#events b, #event b, #counts b").count() == 0, "an id is text"


def test_it_is_narrowed_by_stream_kind_and_verdict(night, opened):
    with opened(night.http, "events") as page:
        ready(page)
        page.fill("#prefix", ODD[0][:12])
        streams = "[...new Set(line.rows.map(({ stream }) => stream))]"
        until(page, lambda: page.evaluate(streams) == [ODD[0]], "one stream")
        until(page, lambda: {row[1].split("\n")[0] for row in listed(page)} == {ODD[0]}, "its events")
        page.fill("#prefix", "")
        page.select_option("#kind", "gap")
        many = len(kept(night, kind="gap"))
        until(page, lambda: len(listed(page)) == many, "the gaps")
        page.select_option("#kind", "event")
        page.select_option("#judged", "normal")
        until(page, lambda: {row[3] for row in listed(page)} == {"false"}, "those judged so")
        verdicts = "[...new Set(line.rows.flatMap(({ events }) => events.map((each) => each.verdict)))]"
        until(page, lambda: page.evaluate(verdicts) == ["normal"], "their bars")
        page.fill("#prefix", "nobody")
        until(page, lambda: page.is_visible("#none"), "words")
        shows(page, "line.rows.length === 0", "an empty time line")
        assert page.inner_text("#found") == "0 events in 0 streams"


def test_the_time_line_moves_by_pointer_wheel_and_keys(night, opened):
    view = "[line.since, line.until]"
    with opened(night.http, "events") as page:
        ready(page)
        page.emulate_media(reduced_motion="reduce")
        box = page.locator("#rows canvas").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + 100
        since, until_s = page.evaluate(view)
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 200, middle[1], steps=5)
        page.mouse.up()
        moved = page.evaluate(view)
        span = until_s - since
        assert moved[1] - moved[0] == pytest.approx(span)
        assert since - moved[0] == pytest.approx(200 / (page.evaluate("line.width") - 190) * span, rel=0.02)
        assert page.evaluate("location.hash") == "", "a drag is no click"
        held = page.evaluate("(x) => line.time(x)", 600)
        page.mouse.move(box["x"] + 600, middle[1])
        page.keyboard.down("Control")
        page.mouse.wheel(0, -100)
        page.keyboard.up("Control")
        shows(page, f"line.span < {0.9 * span}", "a closer look")
        assert page.evaluate("(x) => line.time(x)", 600) == pytest.approx(held, abs=1)
        since = page.evaluate("line.since")
        page.mouse.wheel(300, 0)
        shows(page, f"line.since > {since}", "later")
        page.keyboard.down("Shift")
        page.mouse.move(box["x"] + 400, middle[1])
        wanted = page.evaluate("[line.time(400), line.time(700)]")
        page.mouse.down()
        page.mouse.move(box["x"] + 700, middle[1], steps=4)
        page.mouse.up()
        page.keyboard.up("Shift")
        assert page.evaluate(view) == pytest.approx(wanted, abs=1)
        for key, span in (("1", 3600), ("3", 7 * 86400), ("4", 30 * 86400), ("2", 86400)):
            page.keyboard.press(key)
            shows(page, f"Math.abs(line.span - {span}) < 1", f"the span of key {key}")
        assert page.get_attribute("#spans [value=day]", "aria-pressed") == "true"
        page.keyboard.press("ArrowLeft")
        shows(page, "line.until < line.now() - 3600", "earlier")
        assert page.get_attribute("#spans [value=day]", "aria-pressed") == "false"
        page.keyboard.press("+")
        shows(page, "line.span < 60000", "closer")
        page.click("#farther")
        shows(page, "line.span > 80000", "farther")
        with page.expect_response(lambda answer: "timeline" in answer.url):
            page.keyboard.press("1")


def test_an_event_is_opened_by_pointer_keys_table_and_address(night, opened):
    with opened(night.http, "events") as page:
        ready(page)
        events = kept(night)
        one = next(each for each in events if each["verdict"] == "real" and each["stream"] not in ODD)
        page.mouse.click(*bar(page, one["id"]))
        shows_event(page, one["id"])
        assert page.url.endswith(f"/events#{one['id']}")
        assert page.inner_text("#event-title") == one["stream"]
        facts = page.inner_text("#facts")
        assert f"peak {one['peak']:.1f}" in facts and f"{one['rows']:,} row" in facts
        causes = page.locator("#shares li").all_inner_texts()
        name, share = one["channels"][0]
        assert causes[0].split("\n")[0] == name and f"{100 * share:.0f} %" in causes[0]
        assert page.locator("#event .chart").count() == 7
        titles = page.locator("#event .chart .title").all_inner_texts()
        assert titles[:2] == ["score", name]
        assert page.inner_text("#read-verdict").startswith("real, said")
        assert "http.control = true" in page.inner_text("#read")
        assert not page.is_visible("#verdict")

        at = [each["id"] for each in events].index(one["id"])
        page.keyboard.press("j")
        shows_event(page, events[at + 1]["id"])
        page.keyboard.press("k")
        shows_event(page, one["id"])
        page.click("#before")
        shows_event(page, events[at + 1]["id"])
        page.go_back()
        shows_event(page, one["id"])
        page.keyboard.press("Escape")
        until(page, lambda: not page.is_visible("#event"), "it to be closed")
        page.locator("#events a").nth(3).focus()
        page.keyboard.press("Enter")
        shows_event(page, events[3]["id"])
        assert page.locator("#events tr[aria-current=true]").count() == 1
        page.keyboard.press("?")
        assert page.is_visible("#keys")
        page.keyboard.press("j")
        page.keyboard.press("Escape")
        assert page.evaluate("shown.event.id") == events[3]["id"]

    odd = next(each for each in events if each["stream"] == ODD[0])
    with opened(night.http, f"events#{odd['id']}") as page:
        shows_event(page, odd["id"])
        assert page.inner_text("#event-title") == ODD[0]
        with page.expect_navigation():
            page.click("#live")
        until(page, lambda: page.inner_text("#stream-title") == ODD[0], "the stream as it is now")
        with page.expect_navigation():
            page.click("#past")
        ready(page)
        shows(page, f"line.rows?.length === 1 && line.rows[0].stream === {json.dumps(ODD[0])}", "its events")
    with opened(night.http, "events#987654", forgive=REFUSED) as page:
        until(page, lambda: "no such event is kept" in page.inner_text("#pointed"), "words")
        assert not page.is_visible("#event")


def test_one_that_goes_on_is_followed(tmp_path, opened):
    path = tmp_path / "events.sqlite"
    write_night(path, time.time(), 5, 5)
    with site(Engine(untrained(), 4, Faults()), path) as here, opened(here.http, "events#5") as page:
        shows_event(page, 5)
        assert page.inner_text("#badges") == "event, goes on"
        with closing(sqlite3.connect(path)) as file, file:
            now = time.time_ns()
            file.execute("UPDATE events SET end_wall_ns = ?, end_ns = ? WHERE id = 5", [now, now])
            file.execute(
                "INSERT INTO events (id, kind, stream, begin_wall_ns) VALUES (6, 'silence', 'x', ?)", [now]
            )
        until(page, lambda: page.inner_text("#badges") == "event", "its end")
        until(page, lambda: listed(page)[0][1].split("\n")[0] == "x", "the new one")
        assert "silence, goes on" in listed(page)[0][1]


def test_counts_are_by_stream_and_week(night, opened):
    with opened(night.http, "events") as page:
        ready(page)
        shows(page, "seen.counts.length", "the counts")
        rows = cells(page, "#counts tbody tr")
        events = [each for each in kept(night) if each["kind"] == "event"]
        of: dict[str, int] = {}
        for each in events:
            of[each["stream"]] = of.get(each["stream"], 0) + 1
        assert len(rows) == 20
        assert [int(row[-4]) for row in rows] == sorted(of.values(), reverse=True)[:20]
        assert all(of[row[0]] == int(row[-4]) == sum(int(n) for n in row[1:-4] if n != "·") for row in rows)
        page.click("#every")
        assert page.locator("#counts tbody tr").count() == len(of)


def test_a_journal_that_is_off_empty_or_gone_is_told(tmp_path, opened):
    engine = Engine(untrained(), 4, Faults())
    with site(engine) as here, opened(here.http, "events", forgive=REFUSED) as page:
        until(page, lambda: page.is_visible("#off"), "how to keep one")
        assert "[events]" in page.inner_text("#off") and not page.is_visible("#line")
        assert_everyone_can_use(page)
    path = tmp_path / "events.sqlite"
    Journal(path, write=True).close()
    with site(engine, path) as here, opened(here.http, "events", forgive=REFUSED) as page:
        until(page, lambda: page.inner_text("#connection") == "live", "an answer")
        until(page, lambda: page.inner_text("#none") == "Nothing happened in this time.", "words")
        assert not page.is_visible("#off")
        path.rename(tmp_path / "away.sqlite")
        page.keyboard.press("3")
        until(page, lambda: "no such journal" in page.inner_text("#connection"), "what is wrong")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESK), ("dark", PHONE)], ids=["desk", "phone"])
def test_everyone_can_use_it(night, opened, scheme, viewport):
    one = next(each for each in kept(night) if each["recording"] and each["stream"] == ODD[1])
    how = {"is_mobile": True, "has_touch": True} if viewport == PHONE else {}
    with opened(night.http, "events", color_scheme=scheme, viewport=viewport, **how) as page:
        ready(page)
        page.evaluate("(id) => choose(id)", one["id"])
        shows_event(page, one["id"])
        shows(page, "document.querySelectorAll('#event .chart').length === 7", "charts")
        assert_everyone_can_use(page)
        if viewport == PHONE:
            assert_it_fits_a_phone(page)


def test_a_phone_pans_and_picks_by_touch(night, opened):
    one = next(each for each in kept(night) if each["kind"] == "event")
    with opened(night.http, "events", viewport=PHONE, is_mobile=True, has_touch=True) as page:
        ready(page)
        page.locator("#rows").scroll_into_view_if_needed()
        page.touchscreen.tap(*bar(page, one["id"]))
        shows(page, "shown.event && !at('event').hidden", "an event")
        assert page.evaluate("shown.event.stream") == one["stream"]

        page.locator("#rows").scroll_into_view_if_needed()
        box = page.locator("#rows canvas").bounding_box()
        session, y = page.context.new_cdp_session(page), box["y"] + 100

        def touch(kind: str, *xs: float) -> None:
            points = [{"x": box["x"] + x, "y": y, "id": k} for k, x in enumerate(xs)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        since, span = page.evaluate("[line.since, line.span]")
        touch("touchStart", 200)
        for x in (220, 250, 280):
            touch("touchMove", x)
        touch("touchEnd")
        shows(page, f"line.since < {since - 0.2 * span}", "earlier")
        assert page.evaluate("line.span") == pytest.approx(span)
        touch("touchStart", 150)
        touch("touchStart", 150, 200)
        for apart in (70, 100, 150):
            touch("touchMove", 175 - apart / 2, 175 + apart / 2)
        touch("touchEnd")
        shows(page, f"line.span < {span / 2}", "closer")
        assert page.evaluate("visualViewport.scale") == 1


def test_bars_differ_by_more_than_their_colour(night, opened):
    shapes = """() => ["", "real", "normal", "work"].flatMap((verdict) => [3, 6].map((peak) => {
        const canvas = document.createElement("canvas");
        bars.sample(canvas, { kind: "event", verdict, peak, count: 1 }, 3);
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, k) => k % 4 === 3).map((alpha) => alpha > 60 ? 1 : 0).join("");
    }))"""
    with opened(night.http, "events") as page:
        ready(page)
        assert len(set(page.evaluate(shapes))) == 8


def test_it_is_printed_in_the_light_look_with_all_rows(night, opened):
    one = next(each for each in kept(night) if each["recording"])
    with opened(night.http, f"events#{one['id']}", color_scheme="dark") as page:
        ready(page)
        shows_event(page, one["id"])
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.dataset.look") == "light"
        rows = page.evaluate("line.rows.length")
        assert page.evaluate("line.canvas.clientHeight") == min(rows, 40) * 24
        assert page.inner_text("#pointed").startswith(f"The first 40 of {rows} streams")
        for hidden in ("#filters", "#save", "#help", "#older"):
            assert not page.is_visible(hidden)
        for seen in ("#axis", "#events", "#facts", "#read-verdict", "#event .chart", "#counts table"):
            assert page.locator(seen).first.is_visible()
        page.emulate_media(media="screen")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("document.documentElement.dataset.look") == "dark"
        assert page.evaluate("line.canvas.clientHeight") < 600


def judge(page: Page, verdict: str, note: str) -> None:
    page.locator("#verdict label", has_text=verdict).click()
    page.fill("#note", note)
    page.click("#save")


def test_verdict_and_note_are_saved_by_who_has_the_token(tmp_path, opened):
    path = tmp_path / "events.sqlite"
    write_night(path, time.time(), 20, 8, names=ODD)
    engine = Engine(untrained(), 4, Faults())
    with site(engine, path, TOKEN) as here, opened(here.http, "events", forgive=REFUSED) as page:
        ready(page)
        first, second = (each["id"] for each in kept(here, verdict="", kind="event")[:2])
        page.evaluate("(id) => choose(id)", first)
        shows_event(page, first)
        assert not page.is_visible("#read")
        note = "<b>a bearing</b>\nof hall 2"
        judge(page, "real", note)
        until(page, lambda: page.is_visible("dialog.token"), "the question for the token")
        assert_everyone_can_use(page)
        page.keyboard.type("a wrong one")
        page.keyboard.press("Enter")
        assert page.is_visible("dialog.token"), "no header can say that"
        page.fill("dialog.token input", TOKEN[::-1])
        page.keyboard.press("Enter")
        until(page, lambda: page.inner_text("dialog.token h2") == "That is not the daemon's token", "words")
        page.keyboard.press("Escape")
        until(page, lambda: page.inner_text("#saved") == "not saved: nothing was changed", "that it is not")
        assert not any(each["note"] == note for each in kept(here))

        page.click("#save")
        page.fill("dialog.token input", TOKEN)
        page.keyboard.press("Enter")
        until(page, lambda: page.inner_text("#saved").startswith("saved"), "that it is")
        with Journal(path) as journal:
            entry = journal.one(first)
        assert (entry["verdict"], entry["note"]) == ("real", note)
        row = page.locator("#events tr[aria-current=true] .verdict")
        until(page, lambda: row.inner_text() == "real", "the verdict in the table")

        page.evaluate("(id) => choose(id)", second)
        shows_event(page, second)
        page.fill("#note", "half a thought")
        assert page.inner_text("#saved") == "not saved yet"
        page.evaluate("(id) => choose(id)", first)
        shows_event(page, first)
        assert page.input_value("#note") == note
        page.evaluate("(id) => choose(id)", second)
        shows_event(page, second)
        assert page.input_value("#note") == "half a thought", "what was written is not lost"
        judge(page, "planned work", "the half-yearly check")
        until(page, lambda: page.inner_text("#saved").startswith("saved"), "no second question")
        with Journal(path) as journal:
            assert journal.one(second)["verdict"] == "work"
        assert page.evaluate("Object.keys(localStorage).some((key) => key.includes('token'))") is False


class Elsewhere(BaseHTTPRequestHandler):
    """A page of another origin, which says nothing of what its scripts may do."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_request(self, *args: object) -> None:
        pass


ATTACK = """async ([url, token]) => {
    const body = JSON.stringify({ event: 5, verdict: "real" });
    const json = { "content-type": "application/json" };
    const ways = [
        { headers: { ...json, authorization: `Bearer ${token}` } },
        { headers: json, credentials: "include" },
        { headers: { "content-type": "text/plain" }, mode: "no-cors" },
    ];
    const sent = await Promise.all(ways.map((way) =>
        fetch(url, { method: "POST", body, ...way }).then(({ type }) => type, () => "refused")));
    const form = document.createElement("form");
    Object.assign(form, { action: url, method: "POST", enctype: "text/plain" });
    const field = document.createElement("input");
    Object.assign(field, { name: body.slice(0, -1) + ', "note": "', value: '"}' });
    form.append(field);
    document.body.append(form);
    form.submit();
    return sent;
}"""


def test_a_page_from_elsewhere_changes_nothing_whatever_it_knows(tmp_path, browser):
    path = tmp_path / "events.sqlite"
    write_night(path, time.time(), 5, 3)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    page = browser.new_page()
    try:
        with site(Engine(untrained(), 4, Faults()), path, TOKEN) as here:
            before = kept(here)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            with page.expect_navigation() as navigation:
                sent = page.evaluate(ATTACK, [f"{here.http}/api/control/judge", TOKEN])
            assert sent == ["refused"] * 3
            assert navigation.value.status == 403
            assert kept(here) == before
    finally:
        page.close()
        server.shutdown()
        thread.join()
        server.server_close()
