// The few DOM moves of the page: everything is updated in place, so focus, selection and open rows survive.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Make an HTML element; `attrs` are attributes, except `on*` functions and `class`. */
export function el(tag, attrs = {}, ...kids) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...kids.filter((kid) => kid !== null && kid !== undefined));
  return node;
}

/** Make an SVG icon from one path. */
export function icon(className, viewBox, size, path) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ class: className, viewBox, width: size, height: size, "aria-hidden": "true" }))
    svg.setAttribute(name, value);
  patch(svg, [["path", { d: path }]]);
  return svg;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Set one CSS property (through the CSSOM, which the content policy allows). */
export function setStyle(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

/**
 * Bring the children of an SVG element to `shapes`, touching only what differs.
 * A shape is [tag, attributes, text or shapes]; false and null are skipped.
 */
export function patch(parent, shapes) {
  let node = parent.firstChild;
  for (const shape of shapes) {
    if (!shape) continue;
    const [tag, attrs, content] = shape;
    if (!node || node.nodeName !== tag) {
      const fresh = document.createElementNS(SVG, tag);
      if (node) parent.replaceChild(fresh, node);
      else parent.appendChild(fresh);
      node = fresh;
    }
    patchAttributes(node, attrs);
    if (Array.isArray(content)) patch(node, content);
    else setText(node, content === undefined ? "" : String(content));
    node = node.nextSibling;
  }
  while (node) {
    const next = node.nextSibling;
    node.remove();
    node = next;
  }
}

function patchAttributes(node, attrs) {
  const old = node.shapeAttributes || {};
  for (const name of Object.keys(old)) if (!(name in attrs)) node.removeAttribute(name);
  for (const [name, value] of Object.entries(attrs)) if (old[name] !== value) node.setAttribute(name, value);
  node.shapeAttributes = attrs;
}

/** Tell `draw(width)` the width of an element now and whenever it changes. */
export function onWidth(node, draw) {
  new ResizeObserver((entries) => {
    const width = Math.round(entries[entries.length - 1].contentRect.width);
    if (width > 0) draw(width);
  }).observe(node);
}
