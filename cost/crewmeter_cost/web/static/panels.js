// One panel of a board: its frame, its answer, and how each kind is drawn.

import { drawTime } from "./charts.js";
import { ICONS, el, icon, starNote, starred, styled } from "./dom.js";
import { format, money, stepColor, worded, zoneName } from "./format.js";
import { get } from "./state.js";

let serial = 0;

/** The frame of a panel; `load(context)` fills it. */
export function panelFrame(id, panel, cell) {
  const about = `about-${++serial}`;
  const body = el("div", { class: `body ${panel.kind}` }, el("div", { class: "skeleton", "aria-hidden": "true" }));
  const card = el("article", { class: "panel", "aria-labelledby": `${about}-title`, "data-panel": id });
  const actions = el("span", { class: "actions" });
  const info = el("button", { type: "button", class: "quiet", popovertarget: about, "aria-label": `About ${panel.title}` }, icon(ICONS.info));
  actions.append(info);
  const text = panel.description.split("\n\n").map((part) => el("p", {}, part));
  card.append(
    el("header", {}, el("h3", { id: `${about}-title`, title: panel.zone_beside_title ? `${panel.title} ${zoneName()}` : null }, panel.title, panel.zone_beside_title ? el("span", { class: "note" }, ` ${zoneName()}`) : null), actions),
    body,
    el("div", { id: about, popover: "auto", class: "about" }, el("h4", {}, panel.title), ...text),
  );
  styled(card, { "--w": cell.w, "--h": cell.h });
  return { id, panel, card, body, actions, load: (context) => load({ id, panel, body, card, actions }, context) };
}

/** What an empty panel says: all of it, or the first sentence where a tile has no room for more. */
function emptyText(panel) {
  return panel.kind === "stat" ? panel.empty.replace(/\. .*$/s, ".") : panel.empty;
}

async function load(frame, context) {
  const { id, panel, body, card, actions } = frame;
  card.setAttribute("aria-busy", "true");
  try {
    const answer = await get(`api/panels/${encodeURIComponent(id)}`, context.query);
    if (context.stale()) return;
    if (isEmpty(answer)) body.replaceChildren(el("p", { class: "empty" }, emptyText(panel)));
    else DRAW[panel.kind](body, panel, answer, context);
    card.dataset.milliseconds = answer.milliseconds;
    offerDownload(actions, id, panel, answer);
  } catch (error) {
    if (context.stale()) return;
    context.fail(error.message);
    body.replaceChildren(el("p", { class: "empty" }, "Not loaded."));
  } finally {
    card.removeAttribute("aria-busy");
  }
}

function isEmpty(answer) {
  const time = answer.columns.indexOf("time");
  return answer.rows.every((row) => row.every((value, position) => value === null || position === time));
}

const DRAW = { stat, lines: time, stack: time, bars, table };

function time(body, panel, answer, context) {
  const behind = (names, span) => context.behind(panel, answer, names, span);
  const { range, bucket } = answer;
  drawTime(body, panel, answer, { colors: context.colors, range, bucket, behind, go: context.go });
}

function stat(body, panel, answer, context) {
  const row = answer.rows[0] ?? [];
  const parts = answer.columns.map((name, position) => {
    const column = panel.columns.find((each) => each.name === name);
    const value = row[position];
    const number = el("strong", {}, format(column?.unit ?? panel.unit, value, panel.decimals));
    const color = stepColor(panel.steps, value);
    const part = el("a", { class: "number", href: context.behind(panel, answer), "data-go": true, title: "Runs behind this" }, number, answer.columns.length > 1 ? el("span", {}, column?.title ?? name) : null);
    if (color) {
      styled(part, { "--mark": color });
      part.classList.add("marked");
    }
    return part;
  });
  body.replaceChildren(...parts);
}

function bars(body, panel, answer, context) {
  const longest = Math.max(...answer.rows.map((row) => row[1] ?? 0), 0);
  const list = el("ol", { class: "ranking", tabindex: "0", "aria-label": panel.title });
  for (const [name, value] of answer.rows) {
    const bar = styled(el("i", { class: "bar" }), { "--share": longest ? Math.max(value ?? 0, 0) / longest : 0 });
    const href = context.behind(panel, answer, { [answer.columns[0]]: name });
    const text = String(worded(answer.columns[0], name));
    const label = el("a", { class: "name", href, "data-go": true, title: `Runs of ${text}` }, text);
    list.append(el("li", { onclick: follow }, label, el("span", { class: "track" }, bar), el("b", {}, format(panel.unit, value))));
  }
  body.replaceChildren(list);
}

