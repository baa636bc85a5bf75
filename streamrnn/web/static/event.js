// One event large: its figures, what was recorded around it, and what a person says of it.
"use strict";

const CHARTS = 12; // drawn at first; with more channels, the others on demand
const KINDS = { event: "event", reset: "state began anew", gap: "rows missing", silence: "silence" };
const VERDICTS = { "": "not judged", real: "real", normal: "false, this is normal", work: "planned work" };
const OUT = "What was learned of it is taken back where that still can be, and training can leave it out.";
const WAIT = "Nothing is learned until it is over, and what was learned since it began is taken back.";
// what comes of a verdict: of an event that is over, and of one that goes on
const MEANINGS = {
  "": ["", ""],
  real: [OUT, WAIT],
  normal: ["It counts as a false alarm.", "The score takes what the stream shows now as usual."],
  work: [OUT, WAIT],
};
const OFF_NS = 2e9; // from which on a source's clock is told, too
// bits of a recorded row's mark, and as what they are drawn
const MARKS = [[1, "reset"], [2, "gap"], [4, "imputed"], [8, "anomaly"]];

const shown = {
  event: null, // as the daemon told it
  all: false, // channels
  drafts: new Map(), // by id, what a person chose and wrote without saving it
};
let drawn = []; // the charts

const stamp = (ns) => (ns ? new Date(ns / 1e6).toLocaleString() : "");

// By its source's clock, where that is known: rows that come late come fast.
function lasted({ begin_ns: begin, end_ns: end, begin_wall_ns: taken, end_wall_ns: over }) {
  if (over === null) return "goes on";
  return seconds((begin && end ? end - begin : over - taken) / 1e9);
}
const percent = (share) => `${Math.round(100 * share)} %`;

function showEvent(event, status) {
  const anew = shown.event?.id !== event.id;
  shown.event = event;
  at("event").hidden = false;
  at("event-title").textContent = event.stream;
  at("badges").textContent = [KINDS[event.kind], event.end_wall_ns === null ? "goes on" : ""].filter(Boolean).join(", ");
  at("badges").className = event.end_wall_ns === null ? "alarm" : "muted";
  at("live").href = `./#stream=${encodeURIComponent(event.stream)}`;
  at("facts").textContent = facts(event);
  const list = at("shares");
  list.parentElement.hidden = event.channels.length === 0;
  list.replaceChildren(
    ...event.channels.slice(0, 8).map(([name, share]) => {
      const item = charts.element("li");
      const bar = charts.element("span", "share");
      bar.append(charts.element("i"));
      bar.firstChild.style.width = `${Math.min(100 * share, 100)}%`;
      item.append(charts.element("span", "name", name), bar, charts.element("span", "figure", percent(share)));
      return item;
    }),
  );
  showVerdict(anew, status);
  if (anew) shown.all = false;
  drawRecording(status);
}

// What an entry's `rows` counts: rows of an event, those missing of a gap, how many resets.
function many({ kind, rows }) {
  if (kind === "reset") return rows === 1 ? "once" : `${count(rows)} times`;
  return `${count(rows)} ${rows === 1 ? "row" : "rows"}${kind === "gap" ? " missing" : ""}`;
}

function facts(event) {
  const { begin_wall_ns: begin, end_wall_ns: end, begin_ns: taken, begin_seq: seq } = event;
  const told = [end === null ? `since ${stamp(begin)}` : `${stamp(begin)} to ${stamp(end)}, ${lasted(event)}`];
  if (event.rows !== null) told.push(many(event));
  if (seq !== null) told.push(`from row ${count(seq)} on`);
  if (taken && Math.abs(taken - begin) > OFF_NS) told.push(`${stamp(taken)} by its source's clock`);
  if (event.peak !== null) told.push(`peak ${event.peak.toFixed(1)}`);
  if (event.detail) told.push(event.detail);
  return `${told.join("; ")}.`;
}

// --- what was recorded

