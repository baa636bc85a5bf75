// The list of streams: each with its score and a small curve, in an order that lets itself be read and clicked.
"use strict";

const ORDER_MS = 3000; // how often the list may change its order
const TOUCHED_MS = 10000; // how long it keeps it after the pointer moved over it

function path(curve, highest) {
  let drawn = "";
  let pen = "M";
  let step = 0;
  const values = curve.filter((value) => value !== null);
  const low = highest === null ? Math.min(...values) : 0;
  const high = highest === null ? Math.max(...values) : Math.max(highest * 1.2, ...values);
  curve.forEach((value, x) => {
    if (value === null) return; // a slow stream has no row in each step: joined, but for long silences
    if (x - step > curve.length / 4) pen = "M";
    drawn += `${pen}${x} ${(24 - (22 * (value - low)) / (high - low || 1)).toFixed(1)}`;
    pen = "L";
    step = x;
  });
  return drawn;
}

function curve(svg, stream, status) {
  const threshold = status?.forecasts ? status.threshold : null;
  const [line, level] = svg.children;
  line.setAttribute("d", path(stream.curve ?? [], threshold));
  const high = threshold === null ? 1 : Math.max(threshold * 1.2, ...(stream.curve ?? []));
  const y = threshold === null ? -9 : 24 - (22 * threshold) / high;
  level.setAttribute("y1", y);
  level.setAttribute("y2", y);
}

function listItem() {
  const item = element("li");
  const link = element("a");
  const name = element("span", "name");
  name.append(element("span"), element("span", "note"));
  const SVG = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 60 26");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const level = document.createElementNS(SVG, "line");
  level.setAttribute("x2", "60");
  svg.append(document.createElementNS(SVG, "path"), level);
  link.append(name, svg, element("span", "value"));
  item.append(link);
  return item;
}

const silentSensors = (number) => (number ? `${count(number)} sensor${number > 1 ? "s" : ""} silent` : "");

function note(stream) {
  const said = [];
  if (stream.anomaly) said.push("anomaly");
  if (stream.health !== "ok") said.push(stream.health);
  if (stream.held) said.push("learning held");
  if (stream.age_s > 5) said.push(`silent for ${seconds(stream.age_s)}`);
  else if (stream.silent) said.push(silentSensors(stream.silent));
  return said.join(", ");
}

function inOrder(streams) {
  // under the pointer or the keyboard the list keeps its order, and elsewhere it does not change it too often
  const place = at("streams");
  const touched = place.querySelector(":focus-visible") || Date.now() < store.touched + TOUCHED_MS;
  const held = touched || Date.now() < store.ordered + ORDER_MS;
  if (!held) {
    store.ordered = Date.now();
    return streams;
  }
  const places = new Map([...place.children].map((item, k) => [item.dataset.stream, k]));
  return [...streams].sort((a, b) => (places.get(a.stream) ?? Infinity) - (places.get(b.stream) ?? Infinity) || 0);
}

function showStreams(listed) {
  store.listed = listed;
  const search = at("search").value.trim();
  const shown = listed.streams.length;
  const found =
    listed.held === 0
      ? "None has sent a frame yet."
      : listed.found === 0
        ? `None of ${count(listed.held)} has “${search}” in its name.`
        : shown < listed.found
          ? `The first ${count(shown)} of ${count(listed.found)}${search ? " found" : ""}.`
          : `${count(shown)} of ${count(listed.held)}.`;
  if (at("found").textContent !== found) at("found").textContent = found; // else it would be read out each time
  const place = at("streams");
  while (place.children.length > shown) place.lastChild.remove();
  while (place.children.length < shown) place.append(listItem());
  inOrder(listed.streams).forEach((stream, k) => {
    const item = place.children[k];
    item.dataset.stream = stream.stream;
    const [name, svg, value] = item.firstChild.children;
    item.firstChild.href = `#stream=${encodeURIComponent(stream.stream)}`;
    item.firstChild.setAttribute("aria-current", String(stream.stream === store.stream));
    name.firstChild.textContent = stream.stream;
    name.title = stream.stream;
    name.lastChild.textContent = note(stream);
    name.lastChild.className = stream.anomaly ? "note alarm" : "note";
    curve(svg, stream, store.status);
    value.textContent = stream.score === null ? "–" : stream.score.toFixed(1);
    value.className = stream.anomaly ? "value alarm" : "value";
  });
}
