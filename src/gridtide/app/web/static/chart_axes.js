// The power chart's axes and, beneath, the interval averages: what is billed.

import { digits, fixed, sinceMidnight, time } from "./format.js";

/** Grid lines, power numbers, time ticks and times. */
export function gridAndTicks(g, window) {
  const shapes = [["text", { x: 0, y: g.phone ? 12 : 16 }, "kW"]];
  const decimals = g.step < 1 || g.step % 1 ? 1 : 0;
  for (let value = g.low; value <= g.high + 1e-9; value += g.step) {
    const y = g.y(value);
    shapes.push(["line", { x1: g.left, x2: g.right, y1: y, y2: y, class: "g" }]);
    if (y > 24) shapes.push(["text", { x: 0, y: y + 4 }, fixed(value, decimals)]);
  }
  const instants = window === "day" ? localHours(g, g.phone ? 6 : 3) : boundaries(g);
  const every = Math.ceil(46 / Math.max(1, (g.right - g.left) / Math.max(1, instants.length - 1)));
  instants.forEach((t_s, index) => {
    const x = g.x(t_s);
    shapes.push(["line", { x1: x, x2: x, y1: g.bottom, y2: g.bottom + 6, class: "tick" }]);
    if ((instants.length - 1 - index) % every !== 0) return;
    const last = x + 18 > g.width;
    shapes.push(["text", { x: last ? g.width : x, y: g.bottom + 22, "text-anchor": last ? "end" : "middle" }, time(t_s)]);
  });
  shapes.push(["line", { x1: g.left, x2: g.right, y1: g.bottom, y2: g.bottom, class: "axis" }]);
  return shapes;
}

function boundaries(g) {
  const found = [];
  for (let t_s = g.to; t_s >= g.from - 1; t_s -= g.interval_s) found.unshift(t_s);
  return found;
}

/** Whole local hours divisible by `every`. */
function localHours(g, every) {
  const found = [];
  const first = Math.ceil(g.from / 3600) * 3600;
  for (let t_s = first; t_s <= g.to; t_s += 900) if (sinceMidnight(t_s) % (every * 3600) === 0) found.push(t_s);
  return found;
}

/** Each interval's average under the axis, the running one as it will end; a day names only the highest and the running. */
export function averages(g, intervals, window) {
  const all = [...intervals.values()].filter((one) => one.start_s >= g.from - 1).sort((a, b) => a.start_s - b.start_s);
  const [line, words] = [g.bottom + 39, g.bottom + 56];
  const wide = ((g.right - g.left) * g.interval_s) / (g.to - g.from);
  const inset = Math.min(4, wide / 8);
  const named = window === "day" ? highestAndRunning(all) : everyFew(all, wide);
  const shapes = [];
  for (const one of all) {
    const [x1, x2] = [g.x(one.start_s) + inset, g.x(one.start_s + g.interval_s) - inset];
    const over = one.average_kw > g.limit;
    shapes.push(["line", { x1, x2, y1: line, y2: line, class: over ? "av over" : one.running ? "avr" : window === "day" && named.has(one) ? "av top" : "av" }]);
    if (!named.has(one)) continue;
    const look = `lb ${over ? "red b" : one.running ? "ink b" : "soft"}`;
    const text = window === "day" && !one.running ? `highest ${digits(one.average_kw)} at ${time(one.start_s)}` : digits(one.average_kw);
    const half = text.length * 3.6;
    const edge = window === "day" && !one.running ? g.right - 24 : g.width - 2;
    const x = Math.max(g.left + half, Math.min((x1 + x2) / 2, edge - half));
    shapes.push(["text", { x, y: words, "text-anchor": "middle", class: look }, text]);
  }
  if (g.phone) shapes.push(["text", { x: g.left, y: g.bottom + 75, class: "lb" }, "interval averages, the last as it will end"]);
  else shapes.push(["text", { x: g.right + 14, y: words, class: "lb" }, "interval averages"]);
  return shapes;
}

function everyFew(all, wide) {
  const every = Math.ceil(34 / Math.max(1, wide));
  return new Set(all.filter((one, index) => (all.length - 1 - index) % every === 0));
}

function highestAndRunning(all) {
  const running = all.find((one) => one.running);
  const past = all.filter((one) => !one.running);
  const highest = past.reduce((best, one) => (!best || one.average_kw > best.average_kw ? one : best), null);
  const found = new Set(running ? [running] : []);
  if (highest) found.add(highest);
  return found;
}
