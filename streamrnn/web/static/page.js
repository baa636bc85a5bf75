// The page: what the daemon tells of itself, its streams by score, and one of them large.
"use strict";

const { element, number } = charts;
const CHARTS = 12; // drawn at first; with more channels, the others on demand
const TYPING_MS = 250;
const AGAIN_MS = 3000;
const SILENT_S = 60; // after which a stream that nobody chose gives way to one that goes on
const MOST_LISTED = 40;

const at = (id) => document.getElementById(id);
const store = {
  status: null, // the last of each kind of event
  listed: null,
  stands: null, // the stream that is shown, as it stands
  samples: new Samples(),
  stream: "", // its id
  chosen: false, // by a person, not by its score
  told: 0, // when it stood so, by the daemon's clock, s
  paused: null, // since when, by the daemon's clock, s
  all: false, // channels
  skew: 0, // the daemon's clock less this one's, s
  ordered: 0, // when the list got its order
  touched: 0, // when the pointer last moved over it
};

// --- the connection

let source = null;
let again = 0;

function connect() {
  source?.close();
  clearTimeout(again);
  store.samples.interrupted();
  if (document.hidden) return; // a page that nobody sees asks for nothing
  const query = new URLSearchParams({ search: at("search").value.trim(), sort: at("sort").value, limit: MOST_LISTED });
  if (store.stream) query.set("stream", store.stream);
  source = new EventSource(`api/events?${query}`);
  source.addEventListener("status", (event) => showStatus(JSON.parse(event.data)));
  source.addEventListener("refusals", (event) => showRefusals(JSON.parse(event.data).refusals));
  source.addEventListener("streams", (event) => {
    showStreams(JSON.parse(event.data));
    follow(store.listed);
  });
  source.addEventListener("stream", (event) => showStream(JSON.parse(event.data)));
  source.onerror = () => {
    store.samples.interrupted();
    say("lost", "connection lost, trying again");
    if (source.readyState === EventSource.CLOSED) again = setTimeout(connect, AGAIN_MS); // refused: too many pages
  };
}

function say(kind, text) {
  const place = at("connection");
  place.className = kind;
  document.body.classList.toggle("stale", kind === "lost");
  if (place.textContent !== text) place.textContent = text;
}

document.addEventListener("visibilitychange", connect);

// --- the daemon

const count = (value) => value.toLocaleString("en");
const clock = () => Date.now() / 1000 + store.skew; // the daemon's, s since the Unix epoch

function seconds(value) {
  if (value === null) return "–";
  for (const [unit, size] of [["µs", 1e-6], ["ms", 1e-3], ["s", 1], ["min", 60], ["h", 3600]]) {
    if (value < size * (unit === "µs" || unit === "ms" ? 1000 : unit === "h" ? Infinity : 60 * (unit === "s" ? 2 : 1))) {
      const scaled = value / size;
      return `${scaled >= 100 ? scaled.toFixed(0) : Number(scaled.toPrecision(3))}\u00a0${unit}`;
    }
  }
}

const reasons = (counts) => Object.entries(counts).map(([reason, times]) => `${reason} ${count(times)}`).join(", ");

function showStatus(status) {
  store.status = status;
  store.skew = status.now - Date.now() / 1000;
  const ready = status.state === "ready";
  say(ready ? "live" : "", ready ? "live" : status.state);
  const { model, latency_s: latency, age_s: age } = status;
  const layers = model.layers > 1 ? ` × ${model.layers}` : "";
  at("model").textContent =
    `${model.cell} ${model.channels.length} → ${model.hidden}${layers} → ${model.outputs.length}, ` +
    `${model.relation}, ${model.fingerprint.slice(0, 12)}; version ${status.version}`;
  const rejected = Object.values(status.rejected).reduce((sum, times) => sum + times, 0);
  const snapshot = status.snapshot_age_s;
  const figures = [
    ["Streams", count(status.streams), `of ${count(status.capacity)} at most`],
    ["Frames", `${count(Math.round(status.frames_per_s))} /s`, `${count(status.frames)} so far`],
    ["Latency, median", seconds(latency.total.p50), `p99 ${seconds(latency.total.p99)}, p99.9 ${seconds(latency.total["p99.9"])}`],
    ["Age, median", seconds(age.p50), `p99 ${seconds(age.p99)}`],
    ["Dropped", count(rejected + status.late), [status.late && `late ${count(status.late)}`, reasons(status.rejected)].filter(Boolean).join(", ") || "nothing"],
    ["Rows missing", count(status.missing_rows), `resets: ${reasons(status.resets) || "none"}`],
    ["Anomalies", count(status.anomalies), status.forecasts ? `from a score of ${status.threshold} on` : "this model has no score"],
    ["Snapshot", snapshot === null ? "off" : `${seconds(snapshot)} old`, status.snapshot_failures ? `${count(status.snapshot_failures)} failed` : snapshot === null ? "state is lost at a power cut" : "none failed"],
  ];
  const place = at("figures");
  while (place.children.length < figures.length) {
    const box = element("div");
    box.append(element("dt"), element("dd", "main"), element("dd", "more"));
    place.append(box);
  }
  figures.forEach((texts, k) => texts.forEach((text, part) => (place.children[k].children[part].textContent = text)));
  draw();
}

