// The run list, and one run as a waterfall: who called whom, when, for how many tokens and how much money.

import { ICONS, el, icon, styled } from "./dom.js";
import { UNKNOWN, count, format, instant, seconds, usd } from "./format.js";
import { get } from "./state.js";

const ORDERS = [["newest", "newest first"], ["dearest", "dearest first"], ["slowest", "slowest first"], ["calls", "most model calls first"]];
const STATUSES = [["", "any outcome"], ["ok", "ok"], ["error", "error"], ["abandoned", "abandoned"], ["running", "running"]];

function badge(status) {
  return el("span", { class: `badge ${status}` }, status);
}

/** Order and outcome, for the filter bar. */
export function runControls(select, state, change) {
  return [
    select("Order", ORDERS, state.order ?? "newest", (value) => change({ order: value, skip: null })),
    select("Outcome", STATUSES, state.status ?? "", (value) => change({ status: value || null, skip: null })),
  ];
}

/** The list of runs in the range. */
export async function drawRuns(main, state, query, { link, stale }) {
  query.set("order", state.order ?? "newest");
  if (state.status) query.set("status", state.status);
  query.set("skip", state.skip ?? "0");
  const answer = await get("api/page/runs", query);
  if (stale()) return;
  const runs = answer.rows.map((row) => Object.fromEntries(answer.columns.map((name, at) => [name, row[at]])));
  const title = el("h2", {}, "Runs");
  if (runs.length === 0) {
    main.replaceChildren(title, el("p", { class: "empty big" }, "No runs in this range. Add crewmeter.instrument() to your app and run a crew, or try: crewmeter demo --days 30"));
    return;
  }
  const headings = ["Started", "Run", "Outcome", "Duration", "Model calls", "Tool calls", "Tokens in", "Tokens out", "Cost", "Team", "User"];
  const head = el("tr", {}, headings.map((text, at) => el("th", { scope: "col", class: at > 2 && at < 9 ? "right" : "" }, text)));
  const dearest = Math.max(...runs.map((run) => run.cost_usd ?? 0), 0);
  const rows = runs.map((run) => runLine(run, dearest, link));
  const skip = Number(state.skip ?? 0);
  const pager = el("nav", { class: "pager", "aria-label": "Pages of runs" },
    skip > 0 ? el("a", { href: link({ skip: skip > answer.page ? skip - answer.page : null }), "data-go": true }, "← newer") : null,
    el("span", { class: "note" }, `${skip + 1} to ${skip + runs.length}${(state.order ?? "newest") === "newest" ? "" : ` of the newest ${count(answer.newest)} runs`}`),
    runs.length === answer.page ? el("a", { href: link({ skip: skip + answer.page }), "data-go": true }, "more →") : null);
  main.replaceChildren(title, el("article", { class: "panel wide" }, el("div", { class: "scroll" }, el("table", { class: "runs" }, el("thead", {}, head), el("tbody", {}, rows)))), pager);
}

function runLine(run, dearest, link) {
  const cost = el("td", { class: "right barred" }, el("span", {}, format("currencyUSD", run.cost_usd)), run.unpriced_calls ? el("span", { class: "warn", title: `${run.unpriced_calls} calls without a price are not in it` }, " +?") : null);
  styled(cost, { "--share": dearest ? (run.cost_usd ?? 0) / dearest : 0 });
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
    el("td", {}, run.user ?? UNKNOWN));
}

/** Nodes as a forest: children under parents, whatever lost its parent under the run; costs and tokens added up the tree. */
export function grow(nodes, rootId) {
  const byId = new Map(nodes.map((node) => [node.id, { ...node, unpriced_call: node.unpriced ?? 0, children: [], cost: 0, unpriced: 0, tokens: 0, calls: 0 }]));
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
      for (const sum of ["cost", "tokens", "calls", "unpriced"]) node[sum] += child[sum];
    }
  };
  tops.forEach(add);
  return tops;
}

/** One run: facts, then the waterfall, then the node that was picked. */
export async function drawRun(main, state, { link, stale }) {
  const { run, nodes, truncated } = await get(`api/page/runs/${encodeURIComponent(state.run ?? "")}`);
  if (stale()) return;
  const trees = grow(nodes, run.run_id);
  const facts = [
    ["Outcome", badge(run.status)], ["Started", instant(run.time, { withSeconds: true })], ["Duration", format("s", run.duration_seconds)],
    ["Cost", run.cost_usd === null ? `unknown: ${run.unpriced_calls} unpriced calls` : usd(run.cost_usd) + (run.unpriced_calls ? ` + ${run.unpriced_calls} unpriced` : "")], ["Model calls", count(run.calls)], ["Tool calls", count(run.tool_calls)],
    ["Tokens in", count(run.input_tokens)], ["Tokens out", count(run.output_tokens)], ["Error", run.error_type], ["Team", run.team], ["User", run.user],
    ["Session", run.session], ["Service", run.service], ["Trace", el("code", {}, run.trace_id)],
  ].filter(([, value]) => value !== null && value !== undefined);
  const detail = el("aside", { class: "detail", "aria-live": "polite" }, el("p", { class: "note" }, "Pick a bar to see what it was."));
  main.replaceChildren(
    el("p", {}, el("a", { href: link({ view: "runs", run: null }), "data-go": true }, "← all runs")),
    el("h2", {}, run.name, el("span", { class: "note" }, ` ${run.kind ?? "run"}`)),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    ...(truncated ? [el("p", { class: "failed" }, "This run is longer than 5,000 steps; the first 5,000 are shown.")] : []),
    el("article", { class: "panel wide" }, trees.length ? waterfall(trees, detail) : el("p", { class: "empty big" }, "The detail of this run was pruned; its totals stay.")),
    detail,
  );
}

