// Numbers, times and texts as the page writes them. Times are in the site's zone; a unit never parts from its number.

export const NB = "\u00a0";
const MINUS = "\u2212";
let zoneName = "UTC";
let formats = new Map();

/** Use the site's time zone (IANA name) from here on. */
export function setZone(name) {
  if (name === zoneName) return;
  zoneName = name;
  formats = new Map();
}

function parts(key, options) {
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zoneName, ...options }));
  return formats.get(key);
}

const hm = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

/** "14:22" of epoch seconds. */
export const time = (t_s) => parts("hm", hm).format(t_s * 1000);

/** "14:22:12". */
export const timeSeconds = (t_s) => parts("hms", { ...hm, second: "2-digit" }).format(t_s * 1000);

/** "Tue 16 June". */
export const date = (t_s) =>
  parts("date", { weekday: "short", day: "numeric", month: "long" }).format(t_s * 1000).replace(",", "");

/** "Tue". */
export const weekday = (t_s) => parts("weekday", { weekday: "short" }).format(t_s * 1000);

/** "Europe/Amsterdam, UTC+2", for the hover. */
export function zone(t_s) {
  const found = parts("zone", { timeZoneName: "shortOffset" }).formatToParts(t_s * 1000);
  const offset = found.find((part) => part.type === "timeZoneName");
  return `${zoneName}, ${offset ? offset.value.replace("GMT", "UTC") : ""}`;
}

/** Seconds since local midnight. */
export function sinceMidnight(t_s) {
  const [hours, minutes, seconds] = timeSeconds(t_s).split(":").map(Number);
  return hours * 3600 + minutes * 60 + seconds;
}

/** A number with `digits` decimals, grouped by thin spaces, with a true minus. */
export function fixed(value, digits) {
  const text = Math.abs(value).toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))/g, digits > 0 ? "" : "\u202f");
  return (value < 0 && Number(text.replace("\u202f", "")) !== 0 ? MINUS : "") + text;
}

/** Two to three significant digits: 439, 11.0, 6.4. */
export const digits = (value) => fixed(value, Math.abs(value) >= 99.95 || value === 0 ? 0 : 1);

export const kw = (value) => `${digits(value)}${NB}kW`;
export const kwh = (value) => `${digits(value)}${NB}kWh`;
export const percent = (share) => `${Math.round(share * 100)}${NB}%`;

/** "41 s", "7 min 48 s", "2 h 5 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h) return m ? `${h}${NB}h ${m}${NB}min` : `${h}${NB}h`;
  if (m) return s ? `${m}${NB}min ${s}${NB}s` : `${m}${NB}min`;
  return `${s}${NB}s`;
}

/** The sign of a currency code: "€". */
export function currencySign(code) {
  try {
    const found = new Intl.NumberFormat("en", { style: "currency", currency: code, currencyDisplay: "narrowSymbol" });
    return found.formatToParts(0).find((part) => part.type === "currency").value;
  } catch {
    return code; // not a currency code: show what was sent
  }
}

/** "€ 11.90". */
export const money = (amount, code, decimals = 2) =>
  `${amount < 0 ? MINUS + NB : ""}${currencySign(code)}${NB}${fixed(Math.abs(amount), decimals)}`;

/** "− 24": a signed amount with the sign standing apart. */
export function amount(value, decimals) {
  const text = fixed(Math.abs(value), decimals);
  return (value < 0 && Number(text.replace("\u202f", "")) !== 0 ? MINUS + NB : "") + text;
}

const UNITS = "kWh|kW|kVA|A|V|Hz|min|ms|s|h|%|°C|€|K";
const numberThenUnit = new RegExp(`(\\d) (?=(?:${UNITS})(?![A-Za-z]))`, "g");

/** Glue units, money and bay numbers of a text from the server to what they belong to. */
export const glue = (text) =>
  text.replace(numberThenUnit, `$1${NB}`).replace(/([€$£]) (?=\d)/g, `$1${NB}`).replace(/\b(Bay|Van|at|to) (?=\d)/g, `$1${NB}`);

/** First letter large. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