function showRefusals(refusals) {
  at("refusals").hidden = refusals.length === 0;
  refusals.sort((a, b) => a.first - b.first); // so that rows stay where they are
  const rows = refusals.map(({ reason, count: times, topic, what, latest, remedy }) =>
    [reason, count(times), topic, what, new Date(1000 * latest).toLocaleString(), remedy],
  );
  fill(at("refusals").querySelector("tbody"), rows, "");
}

// Fills a table: rows of texts, the first of each its header.
function fill(body, rows, kind) {
  while (body.rows.length > rows.length) body.lastChild.remove();
  rows.forEach((texts, k) => {
    if (!body.rows[k]) {
      const row = element("tr");
      const name = element("th");
      name.scope = "row";
      row.append(name, ...texts.slice(1).map(() => element("td", kind)));
      body.append(row);
    }
    [...body.rows[k].cells].forEach((cell, c) => {
      if (cell.textContent !== texts[c]) cell.textContent = texts[c];
    });
  });
}

// --- one stream

// Unless a person chose, the most unusual stream is shown; it stays until another has an anomaly and it has none.
function follow(listed) {
  if (store.chosen || listed.streams.length === 0) return;
  const shown = listed.streams.find(({ stream }) => stream === store.stream);
  const first = listed.streams[0];
  const silent = shown?.age_s > SILENT_S && first.age_s < SILENT_S;
  if (!store.stream || silent || (first.anomaly && !shown?.anomaly)) show(first.stream);
}

function show(stream) {
  if (stream === store.stream) return;
  store.stream = stream;
  store.samples = new Samples();
  store.stands = null;
  setPaused(null);
  for (const item of at("streams").children) {
    item.firstChild.setAttribute("aria-current", String(item.dataset.stream === stream));
  }
  at("stream-title").textContent = stream || "No stream yet";
  at("facts").textContent = stream ? "No row of it has come since this page was opened." : "";
  at("badges").textContent = at("cause").textContent = "";
  at("stream").classList.add("empty");
  connect();
}

function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1)).get("stream");
  store.chosen = Boolean(said);
  at("follow").hidden = !said;
  if (said) show(said);
}

function showStream(event) {
  if (store.paused !== null) return;
  store.samples.take(event);
  store.stands = event.now;
  store.told = clock();
  draw();
}

let drawn = null; // the charts, and what they were made for
let frame = 0;

// A channel that has an offset is drawn without it: of 123456789 no axis has room for what changes.
const titleOf = ({ name, offset }) => (offset ? `${name} \u2212 ${offset}` : name);
const withoutOffset = (columns, { offset }) =>
  offset ? columns.map((column, k) => (k ? column.map((value) => (value === null ? null : value - offset)) : column)) : columns;
const figure = (value, offset) => (offset && typeof value === "number" ? String(Number(value.toPrecision(13))) : number(value));

function draw() {
  if (!frame) frame = requestAnimationFrame(redraw);
}

function makeCharts({ model, forecasts, threshold }) {
  const made = { score: null, channels: [], outputs: [] };
  if (forecasts) {
    made.score = charts.make(at("score"), { title: "score", lines: [{ label: "score", tone: "score" }], height: 120, threshold, sync: "page" });
  }
  const lines = [{ label: "input", tone: "input", width: 3 }, { label: "forecast", tone: "forecast", width: 1.2 }]; // both seen where they agree
  const shown = store.all ? model.channels.length : Math.min(CHARTS, model.channels.length);
  model.channels.slice(0, shown).forEach((channel, k) => {
    const both = forecasts && k < model.outputs.length;
    made.channels.push(charts.make(at("charts"), { title: titleOf(channel), unit: channel.unit, lines: both ? lines : lines.slice(0, 1), sync: "page" }));
  });
  if (!forecasts && model.relation === "sequence-to-sequence") {
    made.outputs = model.outputs.map((output) =>
      charts.make(at("charts"), { title: `${titleOf(output)}, output`, unit: output.unit, lines: [{ label: "output", tone: "forecast" }], sync: "page" }),
    );
  }
  at("more").hidden = shown === model.channels.length;
  at("more").textContent = `show all ${model.channels.length} channels`;
  return made;
}

