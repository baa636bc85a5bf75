// The page of events: what is in sight of the time line, a table of it, and one event large.
"use strict";

const POLL_MS = 3000;
const SHARE = 10; // times as long as an answer took, at least, until the next question
const SETTLED_MS = 150; // after which a view that was moved, or a name that is typed, is asked for
const LISTED = 100; // events, at a time
const MOST_LISTED = 1000;
const COUNTED = 20; // streams, at first
const WEEKS = 8;
const SPANS = { hour: HOUR_S, day: DAY_S, week: 7 * DAY_S, month: 30 * DAY_S };

const seen = {
  status: null, // as the daemon told it last
  skew: 0, // its clock less this one's, s
  loaded: null, // what the time line has: {since, until, span}, s
  following: true, // the present, as time goes on
  events: [], // of the table
  missing: null, // the id of an event that is not kept
  next: null, // the id that those before go on with; null where there are none
  leftOut: 0, // streams of the time line
  counts: [],
  every: false, // stream is counted
};

const line = new TimeLine(at("axis"), at("rows"), { moved, picked: choose, pointed });
line.now = () => Date.now() / 1000 + seen.skew;

// --- what is asked of the daemon

async function ask(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null);
  const answer = await fetch(`api/${path}?${new URLSearchParams(given)}`);
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(said.error ?? `the daemon answered ${answer.status}`), { status: answer.status });
}

const filters = () => ({ prefix: at("prefix").value, kind: at("kind").value, verdict: at("judged").value });

let turn = 0; // of loads: an answer that is overtaken by a newer question is let go
let settled = 0;
let loading = false;
let again = 0;

async function load() {
  clearTimeout(settled);
  clearTimeout(again);
  if (document.hidden) return;
  const mine = ++turn;
  const began = performance.now();
  loading = true;
  try {
    slide();
    const { since, until, span } = line;
    const wide = { since: since - span, until: until + span };
    const bins = 3 * Math.max(Math.round(line.width / 2), 100);
    const [told, listed] = await Promise.all([
      ask("journal/timeline", { ...wide, ...filters(), bins }),
      ask("journal", { since, until, ...filters(), limit: Math.max(LISTED, Math.min(seen.events.length, MOST_LISTED)) }),
      loadStatus(),
    ]);
    if (mine !== turn) return;
    slide();
    seen.loaded = { ...wide, span };
    showLine(told);
    showEvents(listed.events, listed.next);
    say("live", "live");
    at("off").hidden = true;
    await refresh(chosen());
  } catch (error) {
    if (mine !== turn) return;
    trouble(error);
  }
  loading = false;
  again = setTimeout(load, Math.max(POLL_MS, SHARE * (performance.now() - began)));
}

// What goes on of the chosen event, or all of it where it could not be had before.
async function refresh(id) {
  if (id === null || id === seen.missing) return;
  await reach(id);
  if (shown.event?.id !== id) await fromAddress();
  else if (shown.event.end_wall_ns === null) await loadOne(id).catch(() => (seen.missing = id));
}

async function loadStatus() {
  seen.status = await ask("status");
  seen.skew = seen.status.now - Date.now() / 1000;
  line.threshold = seen.status.threshold ?? 3;
}

function slide() {
  if (!seen.following) return;
  line.slide();
  showRange();
}

function trouble(error) {
  const off = error.status === 404;
  at("off").hidden = !off;
  at("line").hidden = document.querySelector("main").hidden = off;
  if (off) say("", "no journal");
  else say("lost", error.status ? error.message : "connection lost, trying again");
}

function say(kind, text) {
  const place = at("connection");
  place.className = kind;
  document.body.classList.toggle("stale", kind === "lost");
  if (place.textContent !== text) place.textContent = text;
  if (kind === "live") at("line").hidden = document.querySelector("main").hidden = false;
}

async function loadCounts() {
  try {
    const weeks = await ask("journal/counts", { since: line.now() - WEEKS * SPANS.week });
    seen.counts = weeks.counts;
    showCounts();
  } catch {
    // the time line tells of it
  }
}

async function loadOne(id) {
  const event = await ask(`journal/${id}`);
  if (chosen() === id) showEvent(event, seen.status);
}

// --- the time line

function moved() {
  seen.following = line.isLatest;
  showRange();
  if (!seen.loaded) return;
  const away = line.since < seen.loaded.since || line.until > Math.max(seen.loaded.until, line.now());
  if (away && !loading) load();
  else settle();
}

