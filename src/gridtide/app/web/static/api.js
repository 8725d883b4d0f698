// The page's only way to the program: read, write, and the stream of views.

const ROOT = "/api/v1";
const SILENCE_MS = 10000; // a connection this long without a view is opened afresh
const RETRY_MS = 1500;

/** A refused or failed request; `message` is fit to be shown, `status` 0 when nobody answered. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options) {
  let reply;
  try {
    reply = await fetch(ROOT + path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new ApiError(0, "gridtide does not answer. Nothing was changed; try again.");
  }
  const text = await reply.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = null; // an intermediary's page, say; the status tells enough
  }
  if (reply.ok) return body;
  if (reply.status === 401) document.dispatchEvent(new CustomEvent("gridtide-auth"));
  throw new ApiError(reply.status, (body && body.detail) || `gridtide refused this (${reply.status}).`);
}

export const getView = () => request("/view");
export const getPlan = () => request("/plan");
export const getPower = (window) => request(`/power?window=${window}`);

function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-Gridtide": "1" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
}

export const setPeak = (limit_kw, buffer_kw) => post("/peak", { limit_kw, buffer_kw });
export const pressEstop = () => post("/estop", {});
export const clearEstop = () => post("/estop/clear", {});
export const markSeen = (id) => post(`/events/${id}/seen`, {});
export const override = (evse_id, mode, power_kw, minutes) =>
  post(`/evses/${encodeURIComponent(evse_id)}/override`, { mode, power_kw, minutes });

/**
 * Follow the site: `onView(view)` for each update, `onOpen()` at each (re)connection.
 * Reconnects by itself; a 401 ends it (the `gridtide-auth` event is sent then).
 */
export function follow({ onView, onOpen }) {
  let source = null;
  let heard = performance.now();
  let stopped = false;

  function open() {
    if (stopped) return;
    if (source) source.close();
    heard = performance.now();
    source = new EventSource(`${ROOT}/stream`);
    source.addEventListener("open", onOpen);
    source.addEventListener("view", (event) => {
      heard = performance.now();
      onView(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) retry();
    });
  }

  async function retry() {
    try {
      onView(await getView());
    } catch (error) {
      if (error.status === 401) {
        stopped = true;
        return;
      }
    }
    setTimeout(open, RETRY_MS);
  }

  setInterval(() => {
    if (!stopped && performance.now() - heard > SILENCE_MS) open();
  }, 1000);
  open();
}
