// A time line: a row for each stream, its events as bars. Only the rows in sight are drawn, so a thousand are as fast
// as ten. What a bar means is in its form as well as in its colour: see `paintBar`.
"use strict";

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

class TimeLine {
  static SHORTEST_S = 10; // the view
  static LONGEST_S = 400 * DAY_S;
  static #LEAST_PX = 4; // a bar's width, so that one sees and hits it
  static #NEAR_PX = 6; // how far from a bar it still counts as hit
  static MOST_PRINTED = 40; // rows: a page
  static #ROOM = 0.02; // of the span, behind the present
  static #GLIDE_MS = 160;

  /**
   * axis: a canvas, above; place: the box that scrolls, its first element as high as all rows are and around a canvas.
   * on: {moved(), picked(id), pointed(stream, bar)}; `moved` whenever what is in sight became another stretch of time,
   * `bar` null where there is none.
   *
   * `rows` are [{stream, events}], each {from, to, peak, id, verdict, kind, count}: seconds since the Unix epoch, `to`
   * null while it goes on, `peak` null of what has no score, `count` how many this one bar stands for.
   */
  constructor(axis, place, on) {
    this.axis = axis;
    this.place = place;
    this.canvas = place.querySelector("canvas");
    this.tall = this.canvas.parentElement;
    this.on = on;
    this.rows = [];
    this.chosen = null; // an event's id
    this.now = () => Date.now() / 1000;
    this.threshold = 3;
    [this.since, this.until] = this.latest(DAY_S);
    this.drawn = 0; // pictures so far
    this.#observe();
    this.#listen();
  }

  #frame = 0;
  #glide = 0;
  #pointers = new Map(); // id -> [x, y] of those that are down
  #begun = null; // what the view was when the last of them came or went
  #moved = false; // since the first came
  #marked = null; // [from, to] px, with Shift
  #pointed = null;
  #printing = false;

  get span() {
    return this.until - this.since;
  }

  get width() {
    return this.place.clientWidth;
  }

  set(rows) {
    this.rows = rows;
    this.#stretch();
    this.draw();
  }

  // Looks at another stretch of time, at once or, where the reader has nothing against motion, on its way there.
  look(since, until, gliding = false) {
    cancelAnimationFrame(this.#glide);
    const span = Math.min(Math.max(until - since, TimeLine.SHORTEST_S), TimeLine.LONGEST_S);
    const latest = this.now() + 0.5 * span; // no further into the future
    const end = Math.min((since + until + span) / 2, latest);
    const goal = [end - span, end];
    if (!gliding || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      [this.since, this.until] = goal;
      this.draw();
      this.on.moved();
      return;
    }
    const from = [this.since, this.until];
    const began = performance.now();
    const step = (now) => {
      const part = Math.min(Math.max((now - began) / TimeLine.#GLIDE_MS, 0), 1);
      const eased = 1 - (1 - part) ** 3;
      [this.since, this.until] = from.map((value, k) => value + (goal[k] - value) * eased);
      this.draw();
      if (part < 1) this.#glide = requestAnimationFrame(step);
      else this.on.moved();
    };
    this.#glide = requestAnimationFrame(step);
  }

  // The last `span` seconds, and a little room for what goes on.
  latest(span) {
    const until = this.now() + TimeLine.#ROOM * span;
    return [until - span, until];
  }

  get isLatest() {
    return Math.abs(this.until - this.latest(this.span)[1]) < 0.01 * this.span;
  }

  // Goes along with the present, which is nothing that one did.
  slide() {
    [this.since, this.until] = this.latest(this.span);
    this.draw();
  }

  // By parts of what is in sight; later for positive ones.
  pan(parts, gliding = true) {
    this.look(this.since + parts * this.span, this.until + parts * this.span, gliding);
  }

  // `factor` below 1 looks closer; what is at `time` stays where it is.
  zoom(factor, time = (this.since + this.until) / 2, gliding = true) {
    const span = Math.min(Math.max(this.span * factor, TimeLine.SHORTEST_S), TimeLine.LONGEST_S);
    const part = (time - this.since) / this.span;
    this.look(time - part * span, time + (1 - part) * span, gliding);
  }

  // Brings an event into sight.
  reveal(stream, from, to) {
    const row = this.rows.findIndex((each) => each.stream === stream);
    const top = row * bars.ROW;
    if (row >= 0 && (top < this.place.scrollTop || top + bars.ROW > this.place.scrollTop + this.place.clientHeight)) {
      this.place.scrollTop = top - this.place.clientHeight / 2;
    }
    if (to < this.since || from > this.until) {
      const middle = (from + to) / 2;
      const span = Math.max(this.span, 1.5 * (to - from));
      this.look(middle - span / 2, middle + span / 2, true);
    } else this.draw();
  }

  draw() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  // On paper every row is drawn, up to a bound.
  print(printing) {
    this.#printing = printing;
    this.place.classList.toggle("printing", printing);
    this.#stretch();
    this.#paint();
  }

  #stretch() {
    const rows = this.#printing ? Math.min(this.rows.length, TimeLine.MOST_PRINTED) : this.rows.length;
    this.tall.style.height = `${Math.max(rows, 1) * bars.ROW}px`;
  }

  // --- drawing

  get #left() {
    return this.width < 560 ? 104 : 190;
  }

  #x(time, width) {
    return this.#left + ((time - this.since) / this.span) * (width - this.#left);
  }

