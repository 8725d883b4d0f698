// Events, newest first: cause and cure in one line, seen or not.

import * as api from "./api.js";
import { byId, el, setAttr, setText, show } from "./dom.js";
import { date, glue, time, weekday, zone } from "./format.js";

const SHOWN = 12;
const SIGN = { info: "", warning: "Warning: ", alarm: "Alarm: " };
const SHAPE = { info: "", warning: "▲", alarm: "■" };

/** What happened, and for a fault its cause and its cure, each once. */
function sentences({ text, cause, cure, severity }) {
  const more = severity === "info" ? [] : [cause && `Cause: ${cause}`, cure];
  return more.reduce((words, part) => (part && !words.includes(part.replace("Cause: ", "")) ? `${words} ${part}`.trim() : words), text);
}

/** Set up the event list; returns update(view). */
export function eventList() {
  const list = byId("event-list");
  const rows = new Map();
  return ({ events, now_s }) => {
    const fresh = events.filter((event) => !event.seen).length;
    setText(byId("new-events"), fresh ? `${fresh} new` : "");
    show(byId("no-events"), events.length === 0);
    const shown = events.slice(0, SHOWN);
    const keep = new Set(shown.map((event) => event.id));
    for (const [id, row] of rows)
      if (!keep.has(id)) {
        row.node.remove();
        rows.delete(id);
      }
    shown.forEach((event, index) => {
      if (!rows.has(event.id)) rows.set(event.id, eventRow());
      const row = rows.get(event.id);
      row.update(event, now_s);
      if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] || null);
    });
  };
}

function eventRow() {
  const [when, sign, spoken, title, times, text, code] = [el("time"), el("i", { "aria-hidden": "true" }), el("span", { class: "vh-text" }), el("b"), el("span"), el("span"), el("code")];
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const button = el("button", { type: "button" }, "Seen");
  const node = el("li", { "data-test": "event-row" }, when, el("div", {}, sign, spoken, title, times, text, " ", code, error), button);
  let current = null;
  button.addEventListener("click", async () => {
    button.disabled = true;
    show(error, false);
    try {
      await api.markSeen(current.id);
    } catch (refusal) {
      setText(error, refusal.message);
      show(error, true);
    } finally {
      button.disabled = false;
    }
  });
  return {
    node,
    update(event, now_s) {
      current = event;
      const today = date(event.at_s) === date(now_s);
      setText(when, today ? time(event.at_s) : `${weekday(event.at_s)} ${time(event.at_s)}`);
      setAttr(when, "title", `${date(event.at_s)}, ${zone(event.at_s)}`);
      setAttr(node, "class", `${event.severity} ${event.seen ? "seen" : "new"}`);
      setText(sign, event.seen ? "" : SHAPE[event.severity]);
      setText(spoken, SIGN[event.severity]);
      setText(title, glue(/[.!?:]$/.test(event.title) ? event.title : `${event.title}.`));
      setText(times, event.count > 1 ? ` ${event.count} times.` : "");
      const words = sentences(event);
      setText(text, words ? ` ${glue(words)}` : "");
      setText(code, event.code);
      show(code, event.code !== "");
      setText(button, event.clearable ? "Acknowledge" : "Seen");
      setAttr(button, "aria-label", `${event.clearable ? "Acknowledge" : "Mark as seen"}: ${event.title}`);
      show(button, !event.seen);
    },
  };
}
