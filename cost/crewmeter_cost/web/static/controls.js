// The bar on top: boards, time range, refresh, theme; below it the filters.

import { ICONS, el, icon } from "./dom.js";
import { local, worded } from "./format.js";
import { get } from "./state.js";

const RANGES = [
  ["now-15m", "15 minutes"], ["now-1h", "1 hour"], ["now-3h", "3 hours"], ["now-6h", "6 hours"], ["now-24h", "24 hours"],
  ["now-7d", "7 days"], ["now-30d", "30 days"], ["now-90d", "90 days"],
];
const REFRESH = [["", "off"], ["10", "10 s"], ["60", "1 min"], ["300", "5 min"]];

function select(label, options, value, change) {
  const box = el("select", { "aria-label": label, onchange: (event) => change(event.target.value) });
  for (const [key, text] of options) box.append(el("option", { value: key, selected: key === value }, text));
  return el("label", { class: "field" }, el("span", {}, label), box);
}

/** Links to the boards and to the run list; the range and filters go with them. */
export function drawNav(nav, boards, state, link) {
  const entries = [...boards.map((board) => [board.id, board.title]), ["runs", "Runs"]];
  nav.replaceChildren(...entries.map(([id, title]) => {
    const here = state.view === id || (id === "runs" && (state.view === "run" || state.view === "compare"));
    const clear = { run: null, span: null, skip: null, where: null, search: null, status: null, order: null, a: null, b: null };
    return el("a", { href: link({ view: id, ...clear }), "data-go": true, "aria-current": here ? "page" : null }, title);
  }));
}

/** Range, refresh and theme. */
export function drawTools(tools, state, since, { change, reload }) {
  const from = state.from ?? since;
  const known = RANGES.some(([key]) => key === from) && !state.to;
  const ranges = known ? RANGES : [["custom", "selected range"], ...RANGES];
  const range = select("Time range", ranges, known ? from : "custom", (value) => value !== "custom" && change({ from: value, to: null, skip: null }));
  tools.replaceChildren(
    range,
    customRange(state, change),
    el("button", { type: "button", class: "tool", onclick: reload, "aria-label": "Refresh now", title: "Refresh now (r)" }, icon(ICONS.refresh)),
    el("button", { type: "button", class: "tool", onclick: () => document.dispatchEvent(new Event("theme")), "aria-label": "Light or dark", title: "Light or dark (t)" }, icon(ICONS.theme)),
  );
}

function customRange(state, change) {
  const value = (text) => {
    if (/^\d+$/.test(text ?? "")) return local(Number(text));
    return /^\d{4}-\d\d-\d\dT/.test(text ?? "") ? text : "";
  };
  const from = el("input", { type: "datetime-local", value: value(state.from), "aria-label": "From" });
  const to = el("input", { type: "datetime-local", value: value(state.to), "aria-label": "To" });
  const apply = () => {
    // The server reads a time without a zone in its own, as the command line does.
    if (from.value) change({ from: from.value, to: to.value || null, skip: null });
  };
  const box = el("div", { id: "range", popover: "auto", class: "menu" }, el("label", {}, "From", from), el("label", {}, "To", to), el("button", { type: "button", class: "primary", onclick: apply }, "Apply"));
  return el("span", {}, el("button", { type: "button", class: "tool text", popovertarget: "range" }, "From – to"), box);
}

/** Filters the board obeys, bucket, and the budget where it matters. */
export function drawFilters(bar, { names, filters, state, query, board, budget, buckets, change, runs }) {
  const parts = names.map((name) => picker(name, filters[name].label, state.filters[name], query, (values) => change({ filters: { ...state.filters, [name]: values }, skip: null })));
  if (runs) parts.push(...runs);
  if (board && !runs) parts.push(select("Bucket", buckets.map(([label, seconds]) => [seconds ? String(seconds) : "", label]), state.bucket ?? "", (value) => change({ bucket: value || null })));
  if (board?.budget) {
    const input = el("input", { type: "number", min: "0", step: "any", value: state.budget || budget || "", placeholder: "none", onchange: (event) => change({ budget: event.target.value }) });
    parts.push(el("label", { class: "field" }, el("span", {}, "Budget, USD a month"), input));
  }
  parts.push(el("span", { class: "push" }, select("Refresh", REFRESH, state.refresh ?? "", (value) => change({ refresh: value || null }))));
  const set = names.some((name) => state.filters[name].length > 0);
  if (set) parts.splice(names.length, 0, el("button", { type: "button", class: "tool text", onclick: () => change({ filters: Object.fromEntries(Object.keys(state.filters).map((name) => [name, []])), skip: null }) }, "Clear filters"));
  bar.replaceChildren(...parts);
}

function picker(name, label, chosen, query, change) {
  const id = `pick-${name}`;
  const said = chosen.length === 0 ? "all" : chosen.length === 1 ? worded(name, chosen[0]) : `${chosen.length} selected`;
  const menu = el("div", { id, popover: "auto", class: "menu" }, el("p", { class: "note" }, "Loading …"));
  const button = el("button", { type: "button", class: chosen.length ? "pick set" : "pick", popovertarget: id, "data-filter": name }, el("span", {}, label), el("b", {}, said), icon(ICONS.down));
  menu.addEventListener("toggle", async (event) => {
    if (event.newState !== "open") return;
    const box = button.getBoundingClientRect();
    menu.style.setProperty("left", `${Math.min(box.left, innerWidth - 300)}px`);
    menu.style.setProperty("top", `${box.bottom + 4}px`);
    try {
      const { values } = await get(`api/filters/${name}`, query);
      menu.replaceChildren(choices(name, label, [...new Set([...chosen, ...values])], chosen, change));
      menu.querySelector("input")?.focus();
    } catch (error) {
      menu.replaceChildren(el("p", { class: "failed" }, error.message));
    }
  });
  return el("span", {}, button, menu);
}

function choices(name, label, values, chosen, change) {
  const list = el("div", { class: "choices" });
  for (const value of values) {
    const box = el("input", { type: "checkbox", value, checked: chosen.includes(value) });
    list.append(el("label", {}, box, el("span", {}, worded(name, value))));
  }
  if (values.length === 0) list.append(el("p", { class: "note" }, "Nothing in this range."));
  const picked = () => [...list.querySelectorAll("input:checked")].map((box) => box.value);
  const search = el("input", { type: "search", placeholder: `Find ${label.toLowerCase()}`, "aria-label": `Find ${label.toLowerCase()}`, oninput: (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const entry of list.children) entry.hidden = !entry.textContent.toLowerCase().includes(wanted);
  } });
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); change(picked()); } }, values.length > 8 ? search : null, list);
  form.append(el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Apply"), el("button", { type: "button", class: "tool text", onclick: () => change([]) }, "All")));
  return form;
}

export { select };
