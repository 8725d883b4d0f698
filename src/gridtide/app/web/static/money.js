// What the fleet earned this period.

import { byId, el, setText, show } from "./dom.js";
import { NB, amount, currencySign, digits, fixed, glue, money } from "./format.js";

/** Set up the money section; returns update(view). */
export function savings() {
  const huge = byId("saved");
  huge.replaceChildren(el("i"), el("span"));
  const body = byId("money-lines").tBodies[0];
  return ({ money: account }) => {
    const decimals = Math.abs(account.saved) >= 100 ? 0 : 2;
    setText(byId("hm"), `Saved in ${account.period}`);
    setText(huge.firstChild, `${currencySign(account.currency)}${NB}`);
    setText(huge.lastChild, amount(account.saved, decimals));
    lines(body, account.lines, decimals);
    const known = Number.isFinite(account.next_kw_price) && account.next_kw_price > 0;
    const next = byId("next");
    show(next, known);
    if (!known) return;
    if (!next.firstChild) next.append(document.createTextNode(""), el("b"), ".");
    setText(next.childNodes[0], `The next kW above ${digits(account.next_kw_above_kw)} would cost `);
    setText(next.childNodes[1], money(account.next_kw_price, account.currency));
  };
}

function lines(body, all, decimals) {
  while (body.rows.length > all.length) body.deleteRow(-1);
  while (body.rows.length < all.length)
    body.append(el("tr", {}, el("td", {}, el("span"), el("small")), el("td")));
  all.forEach((line, index) => {
    const [name, value] = body.rows[index].cells;
    setText(name.firstChild, line.label);
    setText(name.lastChild, glue(line.note));
    show(name.lastChild, line.note !== "");
    setText(value, Math.abs(line.amount) < 0.005 ? fixed(0, decimals) : amount(line.amount, decimals));
  });
}
