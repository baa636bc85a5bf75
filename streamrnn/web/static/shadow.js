// A model and its shadow over the same rows, side by side.
"use strict";

const PAIR = ["model", "shadow"];
let asked = 0; // the question that is to be answered; an answer to another one came too late

async function showShadow({ shadow }) {
  const question = ++asked;
  if (!shadow) {
    at("shadow").hidden = true;
    return;
  }
  try {
    const found = (await (await fetch("api/shadow")).json()).shadow;
    if (found && question === asked) compareWith(found);
  } catch {
    // the daemon has gone: what is shown stays, and says so by its look
  }
}

function compareWith(found) {
  const { models, forecasting } = found;
  const [first, other] = PAIR.map((name) => models[name]);
  const what = ({ cell, hidden, layers, fingerprint }) => `${cell} ${hidden}${layers > 1 ? ` × ${layers}` : ""}, ${fingerprint.slice(0, 12)}`;
  const each = found.rows ? `; it takes ${seconds(found.seconds / found.rows)} a row` : "";
  at("shadow-about").textContent =
    `${what(other)}, beside ${what(first)}: ${count(found.rows)} rows since ${new Date(1000 * found.since).toLocaleString()}${each}. ` +
    (forecasting ? `Errors are of ${count(found.compared)} rows that both had forecast.` : "One of them does not forecast its channels, so they cannot be compared.");
  const figures = (name, of) => [name, ...[...PAIR, "persistence"].map((key) => number(of[key]))];
  const plain = (name, pick) => [name, ...PAIR.map((key) => pick(models[key])), ""];
  const rows = forecasting
    ? [
        figures("error, in standard deviations", found.error),
        ...found.channels.map((channel) => figures(channel.unit ? `${channel.name} (${channel.unit})` : channel.name, channel)),
        ...["p50", "p90", "p99", "p99.9"].map((share) => plain(`score, ${share}`, ({ score }) => number(score[share]))),
        plain("events", ({ events }) => count(events)),
        plain("of these alone", ({ events, met }) => count(Math.max(events - met, 0))),
      ]
    : [];
  fill(at("shadow-figures").tBodies[0], rows, "figure");
  const latest = found.latest.map(({ stream, time, begins, model, shadow }) =>
    [new Date(1000 * time).toLocaleString(), stream, begins.join(", "), number(model), number(shadow)],
  );
  fill(at("shadow-events").tBodies[0], latest, "");
  at("shadow-events").hidden = latest.length === 0;
  at("shadow-figures").hidden = rows.length === 0;
  at("shadow").hidden = false;
}
