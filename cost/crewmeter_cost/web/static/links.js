// Which runs are behind a number: links from panels into the run list, as filters of docs/filters.md.

const PLAIN = /^[\w./@+-]+$/;

/** One term of a filter. A name that is missing is compared with nothing. */
export function term(key, value) {
  const text = value === null || value === "(none)" ? "" : String(value);
  return `${key}=${PLAIN.test(text) ? text : `"${text.replaceAll('"', '""')}"`}`;
}

/**
 * A function that gives the address of the runs behind a panel and its answer: those with the
 * `names` (column → value), and in [from, to) where a point in time was chosen.
 */
export function runLinks({ link, query, nameKeys }) {
  const terms = (names) => Object.entries(names).flatMap(([column, value]) => {
    if (column === "tag") {
      const [key, ...rest] = String(value).split("=");
      return [term(`tag:${key}`, rest.join("="))];
    }
    return nameKeys[column] && value !== "(other)" ? [term(nameKeys[column], value)] : [];
  });
  return (panel, answer, names = {}, bucket = null) => {
    const behind = panel.runs;
    const [start, end] = bucket ?? answer.runs ?? [query.get("from"), query.get("to") === "now" ? null : query.get("to")];
    // What a change is about stands in two columns: its kind and its name.
    const named = "kind" in names && "name" in names ? { [names.kind]: names.name } : names;
    const where = [...terms(named), ...(behind.where ? [behind.where] : [])].join(" ");
    return link({
      view: "runs", where, order: behind.order === "time" ? null : behind.order,
      from: String(start), to: end === null ? null : String(end),
      bucket: null, budget: null, search: null, status: null, skip: null, run: null, span: null, a: null, b: null,
    });
  };
}
