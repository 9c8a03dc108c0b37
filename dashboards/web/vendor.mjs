// Copies the chart library out of node_modules into the package of the local page, or with --check says whether it is the same.
import { readFileSync, writeFileSync } from "node:fs";

const HERE = new URL("./node_modules/uplot/", import.meta.url);
const PAGE = new URL("../../cost/crewmeter_cost/web/static/", import.meta.url);
const FILES = { "dist/uPlot.iife.min.js": "uPlot.iife.min.js", "dist/uPlot.min.css": "uPlot.min.css", LICENSE: "uPlot.LICENSE.txt" };

let stale = 0;
for (const [from, to] of Object.entries(FILES)) {
  const wanted = readFileSync(new URL(from, HERE));
  const target = new URL(to, PAGE);
  if (!process.argv.includes("--check")) writeFileSync(target, wanted);
  else if (!wanted.equals(readFileSync(target))) {
    console.error(`${to} is not what npm gives`);
    stale += 1;
  }
}
process.exit(stale ? 1 : 0);