function waterfall(trees, detail) {
  const all = [];
  const walk = (node, depth) => {
    all.push({ node, depth });
    node.children.forEach((child) => walk(child, depth + 1));
  };
  trees.forEach((tree) => walk(tree, 0));
  const start = Math.min(...all.map(({ node }) => node.started_ms));
  const end = Math.max(...all.map(({ node }) => node.started_ms + node.duration_seconds * 1000), start + 1);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => styled(el("span", {}, seconds(((end - start) / 1000) * share)), { "--at": share }));
  const body = el("tbody", {});
  const closed = new Set();
  const draw = () => {
    body.replaceChildren();
    let hiddenBelow = Infinity;
    for (const { node, depth } of all) {
      if (depth > hiddenBelow) continue;
      hiddenBelow = closed.has(node) ? depth : Infinity;
      body.append(nodeLine(node, depth, { start, end, detail, open: !closed.has(node), toggle: () => { if (!closed.delete(node)) closed.add(node); draw(); } }));
    }
  };
  draw();
  const head = el("tr", {}, el("th", { scope: "col" }, "Step"), el("th", { scope: "col", class: "when" }, el("span", { class: "ticks" }, ticks)), ...["Time", "Tokens", "Cost"].map((text) => el("th", { scope: "col", class: "right" }, text)));
  return el("div", { class: "scroll" }, el("table", { class: "waterfall" }, el("thead", {}, head), body));
}

function nodeLine(node, depth, { start, end, detail, open, toggle }) {
  const fold = node.children.length
    ? el("button", { type: "button", class: "quiet fold", "aria-expanded": String(open), "aria-label": open ? "Fold" : "Unfold", onclick: toggle }, icon(open ? ICONS.down : ICONS.right))
    : el("span", { class: "fold" });
  const label = el("button", { type: "button", class: "label", onclick: () => describe(detail, node) }, el("span", { class: `kind k-${node.billed ? "llm" : node.kind}` }, kindOf(node)), el("span", {}, node.name ?? node.kind));
  const step = el("td", {}, styled(el("div", { class: "step" }, fold, label), { "--depth": depth }));
  const from = (node.started_ms - start) / (end - start);
  const bar = styled(el("i", { class: `k-${node.billed ? "llm" : node.kind} ${node.status}`, title: `${node.name ?? node.kind}: ${seconds(node.duration_seconds)}` }), { "--from": from, "--span": Math.min((node.duration_seconds * 1000) / (end - start), 1 - from) });
  const cost = node.calls === 0 ? "" : sumOf(node);
  return el("tr", { class: node.status === "ok" ? "" : "bad" },
    step,
    el("td", { class: "when" }, el("span", { class: "lane" }, bar)),
    el("td", { class: "right" }, seconds(node.duration_seconds)),
    el("td", { class: "right" }, node.tokens ? count(node.tokens) : ""),
    el("td", { class: "right" }, node.billed && node.cost_usd === null ? unknownCost(node) : cost));
}

/** What a step's calls cost; unknown is never shown as $0. */
function sumOf(node) {
  if (node.unpriced && node.cost === 0) return "unknown";
  return usd(node.cost) + (node.unpriced ? " +?" : "");
}

function unknownCost(node) {
  return node.unpriced_call ? el("span", { class: "warn" }, node.cost_status ?? "unpriced") : el("span", { class: "note" }, "not billed");
}

function kindOf(node) {
  if (node.billed) return node.kind === "chat" ? "llm" : node.kind;
  return node.kind.replace("_", " ");
}

function describe(detail, node) {
  const facts = [
    ["Kind", kindOf(node)], ["Status", node.status], ["Error", node.error_type], ["Agent", node.agent], ["Provider", node.provider],
    ["Started", instant(node.started_ms / 1000, { withSeconds: true })], ["Duration", seconds(node.duration_seconds)], ["First token", node.ttft_seconds == null ? null : seconds(node.ttft_seconds)],
    ["Input tokens", node.input_tokens], ["of them cached", node.cache_read_tokens], ["Output tokens", node.output_tokens], ["Finish", node.finish_reason],
    ["Cost", node.billed ? (node.cost_usd === null ? (node.unpriced_call ? `unknown: ${node.cost_status}` : "not billed: refused by the provider") : usd(node.cost_usd)) : node.calls ? `${sumOf(node)} in ${node.calls} calls below` : null],
    ["Price", node.billed && node.cost_usd !== null ? node.cost_status : null], ["Seen by", node.origin], ["Span", node.id],
  ].filter(([, value]) => value !== null && value !== undefined);
  detail.replaceChildren(el("h3", {}, node.name ?? node.kind), el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, typeof value === "number" ? count(value) : String(value))))));
}
