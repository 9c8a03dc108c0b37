// Curves and stacked columns over time, drawn by uPlot; legend and tooltip are ours, as text.

import { el, styled, token } from "./dom.js";
import { axis, format, instant, worded, zoned } from "./format.js";

const ALIVE = new Map();
const SECOND_STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

/**
 * Rows (time, name, value) or (time, value, value …) as curves: times ascending, each curve with a
 * value or null per time. Buckets without a row are there too, so that a gap is drawn as a gap.
 */
export function curves(answer, panel, bucket) {
  const names = answer.columns;
  const at = names.indexOf("time");
  const times = everyBucket(answer.rows.map((row) => row[at]), bucket);
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
  const drawn = list.filter((curve) => curve.values.some((value) => value !== null && value !== undefined));
  const rest = (name) => (name === "(other)" || name === "(none)" ? 1 : 0);
  if (label >= 0) drawn.sort((a, b) => rest(a.name) - rest(b.name) || b.sum - a.sum);
  return { times, list: drawn };
}

/** The times in the data and every bucket between them, ascending. */
function everyBucket(found, bucket) {
  const times = new Set(found);
  const last = Math.max(...found);
  for (let time = Math.min(...found); bucket > 0 && time < last && times.size < 5000; time += bucket) times.add(time);
  return [...times].sort((a, b) => a - b);
}

const COLOR_OF = new Map();

/**
 * A colour for each curve: by meaning where the name has one, else one that the name has on every
 * panel. A new name gets the colour used least, and none that its panel has already.
 */
export function paint(list, colors) {
  const taken = new Set(list.map((curve) => colors.meaning[curve.name] ?? COLOR_OF.get(curve.name)));
  for (const curve of list) {
    if (!colors.meaning[curve.name] && !COLOR_OF.has(curve.name)) {
      const uses = (color) => [...COLOR_OF.values()].filter((each) => each === color).length + (taken.has(color) ? 1000 : 0);
      const color = [...colors.series].sort((a, b) => uses(a) - uses(b))[0];
      COLOR_OF.set(curve.name, color);
      taken.add(color);
    }
    curve.color = colors.meaning[curve.name] ?? COLOR_OF.get(curve.name);
  }
}

function stacked(list, length) {
  const total = new Array(length).fill(0);
  return list.map((curve) => curve.values.map((value, position) => (total[position] += Math.max(value ?? 0, 0))));
}

/** Draw a panel into `box`. `range` is [from, to] in unix seconds. Returns nothing; a chart already there is replaced. */
export function drawTime(box, panel, answer, { colors, range, bucket, behind, go }) {
  const { times, list } = curves(answer, panel, bucket);
  paint(list, colors);
  if (panel.series) for (const curve of list) curve.title = worded(panel.series, curve.name);
  const stack = panel.kind === "stack";
  const plot = el("div", { class: "plot" });
  const visible = new Set(list.map((curve) => curve.name));
  const legend = el("div", { class: "legend", role: "group", "aria-label": "Curves" });
  box.replaceChildren(plot, legend);
  const names = (curve) => (curve && panel.series ? { [panel.series]: curve.name } : {});
  const choose = (curve, time) => go(behind(names(curve), [time, time + bucket]));
  const draw = () => make(plot, panel, times, list.filter((curve) => visible.has(curve.name)), { stack, range, bucket, choose });
  for (const curve of list) legend.append(legendEntry(curve, list, visible, draw, behind(names(curve))));
  draw();
}

/** A curve in the legend: its colour shows it alone, its name leads to the runs behind it. */
function legendEntry(curve, list, visible, draw, href) {
  const swatch = styled(el("i", { class: "swatch" }), { "--swatch": curve.color });
  const button = el("button", { type: "button", "aria-pressed": "true", "aria-label": `Only ${curve.title}`, title: "Show only this; again for all" }, swatch);
  const entry = el("span", { class: "entry" }, button, el("a", { href, "data-go": true, title: `Runs behind ${curve.title}` }, curve.title));
  button.addEventListener("click", () => {
    const alone = visible.size === 1 && visible.has(curve.name);
    visible.clear();
    for (const each of list) if (alone || each === curve) visible.add(each.name);
    [...entry.parentElement.children].forEach((other, position) => other.firstChild.setAttribute("aria-pressed", String(visible.has(list[position].name))));
    draw();
  });
  return entry;
}

