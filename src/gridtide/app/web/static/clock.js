// The demand clock: one turn is both the interval and its energy budget; twelve o'clock is the limit.

import { labels } from "./clock_labels.js";
import { arc, at, radial } from "./dial.js";
import { byId, el, onWidth, patch, setAttr, setText } from "./dom.js";
import { NB, digits, duration, fixed, kw, kwh, time } from "./format.js";

const SPEAK_MS = 30000; // a screen reader's label changes at most this often
const SMALLEST = 200; // px; narrower is not laid out yet
const MAX_OVER = 0.22; // of a turn: how far past twelve a mark is drawn; the number says the rest

/** Set up the clock; returns update(view). */
export function demandClock() {
  const svg = byId("clock-svg");
  let view = null;
  let width = 0;
  let spokenAt = -SPEAK_MS;
  const draw = () => {
    if (view && width >= SMALLEST) drawClock(svg, view.demand, view, width);
  };
  onWidth(byId("ring"), (now) => {
    width = now;
    draw();
  });
  return (next) => {
    view = next;
    setText(byId("interval"), `${time(view.demand.start_s)}${NB}–${NB}${time(view.demand.end_s)}`);
    setText(byId("projected"), kw(view.demand.projected_kw));
    setText(byId("limit-now"), kw(view.demand.limit_kw));
    setText(byId("period-peak"), kw(view.demand.period_peak_kw));
    draw();
    facts(view.demand, view.now_s);
    if (performance.now() - spokenAt >= SPEAK_MS) {
      spokenAt = performance.now();
      setAttr(svg, "aria-label", spoken(view.demand, view.now_s));
    }
  };
}

function distance({ limit_kw, projected_kw }) {
  const below = limit_kw - projected_kw;
  if (Math.abs(below) < 0.05) return "right at the limit";
  const far = Math.abs(below);
  return `${fixed(far, far < 9.95 ? 1 : 0)}${NB}kW ${below > 0 ? "below" : "over"} the limit`;
}

function spoken(demand, now_s) {
  const passed = duration(Math.max(0, now_s - demand.start_s)).replaceAll(NB, " ");
  const all = duration(demand.end_s - demand.start_s).replaceAll(NB, " ");
  return (
    `Demand clock. ${passed} of ${all} have passed. ${kwh(demand.used_kwh)} of ${kwh(demand.budget_kwh)} are used. ` +
    `The interval will end at ${kw(demand.projected_kw)}, ${distance(demand)} of ${kw(demand.limit_kw)}. ` +
    `Without the vehicles it would end at ${kw(demand.projected_without_kw)}.`
  );
}

function facts(demand, now_s) {
  const left_kwh = demand.budget_kwh - demand.used_kwh;
  const remaining_s = Math.max(0, demand.end_s - now_s);
  const allow = demand.allow_kw;
  const cells = [
    ["Used", digits(demand.used_kwh), `${NB}kWh`],
    left_kwh >= 0
      ? [`Left for ${duration(remaining_s)}`, digits(left_kwh), `${NB}kWh`]
      : ["Over the budget by", digits(-left_kwh), `${NB}kWh`],
    allow === null
      ? [`Until ${time(demand.end_s)}`, "–", ""]
      : [`Until ${time(demand.end_s)} up to`, digits(Math.max(0, allow)), `${NB}kW`],
  ];
  const list = byId("facts");
  while (list.children.length < cells.length) list.append(el("div", {}, el("dt"), el("dd", {}, el("span"), el("i"))));
  cells.forEach(([name, value, unit], index) => {
    const [dt, dd] = list.children[index].children;
    setText(dt, name);
    setText(dd.firstChild, value);
    setText(dd.lastChild, unit);
  });
}

/** The ring's colour: "fine", "using" or "over". */
function tone(demand, state) {
  if (demand.projected_kw > demand.limit_kw) return "over";
  return state === "using" || demand.projected_without_kw > demand.limit_kw ? "using" : "fine";
}

