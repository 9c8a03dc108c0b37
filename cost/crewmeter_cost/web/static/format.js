// Numbers, money and times as people read them. Money follows `crewmeter report`: cents from a dollar up, four digits below.

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const CENTS = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const UNKNOWN = "–";

export function usd(value) {
  if (value === 0 || Math.abs(value) >= 1) return (value < 0 ? "−$" : "$") + CENTS.format(Math.abs(value));
  const digits = Math.min(12, Math.max(2, 3 - Math.floor(Math.log10(Math.abs(value)))));
  return (value < 0 ? "−$" : "$") + Math.abs(value).toFixed(digits);
}

/**
 * A formatter for one column of money: the same decimals in every cell, so that the point stands
 * under the point. The largest amount decides how many; what they would round to nothing is `<`.
 */
export function money(values) {
  const most = Math.max(0, ...values.map((value) => Math.abs(value ?? 0)));
  const digits = most >= 10 ? 2 : most >= 0.1 ? 4 : 6;
  const fixed = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const least = 10 ** -digits;
  return (value) => {
    if (value === null || value === undefined) return UNKNOWN;
    if (value !== 0 && Math.abs(value) < least) return `<$${least.toFixed(digits)}`;
    return (value < 0 ? "−$" : "$") + fixed.format(Math.abs(value));
  };
}

export function seconds(value) {
  if (value < 0) return "−" + seconds(-value);
  if (value === 0) return "0 s";
  if (value < 0.0995) return `${(value * 1000).toPrecision(2)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 90) return `${value.toFixed(1)} s`;
  if (value < 5400) return parts(Math.round(value), "min", "s");
  if (value < 172800) return parts(Math.round(value / 60), "h", "min");
  return `${(value / 86400).toFixed(1)} days`;
}

/** A whole number of the smaller unit in both: 119.7 s is `2 min`, never `1 min 60 s`. */
function parts(whole, large, small) {
  const rest = whole % 60;
  return `${Math.floor(whole / 60)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

export function count(value) {
  const size = Math.abs(value);
  return size >= 10000 ? SHORT.format(value) : size >= 100 ? WHOLE.format(value) : COUNT.format(value);
}

let words = {};
const WORDED = ["cost_status", "provider", "status"];

/** Statuses and providers in words, by their codes. */
export function useWords(map) {
  words = map;
}

export function word(code) {
  return words[code] ?? code;
}

/** A column's value as people read it: codes in words, names as they are. */
export function worded(column, value) {
  return WORDED.includes(column) ? word(value) : value;
}

let zone = "UTC";

/** The zone of every time on the page: the one in which the server counts days and months. */
export function useZone(name) {
  zone = name;
}

/** The zone's name, to print beside amounts of a day or a month. */
export function zoneName() {
  return zone;
}

/** A moment as a Date whose local fields are those of the page's zone, as uPlot wants it. */
export function zoned(unix) {
  return window.uPlot.tzDate(new Date(unix * 1000), zone);
}

/** A moment as an input of dates and times has it, in the page's zone. */
export function local(unix) {
  return new Date(unix * 1000).toLocaleString("sv", { timeZone: zone }).slice(0, 16).replace(" ", "T");
}

export function instant(unix, { withSeconds = false } = {}) {
  const date = new Date(unix * 1000);
  const options = { timeZone: zone, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (withSeconds) options.second = "2-digit";
  if (zoned(unix).getFullYear() !== zoned(Date.now() / 1000).getFullYear()) options.year = "numeric";
  return date.toLocaleString("en", options);
}

/** `value` in one of the catalogue's units. */
export function format(unit, value, decimals = null) {
  if (value === null || value === undefined) return UNKNOWN;
  if (typeof value !== "number") return String(value);
  switch (unit) {
    case "currencyUSD": return usd(value);
    case "s": return seconds(value);
    case "percentunit": return `${value < 0 ? "−" : ""}${Math.abs(value * 100).toFixed(decimals ?? (Math.abs(value) < 0.1 ? 2 : 1))} %`;
    case "locale": return WHOLE.format(value);
    case "cpm": return `${count(value)}/min`;
    case "ops": return `${count(value)}/s`;
    case "dateTimeAsIso": return instant(value);
    case "string": return String(value);
    default: return count(value);
  }
}

/** Short form for an axis. */
export function axis(unit, value) {
  if (unit === "currencyUSD") {
    if (value === 0) return "$0";
    return Math.abs(value) >= 1 ? `$${SHORT.format(value)}` : `$${value >= 0.1 ? value.toFixed(2) : Number(value.toPrecision(3))}`;
  }
  if (unit === "s") return value >= 120 ? `${Number((value / 60).toPrecision(3))} min` : value >= 1 || value === 0 ? `${Number(value.toPrecision(3))} s` : `${Number((value * 1000).toPrecision(3))} ms`;
  if (unit === "percentunit") return `${Number((value * 100).toPrecision(3))} %`;
  return Math.abs(value) < 1 ? String(Number(value.toPrecision(3))) : SHORT.format(value);
}

/** The colour of the highest step at or below `value`, or null. */
export function stepColor(steps, value) {
  if (!steps || steps.length === 0 || typeof value !== "number") return null;
  let color = steps[0][1];
  for (const [from, name] of steps) if (value >= from) color = name;
  return color;
}