function redraw() {
  frame = 0;
  const { status, samples, stands } = store;
  if (!status || !stands) return;
  const now = store.paused ?? clock();
  showFacts(stands, status, stands.age_s + Math.max(now - store.told, 0));
  const kind = JSON.stringify([status.model, status.forecasts, status.threshold, store.all]);
  if (drawn?.kind !== kind) {
    for (const chart of [drawn?.score, ...(drawn?.channels ?? []), ...(drawn?.outputs ?? [])]) chart?.destroy();
    drawn = { kind, ...makeCharts(status) };
  }
  if (samples.columns.length === 0) return;
  const span = Number(at("window").value);
  const range = span ? [now - span, now] : null;
  const marks = samples.marks();
  drawn.score?.set(samples.score, marks, range);
  const { channels, outputs } = status.model;
  drawn.channels.forEach((chart, k) => chart.set(withoutOffset(samples.channel(k), channels[k]), marks, range));
  drawn.outputs.forEach((chart, k) => chart.set(withoutOffset(samples.output(k), outputs[k]), marks, range));
  at("key").hidden = false;
  at("stream").classList.remove("empty");
}

function showFacts(stands, status, age) {
  at("stream-title").textContent = stands.stream;
  const silent = age > 5 ? `silent for ${seconds(age)}` : "";
  const badges = at("badges");
  badges.textContent = [stands.anomaly ? "anomaly" : "", silent].filter(Boolean).join(", ");
  badges.className = stands.anomaly ? "alarm" : "muted";
  const taken = stands.ts_ns ? `, taken ${new Date(stands.ts_ns / 1e6).toLocaleString()}` : "";
  at("facts").textContent =
    `row ${count(stands.seq)}${taken}; ${count(stands.step)} steps since its state began, ${count(stands.epoch)} resets`;
  const unusual = stands.score >= 2;
  const causes = (channel) => unusual && channel.share >= 0.2;
  const cause = stands.channels.filter(causes).sort((a, b) => b.share - a.share);
  drawn?.channels.forEach((chart, k) => chart.figure.classList.toggle("cause", causes(stands.channels[k])));
  at("cause").textContent =
    cause.length
      ? `Score ${stands.score.toFixed(1)}, mostly of ${cause.map(({ name, share }) => `${name} (${Math.round(100 * share)} %)`).join(", ")}.`
      : "";
  showTable(stands, status);
}

function showTable(stands, { forecasts }) {
  const table = at("channels");
  const titles = ["channel", "value", ...(forecasts ? ["forecast of the next row", "residual, in its deviations", "share in the score"] : [])];
  if (table.hidden || table.tHead.rows[0]?.cells.length !== titles.length) {
    const row = element("tr");
    titles.forEach((title, k) => {
      const cell = element("th", k ? "figure" : "", title);
      cell.scope = "col";
      row.append(cell);
    });
    table.tHead.replaceChildren(row);
    table.hidden = false;
  }
  const rows = [...stands.channels, ...(stands.outputs ?? []).map((output) => ({ ...output, name: `${output.name}, output` }))];
  const texts = rows.map(({ name, unit, offset, value, forecast, residual, share }) =>
    [
      unit ? `${name} (${unit})` : name,
      figure(value, offset),
      figure(forecast, offset),
      number(residual),
      share === undefined || share === null ? "–" : `${Math.round(100 * share)} %`,
    ].slice(0, titles.length),
  );
  fill(table.tBodies[0], texts, "figure");
}

// --- what a person does

let typing = 0;
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    store.ordered = 0;
    connect();
  }, TYPING_MS);
});
at("sort").addEventListener("change", () => {
  store.ordered = 0;
  connect();
});
for (const id of ["sort", "window"]) {
  const select = at(id);
  const known = kept.get(id);
  if ([...select.options].some(({ value }) => value === known)) select.value = known;
  select.addEventListener("change", () => kept.set(id, select.value));
}
at("query").addEventListener("submit", (event) => event.preventDefault());
at("window").addEventListener("change", draw);
at("pause").addEventListener("click", () => {
  setPaused(store.paused === null ? clock() : null);
  if (store.paused === null) connect(); // for what came meanwhile
});
for (const kind of ["pointermove", "pointerdown", "wheel"]) {
  at("streams").addEventListener(kind, () => (store.touched = Date.now()), { passive: true });
}
at("more").addEventListener("click", () => {
  store.all = true;
  draw();
});
at("look").addEventListener("click", look.toggle);
addEventListener("look", showLook);
at("follow").addEventListener("click", () => {
  location.hash = "";
});
addEventListener("hashchange", fromAddress);

function setPaused(since) {
  store.paused = since;
  at("pause").setAttribute("aria-pressed", String(since !== null));
}

function showLook() {
  at("look").textContent = look.now() === "dark" ? "light look" : "dark look";
  for (const chart of [drawn?.score, ...(drawn?.channels ?? []), ...(drawn?.outputs ?? [])]) chart?.restyle();
}

showLook();
fromAddress();
if (!source) connect();
