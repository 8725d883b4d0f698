// The plan: the peak to hold and until when, the day ahead, what the next kW is worth, and what cannot be met.

import * as api from "./api.js";
import { byId, el, onWidth, patch, setAttr, setText, show } from "./dom.js";
import { duration, glue, kw, money, time, weekday } from "./format.js";
import { drawPlan } from "./plan_chart.js";

const OLD_S = 4500; // plans are made anew at least each hour
const RETRY_MS = 5000;

/** Set up the plan section; returns update(view). It is absent where the site does not plan ahead. */
export function planAhead() {
  const [section, svg, plot, read] = ["plan", "plan-svg", "plan-plot", "plan-read"].map(byId);
  let [view, plan, width, chosen, asking] = [null, null, 0, null, false];
  let scene = null;

  function redraw() {
    const there = Boolean(view && view.plan);
    show(section, there);
    if (!there) return;
    if (view.plan.made_s !== null && (!plan || plan.made_s !== view.plan.made_s)) fetchPlan();
    const known = plan !== null && view.plan.made_s !== null;
    show(plot, known);
    show(read, known);
    write(view, known ? plan : null);
    if (!known || width < 200) return;
    scene = drawPlan({ plan, now_s: view.now_s, width, chosen });
    setAttr(svg, "viewBox", `0 0 ${width} ${scene.height}`);
    setAttr(svg, "width", width);
    setAttr(svg, "height", scene.height);
    setAttr(svg, "aria-label", spoken(plan));
    patch(svg, scene.shapes);
    readOut(read, plan.steps[chosen ?? stepAt(plan, view.now_s)] || null, chosen === null);
  }

  async function fetchPlan() {
    if (asking) return;
    asking = true;
    try {
      plan = await api.getPlan();
      chosen = null;
      redraw();
      asking = false;
    } catch (error) {
      if (error.status !== 401) console.warn(`plan: ${error.message}`); // the next view after a while asks again
      setTimeout(() => (asking = false), RETRY_MS);
    }
  }

  const choose = (step) => {
    chosen = step;
    redraw();
  };
  onWidth(plot.parentElement, (now) => {
    width = now;
    redraw();
  });
  svg.addEventListener("pointermove", (event) => {
    if (scene) choose(scene.stepAt(event.clientX - svg.getBoundingClientRect().left));
  });
  svg.addEventListener("pointerleave", () => choose(null));
  plot.addEventListener("blur", () => choose(null));
  plot.addEventListener("keydown", (event) => {
    if (!plan || !view) return;
    const at = chosen ?? Math.max(0, stepAt(plan, view.now_s));
    const last = plan.steps.length - 1;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last };
    if (event.key === "Escape") choose(null);
    else if (event.key in moves) choose(Math.min(last, Math.max(0, moves[event.key])));
    else return;
    event.preventDefault();
  });
  return (next) => {
    view = next;
    redraw();
  };
}

/** The step that holds an instant; -1 outside the plan. */
const stepAt = (plan, t_s) => plan.steps.findIndex((step) => step.start_s <= t_s && t_s < step.end_s);

function write(view, plan) {
  const own = kw(view.plan.own_limit_kw);
  const at = plan ? stepAt(plan, view.now_s) : -1;
  const ended = plan !== null && at < 0 && view.now_s >= plan.steps[plan.steps.length - 1].end_s;
  const age_s = plan ? view.now_s - plan.made_s : 0;
  const old = plan !== null && (ended || age_s > OLD_S);
  byId("plan").classList.toggle("aged", old);
  setText(byId("plan-made"), plan ? `made ${day(plan.made_s, view.now_s)}${time(plan.made_s)}` : "");
  setText(byId("plan-say"), !plan ? "The first plan is being made." : ended ? `The last plan is over: the site holds its own limit of ${own}.` : held(plan, Math.max(at, 0), view.now_s));
  setText(byId("plan-note"), note(plan, own, old, ended, age_s));
  list(view, plan && !ended ? plan.missed : null);
}

/** The sentence: the target now and until when it holds. */
function held(plan, at, now_s) {
  const steps = plan.steps;
  const target = steps[at].target_kw;
  let last = at;
  while (last + 1 < steps.length && same(steps[last + 1].target_kw, target)) last += 1;
  const until = `until ${when(steps[last].end_s, now_s)}`;
  if (target !== null) return `Plans to hold ${kw(target)} ${until}.`;
  const next = steps[last + 1];
  return `No peak counts ${until}${next ? `; then ${kw(next.target_kw)} is to be held` : ""}.`;
}

const same = (a, b) => (a === null || b === null ? a === b : Math.abs(a - b) < 0.05);

/** "today" is not said, another day is. */
const day = (t_s, now_s) => (weekday(t_s) === weekday(now_s) && Math.abs(t_s - now_s) < 86400 ? "" : `${weekday(t_s)} `);
const when = (t_s, now_s) => (time(t_s) === "00:00" && t_s - now_s < 86400 ? "midnight" : `${day(t_s, now_s)}${time(t_s)}`);

function note(plan, own, old, ended, age_s) {
  if (!plan) return `It needs a quarter hour of the building's load. Until then the site holds its own limit of ${own}.`;
  if (ended) return "A new one could not be made; it is tried again each minute.";
  if (old) return `It is ${duration(Math.floor(age_s / 60) * 60)} old: a new one could not be made. It is tried again each minute.`;
  if (plan.value_per_kw < 0.005) return "One kW more of peak would save nothing.";
  return `One kW more of peak would save ${money(plan.value_per_kw, plan.currency)}.`;
}

function list(view, missed) {
  const calm = missed !== null && missed.length === 0;
  show(byId("plan-calm"), calm);
  const items = byId("plan-missed");
  show(items, Boolean(missed && missed.length));
  const all = missed || [];
  while (items.children.length > all.length) items.lastChild.remove();
  while (items.children.length < all.length) items.append(el("li"));
  all.forEach((item, index) => setText(items.children[index], `${glue(named(view, item))}.`));
}

/** A finding in words, with the bay by the name the page gives it. */
function named(view, { who, words }) {
  const row = view.vehicles.find((vehicle) => vehicle.evse_id === who);
  return row && words.startsWith(who) ? row.bay + words.slice(who.length) : words;
}

function readOut(line, step, isNow) {
  if (!step) {
    setText(line, "");
    return;
  }
  const add = step.vehicles_kw;
  const doing = add > 0.5 ? `vehicles charge ${kw(add)}` : add < -0.5 ? `vehicles give ${kw(-add)}` : "vehicles rest";
  const span = isNow ? "Now" : `${time(step.start_s)} to ${time(step.end_s)}`;
  setText(line, `${span}: expected load ${kw(step.load_kw)}, planned for up to ${kw(step.load_high_kw)}; ${doing}.`);
}

function spoken(plan) {
  const { steps } = plan;
  const top = steps.reduce((best, step) => (step.load_kw > best.load_kw ? step : best));
  const most = Math.max(...steps.map((step) => step.load_kw + step.vehicles_kw));
  return `The plan from ${time(steps[0].start_s)} to ${time(steps[steps.length - 1].end_s)}. The load is expected to be highest at ${time(top.start_s)}, with ${kw(top.load_kw)}; with the vehicles it reaches ${kw(most)}.`;
}
