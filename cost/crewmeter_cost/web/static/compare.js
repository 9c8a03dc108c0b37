// Two runs side by side: what explains the difference first, then totals, then every step.

import { el, starNote, starred } from "./dom.js";
import { UNKNOWN, count, instant, money, seconds, usd, word } from "./format.js";
import { get } from "./state.js";

const AMOUNTS = [
  ["calls", "Model calls", count], ["failed_calls", "Failed calls", count], ["unpriced_calls", "Calls without a price", count], ["tool_calls", "Tool calls", count],
  ["input_tokens", "Tokens in", count], ["cache_read_tokens", "of these cached", count], ["cache_write_tokens", "written to the cache", count],
  ["output_tokens", "Tokens out", count], ["reasoning_tokens", "of these reasoning", count],
  ["duration_seconds", "Run time", seconds], ["p50_seconds", "Call latency, p50", seconds], ["p95_seconds", "Call latency, p95", seconds],
];

const number = (text) => (text === null || text === undefined ? null : Number(text));

function signed(value, format) {
  if (value === null || value === undefined) return UNKNOWN;
  const number = Number(value);
  if (number === 0) return "–";
  return (number > 0 ? "+" : "−") + format(Math.abs(number));
}

/** The comparison of the runs `a` and `b` in the address. */
export async function drawComparison(main, state, { link, stale }) {
  if (!state.a || !state.b) throw new Error("The address names no two runs. Choose them in the list of runs.");
  const answer = await get("api/page/compare", new URLSearchParams({ a: state.a, b: state.b }));
  if (stale()) return;
  const sides = answer.runs.map((run, at) => side("AB"[at], run, link));
  main.replaceChildren(
    el("p", {}, el("a", { href: link({ view: "runs", run: null, span: null }), "data-go": true }, "← all runs"), " · ", el("a", { href: link({ a: state.b, b: state.a }), "data-go": true }, "Swap A and B")),
    el("h1", {}, "Two runs compared"),
    el("div", { class: "sides" }, sides),
    explanations(answer),
    panel("Totals", totals(answer)),
    panel("Steps, largest difference first", steps(answer)),
    starNote(answer.a.unpriced_calls || answer.b.unpriced_calls) ?? "",
    ...(answer.left_out ? [el("p", { class: "note" }, `${count(answer.left_out)} more steps: crewmeter compare ${state.a} ${state.b} --format json`)] : []),
  );
}

function side(letter, run, link) {
  return el("p", { class: "side" }, el("b", { class: "letter" }, letter), " ",
    el("a", { href: link({ view: "run", run: run.run_id, span: null }), "data-go": true }, run.name ?? "(none)"),
    el("span", { class: "note" }, ` ${instant(Date.parse(run.started_at) / 1000, { withSeconds: true })} · ${word(run.status)} · ${run.run_id.slice(0, 8)}`));
}

function panel(title, table) {
  return el("section", { class: "row" }, el("h2", {}, title), el("article", { class: "panel wide" }, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table)));
}

/** The lines that explain most of the difference. */
function explanations(answer) {
  if (!answer.explanation.length) return el("p", { class: "lead" }, "No step differs in count or cost.");
  const total = Number(answer.delta.cost_usd ?? 0);
  return el("ul", { class: "explain" }, answer.explanation.map((step) => {
    const parts = [];
    if (step.delta.count) parts.push(`${count(step.b.count)}× instead of ${count(step.a.count)}×`);
    const cost = Number(step.delta.cost_usd);
    if (cost) parts.push(signed(cost, usd) + (cost / total > 0 ? ` (${Math.round((cost / total) * 100)} % of the difference)` : ""));
    else if (step.delta.duration_seconds) parts.push(signed(step.delta.duration_seconds, seconds));
    return el("li", {}, el("b", {}, step.path.join(" › ")), `: ${parts.join(", ")}`);
  }));
}

const head = (texts) => el("thead", {}, el("tr", {}, texts.map((text, at) => el("th", { scope: "col", class: at ? "right" : "" }, text || el("span", { class: "sr" }, "Amount")))));
const cells = (texts) => texts.map((text) => el("td", { class: "right" }, text));

function percent(a, b) {
  if (a === null || b === null || !Number(a)) return "";
  const share = (Number(b) / Number(a) - 1) * 100;
  return `${share > 0 ? "+" : share < 0 ? "−" : ""}${Math.abs(share).toFixed(0)} %`;
}

function totals({ a, b, delta }) {
  const price = money([a, b, delta].map((side) => number(side.cost_usd)));
  const rows = [["Cost", starred(price(number(a.cost_usd)), a.unpriced_calls), starred(price(number(b.cost_usd)), b.unpriced_calls), signed(delta.cost_usd, price), percent(a.cost_usd, b.cost_usd)]];
  for (const [name, title, format] of AMOUNTS) {
    const text = (value) => (value === null || value === undefined ? UNKNOWN : format(value));
    rows.push([title, text(a[name]), text(b[name]), signed(delta[name], format), percent(a[name], b[name])]);
  }
  return el("table", { class: "totals" }, head(["", "A", "B", "B − A", "%"]), el("tbody", {}, rows.map(([title, ...rest]) => el("tr", {}, el("th", { scope: "row" }, title), cells(rest)))));
}

/** What a step cost on one side; nothing where it did not occur or calls nothing that is billed. */
function cost(step, price) {
  if (!step.calls) return "";
  if (step.unpriced_calls === step.calls) return "unknown";
  return starred(price(step.cost_usd), step.unpriced_calls);
}

const time = (step) => (step.count ? seconds(step.duration_seconds) : "");

function steps({ steps: all }) {
  const dollars = money(all.flatMap(({ a, b }) => [number(a.cost_usd), number(b.cost_usd)]));
  const price = (text) => dollars(number(text));
  const rows = all.map(({ path, a, b, delta }) => el("tr", { class: b.failed > a.failed ? "bad" : "" },
    el("td", { class: "path", title: path.join(" › ") }, path.join(" › ")),
    cells([count(a.count), count(b.count), cost(a, price), cost(b, price), signed(delta.cost_usd, price), time(a), time(b), signed(delta.failed, count)])));
  return el("table", { class: "steps" }, head(["Step", "A ×", "B ×", "Cost A", "Cost B", "B − A", "Time A", "Time B", "Failures"]), el("tbody", {}, rows));
}