function make(plot, panel, times, list, { stack, range, bucket, choose }) {
  ALIVE.get(plot)?.chart.destroy();
  const data = stack ? stacked(list, times.length) : list.map((curve) => curve.values);
  const order = stack ? list.map((_, position) => position).reverse() : list.map((_, position) => position);
  const size = () => ({ width: Math.max(plot.clientWidth, 120), height: Math.max(plot.clientHeight, 90) });
  const tip = el("div", { class: "tip", hidden: true });
  const options = {
    ...size(),
    padding: [10, 20, 0, 0],
    legend: { show: false },
    tzDate: zoned,
    cursor: { sync: { key: "time" }, drag: { x: true, y: false }, points: { size: 6 }, y: false },
    scales: {
      // The axis is the chosen range, never what uPlot makes of the data: around one point it adds years.
      x: { time: true, range: () => span(range, times, stack ? bucket : 0) },
      y: { range: () => [0, panel.maximum ?? (highest(data) > 0 ? highest(data) * 1.08 : 1)] },
    },
    axes: axes(panel),
    series: [{}, ...order.map((position) => series(list[position], stack, bucket, panel.range === "month"))],
    hooks: {
      setCursor: [(chart) => tooltip(chart, tip, panel, times, list)],
      setSelect: [(chart) => zoom(chart)],
      setScale: [(chart, key) => key === "x" && Object.assign(plot.dataset, { from: chart.scales.x.min, to: chart.scales.x.max })],
    },
  };
  options.cursor.drag.setScale = false;
  const chart = new window.uPlot(options, [times, ...order.map((position) => data[position])], plot);
  chart.over.append(tip);
  followClicks(chart, times, list, data, stack, choose);
  ALIVE.set(plot, { chart, size });
  watch.observe(plot);
}

/** A click (not a drag, which zooms) on a point in time leads to the runs in its bucket. */
function followClicks(chart, times, list, data, stack, choose) {
  let pressed = null;
  chart.over.addEventListener("mousedown", (event) => { pressed = event.clientX; });
  chart.over.addEventListener("click", (event) => {
    const { idx, top } = chart.cursor;
    if (pressed === null || Math.abs(event.clientX - pressed) > 3 || idx === null || idx === undefined) return;
    choose(curveAt(chart.posToVal(top, "y"), idx, list, data, stack), times[idx]);
  });
}

/** The curve that a click means: the part of the column it hit, or the nearest line; null for none. */
function curveAt(value, idx, list, data, stack) {
  if (stack) return list[data.findIndex((column, at) => value <= column[idx] && list[at].values[idx])] ?? null;
  const there = list.filter((curve) => curve.values[idx] !== null && curve.values[idx] !== undefined);
  return there.sort((a, b) => Math.abs(a.values[idx] - value) - Math.abs(b.values[idx] - value))[0] ?? null;
}

/** The time axis: the range, from the bucket it begins in to the end of the bucket it ends in. */
function span(range, times, width) {
  const phase = width && times.length ? times[0] % width : 0;
  const first = width ? Math.floor((range[0] - phase) / width) * width + phase : range[0];
  const last = times.length && width ? times[times.length - 1] + width : range[1];
  return [first, Math.max(range[1], Math.min(last, range[1] + width))];
}

function highest(columns) {
  let most = 0;
  for (const column of columns) for (const value of column) if (value > most) most = value;
  return most;
}

/** Positions of points without a neighbour: a line has nothing to draw there, so they are dots. */
function lone(values) {
  const there = (position) => values[position] !== null && values[position] !== undefined;
  return values.map((_, position) => position).filter((position) => there(position) && !there(position - 1) && !there(position + 1));
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

/** A tick on the time axis: the day where ticks are days apart or a day begins, else the time. */
function moment(unix, step) {
  const date = zoned(unix);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  if (step >= 86400 || midnight) return date.toLocaleDateString("en", { month: "short", day: "numeric" });
  return date.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function series(curve, stack, bucket, joined) {
  if (!stack) {
    const points = { show: false, size: 6, fill: curve.color, filter: (chart, at) => lone(chart.data[at]) };
    return { label: curve.name, stroke: curve.color, width: 1.8, spanGaps: joined, points };
  }
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
