// Charts over time: lines over marked stretches, their values told in the caption. For the page and for reports.
"use strict";

const charts = (() => {
  const AXIS_PX = 58;
  const MARK_PX = 2; // a mark of no length is drawn this wide, so that one sees it
  const FONT = "11px system-ui, sans-serif";

  const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function element(kind, name, text) {
    const made = document.createElement(kind);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // A number as a person reads it: four digits, none of them lost behind a comma.
  function number(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
    return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
  }

  // Stretches, each {kind, from, to}, behind the lines: "anomaly", "gap", "imputed" as bands, "reset" as a line.
  function drawMarks(plot, marks) {
    const { left, top, width, height } = plot.bbox;
    const paint = plot.ctx;
    paint.save();
    paint.beginPath();
    paint.rect(left, top, width, height);
    paint.clip();
    for (const { kind, from, to } of marks) {
      const begin = plot.valToPos(from, "x", true);
      const end = plot.valToPos(to, "x", true);
      if (end < left || begin > left + width) continue;
      paint.fillStyle = tone(kind);
      const least = MARK_PX * devicePixelRatio;
      paint.fillRect(begin - least / 2, top, kind === "reset" ? least : Math.max(end - begin, least), height);
    }
    paint.restore();
  }

  function drawThreshold(plot, threshold) {
    const { left, width } = plot.bbox;
    const y = plot.valToPos(threshold, "y", true);
    const paint = plot.ctx;
    paint.save();
    paint.strokeStyle = tone("threshold");
    paint.lineWidth = devicePixelRatio;
    paint.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
    paint.beginPath();
    paint.moveTo(left, y);
    paint.lineTo(left + width, y);
    paint.stroke();
    paint.restore();
  }

  /**
   * A chart in a new figure at the end of `parent`.
   *
   * title, unit: of its caption. lines: [{label, tone, dash, width, fill}], `tone` the name of a CSS variable, `fill`
   * that of the colour between a line and the one before it. threshold: a dashed level, and the axis begins at 0. time: x is seconds since the Unix epoch, else a number. sync: charts
   * of one name share their cursor. axis: whether x is labelled. utc: by UTC, not by local time.
   *
   * Gives {figure, set(data, marks, range), restyle(), destroy()}: `data` are uPlot's columns, x first, null for
   * a line's end; `marks` as of `drawMarks`; `range` [from, to] of x, or null for all there is.
   */
  function make(parent, { title, unit = "", lines, height = 130, threshold = null, time = true, sync, axis = true, utc = false }) {
    const figure = element("figure", "chart");
    const caption = element("figcaption");
    const name = element("span", "title", title);
    if (unit) name.append(" ", element("small", "", unit));
    const readout = element("span", "readout");
    const values = lines.map((line, k) => {
      const key = element("span", lines[k + 1]?.fill ? "key joined" : "key");
      if (!line.fill) key.append(element("i", `swatch ${line.tone}`));
      key.append(line.label, " ", element("b", "", "–"));
      readout.append(key);
      return key.lastChild;
    });
    caption.append(name, readout);
    const place = element("div", "plot");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `${title}${unit ? ` in ${unit}` : ""}: ${lines.map((line) => line.label).join(" and ")}`);
    figure.append(caption, place);
    parent.append(figure);

    const dated = (seconds) => (utc ? uPlot.tzDate(new Date(seconds * 1000), "UTC") : new Date(seconds * 1000));
    let marks = [];
    let range = null;
    // under the cursor, else the last that is in sight
    const tell = (plot) => {
      const { max } = plot.scales.x;
      const at = plot.cursor.idx ?? plot.data[0].findLastIndex((x) => max === null || x <= max);
      values.forEach((value, k) => (value.textContent = number(plot.data[k + 1][at])));
    };
    const grid = () => ({ stroke: () => tone("line"), width: 1 });
    const label = { stroke: () => tone("muted"), font: FONT, ticks: { show: false } };
    const plot = new uPlot(
      {
        width: Math.max(place.clientWidth, 100),
        height: height + (axis ? 24 : 0),
        legend: { show: false },
        tzDate: dated,
        cursor: { points: { size: 5 }, sync: sync ? { key: sync, setSeries: false } : undefined, y: false },
        padding: [8, 26, axis ? 0 : 6, 0], // on the right, half a label of the axis
        scales: {
          x: { time, range: (self, from, to) => range ?? [from, to] },
          y:
            threshold === null
              ? { range: (self, low, high) => spread(low, high) }
              : { range: (self, low, high) => [0, Math.max(high ?? 0, threshold) * 1.15] },
        },
        series: [
          {},
          ...lines.map((line) => ({
            stroke: () => tone(line.tone),
            width: line.width ?? 1.5,
            dash: line.dash,
            points: { show: false },
          })),
        ],
        bands: lines.flatMap(({ fill }, k) => (fill ? [{ series: [k + 1, k], fill: () => tone(fill) }] : [])),
        axes: [
          { ...label, grid: grid(), show: axis, size: 24, space: 80, ...(time && { values: (self, at, k, space, step) => clock(at.map(dated), step) }) },
          { ...label, grid: grid(), size: AXIS_PX, space: 28, values: (self, at) => at.map(tick) },
        ],
        hooks: {
          drawAxes: [(self) => drawMarks(self, marks)],
          draw: threshold === null ? [] : [(self) => drawThreshold(self, threshold)],
          setCursor: [tell],
          setScale: [(self, key) => key === "x" && tell(self)],
        },
      },
      [[], ...lines.map(() => [])],
      place,
    );
    const sized = new ResizeObserver(() => {
      if (place.clientWidth > 0 && place.clientWidth !== plot.width) {
        plot.setSize({ width: place.clientWidth, height: plot.height });
      }
    });
    sized.observe(place);

    return {
      figure,
      set(data, itsMarks, itsRange = null) {
        marks = itsMarks;
        range = itsRange;
        plot.setData(data);
        tell(plot);
      },
      restyle: () => plot.redraw(false, true),
      destroy() {
        sized.disconnect();
        plot.destroy();
        figure.remove();
      },
    };
  }

  // A range with some room above and below; of a line that does not move, too.
  function spread(low, high) {
    if (low === null || high === null) return [0, 1];
    const room = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
    return [low - room, high + room];
  }

  // Labels of a time axis, as fine as the step between them asks for.
  function clock(times, step) {
    const two = (part) => String(part).padStart(2, "0");
    return times.map((time) => {
      const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
      const minute = `${two(time.getHours())}:${two(time.getMinutes())}`;
      return step >= 86400 ? day : step >= 60 ? minute : `${minute}:${two(time.getSeconds())}`;
    });
  }

  function tick(value) {
    const size = Math.abs(value);
    return size >= 1e5 || (size > 0 && size < 1e-3) ? value.toExponential(0) : String(Number(value.toPrecision(6)));
  }

  return { make, number, element, tone };
})();
