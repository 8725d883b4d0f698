// Draws the hours ahead as a list of SVG shapes: expected load, load with vehicles, target; for a wide place or a phone.

import { stack } from "./chart_labels.js";
import { digits, fixed, sinceMidnight, time } from "./format.js";

const PHONE = 480;

/** Shapes, height, and which step lies at a place. */
export function drawPlan({ plan, now_s, width, chosen }) {
  const steps = plan.steps;
  const phone = width < PHONE;
  const g = geometry(steps, width, phone);
  const site = steps.map((step) => step.load_kw + step.vehicles_kw);
  const load = steps.map((step) => step.load_kw);
  const shapes = [
    ["rect", { x: 0, y: 0, width, height: g.height, class: "hit" }],
    ...grid(g),
    ...hours(g),
    ...areas(steps, load, site, g),
    ...targets(steps, g),
    ["path", { d: trace(steps, load, g), class: "bl" }],
    ["path", { d: trace(steps, site, g), class: "st" }],
    ...nowLine(now_s, g),
    ...(chosen === null ? [] : chosenMarks(steps[chosen], load[chosen], site[chosen], g)),
    ...words(steps, load, site, g),
  ];
  return { shapes, height: g.height, stepAt: (x) => Math.max(0, steps.findLastIndex((step) => g.x(step.start_s) <= x)) };
}

function geometry(steps, width, phone) {
  const [from, to] = [steps[0].start_s, steps[steps.length - 1].end_s];
  const values = steps.flatMap((step) => [step.load_kw, step.load_kw + step.vehicles_kw, step.target_kw ?? step.load_kw]);
  const [low, high, step] = roundRange(Math.min(...values), Math.max(...values));
  const [left, right, top, bottom] = [high >= 1000 ? 46 : 36, phone ? width : width - 120, phone ? 44 : 24, phone ? 184 : 208];
  return {
    phone, width, from, to, low, high, step, left, right, top, bottom, height: bottom + 28,
    x: (t_s) => +(left + ((t_s - from) / (to - from)) * (right - left)).toFixed(1),
    y: (value) => +(bottom - 8 - ((value - low) / (high - low)) * (bottom - 8 - top)).toFixed(1),
  };
}

/** Round numbers around all that is drawn. */
function roundRange(least, most) {
  const spread = Math.max(most - least, 0.04 * Math.abs(most), 1);
  const scale = 10 ** Math.floor(Math.log10(spread / 3));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * scale).find((n) => n >= spread / 3);
  return [Math.floor(least / step) * step, Math.ceil((most + 0.02 * spread) / step) * step, step];
}

function grid(g) {
  const shapes = [["text", { x: 0, y: 12 }, "kW"]];
  for (let value = g.low; value <= g.high + 1e-9; value += g.step) {
    const y = g.y(value);
    shapes.push(["line", { x1: g.left, x2: g.right, y1: y, y2: y, class: "g" }]);
    if (y > 20) shapes.push(["text", { x: 0, y: y + 4 }, fixed(value, g.step % 1 ? 1 : 0)]);
  }
  shapes.push(["line", { x1: g.left, x2: g.right, y1: g.bottom, y2: g.bottom, class: "axis" }]);
  return shapes;
}

function hours(g) {
  const every = (g.phone ? 6 : 3) * 3600;
  const shapes = [];
  for (let t_s = Math.ceil(g.from / 900) * 900; t_s <= g.to; t_s += 900) {
    if (sinceMidnight(t_s) % every !== 0) continue;
    const x = g.x(t_s);
    shapes.push(["line", { x1: x, x2: x, y1: g.bottom, y2: g.bottom + 6, class: "tick" }]);
    const anchor = x > g.width - 18 ? "end" : "middle";
    shapes.push(["text", { x: Math.max(x, g.left), y: g.bottom + 22, "text-anchor": anchor }, time(t_s)]);
  }
  return shapes;
}

/** A line of steps: means of spans, not of instants. */
function trace(steps, values, g) {
  return steps.map((step, i) => `${i ? "L" : "M"}${g.x(step.start_s)} ${g.y(values[i])}H${g.x(step.end_s)}`).join("");
}

/** Teal where the vehicles add, amber where they take away. */
function areas(steps, load, site, g) {
  const paths = { ain: "", aout: "" };
  steps.forEach((step, i) => {
    if (Math.abs(site[i] - load[i]) < 0.05) return;
    const box = `M${g.x(step.start_s)} ${g.y(load[i])}H${g.x(step.end_s)}V${g.y(site[i])}H${g.x(step.start_s)}Z`;
    paths[site[i] > load[i] ? "ain" : "aout"] += box;
  });
  return Object.entries(paths).map(([look, d]) => ["path", { d, class: look }]);
}

/** The target, dashed; a gap where no peak counts. */
function targets(steps, g) {
  let [d, before] = ["", null];
  for (const { start_s, end_s, target_kw } of steps) {
    if (target_kw !== null) {
      const joined = before !== null && Math.abs(before - target_kw) < 0.05;
      d += joined ? `H${g.x(end_s)}` : `M${g.x(start_s)} ${g.y(target_kw)}H${g.x(end_s)}`;
    }
    before = target_kw;
  }
  return d ? [["path", { d, class: "lim nofill" }]] : [];
}

function nowLine(now_s, g) {
  if (now_s < g.from || now_s > g.to) return [];
  const x = g.x(now_s);
  return [["line", { x1: x, x2: x, y1: g.top - 8, y2: g.bottom, class: "now" }]];
}

function chosenMarks(step, load, site, g) {
  const x = (g.x(step.start_s) + g.x(step.end_s)) / 2;
  return [
    ["line", { x1: x, x2: x, y1: g.top - 8, y2: g.bottom, class: "hover" }],
    ["circle", { cx: x, cy: g.y(load), r: 3, class: "dotb" }],
    ["circle", { cx: x, cy: g.y(site), r: 4.5, class: "dots" }],
  ];
}

/** Names at the line ends; on a phone one line above the drawing. */
function words(steps, load, site, g) {
  const last = steps.length - 1;
  const target = steps.findLast((step) => step.target_kw !== null);
  const all = [
    target && { text: `target ${digits(target.target_kw)}`, short: `target ${digits(target.target_kw)}`, look: "red b t13", at: g.y(target.target_kw) },
    { text: "with vehicles", short: "with vehicles", look: "ink b t13", at: g.y(site[last]) },
    { text: "expected load", short: "expected load", look: "t13", at: g.y(load[last]) },
  ].filter(Boolean);
  if (g.phone) {
    const marks = { "red b t13": "lim", "ink b t13": "st", t13: "bl" };
    let x = 0;
    return all.flatMap(({ text, look }) => {
      const at = x;
      x += 26 + text.length * 7.2;
      return [
        ["line", { x1: at, x2: at + 14, y1: 27, y2: 27, class: marks[look] }],
        ["text", { x: at + 18, y: 31, class: look }, text],
      ];
    });
  }
  const tops = stack(all.map(({ at }) => ({ at, height: 18 })), g.top - 10, g.bottom);
  return all.map(({ text, look }, i) => ["text", { x: g.right + 12, y: +(tops[i] + 13).toFixed(1), class: look }, text]);
}
