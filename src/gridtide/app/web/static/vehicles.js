// The vehicle list: filters with counts, keyed rows in the server's order, and the scale named once.

import { byId, el, setAttr, setStyle, setText, show } from "./dom.js";
import { NB } from "./format.js";
import { vehicleRow } from "./vehicle_row.js";

const STATES = ["giving", "charging", "waiting", "resting", "silent", "empty"];
const SETTLE_MS = 8000; // rows do not change places under a pointer for at most this long

/** Set up the vehicle section; returns update(view). */
export function vehicleList() {
  const list = byId("rows");
  const rows = new Map();
  const chips = filterChips();
  let view = null;
  let busySince = null;
  list.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") busySince = performance.now();
  });
  list.addEventListener("pointerleave", () => {
    busySince = null;
  });

  function render() {
    const wanted = view.vehicles;
    const ids = new Set(wanted.map((vehicle) => vehicle.evse_id));
    for (const [id, row] of rows)
      if (!ids.has(id)) {
        row.node.remove();
        rows.delete(id);
      }
    let added = false;
    for (const vehicle of wanted) {
      if (!rows.has(vehicle.evse_id)) {
        rows.set(vehicle.evse_id, vehicleRow(vehicle.evse_id));
        added = true;
      }
      const row = rows.get(vehicle.evse_id);
      row.update(vehicle, view);
      show(row.node, chips.chosen() === null || vehicle.state === chips.chosen());
    }
    const resting = busySince !== null && performance.now() - busySince < SETTLE_MS;
    if (added || !resting) order(list, wanted.map((vehicle) => rows.get(vehicle.evse_id).node));
    chips.update(wanted);
    nothing(wanted, chips.chosen());
    scale(wanted);
  }
  chips.onChange(() => view && render());
  return (next) => {
    view = next;
    render();
  };
}

/** Bring the rows into order; what moved glides there, and the focus stays where it was. */
function order(list, wanted) {
  if (wanted.every((node, index) => list.children[index] === node)) return;
  const before = new Map(wanted.filter((node) => node.isConnected).map((node) => [node, node.getBoundingClientRect().top]));
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  wanted.forEach((node, index) => {
    const here = list.children[index];
    if (here === node) return;
    if (list.moveBefore && node.isConnected) list.moveBefore(node, here || null);
    else list.insertBefore(node, here || null);
  });
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const [node, top] of before) {
    const moved = top - node.getBoundingClientRect().top;
    if (Math.abs(moved) > 1) node.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 320, easing: "ease-out" });
  }
}

function nothing(vehicles, chosen) {
  const empty = chosen ? !vehicles.some((vehicle) => vehicle.state === chosen) : vehicles.length === 0;
  show(byId("no-rows"), empty);
  setText(byId("no-rows"), chosen ? `No vehicle is ${chosen} now.` : "No station has reported yet. Point a station at this program's address and its bay appears here.");
  show(byId("cols"), vehicles.length > 0);
  show(byId("key"), vehicles.length > 0);
}

function filterChips() {
  const box = byId("chips");
  let chosen = null;
  let changed = () => {};
  const buttons = [null, ...STATES].map((state) => {
    const button = el("button", { type: "button", "data-filter": state || "all" });
    button.addEventListener("click", () => {
      chosen = state;
      changed();
    });
    box.append(button);
    return [state, button];
  });
  return {
    chosen: () => chosen,
    onChange(call) {
      changed = call;
    },
    update(vehicles) {
      show(box, vehicles.length > 0);
      for (const [state, button] of buttons) {
        const count = state ? vehicles.filter((vehicle) => vehicle.state === state).length : vehicles.length;
        const name = state ? state.charAt(0).toUpperCase() + state.slice(1) : "All";
        setText(button, `${name}${NB}${count}`);
        setAttr(button, "aria-pressed", String(chosen === state));
        show(button, count > 0 || chosen === state || state === null);
      }
    },
  };
}

/** Name floor and window at the column's head, where most vehicles have them. */
function scale(vehicles) {
  const box = byId("scale");
  if (!vehicles.length) return;
  const most = (key) => {
    const counts = new Map();
    for (const vehicle of vehicles) counts.set(vehicle[key], (counts.get(vehicle[key]) || 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1])[0][0];
  };
  const [floor, low, high] = ["floor_soc", "window_low_soc", "window_high_soc"].map((key) => Math.round(most(key) * 100));
  if (!box.children.length) box.append(...["0", "", "", "100"].map((text) => el("i", {}, text)));
  const [, floorMark, windowMark] = box.children;
  setText(floorMark, `floor ${floor}`);
  setStyle(floorMark, "left", `${floor}%`);
  setText(windowMark, `window ${low}${NB}–${NB}${high}`);
  setStyle(windowMark, "left", `${low}%`);
  setStyle(windowMark, "width", `${high - low}%`);
}