function showRange() {
  const { since, until, span } = line;
  const words = (time) => new Date(time * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: span < 600 ? "medium" : "short" });
  at("range").textContent = `${words(since)} to ${words(until)}`;
  const same = Object.entries(SPANS).find(([, each]) => Math.abs(each / span - 1) < 0.01);
  for (const button of at("spans").children) button.setAttribute("aria-pressed", String(seen.following && button.value === same?.[0]));
}

function showLine({ streams, left_out: leftOut }) {
  seen.leftOut = leftOut;
  const rows = Object.entries(streams).map(([stream, told]) => ({
    stream,
    events: told.map(([from, to, peak, id, verdict, kind, many]) => ({ from: from / 1000, to: to === null ? null : to / 1000, peak, id, verdict, kind, count: many })),
  }));
  line.set(ordered(rows.filter(({ events }) => events.some(inSight))));
}

const inSight = ({ from, to }) => from < line.until && (to === null || to >= line.since);

// How much is in sight, as the time line has it.
function showFound() {
  const here = line.rows.map(({ events }) => events.filter(inSight));
  const found = here.flat();
  const total = (which) => found.filter(which).reduce((sum, each) => sum + each.count, 0);
  const events = total(({ kind }) => kind === "event");
  const goOn = total(({ kind, to }) => kind === "event" && to === null);
  const told = [
    `${count(events)} ${events === 1 ? "event" : "events"} in ${count(here.filter((each) => each.length).length)} streams`,
    goOn ? `${count(goOn)} ${goOn === 1 ? "goes" : "go"} on` : "",
    seen.leftOut ? `${count(seen.leftOut)} more streams had lower peaks and are left out` : "",
  ];
  const text = told.filter(Boolean).join("; ");
  if (at("found").textContent !== text) at("found").textContent = text;
}

const highest = ({ events }) => Math.max(...events.map(({ peak }) => peak ?? 0));
const latest = ({ events }) => Math.max(...events.map(({ from }) => from));
const most = ({ events }) => events.reduce((sum, each) => sum + each.count, 0);
const ORDERS = { peak: highest, latest, most };

// By names where all else is equal.
function ordered(rows) {
  const key = ORDERS[at("order").value];
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  const keyed = rows.map((row) => [key ? -key(row) : 0, row]);
  return keyed.sort(([a, one], [b, two]) => a - b || compare(one.stream, two.stream)).map(([, row]) => row);
}

function pointed(stream, bar) {
  if (stream === null) {
    at("pointed").textContent = HINT;
    return;
  }
  const told = bar && [
    bar.count > 1 ? `${count(bar.count)} times ${KINDS[bar.kind]}` : KINDS[bar.kind],
    `${new Date(bar.from * 1000).toLocaleString()}, ${bar.to === null ? "goes on" : seconds(bar.to - bar.from)}`,
    bar.peak === null ? "" : `peak ${bar.peak.toFixed(1)}`,
    bar.kind === "event" ? VERDICTS[bar.verdict] : "",
  ];
  at("pointed").textContent = [stream, ...(told ?? [])].filter(Boolean).join("; ");
}

const HINT = "Drag to move, Ctrl and the wheel or two fingers to zoom, click a bar to see it large.";

function showKey() {
  const kinds = [
    ["event", "", "not judged"],
    ["event", "real", "real"],
    ["event", "normal", "false, normal"],
    ["event", "work", "planned work"],
    ["reset", "", "state began anew"],
    ["gap", "", "rows missing"],
    ["silence", "", "silence"],
  ];
  const samples = kinds.map(([kind, verdict, text]) => {
    const item = element("span");
    const canvas = element("canvas", "sample");
    canvas.setAttribute("aria-hidden", "true");
    bars.sample(canvas, { kind, verdict, peak: 4.5, count: 1 }, 3);
    item.append(canvas, text);
    return item;
  });
  at("key").replaceChildren(...samples, element("span", "", "the higher, the higher its peak"));
}

// --- the table

const { element } = charts;

function showEvents(events, next) {
  seen.events = events;
  seen.next = next;
  const body = at("events").tBodies[0];
  while (body.rows.length > events.length) body.lastChild.remove();
  while (body.rows.length < events.length) body.append(listed());
  events.forEach((event, k) => showListed(body.rows[k], event));
  at("older").hidden = next === null;
  at("none").hidden = events.length > 0;
  at("events").hidden = events.length === 0;
  showFound();
}

