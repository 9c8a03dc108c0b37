// The run list, and one run as a waterfall: who called whom, when, for how many tokens and how much money.

import { drawContent } from "./content.js";
import { ICONS, el, icon, starNote, starred, styled } from "./dom.js";
import { UNKNOWN, count, format, instant, money, seconds, usd, word } from "./format.js";
import { term } from "./links.js";
import { get } from "./state.js";

const ORDERS = [["time", "newest first"], ["cost", "most expensive first"], ["duration", "slowest first"], ["calls", "most model calls first"]];
const STATUSES = [["", "any outcome"], ["ok", "ok"], ["failed", "failed or abandoned"], ["error", "failed"], ["abandoned", "abandoned"], ["running", "running"]];

function badge(status) {
  return el("span", { class: `badge ${status}` }, word(status));
}

/** Order and outcome, for the filter bar. */
export function runControls(select, state, change) {
  return [
    select("Order", ORDERS, state.order ?? "time", (value) => change({ order: value, skip: null })),
    select("Outcome", STATUSES, state.status ?? "", (value) => change({ status: value || null, skip: null })),
  ];
}

/** The list of runs in the range: its filter as chips, the runs, and pages. */
export async function drawRuns(main, state, query, { link, stale, change, keys }) {
  query.set("order", state.order ?? "time");
  for (const name of ["status", "where", "search"]) if (state[name]) query.set(name, state[name]);
  query.set("skip", state.skip ?? "0");
  let answer;
  try {
    answer = await get("api/page/runs", query);
  } catch (error) {
    // A filter that cannot be read stays in its field, beside what is wrong with it.
    const form = filterForm(state, [], state.where ?? "", { change, keys });
    if (!stale()) main.replaceChildren(el("h1", {}, "Runs"), form, el("p", { class: "failed left", role: "alert" }, error.message));
    return;
  }
  if (stale()) return;
  const runs = answer.rows.map((row) => Object.fromEntries(answer.columns.map((name, at) => [name, row[at]])));
  const top = [el("h1", {}, "Runs"), filterForm(state, answer.terms, "", { change, keys }), picked(state, link)].filter(Boolean);
  if (answer.note) top.push(el("p", { class: "note scanned" }, `${answer.note[0].toUpperCase()}${answer.note.slice(1)}.`));
  if (runs.length === 0) {
    const narrowed = answer.terms.length || state.search || state.status || Object.values(state.filters).some((values) => values.length);
    const empty = narrowed ? "No runs in this range match." : "No runs in this range. Add crewmeter.instrument() to your app and run a crew, or try: crewmeter demo --days 30";
    main.replaceChildren(...top, el("p", { class: "empty big" }, empty));
    return;
  }
  const headings = ["Started", "Run", "Outcome", "Duration", "Model calls", "Tool calls", "Tokens in", "Tokens out", "Cost", "Team", "User", "Compare"];
  const head = el("tr", {}, headings.map((text, at) => el("th", { scope: "col", class: at > 2 && at < 9 ? "right" : "" }, text)));
  const largest = Math.max(...runs.map((run) => run.cost_usd ?? 0), 0);
  const price = money(runs.map((run) => run.cost_usd));
  const rows = runs.map((run) => runLine(run, largest, link, price, compareBox(run, state, change)));
  const skip = Number(state.skip ?? 0);
  const pager = el("nav", { class: "pager", "aria-label": "Pages of runs" },
    skip > 0 ? el("a", { href: link({ skip: skip > answer.page ? skip - answer.page : null }), "data-go": true }, "← newer") : null,
    el("span", { class: "note" }, `${skip + 1} to ${skip + runs.length}`),
    runs.length === answer.page ? el("a", { href: link({ skip: skip + answer.page }), "data-go": true }, "more →") : null);
  main.replaceChildren(...top, el("article", { class: "panel wide" }, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, el("table", { class: "runs" }, el("thead", {}, head), el("tbody", {}, rows)))), starNote(runs.some((run) => run.unpriced_calls && run.cost_usd !== null), runs.some((run) => run.inexact)) ?? "", pager);
}

