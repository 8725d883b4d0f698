// Draws the power chart as a list of SVG shapes, in true pixels, for a wide place or a phone.

import { averages, gridAndTicks } from "./chart_axes.js";
import { areaWords, endWords, gapWords, phoneWords } from "./chart_words.js";
import { time } from "./format.js";
import { reach } from "./series.js";

const PHONE = 560;

/** Shapes, height and reading of the chart. */
export function drawScene({ view, series, window, width, hover_s, memory }) {
  const phone = width < PHONE;
  const g = geometry(view, window, width, phone);
  const points = series.points.filter((point) => point.t_s >= g.from);
  if (points.length && view.power.t_s <= points[points.length - 1].t_s) points.pop(); // a mean; the line ends at the live point
  points.push(view.power);
  Object.assign(g, domain(points, view, memory));
  g.y = (value) => +(g.bottom - 12 - ((value - g.low) / (g.high - g.low)) * (g.bottom - 12 - g.top)).toFixed(1);
  const runs = cut(points, series.gaps, g);
  const found = hover_s === null ? null : readingAt(hover_s, points, series, g);
  const gaps = series.gaps.filter((gap) => gap.end_s > g.from && g.x(gap.end_s) - g.x(gap.start_s) > 1);
  const ahead = future(view, g);
  const shapes = [
    ...gridAndTicks(g, window),
    ...areas(runs),
    ...ahead.shapes,
    ["line", { x1: g.left, x2: g.right, y1: g.y(g.limit), y2: g.y(g.limit), class: "lim" }],
    ...runs.flatMap((run) => [["path", { d: trace(run, "yb"), class: "bl" }], ["path", { d: trace(run, "ys"), class: "st" }]]),
    ...gapWords(gaps, points, g),
    ...nowMarks(view, g),
    ...(phone ? phoneWords(view, runs, g) : endWords(view, ahead, g)),
    ...areaWords(runs, memory),
    ...averages(g, series.intervals, window),
    ...(found ? hoverMarks(found, g) : []),
  ];
  return { shapes, height: g.height, from: g.from, to: g.to, now_s: view.now_s, instant: g.instant, reading: found };
}

function geometry(view, window, width, phone) {
  const demand = view.demand;
  const to = demand.end_s;
  const from = to - reach(window, to - demand.start_s);
  const big = Math.max(demand.limit_kw, demand.projected_without_kw) >= 1000;
  const left = big ? 46 : 36;
  const right = phone ? width : width - 148;
  const bottom = phone ? 256 : 380;
  return {
    phone, width, from, to, left, right, bottom, top: phone ? 30 : 40, height: bottom + (phone ? 82 : 66),
    now_s: view.now_s, limit: demand.limit_kw, interval_s: to - demand.start_s, peak_kw: demand.period_peak_kw,
    x: (t_s) => +(left + ((t_s - from) / (to - from)) * (right - left)).toFixed(1),
    instant: (x) => from + ((x - left) / (right - left)) * (to - from),
  };
}

/** The power axis: round numbers around all that is drawn, kept while it still fits well. */
function domain(points, view, memory) {
  let [low, high] = [view.demand.limit_kw, view.demand.limit_kw];
  for (const { site_kw, building_kw } of [...points, view.power])
    for (const value of [site_kw, building_kw])
      if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const spread = Math.max(high - low, 0.04 * Math.abs(high), 1);
  const old = memory.domain;
  if (old && low >= old.low && high <= old.high && spread > 0.5 * (old.high - old.low)) return old;
  const rough = spread / 4;
  const scale = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * scale).find((n) => n >= rough);
  memory.domain = { low: Math.floor((low - 0.05 * spread) / step) * step, high: Math.ceil((high + 0.03 * spread) / step) * step, step };
  return memory.domain;
}

/** Points in pixels, cut into runs at silences. */
function cut(points, gaps, g) {
  const runs = [[]];
  let previous = null;
  for (const { t_s, site_kw, building_kw } of points) {
    const torn = previous !== null && gaps.some((gap) => previous <= gap.start_s + 1 && t_s >= gap.end_s - 1 && gap.end_s > previous);
    if ((site_kw === null || torn) && runs[runs.length - 1].length) runs.push([]);
    if (site_kw !== null) runs[runs.length - 1].push({ t_s, x: g.x(t_s), ys: g.y(site_kw), yb: building_kw === null ? null : g.y(building_kw) });
    previous = t_s;
  }
  return runs.filter((run) => run.length);
}

function trace(run, key) {
  let pen = "M";
  let path = "";
  for (const point of run) {
    if (point[key] === null) pen = "M";
    else {
      path += `${pen}${point.x} ${point[key]}`;
      pen = "L";
    }
  }
  return path;
}

