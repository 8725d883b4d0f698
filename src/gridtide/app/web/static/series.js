// The power chart's memory: fetched once per window, then each update appended; bounded.

const KEPT = 900; // points of a window, about
const MOST = 4000; // whatever the server sends, never more than this

export const DAY_S = 86400;

/** How far a window reaches back from the running interval's end, s. */
export function reach(window, interval_s) {
  if (window === "day") return DAY_S;
  return interval_s * (Math.max(1, Math.round(3600 / interval_s)) + 1);
}

/** The points, gaps and interval averages of one window. */
export class Series {
  points = [];
  gaps = [];
  intervals = new Map();
  #bucket = null;
  #silentSince = null;

  /** Take the history as the server sent it. */
  load(power) {
    this.points = power.points.slice(-MOST);
    this.gaps = [...power.gaps];
    this.intervals = new Map(power.intervals.map((interval) => [interval.start_s, interval]));
    this.#bucket = null;
  }

  /** Add a live point; returns whether a silence just ended (the history then knows better why). */
  append(view, window) {
    const length = view.demand.end_s - view.demand.start_s;
    const from = view.demand.end_s - reach(window, length);
    const { t_s } = view.power;
    const last = this.points[this.points.length - 1];
    for (const interval of view.intervals) this.intervals.set(interval.start_s, interval);
    const ended = this.#silence(view.power, last);
    if (!last || t_s > last.t_s) this.#put(view.power, reach(window, length) / KEPT);
    this.#forget(from);
    return ended;
  }

  /** Points within a step of each other are one point, their mean. */
  #put(point, step_s) {
    const bucket = this.#bucket;
    const joins = bucket && point.site_kw !== null && bucket.point.site_kw !== null && point.t_s - bucket.start_s < step_s;
    if (!joins) {
      this.#bucket = { start_s: point.t_s, count: 1, point: { ...point } };
      this.points.push(this.#bucket.point);
      return;
    }
    const weight = bucket.count / (bucket.count + 1);
    const mean = (old, now) => (old === null || now === null ? now : old * weight + now * (1 - weight));
    bucket.count += 1;
    bucket.point.t_s = point.t_s;
    bucket.point.site_kw = mean(bucket.point.site_kw, point.site_kw);
    bucket.point.building_kw = mean(bucket.point.building_kw, point.building_kw);
  }

  #silence(point, last) {
    if (point.site_kw !== null) {
      const ended = this.#silentSince !== null;
      this.#silentSince = null;
      return ended;
    }
    if (this.#silentSince === null) {
      this.#silentSince = last ? last.t_s : point.t_s;
      this.gaps.push({ start_s: this.#silentSince, end_s: point.t_s, why: "meter silent" });
    }
    this.gaps[this.gaps.length - 1].end_s = point.t_s;
    return false;
  }

  #forget(from) {
    let old = 0;
    while (old < this.points.length && this.points[old].t_s < from) old += 1;
    old = Math.max(old, this.points.length - MOST);
    if (old > 0) this.points.splice(0, old);
    this.gaps = this.gaps.filter((gap) => gap.end_s > from);
    for (const start_s of this.intervals.keys()) if (start_s < from - 1) this.intervals.delete(start_s);
  }

  /** The known point nearest an instant. */
  nearest(t_s) {
    let best = null;
    for (const point of this.points) if (!best || Math.abs(point.t_s - t_s) < Math.abs(best.t_s - t_s)) best = point;
    return best;
  }
}
