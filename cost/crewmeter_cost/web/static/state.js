// The state of the page is in the address, so that a link opens the same view for somebody else.

const SINGLE = ["view", "from", "to", "bucket", "budget", "order", "status", "where", "search", "skip", "run", "a", "b", "span", "refresh", "theme"];

/** The state in the address: single values, and a list for each filter. */
export function read(filters) {
  const query = new URLSearchParams(location.search);
  const state = { view: "overview", filters: {} };
  for (const name of SINGLE) if (query.has(name)) state[name] = query.get(name);
  for (const name of filters) state.filters[name] = query.getAll(name);
  return state;
}

/** The query string of a state, in a fixed order. */
export function write(state) {
  const query = new URLSearchParams();
  for (const name of SINGLE) {
    const value = state[name];
    if (value !== undefined && value !== null && value !== "" && !(name === "view" && value === "overview")) query.set(name, value);
  }
  for (const [name, values] of Object.entries(state.filters)) for (const value of values) query.append(name, value);
  return `?${query}`;
}

/** The parameters that panels send to the server: range, bucket, budget and filters. */
export function question(state, board) {
  const query = new URLSearchParams();
  query.set("from", state.from ?? board?.since ?? "now-24h");
  query.set("to", state.to ?? "now");
  if (state.bucket) query.set("bucket", state.bucket);
  if (state.budget) query.set("budget", state.budget);
  for (const [name, values] of Object.entries(state.filters)) for (const value of values) query.append(name, value);
  return query;
}

/** GET a JSON document; a refusal becomes an Error with the server's message and hint. */
export async function get(path, query) {
  let response;
  try {
    response = await fetch(query ? `${path}?${query}` : path, { headers: { accept: "application/json" } });
  } catch {
    throw new Error("crewmeter does not respond. Is it still running? Reload the page once it is.");
  }
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Error(`The server responded with status ${response.status} and no JSON`);
  }
  if (!response.ok) throw new Error(body.hint ? `${body.error}. ${body.hint}` : body.error ?? `status ${response.status}`);
  return body;
}