/** A click anywhere on a row or a bar follows its link to the runs, unless something else was clicked. */
function follow(event) {
  if (event.target.closest("a, button") || String(getSelection())) return;
  event.currentTarget.querySelector("a.go, a.name")?.click();
}

/** The runs behind a row: the run itself, or those with every name in the row. */
function rowTarget(panel, columns, row, answer, context) {
  const run = columns.find((column) => column.link === "run");
  if (run && row[run.at]) return context.link("run", run.name, row[run.at]);
  const names = columns.filter((column) => column.unit === "string").map((column) => [column.name, row[column.at]]);
  return context.behind(panel, answer, Object.fromEntries(names));
}

function table(body, panel, answer, context) {
  const columns = panel.columns.map((column) => ({ ...column, at: answer.columns.indexOf(column.name) }));
  const state = { by: null, down: true };
  const unpriced = columns.some((column) => column.name === "cost_usd") && columns.find((column) => column.name === "unpriced");
  const box = el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": panel.title });
  const draw = () => {
    const rows = [...answer.rows];
    if (state.by !== null) rows.sort((a, b) => compare(a[state.by], b[state.by]) * (state.down ? -1 : 1));
    box.replaceChildren(el("table", {}, head(columns, state, draw), el("tbody", {}, rows.map((row) => line(panel, columns, row, answer, context)))), starNote(unpriced && rows.some((row) => row[unpriced.at])) ?? "");
  };
  draw();
  body.replaceChildren(box);
}

function compare(a, b) {
  if (a === null || b === null) return (a !== null) - (b !== null);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

function head(columns, state, draw) {
  const cells = columns.map((column) => {
    const sorted = state.by === column.at ? (state.down ? "descending" : "ascending") : null;
    const sort = () => {
      state.down = state.by === column.at ? !state.down : column.unit !== "string";
      state.by = column.at;
      draw();
    };
    return el("th", { scope: "col", class: column.unit === "string" || column.unit === "dateTimeAsIso" ? "" : "right", "aria-sort": sorted }, el("button", { type: "button", onclick: sort }, column.title));
  });
  return el("thead", {}, el("tr", {}, cells, el("th", { scope: "col" }, el("span", { class: "sr" }, "Runs"))));
}

function line(panel, columns, row, answer, context) {
  const largest = (at) => (answer.largest ??= {})[at] ??= Math.max(...answer.rows.map((each) => each[at] ?? 0), 0);
  const label = String(row[columns.find((column) => column.unit === "string")?.at] ?? "this row");
  const go = el("a", { class: "go quiet", href: rowTarget(panel, columns, row, answer, context), "data-go": true, "aria-label": `Runs behind ${label}`, title: "Runs behind this row" }, icon(ICONS.right));
  const missing = row[columns.find((column) => column.name === "unpriced")?.at] ?? 0;
  return el("tr", { class: "linked", onclick: follow }, columns.map((column) => {
    const value = row[column.at];
    const price = (answer.prices ??= {})[column.at] ??= money(answer.rows.map((each) => each[column.at]));
    const text = column.unit === "currencyUSD" ? price(value) : format(column.unit, value);
    const number = typeof value === "number" && column.unit !== "dateTimeAsIso";
    const cell = el("td", { class: number ? "right" : "" });
    const color = stepColor(column.steps, value);
    const target = column.link && value !== null ? context.link(column.link, column.name, value) : null;
    const label = column.link === "trace" || column.link === "run" ? String(value).slice(0, 8) : worded(column.name, text);
    if (column.link === "trace") cell.append(el("code", { title: String(value) }, label));
    else if (column.name === "cost_usd") cell.append(...starred(label, missing));
    else cell.append(target && value !== "(none)" ? el("a", { href: target, "data-go": true, title: String(value) }, label) : el("span", {}, label));
    if (color) styled(cell, { "--mark": color }).classList.add("marked");
    if (column.bar && typeof value === "number") styled(cell, { "--share": largest(column.at) ? value / largest(column.at) : 0 }).classList.add("barred");
    return cell;
  }), el("td", { class: "right" }, go));
}

/** A cell that a spreadsheet will not run, quoted as CSV wants it. */
function csvCell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function offerDownload(actions, id, panel, answer) {
  actions.querySelector(".csv")?.remove();
  const save = () => {
    const lines = [answer.columns, ...answer.rows].map((row) => row.map(csvCell).join(","));
    const url = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    const anchor = el("a", { href: url, download: `crewmeter-${id}.csv` });
    anchor.click();
    URL.revokeObjectURL(url);
  };
  actions.prepend(el("button", { type: "button", class: "quiet csv", onclick: save, "aria-label": `Download ${panel.title} as CSV`, title: "Download as CSV" }, icon(ICONS.download)));
}