/** The filter as chips that can be taken away, a field for further terms, and one for a text. */
function filterForm(state, terms, unread, { change, keys }) {
  const chips = terms.map((text, at) => el("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${text}`, title: "Remove this filter",
    onclick: () => change({ where: terms.filter((_, other) => other !== at).join(" ") || null, skip: null }) }, text, el("span", { "aria-hidden": "true" }, " ×")));
  const more = el("input", { class: "terms", value: unread, placeholder: "Add a filter: cost>0.5 user=ada status=failed", "aria-label": "Add a filter", list: "filter-keys", autocomplete: "off", spellcheck: "false" });
  const search = el("input", { type: "search", value: state.search ?? "", placeholder: "Find in names and ids", "aria-label": "Find in names and ids", maxlength: "200" });
  const submit = (event) => {
    event.preventDefault();
    change({ where: [...terms, more.value.trim()].filter(Boolean).join(" ") || null, search: search.value.trim() || null, skip: null });
  };
  search.addEventListener("search", () => search.value || !state.search || change({ search: null, skip: null }));
  const known = el("datalist", { id: "filter-keys" }, keys.map((key) => el("option", { value: key.endsWith(":") ? key : `${key}=` })));
  return el("form", { class: "find", role: "search", onsubmit: submit }, chips, more, known, search, el("button", { type: "submit", class: "tool text" }, "Apply"));
}

/** The box that picks a run for a comparison; the first is A, the next B. */
function compareBox(run, state, change) {
  const chosen = [state.a, state.b].filter(Boolean);
  const checked = chosen.includes(run.run_id);
  const pick = () => {
    const [a, b] = checked ? chosen.filter((id) => id !== run.run_id) : [...chosen, run.run_id].slice(-2);
    change({ a: a ?? null, b: b ?? null });
  };
  return el("label", { class: "pickrun" }, el("input", { type: "checkbox", checked, onchange: pick, "aria-label": `Compare ${run.name ?? "run"} ${run.run_id.slice(0, 8)}` }));
}

/** What is picked for a comparison, and the way to it. */
function picked(state, link) {
  if (!state.a && !state.b) return null;
  const two = state.a && state.b;
  const text = two ? `A ${state.a.slice(0, 8)}, B ${state.b.slice(0, 8)} ` : `${(state.a ?? state.b).slice(0, 8)} is picked: choose a second run to compare it with. `;
  const go = two ? el("a", { class: "primary", href: link({ view: "compare", run: null, span: null }), "data-go": true }, "Compare") : null;
  return el("p", { class: "picked", role: "status" }, text, go, " ", el("a", { href: link({ a: null, b: null }), "data-go": true }, "Clear"));
}

function runLine(run, largest, link, price, box) {
  const cost = el("td", { class: "right barred" }, starred(run.cost_usd === null && run.unpriced_calls ? "unknown" : price(run.cost_usd), run.cost_usd === null ? 0 : run.unpriced_calls, run.inexact));
  styled(cost, { "--share": largest ? (run.cost_usd ?? 0) / largest : 0 });
  return el("tr", {},
    el("td", {}, instant(run.time, { withSeconds: true })),
    el("td", {}, el("a", { href: link({ view: "run", run: run.run_id }), "data-go": true }, run.name ?? "(none)")),
    el("td", {}, badge(run.status), run.error_type ? el("span", { class: "note" }, ` ${run.error_type}`) : null),
    el("td", { class: "right" }, format("s", run.duration_seconds)),
    el("td", { class: "right" }, count(run.calls), run.failed_calls ? el("span", { class: "warn" }, ` (${run.failed_calls} failed)`) : null),
    el("td", { class: "right" }, count(run.tool_calls), run.failed_tool_calls ? el("span", { class: "warn" }, ` (${run.failed_tool_calls} failed)`) : null),
    el("td", { class: "right" }, count(run.input_tokens)),
    el("td", { class: "right" }, count(run.output_tokens)),
    cost,
    el("td", {}, run.team ?? UNKNOWN),
    el("td", {}, run.user ?? UNKNOWN),
    el("td", {}, box));
}

