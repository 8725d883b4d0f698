// Where words stand on the power chart: at the line ends on a wide one, beside the lines on a phone.

const STEEP = 52; // px: where a line climbs more than this along a label, the label would float

/** Push labels {at, height} apart downwards, then back up from the bottom; returns each one's top. */
export function stack(items, top, bottom) {
  const order = items.map((item, index) => ({ index, height: item.height, top: item.at - item.height / 2 })).sort((a, b) => a.top - b.top);
  let edge = top;
  for (const item of order) {
    item.top = Math.max(item.top, edge);
    edge = item.top + item.height;
  }
  edge = bottom;
  for (const item of order.toReversed()) {
    item.top = Math.min(item.top, edge - item.height);
    edge = item.top;
  }
  const tops = [];
  for (const item of order) tops[item.index] = item.top;
  return tops;
}

/** The widest place between the lines, per sign, for the words "giving" and "charging"; sticks to where it was. */
export function areaLabel(runs, sign, wide, high, memory) {
  const key = sign > 0 ? "charging" : "giving";
  let best = null;
  let kept = null;
  for (const run of runs) {
    for (let i = 0; i < run.length; i += 3) {
      const room = roomAt(run, i, wide / 2, sign);
      if (!room) continue;
      const thick = room.bottom - room.top;
      const place = { x: run[i].x, y: (room.top + room.bottom) / 2, thick, t_s: run[i].t_s };
      if (!best || thick > best.thick) best = place;
      if (memory[key] && Math.abs(place.t_s - memory[key]) <= 30 && (!kept || Math.abs(place.t_s - memory[key]) < Math.abs(kept.t_s - memory[key]))) kept = place;
    }
  }
  const chosen = kept && best && kept.thick > 0.7 * best.thick ? kept : best;
  if (!chosen || chosen.thick < high) {
    memory[key] = null;
    return null;
  }
  memory[key] = chosen.t_s;
  return chosen;
}

/** The band free between both lines around run[i], or null if they cross there. */
function roomAt(run, i, half, sign) {
  let [top, bottom] = [-Infinity, Infinity];
  const reach = (step) => {
    let j = i;
    for (; j >= 0 && j < run.length && Math.abs(run[j].x - run[i].x) <= half; j += step) {
      const { ys, yb } = run[j];
      if ((yb - ys) * sign < 0) return false;
      top = Math.max(top, Math.min(ys, yb));
      bottom = Math.min(bottom, Math.max(ys, yb));
    }
    return j >= 0 && j < run.length;
  };
  return reach(-1) && reach(1) && bottom > top ? { top, bottom } : null;
}

/** Beside a line, going left from `from`: a place of wide x high that touches neither line nor a taken box. */
export function besideLine(points, key, wide, high, bounds, taken, prefer) {
  const other = key === "ys" ? "yb" : "ys";
  for (let right = bounds.right; right - wide >= bounds.left; right -= 8) {
    const under = points.filter((point) => point.x >= right - wide - 2 && point.x <= right + 2 && point[key] !== null);
    if (!under.length) continue;
    const own = under.map((point) => point[key]);
    if (Math.max(...own) - Math.min(...own) > STEEP) continue;
    const tries = { above: Math.min(...own) - 8 - high, below: Math.max(...own) + 8 };
    for (const side of prefer) {
      const box = [right - wide, tries[side], right, tries[side] + high];
      const crossed = under.some((point) => point[other] !== null && point[other] > box[1] - 3 && point[other] < box[3] + 3);
      if (!crossed && box[1] >= bounds.top && box[3] <= bounds.bottom && !taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) return box;
    }
  }
  return null;
}