function listed() {
  const row = element("tr");
  const stream = element("td");
  const link = element("a");
  stream.append(link, element("span", "note"));
  row.append(element("td"), stream, element("td", "figure"), element("td"));
  return row;
}

function showListed(row, event) {
  if (event.id === chosen()) row.setAttribute("aria-current", "true");
  else row.removeAttribute("aria-current");
  const date = new Date(event.begin_wall_ns / 1e6);
  const today = date.toDateString() === new Date(line.now() * 1000).toDateString();
  const told = `${today} ${JSON.stringify(event)}`;
  if (event.end_wall_ns !== null && row.told === told) return; // it stands there already
  row.told = told;
  const [began, stream, peak, verdict] = row.cells;
  const time = date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  began.textContent = today ? time : `${date.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${time}`;
  const [link, note] = stream.children;
  link.href = `#${event.id}`;
  link.textContent = event.stream;
  link.title = event.stream;
  const causes = event.channels.slice(0, 2).map(([name, share]) => `${name} ${percent(share)}`);
  const of = {
    event: [lasted(event), ...causes],
    reset: [KINDS.reset, event.detail, event.rows > 1 ? many(event) : ""],
    gap: [event.rows === null ? KINDS.gap : many(event)],
    silence: [KINDS.silence, lasted(event)],
  }[event.kind];
  note.textContent = of.filter(Boolean).join(", ");
  peak.textContent = event.peak === null ? "–" : event.peak.toFixed(1);
  verdict.textContent = event.verdict ? { real: "real", normal: "false", work: "work" }[event.verdict] : "";
  verdict.className = `verdict ${event.verdict}`;
  verdict.title = event.note;
  row.classList.toggle("open", event.end_wall_ns === null);
}

let extending = null; // one at a time

function older() {
  extending ??= extend().finally(() => (extending = null));
  return extending;
}

async function extend() {
  if (seen.next === null) return;
  const { since, until } = line;
  const mine = turn;
  const said = await ask("journal", { since, until, ...filters(), before: seen.next, limit: LISTED });
  if (mine === turn) showEvents([...seen.events, ...said.events], said.next);
}

// --- counts

function showCounts() {
  const table = at("counts").querySelector("table");
  const weeks = [...new Set(seen.counts.map(({ week }) => week))].sort().slice(-WEEKS);
  const streams = new Map();
  for (const { stream, week, events, real, normal, work } of seen.counts) {
    const row = streams.get(stream) ?? { total: 0, judged: { real: 0, normal: 0, work: 0 }, weeks: new Map() };
    row.total += events;
    row.judged.real += real;
    row.judged.normal += normal;
    row.judged.work += work;
    row.weeks.set(week, events);
    streams.set(stream, row);
  }
  at("counts").hidden = streams.size === 0;
  const titles = ["stream", ...weeks.map((week) => week.slice(5)), "all", "real", "false", "work"];
  const head = element("tr");
  titles.forEach((title, k) => {
    const cell = element("th", k ? "figure" : "", title);
    cell.scope = "col";
    if (k && k <= weeks.length) cell.title = `the week from Monday, ${weeks[k - 1]}`;
    head.append(cell);
  });
  table.tHead.replaceChildren(head);
  const found = [...streams].sort(([, a], [, b]) => b.total - a.total);
  const rows = found.slice(0, seen.every ? Infinity : COUNTED).map(([stream, row]) => [
    stream,
    ...weeks.map((week) => (row.weeks.has(week) ? count(row.weeks.get(week)) : "·")),
    count(row.total),
    ...["real", "normal", "work"].map((verdict) => count(row.judged[verdict])),
  ]);
  table.tBodies[0].replaceChildren();
  fill(table.tBodies[0], rows, "figure");
  at("every").hidden = seen.every || found.length <= COUNTED;
  at("every").textContent = `show all ${count(found.length)} streams`;
}

// --- one event