/** Nodes as a forest: children under parents, whatever lost its parent under the run; costs and tokens added up the tree. */
export function grow(nodes, rootId) {
  const byId = new Map(nodes.map((node) => [node.id, { ...node, unpriced_call: node.unpriced ?? 0, inexact: node.inexact ? 1 : 0, children: [], cost: 0, unpriced: 0, tokens: 0, calls: 0 }]));
  const tops = [];
  const root = byId.get(rootId);
  for (const node of byId.values()) {
    const parent = byId.get(node.parent);
    if (parent && parent !== node) parent.children.push(node);
    else if (root && node !== root) root.children.push(node);
    else tops.push(node);
  }
  const seen = new Set();
  const add = (node) => {
    if (seen.has(node)) return;
    seen.add(node);
    if (node.billed) {
      node.calls = 1;
      node.cost = node.cost_usd ?? 0;
      node.unpriced = node.unpriced_call;
      node.tokens = (node.input_tokens ?? 0) + (node.output_tokens ?? 0);
    }
    node.children.sort((a, b) => a.started_ms - b.started_ms);
    for (const child of node.children) {
      add(child);
      for (const sum of ["cost", "tokens", "calls", "unpriced", "inexact"]) node[sum] += child[sum];
    }
  };
  tops.forEach(add);
  return tops;
}

/** One run: facts, then the steps as a timeline, with the details of one beside it. */
export async function drawRun(main, state, { link, stale, word, traceUrl, content }) {
  if (!state.run) throw new Error("The address names no run. Choose one from the list of runs.");
  const { run, nodes, truncated } = await get(`api/page/runs/${encodeURIComponent(state.run)}`);
  if (stale()) return;
  const trees = grow(nodes, run.run_id);
  const trace = traceUrl ? el("a", { href: traceUrl.replaceAll("{trace_id}", run.trace_id), target: "_blank", rel: "noreferrer" }, run.trace_id) : el("code", {}, run.trace_id);
  const without = `${run.unpriced_calls} ${run.unpriced_calls === 1 ? "call" : "calls"} without a price`;
  const unknown = run.unpriced_calls ? ` + ${without}` : "";
  const facts = [
    ["Outcome", badge(run.status)], ["Started", instant(run.time, { withSeconds: true })], ["Duration", format("s", run.duration_seconds)],
    ["Cost", run.cost_usd === null ? `unknown: ${without}` : usd(run.cost_usd) + unknown], ["Model calls", count(run.calls)], ["Tool calls", count(run.tool_calls)],
    ["Tokens in", count(run.input_tokens)], ["Tokens out", count(run.output_tokens)], ["Error", run.error_type], ["Team", run.team], ["User", run.user],
    ["Session", run.session === null ? null : el("a", { href: link({ view: "runs", run: null, span: null, where: term("session", run.session) }), "data-go": true }, run.session)], ["Service", run.service], ["Trace", trace],
  ].filter(([, value]) => value !== null && value !== undefined);
  const detail = el("aside", { class: "detail panel", "aria-label": "Step details", "aria-live": "polite" });
  const steps = trees.length ? waterfall(trees, detail, { word, selected: state.span, contentOf: content ? run.run_id : null }) : el("p", { class: "empty big" }, "The steps of this run were pruned. Its totals remain.");
  main.replaceChildren(
    el("p", {}, el("a", { href: link({ view: "runs", run: null, span: null }), "data-go": true }, "← all runs"), " · ",
      el("a", { href: link({ view: "runs", run: null, span: null, a: run.run_id, b: null }), "data-go": true }, "Compare with another run")),
    el("h1", {}, run.name, el("span", { class: "note" }, ` ${run.kind ?? "run"}`)),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    ...(truncated ? [el("p", { class: "failed" }, "This run is longer than 5,000 steps. Only the first 5,000 are listed.")] : []),
    el("div", { class: "beside" }, el("article", { class: "panel wide", "aria-label": "Steps" }, steps, starNote(run.unpriced_calls && run.cost_usd !== null, trees.some((tree) => tree.inexact))), detail),
  );
}