/** The area between the lines: one path where vehicles add, one where they take away. */
function areas(runs) {
  const paths = { ain: "", aout: "" };
  for (const run of runs) {
    let part = [];
    let sign = 0;
    const close = () => {
      if (part.length > 1) {
        const there = part.map((p) => `${p.x} ${p.yb}`).join("L");
        const back = part.toReversed().map((p) => `${p.x} ${p.ys}`).join("L");
        paths[sign < 0 ? "aout" : "ain"] += `M${there}L${back}Z`;
      }
      part = [];
    };
    for (const point of run) {
      if (point.yb === null) {
        close();
        continue;
      }
      const now = Math.sign(point.yb - point.ys); // in pixels: the building below the site means charging
      const before = part[part.length - 1];
      if (before && now !== 0 && sign !== 0 && now !== sign) {
        const cross = crossing(before, point);
        part.push(cross);
        close();
        part.push(cross);
      }
      if (now !== 0) sign = now;
      part.push(point);
    }
    close();
  }
  return Object.entries(paths).map(([look, d]) => ["path", { d, class: look }]);
}

function crossing(a, b) {
  const share = (a.yb - a.ys) / (a.yb - a.ys - (b.yb - b.ys));
  const y = +(a.ys + share * (b.ys - a.ys)).toFixed(1);
  return { x: +(a.x + share * (b.x - a.x)).toFixed(1), ys: y, yb: y };
}

/** Dotted from now to the interval's end: the power that makes the interval end as projected; the building as it is. */
function future(view, g) {
  const { site_kw, building_kw } = view.power;
  if (site_kw === null) return { shapes: [], site_y: null, building_y: null };
  const { demand, now_s } = view;
  const left_h = (demand.end_s - now_s) / 3600;
  const whole_h = (demand.end_s - demand.start_s) / 3600;
  const mean = left_h > 20 / 3600 ? (demand.projected_kw * whole_h - demand.used_kwh) / left_h : site_kw;
  const end = Math.min(g.high, Math.max(g.low, mean));
  const [x1, x2, y1, y2] = [g.x(now_s), g.right, g.y(site_kw), g.y(end)];
  const yb = building_kw === null ? null : g.y(building_kw);
  const shapes = [["line", { x1, x2, y1, y2, class: "st d" }]];
  if (yb !== null) {
    shapes.unshift(["path", { d: `M${x1} ${yb}L${x2} ${yb}L${x2} ${y2}L${x1} ${y1}Z`, class: building_kw > site_kw ? "aout f" : "ain f" }]);
    shapes.push(["line", { x1, x2, y1: yb, y2: yb, class: "bl d" }]);
  }
  return { shapes, site_y: y2, building_y: yb };
}

function nowMarks(view, g) {
  const { site_kw, building_kw } = view.power;
  const x = g.x(view.now_s);
  const half = 34;
  return [
    ["line", { x1: x, x2: x, y1: g.phone ? 20 : 24, y2: g.bottom, class: "now" }],
    building_kw !== null && ["circle", { cx: x, cy: g.y(building_kw), r: 3, class: "dotb" }],
    site_kw !== null && ["circle", { cx: x, cy: g.y(site_kw), r: 4.5, class: "dots" }],
    ["text", { x: Math.min(x, g.width - half), y: g.phone ? 12 : 16, "text-anchor": "middle", class: "ink" }, `now ${time(view.now_s)}`],
  ].filter(Boolean);
}

function readingAt(t_s, points, series, g) {
  const gap = series.gaps.find((one) => t_s > one.start_s && t_s < one.end_s) || null;
  const point = gap ? null : series.nearest(t_s);
  const start = [...series.intervals.keys()].filter((start_s) => start_s <= t_s && t_s < start_s + g.interval_s).pop();
  const interval = start === undefined ? null : { ...series.intervals.get(start), end_s: start + g.interval_s };
  const shown_s = point ? point.t_s : t_s;
  return { t_s: shown_s, x: g.x(shown_s), y: g.phone ? g.bottom - 84 : 40, point, gap, interval };
}

function hoverMarks({ x, point }, g) {
  return [
    ["line", { x1: x, x2: x, y1: g.top - 10, y2: g.bottom, class: "hover" }],
    point && point.building_kw !== null && ["circle", { cx: x, cy: g.y(point.building_kw), r: 3, class: "dotb" }],
    point && point.site_kw !== null && ["circle", { cx: x, cy: g.y(point.site_kw), r: 4.5, class: "dots" }],
  ].filter(Boolean);
}