  time(x) {
    return this.since + ((x - this.#left) / (this.width - this.#left)) * this.span;
  }

  #begin(canvas, width, height) {
    const ratio = devicePixelRatio;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      [canvas.width, canvas.height] = [w, h];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    }
    const paint = canvas.getContext("2d");
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, width, height);
    return paint;
  }

  #paint() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const width = this.width;
    if (width === 0) return;
    const tones = bars.tones();
    const ticks = this.#ticks(width);
    this.#paintAxis(width, tones, ticks);
    const most = Math.min(this.rows.length, TimeLine.MOST_PRINTED) * bars.ROW;
    const height = this.#printing ? most : this.place.clientHeight;
    const paint = this.#begin(this.canvas, width, height);
    const top = this.#printing ? 0 : this.place.scrollTop;
    const first = Math.floor(top / bars.ROW);
    const last = Math.min(this.rows.length, Math.ceil((top + height) / bars.ROW));
    paint.fillStyle = tones.line;
    for (const { x, day } of ticks) paint.fillRect(x, 0, day ? 2 : 1, Math.min(height, this.rows.length * bars.ROW - top));
    paint.font = "12px system-ui, sans-serif";
    paint.textBaseline = "middle";
    for (let k = first; k < last; k++) this.#paintRow(paint, this.rows[k], k * bars.ROW - top, width, tones);
    if (this.#marked) {
      const [from, to] = this.#marked;
      paint.fillStyle = tones.chosen;
      paint.globalAlpha = 0.6;
      paint.fillRect(Math.min(from, to), 0, Math.abs(to - from), height);
      paint.globalAlpha = 1;
    }
    this.drawn += 1;
  }

  #paintRow(paint, { stream, events }, y, width, tones) {
    const left = this.#left;
    const here = events.some(({ id }) => id === this.chosen);
    if (here || stream === this.#pointed?.stream) {
      paint.fillStyle = here ? tones.chosen : tones.ground;
      paint.fillRect(0, y, width, bars.ROW);
    }
    paint.fillStyle = tones.line;
    paint.fillRect(0, y + bars.ROW - 1, width, 1);
    paint.save();
    paint.beginPath();
    paint.rect(0, y, left - 8, bars.ROW);
    paint.clip();
    paint.fillStyle = tones.ink;
    paint.direction = "ltr";
    paint.fillText(TimeLine.#shortened(paint, stream, left - 12), 4, y + bars.ROW / 2);
    paint.restore();
    paint.save();
    paint.beginPath();
    paint.rect(left, y, width - left, bars.ROW);
    paint.clip();
    for (const bar of events) {
      const [from, to] = this.#extent(bar, width);
      if (to < left || from > width) continue;
      bars.paint(paint, bar, Math.max(from, left - 9), Math.min(to, width + 9), y, this.threshold);
      if (bar.id === this.chosen) {
        paint.strokeStyle = tones.accent;
        paint.lineWidth = 2;
        paint.strokeRect(from - 2, y + 1, to - from + 4, bars.ROW - 3);
      }
    }
    paint.restore();
  }

  // The left and right end of a bar, px.
  #extent({ from, to }, width) {
    const begin = this.#x(from, width);
    return [begin, Math.max(this.#x(to ?? this.now(), width), begin + TimeLine.#LEAST_PX)];
  }

  // A name that fits; both its ends are seen, as they tell streams apart.
  static #shortened(paint, name, width) {
    const key = `${width} ${name}`;
    let known = TimeLine.#names.get(key);
    if (known === undefined) {
      const letters = [...name];
      known = name;
      for (let kept = letters.length - 1; kept > 1 && paint.measureText(known).width > width; kept--) {
        known = `${letters.slice(0, Math.ceil(kept / 2)).join("")}…${letters.slice(-Math.floor(kept / 2)).join("")}`;
      }
      if (TimeLine.#names.size > 5000) TimeLine.#names.clear();
      TimeLine.#names.set(key, known);
    }
    return known;
  }

  static #names = new Map();
  // Where the axis is labelled: {x, text, day}, by local time.
  #ticks(width) {
    const room = this.#left < 150 ? 62 : 84;
    const least = (this.span / (width - this.#left)) * room;
    const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 3 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S];
    const step = STEPS.find((each) => each >= least);
    const days = Math.max(1, [1, 2, 7, 14, 28, 56].find((each) => each * DAY_S >= least) ?? 56);
    const found = [];
    const day = new Date(this.since * 1000);
    day.setHours(0, 0, 0, 0);
    for (let k = 0; day / 1000 < this.until; k++, day.setDate(day.getDate() + (step ? 1 : days))) {
      const midnight = day / 1000;
      for (let time = midnight; time < midnight + (step ? DAY_S : 1); time += step ?? DAY_S) {
        if (time < this.since || time > this.until) continue;
        const begins = time === midnight;
        found.push({ x: Math.round(this.#x(time, width)), text: TimeLine.#label(time, begins, step), day: begins });
      }
    }
    return found;
  }

  static #label(time, begins, step) {
    const date = new Date(time * 1000);
    if (begins) return date.toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
    const [hour, minute, second] = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0"));
    return step < 60 ? `${hour}:${minute}:${second}` : `${hour}:${minute}`;
  }

  // Labels, above them how many streams had an event when, and a line where it is now.
  #paintAxis(width, tones, ticks) {
    const height = this.axis.clientHeight || 58;
    const paint = this.#begin(this.axis, width, height);
    const left = this.#left;
    const foot = height - 20;
    paint.font = "11px system-ui, sans-serif";
    paint.textBaseline = "alphabetic";
    paint.fillStyle = tones.line;
    paint.fillRect(0, foot, width, 1);
    for (const { x, day } of ticks) paint.fillRect(x, day ? 0 : foot - 4, day ? 2 : 1, day ? height : 8);
    const busy = this.#busy(width);
    const most = Math.max(1, ...busy);
    paint.fillStyle = tones.peak;
    busy.forEach((streams, k) => {
      const high = streams && Math.max((streams / most) * (foot - 14), 2);
      paint.fillRect(left + k * 4, foot - high, 3, high);
    });
    paint.fillStyle = tones.muted;
    const told = busy.some(Boolean) ? `at most ${most} at once` : "no events";
    paint.fillText(told, 4, foot - 6);
    let end = -Infinity;
    for (const { x, text, day } of ticks) {
      const wide = paint.measureText(text).width;
      const from = Math.min(Math.max(x - wide / 2, left), width - wide - 2);
      if (from < end + 8) continue;
      paint.fillStyle = day ? tones.ink : tones.muted;
      paint.fillText(text, from, height - 5);
      end = from + wide;
    }
    const now = this.#x(this.now(), width);
    if (now >= left && now <= width) {
      paint.fillStyle = tones.accent;
      paint.fillRect(Math.min(now, width - 2), 0, 2, foot);
    }
  }

  // How many streams had an event in each 4 px.
  #busy(width) {
    const left = this.#left;
    const bins = new Array(Math.max(Math.floor((width - left) / 4), 1)).fill(0);
    for (const { events } of this.rows) {
      let done = -1; // each stream counts once in a bin
      for (const bar of events) {
        if (bar.kind !== "event" || bar.from > this.until || (bar.to ?? Infinity) < this.since) continue;
        const [from, to] = this.#extent(bar, width);
        const last = Math.min(Math.floor((to - left) / 4), bins.length - 1);
        for (let k = Math.max(Math.floor((from - left) / 4), done + 1, 0); k <= last; k++) bins[k] += 1;
        done = Math.max(done, last);
      }
    }
    return bins;
  }

  // --- pointer, wheel and keys

  #observe() {
    new ResizeObserver(() => this.draw()).observe(this.place);
    this.place.addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("look", () => this.draw());
  }

  #listen() {
    for (const canvas of [this.canvas, this.axis]) {
      canvas.addEventListener("pointerdown", (event) => this.#down(event));
      canvas.addEventListener("pointermove", (event) => this.#move(event));
      canvas.addEventListener("pointerup", (event) => this.#up(event, true));
      canvas.addEventListener("pointercancel", (event) => this.#up(event, false));
      canvas.addEventListener("pointerleave", () => this.#point(null));
      canvas.addEventListener("dblclick", (event) => this.zoom(0.4, this.time(event.offsetX)));
      canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    }
  }

  #down(event) {
    if (event.button !== 0) return;
    if (this.#pointers.size === 0) this.#moved = false;
    event.currentTarget.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.#marked = event.shiftKey && this.#pointers.size === 1 ? [event.offsetX, event.offsetX] : null;
    this.#note();
  }

  // What is under the pointers now is to stay under them.
  #note() {
    const xs = [...this.#pointers.values()].map(([x]) => x);
    this.#begun = { xs, since: this.since, until: this.until };
  }

  #move(event) {
    if (!this.#pointers.has(event.pointerId)) {
      if (event.pointerType === "mouse") this.#point(event);
      return;
    }
    const [x] = this.#pointers.get(event.pointerId);
    if (Math.abs(event.offsetX - this.#begun.xs[0]) > 3 || this.#pointers.size > 1) this.#moved = true;
    if (event.offsetX === x) return;
    this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.#marked) {
      this.#marked[1] = event.offsetX;
      this.draw();
      return;
    }
    if (!this.#moved) return;
    const { xs, since, until } = this.#begun;
    const now = [...this.#pointers.values()].map(([each]) => each);
    const wide = this.width - this.#left;
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const apart = (values) => (values.length > 1 ? Math.max(Math.abs(values[1] - values[0]), 20) : 1);
    const span = ((until - since) * apart(xs)) / apart(now);
    const held = since + ((mean(xs) - this.#left) / wide) * (until - since);
    const from = held - ((mean(now) - this.#left) / wide) * span;
    this.look(from, from + span);
  }

  #up(event, lifted) {
    if (!this.#pointers.delete(event.pointerId)) return;
    if (this.#marked) {
      const [from, to] = [...this.#marked].sort((a, b) => a - b).map((x) => this.time(x));
      const wide = Math.abs(this.#marked[1] - this.#marked[0]) > 5;
      this.#marked = null;
      if (lifted && wide) this.look(from, to, true);
      else this.draw();
    } else if (lifted && !this.#moved) {
      const found = this.#at(event);
      if (found?.bar) this.on.picked(found.bar.id);
    }
    this.#note();
  }

  #point(event) {
    const found = event && this.#at(event);
    if (found?.stream === this.#pointed?.stream && found?.bar === this.#pointed?.bar) return;
    this.#pointed = found;
    this.canvas.style.cursor = found?.bar ? "pointer" : "grab";
    this.on.pointed(found?.stream ?? null, found?.bar ?? null);
    this.draw();
  }

  // The stream under the pointer, and its bar that is nearest: of several the shortest, as it lies over the others.
  #at(event) {
    if (event.currentTarget !== this.canvas) return null;
    const row = this.rows[Math.floor((event.offsetY + this.place.scrollTop) / bars.ROW)];
    if (!row) return null;
    const width = this.width;
    const near = event.pointerType === "mouse" ? TimeLine.#NEAR_PX : 2 * TimeLine.#NEAR_PX;
    let [bar, least] = [null, Infinity];
    for (const each of row.events) {
      const [from, to] = this.#extent(each, width);
      const off = Math.max(from - event.offsetX, event.offsetX - to, 0);
      if (off <= near && off * 1e4 + (to - from) < least) [bar, least] = [each, off * 1e4 + (to - from)];
    }
    return { stream: row.stream, bar };
  }

  #wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(1.0015 ** Math.max(-200, Math.min(event.deltaY * (event.deltaMode ? 20 : 1) * 2, 200)), this.time(event.offsetX), false);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const by = (event.deltaX || event.deltaY) * (event.deltaMode ? 20 : 1);
      this.pan(by / (this.width - this.#left), false);
    }
  }
}
