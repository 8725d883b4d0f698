// Places on a dial: shares of a turn, clockwise from twelve o'clock. `g` is {cx, cy, ...} in pixels.

export const TAU = 2 * Math.PI;

/** The point at a share of a turn, clockwise from twelve. */
export function at(g, share, radius) {
  const angle = share * TAU;
  return [+(g.cx + radius * Math.sin(angle)).toFixed(2), +(g.cy - radius * Math.cos(angle)).toFixed(2)];
}

/** A line along the radius. */
export function radial(g, share, from, to, className) {
  const [[x1, y1], [x2, y2]] = [at(g, share, from), at(g, share, to)];
  return ["line", { x1, y1, x2, y2, class: className }];
}

/** The path of an arc between two shares. */
export function arc(g, radius, from, to) {
  const sweep = Math.min(Math.abs(to - from), 0.9999);
  const [start, end] = [Math.min(from, to), Math.min(from, to) + sweep];
  const [[x1, y1], [x2, y2]] = [at(g, start, radius), at(g, end, radius)];
  return `M${x1} ${y1}A${radius} ${radius} 0 ${sweep > 0.5 ? 1 : 0} 1 ${x2} ${y2}`;
}
