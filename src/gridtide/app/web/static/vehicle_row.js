// One vehicle's row: charge, bar, power, departure, reason; it opens to its path, detail and override.

import { el, icon, setAttr, setText, show } from "./dom.js";
import { NB, digits, duration, glue, percent, time, zone } from "./format.js";
import { overridePanel } from "./override.js";
import { pathChart } from "./path_chart.js";
import { socBar } from "./soc_bar.js";

const LOOK = { charging: "in", giving: "out", waiting: "wait", resting: "rest", silent: "quiet", empty: "empty" };
const ARROW = { charging: "M6 1.5V10M2.5 6.8 6 10.3 9.5 6.8", giving: "M6 10.5V2M2.5 5.2 6 1.7 9.5 5.2" };
const MARK = { met: "M1.5 6.5 4.6 9.5 10.5 2.5", on_track: "M1.5 6.5 4.6 9.5 10.5 2.5", at_risk: "M6 1.2 11.2 10.6H.8zM6 4.8V7.2M6 8.9V9" };
const MARK_WORD = { met: "reached:", on_track: "on track:", at_risk: "at risk:", unknown: "not known:" };
const DEAD_KW = 0.05;

/** Make the row of one EVSE. */
export function vehicleRow(evse_id) {
  const cells = {
    bay: el("b"),
    name: el("small"),
    soc: el("span", { class: "pc", "data-test": "vehicle-soc" }),
    power: el("b", { "data-test": "vehicle-power" }),
    word: el("small"),
    leaves: el("b"),
    met: el("small"),
    why: el("span", { class: "why", "data-test": "vehicle-reason" }),
    detail: el("p"),
  };
  const bar = socBar();
  const path = pathChart();
  const panel = overridePanel(evse_id);
  const summary = el(
    "summary",
    {},
    el("span", { class: "nm" }, cells.bay, cells.name),
    cells.soc,
    bar.node,
    el("span", { class: "pw" }, cells.power, cells.word),
    el("span", { class: "lv" }, cells.leaves, cells.met),
    cells.why,
  );
  const more = el("div", { class: "more" }, path.node, el("div", { class: "txt" }, cells.detail, panel.node));
  const node = el("details", { "data-test": "vehicle-row", "data-evse": evse_id }, summary, more);
  let last = null;
  const open = () => {
    if (!node.open || !last) return;
    const [vehicle, view] = last;
    setText(cells.detail, glue(vehicle.detail || vehicle.reason));
    path.update(vehicle, view.now_s);
    panel.update(vehicle);
  };
  node.addEventListener("toggle", open);
  return {
    node,
    update(vehicle, view) {
      last = [vehicle, view];
      setAttr(node, "class", `v ${LOOK[vehicle.state]}`);
      setAttr(node, "data-state", vehicle.state);
      identity(cells, vehicle);
      bar.update(vehicle);
      power(cells, vehicle);
      departure(cells, vehicle);
      setText(cells.why, glue(vehicle.reason));
      open();
    },
  };
}

function identity(cells, vehicle) {
  setText(cells.bay, glue(vehicle.bay));
  setText(cells.name, vehicle.name);
  const known = vehicle.soc !== null;
  const empty = vehicle.state === "empty";
  if (!cells.soc.firstChild) cells.soc.append(el("span"), el("i"));
  setText(cells.soc.firstChild, known ? String(Math.round(vehicle.soc * 100)) : "");
  setText(cells.soc.lastChild, known ? `${NB}%` : empty ? "" : "unknown");
  setAttr(cells.soc, "title", known ? `Charge ${percent(vehicle.soc)}` : null);
}

function power(cells, vehicle) {
  const { state, power_kw, setpoint_kw } = vehicle;
  const moving = power_kw !== null && Math.abs(power_kw) >= DEAD_KW && state !== "silent";
  const key = moving && ARROW[state] ? state : "none";
  if (cells.power.dataset.arrow !== key) {
    cells.power.dataset.arrow = key;
    cells.power.replaceChildren(...(key === "none" ? [] : [icon("ic", "0 0 12 12", 12, ARROW[state])]), el("span"), el("span", { class: "u" }));
  }
  const [number, unit] = [...cells.power.children].slice(-2);
  if (state === "empty") {
    setText(number, "");
    setText(unit, "");
  } else if (state === "silent" || power_kw === null) {
    setText(number, "no data");
    setText(unit, "");
  } else {
    setText(number, moving ? digits(Math.abs(power_kw)) : "0");
    setText(unit, `${NB}kW`);
  }
  number.classList.toggle("z", !moving);
  unit.classList.toggle("z", !moving);
  setText(cells.word, state);
  const asked = `asked: ${digits(setpoint_kw)}${NB}kW`;
  const silence = vehicle.silent_s === null ? "" : `; last word ${duration(vehicle.silent_s)} ago`;
  setAttr(cells.power.parentElement, "title", state === "empty" ? null : asked + silence);
}

function departure(cells, vehicle) {
  const known = vehicle.departs_s !== null;
  setText(cells.leaves, known ? time(vehicle.departs_s) : vehicle.state === "empty" ? "" : "–");
  setAttr(cells.leaves, "title", known ? zone(vehicle.departs_s) : null);
  setAttr(cells.leaves, "class", known ? null : "z");
  const note = vehicle.departure_note;
  show(cells.met, note !== "");
  if (cells.met.dataset.mark !== vehicle.departure) {
    cells.met.dataset.mark = vehicle.departure;
    const sign = MARK[vehicle.departure] ? icon("ck", "0 0 12 12", 11, MARK[vehicle.departure]) : el("span", { class: "q", "aria-hidden": "true" }, "?");
    cells.met.replaceChildren(sign, el("span", { class: "vh-text" }, `${MARK_WORD[vehicle.departure]} `), el("span"));
    setAttr(cells.met, "class", vehicle.departure);
  }
  setText(cells.met.lastChild, glue(note));
}
