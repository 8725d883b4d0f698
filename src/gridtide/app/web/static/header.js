// The header: site, time, links, mode; the sentence and its state below it.

import { byId, el, patch, setAttr, setText, show } from "./dom.js";
import { capital, date, glue, timeSeconds, zone } from "./format.js";

const LINK_WORD = { ok: "ok", part: "partly", lost: "lost", off: "not set up" };

/** What the site does while a link is lost, by the link's name. */
const MEANWHILE = {
  meter: "Nothing is given back while the meter is silent, and charging stays low.",
  stations: "Power is kept free in case silent vehicles charge.",
  price: "The last known prices are used.",
  operator: "The failsafe limit holds.",
};

/** A shape for each state, drawn in 12 by 12. */
const SHAPES = {
  fine: [["circle", { cx: 6, cy: 6, r: 5.5, class: "fill" }], ["path", { d: "M3.4 6.2 5.3 8 8.7 4.3", class: "cut" }]],
  using: [["circle", { cx: 6, cy: 6, r: 5, class: "line" }], ["path", { d: "M1 6a5 5 0 0 0 10 0z", class: "fill" }]],
  over: [["path", { d: "M6 .8 11.6 11H.4z", class: "fill" }], ["path", { d: "M6 4.4V7.4M6 9.2V9.3", class: "cut" }]],
  safe: [["rect", { x: 1, y: 1, width: 10, height: 10, rx: 2, class: "line" }], ["path", { d: "M4.5 4V8M7.5 4V8", class: "line" }]],
  estop: [["path", { d: "M3.6.5h4.8l3.1 3.1v4.8l-3.1 3.1H3.6L.5 8.4V3.6z", class: "fill" }], ["path", { d: "M3.5 6H8.5", class: "cut" }]],
  waiting: [["circle", { cx: 6, cy: 6, r: 5, class: "line dash" }]],
};

/** Set up the header; returns update(view). */
export function header() {
  byId("theme").addEventListener("click", () => window.gridtideTheme.toggle());
  patch(byId("state-shape"), SHAPES.waiting);
  return (view) => {
    setText(byId("site"), view.site);
    setText(byId("when"), `${date(view.now_s)}, ${timeSeconds(view.now_s)}`);
    setAttr(byId("when"), "title", zone(view.now_s));
    setAttr(byId("when"), "datetime", new Date(view.now_s * 1000).toISOString());
    show(byId("speed"), view.speed !== 1);
    setText(byId("speed"), `demo, ${Number(view.speed.toPrecision(view.speed < 10 ? 2 : 3))}×`);
    show(byId("mode"), true);
    show(byId("limit-ph"), true);
    setText(byId("mode"), modeName(view.mode));
    links(view.links);
    say(view);
    document.title = `${Math.round(view.demand.projected_kw)} of ${Math.round(view.limit_kw)} kW · ${view.site}`;
  };
}

const modeName = (mode) => (/^(budget|manual)$/.test(mode) ? `${capital(mode)} mode` : capital(mode));

function links(all) {
  const list = byId("links");
  while (list.children.length > all.length) list.lastChild.remove();
  while (list.children.length < all.length)
    list.append(el("li", { "data-test": "link" }, el("i", { class: "d", "aria-hidden": "true" }), el("b"), el("span", { class: "x" }), el("span", { class: "vh-text" })));
  all.forEach((link, index) => {
    const item = list.children[index];
    const [, name, note, word] = item.children;
    setAttr(item, "class", link.state);
    setAttr(item, "data-name", link.name);
    setAttr(item, "title", `${capital(link.name)}: ${LINK_WORD[link.state]}${link.note ? `, ${link.note}` : ""}`);
    setText(name, capital(link.name));
    setText(note, glue(link.note || (link.state === "lost" || link.state === "off" ? LINK_WORD[link.state] : "")));
    setText(word, LINK_WORD[link.state]);
  });
}

function say(view) {
  const state = byId("state");
  if (state.dataset.state !== view.state) {
    state.dataset.state = view.state;
    document.body.dataset.state = view.state;
    patch(byId("state-shape"), SHAPES[view.state] || SHAPES.waiting);
  }
  setText(byId("state-word"), view.state_word);
  setText(byId("sentence"), glue(view.sentence));
  setText(byId("subline"), glue(view.subline));
  const lost = view.links.filter((link) => link.state === "lost");
  const list = byId("meanwhile");
  show(list, lost.length > 0);
  const lines = lost.map((link) => {
    const doing = MEANWHILE[link.name.toLowerCase()] || "The site goes on without it.";
    return `${capital(link.name)} lost. ${doing}`;
  });
  if (list.dataset.lines !== lines.join("|")) {
    list.dataset.lines = lines.join("|");
    list.replaceChildren(...lines.map((line) => el("li", {}, line)));
  }
}
