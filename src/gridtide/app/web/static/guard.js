// The guarded acts: emergency stop and clearing it. Press, then confirm within five seconds; and the limit editor.

import * as api from "./api.js";
import { byId, setText, show } from "./dom.js";
import { digits, kw } from "./format.js";

const CONFIRM_S = 5;
const DOUBLE_CLICK_MS = 350; // the second press must be meant

/** Set up the emergency stop; returns update(view). */
export function emergencyStop() {
  const [stop, clear, guard, confirm, cancel] = ["estop", "estop-clear", "estop-guard", "estop-confirm", "estop-cancel"].map(byId);
  let act = null;
  let opener = null;
  let timer = 0;
  let left = 0;

  function close() {
    clearInterval(timer);
    const back = guard.contains(document.activeElement);
    show(guard, false);
    act = null;
    if (back && opener) opener.focus();
  }

  function ask(from, question, word, run) {
    clearInterval(timer);
    opener = from;
    act = run;
    left = CONFIRM_S;
    setText(byId("guard-say"), question);
    show(byId("estop-error"), false);
    const count = () => setText(confirm, `${word} (${left})`);
    count();
    show(guard, true);
    confirm.disabled = true;
    setTimeout(() => {
      confirm.disabled = false;
      confirm.focus();
    }, DOUBLE_CLICK_MS);
    timer = setInterval(() => {
      left -= 1;
      if (left <= 0) close();
      else count();
    }, 1000);
  }

  async function confirmed() {
    clearInterval(timer);
    const run = act;
    if (!run) return;
    confirm.disabled = true;
    try {
      await run();
      close();
    } catch (error) {
      setText(byId("estop-error"), error.message);
      show(byId("estop-error"), true);
      confirm.disabled = false;
    }
  }

  const askClear = () => ask(clear, "Clear the emergency stop and let vehicles run again?", "Clear and resume", api.clearEstop);
  stop.addEventListener("click", () => {
    if (stop.dataset.latched) askClear();
    else ask(stop, "Stop all charging and giving now?", "Stop now", api.pressEstop);
  });
  clear.addEventListener("click", askClear);
  confirm.addEventListener("click", confirmed);
  cancel.addEventListener("click", close);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !guard.hidden) close();
  });
  return (view) => {
    if (view.estop) stop.dataset.latched = "yes";
    else delete stop.dataset.latched;
    setText(stop.querySelector("span"), view.estop ? "Stopped" : "Emergency stop");
    stop.setAttribute("aria-label", view.estop ? "Emergency stop is latched; clear it" : "Emergency stop");
    show(byId("latched"), view.estop);
  };
}

/** Set up the limit editor; returns update(view). */
export function limitEditor() {
  const [dialog, form, limit, buffer, error, save] = ["limits", "limit-form", "limit-input", "buffer-input", "limit-error", "limit-save"].map(byId);
  let view = null;
  const say = (text) => {
    setText(error, text);
    show(error, Boolean(text));
  };
  const open = () => {
    if (!view) return;
    limit.value = String(view.plan ? view.plan.own_limit_kw : view.limit_kw);
    buffer.value = String(view.buffer_kw);
    say("");
    hint();
    dialog.showModal();
    limit.select();
  };
  const planned = () => (view.plan && view.plan.made_s !== null ? ` The plan holds ${kw(view.limit_kw)} now; this limit holds without one.` : "");
  const hint = () => {
    const [top, spare] = [limit.valueAsNumber, buffer.valueAsNumber];
    const known = Number.isFinite(top) && Number.isFinite(spare) && top > spare;
    const aim = known ? ` Vehicles aim at ${kw(top - spare)}.` : "";
    setText(byId("limit-hint"), `No interval may average more than the limit; the buffer is kept free below it.${aim}${planned()}`);
  };
  const wrong = () => {
    if (!Number.isFinite(limit.valueAsNumber) || limit.valueAsNumber <= 0) return [limit, "Limit: give a power above 0 kW."];
    if (!Number.isFinite(buffer.valueAsNumber) || buffer.valueAsNumber < 0) return [buffer, "Buffer: give 0 kW or more."];
    if (buffer.valueAsNumber >= limit.valueAsNumber) return [buffer, `Buffer: must be below the limit of ${digits(limit.valueAsNumber)} kW.`];
    return null;
  };
  byId("mode").addEventListener("click", open);
  byId("limit-ph").addEventListener("click", open);
  byId("limit-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  form.addEventListener("input", hint);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = wrong();
    if (fault) {
      say(fault[1]);
      fault[0].focus();
      return;
    }
    save.disabled = true;
    try {
      await api.setPeak(limit.valueAsNumber, buffer.valueAsNumber);
      dialog.close();
    } catch (refusal) {
      say(refusal.message);
    } finally {
      save.disabled = false;
    }
  });
  return (next) => {
    view = next;
  };
}
