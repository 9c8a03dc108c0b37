// Curves and stacked columns over time, drawn by uPlot; legend and tooltip are ours, as text.

import { el, styled, token } from "./dom.js";
import { axis, format, instant } from "./format.js";

const ALIVE = new Map();
const SECOND_STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

/** Rows (time, name, value) or (time, value, value …) as curves: times ascending, each curve with a value or null per time. */
export function curves(answer, panel) {
  const names = answer.columns;
  const at = names.indexOf("time");
  const times = [...new Set(answer.rows.map((row) => row[at]))].sort((a, b) => a - b);
  const index = new Map(times.map((time, position) => [time, position]));
  const found = new Map();
  const put = (name, time, value) => {
    if (!found.has(name)) found.set(name, new Array(times.length).fill(null));
    found.get(name)[index.get(time)] = value;
  };
  const label = panel.series ? names.indexOf(panel.series) : -1;
  for (const row of answer.rows) {
    names.forEach((name, position) => {
      if (position === at || position === label) return;
      put(label >= 0 ? String(row[label]) : name, row[at], row[position]);
    });
  }
  const title = (name) => panel.columns.find((column) => column.name === name)?.title ?? name;
  const list = [...found].map(([name, values]) => ({ name, title: title(name), values, sum: values.reduce((sum, value) => sum + (value ?? 0), 0) }));
  const rest = (name) => (name === "other" || name === "(none)" ? 1 : 0);
  if (label >= 0) list.sort((a, b) => rest(a.name) - rest(b.name) || b.sum - a.sum);
  return { times, list };
}

/** A colour for each curve: by meaning where the name has one, else by rank. */
export function paint(list, colors) {
  let next = 0;
  for (const curve of list) curve.color = colors.meaning[curve.name] ?? colors.series[next++ % colors.series.length];
}

function stacked(list, length) {
  const total = new Array(length).fill(0);
  return list.map((curve) => curve.values.map((value, position) => (total[position] += Math.max(value ?? 0, 0))));
}

/** Draw a panel into `box`. `range` is [from, to] in unix seconds. Returns nothing; a chart already there is replaced. */
export function drawTime(box, panel, answer, { colors, range, bucket }) {
  const { times, list } = curves(answer, panel);
  paint(list, colors);
  const stack = panel.kind === "stack";
  const plot = el("div", { class: "plot" });
  const shown = new Set(list.map((curve) => curve.name));
  const legend = el("div", { class: "legend", role: "group", "aria-label": "Curves" });
  box.replaceChildren(plot, legend);
  const draw = () => make(plot, panel, times, list.filter((curve) => shown.has(curve.name)), { stack, range, bucket });
  for (const curve of list) legend.append(legendEntry(curve, list, shown, draw));
  draw();
}

function legendEntry(curve, list, shown, draw) {
  const swatch = styled(el("i", { class: "swatch" }), { "--swatch": curve.color });
  const button = el("button", { type: "button", "aria-pressed": "true", title: "Show only this; again for all" }, swatch, curve.title);
  button.addEventListener("click", () => {
    const alone = shown.size === 1 && shown.has(curve.name);
    shown.clear();
    for (const each of list) if (alone || each === curve) shown.add(each.name);
    [...button.parentElement.children].forEach((other, position) => other.setAttribute("aria-pressed", String(shown.has(list[position].name))));
    draw();
  });
  return button;
}

function make(plot, panel, times, list, { stack, range, bucket }) {
  ALIVE.get(plot)?.chart.destroy();
  const data = stack ? stacked(list, times.length) : list.map((curve) => curve.values);
  const order = stack ? list.map((_, position) => position).reverse() : list.map((_, position) => position);
  const size = () => ({ width: Math.max(plot.clientWidth, 120), height: Math.max(plot.clientHeight, 90) });
  const tip = el("div", { class: "tip", hidden: true });
  const options = {
    ...size(),
    padding: [10, 8, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "time" }, drag: { x: true, y: false }, points: { size: 6 }, y: false },
    scales: {
      x: { time: true, range: (_chart, low, high) => (plot.zoom ? [low, high] : [stack ? Math.floor(range[0] / bucket) * bucket : range[0], Math.max(range[1], high + (stack ? bucket : 0))]) },
      y: { range: (_chart, _low, high) => [0, panel.maximum ?? (high > 0 ? high * 1.08 : 1)] },
    },
    axes: axes(panel),
    series: [{}, ...order.map((position) => series(list[position], stack, bucket))],
    hooks: {
      setCursor: [(chart) => tooltip(chart, tip, panel, times, list)],
      setSelect: [(chart) => zoom(chart)],
    },
  };
  options.cursor.drag.setScale = false;
  const chart = new window.uPlot(options, [times, ...order.map((position) => data[position])], plot);
  chart.over.append(tip);
  ALIVE.set(plot, { chart, size });
  watch.observe(plot);
}

