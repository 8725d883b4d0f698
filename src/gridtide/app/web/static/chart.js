// The power chart: window, live points, hover; the drawing itself is in chart_scene.js.

import * as api from "./api.js";
import { drawScene } from "./chart_scene.js";
import { byId, el, onWidth, patch, setAttr, setStyle, setText, show } from "./dom.js";
import { digits, kw, time, timeSeconds } from "./format.js";
import { Series } from "./series.js";

const SPEAK_MS = 30000;
const RELOAD_MS = 5000;

/** Set up the chart; returns {update, append, reload}. */
export function powerChart() {
  const [svg, plot, tip] = ["chart-svg", "plot", "tip"].map(byId);
  const series = new Series();
  const memory = {}; // where labels and the axis were, so that they do not jump
  const reader = el("dl");
  tip.append(reader);
  let [view, window_, width, hover_s, spokenAt, loadedAt] = [null, "hour", 0, null, -SPEAK_MS, -RELOAD_MS];
  let scene = null;

  function draw() {
    if (!view || width < 240) return; // not laid out yet
    scene = drawScene({ view, series, window: window_, width, hover_s, memory });
    setAttr(svg, "viewBox", `0 0 ${width} ${scene.height}`);
    setAttr(svg, "width", width);
    setAttr(svg, "height", scene.height);
    patch(svg, scene.shapes);
    readOut(tip, reader, scene.reading, view, width, window_);
    if (performance.now() - spokenAt < SPEAK_MS) return;
    spokenAt = performance.now();
    setAttr(svg, "aria-label", spoken(view, scene));
  }

  async function reload() {
    const asked = window_;
    loadedAt = performance.now();
    try {
      const power = await api.getPower(asked);
      if (asked !== window_) return;
      series.load(power);
      plot.classList.remove("loading");
      draw();
    } catch (error) {
      if (error.status !== 401) console.warn(`power history: ${error.message}`); // live points go on; the next reconnect asks again
    }
  }

  onWidth(plot, (now) => {
    width = now;
    draw();
  });
  windowButtons((chosen) => {
    window_ = chosen;
    series.load({ points: [], gaps: [], intervals: [] });
    for (const key of Object.keys(memory)) delete memory[key];
    plot.classList.add("loading");
    hover_s = null;
    reload();
  });
  reading(plot, svg, () => scene, (t_s) => {
    hover_s = t_s;
    draw();
  });
  return {
    reload,
    append(next) {
      const ended = series.append(next, window_);
      if (ended && performance.now() - loadedAt > RELOAD_MS) reload();
    },
    update(next) {
      view = next;
      draw();
    },
  };
}

function spoken(view, scene) {
  const { site_kw, building_kw } = view.power;
  const said = (value) => (value === null ? "an unknown power" : kw(value));
  return `Power from ${time(scene.from)} to ${time(scene.to)}. The building alone draws ${said(building_kw)}; with the vehicles the site draws ${said(site_kw)}; the limit is ${kw(view.demand.limit_kw)}.`;
}

function windowButtons(choose) {
  const buttons = [...document.querySelectorAll("[data-window]")];
  for (const button of buttons)
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-pressed") === "true") return;
      for (const other of buttons) setAttr(other, "aria-pressed", String(other === button));
      choose(button.dataset.window);
    });
}

/** Pointer and arrow keys choose an instant; Escape and leaving end it. */
function reading(plot, svg, scene, choose) {
  let at_s = null;
  const go = (t_s) => {
    at_s = t_s;
    choose(t_s);
  };
  const point = (event) => {
    const now = scene();
    if (!now) return;
    const t_s = now.instant(event.clientX - svg.getBoundingClientRect().left);
    go(t_s >= now.from && t_s <= now.now_s ? t_s : null);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", () => go(null));
  plot.addEventListener("blur", () => go(null));
  plot.addEventListener("keydown", (event) => {
    const now = scene();
    if (!now) return;
    const step = (now.to - now.from) / 75;
    const moves = { ArrowLeft: -step, ArrowRight: step, PageUp: -10 * step, PageDown: 10 * step };
    if (event.key === "Escape") go(null);
    else if (event.key === "Home") go(now.from);
    else if (event.key === "End") go(now.now_s);
    else if (event.key in moves) go(Math.min(now.now_s, Math.max(now.from, (at_s === null ? now.now_s : at_s) + moves[event.key])));
    else return;
    event.preventDefault();
  });
}

function readOut(tip, reader, found, view, width, window_) {
  show(tip, found !== null);
  if (!found) return;
  const { point, gap, interval } = found;
  const known = point && point.site_kw !== null && !gap;
  const both = known && point.building_kw !== null;
  const vehicles = both ? point.site_kw - point.building_kw : 0;
  const lines = [
    ["", window_ === "day" ? time(found.t_s) : timeSeconds(found.t_s), "head"],
    gap && ["No values", gap.why, ""],
    known && ["Site", kw(point.site_kw), "site"],
    both && ["Building alone", kw(point.building_kw), ""],
    both && [vehicles > 0.5 ? "Vehicles charging" : vehicles < -0.5 ? "Vehicles giving" : "Vehicles", kw(Math.abs(vehicles)), vehicles > 0.5 ? "in" : vehicles < -0.5 ? "out" : ""],
    ["Limit", kw(view.demand.limit_kw), "red"],
    interval && [`Average ${time(interval.start_s)} – ${time(interval.end_s)}`, `${digits(interval.average_kw)}\u00a0kW`, ""],
  ].filter(Boolean);
  while (reader.children.length > lines.length) reader.lastChild.remove();
  while (reader.children.length < lines.length) reader.append(el("div", {}, el("dt"), el("dd")));
  lines.forEach(([name, value, look], index) => {
    const line = reader.children[index];
    setAttr(line, "class", look || null);
    setText(line.firstChild, name);
    setText(line.lastChild, value);
  });
  const right = found.x < width / 2;
  const room = tip.offsetWidth + 16;
  setStyle(tip, "left", `${Math.round(Math.max(0, Math.min(right ? found.x + 16 : found.x - room, width - tip.offsetWidth)))}px`);
  setStyle(tip, "top", `${found.y}px`);
}
