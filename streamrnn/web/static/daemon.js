// The daemon: its figures, and what was rejected.
"use strict";

const clock = () => Date.now() / 1000 + store.skew; // the daemon's, s since the Unix epoch

const rate = (value) => `${count(value < 10 ? value : Math.round(value))} /s`;
const reasons = (counts) => Object.entries(counts).map(([reason, times]) => `${reason} ${count(times)}`).join(", ");

function showStatus(status) {
  store.status = status;
  store.skew = status.now - Date.now() / 1000;
  showShadow(status);
  const ready = status.state === "ready";
  say(ready ? "live" : "", ready ? "live" : status.state);
  const { model, latency_s: latency, age_s: age } = status;
  const layers = model.layers > 1 ? ` × ${model.layers}` : "";
  at("model").textContent =
    `${model.cell} ${model.channels.length} → ${model.hidden}${layers} → ${model.outputs.length}, ` +
    `${model.relation}, ${model.fingerprint.slice(0, 12)}; version ${status.version}`;
  const snapshot = status.snapshot_age_s;
  const figures = [
    ["Streams", count(status.streams), `of ${count(status.capacity)} at most`],
    ...taken(status),
    ["Latency, median", seconds(latency.total.p50), `p99 ${seconds(latency.total.p99)}, p99.9 ${seconds(latency.total["p99.9"])}`],
    ["Age, median", seconds(age.p50), `p99 ${seconds(age.p99)}`],
    dropped(status),
    ["Rows missing", count(status.missing_rows), `resets: ${reasons(status.resets) || "none"}`],
    ["Anomalies", count(status.anomalies), status.forecasts ? `from a score of ${status.threshold} on` : "this model has no score"],
    ["Snapshot", snapshot === null ? "off" : `${seconds(snapshot)} old`, status.snapshot_failures ? `${count(status.snapshot_failures)} failed` : snapshot === null ? "state is lost at a power cut" : "none failed"],
  ];
  at("sensors").hidden = !status.intake?.assembled;
  const place = at("figures");
  while (place.children.length > figures.length) place.lastChild.remove();
  while (place.children.length < figures.length) {
    const box = element("div");
    box.append(element("dt"), element("dd", "main"), element("dd", "more"));
    place.append(box);
  }
  figures.forEach((texts, k) => texts.forEach((text, part) => (place.children[k].children[part].textContent = text)));
  draw();
}

// What comes in: frames, or another format's messages and the rows made of them.
function taken({ frames, frames_per_s, intake }) {
  if (!intake) return [["Frames", rate(frames_per_s), `${count(frames)} so far`]];
  const { adapter, messages, messages_per_s, rows, rows_per_s, assembled } = intake;
  const told = [[`Messages, ${adapter}`, rate(messages_per_s), `${count(messages)} so far`]];
  if (!assembled) return [...told, ["Rows", rate(rows_per_s), `${count(rows)} so far`]];
  const { held, missing, incomplete, first_incomplete: names } = assembled;
  const more = incomplete > 1 ? ` and ${count(incomplete - 1)} more` : "";
  return [
    ...told,
    ["Rows assembled", rate(rows_per_s), `${count(rows)} so far; values held ${count(held)}, missing ${count(missing)}`],
    ["Incomplete", count(incomplete), incomplete ? `${names[0] ?? "a stream"}${more}` : "no stream lacks a sensor"],
  ];
}

function dropped({ rejected, late, intake }) {
  const values = intake?.assembled ? { late: intake.assembled.late, ...intake.assembled.dropped } : {};
  const sum = (counts) => Object.values(counts).reduce((so, times) => so + times, 0);
  const told = [late && `late ${count(late)}`, reasons(rejected), sum(values) && `values: ${reasons(values)}`];
  return ["Dropped", count(sum(rejected) + late + sum(values)), told.filter(Boolean).join(", ") || "nothing"];
}

function showRefusals(refusals) {
  at("refusals").hidden = refusals.length === 0;
  refusals.sort((a, b) => a.first - b.first); // so that rows stay where they are
  const rows = refusals.map(({ reason, count: times, topic, what, latest, remedy }) =>
    [reason, count(times), topic, what, new Date(1000 * latest).toLocaleString(), remedy],
  );
  fill(at("refusals").querySelector("tbody"), rows, "");
}
