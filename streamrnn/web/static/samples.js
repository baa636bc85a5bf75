// What is known of one stream's last minutes: columns of samples, and the stretches among them to mark.
"use strict";

class Samples {
  static MOST = 4000; // samples kept
  static RESET = 1;
  static GAP = 2;
  static IMPUTED = 4;
  static ANOMALY = 8;

  constructor() {
    this.next = null; // the number that the samples to come go on with; null after the connection was lost
    this.columns = []; // time, score, mark, the values and the forecasts of each channel, low and high of these
    this.width = 0; // of the values
    this.forecasts = 0;
  }

  // Enters an event of new samples. Those of a connection that is new begin with all that the daemon knows.
  take(event) {
    if (event.time.length === 0) return;
    const bands = [...(event.low ?? []), ...(event.high ?? [])];
    const columns = [event.time, event.score, event.mark, ...event.values, ...event.forecasts, ...bands];
    if (columns.length !== this.columns.length) {
      this.columns = columns.map(() => []);
      this.width = event.values.length;
      this.forecasts = event.forecasts.length;
    } else if (event.first !== this.next || event.time[0] <= this.#last()) {
      this.#dropFrom(event.time[0]);
      if (event.first === 0) this.#break(event.time[0]); // of a daemon that was started anew, or of a stream come back
    }
    const longest = this.#longestStep(event.time);
    for (let k = 0; k < event.time.length; k++) {
      if (event.time[k] - this.#last() > longest) this.#break(event.time[k]);
      columns.forEach((column, c) => this.columns[c].push(column[k]));
    }
    this.next = event.next;
    const over = this.columns[0].length - Samples.MOST;
    if (over > 0) for (const column of this.columns) column.splice(0, over);
  }

  // Called when the connection is lost: what comes next tells all anew.
  interrupted() {
    this.next = null;
  }

  #last() {
    return this.columns[0].at(-1);
  }

  #dropFrom(time) {
    let kept = this.columns[0].length;
    while (kept > 0 && this.columns[0][kept - 1] >= time) kept--;
    for (const column of this.columns) column.length = kept;
  }

  // Ends the lines, so that they do not join what lies apart.
  #break(before) {
    if (this.#last() === undefined) return;
    this.columns.forEach((column, c) => column.push(c === 0 ? Math.max(this.#last(), before - 1e-3) : c === 2 ? 0 : null));
  }

  // The longest time between two samples that a line joins: ten times what is usual here. Of a few samples, any.
  #longestStep(coming) {
    const times = [...this.columns[0].slice(-50), ...coming.slice(0, 50)];
    const steps = times.slice(1).map((time, k) => time - times[k]);
    const usual = steps.sort((a, b) => a - b)[steps.length >> 1];
    return steps.length < 5 ? Infinity : Math.max(2, 10 * usual);
  }

  get score() {
    return [this.columns[0], this.columns[1]];
  }

  // uPlot's columns of one channel: time, low and high of its band where it has one, its values, and its forecasts
  // where there are any.
  channel(k) {
    const forecasts = 3 + this.width + k;
    const has = k < this.forecasts;
    const low = this.columns[forecasts + this.forecasts];
    const band = has && low ? [low, this.columns[forecasts + 2 * this.forecasts]] : [];
    const line = has ? [this.columns[forecasts]] : [];
    return [this.columns[0], ...band, this.columns[3 + k], ...line];
  }

  // One output of a model whose outputs are quantities of their own.
  output(k) {
    return [this.columns[0], this.columns[3 + this.width + k]];
  }

  // The stretches to mark, {kind, from, to}, in seconds.
  marks() {
    const [time, , mark] = this.columns;
    const found = [];
    const open = {};
    for (let k = 0; k < (time?.length ?? 0); k++) {
      if (mark[k] & Samples.RESET) found.push({ kind: "reset", from: time[k], to: time[k] });
      if (mark[k] & Samples.GAP) found.push({ kind: "gap", from: time[Math.max(k - 1, 0)], to: time[k] });
      for (const [kind, bit] of [["anomaly", Samples.ANOMALY], ["imputed", Samples.IMPUTED]]) {
        if (mark[k] & bit) {
          if (open[kind]) open[kind].to = time[k];
          else found.push((open[kind] = { kind, from: time[k], to: time[k] }));
        } else {
          open[kind] = undefined;
        }
      }
    }
    return found;
  }
}