/** The steps in order, each with its depth. */
function flatten(trees) {
  const all = [];
  const walk = (node, depth) => {
    all.push({ node, depth });
    node.children.forEach((child) => walk(child, depth + 1));
  };
  trees.forEach((tree) => walk(tree, 0));
  return all;
}

/** Put the selected step into the address without a new entry in the history. */
function remember(id) {
  const query = new URLSearchParams(location.search);
  if (id) query.set("span", id);
  else query.delete("span");
  history.replaceState(null, "", `?${query}`);
}

function waterfall(trees, detail, { word, selected, contentOf }) {
  const all = flatten(trees);
  const start = Math.min(...all.map(({ node }) => node.started_ms));
  const end = Math.max(...all.map(({ node }) => node.started_ms + node.duration_seconds * 1000), start + 1);
  const ticks = [0, 0.5, 1].map((share) => styled(el("span", {}, seconds(((end - start) / 1000) * share)), { "--at": share }));
  const body = el("tbody", {});
  const price = money(all.map(({ node }) => (node.calls ? node.cost : null)));
  const closed = new Set();
  let current = null;
  const select = (node, { focus = false } = {}) => {
    current = node;
    remember(node?.id);
    describe(detail, node, word, contentOf);
    for (const row of body.rows) {
      const here = row.node === node;
      row.classList.toggle("selected", here);
      row.querySelector(".label").setAttribute("aria-pressed", String(here));
      if (here && focus) row.querySelector(".label").focus();
    }
  };
  const draw = () => {
    body.replaceChildren();
    let hiddenBelow = Infinity;
    for (const { node, depth } of all) {
      if (depth > hiddenBelow) continue;
      hiddenBelow = closed.has(node) ? depth : Infinity;
      const toggle = () => { if (!closed.delete(node)) closed.add(node); draw(); };
      const row = nodeLine(node, depth, { start, end, open: !closed.has(node), toggle, select: () => select(node), word, price });
      row.node = node;
      body.append(row);
    }
    select(current);
  };
  current = all.find(({ node }) => node.id === selected)?.node ?? null;
  draw();
  body.addEventListener("keydown", (event) => {
    const rows = [...body.rows];
    const at = rows.findIndex((row) => row.contains(event.target));
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") select(null);
    else if (step && rows[at + step]) select(rows[at + step].node, { focus: true });
    else return;
    event.preventDefault();
  });
  const head = el("tr", {}, el("th", { scope: "col" }, "Step"), el("th", { scope: "col", class: "when" }, el("span", { class: "sr" }, "Timeline"), el("span", { class: "ticks", "aria-hidden": "true" }, ticks)), ...["Time", "Tokens", "Cost"].map((text) => el("th", { scope: "col", class: "right" }, text)));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Steps of the run" }, el("table", { class: "waterfall" }, el("thead", {}, head), body));
}

