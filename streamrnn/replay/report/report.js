// Draws the charts of a report from the data in it: those that come into view, and all of them to be printed.
"use strict";

(() => {
  const PRINTED_PX = 690; // of an A4 page within its margins
  const CHART_PX = 110;
  const LEAST = 24; // points that a stretch is shown with, at least
  const data = JSON.parse(document.getElementById("data").textContent);
  const places = [...document.querySelectorAll(".charts")];
  const drawn = new Map(); // the number of a stream -> its charts

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const column = (array) => Array.from(array, (value) => (Number.isNaN(value) ? null : value));
  const floats = (text) => column(new Float32Array(bytes(text)));
  const group = (number) => `stream-${number}`;
  const plots = (number) => uPlot.sync(group(number)).plots;
  const answers = (number) => uPlot.sync(`answer-${number}`).plots;

  /** Stretches and marks, as `charts` draws them. */
  function marksOf(stream, x) {
    const at = (bucket) => x[Math.min(bucket, x.length - 1)];
    const marks = stream.stretches.map(([, from, to]) => ({ kind: "anomaly", from, to }));
    for (const [kind, first, end] of stream.marks) marks.push({ kind, from: at(first), to: at(end) });
    return marks;
  }

  /** The lines of a chart that stand for one: its lowest and its highest, where it has both, with a band between. */
  function linesOf({ label, tone, ends, bare }) {
    const line = bare ? { tone: `${tone}-band`, width: 0 } : { tone };
    return ends.map((_, end) => ({ ...line, ...(end ? { label: "to", fill: `${tone}-band` } : { label }) }));
  }

  function describe(chart, words) {
    chart.figure.querySelector("[role=img]").setAttribute("aria-label", words);
  }

  function ranges(lines, columns) {
    let from = 0;
    return lines.map(({ label, ends }) => {
      const values = columns.slice(from, (from += ends.length)).flat().filter((value) => value !== null);
      if (!values.length) return `no ${label}`;
      const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
      return `${label} from ${charts.number(low)} to ${charts.number(high)}`;
    });
  }

  function draw(number) {
    if (drawn.has(number)) return;
    const place = places[number];
    const stream = data.streams[number];
    const x = Array.from(new Float64Array(bytes(stream.x)));
    const marks = marksOf(stream, x);
    const common = { time: stream.time, utc: true, sync: group(number) };
    const made = [];
    drawn.set(number, made);
    if (stream.score !== null) {
      const line = { label: stream.each > 1 ? "highest" : "score", tone: "score", ends: [stream.score] };
      const chart = charts.make(place, {
        ...common,
        title: "Score",
        lines: [line],
        threshold: data.threshold,
        height: CHART_PX,
      });
      const score = floats(stream.score);
      chart.set([x, score], marks);
      const what = `${stream.stretches.length} stretches at or above the threshold of ${data.threshold}`;
      describe(chart, `Score of ${stream.name}: ${ranges([line], [score])}, ${what}`);
      made.push(chart);
    }
    stream.charts.forEach(({ title, unit, lines }, k) => {
      const chart = charts.make(place, {
        ...common,
        title,
        unit,
        lines: lines.flatMap(linesOf),
        height: CHART_PX,
        axis: k === stream.charts.length - 1,
      });
      const columns = lines.flatMap(({ ends }) => ends.map(floats));
      chart.set([x, ...columns], marks);
      describe(chart, `${title} of ${stream.name}${unit ? `, in ${unit}` : ""}: ${ranges(lines, columns).join(", ")}`);
      made.push(chart);
    });
    for (const { title, unit, values, sides } of stream.answer) {
      const after = place.parentElement.querySelector(".answer");
      const band = sides.length ? [{ label: data.widest, tone: "forecast", ends: sides, bare: true }] : [];
      const parts = [...band, { label: "output", tone: "forecast", ends: [values] }];
      const chart = charts.make(after, { title, unit, lines: parts.flatMap(linesOf), time: false, sync: `answer-${number}` });
      const columns = parts.flatMap(({ ends }) => ends.map(floats));
      chart.set([columns[0].map((_, row) => row + 1), ...columns], []);
      const words = ranges(parts, columns).join(", ");
      describe(chart, `The last answer to ${stream.name}, ${title}, by rows ahead: ${words}`);
      made.push(chart);
    }
    place.style.minHeight = "";
    place.before(wholeButton(number, x));
  }

  /** Zoomed by dragging or by a link, by keyboard too, a stream can be shown whole again. */
  function wholeButton(number, x) {
    const button = charts.element("button", "whole", "Show the whole recording");
    button.type = "button";
    button.hidden = true;
    button.addEventListener("click", () => zoom(number, x[0], x.at(-1)));
    (plots(number)[0].hooks.setScale ??= []).push(({ scales }) => {
      button.hidden = scales.x.min <= x[0] && scales.x.max >= x.at(-1);
    });
    return button;
  }

  function zoom(number, from, to) {
    for (const plot of plots(number)) plot.setScale("x", { min: from, max: to });
  }

  /** Shows a stretch with as much again around it. */
  function show(number, stretch) {
    draw(number);
    const stream = data.streams[number];
    const [, from, to] = stream.stretches.find(([k]) => k === stretch);
    const x = plots(number)[0].data[0];
    const least = ((x.at(-1) - x[0]) / x.length) * LEAST;
    const room = Math.max(to - from, least);
    zoom(number, Math.max(from - room, x[0]), Math.min(to + room, x.at(-1)));
  }

  document.addEventListener("click", ({ target }) => {
    const link = target.closest("a[data-stretch]");
    if (link) show(Number(link.hash.replace("#stream-", "")), Number(link.dataset.stretch));
  });

  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        draw(Number(target.dataset.stream));
      }
    },
    { rootMargin: "800px" },
  );
  data.streams.forEach((stream, number) => {
    const count = stream.charts.length + (stream.score === null ? 0 : 1);
    places[number].style.minHeight = `${count * (CHART_PX + 30)}px`;
    near.observe(places[number]);
  });

  const restyle = () => [...drawn.values()].flat().forEach((chart) => chart.restyle());
  addEventListener("look", restyle);

  // Printed are all charts, light, as wide as the paper; then all is as it was.
  let before = look.now();
  addEventListener("beforeprint", () => {
    before = look.now();
    document.documentElement.dataset.look = "light";
    places.forEach((_, number) => draw(number));
    resize(() => PRINTED_PX);
    restyle();
  });
  addEventListener("afterprint", () => {
    document.documentElement.dataset.look = before;
    resize((plot) => plot.root.parentElement.clientWidth);
    restyle();
  });

  function resize(width) {
    places.forEach((_, number) => {
      for (const plot of [...plots(number), ...answers(number)]) plot.setSize({ width: width(plot), height: plot.height });
    });
  }
})();
