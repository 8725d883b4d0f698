// Price now and today, and the grid's frequency.

import { byId, el, onWidth, patch, setAttr, setText, show } from "./dom.js";
import { NB, currencySign, fixed, money, sinceMidnight, time } from "./format.js";

const [TOP, AXIS, HEIGHT] = [18, 76, 96];

/** Set up the price section; returns update(view). */
export function priceAndGrid() {
  const svg = byId("price-svg");
  const line = byId("price-line");
  line.append(el("b"), el("span"), el("b", { class: "hz" }), el("span"));
  let view = null;
  let width = 0;
  let hover_s = null;
  const redraw = () => {
    if (view) update(svg, line, view, width, hover_s);
  };
  onWidth(svg.parentElement, (now) => {
    width = now;
    redraw();
  });
  svg.addEventListener("pointermove", (event) => {
    if (!view || !view.price || !view.price.today.length) return;
    const box = svg.getBoundingClientRect();
    const [from, to] = span(view.price.today);
    hover_s = from + ((event.clientX - box.left) / box.width) * (to - from);
    redraw();
  });
  svg.addEventListener("pointerleave", () => {
    hover_s = null;
    redraw();
  });
  return (next) => {
    view = next;
    redraw();
  };
}

/** First and last instant of the day drawn, s. */
function span(steps) {
  const from = steps[0].start_s;
  const last = steps[steps.length - 1].start_s;
  const step = steps.length > 1 ? last - steps[steps.length - 2].start_s : 3600;
  return [from, Math.max(from + 86400, last + step)];
}

function update(svg, line, view, width, hover_s) {
  const price = view.price;
  const drawable = Boolean(price && price.today.length > 0 && width);
  svg.classList.toggle("gone", !drawable);
  const [now, until, hertz, unit] = line.children;
  if (!price) {
    setText(now, "");
    setText(until, "No price is known: only the limit counts.");
    show(hertz, false);
    show(unit, false);
    return;
  }
  const steps = price.today;
  const index = hover_s === null ? -1 : steps.findLastIndex((step) => step.start_s <= hover_s);
  if (index >= 0) {
    const end = index + 1 < steps.length ? steps[index + 1].start_s : span(steps)[1];
    setText(now, money(steps[index].price_per_kwh, view.money.currency));
    setText(until, `/kWh, ${time(steps[index].start_s)}${NB}–${NB}${time(end)}`);
  } else {
    setText(now, money(price.now_per_kwh, view.money.currency));
    setText(until, `/kWh until ${time(price.until_s)}`);
  }
  const metered = price.frequency_hz !== null;
  show(hertz, metered);
  show(unit, metered);
  if (metered) {
    setText(hertz, fixed(price.frequency_hz, 2));
    setText(unit, "Hz");
  }
  if (drawable) draw(svg, price, view, width);
}

function draw(svg, price, view, width) {
  const steps = price.today;
  const [from, to] = span(steps);
  const values = steps.map((step) => step.price_per_kwh);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const bottom = Math.min(0, low);
  const x = (t_s) => +(((t_s - from) / (to - from)) * width).toFixed(1);
  const y = (value) => +(AXIS - 4 - ((value - bottom) / Math.max(high - bottom, 1e-9)) * (AXIS - 4 - TOP)).toFixed(1);
  const path = (part) => part.map(([t_s, value], i) => `${i ? "L" : "M"}${x(t_s)} ${y(value)}`).join("");
  const corners = steps.flatMap((step, i) => [
    [step.start_s, step.price_per_kwh],
    [i + 1 < steps.length ? steps[i + 1].start_s : to, step.price_per_kwh],
  ]);
  const now_s = Math.min(Math.max(view.now_s, from), to);
  const here = steps.findLast((step) => step.start_s <= now_s).price_per_kwh;
  const past = [...corners.filter(([t_s], i) => t_s < now_s || (t_s === now_s && i === 0)), [now_s, here]];
  const future = [[now_s, here], ...corners.filter(([t_s]) => t_s > now_s)];
  setAttr(svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
  setAttr(svg, "width", width);
  setAttr(svg, "height", HEIGHT);
  const sign = currencySign(view.money.currency);
  setAttr(svg, "aria-label", `Energy price today; now ${sign} ${fixed(here, 2)}, lowest ${fixed(low, 2)}, highest ${fixed(high, 2)} per kWh`);
  patch(svg, [
    ["rect", { x: 0, y: 0, width, height: HEIGHT, class: "hit" }],
    ["line", { x1: 0, x2: width, y1: AXIS, y2: AXIS, class: "axis" }],
    ["path", { d: path(past), class: "prp" }],
    ["path", { d: path(future), class: "pr" }],
    ["circle", { cx: x(now_s), cy: y(here), r: 4, class: "prd" }],
    ...hours(from, to, x, width),
    ...extremes(steps, to, low, high, x, y, width),
  ]);
}

function hours(from, to, x, width) {
  const shapes = [];
  for (let t_s = from; t_s <= to + 1; t_s += 3600) {
    const hour = Math.round(sinceMidnight(t_s) / 3600) % 24;
    if (hour % 6 !== 0) continue;
    const [first, last] = [x(t_s) < 10, x(t_s) > width - 10];
    const anchor = first ? "start" : last ? "end" : "middle";
    const name = last && hour === 0 ? "24" : String(hour).padStart(2, "0");
    shapes.push(["text", { x: x(t_s), y: HEIGHT - 3, "text-anchor": anchor }, name]);
  }
  return shapes;
}

/** The lowest and the highest price, written once each. */
function extremes(steps, to, low, high, x, y, width) {
  const places = high - low < 0.005 ? [high] : [low, high];
  return places.map((value) => {
    const first = steps.findIndex((step) => step.price_per_kwh === value);
    let last = first;
    while (last + 1 < steps.length && steps[last + 1].price_per_kwh === value) last += 1;
    const end = last + 1 < steps.length ? steps[last + 1].start_s : to;
    const middle = Math.min(Math.max((x(steps[first].start_s) + x(end)) / 2, 14), width - 14);
    return ["text", { x: middle, y: y(value) - 7, "text-anchor": "middle" }, fixed(value, 2)];
  });
}