function drawClock(svg, demand, view, width) {
  const rim = Math.min(170, width / 2 - 40);
  const g = { cx: width / 2, cy: rim + 48, rim, ring: rim - 22, band: rim > 155 ? 16 : 14, width };
  const limit = Math.max(demand.limit_kw, 1e-6);
  const turn = {
    time: clamp((view.now_s - demand.start_s) / (demand.end_s - demand.start_s), 0, 1),
    used: Math.max(0, demand.used_kwh / Math.max(demand.budget_kwh, 1e-6)),
    end: clamp(demand.projected_kw / limit, 0, 1 + MAX_OVER),
    without: clamp(demand.projected_without_kw / limit, 0, 1 + MAX_OVER),
  };
  const height = 2 * rim + 48 + 34;
  setAttr(svg, "viewBox", `0 0 ${width} ${height}`);
  setAttr(svg, "width", width);
  setAttr(svg, "height", height);
  setAttr(svg, "data-tone", tone(demand, view.state));
  patch(svg, [...rings(g, turn), ...ticks(g, turn), ...marks(g, turn, demand), ...labels(g, turn, demand), ...centre(g, demand)]);
}

function rings(g, turn) {
  const over = turn.used > 1;
  return [
    ["circle", { cx: g.cx, cy: g.cy, r: g.ring, class: "track", "stroke-width": g.band }],
    turn.end > turn.used && ["path", { d: arc(g, g.ring, turn.used, Math.min(turn.end, 1)), class: "proj" }],
    ["path", { d: arc(g, g.ring, 0.0015, Math.min(turn.used, 1)), class: "used", "stroke-width": g.band }],
    over && ["path", { d: arc(g, g.ring - g.band / 2 - 5, 0, Math.min(turn.used - 1, MAX_OVER)), class: "used lap" }],
    ["circle", { cx: g.cx, cy: g.cy, r: g.rim, class: "rim" }],
    ["path", { d: arc(g, g.rim, 0, turn.time), class: "time" }],
  ];
}

function ticks(g, turn) {
  const shapes = [];
  for (let minute = 1; minute < 15; minute += 1) {
    const long = minute % 5 === 0;
    shapes.push(radial(g, minute / 15, g.rim, g.rim + (long ? 7 : 4), minute / 15 < turn.time ? "tickd" : "tick"));
  }
  return shapes;
}

function marks(g, turn, demand) {
  const apart = Math.abs(demand.projected_without_kw - demand.projected_kw) >= 0.5;
  const over = turn.without > 1;
  const [x, y] = at(g, turn.time, g.rim);
  return [
    apart && ["path", { d: arc(g, g.rim + 6, over ? 1 : turn.end, turn.without), class: over ? "ghost" : "ghost calm" }],
    apart && radial(g, turn.without, g.rim + 1, g.rim + 11, over ? "ghostk" : "ghostk calm"),
    turn.end > 1 && ["path", { d: arc(g, g.ring, 1, turn.end), class: "proj past" }],
    radial(g, 0, g.ring - g.band / 2 - 8, g.rim + 10, "limk"),
    radial(g, turn.end, g.ring - g.band / 2 - 6, g.rim + 6, "endk"),
    ["circle", { cx: x, cy: y, r: 5, class: "hand" }],
  ];
}

function centre(g, demand) {
  const number = digits(demand.projected_kw);
  const long = number.length > 3;
  const size = long ? (g.rim > 155 ? "c2 long" : "c2 longer") : "c2";
  return [
    ["text", { x: g.cx, y: g.cy - 58, "text-anchor": "middle", class: "c1" }, "This interval ends at"],
    ["text", { x: g.cx, y: g.cy + 20, "text-anchor": "middle", class: size }, [["tspan", {}, number], ["tspan", { class: "u", dx: 6 }, "kW"]]],
    ["text", { x: g.cx, y: g.cy + 52, "text-anchor": "middle", class: "c3" }, distance(demand)],
    ["text", { x: g.cx, y: g.cy + 76, "text-anchor": "middle", class: "c1" }, `period peak ${kw(demand.period_peak_kw)}`],
  ];
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
