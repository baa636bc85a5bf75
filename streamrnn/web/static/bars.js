// What an event looks like in a time line: by its form as well as by its colour.
"use strict";

const bars = (() => {
  const ROW = 24; // px, of one stream
  const NAMES = ["ink", "muted", "line", "accent", "chosen", "ground", "surface", "peak", "real", "usual", "work"];
  const VERDICT_TONES = { "": "peak", real: "real", normal: "usual", work: "work" };
  let read = null;

  // The colours of the look, read once for each look.
  function tones() {
    const look = document.documentElement.dataset.look;
    if (read?.look !== look) read = { look, ...Object.fromEntries(NAMES.map((name) => [name, charts.tone(name)])) };
    return read;
  }

  /**
   * One bar from `from` to `to` px in a row that begins at `y`. An event is the higher and the darker the higher its
   * peak; not judged: full; real: full, on a foot and with a dot; normal: hollow; planned work: hatched. A reset is a
   * diamond, a gap a low bar, a silence a dashed line.
   */
  function paint(pen, { kind, peak, verdict, count }, from, to, y, threshold) {
    const { ink, muted, surface } = tones();
    const tone = tones()[VERDICT_TONES[verdict]];
    const middle = y + ROW / 2;
    const foot = y + ROW - 4;
    const width = to - from;
    if (kind === "reset") {
      pen.fillStyle = ink;
      pen.beginPath();
      for (const [dx, dy] of [[0, -5], [5, 0], [0, 5], [-5, 0]]) pen.lineTo(from + dx, middle + dy);
      pen.fill();
    } else if (kind === "gap") {
      pen.fillStyle = muted;
      pen.fillRect(from, foot - 5, width, 5);
    } else if (kind === "silence") {
      pen.strokeStyle = muted;
      pen.lineWidth = 2;
      pen.setLineDash([4, 3]);
      line(pen, from, to, middle);
      pen.setLineDash([]);
    } else {
      const part = Math.min(Math.max(((peak ?? threshold) - threshold) / threshold, 0), 1);
      const height = 6 + 8 * part;
      const top = foot - height;
      pen.fillStyle = pen.strokeStyle = tone;
      if (verdict === "normal") {
        pen.lineWidth = 1.5;
        pen.strokeRect(from + 0.75, top + 0.75, Math.max(width - 1.5, 2.5), height - 1.5);
      } else if (verdict === "work") {
        hatch(pen, from, top, width, height);
      } else {
        pen.globalAlpha = verdict === "real" ? 1 : 0.6 + 0.4 * part;
        pen.fillRect(from, top, width, height);
        pen.globalAlpha = 1;
      }
      if (verdict === "real") {
        pen.fillRect(from - 2, foot, width + 4, 2);
        pen.beginPath();
        pen.arc(from + width / 2, top - 3.5, 2.2, 0, 7);
        pen.fill();
      }
      if (count > 1 && width > 18 && height > 9) {
        pen.fillStyle = verdict === "normal" || verdict === "work" ? ink : surface;
        pen.fillText(String(count), from + 4, foot - height / 2 + 1);
      }
    }
  }

  function line(pen, from, to, y) {
    pen.beginPath();
    pen.moveTo(from, y);
    pen.lineTo(to, y);
    pen.stroke();
  }

  function hatch(pen, x, y, width, height) {
    pen.save();
    pen.beginPath();
    pen.rect(x, y, width, height);
    pen.lineWidth = 2;
    pen.stroke();
    pen.clip();
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (let at = x - height; at < x + width; at += 5) {
      pen.moveTo(at, y + height);
      pen.lineTo(at + height, y);
    }
    pen.stroke();
    pen.restore();
  }

  // Draws a sample of a bar, for a key.
  function sample(canvas, bar, threshold) {
    const ratio = devicePixelRatio;
    [canvas.width, canvas.height] = [26 * ratio, ROW * ratio];
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, 26, ROW);
    paint(pen, bar, bar.kind === "reset" ? 13 : 4, 22, 0, threshold);
  }

  return { ROW, tones, paint, sample };
})();
