// Manual override of one EVSE: Charge now, Hold, Set power…, Limits, Auto.

import * as api from "./api.js";
import { el, setAttr, setText, show } from "./dom.js";
import { NB, digits, glue, percent } from "./format.js";

const MINUTES = [[15, "15\u00a0min"], [60, "1\u00a0h"], [240, "4\u00a0h"]];

/** Make the panel of one EVSE; update(vehicle) while its row is open. */
export function overridePanel(evse_id) {
  let vehicle = null;
  const force = el("p", { class: "force", hidden: true });
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const limits = el("p", { class: "limits-say", hidden: true });
  const minutes = el("select", { "aria-label": "For how long" }, ...MINUTES.map(([value, text]) => el("option", { value, selected: value === 60 }, text)));
  const say = (text) => {
    setText(error, text);
    show(error, Boolean(text));
  };
  const form = powerForm((power_kw) => send("power", power_kw), say);

  async function send(mode, power_kw) {
    say("");
    try {
      await api.override(evse_id, mode, power_kw, Number(minutes.value));
      form.close();
    } catch (refusal) {
      say(refusal.message);
    }
  }

  const button = (hook, text, run) => el("button", { type: "button", "data-test": `override-${hook}`, onclick: run }, text);
  const charge = button("charge", "Charge now", () => send("charge", null));
  const hold = button("hold", "Hold", () => send("hold", null));
  const power = button("power", "Set power…", () => form.toggle(vehicle));
  const limitsButton = button("limits", "Limits", () => {
    show(limits, limits.hidden);
    setAttr(limitsButton, "aria-expanded", String(!limits.hidden));
  });
  const auto = button("auto", "Auto", () => send("auto", null));
  const row = el("div", { class: "btns" }, charge, hold, power, limitsButton, auto, el("label", { class: "for" }, "for", minutes));
  const node = el("div", { class: "override" }, force, row, form.node, limits, error);
  return {
    node,
    update(next) {
      vehicle = next;
      show(force, next.override !== null);
      setText(force, next.override === null ? "" : `By hand: ${glue(next.override)}`);
      setAttr(auto, "aria-pressed", String(next.override === null));
      setText(limits, limitText(next));
    },
  };
}

function limitText(vehicle) {
  const give = vehicle.max_discharge_kw > 0 ? `gives up to ${digits(vehicle.max_discharge_kw)}${NB}kW` : "cannot give";
  return (
    `Charges up to ${digits(vehicle.max_charge_kw)}${NB}kW, ${give}. Never below ${percent(vehicle.floor_soc)}; ` +
    `used for the building between ${percent(vehicle.window_low_soc)} and ${percent(vehicle.window_high_soc)}.`
  );
}

/** The "Set power…" line: a number in kW, minus gives. */
function powerForm(submit, say) {
  const input = el("input", { type: "number", step: "0.1", inputmode: "decimal", "aria-label": "Power in kW; minus gives", "data-test": "power-input" });
  const hint = el("span", { class: "hint" });
  const node = el("form", { class: "power-form", hidden: true, novalidate: true }, el("span", { class: "field" }, input, el("i", {}, "kW")), el("button", { type: "submit", class: "primary" }, "Set"), hint);
  let range = [0, 0];
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    const value = input.valueAsNumber;
    if (!Number.isFinite(value) || value < range[0] || value > range[1])
      say(`Power: give a number from ${digits(range[0])} to ${digits(range[1])}${NB}kW; minus gives.`);
    else submit(value);
  });
  return {
    node,
    close: () => show(node, false),
    toggle(vehicle) {
      show(node, node.hidden);
      say("");
      if (node.hidden || !vehicle) return;
      range = [-Math.abs(vehicle.max_discharge_kw), vehicle.max_charge_kw];
      input.value = String(vehicle.setpoint_kw);
      setText(hint, range[0] < 0 ? `${digits(range[0])} to ${digits(range[1])}${NB}kW; minus gives` : `0 to ${digits(range[1])}${NB}kW`);
      input.focus();
      input.select();
    },
  };
}
