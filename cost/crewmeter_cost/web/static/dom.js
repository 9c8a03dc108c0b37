// Elements from data. Text always goes in as text: there is no innerHTML on this page.

/** An element with attributes, listeners (`onclick`) and children; strings become text nodes, null is skipped. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

/** An amount with a star behind it where calls without a price are missing from it, or it holds bounds and estimates. The star hangs beside the column. */
export function starred(text, unpriced, inexact = 0) {
  const missing = unpriced === 1 ? "1 call without a price is not included" : `${unpriced} calls without a price are not included`;
  const why = unpriced ? missing : "with bounds and estimates";
  return unpriced || inexact ? [text, el("span", { class: "star", title: why }, "*")] : [text];
}

/** What the star says; nothing where no amount has one. */
export function starNote(unpriced, inexact = false) {
  if (inexact) return el("p", { class: "note starnote" }, "* not exact: without calls that have no price, or with bounds and estimates");
  return unpriced ? el("p", { class: "note starnote" }, "* without calls that have no price") : null;
}

/** A custom property or style through the CSSOM, which the content security policy allows. */
export function styled(node, properties) {
  for (const [name, value] of Object.entries(properties)) node.style.setProperty(name, value);
  return node;
}

/** The value of a CSS custom property in the current theme. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const SVG = "http://www.w3.org/2000/svg";

/** A line icon from path data. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export const ICONS = {
  info: "M8 7.2v4M8 4.8v.4M8 14.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z",
  refresh: "M13.5 8a5.5 5.5 0 1 1-1.7-4M13.5 1.8v3h-3",
  theme: "M8 1.5v13a6.5 6.5 0 0 0 0-13zM8 14.5a6.5 6.5 0 0 1 0-13",
  download: "M8 2v8M4.8 7L8 10.2 11.2 7M2.5 13.5h11",
  link: "M6.5 9.5l3-3M7 4.5l1.6-1.6a3 3 0 0 1 4.3 4.3L11.4 8.800M9 11.500l-1.600 1.600a3 3 0 0 1-4.300-4.300L4.600 7.200",
  down: "M4 6l4 4 4-4",
  right: "M6 4l4 4-4 4",
};
