// The page's start: follows the site, hands each view to the parts, and says when the stream is silent.

import * as api from "./api.js";
import { powerChart } from "./chart.js";
import { demandClock } from "./clock.js";
import { byId, setText, show } from "./dom.js";
import { eventList } from "./events.js";
import { duration, kw, setZone } from "./format.js";
import { emergencyStop, limitEditor } from "./guard.js";
import { header } from "./header.js";
import { savings } from "./money.js";
import { planAhead } from "./plan.js";
import { priceAndGrid } from "./price.js";
import { vehicleList } from "./vehicles.js";

const STALE_S = 3;
const LOST_S = 15;

const chart = powerChart();
const parts = [header(), emergencyStop(), limitEditor(), demandClock(), chart.update, planAhead(), savings(), vehicleList(), priceAndGrid(), eventList()];
let view = null;
let heard = performance.now();
let waiting = false;

function render() {
  waiting = false;
  for (const part of parts) part(view);
  const { site_kw } = view.power;
  setText(byId("site-power"), site_kw === null ? "no data" : kw(site_kw));
}

function onView(next) {
  const first = view === null;
  view = next;
  heard = performance.now();
  setZone(next.timezone);
  chart.append(next);
  if (first) document.body.classList.remove("loading");
  freshness();
  if (!waiting) {
    waiting = true;
    requestAnimationFrame(render);
  }
}

/** Grey the page and say the age once nothing has come for a while. */
function freshness() {
  const age_s = (performance.now() - heard) / 1000;
  const stale = age_s > STALE_S;
  document.body.classList.toggle("stale", stale && view !== null);
  const notice = byId("stale");
  show(notice, stale);
  if (!stale) return;
  const what = view === null ? `No answer yet after ${duration(age_s)}.` : `These values are ${duration(age_s)} old.`;
  const meanwhile = age_s > LOST_S ? "The connection is lost; the site goes on by itself." : "Reconnecting; the site goes on by itself.";
  setText(notice.firstElementChild, `${what} ${meanwhile}`);
  setText(notice.lastElementChild, meanwhile);
}

document.addEventListener("gridtide-auth", () => {
  document.body.classList.add("locked");
  show(byId("auth"), true);
});

setInterval(freshness, 500);
api.follow({ onView, onOpen: () => chart.reload() });