function drawRecording(status) {
  for (const chart of drawn) chart.destroy();
  drawn = [];
  const { event } = shown;
  const kept = event.recording;
  at("more").hidden = true;
  at("recorded").hidden = Boolean(kept);
  if (!kept) {
    at("recorded").textContent = event.end_wall_ns === null ? "What is recorded around it is shown when it is over." : "Nothing was recorded around it.";
    return;
  }
  const times = kept.wall_ns.map((ns) => ns / 1e9);
  const marks = stretches(times, kept.mark);
  const range = times.length > 1 ? [times[0], times.at(-1)] : null;
  const sync = "event";
  if (kept.score.some((score) => score !== null)) {
    drawn.push(charts.make(at("score"), { title: "score", lines: [{ label: "score", tone: "score" }], height: 120, threshold: status?.threshold ?? null, sync }));
    drawn.at(-1).set([times, kept.score], marks, range);
  }
  const known = new Map((status?.model.channels ?? []).map((channel) => [channel.name, channel]));
  const forecasts = new Map(kept.outputs.map((name, k) => [name, kept.forecasts[k]]));
  const shares = new Map(event.channels);
  const order = kept.channels.map((name, k) => [name, kept.values[k]]).sort(([a], [b]) => (shares.get(b) ?? 0) - (shares.get(a) ?? 0));
  for (const [name, values] of shown.all ? order : order.slice(0, CHARTS)) {
    const { unit = "", offset = 0 } = known.get(name) ?? {};
    const lines = [{ label: "input", tone: "input", width: 3 }];
    const columns = [values];
    if (forecasts.has(name)) {
      lines.push({ label: "forecast", tone: "forecast", width: 1.2 });
      columns.push(forecasts.get(name));
    }
    const title = offset ? `${name} \u2212 ${offset}` : name;
    const chart = charts.make(at("charts"), { title, unit, lines, sync });
    chart.figure.classList.toggle("cause", (shares.get(name) ?? 0) >= 0.2);
    const without = (column) => column.map((value) => (value === null ? null : value - offset));
    chart.set([times, ...(offset ? columns.map(without) : columns)], marks, range);
    drawn.push(chart);
  }
  at("more").hidden = shown.all || order.length <= CHARTS;
  at("more").textContent = `show all ${order.length} channels`;
}

// The stretches to mark, {kind, from, to}, in seconds.
function stretches(times, mark) {
  const found = [];
  for (const [bit, kind] of MARKS) {
    let open = null;
    mark.forEach((bits, k) => {
      if (!(bits & bit)) open = null;
      else if (open && kind !== "reset") open.to = times[k];
      else found.push((open = { kind, from: kind === "gap" ? times[Math.max(k - 1, 0)] : times[k], to: times[k] }));
    });
  }
  return found;
}

// --- what a person says of it

function showVerdict(anew, status) {
  const { event, drafts } = shown;
  const may = Boolean(status?.control);
  at("verdict").hidden = !may;
  at("read").hidden = may;
  at("read-verdict").textContent = VERDICTS[event.verdict] + (event.judged_ns ? `, said ${stamp(event.judged_ns)}` : "");
  at("read-note").textContent = event.note;
  if (anew) at("saved").textContent = "";
  const said = drafts.get(event.id) ?? event;
  for (const radio of at("verdict").elements.verdict) radio.checked = radio.value === said.verdict;
  if (at("note").value !== said.note) at("note").value = said.note;
  showMeaning(said.verdict);
}

function showMeaning(verdict) {
  const { kind, end_wall_ns: end } = shown.event;
  at("meaning").textContent = kind === "event" ? MEANINGS[verdict][end === null ? 1 : 0] : "";
}

function drafted() {
  const { event, drafts } = shown;
  const verdict = at("verdict").elements.verdict.value;
  const note = at("note").value;
  if (verdict === event.verdict && note === event.note) drafts.delete(event.id);
  else drafts.set(event.id, { verdict, note });
  showMeaning(verdict);
  tell("", drafts.has(event.id) ? "not saved yet" : "");
}

function tell(kind, text) {
  at("saved").className = kind || "muted";
  at("saved").textContent = text;
}

// Saves it; `done` is called with the event as the journal then has it.
async function save(done) {
  const { event, drafts } = shown;
  const said = { verdict: at("verdict").elements.verdict.value, note: at("note").value };
  at("save").disabled = true;
  tell("", "saving");
  try {
    const answer = await control.post("api/control/judge", { event: event.id, ...said });
    drafts.delete(event.id);
    done({ ...event, ...answer.event, recording: event.recording });
    if (shown.event.id === event.id) tell("good", ["saved", answer.effect].filter(Boolean).join("; "));
  } catch (error) {
    if (shown.event.id === event.id) tell(error.givenUp ? "" : "alarm", `not saved: ${error.message}`);
  } finally {
    at("save").disabled = false;
  }
}

at("more").addEventListener("click", () => {
  shown.all = true;
  drawRecording(seen.status);
});
at("verdict").addEventListener("input", drafted);
addEventListener("look", () => {
  for (const chart of drawn) chart.restyle();
});