const chosen = () => (/^#\d+$/.test(location.hash) ? Number(location.hash.slice(1)) : null);

// Whether the address names a stream, as #stream=ID; its events alone are asked for.
function narrowed() {
  const stream = new URLSearchParams(location.hash.slice(1)).get("stream");
  if (stream !== null) at("prefix").value = stream;
  return stream !== null;
}

function choose(id) {
  location.hash = String(id);
}

function markChosen() {
  for (const row of at("events").tBodies[0].rows) {
    if (row.querySelector("a").hash === location.hash) {
      row.setAttribute("aria-current", "true");
      const { top, bottom } = row.getBoundingClientRect();
      const box = at("scroll").getBoundingClientRect();
      if (top < box.top + 30 || bottom > box.bottom) at("scroll").scrollTop += top - box.top - box.height / 2;
    } else row.removeAttribute("aria-current");
  }
}

// Has the table hold the chosen event, where it is among those that are in sight.
async function reach(id) {
  const has = () => seen.events.some((event) => event.id === id);
  while (!has() && seen.next !== null && seen.next > id && seen.events.length < MOST_LISTED) await older();
}

async function fromAddress() {
  const id = chosen();
  line.chosen = id;
  line.draw();
  markChosen();
  if (id === null) {
    at("event").hidden = true;
    if (narrowed()) load();
    return;
  }
  try {
    await loadOne(id);
  } catch (error) {
    if (chosen() !== id) return;
    seen.missing = error.status === 404 ? id : null;
    at("pointed").textContent = `Event ${id}: ${error.message}`;
    at("event").hidden = true;
    return;
  }
  if (chosen() !== id) return;
  const { stream: its, begin_wall_ns: begin, end_wall_ns: end } = shown.event;
  line.reveal(its, begin / 1e9, (end ?? begin) / 1e9);
  await reach(id);
  markChosen();
  if (innerWidth <= 820) at("event").scrollIntoView({ block: "start" });
}

// The one after the chosen one (-1) or before it (1), as the table has them.
async function step(by) {
  const here = seen.events.findIndex(({ id }) => id === chosen());
  if (here === seen.events.length - 1 && by > 0) await older();
  const next = seen.events[here < 0 ? 0 : here + by];
  if (next) choose(next.id);
}

function leave() {
  if (chosen() === null) return;
  history.pushState(null, "", location.pathname);
  fromAddress();
}

// --- what a person does

function settle() {
  clearTimeout(settled);
  settled = setTimeout(load, SETTLED_MS);
}

function lookBack(span) {
  line.look(...line.latest(SPANS[span]), true);
  at("rows").scrollTop = 0;
}

at("filters").addEventListener("submit", (event) => event.preventDefault());
at("prefix").addEventListener("input", settle);
for (const id of ["kind", "judged"]) at(id).addEventListener("change", settle);
at("order").addEventListener("change", () => {
  kept.set("events.order", at("order").value);
  line.set(ordered(line.rows));
});
at("spans").addEventListener("click", ({ target }) => target.value && lookBack(target.value));
at("earlier").addEventListener("click", () => line.pan(-0.5));
at("later").addEventListener("click", () => line.pan(0.5));
at("closer").addEventListener("click", () => line.zoom(0.5));
at("farther").addEventListener("click", () => line.zoom(2));
at("older").addEventListener("click", older);
at("every").addEventListener("click", () => {
  seen.every = true;
  showCounts();
});
at("newer").addEventListener("click", () => step(-1));
at("before").addEventListener("click", () => step(1));
at("close").addEventListener("click", leave);
at("help").addEventListener("click", () => at("keys").showModal());
at("look").addEventListener("click", look.toggle);
at("verdict").addEventListener("submit", (event) => {
  event.preventDefault();
  save((judged) => {
    if (chosen() === judged.id) showEvent(judged, seen.status);
    load();
    loadCounts();
  });
});
addEventListener("look", showLook);
addEventListener("hashchange", fromAddress);
document.addEventListener("visibilitychange", load);
for (const [kind, printing] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(kind, () => {
    look.print(printing);
    line.print(printing);
    const [rows, most] = [line.rows.length, TimeLine.MOST_PRINTED];
    at("pointed").textContent = !printing ? HINT : rows > most ? `The first ${most} of ${count(rows)} streams, and the latest ${count(seen.events.length)} events.` : "";
  });
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  1: () => lookBack("hour"),
  2: () => lookBack("day"),
  3: () => lookBack("week"),
  4: () => lookBack("month"),
  ArrowLeft: () => line.pan(-0.2),
  ArrowRight: () => line.pan(0.2),
  "+": () => line.zoom(0.6),
  "-": () => line.zoom(1 / 0.6),
  "/": () => at("prefix").focus(),
  "?": () => at("keys").showModal(),
  Escape: leave,
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  const does = KEYS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});

function showLook() {
  at("look").textContent = look.now() === "dark" ? "light look" : "dark look";
  showKey();
}

const order = kept.get("events.order");
if (order && [...at("order").options].some(({ value }) => value === order)) at("order").value = order;
showLook();
pointed(null);
narrowed();
load().then(loadCounts);