function nodeLine(node, depth, { start, end, open, toggle, select, word, price }) {
  const kind = node.billed ? "llm" : node.kind;
  const name = node.name ?? node.kind;
  const fold = node.children.length
    ? el("button", { type: "button", class: "quiet fold", "aria-expanded": String(open), "aria-label": open ? `Fold ${name}` : `Unfold ${name}`, onclick: toggle }, icon(open ? ICONS.down : ICONS.right))
    : el("span", { class: "fold" });
  const label = el("button", { type: "button", class: "label", onclick: select }, el("span", { class: `kind k-${kind}` }, kindOf(node)), el("span", {}, name));
  const step = el("td", { class: "what" }, styled(el("div", { class: "step" }, fold, label), { "--depth": depth }));
  const from = (node.started_ms - start) / (end - start);
  const bar = styled(el("i", { class: `k-${kind} ${node.status}`, title: `${name}: ${seconds(node.duration_seconds)}` }), { "--from": from, "--span": Math.min((node.duration_seconds * 1000) / (end - start), 1 - from) });
  const cost = node.calls === 0 ? "" : sumOf(node, price);
  return el("tr", { class: node.status === "ok" ? "" : "bad" },
    step,
    el("td", { class: "when" }, el("span", { class: "lane" }, bar)),
    el("td", { class: "right" }, seconds(node.duration_seconds)),
    el("td", { class: "right" }, node.tokens ? count(node.tokens) : ""),
    el("td", { class: "right" }, node.billed && node.cost_usd === null ? unknownCost(node, word) : cost));
}

/** What a step's calls cost. Unknown is never written as $0. */
function sumOf(node, price) {
  if (node.unpriced && node.cost === 0) return "unknown";
  return starred(price(node.cost), node.unpriced, node.inexact);
}

/** The same as a sentence. */
function totalOf(node) {
  if (node.unpriced && node.cost === 0) return "unknown";
  return usd(node.cost) + (node.unpriced ? ` and ${node.unpriced} without a price` : "");
}

function unknownCost(node, word) {
  return node.unpriced_call ? el("span", { class: "warn" }, word(node.cost_status ?? "unpriced")) : el("span", { class: "note" }, "not billed");
}

function kindOf(node) {
  if (node.billed) return node.kind === "chat" ? "llm" : node.kind;
  return node.kind.replace("_", " ");
}

function describe(detail, node, word, contentOf) {
  if (!node) {
    detail.replaceChildren(el("p", { class: "note" }, "Select a step for details."));
    return;
  }
  const copy = el("button", { type: "button", class: "tool text", onclick: () => navigator.clipboard?.writeText(node.id) }, "Copy id");
  const facts = [
    ["Kind", kindOf(node)], ["Status", word(node.status)], ["Error", node.error_type], ["Message", node.error_message], ["Agent", node.agent], ["Provider", node.provider && word(node.provider)],
    ["Started", instant(node.started_ms / 1000, { withSeconds: true })], ["Duration", seconds(node.duration_seconds)], ["First token", node.ttft_seconds == null ? null : seconds(node.ttft_seconds)],
    ["Input tokens", node.input_tokens], ["of them cached", node.cache_read_tokens], ["Output tokens", node.output_tokens], ["Finish reason", node.finish_reason],
    ["Cost", costText(node, word)], ["Price", node.billed && node.cost_usd !== null ? word(node.cost_status) : null], ["Source", node.origin],
  ].filter(([, value]) => value !== null && value !== undefined);
  detail.replaceChildren(
    el("h2", {}, node.name ?? node.kind),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, typeof value === "number" ? count(value) : String(value)))), el("div", {}, el("dt", {}, "Span"), el("dd", {}, el("code", {}, node.id)))),
    copy,
  );
  if (!contentOf) return;
  // A holder of its own for each selection: what arrives late lands where nobody looks.
  const holder = el("div", { class: "contents" });
  detail.append(holder);
  drawContent(holder, contentOf, node.id);
}

function costText(node, word) {
  if (!node.billed) return node.calls ? `${totalOf(node)} in ${node.calls === 1 ? "1 call" : `${node.calls} calls`} below` : null;
  if (node.cost_usd !== null) return usd(node.cost_usd);
  return node.unpriced_call ? `unknown: ${word(node.cost_status)}` : "not billed: rejected by the provider";
}
