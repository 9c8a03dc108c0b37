// The page: reads its state from the address, draws a board, the run list or a run, and writes changes back to the address.

import { drawComparison } from "./compare.js";
import { drawFilters, drawNav, drawTools, select } from "./controls.js";
import { el } from "./dom.js";
import { useWords, useZone, word } from "./format.js";
import { runLinks } from "./links.js";
import { panelFrame } from "./panels.js";
import { drawRun, drawRuns, runControls } from "./runs.js";
import { get, question, read, write } from "./state.js";

const $ = (id) => document.getElementById(id);

let catalogue;
let state;
let generation = 0;
let timer = null;

function link(changes) {
  return write({ ...state, ...changes, filters: changes.filters ?? state.filters });
}

function change(changes) {
  history.pushState(null, "", link(changes));
  show();
}

/** Where a table's link leads: a run, or a board filtered by the name that was clicked. */
function target(kind, name, value) {
  if (kind === "run") return link({ view: "run", run: value });
  return name in state.filters ? link({ view: kind, filters: { ...state.filters, [name]: [value] } }) : null;
}

function show() {
  const mine = ++generation;
  const stale = () => mine !== generation;
  state = read(Object.keys(catalogue.filters));
  const board = catalogue.boards.find((each) => each.id === state.view);
  const query = question(state, board);
  const runs = state.view === "runs";
  drawNav($("nav"), catalogue.boards, state, link);
  drawTools($("tools"), state, query.get("from"), { change, reload: show });
  const names = runs ? Object.keys(catalogue.filters) : board?.filters ?? [];
  $("filters").hidden = !runs && !board;
  drawFilters($("filters"), { names, filters: catalogue.filters, state, query, board, budget: catalogue.budget_usd, buckets: catalogue.buckets.choices, change, runs: runs ? runControls(select, state, change) : null });
  document.title = `${board?.title ?? { runs: "Runs", run: "Run", compare: "Compare" }[state.view] ?? "Not found"} · crewmeter`;
  $("foot").replaceChildren();
  schedule();
  if (board) drawBoard(board, query, stale);
  else if (runs) view(drawRuns($("main"), state, query, { link, stale, change, keys: catalogue.filter_keys }));
  else if (state.view === "compare") view(drawComparison($("main"), state, { link, stale }));
  else if (state.view === "run") view(drawRun($("main"), state, { link, stale, word, traceUrl: catalogue.trace_url, content: catalogue.content }));
  else drawUnknown(state.view);
}

function drawUnknown(name) {
  const first = el("a", { href: link({ view: null, run: null }), "data-go": true }, "Go to the overview");
  $("main").replaceChildren(el("h1", {}, "Page not found"), el("p", {}, `There is no board called “${name}”. `, first, "."));
}

async function view(drawing) {
  try {
    await drawing;
  } catch (error) {
    $("main").replaceChildren(el("p", { class: "failed", role: "alert" }, error.message));
  }
}

function drawBoard(board, query, stale) {
  const alert = el("p", { class: "banner", role: "alert", hidden: true });
  const fail = (message) => {
    alert.hidden = false;
    alert.textContent = message;
  };
  const behind = runLinks({ link, query, nameKeys: catalogue.name_keys });
  const context = { query, colors: catalogue.colors, link: target, behind, go: (href) => visit(href), stale, fail };
  const frames = [];
  const rows = board.rows.map((row) => {
    const cells = row.panels.map((cell) => {
      const frame = panelFrame(cell.id, catalogue.panels[cell.id], cell);
      frames.push(frame);
      return frame.card;
    });
    return el("section", { class: "row", "aria-label": row.title }, el("h2", {}, row.title), el("div", { class: "grid" }, cells));
  });
  $("main").replaceChildren(el("h1", { class: "sr" }, board.title), el("p", { class: "lead" }, board.description), alert, ...rows);
  const live = board.live_panels ? `${board.live_panels} more panels are live from Prometheus and are in Grafana: crewmeter dashboards export. ` : "";
  $("foot").replaceChildren(`${live}Times, days and months are in ${catalogue.zone}.`);
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      near.unobserve(entry.target);
      frames.find((frame) => frame.card === entry.target).load(context);
    }
  }, { rootMargin: "600px" });
  frames.forEach((frame) => near.observe(frame.card));
}

function schedule() {
  clearTimeout(timer);
  const every = Number(state.refresh);
  if (every >= 5) timer = setTimeout(() => (document.hidden ? schedule() : show()), every * 1000);
}

/** Open an address of this page, from the top. */
function visit(href) {
  history.pushState(null, "", href);
  show();
  scrollTo(0, 0);
}

function flipTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("crewmeter-theme", theme);
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
  if (state.theme) history.replaceState(null, "", link({ theme }));
  show();
}

document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[data-go]");
  if (!anchor || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  visit(anchor.getAttribute("href"));
});
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key === "r") show();
  else if (event.key === "t") flipTheme();
  else if (/^[1-9]$/.test(event.key)) $("nav").children[Number(event.key) - 1]?.click();
});
document.addEventListener("range", (event) => change({ from: String(event.detail.from), to: String(event.detail.to) }));
document.addEventListener("theme", flipTheme);
addEventListener("popstate", show);

try {
  catalogue = await get("api/boards");
  useZone(catalogue.zone);
  useWords(catalogue.words);
  show();
} catch (error) {
  $("main").replaceChildren(el("p", { class: "failed", role: "alert" }, error.message));
}
