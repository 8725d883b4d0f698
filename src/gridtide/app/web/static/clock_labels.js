// The words around the demand clock.

import { TAU, at } from "./dial.js";
import { digits, time } from "./format.js";

/** Words around the rim, most important first; one that would touch an earlier one is left out. */
export function labels(g, turn, demand) {
  const page = { shapes: [], taken: [], width: g.width };
  const share = demand.end_s - demand.start_s;
  const { projected_kw, projected_without_kw } = demand;
  const apart = Math.abs(projected_without_kw - projected_kw) >= 0.5;
  put(page, [`limit ${digits(demand.limit_kw)}`], "red b t13", g.cx, g.cy - g.rim - 19, "middle");
  beside(page, g, turn.end, [[`ends at ${digits(projected_kw)}`], [digits(projected_kw)]], "ink b t13", apart && turn.end > 1 ? 18 : 9);
  if (apart) {
    const number = digits(projected_without_kw);
    beside(page, g, turn.without, [[`${number} without`, "the vehicles"], [number]], "t13", 9);
  }
  const ring = (part, look) => {
    const [x, y] = at(g, part, g.rim + 20);
    const side = Math.sin(part * TAU);
    const word = [time(demand.start_s + part * share)];
    if (put(page, word, look, x, y + 4, Math.abs(side) < 0.35 ? "middle" : side > 0 ? "start" : "end")) return;
    if (look) put(page, word, look, side > 0 ? g.width : 0, y + 24, side > 0 ? "end" : "start");
  };
  if (turn.time > 0.04 && turn.time < 0.96) ring(turn.time, "ink b");
  [1 / 3, 2 / 3].forEach((part) => ring(part, ""));
  return page.shapes;
}

/** Write lines upwards from (x, y) if they touch nothing written before. */
function put(page, lines, look, x, y, anchor) {
  const wide = Math.max(...lines.map((line) => line.length)) * 7.1;
  const left = anchor === "middle" ? x - wide / 2 : anchor === "end" ? x - wide : x;
  const box = [left - 3, y - 12 - 15 * (lines.length - 1), left + wide + 3, y + 4];
  if (box[0] < -2 || box[2] > page.width + 2 || box[1] < 0 || page.taken.some((other) => touches(box, other))) return false;
  page.taken.push(box);
  lines.forEach((line, index) => {
    const up = 15 * (lines.length - 1 - index);
    page.shapes.push(["text", { x: +x.toFixed(1), y: +(y - up).toFixed(1), "text-anchor": anchor, class: look }, line]);
  });
  return true;
}

/** Words beside a mark: on top of the rim in the upper part, outside it elsewhere; shorter words where long ones do not fit. */
function beside(page, g, share, wordings, look, lift) {
  const angle = share * TAU;
  const side = Math.sin(angle) >= 0 ? 1 : -1;
  const anchor = side > 0 ? "start" : "end";
  for (const lines of wordings) {
    if (Math.cos(angle) > 0.4) {
      const near = Math.abs((g.rim + 12) * Math.sin(angle)) + 9;
      for (let away = near; away < g.rim * 0.85; away += 6) {
        const y = g.cy - Math.sqrt(g.rim ** 2 - away ** 2) - lift;
        if (put(page, lines, look, g.cx + side * away, y, anchor)) return;
      }
    }
    const [x, y] = at(g, share, g.rim + 14);
    if (put(page, lines, look, x, y + 4 + (Math.cos(angle) < 0 ? 8 * (lines.length - 1) : 0), Math.abs(Math.sin(angle)) < 0.2 ? "middle" : anchor)) return;
  }
}

const touches = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
