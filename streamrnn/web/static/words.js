// Figures and tables in a person's words, for every page.
"use strict";

const at = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en");

function seconds(value) {
  if (value === null) return "–";
  for (const [unit, size] of [["µs", 1e-6], ["ms", 1e-3], ["s", 1], ["min", 60], ["h", 3600]]) {
    if (value < size * (unit === "µs" || unit === "ms" ? 1000 : unit === "h" ? Infinity : 60 * (unit === "s" ? 2 : 1))) {
      const scaled = value / size;
      return `${scaled >= 100 ? scaled.toFixed(0) : Number(scaled.toPrecision(3))}\u00a0${unit}`;
    }
  }
}

// Fills a table: rows of texts, the first of each its header.
function fill(body, rows, kind) {
  while (body.rows.length > rows.length) body.lastChild.remove();
  rows.forEach((texts, k) => {
    if (!body.rows[k]) {
      const row = charts.element("tr");
      const name = charts.element("th");
      name.scope = "row";
      row.append(name, ...texts.slice(1).map(() => charts.element("td", kind)));
      body.append(row);
    }
    [...body.rows[k].cells].forEach((cell, c) => {
      if (cell.textContent !== texts[c]) cell.textContent = texts[c];
    });
  });
}
