// Members and shards of a cluster, asked for every second.
"use strict";

const connection = document.getElementById("connection");
let before = null;

function fill(table, rows) {
  const body = document.createElement("tbody");
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().textContent = cell;
  }
  document.querySelector(`#${table} tbody`).replaceWith(body);
}

function show(status) {
  const passed = before ? status.now - before.now : 0;
  const then = new Map((before?.members ?? []).map((member) => [member.name, member.rows]));
  const rate = ({ name, rows }) => (passed > 0 && then.has(name) ? Math.round((rows - then.get(name)) / passed) : "");
  document.getElementById("model").textContent = `cluster ${status.cluster}, ${status.shards} shards`;
  fill(
    "members",
    status.members.map((member) => [
      member.name,
      member.kind,
      member.shards ? Object.keys(member.shards).length : "",
      rate(member).toLocaleString(),
      member.held ? "held back: the log takes nothing" : "",
    ]),
  );
  const whose = new Map();
  for (const member of status.members)
    for (const [shard, figures] of Object.entries(member.shards ?? {})) whose.set(Number(shard), [member.name, figures]);
  fill(
    "shards",
    Array.from({ length: status.shards }, (_, shard) => {
      const [name, figures] = whose.get(shard) ?? ["", ["", "", "", ""]];
      const [pending, behind, streams, rows] = figures;
      return [shard, name, pending, behind === "" ? "" : behind.toFixed(1), streams, rows.toLocaleString()];
    }),
  );
  before = status;
}

async function ask() {
  try {
    show(await (await fetch("api/cluster")).json());
    connection.textContent = "live";
    connection.className = "live";
  } catch {
    connection.textContent = "no answer; trying again";
    connection.className = "lost";
  }
  setTimeout(ask, 1000);
}

const button = document.getElementById("look");
const name = () => (button.textContent = look.now() === "dark" ? "light look" : "dark look");
button.addEventListener("click", look.toggle);
addEventListener("look", name);
name();
ask();
