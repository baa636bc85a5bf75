// The page: what the daemon tells of itself, its streams by score, and one of them large.
"use strict";

const { element, number } = charts;
const CHARTS = 12; // drawn at first; with more channels, the others on demand
const TYPING_MS = 250;
const AGAIN_MS = 3000;
const SILENT_S = 60; // after which a stream that nobody chose gives way to one that goes on
const MOST_LISTED = 40;
const HELD_S = 2; // how long a sensor that was held is marked so: slower than its rows, it is so again and again

const store = {
  status: null, // the last of each kind of event
  listed: null,
  stands: null, // the stream that is shown, as it stands
  samples: new Samples(),
  stream: "", // its id
  chosen: false, // by a person, not by its score
  held: [], // when each of its channels was seen held last, by the daemon's clock, s
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
  store.held = [];
  setPaused(null);
  for (const item of at("streams").children) {
    item.firstChild.setAttribute("aria-current", String(item.dataset.stream === stream));
  }
  at("stream-title").textContent = stream || "No stream yet";
  at("past").hidden = !stream;
  at("past").href = `events#${new URLSearchParams({ stream })}`;
  at("facts").textContent = stream ? "No row of it has come since this page was opened." : "";
  at("badges").textContent = at("cause").textContent = at("done").textContent = "";
  at("hold").hidden = true;
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
  event.now.channels.forEach(({ sensor }, k) => {
    if (sensor === "held") store.held[k] = store.told;
  });
  draw();
}

let drawn = null; // the charts, and what they were made for
let frame = 0;

// A channel that has an offset is drawn without it: of 123456789 no axis has room for what changes.
const titleOf = ({ name, offset }) => (offset ? `${name} \u2212 ${offset}` : name);
const withoutOffset = (columns, { offset }) =>
  offset ? columns.map((column, k) => (k ? column.map((value) => (value === null ? null : value - offset)) : column)) : columns;
const figure = (value, offset) => (offset && typeof value === "number" ? String(Number(value.toPrecision(13))) : number(value));

// How a channel's sensor stands where rows are assembled, as [kind, text]; "fresh" needs no mark.
function sensorOf({ sensor, value_age_s: age }, k) {
  const kind = sensor === "fresh" && store.held[k] > store.told - HELD_S ? "held" : sensor;
  return [kind, kind !== "fresh" && age > 5 ? `${kind} for ${seconds(age)}` : kind];
}

function draw() {
  if (!frame) frame = requestAnimationFrame(redraw);
}

function makeCharts({ model, forecasts, threshold, bands }) {
  const made = { score: null, channels: [], outputs: [] };
  if (forecasts) {
    made.score = charts.make(at("score"), { title: "score", lines: [{ label: "score", tone: "score" }], height: 120, threshold, sync: "page" });
  }
  const lines = [{ label: "input", tone: "input", width: 3 }, { label: "forecast", tone: "forecast", width: 1.2 }]; // both seen where they agree
  const widest = bands.at(-1);
  const between = [{ label: `${Number((100 * widest).toPrecision(10))} % band`, tone: "forecast-band", width: 0 }, { label: "to", tone: "forecast-band", width: 0, fill: "forecast-band" }];
  const shown = store.all ? model.channels.length : Math.min(CHARTS, model.channels.length);
  model.channels.slice(0, shown).forEach((channel, k) => {
    const both = forecasts && k < model.outputs.length;
    const chart = charts.make(at("charts"), { title: titleOf(channel), unit: channel.unit, lines: both ? [...(widest ? between : []), ...lines] : lines.slice(0, 1), sync: "page" });
    chart.sensor = element("span", "sensor");
    chart.figure.querySelector(".title").append(" ", chart.sensor);
    made.channels.push(chart);
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
  const kind = JSON.stringify([status.model, status.forecasts, status.threshold, status.bands, store.all]);
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
  const lost = silentSensors(stands.channels.filter(({ sensor }) => sensor === "silent").length);
  badges.textContent = [stands.anomaly ? "anomaly" : "", stands.held ? "learning held" : "", silent || lost].filter(Boolean).join(", ");
  badges.className = stands.anomaly ? "alarm" : "muted";
  const taken = stands.ts_ns ? `, taken ${new Date(stands.ts_ns / 1e6).toLocaleString()}` : "";
  at("facts").textContent =
    `row ${count(stands.seq)}${taken}; ${count(stands.step)} steps since its state began, ${count(stands.epoch)} resets`;
  const unusual = stands.score >= 2;
  const causes = (channel) => unusual && channel.share >= 0.2;
  const cause = stands.channels.filter(causes).sort((a, b) => b.share - a.share);
  drawn?.channels.forEach((chart, k) => {
    chart.figure.classList.toggle("cause", causes(stands.channels[k]));
    const [kind, text] = sensorOf(stands.channels[k], k);
    chart.sensor.className = `sensor ${kind ?? ""}`;
    const shown = kind === "fresh" || !kind ? "" : text;
    if (chart.sensor.textContent !== shown) chart.sensor.textContent = shown;
  });
  at("cause").textContent =
    cause.length
      ? `Score ${stands.score.toFixed(1)}, mostly of ${cause.map(({ name, share }) => `${name} (${Math.round(100 * share)} %)`).join(", ")}.`
      : "";
  showHold(stands.held, status.control);
  showTable(stands, status);
}

// The switch, where this daemon lets itself be told.
function showHold(held, may) {
  at("hold").hidden = !may;
  at("hold").setAttribute("aria-pressed", String(held));
  at("hold").textContent = held ? "learning held" : "hold learning";
}

function showTable(stands, { forecasts, intake }) {
  const table = at("channels");
  const sensors = Boolean(intake?.assembled);
  const titles = ["channel", ...(sensors ? ["sensor"] : []), "value", ...(forecasts ? ["forecast of the next row", "residual, in its deviations", "share in the score"] : [])];
  if (table.hidden || table.tHead.rows[0]?.cells.length !== titles.length) {
    const row = element("tr");
    titles.forEach((title, k) => {
      const cell = element("th", k ? "figure" : "", title);
      cell.scope = "col";
      row.append(cell);
    });
    table.tHead.replaceChildren(row);
    table.tBodies[0].replaceChildren();
    table.hidden = false;
    table.classList.toggle("sensors", sensors);
  }
  const rows = [...stands.channels, ...(stands.outputs ?? []).map((output) => ({ ...output, name: `${output.name}, output` }))];
  const texts = rows.map((row, k) => {
    const { name, unit, offset, value, forecast, residual, share } = row;
    return [
      unit ? `${name} (${unit})` : name,
      ...(sensors ? [sensorOf(row, k)[1] ?? "–"] : []),
      figure(value, offset),
      figure(forecast, offset),
      number(residual),
      share === undefined || share === null ? "–" : `${Math.round(100 * share)} %`,
    ].slice(0, titles.length);
  });
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
at("hold").addEventListener("click", async () => {
  const stream = store.stream;
  const held = at("hold").getAttribute("aria-pressed") === "true";
  const told = (kind, text) => {
    if (stream !== store.stream) return;
    at("done").className = kind;
    at("done").textContent = text;
  };
  at("hold").disabled = true;
  try {
    await control.post(held ? "api/control/release" : "api/control/hold", { streams: [stream] });
    told("muted", held ? "It learns again." : "It learns nothing until it is released.");
    if (stream === store.stream) showHold(!held, true);
  } catch (error) {
    told(error.givenUp ? "muted" : "alarm", `Not done: ${error.message}.`);
  } finally {
    at("hold").disabled = false;
  }
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
