// The driver's page: the present stay, and what the driver needs of it. The secret after # stays in this browser's address.

import { byId, el, patch, setAttr, setText, show } from "./dom.js";
import { NB, digits, duration, fixed, glue, kw, percent, setZone, sinceMidnight, time, weekday } from "./format.js";
import { socBar } from "./soc_bar.js";

const EVERY_MS = 3000;
const DAY_S = 86400;
const SHAPES = {
  charging: [["path", { d: "M6 0 12 7H8v5H4V7H0z", class: "fill" }]],
  giving: [["path", { d: "M6 12 0 5h4V0h4v5h4z", class: "fill" }]],
  waiting: [["circle", { cx: 6, cy: 6, r: 5, class: "line dash" }]],
  resting: [["circle", { cx: 6, cy: 6, r: 5, class: "line" }]],
  silent: [["path", { d: "M6 0 12 12H0z", class: "fill" }]],
  stopped: [["path", { d: "M3.5.5h5l3 3v5l-3 3h-5l-3-3v-5z", class: "fill" }]],
  empty: [["circle", { cx: 6, cy: 6, r: 5, class: "line dash" }]],
};
const WORDS = {
  charging: "Charging", giving: "Giving", waiting: "Waiting", resting: "Resting", silent: "No word from the station",
  stopped: "Stopped", empty: "Not connected",
};

const TONES = { charging: "in", giving: "out", waiting: "wait" };

const secret = location.hash.slice(1);
const bar = socBar();
const touched = new Set();
let latest = null;
let ended = false;
let heard = performance.now();

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(body) {
  const headers = { "X-Driver-Link": secret };
  const options = { cache: "no-store", credentials: "omit", headers };
  if (body) Object.assign(options, { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) });
  let reply;
  try {
    reply = await fetch("/api/v1/driver", options);
  } catch {
    throw new Refusal(0, "The site does not answer. Nothing was changed; try again.");
  }
  const text = await reply.text();
  let told = null;
  try {
    told = JSON.parse(text);
  } catch {
    told = null; // an intermediary's page; the status tells enough
  }
  if (reply.ok && told) return told;
  throw new Refusal(reply.status, (told && told.detail) || `The site refused this (${reply.status}).`);
}

// --- what is shown ---------------------------------------------------------------------------------------------------
function sentence(view) {
  if (!view.connected) return "No car is connected with your card.";
  if (view.stopped) return "The site's emergency stop is pressed.";
  const leaves = view.departs_s === null ? null : when(view.departs_s, view.now_s);
  if (view.departure === "met") return leaves ? `Ready for ${leaves}.` : "Your car is ready.";
  if (view.departure === "on_track") return `On track: ready by ${leaves}, when you leave.`;
  if (view.departure === "at_risk") {
    const ready = view.ready_s === null ? null : when(view.ready_s, view.now_s);
    return ready ? `It needs until ${ready}; you leave at ${leaves}.` : `It will not be full by ${leaves}.`;
  }
  if (view.missing_kwh !== null && view.missing_kwh > 0.05 && view.ready_s !== null) {
    const soonest = when(view.ready_s, view.now_s);
    return `${digits(view.missing_kwh)}${NB}kWh to go: ready at ${soonest} at the earliest.`;
  }
  if (view.missing_kwh !== null) return "It has the energy you asked for.";
  return view.power_kw > 0.1 ? "Your car is charging." : "Your car is connected.";
}

/** "17:30", with the weekday when it is another day. */
function when(t_s, now_s) {
  const sameDay = weekday(t_s) === weekday(now_s) && t_s - now_s < DAY_S;
  return sameDay ? time(t_s) : `${weekday(t_s)} ${time(t_s)}`;
}

function draw(view) {
  latest = view;
  heard = performance.now();
  setZone(view.timezone);
  document.body.classList.remove("loading");
  setText(byId("site"), view.site);
  setText(byId("bay"), view.bay);
  const state = view.stopped ? "stopped" : view.state;
  setAttr(byId("state"), "data-state", state);
  patch(byId("shape"), SHAPES[state] || SHAPES.empty);
  setText(byId("word"), WORDS[state] || "Connected");
  setText(byId("sentence"), sentence(view));
  setText(byId("reason"), view.connected ? glue(view.reason) : "Plug it in and present the card; this page then shows it.");
  show(byId("now"), view.connected);
  show(byId("wishes"), view.connected);
  if (!view.connected) return;
  drawCharge(view);
  drawForm(view);
}

