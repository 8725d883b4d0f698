// The opened row's small chart: charge so far, planned charge, departure.

import { el, onWidth, patch, setAttr } from "./dom.js";
import { percent, time } from "./format.js";

const [TOP, AXIS, HEIGHT, LEFT] = [16, 84, 104, 32];

/** Make the chart; update(vehicle, now_s). */
export function pathChart() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("role", "img");
  const node = el("div", { class: "fig" }, svg);
  let last = null;
  let width = 0;
  const draw = () => {
    if (last && width) drawPath(svg, last[0], last[1], width);
  };
  onWidth(node, (now) => {
    width = now;
    draw();
  });
  return {
    node,
    update(vehicle, now_s) {
      last = [vehicle, now_s];
      draw();
    },
  };
}

function drawPath(svg, vehicle, now_s, width) {
  const points = vehicle.path;
  setAttr(svg, "width", width);
  setAttr(svg, "height", HEIGHT);
  setAttr(svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
  if (points.length < 2) {
    setAttr(svg, "aria-label", "No path yet");
    const why = vehicle.state === "empty" ? "The bay is empty." : vehicle.soc === null ? "Charge is not reported." : "No path yet.";
    patch(svg, [["text", { x: LEFT, y: 44 }, why], ["line", { x1: LEFT, x2: width, y1: AXIS, y2: AXIS, class: "axis" }]]);
    return;
  }
  const goal = vehicle.target_soc;
  const times = points.map((point) => point.t_s);
  const from = Math.min(...times);
  const to = Math.max(...times, vehicle.departs_s || 0, now_s);
  const levels = [...points.map((point) => point.soc), ...(goal === null ? [] : [goal])];
  const [low, high] = [Math.min(...levels), Math.max(...levels)];
  const x = (t_s) => +(LEFT + ((t_s - from) / Math.max(to - from, 1)) * (width - LEFT - 18)).toFixed(1);
  const y = (soc) => +(AXIS - 14 - ((soc - low) / Math.max(high - low, 0.02)) * (AXIS - 14 - TOP)).toFixed(1);
  const line = (part) => part.map((point, i) => `${i ? "L" : "M"}${x(point.t_s)} ${y(point.soc)}`).join("");
  const past = points.filter((point) => !point.planned);
  const plan = [...past.slice(-1), ...points.filter((point) => point.planned)];
  const here = past[past.length - 1];
  const top = goal === null ? high : goal;
  const ends = vehicle.departs_s !== null;
  setAttr(svg, "aria-label", `Charge of ${vehicle.name}: from ${percent(points[0].soc)} to ${percent(points[points.length - 1].soc)} at ${time(points[points.length - 1].t_s)}`);
  patch(svg, [
    ["line", { x1: LEFT, x2: width, y1: AXIS, y2: AXIS, class: "axis" }],
    ["line", { x1: LEFT, x2: x(to), y1: y(top), y2: y(top), class: "g" }],
    ["text", { x: 0, y: y(top) + 4 }, String(Math.round(top * 100))],
    Math.abs(y(low) - y(top)) > 15 && ["text", { x: 0, y: y(low) + 4 }, String(Math.round(low * 100))],
    Math.abs(y(high) - y(top)) > 15 && ["text", { x: 0, y: y(high) + 4 }, String(Math.round(high * 100))],
    ends && ["line", { x1: x(vehicle.departs_s), x2: x(vehicle.departs_s), y1: 10, y2: AXIS, class: "now" }],
    past.length > 1 && ["path", { d: line(past), class: "mi" }],
    plan.length > 1 && ["path", { d: line(plan), class: "mi d" }],
    here && ["circle", { cx: x(here.t_s), cy: y(here.soc), r: 3.5, class: "mid" }],
    ...timeWords([
      ends && [x(vehicle.departs_s), time(vehicle.departs_s)],
      here && [x(here.t_s), "now"],
      [x(from) + 12, time(from)],
    ]),
  ]);
}

/** Words under the axis, the more important first; one that would touch another is left out. */
function timeWords(words) {
  const taken = [];
  return words.filter(Boolean).map(([x, text]) => {
    if (taken.some((other) => Math.abs(other - x) < 42)) return null;
    taken.push(x);
    return ["text", { x, y: AXIS + 16, "text-anchor": "middle" }, text];
  });
}
