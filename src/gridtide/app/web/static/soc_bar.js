// The charge bar: paler below the floor, window bracket beneath, departure target above, what is missing as a tint.

import { el, icon, setAttr, setStyle, show } from "./dom.js";

const TRIANGLE = "M1 1H11L6 9Z";

/** Make a bar; `update(vehicle)` moves its parts. Widths are shares of the whole, so they move in place. */
export function socBar() {
  const [low, high, need, bracket] = ["lo", "hi", "need", "win"].map((name) => el("i", { class: name }));
  const target = el("i", { class: "target" }, icon("", "0 0 12 10", 11, TRIANGLE), el("i", { class: "stem" }));
  const track = el("i", { class: "trackbar" }, low, high, need);
  const node = el("span", { class: "br", "aria-hidden": "true" }, track, bracket, target);
  const place = (part, from, to) => {
    show(part, to > from);
    setStyle(part, "left", `${(from * 100).toFixed(2)}%`);
    setStyle(part, "width", `${(Math.max(0, to - from) * 100).toFixed(2)}%`);
  };
  return {
    node,
    update(vehicle) {
      const { soc, floor_soc: floor, target_soc: goal } = vehicle;
      const known = soc !== null && vehicle.state !== "empty";
      setAttr(track, "class", `trackbar${known ? "" : vehicle.state === "empty" ? " bare" : " hatched"}`);
      place(low, 0, known ? Math.min(soc, floor) : 0);
      low.classList.toggle("whole", known && soc <= floor);
      place(high, floor, known ? soc : 0);
      place(need, known ? soc : 0, known && goal !== null ? goal : 0);
      place(bracket, vehicle.window_low_soc, known ? vehicle.window_high_soc : 0);
      show(target, known && goal !== null);
      if (goal === null) return;
      setStyle(target, "left", `${(goal * 100).toFixed(2)}%`);
      setAttr(target, "class", `target ${soc !== null && soc >= goal - 0.005 ? "reached" : "ahead"}`);
    },
  };
}