function drawCharge(view) {
  const known = view.soc !== null;
  const figure = byId("figure");
  figure.replaceChildren(
    known ? String(Math.round(view.soc * 100)) : fixed(view.energy_kwh || 0, 1),
    el("i", {}, known ? "%" : "kWh taken"),
  );
  setText(byId("goal"), known && view.target_soc !== null ? `${percent(view.target_soc)} asked for` : known ? "" : "charge not known");
  show(byId("bar"), known);
  setAttr(byId("bar"), "class", TONES[view.state] || "rest");
  const minimum = view.minimum_soc === null ? 0 : view.minimum_soc;
  bar.update({ soc: view.soc, floor_soc: minimum, target_soc: view.target_soc, window_low_soc: 0, window_high_soc: 0, state: view.state });
  const left = view.departs_s === null ? "" : view.departs_s > view.now_s ? `in ${duration(Math.round((view.departs_s - view.now_s) / 60) * 60)}` : "overdue";
  const facts = [
    ["Power", view.power_kw === null ? "–" : kw(Math.abs(view.power_kw)), view.power_kw > 0.1 ? "into the car" : view.power_kw < -0.1 ? "out of it" : ""],
    ["Taken so far", view.energy_kwh === null ? "–" : `${digits(view.energy_kwh)}${NB}kWh`, ""],
    ["You leave", view.departs_s === null ? "–" : when(view.departs_s, view.now_s), left],
  ];
  byId("facts").replaceChildren(
    ...facts.map(([name, value, note]) => el("div", {}, el("dt", {}, name), el("dd", {}, value, note ? el("small", {}, note) : null))),
  );
}

function drawForm(view) {
  show(byId("minimum-row"), view.soc !== null);
  show(byId("battery-row"), view.battery_offered);
  if (!touched.has("leaves")) byId("leaves").value = view.departs_s === null ? "" : time(view.departs_s);
  if (!touched.has("minimum")) byId("minimum").value = view.minimum_soc === null ? "" : Math.round(view.minimum_soc * 100);
  if (!touched.has("battery")) byId("battery").checked = !view.battery_used;
  if (!touched.has("energy")) byId("energy").placeholder = view.missing_kwh === null ? "" : fixed(view.missing_kwh, 1);
  const chosen = leavesAt();
  setText(byId("leaves-day"), chosen === null ? "" : dayOf(chosen, view.now_s));
}

function dayOf(t_s, now_s) {
  return sinceMidnight(now_s) + (t_s - now_s) < DAY_S ? "today" : "tomorrow";
}

/** The next instant at which the site's clock shows what the field says; null while it is empty. */
function leavesAt() {
  const [hours, minutes] = byId("leaves").value.split(":").map(Number);
  if (!latest || !Number.isFinite(hours) || !Number.isFinite(minutes)) return null;
  const since = hours * 3600 + minutes * 60 - sinceMidnight(latest.now_s);
  const next = latest.now_s + (since > 60 ? since : since + DAY_S);
  const whole = Math.round(next / 60) * 60;
  const wanted = byId("leaves").value.slice(0, 5);
  return [0, 3600, -3600].map((shift) => whole + shift).find((t_s) => time(t_s) === wanted) ?? whole; // clocks change at night
}

// --- what the driver says --------------------------------------------------------------------------------------------
function wish() {
  const said = {};
  const leaves = leavesAt();
  if (touched.has("leaves") && leaves !== null) said.departs_at_s = leaves;
  if (touched.has("energy") && byId("energy").value !== "") said.energy_kwh = Number(byId("energy").value);
  if (touched.has("minimum") && byId("minimum").value !== "") said.minimum_soc = Number(byId("minimum").value) / 100;
  if (touched.has("battery")) said.may_discharge = !byId("battery").checked;
  return said;
}

async function save(event) {
  event.preventDefault();
  const said = wish();
  if (!Object.keys(said).length) return;
  byId("save").disabled = true;
  fail("");
  try {
    const view = await ask(said);
    touched.clear();
    byId("energy").value = "";
    draw(view);
    setText(byId("saved"), `Saved at ${time(view.now_s)}.`);
  } catch (error) {
    byId("save").disabled = false;
    if (error.status === 404) end();
    else fail(error.message);
  }
}

function fail(text) {
  setText(byId("error"), text);
  show(byId("error"), text !== "");
}

function end() {
  ended = true;
  document.body.classList.remove("loading");
  document.body.classList.add("ended");
  for (const name of ["now", "wishes", "stale"]) show(byId(name), false);
  patch(byId("shape"), SHAPES.empty);
  setAttr(byId("state"), "data-state", "empty");
  setText(byId("word"), "Link ended");
  setText(byId("sentence"), secret ? "This link is not valid any more." : "This page needs the link you were given.");
  setText(byId("reason"), secret ? "Its stay has ended, or it was withdrawn. Ask for a new one." : "Scan the code again, or open the whole address.");
}

async function poll() {
  if (ended) return;
  try {
    const view = await ask();
    show(byId("stale"), false);
    draw(view);
  } catch (error) {
    if (error.status === 404) return end();
    const age = Math.round((performance.now() - heard) / 1000);
    setText(byId("stale"), `No answer for ${duration(age)}. Your car goes on as planned; this page tries again.`);
    show(byId("stale"), true);
  }
  setTimeout(poll, EVERY_MS);
}

for (const name of ["leaves", "energy", "minimum", "battery"])
  byId(name).addEventListener("input", () => {
    touched.add(name);
    byId("save").disabled = false;
    setText(byId("saved"), "");
    const chosen = leavesAt();
    if (latest) setText(byId("leaves-day"), chosen === null ? "" : dayOf(chosen, latest.now_s));
  });
byId("bar").append(bar.node);
byId("form").addEventListener("submit", save);
byId("theme").addEventListener("click", () => window.gridtideTheme.toggle());
window.addEventListener("hashchange", () => location.reload());
if (secret) poll();
else end();