function zoom(chart) {
  if (chart.select.width < 8) return;
  const from = Math.floor(chart.posToVal(chart.select.left, "x"));
  const to = Math.ceil(chart.posToVal(chart.select.left + chart.select.width, "x"));
  chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  document.dispatchEvent(new CustomEvent("range", { detail: { from, to } }));
}

function axes(panel) {
  const line = { stroke: token("--line"), width: 1, size: 4 };
  const common = { stroke: token("--muted"), font: "11px system-ui, sans-serif", ticks: line };
  return [
    { ...common, grid: { show: false }, size: 28, space: 64, values: (_chart, splits, _axis, _space, step) => splits.map((at) => moment(at, step)) },
    {
      ...common,
      grid: { stroke: token("--line"), width: 1 },
      ticks: { show: false },
      ...(panel.unit === "s" ? { incrs: SECOND_STEPS } : {}),
      size: (_chart, values) => Math.max(38, 12 + 6.4 * Math.max(0, ...(values ?? []).map((value) => (value ?? "").length))),
      values: (_chart, values) => values.map((value) => axis(panel.unit, value)),
    },
  ];
}

/** A tick on the time axis: the day where days are told apart or a day begins, else the time. */
function moment(unix, step) {
  const date = new Date(unix * 1000);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  if (step >= 86400 || midnight) return date.toLocaleDateString("en", { month: "short", day: "numeric" });
  return date.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function series(curve, stack, bucket) {
  if (!stack) return { label: curve.name, stroke: curve.color, width: 1.8, spanGaps: true, points: { show: null, size: 5 } };
  const bars = window.uPlot.paths.bars({ size: [0.86, 64, 1], align: 1 });
  return { label: curve.name, fill: curve.color, stroke: curve.color, width: 0, paths: bars, points: { show: false }, bucket };
}

function tooltip(chart, tip, panel, times, list) {
  const { idx, left } = chart.cursor;
  if (idx === null || idx === undefined || left < 0) {
    tip.hidden = true;
    return;
  }
  const rows = list
    .map((curve) => ({ curve, value: curve.values[idx] }))
    .filter(({ value }) => value !== null && value !== undefined)
    .sort((a, b) => b.value - a.value);
  const lines = rows.map(({ curve, value }) => {
    const swatch = styled(el("i", { class: "swatch" }), { "--swatch": curve.color });
    return el("div", {}, swatch, el("span", {}, curve.title), el("b", {}, format(panel.unit, value, panel.decimals)));
  });
  if (panel.kind === "stack" && rows.length > 1) {
    const sum = rows.reduce((total, { value }) => total + value, 0);
    lines.push(el("div", { class: "sum" }, el("i", { class: "swatch" }), el("span", {}, "all"), el("b", {}, format(panel.unit, sum, panel.decimals))));
  }
  tip.replaceChildren(el("time", {}, instant(times[idx])), ...lines);
  tip.hidden = rows.length === 0;
  const wide = chart.over.clientWidth;
  tip.classList.toggle("flip", left > wide / 2);
  styled(tip, { "--x": `${left > wide / 2 ? wide - left + 12 : left + 12}px` });
}

const watch = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const alive = ALIVE.get(entry.target);
    if (alive && entry.target.isConnected) alive.chart.setSize(alive.size());
    else if (!entry.target.isConnected) {
      watch.unobserve(entry.target);
      ALIVE.delete(entry.target);
    }
  }
});
