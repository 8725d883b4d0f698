// The words on the power chart: lines, areas and gaps are named where they are, no legend.

import { areaLabel, besideLine, stack } from "./chart_labels.js";
import { digits, duration, kw } from "./format.js";

/** A wide chart names its lines at their ends. */
export function endWords(view, ahead, g) {
  const { site_kw, building_kw } = view.power;
  const x = g.right + 14;
  const items = [{ at: g.y(g.limit), height: 22 }, { at: ahead.site_y === null ? g.bottom - 40 : ahead.site_y + 8, height: 50 }];
  if (building_kw !== null) items.push({ at: ahead.building_y, height: 42 });
  const [limit, site, building] = stack(items, 24, g.bottom - 4);
  const shapes = [
    ["text", { x, y: limit + 16, class: "lb red" }, `Limit ${kw(g.limit)}`],
    ["text", { x, y: site + 17, class: "lb ink b" }, "Site"],
    ["text", { x, y: site + 42, class: "big" }, site_kw === null ? "no data" : kw(site_kw)],
  ];
  if (building !== undefined) shapes.push(["text", { x, y: building + 16, class: "lb" }, "Building alone"], ["text", { x, y: building + 34, class: "lb" }, kw(building_kw)]);
  return shapes;
}

/** A phone names them beside the lines near now; what finds no place there stands on top. */
export function phoneWords(view, runs, g) {
  const { site_kw, building_kw } = view.power;
  const points = runs.flat();
  const limit_y = g.y(g.limit);
  const nowX = g.x(view.now_s);
  const taken = [[g.left, limit_y - 4, g.right, limit_y + 4], [nowX - 4, 0, nowX + 4, g.bottom]];
  const bounds = { left: g.left + 2, right: g.right, top: 20, bottom: g.bottom - 4 };
  const shapes = [];
  const leftOver = [];
  const clear = (x1, x2, y1, y2) => points.every((p) => p.x < x1 || p.x > x2 || [p.ys, p.yb].every((y) => y === null || y < y1 || y > y2));
  const put = (text, look, box) => {
    taken.push(box);
    shapes.push(["text", { x: box[0], y: box[1] + 12, class: `lb halo ${look}` }, text]);
  };
  const limitSpot = [[g.left + 2, limit_y - 20], [g.left + 2, limit_y + 6], [g.left + 60, limit_y - 20], [g.left + 120, limit_y - 20]].find(([x, y]) => clear(x, x + 64, y, y + 15));
  const [lx, ly] = limitSpot || [g.left + 2, limit_y - 20];
  put(`Limit ${digits(g.limit)}`, "red", [lx, ly, lx + 64, ly + 16]);
  const near = { ...bounds, left: g.left + 0.4 * (g.right - g.left) };
  for (const [key, text, look, wide, prefer] of [
    ["ys", site_kw === null ? "Site: no data" : `Site ${kw(site_kw)}`, "ink b", 84, ["below", "above"]],
    ["yb", building_kw === null ? "" : `Building alone ${digits(building_kw)}`, "", 124, ["above", "below"]],
  ]) {
    const box = text && besideLine(points, key, wide, 16, near, taken, prefer);
    if (box) put(text, look, box);
    else if (text) leftOver.push(text);
  }
  if (leftOver.length) shapes.push(["text", { x: g.left, y: 12, class: "ink" }, leftOver.join(", ").replace("Building alone", leftOver.length > 1 ? "building" : "Building alone")]);
  return shapes;
}

/** "giving" and "charging" inside the areas. */
export function areaWords(runs, memory) {
  return [[-1, "giving", "outk", 52], [1, "charging", "inkin", 66]].map(([sign, word, look, wide]) => {
    const place = areaLabel(runs, sign, wide, 24, memory);
    return place && ["text", { x: place.x, y: +(place.y + 4).toFixed(1), "text-anchor": "middle", class: `lb ${look}` }, word];
  });
}

/** Each gap says why, below the lines it interrupts. */
export function gapWords(gaps, points, g) {
  let free = -Infinity;
  return gaps.flatMap((gap) => {
    const x = g.x((Math.max(gap.start_s, g.from) + gap.end_s) / 2);
    const text = /\d/.test(gap.why) ? gap.why : `${gap.why} ${duration(gap.end_s - gap.start_s)}`;
    const half = text.length * 3.2 + 4;
    const middle = Math.min(Math.max(x, g.left + half), g.right - half);
    if (middle - half < free) return [];
    free = middle + half;
    const near = points.filter((p) => p.site_kw !== null && Math.abs(g.x(p.t_s) - middle) < half);
    const floor = near.length ? Math.max(...near.flatMap((p) => [g.y(p.site_kw), p.building_kw === null ? 0 : g.y(p.building_kw)])) : g.y(g.limit);
    const roof = near.length ? Math.min(...near.flatMap((p) => [g.y(p.site_kw), p.building_kw === null ? g.bottom : g.y(p.building_kw)])) : floor;
    const below = floor + 44 < g.bottom;
    const [y1, y2, base] = below ? [floor + 8, floor + 24, floor + 38] : [roof - 8, roof - 20, roof - 26];
    return [["line", { x1: x, x2: x, y1, y2, class: "tick" }], ["text", { x: middle, y: base, "text-anchor": "middle", class: "halo" }, text]];
  });
}
